#include "proto/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define BLOCK_FIRST 16384u /* bytes of the block that is kept */

struct kvmp_arena_block {
	struct kvmp_arena_block *next;
	size_t used;
	size_t size; /* bytes in "data" */
	alignas(max_align_t) uint8_t data[];
};

void
kvmp_arena_init(struct kvmp_arena *a, size_t limit)
{
	*a = (struct kvmp_arena){ .limit = limit };
}

/* A new newest block with room for "size" bytes. */
static bool
block_add(struct kvmp_arena *a, size_t size)
{
	size_t room = a->blocks == NULL ? BLOCK_FIRST : a->blocks->size * 2;

	if (room > a->limit)
		room = a->limit;
	if (room < size)
		room = size;

	struct kvmp_arena_block *b = malloc(sizeof *b + room);

	if (b == NULL)
		return false;
	b->next = a->blocks;
	b->used = 0;
	b->size = room;
	a->blocks = b;
	return true;
}

void *
kvmp_arena_alloc(struct kvmp_arena *a, size_t size)
{
	if (size > a->limit - a->used) {
		a->refused = true;
		return NULL;
	}
	if (size == 0)
		size = 1; /* a place of its own, and never NULL */
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if ((a->blocks == NULL || size > a->blocks->size - a->blocks->used) && !block_add(a, size))
		return NULL;

	void *place = a->blocks->data + a->blocks->used;

	a->blocks->used += size;
	a->used = size < a->limit - a->used ? a->used + size : a->limit;
	return place;
}

void
kvmp_arena_reset(struct kvmp_arena *a)
{
	while (a->blocks != NULL && a->blocks->next != NULL) {
		struct kvmp_arena_block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	if (a->blocks != NULL)
		a->blocks->used = 0;
	a->used = 0;
	a->refused = false;
}

void
kvmp_arena_free(struct kvmp_arena *a)
{
	kvmp_arena_reset(a);
	free(a->blocks);
	a->blocks = NULL;
}
