/*
 * The journal: what is written comes back step by step, every earlier state
 * can be made again, and what is damaged is refused with the place.
 */
#include "tests/store_kit.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persist/db.h"
#include "persist/writer.h"

static char dir[64];
static char why[PERSIST_WHY];
#define WHY why, sizeof why

static void
enter(void)
{
	snprintf(dir, sizeof dir, "/tmp/kvmstore-journal-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void
leave(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(journal, .init = enter, .fini = leave, .timeout = 120);

static void
sql(const char *statements)
{
	char path[100];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/kvmstore.db", dir);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000); /* the writer may still be at work */
	cr_assert_eq(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* ---- A recorded walk ------------------------------------------------------------------ */

#define STEPS_MAX 4000u

/* A store, its journal, and the digest behind every step. */
struct world {
	struct persist *db;
	struct persist_writer *writer;
	struct persist_stream *stream;
	struct kit_walk walk;
	struct kvms_outcome out;
	uint64_t digest[STEPS_MAX + 1];
};

static void
world_open(struct world *w, unsigned number, uint64_t seed, enum persist_durability durability)
{
	memset(w, 0, sizeof *w);
	cr_assert_eq(persist_open(dir, PERSIST_CREATE, &w->db, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_writer_start(w->db, durability, 5, &w->writer, WHY), PERSIST_OK, "%s", why);
	kit_walk_init(&w->walk, NULL, number, seed);
	kvms_set_check(w->walk.s, KVMS_CHECK_OFF, 1);
	cr_assert_eq(persist_writer_save_now(w->writer, "s", w->walk.s, WHY), PERSIST_OK, "%s", why);
	w->stream = persist_stream_new(w->writer, "s", w->walk.s);
	cr_assert_not_null(w->stream);
	w->digest[0] = kvms_digest(w->walk.s);
}

static void
world_step(struct world *w)
{
	while (!kit_walk_draw(&w->walk))
		;
	cr_assert_eq(kvms_apply(w->walk.s, &w->walk.op, &w->out), KVMS_DONE);
	cr_assert(persist_stream_add(w->stream, 7, &w->walk.op, &w->out));
	cr_assert_leq(kvms_steps(w->walk.s), STEPS_MAX);
	w->digest[kvms_steps(w->walk.s)] = kvms_digest(w->walk.s);
}

static void
world_settle(struct world *w)
{
	persist_writer_flush(w->writer);
	uint64_t number = persist_writer_next(w->writer) - 1;
	struct pollfd p = { .fd = persist_writer_fd(w->writer), .events = POLLIN };

	while (persist_writer_written(w->writer) < number) {
		cr_assert_geq(poll(&p, 1, 10000), 1, "nothing is written");
		persist_writer_heard(w->writer);
		cr_assert(!persist_writer_failing(w->writer, WHY), "%s", why);
	}
	persist_writer_finished(w->writer);
}

static void
world_close(struct world *w)
{
	cr_assert(persist_writer_stop(&w->writer, 0, WHY), "%s", why);
	persist_close(&w->db);
	kvms_outcome_free(&w->out);
	kvms_free(&w->walk.s);
}

/* The state behind "step" is the one that was there. */
static void
state_is(struct world *w, uint64_t step)
{
	struct persist_rebuilt rebuilt;
	struct kvms *s;

	cr_assert_eq(persist_rebuild(w->db, "s", step, NULL, NULL, &s, &rebuilt, WHY), PERSIST_OK, "step %" PRIu64 ": %s",
		     step, why);
	cr_assert_eq(kvms_digest(s), w->digest[step], "step %" PRIu64, step);
	cr_assert_eq(kvms_steps(s), step);
	kit_sound(s);
	kvms_free(&s);
}

/* ---- There and back ---------------------------------------------------------------------- */

Test(journal, makes_every_earlier_state_again)
{
	static struct world w;

	for (unsigned number = 0; number < kit_worlds_count; number++) {
		world_open(&w, number, 100 + number, number % 2 == 0 ? PERSIST_DURABILITY_FULL : PERSIST_DURABILITY_RELAXED);
		uint64_t steps = kit_scaled(400);
		for (uint64_t i = 0; i < steps; i++) {
			world_step(&w);
			if (i % 17 == 0)
				persist_writer_flush(w.writer);
			if (i == steps / 2)
				world_settle(&w);
		}
		world_settle(&w);
		for (uint64_t step = 0; step <= steps; step += 1 + steps / 23)
			state_is(&w, step);
		state_is(&w, steps);
		world_close(&w);
		sql("DELETE FROM journal; DELETE FROM snapshot");
	}
}

/* Snapshots on the way; one that put a state back; states before, between and behind. */
Test(journal, goes_on_after_a_state_was_put_back)
{
	static struct world w;

	world_open(&w, 2, 1, PERSIST_DURABILITY_FULL);
	persist_keep(w.db, 2);
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned i = 0; i < 120; i++)
			world_step(&w);
		if (round % 2 == 1) {
			cr_assert(persist_writer_save(w.writer, "s", w.walk.s, NULL, NULL));
		}
		world_settle(&w);
		/* back by some steps, across a snapshot or to a state that was itself put back */
		uint64_t now = kvms_steps(w.walk.s), target = now - 50 * (round + 1);
		struct kvms *s;

		cr_assert_eq(persist_rebuild(w.db, "s", target, NULL, NULL, &s, NULL, WHY), PERSIST_OK, "%s", why);
		kvms_set_steps(s, now + 1);
		cr_assert(persist_stream_restored(w.stream, s, target));
		kvms_free(&w.walk.s);
		w.walk.s = s;
		w.digest[now + 1] = kvms_digest(s);
		cr_assert_eq(w.digest[now + 1], w.digest[target]);
	}
	for (unsigned i = 0; i < 30; i++)
		world_step(&w);
	world_settle(&w);
	for (uint64_t step = 0; step <= kvms_steps(w.walk.s); step += 7)
		state_is(&w, step);
	state_is(&w, kvms_steps(w.walk.s));

	/* the newest state, as a daemon that starts asks for it */
	struct persist_rebuilt rebuilt;
	struct kvms *s;

	cr_assert_eq(persist_rebuild(w.db, "s", PERSIST_NO_STEP, NULL, NULL, &s, &rebuilt, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(kvms_digest(s), kvms_digest(w.walk.s));
	cr_assert_eq(kvms_steps(s), kvms_steps(w.walk.s));
	cr_assert_eq(rebuilt.aside, 0);
	kvms_free(&s);
	cr_assert_eq(persist_rebuild(w.db, "s", rebuilt.last + 1, NULL, NULL, &s, &rebuilt, WHY), PERSIST_ABSENT);
	cr_assert_not_null(strstr(why, "has not come to step"), "%s", why);
	world_close(&w);
}

/* Look, as another program, at what is in the database at each moment. */
static void *
never_ahead(void *arg)
{
	atomic_int *state = arg; /* 0 go on, 1 end, 2 the snapshot was there first */
	sqlite3_stmt *look;
	char path[100];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/kvmstore.db", dir);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(db,
					"SELECT (SELECT max(step) FROM snapshot) > "
					"(SELECT coalesce(max(last), 0) FROM journal)",
					-1, &look, NULL),
		     SQLITE_OK);
	while (atomic_load(state) == 0) {
		if (sqlite3_step(look) == SQLITE_ROW && sqlite3_column_int(look, 0) != 0)
			atomic_store(state, 2);
		sqlite3_reset(look);
	}
	sqlite3_finalize(look);
	sqlite3_close(db);
	return NULL;
}

/* A snapshot that is there before the steps it holds would leave a gap behind if the daemon died. */
Test(journal, is_never_behind_a_snapshot)
{
	static atomic_int state;
	static struct world w;
	pthread_t watcher;

	world_open(&w, 0, 5, PERSIST_DURABILITY_FULL);
	cr_assert_eq(pthread_create(&watcher, NULL, never_ahead, &state), 0);
	for (uint64_t i = 0, count = kit_scaled(400) + 20; i < count && atomic_load(&state) == 0; i++) {
		for (unsigned k = 0; k < 4; k++) {
			world_step(&w);
			persist_writer_flush(w.writer); /* the thread is at work on the first when the last comes */
		}
		cr_assert(persist_writer_save(w.writer, "s", w.walk.s, NULL, NULL));
		if (i % 7 == 0)
			world_settle(&w);
	}
	world_settle(&w);
	int expected = 0;
	atomic_compare_exchange_strong(&state, &expected, 1);
	pthread_join(watcher, NULL);
	cr_assert_eq(atomic_load(&state), 1, "a snapshot was written before the steps it holds");
	world_close(&w);
}

/* ---- Records -------------------------------------------------------------------------------- */

/* Every record decodes to what was encoded; cut short or with other bytes it never reads past its end. */
Test(journal, records_come_back_and_broken_ones_are_refused)
{
	struct persist_record record = { .connection = 0 };
	struct bytes b = { .at = NULL }, again = { .at = NULL };
	struct kvms_outcome out = { .name = 0 };
	struct kit_random r = { 5 };
	struct kit_walk w;
	size_t used;

	kit_walk_init(&w, NULL, 3, 9);
	for (unsigned i = 0; i < kit_scaled(3000); i++) {
		if (!kit_walk_draw(&w))
			continue;
		cr_assert_eq(kvms_apply(w.s, &w.op, &out), KVMS_DONE);
		persist_bytes_reset(&b);
		persist_record_encode(&b, i, UINT64_MAX - i, &w.op, &out);
		cr_assert_eq(persist_record_decode(b.at, b.size, &record, &used), PERSIST_DECODED);
		cr_assert_eq(used, b.size);
		cr_assert(record.connection == i && record.delay == UINT64_MAX - i);
		persist_bytes_reset(&again);
		persist_record_encode(&again, i, UINT64_MAX - i, &record.op, &record.out);
		cr_assert(again.size == b.size && memcmp(again.at, b.at, b.size) == 0);
		for (size_t size = 0; size < b.size; size += 1 + size / 50) {
			unsigned char *exact = malloc(size + 1); /* so that reading on is noticed */

			memcpy(exact, b.at, size);
			cr_assert_eq(persist_record_decode(exact, size, &record, &used), PERSIST_MALFORMED);
			free(exact);
		}
		size_t at = (size_t)kit_below(&r, b.size);
		b.at[at] ^= (unsigned char)(1u << kit_below(&r, 8));
		(void)persist_record_decode(b.at, b.size, &record, &used); /* either way, without harm */
	}
	persist_record_free(&record);
	persist_bytes_free(&b);
	persist_bytes_free(&again);
	kvms_outcome_free(&out);
	kvms_free(&w.s);
}

/* Every outcome of every operation, the first and the last name too, whatever a random walk happens to meet. */
Test(journal, records_of_every_outcome_come_back)
{
	struct persist_record record = { .connection = 0 };
	struct bytes b = { .at = NULL };
	unsigned outcomes = 0;
	size_t used;

	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);
		struct kvms_op op;

		for (unsigned k = 0, name; row != NULL && (name = kvms_row_outcome(row, k)) != UINT_MAX; k++) {
			struct kvms_outcome out = { .name = name, .detail = 7 };

			kvms_op_init(&op, row);
			persist_bytes_reset(&b);
			persist_record_encode(&b, 1, 2, &op, &out);
			cr_expect_eq(persist_record_decode(b.at, b.size, &record, &used), PERSIST_DECODED, "%s %s",
				     row->name, kvms_outcome_name(name));
			cr_expect(used == b.size && record.out.name == name && record.op.code == code);
			if (kvms_outcome_detail(name) != NULL)
				cr_expect_eq(record.out.detail, 7);
			outcomes++;
		}
	}
	cr_expect_gt(outcomes, 400);
	persist_record_free(&record);
	persist_bytes_free(&b);
}

/* ---- Damage ----------------------------------------------------------------------------------- */

Test(journal, that_was_changed_is_refused_with_the_step)
{
	static const struct {
		const char *damage, *says;
	} cases[] = {
		{ "UPDATE journal SET digest = '0123456789abcdef' WHERE first > 40", "damaged: the journal of store" },
		{ "UPDATE journal SET records = substr(records, 2) WHERE first > 40", "damaged: the journal of store" },
		{ "UPDATE journal SET last = last + 1 WHERE first > 40", "damaged: the journal of store" },
		{ "DELETE FROM journal WHERE id = 3", "has no step" },
		{ "UPDATE journal SET records = 5 WHERE first > 40", "damaged: the journal of store" },
		{ "UPDATE snapshot SET seal = ''", "the checksum of snapshot" },
	};
	static struct world w;

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct kvms *s;

		world_open(&w, 0, 3, PERSIST_DURABILITY_FULL);
		for (unsigned k = 0; k < 100; k++) {
			world_step(&w);
			if (k % 20 == 19)
				world_settle(&w);
		}
		world_settle(&w);
		sql(cases[i].damage);
		cr_expect_eq(persist_rebuild(w.db, "s", PERSIST_NO_STEP, NULL, NULL, &s, NULL, WHY), PERSIST_REFUSED);
		cr_expect_null(s);
		cr_expect_not_null(strstr(why, cases[i].says), "%s:\n%s", cases[i].damage, why);
		world_close(&w);
		sql("DELETE FROM journal; DELETE FROM snapshot");
	}
}

/* A snapshot that cannot be loaded is passed over; the journal leads from the one before to the same state. */
Test(journal, leads_around_a_snapshot_that_is_damaged)
{
	struct persist_rebuilt rebuilt;
	static struct world w;
	struct kvms *s;

	world_open(&w, 1, 3, PERSIST_DURABILITY_FULL);
	for (unsigned k = 0; k < 200; k++)
		world_step(&w);
	cr_assert_eq(persist_writer_save_now(w.writer, "s", w.walk.s, WHY), PERSIST_OK);
	for (unsigned k = 0; k < 50; k++)
		world_step(&w);
	world_settle(&w);
	sql("UPDATE frame SET rc = 77 WHERE snapshot = (SELECT max(id) FROM snapshot WHERE store = 's')");
	cr_assert_eq(persist_rebuild(w.db, "s", PERSIST_NO_STEP, NULL, NULL, &s, &rebuilt, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(rebuilt.aside, 1);
	cr_assert_gt(strlen(rebuilt.aside_why), 10);
	cr_assert_eq(rebuilt.replayed, 250);
	cr_assert_eq(kvms_digest(s), w.digest[250]);
	kvms_free(&s);
	world_close(&w);
}

/* ---- Who is in the way -------------------------------------------------------------------------- */

/* While another program holds the database nothing is lost, and it is said; then all is written. */
Test(journal, waits_while_another_program_is_in_the_way)
{
	static struct world w;
	char path[100];
	sqlite3 *other;

	world_open(&w, 0, 3, PERSIST_DURABILITY_FULL);
	snprintf(path, sizeof path, "%s/kvmstore.db", dir);
	cr_assert_eq(sqlite3_open(path, &other), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	for (unsigned k = 0; k < 20; k++)
		world_step(&w);
	persist_writer_flush(w.writer);
	for (unsigned tries = 0; tries < 100 && !persist_writer_failing(w.writer, WHY); tries++)
		usleep(100000);
	cr_assert(persist_writer_failing(w.writer, WHY));
	cr_assert_not_null(strstr(why, "in use by another program"), "%s", why);
	cr_assert_eq(persist_writer_written(w.writer), 0);
	for (unsigned k = 0; k < 20; k++)
		world_step(&w);
	sqlite3_close(other);
	for (unsigned tries = 0; tries < 100 && persist_writer_failing(w.writer, WHY); tries++)
		usleep(100000);
	world_settle(&w);
	state_is(&w, 15);
	state_is(&w, 40);
	world_close(&w);
}
