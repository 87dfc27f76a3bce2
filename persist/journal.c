#include "persist/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persist/db.h"
#include "persist/row.h"
#include "trace/text.h"

/* ---- Writing ----------------------------------------------------------------------- */

static void
group_seal(const struct persist_group *g, const char *library, char seal[17])
{
	uint64_t h = PERSIST_SEAL;

	h = persist_seal_text(h, g->store);
	h = persist_seal_number(h, g->first);
	h = persist_seal_number(h, g->last);
	h = persist_seal_number(h, g->restored);
	h = persist_seal_number(h, g->began);
	h = persist_seal_number(h, g->digest);
	h = persist_seal_bytes(h, g->records, g->size);
	h = persist_seal_text(h, library);
	(void)snprintf(seal, 17, "%016" PRIx64, h);
}

static enum persist_status
group_insert(struct persist *db, sqlite3_stmt *statement, const struct persist_group *g, const struct report *r)
{
	char digest[17], seal[17];

	(void)snprintf(digest, sizeof digest, "%016" PRIx64, g->digest);
	group_seal(g, kvms_version(), seal);
	(void)sqlite3_bind_text(statement, 1, g->store, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(statement, 2, (int64_t)g->first);
	(void)sqlite3_bind_int64(statement, 3, (int64_t)g->last);
	if (g->restored == PERSIST_NO_STEP)
		(void)sqlite3_bind_null(statement, 4);
	else
		(void)sqlite3_bind_int64(statement, 4, (int64_t)g->restored);
	(void)sqlite3_bind_int64(statement, 5, (int64_t)g->began);
	(void)sqlite3_bind_text(statement, 6, digest, -1, SQLITE_STATIC);
	(void)sqlite3_bind_blob64(statement, 7, g->records == NULL ? (const void *)"" : g->records, g->size,
				  SQLITE_STATIC);
	(void)sqlite3_bind_text(statement, 8, kvms_version(), -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(statement, 9, seal, -1, SQLITE_STATIC);
	return persist_db_run(db, statement, r);
}

enum persist_status
persist_journal_write(struct persist *db, const struct persist_group *groups, size_t count, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement = NULL;

	if (db->read_only)
		return persist_report(&r, PERSIST_FAILED, "%s: opened for reading only", db->name);
	enum persist_status status = persist_db_exec(db, "BEGIN IMMEDIATE", &r);
	if (status != PERSIST_OK)
		return status;
	status = persist_db_prepare(db, &statement, &r,
				    "INSERT INTO journal(store, first, last, restored, began, digest, records, library,"
				    " seal) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)");
	for (size_t i = 0; i < count && status == PERSIST_OK; i++)
		status = group_insert(db, statement, &groups[i], &r);
	(void)sqlite3_finalize(statement);
	return persist_db_transaction_end(db, status, &r);
}

/* ---- Reading ------------------------------------------------------------------------- */

enum persist_status
persist_journal_last(struct persist *db, const char *store, uint64_t *last, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status = persist_db_prepare(
	    db, &statement, &r, "SELECT last FROM journal WHERE store = ? ORDER BY first DESC LIMIT 1");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, store, -1, SQLITE_STATIC);
		status = persist_db_step(db, statement, &row, &r);
	}
	if (status == PERSIST_OK && row)
		*last = (uint64_t)sqlite3_column_int64(statement, 0);
	else if (status == PERSIST_OK)
		status = persist_report(&r, PERSIST_ABSENT, "%s: no journal of a store \"%s\"", db->name, store);
	(void)sqlite3_finalize(statement);
	return status;
}

/* The group in the row at hand; its records are SQLite's until the next step. */
static bool
group_columns(sqlite3_stmt *statement, const char *store, struct persist_group *g)
{
	char digest[17], library[32], seal[17], have[17];

	*g = (struct persist_group){ .store = store, .restored = PERSIST_NO_STEP };
	bool good =
	    persist_column_number(statement, 0, &g->first) && persist_column_number(statement, 1, &g->last) &&
	    (sqlite3_column_type(statement, 2) == SQLITE_NULL || persist_column_number(statement, 2, &g->restored)) &&
	    persist_column_number(statement, 3, &g->began) &&
	    persist_column_copy(statement, 4, digest, sizeof digest) && persist_digest_read(digest, &g->digest) &&
	    sqlite3_column_type(statement, 5) == SQLITE_BLOB &&
	    persist_column_copy(statement, 6, library, sizeof library) &&
	    persist_column_copy(statement, 7, seal, sizeof seal);
	if (!good)
		return false;
	g->records = sqlite3_column_blob(statement, 5);
	g->size = (size_t)sqlite3_column_bytes(statement, 5);
	group_seal(g, library, have);
	return strcmp(have, seal) == 0 && g->first <= g->last;
}

enum persist_status
persist_journal_visit(struct persist *db, const char *store, uint64_t from, uint64_t to, persist_group_visitor *visit,
		      void *arg, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement;
	struct persist_group g;
	bool row, go_on = true;

	if (to > INT64_MAX)
		to = INT64_MAX;
	if (from > to)
		return PERSIST_OK;
	enum persist_status status = persist_db_prepare(
	    db, &statement, &r,
	    "SELECT first, last, restored, began, digest, records, library, seal FROM journal WHERE store = ?1"
	    " AND first >= coalesce((SELECT max(first) FROM journal WHERE store = ?1 AND first <= ?2), ?2)"
	    " AND first <= ?3 AND last >= ?2 ORDER BY first");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, store, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, (int64_t)from);
		(void)sqlite3_bind_int64(statement, 3, (int64_t)to);
	}
	while (status == PERSIST_OK && go_on) {
		status = persist_db_step(db, statement, &row, &r);
		if (status != PERSIST_OK || !row)
			break;
		if (group_columns(statement, store, &g))
			go_on = visit(arg, &g);
		else
			status = persist_db_damaged(db, &r, "the journal of store \"%s\" from step %" PRIu64, store,
						    (uint64_t)sqlite3_column_int64(statement, 0));
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* ---- Where to begin --------------------------------------------------------------------- */

enum persist_status
persist_set_aside(struct persist *db, uint64_t snapshot, const char *because, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement;

	enum persist_status status =
	    persist_db_prepare(db, &statement, &r, "INSERT OR REPLACE INTO aside(snapshot, why) VALUES(?, ?)");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_int64(statement, 1, (int64_t)snapshot);
		(void)sqlite3_bind_text(statement, 2, because, -1, SQLITE_STATIC);
		status = persist_db_run(db, statement, &r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* A number that a query about "store" and two numbers gives; *found = false if none. */
static enum persist_status
ask(struct persist *db, const char *query, const char *store, uint64_t a, uint64_t b, uint64_t *first,
    uint64_t *second, bool *found, const struct report *r)
{
	sqlite3_stmt *statement;

	enum persist_status status = persist_db_prepare(db, &statement, r, "%s", query);
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, store, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, a > INT64_MAX ? INT64_MAX : (int64_t)a);
		(void)sqlite3_bind_int64(statement, 3, b > INT64_MAX ? INT64_MAX : (int64_t)b);
		status = persist_db_step(db, statement, found, r);
	}
	if (status == PERSIST_OK && *found) {
		*first = (uint64_t)sqlite3_column_int64(statement, 0);
		*second = (uint64_t)sqlite3_column_int64(statement, 1);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/*
 * A stretch of history without a step that puts back another state: the store
 * begins as snapshot or as the state the stretch before ends with, numbered
 * "from", and goes to "to".
 */
struct stretch {
	uint64_t from, to;
};

struct plan {
	struct stretch *at; /* the innermost, which begins with the snapshot, comes last */
	size_t count, capacity;
	uint64_t snapshot; /* id */
};

static bool
plan_add(struct plan *p, uint64_t from, uint64_t to)
{
	if (p->count == p->capacity) {
		size_t capacity = p->capacity * 2 + 8;
		struct stretch *at = realloc(p->at, capacity * sizeof *at);

		if (at == NULL)
			return false;
		p->at = at;
		p->capacity = capacity;
	}
	p->at[p->count++] = (struct stretch){ from, to };
	return true;
}

/* The newest snapshot of "store" at step ?2 or before that is not set aside and older than snapshot ?3. */
#define SNAPSHOT_BEFORE                                                                                                \
	"SELECT id, step FROM snapshot WHERE store = ?1 AND step <= ?2 AND id < ?3"                                    \
	" AND id NOT IN (SELECT snapshot FROM aside) AND id NOT IN (SELECT snapshot FROM unfinished) ORDER BY step DESC, id DESC LIMIT 1"

/* The last step at ?2 or before that put a state back, and which.  ?3 is not used. */
#define RESTORED_BEFORE                                                                                                \
	"SELECT first, restored FROM journal WHERE store = ?1 AND first <= ?2 AND restored IS NOT NULL AND ?3 > 0"     \
	" ORDER BY first DESC LIMIT 1"

/* Where the gap that ?2 lies in ends: the sound snapshot before the next group, or the newest if there is none. */
#define GAP_ENDS                                                                                                       \
	"SELECT step, id FROM snapshot WHERE store = ?1 AND step >= ?2 AND ?3 > 0"                                     \
	" AND id NOT IN (SELECT snapshot FROM aside) AND id NOT IN (SELECT snapshot FROM unfinished)"                  \
	" AND step = coalesce((SELECT min(first) - 1 FROM journal WHERE store = ?1 AND first > ?2),"                   \
	" (SELECT max(step) FROM snapshot WHERE store = ?1 AND id NOT IN (SELECT snapshot FROM aside)"                 \
	" AND id NOT IN (SELECT snapshot FROM unfinished))) ORDER BY id DESC LIMIT 1"

#define GROUP_BEFORE "SELECT last, first FROM journal WHERE store = ?1 AND first <= ?2 AND ?3 > 0 ORDER BY first DESC LIMIT 1"

enum persist_status
persist_journal_gap(struct persist *db, const char *store, uint64_t step, struct persist_gap *gap, bool *found,
		    char *why, size_t size)
{
	const struct report r = { why, size };
	uint64_t unused, before = 0;
	bool any = false;

	enum persist_status status = ask(db, GAP_ENDS, store, step, 1, &gap->last, &unused, found, &r);
	if (status == PERSIST_OK && *found)
		status = ask(db, GROUP_BEFORE, store, step, 1, &before, &unused, &any, &r);
	gap->first = any ? before + 1 : step;
	*found = *found && gap->first <= step;
	return status;
}

/* Plan how to come to "step", with snapshots of lower id than "below". */
static enum persist_status
plan_make(struct persist *db, const char *store, uint64_t step, uint64_t below, struct plan *p,
	  const struct report *r)
{
	uint64_t snapshot = 0, saved = 0, put_back = 0, target = 0;
	bool have_snapshot, have_restored;

	p->count = 0;
	for (;;) {
		enum persist_status status =
		    ask(db, SNAPSHOT_BEFORE, store, step, below, &snapshot, &saved, &have_snapshot, r);
		if (status == PERSIST_OK)
			status = ask(db, RESTORED_BEFORE, store, step, 1, &put_back, &target, &have_restored, r);
		if (status != PERSIST_OK)
			return status;
		bool from_snapshot = have_snapshot && (!have_restored || saved >= put_back);

		if (!from_snapshot && (!have_restored || target >= put_back))
			return persist_report(r, PERSIST_ABSENT,
					      "%s: no snapshot of a store \"%s\" at step %" PRIu64 " or before",
					      db->name, store, step);
		if (!plan_add(p, from_snapshot ? saved : put_back, step))
			return persist_db_status(db, SQLITE_NOMEM, r);
		if (from_snapshot) {
			p->snapshot = snapshot;
			return PERSIST_OK;
		}
		step = target;
	}
}

/* ---- Rebuilding ---------------------------------------------------------------------------- */

struct replay {
	struct persist *db;
	struct kvms *s;
	uint64_t to; /* stop behind this step */
	struct persist_record record;
	struct bytes scratch[2];
	enum persist_status status;
	const struct report *r;
	persist_progress *progress;
	void *arg;
	uint64_t done, total;
	uint64_t bytes; /* of the records applied */
};

/* Say what was to happen at the next step of "s" and what did. */
static enum persist_status
disagree(struct persist *db, const char *store, const struct kvms *s, const struct persist_record *record,
	 const char *what, const struct report *r)
{
	struct kvt_buffer op = { 0 }, want = { 0 };
	const struct kvms_row *row = kvms_op_row(record->op.code);
	uint64_t step = kvms_steps(s);

	kvt_print_op(&op, row, &record->op);
	kvt_print_outcome(&want, row, &record->out);
	enum persist_status status =
	    persist_report(r, PERSIST_REFUSED,
			   "%s: store \"%s\", step %" PRIu64 ": %.200s was recorded as %.200s, and now %s; the "
			   "journal and this version of the model disagree. Nothing was changed: use the "
			   "version that wrote it, or restore a copy",
			   db->name, store, step, kvt_buffer_text(&op), kvt_buffer_text(&want), what);
	kvt_buffer_free(&op);
	kvt_buffer_free(&want);
	return status;
}

enum persist_status
persist_step_replay(struct persist *db, const char *store, struct kvms *s, const struct persist_record *record,
		    struct bytes scratch[2], char *why, size_t size)
{
	const struct report r = { why, size };
	struct bytes *have = &scratch[0], *want = &scratch[1];
	struct kvms_outcome out = { .name = 0 };
	enum kvms_status done = kvms_apply(s, &record->op, &out);
	bool same = false, nomem = done == KVMS_NOMEM;

	if (done == KVMS_DONE) {
		persist_bytes_reset(have);
		persist_bytes_reset(want);
		persist_outcome_encode(have, record->op.code, &out);
		persist_outcome_encode(want, record->op.code, &record->out);
		nomem = have->failed || want->failed;
		same = !nomem && have->size == want->size && memcmp(have->at, want->at, have->size) == 0;
	}
	kvms_outcome_free(&out);
	if (same)
		return PERSIST_OK;
	if (nomem)
		return persist_db_status(db, SQLITE_NOMEM, &r);
	return disagree(db, store, s, record, done != KVMS_DONE ? "the model refuses it" : "has another outcome", &r);
}

enum persist_status
persist_group_check(struct persist *db, const struct persist_group *g, struct kvms *s, char *why, size_t size)
{
	const struct report r = { why, size };
	char target[64] = "";

	if (kvms_digest(s) == g->digest)
		return PERSIST_OK;
	if (g->restored != PERSIST_NO_STEP)
		(void)snprintf(target, sizeof target, " puts back step %" PRIu64, g->restored);
	return persist_report(&r, PERSIST_REFUSED,
			      "%s: store \"%s\", step %" PRIu64 "%s: the journal says digest 0x%016" PRIx64 ", %s"
			      " gives 0x%016" PRIx64 ". Nothing was changed: use the version that wrote it, or "
			      "restore a copy",
			      db->name, g->store, g->last, target, g->digest,
			      target[0] != '\0' ? "rebuilding" : "replaying", kvms_digest(s));
}

#define PROGRESS_EVERY 4096u

static bool
group_replay(void *arg, const struct persist_group *g)
{
	struct replay *p = arg;
	uint64_t step = g->first;
	size_t at = 0, used;

	if (g->restored != PERSIST_NO_STEP || g->first > kvms_steps(p->s) + 1) {
		p->status = persist_db_damaged(p->db, p->r, "the journal of store \"%s\" has no step %" PRIu64,
					       g->store, kvms_steps(p->s) + 1);
		return false;
	}
	for (; at < g->size && step <= p->to; step++, at += used) {
		enum persist_decode decoded = persist_record_decode(g->records + at, g->size - at, &p->record, &used);

		if (decoded == PERSIST_NOMEM)
			p->status = persist_db_status(p->db, SQLITE_NOMEM, p->r);
		else if (decoded != PERSIST_DECODED)
			p->status = persist_db_damaged(p->db, p->r, "the record of step %" PRIu64 " of store \"%s\"",
						       step, g->store);
		if (decoded != PERSIST_DECODED)
			return false;
		if (step <= kvms_steps(p->s))
			continue; /* the snapshot holds it */
		p->status = persist_step_replay(p->db, g->store, p->s, &p->record, p->scratch, p->r->why, p->r->size);
		if (p->status != PERSIST_OK)
			return false;
		p->bytes += used;
		if (++p->done % PROGRESS_EVERY == 0 && p->progress != NULL)
			p->progress(p->arg, p->done, p->total);
	}
	if (step <= g->last && step <= p->to) {
		p->status = persist_db_damaged(p->db, p->r, "the group of store \"%s\" from step %" PRIu64 " is too short",
					       g->store, g->first);
		return false;
	}
	if (step > g->last)
		p->status = persist_group_check(p->db, g, p->s, p->r->why, p->r->size);
	return p->status == PERSIST_OK;
}

/* Check the digest of a step that puts a state back. */
static bool
restore_check(void *arg, const struct persist_group *g)
{
	struct replay *p = arg;

	if (g->restored != PERSIST_NO_STEP)
		p->status = persist_group_check(p->db, g, p->s, p->r->why, p->r->size);
	return false;
}

/* There is no next step: say why. */
static enum persist_status
steps_missing(const struct replay *p, const char *store)
{
	struct persist_gap gap;
	bool found;

	enum persist_status status =
	    persist_journal_gap(p->db, store, kvms_steps(p->s) + 1, &gap, &found, p->r->why, p->r->size);
	if (status != PERSIST_OK)
		return status;
	if (found)
		return persist_report(p->r, PERSIST_ABSENT,
				      "%s: steps %" PRIu64 " to %" PRIu64 " of store \"%s\" were not recorded, because it "
				      "was kept without a journal then (durability off); the states behind steps %" PRIu64
				      " and %" PRIu64 " are there",
				      p->db->name, gap.first, gap.last, store, gap.first - 1, gap.last);
	return persist_report(p->r, PERSIST_ABSENT, "%s: the journal of store \"%s\" ends at step %" PRIu64, p->db->name,
			      store, kvms_steps(p->s));
}

static enum persist_status
plan_run(struct replay *p, const char *store, const struct plan *plan)
{
	char why[PERSIST_WHY];

	for (size_t i = 0; i < plan->count; i++)
		p->total += plan->at[i].to - plan->at[i].from;
	for (size_t i = plan->count; i-- > 0 && p->status == PERSIST_OK;) {
		const struct stretch *at = &plan->at[i];
		enum persist_status status = PERSIST_OK;

		kvms_set_steps(p->s, at->from);
		p->to = at->to;
		if (i + 1 < plan->count) /* this stretch begins with a step that put a state back */
			status = persist_journal_visit(p->db, store, at->from, at->from, restore_check, p, why,
						       sizeof why);
		if (status == PERSIST_OK && p->status == PERSIST_OK && at->from < at->to)
			status = persist_journal_visit(p->db, store, at->from + 1, at->to, group_replay, p, why,
						       sizeof why);
		if (status != PERSIST_OK)
			return persist_report(p->r, status, "%s", why);
		if (p->status == PERSIST_OK && kvms_steps(p->s) != at->to)
			return steps_missing(p, store);
	}
	return p->status;
}

enum persist_status
persist_journal_restored(struct persist *db, const char *store, uint64_t before, uint64_t *step, uint64_t *target,
			 bool *found, char *why, size_t size)
{
	const struct report r = { why, size };

	return ask(db, RESTORED_BEFORE, store, before, 1, step, target, found, &r);
}

/* The last step there is: of the journal, or of the newest snapshot. */
static enum persist_status
last_step(struct persist *db, const char *store, uint64_t *last, const struct report *r)
{
	uint64_t snapshot, saved = 0;
	bool found;

	enum persist_status status =
	    ask(db, SNAPSHOT_BEFORE, store, UINT64_MAX, UINT64_MAX, &snapshot, &saved, &found, r);
	if (status != PERSIST_OK)
		return status;
	status = persist_journal_last(db, store, last, r->why, r->size);
	if (status == PERSIST_ABSENT && found) {
		*last = saved;
		return PERSIST_OK;
	}
	if (status == PERSIST_OK && found && saved > *last)
		*last = saved;
	return status;
}

#define LOAD_TICK 200000 /* instructions of SQLite's machine: some milliseconds */

struct load_progress {
	persist_progress *progress;
	void *arg;
};

static int
load_tick(void *arg)
{
	const struct load_progress *p = arg;

	p->progress(p->arg, 0, 0);
	return 0;
}

/* Load the snapshot of the plan; a bad one is passed over for the one before. */
static enum persist_status
begin(struct persist *db, const char *store, uint64_t step, struct plan *plan, struct kvms **s,
      struct persist_rebuilt *rebuilt, const struct report *r)
{
	uint64_t below = UINT64_MAX;
	unsigned dropped = 0;

	for (;;) {
		enum persist_status status = plan_make(db, store, step, below, plan, r);

		if (status == PERSIST_ABSENT && rebuilt->aside > 0)
			return persist_report(r, PERSIST_REFUSED,
					      "no snapshot of store \"%s\" can be loaded: %s", store,
					      rebuilt->aside_why);
		if (status != PERSIST_OK)
			return status;
		status = persist_load(db, store, plan->snapshot, s, &rebuilt->snapshot, rebuilt->aside_why,
				      sizeof rebuilt->aside_why);
		if (status == PERSIST_OK)
			return status;
		if (status == PERSIST_ABSENT && dropped++ < 8)
			continue; /* whoever writes has dropped it since it was found */
		if (status != PERSIST_REFUSED)
			return persist_report(r, status, "%s", rebuilt->aside_why);
		if (rebuilt->aside < PERSIST_ASIDE)
			rebuilt->aside_id[rebuilt->aside] = plan->snapshot;
		rebuilt->aside++;
		below = plan->snapshot;
	}
}

enum persist_status
persist_rebuild(struct persist *db, const char *store, uint64_t step, persist_progress *progress, void *arg,
		struct kvms **s, struct persist_rebuilt *rebuilt, char *why, size_t size)
{
	const struct report r = { why, size };
	struct plan plan = { .at = NULL };
	struct persist_rebuilt unused;

	if (rebuilt == NULL)
		rebuilt = &unused;
	*s = NULL;
	*rebuilt = (struct persist_rebuilt){ .replayed = 0 };
	enum persist_status status = last_step(db, store, &rebuilt->last, &r);
	if (status == PERSIST_OK && step != PERSIST_NO_STEP && step > rebuilt->last)
		status = persist_report(&r, PERSIST_ABSENT, "%s: store \"%s\" has not come to step %" PRIu64
					", its last is %" PRIu64, db->name, store, step, rebuilt->last);
	struct load_progress load = { progress, arg };
	if (progress != NULL)
		sqlite3_progress_handler(db->sql, LOAD_TICK, load_tick, &load);
	if (status == PERSIST_OK)
		status = begin(db, store, step == PERSIST_NO_STEP ? rebuilt->last : step, &plan, s, rebuilt, &r);
	if (progress != NULL)
		sqlite3_progress_handler(db->sql, 0, NULL, NULL);
	if (status == PERSIST_OK) {
		struct replay p = { .db = db, .s = *s, .r = &r, .progress = progress, .arg = arg };

		kvms_set_check(*s, KVMS_CHECK_OFF, 1);
		status = plan_run(&p, store, &plan);
		rebuilt->replayed = p.done;
		rebuilt->bytes = p.bytes;
		persist_record_free(&p.record);
		persist_bytes_free(&p.scratch[0]);
		persist_bytes_free(&p.scratch[1]);
	}
	if (status != PERSIST_OK)
		kvms_free(s);
	free(plan.at);
	return status;
}
