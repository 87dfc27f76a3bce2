/*
 * arena - bounded memory for one message at a time.
 *
 * Allocation is a step forward in a block; nothing is freed until the whole is
 * reset for the next message.  The first block is kept, so that messages of
 * usual size never reach malloc.
 *
 * Law: used <= limit, whatever the message asks for.  A message of a few bytes
 * can ask for much: an empty sub-message is 2 bytes on the wire and over 100
 * in memory.
 */
#ifndef KVMP_ARENA_H
#define KVMP_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct kvmp_arena_block;

struct kvmp_arena {
	struct kvmp_arena_block *blocks; /* newest first; the last is the first, and kept */
	size_t used;                     /* bytes handed out since the reset */
	size_t limit;
	bool refused; /* an allocation since the reset did not fit the limit */
};

/* Start with no memory.  "limit": bytes handed out between two resets at most. */
void kvmp_arena_init(struct kvmp_arena *a, size_t limit);

/*
 * "size" bytes, aligned for any type, valid until the reset.
 * => fails with NULL: the limit (then "refused" is set) or the machine's memory
 */
void *kvmp_arena_alloc(struct kvmp_arena *a, size_t size);

/* Forget all that was handed out. */
void kvmp_arena_reset(struct kvmp_arena *a);

/* End: frees the memory. */
void kvmp_arena_free(struct kvmp_arena *a);

#endif /* KVMP_ARENA_H */
