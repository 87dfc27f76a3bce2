/*
 * Which snapshots of a long past stay: few, and yet none of its steps is far
 * behind one of them.
 */
#include "tests/store_kit.h"

#include <stdio.h>
#include <sqlite3.h>
#include <unistd.h>

#include "persist/journal.h"
#include "persist/thin.h"
#include "persist/writer.h"

#define MARKS_MAX 4000u

static struct persist_mark marks[MARKS_MAX];
static size_t count;

/* One more at "step"; those that must go do. */
static void
set(uint64_t step, unsigned keep, bool held)
{
	size_t left = 0;

	persist_thin(marks, count, step, keep);
	for (size_t i = 0; i < count; i++)
		if (!marks[i].drop)
			marks[left++] = marks[i];
	count = left;
	marks[count++] = (struct persist_mark){ .step = step, .id = step + 1, .held = held };
}

static unsigned
log2_above(uint64_t n)
{
	unsigned bits = 0;

	while (n >> bits != 0)
		bits++;
	return bits;
}

TestSuite(thin, .timeout = 100);

Test(thin, few_stay_and_no_step_is_far_behind_one)
{
	for (unsigned keep = 1; keep <= 6; keep += 1 + (keep > 2)) {
		count = 0;
		set(0, keep, true);
		for (uint64_t now = 1; now <= kit_scaled(20000) + 100; now++) {
			set(now, keep, false);
			cr_assert_leq(count, keep + 2 * log2_above(now) + 3, "%zu of %" PRIu64, count, now);
			cr_assert_eq(marks[0].step, 0);
			for (size_t i = 1; i < count; i++) {
				uint64_t gap = marks[i].step - marks[i - 1].step;

				cr_assert(gap == 1 || gap <= now - marks[i].step, "%" PRIu64 " behind %" PRIu64, gap,
					  marks[i].step);
				cr_assert(count - i >= keep || gap == 1, "not all of the newest %u", keep);
			}
		}
	}
}

/* Snapshots at any distance, some of them held: never is a gap wider than what there was, or the way to now. */
Test(thin, any_distances_and_held_ones)
{
	struct kit_random r = { 5 };

	for (unsigned round = 0; round < 20; round++) {
		uint64_t now = 0, widest = 0;
		size_t held = 1;

		count = 0;
		set(0, 2, true);
		for (unsigned i = 0; i < 1000; i++) {
			uint64_t gap = kit_below(&r, round % 2 == 0 ? 20 : 1000);
			bool hold = kit_below(&r, 40) == 0;

			widest = gap > widest ? gap : widest;
			held += hold;
			set(now += gap, 2, hold);
		}
		for (size_t i = 1; i < count; i++)
			cr_assert(marks[i].step - marks[i - 1].step <= widest ||
				  marks[i].step - marks[i - 1].step <= now - marks[i].step);
		for (size_t i = 0; i < count; i++)
			held -= marks[i].held;
		cr_assert_eq(held, 0, "a held one is gone");
	}
}

Test(thin, what_is_useless_goes)
{
	struct persist_mark m[] = {
		{ .step = 5, .useless = true }, { .step = 6, .useless = true },  { .step = 7, .useless = true },
		{ .step = 7, .useless = true }, { .step = 50, .held = true },
	};

	persist_thin(m, KIT_COUNT(m), 50, 2);
	cr_assert(m[0].drop && m[1].drop && m[2].drop && !m[3].drop && !m[4].drop);
	persist_thin(m, KIT_COUNT(m), 50, 1);
	cr_assert(m[3].drop && !m[4].drop);
	persist_thin(m, KIT_COUNT(m), 50, 100);
	cr_assert(!m[0].drop);
	persist_thin(NULL, 0, 9, 2);
}

/* ---- In a database ---------------------------------------------------------------------- */

static char dir[64], why[PERSIST_WHY];
#define WHY why, sizeof why

struct seen {
	uint64_t id[200], step[200];
	bool kept[200];
	size_t count;
};

static bool
see(void *arg, const struct persist_snapshot *s)
{
	struct seen *seen = arg;

	cr_assert_lt(seen->count, 200);
	seen->id[seen->count] = s->id;
	seen->kept[seen->count] = s->kept;
	seen->step[seen->count++] = s->step;
	return true;
}

static struct seen
look(struct persist *db)
{
	struct seen seen = { .count = 0 };

	cr_assert_eq(persist_list(db, see, &seen, WHY), PERSIST_OK, "%s", why);
	return seen;
}

/* Steps up to "to", a snapshot every 10, one of them held; every state is near a snapshot and can be made. */
Test(thin, long_journal_keeps_a_thinning_series)
{
	struct persist_writer *writer;
	struct persist_stream *stream;
	struct kvms_outcome out = { .name = 0 };
	struct persist_rebuilt rebuilt;
	struct kvms_refusal refusal;
	struct persist *db;
	uint64_t to = 10 * kit_scaled(200) + 200;
	uint64_t *digest = calloc(to + 1, sizeof *digest);
	struct kvms *s = kvms_new(NULL, &refusal), *then;

	snprintf(dir, sizeof dir, "/tmp/kvmstore-thin-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(persist_open(dir, PERSIST_CREATE, &db, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_writer_start(db, PERSIST_DURABILITY_RELAXED, 1, &writer, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_writer_save_now(writer, "s", s, WHY), PERSIST_OK, "%s", why);
	stream = persist_stream_new(writer, "s", s);
	digest[0] = kvms_digest(s);
	for (uint64_t step = 1; step <= to; step++) {
		struct kvms_op op = step % 7 < 4 ? kit_op("frame_alloc") : kit_op("frame_drop frame=%" PRIu64, step / 2);

		cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
		cr_assert(persist_stream_add(stream, 1, &op, &out));
		digest[step] = kvms_digest(s);
		if (step == 50)
			cr_assert(persist_writer_hold(writer, "s", s, NULL, NULL));
		else if (step % 10 == 0)
			cr_assert(persist_writer_save(writer, "s", s, NULL, NULL));
		if (step % 10 == 0)
			persist_writer_quiet(writer);
	}
	struct seen seen = look(db);
	cr_assert_leq(seen.count, 2 + 2 * log2_above(to / 10) + 4);
	cr_assert_eq(seen.step[0], to);
	cr_assert_eq(seen.step[seen.count - 1], 0);
	bool held = false;
	for (size_t i = 0; i < seen.count; i++) {
		held |= seen.kept[i] && seen.step[i] == 50;
		cr_assert_eq(seen.kept[i], seen.step[i] == 50);
	}
	cr_assert(held);
	for (uint64_t step = 0; step <= to; step += 1 + to / 97) {
		cr_assert_eq(persist_rebuild(db, "s", step, NULL, NULL, &then, &rebuilt, WHY), PERSIST_OK, "%s", why);
		cr_assert_eq(kvms_digest(then), digest[step]);
		cr_assert(rebuilt.replayed < 10 || rebuilt.replayed <= to - step, "%" PRIu64 " steps to %" PRIu64,
			  rebuilt.replayed, step);
		kvms_free(&then);
	}

	/* dropped by its id: the held one, not the one the journal begins with */
	cr_assert(persist_writer_drop_snapshot(writer, "s", seen.id[seen.count - 1], NULL, NULL));
	persist_writer_quiet(writer);
	cr_assert_eq(look(db).count, seen.count);
	cr_assert_eq(persist_drop_snapshot(db, "s", seen.id[seen.count - 1], WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "its journal goes on from there"), "%s", why);
	cr_assert_eq(persist_drop_snapshot(db, "s", 99999, WHY), PERSIST_ABSENT);
	cr_assert_eq(persist_drop_snapshot(db, "other", seen.id[0], WHY), PERSIST_ABSENT);
	for (size_t i = 0; i + 1 < seen.count; i++)
		cr_assert_eq(persist_drop_snapshot(db, "s", seen.id[i], WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(look(db).count, 1);
	cr_assert_eq(persist_rebuild(db, "s", PERSIST_NO_STEP, NULL, NULL, &then, &rebuilt, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(kvms_digest(then), digest[to]);
	cr_assert_eq(rebuilt.replayed, to);
	kvms_free(&then);
	persist_stream_free(&stream);
	cr_assert(persist_writer_stop(&writer, 1000, WHY), "%s", why);

	/* a database of before: without the table of those that are kept */
	char path[100], command[100];
	sqlite3 *sql;
	snprintf(path, sizeof path, "%s/kvmstore.db", dir);
	persist_close(&db);
	cr_assert_eq(sqlite3_open(path, &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(sql, "DROP TABLE kept", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(sql);
	cr_assert_eq(persist_open(dir, PERSIST_READ_ONLY, &db, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(look(db).count, 1);
	persist_close(&db);
	cr_assert_eq(persist_open(dir, 0, &db, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_hold(db, look(db).id[0], WHY), PERSIST_OK, "%s", why);
	cr_assert(look(db).kept[0]);
	persist_close(&db);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
	kvms_outcome_free(&out);
	kvms_free(&s);
	free(digest);
}
