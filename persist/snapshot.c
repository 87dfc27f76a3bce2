#include "persist/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "persist/row.h"
#include "persist/schema.h"
#include "persist/tables.h"
#include "persist/thin.h"
#include "persist/wal.h"
#include "trace/text.h"
#include "trace/value.h"

/* ---- The snapshot row ---------------------------------------------------------- */

/* A row of table snapshot with its configuration, as it is in the file. */
struct entry {
	struct persist_snapshot head;
	uint64_t elements, leaves;
	char *config[KVMS_ARGS_MAX]; /* text of each key, NULL = not there */
	char seal[17];
};

static void
entry_clear(struct entry *e)
{
	for (unsigned i = 0; i < KVMS_ARGS_MAX; i++) {
		free(e->config[i]);
		e->config[i] = NULL;
	}
}

static void
entry_seal(const struct entry *e, char seal[17])
{
	const struct kvms_row *row = kvms_store_row();
	uint64_t h = PERSIST_SEAL;

	h = persist_seal_number(h, e->head.id);
	h = persist_seal_text(h, e->head.store);
	h = persist_seal_number(h, e->head.step);
	h = persist_seal_number(h, e->head.digest);
	h = persist_seal_number(h, e->elements);
	h = persist_seal_number(h, e->leaves);
	h = persist_seal_text(h, e->head.taken);
	h = persist_seal_number(h, e->head.format);
	h = persist_seal_text(h, e->head.library);
	for (unsigned i = 0; i < row->args_count; i++)
		if (e->config[i] != NULL)
			h = persist_seal_text(persist_seal_text(h, row->args[i].name), e->config[i]);
	(void)snprintf(seal, 17, "%016" PRIx64, h);
}

#define ENTRY_COLUMNS "id, store, step, digest, elements, leaves, taken, format, library, seal, id IN kept"

static bool
entry_columns(sqlite3_stmt *statement, struct entry *e)
{
	struct persist_snapshot *h = &e->head;
	char digest[17];
	uint64_t format;

	bool good = persist_column_number(statement, 0, &h->id) && persist_column_copy(statement, 1, h->store, sizeof h->store) &&
		    persist_column_number(statement, 2, &h->step) && persist_column_copy(statement, 3, digest, sizeof digest) &&
		    persist_digest_read(digest, &h->digest) && persist_column_number(statement, 4, &e->elements) &&
		    persist_column_number(statement, 5, &e->leaves) && persist_column_copy(statement, 6, h->taken, sizeof h->taken) &&
		    persist_column_number(statement, 7, &format) && format <= UINT_MAX &&
		    persist_column_copy(statement, 8, h->library, sizeof h->library) &&
		    persist_column_copy(statement, 9, e->seal, sizeof e->seal);
	if (!good)
		return false;
	h->format = (unsigned)format;
	h->kept = sqlite3_column_int(statement, 10) != 0;
	return true;
}

/* The configuration of the snapshot whose columns have been read. */
static enum persist_status
entry_config(struct persist *db, struct entry *e, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row;
	char key[64];

	enum persist_status status =
	    persist_db_prepare(db, &statement, r, "SELECT key, value FROM configuration WHERE snapshot = ?");
	if (status == PERSIST_OK)
		(void)sqlite3_bind_int64(statement, 1, (int64_t)e->head.id);
	while (status == PERSIST_OK) {
		status = persist_db_step(db, statement, &row, r);
		if (status != PERSIST_OK || !row)
			break;
		int i = persist_column_copy(statement, 0, key, sizeof key) ? kvms_arg_index(kvms_store_row(), key) : -1;
		const char *value = (const char *)sqlite3_column_text(statement, 1);
		if (i < 0 || value == NULL)
			status = persist_db_damaged(
			    db, r, "snapshot %" PRIu64 " has a configuration key that does not exist", e->head.id);
		else if ((e->config[i] = strdup(value)) == NULL)
			status = persist_db_status(db, SQLITE_NOMEM, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* Read one row with its configuration, and compare the seal. */
static enum persist_status
entry_read(struct persist *db, sqlite3_stmt *statement, struct entry *e, const struct report *r)
{
	char seal[17];

	memset(e, 0, sizeof *e);
	if (!entry_columns(statement, e))
		return persist_db_damaged(db, r, "a row of table snapshot holds a value that kvmstore does not write");
	if ((e->head.format & ~PERSIST_FORMAT_FOREIGN) > PERSIST_FORMAT)
		return persist_report(r, PERSIST_REFUSED,
				      "%s: snapshot %" PRIu64 " was written by a newer version of kvmstore (%s); "
				      "it was left alone, use that version",
				      db->name, e->head.id, e->head.library);
	enum persist_status status = entry_config(db, e, r);
	if (status == PERSIST_OK) {
		entry_seal(e, seal);
		if (strcmp(seal, e->seal) != 0)
			status = persist_db_damaged(db, r, "the checksum of snapshot %" PRIu64 " does not match",
						    e->head.id);
	}
	if (status != PERSIST_OK)
		entry_clear(e);
	return status;
}

/* ---- Listing ----------------------------------------------------------------------- */

enum persist_status
persist_list(struct persist *db, persist_visitor *visit, void *arg, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement;
	struct entry e;
	bool row, go_on = true;

	enum persist_status status =
	    persist_db_prepare(db, &statement, &r, "SELECT " ENTRY_COLUMNS " FROM snapshot WHERE id NOT IN unfinished ORDER BY store, id DESC");
	while (status == PERSIST_OK && go_on) {
		status = persist_db_step(db, statement, &row, &r);
		if (status != PERSIST_OK || !row)
			break;
		status = entry_read(db, statement, &e, &r);
		if (status == PERSIST_OK) {
			go_on = visit(arg, &e.head);
			entry_clear(&e);
		}
	}
	(void)sqlite3_finalize(statement);
	return status;
}

static bool
visit_nothing(void *arg, const struct persist_snapshot *snapshot)
{
	(void)arg;
	(void)snapshot;
	return true;
}

/* ---- Writing --------------------------------------------------------------------------- */

/* Note that a snapshot is not whole, or that it is. */
static enum persist_status
unfinished_set(struct persist *db, uint64_t id, bool unfinished, const struct report *r)
{
	sqlite3_stmt *statement;

	enum persist_status status =
	    persist_db_prepare(db, &statement, r, "%s",
			       unfinished ? "INSERT OR REPLACE INTO unfinished(snapshot) VALUES(?)"
					  : "DELETE FROM unfinished WHERE snapshot = ?");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_int64(statement, 1, (int64_t)id);
		status = persist_db_run(db, statement, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* Delete one snapshot.  Needs an open transaction. */
static enum persist_status
snapshot_delete(struct persist *db, int64_t id, const struct report *r)
{
	sqlite3_stmt *statement;

	/* it may take several transactions: from the first on it is no snapshot any more */
	enum persist_status status = unfinished_set(db, (uint64_t)id, true, r);
	if (status == PERSIST_OK)
		status = persist_tables_drop(db, id, r);
	if (status != PERSIST_OK)
		return status;
	static const char *const rows[] = { "kept WHERE snapshot", "snapshot WHERE id" };
	for (unsigned i = 0; i < 2 && status == PERSIST_OK; i++) {
		status = persist_db_prepare(db, &statement, r, "DELETE FROM %s = ?", rows[i]);
		if (status == PERSIST_OK) {
			(void)sqlite3_bind_int64(statement, 1, id);
			status = persist_db_run(db, statement, r);
		}
		(void)sqlite3_finalize(statement);
	}
	return status == PERSIST_OK ? unfinished_set(db, (uint64_t)id, false, r) : status;
}

/* What is known of the snapshots of a store when some are to go. */
struct marks {
	struct persist_mark *at;
	size_t count, capacity;
};

static bool
mark_add(struct marks *m, const struct persist_mark *mark)
{
	if (m->count == m->capacity) {
		size_t capacity = 2 * m->capacity + 32;
		struct persist_mark *at = realloc(m->at, capacity * sizeof *at);

		if (at == NULL)
			return false;
		m->at = at;
		m->capacity = capacity;
	}
	m->at[m->count++] = *mark;
	return true;
}

/* Whether the journal of store ?1 leads to the step of the row at hand, and whether it goes on from there. */
#define LED_TO                                                                                                         \
	"coalesce((SELECT last FROM journal WHERE store = ?1 AND first <= s.step ORDER BY first DESC LIMIT 1), -1)"    \
	" >= s.step"
#define GOES_ON "EXISTS (SELECT 1 FROM journal WHERE store = ?1 AND first = s.step + 1)"

/* All snapshots of a store, ascending by step. */
static enum persist_status
marks_read(struct persist *db, const char *name, struct marks *m, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row;

	enum persist_status status = persist_db_prepare(
	    db, &statement, r,
	    "SELECT id, step, id IN kept, id IN (SELECT snapshot FROM aside), " LED_TO ", " GOES_ON
	    " FROM snapshot AS s WHERE store = ?1 ORDER BY step, id");
	if (status == PERSIST_OK)
		(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	while (status == PERSIST_OK) {
		status = persist_db_step(db, statement, &row, r);
		if (status != PERSIST_OK || !row)
			break;
		bool kept = sqlite3_column_int(statement, 2) != 0, aside = sqlite3_column_int(statement, 3) != 0;
		bool led_to = sqlite3_column_int(statement, 4) != 0, goes_on = sqlite3_column_int(statement, 5) != 0;
		const struct persist_mark mark = {
			.id = (uint64_t)sqlite3_column_int64(statement, 0),
			.step = (uint64_t)sqlite3_column_int64(statement, 1),
			/* without one where the journal begins, or goes on behind a gap, nothing can be made of it */
			.held = kept || (!aside && goes_on && !led_to),
			.useless = aside || (!led_to && !goes_on),
		};
		if (!mark_add(m, &mark))
			status = persist_db_status(db, SQLITE_NOMEM, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* Before one more snapshot of a store is written, behind "step": delete those that it makes needless. */
static enum persist_status
prune(struct persist *db, const char *name, uint64_t step, const struct report *r)
{
	struct marks m = { .at = NULL };

	enum persist_status status = marks_read(db, name, &m, r);
	/* without a journal a store may be saved at an earlier step than before; from here on they count as now */
	while (m.count > 0 && m.at[m.count - 1].step > step)
		step = m.at[m.count - 1].step;
	if (status == PERSIST_OK)
		persist_thin(m.at, m.count, step, db->keep);
	for (size_t i = 0; i < m.count && status == PERSIST_OK; i++)
		if (m.at[i].drop)
			status = snapshot_delete(db, (int64_t)m.at[i].id, r);
	free(m.at);
	return status;
}

/* Delete all snapshots of a store; *count = how many went. */
static enum persist_status
delete_all(struct persist *db, const char *name, unsigned *count, const struct report *r)
{
	struct marks m = { .at = NULL };

	enum persist_status status = marks_read(db, name, &m, r);
	for (size_t i = 0; i < m.count && status == PERSIST_OK; i++)
		status = snapshot_delete(db, (int64_t)m.at[i].id, r);
	*count = (unsigned)m.count;
	free(m.at);
	return status;
}

/* The configuration as text, key by key, as in the store line of a trace.  False = no memory. */
static bool
config_print(struct entry *e, const struct kvms_op *config)
{
	const struct kvms_row *row = kvms_store_row();
	struct kvt_buffer text = { .size = 0 };
	uint64_t count;

	for (unsigned i = 0; i < row->args_count; i++) {
		enum kvms_type type = row->args[i].type;
		const uint64_t *list = kvms_type_is_list(type) ? kvms_op_list(config, row, i, &count) : NULL;

		kvt_buffer_reset(&text);
		kvt_print_value(&text, type, config->arg[i], list);
		e->config[i] = text.failed ? NULL : strdup(kvt_buffer_text(&text));
		if (e->config[i] == NULL)
			break;
	}
	kvt_buffer_free(&text);
	return e->config[row->args_count - 1] != NULL;
}

/* What the snapshot row will say, but for its id. */
static enum persist_status
entry_fill(struct persist *db, struct entry *e, const char *name, const struct persist_image *image,
	   const struct report *r)
{
	time_t now = time(NULL);
	struct tm tm;

	memset(e, 0, sizeof *e);
	if (strlen(name) == 0 || strlen(name) >= sizeof e->head.store)
		return persist_report(r, PERSIST_FAILED, "\"%.40s\" is no name for a store: give 1 to 255 bytes", name);
	memcpy(e->head.store, name, strlen(name) + 1);
	e->head.step = image->step;
	e->head.digest = image->digest;
	e->head.format = PERSIST_FORMAT | (image->foreign ? PERSIST_FORMAT_FOREIGN : 0);
	e->elements = image->elements;
	e->leaves = image->leaves;
	if (gmtime_r(&now, &tm) == NULL ||
	    strftime(e->head.taken, sizeof e->head.taken, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(e->head.taken, sizeof e->head.taken, "unknown");
	(void)snprintf(e->head.library, sizeof e->head.library, "%s", kvms_version());
	return config_print(e, &image->config) ? PERSIST_OK : persist_db_status(db, SQLITE_NOMEM, r);
}

/* Insert the snapshot row and learn its id; the seal follows. */
static enum persist_status
entry_insert(struct persist *db, struct entry *e, const struct report *r)
{
	sqlite3_stmt *statement;
	char digest[17];

	enum persist_status status =
	    persist_db_prepare(db, &statement, r,
			       "INSERT INTO snapshot(store, step, digest, elements, leaves, taken, format, library,"
			       " seal) VALUES(?, ?, ?, ?, ?, ?, ?, ?, '')");
	if (status == PERSIST_OK) {
		(void)snprintf(digest, sizeof digest, "%016" PRIx64, e->head.digest);
		(void)sqlite3_bind_text(statement, 1, e->head.store, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, (int64_t)e->head.step);
		(void)sqlite3_bind_text(statement, 3, digest, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 4, (int64_t)e->elements);
		(void)sqlite3_bind_int64(statement, 5, (int64_t)e->leaves);
		(void)sqlite3_bind_text(statement, 6, e->head.taken, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 7, e->head.format);
		(void)sqlite3_bind_text(statement, 8, e->head.library, -1, SQLITE_STATIC);
		status = persist_db_run(db, statement, r);
		e->head.id = (uint64_t)sqlite3_last_insert_rowid(db->sql);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

static enum persist_status
entry_insert_config(struct persist *db, const struct entry *e, const struct report *r)
{
	const struct kvms_row *row = kvms_store_row();
	sqlite3_stmt *statement;

	enum persist_status status =
	    persist_db_prepare(db, &statement, r, "INSERT INTO configuration(snapshot, key, value) VALUES(?, ?, ?)");
	for (unsigned i = 0; i < row->args_count && status == PERSIST_OK; i++) {
		(void)sqlite3_bind_int64(statement, 1, (int64_t)e->head.id);
		(void)sqlite3_bind_text(statement, 2, row->args[i].name, -1, SQLITE_STATIC);
		(void)sqlite3_bind_text(statement, 3, e->config[i], -1, SQLITE_STATIC);
		status = persist_db_run(db, statement, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

static enum persist_status
entry_insert_seal(struct persist *db, struct entry *e, const struct report *r)
{
	sqlite3_stmt *statement;

	entry_seal(e, e->seal);
	enum persist_status status = persist_db_prepare(db, &statement, r, "UPDATE snapshot SET seal = ? WHERE id = ?");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, e->seal, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, (int64_t)e->head.id);
		status = persist_db_run(db, statement, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/*
 * Move what the log holds into the database, where damage is noticed: SQLite
 * takes a damaged log for one that ends there.  A reader may be in the way,
 * then the next save does it; the snapshot is on the disk in either case.
 */
static void
log_empty(struct persist *db)
{
	(void)sqlite3_busy_timeout(db->sql, 0);
	(void)sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	(void)sqlite3_busy_timeout(db->sql, PERSIST_BUSY_MS);
}

enum persist_status
persist_write(struct persist *db, const char *name, const struct persist_image *image, struct persist_snapshot *saved,
	      char *why, size_t size)
{
	const struct report r = { why, size };
	struct entry e;
	if (db->read_only)
		return persist_report(&r, PERSIST_FAILED, "%s: opened for reading only", db->name);
	enum persist_status status = entry_fill(db, &e, name, image, &r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, "BEGIN IMMEDIATE", &r);
	if (status == PERSIST_OK) {
		db->since_asked = 0;
		status = prune(db, name, e.head.step, &r);
		if (status == PERSIST_OK)
			status = entry_insert(db, &e, &r);
		if (status == PERSIST_OK && db->pause != NULL)
			status = unfinished_set(db, e.head.id, true, &r);
		if (status == PERSIST_OK)
			status = entry_insert_config(db, &e, &r);
		if (status == PERSIST_OK)
			status = persist_tables_write(db, (int64_t)e.head.id, image, &r);
		if (status == PERSIST_OK)
			status = entry_insert_seal(db, &e, &r);
		if (status == PERSIST_OK && db->pause != NULL)
			status = unfinished_set(db, e.head.id, false, &r);
		status = persist_db_transaction_end(db, status, &r);
	}
	if (status == PERSIST_OK)
		log_empty(db);
	if (status == PERSIST_OK && saved != NULL)
		*saved = e.head;
	entry_clear(&e);
	return status;
}

enum persist_status
persist_save(struct persist *db, const char *name, struct kvms *s, struct persist_snapshot *saved, char *why,
	     size_t size)
{
	struct persist_image *image;

	enum persist_status status = persist_capture(s, &image, why, size);
	if (status == PERSIST_OK)
		status = persist_write(db, name, image, saved, why, size);
	persist_image_free(&image);
	return status;
}

/* Delete the journal of a store; adds to *count. */
static enum persist_status
journal_delete(struct persist *db, const char *name, unsigned *count, const struct report *r)
{
	sqlite3_stmt *statement;

	enum persist_status status = persist_db_prepare(db, &statement, r, "DELETE FROM journal WHERE store = ?");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
		status = persist_db_run(db, statement, r);
		*count += (unsigned)sqlite3_changes(db->sql);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

enum persist_status
persist_drop(struct persist *db, const char *name, char *why, size_t size)
{
	const struct report r = { why, size };
	unsigned count = 0;

	if (db->read_only)
		return persist_report(&r, PERSIST_FAILED, "%s: opened for reading only", db->name);
	enum persist_status status = persist_db_exec(db, "BEGIN IMMEDIATE", &r);
	if (status != PERSIST_OK)
		return status;
	status = delete_all(db, name, &count, &r);
	if (status == PERSIST_OK)
		status = journal_delete(db, name, &count, &r);
	status = persist_db_transaction_end(db, status, &r);
	if (status == PERSIST_OK && count == 0)
		status = persist_report(&r, PERSIST_ABSENT, "%s: nothing of a store \"%s\"", db->name, name);
	return status;
}

enum persist_status
persist_hold(struct persist *db, uint64_t id, char *why, size_t size)
{
	const struct report r = { why, size };
	sqlite3_stmt *statement;

	enum persist_status status =
	    persist_db_prepare(db, &statement, &r, "INSERT OR REPLACE INTO kept(snapshot) VALUES(?)");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_int64(statement, 1, (int64_t)id);
		status = persist_db_run(db, statement, &r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* Fails unless a snapshot may go: nothing else leads to its state, and to what follows. */
static enum persist_status
may_go(struct persist *db, const char *name, uint64_t id, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status = persist_db_prepare(
	    db, &statement, r,
	    "SELECT " LED_TO ", " GOES_ON ", id = (SELECT max(id) FROM snapshot WHERE store = ?1),"
	    " EXISTS (SELECT 1 FROM snapshot AS o WHERE store = ?1 AND o.step = s.step AND o.id <> s.id"
	    "  AND o.id NOT IN (SELECT snapshot FROM aside) AND o.id NOT IN unfinished)"
	    " FROM snapshot AS s WHERE store = ?1 AND id = ?2 AND id NOT IN unfinished");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, (int64_t)id);
		status = persist_db_step(db, statement, &row, r);
	}
	if (status == PERSIST_OK && !row)
		status = persist_report(r, PERSIST_ABSENT, "%s: no snapshot %" PRIu64 " of a store \"%s\"", db->name, id,
					name);
	else if (status == PERSIST_OK && sqlite3_column_int(statement, 0) == 0 && sqlite3_column_int(statement, 3) == 0) {
		if (sqlite3_column_int(statement, 1) != 0)
			status = persist_report(r, PERSIST_REFUSED,
						"snapshot %" PRIu64 " of store \"%s\" stays: its journal goes on from there", id,
						name);
		else if (sqlite3_column_int(statement, 2) != 0)
			status = persist_report(r, PERSIST_REFUSED,
						"snapshot %" PRIu64 " of store \"%s\" stays: nothing else has the store's state", id,
						name);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

enum persist_status
persist_drop_snapshot(struct persist *db, const char *name, uint64_t id, char *why, size_t size)
{
	const struct report r = { why, size };

	if (db->read_only)
		return persist_report(&r, PERSIST_FAILED, "%s: opened for reading only", db->name);
	enum persist_status status = persist_db_exec(db, "BEGIN IMMEDIATE", &r);
	if (status != PERSIST_OK)
		return status;
	db->since_asked = 0;
	status = may_go(db, name, id, &r);
	if (status == PERSIST_OK)
		status = snapshot_delete(db, (int64_t)id, &r);
	return persist_db_transaction_end(db, status, &r);
}

enum persist_status
persist_build(const struct persist_image *image, struct kvms **s, char *why, size_t size)
{
	*s = NULL;
	return persist_image_build(image, s, &(struct report){ why, size });
}

enum persist_status
persist_copy(struct kvms *s, struct kvms **copy, char *why, size_t size)
{
	const struct report r = { why, size };
	struct persist_image *image;

	*copy = NULL;
	enum persist_status status = persist_capture(s, &image, why, size);
	if (status == PERSIST_OK)
		status = persist_image_build(image, copy, &r);
	persist_image_free(&image);
	return status;
}

void
persist_keep(struct persist *db, unsigned count)
{
	db->keep = count > 0 ? count : 1;
}

/* ---- Loading ------------------------------------------------------------------------------ */

/* The entry of snapshot "id" of the store, 0 = the newest. */
static enum persist_status
entry_find(struct persist *db, const char *name, uint64_t id, struct entry *e, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status =
	    persist_db_prepare(db, &statement, r,
			       "SELECT " ENTRY_COLUMNS " FROM snapshot WHERE store = ?1 AND (?2 = 0 OR id = ?2)"
			       " AND id NOT IN unfinished"
			       " ORDER BY id DESC LIMIT 1");
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(statement, 2, (int64_t)id);
		status = persist_db_step(db, statement, &row, r);
	}
	if (status == PERSIST_OK && row)
		status = entry_read(db, statement, e, r);
	else if (status == PERSIST_OK && id == 0)
		status = persist_report(r, PERSIST_ABSENT, "%s: no snapshot of a store \"%s\"", db->name, name);
	else if (status == PERSIST_OK)
		status = persist_report(r, PERSIST_ABSENT, "%s: no snapshot %" PRIu64 " of a store \"%s\"", db->name,
					id, name);
	(void)sqlite3_finalize(statement);
	return status;
}

/* Read the configuration's text into an image.  A key that is not there has its default. */
static enum persist_status
config_read(struct persist *db, const struct entry *e, struct persist_image *image, const struct report *r)
{
	const struct kvms_row *row = kvms_store_row();
	struct kvt_words list = { .size = 0 };
	enum persist_status status = PERSIST_OK;

	for (unsigned i = 0; i < row->args_count && status == PERSIST_OK; i++) {
		const char *text = e->config[i];

		if (text == NULL)
			continue;
		unsigned fault = kvt_value_parse(row->args[i].type, text, strlen(text), &image->config.arg[i], &list);
		if (list.failed)
			status = persist_db_status(db, SQLITE_NOMEM, r);
		else if (fault != KVT_FAULT_NONE)
			status = persist_db_damaged(db, r, "snapshot %" PRIu64 " has an impossible configuration: %s",
						    e->head.id, row->args[i].name);
	}
	image->config_list = list.at;
	image->config.list = list.at;
	return status;
}

/* Read entry and rows into an image. */
static enum persist_status
image_read(struct persist *db, const char *name, uint64_t id, struct entry *e, struct persist_image *image,
	   const struct report *r)
{
	enum persist_status status = entry_find(db, name, id, e, r);

	if (status == PERSIST_OK)
		status = config_read(db, e, image, r);
	if (status != PERSIST_OK)
		return status;
	image->step = e->head.step;
	image->digest = e->head.digest;
	image->elements = e->elements;
	image->leaves = e->leaves;
	image->foreign = (e->head.format & PERSIST_FORMAT_FOREIGN) != 0;
	return persist_tables_read(db, (int64_t)e->head.id, image, r);
}

enum persist_status
persist_load(struct persist *db, const char *name, uint64_t id, struct kvms **s, struct persist_snapshot *loaded,
	     char *why, size_t size)
{
	const struct report r = { why, size };
	char text[PERSIST_WHY];
	struct entry e = { .elements = 0 };

	*s = NULL;
	struct persist_image *image = persist_image_new();
	if (image == NULL)
		return persist_db_status(db, SQLITE_NOMEM, &r);
	/* one transaction: all tables as they were at one moment */
	enum persist_status status = persist_db_exec(db, "BEGIN", &r);
	if (status == PERSIST_OK)
		status = persist_db_transaction_end(db, image_read(db, name, id, &e, image, &r), &r);
	if (status == PERSIST_OK) {
		status = persist_image_build(image, s, &(struct report){ text, sizeof text });
		if (status != PERSIST_OK)
			(void)persist_report(&r, status,
					     "%s: snapshot %" PRIu64 " of store \"%s\" cannot be restored: %s",
					     db->name, e.head.id, name, text);
	}
	if (status == PERSIST_OK && loaded != NULL)
		*loaded = e.head;
	entry_clear(&e);
	persist_image_free(&image);
	return status;
}

/* ---- A state directory ------------------------------------------------------------------------ */

/* DIR/kvmstore.db and what SQLite puts beside it; free() it. */
static char *
state_path(const char *dir, const char *suffix)
{
	char *path = NULL;

	return asprintf(&path, "%s/kvmstore.db%s", dir, suffix) < 0 ? NULL : path;
}

/* Make an empty kvmstore.db.  A log without its database is work that must not be lost. */
static enum persist_status
state_create(const char *dir, const char *path, const struct report *r)
{
	static const char *const beside[] = { "-wal", "-journal" };
	struct persist *db = NULL;
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		char *log = state_path(dir, beside[i]);
		if (log == NULL)
			return persist_report(r, PERSIST_FAILED, "%s: out of memory", path);
		bool there = stat(log, &st) == 0;
		free(log);
		if (there)
			return persist_report(
			    r, PERSIST_REFUSED,
			    "%s: not there, but its log kvmstore.db%s is; put the database back, or remove the log",
			    path, beside[i]);
	}
	enum persist_status status = persist_db_create(path, PERSIST_ID_STATE, &db, r);
	if (status == PERSIST_OK)
		status = persist_db_install(&db, path, false, r);
	return status;
}

/* Delete what a writer that was stopped has left. */
static enum persist_status
unfinished_delete(struct persist *db, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = true;

	enum persist_status status =
	    persist_db_prepare(db, &statement, r, "SELECT snapshot FROM unfinished ORDER BY snapshot LIMIT 1");
	while (status == PERSIST_OK) {
		status = persist_db_step(db, statement, &row, r);
		int64_t id = row ? sqlite3_column_int64(statement, 0) : 0;
		(void)sqlite3_reset(statement);
		if (status != PERSIST_OK || !row)
			break;
		status = persist_db_exec(db, "BEGIN IMMEDIATE", r);
		if (status == PERSIST_OK)
			status = persist_db_transaction_end(db, snapshot_delete(db, id, r), r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* Open a file of either sort and read every snapshot row, so that a damaged one is known now. */
static enum persist_status
open_checked(const char *path, bool read_only, struct persist **db, const struct report *r)
{
	enum persist_status status = persist_db_open(path, read_only, db, r);

	if (status == PERSIST_OK)
		status = persist_list(*db, visit_nothing, NULL, r->why, r->size);
	if (status != PERSIST_OK)
		persist_close(db);
	return status;
}

static enum persist_status
state_open(const char *dir, const char *path, unsigned flags, struct persist **db, const struct report *r)
{
	bool read_only = (flags & PERSIST_READ_ONLY) != 0;
	uint64_t torn = 0;
	struct stat st;

	if (stat(dir, &st) != 0)
		return persist_report(r, errno == ENOENT || errno == ENOTDIR ? PERSIST_ABSENT : PERSIST_FAILED,
				      "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return persist_report(r, PERSIST_FAILED, "%s: not a directory", dir);
	/* who only reads may do so beside a daemon that writes: then the end is on its way */
	enum persist_status status = PERSIST_OK;
	if (!read_only || (flags & PERSIST_ALONE) != 0)
		status = persist_wal_judge(path, &torn, r);
	if (status == PERSIST_OK)
		status = open_checked(path, read_only, db, r);
	if (status == PERSIST_ABSENT && (flags & PERSIST_CREATE) != 0 && !read_only) {
		status = state_create(dir, path, r);
		if (status == PERSIST_OK)
			status = open_checked(path, false, db, r);
	}
	if (status != PERSIST_OK)
		return status;
	if ((*db)->application != PERSIST_ID_STATE)
		status = persist_report(r, PERSIST_REFUSED,
					"%s: a snapshot file, not the database of a state directory; it was left alone",
					path);
	else if (!read_only)
		status = persist_db_settle(*db, r);
	if (status == PERSIST_OK && !read_only)
		status = unfinished_delete(*db, r);
	if (status != PERSIST_OK) {
		persist_close(db);
		return status;
	}
	(*db)->torn = torn;
	if (torn > 0 && !read_only)
		log_empty(*db); /* or the same bytes would be found torn again */
	return PERSIST_OK;
}

uint64_t
persist_torn(const struct persist *db)
{
	return db->torn;
}

enum persist_status
persist_open(const char *dir, unsigned flags, struct persist **db, char *why, size_t size)
{
	const struct report r = { why, size };
	char *path = state_path(dir, "");

	*db = NULL;
	if (path == NULL)
		return persist_report(&r, PERSIST_FAILED, "%s: out of memory", dir);
	enum persist_status status = state_open(dir, path, flags, db, &r);
	free(path);
	return status;
}

enum persist_status
persist_again(const struct persist *db, struct persist **again, char *why, size_t size)
{
	return persist_db_again(db, again, &(struct report){ why, size });
}

/* ---- A snapshot file -------------------------------------------------------------------------------- */

bool
persist_file_is_ours(const char *path)
{
	struct db_head head = { .application = 0 };
	char why[1];

	(void)persist_db_probe(path, &head, &(struct report){ why, sizeof why });
	return head.application == PERSIST_ID_STATE || head.application == PERSIST_ID_SNAPSHOT;
}

/* What is at "path", if anything, may be replaced: a sound snapshot file. */
static enum persist_status
may_replace(const char *path, const struct report *r)
{
	struct persist *old = NULL;

	enum persist_status status = open_checked(path, true, &old, r);
	if (status == PERSIST_OK && old->application != PERSIST_ID_SNAPSHOT)
		status =
		    persist_report(r, PERSIST_REFUSED,
				   "%s: the database of a state directory; it was left alone, give another path", path);
	persist_close(&old);
	return status;
}

/* Save to "path"; with "replace" a file is there and is replaced, without it there must be none. */
static enum persist_status
file_write(const char *path, bool replace, const char *name, struct kvms *s, struct persist_snapshot *saved, char *why,
	   size_t size)
{
	const struct report r = { why, size };
	struct persist_image *image = NULL;
	struct persist *db = NULL;

	/* a link stays a link */
	char *target = replace ? realpath(path, NULL) : strdup(path);
	if (target == NULL)
		return persist_report(&r, PERSIST_FAILED, "%s: %s", path, strerror(errno));
	enum persist_status status = persist_capture(s, &image, why, size);
	if (status == PERSIST_OK)
		status = persist_db_create(target, PERSIST_ID_SNAPSHOT, &db, &r);
	if (status == PERSIST_OK)
		status = persist_write(db, name, image, saved, why, size);
	if (status == PERSIST_OK)
		status = persist_db_install(&db, target, replace, &r);
	else if (db != NULL)
		persist_db_discard(&db);
	persist_image_free(&image);
	free(target);
	return status;
}

enum persist_status
persist_file_save(const char *path, const char *name, struct kvms *s, struct persist_snapshot *saved, char *why,
		  size_t size)
{
	enum persist_status status = may_replace(path, &(struct report){ why, size });

	if (status != PERSIST_OK && status != PERSIST_ABSENT)
		return status;
	return file_write(path, status == PERSIST_OK, name, s, saved, why, size);
}

enum persist_status
persist_file_save_new(const char *path, const char *name, struct kvms *s, struct persist_snapshot *saved, char *why,
		      size_t size)
{
	return file_write(path, false, name, s, saved, why, size);
}

struct only {
	char name[256];
	bool others;
};

static bool
visit_only(void *arg, const struct persist_snapshot *snapshot)
{
	struct only *only = arg;

	if (only->name[0] != '\0' && strcmp(only->name, snapshot->store) != 0)
		only->others = true;
	memcpy(only->name, snapshot->store, sizeof only->name);
	return !only->others;
}

enum persist_status
persist_file_load(const char *path, const char *name, uint64_t id, struct kvms **s, struct persist_snapshot *loaded,
		  char *why, size_t size)
{
	const struct report r = { why, size };
	struct only only = { .others = false };
	struct persist *db;

	*s = NULL;
	enum persist_status status = persist_db_open(path, true, &db, &r);
	if (status == PERSIST_OK)
		status = persist_list(db, visit_only, &only, why, size);
	if (status == PERSIST_OK && name == NULL && only.others)
		status = persist_report(&r, PERSIST_ABSENT, "%s: holds several stores; say which", path);
	else if (status == PERSIST_OK && only.name[0] == '\0')
		status = persist_report(&r, PERSIST_ABSENT, "%s: holds no snapshot", path);
	if (status == PERSIST_OK)
		status = persist_load(db, name != NULL ? name : only.name, id, s, loaded, why, size);
	persist_close(&db);
	return status;
}

enum persist_status
persist_file_list(const char *path, persist_visitor *visit, void *arg, char *why, size_t size)
{
	const struct report r = { why, size };
	struct persist *db;

	enum persist_status status = open_checked(path, true, &db, &r);
	if (status == PERSIST_OK)
		status = persist_list(db, visit, arg, why, size);
	persist_close(&db);
	return status;
}
