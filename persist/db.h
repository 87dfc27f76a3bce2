/*
 * db - one SQLite file of ours: found, judged, opened, made, closed.
 *
 * Law: a file is judged before SQLite may write to it, by its first bytes
 * and then by reading all of it.  What fails is closed without a change.
 */
#ifndef PERSIST_DB_H
#define PERSIST_DB_H

#include <sqlite3.h>

#include "persist/snapshot.h"

#define PERSIST_BUSY_MS 2000 /* how long to wait for another program's transaction */

/* Where a sentence about a failure goes. */
struct report {
	char *why;
	size_t size;
};

/* Write the sentence and give "status" back. */
enum persist_status persist_report(const struct report *r, enum persist_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The two sorts of file; the numbers are their application ids. */
struct db_head {
	uint32_t application;
	uint32_t version;
	bool wal; /* written through a log beside it */
};

struct persist {
	sqlite3 *sql;
	char *path; /* absolute */
	char *name; /* as messages call it */
	uint32_t application;
	uint32_t version; /* of its tables */
	unsigned keep;
	uint64_t torn; /* bytes that SQLite dropped from the log's end when it was opened */
	bool read_only;
	/*
	 * Long writing asks now and then whether somebody waits; if so it stops, with no
	 * transaction open, and calls "pause".  NULL: it is one transaction.
	 */
	bool (*wanted)(void *arg);
	void (*pause)(void *arg);
	void *pause_arg;
	unsigned since_asked; /* rows */
};

/*
 * Judge the file at "path" by its first 100 bytes, without SQLite.
 *
 * => fails with PERSIST_ABSENT, PERSIST_REFUSED (foreign, cut short, newer),
 *    PERSIST_FAILED
 */
enum persist_status persist_db_probe(const char *path, struct db_head *head, const struct report *r);

/*
 * Open the file at "path" and read all of it to find damage.
 *
 * => gives *db, ended by persist_close(); nothing is written before persist_db_settle()
 * => fails as persist_db_probe(), and with PERSIST_BUSY; *db is NULL then
 */
enum persist_status persist_db_open(const char *path, bool read_only, struct persist **db, const struct report *r);

/* One more connection, for another thread, to a file that persist_db_settle() has settled. */
enum persist_status persist_db_again(const struct persist *db, struct persist **again, const struct report *r);

/* Settings for work, once all of the file is known to be sound: from now on it may change. */
enum persist_status persist_db_settle(struct persist *db, const struct report *r);

/*
 * Make a new file of the given sort under a temporary name beside "path".
 * persist_db_install() gives it its name; persist_close() without that leaves the
 * temporary file, so call persist_db_discard() instead.
 */
enum persist_status persist_db_create(const char *path, uint32_t application, struct persist **db,
				      const struct report *r);

/*
 * Put a file from persist_db_create() at "path", durably, and close it.
 *
 * => replace: whether a file may be there already
 * => takes *db in every case; on failure the temporary file is gone
 * => fails with PERSIST_BUSY if something has appeared at "path"
 */
enum persist_status persist_db_install(struct persist **db, const char *path, bool replace, const struct report *r);

/* Close a file from persist_db_create() and remove it. */
void persist_db_discard(struct persist **db);

/* Run statements without a result. */
enum persist_status persist_db_exec(struct persist *db, const char *statements, const struct report *r);

/* End the open transaction: commit if "status" is PERSIST_OK, else roll back and give it again. */
enum persist_status persist_db_transaction_end(struct persist *db, enum persist_status status, const struct report *r);

/* A row has been written, or as much as "rows" small ones: pause if somebody waits.  Needs an open transaction, and leaves one. */
enum persist_status persist_db_wrote(struct persist *db, unsigned rows, const struct report *r);

/* Prepare one statement; *statement is NULL on failure. */
enum persist_status persist_db_prepare(struct persist *db, sqlite3_stmt **statement, const struct report *r,
				       const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Run a statement that gives no rows, and reset it. */
enum persist_status persist_db_run(struct persist *db, sqlite3_stmt *statement, const struct report *r);

/* Step a statement: *row says whether there is one. */
enum persist_status persist_db_step(struct persist *db, sqlite3_stmt *statement, bool *row, const struct report *r);

/* The status of SQLite's result code, with a sentence that says what to do. */
enum persist_status persist_db_status(const struct persist *db, int code, const struct report *r);

/* The file's contents are not what we wrote. */
enum persist_status persist_db_damaged(const struct persist *db, const struct report *r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif /* PERSIST_DB_H */
