/*
 * Travels: every step comes as it was recorded, every state on the way is the
 * one that was, across pieces, groups, snapshots and states put back.
 */
#include "tests/store_kit.h"

#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "persist/travel.h"
#include "persist/writer.h"

static char dir[64];
static char why[PERSIST_WHY];
#define WHY why, sizeof why

static void
enter(void)
{
	snprintf(dir, sizeof dir, "/tmp/kvmstore-travel-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void
leave(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(travel, .init = enter, .fini = leave, .timeout = 120);

static void
sql(const char *statements)
{
	char path[100];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/kvmstore.db", dir);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000); /* a writer may be at it */
	cr_assert_eq(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

#define STEPS_MAX 6000u

/* What was recorded: the digest behind every step, and what the step was. */
static uint64_t digest[STEPS_MAX + 1], restored[STEPS_MAX + 1];
static unsigned code[STEPS_MAX + 1], outcome[STEPS_MAX + 1];
static uint64_t steps;

/* Wait until all is on the disk, so that the next flush begins a group of its own. */
static void
settle(struct persist_writer *writer)
{
	struct pollfd p = { .fd = persist_writer_fd(writer), .events = POLLIN };

	persist_writer_flush(writer);
	for (uint64_t number = persist_writer_next(writer) - 1; persist_writer_written(writer) < number;) {
		cr_assert_geq(poll(&p, 1, 10000), 1, "nothing is written");
		persist_writer_heard(writer);
	}
}

/*
 * Record a random walk: a group every "flush" steps, a snapshot every
 * "snapshot", and behind every "back" a step that puts an earlier state back.
 */
static void
record(unsigned world, uint64_t count, uint64_t flush, uint64_t snapshot, uint64_t back)
{
	struct kvms_outcome out = { .name = 0 };
	struct persist_writer *writer;
	struct persist_stream *stream;
	struct kit_walk w;
	struct persist *db;
	struct kvms *s;

	cr_assert_leq(count, STEPS_MAX);
	kit_walk_init(&w, NULL, world, 7 + world);
	kvms_set_check(w.s, KVMS_CHECK_OFF, 1);
	cr_assert_eq(persist_open(dir, PERSIST_CREATE, &db, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_writer_start(db, PERSIST_DURABILITY_FULL, 5, &writer, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_writer_save_now(writer, "s", w.s, WHY), PERSIST_OK, "%s", why);
	stream = persist_stream_new(writer, "s", w.s);
	digest[0] = kvms_digest(w.s);
	for (steps = 0; steps < count;) {
		steps++;
		restored[steps] = PERSIST_NO_STEP;
		if (back > 0 && steps % back == 0) {
			/* what is put back must be on the disk */
			settle(writer);
			restored[steps] = steps - back / 2 - steps % 3;
			cr_assert_eq(persist_rebuild(db, "s", restored[steps], NULL, NULL, &s, NULL, WHY), PERSIST_OK,
				     "%s", why);
			kvms_set_steps(s, steps);
			cr_assert(persist_stream_restored(stream, s, restored[steps]));
			kvms_free(&w.s);
			w.s = s;
		} else {
			while (!kit_walk_draw(&w))
				;
			cr_assert_eq(kvms_apply(w.s, &w.op, &out), KVMS_DONE);
			code[steps] = w.op.code;
			outcome[steps] = out.name;
			cr_assert(persist_stream_add(stream, steps, &w.op, &out));
		}
		digest[steps] = kvms_digest(w.s);
		if (steps % flush == 0)
			settle(writer);
		if (snapshot > 0 && steps % snapshot == 0) {
			cr_assert(persist_writer_save(writer, "s", w.s, NULL, NULL));
		}
	}
	persist_stream_free(&stream);
	cr_assert(persist_writer_stop(&writer, 1000, WHY), "%s", why);
	persist_close(&db);
	kvms_outcome_free(&out);
	kvms_free(&w.s);
}

static struct persist *
reader(void)
{
	struct persist *db;

	cr_assert_eq(persist_open(dir, PERSIST_READ_ONLY, &db, WHY), PERSIST_OK, "%s", why);
	return db;
}

/* The steps behind "behind" up to "to" come, each as it was. */
static void
travel_is(struct persist *db, uint64_t behind, uint64_t to, bool with_state)
{
	struct persist_travel *t;
	struct persist_step step;
	uint64_t time = 0, at = behind;

	cr_assert_eq(persist_travel_new(db, "s", behind, to, with_state, NULL, NULL, &t, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_travel_store(t) != NULL, with_state);
	while (persist_travel_next(t, &step, WHY) == PERSIST_OK) {
		cr_assert_eq(step.number, ++at);
		cr_assert_eq(step.restored, restored[at], "step %" PRIu64, at);
		cr_assert_geq(step.time, time);
		time = step.time;
		if (restored[at] == PERSIST_NO_STEP) {
			cr_assert_eq(step.connection, at);
			cr_assert(step.op->code == code[at] && step.out->name == outcome[at], "step %" PRIu64, at);
		} else {
			cr_assert_null(step.op);
		}
		if (!with_state)
			continue;
		cr_assert_eq(kvms_digest(persist_travel_store(t)), digest[at], "step %" PRIu64, at);
		cr_assert_eq(kvms_steps(persist_travel_store(t)), at);
	}
	cr_assert_eq(at, to, "%s", why);
	cr_assert_eq(persist_travel_next(t, &step, WHY), PERSIST_ABSENT);
	persist_travel_free(&t);
	cr_assert_null(t);
}

Test(travel, comes_through_every_step_and_state)
{
	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct persist_history h;

		record(world, kit_scaled(500), 1 + world * 3, world % 2 == 0 ? 0 : 130, world % 3 == 0 ? 0 : 60);
		struct persist *db = reader();
		cr_assert_eq(persist_history(db, "s", &h, WHY), PERSIST_OK);
		cr_assert(h.has_journal && h.first == 1 && h.last == steps);
		cr_assert(h.has_state && h.earliest == 0 && h.latest == steps);
		travel_is(db, 0, steps, true);
		travel_is(db, 0, steps, false);
		for (uint64_t from = 0; from < steps; from += 1 + steps / 13) {
			travel_is(db, from, from + (steps - from) / 3, true);
			travel_is(db, from, from, true);
			travel_is(db, from, steps, false);
		}
		persist_close(&db);
		sql("DELETE FROM journal; DELETE FROM snapshot");
	}
}

/* More groups than a piece has. */
Test(travel, reads_the_journal_piece_by_piece)
{
	record(0, 1500, 1, 0, 0);
	struct persist *db = reader();
	travel_is(db, 0, steps, false);
	travel_is(db, 0, steps, true);
	travel_is(db, 700, steps, false);
	persist_close(&db);
}

/* The journal is damaged in the middle: the travel ends there and says where. */
Test(travel, ends_where_the_journal_is_damaged)
{
	static const struct {
		const char *damage, *says;
	} cases[] = {
		{ "DELETE FROM journal WHERE first = 51", "has no step 51" },
		{ "UPDATE journal SET records = zeroblob(40) WHERE first = 51", "damaged" },
		{ "UPDATE journal SET digest = '0123456789abcdef' WHERE first = 51", "damaged" },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct persist_travel *t;
		struct persist_step step;
		enum persist_status status;
		uint64_t came = 0;

		record(0, 100, 10, 0, 0);
		sql(cases[i].damage);
		struct persist *db = reader();
		cr_assert_eq(persist_travel_new(db, "s", 0, 100, true, NULL, NULL, &t, WHY), PERSIST_OK);
		while ((status = persist_travel_next(t, &step, WHY)) == PERSIST_OK)
			came = step.number;
		cr_expect_eq(status, PERSIST_REFUSED);
		cr_expect_not_null(strstr(why, cases[i].says), "%s", why);
		cr_expect_leq(came, 50);
		cr_expect_eq(persist_travel_next(t, &step, WHY), PERSIST_ABSENT);
		persist_travel_free(&t);
		persist_close(&db);
		sql("DELETE FROM journal; DELETE FROM snapshot");
	}
}

/* What there is not. */
Test(travel, says_what_there_is_not)
{
	struct persist_history h;
	struct persist_travel *t;

	record(0, 20, 10, 0, 0);
	struct persist *db = reader();
	cr_expect_eq(persist_history(db, "other", &h, WHY), PERSIST_ABSENT);
	cr_expect_not_null(strstr(why, "no store \"other\""), "%s", why);
	cr_expect_eq(persist_travel_new(db, "s", 21, 30, true, NULL, NULL, &t, WHY), PERSIST_ABSENT);
	cr_expect_not_null(strstr(why, "has not come to step 21, its last is 20"), "%s", why);
	cr_expect_null(t);
	persist_close(&db);
	/* a snapshot alone */
	sql("DELETE FROM journal");
	db = reader();
	cr_expect_eq(persist_history(db, "s", &h, WHY), PERSIST_OK);
	cr_expect(!h.has_journal && h.has_state && h.earliest == 0 && h.latest == 0);
	persist_close(&db);
	/* as version 1 wrote it */
	sql("DROP TABLE journal; DROP TABLE aside; DROP VIEW journal_groups; PRAGMA user_version = 1"); /* or nearly so */
	db = reader();
	cr_expect_eq(persist_history(db, "s", &h, WHY), PERSIST_ABSENT);
	cr_expect_not_null(strstr(why, "no journal: the file is of version 1"), "%s", why);
	persist_close(&db);
}
