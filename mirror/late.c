/*
 * This process was held up.
 *
 * What has come from servers meanwhile has not been read.  If it were read, the
 * effects of old writes would go to mirrors that another magent has brought
 * further since.  So it must not, and the other magent is asked for first, on
 * connections of their own, and in one step: the loop would read the others.
 * What was read before, in the turn of the loop that was held up, is forgotten
 * as well: see conn_loop_set_late().
 */

#include "mirror/late.h"

#include <assert.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "server/server.h"

/* A question to one server. */
struct question {
	int fd; /* -1: it is over */
	bool is_sent;
	size_t length; /* of the answer so far */
	char answer[128];
};

enum {
	/* So many servers are asked. */
	QUESTIONS_MAX = 64,
};

static void
end_question(struct question *question)
{
	close(question->fd);
	question->fd = -1;
}

static void
put_question(struct question *question)
{
	static const char line[] = "get " STAMP_ACTIVE "\r\n";

	if (send(question->fd, line, sizeof(line) - 1, MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(line) - 1)
		end_question(question);
	question->is_sent = true;
}

static void
read_answer(struct question *question)
{
	size_t room = sizeof(question->answer) - 1 - question->length;
	ssize_t n = recv(question->fd, question->answer + question->length,
	    room, 0);

	if (n <= 0) {
		end_question(question);
		return;
	}
	question->length += (size_t)n;
	if ((size_t)n == room || strstr(question->answer, "END\r\n") != NULL)
		end_question(question);
}

/* Put the questions, and read the answers that come in time. */
static void
ask_all(struct question *questions, size_t n)
{
	int64_t end = clock_ms() + LATE_ASK_MS, left;
	struct pollfd fds[QUESTIONS_MAX];
	size_t i, open;

	while ((left = end - clock_ms()) > 0) {
		for (i = open = 0; i < n; i++) {
			fds[i].fd = questions[i].fd;
			fds[i].events = questions[i].is_sent ? POLLIN : POLLOUT;
			open += questions[i].fd >= 0;
		}
		if (open == 0 || poll(fds, (nfds_t)n, (int)left) <= 0)
			break;
		for (i = 0; i < n; i++) {
			if (questions[i].fd < 0 || fds[i].revents == 0)
				continue;
			if (questions[i].is_sent)
				read_answer(&questions[i]);
			else
				put_question(&questions[i]);
		}
	}
	for (i = 0; i < n; i++)
		if (questions[i].fd >= 0)
			end_question(&questions[i]);
}

/* The number in the answer; 0: there is none. */
static uint64_t
number_of(const char *answer)
{
	const char *line = strstr(answer, "\r\n");
	const char *end = line == NULL ? NULL : strstr(line + 2, "\r\n");

	return strncmp(answer, "VALUE ", 6) != 0 || end == NULL ?
	    0 :
	    bond_parse(line + 2, (size_t)(end - line - 2));
}

bool
late_is_other_at_work(struct pairs *pairs)
{
	struct question questions[QUESTIONS_MAX] = { { .fd = -1 } };
	const struct peer *peer;
	uint64_t other;
	size_t i, n = 0;

	for (i = 0; i < pairs_peer_count(pairs) && n < QUESTIONS_MAX; i++) {
		peer = pairs_peer(pairs, i);
		if (peer_is_there(peer))
			questions[n++].fd = server_dial(peer->server);
	}
	ask_all(questions, n);
	for (i = 0; i < n; i++) {
		other = number_of(questions[i].answer);
		if (other != STAMP_MISSING && other != pairs_magent_id(pairs))
			return true;
	}
	return false;
}

/* What the stamps say is all that is known. */
static void
forget_peer(struct peer *peer)
{
	struct pairs *pairs = peer->pairs;
	const struct peer *partner;
	size_t i;

	dirty_clear(peer->dirty);
	dirty_clear(peer->missing);
	dirty_clear(peer->undecided);
	dirty_clear(peer->taken);
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		behind_set(peer, partner, BEHIND_NOT);
		bond_of(peer, partner)->is_foreign = true;
	}
}

void
late_forget(struct pairs *pairs)
{
	size_t i;

	/* Together: what one has not answered is not for another one. */
	for (i = 0; i < pairs_peer_count(pairs); i++)
		server_go_down(pairs_peer(pairs, i)->server,
		    "held up, and another magent has served meanwhile");
	for (i = 0; i < pairs_peer_count(pairs); i++)
		server_return_calls(pairs_peer(pairs, i)->server);
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		forget_peer(pairs_peer(pairs, i));
		server_connect_now(pairs_peer(pairs, i)->server);
	}
}
