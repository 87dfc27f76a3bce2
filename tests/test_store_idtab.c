/*
 * Id tables: ids count up, are never reused, and are found again whatever was
 * born and ended between them; what is undone was never there.
 */
#include "tests/store_kit.h"

static struct kvms *
store_new(void)
{
	return kit_new("max_paddr=0x200000 vmalloc=0xffffc00000000000..0xffffc00000040000");
}

static uint64_t
born(struct kvms *s, uint64_t paddr)
{
	struct frame *f;
	uint64_t id = record_new(s, KVMS_ID_FRAME, (void **)&f);

	f->paddr = paddr;
	return id;
}

Test(idtab, ids_of_a_kind_start_at_1_and_grow_by_one)
{
	struct kvms *s = store_new();

	for (uint64_t id = 1; id <= 2000; id++)
		cr_assert_eq(born(s, id * PAGE), id);
	for (uint64_t id = 1; id <= 2000; id++)
		cr_assert_eq(FRAME(s, id)->paddr, id * PAGE);
	cr_assert_null(FRAME(s, 0));
	cr_assert_null(FRAME(s, 2001));
	cr_assert_null(FRAME(s, UINT64_MAX));
	cr_assert_null(FRAME(s, UINT64_C(1) << 40));
	cr_assert_null(SEGMENT(s, 1), "another kind counts for itself");
	kvms_free(&s);
}

Test(idtab, an_ended_id_is_gone_for_ever)
{
	struct kvms *s = store_new();

	for (uint64_t id = 1; id <= 100; id++)
		born(s, 0);
	record_end(s, KVMS_ID_FRAME, 50);
	cr_assert_null(FRAME(s, 50));
	cr_assert_eq(record_next(s, KVMS_ID_FRAME, 50), 51);
	cr_assert_eq(born(s, 0), 101);
	record_end(s, KVMS_ID_FRAME, 101);
	cr_assert_eq(born(s, 0), 102);
	kvms_free(&s);
}

/* Live ids against an array of flags, with leaves that empty and go. */
Test(idtab, finds_what_an_array_finds)
{
	enum { MAX = 60000 };
	static unsigned char live[MAX + 2];

	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct kvms *s = store_new();
		struct kit_random r = { seed };
		uint64_t next = 1, steps = kit_scaled(50000);

		memset(live, 0, sizeof live);
		for (uint64_t i = 0; i < steps && next < MAX; i++) {
			undo_begin(s);
			uint64_t first = next;

			if (kit_below(&r, 3) > 0 || next == 1) {
				cr_assert_eq(born(s, next * PAGE), next);
				live[next++] = 1;
			}
			/* end one of the older ones, so that whole leaves become empty */
			uint64_t old = record_next(s, KVMS_ID_FRAME, kit_below(&r, next));
			if (old != 0 && kit_below(&r, 5) > 0) {
				record_end(s, KVMS_ID_FRAME, old);
				live[old] = 0;
			}
			if (kit_below(&r, 4) == 0) { /* as if nothing had been */
				undo_rollback(s);
				if (old != 0)
					live[old] = old < first;
				while (next > first)
					live[--next] = 0;
			} else {
				undo_commit(s);
			}
			cr_assert_eq(s->live.next_id[KVMS_ID_FRAME], next);
			uint64_t at = kit_below(&r, next + 2);
			const unsigned char *found = memchr(live + at, 1, MAX + 1 - at);

			cr_assert_eq(record_next(s, KVMS_ID_FRAME, at), found != NULL ? (uint64_t)(found - live) : 0,
				     "seed %" PRIu64 " step %" PRIu64 ": next from %" PRIu64, seed, i, at);
			cr_assert_eq(FRAME(s, at) != NULL, live[at], "id %" PRIu64, at);
		}
		for (uint64_t id = 0; id <= MAX; id++) {
			cr_assert_eq(FRAME(s, id) != NULL, live[id], "id %" PRIu64, id);
			if (live[id])
				cr_assert_eq(FRAME(s, id)->paddr, id * PAGE);
		}
		kvms_free(&s);
	}
}

/* A million short lives take no more memory than a few: emptied leaves are used again. */
Test(idtab, short_lives_leave_nothing_behind)
{
	struct kvms *s = store_new();
	uint64_t lives = kit_scaled(1000000), middles = 0, leaves = 0;
	const struct idtab *t = &s->ids[KVMS_ID_FRAME];

	for (uint64_t i = 0; i < lives; i++) {
		undo_begin(s);
		record_end(s, KVMS_ID_FRAME, born(s, 0));
		undo_commit(s);
	}
	for (uint64_t top = 0; top < t->top_count; top++) {
		middles += t->top[top] != NULL;
		leaves += t->top[top] != NULL ? t->top[top]->leaves : 0;
	}
	cr_assert(middles <= 2 && leaves <= 1, "%" PRIu64 " and %" PRIu64 " leaves for nothing that lives", middles,
		  leaves);
	cr_assert_eq(record_next(s, KVMS_ID_FRAME, 0), 0);
	cr_assert_eq(s->live.next_id[KVMS_ID_FRAME], lives + 1);
	kit_sound(s);
	kvms_free(&s);
}

/* A single old id far below the others keeps its place. */
Test(idtab, an_old_id_outlives_its_neighbours)
{
	struct kvms *s = store_new();

	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (unsigned i = 0; i < 3000; i++) {
		kit_ok(s, "frame_clone frame=1");
		kit_ok(s, "frame_drop frame=%u", i + 2);
	}
	kit_see(s, "ok frames=[1] segments=[] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x1000");
	kit_want(s, "ok frame=3002", "frame_clone frame=1");
	kit_want(s, "ok last=false", "frame_drop frame=1");
	kit_want(s, "ok last=true", "frame_drop frame=3002");
	kit_sound(s);
	kvms_free(&s);
}
