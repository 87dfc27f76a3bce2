/*
 * Random operations, legal and not, over every row of the table: no law ever
 * breaks, what is not ok changes nothing, and the same numbers give the same
 * store, whatever the dial of checks says.
 *
 * Two generators take turns: the kit's, which looks into the store and fits
 * its operations to small worlds, and the one of "kvmctl trace gen", which
 * sees what a caller sees, with each of its profiles on each architecture.
 *
 *   KVMS_TEST_SCALE   percentage of all lengths
 *   KVMS_TEST_STEPS   length of the long walk alone (make check-long: 2000000)
 *   KVMS_TEST_LIFE    steps of one store on it (20000)
 *   KVMS_TEST_PART    I/N: of the long walk, the I-th of N parts, from 1 on
 *   KVMS_TEST_SEED    another long walk
 */
#include "tests/store_kit.h"

#include <stdio.h>
#include <time.h>

#include "trace/gen.h"

/* ---- Walks ---------------------------------------------------------------------------- */

/* What is not ok leaves no trace; of the parts that no digest shows, every so often. */
#define VISIBLE_EVERY 256u

static void
step(struct kvms *s, const struct kvms_op *op, bool valid, struct kvms_outcome *out, struct kit_table *table)
{
	const struct kvms_row *row = kvms_op_row(op->code);
	uint64_t before = kvms_digest(s), steps = kvms_steps(s);
	uint64_t visible = steps % VISIBLE_EVERY == 0 ? kit_visible(s) : 0;
	enum kvms_status status = kvms_apply(s, op, out);

	if (!valid) {
		cr_assert_eq(status, KVMS_INVALID, "step %" PRIu64 ": %s", steps, row->name);
		cr_assert_eq(kvms_steps(s), steps);
	} else {
		cr_assert_eq(status, KVMS_DONE, "step %" PRIu64 ": %s: status %d, %s", steps, row->name, status,
			     status == KVMS_BROKEN ? kit_fired(kvms_broken(s)) : "");
		cr_assert_eq(kvms_steps(s), steps + 1);
		table->count[row->code][out->name]++;
	}
	if (valid && out->name == O_ok)
		return;
	cr_assert_eq(kvms_digest(s), before, "step %" PRIu64 ": %s -> %s changed the digest", steps, row->name,
		     kit_outcome(out->name));
	if (visible != 0)
		cr_assert_eq(kit_visible(s), visible, "step %" PRIu64 ": %s -> %s changed something", steps, row->name,
			     kit_outcome(out->name));
}

static uint64_t
walk(unsigned world, uint64_t seed, uint64_t steps, enum kvms_check check, uint64_t every, struct kit_table *table)
{
	struct kvms_outcome out = { .name = O_ok };
	struct kit_walk w;
	uint64_t digest;

	kit_walk_init(&w, NULL, world, seed);
	kvms_set_check(w.s, check, every);
	for (uint64_t i = 0; i < steps; i++) {
		bool valid = kit_walk_draw(&w);

		step(w.s, &w.op, valid, &out, table);
	}
	kit_sound(w.s);
	digest = kvms_digest(w.s);
	kvms_outcome_free(&out);
	kvms_free(&w.s);
	return digest;
}

static uint64_t
tries_of(const struct kit_table *table, unsigned code)
{
	uint64_t sum = 0;

	for (unsigned name = 0; name < O_COUNT; name++)
		sum += table->count[code][name];
	return sum;
}

/* A walk in which an op never succeeds tests little; a few tries say nothing. */
static void
all_succeed(const struct kit_table *table, uint64_t tries)
{
	for (unsigned code = 1; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL && tries_of(table, code) >= tries)
			cr_expect(table->count[code][O_ok] > 0, "%s was tried %" PRIu64 " times and never was ok",
				  kvms_op_row(code)->name, tries_of(table, code));
}

static double
seconds_since(const struct timespec *from)
{
	struct timespec to;

	clock_gettime(CLOCK_MONOTONIC, &to);
	return (double)(to.tv_sec - from->tv_sec) + (double)(to.tv_nsec - from->tv_nsec) / 1e9;
}

static void
walk_twice(unsigned world, uint64_t seed, uint64_t steps)
{
	static struct kit_table table, again;
	struct timespec from;

	clock_gettime(CLOCK_MONOTONIC, &from);
	uint64_t digest = walk(world, seed, steps, KVMS_CHECK_FULL, 1, &table);
	double seconds = seconds_since(&from);

	cr_assert_eq(walk(world, seed, steps, KVMS_CHECK_TOUCHED, 1, &again), digest,
		     "the second walk came elsewhere");
	cr_assert_arr_eq(&table, &again, sizeof table);
	fprintf(stderr, "world %u seed %" PRIu64 ": %" PRIu64 " steps, %.0f a second with full checks\n", world, seed,
		steps, (double)steps / seconds);
	all_succeed(&table, 60);
	if (getenv("KVMS_TEST_VERBOSE") != NULL)
		kit_table_print(&table);
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
	static struct kit_table table;

	for (uint64_t seed = 100; seed < 100 + kit_scaled(30); seed++)
		for (unsigned world = 0; world < kit_worlds_count; world++)
			walk(world, seed, 40, KVMS_CHECK_FULL, 1, &table);
}

/* ---- The long walk -------------------------------------------------------------------------- */

#define FULL_EVERY 100u
#define ARCHS 5u
#define LINES 128u

/* One line of the report: a world of the kit, or a profile of the other generator on an architecture. */
struct line {
	char config[256];
	unsigned world;
	const struct kvt_profile *profile; /* NULL: of the kit */
	uint64_t arch;
};

struct report {
	struct kit_table table;
	uint64_t by_arch[ARCHS];
	uint64_t steps, stores, full_checks, digests;
};

static uint64_t
environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t
arch_of(const struct kvms *s)
{
	return kvms_config(s)->arg[kvms_arg_index(kvms_store_row(), "arch")];
}

static void
generated(struct kvms *s, const struct kvt_profile *profile, uint64_t seed, uint64_t steps, struct kit_table *table)
{
	struct kvt_generator *g = kvt_generator_new(seed, profile, s);
	struct kvms_outcome out = { .name = O_ok };

	cr_assert_not_null(g);
	for (uint64_t i = 0; i < steps; i++) {
		step(s, kvt_generator_next(g), true, &out, table);
		kvt_generator_answer(g, &out);
	}
	kvt_generator_free(&g);
	kvms_outcome_free(&out);
}

/* The steps of one store, and all laws at its end. */
static void
live(const struct line *l, uint64_t seed, uint64_t steps, struct report *r)
{
	struct kit_walk w;
	struct kvms_outcome out = { .name = O_ok };
	struct kvms *s = kit_new("%s", l->config);

	kvms_set_check(s, KVMS_CHECK_FULL, FULL_EVERY);
	if (l->profile != NULL)
		generated(s, l->profile, seed, steps, &r->table);
	else
		for (kit_walk_init(&w, s, l->world, seed); kvms_steps(s) < steps;) {
			bool valid = kit_walk_draw(&w);

			step(s, &w.op, valid, &out, &r->table);
		}
	kit_sound(s);
	r->steps += steps;
	r->by_arch[arch_of(s)] += steps;
	r->full_checks += steps / FULL_EVERY + 1;
	r->stores++;
	r->digests += kvms_digest(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

static void
walk_line(const struct line *l, uint64_t seed, uint64_t steps, struct report *r)
{
	uint64_t life = environment("KVMS_TEST_LIFE", 20000);
	struct timespec from;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint64_t done = 0; done < steps; done += life)
		live(l, ++seed * UINT64_C(0x9E3779B97F4A7C15), steps - done < life ? steps - done : life, r);
	fprintf(stderr, "%8" PRIu64 " steps, %6.0f a second: %s%s%s\n", steps, (double)steps / seconds_since(&from),
		l->profile != NULL ? l->profile->name : "kit", ": ", l->config);
}

static unsigned
lines_make(struct line *lines)
{
	unsigned count = 0;

	for (unsigned world = 0; world < kit_worlds_count; world++, count++) {
		lines[count] = (struct line){ .world = world };
		snprintf(lines[count].config, sizeof lines->config, "%s", kit_worlds[world].config);
	}
	for (unsigned i = 0; kvt_profile_at(i) != NULL; i++)
		for (uint64_t arch = 0; arch < ARCHS; arch++, count++) {
			cr_assert_lt(count, LINES);
			lines[count] = (struct line){ .profile = kvt_profile_at(i), .arch = arch };
			snprintf(lines[count].config, sizeof lines->config, "arch=%s max_paddr=0x1000000 rc_max=6 ncpu=3",
				 kvms_word(KVMS_ARCH, arch));
		}
	return count;
}

static void
report_print(const struct report *r)
{
	uint64_t by_class[KVMS_CLASSES] = { 0 };
	unsigned never;

	for (unsigned code = 1; code <= kvms_op_max(); code++)
		for (unsigned name = 0; name < O_COUNT; name++)
			by_class[kvms_outcome_class(name)] += r->table.count[code][name];
	never = kit_table_print(&r->table);
	fprintf(stderr, "%" PRIu64 " steps in %" PRIu64 " stores, %" PRIu64 " full checks\n", r->steps, r->stores,
		r->full_checks);
	for (uint64_t arch = 0; arch < ARCHS; arch++)
		fprintf(stderr, "%8" PRIu64 " %s\n", r->by_arch[arch], kvms_word(KVMS_ARCH, arch));
	for (unsigned class = 0; class < KVMS_CLASSES; class++)
		fprintf(stderr, "%8" PRIu64 " %s\n", by_class[class], kvms_class_word((enum kvms_class)class));
	fprintf(stderr, "%8u cells never reached\nsum of the stores' digests 0x%016" PRIx64 "\n", never, r->digests);
}

/*
 * Half of the steps in the kit's worlds, half drawn by the profiles; touched
 * laws after each, all laws, digest and counters recomputed after every
 * hundredth and at the end of each store.
 */
Test(random_steps, on_a_long_walk_break_no_law)
{
	static struct report report;
	static struct line lines[LINES];
	uint64_t all = environment("KVMS_TEST_STEPS", kit_scaled(60000)), seed = environment("KVMS_TEST_SEED", 1);
	unsigned count = lines_make(lines), part = 1, parts = 1;
	const char *text = getenv("KVMS_TEST_PART");

	if (text != NULL && *text != '\0')
		cr_assert(sscanf(text, "%u/%u", &part, &parts) == 2 && part >= 1 && part <= parts,
			  "KVMS_TEST_PART=%s is not I/N", text);
	for (unsigned i = part - 1; i < count; i += parts) {
		unsigned sharers = lines[i].profile == NULL ? kit_worlds_count : count - kit_worlds_count;

		walk_line(&lines[i], seed << 32 | (uint64_t)i << 16, (all / 2 + sharers - 1) / sharers, &report);
	}
	report_print(&report);
	if (parts == 1 && report.steps >= 50000)
		all_succeed(&report.table, 0);
}
