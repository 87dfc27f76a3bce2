/*
 * Random operations, legal and not, over every row of the table: no law ever
 * breaks, what is not ok changes nothing, and the same numbers give the same
 * store, whatever the dial of checks says.
 */
#include "tests/store_kit.h"

#include <stdio.h>
#include <time.h>

/* What the addresses of an op are about. */
enum space { PHYSICAL, IN_AREA, IN_VMALLOC, AT_BOOT, ANYWHERE };

struct world {
	const char *config;
	uint64_t boot; /* first address outside the vmalloc ranges that boot ops use */
};

static const struct world worlds[] = {
	/* next to no memory, next to no addresses */
	{ "max_paddr=0x200000 vmalloc=0xffffc00000000000..0xffffc00000040000", UINT64_C(0xffffa00000000000) },
	/* counts saturate at once */
	{ "max_paddr=0x280000 rc_max=3 vmalloc=[0xffffc00000000000..0xffffc00000040000,0xffffc00000041000..0xffffc00000061000] "
	  "reserve=[0x4000..0x6000] mmio=[0x8000..0x9000]",
	  UINT64_C(0xffffc00000080000) },
	/* room for pages of 2 MiB */
	{ "max_paddr=0x400000 vmalloc=[0xffffc00000000000..0xffffc00000800000,0xffffe00000100000..0xffffe00000400000]",
	  UINT64_C(0xffffe00000400000) },
	/* tables are cut where nodes of every level meet */
	{ "max_paddr=0x800000 rc_max=5 vmalloc=[0xffffbfffffe00000..0xffffc00000200000,0xffffff7fffc00000..0xffffff8000100000]",
	  UINT64_C(0xfffffeffffe00000) },
	/* many addresses, so that tables eat the little memory there is */
	{ "max_paddr=0x240000 vmalloc=0xffffc00000000000..0xffffc00100000000", UINT64_C(0xffffc00100000000) },
	/* the end of the kernel's half */
	{ "max_paddr=0x200000 vmalloc=0xffffffffffc00000..0xffffffffffff0000", UINT64_C(0xffffffffffa00000) },
};

struct walk {
	struct kvms *s;
	const struct world *world;
	struct kit_random r;
	struct kvms_op op;
	uint64_t list[64];
	uint64_t words;
	uint64_t size;   /* the latest size drawn; sizes that agree are what makes large pages fit */
	uint64_t area;   /* the area argument of this op, 0 if it has none */
	uint64_t anchor; /* the first address argument of this op */
	enum space space;
};

/* ---- Arguments -------------------------------------------------------------------- */

static bool
chance(struct walk *w, unsigned percent)
{
	return kit_below(&w->r, 100) < percent;
}

/* A live id, now and then any number. */
static uint64_t
draw_id(struct walk *w, enum kvms_kind kind)
{
	uint64_t next = w->s->live.next_id[kind], id;

	if (chance(w, 3))
		return chance(w, 50) ? kit_below(&w->r, next + 3) : kit_draw(&w->r);
	id = record_next(w->s, kind, 1 + kit_below(&w->r, next));
	return id != 0 ? id : record_next(w->s, kind, 1);
}

/* Bytes of some pages: mostly few, sometimes a multiple of 2 MiB, rarely absurd. */
static uint64_t
draw_size(struct walk *w)
{
	switch (kit_below(&w->r, 20)) {
	case 0:
		return kit_draw(&w->r);
	case 1:
		return kit_draw(&w->r) & ~UINT64_C(0xfff);
	case 2:
	case 3:
	case 4:
		return w->size = kit_below(&w->r, 4) * 0x200000;
	case 5:
		return kit_below(&w->r, 0x8000);
	case 6:
	case 7:
	case 8:
	case 9:
		return w->size;
	default:
		return w->size = kit_below(&w->r, 9) * PAGE;
	}
}

static uint64_t
draw_paddr(struct walk *w)
{
	uint64_t page = kit_below(&w->r, w->s->slots_count) * PAGE;

	switch (kit_below(&w->r, 20)) {
	case 0:
		return page + kit_below(&w->r, PAGE);
	case 1:
		return w->s->max_paddr + kit_below(&w->r, 4) * PAGE;
	case 2:
		return kit_draw(&w->r);
	default:
		return chance(w, 50) ? kit_below(&w->r, 24) * PAGE : page;
	}
}

/* Physical ranges for untracked leaves: some fit pages of 2 MiB. */
static uint64_t
draw_untracked(struct walk *w)
{
	switch (kit_below(&w->r, 16)) {
	case 0:
		return kit_draw(&w->r);
	case 1:
		return UINT64_C(0xffffffffff000) - kit_below(&w->r, 3) * PAGE;
	case 2:
		return kit_below(&w->r, 0x10000);
	default:
		return UINT64_C(0x40000000) + (chance(w, 60) ? kit_below(&w->r, 8) * 0x200000 : kit_below(&w->r, 600) * PAGE);
	}
}

static uint64_t
draw_va(struct walk *w)
{
	const struct area *area = w->area != 0 ? AREA(w->s, w->area) : NULL;
	const struct kvms_range *range = &w->s->vmalloc[kit_below(&w->r, w->s->vmalloc_count)];
	uint64_t low = range->start, high = range->end;

	if (chance(w, 2))
		return kit_draw(&w->r);
	if (w->space == IN_AREA && area != NULL && !chance(w, 3)) {
		low = area->start;
		high = area->end;
	} else if (w->space == AT_BOOT && !chance(w, 3)) {
		low = w->world->boot;
		high = low + UINT64_C(0x600000);
	}
	uint64_t pages = (high - low) / PAGE + 1;
	uint64_t va = low + kit_below(&w->r, pages < 1200 ? pages : 1200) * PAGE;

	if (chance(w, 30)) /* anywhere, where large pages begin */
		va = (low + kit_below(&w->r, pages) * PAGE) & ~UINT64_C(0x1fffff);
	return chance(w, 2) ? va + kit_below(&w->r, PAGE) : va;
}

static uint64_t
draw_address(struct walk *w, bool is_end)
{
	uint64_t at;

	if (is_end && !chance(w, 5))
		return w->anchor + draw_size(w);
	at = w->space == PHYSICAL ? draw_paddr(w) : draw_va(w);
	w->anchor = at;
	return at;
}

static uint64_t
draw_prop(struct walk *w)
{
	uint64_t cache = chance(w, 4) ? 2 : chance(w, 70) ? 4 : kit_below(&w->r, 5);

	return (kit_draw(&w->r) & 0x39f) | cache << KVMS_PROP_CACHE_SHIFT;
}

static uint64_t
draw_word(struct walk *w, enum kvms_type type)
{
	uint64_t value = 0;
	unsigned count = 0;

	while (kvms_word_at(type, count, &value) != NULL)
		count++;
	(void)kvms_word_at(type, (unsigned)kit_below(&w->r, count), &value);
	return value;
}

/* A value for one argument, by its name where a name has a meaning of its own, else by its type. */
static uint64_t
draw_argument(struct walk *w, const struct kvms_field *arg)
{
	uint64_t ignored;

	if (arg->type == KVMS_ID) {
		uint64_t id = draw_id(w, arg->kind);

		if (arg->kind == KVMS_ID_AREA && AREA(w->s, id) != NULL)
			w->area = id;
		return id;
	}
	if (arg->type == KVMS_IDS) {
		uint64_t count = kit_below(&w->r, 6);

		for (uint64_t i = 0; i < count; i++, w->words++)
			w->list[w->words] = i > 0 && chance(w, 3) ? w->list[w->words - 1] : draw_id(w, arg->kind);
		return count;
	}
	if (strcmp(arg->name, "paddr") == 0)
		return draw_paddr(w);
	if (strcmp(arg->name, "paddr_start") == 0)
		return w->anchor = draw_untracked(w);
	if (strcmp(arg->name, "paddr_end") == 0)
		return chance(w, 95) ? w->anchor + draw_size(w) : draw_untracked(w);
	if (strcmp(arg->name, "start") == 0 || strcmp(arg->name, "va") == 0)
		return draw_address(w, false);
	if (strcmp(arg->name, "end") == 0)
		return draw_address(w, true);
	if (strcmp(arg->name, "map_offset") == 0)
		return chance(w, 60) ? 0 : draw_size(w);
	if (strcmp(arg->name, "max_level") == 0)
		return kit_below(&w->r, 4);
	if (strcmp(arg->name, "area_size") == 0 || strcmp(arg->name, "offset") == 0)
		return draw_size(w);
	if (arg->type == KVMS_PROP)
		return draw_prop(w);
	if (arg->type == KVMS_FLAGS)
		return kit_below(&w->r, 32);
	if (kvms_word_at(arg->type, 0, &ignored) != NULL)
		return draw_word(w, arg->type);
	cr_assert(arg->type == KVMS_DEC || arg->type == KVMS_HEX || arg->type == KVMS_CPU, "argument %s: no values known",
		  arg->name);
	return kit_below(&w->r, 10);
}

/* Addresses of an op, from its name. */
static enum space
space_of(const char *name)
{
	if (strncmp(name, "frame_", 6) == 0 || strncmp(name, "segment_", 8) == 0 || strncmp(name, "unique_", 7) == 0)
		return PHYSICAL;
	if (strncmp(name, "boot_", 5) == 0)
		return AT_BOOT;
	return strstr(name, "_at") != NULL ? IN_VMALLOC : IN_AREA;
}

/* Fill in the arguments of an op; now and then one that is outside its type, which gives false. */
static bool
draw_op(struct walk *w, const struct kvms_row *row)
{
	bool valid = true;

	kvms_op_init(&w->op, row);
	w->op.list = w->list;
	w->words = 0;
	w->area = 0;
	w->anchor = 0;
	w->space = space_of(row->name);
	for (unsigned i = 0; i < row->args_count; i++)
		w->op.arg[i] = draw_argument(w, &row->args[i]);
	if (!chance(w, 1) || row->args_count == 0)
		return valid;
	unsigned i = (unsigned)kit_below(&w->r, row->args_count);
	uint64_t ignored;

	if (row->args[i].type == KVMS_PROP || row->args[i].type == KVMS_FLAGS ||
	    kvms_word_at(row->args[i].type, 0, &ignored) != NULL) {
		w->op.arg[i] = UINT64_C(1) << (20 + kit_below(&w->r, 44));
		valid = false;
	}
	return valid;
}

/* ---- Walks ---------------------------------------------------------------------------- */

struct seen {
	uint64_t outcomes[O_COUNT];
	uint64_t ops[128];
	uint64_t oks[128];
};

/* True for the ops that mostly give back. */
static bool
gives_back(unsigned code)
{
	return code == OP_frame_drop || code == OP_segment_drop || code == OP_kvirt_drop || code == OP_kvirt_unmap_range ||
	       code == OP_kvirt_unreserve;
}

/* The row to try next.  Tides: for 512 steps memory and addresses fill, for 512 they empty. */
static const struct kvms_row *
draw_row(struct walk *w, uint64_t number)
{
	bool flood = number / 512 % 2 == 0;
	const struct kvms_row *row;

	do {
		row = kvms_op_row((unsigned)(1 + kit_below(&w->r, kvms_op_max())));
	} while (row == NULL || (flood && gives_back(row->code) && chance(w, 80)));
	if (chance(w, 25))
		return row;
	if (flood && chance(w, 30))
		return kvms_op_row(chance(w, 50) ? OP_segment_from_unused : OP_frame_alloc);
	if (!flood && w->s->live.totals.areas > 4 && chance(w, 40))
		return kvms_op_row(OP_kvirt_drop);
	if (!flood && w->s->live.totals.unused < 64 && chance(w, 50))
		return kvms_op_row(chance(w, 50) ? OP_segment_drop : OP_frame_drop);
	return row;
}

static void
step(struct walk *w, struct kvms_outcome *out, uint64_t number, struct seen *seen)
{
	const struct kvms_row *row = draw_row(w, number);
	bool valid = draw_op(w, row);
	uint64_t before = kvms_digest(w->s), steps = kvms_steps(w->s);
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
		cr_assert_eq(kit_visible(w->s), visible, "step %" PRIu64 ": %s -> %s changed something", number, row->name,
			     kit_outcome(out->name));
}

static uint64_t
walk(const struct world *world, uint64_t seed, uint64_t steps, enum kvms_check check, struct seen *seen)
{
	struct walk w = { .s = kit_new("%s", world->config), .world = world, .r = { seed } };
	struct kvms_outcome out = { .name = O_ok };
	uint64_t digest;

	kvms_set_check(w.s, check, 1);
	for (uint64_t i = 0; i < steps; i++)
		step(&w, &out, i, seen);
	kit_sound(w.s);
	digest = kvms_digest(w.s);
	kvms_outcome_free(&out);
	kvms_free(&w.s);
	return digest;
}

static void
walk_twice(unsigned world, uint64_t seed, uint64_t steps)
{
	static struct seen seen, again;
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	uint64_t digest = walk(&worlds[world], seed, steps, KVMS_CHECK_FULL, &seen);
	clock_gettime(CLOCK_MONOTONIC, &to);
	double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;

	cr_assert_eq(walk(&worlds[world], seed, steps, KVMS_CHECK_TOUCHED, &again), digest, "the second walk came elsewhere");
	cr_assert_arr_eq(&seen, &again, sizeof seen);
	fprintf(stderr, "world %u seed %" PRIu64 ": %" PRIu64 " steps, %.0f a second with full checks\n", world, seed, steps,
		(double)steps / seconds);
	/* a walk in which an op never succeeds tests little */
	for (unsigned code = 1; code <= kvms_op_max() && steps >= 2000; code++)
		if (kvms_op_row(code) != NULL)
			cr_assert(seen.oks[code] > 0, "%s was tried %" PRIu64 " times and never was ok",
				  kvms_op_row(code)->name, seen.ops[code]);
	if (getenv("KVMS_TEST_VERBOSE") != NULL)
		for (unsigned name = 0; name < O_COUNT; name++)
			fprintf(stderr, "%8" PRIu64 " %s\n", seen.outcomes[name], kit_outcome(name));
}

Test(random_steps, with_little_memory_and_few_addresses_break_no_law)
{
	walk_twice(0, 1, kit_scaled(20000));
}

Test(random_steps, with_counts_that_saturate_at_3_break_no_law)
{
	walk_twice(1, 2, kit_scaled(20000));
}

Test(random_steps, with_room_for_large_pages_break_no_law)
{
	walk_twice(2, 3, kit_scaled(20000));
}

Test(random_steps, where_tables_of_every_level_are_cut_break_no_law)
{
	walk_twice(3, 4, kit_scaled(18000));
}

Test(random_steps, with_tables_that_eat_all_memory_break_no_law)
{
	walk_twice(4, 5, kit_scaled(12000));
}

Test(random_steps, at_the_end_of_the_kernel_half_break_no_law)
{
	walk_twice(5, 6, kit_scaled(10000));
}

/* The same worlds again, many short lives: what only happens in a young store. */
Test(random_steps, in_many_young_stores_break_no_law)
{
	static struct seen seen;

	for (uint64_t seed = 100; seed < 100 + kit_scaled(60); seed++)
		for (unsigned world = 0; world < KIT_COUNT(worlds); world++)
			walk(&worlds[world], seed, 40, KVMS_CHECK_FULL, &seen);
}

/* Long walks with the checks of a daemon; one full check at the end. */
Test(random_steps, for_long_with_touched_checks_break_no_law)
{
	static struct seen seen;

	for (unsigned world = 0; world < KIT_COUNT(worlds); world++)
		walk(&worlds[world], 1000 + world, kit_scaled(100000), KVMS_CHECK_TOUCHED, &seen);
}
