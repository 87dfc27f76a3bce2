/*
 * What commands on the past rest on: watches and differences, beside plain
 * comparisons of everything.
 */
#include "tests/store_kit.h"

#include <stdio.h>

#include "client/elements.h"
#include "client/leaves.h"
#include "client/watch.h"

TestSuite(client_travel, .timeout = 120);

/* ---- Watches ------------------------------------------------------------------------- */

/* All that can be seen of a frame: its slot, its holders, where it is mapped and how. */
static uint64_t
frame_seen(struct kvms *s, uint64_t paddr)
{
	struct kvms_outcome out = { .name = 0 }, at = { .name = 0 };
	struct kvms_op op;
	uint64_t h = 1;
	static const char *const requests[] = { "frame", "who_holds", "reverse_map" };

	for (size_t i = 0; i < KIT_COUNT(requests); i++) {
		kvms_op_init(&op, kvms_request_find(requests[i]));
		op.arg[0] = paddr;
		cr_assert_eq(kvms_inspect(s, &op, &out), KVMS_DONE);
		for (unsigned k = 0; k < KVMS_FIELDS_MAX; k++)
			h = (h ^ out.field[k]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
		for (size_t k = 0; k < out.list_count; k++)
			h = (h ^ out.list[k]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
	}
	/* the last answer: every mapping */
	kvms_op_init(&op, kvms_request_find("translate"));
	for (uint64_t i = 0; i < out.field[0]; i++) {
		op.arg[0] = out.list[4 * i];
		op.arg[1] = out.list[4 * i + 1];
		cr_assert_eq(kvms_inspect(s, &op, &at), KVMS_DONE);
		h = (h ^ at.field[5]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
	}
	kvms_outcome_free(&out);
	kvms_outcome_free(&at);
	return h;
}

struct seen {
	uint64_t h, start, end;
};

static bool
see_leaf(void *arg, const struct kvms_extent *run)
{
	struct seen *seen = arg;
	uint64_t size = kvmctl_leaf_size(run->level);

	/* leaf by leaf, so that how runs are cut does not matter */
	for (uint64_t i = 0; i < run->leaves; i++) {
		uint64_t va = run->va + i * size,
			 words[] = { va, run->paddr + i * size, run->level, run->prop, run->tracked };

		if (va + (size - 1) < seen->start || va > seen->end)
			continue;
		for (size_t k = 0; k < KIT_COUNT(words); k++)
			seen->h = (seen->h ^ words[k]) * UINT64_C(0x9e3779b97f4a7c15) + (seen->h >> 31);
	}
	return true;
}

/* All that can be seen of an area: where it is, and its leaves. */
static uint64_t
area_seen(struct kvms *s, uint64_t id)
{
	struct kvms_outcome out = { .name = 0 };
	struct seen seen = { .h = 1 };
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find("areas"));
	cr_assert_eq(kvms_inspect(s, &op, &out), KVMS_DONE);
	for (uint64_t i = 0; i < out.field[0]; i++) {
		if (out.list[3 * i] != id)
			continue;
		seen.h = out.list[3 * i + 1] * 3 + out.list[3 * i + 2];
		seen.start = out.list[3 * i + 1];
		seen.end = out.list[3 * i + 2] - 1;
		if (seen.start <= seen.end)
			kvms_extents(s, 0, see_leaf, &seen);
	}
	kvms_outcome_free(&out);
	return seen.h;
}

/* What one address reaches in the tables that there may be. */
static uint64_t
va_seen(struct kvms *s, uint64_t va)
{
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;
	uint64_t h = 1;

	kvms_op_init(&op, kvms_request_find("translate"));
	op.arg[1] = va;
	for (op.arg[0] = va >> 63 != 0 ? 0 : 1; op.arg[0] < (va >> 63 != 0 ? 1 : 300); op.arg[0]++) {
		cr_assert_eq(kvms_inspect(s, &op, &out), KVMS_DONE);
		if (out.name != 0 || out.field[0] == 0)
			continue;
		h = (h ^ op.arg[0]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
		for (unsigned k = 1; k < 7; k++)
			if (k != 2 && k != 3) /* how far the leaf goes is seen in its level */
				h = (h ^ out.field[k]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
	}
	kvms_outcome_free(&out);
	return h;
}

static uint64_t
seen(struct kvms *s, enum kvmctl_watched kind, uint64_t key)
{
	return kind == KVMCTL_FRAME ? frame_seen(s, key) : kind == KVMCTL_AREA ? area_seen(s, key) : va_seen(s, key);
}

struct pick {
	struct kit_random *r;
	uint64_t va, runs;
};

static bool
pick_run(void *arg, const struct kvms_extent *run)
{
	struct pick *p = arg;

	if (kit_below(p->r, ++p->runs) == 0)
		p->va = run->va;
	return true;
}

/* The address of a leaf of some table; 0: none there. */
static uint64_t
some_leaf(struct kit_walk *w)
{
	struct pick p = { .r = &w->r };
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find("nodes"));
	op.arg[0] = kit_below(&w->r, 2) * (1 + kit_below(&w->r, 5));
	cr_assert_eq(kvms_inspect(w->s, &op, &out), KVMS_DONE);
	if (out.name == 0)
		kvms_extents(w->s, op.arg[0], pick_run, &p);
	kvms_outcome_free(&out);
	return p.va;
}

#define WATCHES 24u

/*
 * On a random walk a watch tells a change exactly when something that can be
 * seen has changed, and then says that the step touched what it watches.
 */
Test(client_travel, watches_tell_every_change_and_no_other)
{
	static struct kvmctl_watch watch[WATCHES];
	uint64_t was[WATCHES], key[WATCHES], changes[KVMCTL_WATCHED] = { 0 };
	enum kvmctl_watched kind[WATCHES];

	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct kvms_outcome out = { .name = 0 };
		struct kit_walk w;

		kit_walk_init(&w, NULL, world, 40 + world);
		kvms_set_check(w.s, KVMS_CHECK_OFF, 1);
		uint64_t pages = kvms_config(w.s)->arg[kvms_arg_index(kvms_store_row(), "max_paddr")] / KVMS_PAGE_SIZE;
		for (unsigned i = 0; i < WATCHES; i++) {
			kind[i] = i % KVMCTL_WATCHED;
			if (kind[i] == KVMCTL_FRAME)
				key[i] = (i < WATCHES / 2 ? i : kit_below(&w.r, pages)) * KVMS_PAGE_SIZE;
			else if (kind[i] == KVMCTL_AREA)
				key[i] = i;
			else
				key[i] = 0x1000 * i;
			cr_assert(kvmctl_watch_begin(&watch[i], kind[i], key[i], w.s));
			was[i] = seen(w.s, kind[i], key[i]);
		}
		uint64_t steps = kit_scaled(900);
		for (uint64_t n = 0; n < steps; n++) {
			while (!kit_walk_draw(&w))
				;
			cr_assert_eq(kvms_apply(w.s, &w.op, &out), KVMS_DONE);
			struct persist_step step = {
				.number = n, .restored = PERSIST_NO_STEP, .op = &w.op, .out = &out
			};

			for (unsigned i = 0; i < WATCHES; i++) {
				bool touched = kvmctl_watch_step(&watch[i], w.s, &step);
				uint64_t is = seen(w.s, kind[i], key[i]);

				cr_assert_eq(watch[i].changes > 0, is != was[i],
					     "world %u, step %" PRIu64 ", %s: watch %u on 0x%" PRIx64 ": %s", world, n,
					     kvms_op_row(w.op.code)->name, kind[i], key[i], watch[i].text.at);
				cr_assert(touched || is == was[i]);
				cr_assert_not(watch[i].nomem);
				changes[kind[i]] += watch[i].changes > 0;
				/* from time to time, an address at which there is something */
				if (kind[i] == KVMCTL_VA && n % WATCHES == i && (was[i] = some_leaf(&w)) != 0) {
					kvmctl_watch_end(&watch[i]);
					key[i] = was[i];
					cr_assert(kvmctl_watch_begin(&watch[i], kind[i], key[i], w.s));
				}
				was[i] = seen(w.s, kind[i], key[i]);
			}
		}
		for (unsigned i = 0; i < WATCHES; i++)
			kvmctl_watch_end(&watch[i]);
		kvms_outcome_free(&out);
		kvms_free(&w.s);
	}
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		cr_expect_gt(changes[i], kit_scaled(20), "watches %u saw only %" PRIu64 " changes", i, changes[i]);
}

/* The last but one page of a large leaf shared by two areas: as many untracked leaves are there before as after. */
Test(client_travel, a_watch_sees_what_a_count_of_leaves_does_not)
{
	static struct kvmctl_watch watch;
	struct kvms *s = kit_new("max_paddr=0x80000000");
	struct kvms_outcome out = { .name = 0 };

	kit_ok(s, "kvirt_map_untracked_frames_at start=0xffffc00000000000 area_size=0x400000 paddr_start=0x40000000 "
		  "paddr_end=0x40400000 prop=rw:wb");
	kit_ok(s, "kvirt_split area=1 offset=0x200000");
	kit_ok(s, "kvirt_split area=2 offset=0x1000");
	cr_assert(kvmctl_watch_begin(&watch, KVMCTL_FRAME, 0x40005000, s));
	cr_expect_not_null(strstr(watch.text.at, "mapped kernel:0xffffc00000005000 0x40005000 rw:wb 2M untracked"),
			   "%s", watch.text.at);
	struct kvms_op op = kit_op("kvirt_drop area=5");
	cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
	cr_assert_eq(out.name, 0);
	kit_see(s,
		"ok found=true paddr=0x40000000 start=0xffffc00000000000 end=0xffffc00000001000 level=1 prop=rw:wb "
		"tracked=false",
		"translate va=0xffffc00000000000");
	struct persist_step step = { .number = 3, .restored = PERSIST_NO_STEP, .op = &op, .out = &out };
	cr_expect(kvmctl_watch_step(&watch, s, &step));
	cr_expect_str_eq(watch.text.at, "unmapped kernel:0xffffc00000005000 0x40005000 rw:wb 2M untracked\n");
	kvmctl_watch_end(&watch);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

/* ---- Differences ----------------------------------------------------------------------------- */

static void
run_add(struct kvmctl_leaves *l, uint64_t table, uint64_t va, uint64_t paddr, uint64_t leaves, unsigned level)
{
	kvmctl_leaves_add(l, &(struct kvms_extent){ .table = table,
						    .va = va,
						    .paddr = paddr,
						    .leaves = leaves,
						    .level = level,
						    .prop = 3 | 4u << KVMS_PROP_CACHE_SHIFT,
						    .tracked = true });
}

static char pieces[1000];

static void
put_piece(void *arg, const struct kvmctl_piece *p)
{
	size_t size = strlen(pieces);

	(void)arg;
	snprintf(pieces + size, sizeof pieces - size, "%s%" PRIu64 ":%" PRIx64 "-%" PRIx64 " ",
		 p->is_before && p->is_after ? "~"
		 : p->is_before              ? "-"
					     : "+",
		 p->table, p->start, p->last);
}

Test(client_travel, differences_of_leaves_are_the_ranges_that_differ)
{
	struct kvmctl_leaves a = { 0 }, b = { 0 };

	run_add(&a, 0, 0x1000, 0x1000, 4, 1);   /* its middle changes */
	run_add(&a, 0, 0x10000, 0x20000, 2, 1); /* goes */
	run_add(&a, 1, 0x200000, 0, 1, 2);      /* is split: the level differs */
	run_add(&a, 3, 0x1000, 0x1000, 1, 1);   /* stays */
	run_add(&b, 0, 0x1000, 0x1000, 1, 1);
	run_add(&b, 0, 0x2000, 0x9000, 2, 1);
	run_add(&b, 0, 0x4000, 0x4000, 1, 1);
	run_add(&b, 1, 0x200000, 0, 512, 1);
	run_add(&b, 2, 0x5000, 0x5000, 1, 1); /* is new */
	run_add(&b, 3, 0x1000, 0x1000, 1, 1);
	run_add(&b, 3, UINT64_MAX - 0xfff, 0, 1, 1); /* at the very end */
	kvmctl_leaves_compare(&a, &b, put_piece, NULL);
	cr_expect_str_eq(pieces, "~0:2000-3fff -0:10000-11fff ~1:200000-3fffff +2:5000-5fff "
				 "+3:fffffffffffff000-ffffffffffffffff ");
	pieces[0] = '\0';
	kvmctl_leaves_compare(&a, &a, put_piece, NULL);
	cr_expect_str_eq(pieces, "");
	kvmctl_leaves_free(&a);
	kvmctl_leaves_free(&b);
}

/* Areas and free addresses, as one number. */
static uint64_t
ranges_seen(struct kvms *s)
{
	static const char *const requests[] = { "areas", "free_va" };
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;
	uint64_t h = 1;

	for (size_t i = 0; i < KIT_COUNT(requests); i++) {
		kvms_op_init(&op, kvms_request_find(requests[i]));
		cr_assert_eq(kvms_inspect(s, &op, &out), KVMS_DONE);
		for (size_t k = 0; k < out.list_count; k++)
			h = (h ^ out.list[k]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
	}
	kvms_outcome_free(&out);
	return h;
}

static void
count_change(void *arg, const struct kvmctl_element_change *c)
{
	(void)c;
	++*(uint64_t *)arg;
}

static void
count_piece(void *arg, const struct kvmctl_piece *p)
{
	(void)p;
	++*(uint64_t *)arg;
}

/* A state from far away and its neighbour: something differs exactly if the digests do. */
Test(client_travel, states_differ_exactly_if_their_digests_do)
{
	struct kvms_outcome out = { .name = 0 };
	unsigned same = 0, different = 0;

	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct kvmctl_elements was = { .count = 0 }, is = { .count = 0 };
		struct kvmctl_leaves leaves_were = { .count = 0 }, leaves = { .count = 0 };
		struct kit_walk w;

		kit_walk_init(&w, NULL, world, 90 + world);
		kvms_set_check(w.s, KVMS_CHECK_OFF, 1);
		kvmctl_elements_gather(&was, w.s);
		kvmctl_leaves_table(&leaves_were, w.s, 0);
		for (uint64_t n = 0; n < kit_scaled(300); n++) {
			uint64_t before = kvms_digest(w.s), ranges = ranges_seen(w.s), changes = 0;

			while (!kit_walk_draw(&w))
				;
			cr_assert_eq(kvms_apply(w.s, &w.op, &out), KVMS_DONE);
			kvmctl_elements_gather(&is, w.s);
			kvmctl_leaves_table(&leaves, w.s, 0);
			cr_assert(!is.failed && !leaves.failed);
			for (unsigned i = 0; kvmctl_element_kind(i) != NULL; i++)
				kvmctl_elements_compare(&was, &is, kvmctl_element_kind(i), count_change, &changes);
			kvmctl_leaves_compare(&leaves_were, &leaves, count_piece, &changes);
			changes += ranges != ranges_seen(w.s);
			/* leaves of address spaces and free I/O memory, which are not gathered here, change only
			 * through cursors, and with I/O handles */
			if (before == kvms_digest(w.s))
				cr_assert_eq(changes, 0);
			else if (strncmp(kvms_op_row(w.op.code)->name, "cursor_", 7) != 0)
				cr_assert_gt(changes, 0, "%s", kvms_op_row(w.op.code)->name);
			before == kvms_digest(w.s) ? same++ : different++;
			kvmctl_elements_free(&was);
			kvmctl_leaves_free(&leaves_were);
			was = is;
			leaves_were = leaves;
			memset(&is, 0, sizeof is);
			memset(&leaves, 0, sizeof leaves);
		}
		kvmctl_elements_free(&was);
		kvmctl_leaves_free(&leaves_were);
		kvms_free(&w.s);
	}
	cr_expect(same > kit_scaled(100) && different > kit_scaled(100), "%u and %u", same, different);
	kvms_outcome_free(&out);
}
