/*
 * Bitmaps with summaries against arrays of bytes, at sizes around the 64 bits
 * of a word, the 64 words of a summary, and the size of a real machine.
 */
#include "tests/store_kit.h"

static const uint64_t sizes[] = { 1, 2, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 262143, 262144, 262145 };

struct pair {
	struct bitmap b;
	uint64_t *words;
	unsigned char *plain;
	uint64_t bits;
	bool with_full;
};

static struct pair
pair_new(uint64_t bits, bool with_full)
{
	struct pair p = { .bits = bits, .with_full = with_full };

	/* exactly as many bytes as asked for, so that the address sanitizer sees one too many */
	p.words = calloc(bitmap_bytes(bits, with_full), 1);
	p.plain = calloc((size_t)bits, 1);
	cr_assert(p.words != NULL && p.plain != NULL);
	bitmap_init(&p.b, bits, with_full, p.words);
	return p;
}

static void
pair_free(struct pair *p)
{
	free(p->words);
	free(p->plain);
}

static void
pair_put(struct pair *p, uint64_t i, bool one)
{
	if (one)
		bitmap_set(&p->b, i);
	else
		bitmap_clear(&p->b, i);
	p->plain[i] = one;
}

static uint64_t
plain_next(const struct pair *p, uint64_t from, unsigned char value)
{
	const void *at = from < p->bits ? memchr(p->plain + from, value, (size_t)(p->bits - from)) : NULL;

	return at != NULL ? (uint64_t)((const unsigned char *)at - p->plain) : BITMAP_NONE;
}

static uint64_t
plain_last_zero(const struct pair *p)
{
	const void *at = memrchr(p->plain, 0, (size_t)p->bits);

	return at != NULL ? (uint64_t)((const unsigned char *)at - p->plain) : BITMAP_NONE;
}

static void
same_from(const struct pair *p, uint64_t from)
{
	cr_assert_eq(bitmap_next(&p->b, from), plain_next(p, from, 1), "%" PRIu64 " bits, next from %" PRIu64, p->bits,
		     from);
	if (p->with_full)
		cr_assert_eq(bitmap_next_zero(&p->b, from), plain_next(p, from, 0),
			     "%" PRIu64 " bits, next zero from %" PRIu64, p->bits, from);
	if (p->with_full && from == 0)
		cr_assert_eq(bitmap_first_zero(&p->b), plain_next(p, 0, 0), "%" PRIu64 " bits, first zero", p->bits);
}

static void
same(const struct pair *p, struct kit_random *r)
{
	same_from(p, 0);
	same_from(p, p->bits - 1);
	same_from(p, p->bits);
	same_from(p, p->bits + 1);
	for (unsigned i = 0; i < 4; i++)
		same_from(p, kit_below(r, p->bits));
	if (p->with_full)
		cr_assert_eq(bitmap_last_zero(&p->b), plain_last_zero(p), "%" PRIu64 " bits, last zero", p->bits);
}

Test(bitmap, is_empty_at_first)
{
	for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
		struct pair p = pair_new(sizes[i], true);
		struct kit_random r = { i };

		same(&p, &r);
		cr_assert_eq(bitmap_next(&p.b, 0), BITMAP_NONE);
		cr_assert_eq(bitmap_next_zero(&p.b, 0), 0);
		cr_assert_eq(bitmap_last_zero(&p.b), sizes[i] - 1);
		pair_free(&p);
	}
}

Test(bitmap, finds_each_single_bit)
{
	for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
		struct pair p = pair_new(sizes[i], true);
		uint64_t step = sizes[i] > 5000 ? 61 : 1;
		struct kit_random r = { i };

		for (uint64_t at = 0; at < sizes[i]; at += step) {
			pair_put(&p, at, true);
			cr_assert(bitmap_test(&p.b, at));
			cr_assert_eq(bitmap_next(&p.b, 0), at);
			cr_assert_eq(bitmap_next(&p.b, at), at);
			cr_assert_eq(bitmap_next(&p.b, at + 1), BITMAP_NONE);
			cr_assert_eq(bitmap_next_zero(&p.b, at), at + 1 < sizes[i] ? at + 1 : BITMAP_NONE);
			pair_put(&p, at, false);
			cr_assert(!bitmap_test(&p.b, at));
		}
		same(&p, &r);
		pair_free(&p);
	}
}

/* From empty to full and back, upwards and downwards: all summaries change at every border. */
Test(bitmap, fills_and_empties)
{
	for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
		struct pair p = pair_new(sizes[i], true);
		struct kit_random r = { i };
		uint64_t n = sizes[i], look = n > 5000 ? 997 : 1;

		for (uint64_t k = 0; k < n; k++) {
			pair_put(&p, k, true);
			if (k % look == 0)
				same(&p, &r);
		}
		cr_assert_eq(bitmap_next_zero(&p.b, 0), BITMAP_NONE);
		cr_assert_eq(bitmap_last_zero(&p.b), BITMAP_NONE);
		cr_assert_eq(bitmap_next(&p.b, n - 1), n - 1);
		for (uint64_t k = n; k-- > 0;) {
			pair_put(&p, k, false);
			if (k % look == 0)
				same(&p, &r);
		}
		cr_assert_eq(bitmap_next(&p.b, 0), BITMAP_NONE);
		for (uint64_t k = n; k-- > 0;)
			pair_put(&p, k, true);
		for (uint64_t k = 0; k < n; k++) {
			pair_put(&p, k, false);
			if (k % look == 0)
				same(&p, &r);
		}
		pair_free(&p);
	}
}

Test(bitmap, does_what_an_array_does)
{
	for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
		struct pair p = pair_new(sizes[i], true);
		struct kit_random r = { 100 + i };
		uint64_t steps = kit_scaled(sizes[i] > 5000 ? 3000 : 20000);

		for (uint64_t k = 0; k < steps; k++) {
			uint64_t at = kit_below(&r, sizes[i]), run = kit_below(&r, 8) == 0 ? 1 + kit_below(&r, 200) : 1;
			bool one = kit_below(&r, 100) < (k / 1000 % 2 ? 80u : 20u);

			for (uint64_t m = at; m < at + run && m < sizes[i]; m++)
				pair_put(&p, m, one); /* what is so already is set or cleared again */
			same(&p, &r);
		}
		pair_free(&p);
	}
}

Test(bitmap, without_full_summaries_does_the_same)
{
	for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
		struct pair p = pair_new(sizes[i], false);
		struct kit_random r = { 200 + i };
		uint64_t steps = kit_scaled(2000);

		cr_assert_leq(bitmap_bytes(sizes[i], false), bitmap_bytes(sizes[i], true));
		for (uint64_t k = 0; k < steps; k++) {
			pair_put(&p, kit_below(&r, sizes[i]), kit_below(&r, 2));
			same(&p, &r);
		}
		pair_free(&p);
	}
}

Test(bitmap, has_levels_enough_for_all_frames_there_can_be)
{
	/* 2^46 bytes are 2^34 frames */
	cr_assert_geq(BITMAP_LEVELS * 6, 34);
	cr_assert_lt(bitmap_bytes(UINT64_C(1) << 34, true), (UINT64_C(1) << 34) / 7);
}
