/*
 * What is taken back was never there: dry runs, steps refused after they had
 * begun, and steps of tens of thousands of changes.
 */
#include "tests/store_kit.h"

#include "store/pagetable.h"

/* ---- Dry runs ------------------------------------------------------------------------------- */

static bool
same_outcome(const struct kvms_outcome *a, const struct kvms_outcome *b)
{
	return a->name == b->name && a->detail == b->detail && a->present == b->present &&
	       memcmp(a->field, b->field, sizeof a->field) == 0 && a->list_count == b->list_count;
}

Test(undo, a_dry_run_foretells_the_outcome_and_has_no_effect_at_all)
{
	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct kvms_outcome dry = { .name = O_ok }, out = { .name = O_ok };
		struct kit_walk w;

		kit_walk_init(&w, NULL, world, 40 + world);
		for (uint64_t i = kit_scaled(600); i > 0; i--) {
			bool valid = kit_walk_draw(&w);
			uint64_t visible = kit_visible(w.s), digest = kvms_digest(w.s), steps = kvms_steps(w.s);
			struct live live = w.s->live;

			for (unsigned twice = 0; twice < 2; twice++)
				cr_assert_eq(kvms_dry_run(w.s, &w.op, &dry), valid ? KVMS_DONE : KVMS_INVALID);
			cr_assert_eq(kit_visible(w.s), visible);
			cr_assert_eq(kvms_digest(w.s), digest);
			cr_assert_eq(kvms_steps(w.s), steps);
			cr_assert_arr_eq(w.s->live.next_id, live.next_id, sizeof live.next_id);
			cr_assert_arr_eq(&w.s->live.totals, &live.totals, sizeof live.totals);
			cr_assert_arr_eq(w.s->live.pool_used, live.pool_used, sizeof live.pool_used);
			kvms_apply(w.s, &w.op, &out);
			if (valid)
				cr_assert(same_outcome(&dry, &out), "%s: foretold %s, was %s",
					  kvms_op_row(w.op.code)->name, kit_outcome(dry.name), kit_outcome(out.name));
		}
		kit_sound(w.s);
		kvms_outcome_free(&dry);
		kvms_outcome_free(&out);
		kvms_free(&w.s);
	}
}

/* Two stores walk the same way; one is led astray by dry runs before every step. */
Test(undo, a_store_with_many_dry_runs_becomes_the_same_as_one_without)
{
	struct kvms_outcome out = { .name = O_ok };
	struct kit_walk w, astray;
	struct kvms *plain;

	kit_walk_init(&w, NULL, 2, 7);
	kit_walk_init(&astray, w.s, 2, 8);
	plain = kit_new("%s", kit_worlds[2].config);
	for (uint64_t i = kit_scaled(4000); i > 0; i--) {
		for (unsigned k = 0; k < 3; k++) {
			(void)kit_walk_draw(&astray);
			(void)kvms_dry_run(w.s, &astray.op, &out);
		}
		(void)kit_walk_draw(&w);
		(void)kvms_apply(w.s, &w.op, &out);
		(void)kvms_apply(plain, &w.op, &out);
	}
	cr_assert_eq(kvms_digest(w.s), kvms_digest(plain));
	cr_assert_eq(kit_visible(w.s), kit_visible(plain));
	kvms_outcome_free(&out);
	kvms_free(&w.s);
	kvms_free(&plain);
}

/* ---- Groups ------------------------------------------------------------------------------------ */

/* Random steps in groups: kept they are what single steps are, undone they never were; refused ones among them. */
Test(undo, a_group_of_steps_is_kept_or_goes_back_whole)
{
	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct kvms_outcome out = { .name = O_ok }, single = { .name = O_ok };
		struct kit_random r = { world };
		struct kit_walk w;
		struct kvms *plain = kit_new("%s", kit_worlds[world].config);

		kit_walk_init(&w, NULL, world, 70 + world);
		kvms_set_check(w.s, KVMS_CHECK_FULL, 3);
		for (uint64_t i = kit_scaled(120); i > 0; i--) {
			bool keep = kit_below(&r, 3) > 0;
			uint64_t visible = kit_visible(w.s), steps = kvms_steps(w.s);

			kvms_group_begin(w.s);
			for (uint64_t k = kit_below(&r, 20); k > 0; k--) {
				(void)kit_walk_draw(&w);
				enum kvms_status status = kvms_apply(w.s, &w.op, &out);
				cr_assert_neq(status, KVMS_BROKEN, "%s", kit_fired(kvms_broken(w.s)));
				if (!keep)
					continue;
				cr_assert_eq(kvms_apply(plain, &w.op, &single), status);
				cr_assert(status != KVMS_DONE || same_outcome(&out, &single));
			}
			cr_assert(kvms_group_end(w.s, keep));
			if (!keep) {
				cr_assert_eq(kit_visible(w.s), visible);
				cr_assert_eq(kvms_steps(w.s), steps);
			}
			cr_assert_eq(kvms_digest(w.s), kvms_digest(plain));
		}
		cr_assert_eq(kit_visible(w.s), kit_visible(plain));
		cr_assert_eq(kvms_steps(w.s), kvms_steps(plain));
		kit_sound(w.s);
		kvms_outcome_free(&out);
		kvms_outcome_free(&single);
		kvms_free(&w.s);
		kvms_free(&plain);
	}
}

/* ---- Large steps ------------------------------------------------------------------------------ */

Test(undo, a_step_of_tens_of_thousands_of_changes_goes_back_whole)
{
	struct kvms *s = kit_new("max_paddr=0x10000000 vmalloc=0xffffc00000000000..0xffffc00040000000");
	uint64_t visible;

	kit_ok(s, "frame_from_unused paddr=0x8000000");
	kit_ok(s, "kvirt_reserve_at start=0xffffc0003ffff000 area_size=0x1000");
	visible = kit_visible(s);
	/* 65536 leaves of 4 KiB, of which the last meets nothing to stand on */
	kit_want(s, "panic paddr_unencodable",
		 "kvirt_map_untracked_frames area_size=0x10001000 map_offset=0x1000 paddr_start=0xffffff0001000 "
		 "paddr_end=0x10000000001000 prop=rw:uc");
	cr_assert_eq(kit_visible(s), visible);
	/* every frame but those taken, then one that is in use */
	kit_want(s, "err InUse", "segment_from_unused start=0x0 end=0x8001000");
	cr_assert_eq(kit_visible(s), visible);
	kit_ok(s, "segment_from_unused start=0x0 end=0x8000000");
	kit_ok(s, "segment_drop segment=1");
	kit_ok(s, "kvirt_map_untracked_frames area_size=0x10001000 map_offset=0x1000 paddr_start=0x40000000 "
		  "paddr_end=0x50000000 prop=rw:uc");
	visible = kit_visible(s);
	kit_want(s, "panic unsupported_cache",
		 "kvirt_protect_range area=2 start=0xffffc0002fffe000 end=0xffffc0003fffe000 cache=wp");
	cr_assert_eq(kit_visible(s), visible);
	kit_sound(s);
	kvms_free(&s);
}

/* Taking nodes back and forth: each step allocates and frees, the next finds the frames as they were. */
Test(undo, frames_of_nodes_come_back_with_what_was_in_them)
{
	struct kvms *s = kit_new("max_paddr=0x400000 vmalloc=0xffffc00000000000..0xffffc00040000000");
	uint64_t page, digest;

	/* data lies in the frame that the next node would take */
	page = bitmap_last_zero(&s->used) * PAGE;
	word_set(s, page + 8, UINT64_C(0x1122334455667788));
	word_set(s, page + 0xff8, 1);
	digest = kvms_digest(s);
	kit_want(s, "panic frames_exceed_area", "kvirt_map_frames area_size=0x1000 frames=[%s] prop=rw:wb",
		 (kit_ok(s, "frame_alloc"), kit_ok(s, "frame_alloc"), "1,2"));
	kit_ok(s, "frame_drop frame=1");
	kit_ok(s, "frame_drop frame=2");
	cr_assert_eq(word_at(s, page + 8), UINT64_C(0x1122334455667788), "a step that was refused wiped a page");
	cr_assert_eq(word_at(s, page + 0xff8), 1);
	/* now it is taken, wiped, and does not come back when the node is freed */
	kit_want(s, "ok area=1 start=0xffffc0003ffff000 end=0xffffc00040000000 nodes_allocated=2",
		 "kvirt_map_frames area_size=0x1000 frames=[] prop=rw:wb");
	kit_see(s, "ok level=2 nr_children=1 stray=false holder=0 rc=1", "node paddr=0x%" PRIx64, page);
	kit_sound(s);
	cr_assert_neq(kvms_digest(s), digest);
	kvms_free(&s);
}

/* What a frame holds is kept when it becomes unused, and goes only where a page is zeroed. */
Test(undo, page_bytes_stay_until_a_frame_is_allocated_zeroed)
{
	struct kvms *s = kit_new("max_paddr=0x400000");

	word_set(s, 0x1000, 7);
	word_set(s, 0x2000, 8);
	kit_ok(s, "frame_from_unused paddr=0x1000");
	cr_assert_eq(word_at(s, 0x1000), 7);
	kit_ok(s, "frame_drop frame=1");
	kit_want(s, "ok frame=2 paddr=0x0", "frame_alloc");
	kit_want(s, "ok frame=3 paddr=0x1000", "frame_alloc zeroed=false");
	cr_assert_eq(word_at(s, 0x1000), 7);
	kit_want(s, "ok frame=4 paddr=0x2000", "frame_alloc zeroed=true");
	cr_assert_eq(word_at(s, 0x2000), 0);
	kit_sound(s);
	kvms_free(&s);
}

/* A step in which the undo log itself grows far beyond its usual size gives the memory back. */
Test(undo, memory_for_a_huge_step_is_not_kept)
{
	struct kvms *s = kit_new("max_paddr=0x40000000");
	uint64_t frames = 0x3f000000 / PAGE; /* 258048: 64 bytes each are saved */

	kit_ok(s, "segment_from_unused start=0x0 end=0x3f000000");
	kit_want(s, "ok pages=258048", "segment_drop segment=1");
	cr_assert_eq(frames, 258048);
	cr_assert_leq(s->undo.bytes_capacity, (size_t)64 << 20);
	cr_assert_leq(s->undo.capacity * sizeof *s->undo.entry, (size_t)64 << 20);
	kit_sound(s);
	kvms_free(&s);
}

/* ---- The log by itself -------------------------------------------------------------------------- */

/* Whatever is changed through the functions that save first comes back, in whatever order and however often. */
Test(undo, every_kind_of_record_comes_back)
{
	struct kvms *s = kit_new("max_paddr=0x400000");
	struct kit_random r = { 5 };
	uint64_t visible;

	kit_ok(s, "segment_from_unused start=0x10000 end=0x20000");
	for (unsigned i = 0; i < 16; i++)
		kit_ok(s, "frame_from_in_use paddr=0x%x", 0x10000 + i * PAGE);
	kit_ok(s, "kvirt_reserve area_size=0x10000");
	visible = kit_visible(s);
	for (uint64_t round = kit_scaled(300); round > 0; round--) {
		undo_begin(s);
		for (unsigned i = 0; i < 200; i++) {
			uint64_t slot = kit_below(&r, 600), id = 1 + kit_below(&r, 16);
			struct frame *f;
			uint64_t start;

			switch (kit_below(&r, 8)) {
			case 0:
				slot_mut(s, slot)->meta = kit_draw(&r);
				slot_sync(s, slot);
				break;
			case 1:
				word_set(s, slot * PAGE + 8 * kit_below(&r, 512), kit_below(&r, 3));
				break;
			case 2:
				page_zero(s, slot * PAGE);
				break;
			case 3:
				if (FRAME(s, id) != NULL)
					((struct frame *)record_mut(s, KVMS_ID_FRAME, id))->paddr = kit_draw(&r);
				break;
			case 4:
				if (FRAME(s, id) != NULL)
					record_end(s, KVMS_ID_FRAME, id);
				break;
			case 5:
				(void)record_new(s, KVMS_ID_FRAME, (void **)&f);
				break;
			case 6:
				(void)va_alloc(s, (1 + kit_below(&r, 5)) * PAGE, &start);
				break;
			default:
				(void)va_alloc_at(s, KIT_VMALLOC + kit_below(&r, 100) * 3 * PAGE, PAGE);
			}
			if (kit_below(&r, 50) == 0)
				digest_sync(s); /* between changes, as a visit in the middle would */
		}
		undo_rollback(s);
		cr_assert_eq(kit_visible(s), visible, "round %" PRIu64, round);
	}
	kit_sound(s);
	kvms_free(&s);
}

/* Two that share a name would share one entry: the second would not come back, and no law would look at it. */
Test(undo, every_place_has_a_name_of_its_own)
{
	static const struct {
		enum undo_type type;
		unsigned which;
	} tables[] = { { UNDO_WORD, 1 }, { UNDO_SLOT, 1 }, { UNDO_RECORD, REC_KINDS }, { UNDO_POOL, POOLS } };
	uint64_t name[4 * REC_KINDS];
	size_t count = 0;

	for (uint64_t key = 1; key < 4; key++, count = 0)
		for (size_t i = 0; i < KIT_COUNT(tables); i++)
			for (unsigned which = 0; which < tables[i].which; which++) {
				name[count] = undo_name(tables[i].type, which, key);
				cr_assert_neq(name[count], undo_name(tables[i].type, which, key + 1));
				for (size_t k = 0; k < count; k++)
					cr_assert_neq(name[k], name[count]);
				count++;
			}
}

/* Switching spaces drops entries of a TLB: records and blocks of one kind, whose numbers are often the same. */
Test(undo, a_switch_of_spaces_that_is_not_kept_leaves_the_tlb)
{
	struct kvms_op away = kit_op("vm_space_activate vm_space=2");
	struct kvms_outcome dry = { .name = O_ok };
	struct kvms *s = kit_new("ncpu=1");
	uint64_t visible;

	kit_ok(s, "vm_space_new");
	kit_ok(s, "vm_space_new");
	kit_ok(s, "vm_space_activate vm_space=1");
	kit_ok(s, "cursor_open_mut vm_space=1 start=0x0 end=0x20000");
	for (unsigned i = 1; i <= 32; i++) {
		kit_ok(s, "frame_alloc");
		kit_ok(s, "cursor_map cursor=1 frame=%u prop=rw:wb+user", i);
		kit_ok(s, "tlb_fill cpu=0 va=0x%x", (i - 1) * 0x1000);
	}
	visible = kit_visible(s);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(kvms_dry_run(s, &away, &dry), KVMS_DONE);
		cr_assert_eq(dry.name, O_ok);
		cr_assert_eq(kit_visible(s), visible);
	}
	kit_sound(s);
	kit_ok(s, "vm_space_activate vm_space=2");
	kit_sound(s);
	kvms_outcome_free(&dry);
	kvms_free(&s);
}
