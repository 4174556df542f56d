/*
 * What the parser makes of requests and replies, one line of a table each.
 *
 * Every entry is parsed whole, with other bytes behind it, and cut off after
 * each of its bytes, from a buffer of exactly that size so that a sanitizer
 * sees each read too far.  A cut entry needs more or says at once what the
 * whole one says.  Where memcached 1.6.18 differs on purpose is listed in
 * exceptions.md; all other errors here were compared with it.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto.h"
#include "unit.h"

enum {
	VALUE_MAX = 1048576,
};

struct request_case {
	const char *bytes;
	size_t n;
	const char *want;
};

struct reply_case {
	enum proto_expect expect;
	const char *bytes;
	size_t n;
	const char *want;
};

#define REQUEST(bytes, want) \
	{ \
		bytes, sizeof(bytes) - 1, want \
	}
#define REPLY(expect, bytes, want) \
	{ \
		PROTO_EXPECT_##expect, bytes, sizeof(bytes) - 1, want \
	}

#define TEN(x) x x x x x x x x x x
#define K250 TEN("abcdefghijklmnopqrstuvwxy")
#define K251 K250 "z"
#define BIG TEN(TEN("0123456789"))
#define LONG BIG BIG /* 2000 bytes */
/* A line of 2047 bytes. */
#define DELETE_2047 \
	"delete k" TEN(TEN(TEN(" ") TEN(" "))) TEN("   ") "         "
#define O31 "O" TEN("123") "1" /* opaque flags of 32 and 33 bytes */
#define O32 O31 "2"
#define N30 TEN("123")
#define B64_248 TEN("QUJDREVGR0hJSktM") TEN("QUJDREVG") "QUJDREVG"
#define FORMAT "CLIENT_ERROR bad command line format"
#define LARGE "SERVER_ERROR object too large for cache"
#define DATA "CLIENT_ERROR bad data chunk"
#define EXPTIME "CLIENT_ERROR invalid exptime argument"
#define DELTA "CLIENT_ERROR invalid numeric delta argument"
#define USAGE FORMAT ".  Usage: delete <key> [noreply]"
#define TOKEN "CLIENT_ERROR bad token in command line format"
#define FLAG "CLIENT_ERROR invalid flag"
#define TWICE "CLIENT_ERROR duplicate flag"
#define FLAGS "CLIENT_ERROR invalid or duplicate flag"
#define MTOKEN "CLIENT_ERROR incorrect length for M token"
#define DECODE "CLIENT_ERROR error decoding key"
#define OPAQUE "CLIENT_ERROR opaque token too long"
#define REFUSED "CLIENT_ERROR command not allowed"

static const struct request_case requests[] = {
	/* The get family. */
	REQUEST("get a\r\n", "get 7 key=a keys=a*1"),
	REQUEST("get a\n", "get 6 key=a keys=a*1"),
	REQUEST("get a b  c \r\n", "get 13 key=a keys=a b  c*3"),
	REQUEST("  get a\r\n", "get 9 key=a keys=a*1"),
	REQUEST("get a a a\r\n", "get 11 key=a keys=a a a*3"),
	REQUEST("get " K250 "\r\n", "get 256 key=" K250 " keys=" K250 "*1"),
	REQUEST("gets a\r\n", "gets 8 key=a keys=a*1"),
	REQUEST("bget a\r\n", "get 8 key=a keys=a*1"),
	REQUEST("gat 10 a b\r\n", "gat 12 key=a keys=a b*2 exptime=10"),
	REQUEST("gat -1 a\r\n", "gat 10 key=a keys=a*1 exptime=-1"),
	REQUEST("gats 4294967295 a\r\n", "gats 19 key=a keys=a*1 exptime=-1"),
	REQUEST("gat 4294967301 a\r\n", "gat 18 key=a keys=a*1 exptime=5"),
	REQUEST("get \x01\t\x7f\xff\x80\r\n",
	    "get 11 key=\x01\t\x7f\xff\x80 keys=\x01\t\x7f\xff\x80*1"),
	REQUEST("get get\r\n", "get 9 key=get keys=get*1"),
	REQUEST("get noreply\r\n", "get 13 key=noreply keys=noreply*1"),
	REQUEST("get\r\n", "get 5 !ERROR"),
	REQUEST("get \r\n", "get 6 !ERROR"),
	REQUEST("get    \n", "get 8 !ERROR"),
	REQUEST("gets\r\n", "gets 6 !ERROR"),
	REQUEST("gat\r\n", "gat 5 !ERROR"),
	REQUEST("gat 10\r\n", "gat 8 !ERROR"),
	REQUEST("gats 10 \r\n", "gats 10 !ERROR"),
	REQUEST("gat x\r\n", "gat 7 !" EXPTIME),
	REQUEST("gat x a\r\n", "gat 9 !" EXPTIME),
	REQUEST("gat " N30 " a\r\n", "gat 38 !" EXPTIME),
	REQUEST("get " K251 "\r\n", "get 257 !" FORMAT),
	REQUEST("get a " K251 "\r\n", "get 259 !" FORMAT),
	REQUEST("get a " K251 " b\r\n", "get 261 !" FORMAT),
	REQUEST("gat 0 " K251 "\r\n", "gat 259 !" FORMAT),
	REQUEST("get a\0b\r\n", "get 9 !" FORMAT),
	REQUEST("get a \0\r\n", "get 9 !" FORMAT),
	REQUEST("get a\0\r\n", "get 8 !" FORMAT),
	REQUEST("get a\rb\r\n", "get 9 !" FORMAT),
	REQUEST("get a\r\r\n", "get 8 !" FORMAT),
	REQUEST("get a\r b\n", "get 9 !" FORMAT),
	REQUEST("get abcdefgh\0ijklmnop\r\n", "get 23 !" FORMAT),
	REQUEST("get abcdefghijklmn\x01op qrstuvwxyz\r\n",
	    "get 34 key=abcdefghijklmn\x01op"
	    " keys=abcdefghijklmn\x01op qrstuvwxyz*2"),

	/* Storage. */
	REQUEST("set k 1 2 5\r\nhello\r\n",
	    "set 20 key=k data=hello flags=1 exptime=2"),
	REQUEST("set k 0 0 1\nX\r\n", "set 15 key=k data=X"),
	REQUEST("set foo 16 10 3  \r\nbar\r\n",
	    "set 24 key=foo data=bar flags=16 exptime=10"),
	REQUEST("add k 0 0 0\r\n\r\n", "add 15 key=k data="),
	REQUEST("append k 16 0 0\r\n\r\n", "append 19 key=k data= flags=16"),
	REQUEST("replace k 0 0 2\r\n\r\n\r\n", "replace 21 key=k data=\r\n"),
	REQUEST("prepend k 0 0 1 noreply\r\nx\r\n",
	    "prepend 28 noreply key=k data=x"),
	REQUEST("set k 0 0 1 foo\r\nx\r\n", "set 20 key=k data=x"),
	REQUEST("set k 0 0 1 norepl\r\nx\r\n", "set 23 key=k data=x"),
	REQUEST("set k 0 0 1 noreplY\r\nx\r\n", "set 24 key=k data=x"),
	REQUEST("set k 0 -1 1\r\nx\r\n", "set 17 key=k data=x exptime=-1"),
	REQUEST("set k 0 4294967295 1\r\nx\r\n",
	    "set 25 key=k data=x exptime=-1"),
	REQUEST("add 0 0 2678400 0\r\n\r\n",
	    "add 21 key=0 data= exptime=2678400"),
	REQUEST("set k 4294967295 0 1\r\nx\r\n",
	    "set 25 key=k data=x flags=4294967295"),
	REQUEST("set k 4294967297 0 1\r\nx\r\n", "set 25 key=k data=x flags=1"),
	REQUEST("set k 18446744073709551615 0 1\r\nx\r\n",
	    "set 35 key=k data=x flags=4294967295"),
	REQUEST("set k -18446744073709551615 0 1\r\nx\r\n",
	    "set 36 key=k data=x flags=1"),
	REQUEST("set k +7 +8 +1\r\nx\r\n",
	    "set 19 key=k data=x flags=7 exptime=8"),
	REQUEST("set k 0 0 -0\r\n\r\n", "set 16 key=k data="),
	REQUEST("set k 0 0 \t1\tz\r\nx\r\n", "set 19 key=k data=x"),
	REQUEST("set k 0 0 \v1\fz\r\nx\r\n", "set 19 key=k data=x"),
	REQUEST("set k 0 0 0001\r\nx\r\n", "set 19 key=k data=x"),
	REQUEST("set k 0 0 11\r\nflush_all\r\n\r\n",
	    "set 27 key=k data=flush_all\r\n"),
	REQUEST("cas k 1 2 3 4\r\nabc\r\n",
	    "cas 20 key=k data=abc flags=1 exptime=2 cas=4"),
	REQUEST("cas k 0 0 1 18446744073709551615 noreply\r\nx\r\n",
	    "cas 45 noreply key=k data=x cas=18446744073709551615"),
	REQUEST("cas k 0 0 1 4 foo\r\nx\r\n", "cas 22 key=k data=x cas=4"),
	REQUEST("set " K250 " 0 0 0\r\n\r\n", "set 264 key=" K250 " data="),
	REQUEST("set k 0 0 1\r\nXY\r\n", "set 16 !" DATA),
	REQUEST("set k 0 0 1\r\nX\nA", "set 16 !" DATA),
	REQUEST("set k 0 0 1\r\nX\rA", "set 16 !" DATA),
	REQUEST("set k 0 0 1\r\nX\n\n", "set 16 !" DATA),
	REQUEST("set k 0 0 0\r\nXY", "set 15 !" DATA),
	REQUEST("set k 0 0 1 noreply\r\nXYZ", "set 24 !" DATA " noreply"),
	REQUEST("set\r\n", "set 5 !ERROR"),
	REQUEST("set k\r\n", "set 7 !ERROR"),
	REQUEST("set k 0 0\r\n", "set 11 !ERROR"),
	REQUEST("set k 0 0 1 2 3\r\n", "set 17 !ERROR"),
	REQUEST("set k 0 0 1 noreply 3\r\n", "set 23 !ERROR"),
	REQUEST("cas\r\n", "cas 5 !ERROR"),
	REQUEST("cas k 0 0 1\r\n", "cas 13 !ERROR"),
	REQUEST("cas k 0 0 1 2 3 4\r\n", "cas 19 !ERROR"),
	REQUEST("set k 0 0 noreply\r\n", "set 19 !" FORMAT " noreply"),
	REQUEST("cas k 0 0 1 noreply\r\n",
	    "cas 21 !" FORMAT " noreply swallow=3"),
	REQUEST("cas k 0 0 1 x\r\n", "cas 15 !" FORMAT " swallow=3"),
	REQUEST("cas k 0 0 1 -1\r\n", "cas 16 !" FORMAT " swallow=3"),
	REQUEST("set " K251 " 0 0 5\r\n", "set 263 !" FORMAT " swallow=7"),
	REQUEST("set " K251 " 0 0 5 noreply\r\n",
	    "set 271 !" FORMAT " noreply swallow=7"),
	REQUEST("set " K251 " 0 0 x\r\n", "set 263 !" FORMAT),
	REQUEST("set " K251 " 0 0 2000000\r\n",
	    "set 269 !" FORMAT " swallow=2000002"),
	REQUEST("set k -1 0 1\r\n", "set 14 !" FORMAT " swallow=3"),
	REQUEST("set k x 0 1\r\n", "set 13 !" FORMAT " swallow=3"),
	REQUEST("set k 18446744073709551616 0 1\r\n",
	    "set 32 !" FORMAT " swallow=3"),
	REQUEST("set k 0 x 1\r\n", "set 13 !" FORMAT " swallow=3"),
	REQUEST("set k 0 " N30 " 1\r\n", "set 42 !" FORMAT " swallow=3"),
	REQUEST("set k 0 9223372036854775808 1\r\n",
	    "set 31 !" FORMAT " swallow=3"),
	REQUEST("set k 0 0 -1\r\n", "set 14 !" FORMAT),
	REQUEST("set k 0 0 -1 noreply\r\n", "set 22 !" FORMAT " noreply"),
	REQUEST("set k 0 0 1x\r\n", "set 14 !" FORMAT),
	REQUEST("set k 0 0 0x1\r\n", "set 15 !" FORMAT),
	REQUEST("set k 0 0 \t\r\n", "set 13 !" FORMAT),
	REQUEST("set k 0 0 +\r\n", "set 13 !" FORMAT),
	REQUEST("set k 0 0 +-1\r\n", "set 15 !" FORMAT),
	REQUEST("set k 0 0 2147483646\r\n", "set 22 !" FORMAT),
	REQUEST("set k 0 0 2147483647\r\n", "set 22 !" FORMAT),
	REQUEST("set k 0 0 2147483648\r\n", "set 22 !" FORMAT),
	REQUEST("set k 0 0 4294967295\r\n", "set 22 !" FORMAT),
	REQUEST("set k 0 0 4294967297\r\n", "set 22 !" FORMAT),
	REQUEST("set k 0 0 9223372036854775807\r\n", "set 31 !" FORMAT),
	REQUEST("set k 0 0 -9223372036854775808\r\n", "set 32 !" FORMAT),
	REQUEST("set k 0 0 18446744073709551616\r\n", "set 32 !" FORMAT),
	REQUEST("set k 0 0 " N30 "\r\n", "set 42 !" FORMAT),
	REQUEST("set k 0 0 1048577\r\n",
	    "set 19 !" LARGE " too_large swallow=1048579 key=k"),
	REQUEST("set k 0 0 2147483645 noreply\r\n",
	    "set 30 !" LARGE " too_large noreply swallow=2147483647 key=k"),
	REQUEST("add k 0 0 2000000\r\n",
	    "add 19 !" LARGE " too_large swallow=2000002 key=k"),
	REQUEST("set k\0z 0 0 1\r\n", "set 15 !" FORMAT " swallow=3"),
	REQUEST("set k\0z 0 0 1 noreply\r\n",
	    "set 23 !" FORMAT " noreply swallow=3"),
	REQUEST("set k 0 0 1\0\r\n", "set 14 !" FORMAT),
	REQUEST("set k\0 0 0\r\n", "set 12 !" FORMAT),
	REQUEST("set k 0 0 1\r\r\n", "set 14 !" FORMAT),
	REQUEST("set k\r 0 0 1\r\n", "set 14 !" FORMAT " swallow=3"),

	/* incr, decr, touch, delete. */
	REQUEST("incr k 1\r\n", "incr 10 key=k delta=1"),
	REQUEST("decr k 18446744073709551615 noreply \r\n",
	    "decr 38 noreply key=k delta=18446744073709551615"),
	REQUEST("incr k +1 foo\r\n", "incr 15 key=k delta=1"),
	REQUEST("incr k\r\n", "incr 8 !ERROR"),
	REQUEST("incr\r\n", "incr 6 !ERROR"),
	REQUEST("incr k 1 2 3\r\n", "incr 14 !ERROR"),
	REQUEST("incr k x\r\n", "incr 10 !" DELTA),
	REQUEST("incr k -1\r\n", "incr 11 !" DELTA),
	REQUEST("incr k noreply\r\n", "incr 16 !" DELTA " noreply"),
	REQUEST("decr k 18446744073709551616\r\n", "decr 29 !" DELTA),
	REQUEST("decr k 1 noreply 2\r\n", "decr 20 !ERROR"),
	REQUEST("incr " K251 " 1\r\n", "incr 260 !" FORMAT),
	REQUEST("incr " K251 " x noreply\r\n", "incr 268 !" FORMAT " noreply"),
	REQUEST("touch k 10\r\n", "touch 12 key=k exptime=10"),
	REQUEST("touch k -1 noreply\r\n", "touch 20 noreply key=k exptime=-1"),
	REQUEST("touch k -9223372036854775808\r\n", "touch 30 key=k"),
	REQUEST("touch k -9223372036854775809\r\n", "touch 30 !" EXPTIME),
	REQUEST("touch k\r\n", "touch 9 !ERROR"),
	REQUEST("touch k 1 2 3\r\n", "touch 15 !ERROR"),
	REQUEST("touch k x\r\n", "touch 11 !" EXPTIME),
	REQUEST("touch k noreply\r\n", "touch 17 !" EXPTIME " noreply"),
	REQUEST("touch " K251 " 1\r\n", "touch 261 !" FORMAT),
	REQUEST("delete k\r\n", "delete 10 key=k"),
	REQUEST("delete x \r\n", "delete 11 key=x"),
	REQUEST("delete k 0\r\n", "delete 12 key=k"),
	REQUEST("delete k noreply\r\n", "delete 18 noreply key=k"),
	REQUEST("delete k 0 noreply\r\n", "delete 20 noreply key=k"),
	REQUEST("delete noreply\r\n", "delete 16 key=noreply"),
	REQUEST("delete " K250 "\n", "delete 258 key=" K250),
	REQUEST("delete\r\n", "delete 8 !ERROR"),
	REQUEST("delete k 0 noreply 1\r\n", "delete 22 !ERROR"),
	REQUEST("delete k 1\r\n", "delete 12 !" USAGE),
	REQUEST("delete k 00\r\n", "delete 13 !" USAGE),
	REQUEST("delete k noreplY\r\n", "delete 18 !" USAGE),
	REQUEST("delete k 1 noreply\r\n", "delete 20 !" USAGE " noreply"),
	REQUEST("delete k noreply 0\r\n", "delete 20 !" USAGE),
	REQUEST("delete k 0 0\r\n", "delete 14 !" USAGE),
	REQUEST("delete " K251 "\r\n", "delete 260 !" FORMAT),
	REQUEST("delete " K251 " 0\r\n", "delete 262 !" FORMAT),
	REQUEST("delete " K251 " 1\r\n", "delete 262 !" USAGE),
	REQUEST("delete k\0z\r\n", "delete 12 !" FORMAT),

	/* Commands without a key. */
	REQUEST("flush_all\r\n", "flush_all 11"),
	REQUEST("flush_all \r\n", "flush_all 12"),
	REQUEST("flush_all 0\r\n", "flush_all 13 exptime=0"),
	REQUEST("flush_all -1\r\n", "flush_all 14 exptime=-1"),
	REQUEST("flush_all 10 noreply\r\n", "flush_all 22 noreply exptime=10"),
	REQUEST("flush_all noreply\r\n", "flush_all 19 noreply"),
	REQUEST("flush_all  noreply\r\n", "flush_all 20 noreply"),
	REQUEST("flush_all 0 5\r\n", "flush_all 15 exptime=0"),
	REQUEST("flush_all x\r\n", "flush_all 13 !" EXPTIME),
	REQUEST("flush_all x noreply\r\n", "flush_all 21 !" EXPTIME " noreply"),
	REQUEST("flush_all noreply 0\r\n", "flush_all 21 !" EXPTIME),
	REQUEST("flush_all noreply noreply\r\n",
	    "flush_all 27 !" EXPTIME " noreply"),
	REQUEST("flush_all 0 0 0\r\n", "flush_all 17 !ERROR"),
	REQUEST("version\r\n", "version 9"),
	REQUEST("version\n", "version 8"),
	REQUEST("version foo bar\r\n", "version 17"),
	REQUEST("version\r\r\n", "refused 10 !" FORMAT),
	REQUEST("version\0x\r\n", "refused 11 !" FORMAT),
	REQUEST("version x\0y\r\n", "version 13 !" FORMAT),
	REQUEST("quit\r\n", "quit 6"),
	REQUEST("quit x\r\n", "quit 8"),
	REQUEST("verbosity 1\r\n", "verbosity 13"),
	REQUEST("verbosity 1 2\r\n", "verbosity 15"),
	REQUEST("verbosity 1 noreply\r\n", "verbosity 21 noreply"),
	REQUEST("verbosity noreply\r\n", "verbosity 19 !" FORMAT " noreply"),
	REQUEST("verbosity\r\n", "verbosity 11 !ERROR"),
	REQUEST("verbosity x\r\n", "verbosity 13 !" FORMAT),
	REQUEST("verbosity 1 2 3\r\n", "verbosity 17 !ERROR"),
	REQUEST("stats\r\n", "stats 7"),
	REQUEST("stats \r\n", "stats 8"),
	REQUEST("stats  cachedump 1 0\r\n", "stats 22 argument=cachedump"),
	REQUEST("stats items\r\n", "stats 13 argument=items"),

	/* Not served. */
	REQUEST("\r\n", "refused 2 !ERROR"),
	REQUEST("\n", "refused 1 !ERROR"),
	REQUEST("   \r\n", "refused 5 !ERROR"),
	REQUEST("\r\r\n", "refused 3 !" FORMAT),
	REQUEST("\0\r\n", "refused 3 !" FORMAT),
	REQUEST("foo\r\n", "refused 5 !ERROR"),
	REQUEST("x\r\n", "refused 3 !ERROR"),
	REQUEST("GET k\r\n", "refused 7 !ERROR"),
	REQUEST("Version\r\n", "refused 9 !ERROR"),
	REQUEST("getx k\r\n", "refused 8 !ERROR"),
	REQUEST("ge k\r\n", "refused 6 !ERROR"),
	REQUEST("deletx k\r\n", "refused 10 !ERROR"),
	REQUEST("replacex k\r\n", "refused 12 !ERROR"),
	REQUEST("flush_alx\r\n", "refused 11 !ERROR"),
	REQUEST("stuff\r\n", "refused 7 !ERROR"),
	REQUEST("mz k\r\n", "refused 6 !ERROR"),
	REQUEST("xg k\r\n", "refused 6 !ERROR"),
	REQUEST("versiox\r\n", "refused 9 !ERROR"),
	REQUEST("misbehave\r\n", "refused 11 !ERROR"),
	REQUEST("debugtime 5\r\n", "refused 13 !ERROR"),
	REQUEST("extstore\r\n", "refused 10 !ERROR"),
	REQUEST("slabs\r\n", "refused 7 !ERROR"),
	REQUEST("slabs reassign 1 2\r\n", "refused 20 !" REFUSED),
	REQUEST("lru\r\n", "refused 5 !ERROR"),
	REQUEST("lru mode flat\r\n", "refused 15 !" REFUSED),
	REQUEST("lru_crawler\r\n", "refused 13 !ERROR"),
	REQUEST("lru_crawler metadump all\r\n", "refused 26 !" REFUSED),
	REQUEST("cache_memlimit\r\n", "refused 16 !ERROR"),
	REQUEST("cache_memlimit 64\r\n", "refused 19 !" REFUSED),
	REQUEST("cache_memlimit 64 noreply\r\n",
	    "refused 27 !" REFUSED " noreply"),
	REQUEST("watch\r\n", "refused 7 !" REFUSED),
	REQUEST("watch evictions\r\n", "refused 17 !" REFUSED),
	REQUEST("refresh_certs\r\n", "refused 15 !" REFUSED),
	REQUEST("shutdown\r\n", "refused 10 !ERROR: shutdown not enabled"),
	REQUEST("shutdown graceful\r\n",
	    "refused 19 !ERROR: shutdown not enabled"),
	REQUEST("a b c d e f g h i j k l m n o p q r s t u v w x y z\r\n",
	    "refused 53 !ERROR"),
	REQUEST("Host: foo\r\n", "refused 11 !ERROR"),
	REQUEST("*1\r\n", "refused 4 !ERROR"),
	REQUEST("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "refused 32 !ERROR"),
	REQUEST("GET / HTTP/1.1\r\n", "BAD"),
	REQUEST("OPTIONS * HTTP/1.0\n", "BAD"),
	REQUEST("stuff HTTP/1.1\r\n", "refused 16 !ERROR"),
	REQUEST("get HTTP/1.1\r\n", "get 14 key=HTTP/1.1 keys=HTTP/1.1*1"),
	REQUEST("\x80", "BAD"),
	REQUEST("\x81\r\n", "BAD"),
	REQUEST("\x80\x01\0\0", "BAD"),
	REQUEST("\x16\x03\x01\n", "refused 4 !ERROR"),

	/* mg */
	REQUEST("mg k\r\n", "mg 6 key=k"),
	REQUEST("mg k v f t s\r\n", "mg 14 key=k meta=v f t s v"),
	REQUEST("mg  k  v  q \n", "mg 13 quiet key=k meta=v  q v"),
	REQUEST("mg k vv kx Pfoo Lbar\r\n",
	    "mg 22 key=k meta=vv kx Pfoo Lbar v"),
	REQUEST("mg k N30 c R10 T0 I\r\n",
	    "mg 21 key=k meta=N30 c R10 T0 I T N I"),
	REQUEST("mg k " O31 "\r\n", "mg 39 key=k meta=" O31),
	REQUEST("mg Zm9v b k\r\n", "mg 13 base64 key=Zm9v meta=b k"),
	REQUEST("mg Zm8= b\r\n", "mg 11 base64 key=Zm8= meta=b"),
	REQUEST("mg Zg== b5\r\n", "mg 12 base64 key=Zg== meta=b5"),
	REQUEST("mg k MZ\r\n", "mg 9 key=k meta=MZ mode=Z"),
	REQUEST("mg k T-1 R-2147483648 N2147483647\r\n",
	    "mg 35 key=k exptime=-1 meta=T-1 R-2147483648 N2147483647 T N"),
	REQUEST("mg k v f s t c h l O1 k q u N1 T1 R1 F1 C1 I\r\n",
	    "mg 46 quiet key=k flags=1 exptime=1"
	    " meta=v f s t c h l O1 k q u N1 T1 R1 F1 C1 I"
	    " cas=1 T v N I"),
	REQUEST("mg k v f s t c h l O1 k q u N1 T1 R1 F1 C1 I P\r\n",
	    "mg 48 !CLIENT_ERROR options flags are too long"),
	REQUEST("mg 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5\r\n",
	    "mg 54 !CLIENT_ERROR options flags are too long"),
	REQUEST("mg\r\n", "mg 4 !ERROR"),
	REQUEST("mg \r\n", "mg 5 !ERROR"),
	REQUEST("mg " K251 "\r\n", "mg 256 !" FORMAT),
	REQUEST("mg " K251 " v v\r\n", "mg 260 !" FORMAT),
	REQUEST("mg k v v\r\n", "mg 10 !" TWICE),
	REQUEST("mg k v q v\r\n", "mg 12 !" TWICE " quiet"),
	REQUEST("mg k \xff\r\n", "mg 8 !" TWICE),
	REQUEST("mg k \x7f\r\n", "mg 8 !" TWICE),
	REQUEST("mg k Z\r\n", "mg 8 !" FLAG),
	REQUEST("mg k \x01\r\n", "mg 8 !" FLAG),
	REQUEST("mg k S1\r\n", "mg 9 !" FLAG),
	REQUEST("mg k E1\r\n", "mg 9 key=k meta=E1 E"),
	REQUEST("mg k Ex\r\n", "mg 9 !" FLAG),
	REQUEST("mg k x\r\n", "mg 8 !" FLAG),
	REQUEST("mg k Tx Z\r\n", "mg 11 !" FLAG),
	REQUEST("mg k Z v v\r\n", "mg 12 !" FLAG),
	REQUEST("mg k T\r\n", "mg 8 !" TOKEN),
	REQUEST("mg k T+1\r\n", "mg 10 !" TOKEN),
	REQUEST("mg k T-\r\n", "mg 9 !" TOKEN),
	REQUEST("mg k T2147483648\r\n", "mg 18 !" TOKEN),
	REQUEST("mg k T-2147483649\r\n", "mg 19 !" TOKEN),
	REQUEST("mg k R" N30 "\r\n", "mg 38 !" TOKEN),
	REQUEST("mg k Nx Mxx\r\n", "mg 13 !" MTOKEN),
	REQUEST("mg k Mxx Nx\r\n", "mg 13 !" TOKEN),
	REQUEST("mg k M\r\n", "mg 8 !" MTOKEN),
	REQUEST("mg k J\r\n",
	    "mg 8 !CLIENT_ERROR invalid numeric initial value"),
	REQUEST("mg k D-1\r\n",
	    "mg 10 !CLIENT_ERROR invalid numeric delta value"),
	REQUEST("mg k C\r\n", "mg 8 !" TOKEN),
	REQUEST("mg k C" N30 "\r\n", "mg 38 !" TOKEN),
	REQUEST("mg k F\r\n", "mg 8 !" FORMAT),
	REQUEST("mg k F4294967296\r\n", "mg 18 !" FORMAT),
	REQUEST("mg k Tx Fx\r\n", "mg 12 !" TOKEN),
	REQUEST("mg k Fx Tx\r\n", "mg 12 !" TOKEN),
	REQUEST("mg k q " O32 "\r\n", "mg 42 !" OPAQUE " quiet"),
	REQUEST("mg k b\r\n", "mg 8 !" DECODE " base64"),
	REQUEST("mg Zm9v!!!! b\r\n", "mg 15 !" DECODE " base64"),
	REQUEST("mg Zm9{ b\r\n", "mg 11 !" DECODE " base64"),
	REQUEST("mg Zm9= b\r\n", "mg 11 !" DECODE " base64"),
	REQUEST("mg Zh== b\r\n", "mg 11 !" DECODE " base64"),
	REQUEST("mg Z=== b\r\n", "mg 11 !" DECODE " base64"),
	REQUEST("mg ==== b\r\n", "mg 11 !" DECODE " base64"),
	REQUEST("mg Zg==Zm9v b\r\n", "mg 15 !" DECODE " base64"),
	REQUEST("mg Zm9v b b\r\n", "mg 13 !" TWICE " base64"),
	REQUEST("mg " B64_248 " b\r\n", "mg 255 base64 key=" B64_248 " meta=b"),
	REQUEST("mg k\0z v\r\n", "mg 10 !" FORMAT),
	REQUEST("mg k O\rz\r\n", "mg 10 !" FORMAT),

	/* ms */
	REQUEST("ms k 2\r\nhi\r\n", "ms 12 key=k data=hi mode=S"),
	REQUEST("ms k +2 T0\nhi\r\n", "ms 15 key=k data=hi meta=T0 mode=S T"),
	REQUEST("ms k 2 c F1 T10 MS\r\nhi\r\n",
	    "ms 24 key=k data=hi flags=1 exptime=10"
	    " meta=c F1 T10 MS mode=S T"),
	REQUEST("ms k 0 ME q\r\n\r\n",
	    "ms 15 quiet key=k data= meta=ME q mode=E"),
	REQUEST("ms k 1 MA\r\nx\r\n", "ms 14 key=k data=x meta=MA mode=A"),
	REQUEST("ms k 1 MP\r\nx\r\n", "ms 14 key=k data=x meta=MP mode=P"),
	REQUEST("ms k 1 MR C5 I\r\nx\r\n",
	    "ms 19 key=k data=x meta=MR C5 I cas=5 has_cas mode=R I"),
	REQUEST("ms Zm9v 1 b\r\nx\r\n",
	    "ms 16 base64 key=Zm9v data=x meta=b mode=S"),
	REQUEST("ms\r\n", "ms 4 !ERROR"),
	REQUEST("ms k\r\n", "ms 6 !" FORMAT),
	REQUEST("ms k x\r\n", "ms 8 !" FORMAT),
	REQUEST("ms k x Z\r\n", "ms 10 !" FORMAT),
	REQUEST("ms k -1\r\n", "ms 9 !" FORMAT),
	REQUEST("ms k S1\r\n", "ms 9 !" FORMAT),
	REQUEST("ms k 2147483646\r\n", "ms 17 !" FORMAT),
	REQUEST("ms k 4294967297\r\n", "ms 17 !" FORMAT),
	REQUEST("ms k q\r\n", "ms 8 !" FORMAT),
	REQUEST("ms " K251 " 1\r\n", "ms 258 !" FORMAT " swallow=3"),
	REQUEST("ms " K251 "\r\n", "ms 256 !" FORMAT),
	REQUEST("ms k 1 S1\r\n", "ms 11 !" FLAG " swallow=3"),
	REQUEST("ms k 1 2\r\n", "ms 10 !" FLAG " swallow=3"),
	REQUEST("ms k 1 T1 T1\r\n", "ms 14 !" TWICE " swallow=3"),
	REQUEST("ms k 1 Tx\r\n", "ms 11 !" TOKEN " swallow=3"),
	REQUEST("ms k 1 Fx\r\n", "ms 11 !" FORMAT " swallow=3"),
	REQUEST("ms k 1 b\r\n", "ms 10 !" DECODE " base64 swallow=3"),
	REQUEST("ms k 1 MX\r\n",
	    "ms 11 !CLIENT_ERROR invalid mode for ms M token swallow=3"),
	REQUEST("ms k 1 Me " O32 "\r\n",
	    "ms 45 !CLIENT_ERROR invalid mode for ms M token swallow=3"),
	REQUEST("ms k 1 q " O32 "\r\n", "ms 44 !" OPAQUE " quiet swallow=3"),
	REQUEST("ms k 1048577 q\r\n",
	    "ms 16 !" LARGE " too_large quiet swallow=1048579 key=k"),
	REQUEST("ms k 1 v f s t c h l O1 k q u N1 T1 R1 F1 C1 I\r\n",
	    "ms 48 !CLIENT_ERROR options flags too long swallow=3"),
	REQUEST("ms k x v f s t c h l O1 k q u N1 T1 R1 F1 C1 I\r\n",
	    "ms 48 !CLIENT_ERROR options flags too long"),
	REQUEST("ms k 1 q\r\nabc", "ms 13 !" DATA " quiet"),
	REQUEST("ms k\0 1\r\n", "ms 9 !" FORMAT " swallow=3"),

	/* md, ma, me, mn */
	REQUEST("md k\r\n", "md 6 key=k"),
	REQUEST("md k q I T30 C9\r\n",
	    "md 17 quiet key=k exptime=30 meta=q I T30 C9 cas=9 has_cas T I"),
	REQUEST("md k MZ\r\n", "md 9 key=k meta=MZ mode=Z"),
	REQUEST("md\r\n", "md 4 !ERROR"),
	REQUEST("md " K251 "\r\n", "md 256 !" FORMAT),
	REQUEST("md k q q\r\n", "md 10 !" FLAGS " quiet"),
	REQUEST("md k x\r\n", "md 8 key=k meta=x x"),
	REQUEST("md k x x\r\n", "md 10 !" FLAGS),
	REQUEST("md k Tx\r\n", "md 9 !" FLAGS),
	REQUEST("md k b\r\n", "md 8 !" FLAGS " base64"),
	REQUEST("md k " O32 "\r\n", "md 40 !" OPAQUE),
	REQUEST("md k v f s t c h l O1 k q u N1 T1 R1 F1 C1 I P\r\n",
	    "md 48 !CLIENT_ERROR options flags too long"),
	REQUEST("ma k\r\n", "ma 6 key=k delta=1 mode=I"),
	REQUEST("ma k v D5 J10 N60 MI\r\n",
	    "ma 22 key=k delta=5 meta=v D5 J10 N60 MI mode=I v N"),
	REQUEST("ma k M+\r\n", "ma 9 key=k delta=1 meta=M+ mode=I"),
	REQUEST("ma k M-\r\n", "ma 9 key=k delta=1 meta=M- mode=D"),
	REQUEST("ma k MD\r\n", "ma 9 key=k delta=1 meta=MD mode=D"),
	REQUEST("ma\r\n", "ma 4 !ERROR"),
	REQUEST("ma k Mi\r\n",
	    "ma 9 !CLIENT_ERROR invalid mode for ma M token"),
	REQUEST("ma k MZ " O32 "\r\n",
	    "ma 43 !CLIENT_ERROR invalid mode for ma M token"),
	REQUEST("ma k MINCR\r\n", "ma 12 !" FLAGS),
	REQUEST("ma k D18446744073709551616\r\n", "ma 28 !" FLAGS),
	REQUEST("ma k " O32 "\r\n", "ma 40 !" OPAQUE),
	REQUEST("me k\r\n", "me 6 key=k"),
	REQUEST("me k Z\r\n", "me 8 key=k meta=Z"),
	REQUEST("me Zm9v b\r\n", "me 11 base64 key=Zm9v meta=b"),
	REQUEST("me k x b\r\n", "me 10 key=k meta=x b"),
	REQUEST("me\r\n", "me 4 !" FORMAT),
	REQUEST("me " K251 "\r\n", "me 256 !" FORMAT),
	REQUEST("me k b\r\n", "me 8 !" FORMAT " base64"),
	REQUEST("mn\r\n", "mn 4"),
	REQUEST("mn x y\r\n", "mn 8"),

	/* Limits of a line. */
	REQUEST("get " LONG LONG "\r\n", "get 4006 !" FORMAT),
	REQUEST("gets " LONG LONG "\r\n", "gets 4007 !" FORMAT),
	REQUEST("gat 0 " LONG LONG "\r\n", "gat 4008 !" FORMAT),
	REQUEST("gats 0 " LONG LONG "\r\n", "gats 4009 !" FORMAT),
	REQUEST(DELETE_2047 "\r\n", "delete 2049 key=k"),
	REQUEST(DELETE_2047 " \n", "delete 2049 key=k"),
	REQUEST(DELETE_2047 " \r\n", "TOO_LONG"),
	REQUEST(DELETE_2047 "  \n", "TOO_LONG"),
	REQUEST(LONG LONG, "TOO_LONG"),
	REQUEST("set " LONG LONG "\r\n", "TOO_LONG"),
	REQUEST("getx " LONG LONG "\r\n", "TOO_LONG"),
	REQUEST(TEN("          ") "get k" LONG LONG "\r\n",
	    "get 4107 !" FORMAT),
	REQUEST(TEN("          ") " get k" LONG LONG "\r\n", "TOO_LONG"),
	REQUEST("get" LONG LONG "\r\n", "TOO_LONG"),
};

#define VALUE_K "VALUE " K250 " 0 1\r\nx\r\n"

static const struct reply_case replies[] = {
	/* get */
	REPLY(VALUES, "VALUE k 0 5\r\nhello\r\n", "VALUE 20 key=k data=hello"),
	REPLY(VALUES, "VALUE k 4294967295 0\r\n\r\n", "VALUE 24 key=k data="),
	REPLY(VALUES, "VALUE k -1 1\r\nx\r\n", "VALUE 17 key=k data=x"),
	REPLY(VALUES, VALUE_K, "VALUE 265 key=" K250 " data=x"),
	REPLY(VALUES, "VALUE \x01\xff\t 1 5\r\n\r\n\0\r\n\r\n",
	    "VALUE 22 key=\x01\xff\t data=\r\n\0\r\n"),
	REPLY(VALUES, "END\r\n", "END 5"),
	REPLY(VALUES, "ERROR\r\n", "ERROR 7"),
	REPLY(VALUES, "ERROR too many\r\n", "ERROR 16"),
	REPLY(VALUES, "ERROR: not enabled\r\n", "ERROR 20"),
	REPLY(VALUES, "CLIENT_ERROR bad\r\n", "CLIENT_ERROR 18"),
	REPLY(VALUES, "SERVER_ERROR out of memory\r\n", "SERVER_ERROR 28"),
	REPLY(VALUES, "SERVER_ERROR\r\n", "SERVER_ERROR 14"),
	REPLY(VALUES, "VALUE k 0 5 1\r\nhello\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0\r\n", "BAD"),
	REPLY(VALUES, "VALUE k\r\n", "BAD"),
	REPLY(VALUES, "VALUE \r\n", "BAD"),
	REPLY(VALUES, "VALUE\r\n", "BAD"),
	REPLY(VALUES, "VALUE  k 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k  0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1 \r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k x 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k - 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 -1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 +1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1x\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1048577\r\n", "LARGE 1048598"),
	REPLY(VALUES, "VALUE k 0 1073741824\r\n", "LARGE 1073741848"),
	REPLY(VALUES, "VALUE k 0 1073741825\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 4294967294\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 18446744073709551615\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 " N30 "1234567890\r\n", "BAD"),
	REPLY(VALUES, "VALUE " K251 " 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k\0 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k\r 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k\nl 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE longer\nkey 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE longer\0key 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 999999999 2\r\nxy\r\n",
	    "VALUE 25 key=k data=xy"),
	REPLY(VALUES, "VALUE k 9999999999 000000002\r\nxy\r\n",
	    "VALUE 34 key=k data=xy"),
	REPLY(VALUES, "VALUE k 000000000000000000000 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1\rx\r\n\r\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1\r\nxy\n", "BAD"),
	REPLY(VALUES, "VALUE k 0 1\r\nx\ry", "BAD"),
	REPLY(VALUES, "VALUE k 0 1\r\nx\n", "BAD"),
	REPLY(VALUES, "value k 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES, "VALUES\r\n", "BAD"),
	REPLY(VALUES, "END \r\n", "BAD"),
	REPLY(VALUES, "ENDX\r\n", "BAD"),
	REPLY(VALUES, "END\n", "BAD"),
	REPLY(VALUES, "END\rX", "BAD"),
	REPLY(VALUES, "EN\r\n", "BAD"),
	REPLY(VALUES, "\r\n", "BAD"),
	REPLY(VALUES, "\n", "BAD"),
	REPLY(VALUES, " END\r\n", "BAD"),
	REPLY(VALUES, "STORED\r\n", "BAD"),
	REPLY(VALUES, "ERRORS\r\n", "BAD"),
	REPLY(VALUES, "ERROR\n", "BAD"),
	REPLY(VALUES, "SERVER_ERROR a\0b\r\n", "BAD"),
	REPLY(VALUES, "SERVER_ERROR a\rb\r\n", "BAD"),
	REPLY(VALUES, "SERVER_ERROR: a\r\n", "BAD"),
	REPLY(VALUES, "SERVER_ERROR a\n", "BAD"),
	REPLY(VALUES, "BUSY currently\r\n", "BAD"),
	REPLY(VALUES, "\x81\r\n", "BAD"),
	REPLY(VALUES, "\0\r\n", "BAD"),
	REPLY(VALUES, "HTTP/1.1 400 Bad Request\r\n", "BAD"),
	REPLY(VALUES, "-ERR unknown command\r\n", "BAD"),
	REPLY(VALUES,
	    "SERVER_ERROR " LONG "0123456789012345678901234567890123"
	    "\r\n",
	    "SERVER_ERROR 2049"),
	REPLY(VALUES,
	    "SERVER_ERROR " LONG "0123456789012345678901234567890123"
	    "45\r\n",
	    "TOO_LONG"),
	REPLY(VALUES, "SERVER_ERROR " LONG LONG, "TOO_LONG"),
	REPLY(VALUES, "VALUE " LONG LONG, "TOO_LONG"),
	REPLY(VALUES, "VALUX " LONG LONG, "BAD"),

	/* gets */
	REPLY(VALUES_CAS, "VALUE k 0 1 18446744073709551615\r\nx\r\n",
	    "VALUE 37 key=k data=x cas=18446744073709551615"),
	REPLY(VALUES_CAS, "VALUE k 0 1 0\r\nx\r\n",
	    "VALUE 18 key=k data=x cas=0"),
	REPLY(VALUES_CAS, "END\r\n", "END 5"),
	REPLY(VALUES_CAS, "VALUE k 0 1\r\nx\r\n", "BAD"),
	REPLY(VALUES_CAS, "VALUE k 0 1 18446744073709551616\r\nx\r\n", "BAD"),
	REPLY(VALUES_CAS, "VALUE k 0 1 x\r\nx\r\n", "BAD"),
	REPLY(VALUES_CAS, "VALUE k 0 1x 5\r\nx\r\n", "BAD"),
	REPLY(VALUES_CAS, "VALUE k 0 1 2 3\r\nx\r\n", "BAD"),

	/* The one-line replies. */
	REPLY(STORED, "STORED\r\n", "STORED 8"),
	REPLY(STORED, "NOT_STORED\r\n", "NOT_STORED 12"),
	REPLY(STORED, "EXISTS\r\n", "EXISTS 8"),
	REPLY(STORED, "NOT_FOUND\r\n", "NOT_FOUND 11"),
	REPLY(STORED, "SERVER_ERROR object too large for cache\r\n",
	    "SERVER_ERROR 41"),
	REPLY(STORED, "ERROR\r\n", "ERROR 7"),
	REPLY(STORED, "STORED \r\n", "BAD"),
	REPLY(STORED, "STORED\n", "BAD"),
	REPLY(STORED, "DELETED\r\n", "BAD"),
	REPLY(STORED, "END\r\n", "BAD"),
	REPLY(STORED, "NOT_\r\n", "BAD"),
	REPLY(NUMBER, "0\r\n", "NUMBER 3 number=0"),
	REPLY(NUMBER, "9  \r\n", "NUMBER 5 number=9"),
	REPLY(NUMBER, "18446744073709551615\r\n",
	    "NUMBER 22 number=18446744073709551615"),
	REPLY(NUMBER, "NOT_FOUND\r\n", "NOT_FOUND 11"),
	REPLY(NUMBER, "CLIENT_ERROR cannot increment\r\n", "CLIENT_ERROR 31"),
	REPLY(NUMBER, "18446744073709551616\r\n", "BAD"),
	REPLY(NUMBER, N30 "\r\n", "BAD"),
	REPLY(NUMBER, "-1\r\n", "BAD"),
	REPLY(NUMBER, "1x\r\n", "BAD"),
	REPLY(NUMBER, "1 2\r\n", "BAD"),
	REPLY(NUMBER, "1\n", "BAD"),
	REPLY(NUMBER, "1\r\r\n", "BAD"),
	REPLY(NUMBER, "STORED\r\n", "BAD"),
	REPLY(NUMBER, "1" LONG LONG, "TOO_LONG"),
	REPLY(STORED, "1\r\n", "BAD"),
	REPLY(TOUCHED, "TOUCHED\r\n", "TOUCHED 9"),
	REPLY(TOUCHED, "NOT_FOUND\r\n", "NOT_FOUND 11"),
	REPLY(TOUCHED, "DELETED\r\n", "BAD"),
	REPLY(DELETED, "DELETED\r\n", "DELETED 9"),
	REPLY(DELETED, "NOT_FOUND\r\n", "NOT_FOUND 11"),
	REPLY(DELETED, "TOUCHED\r\n", "BAD"),
	REPLY(META_NOOP, "MN\r\n", "OK 4"),
	REPLY(META_NOOP, "OK\r\n", "BAD"),
	REPLY(OK, "OK\r\n", "OK 4"),
	REPLY(OK, "CLIENT_ERROR flush_all not allowed\r\n", "CLIENT_ERROR 36"),
	REPLY(OK, "HD\r\n", "BAD"),
	REPLY(OK, "OK x\r\n", "BAD"),
	REPLY(VERSION, "VERSION 1.6.45\r\n", "VERSION 16 data=1.6.45"),
	REPLY(VERSION, "VERSION 1.4.15 extra\r\n",
	    "VERSION 22 data=1.4.15 extra"),
	REPLY(VERSION, "ERROR\r\n", "ERROR 7"),
	REPLY(VERSION, "VERSION\r\n", "BAD"),
	REPLY(VERSION, "VERSION \r\n", "BAD"),
	REPLY(VERSION, "VERSION 1.2\0\r\n", "BAD"),

	/* stats */
	REPLY(STATS, "STAT pid 123\r\n", "STAT 14 key=pid data=123"),
	REPLY(STATS, "STAT a b c d\r\n", "STAT 14 key=a data=b c d"),
	REPLY(STATS, "STAT inter \r\n", "STAT 13 key=inter data="),
	REPLY(STATS, "STAT inter\r\n", "STAT 12 key=inter data="),
	REPLY(STATS, "STAT 27:addr tcp:127.0.0.1:1234\r\n",
	    "STAT 33 key=27:addr data=tcp:127.0.0.1:1234"),
	REPLY(STATS, "END\r\n", "END 5"),
	REPLY(STATS, "ERROR\r\n", "ERROR 7"),
	REPLY(STATS, "STAT\r\n", "BAD"),
	REPLY(STATS, "STAT \r\n", "BAD"),
	REPLY(STATS, "STAT  x\r\n", "BAD"),
	REPLY(STATS, "STAT a\0 b\r\n", "BAD"),
	REPLY(STATS, "STAT a b\0\r\n", "BAD"),
	REPLY(STATS, "STAT a b\n", "BAD"),
	REPLY(STATS, "RESET\r\n", "BAD"),

	/* meta */
	REPLY(META_GET, "VA 2\r\nhi\r\n", "VA 10 data=hi"),
	REPLY(META_GET, "VA 2 kfoo f0 c123 Ox\r\nhi\r\n",
	    "VA 26 data=hi cas=123 meta=kfoo f0 c123 Ox"),
	REPLY(META_GET, "VA 0 s0 \r\n\r\n", "VA 12 data= meta=s0 "),
	REPLY(META_GET, "HD\r\n", "HD 4"),
	REPLY(META_GET, "HD t-1 c7 W\r\n", "HD 13 cas=7 meta=t-1 c7 W"),
	REPLY(META_GET, "HD kc1 Oc2\r\n", "HD 12 meta=kc1 Oc2"),
	REPLY(META_GET, "EN\r\n", "EN 4"),
	REPLY(META_GET, "EN kfoo O1\r\n", "EN 12 meta=kfoo O1"),
	REPLY(META_GET, "OK c1\r\n", "HD 7 cas=1 meta=c1"),
	REPLY(META_GET, "CLIENT_ERROR invalid flag\r\n", "CLIENT_ERROR 27"),
	REPLY(META_GET, "VA\r\n", "BAD"),
	REPLY(META_GET, "VA \r\n", "BAD"),
	REPLY(META_GET, "VA x\r\n", "BAD"),
	REPLY(META_GET, "VA -1\r\n", "BAD"),
	REPLY(META_GET, "VA  2\r\nhi\r\n", "BAD"),
	REPLY(META_GET, "VA 1048577\r\n", "LARGE 1048591"),
	REPLY(META_ARITHMETIC, "VA 1048577\r\n", "BAD"),
	REPLY(META_GET, "VA 2 cx\r\nhi\r\n", "BAD"),
	REPLY(META_GET, "VA " N30 "\r\n", "BAD"),
	REPLY(META_GET, "VA 2\r\nhixx", "BAD"),
	REPLY(META_GET, "VA 2\nhi\r\n", "BAD"),
	REPLY(META_GET, "VA2\r\n", "BAD"),
	REPLY(META_GET, "HDX\r\n", "BAD"),
	REPLY(META_GET, "HD\n", "BAD"),
	REPLY(META_GET, "HD c\r\n", "BAD"),
	REPLY(META_GET, "HD cx\r\n", "BAD"),
	REPLY(META_GET, "HD c" N30 "\r\n", "BAD"),
	REPLY(META_GET, "HD c000000000000000000000\r\n", "BAD"),
	REPLY(META_GET, "VA 000000000000000000002\r\nhi\r\n", "BAD"),
	REPLY(META_GET, "HD k\0\r\n", "BAD"),
	REPLY(META_GET, "HD k\rx\r\n", "BAD"),
	REPLY(META_GET, "NF\r\n", "BAD"),
	REPLY(META_GET, "MN\r\n", "BAD"),
	REPLY(META_GET, "END\r\n", "BAD"),
	REPLY(META_SET, "HD\r\n", "HD 4"),
	REPLY(META_SET, "NS O1\r\n", "NS 7 meta=O1"),
	REPLY(META_SET, "EX\r\n", "EX 4"),
	REPLY(META_SET, "NF\r\n", "NF 4"),
	REPLY(META_SET, "SERVER_ERROR object too large for cache\r\n",
	    "SERVER_ERROR 41"),
	REPLY(META_SET, "VA 1\r\nx\r\n", "BAD"),
	REPLY(META_SET, "EN\r\n", "BAD"),
	REPLY(META_DELETE, "HD\r\n", "HD 4"),
	REPLY(META_DELETE, "NF k1\r\n", "NF 7 meta=k1"),
	REPLY(META_DELETE, "EX\r\n", "EX 4"),
	REPLY(META_DELETE, "NS\r\n", "BAD"),
	REPLY(META_ARITHMETIC, "HD\r\n", "HD 4"),
	REPLY(META_ARITHMETIC, "VA 2 t-1 c5\r\n10\r\n",
	    "VA 17 data=10 cas=5 meta=t-1 c5 number=10"),
	REPLY(META_ARITHMETIC, "VA 2\r\n9 \r\n", "VA 10 data=9  number=9"),
	REPLY(META_ARITHMETIC, "NF\r\n", "NF 4"),
	REPLY(META_ARITHMETIC, "NS\r\n", "NS 4"),
	REPLY(META_ARITHMETIC, "EX\r\n", "EX 4"),
	REPLY(META_ARITHMETIC, "VA 1\r\nx\r\n", "BAD"),
	REPLY(META_ARITHMETIC, "VA 0\r\n\r\n", "BAD"),
	REPLY(META_ARITHMETIC, "EN\r\n", "BAD"),
	REPLY(META_DEBUG, "ME k exp=-1 la=0 cas=9 fetch=no cls=1 size=62\r\n",
	    "ME 47"),
	REPLY(META_DEBUG, "ME cache exp=-1\r\n", "ME 17"),
	REPLY(META_DEBUG, "EN\r\n", "EN 4"),
	REPLY(META_DEBUG, "HD\r\n", "BAD"),
};

/* Text that grows; what does not fit is a fault of the test. */
struct text {
	char bytes[8192];
	size_t length;
};

static void add(struct text *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

static void
add_bytes(struct text *text, const char *bytes, size_t n)
{
	if (n > sizeof(text->bytes) - text->length)
		abort();
	memcpy(text->bytes + text->length, bytes, n);
	text->length += n;
}

static void
add(struct text *text, const char *format, ...)
{
	char part[256];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(part, sizeof(part), format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(part))
		abort();
	add_bytes(text, part, (size_t)n);
}

static void
add_span(struct text *text, const char *name, const char *bytes,
    struct proto_span span)
{
	add(text, " %s=", name);
	add_bytes(text, bytes + span.at, span.length);
}

static void
add_status(struct text *text, enum proto_status status, size_t length)
{
	if (status == PROTO_BAD)
		add(text, "BAD");
	else if (status == PROTO_TOO_LONG)
		add(text, "TOO_LONG");
	else if (status == PROTO_LARGE)
		add(text, "LARGE %zu", length);
	else if (length == 0)
		add(text, "MORE");
	else
		add(text, "MORE %zu", length);
}

static void
add_error(struct text *text, const char *bytes, const struct proto_request *r)
{
	add(text, " !%s%s%s%s%s", r->error, r->too_large ? " too_large" : "",
	    r->noreply ? " noreply" : "", r->quiet ? " quiet" : "",
	    r->base64 ? " base64" : "");
	if (r->swallow != 0)
		add(text, " swallow=%llu", (unsigned long long)r->swallow);
	if (r->too_large)
		add_span(text, "key", bytes, r->key);
}

static void
add_numbers(struct text *text, const struct proto_request *r)
{
	bool is_number = r->command == PROTO_INCR || r->command == PROTO_DECR ||
	    r->command == PROTO_MA;

	if (r->flags != 0)
		add(text, " flags=%lu", (unsigned long)r->flags);
	if (r->exptime != 0 || r->has_exptime)
		add(text, " exptime=%ld", (long)r->exptime);
	if (is_number)
		add(text, " delta=%llu", (unsigned long long)r->delta);
}

static void
add_meta(struct text *text, const char *bytes, const struct proto_request *r)
{
	if (r->meta.length > 0)
		add_span(text, "meta", bytes, r->meta);
	if (r->cas != 0)
		add(text, " cas=%llu", (unsigned long long)r->cas);
	add(text, "%s", r->has_cas ? " has_cas" : "");
	if (r->mode != '\0')
		add(text, " mode=%c", r->mode);
	add(text, "%s%s%s%s", r->has_ttl ? " T" : "", r->has_value ? " v" : "",
	    r->has_vivify ? " N" : "", r->has_invalidate ? " I" : "");
	add(text, "%s%s", r->has_chosen_cas ? " E" : "",
	    r->removes_value ? " x" : "");
}

/* All that a request says, but what is not set. */
static void
render_request(struct text *text, const char *bytes, enum proto_status status,
    const struct proto_request *r)
{
	static const char *const names[] = {
		"get",
		"gets",
		"gat",
		"gats",
		"set",
		"add",
		"replace",
		"append",
		"prepend",
		"cas",
		"incr",
		"decr",
		"touch",
		"delete",
		"mg",
		"ms",
		"md",
		"ma",
		"mn",
		"me",
		"flush_all",
		"version",
		"verbosity",
		"stats",
		"quit",
		"refused",
	};

	text->length = 0;
	if (status != PROTO_OK) {
		add_status(text, status, r->length);
		return;
	}
	add(text, "%s %zu", names[r->command], r->length);
	if (r->error != NULL) {
		add_error(text, bytes, r);
		return;
	}
	add(text, "%s%s%s", r->noreply ? " noreply" : "",
	    r->quiet ? " quiet" : "", r->base64 ? " base64" : "");
	if (r->key.length > 0)
		add_span(text, "key", bytes, r->key);
	if (r->key_count > 0) {
		add_span(text, "keys", bytes, r->keys);
		add(text, "*%u", r->key_count);
	}
	if (r->data.at > 0)
		add_span(text, "data", bytes, r->data);
	add_numbers(text, r);
	add_meta(text, bytes, r);
	if (r->argument.length > 0)
		add_span(text, "argument", bytes, r->argument);
}

static void
render_reply(struct text *text, const char *bytes, enum proto_status status,
    const struct proto_reply *r)
{
	static const char *const names[] = {
		"VALUE",
		"STAT",
		"END",
		"STORED",
		"NOT_STORED",
		"EXISTS",
		"NOT_FOUND",
		"DELETED",
		"TOUCHED",
		"NUMBER",
		"OK",
		"VERSION",
		"VA",
		"HD",
		"EN",
		"NS",
		"EX",
		"NF",
		"ME",
		"ERROR",
		"CLIENT_ERROR",
		"SERVER_ERROR",
	};

	text->length = 0;
	if (status != PROTO_OK) {
		add_status(text, status, r->length);
		return;
	}
	add(text, "%s %zu", names[r->result], r->length);
	if (r->key.length > 0)
		add_span(text, "key", bytes, r->key);
	if (r->data.at > 0)
		add_span(text, "data", bytes, r->data);
	if (r->cas.length > 0)
		add_span(text, "cas", bytes, r->cas);
	if (r->meta.length > 0)
		add_span(text, "meta", bytes, r->meta);
	if (r->result == PROTO_NUMBER || r->number != 0)
		add(text, " number=%llu", (unsigned long long)r->number);
}

/*
 * Parse a copy of n bytes that lies in memory of just that size.  expect is
 * -1 for a request.  Returns the length that the parser reports.
 */
static size_t
parse(struct text *text, const char *bytes, size_t n, int expect)
{
	struct proto_request request;
	struct proto_reply reply;
	enum proto_status status;
	char *copy = malloc(n > 0 ? n : 1);
	size_t length;

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, n);
	if (expect == -1) {
		status = proto_request(copy, n, VALUE_MAX, &request);
		length = request.length;
		render_request(text, copy, status, &request);
	} else {
		status = proto_reply(copy, n, (enum proto_expect)expect,
		    VALUE_MAX, &reply);
		length = reply.length;
		render_reply(text, copy, status, &reply);
	}
	free(copy);
	return length;
}

static bool
is_text(const struct text *text, const char *want, size_t length)
{
	return text->length == length && memcmp(text->bytes, want, length) == 0;
}

/* Count a check of what was made of the n bytes of input, and show both if it
   has failed. */
static void
check_text(bool good, const char *what, const char *input, size_t n,
    const struct text *got)
{
	if (!unit_count(good))
		return;
	printf("%s: failed: %s\n", unit_test, what);
	unit_show("of ", input, n);
	unit_show("got", got->bytes, got->length);
}

/* Cut off after each byte: more is needed, or it is said at once. */
static bool
check_cuts(const char *bytes, size_t n, int expect, const struct text *whole,
    size_t length)
{
	static const char more[] = "MORE";
	struct text text;
	size_t i, told;
	bool is_more;

	for (i = 0; i < n; i++) {
		told = parse(&text, bytes, i, expect);
		is_more = text.length >= sizeof(more) - 1 &&
		    memcmp(text.bytes, more, sizeof(more) - 1) == 0;
		if (is_more && length != 0 && i >= length)
			return false;
		if (is_more && told != 0 && length != 0 && told != length)
			return false;
		if (!is_more && !is_text(&text, whole->bytes, whole->length))
			return false;
	}
	return true;
}

static void
check_parsing(const char *bytes, size_t n, const char *want, size_t want_length,
    int expect)
{
	static const char behind[] = "\r\nflush_all\r\nEND\r\n0\0";
	struct text whole, text;
	size_t length;
	char *more;

	length = parse(&whole, bytes, n, expect);
	check_text(is_text(&whole, want, want_length), "whole", bytes, n,
	    &whole);
	check_text(check_cuts(bytes, n, expect, &whole,
		       memcmp(whole.bytes, "BAD", 3) == 0 ? 0 : length),
	    "cut", bytes, n, &whole);
	more = malloc(n + sizeof(behind));
	if (more == NULL)
		abort();
	memcpy(more, bytes, n);
	memcpy(more + n, behind, sizeof(behind));
	parse(&text, more, n + sizeof(behind), expect);
	check_text(is_text(&text, whole.bytes, whole.length) ||
		memcmp(whole.bytes, "MORE", 4) == 0,
	    "more behind", bytes, n, &text);
	free(more);
}

static void
test_request_and_reply_of_each_table_line_parse_as_written(void)
{
	size_t i, length;

	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		check_parsing(requests[i].bytes, requests[i].n,
		    requests[i].want, strlen(requests[i].want), -1);
	for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		length = strlen(replies[i].want);
		/* The one NUL that a wanted text has. */
		if (memchr(replies[i].bytes, '\0', replies[i].n) != NULL &&
		    replies[i].want[0] == 'V')
			length += 1 + strlen(replies[i].want + length + 1);
		check_parsing(replies[i].bytes, replies[i].n, replies[i].want,
		    length, (int)replies[i].expect);
	}
}

/* A get line of n bytes before its LF, of keys of four bytes. */
static char *
make_get(size_t n)
{
	char *line = malloc(n + 1);
	size_t i;

	if (line == NULL)
		abort();
	memcpy(line, "get ", 4);
	for (i = 4; i < n; i++)
		line[i] = i % 5 == 3 ? ' ' : 'k';
	line[n] = '\n';
	return line;
}

static void
check_get(size_t n, enum proto_status want)
{
	char *line = make_get(n), *part;
	struct proto_request r;
	struct text none = { .length = 0 };
	enum proto_status status;
	bool good;
	size_t i;

	status = proto_request(line, n + 1, VALUE_MAX, &r);
	good = status == want;
	if (want == PROTO_OK)
		good = good && r.error == NULL && r.length == n + 1 &&
		    r.key_count == (n - 4 + 4) / 5;
	for (i = 1; i < n + 1; i += 99991) {
		part = malloc(i);
		if (part == NULL)
			abort();
		memcpy(part, line, i);
		status = proto_request(part, i, VALUE_MAX, &r);
		good = good && status == PROTO_MORE && r.length == 0;
		free(part);
	}
	check_text(good, "long get", line, 20, &none);
	free(line);
}

static void
test_get_line_up_to_the_limit_is_parsed_and_longer_refused(void)
{
	check_get(100, PROTO_OK);
	check_get(PROTO_LINE_MAX - 1, PROTO_OK);
	check_get(PROTO_LINE_MAX, PROTO_OK);
	check_get(PROTO_LINE_MAX + 1, PROTO_OK);
	check_get(PROTO_LINE_MAX + 2, PROTO_OK);
	check_get(1 << 20, PROTO_OK);
	check_get(PROTO_GET_LINE_MAX, PROTO_OK);
	check_get(PROTO_GET_LINE_MAX + 1, PROTO_TOO_LONG);
}

static void
check_base64(const char *input, const char *want)
{
	char out[PROTO_KEY_MAX];
	struct text text = { .length = 0 };
	char *copy = malloc(strlen(input) + 1);
	size_t length;

	if (copy == NULL)
		abort();
	memcpy(copy, input, strlen(input) + 1);
	length = proto_base64_decode(copy, strlen(input), out);
	add_bytes(&text, out, length);
	check_text(is_text(&text, want, strlen(want)), "base64", input,
	    strlen(input), &text);
	free(copy);
}

/* However much of it was tried before, the end of a long line is found. */
static void
test_long_line_tried_before_gives_the_same_result(void)
{
	static const size_t sizes[] = {
		PROTO_LINE_MAX - 1,
		PROTO_LINE_MAX + 2,
		9000,
		PROTO_GET_LINE_MAX - 1,
		PROTO_GET_LINE_MAX,
	};
	char *bytes = malloc(PROTO_GET_LINE_MAX + 2);
	struct proto_request r;
	size_t i, tried;

	unit_need(bytes != NULL, "malloc");
	for (i = 0; i < COUNT(sizes); i++) {
		memset(bytes, ' ', sizes[i]);
		memcpy(bytes, "get k", 5);
		bytes[sizes[i]] = '\n';
		for (tried = 0; tried <= sizes[i]; tried += sizes[i] / 7 + 1) {
			check(proto_request_again(bytes, sizes[i], tried, 1000,
				  &r) == PROTO_MORE);
			check(proto_request_again(bytes, sizes[i] + 1, tried,
				  1000, &r) == PROTO_OK &&
			    r.length == sizes[i] + 1 && r.key_count == 1);
		}
		check(proto_request_again(bytes, sizes[i] + 1, sizes[i], 1000,
			  &r) == PROTO_OK);
	}
	memset(bytes + 5, ' ', PROTO_GET_LINE_MAX - 4);
	check(proto_request_again(bytes, PROTO_GET_LINE_MAX + 1,
		  PROTO_GET_LINE_MAX, 1000, &r) == PROTO_TOO_LONG);
	free(bytes);
}

static void
test_base64_key_is_decoded_or_refused(void)
{
	check_base64("Zm9v", "foo");
	check_base64("Zm8=", "fo");
	check_base64("Zg==", "f");
	check_base64("Zm9vYmFy", "foobar");
	check_base64("+/+/", "\xfb\xff\xbf");
	check_base64("", "");
	check_base64("Zm9", "");
	check_base64("Zm9=", "");
	check_base64("Zh==", "");
	check_base64("====", "");
	check_base64("Z===", "");
	check_base64("Zm=v", "");
	check_base64("Zm9v=", "");
	check_base64("Zm8=Zm9v", "");
	check_base64("Zm9\xff", "");
	check_base64(LONG, "");
}

static void
test_token_ends_at_spaces_and_keeps_other_bytes(void)
{
	static const char bytes[] = "  a \0b  c\r d ";
	static const char *const want[] = { "a", "\0b", "c\r", "d" };
	static const size_t lengths[] = { 1, 2, 2, 1 };
	struct proto_span token;
	struct text text;
	size_t at = 0, i;
	bool good;

	for (i = 0; i < 4; i++) {
		text.length = 0;
		good = proto_token(bytes, sizeof(bytes) - 1, &at, &token);
		if (good)
			add_bytes(&text, bytes + token.at, token.length);
		check_text(good && is_text(&text, want[i], lengths[i]), "token",
		    bytes, sizeof(bytes) - 1, &text);
	}
	text.length = 0;
	check_text(!proto_token(bytes, sizeof(bytes) - 1, &at, &token), "token",
	    bytes, sizeof(bytes) - 1, &text);
}

int
main(void)
{
	RUN(test_request_and_reply_of_each_table_line_parse_as_written);
	RUN(test_get_line_up_to_the_limit_is_parsed_and_longer_refused);
	RUN(test_long_line_tried_before_gives_the_same_result);
	RUN(test_base64_key_is_decoded_or_refused);
	RUN(test_token_ends_at_spaces_and_keeps_other_bytes);
	return unit_end();
}
