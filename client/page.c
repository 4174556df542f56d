/*
 * Write the lines of a reply to a stats command.
 *
 * Invariant: the block holds whole lines, or there is none.
 */

#include "client/page.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block.h"

enum {
	LINE_MAX_BYTES = 512, /* with its end */
	WORD_MAX_BYTES = 400, /* of a text from outside, as it is written */
};

struct page
page_new(void)
{
	return (struct page){ .block = block_new(BLOCK_SMALL) };
}

/* Add n bytes, which are at most one line. */
static void
add_bytes(struct page *page, const char *bytes, size_t n)
{
	struct block *grown;

	static_assert((int)LINE_MAX_BYTES < (int)BLOCK_SMALL,
	    "twice a block has room");
	assert(n <= LINE_MAX_BYTES && page->length <= page->block->size);
	if (page->length + n > page->block->size) {
		grown = block_grow(page->block, 2 * page->block->size);
		if (grown == NULL) {
			block_release(page->block);
			page->block = NULL;
			return;
		}
		page->block = grown;
	}
	memcpy(page->block->bytes + page->length, bytes, n);
	page->length += n;
}

void
page_say(struct page *page, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof(line) - 2, format, arguments);
	va_end(arguments);
	if (n < 0 || page->block == NULL)
		return;
	if ((size_t)n > sizeof(line) - 3)
		n = (int)sizeof(line) - 3;
	memcpy(line + n, "\r\n", 2);
	add_bytes(page, line, (size_t)n + 2);
}

void
page_number(struct page *page, const char *name, uint64_t number)
{
	page_say(page, "STAT %s %llu", name, (unsigned long long)number);
}

/* Write the text as one word, cut to its room. */
static void
write_word(const char *text, char word[WORD_MAX_BYTES])
{
	static const char digits[] = "0123456789ABCDEF";
	char *out = word, *end = word + WORD_MAX_BYTES - sizeof("%00");
	unsigned char c;

	if (text == NULL || *text == '\0')
		text = "NULL";
	for (; *text != '\0' && out <= end; text++) {
		c = (unsigned char)*text;
		if (c > ' ' && c < 0x7f && c != '%') {
			*out++ = *text;
			continue;
		}
		*out++ = '%';
		*out++ = digits[c >> 4];
		*out++ = digits[c & 15];
	}
	*out = '\0';
}

void
page_word(struct page *page, const char *name, const char *text)
{
	char word[WORD_MAX_BYTES];

	write_word(text, word);
	page_say(page, "STAT %s %s", name, word);
}

struct block *
page_end(struct page *page, size_t *length)
{
	page_say(page, "END");
	*length = page->length;
	return page->block;
}
