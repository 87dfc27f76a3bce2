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

/*
 * A second store, in which user spaces are at work.  Space 1 runs on CPUs 0
 * and 1, space 2 nowhere, CPU 2 runs none.  Cursor 1 stands at USER + 0x2000;
 * CPU 1 has not yet flushed a page and a whole node that were taken away.
 * Frame 0x5000 is mapped last in the node that is left, at USER + 0x6000.
 */
#define USER UINT64_C(0x200000)        /* cursor 1: two nodes of level 1, of which the second is detached */
#define USER2 UINT64_C(0x40000000)     /* cursor 2, read-only: one page, standing at its end */
#define DEVICE UINT64_C(0x10000000)    /* I/O handle 1, 2 pages, mapped; handle 3 is the second of them, mapped again */
#define DEVICE2 UINT64_C(0x10010000)   /* I/O handle 2, unmapped again: only the entry is left; handle 4 is unused */
#define PAGE_CACHED (USER + 0x0000)    /* frame 0x2000, in the TLBs of CPU 0 and 1 */
#define PAGE_TAKEN (USER + 0x1000)     /* frame 0x3000, in CPU 1's queue and TLB, with a handle */
#define PAGE_DEVICE (USER + 0x2000)
#define NODE_TAKEN (USER + 0x200000)   /* frame 0x6000, in the detached node */
#define LINK(n) (UINT64_C(0x100000) + (n) * PAGE) /* list 1: 0, 1, 2; list 2: 3; loose: 4 */

static struct kvms *
user_new(void)
{
	struct kvms *s = kit_new("max_paddr=0x400000 rc_max=100 ncpu=3 vmalloc=[0x%" PRIx64 "..0x%" PRIx64 "]",
				 KIT_VMALLOC, KIT_VMALLOC + 0x800000);

	kit_ok(s, "frame_from_unused paddr=0x2000");
	kit_ok(s, "frame_from_unused paddr=0x3000");
	kit_ok(s, "frame_from_unused paddr=0x5000");
	kit_ok(s, "frame_from_unused paddr=0x6000");
	kit_ok(s, "frame_clone frame=2");
	kit_ok(s, "iomem_acquire start=0x%" PRIx64 " end=0x%" PRIx64, DEVICE, DEVICE + 0x2000);
	kit_want(s, "ok area=2 start=0xffffc00000000000 end=0xffffc00000002000",
		 "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x2000", KIT_VMALLOC);
	kit_ok(s, "iomem_acquire start=0x%" PRIx64 " end=0x%" PRIx64, DEVICE2, DEVICE2 + 0x1000);
	kit_ok(s, "iomem_slice iomem=1 start=0x1000 end=0x2000");
	kit_ok(s, "iomem_slice iomem=1 start=0x800 end=0x1000");
	kit_ok(s, "vm_space_new");
	kit_ok(s, "vm_space_new");
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cpu_set cpu=1");
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cpu_set cpu=0");
	kit_ok(s, "cursor_open_mut vm_space=1 start=0x%" PRIx64 " end=0x%" PRIx64, USER, USER + 0x400000);
	kit_ok(s, "cursor_map cursor=1 frame=1 prop=rw:wb+user");
	kit_ok(s, "cursor_map cursor=1 frame=2 prop=rw:wb+user");
	kit_ok(s, "cursor_map_iomem cursor=1 iomem=1 prop=rw:uc+user len=0x2000");
	kit_ok(s, "cursor_map_iomem cursor=1 iomem=2 prop=rw:uc+user len=0x1000");
	kit_ok(s, "cursor_map_iomem cursor=1 iomem=3 prop=rw:uc+user len=0x1000");
	kit_ok(s, "cursor_map cursor=1 frame=3 prop=rw:wb+user");
	kit_ok(s, "cursor_jump cursor=1 va=0x%" PRIx64, NODE_TAKEN);
	kit_ok(s, "cursor_map cursor=1 frame=4 prop=rw:wb+user");
	kit_ok(s, "access cpu=1 va=0x%" PRIx64, PAGE_CACHED);
	kit_ok(s, "access cpu=1 va=0x%" PRIx64, PAGE_TAKEN);
	kit_ok(s, "cursor_jump cursor=1 va=0x%" PRIx64, USER + 0x4000);
	kit_ok(s, "cursor_unmap cursor=1 len=0x1000");
	kit_ok(s, "cursor_jump cursor=1 va=0x%" PRIx64, PAGE_TAKEN);
	kit_ok(s, "cursor_unmap cursor=1 len=0x1000");
	kit_ok(s, "cursor_jump cursor=1 va=0x%" PRIx64, NODE_TAKEN);
	kit_ok(s, "cursor_unmap cursor=1 len=0x200000");
	kit_ok(s, "access cpu=0 va=0x%" PRIx64, PAGE_CACHED);
	kit_ok(s, "flush_issue cursor=1 kind=range start=0x%" PRIx64 " end=0x%" PRIx64, USER, USER + 0x3000);
	kit_ok(s, "cursor_jump cursor=1 va=0x%" PRIx64, PAGE_DEVICE);
	kit_ok(s, "cursor_peek cursor=1");
	kit_ok(s, "cursor_open vm_space=1 start=0x%" PRIx64 " end=0x%" PRIx64, USER2, USER2 + 0x1000);
	kit_ok(s, "cursor_find_next cursor=2 len=0x1000");
	kit_ok(s, "reader_new vm_space=1 va=0x%" PRIx64 " len=0x1000", USER);
	kit_ok(s, "reader_new_kernel va=0x%" PRIx64 " len=0x1000", KIT_VMALLOC);
	kit_ok(s, "writer_new_kernel va=0x%" PRIx64 " len=0x1000", KIT_VMALLOC);
	for (unsigned i = 0; i < 5; i++)
		kit_ok(s, "unique_from_unused paddr=0x%" PRIx64 " kind=link", LINK(i));
	for (unsigned i = 0; i < 3; i++)
		kit_ok(s, "list_new");
	for (unsigned i = 1; i <= 3; i++)
		kit_ok(s, "list_push_back list=1 unique=%u", i);
	kit_ok(s, "list_push_back list=2 unique=4");
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

/* The node of "level" on the way to va in a table. */
static uint64_t
node_in(const struct kvms *s, uint64_t table, uint64_t va, unsigned level)
{
	uint64_t node = table_root(s, table);

	for (unsigned l = s->paging.levels; l > level; l--) {
		uint64_t word = word_at(s, word_paddr(node, entry_index(va, l)));

		cr_assert_eq(pte_kind(&s->paging, word, l), PTE_TABLE);
		node = pte_table_paddr(&s->paging, word);
	}
	return node;
}

static uint64_t
node_of(const struct kvms *s, uint64_t va, unsigned level)
{
	return node_in(s, KERNEL_TABLE, va, level);
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

/* Area 3 ends, and nobody gets its addresses. */
static void
area_lost(struct kvms *s)
{
	extent_remove(s, SET_AREAS, AREA3);
	record_end(s, KVMS_ID_AREA, 3);
	s->live.totals.areas--;
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

/* Frame 0x1000 is said to be mapped a page further on. */
static void
mapping_elsewhere(struct kvms *s)
{
	s->slot[0x1].place_va += PAGE;
}

/* ... and nowhere, frame 0x2000 twice. */
static void
mapping_of_another(struct kvms *s)
{
	rmap_remove(s, 0x1, 0, AREA1 + 0x1000);
	rmap_add(s, 0x2, 0, AREA1 + 0x1000);
}

/* A chain that leads back to itself, and one that leads nowhere. */
static void
mapping_loop(struct kvms *s)
{
	struct mapping *m;

	rmap_add(s, 0x2, 0, AREA1);
	m = pool_raw(s, POOL_MAPPING, s->slot[0x2].more);
	m->next = m->chain = s->slot[0x2].more;
	s->slot[0x1].place_va += PAGE; /* so that somebody looks for what is in no chain */
}

static void
mapping_nowhere(struct kvms *s)
{
	s->slot[0x1].more = 0x1000000;
}

static void
mapping_too_much(struct kvms *s)
{
	rmap_add(s, 0x2, 0, AREA1);
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

/* ---- Damage to the second store ------------------------------------------------------------- */

static struct cursor_record *
cursor_of(struct kvms *s, uint64_t id)
{
	return record_mut(s, KVMS_ID_CURSOR, id);
}

static struct cpu *
cpu_of(struct kvms *s, uint64_t number)
{
	return record_mut(s, REC_CPU, number + 1);
}

static struct vm_space *
space_of(struct kvms *s, uint64_t id)
{
	return record_mut(s, KVMS_ID_VM_SPACE, id);
}

static struct list *
list_of(struct kvms *s, uint64_t id)
{
	return record_mut(s, KVMS_ID_LIST, id);
}

static struct iomem *
iomem_of(struct kvms *s, uint64_t id)
{
	return record_mut(s, KVMS_ID_IOMEM, id);
}

/* The n-th entry of space 1's I/O list, from 1. */
static struct io_entry *
entry_of(struct kvms *s, unsigned n)
{
	uint64_t id = VM_SPACE(s, 1)->io_first;

	while (--n > 0)
		id = IO_ENTRY(s, id)->next;
	return record_mut(s, REC_IO_ENTRY, id);
}

/* What a CPU has cached at va. */
static struct tlb_entry *
cached(struct kvms *s, uint64_t cpu, uint64_t va)
{
	const struct extent *e = extent_below(s, (enum extent_set)(SET_TLB + cpu), va);

	cr_assert(e != NULL && va < e->end);
	return record_mut(s, REC_TLB, e->id);
}

/* What CPU 1's queue keeps, the first or the last; it is part of the CPU's element. */
static struct kept *
kept_of(struct kvms *s, bool last)
{
	struct cpu *cpu = cpu_of(s, 1);

	return record_mut(s, REC_KEPT, last ? cpu->kept_last : cpu->kept_first);
}

/* The detached node. */
static uint64_t
stray_node(const struct kvms *s)
{
	uint64_t node = KEPT(s, CPU(s, 1)->kept_last)->paddr;

	cr_assert(s->slot[node / PAGE].bits & SLOT_STRAY);
	return node;
}

/* The same as put(), in space 1. */
static void
put_user(struct kvms *s, uint64_t va, unsigned level, uint64_t word)
{
	entry_set(s, node_in(s, 1, va, level), entry_index(va, level), word);
}

static void
cursor_end_unaligned(struct kvms *s)
{
	cursor_of(s, 1)->end += 8;
}

static void
cursor_into_the_kernel_half(struct kvms *s)
{
	struct cursor_record *c = cursor_of(s, 2);

	c->end = UINT64_C(0x0001000000000000);
}

static void
flusher_of_a_reader(struct kvms *s)
{
	((struct flusher *)record_put(s, REC_FLUSHER, 2))->sent = 2;
}

static void
flusher_of_32_pages(struct kvms *s)
{
	struct flusher *f = record_mut(s, REC_FLUSHER, 1);

	f->stack.op[0].pages = FLUSH_PAGES;
}

static void
flusher_of_all_and_one(struct kvms *s)
{
	((struct flusher *)record_mut(s, REC_FLUSHER, 1))->stack.all = 1;
}

static void
flusher_sent_to_no_cpu(struct kvms *s)
{
	((struct flusher *)record_mut(s, REC_FLUSHER, 1))->sent |= 1 << 5;
}

static void
range_past_guard(struct kvms *s)
{
	cursor_of(s, 2)->end = USER2 + 0x201000;
}

static void
range_past_guard_with_nodes(struct kvms *s)
{
	cursor_of(s, 1)->end = UINT64_C(0x40001000);
}

static void
guard_in_no_memory(struct kvms *s)
{
	cursor_of(s, 2)->path[1] = UINT64_C(1) << 40;
}

static void
guard_of_another(struct kvms *s)
{
	struct cursor_record *c = cursor_of(s, 2);

	c->va = c->start;
	c->path[1] = node_in(s, 1, USER, 1);
}

static void
cursor_level_above_guard(struct kvms *s)
{
	cursor_of(s, 1)->level = 3;
}

static void
cursor_level_0(struct kvms *s)
{
	cursor_of(s, 2)->level = 0;
}

static void
guard_above_root(struct kvms *s)
{
	cursor_of(s, 1)->guard_level = 5;
}

static void
path_misplaced(struct kvms *s)
{
	cursor_of(s, 1)->path[1] = node_in(s, 1, USER2, 1);
}

static void
path_ends(struct kvms *s)
{
	cursor_of(s, 1)->path[1] = 0;
}

static void
space_without_handle(struct kvms *s)
{
	space_of(s, 1)->handle = 0;
}

static void
cursor_of_no_space(struct kvms *s)
{
	cursor_of(s, 1)->space = 99;
}

static void
cursor_behind_its_end(struct kvms *s)
{
	cursor_of(s, 1)->va = USER + 0x401000;
}

static void
cursor_unaligned(struct kvms *s)
{
	cursor_of(s, 1)->va += 8;
}

static void
iomem_past_area(struct kvms *s)
{
	iomem_of(s, 1)->offset = 0x1000;
}

static void
iomem_offset_overflows(struct kvms *s)
{
	iomem_of(s, 1)->offset = UINT64_MAX - 0xfff;
}

static void
iomem_of_another_area(struct kvms *s)
{
	iomem_of(s, 4)->area = 2;
}

static void
iomem_of_no_area(struct kvms *s)
{
	iomem_of(s, 4)->area = 99;
}

static void
iomem_in_memory(struct kvms *s)
{
	iomem_of(s, 4)->paddr = 0x7000;
}

static void
iomem_across_windows(struct kvms *s)
{
	iomem_of(s, 4)->paddr = 4 * GiB - 0x100;
}

static void
iomem_overflows(struct kvms *s)
{
	iomem_of(s, 4)->paddr = UINT64_MAX - 0xff;
}

static void
kernel_writer_in_user_half(struct kvms *s)
{
	((struct vm_io *)record_mut(s, KVMS_ID_WRITER, 1))->va = USER;
}

static void
kernel_reader_past_the_end(struct kvms *s)
{
	((struct vm_io *)record_mut(s, KVMS_ID_READER, 2))->end = KERNEL_END_VADDR + 1;
}

static void
user_reader_infallible(struct kvms *s)
{
	((struct vm_io *)record_mut(s, KVMS_ID_READER, 1))->fallible = 0;
}

static void
user_reader_in_kernel_half(struct kvms *s)
{
	((struct vm_io *)record_mut(s, KVMS_ID_READER, 1))->end = KIT_VMALLOC;
}

static void
user_reader_of_no_space(struct kvms *s)
{
	((struct vm_io *)record_mut(s, KVMS_ID_READER, 1))->space = 99;
}

static void
reader_behind_its_end(struct kvms *s)
{
	struct vm_io *io = record_mut(s, KVMS_ID_READER, 1);

	io->va = io->end + 1;
}

static void
list_cursor_without_checkout(struct kvms *s)
{
	list_of(s, 2)->index = 1;
}

static void
list_cursor_past_ghost(struct kvms *s)
{
	struct list *l = list_of(s, 1);

	l->checked_out = 1;
	l->index = 4;
}

static void
loose_link_tagged(struct kvms *s)
{
	slot_of(s, LINK(4))->owner = LIST(s, 1)->tag;
}

static void
link_untagged(struct kvms *s)
{
	slot_of(s, LINK(3))->owner = 0;
}

static void
link_of_no_list(struct kvms *s)
{
	slot_of(s, LINK(3))->link_list = 99;
}

static void
list_too_long(struct kvms *s)
{
	list_of(s, 1)->length = 4;
}

static void
list_too_long_and_round(struct kvms *s)
{
	list_of(s, 1)->length = 1000;
	slot_of(s, LINK(2))->link_next = LINK(0) / PAGE + 1;
}

static void
list_leads_out_of_memory(struct kvms *s)
{
	slot_of(s, LINK(2))->link_next = UINT64_C(1) << 40;
}

static void
link_with_other_tag(struct kvms *s)
{
	slot_of(s, LINK(3))->owner = 77;
}

static void
link_is_shared(struct kvms *s)
{
	rc_set(s, LINK(3), 1);
}

static void
list_untagged(struct kvms *s)
{
	list_of(s, 2)->tag = 0;
}

static void
tag_twice(struct kvms *s)
{
	list_of(s, 2)->tag = LIST(s, 1)->tag;
	slot_of(s, LINK(3))->owner = LIST(s, 1)->tag;
}

static void
tag_of_the_future(struct kvms *s)
{
	list_of(s, 3)->tag = s->live.next_id[KVMS_ID_LIST_TAG];
}

static void
link_without_previous(struct kvms *s)
{
	slot_of(s, LINK(2))->link_prev = 0;
}

static void
link_out_of_memory(struct kvms *s)
{
	slot_of(s, LINK(2))->link_prev = UINT64_C(1) << 40;
}

static void
locked_by_nobody(struct kvms *s)
{
	slot_of(s, VM_SPACE(s, 2)->root)->owner = 99;
}

static void
stray_locked(struct kvms *s)
{
	slot_of(s, stray_node(s))->owner = 1;
}

static void
node_unlocked(struct kvms *s)
{
	slot_of(s, node_in(s, 1, USER, 1))->owner = 0;
}

/* The guard of cursor 2. */
static void
guard_unlocked(struct kvms *s)
{
	slot_of(s, CURSOR(s, 2)->path[CURSOR(s, 2)->guard_level])->owner = 0;
}

static void
node_locked_too_much(struct kvms *s)
{
	slot_of(s, VM_SPACE(s, 1)->root)->owner = 1;
}

static void
stray_count_2(struct kvms *s)
{
	rc_set(s, stray_node(s), 2);
}

static void
root_count_without_cpu(struct kvms *s)
{
	rc_set(s, VM_SPACE(s, 1)->root, 1);
}

static void
detached_but_not_stray(struct kvms *s)
{
	slot_of(s, stray_node(s))->bits &= (uint8_t)~SLOT_STRAY;
}

static void
io_leaf_to_memory(struct kvms *s)
{
	put_user(s, PAGE_TAKEN, 1, leaf_word(s, 0x3000, 1, true));
}

static void
io_leaf_unlisted(struct kvms *s)
{
	put_user(s, PAGE_TAKEN, 1, leaf_word(s, 0x20000000, 1, true));
}

static void
entry_moved(struct kvms *s)
{
	entry_of(s, 1)->paddr = 0x20000000;
}

static void
large_user_leaf(struct kvms *s)
{
	put_user(s, NODE_TAKEN, 2, leaf_word(s, DEVICE, 2, true));
}

static void
user_root_without_kernel(struct kvms *s)
{
	word_set(s, word_paddr(VM_SPACE(s, 2)->root, 300), 0);
}

static void
user_root_of_another_kernel(struct kvms *s)
{
	word_set(s, word_paddr(VM_SPACE(s, 2)->root, 300), word_at(s, word_paddr(s->live.kernel_root, 301)));
}

static void
user_root_is_no_node(struct kvms *s)
{
	space_of(s, 2)->root = 0x3000;
}

static void
unique_unaligned(struct kvms *s)
{
	((struct unique *)record_mut(s, KVMS_ID_UNIQUE, 5))->paddr = LINK(4) + 8;
}

static void
cached_for_another_space(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->table = 2;
}

static void
cached_without_leaf(struct kvms *s)
{
	cached(s, 0, PAGE_CACHED)->paddr = 0x5000;
}

static void
leaf_gone_behind_cache(struct kvms *s)
{
	/* the frame stays alive by a handle */
	put_user(s, PAGE_CACHED, 1, 0);
	(void)handle_new(s, 0x2000);
}

static void
kept_frame_out_of_memory(struct kvms *s)
{
	struct slot *sl = slot_of(s, 0x3000);

	kept_of(s, false)->paddr = UINT64_C(1) << 40;
	sl->kept--;
	sl->rc1--;
}

static void
kept_frame_is_kernel(struct kvms *s)
{
	usage_change(s, 0x3000, USAGE_KERNEL, KIND_BOOT);
}

static void
kept_node_out_of_memory(struct kvms *s)
{
	kept_of(s, true)->paddr = UINT64_C(1) << 40;
}

static void
cached_unused_frame(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->paddr = 0x200000;
}

static void
cached_frame_out_of_memory(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->paddr = UINT64_C(1) << 40;
}

static void
queue_without_ipi(struct kvms *s)
{
	cpu_of(s, 1)->ipi = 0;
}

static void
queue_of_32_pages(struct kvms *s)
{
	struct cpu *cpu = cpu_of(s, 2);

	cpu->ipi = 1;
	cpu->queue.count = 2;
	cpu->queue.op[0].pages = 16;
	cpu->queue.op[1].pages = 16;
}

static void
queue_of_all_and_one(struct kvms *s)
{
	cpu_of(s, 1)->queue.count = 1;
}

static void
cached_between_pages(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->paddr += 8;
}

static void
cached_without_size(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->size = 0;
}

static void
cached_over_the_next(struct kvms *s)
{
	cached(s, 1, PAGE_CACHED)->size = 0x2000;
}

static void
cpu_on_no_space(struct kvms *s)
{
	cpu_of(s, 2)->active = 99;
}

static void
busy_cpu_on_no_space(struct kvms *s)
{
	cpu_of(s, 1)->active = 99;
}

static void
space_of_nobody(struct kvms *s)
{
	space_of(s, 2)->handle = 0;
}

static void
entry_twice(struct kvms *s)
{
	struct io_entry *e = entry_of(s, 2);

	e->paddr = entry_of(s, 3)->paddr;
	e->size = entry_of(s, 3)->size;
}

static void
entry_of_no_space(struct kvms *s)
{
	entry_of(s, 3)->space = 99;
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
	{ "alloc.partition", area_lost, "alloc.partition", NULL, "" },
	{ "area.boot_leaves", tracked_boot_leaf, "area.boot_leaves", NULL, "" },
	{ "area.disjoint", area_inside_area, "alloc.partition area.disjoint", NULL, "what overlaps does not tile" },
	{ "area.disjoint", area_at_a_leaf, "alloc.partition area.disjoint", NULL, "what overlaps does not tile" },
	{ "area.disjoint", area_over_next_area, "alloc.partition area.disjoint", NULL,
	  "the same, seen from the other side" },
	{ "area.owns_leaves", leaf_without_area, "area.owns_leaves", NULL, "" },
	{ "area.owns_leaves", large_leaf_past_area, "area.owns_leaves", NULL, "" },
	{ "area.range", empty_area_outside, "area.range", NULL, "" },
	{ "area.range", empty_area_unaligned, "area.range", NULL, "" },
	{ "area.refs", area_reference, "area.refs", "", "who names an area is counted in a full check only" },
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
	{ "self.counters", mapping_elsewhere, "self.counters", "", "looks at the whole store" },
	{ "self.counters", mapping_of_another, "self.counters", "", "looks at the whole store" },
	{ "self.counters", mapping_loop, "self.counters", "", "looks at the whole store" },
	{ "self.counters", mapping_nowhere, "self.counters", "", "looks at the whole store" },
	{ "self.counters", mapping_too_much, "self.counters", "", "looks at the whole store" },
	{ "self.counters", used_bit_too_much, "self.counters", "", "looks at the whole store" },
	{ "self.digest", sum_changed, "self.digest", "", "looks at the whole store" },
	{ "self.digest", word_changed_behind, "self.digest", "", "looks at the whole store" },
	{ "slot.kind_matches_usage", kind_boot_on_frame, "slot.kind_matches_usage", NULL, "" },
	{ "slot.listed_is_link", listed_untyped, "acct.unique_one_owner list.in_list_iff_listed slot.listed_is_link", NULL,
	  "no list has it, and nobody owns it" },
	{ "slot.rc_legal", count_0, "slot.rc_legal", NULL, "" },
	{ "slot.rc_legal", count_above_max, "slot.rc_legal", NULL, "" },
	{ "slot.shared_not_listed", shared_and_listed,
	  "list.in_list_iff_listed slot.listed_is_link slot.shared_not_listed", NULL,
	  "only a unique frame may be listed, and no list has it" },
	{ "slot.unique_is_frame", unique_mmio, "slot.unique_is_frame slot.usage_unused", NULL,
	  "MMIO counts as unused, and UNIQUE is not" },
	{ "slot.unused_clean", unused_with_meta, "slot.unused_clean", NULL, "" },
	{ "slot.unused_clean", unused_with_meta_only, "slot.unused_clean", NULL, "" },
	{ "slot.usage_unused", unused_with_count, "slot.usage_unused", NULL, "" },
};

/* The same for the second store. */
#define BESIDE "what is kept beside the record no longer fits"
#define ONLY_FULL "looks at more than what was touched"
static const struct law_case user_cases[] = {
	{ "acct.reserved_rc_one", kept_frame_is_kernel,
	  "acct.handle_on_frame acct.reserved_rc_one tlb.keep_alive tlb.live", "acct.handle_on_frame acct.reserved_rc_one",
	  "it has handles, a queue and a TLB; touched, only the slot" },
	{ "cursor.barrier", cursor_end_unaligned, "cursor.barrier", NULL, "" },
	{ "cursor.barrier", cursor_into_the_kernel_half, "cursor.barrier cursor.guard_covers", NULL,
	  "no guard spans both halves" },
	{ "cursor.flusher", flusher_of_a_reader, "cursor.flusher", NULL, "" },
	{ "cursor.flusher", flusher_of_32_pages, "cursor.flusher", NULL, "" },
	{ "cursor.flusher", flusher_of_all_and_one, "cursor.flusher", NULL, "" },
	{ "cursor.flusher", flusher_sent_to_no_cpu, "cursor.flusher", NULL, "" },
	{ "cursor.guard_covers", range_past_guard, "cursor.guard_covers", NULL, "" },
	{ "cursor.guard_covers", range_past_guard_with_nodes, "cursor.guard_covers lock.subtree_exact",
	  "cursor.guard_covers", "what the guard does not span has no nodes below it" },
	{ "cursor.guard_node", guard_in_no_memory, "cursor.guard_node", NULL, "" },
	{ "cursor.guard_node", guard_of_another, "cursor.guard_node cursor.path lock.subtree_exact", NULL,
	  "the guard is part of the path and of what is locked" },
	{ "cursor.levels", cursor_level_above_guard, "cursor.levels", NULL, "" },
	{ "cursor.levels", cursor_level_0, "cursor.levels", NULL, "" },
	{ "cursor.levels", guard_above_root, "cursor.levels", NULL, "" },
	{ "cursor.path", path_misplaced, "cursor.path", NULL, "" },
	{ "cursor.path", path_ends, "cursor.path", NULL, "" },
	{ "cursor.space_live", space_without_handle, "cursor.space_live io.user_handle", "", ONLY_FULL },
	{ "cursor.space_live", cursor_of_no_space, "cursor.guard_node cursor.path cursor.space_live self.counters",
	  "cursor.guard_node cursor.path cursor.space_live", "there is nothing to walk, and its old space counts it" },
	{ "cursor.va", cursor_behind_its_end, "cursor.va", NULL, "" },
	{ "cursor.va", cursor_unaligned, "cursor.va", NULL, "" },
	{ "io.iomem_area", iomem_past_area, "io.iomem_area", NULL, "" },
	{ "io.iomem_area", iomem_offset_overflows, "io.iomem_area", NULL, "" },
	{ "io.iomem_area", iomem_of_another_area, "area.refs io.iomem_area", "io.iomem_area",
	  "an area has one reference less, another one that it does not count" },
	{ "io.iomem_area", iomem_of_no_area, "area.refs io.iomem_area", "io.iomem_area",
	  "an area has one reference less" },
	{ "io.iomem_phys", iomem_in_memory, "io.iomem_phys", NULL, "" },
	{ "io.iomem_phys", iomem_across_windows, "io.iomem_phys", NULL, "" },
	{ "io.iomem_phys", iomem_overflows, "io.iomem_phys", NULL, "" },
	{ "io.kernel_range", kernel_writer_in_user_half, "io.kernel_range", NULL, "" },
	{ "io.kernel_range", kernel_reader_past_the_end, "io.kernel_range", NULL, "" },
	{ "io.user_handle", user_reader_infallible, "io.user_handle", NULL, "" },
	{ "io.user_handle", user_reader_in_kernel_half, "io.user_handle", NULL, "" },
	{ "io.user_handle", user_reader_of_no_space, "io.user_handle self.counters", "io.user_handle", BESIDE },
	{ "io.window", reader_behind_its_end, "io.window", NULL, "" },
	{ "list.cursor", list_cursor_without_checkout, "list.cursor", NULL, "" },
	{ "list.cursor", list_cursor_past_ghost, "list.cursor", NULL, "" },
	{ "list.in_list_iff_listed", loose_link_tagged, "list.in_list_iff_listed", NULL, "" },
	{ "list.in_list_iff_listed", link_untagged, "list.in_list_iff_listed list.slot", NULL, "no tag is a wrong tag" },
	{ "list.no_stray_links", link_of_no_list, "list.no_stray_links list.size", "list.no_stray_links",
	  "it is not recorded for the list that reaches it" },
	{ "list.size", list_too_long, "list.size", "", ONLY_FULL },
	{ "list.size", list_too_long_and_round,
	  "acct.unique_one_owner list.in_list_iff_listed list.size list.wiring self.counters", "list.wiring",
	  "its links are reached, and counted, more than once" },
	{ "list.slot", link_with_other_tag, "list.slot", NULL, "" },
	{ "list.slot", link_is_shared, 
	  "acct.live_has_user acct.unique_one_owner list.slot slot.listed_is_link slot.shared_not_listed", NULL,
	  "a shared frame on a list breaks all that is said of either" },
	{ "list.tag", list_untagged, "list.slot list.tag", "list.tag", "its link has a tag that is not the list's" },
	{ "list.tags_distinct", tag_twice, "list.tags_distinct", "", ONLY_FULL },
	{ "list.tags_distinct", tag_of_the_future, "list.tags_distinct", NULL, "" },
	{ "list.wiring", list_leads_out_of_memory, "list.wiring", NULL, "as long as it says, but it does not end" },
	{ "list.wiring", link_without_previous, "list.wiring", NULL, "" },
	{ "list.wiring", link_out_of_memory, "list.wiring", NULL, "" },
	{ "lock.owner_live", locked_by_nobody, "lock.owner_live", NULL, "" },
	{ "lock.stray_unlocked", stray_locked, "lock.stray_unlocked lock.subtree_exact", "lock.stray_unlocked",
	  "its owner does not reach it" },
	{ "lock.subtree_exact", guard_unlocked, "lock.subtree_exact", "", "the slot is sound by itself" },
	{ "lock.subtree_exact", node_unlocked, "lock.subtree_exact", "", ONLY_FULL },
	{ "lock.subtree_exact", node_locked_too_much, "lock.subtree_exact", "", ONLY_FULL },
	{ "meta.node_rc", stray_count_2, "meta.node_rc", "", "which queues keep it is counted in a full check only" },
	{ "meta.node_rc", root_count_without_cpu, "meta.node_rc", NULL, "" },
	{ "pt.child_is_node", user_root_is_no_node, "pt.child_is_node pt.no_orphan", "",
	  "nothing leads to the root that was" },
	{ "pt.io_leaf_not_ram", io_leaf_to_memory, "pt.io_leaf_not_ram vspace.iomem_listed", NULL,
	  "a list entry is no memory either" },
	{ "pt.leaf_level", large_user_leaf, "pt.leaf_level", NULL, "" },
	{ "pt.not_stray", detached_but_not_stray, "pt.not_stray", "pt.no_orphan",
	  "touched, it is a node that no walk finds" },
	{ "pt.top_range", user_root_without_kernel, "pt.top_range", NULL, "" },
	{ "pt.top_range", user_root_of_another_kernel, "pt.top_range", NULL, "" },
	{ "region.unique_valid", unique_unaligned, "region.unique_valid", NULL, "" },
	{ "tlb.active_only", cached_for_another_space, "tlb.active_only", NULL, "" },
	{ "tlb.backed", cached_without_leaf, "tlb.backed", NULL, "" },
	{ "tlb.backed", leaf_gone_behind_cache, "tlb.backed", "", ONLY_FULL },
	{ "tlb.keep_alive", kept_frame_out_of_memory, "tlb.keep_alive", NULL, "" },
	{ "tlb.keep_alive", kept_node_out_of_memory, 
	  "acct.live_has_user pt.no_orphan pt.not_stray self.counters tlb.keep_alive", "tlb.keep_alive",
	  "nothing leads to the detached node any more, nor to the frame in it" },
	{ "tlb.live", cached_unused_frame, "tlb.live", NULL, "" },
	{ "tlb.live", cached_frame_out_of_memory, "tlb.live", NULL, "" },
	{ "tlb.queue", queue_without_ipi, "tlb.queue", NULL, "" },
	{ "tlb.queue", queue_of_32_pages, "tlb.queue", NULL, "" },
	{ "tlb.queue", queue_of_all_and_one, "tlb.queue", NULL, "" },
	{ "tlb.shape", cached_between_pages, "tlb.shape", NULL, "" },
	{ "tlb.shape", cached_without_size, "self.counters tlb.shape", "tlb.shape", BESIDE },
	{ "tlb.va_disjoint", cached_over_the_next, "self.counters tlb.va_disjoint", "tlb.va_disjoint", BESIDE },
	{ "vspace.active_exists", cpu_on_no_space, "vspace.active_exists", NULL, "" },
	{ "vspace.active_exists", busy_cpu_on_no_space, "self.counters tlb.active_only vspace.active_exists",
	  "vspace.active_exists", "what it has cached is not of that space" },
	{ "vspace.handle_or_active", space_of_nobody, "vspace.handle_or_active", NULL, "" },
	{ "vspace.iomem_distinct", entry_twice, "vspace.iomem_distinct", NULL, "" },
	{ "vspace.iomem_listed", io_leaf_unlisted, "vspace.iomem_listed", NULL, "" },
	{ "vspace.iomem_listed", entry_moved, "vspace.iomem_listed", "", ONLY_FULL },
	{ "vspace.iomem_owner", entry_of_no_space, "vspace.iomem_owner", NULL, "" },
};

#define CASES (KIT_COUNT(law_cases) + KIT_COUNT(user_cases))

static const struct law_case *
case_at(size_t i)
{
	return i < KIT_COUNT(law_cases) ? &law_cases[i] : &user_cases[i - KIT_COUNT(law_cases)];
}

/* The store that a case damages. */
static struct kvms *
case_store(size_t i)
{
	return i < KIT_COUNT(law_cases) ? base_new() : user_new();
}

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
enum domain { A_SLOT, A_WORD, AN_ID, A_CPU, A_VM_IO, A_BLOCK, AN_MMIO_BLOCK, AN_ADDRESS, ANYTHING };

static const struct {
	enum domain domain;
	int kind; /* of the record that AN_ID names */
} domains[] = {
#define LAW_SLOT(symbol, name, text) { A_SLOT, 0 },
#define LAW_WORD(symbol, name, text) { A_WORD, 0 },
#define LAW_FRAME(symbol, name, text) { AN_ID, KVMS_ID_FRAME },
#define LAW_SEGMENT(symbol, name, text) { AN_ID, KVMS_ID_SEGMENT },
#define LAW_UNIQUE(symbol, name, text) { AN_ID, KVMS_ID_UNIQUE },
#define LAW_LIST(symbol, name, text) { AN_ID, KVMS_ID_LIST },
#define LAW_SPACE(symbol, name, text) { AN_ID, KVMS_ID_VM_SPACE },
#define LAW_CURSOR(symbol, name, text) { AN_ID, KVMS_ID_CURSOR },
#define LAW_AREA(symbol, name, text) { AN_ID, KVMS_ID_AREA },
#define LAW_VM_IO(symbol, name, text) { A_VM_IO, 0 },
#define LAW_IOMEM(symbol, name, text) { AN_ID, KVMS_ID_IOMEM },
#define LAW_ENTRY(symbol, name, text) { AN_ID, REC_IO_ENTRY },
#define LAW_CPU(symbol, name, text) { A_CPU, 0 },
#define LAW_KEPT(symbol, name, text) { AN_ID, REC_KEPT },
#define LAW_TLB(symbol, name, text) { AN_ID, REC_TLB },
#define LAW_BLOCK(symbol, name, text) { A_BLOCK, 0 },
#define LAW_MMIO(symbol, name, text) { AN_MMIO_BLOCK, 0 },
#define LAW_TILES(symbol, name, text) { AN_ADDRESS, 0 },
#define LAW_STORE(symbol, name, text) { ANYTHING, 0 },
#include "store/invariants.def"
};

static bool
is_root(const struct kvms *s, uint64_t paddr)
{
	uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1);

	while (id != 0 && VM_SPACE(s, id)->root != paddr)
		id = record_next(s, KVMS_ID_VM_SPACE, id + 1);
	return id != 0 || paddr == s->live.kernel_root;
}

/* A finding names an object that is there. */
static void
names_an_object(const struct kvms *s, const struct kvms_finding *f)
{
	bool there = true;

	switch (domains[f->law].domain) {
	case A_SLOT:
		there = f->object < s->slots_count;
		break;
	case A_WORD: /* or a root itself */
		there = f->object % 8 == 0 && (is_root(s, f->object) || s->slot[f->object / PAGE].usage == USAGE_PAGETABLE);
		break;
	case AN_ID:
		there = record_at(s, domains[f->law].kind, f->object) != NULL;
		break;
	case A_VM_IO:
		there = READER(s, f->object) != NULL || WRITER(s, f->object) != NULL;
		break;
	case A_CPU:
		there = f->object >= 1 && f->object <= s->ncpu;
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

		for (size_t i = 0; i < CASES; i++)
			found |= strcmp(case_at(i)->law, kvms_law_name(law)) == 0;
		cr_expect(found, "no test makes %s fire", kvms_law_name(law));
	}
}

Test(laws, fire_alone_in_a_full_check)
{
	for (size_t i = 0; i < CASES; i++) {
		const struct law_case *c = case_at(i);
		struct kvms *s = case_store(i);
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
	for (size_t i = 0; i < CASES; i++) {
		const struct law_case *c = case_at(i);
		const char *want = c->touched != NULL ? c->touched : c->full;
		struct kvms *s = case_store(i);
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
	  /* what is left of the block ends inside area 2, and begins where another ends */
	  "alloc.coalesced alloc.partition area.disjoint" },
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
	{ shared_and_listed, "frame_clone frame=4",
	  "list.in_list_iff_listed slot.listed_is_link slot.shared_not_listed" },
	{ count_illegal, "frame_drop frame=4", "slot.rc_legal" },
	{ node_unique_count, "boot_map va=0xffff800000005000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb",
	  "meta.node_rc slot.unique_is_frame" },
	{ mmio_past_window, "iomem_acquire start=0x20000000 end=0x20001000", "alloc.mmio_blocks" },
};

static void
last_frame_is_kernel(struct kvms *s)
{
	usage_change(s, 0x5000, USAGE_KERNEL, KIND_BOOT);
}

static void
space_1_of_nobody(struct kvms *s)
{
	space_of(s, 1)->handle = 0;
	space_of(s, 1)->cpus = 0;
}

static void
cursor_at_free_page(struct kvms *s)
{
	cursor_of(s, 1)->va = USER + 0x7000;
}

static void
aligned_iomem_in_memory(struct kvms *s)
{
	cursor_at_free_page(s);
	iomem_of(s, 4)->paddr = 0x7000;
	iomem_of(s, 4)->size = 0x1000;
}

static void
last_entry_of_no_space(struct kvms *s)
{
	cursor_at_free_page(s);
	entry_of_no_space(s);
	iomem_of(s, 4)->paddr = DEVICE;
}

#define MAP_IO "cursor_map_iomem cursor=1 iomem=4 prop=rw:uc+user len=0x1000"
#define UNMAP_FRAME "cursor_unmap cursor=1 len=0x5000" /* keeps one more frame for CPU 1 */

/* The same in the second store. */
static const struct step_case user_steps[] = {
	{ cursor_end_unaligned, "cursor_peek cursor=1", "cursor.barrier" },
	{ flusher_sent_to_no_cpu, "flush_issue cursor=1 kind=range start=0x200000 end=0x201000", "cursor.flusher" },
	{ range_past_guard, "cursor_find_next cursor=2 len=0x0", "cursor.guard_covers" },
	{ guard_in_no_memory, "cursor_find_next cursor=2 len=0x0", "cursor.guard_node" },
	{ cursor_level_above_guard, "cursor_find_next cursor=1 len=0x0", "cursor.levels" },
	{ path_misplaced, "cursor_find_next cursor=1 len=0x0", "cursor.path" },
	{ space_without_handle, "cursor_peek cursor=1", "cursor.space_live" },
	{ guard_unlocked, "cursor_find_next cursor=2 len=0x0", "lock.subtree_exact" },
	{ cursor_unaligned, "cursor_peek cursor=1", "cursor.va" },
	{ iomem_past_area, "iomem_clone iomem=1", "io.iomem_area" },
	{ iomem_in_memory, "iomem_clone iomem=4", "io.iomem_phys" },
	{ kernel_writer_in_user_half, "writer_clone writer=1", "io.kernel_range" },
	{ user_reader_infallible, "reader_clone reader=1", "io.user_handle" },
	{ reader_behind_its_end, "reader_clone reader=1", "io.window" },
	{ list_cursor_without_checkout, "list_push_back list=2 unique=5", "list.cursor" },
	{ loose_link_tagged, "unique_set_meta unique=5 meta=0x1", "list.in_list_iff_listed" },
	{ link_of_no_list, "list_push_back list=2 unique=5",
	  "list.no_stray_links list.wiring" }, /* it is no neighbour for the new link */
	{ link_with_other_tag, "list_push_back list=2 unique=5", "list.slot" },
	{ list_untagged, "list_cursor_front_mut list=2", "list.tag" },
	{ tag_of_the_future, "list_cursor_front_mut list=3", "list.tags_distinct" },
	{ link_without_previous, "list_push_back list=1 unique=5", "list.wiring" },
	{ locked_by_nobody, "vm_space_activate vm_space=2", "lock.owner_live" },
	{ aligned_iomem_in_memory, MAP_IO, "pt.io_leaf_not_ram" },
	{ last_frame_is_kernel, "tlb_fill cpu=0 va=0x206000", "tlb.live" },
	{ queue_of_all_and_one, UNMAP_FRAME, "tlb.queue" },
	{ kept_node_out_of_memory, UNMAP_FRAME, "tlb.keep_alive" },
	{ busy_cpu_on_no_space, UNMAP_FRAME, "vspace.active_exists" },
	{ space_1_of_nobody, "reader_drop reader=1", "vspace.handle_or_active" },
	{ entry_moved, "cursor_protect_next cursor=1 len=0x1000 clear=w", "vspace.iomem_listed" },
	{ last_entry_of_no_space, MAP_IO, "vspace.iomem_owner" },
};

static const struct {
	const char *law;
	const char *why;
} not_by_steps[] = {
	{ "area.refs", "full checks only" },
	{ "list.size", "full checks only" },
	{ "lock.stray_unlocked", "a stray node is written when it becomes one, without a lock, and when it goes" },
	{ "pt.child_is_node", "a step writes table words to nodes it has just made" },
	{ "pt.child_level", "the same" },
	{ "pt.kernel_top_nodes", "no step takes a word of the root away" },
	{ "pt.leaf_aligned", "a step writes only what it has encoded" },
	{ "pt.level1_has_no_child", "the same" },
	{ "pt.node_unique", "the same as pt.child_is_node" },
	{ "pt.top_range",
	  "no step goes to the user half of the kernel table; a user root is written when it is made" },
	{ "pt.word_canonical", "a step writes only what it has encoded" },
	{ "region.ids_below_next", "full checks only" },
	{ "region.memory_bounds", "full checks only" },
	{ "region.segment_valid", "a segment is written when it is made, and not again" },
	{ "region.slot_domain", "full checks only" },
	{ "region.unique_valid", "a unique handle is written when it is made, and not again" },
	{ "self.counters", "full checks only" },
	{ "self.digest", "full checks only" },
	{ "tlb.active_only", "an entry is written when it is made, and not again" },
	{ "tlb.backed", "the same" },
	{ "tlb.shape", "the same" },
	{ "tlb.va_disjoint", "the same, when all that overlapped has gone" },
	{ "vspace.iomem_distinct", "a step adds no pair that the list has" },
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
	for (size_t i = 0; i < KIT_COUNT(user_steps); i++) {
		struct kvms *s = user_new();

		user_steps[i].damage(s);
		must_be_broken(s, user_steps[i].op, user_steps[i].fired);
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
		for (size_t i = 0; i < KIT_COUNT(user_steps); i++)
			stepped += strstr(user_steps[i].fired, name) != NULL;
		for (size_t i = 0; i < KIT_COUNT(not_by_steps); i++)
			excused += strcmp(not_by_steps[i].law, name) == 0;
		cr_expect((stepped > 0) != (excused > 0), "%s: %u steps break it, %u reasons why none can", name,
			  stepped, excused);
	}
}

/* With the dial on full, any step at all finds any damage; with the dial off, none does. */
Test(laws, are_found_by_any_step_under_full_checks_and_by_none_without)
{
	for (size_t i = 0; i < CASES; i++) {
		const struct law_case *c = case_at(i);
		struct kvms *s = case_store(i);

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
