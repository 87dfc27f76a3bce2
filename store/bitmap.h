/*
 * bitmap - bits in a tree of 64-way summaries, over memory that starts as zero.
 *
 * "any" says which words below hold a one, "full" which hold no zero.  Find
 * and change cost O(log64 n); nothing is touched until a bit is set, so a
 * bitmap over 2^32 frames costs nothing while it is empty.
 */
#ifndef KVMS_BITMAP_H
#define KVMS_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_LEVELS 7u
#define BITMAP_NONE UINT64_MAX

struct bitmap {
	uint64_t bits;
	unsigned levels;
	uint64_t words[BITMAP_LEVELS]; /* of each summary */
	uint64_t *any[BITMAP_LEVELS];  /* any[0] holds the bits themselves */
	uint64_t *full[BITMAP_LEVELS]; /* full[0] == any[0]; unused levels NULL */
};

/* Bytes of zeroed memory a bitmap over "bits" bits needs (with full summaries or without). */
size_t bitmap_bytes(uint64_t bits, bool with_full);
/* Lay a bitmap out over such memory. */
void bitmap_init(struct bitmap *b, uint64_t bits, bool with_full, void *memory);

static inline bool
bitmap_test(const struct bitmap *b, uint64_t i)
{
	return (b->any[0][i / 64] >> (i % 64) & 1) != 0;
}
void bitmap_set(struct bitmap *b, uint64_t i);
void bitmap_clear(struct bitmap *b, uint64_t i);
/* The least one-bit >= from, the least zero-bit >= from, the least and the greatest zero-bit; BITMAP_NONE if none. */
uint64_t bitmap_search(const struct bitmap *b, uint64_t from);
static inline uint64_t
bitmap_next(const struct bitmap *b, uint64_t from)
{
	return from < b->bits && bitmap_test(b, from) ? from : bitmap_search(b, from);
}
uint64_t bitmap_next_zero(const struct bitmap *b, uint64_t from);
uint64_t bitmap_first_zero(const struct bitmap *b);
uint64_t bitmap_last_zero(const struct bitmap *b);

#endif /* KVMS_BITMAP_H */
