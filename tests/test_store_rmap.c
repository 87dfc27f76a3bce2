/*
 * The reverse map: one frame mapped thousands of times, taken out in any
 * order, is held by exactly the addresses that a walk of the table finds.
 */
#include "tests/store_kit.h"

#include "store/pagetable.h"

#define PAGES 4000u

/* Kernel addresses that a walk finds mapped to a frame, as a sum without order. */
struct walked {
	const struct kvms *s;
	uint64_t paddr, count, sum;
};

static bool
walk_leaf(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word)
{
	struct walked *w = arg;
	struct leaf leaf = pte_decode_leaf(&w->s->paging, word, level);

	if (leaf_tracked(table, &leaf) && leaf.paddr == w->paddr) {
		w->count++;
		w->sum += digest_mix((const uint64_t[]){ table, va }, 2);
	}
	return true;
}

/* Every further mapping stands once in the chain of its bucket, and the chains are short. */
static void
chains_sound(const struct kvms *s)
{
	uint64_t count = 0, longest = 0;

	for (uint32_t b = 0; b < s->buckets; b++) {
		uint64_t length = 0;

		for (uint32_t i = *(const uint32_t *)pool_raw(s, POOL_BUCKET, b); i != 0; length++) {
			const struct mapping *m = pool_raw(s, POOL_MAPPING, i);

			cr_assert_leq(length, s->live.extra_mappings, "bucket %u is a circle", b);
			cr_assert_gt(m->table1, 0, "bucket %u holds a free node", b);
			cr_assert_eq(
			    (uint32_t)digest_mix((const uint64_t[]){ m->table1 - 1, m->va }, 2) & (s->buckets - 1), b);
			i = m->chain;
		}
		count += length;
		longest = length > longest ? length : longest;
	}
	cr_assert_eq(count, s->live.extra_mappings, "%" PRIu64 " in the buckets, %u in all", count,
		     s->live.extra_mappings);
	if (s->live.extra_mappings <= s->buckets) /* they grow between steps */
		cr_assert_lt(longest, 24, "a chain of %" PRIu64, longest);
}

static void
same_as_walk(struct kvms *s, uint64_t paddr)
{
	struct walked w = { s, paddr, 0, 0 };
	uint64_t sum = 0;

	leaves_visit(s, KERNEL_TABLE, walk_leaf, &w);
	size_t count = rmap_list(s, paddr / PAGE);
	for (size_t i = 0; i < count; i++) {
		sum += digest_mix(s->scratch + 2 * i, 2);
		cr_assert(rmap_has(s, paddr / PAGE, s->scratch[2 * i], s->scratch[2 * i + 1]));
	}
	cr_assert_eq(count, w.count, "%zu in the map, %" PRIu64 " in the table", count, w.count);
	cr_assert_eq(sum, w.sum, "the map holds other addresses than the table");
	cr_assert_eq(s->slot[paddr / PAGE].mappings, count);
	chains_sound(s);
}

/* "pages" mappings of the frame at 0x1000, one behind the other in area 1. */
static struct kvms *
mapped_store(unsigned pages)
{
	struct kvms *s = kit_new("max_paddr=0x400000 vmalloc=0xffffc00000000000..0xffffc00004000000");
	struct kvms_op op = kit_op("kvirt_map_frames_into area=1 va=0x%" PRIx64 " frames=[] prop=rw:wb", KIT_VMALLOC);
	struct kvms_outcome out = { .name = O_ok };
	uint64_t *ids = malloc(pages * sizeof *ids);

	kit_ok(s, "frame_from_unused paddr=0x1000");
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x%x", KIT_VMALLOC, pages * PAGE);
	for (unsigned i = 0; i < pages; i++)
		ids[i] = i == 0 ? 1 : kit_get(s, "frame", "frame_from_in_use paddr=0x1000");
	op.arg[2] = pages;
	op.list = ids;
	cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
	cr_assert_eq(out.name, O_ok);
	kvms_outcome_free(&out);
	free(ids);
	return s;
}

static void
unmap(struct kvms *s, uint64_t page)
{
	uint64_t va = KIT_VMALLOC + page * PAGE;

	kit_want(s, "ok leaves=1 subtrees=0 nodes_allocated=0 nodes_freed=0",
		 "kvirt_unmap_range area=1 start=0x%" PRIx64 " end=0x%" PRIx64, va, va + PAGE);
}

Test(rmap, of_a_frame_mapped_thousands_of_times_is_what_a_walk_finds)
{
	struct kvms *s = mapped_store(PAGES);
	static uint64_t order[PAGES];
	struct kit_random r = { 7 };

	same_as_walk(s, 0x1000);
	cr_assert_gt(s->buckets, 64, "the buckets have not grown");
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t k = kit_below(&r, i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (uint64_t i = 0; i < PAGES; i++) {
		unmap(s, order[i]);
		if (i % 97 == 0 || i + 20 > PAGES)
			same_as_walk(s, 0x1000);
	}
	kit_see(s, "ok frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x1000");
	cr_assert_eq(s->live.extra_mappings, 0);
	kit_sound(s);
	kvms_free(&s);
}

/* Upwards the first mapping, which lies in the slot, goes first; downwards it goes last. */
Test(rmap, does_not_depend_on_which_mapping_goes_first)
{
	for (unsigned downwards = 0; downwards < 2; downwards++) {
		struct kvms *s = mapped_store(200);

		for (unsigned i = 0; i < 200; i++) {
			unmap(s, downwards ? 199 - i : i);
			same_as_walk(s, 0x1000);
		}
		kvms_free(&s);
	}
}

/* Pieces come and go, many frames, and a part of the steps is taken back. */
Test(rmap, survives_steps_that_are_taken_back)
{
	struct kvms *s = kit_new("max_paddr=0x400000 vmalloc=0xffffc00000000000..0xffffc00000100000");
	struct kvms_outcome out = { .name = O_ok };
	struct kit_random r = { 8 };
	uint64_t steps = kit_scaled(6000);

	for (unsigned i = 0; i < 4; i++)
		kit_ok(s, "frame_from_unused paddr=0x%x", 0x1000 * (i + 1));
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x100000", KIT_VMALLOC);
	for (uint64_t i = 0; i < steps; i++) {
		uint64_t page = kit_below(&r, 250), frame = 1 + kit_below(&r, 4);
		uint64_t id = kit_get(s, "frame", "frame_clone frame=%" PRIu64, frame);
		struct kvms_op op;

		if (kit_below(&r, 3) > 0)
			op = kit_op("kvirt_map_frames_into area=1 va=0x%" PRIx64 " frames=[%" PRIu64 "] prop=rw:wb",
				    KIT_VMALLOC + page * PAGE, id);
		else
			op = kit_op("kvirt_unmap_range area=1 start=0x%" PRIx64 " end=0x%" PRIx64,
				    KIT_VMALLOC + page * PAGE, KIT_VMALLOC + (page + 1 + kit_below(&r, 6)) * PAGE);
		cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_DONE);
		cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
		if (FRAME(s, id) != NULL)
			kit_ok(s, "frame_drop frame=%" PRIu64, id);
		if (i % 50 == 0)
			for (unsigned k = 1; k <= 4; k++)
				same_as_walk(s, k * 0x1000);
	}
	kit_sound(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

Test(rmap, answers_who_holds_in_order_of_address)
{
	struct kvms *s = kit_new("max_paddr=0x400000 vmalloc=0xffffc00000000000..0xffffc00000100000");

	kit_ok(s, "segment_from_unused start=0x1000 end=0x3000");
	for (unsigned i = 0; i < 4; i++)
		kit_ok(s, "frame_from_in_use paddr=0x2000");
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x10000", KIT_VMALLOC);
	kit_ok(s, "kvirt_map_frames_into area=1 va=0xffffc00000005000 frames=[3] prop=rw:wb");
	kit_ok(s, "kvirt_map_frames_into area=1 va=0xffffc00000002000 frames=[1] prop=rw:wb");
	kit_ok(s, "kvirt_map_frames_into area=1 va=0xffffc00000009000 frames=[4] prop=rw:wb");
	kit_see(s,
		"ok frames=[2] segments=[1] uniques=[] lists=[] "
		"mappings=[kernel:0xffffc00000002000,kernel:0xffffc00000005000,kernel:0xffffc00000009000] queues=[]",
		"who_holds paddr=0x2fff");
	kit_see(s, "ok frames=[] segments=[1] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x1000");
	/* an untracked mapping reaches the byte and holds nothing */
	kit_ok(s, "boot_map va=0xffff800000000000 paddr_start=0x0 paddr_end=0x3000 prop=r:wb");
	kit_see(s,
		"ok mappings=[kernel:0xffff800000002010:1:untracked,kernel:0xffffc00000002010:1:tracked,"
		"kernel:0xffffc00000005010:1:tracked,kernel:0xffffc00000009010:1:tracked]",
		"reverse_map paddr=0x2010");
	kit_see(s, "ok frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x0");
	kit_see(s, "ok frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[]",
		"who_holds paddr=0xffffffffffffffff");
	kvms_free(&s);
}

Test(rmap, answers_reverse_map_up_to_the_last_byte_of_a_leaf)
{
	struct kvms *s = kit_new("max_paddr=0x400000 vmalloc=0xffffc00000000000..0xffffc00001000000");

	kit_ok(s, "kvirt_map_untracked_frames_at start=0xffffc00000400000 area_size=0x400000 paddr_start=0x40000000 "
		  "paddr_end=0x40201000 prop=rw:uc");
	kit_see(s, "ok mappings=[]", "reverse_map paddr=0x3fffffff");
	kit_see(s, "ok mappings=[kernel:0xffffc00000400000:2:untracked]", "reverse_map paddr=0x40000000");
	kit_see(s, "ok mappings=[kernel:0xffffc000005fffff:2:untracked]", "reverse_map paddr=0x401fffff");
	kit_see(s, "ok mappings=[kernel:0xffffc00000600000:1:untracked]", "reverse_map paddr=0x40200000");
	kit_see(s, "ok mappings=[kernel:0xffffc00000600fff:1:untracked]", "reverse_map paddr=0x40200fff");
	kit_see(s, "ok mappings=[]", "reverse_map paddr=0x40201000");
	kvms_free(&s);
}
