#ifndef FUZZ_SCRIPT_H
#define FUZZ_SCRIPT_H

/* The bytes of an input, from which all choices are drawn. */

#include <stddef.h>
#include <stdint.h>

struct script {
	const uint8_t *at;
	size_t left;
};

/* The next byte; 0 when there is none left. */
static inline unsigned int
script_take(struct script *script)
{
	if (script->left == 0)
		return 0;
	script->left--;
	return *script->at++;
}

/* 0 to n - 1. */
static inline unsigned int
script_pick(struct script *script, unsigned int n)
{
	return script_take(script) % n;
}

#endif
