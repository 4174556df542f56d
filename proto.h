#ifndef PROTO_H
#define PROTO_H

/*
 * What the next message in these bytes is, a request of a client or a reply of
 * a memcached.  Pure: no allocation, no socket, no log, no state between calls.
 *
 * A result never points into the bytes: it holds spans, offsets from the start
 * of the message, so it survives moving the bytes.  Nothing is read past the
 * length that is given and nothing past the message is looked at.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROTO_KEY_MAX = 250,          /* bytes of a key */
	PROTO_BASE64_MAX = 340,       /* bytes of a key in base64 */
	PROTO_LINE_MAX = 2048,        /* bytes of a line that is no get */
	PROTO_GET_LINE_MAX = 2 << 20, /* bytes of a line of the get family */
	/* Seconds: a longer exptime is a time of day, as in memcached. */
	PROTO_RELATIVE_MAX = 60 * 60 * 24 * 30,
};

enum proto_status {
	PROTO_OK,       /* a whole message: see its length */
	PROTO_MORE,     /* more bytes are needed */
	PROTO_BAD,      /* cannot be a message: close */
	PROTO_TOO_LONG, /* a line over its limit: close */
};

struct proto_span {
	uint32_t at; /* offset from the start of the message */
	uint32_t length;
};

enum proto_command {
	PROTO_GET,
	PROTO_GETS,
	PROTO_GAT,
	PROTO_GATS,
	PROTO_SET,
	PROTO_ADD,
	PROTO_REPLACE,
	PROTO_APPEND,
	PROTO_PREPEND,
	PROTO_CAS,
	PROTO_INCR,
	PROTO_DECR,
	PROTO_TOUCH,
	PROTO_DELETE,
	PROTO_MG,
	PROTO_MS,
	PROTO_MD,
	PROTO_MA,
	PROTO_MN,
	PROTO_ME,
	PROTO_FLUSH_ALL,
	PROTO_VERSION,
	PROTO_VERBOSITY,
	PROTO_STATS,
	PROTO_QUIT,
	PROTO_REFUSED, /* error says why; the line was understood to
				   no command that is served */
};

/*
 * One request.  Where error is not NULL the request must not be forwarded:
 * the client gets that line (unless noreply), and its message is
 * done.  An over-large value also has its key set, because the old value of
 * that key has to go (too_large).
 */
struct proto_request {
	enum proto_command command;
	size_t length;     /* of the message: line, its end and data; with
				   PROTO_MORE: see proto_request() */
	uint64_t swallow;  /* bytes after the message to throw away */
	const char *error; /* without line end; static */
	bool too_large;    /* error because of the value's size */
	bool noreply;      /* classic: no answer, not even an error */
	bool quiet;        /* meta q */
	bool base64;       /* meta b: key is base64 */

	struct proto_span key;  /* the (first) key as it stands on the line */
	struct proto_span keys; /* get family: from the first key to the end of
				   the last; walk with proto_token() */
	unsigned key_count;     /* get family */
	struct proto_span data; /* storage, ms: without its CRLF */

	uint32_t flags;   /* client flags: storage commands, F of ms */
	int32_t exptime;  /* storage, touch, gat, gats: as memcached
				   1.6.18 cuts it to 32 bits; flush_all: its
				   delay */
	bool has_exptime; /* flush_all: a delay was given */
	uint64_t cas;     /* cas; ms, md, ma: C */
	bool has_cas;     /* ms, md, ma: C was given */
	uint64_t delta;   /* incr, decr, ma */

	/*
	 * Meta commands: all flag tokens; walk with proto_token().  They were
	 * checked, but for those of me: that is whatever stood on the line.  Of
	 * it forward b alone, and only if base64 is set.
	 */
	struct proto_span meta;
	char mode;           /* M of ms (in upper case: E A P R S; 'S' if
				   none) and ma ('I' or 'D'; 'I' if none) */
	bool has_ttl;        /* T: exptime is its argument */
	bool has_value;      /* v */
	bool has_vivify;     /* N */
	bool has_invalidate; /* I */

	struct proto_span argument; /* stats: its first word, if any */
};

/*
 * Find the request at the start of n bytes.  value_max: the largest value in
 * bytes that is let through.
 *
 * PROTO_OK: *r is filled, r->length bytes are to be consumed.
 * PROTO_MORE: r->length is that of the whole message if this is a storage
 * command or ms whose line is there and good, and 0 otherwise.
 * PROTO_BAD: the binary protocol, or HTTP.  Both are given as this, so look at
 * byte 0, which is 0x80 or 0x81 in binary, before answering in binary.
 * PROTO_TOO_LONG: a line without an end within its limit.
 */
enum proto_status proto_request(const char *bytes, size_t n, size_t value_max,
    struct proto_request *r);

/*
 * The next token (run of bytes other than space) in bytes[*at .. end).
 * Returns false if there is none; otherwise *token is set and *at moved
 * behind it.
 */
bool proto_token(const char *bytes, size_t end, size_t *at,
    struct proto_span *token);

/*
 * Decode the base64 in n bytes to out, which has room for PROTO_KEY_MAX bytes.
 * Returns the decoded length, or 0 if it is not base64 (or too long).
 */
size_t proto_base64_decode(const char *bytes, size_t n, char *out);

/* Encode a key.  Returns its length there; out has room for
   PROTO_BASE64_MAX bytes. */
size_t proto_base64_encode(const char *key, size_t length, char *out);

/* Whether a key cannot stand on a command line as it is. */
bool proto_base64_is_needed(const char *key, size_t length);

/* The number that the digits at the start of n bytes make; of a huge one the
   first 18 digits. */
uint64_t proto_number(const char *bytes, size_t n);

/* What kind of reply a request has. */
enum proto_expect {
	PROTO_EXPECT_VALUES,     /* get, gat: VALUE ... END */
	PROTO_EXPECT_VALUES_CAS, /* gets, gats: the same with a cas unique */
	PROTO_EXPECT_STORED,     /* set ... cas */
	PROTO_EXPECT_NUMBER,     /* incr, decr */
	PROTO_EXPECT_TOUCHED,
	PROTO_EXPECT_DELETED,
	PROTO_EXPECT_META_GET,        /* mg: VA with data, HD, EN */
	PROTO_EXPECT_META_SET,        /* ms: HD, NS, EX, NF */
	PROTO_EXPECT_META_DELETE,     /* md: HD, NF, EX */
	PROTO_EXPECT_META_ARITHMETIC, /* ma: VA with data, HD, NF, NS, EX */
	PROTO_EXPECT_META_DEBUG,      /* me: ME ..., EN */
	PROTO_EXPECT_OK,              /* flush_all */
	PROTO_EXPECT_VERSION,
	PROTO_EXPECT_STATS, /* STAT ... END */
};

enum proto_result {
	PROTO_VALUE, /* a VALUE block; more follows */
	PROTO_STAT,  /* a STAT line; more follows */
	PROTO_END,   /* END of the values or stats */
	PROTO_STORED,
	PROTO_NOT_STORED,
	PROTO_EXISTS,
	PROTO_NOT_FOUND,
	PROTO_DELETED,
	PROTO_TOUCHED,
	PROTO_NUMBER,
	PROTO_OKAY,
	PROTO_VERSION_LINE,
	PROTO_META_VALUE,
	PROTO_META_HD,
	PROTO_META_EN,
	PROTO_META_NS,
	PROTO_META_EX,
	PROTO_META_NF,
	PROTO_META_DEBUG,
	PROTO_ERROR,        /* ERROR, or ERROR with a text */
	PROTO_CLIENT_ERROR, /* CLIENT_ERROR ... */
	PROTO_SERVER_ERROR, /* SERVER_ERROR ... */
};

/* One element of a reply.  The reply ends with the first element that is
   neither PROTO_VALUE nor PROTO_STAT. */
struct proto_reply {
	enum proto_result result;
	size_t length;          /* of the element; with PROTO_MORE: the whole
				   length if known, or 0 */
	struct proto_span key;  /* VALUE: key; STAT: name */
	struct proto_span data; /* VALUE, VA: data without CRLF; STAT: value;
				   VERSION: the text behind the word */
	struct proto_span cas;  /* VALUE with a cas unique: its digits;
				   meta: the digits behind the flag c, if any */
	struct proto_span meta; /* meta: the flags */
	uint64_t number;        /* NUMBER; VA of ma */
};

/*
 * Find the element of a reply at the start of n bytes.  value_max bounds the
 * length of a VALUE or VA; a longer one, and everything that memcached cannot
 * have said to a request of this kind, is PROTO_BAD.  PROTO_TOO_LONG: a line
 * over PROTO_LINE_MAX.
 */
enum proto_status proto_reply(const char *bytes, size_t n,
    enum proto_expect expect, size_t value_max, struct proto_reply *r);

#endif
