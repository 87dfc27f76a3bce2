#include "store/bitmap.h"

/* Words of summary level "level" over so many bits. */
static uint64_t
words_for(uint64_t bits, unsigned level)
{
	uint64_t words = bits;

	for (unsigned l = 0; l <= level; l++)
		words = (words + 63) / 64;
	return words;
}

static unsigned
levels_for(uint64_t bits)
{
	unsigned levels = 1;

	while (words_for(bits, levels - 1) > 1)
		levels++;
	return levels;
}

size_t
bitmap_bytes(uint64_t bits, bool with_full)
{
	uint64_t words = words_for(bits, 0);

	for (unsigned l = 1; l < levels_for(bits); l++)
		words += words_for(bits, l) * (with_full ? 2 : 1);
	return (size_t)words * sizeof(uint64_t);
}

void
bitmap_init(struct bitmap *b, uint64_t bits, bool with_full, void *memory)
{
	uint64_t *at = memory;

	*b = (struct bitmap){ .bits = bits, .levels = levels_for(bits) };
	for (unsigned l = 0; l < b->levels; l++) {
		b->words[l] = words_for(bits, l);
		b->any[l] = at;
		at += b->words[l];
	}
	if (!with_full)
		return;
	b->full[0] = b->any[0];
	for (unsigned l = 1; l < b->levels; l++) {
		b->full[l] = at;
		at += b->words[l];
	}
}

void
bitmap_set(struct bitmap *b, uint64_t i)
{
	uint64_t at = i;

	for (unsigned l = 0; l < b->levels; l++, at /= 64) {
		uint64_t old = b->any[l][at / 64];

		b->any[l][at / 64] = old | UINT64_C(1) << at % 64;
		if (old != 0)
			break;
	}
	if (b->full[0] == NULL)
		return;
	at = i;
	for (unsigned l = 0; l < b->levels; l++, at /= 64) {
		b->full[l][at / 64] |= UINT64_C(1) << at % 64;
		if (b->full[l][at / 64] != UINT64_MAX)
			break;
	}
}

void
bitmap_clear(struct bitmap *b, uint64_t i)
{
	uint64_t at = i;
	bool was_full = b->any[0][i / 64] == UINT64_MAX;

	for (unsigned l = 0; l < b->levels; l++, at /= 64) {
		b->any[l][at / 64] &= ~(UINT64_C(1) << at % 64);
		if (b->any[l][at / 64] != 0)
			break;
	}
	at = i / 64;
	for (unsigned l = 1; l < b->levels && was_full && b->full[l] != NULL; l++, at /= 64) {
		was_full = b->full[l][at / 64] == UINT64_MAX;
		b->full[l][at / 64] &= ~(UINT64_C(1) << at % 64);
	}
}

static unsigned
low_bit(uint64_t word)
{
	return (unsigned)__builtin_ctzll(word);
}

static unsigned
high_bit(uint64_t word)
{
	return 63 - (unsigned)__builtin_clzll(word);
}

/*
 * The least index >= from whose bit, xor "flip", is one.  Going up, "at" is
 * the first index of its level not yet ruled out; going down, the answer is
 * known to lie below it.
 */
static uint64_t
search_up(const struct bitmap *b, uint64_t *const *summary, uint64_t flip, uint64_t from)
{
	uint64_t at = from;
	unsigned l = 0;

	if (from >= b->bits)
		return BITMAP_NONE;
	for (;;) {
		uint64_t word = (summary[l][at / 64] ^ flip) & UINT64_MAX << at % 64;

		if (word != 0) {
			at = at / 64 * 64 + low_bit(word);
			break;
		}
		at = at / 64 + 1;
		if (++l == b->levels || at >= b->words[l - 1])
			return BITMAP_NONE;
	}
	while (l-- > 0) {
		if (at >= b->words[l])
			return BITMAP_NONE; /* a summary's unused tail reads as zeros */
		at = at * 64 + low_bit(summary[l][at] ^ flip);
	}
	return at < b->bits ? at : BITMAP_NONE;
}

uint64_t
bitmap_search(const struct bitmap *b, uint64_t from)
{
	return search_up(b, b->any, 0, from);
}

uint64_t
bitmap_next_zero(const struct bitmap *b, uint64_t from)
{
	return search_up(b, b->full, UINT64_MAX, from);
}

uint64_t
bitmap_first_zero(const struct bitmap *b)
{
	uint64_t at = 0;

	for (unsigned l = b->levels; l-- > 0;) {
		uint64_t word = ~b->full[l][at];

		if (word == 0)
			return BITMAP_NONE; /* of the top: all is set; below, a summary would not have led here */
		at = at * 64 + low_bit(word);
		if (l > 0 && at >= b->words[l - 1])
			return BITMAP_NONE; /* a summary's unused tail reads as zeros */
	}
	return at < b->bits ? at : BITMAP_NONE;
}

uint64_t
bitmap_last_zero(const struct bitmap *b)
{
	uint64_t at = b->bits - 1;
	unsigned l = 0;

	for (;;) {
		uint64_t word = ~b->full[l][at / 64] & UINT64_MAX >> (63 - at % 64);

		if (word != 0) {
			at = at / 64 * 64 + high_bit(word);
			break;
		}
		if (at / 64 == 0 || ++l == b->levels)
			return BITMAP_NONE;
		at = at / 64 - 1;
	}
	while (l-- > 0)
		at = at * 64 + high_bit(~b->full[l][at]);
	return at;
}
