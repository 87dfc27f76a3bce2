/*
 * Every law of store/invariants.def can fire: a store made by operations is
 * damaged from inside, in one place, and exactly the laws that the damage
 * breaks must be found; by a full check, by the check of what a step touched,
 * and at the end of a step that is then taken back.
 *
 * The damage keeps everything else in order (digest, running counts, totals),
 * so that nothing but the law in question is left to complain.
 */
#include "tests/store_kit.h"

#include "store/pagetable.h"

#include <stdio.h>

/* ---- The store that is damaged ------------------------------------------------------- */

#define AREA1 KIT_VMALLOC                       /* 3 pages, the last two mapped: 0x1000, 0x2000 */
#define AREA2 (KIT_VMALLOC + 0x200000)          /* two pages of 2 MiB, untracked */
#define AREA3 (KIT_VMALLOC + 0x1000000)         /* 2 pages in the second vmalloc range, unmapped */
#define AREA4_ID 4u                             /* of size 0 */
#define BOOT UINT64_C(0xffff800000000000)       /* 3 pages, untracked, level 1 */
#define BOOT_LARGE (BOOT + 0x40000000)          /* a page of 2 MiB, untracked */
#define BOOT_EMPTY UINT64_C(0xffff900000000000) /* nothing there but the nodes of level 3 */
#define OUTSIDE UINT64_C(0xffff900000000000)

/* Frames: 3 is a second handle on 0x1000, 4 the only one on 0x3000.  0x20000 is MMIO, 0x10000 Reserved. */
static struct kvms *
base_new(void)
{
	struct kvms *s =
	    kit_new("max_paddr=0x400000 rc_max=100 reserve=[0x10000..0x12000] mmio=[0x20000..0x21000] "
		    "vmalloc=[0xffffc00000000000..0xffffc00000800000,0xffffc00001000000..0xffffc00001200000]");

	kit_ok(s, "frame_from_unused paddr=0x1000");
	kit_ok(s, "frame_from_unused paddr=0x2000");
	kit_ok(s, "frame_clone frame=1");
	kit_ok(s, "frame_from_unused paddr=0x3000");
	kit_ok(s, "segment_from_unused start=0x4000 end=0x6000");
	kit_ok(s, "kvirt_map_frames_at start=0x%" PRIx64 " area_size=0x3000 map_offset=0x1000 frames=[1,2] prop=rw:wb",
	       AREA1);
	kit_ok(s,
	       "kvirt_map_untracked_frames_at start=0x%" PRIx64 " area_size=0x400000 paddr_start=0x40000000 "
	       "paddr_end=0x40400000 prop=rw:uc",
	       AREA2);
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x2000", AREA3);
	kit_want(s, "ok area=4 start=0xffffc00000200000 end=0xffffc00000200000", "kvirt_reserve area_size=0x0");
	kit_ok(s, "boot_map va=0x%" PRIx64 " paddr_start=0x0 paddr_end=0x3000 prop=rw:wb", BOOT);
	kit_ok(s, "boot_map va=0x%" PRIx64 " paddr_start=0x40000000 paddr_end=0x40200000 prop=rw:wb", BOOT_LARGE);
	(void)kvms_digest(s);
	kit_sound(s);
	return s;
}

/* ---- Tools of damage; all of them are saved for undo and keep the digest ----------------- */

static struct slot *
slot_of(struct kvms *s, uint64_t paddr)
{
	return slot_mut(s, paddr / PAGE);
}

/* Another usage for a slot, the totals in step. */
static struct slot *
usage_change(struct kvms *s, uint64_t paddr, enum usage usage, enum slot_kind kind)
{
	struct slot *sl = slot_of(s, paddr);

	s->live.totals.at[sl->usage]--;
	s->live.totals.at[usage]++;
	sl->usage = (uint8_t)usage;
	sl->kind = (uint8_t)kind;
	return sl;
}

static void
rc_set(struct kvms *s, uint64_t paddr, uint64_t rc)
{
	slot_of(s, paddr)->rc1 = rc + 1;
	slot_sync(s, paddr / PAGE);
}

/* The node of "level" on the way to va. */
static uint64_t
node_of(const struct kvms *s, uint64_t va, unsigned level)
{
	uint64_t node = s->live.kernel_root;

	for (unsigned l = s->paging.levels; l > level; l--) {
		uint64_t word = word_at(s, word_paddr(node, entry_index(va, l)));

		cr_assert_eq(pte_kind(&s->paging, word, l), PTE_TABLE);
		node = pte_table_paddr(&s->paging, word);
	}
	return node;
}

static uint64_t
word_of(const struct kvms *s, uint64_t va, unsigned level)
{
	return word_paddr(node_of(s, va, level), entry_index(va, level));
}

/* Put a word where va has its entry of "level", counted as what it is. */
static void
put(struct kvms *s, uint64_t va, unsigned level, uint64_t word)
{
	entry_set(s, node_of(s, va, level), entry_index(va, level), word);
}

static uint64_t
leaf_word(const struct kvms *s, uint64_t paddr, unsigned level, bool tracked)
{
	struct leaf leaf = { .paddr = paddr, .prop = 3 | 4u << KVMS_PROP_CACHE_SHIFT, .avail1 = tracked };
	uint64_t word = 0;

	cr_assert_eq(pte_encode_leaf(&s->paging, &leaf, level, &word), O_ok);
	return word;
}

static uint64_t
new_node(struct kvms *s, unsigned level, uint64_t va)
{
	uint64_t node = 0;

	cr_assert_eq(node_new(s, level, KERNEL_TABLE, va, 0, &node), O_ok);
	return node;
}

static const struct extent *
block_at(struct kvms *s, uint64_t va)
{
	const struct extent *e = extent_below(s, SET_FREE_VA, va);

	cr_assert(e != NULL && va < e->end);
	return e;
}

static uint64_t
area_add(struct kvms *s, uint64_t start, uint64_t end)
{
	struct area *a;
	uint64_t id = record_new(s, KVMS_ID_AREA, (void **)&a);

	a->start = start;
	a->end = end;
	extent_insert(s, SET_AREAS, start, end, id);
	s->live.totals.areas++;
	return id;
}

/* ---- The damage -------------------------------------------------------------------------- */

typedef void damage(struct kvms *s);

static void
handle_on_node(struct kvms *s)
{
	(void)handle_new(s, s->live.kernel_root);
}

static void
frame_without_user(struct kvms *s)
{
	slot_claim(s, 0x30, USAGE_FRAME, KIND_UNTYPED, 0, 1);
}

static void
count_too_high(struct kvms *s)
{
	rc_set(s, 0x3000, 2);
}

static void
reserved_count_2(struct kvms *s)
{
	rc_set(s, 0x10000, 2);
}

static void
unique_with_handle(struct kvms *s)
{
	rc_set(s, 0x3000, KVMS_RC_UNIQUE);
}

static void
unique_without_owner(struct kvms *s)
{
	slot_claim(s, 0x30, USAGE_FRAME, KIND_LINK, 0, KVMS_RC_UNIQUE);
}

static void
handle_on_mmio(struct kvms *s)
{
	(void)handle_new(s, 0x20000);
}

static void
handle_on_unused(struct kvms *s)
{
	(void)handle_new(s, 0x30000);
}

static void
leaf_to_unused(struct kvms *s)
{
	put(s, AREA1, 1, leaf_word(s, 0x30000, 1, true));
}

static void
block_outside(struct kvms *s)
{
	extent_insert(s, SET_FREE_VA, OUTSIDE, OUTSIDE + PAGE, 0);
}

static void
block_past_range(struct kvms *s)
{
	extent_set_end(s, SET_FREE_VA, block_at(s, KIT_VMALLOC + 0x700000)->start, KIT_VMALLOC + 0x801000);
}

static void
block_cut_in_two(struct kvms *s)
{
	uint64_t start = block_at(s, KIT_VMALLOC + 0x100000)->start, end = block_at(s, KIT_VMALLOC + 0x100000)->end;

	extent_set_end(s, SET_FREE_VA, start, KIT_VMALLOC + 0x100000);
	extent_insert(s, SET_FREE_VA, KIT_VMALLOC + 0x100000, end, 0);
}

static void
mmio_past_window(struct kvms *s)
{
	extent_set_end(s, SET_FREE_MMIO0, extent_from(s, SET_FREE_MMIO0, 0)->start, 4 * GiB + PAGE);
}

static void
mmio_in_memory(struct kvms *s)
{
	extent_insert(s, SET_FREE_MMIO0, 0x1000, 0x2000, 0);
}

static void
mmio_empty(struct kvms *s)
{
	uint64_t start = extent_from(s, SET_FREE_MMIO1, 0)->start;

	extent_set_end(s, SET_FREE_MMIO1, start, start);
}

static void
mmio_overlapping(struct kvms *s)
{
	extent_insert(s, SET_FREE_MMIO1, 8 * GiB, 9 * GiB, 0);
}

static void
block_empty(struct kvms *s)
{
	extent_insert(s, SET_FREE_VA, AREA2, AREA2, 0);
}

static void
block_too_short(struct kvms *s)
{
	const struct extent *e = block_at(s, KIT_VMALLOC + 0x100000);

	extent_set_end(s, SET_FREE_VA, e->start, e->end - PAGE);
}

static void
tracked_boot_leaf(struct kvms *s)
{
	put(s, BOOT + 0x3000, 1, leaf_word(s, 0x3000, 1, true));
	rc_set(s, 0x3000, 2);
}

static void
area_inside_area(struct kvms *s)
{
	area_add(s, AREA1 + 0x2000, AREA1 + 0x3000);
}

static void
area_at_a_leaf(struct kvms *s)
{
	area_add(s, AREA1 + 0x1000, AREA1 + 0x2000); /* the leaf behind it still lies in area 1 */
}

static void
area_over_next_area(struct kvms *s)
{
	area_add(s, AREA2 - 0x1000, AREA2 + 0x1000);
}

static void
leaf_without_area(struct kvms *s)
{
	put(s, AREA1 + 0x10000, 1, leaf_word(s, 0x40000000, 1, false));
}

static void
large_leaf_past_area(struct kvms *s)
{
	put(s, AREA2 + 0x400000, 2, leaf_word(s, 0x40000000, 2, false));
	area_add(s, AREA2 + 0x400000, AREA2 + 0x500000);
	extent_remove(s, SET_FREE_VA, AREA2 + 0x400000);
	extent_insert(s, SET_FREE_VA, AREA2 + 0x500000, KIT_VMALLOC + 0x800000, 0);
}

static void
empty_area_outside(struct kvms *s)
{
	struct area *a = record_mut(s, KVMS_ID_AREA, AREA4_ID);

	a->start = a->end = OUTSIDE;
}

static void
empty_area_unaligned(struct kvms *s)
{
	struct area *a = record_mut(s, KVMS_ID_AREA, AREA4_ID);

	a->start = a->end = AREA2 + 8;
}

static void
area_reference(struct kvms *s)
{
	((struct area *)record_mut(s, KVMS_ID_AREA, 1))->refs = 1;
}

static void
node_count_2(struct kvms *s)
{
	rc_set(s, node_of(s, AREA1, 1), 2);
}

static void
node_record_on_frame(struct kvms *s)
{
	slot_of(s, 0x3000)->level = 1;
}

static void
node_level_5(struct kvms *s)
{
	/* an empty node, so that no word of it is read at that level */
	slot_of(s, node_of(s, BOOT_EMPTY, 3))->level = 5;
}

static void
node_level_0(struct kvms *s)
{
	slot_of(s, node_of(s, BOOT_EMPTY, 3))->level = 0;
}

static void
table_to_frame(struct kvms *s)
{
	put(s, BOOT_EMPTY, 3, pte_encode_table(&s->paging, 0x3000));
}

static void
table_out_of_memory(struct kvms *s)
{
	put(s, BOOT_EMPTY, 3, pte_encode_table(&s->paging, UINT64_C(0x4000000000)));
}

static void
root_is_no_node(struct kvms *s)
{
	s->live.kernel_root = 0x3000;
}

static void
child_of_wrong_level(struct kvms *s)
{
	put(s, BOOT_EMPTY, 3, pte_encode_table(&s->paging, new_node(s, 1, BOOT_EMPTY)));
}

static void
children_miscounted(struct kvms *s)
{
	slot_of(s, node_of(s, AREA1, 1))->nr_children++;
}

static void
top_node_gone(struct kvms *s)
{
	uint64_t node = node_of(s, UINT64_C(0xffffff8000000000), 3);

	put(s, UINT64_C(0xffffff8000000000), 4, 0);
	slot_clear(s, node / PAGE);
}

static void
large_leaf_unaligned(struct kvms *s)
{
	uint64_t word = word_of(s, AREA2, 2);

	word_set(s, word, word_at(s, word) | 0x2000);
}

static void
leaf_of_1_gib(struct kvms *s)
{
	put(s, BOOT_EMPTY, 3, leaf_word(s, 0x40000000, 3, false));
}

static void
table_at_level_1(struct kvms *s)
{
	put(s, BOOT + 0x3000, 1, pte_encode_table(&s->paging, node_of(s, BOOT, 1)));
}

static void
node_without_parent(struct kvms *s)
{
	(void)new_node(s, 1, BOOT_EMPTY);
}

static void
node_with_two_parents(struct kvms *s)
{
	put(s, BOOT_EMPTY, 3, pte_encode_table(&s->paging, node_of(s, AREA1, 2)));
}

static void
node_stray(struct kvms *s)
{
	slot_of(s, node_of(s, BOOT, 1))->bits |= SLOT_STRAY;
}

static void
root_entry_of_user_half(struct kvms *s)
{
	uint64_t node = new_node(s, 3, 5 * page_size(4));

	/* not counted: the root counts its own half */
	word_set(s, word_paddr(s->live.kernel_root, 5), pte_encode_table(&s->paging, node));
}

static void
tracked_leaf_to_node(struct kvms *s)
{
	put(s, AREA1, 1, leaf_word(s, node_of(s, BOOT_EMPTY, 3), 1, true));
}

static void
tracked_leaf_out_of_memory(struct kvms *s)
{
	word_set(s, word_of(s, AREA1, 1), leaf_word(s, UINT64_C(0x400000), 1, true));
	slot_of(s, node_of(s, AREA1, 1))->nr_children++;
	s->live.totals.leaves_tracked++;
}

static void
tracked_leaf_far_out_of_memory(struct kvms *s)
{
	word_set(s, word_of(s, AREA1, 1), leaf_word(s, UINT64_C(1) << 51, 1, true));
	slot_of(s, node_of(s, AREA1, 1))->nr_children++;
	s->live.totals.leaves_tracked++;
}

static void
tracked_large_leaf(struct kvms *s)
{
	slot_claim(s, 0, USAGE_FRAME, KIND_UNTYPED, 0, 1);
	put(s, AREA2, 2, leaf_word(s, 0, 2, true));
}

static void
leaf_with_ignored_bit(struct kvms *s)
{
	uint64_t word = word_of(s, AREA1 + 0x1000, 1);

	word_set(s, word, word_at(s, word) | 0x200);
}

static void
absent_word_not_zero(struct kvms *s)
{
	word_set(s, word_of(s, AREA1, 1), 0x2);
}

static void
handle_unaligned(struct kvms *s)
{
	((struct frame *)record_mut(s, KVMS_ID_FRAME, 4))->paddr = 0x3800;
}

static void
ids_behind(struct kvms *s)
{
	s->live.next_id[KVMS_ID_FRAME] = 4;
}

static void
word_past_memory(struct kvms *s)
{
	*(uint64_t *)(void *)(s->memory + s->max_paddr + 0xff8) = 1;
}

static void
segment_unaligned(struct kvms *s)
{
	((struct segment *)record_mut(s, KVMS_ID_SEGMENT, 1))->end = 0x6010;
}

static void
slot_past_memory(struct kvms *s)
{
	s->slot[s->slots_count].meta = 1;
}

static void
handles_miscounted(struct kvms *s)
{
	/* C one less for H one more: no formula notices, only the recount */
	struct slot *sl = &s->slot[0x4];

	sl->handles++;
	sl->covers--;
}

static void
totals_miscounted(struct kvms *s)
{
	s->live.totals.covers++;
}

static void
area_index_wrong(struct kvms *s)
{
	extent_remove(s, SET_AREAS, AREA3);
}

static void
area_index_too_long(struct kvms *s)
{
	extent_set_end(s, SET_AREAS, AREA3, AREA3 + 0x3000);
}

static void
area_index_of_another(struct kvms *s)
{
	extent_remove(s, SET_AREAS, AREA3);
	extent_insert(s, SET_AREAS, AREA3, AREA3 + 0x2000, 1);
}

static void
used_bit_missing(struct kvms *s)
{
	bitmap_clear(&s->used, 4); /* a frame that frame_alloc would now hand out a second time */
}

static void
used_bit_too_much(struct kvms *s)
{
	bitmap_set(&s->used, 0x50);
}

static void
sum_changed(struct kvms *s)
{
	s->live.sum ^= 1;
}

static void
word_changed_behind(struct kvms *s)
{
	/* A for D: as good a leaf, but nobody told the digest */
	*(uint64_t *)(void *)(s->memory + word_of(s, AREA1 + 0x1000, 1)) |= 0x20;
}

static void
kind_boot_on_frame(struct kvms *s)
{
	slot_of(s, 0x3000)->kind = KIND_BOOT;
}

static void
listed_untyped(struct kvms *s)
{
	slot_claim(s, 0x30, USAGE_FRAME, KIND_UNTYPED, 0, KVMS_RC_UNIQUE)->owner = 7;
}

static void
count_0(struct kvms *s)
{
	slot_claim(s, 0x30, USAGE_FRAME, KIND_UNTYPED, 0, 0);
}

static void
count_above_max(struct kvms *s)
{
	slot_claim(s, 0x30, USAGE_FRAME, KIND_UNTYPED, 0, 101);
}

static void
shared_and_listed(struct kvms *s)
{
	slot_of(s, 0x3000)->owner = 7;
}

static void
unique_mmio(struct kvms *s)
{
	rc_set(s, 0x20000, KVMS_RC_UNIQUE);
}

static void
unused_with_meta(struct kvms *s)
{
	slot_of(s, 0x20000)->meta = 5;
}

static void
unused_with_meta_only(struct kvms *s)
{
	slot_of(s, 0x50000)->meta = 5;
	slot_sync(s, 0x50);
}

static void
unused_with_count(struct kvms *s)
{
	rc_set(s, 0x50000, 1);
}

/*
 * What each damage makes fire in a full check and, if that differs, in a check
 * of what was touched.  Where it is more than the one law, the formulas imply
 * the others; the last column says why.
 */
static const struct law_case {
	const char *law;
	damage *damage;
	const char *full;
	const char *touched; /* NULL: the same */
	const char *why;
} law_cases[] = {
	{ "acct.handle_on_frame", handle_on_node, "acct.handle_on_frame", NULL, "" },
	{ "acct.live_has_user", frame_without_user, "acct.live_has_user", NULL, "" },
	{ "acct.rc_exact", count_too_high, "acct.rc_exact", NULL, "" },
	{ "acct.reserved_rc_one", reserved_count_2, "acct.reserved_rc_one", NULL, "" },
	{ "acct.unique_has_no_users", unique_with_handle,
	  "acct.rc_exact acct.unique_has_no_users acct.unique_one_owner", NULL,
	  "a user counts 1, which UNIQUE is not; and nobody owns it" },
	{ "acct.unique_one_owner", unique_without_owner, "acct.unique_one_owner", NULL, "" },
	{ "acct.unused_has_no_users", handle_on_mmio, "acct.handle_on_frame acct.unused_has_no_users", NULL,
	  "unused is never Frame" },
	{ "acct.unused_has_no_users", handle_on_unused, "acct.handle_on_frame acct.unused_has_no_users", NULL,
	  "the same on a slot that nothing else marks as used" },
	{ "acct.unused_has_no_users", leaf_to_unused, "acct.unused_has_no_users pt.tracked_leaf", NULL,
	  "a tracked leaf needs a shared frame" },
	{ "alloc.blocks", block_outside, "alloc.blocks", NULL, "" },
	{ "alloc.blocks", block_past_range, "alloc.blocks alloc.partition", "alloc.blocks",
	  "it no longer ends where its range ends; touched, only what lies inside is tiled" },
	{ "alloc.coalesced", block_cut_in_two, "alloc.coalesced", NULL, "" },
	{ "alloc.mmio_blocks", mmio_past_window, "alloc.mmio_blocks", NULL, "" },
	{ "alloc.mmio_blocks", mmio_in_memory, "alloc.mmio_blocks", NULL, "" },
	{ "alloc.mmio_blocks", mmio_empty, "alloc.mmio_blocks", NULL, "" },
	{ "alloc.mmio_blocks", mmio_overlapping, "alloc.mmio_blocks", "",
	  "touched, the block inside is in order; the one around it was not touched" },
	{ "alloc.blocks", block_empty, "alloc.blocks alloc.coalesced alloc.partition", "",
	  "it touches the block before it, and tiles nothing; which neighbours a tree touches is its own affair" },
	{ "alloc.partition", block_too_short, "alloc.partition", NULL, "" },
	{ "area.boot_leaves", tracked_boot_leaf, "area.boot_leaves", NULL, "" },
	{ "area.disjoint", area_inside_area, "alloc.partition area.disjoint", NULL, "what overlaps does not tile" },
	{ "area.disjoint", area_at_a_leaf, "alloc.partition area.disjoint", NULL, "what overlaps does not tile" },
	{ "area.disjoint", area_over_next_area, "alloc.partition area.disjoint", NULL,
	  "the same, seen from the other side" },
	{ "area.owns_leaves", leaf_without_area, "area.owns_leaves", NULL, "" },
	{ "area.owns_leaves", large_leaf_past_area, "area.owns_leaves", NULL, "" },
	{ "area.range", empty_area_outside, "area.range", NULL, "" },
	{ "area.range", empty_area_unaligned, "area.range", NULL, "" },
	{ "area.refs", area_reference, "area.refs", NULL, "" },
	{ "meta.node_rc", node_count_2, "meta.node_rc", NULL, "" },
	{ "meta.node_slot", node_record_on_frame, "meta.node_slot", NULL, "" },
	{ "meta.node_slot", node_level_5, "meta.node_slot pt.child_level", "meta.node_slot pt.no_orphan",
	  "the parent is of level 4; touched, only the node is judged, which no walk finds at that level" },
	{ "meta.node_slot", node_level_0, "meta.node_slot pt.child_level", "meta.node_slot pt.no_orphan", "the same" },
	{ "pt.child_is_node", table_to_frame, "pt.child_is_node", NULL, "" },
	{ "pt.child_is_node", table_out_of_memory, "pt.child_is_node", NULL, "" },
	{ "pt.child_level", child_of_wrong_level, "pt.child_level", "pt.child_level pt.no_orphan",
	  "touched, the walk to the node does not find it at its level" },
	{ "pt.count_consistent", children_miscounted, "pt.count_consistent", NULL, "" },
	{ "pt.kernel_top_nodes", top_node_gone, "pt.kernel_top_nodes", NULL, "" },
	{ "pt.leaf_aligned", large_leaf_unaligned, "pt.leaf_aligned pt.word_canonical", NULL,
	  "decoding drops the bits below the page's size" },
	{ "pt.leaf_level", leaf_of_1_gib, "pt.leaf_level", NULL, "" },
	{ "pt.level1_has_no_child", table_at_level_1, "pt.level1_has_no_child", NULL, "" },
	{ "pt.no_orphan", node_without_parent, "pt.no_orphan", NULL, "" },
	{ "pt.node_unique", node_with_two_parents, "pt.node_unique", NULL, "" },
	{ "pt.not_stray", node_stray, "pt.not_stray", NULL, "" },
	{ "pt.top_range", root_entry_of_user_half, "pt.top_range", NULL, "" },
	{ "pt.tracked_leaf", tracked_leaf_to_node, "pt.tracked_leaf", NULL, "" },
	{ "pt.tracked_leaf", tracked_leaf_out_of_memory, "pt.tracked_leaf", NULL, "" },
	{ "pt.tracked_leaf", tracked_leaf_far_out_of_memory, "pt.tracked_leaf", NULL, "" },
	{ "pt.tracked_leaf", tracked_large_leaf, "pt.tracked_leaf", NULL, "" },
	{ "pt.word_canonical", leaf_with_ignored_bit, "pt.word_canonical", NULL, "" },
	{ "pt.word_canonical", absent_word_not_zero, "pt.word_canonical", NULL, "" },
	{ "region.frame_valid", handle_unaligned, "region.frame_valid", NULL, "" },
	{ "region.ids_below_next", ids_behind, "region.ids_below_next", "", "looks at the whole store" },
	{ "region.memory_bounds", word_past_memory, "region.memory_bounds", "", "looks at the whole store" },
	{ "region.segment_valid", segment_unaligned, "region.segment_valid", NULL, "" },
	{ "region.slot_domain", slot_past_memory, "region.slot_domain", "", "looks at the whole store" },
	{ "self.counters", handles_miscounted, "self.counters", "", "looks at the whole store" },
	{ "self.counters", totals_miscounted, "self.counters", "", "looks at the whole store" },
	{ "self.counters", area_index_wrong, "self.counters", "", "looks at the whole store" },
	{ "self.counters", area_index_too_long, "self.counters", "", "looks at the whole store" },
	{ "self.counters", area_index_of_another, "self.counters", "", "looks at the whole store" },
	{ "self.counters", used_bit_missing, "self.counters self.digest", "",
	  "looks at the whole store, in which the digest does not find the slot" },
	{ "self.counters", used_bit_too_much, "self.counters", "", "looks at the whole store" },
	{ "self.digest", sum_changed, "self.digest", "", "looks at the whole store" },
	{ "self.digest", word_changed_behind, "self.digest", "", "looks at the whole store" },
	{ "slot.kind_matches_usage", kind_boot_on_frame, "slot.kind_matches_usage", NULL, "" },
	{ "slot.listed_is_link", listed_untyped, "acct.unique_one_owner slot.listed_is_link", NULL,
	  "no list of this build owns it" },
	{ "slot.rc_legal", count_0, "slot.rc_legal", NULL, "" },
	{ "slot.rc_legal", count_above_max, "slot.rc_legal", NULL, "" },
	{ "slot.shared_not_listed", shared_and_listed, "slot.listed_is_link slot.shared_not_listed", NULL,
	  "only a unique frame may be listed" },
	{ "slot.unique_is_frame", unique_mmio, "slot.unique_is_frame slot.usage_unused", NULL,
	  "MMIO counts as unused, and UNIQUE is not" },
	{ "slot.unused_clean", unused_with_meta, "slot.unused_clean", NULL, "" },
	{ "slot.unused_clean", unused_with_meta_only, "slot.unused_clean", NULL, "" },
	{ "slot.usage_unused", unused_with_count, "slot.usage_unused", NULL, "" },
};

/* ---- Checks alone --------------------------------------------------------------------------- */

static unsigned
law_number(const char *name)
{
	for (unsigned law = 0; kvms_law_name(law) != NULL; law++)
		if (strcmp(kvms_law_name(law), name) == 0)
			return law;
	cr_assert(false, "no law %s", name);
	return 0;
}

/* What the object of a law's findings is. */
enum domain { A_SLOT, A_WORD, A_FRAME, A_SEGMENT, AN_AREA, A_BLOCK, AN_MMIO_BLOCK, AN_ADDRESS, ANYTHING };

static const enum domain domains[] = {
#define LAW_SLOT(symbol, name, text) A_SLOT,
#define LAW_WORD(symbol, name, text) A_WORD,
#define LAW_FRAME(symbol, name, text) A_FRAME,
#define LAW_SEGMENT(symbol, name, text) A_SEGMENT,
#define LAW_AREA(symbol, name, text) AN_AREA,
#define LAW_BLOCK(symbol, name, text) A_BLOCK,
#define LAW_MMIO(symbol, name, text) AN_MMIO_BLOCK,
#define LAW_TILES(symbol, name, text) AN_ADDRESS,
#define LAW_STORE(symbol, name, text) ANYTHING,
#include "store/invariants.def"
};

/* A finding names an object that is there. */
static void
names_an_object(const struct kvms *s, const struct kvms_finding *f)
{
	bool there = true;

	switch (domains[f->law]) {
	case A_SLOT:
		there = f->object < s->slots_count;
		break;
	case A_WORD: /* or the root itself */
		there = f->object % 8 == 0 &&
			(f->object == s->live.kernel_root || s->slot[f->object / PAGE].usage == USAGE_PAGETABLE);
		break;
	case A_FRAME:
		there = FRAME(s, f->object) != NULL;
		break;
	case A_SEGMENT:
		there = SEGMENT(s, f->object) != NULL;
		break;
	case AN_AREA:
		there = AREA(s, f->object) != NULL;
		break;
	case A_BLOCK:
		there = extent_below(s, SET_FREE_VA, f->object)->start == f->object;
		break;
	case AN_MMIO_BLOCK:
		there = extent_below(s, SET_FREE_MMIO0, f->object) != NULL ||
			extent_below(s, SET_FREE_MMIO1, f->object) != NULL;
		break;
	case AN_ADDRESS:
		there = f->object >= s->vmalloc[0].start && f->object <= s->vmalloc[s->vmalloc_count - 1].end;
		break;
	case ANYTHING:
		break;
	}
	cr_expect(there, "%s names 0x%" PRIx64, kvms_law_name(f->law), f->object);
}

Test(laws, are_named_once_and_ascending)
{
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		cr_assert(law == 0 || strcmp(kvms_law_name(law - 1), kvms_law_name(law)) < 0, "%s", kvms_law_name(law));
		cr_assert_gt(strlen(kvms_law_text(law)), 10, "%s says nothing", kvms_law_name(law));
	}
	/* behind them, what is not a law of a state but of a step */
	cr_assert_str_eq(kvms_law_name(kvms_law_max()), "op.totals");
	cr_assert_str_eq(kvms_law_name(kvms_law_max() + 1), "op.outcome_set");
	cr_assert_null(kvms_law_name(kvms_law_max() + 2));
	cr_assert_null(kvms_law_text(UINT32_MAX));
	cr_assert_leq(kvms_law_max() + 2, 256, "the bit set of fired laws is too small");
}

Test(laws, each_has_a_damage_that_breaks_it)
{
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		bool found = false;

		for (size_t i = 0; i < KIT_COUNT(law_cases); i++)
			found |= strcmp(law_cases[i].law, kvms_law_name(law)) == 0;
		cr_expect(found, "no test makes %s fire", kvms_law_name(law));
	}
}

Test(laws, fire_alone_in_a_full_check)
{
	for (size_t i = 0; i < KIT_COUNT(law_cases); i++) {
		const struct law_case *c = &law_cases[i];
		struct kvms *s = base_new();
		struct kvms_findings findings;

		c->damage(s);
		cr_expect(!kvms_check_all(s, &findings), "%s: nothing found", c->law);
		cr_expect_str_eq(kit_fired(&findings), c->full, "case %zu, %s:\n  have %s\n  want %s (%s)", i, c->law,
				 kit_fired(&findings), c->full, c->why);
		cr_expect(findings.count > 0 && findings.count <= findings.total);
		for (unsigned k = 0; k < findings.count; k++)
			names_an_object(s, &findings.at[k]);
		/* the request tells the same */
		const char *want = c->full;
		char listed[400] = "ok inv=[";
		for (size_t n = strlen(listed); *want != '\0'; n++, want++)
			listed[n] = *want == ' ' ? ',' : *want, listed[n + 1] = '\0';
		strcat(listed, "]");
		cr_expect_str_eq(kit_ask(s, "check"), listed, "case %zu, %s: %s", i, c->law, kit_ask(s, "check"));
		kvms_free(&s);
	}
}

/* The same damage as part of a step: what is in the undo log is judged, then all of it goes back. */
Test(laws, fire_for_what_a_step_touched_and_rolling_back_repairs_it)
{
	for (size_t i = 0; i < KIT_COUNT(law_cases); i++) {
		const struct law_case *c = &law_cases[i];
		const char *want = c->touched != NULL ? c->touched : c->full;
		struct kvms *s = base_new();
		struct kvms_findings findings = { .total = 0 };
		uint64_t visible = kit_visible(s);

		if (*want != '\0') { /* the others are damaged behind the back of the undo log */
			undo_begin(s);
			c->damage(s);
			laws_touched(s, &findings);
			cr_expect_str_eq(kit_fired(&findings), want, "case %zu, %s:\n  have %s\n  want %s", i, c->law,
					 kit_fired(&findings), want);
			undo_rollback(s);
			cr_expect_eq(kit_visible(s), visible, "case %zu, %s: rolling back left something", i, c->law);
			kit_sound(s);
		}
		kvms_free(&s);
	}
}

Test(laws, hold_in_a_store_that_nobody_damaged)
{
	struct kvms *s = base_new();
	struct kvms_findings findings;

	cr_assert(kvms_check_all(s, &findings));
	cr_assert_eq(findings.total, 0);
	cr_assert_eq(findings.count, 0);
	cr_assert_str_eq(kit_fired(&findings), "");
	kit_see(s, "ok inv=ok", "check");
	kvms_free(&s);
}

Test(laws, name_offenders_up_to_the_limit_and_count_all)
{
	struct kvms *s = base_new();
	struct kvms_findings findings;

	for (uint64_t i = 0; i < 100; i++)
		slot_claim(s, 0x60 + i, USAGE_FRAME, KIND_UNTYPED, 0, 1);
	cr_assert(!kvms_check_all(s, &findings));
	cr_assert_eq(findings.total, 100);
	cr_assert_eq(findings.count, KVMS_FINDINGS_MAX);
	for (unsigned i = 0; i < findings.count; i++) {
		cr_assert_eq(findings.at[i].law, law_number("acct.live_has_user"));
		cr_assert_eq(findings.at[i].object, 0x60 + i);
	}
	kvms_free(&s);
}

/* A store with several kinds of damage: all of them are told, none hides another. */
Test(laws, are_all_judged_when_several_are_broken)
{
	struct kvms *s = base_new();
	struct kvms_findings findings;

	count_above_max(s);
	area_reference(s);
	mmio_in_memory(s);
	leaf_with_ignored_bit(s);
	slot_past_memory(s);
	kvms_check_all(s, &findings);
	cr_assert_str_eq(kit_fired(&findings),
			 "alloc.mmio_blocks area.refs pt.word_canonical region.slot_domain slot.rc_legal");
	cr_assert_eq(findings.total, 5);
	kvms_free(&s);
}

/* What a check can no longer walk it reports, and does not follow. */
Test(laws, about_a_root_that_is_none_are_told_without_a_walk)
{
	struct kvms *s = base_new();
	struct kvms_findings findings;

	root_is_no_node(s);
	cr_assert(!kvms_check_all(s, &findings));
	cr_assert_not_null(strstr(kit_fired(&findings), "pt.child_is_node"));
	kvms_free(&s);
	s = base_new();
	s->live.kernel_root = UINT64_C(1) << 40;
	cr_assert(!kvms_check_all(s, &findings));
	cr_assert_not_null(strstr(kit_fired(&findings), "pt.child_is_node"));
	kvms_free(&s);
}

/* ---- Steps ------------------------------------------------------------------------------------ */

static void
frame_is_kernel(struct kvms *s)
{
	usage_change(s, 0x3000, USAGE_KERNEL, KIND_BOOT);
}

static void
mapped_frame_is_kernel(struct kvms *s)
{
	usage_change(s, 0x2000, USAGE_KERNEL, KIND_BOOT);
}

static void
frame_is_unused(struct kvms *s)
{
	usage_change(s, 0x3000, USAGE_UNUSED, KIND_NONE);
	rc_set(s, 0x3000, KVMS_RC_UNUSED);
}

static void
frame_is_unused_with_meta(struct kvms *s)
{
	frame_is_unused(s);
	slot_of(s, 0x3000)->meta = 5;
	slot_sync(s, 3);
}

static void
frame_is_unused_but_counted(struct kvms *s)
{
	usage_change(s, 0x3000, USAGE_UNUSED, KIND_NONE);
}

static void
count_illegal(struct kvms *s)
{
	rc_set(s, 0x3000, 105);
}

static void
block_inside_block(struct kvms *s)
{
	extent_insert(s, SET_FREE_VA, KIT_VMALLOC + 0x100000, KIT_VMALLOC + 0x101000, 0);
}

static void
block_over_area(struct kvms *s)
{
	extent_insert(s, SET_FREE_VA, AREA2, AREA2 + 0x3000, 0);
}

static void
blocks_touch_behind_area(struct kvms *s)
{
	uint64_t end = block_at(s, AREA3 + 0x2000)->end;

	extent_set_end(s, SET_FREE_VA, AREA3 + 0x2000, AREA3 + 0x4000);
	extent_insert(s, SET_FREE_VA, AREA3 + 0x4000, end, 0);
}

static void
area_not_in_index(struct kvms *s)
{
	extent_remove(s, SET_AREAS, AREA1);
}

static void
area_is_outside(struct kvms *s)
{
	struct area *a = record_mut(s, KVMS_ID_AREA, 3);

	extent_remove(s, SET_AREAS, a->start);
	a->start = OUTSIDE;
	a->end = OUTSIDE + 0x2000;
	extent_insert(s, SET_AREAS, a->start, a->end, 3);
}

static void
node_misplaced(struct kvms *s)
{
	slot_of(s, node_of(s, BOOT, 1))->place_va += page_size(4);
}

static void
node_unique_count(struct kvms *s)
{
	rc_set(s, node_of(s, BOOT, 1), KVMS_RC_UNIQUE);
}

#define NOBODY "frame_clone frame=4"

/*
 * Damage that no check has seen yet, and a step that touches the object: the
 * step must not go through.  Laws that are not here judge words or fields that
 * every step writes afresh, or that none touches; the table below says which.
 */
static const struct step_case {
	damage *damage;
	const char *op;
	const char *fired;
} step_cases[] = {
	{ frame_is_kernel, "frame_clone frame=4", "acct.handle_on_frame acct.reserved_rc_one" },
	{ count_too_high, "frame_drop frame=4", "acct.live_has_user" },
	{ count_too_high, "frame_clone frame=4", "acct.rc_exact" },
	{ unique_with_handle, "kvirt_map_frames_into area=1 va=0xffffc00000000000 frames=[4] prop=rw:wb",
	  "acct.rc_exact acct.unique_has_no_users acct.unique_one_owner pt.tracked_leaf" },
	{ frame_is_unused, "kvirt_map_frames_into area=1 va=0xffffc00000000000 frames=[4] prop=rw:wb",
	  "acct.unused_has_no_users pt.tracked_leaf" },
	{ frame_is_unused_with_meta, "kvirt_map_frames_into area=1 va=0xffffc00000000000 frames=[4] prop=rw:wb",
	  "acct.unused_has_no_users pt.tracked_leaf slot.unused_clean" },
	{ frame_is_unused_but_counted, "frame_clone frame=4", "acct.handle_on_frame slot.usage_unused" },
	{ block_inside_block, "kvirt_reserve area_size=0x1000",
	  "alloc.blocks alloc.partition" }, /* it is touched too, and tiles with nothing */
	{ blocks_touch_behind_area, "kvirt_unreserve area=3", "alloc.coalesced" },
	{ block_too_short, "kvirt_reserve area_size=0x1000", "alloc.partition" },
	{ tracked_boot_leaf, "boot_protect_range start=0xffff800000003000 end=0xffff800000004000 clear=w",
	  "area.boot_leaves" },
	{ area_inside_area, "kvirt_split area=1 offset=0x1000", "area.disjoint" },
	{ block_over_area, "kvirt_reserve_at start=0xffffc00000201000 area_size=0x1000",
	  "alloc.partition area.disjoint" }, /* what is left of the block ends inside area 2 */
	{ area_not_in_index, "kvirt_protect_range area=1 start=0xffffc00000001000 end=0xffffc00000002000 clear=w",
	  "area.owns_leaves" },
	{ area_is_outside, "kvirt_split area=3 offset=0x1000", "area.range" },
	{ node_count_2, "kvirt_unmap_range area=1 start=0xffffc00000001000 end=0xffffc00000002000", "meta.node_rc" },
	{ node_record_on_frame, "frame_clone frame=4", "meta.node_slot" },
	{ children_miscounted, "kvirt_unmap_range area=1 start=0xffffc00000001000 end=0xffffc00000002000",
	  "pt.count_consistent" },
	{ leaf_of_1_gib, "boot_protect_range start=0xffff900000000000 end=0xffff900040000000 clear=w",
	  "pt.leaf_level" },
	{ node_misplaced, "boot_map va=0xffff800000005000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb",
	  "pt.no_orphan" },
	{ node_stray, "boot_map va=0xffff800000005000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb", "pt.not_stray" },
	{ mapped_frame_is_kernel, "kvirt_protect_range area=1 start=0xffffc00000002000 end=0xffffc00000003000 clear=w",
	  "pt.tracked_leaf" },
	{ handle_unaligned, "frame_clone frame=4", "region.frame_valid" },
	{ kind_boot_on_frame, "frame_clone frame=4", "slot.kind_matches_usage" },
	{ shared_and_listed, "frame_clone frame=4", "slot.listed_is_link slot.shared_not_listed" },
	{ count_illegal, "frame_drop frame=4", "slot.rc_legal" },
	{ node_unique_count, "boot_map va=0xffff800000005000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb",
	  "meta.node_rc slot.unique_is_frame" },
};

static const struct {
	const char *law;
	const char *why;
} not_by_steps[] = {
	{ "alloc.mmio_blocks", "no operation of this build takes I/O addresses" },
	{ "area.refs", "an area with references is refused to every op that would change it" },
	{ "pt.child_is_node", "a step writes table words to nodes it has just made" },
	{ "pt.child_level", "the same" },
	{ "pt.kernel_top_nodes", "no step takes a word of the root away" },
	{ "pt.leaf_aligned", "a step writes only what it has encoded" },
	{ "pt.level1_has_no_child", "the same" },
	{ "pt.node_unique", "the same as pt.child_is_node" },
	{ "pt.top_range", "no step goes to the user half of the kernel table" },
	{ "pt.word_canonical", "a step writes only what it has encoded" },
	{ "region.ids_below_next", "full checks only" },
	{ "region.memory_bounds", "full checks only" },
	{ "region.segment_valid", "a segment is written when it is made, and not again" },
	{ "region.slot_domain", "full checks only" },
	{ "self.counters", "full checks only" },
	{ "self.digest", "full checks only" },
};

/* After a step that broke a law: nothing has happened, no write goes through, everything can still be asked. */
static void
must_be_broken(struct kvms *s, const char *op, const char *fired)
{
	uint64_t visible = kit_visible(s), digest = kvms_digest(s), steps = kvms_steps(s), total;
	struct kvms_outcome out = { .name = O_ok };

	cr_expect_eq(kit_status(s, "%s", op), KVMS_BROKEN, "%s went through", op);
	cr_expect_str_eq(kit_fired(kvms_broken(s)), fired, "%s:\n  have %s\n  want %s", op, kit_fired(kvms_broken(s)),
			 fired);
	total = kvms_broken(s)->total;
	cr_expect_gt(total, 0);
	cr_expect_eq(kvms_digest(s), digest, "%s: the digest changed", op);
	cr_expect_eq(kit_visible(s), visible, "%s: something changed", op);
	cr_expect_eq(kvms_steps(s), steps);
	/* every later write, also one that would be refused and one that is harmless */
	cr_expect_eq(kit_status(s, "%s", op), KVMS_BROKEN);
	cr_expect_eq(kit_status(s, "frame_from_unused paddr=0x70000"), KVMS_BROKEN);
	cr_expect_eq(kit_status(s, "frame_drop frame=999"), KVMS_BROKEN);
	cr_expect_eq(kit_status(s, "kvirt_range area=1"), KVMS_BROKEN);
	/* a dry run may answer, but what broke stays on record */
	struct kvms_op harmless = kit_op("kvirt_range area=1");
	(void)kvms_dry_run(s, &harmless, &out);
	cr_expect_str_eq(kit_fired(kvms_broken(s)), fired);
	cr_expect_eq(kvms_broken(s)->total, total);
	cr_expect_eq(kit_visible(s), visible);
	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		struct kvms_op request;

		kvms_op_init(&request, kvms_request_row(code));
		cr_expect_eq(kvms_inspect(s, &request, &out), KVMS_DONE, "%s", kvms_request_row(code)->name);
	}
	cr_expect_eq(kit_visible(s), visible);
	cr_expect_eq(kvms_digest(s), digest);
	kvms_outcome_free(&out);
}

Test(laws, broken_by_a_step_stop_it_and_every_write_after_it)
{
	for (size_t i = 0; i < KIT_COUNT(step_cases); i++) {
		struct kvms *s = base_new();

		step_cases[i].damage(s);
		must_be_broken(s, step_cases[i].op, step_cases[i].fired);
		kvms_free(&s);
	}
}

Test(laws, broken_by_steps_are_all_but_those_that_no_step_can_break)
{
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		const char *name = kvms_law_name(law);
		unsigned stepped = 0, excused = 0;

		for (size_t i = 0; i < KIT_COUNT(step_cases); i++)
			stepped += strstr(step_cases[i].fired, name) != NULL;
		for (size_t i = 0; i < KIT_COUNT(not_by_steps); i++)
			excused += strcmp(not_by_steps[i].law, name) == 0;
		cr_expect((stepped > 0) != (excused > 0), "%s: %u steps break it, %u reasons why none can", name,
			  stepped, excused);
	}
}

/* With the dial on full, any step at all finds any damage; with the dial off, none does. */
Test(laws, are_found_by_any_step_under_full_checks_and_by_none_without)
{
	for (size_t i = 0; i < KIT_COUNT(law_cases); i++) {
		const struct law_case *c = &law_cases[i];
		struct kvms *s = base_new();

		c->damage(s);
		kvms_set_check(s, KVMS_CHECK_OFF, 1);
		kit_ok(s, "kvirt_range area=1");
		kvms_set_check(s, KVMS_CHECK_FULL, 1);
		must_be_broken(s, "kvirt_range area=2", c->full);
		kvms_free(&s);
	}
}

Test(laws, are_checked_in_full_at_every_nth_step)
{
	struct kvms *s = base_new();
	uint64_t first = kvms_steps(s) / 10 * 10 + 10;

	kvms_set_check(s, KVMS_CHECK_FULL, 10);
	area_reference(s); /* area 1; no step here touches it */
	while (kvms_steps(s) + 1 < first)
		kit_ok(s, "kvirt_range area=2");
	cr_assert_eq(kit_status(s, "kvirt_range area=2"), KVMS_BROKEN);
	cr_assert_str_eq(kit_fired(kvms_broken(s)), "area.refs");
	kvms_free(&s);
}

Test(laws, are_not_judged_for_a_step_that_is_refused)
{
	struct kvms *s = base_new();

	kvms_set_check(s, KVMS_CHECK_FULL, 1);
	area_reference(s);
	kit_want(s, "pre area_in_use", "kvirt_drop area=1");
	kit_want(s, "pre unknown_frame", "frame_drop frame=99");
	cr_assert_eq(kit_status(s, "kvirt_range area=1"), KVMS_BROKEN);
	kvms_free(&s);
}

/* ---- Laws of the step itself ---------------------------------------------------------------------- */

Test(op_laws, totals_that_move_otherwise_than_the_reply_says_are_found)
{
	struct kvms *s = base_new();

	/* the frame ends as a Kernel one, of which the reply knows nothing; the slot is in order afterwards */
	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	frame_is_kernel(s);
	must_be_broken(s, "frame_drop frame=4", "op.totals");
	cr_assert_eq(kvms_broken(s)->total, 2);
	cr_assert_eq(kvms_broken(s)->at[0].object, TOTAL_INDEX(frame));
	cr_assert_eq(kvms_broken(s)->at[1].object, TOTAL_INDEX(kernel));
	kvms_free(&s);
}

Test(op_laws, an_outcome_outside_the_row_is_found_whatever_its_class)
{
	static const struct {
		const char *op;
		unsigned name;
	} cases[] = {
		{ "frame_clone frame=4", O_ok },
		{ "frame_clone frame=99", O_unknown_frame },
		{ "frame_from_unused paddr=0x1000", O_InUse },
		{ "kvirt_reserve area_size=0x1001", O_area_size_unaligned },
		{ "kvirt_map_frames area_size=0x1000 frames=[3,4] prop=rw:wb", O_frames_exceed_area },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct kvms *s = base_new();
		unsigned code = kit_op("%s", cases[i].op).code;

		s->outs[code][cases[i].name / 64] &= ~(UINT64_C(1) << cases[i].name % 64);
		must_be_broken(s, cases[i].op, "op.outcome_set");
		cr_assert_eq(kvms_broken(s)->at[0].object, code);
		cr_assert_eq(kvms_broken(s)->at[0].have, cases[i].name);
		kvms_free(&s);
	}
}

Test(op_laws, a_dry_run_breaks_nothing)
{
	struct kvms *s = base_new();
	struct kvms_outcome out = { .name = O_ok };
	struct kvms_op op = kit_op("frame_clone frame=4");

	count_too_high(s);
	cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_DONE);
	kit_ok(s, "kvirt_range area=1");
	cr_assert_eq(kit_status(s, "frame_clone frame=4"), KVMS_BROKEN);
	kvms_outcome_free(&out);
	kvms_free(&s);
}
