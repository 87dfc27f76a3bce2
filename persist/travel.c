#include "persist/travel.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "persist/db.h"

/* ---- What there is ----------------------------------------------------------------- */

/* Two numbers out of the database, about "store" and, if the query has it, step ?2; *found = false if the first is
 * NULL. */
static enum persist_status
numbers(struct persist *db, const char *query, const char *store, uint64_t step, uint64_t at[2], bool *found,
	const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status = persist_db_prepare(db, &statement, r, "%s", query);
	if (status == PERSIST_OK && store != NULL)
		(void)sqlite3_bind_text(statement, 1, store, -1, SQLITE_STATIC);
	if (status == PERSIST_OK && store != NULL)
		(void)sqlite3_bind_int64(statement, 2, (int64_t)step);
	if (status == PERSIST_OK)
		status = persist_db_step(db, statement, &row, r);
	*found = status == PERSIST_OK && row && sqlite3_column_type(statement, 0) == SQLITE_INTEGER;
	for (int i = 0; i < 2; i++)
		at[i] = *found ? (uint64_t)sqlite3_column_int64(statement, i) : 0;
	(void)sqlite3_finalize(statement);
	return status;
}

/* Tables of the journal came with version 2. */
static enum persist_status
version_check(struct persist *db, const struct report *r)
{
	uint64_t version[2];
	bool found;

	enum persist_status status = numbers(db, "PRAGMA user_version", NULL, 0, version, &found, r);
	if (status != PERSIST_OK || version[0] >= 2)
		return status;
	return persist_report(r, PERSIST_ABSENT,
			      "%s: no journal: the file is of version %" PRIu64
			      ", which had none; a daemon that is started on it begins one",
			      db->name, version[0]);
}

enum persist_status
persist_history(struct persist *db, const char *store, struct persist_history *history, char *why, size_t size)
{
	const struct report r = { why, size };
	uint64_t steps[2], saved[2];

	*history = (struct persist_history){ .has_journal = false };
	enum persist_status status = version_check(db, &r);
	if (status == PERSIST_OK)
		status =
		    numbers(db,
			    "SELECT min(first), (SELECT last FROM journal WHERE store = ?1 ORDER BY first DESC LIMIT 1)"
			    " FROM journal WHERE store = ?1",
			    store, 0, steps, &history->has_journal, &r);
	if (status == PERSIST_OK)
		status = numbers(db,
				 "SELECT min(step), max(step) FROM snapshot WHERE store = ?1 AND step >= ?2"
				 " AND id NOT IN (SELECT snapshot FROM aside)",
				 store, history->has_journal ? steps[0] - 1 : 0, saved, &history->has_state, &r);
	if (status != PERSIST_OK)
		return status;
	history->first = steps[0];
	history->last = steps[1];
	history->earliest = saved[0];
	history->latest = saved[1] > steps[1] ? saved[1] : steps[1];
	if (!history->has_journal && !history->has_state)
		return persist_report(&r, PERSIST_ABSENT, "%s: no store \"%s\"", db->name, store);
	return PERSIST_OK;
}

/* ---- A piece of the journal ------------------------------------------------------------ */

/* A piece ends with the group that makes it this big. */
#define PIECE_BYTES (UINT64_C(1) << 20)
#define PIECE_GROUPS 1024u

struct piece {
	struct persist_group group[PIECE_GROUPS]; /* their records: offsets until the piece is complete */
	size_t offset[PIECE_GROUPS];
	size_t count, at; /* groups, the one at hand */
	struct bytes records;
};

struct persist_travel {
	struct persist *db;
	char *store;
	struct kvms *s;    /* NULL: without a state */
	uint64_t position; /* the last step that came */
	uint64_t to;
	struct piece piece;
	size_t used;      /* bytes of the group at hand that are decoded */
	uint64_t decoded; /* the last step of it that is */
	uint64_t time;    /* of that step */
	struct persist_record record;
	struct bytes scratch[2];
};

static bool
piece_add(void *arg, const struct persist_group *g)
{
	struct piece *p = arg;

	p->offset[p->count] = p->records.size;
	p->group[p->count++] = *g;
	persist_bytes_add(&p->records, g->records, g->size);
	return !p->records.failed && p->count < PIECE_GROUPS && p->records.size < PIECE_BYTES;
}

/* Begin with the group at hand. */
static void
group_begin(struct persist_travel *t)
{
	const struct persist_group *g = &t->piece.group[t->piece.at];

	t->used = 0;
	t->decoded = g->first - 1;
	t->time = g->began;
}

/* Read the piece that holds the next step. */
static enum persist_status
piece_read(struct persist_travel *t, const struct report *r)
{
	struct piece *p = &t->piece;

	p->count = p->at = 0;
	persist_bytes_reset(&p->records);
	enum persist_status status =
	    persist_journal_visit(t->db, t->store, t->position + 1, t->to, piece_add, p, r->why, r->size);
	if (status != PERSIST_OK)
		return status;
	if (p->records.failed)
		return persist_db_status(t->db, SQLITE_NOMEM, r);
	for (size_t i = 0; i < p->count; i++) {
		p->group[i].store = t->store;
		p->group[i].records = p->records.at + p->offset[i];
	}
	if (p->count > 0)
		group_begin(t);
	return PERSIST_OK;
}

/* The group that holds the next step is at hand, or *is_gap: there is none because it was not recorded. */
static enum persist_status
group_find(struct persist_travel *t, struct persist_gap *gap, bool *is_gap, const struct report *r)
{
	struct piece *p = &t->piece;

	*is_gap = false;

	while (p->at < p->count && p->group[p->at].last <= t->position) {
		if (++p->at < p->count)
			group_begin(t);
	}
	if (p->at == p->count) {
		enum persist_status status = piece_read(t, r);

		if (status != PERSIST_OK)
			return status;
	}
	if (p->count > 0 && p->group[p->at].first <= t->position + 1)
		return PERSIST_OK;
	enum persist_status status =
	    persist_journal_gap(t->db, t->store, t->position + 1, gap, is_gap, r->why, r->size);
	if (status != PERSIST_OK || *is_gap)
		return status;
	p->at = 0;
	return persist_db_damaged(t->db, r, "the journal of store \"%s\" has no step %" PRIu64, t->store,
				  t->position + 1);
}

/* ---- Steps --------------------------------------------------------------------------------- */

/* Decode the group at hand up to the next step. */
static enum persist_status
step_decode(struct persist_travel *t, const struct persist_group *g, const struct report *r)
{
	size_t used;

	while (t->decoded < t->position + 1) {
		enum persist_decode decoded =
		    persist_record_decode(g->records + t->used, g->size - t->used, &t->record, &used);

		if (decoded == PERSIST_NOMEM)
			return persist_db_status(t->db, SQLITE_NOMEM, r);
		if (decoded != PERSIST_DECODED)
			return persist_db_damaged(t->db, r, "the record of step %" PRIu64 " of store \"%s\"",
						  t->decoded + 1, t->store);
		t->used += used;
		t->decoded++;
		t->time += t->record.delay;
	}
	return PERSIST_OK;
}

/* Make the state that a step put back. */
static enum persist_status
state_restore(struct persist_travel *t, const struct persist_group *g, const struct report *r)
{
	struct kvms *s;

	enum persist_status status =
	    persist_rebuild(t->db, t->store, g->restored, NULL, NULL, &s, NULL, r->why, r->size);
	if (status != PERSIST_OK)
		return status;
	kvms_free(&t->s);
	t->s = s;
	kvms_set_steps(s, g->first);
	return PERSIST_OK;
}

static enum persist_status
step_make(struct persist_travel *t, const struct persist_group *g, struct persist_step *step, const struct report *r)
{
	enum persist_status status = PERSIST_OK;

	*step = (struct persist_step){ .number = t->position + 1, .time = g->began, .restored = g->restored };
	if (g->restored != PERSIST_NO_STEP)
		return t->s != NULL ? state_restore(t, g, r) : PERSIST_OK;
	status = step_decode(t, g, r);
	if (status != PERSIST_OK)
		return status;
	step->time = t->time;
	step->connection = t->record.connection;
	step->op = &t->record.op;
	step->out = &t->record.out;
	if (t->s != NULL)
		status = persist_step_replay(t->db, t->store, t->s, &t->record, t->scratch, r->why, r->size);
	return status;
}

/* Pass over steps that were not recorded. */
static enum persist_status
gap_pass(struct persist_travel *t, const struct persist_gap *gap, struct persist_step *step, const struct report *r)
{
	struct kvms *s;

	*step = (struct persist_step){ .number = gap->last < t->to ? gap->last : t->to,
				       .restored = PERSIST_NO_STEP,
				       .unrecorded = t->position + 1 };
	if (t->s == NULL)
		return PERSIST_OK;
	enum persist_status status =
	    persist_rebuild(t->db, t->store, step->number, NULL, NULL, &s, NULL, r->why, r->size);
	if (status != PERSIST_OK)
		return status;
	kvms_free(&t->s);
	t->s = s;
	return PERSIST_OK;
}

enum persist_status
persist_travel_next(struct persist_travel *t, struct persist_step *step, char *why, size_t size)
{
	const struct report r = { why, size };

	if (t->position >= t->to)
		return PERSIST_ABSENT;
	struct persist_gap gap;
	bool is_gap;

	enum persist_status status = group_find(t, &gap, &is_gap, &r);
	const struct persist_group *g = &t->piece.group[t->piece.at];
	if (status == PERSIST_OK)
		status = is_gap ? gap_pass(t, &gap, step, &r) : step_make(t, g, step, &r);
	if (status == PERSIST_OK && !is_gap && t->s != NULL && step->number == g->last)
		status = persist_group_check(t->db, g, t->s, why, size);
	if (status == PERSIST_OK)
		t->position = step->number;
	else
		t->to = 0; /* no step comes any more */
	return status;
}

struct kvms *
persist_travel_store(struct persist_travel *t)
{
	return t->s;
}

enum persist_status
persist_travel_new(struct persist *db, const char *store, uint64_t behind, uint64_t to, bool with_state,
		   persist_progress *progress, void *arg, struct persist_travel **out, char *why, size_t size)
{
	const struct report r = { why, size };
	struct persist_travel *t = calloc(1, sizeof *t);
	enum persist_status status = PERSIST_OK;

	*out = NULL;
	if (t == NULL || (t->store = strdup(store)) == NULL) {
		free(t);
		return persist_db_status(db, SQLITE_NOMEM, &r);
	}
	t->db = db;
	t->position = behind;
	t->to = to;
	if (with_state)
		status = persist_rebuild(db, store, behind, progress, arg, &t->s, NULL, why, size);
	if (status == PERSIST_OK)
		*out = t;
	else
		persist_travel_free(&t);
	return status;
}

void
persist_travel_free(struct persist_travel **t)
{
	struct persist_travel *travel = *t;

	*t = NULL;
	if (travel == NULL)
		return;
	kvms_free(&travel->s);
	persist_record_free(&travel->record);
	persist_bytes_free(&travel->scratch[0]);
	persist_bytes_free(&travel->scratch[1]);
	persist_bytes_free(&travel->piece.records);
	free(travel->store);
	free(travel);
}
