/*
 * The allocator of virtual addresses against a list that is scanned from its
 * start: the lowest block that fits, carved from its top; freed ranges join
 * both neighbours.  And the tree behind it: ordered, shallow, undone exactly.
 */
#include "tests/store_kit.h"

#include <pthread.h>
#include <signal.h>

/* ---- The plain model ----------------------------------------------------------------------- */

#define PLAIN_MAX 4096u

struct plain {
	struct kvms_range block[PLAIN_MAX]; /* ascending, none touches the next */
	size_t count;
	struct kvms_range ranges[4]; /* of vmalloc; allocation looks at the first alone */
	size_t ranges_count;
};

static void
plain_insert(struct plain *p, size_t at, uint64_t start, uint64_t end)
{
	cr_assert_lt(p->count, PLAIN_MAX);
	memmove(&p->block[at + 1], &p->block[at], (p->count - at) * sizeof p->block[0]);
	p->block[at] = (struct kvms_range){ start, end };
	p->count++;
}

static void
plain_remove(struct plain *p, size_t at)
{
	p->count--;
	memmove(&p->block[at], &p->block[at + 1], (p->count - at) * sizeof p->block[0]);
}

static bool
plain_alloc(struct plain *p, uint64_t size, uint64_t *start)
{
	for (size_t i = 0; i < p->count; i++) {
		struct kvms_range *b = &p->block[i];

		if (b->start >= p->ranges[0].end || b->end - b->start < size)
			continue;
		*start = b->end - size;
		if (size == b->end - b->start)
			plain_remove(p, i);
		else
			b->end -= size;
		return true;
	}
	return false;
}

static bool
plain_alloc_at(struct plain *p, uint64_t start, uint64_t size)
{
	uint64_t end = start + size;

	if (size == 0 || end < start)
		return false;
	for (size_t i = 0; i < p->count; i++) {
		struct kvms_range b = p->block[i];

		if (b.start > start || b.end < end)
			continue;
		plain_remove(p, i);
		if (end < b.end)
			plain_insert(p, i, end, b.end);
		if (b.start < start)
			plain_insert(p, i, b.start, start);
		return true;
	}
	return false;
}

static void
plain_free(struct plain *p, uint64_t start, uint64_t end)
{
	size_t i = 0;

	while (i < p->count && p->block[i].start < start)
		i++;
	plain_insert(p, i, start, end);
	if (i + 1 < p->count && p->block[i + 1].start == end) {
		p->block[i].end = p->block[i + 1].end;
		plain_remove(p, i + 1);
	}
	if (i > 0 && p->block[i - 1].end == start) {
		p->block[i - 1].end = p->block[i].end;
		plain_remove(p, i);
	}
}

static void
plain_init(struct plain *p, const struct kvms *s)
{
	p->count = 0;
	p->ranges_count = s->vmalloc_count;
	for (size_t i = 0; i < p->ranges_count; i++) {
		p->ranges[i] = s->vmalloc[i];
		plain_insert(p, i, s->vmalloc[i].start, s->vmalloc[i].end);
	}
}

static void
same_blocks(const struct kvms *s, const struct plain *p, const char *after)
{
	const struct extent *e = extent_from(s, SET_FREE_VA, 0);

	for (size_t i = 0; i < p->count; i++) {
		cr_assert_not_null(e, "after %s: only %zu of %zu blocks", after, i, p->count);
		cr_assert(e->start == p->block[i].start && e->end == p->block[i].end,
			  "after %s: block %zu is %" PRIx64 "..%" PRIx64 ", not %" PRIx64 "..%" PRIx64, after, i,
			  e->start, e->end, p->block[i].start, p->block[i].end);
		e = extent_from(s, SET_FREE_VA, e->start + 1);
	}
	cr_assert_null(e, "after %s: more than %zu blocks", after, p->count);
}

/* ---- The tree ----------------------------------------------------------------------------------- */

struct shape {
	uint64_t nodes, depth, longest;
	uint64_t low, high; /* starts of the sub-tree */
};

static struct shape
shape_of(const struct kvms *s, uint32_t root)
{
	const struct extent *e = extent_at(s, root);
	struct shape all = { 1, 0, e->end - e->start, e->start, e->start };

	cr_assert(e->live);
	for (unsigned side = 0; side < 2; side++) {
		uint32_t child = side == 0 ? e->left : e->right;

		if (child == 0)
			continue;
		struct shape below = shape_of(s, child);
		cr_assert(side == 0 ? below.high < e->start : below.low > e->start, "the tree is out of order");
		cr_assert_leq(extent_at(s, child)->priority, e->priority, "the tree is no heap");
		all.nodes += below.nodes;
		all.depth = below.depth > all.depth ? below.depth : all.depth;
		all.longest = below.longest > all.longest ? below.longest : all.longest;
		all.low = below.low < all.low ? below.low : all.low;
		all.high = below.high > all.high ? below.high : all.high;
	}
	all.depth++;
	cr_assert_eq(all.longest, e->longest, "the largest extent of a sub-tree is wrong");
	return all;
}

static struct shape
shape(const struct kvms *s, enum extent_set set)
{
	return s->live.extent_root[set] != 0 ? shape_of(s, s->live.extent_root[set]) : (struct shape){ 0, 0, 0, 0, 0 };
}

/* ---- Random sequences ------------------------------------------------------------------------------ */

#define HELD_MAX 2048u

struct run {
	struct kvms *s;
	struct plain plain;
	struct kit_random r;
	struct kvms_range held[HELD_MAX];
	size_t held_count;
	uint64_t largest; /* pages asked for at most */
};

static void
hold(struct run *run, uint64_t start, uint64_t size)
{
	if (size == 0)
		return;
	cr_assert_lt(run->held_count, HELD_MAX);
	run->held[run->held_count++] = (struct kvms_range){ start, start + size };
}

static const char *
step_alloc(struct run *run)
{
	uint64_t size = kit_below(&run->r, run->largest + 1) * PAGE, start = 0, want = 0;

	if (kit_below(&run->r, 50) == 0)
		size = kit_draw(&run->r);
	bool have = va_alloc(run->s, size, &start), should = plain_alloc(&run->plain, size, &want);

	cr_assert_eq(have, should, "alloc 0x%" PRIx64 ": %d, not %d", size, have, should);
	if (have) {
		cr_assert_eq(start, want, "alloc 0x%" PRIx64 ": 0x%" PRIx64 ", not 0x%" PRIx64, size, start, want);
		hold(run, start, size);
	}
	return "alloc";
}

static const char *
step_alloc_at(struct run *run)
{
	const struct kvms_range *range = &run->s->vmalloc[kit_below(&run->r, run->s->vmalloc_count)];
	uint64_t pages = (range->end - range->start) / PAGE;
	uint64_t start = range->start + kit_below(&run->r, pages + 2) * PAGE - PAGE;
	uint64_t size = kit_below(&run->r, run->largest) * PAGE;

	if (run->plain.count > 0 && kit_below(&run->r, 2) == 0) { /* where a block begins or ends */
		const struct kvms_range *b = &run->plain.block[kit_below(&run->r, run->plain.count)];
		start = kit_below(&run->r, 2) == 0 ? b->start : b->end - size;
	}
	if (kit_below(&run->r, 50) == 0)
		size = kit_draw(&run->r);
	bool have = va_alloc_at(run->s, start, size), should = plain_alloc_at(&run->plain, start, size);

	cr_assert_eq(have, should, "alloc_at 0x%" PRIx64 " 0x%" PRIx64 ": %d, not %d", start, size, have, should);
	if (have)
		hold(run, start, size);
	return "alloc_at";
}

/* Free one that is held, or a piece of it. */
static const char *
step_free(struct run *run)
{
	size_t which;
	struct kvms_range r;

	if (run->held_count == 0)
		return "nothing";
	which = kit_below(&run->r, run->held_count);
	r = run->held[which];
	uint64_t pages = (r.end - r.start) / PAGE;

	run->held[which] = run->held[--run->held_count];
	if (pages > 1 && r.start % PAGE == 0 && r.end % PAGE == 0 && kit_below(&run->r, 8) == 0) {
		uint64_t cut = r.start + (1 + kit_below(&run->r, pages - 1)) * PAGE;

		hold(run, cut, r.end - cut);
		r.end = cut;
	}
	va_free(run->s, r.start, r.end);
	plain_free(&run->plain, r.start, r.end);
	return "free";
}

/* A step that is taken back must leave list and tree as they were. */
static const char *
step_undone(struct run *run)
{
	uint64_t digest = kvms_digest(run->s), start;

	undo_begin(run->s);
	for (unsigned i = 0; i < 4; i++) {
		if (va_alloc(run->s, (1 + kit_below(&run->r, 4)) * PAGE, &start) && kit_below(&run->r, 2) == 0)
			va_free(run->s, start, start + PAGE);
		if (run->held_count > 0 && i == 0)
			va_free(run->s, run->held[0].start, run->held[0].end);
	}
	undo_rollback(run->s);
	cr_assert_eq(kvms_digest(run->s), digest);
	return "what was undone";
}

static void
run_steps(const char *config, uint64_t seed, uint64_t steps, uint64_t largest)
{
	static struct run run;

	run = (struct run){ .s = kit_new("%s", config), .r = { seed }, .largest = largest };
	plain_init(&run.plain, run.s);
	for (uint64_t i = 0; i < steps; i++) {
		const char *done;
		bool ebb = i / 1000 % 2 == 1; /* fill for a while, then empty for a while */
		uint64_t choice = kit_below(&run.r, 100);

		if (choice < 4)
			done = step_undone(&run);
		else if (run.held_count >= HELD_MAX - 2 || choice < (ebb ? 60u : 40u))
			done = step_free(&run);
		else if (choice < 75)
			done = step_alloc_at(&run);
		else
			done = step_alloc(&run);
		same_blocks(run.s, &run.plain, done);
		if (i % 16 == 0)
			cr_assert_eq(shape(run.s, SET_FREE_VA).nodes, run.plain.count);
	}
	kvms_free(&run.s);
}

Test(alloc, does_what_a_plain_scan_does)
{
	for (uint64_t seed = 1; seed <= 4; seed++)
		run_steps("max_paddr=0x200000 vmalloc=0xffffc00000000000..0xffffc00000400000", seed, kit_scaled(25000),
			  20);
}

Test(alloc, does_what_a_plain_scan_does_over_several_ranges)
{
	for (uint64_t seed = 11; seed <= 13; seed++)
		run_steps("max_paddr=0x200000 "
			  "vmalloc=[0xffffc00000000000..0xffffc00000100000,0xffffc00000101000..0xffffc00000200000,"
			  "0xffffffffc0000000..0xffffffffffff0000]",
			  seed, kit_scaled(20000), 40);
}

Test(alloc, does_what_a_plain_scan_does_in_a_range_of_64_pages)
{
	for (uint64_t seed = 21; seed <= 24; seed++)
		run_steps("max_paddr=0x200000 vmalloc=0xffffc00000000000..0xffffc00000040000", seed, kit_scaled(20000),
			  9);
}

Test(alloc, does_what_a_plain_scan_does_with_hundreds_of_blocks)
{
	run_steps("max_paddr=0x200000 vmalloc=0xffffc00000000000..0xffffc00010000000", 31, kit_scaled(20000), 3);
}

/* ---- Vectors, in units of a page --------------------------------------------------------------------- */

#define AT(page) (KIT_VMALLOC + (uint64_t)(page)*PAGE)

static struct kvms *
pages_new(unsigned pages)
{
	return kit_new("max_paddr=0x200000 vmalloc=0x%" PRIx64 "..0x%" PRIx64, KIT_VMALLOC, AT(pages));
}

static void
want_alloc(struct kvms *s, uint64_t pages, uint64_t from)
{
	uint64_t start = 0;

	cr_assert(va_alloc(s, pages * PAGE, &start));
	cr_assert_eq(start, AT(from), "%" PRIu64 " pages at %" PRIu64 ", not %" PRIu64, pages,
		     (start - KIT_VMALLOC) / PAGE, from);
}

static uint64_t
blocks_count(const struct kvms *s)
{
	return shape(s, SET_FREE_VA).nodes;
}

Test(alloc, of_nothing_gives_the_end_of_the_lowest_block_and_takes_nothing)
{
	struct kvms *s = pages_new(100);
	uint64_t start, digest = kvms_digest(s);

	want_alloc(s, 0, 100);
	cr_assert_eq(kvms_digest(s), digest);
	want_alloc(s, 60, 40);
	want_alloc(s, 0, 40);
	va_free(s, AT(90), AT(100)); /* a second block; the lowest still answers */
	want_alloc(s, 0, 40);
	want_alloc(s, 40, 0);
	want_alloc(s, 0, 100);
	want_alloc(s, 10, 90);
	cr_assert(!va_alloc(s, 0, &start), "there is no block");
	cr_assert(!va_alloc_at(s, AT(0), 0));
	kvms_free(&s);
}

/* Upstream's list would lose a block here; an area of size zero is never freed, and the allocator insists. */
Test(alloc, freeing_an_empty_range_is_a_defect, .signal = SIGABRT)
{
	struct kvms *s = pages_new(100);

	want_alloc(s, 10, 90);
	va_free(s, AT(95), AT(95));
}

Test(alloc, freeing_twice_is_a_defect, .signal = SIGABRT)
{
	struct kvms *s = pages_new(100);

	want_alloc(s, 10, 90);
	want_alloc(s, 10, 80);
	va_free(s, AT(90), AT(100));
	va_free(s, AT(90), AT(100));
}

Test(alloc, freeing_what_was_never_taken_is_a_defect, .signal = SIGABRT)
{
	struct kvms *s = pages_new(100);

	va_free(s, AT(10), AT(20));
}

Test(alloc, freeing_into_the_block_above_is_a_defect, .signal = SIGABRT)
{
	struct kvms *s = pages_new(100);

	cr_assert(va_alloc_at(s, AT(40), 20 * PAGE));
	va_free(s, AT(50), AT(61));
}

Test(alloc, freeing_into_the_block_below_is_a_defect, .signal = SIGABRT)
{
	struct kvms *s = pages_new(100);

	cr_assert(va_alloc_at(s, AT(40), 20 * PAGE));
	va_free(s, AT(39), AT(50));
}

Test(alloc, looks_at_blocks_of_the_first_range_only)
{
	struct kvms *s = kit_new("max_paddr=0x200000 vmalloc=[0xffffc00000000000..0xffffc00000004000,"
				 "0xffffc00000006000..0xffffc00000010000]");
	uint64_t start;

	cr_assert(!va_alloc(s, 5 * PAGE, &start), "it would fit into the second range");
	want_alloc(s, 4, 0);
	cr_assert(!va_alloc(s, PAGE, &start));
	cr_assert(!va_alloc(s, 0, &start), "no block in the first range, none to give an end");
	cr_assert(va_alloc_at(s, AT(6), 10 * PAGE));
	va_free(s, AT(6), AT(16));
	va_free(s, AT(0), AT(4));
	cr_assert_eq(blocks_count(s), 2);
	want_alloc(s, 4, 0);
	kvms_free(&s);
}

Test(alloc, in_turn_creeps_downwards_and_in_reverse_stays)
{
	struct kvms *s = pages_new(1000);
	uint64_t live[5], start, lowest = UINT64_MAX;

	for (unsigned i = 0; i < 200; i++) { /* the oldest is freed */
		cr_assert(va_alloc(s, 3 * PAGE, &start));
		if (i >= 4)
			va_free(s, live[i % 4], live[i % 4] + 3 * PAGE);
		live[i % 4] = start;
		lowest = start < lowest ? start : lowest;
	}
	cr_assert_eq(lowest, AT(400));
	cr_assert_eq(blocks_count(s), 2);
	kvms_free(&s);
	s = pages_new(1000);
	lowest = UINT64_MAX;
	for (unsigned i = 0; i < 200; i++) { /* the newest is freed */
		cr_assert(va_alloc(s, 3 * PAGE, &start));
		if (i >= 4)
			va_free(s, start, start + 3 * PAGE);
		lowest = start < lowest ? start : lowest;
	}
	cr_assert_eq(lowest, AT(985));
	cr_assert_eq(blocks_count(s), 1);
	kvms_free(&s);
}

/* ---- Shape ---------------------------------------------------------------------------------------------- */

/* Records that one operation on the tree may save for undo: a few times the depth. */
#define SAVED_MAX 256u

static size_t
saved_by(struct kvms *s, bool alloc, uint64_t at)
{
	size_t count;

	undo_begin(s);
	if (alloc)
		cr_assert(va_alloc_at(s, at, PAGE));
	else
		va_free(s, at, at + PAGE);
	count = s->undo.count;
	undo_rollback(s);
	return count;
}

Test(alloc, of_a_hundred_thousand_blocks_is_a_shallow_tree)
{
	uint64_t blocks = kit_sanitized() ? 20000 : 100000;
	struct kvms *s = kit_new("max_paddr=0x200000 vmalloc=0x%" PRIx64 "..0x%" PRIx64, KIT_VMALLOC, AT(2 * blocks));
	struct kit_random r = { 1 };

	for (uint64_t i = 0; i + 1 < blocks; i++) /* in order, which is the worst for a plain tree */
		cr_assert(va_alloc_at(s, AT(2 * i + 1), PAGE));
	struct shape all = shape(s, SET_FREE_VA);
	cr_assert_eq(all.nodes, blocks);
	cr_assert_lt(all.depth, 64, "depth %" PRIu64, all.depth);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t which = kit_below(&r, blocks - 2);
		size_t taking = saved_by(s, true, AT(2 * which)), freeing = saved_by(s, false, AT(2 * which + 1));

		cr_assert(taking < SAVED_MAX && freeing < SAVED_MAX, "%zu and %zu records for one page", taking,
			  freeing);
	}
	for (uint64_t i = 0; i + 1 < blocks; i++) /* and back, in another order */
		va_free(s, AT(2 * (i * 7919 % (blocks - 1)) + 1), AT(2 * (i * 7919 % (blocks - 1)) + 2));
	cr_assert_eq(blocks_count(s), 1);
	kvms_free(&s);
}

/* The tree is a function of what is in it, not of how it got there. */
Test(alloc, trees_with_the_same_content_have_the_same_shape)
{
	struct kvms *a = pages_new(2000), *b = pages_new(2000);

	for (uint64_t i = 0; i < 999; i++) {
		cr_assert(va_alloc_at(a, AT(2 * i + 1), PAGE));
		cr_assert(va_alloc_at(b, AT(2 * (i * 500 % 999) + 1), PAGE));
	}
	cr_assert_eq(shape(a, SET_FREE_VA).depth, shape(b, SET_FREE_VA).depth);
	for (const struct extent *e = extent_from(a, SET_FREE_VA, 0); e != NULL;
	     e = extent_from(a, SET_FREE_VA, e->start + 1)) {
		const struct extent *other = extent_from(b, SET_FREE_VA, e->start);

		cr_assert(other->start == e->start && other->longest == e->longest);
		cr_assert_eq(e->left == 0 ? 0 : extent_at(a, e->left)->start,
			     other->left == 0 ? 0 : extent_at(b, other->left)->start);
	}
	kvms_free(&a);
	kvms_free(&b);
}

/*
 * Whoever chooses addresses by their hashes gets a tree as deep as it has extents: here ever
 * later starts of ever lower priority.  It has to work on a stack of a few pages all the same.
 */
#define DEEP 3000u

struct deep {
	struct kvms *s;
	uint64_t depth, left; /* of the tree of areas; of areas at the end */
	unsigned refused;
};

static void *
deep_tree(void *arg)
{
	struct deep *d = arg;
	struct kvms_op reserve = kit_op("kvirt_reserve_at start=0 area_size=0x1000"), end = kit_op("kvirt_unreserve area=1");
	struct kvms_outcome out = { .name = 0 };
	uint64_t va = d->s->vmalloc[0].start, step = UINT32_MAX / DEEP, below = UINT32_MAX;

	for (unsigned i = 0; i < DEEP; i++) {
		uint32_t priority = 0;

		do {
			va += PAGE;
			priority = (uint32_t)digest_mix(&va, 1);
		} while (priority > below || priority < below - step);
		below = below > step ? below - step : 0;
		reserve.arg[0] = va;
		d->refused += kvms_apply(d->s, &reserve, &out) != KVMS_DONE || out.name != O_ok;
	}
	for (uint32_t at = d->s->live.extent_root[SET_AREAS]; at != 0; at = extent_at(d->s, at)->right)
		d->depth++;
	for (unsigned i = 0; i < DEEP; i++) {
		end.arg[0] = i % 2 == 0 ? i / 2 + 1 : DEEP - i / 2; /* from both ends */
		d->refused += kvms_apply(d->s, &end, &out) != KVMS_DONE || out.name != O_ok;
	}
	d->left = d->s->live.totals.areas;
	kvms_outcome_free(&out);
	return NULL;
}

Test(alloc, a_tree_as_deep_as_it_has_areas_needs_no_stack)
{
	struct deep d = { .s = kit_new("max_paddr=0x1000000"), .depth = 0 };
	pthread_attr_t attributes;
	pthread_t thread;

	cr_assert_eq(pthread_attr_init(&attributes), 0);
	cr_assert_eq(pthread_attr_setstacksize(&attributes, 128 * 1024), 0);
	cr_assert_eq(pthread_create(&thread, &attributes, deep_tree, &d), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(pthread_attr_destroy(&attributes), 0);
	cr_expect_eq(d.refused, 0);
	cr_expect_geq(d.depth, DEEP * 9 / 10, "the tree is not deep: %" PRIu64, d.depth);
	cr_expect_eq(d.left, 0);
	cr_expect_eq(kvms_digest(d.s), digest_recompute(d.s));
	kvms_free(&d.s);
}
