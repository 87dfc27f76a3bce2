/*
 * Random operations, legal and not, over every row of the table: no law ever
 * breaks, what is not ok changes nothing, and the same numbers give the same
 * store, whatever the dial of checks says.
 */
#include "tests/store_kit.h"

#include <stdio.h>
#include <time.h>

/* ---- Walks ---------------------------------------------------------------------------- */

struct seen {
	uint64_t outcomes[O_COUNT];
	uint64_t ops[256];
	uint64_t oks[256];
};

static void
step(struct kit_walk *w, struct kvms_outcome *out, struct seen *seen)
{
	bool valid = kit_walk_draw(w);
	const struct kvms_row *row = kvms_op_row(w->op.code);
	uint64_t before = kvms_digest(w->s), steps = kvms_steps(w->s), number = w->number;
	uint64_t visible = number % 64 == 0 ? kit_visible(w->s) : 0;
	enum kvms_status status = kvms_apply(w->s, &w->op, out);

	if (!valid) {
		cr_assert_eq(status, KVMS_INVALID, "step %" PRIu64 ": %s", number, row->name);
		cr_assert_eq(kvms_steps(w->s), steps);
	} else {
		cr_assert_eq(status, KVMS_DONE, "step %" PRIu64 ": %s: status %d, %s", number, row->name, status,
			     status == KVMS_BROKEN ? kit_fired(kvms_broken(w->s)) : "");
		cr_assert_eq(kvms_steps(w->s), steps + 1);
		seen->outcomes[out->name]++;
		seen->ops[row->code]++;
		seen->oks[row->code] += out->name == O_ok;
	}
	if (valid && out->name == O_ok)
		return;
	cr_assert_eq(kvms_digest(w->s), before, "step %" PRIu64 ": %s -> %s changed the digest", number, row->name,
		     kit_outcome(out->name));
	if (visible != 0)
		cr_assert_eq(kit_visible(w->s), visible, "step %" PRIu64 ": %s -> %s changed something", number,
			     row->name, kit_outcome(out->name));
}

static uint64_t
walk(unsigned world, uint64_t seed, uint64_t steps, enum kvms_check check, struct seen *seen)
{
	struct kvms_outcome out = { .name = O_ok };
	struct kit_walk w;
	uint64_t digest;

	kit_walk_init(&w, NULL, world, seed);
	kvms_set_check(w.s, check, 1);
	for (uint64_t i = 0; i < steps; i++)
		step(&w, &out, seen);
	kit_sound(w.s);
	digest = kvms_digest(w.s);
	kvms_outcome_free(&out);
	kvms_free(&w.s);
	return digest;
}

/* A walk in which an op never succeeds tests little; a few tries say nothing. */
static void
all_succeed(const struct seen *seen, uint64_t tries)
{
	for (unsigned code = 1; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL && seen->ops[code] >= tries)
			cr_expect(seen->oks[code] > 0, "%s was tried %" PRIu64 " times and never was ok",
				  kvms_op_row(code)->name, seen->ops[code]);
}

static void
walk_twice(unsigned world, uint64_t seed, uint64_t steps)
{
	static struct seen seen, again;
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	uint64_t digest = walk(world, seed, steps, KVMS_CHECK_FULL, &seen);
	clock_gettime(CLOCK_MONOTONIC, &to);
	double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;

	cr_assert_eq(walk(world, seed, steps, KVMS_CHECK_TOUCHED, &again), digest, "the second walk came elsewhere");
	cr_assert_arr_eq(&seen, &again, sizeof seen);
	fprintf(stderr, "world %u seed %" PRIu64 ": %" PRIu64 " steps, %.0f a second with full checks\n", world, seed,
		steps, (double)steps / seconds);
	all_succeed(&seen, 60);
	if (getenv("KVMS_TEST_VERBOSE") != NULL)
		for (unsigned name = 0; name < O_COUNT; name++)
			fprintf(stderr, "%8" PRIu64 " %s\n", seen.outcomes[name], kit_outcome(name));
}

Test(random_steps, with_little_memory_and_few_addresses_break_no_law)
{
	walk_twice(0, 1, kit_scaled(8000));
}

Test(random_steps, with_counts_that_saturate_at_3_break_no_law)
{
	walk_twice(1, 2, kit_scaled(8000));
}

Test(random_steps, with_room_for_large_pages_break_no_law)
{
	walk_twice(2, 3, kit_scaled(8000));
}

Test(random_steps, where_tables_of_every_level_are_cut_break_no_law)
{
	walk_twice(3, 4, kit_scaled(8000));
}

Test(random_steps, with_tables_that_eat_all_memory_break_no_law)
{
	walk_twice(4, 5, kit_scaled(8000));
}

Test(random_steps, at_the_end_of_the_kernel_half_break_no_law)
{
	walk_twice(5, 6, kit_scaled(8000));
}

Test(random_steps, on_riscv64_with_three_levels_break_no_law)
{
	walk_twice(6, 7, kit_scaled(8000));
}

Test(random_steps, on_riscv64_with_four_levels_break_no_law)
{
	walk_twice(7, 8, kit_scaled(8000));
}

Test(random_steps, on_loongarch64_break_no_law)
{
	walk_twice(8, 9, kit_scaled(8000));
}

Test(random_steps, on_x86_64_with_five_levels_break_no_law)
{
	walk_twice(9, 10, kit_scaled(8000));
}

/* The same worlds again, many short lives: what only happens in a young store. */
Test(random_steps, in_many_young_stores_break_no_law)
{
	static struct seen seen;

	for (uint64_t seed = 100; seed < 100 + kit_scaled(30); seed++)
		for (unsigned world = 0; world < kit_worlds_count; world++)
			walk(world, seed, 40, KVMS_CHECK_FULL, &seen);
}

/* Long walks with the checks of a daemon; one full check at the end. */
Test(random_steps, for_long_with_touched_checks_break_no_law)
{
	static struct seen seen;

	for (unsigned world = 0; world < kit_worlds_count; world++)
		walk(world, 1000 + world, kit_scaled(20000), KVMS_CHECK_TOUCHED, &seen);
	if (kit_scaled(100) >= 100)
		all_succeed(&seen, 0);
}
