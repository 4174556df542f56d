#ifndef CONTAINER_OF_H
#define CONTAINER_OF_H

/*
 * The address of the struct of this type whose member is at pointer.  With it a
 * callback finds the object that its argument is a part of.  A const pointer
 * loses its const.
 */

#include <stddef.h>
#include <stdint.h>

#define CONTAINER_OF(pointer, type, member) \
	((type *)((uintptr_t)(pointer)-offsetof(type, member)))

#endif
