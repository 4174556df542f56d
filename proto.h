#ifndef PROTO_H
#define PROTO_H

/*
 * Say what the next message in some bytes is: a request of a client, or a reply
 * of a memcached.  Pure: no allocation, no socket, no log, no state between
 * calls.
 *
 * A result does not point into the bytes.  It holds spans, which are offsets
 * from the start of the message, so it stays valid when the bytes are moved.
 * Nothing is read behind the n bytes that are given, and a result does not
 * depend on what is behind the message.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROTO_KEY_MAX = 250,    /* bytes of a key */
	PROTO_BASE64_MAX = 340, /* room for a key in base64, bytes */
	/* Bytes before the LF of a line that is not of the get family. */
	PROTO_LINE_MAX = 2048,
	/* Bytes before the LF of a get, gets, gat or gats. */
	PROTO_GET_LINE_MAX = 2 << 20,
	/* An exptime of more seconds than this is a date, as in memcached. */
	PROTO_RELATIVE_MAX = 60 * 60 * 24 * 30,
};

enum proto_status {
	PROTO_OK,   /* the message is whole; its length says where it ends */
	PROTO_MORE, /* more bytes are needed */
	PROTO_BAD,  /* this cannot be a message; the caller is to close */
	PROTO_TOO_LONG, /* a line is over its limit; the caller is to close */
	/* Of a reply: a value over the limit of the caller; see its length. */
	PROTO_LARGE,
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
	PROTO_REFUSED, /* a command that is not served; error says why */
};

/*
 * One request.  If error is not NULL, the request must not be forwarded: the
 * client gets error as its reply, unless noreply is set.  Spans and booleans
 * that the command does not have are empty and false.
 */
struct proto_request {
	enum proto_command command;
	/* The error is the size of the value.  The key is set, because its old
	   value must be deleted. */
	bool too_large;
	bool noreply; /* classic: no reply, not even an error */
	bool quiet;   /* meta q */
	bool base64;  /* meta b: the key is written in base64 */
	/* Bytes of the message: the line, its end, the data and its CRLF.  With
	   PROTO_MORE: see proto_request(). */
	size_t length;
	uint64_t swallow;  /* bytes behind the message to throw away */
	const char *error; /* NULL: none; static, without a line end */

	/* The key, or the first of them, as it is written on the line. */
	struct proto_span key;
	/* Of the get family: from the first key to the end of the last one;
	   proto_token() walks over it. */
	struct proto_span keys;
	unsigned key_count;     /* of the get family: keys in it */
	struct proto_span data; /* of storage commands and ms; without CRLF */
	/* Of a storage command in its usual form, with single spaces: from the
	   key to the end of the length.  Its length is 0 if the form is another
	   one; and whoever changes one of these words sets it to 0. */
	struct proto_span words;

	uint32_t flags; /* client flags of storage commands; F of ms */
	/* Of storage commands, touch, gat and gats: the exptime, cut to 32 bits
	   as memcached 1.6.18 does.  Of flush_all: its delay.  Of meta
	   commands: see has_ttl. */
	int32_t exptime;
	bool has_exptime; /* flush_all with a delay */
	bool has_ttl;     /* T was given, and exptime is its argument */
	bool has_cas;     /* ms, md or ma with C */
	/* M of ms: E, A, P, R or S; S if there is none.  M of ma: I or D; I if
	   there is none. */
	char mode;
	uint64_t cas;     /* the token of cas; C of ms, md and ma */
	uint64_t delta;   /* of incr, decr and ma */
	uint64_t initial; /* J of ma */
	int32_t vivify;   /* N: the exptime of an item that is made */
	int32_t recache;  /* R: who is first below this many seconds wins */

	/*
	 * Meta commands: from the first flag to the end of the last one;
	 * proto_token() walks over it.  All flags were checked, but not those
	 * of me.  Of these only b may be forwarded, and only if base64 is set.
	 */
	struct proto_span meta;
	/* First word behind stats; may be empty.  The key is that of stats
	   route. */
	struct proto_span argument;
	bool has_value;      /* v was given */
	bool has_vivify;     /* N was given */
	bool has_recache;    /* R was given */
	bool has_invalidate; /* I was given */
	/* Flags that 1.6.18 does not have: its error must be given where the
	   server does not have them either. */
	bool has_chosen_cas; /* E was given */
	bool removes_value;  /* md with x */
};

/*
 * Find the request at the start of n bytes, and fill *r.  A value of more than
 * value_max bytes is an error.
 *
 * PROTO_OK: r->length bytes are to be consumed.
 * PROTO_MORE: r->length is the length of the whole message, if this is a
 * storage command or ms whose line is whole and good.  Otherwise it is 0.
 * PROTO_BAD: this is the binary protocol, or HTTP.  Byte 0 tells which of them:
 * it is 0x80 or 0x81 in the binary protocol.
 * PROTO_TOO_LONG: the line has no end within its limit.
 */
enum proto_status proto_request(const char *bytes, size_t n, size_t value_max,
    struct proto_request *r);

/*
 * As proto_request(), for bytes of which the first ones were tried before: this
 * many, with the result PROTO_MORE.  They are not searched for the end of a
 * line again.
 */
enum proto_status proto_request_again(const char *bytes, size_t n, size_t tried,
    size_t value_max, struct proto_request *r);

/*
 * Find the next token, which is a run of bytes other than space, in
 * bytes[*at .. end).  Returns false if there is none.  Otherwise *token is set,
 * and *at is moved behind it.
 */
bool proto_token(const char *bytes, size_t end, size_t *at,
    struct proto_span *token);

/*
 * Decode n bytes of base64 to out, which has room for PROTO_KEY_MAX bytes.
 * Returns the decoded length, or 0 if this is not base64 in its one canonical
 * spelling, or if it needs more than this room.
 */
size_t proto_base64_decode(const char *bytes, size_t n, char *out);

/* Encode a key of PROTO_KEY_MAX bytes at most to out, which has room for
   PROTO_BASE64_MAX bytes.  Returns the encoded length. */
size_t proto_base64_encode(const char *key, size_t length, char *out);

/* Whether a key has bytes that cannot be written on a command line. */
bool proto_base64_is_needed(const char *key, size_t length);

/* Read the number that the digits at the start of n bytes make, but 18 digits
   at most.  Returns 0 if there are none. */
uint64_t proto_number(const char *bytes, size_t n);

/* What the keys begin with that proxies keep for themselves on the servers. */
#define PROTO_RESERVED "magent:"

/* Whether a key, as it is on a command line, is one of those. */
bool proto_key_is_reserved(const char *key, size_t length, bool base64);

/* What kind of reply a request has. */
enum proto_expect {
	PROTO_EXPECT_VALUES,     /* get, gat: VALUE ... END */
	PROTO_EXPECT_VALUES_CAS, /* gets, gats: the same with a cas unique */
	PROTO_EXPECT_STORED,     /* set, add, replace, append, prepend, cas */
	PROTO_EXPECT_NUMBER,     /* incr, decr */
	PROTO_EXPECT_TOUCHED,
	PROTO_EXPECT_DELETED,
	PROTO_EXPECT_META_GET,        /* mg: VA with data, HD, EN */
	PROTO_EXPECT_META_SET,        /* ms: HD, NS, EX, NF */
	PROTO_EXPECT_META_DELETE,     /* md: HD, NF, EX */
	PROTO_EXPECT_META_ARITHMETIC, /* ma: VA with data, HD, NF, NS, EX */
	PROTO_EXPECT_META_DEBUG,      /* me: ME ..., EN */
	PROTO_EXPECT_META_NOOP,       /* mn: MN */
	PROTO_EXPECT_OK,              /* flush_all */
	PROTO_EXPECT_VERSION,
	PROTO_EXPECT_STATS, /* STAT ... END */
};

enum proto_result {
	PROTO_VALUE, /* a VALUE line with its data; more elements follow */
	PROTO_STAT,  /* a STAT line; more elements follow */
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
	/* Never of proto_reply(): link.c says so of a VALUE that it throws
	   away, because it is too large, or because there is no room now. */
	PROTO_LARGE_VALUE,
	PROTO_LATER_VALUE,
};

/* What a reply to mg says of the item: flags without an argument. */
enum proto_mark {
	PROTO_WON = 1,     /* W: this client is to set it anew */
	PROTO_AWAITED = 2, /* Z: another client was asked to */
	PROTO_STALE = 4,   /* X: it was invalidated */
};

/* One element of a reply.  The reply ends with the first element that is
   neither PROTO_VALUE nor PROTO_STAT.  A field that the element does not have
   is 0. */
struct proto_reply {
	enum proto_result result;
	unsigned int marks; /* of meta replies: of enum proto_mark */
	/* Bytes of the element.  With PROTO_MORE: the length of the whole
	   element, if its line is whole, or 0. */
	size_t length;
	struct proto_span key; /* of VALUE: the key; of STAT: the name */
	/* Of VALUE and VA: the data without CRLF.  Of STAT: the value.  Of
	   VERSION: the text behind the word. */
	struct proto_span data;
	/* The digits of a cas unique: of VALUE, or of the flag c of a meta
	   reply. */
	struct proto_span cas;
	struct proto_span meta; /* of meta replies: all flags */
	uint64_t number;        /* of PROTO_NUMBER, and of VA to ma */
};

/*
 * Find the element of a reply at the start of n bytes, and fill *r.
 *
 * PROTO_OK, PROTO_MORE: as for proto_request().
 * PROTO_LARGE: the line of a VALUE or VA is here, whose data has more than
 * value_max bytes, and not more than a memcached can hold; r->length is the
 * length of the whole element.  The rest was not looked at.
 * PROTO_BAD: memcached cannot have said this to a request of this kind.
 * PROTO_TOO_LONG: a line is longer than PROTO_LINE_MAX.
 */
enum proto_status proto_reply(const char *bytes, size_t n,
    enum proto_expect expect, size_t value_max, struct proto_reply *r);

#endif
