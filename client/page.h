#ifndef PAGE_H
#define PAGE_H

/*
 * A reply to a stats command that is being written: lines of STAT, a name and a
 * value, and END.  Values are one word each, and never empty: there are
 * programs that give up a whole reply if one of its lines is not three words.
 */

#include <stddef.h>
#include <stdint.h>

struct block;

struct page {
	struct block *block; /* owned; NULL: out of memory */
	size_t length;       /* bytes that are written */
};

struct page page_new(void);

/* Add a line, whose end is added to the format.  It is cut to 509 bytes. */
void page_say(struct page *page, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* STAT, the name and a number. */
void page_number(struct page *page, const char *name, uint64_t number);

/*
 * STAT, the name and a text from outside, such as a path.  What is not a
 * printable byte of ASCII is written as % and two hexadecimal digits, and so
 * are spaces and %.  A text that is NULL or empty is NULL, as memcached writes
 * it.
 */
void page_word(struct page *page, const char *name, const char *text);

/* The whole reply, END included, of *length bytes, which is the caller's to
   release.  Returns NULL when out of memory; then *length is not valid. */
struct block *page_end(struct page *page, size_t *length);

#endif
