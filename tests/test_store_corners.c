/*
 * Corners of the store that little else comes to: sub-trees that a queue keeps,
 * ids past what one table of tables holds, steps too large to keep their log,
 * machines that cannot boot, and what a saved state may not say.
 */
#include "tests/store_kit.h"

#include "store/pagetable.h"

/* ---- Sub-trees that a queue keeps ------------------------------------------------------- */

#define GIB UINT64_C(0x40000000)

/*
 * Two CPUs run on a space; one unmaps 2 MiB, 1 GiB and single pages, and the
 * other has not flushed yet.  Frames 0x1000 .. 0x4000 lie below what is kept.
 */
static struct kvms *
with_kept_subtrees(void)
{
	struct kvms *s = kit_new("ncpu=2");
	static const uint64_t at[] = { 0x1000, 0x40000000, 0x40200000, 0x7fffe000, 0x80000000 };

	kvms_set_check(s, KVMS_CHECK_FULL, 1);
	kit_ok(s, "vm_space_new");
	for (unsigned i = 0; i < KIT_COUNT(at); i++) {
		uint64_t frame = kit_get(s, "frame", "frame_from_unused paddr=0x%" PRIx64, (uint64_t)(i + 1) * 0x1000);

		kit_ok(s, "cursor_open_mut vm_space=1 start=0x%" PRIx64 " end=0x%" PRIx64, at[i], at[i] + 0x1000);
		kit_ok(s, "cursor_map cursor=%u frame=%" PRIu64 " prop=rw:wb+user", i + 1, frame);
		kit_ok(s, "cursor_drop cursor=%u", i + 1);
	}
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cpu_set cpu=1");
	kit_ok(s, "vm_space_activate vm_space=1");
	for (unsigned i = 0; i < KIT_COUNT(at); i++)
		kit_ok(s, "access cpu=0 va=0x%" PRIx64 " access=r", at[i]);
	return s;
}

Test(kept_subtrees, of_every_height_live_until_the_queue_is_empty)
{
	struct kvms *s = with_kept_subtrees();

	kit_ok(s, "cursor_open_mut vm_space=1 start=0x0 end=0x100000000");
	/* two nodes of level 2, with one and three of level 1 below them; what 0x80000000 needs stays */
	kit_want(s, "ok count=4 leaves=0 subtrees=2 remote=1 nodes_freed=0 va=0x80000000 level=3",
		 "cursor_unmap cursor=6 len=0x80000000");
	kit_sound(s);
	for (uint64_t paddr = 0x1000; paddr <= 0x4000; paddr += 0x1000)
		kit_see(s, "ok rc=1 usage=Frame kind=untyped meta=0x0 in_list=0 h=0 p=0 c=0 k=1 u=0 l=0",
			"frame paddr=0x%" PRIx64, paddr);
	kit_see(s, "ok entries=[]", "stale");
	kit_see(s, "ok count=5 paddrs=[0x1000,0x2000,0x3000,0x4000,0x5000]", "unhandled");
	kit_want(s, "block ipi_pending cpu=0", "flush_sync cursor=6");
	/* more than 31 pages are everything: all 5 entries go */
	kit_want(s, "ok flushed=5 nodes_freed=6", "ipi_deliver cpu=0");
	kit_see(s, "ok rc=unused usage=Unused kind=none meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0",
		"frame paddr=0x3000");
	kit_ok(s, "flush_sync cursor=6");
	kit_sound(s);
	kvms_free(&s);
}

/* A single page: who_holds names the queue, which covers the entry that is still in a TLB. */
Test(kept_subtrees, and_frames_are_named_by_the_questions)
{
	struct kvms *s = with_kept_subtrees();

	kit_ok(s, "cursor_open_mut vm_space=1 start=0x40000000 end=0x40003000");
	kit_ok(s, "cursor_unmap cursor=6 len=0x1000");
	kit_see(s, "ok frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[0]", "who_holds paddr=0x2fff");
	kit_see(s, "ok entries=[]", "stale");
	kit_sound(s);
	kit_ok(s, "unique_from_unused paddr=0x9000");
	kit_ok(s, "unique_from_unused paddr=0x8000");
	kit_see(s, "ok frames=[] segments=[] uniques=[1] lists=[] mappings=[] queues=[]", "who_holds paddr=0x9000");
	kit_see(s, "ok frames=[] segments=[] uniques=[2] lists=[] mappings=[] queues=[]", "who_holds paddr=0x8abc");
	kvms_free(&s);
}

/* ---- There and back ------------------------------------------------------------------------ */

struct saved {
	struct kvms *from;
	uint64_t words[16384][16];
	unsigned count[16384];
	unsigned elements;
	struct kvms_node_place node[2048];
	unsigned nodes;
	struct kvms_extent run[64];
	unsigned runs;
};

static bool
save_element(void *arg, const uint64_t *words, unsigned count)
{
	struct saved *saved = arg;
	struct kvms_node_place place;

	if (words[0] == 4 && kvms_node_find(saved->from, words[1] * PAGE, &place)) {
		cr_assert_lt(saved->nodes, KIT_COUNT(saved->node));
		saved->node[saved->nodes++] = place;
	}
	if (words[0] == 3 && kvms_node_find(saved->from, words[1] & ~(uint64_t)(PAGE - 1), &place))
		return true; /* a table's words come back by nodes and runs */
	cr_assert_lt(saved->elements, KIT_COUNT(saved->words));
	cr_assert_leq(count, 16);
	memcpy(saved->words[saved->elements], words, count * sizeof *words);
	saved->count[saved->elements++] = count;
	return true;
}

static bool
save_run(void *arg, const struct kvms_extent *run)
{
	struct saved *saved = arg;

	cr_assert_lt(saved->runs, KIT_COUNT(saved->run));
	saved->run[saved->runs++] = *run;
	return true;
}

static int
root_first(const void *a, const void *b)
{
	const struct kvms_node_place *left = a, *right = b;

	return left->level > right->level ? -1 : left->level < right->level;
}

static struct saved *
save(struct kvms *s)
{
	struct saved *saved = calloc(1, sizeof *saved);

	cr_assert_not_null(saved);
	saved->from = s;
	cr_assert(kvms_visit(s, save_element, saved));
	cr_assert(kvms_extents(s, 0, save_run, saved));
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		cr_assert(kvms_extents(s, id, save_run, saved));
	qsort(saved->node, saved->nodes, sizeof *saved->node, root_first);
	return saved;
}

/* The store again, or NULL. */
static struct kvms *
restored(const struct saved *saved, const char *config)
{
	struct kvms *s = kit_new("%s", config);
	char why[200] = "";
	bool ok = kvms_restore_begin(s);

	for (unsigned i = 0; ok && i < saved->elements; i++)
		ok = kvms_restore_element(s, saved->words[i], saved->count[i], why, sizeof why);
	for (unsigned i = 0; ok && i < saved->nodes; i++)
		ok = kvms_restore_node(s, &saved->node[i], why, sizeof why);
	for (unsigned i = 0; ok && i < saved->runs; i++)
		ok = kvms_restore_extent(s, &saved->run[i], why, sizeof why);
	if (!ok || !kvms_restore_end(s, kvms_steps(saved->from), kvms_digest(saved->from), why, sizeof why)) {
		cr_assert_neq(why[0], '\0', "refused without a reason");
		kvms_free(&s);
	}
	return s;
}

Test(kept_subtrees, come_back_from_a_saved_state)
{
	struct kvms *s = with_kept_subtrees(), *again;
	struct saved *saved;

	kit_ok(s, "cursor_open_mut vm_space=1 start=0x0 end=0x100000000");
	kit_ok(s, "cursor_unmap cursor=6 len=0x80000000");
	kit_ok(s, "cursor_unmap cursor=6 len=0x1000");
	saved = save(s);
	again = restored(saved, "ncpu=2");
	cr_assert_not_null(again);
	kit_sound(again);
	cr_assert_eq(kit_visible(s), kit_visible(again));
	for (unsigned i = 0; i < 2; i++) {
		kit_want(again, kit_step(s, "ipi_deliver cpu=%u", i), "ipi_deliver cpu=%u", i);
		cr_assert_eq(kvms_digest(s), kvms_digest(again));
	}
	kit_sound(again);
	free(saved);
	kvms_free(&again);
	kvms_free(&s);
}

/* A kept node that has no level, or is none, is as good as no node: its frames' counts do not add up. */
Test(kept_subtrees, that_are_damaged_do_not_come_back)
{
	struct kvms *s = with_kept_subtrees(), *again;
	struct saved *saved;
	uint64_t slot;

	kit_ok(s, "cursor_open_mut vm_space=1 start=0x0 end=0x100000000");
	kit_ok(s, "cursor_unmap cursor=6 len=0x80000000");
	slot = KEPT(s, CPU(s, 0)->kept_first)->paddr / PAGE;
	saved = save(s);
	for (unsigned i = 0; i < saved->elements; i++)
		if (saved->words[i][0] == 4 && saved->words[i][1] == slot)
			saved->words[i][2] = 0;
	again = restored(saved, "ncpu=2");
	cr_expect_null(again);
	kvms_free(&again);
	free(saved);
	kvms_free(&s);
}

/* The element with this tag, the n-th one. */
static uint64_t *
element(struct saved *saved, uint64_t tag, unsigned n)
{
	for (unsigned i = 0; i < saved->elements; i++)
		if (saved->words[i][0] == tag && n-- == 0)
			return saved->words[i];
	cr_assert(false, "no element %" PRIu64, tag);
	return NULL;
}

/* A store with one of everything that a saved state can have, and little of it. */
static struct kvms *
with_everything(void)
{
	struct kvms *s = kit_new("ncpu=2");

	kit_ok(s, "vm_space_new");
	kit_ok(s, "frame_from_unused paddr=0x1000");
	kit_ok(s, "frame_from_unused paddr=0x2000");
	kit_ok(s, "kvirt_reserve area_size=0x3000");
	kit_ok(s, "kvirt_reserve area_size=0x1000");
	kit_ok(s, "iomem_acquire start=0xfec00000 end=0xfec01000");
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cpu_set cpu=1");
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cursor_open_mut vm_space=1 start=0x1000 end=0x8000");
	kit_ok(s, "cursor_map cursor=1 frame=1 prop=rw:wb+user");
	kit_ok(s, "cursor_map cursor=1 frame=2 prop=rw:wb+user");
	kit_ok(s, "cursor_map_iomem cursor=1 iomem=1 prop=rw:uc+user len=0x1000");
	kit_ok(s, "iomem_acquire start=0xfec02000 end=0xfec03000");
	kit_ok(s, "cursor_map_iomem cursor=1 iomem=2 prop=rw:uc+user len=0x1000");
	kit_ok(s, "tlb_fill cpu=0 va=0x1000");
	kit_ok(s, "tlb_fill cpu=0 va=0x2000");
	kit_ok(s, "tlb_fill cpu=1 va=0x3000");
	kit_ok(s, "cursor_jump cursor=1 va=0x1000");
	kit_ok(s, "cursor_unmap cursor=1 len=0x2000");
	kit_ok(s, "flush_issue cursor=1 start=0x3000 end=0x4000");
	return s;
}

/* One word of one element is another, and the state is none. */
static void
refused(struct kvms *s, uint64_t tag, unsigned n, unsigned word, uint64_t value)
{
	struct saved *saved = save(s);
	uint64_t *e = element(saved, tag, n);
	struct kvms *again;

	cr_assert_neq(e[word], value);
	e[word] = value;
	again = restored(saved, "ncpu=2");
	cr_expect_null(again, "element %" PRIu64 " with %#" PRIx64 " as word %u makes a store", tag, value, word);
	kvms_free(&again);
	free(saved);
}

Test(saved, state_with_everything_is_a_store)
{
	struct kvms *s = with_everything(), *again;
	struct saved *saved = save(s);

	again = restored(saved, "ncpu=2");
	cr_assert_not_null(again);
	cr_assert_eq(kit_visible(s), kit_visible(again));
	free(saved);
	kvms_free(&again);
	kvms_free(&s);
}

Test(saved, state_with_an_impossible_element_is_refused)
{
	struct kvms *s = with_everything();
	struct saved *saved = save(s);
	uint64_t area_start = element(saved, 14, 0)[2], entry_va = element(saved, 21, 0)[3];

	free(saved);
	/* areas: not inverted, not over another */
	refused(s, 14, 0, 3, 0);
	refused(s, 14, 1, 3, area_start + 0x1000);
	/* I/O entries: of a space that is there, numbered without gaps */
	refused(s, 11, 0, 1, 7);
	refused(s, 11, 0, 2, 2);
	/* flushers: of a cursor that is there, sent to CPUs that are */
	refused(s, 13, 0, 1, 7);
	refused(s, 13, 0, 7, 2);
	/* CPUs: kept references are frames or nodes, page-aligned, below max_paddr */
	refused(s, 20, 0, 11, 3);
	refused(s, 20, 0, 11, 2);
	refused(s, 20, 0, 12, 0x1001);
	refused(s, 20, 0, 12, UINT64_C(1) << 40);
	/* entries of TLBs: of a CPU and a table that are there, of a size there is, not over another */
	refused(s, 21, 0, 1, 2);
	refused(s, 21, 0, 2, 9);
	refused(s, 21, 0, 4, 0x3000);
	refused(s, 21, 1, 3, entry_va);
	kvms_free(&s);
}

/* Places of roots: every space has its own, and no table has two. */
Test(saved, state_with_roots_out_of_place_is_refused)
{
	struct kvms *s = with_everything(), *again;

	for (uint64_t table = 0; table <= 1; table++) {
		struct saved *saved = save(s);

		for (unsigned i = 0; i < saved->nodes; i++)
			if (saved->node[i].level == 4)
				saved->node[i].table = table;
		again = restored(saved, "ncpu=2");
		cr_expect_null(again, "all roots belong to table %" PRIu64, table);
		kvms_free(&again);
		free(saved);
	}
	kvms_free(&s);
}

/* The root of an empty space is missed too, though no word leads to it. */
Test(saved, state_without_the_root_of_a_space_is_refused)
{
	struct kvms *s = kit_new("ncpu=2"), *again;
	struct saved *saved;

	kit_ok(s, "vm_space_new");
	saved = save(s);
	for (unsigned i = 0; i < saved->nodes; i++)
		if (saved->node[i].table == 1)
			saved->node[i] = saved->node[--saved->nodes];
	again = restored(saved, "ncpu=2");
	cr_expect_null(again);
	kvms_free(&again);
	free(saved);
	kvms_free(&s);
}

Test(saved, questions_about_what_is_not_there)
{
	struct kvms *s = kit_new("ncpu=1");
	struct kvms_node_place place;

	cr_expect(kvms_extents(s, 99, NULL, NULL), "a table that is not there has no leaves");
	cr_expect_not(kvms_node_find(s, 0x1000, &place));
	cr_expect_not(kvms_node_find(s, s->live.kernel_root + 8, &place));
	cr_expect_not(kvms_node_find(s, s->max_paddr, &place));
	cr_expect_null(kvms_op_find("no_such_op"));
	cr_expect_null(kvms_request_find("no_such_request"));
	kit_see(s, "pre unknown_vm_space", "walk table=1 va=0x1000");
	kit_see(s, "pre unknown_vm_space", "nodes table=1");
	kit_see(s, "pre unknown_vm_space", "translate table=1 va=0x1000");
	kit_see(s, "ok levels=[]", "walk va=0x800000000000");
	kvms_free(&s);
}

/* ---- Tables ------------------------------------------------------------------------------------ */

Test(tables, mappings_of_one_frame_come_by_table_then_by_address)
{
	struct kvms *s = kit_new("ncpu=1");

	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (unsigned space = 1; space <= 2; space++) {
		kit_ok(s, "vm_space_new");
		kit_ok(s, "cursor_open_mut vm_space=%u start=0x1000 end=0x4000", space);
		for (unsigned page = 0; page < 3; page++) {
			uint64_t frame = kit_get(s, "frame", "frame_from_in_use paddr=0x1000");

			kit_ok(s, "cursor_jump cursor=%u va=0x%x", space, 0x3000 - page * 0x1000);
			kit_ok(s, "cursor_map cursor=%u frame=%" PRIu64 " prop=r:wb+user", space, frame);
		}
	}
	kit_ok(s, "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb");
	kit_see(s,
		"ok frames=[] segments=[] uniques=[] lists=[] mappings=[kernel:0xffffdffffffff000,1:0x1000,1:0x2000,"
		"1:0x3000,2:0x1000,2:0x2000,2:0x3000] queues=[]",
		"who_holds paddr=0x1000");
	kvms_free(&s);
}

/* A cursor whose range lies below a huge page has that page's node for its guard. */
Test(tables, a_page_below_a_huge_leaf_is_looked_up_in_the_leaf)
{
	struct kvms *s = kit_new("ncpu=1");
	uint64_t nodes;

	kit_ok(s, "kvirt_reserve_at start=0xffffc00000000000 area_size=0x400000");
	kit_ok(s, "kvirt_map_untracked_into area=1 va=0xffffc00000200000 paddr_start=0x200000000 paddr_end=0x200200000 "
		  "prop=rw:wb");
	nodes = s->live.totals.pagetable;
	kit_want(s,
		 "ok found=true start=0xffffc00000200000 end=0xffffc00000400000 level=2 paddr=0x200000000 prop=rw:wb "
		 "tracked=false nodes_allocated=0",
		 "kvirt_peek area=1 va=0xffffc00000234567");
	cr_assert_eq(s->live.totals.pagetable, nodes);
	kit_sound(s);
	kvms_free(&s);
}

/* ---- Lists --------------------------------------------------------------------------------------- */

Test(lists, of_many_links_are_walked_from_the_nearer_end)
{
	struct kvms *s = kit_new("ncpu=1");

	kit_ok(s, "list_new");
	for (unsigned i = 0; i < 9; i++) {
		kit_ok(s, "unique_from_unused paddr=0x%x kind=link", 0x1000 * (i + 1));
		kit_ok(s, "list_push_back list=1 unique=%u", i + 1);
	}
	kit_want(s, "ok found=true index=6", "list_cursor_mut_at list=1 paddr=0x7000");
	kit_ok(s, "list_cursor_drop list=1");
	kit_want(s, "ok found=true unique=10 paddr=0x4000", "list_take_at list=1 index=3");
	kit_want(s, "ok found=true unique=11 paddr=0x8000", "list_take_at list=1 index=6");
	kit_ok(s, "list_insert_before_at list=1 index=2 unique=11");
	kit_ok(s, "list_cursor_front_mut list=1");
	kit_want(s, "ok count=8 paddrs=[0x1000,0x2000,0x8000,0x3000,0x5000,0x6000,0x7000,0x9000]",
		 "list_cursor_as_list list=1");
	kit_sound(s);
	kvms_free(&s);
}

/* ---- Ids and steps without end ----------------------------------------------------------------------- */

/* More ids than one table of leaves holds, all of them ended but the first and the last. */
Test(ids, of_a_long_run_cost_what_is_alive)
{
	struct kvms *s = kit_new("ncpu=1");
	struct kvms_op clone = kit_op("frame_clone frame=1"), drop = kit_op("frame_drop frame=1");
	struct kvms_outcome out = { .name = O_ok };
	const uint64_t runs = (uint64_t)ID_FANOUT * ID_FANOUT + 3 * ID_FANOUT;

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (uint64_t i = 0; i < runs; i++) {
		cr_assert_eq(kvms_apply(s, &clone, &out), KVMS_DONE);
		cr_assert_eq(out.field[0], i + 2);
		clone.arg[0] = drop.arg[0] = i + 1;
		if (i > 0)
			cr_assert_eq(kvms_apply(s, &drop, &out), KVMS_DONE);
		clone.arg[0] = i + 2;
	}
	kit_see(s, kit_ask(s, "who_holds paddr=0x1fff"), "who_holds paddr=0x1000");
	cr_assert_eq(record_next(s, KVMS_ID_FRAME, 2), runs + 1);
	cr_assert_eq(s->live.totals.frames, 2);
	kit_sound(s);
	/* and the same when all of a table has ended but nothing behind it */
	kit_ok(s, "frame_drop frame=1");
	cr_assert_eq(record_next(s, KVMS_ID_FRAME, 1), runs + 1);
	kit_sound(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

/* Ids that end in the order they were made: of the memory they took a little is kept for the next ones. */
Test(ids, that_end_give_their_memory_back)
{
	struct kvms *s = kit_new("ncpu=1");
	struct kvms_op clone = kit_op("frame_clone frame=1"), drop = kit_op("frame_drop frame=1");
	struct kvms_outcome out = { .name = O_ok };

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (unsigned i = 0; i < 20 * ID_FANOUT; i++)
		cr_assert_eq(kvms_apply(s, &clone, &out), KVMS_DONE);
	for (unsigned i = 0; i < 20 * ID_FANOUT; i++) {
		drop.arg[0] = i + 1;
		cr_assert_eq(kvms_apply(s, &drop, &out), KVMS_DONE);
	}
	cr_expect_leq(s->ids[KVMS_ID_FRAME].spare_count, 8);
	kit_see(s, "ok frames=[10241] segments=[] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x1000");
	kit_sound(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

/* What a huge step needed to be undone is given back after it. */
Test(steps, of_a_million_frames_keep_no_log)
{
	struct kvms *s = kit_new("max_paddr=0x200000000");
	uint64_t fresh = kvms_digest(s);

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	kit_want(s, "ok segment=1 start=0x0 end=0x140000000", "segment_alloc pages=0x140000 zeroed=false");
	cr_expect_lt(s->undo.bytes_capacity, (size_t)65 << 20);
	cr_expect_lt(s->undo.capacity * sizeof *s->undo.entry, (size_t)65 << 20);
	kit_want(s, "ok pages=1310720", "segment_drop segment=1");
	/* but for the id, as it was */
	s->live.next_id[KVMS_ID_SEGMENT]--;
	cr_assert_eq(kvms_digest(s), fresh);
	kvms_free(&s);
}

/* ---- Machines that cannot boot --------------------------------------------------------------------------- */

static void
cannot_boot(const char *key, const char *config)
{
	const char *why = kit_refusal("%s", config);

	cr_expect(strncmp(why, key, strlen(key)) == 0 && why[strlen(key)] == ':', "%s: \"%s\", not %s", config, why,
		  key);
}

Test(boot, of_a_machine_without_room_is_refused)
{
	/* an image that is unaligned, or behind the end of memory */
	cannot_boot("kernel", "boot=full kernel=0x1001..0x2000");
	cannot_boot("kernel", "boot=full max_paddr=0x1000000 kernel=0x1000..0x1001000");
	/* the image takes every place for the metadata: it has to begin on 2 MiB */
	cannot_boot("boot", "boot=full max_paddr=0x400000 kernel=0x0..0x201000");
	/* direct map and metadata of exactly one huge page */
	cannot_boot("boot", "boot=full max_paddr=0x200000 kernel=0x10000..0x11000");
	cannot_boot("boot", "boot=full max_paddr=0x8000000 kernel=0x1000..0x2000");
	/* the metadata begin on the next 2 MiB behind the image */
	struct kvms *s = kit_new("boot=full max_paddr=0x1000000 kernel=0x1000..0x2000");

	kit_see(s, "ok rc=1 usage=Meta kind=boot meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0", "frame paddr=0x200000");
	kit_see(s, "ok rc=unused usage=Unused kind=none meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0", "frame paddr=0x0");
	kit_sound(s);
	kvms_free(&s);
}

/* ---- Damage ------------------------------------------------------------------------------------------------- */

/* A full check of a damaged store finds at least this law. */
static void
finds(struct kvms *s, const char *law)
{
	struct kvms_findings findings;

	cr_assert_not(kvms_check_all(s, &findings), "nothing found, not %s", law);
	cr_expect_not_null(strstr(kit_fired(&findings), law), "%s, not %s", kit_fired(&findings), law);
	kvms_free(&s);
}

Test(damage, to_a_root_is_found)
{
	struct kvms *s = kit_new("ncpu=1");

	s->slot[s->live.kernel_root / PAGE].level = 3;
	finds(s, "pt.child_level");
	s = kit_new("ncpu=1");
	s->slot[s->live.kernel_root / PAGE].level = 0;
	finds(s, "pt.child_level");
}

Test(damage, to_the_usage_of_a_slot_is_found)
{
	struct kvms *s = kit_new("ncpu=1");

	kit_ok(s, "frame_from_unused paddr=0x1000");
	s->slot[1].usage = 99;
	finds(s, "slot.kind_matches_usage");
}

Test(damage, to_the_id_that_is_no_id_is_found)
{
	struct kvms *s = kit_new("ncpu=1");

	kit_ok(s, "frame_from_unused paddr=0x1000");
	((struct record *)record_raw(s, KVMS_ID_FRAME, 0))->live = true;
	finds(s, "region.ids_below_next");
}

Test(damage, to_a_tlb_entry_is_found)
{
	struct kvms *s = with_everything();

	((struct tlb_entry *)record_mut(s, REC_TLB, record_next(s, REC_TLB, 1)))->cpu = 7;
	finds(s, "tlb.shape");
}

Test(damage, to_a_kept_subtree_is_found)
{
	struct kvms *s = with_kept_subtrees();
	uint64_t node;

	kit_ok(s, "cursor_open_mut vm_space=1 start=0x0 end=0x100000000");
	kit_ok(s, "cursor_unmap cursor=6 len=0x80000000");
	node = KEPT(s, CPU(s, 0)->kept_first)->paddr;
	s->slot[node / PAGE].level = 0;
	finds(s, "meta.node_slot");
}

Test(damage, to_the_list_of_what_a_queue_keeps_is_found)
{
	struct kvms *s = with_everything();

	((struct cpu *)record_mut(s, REC_CPU, 1))->kept_count++;
	finds(s, "self.counters");
}

Test(damage, to_areas_is_found)
{
	struct kvms *s = kit_new("ncpu=1");
	uint64_t start;

	kit_ok(s, "kvirt_reserve area_size=0x3000");
	kit_ok(s, "kvirt_reserve area_size=0x3000");
	kit_ok(s, "kvirt_reserve area_size=0x3000");
	start = AREA(s, 1)->start;
	((struct area *)record_mut(s, KVMS_ID_AREA, 2))->start = start;
	((struct area *)record_mut(s, KVMS_ID_AREA, 2))->end = start + 0x3000;
	((struct area *)record_mut(s, KVMS_ID_AREA, 3))->start = start;
	((struct area *)record_mut(s, KVMS_ID_AREA, 3))->end = start + 0x3000;
	finds(s, "area.disjoint");
}
