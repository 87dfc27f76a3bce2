#include "persist/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persist/schema.h"

enum persist_status
persist_report(const struct report *r, enum persist_status status, const char *format, ...)
{
	va_list ap;

	if (r->size > 0) {
		va_start(ap, format);
		(void)vsnprintf(r->why, r->size, format, ap);
		va_end(ap);
	}
	return status;
}

/* ---- The first bytes ---------------------------------------------------------- */

#define HEAD_BYTES 100u

static uint32_t
big_endian(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Read the head of the file: *count bytes of at most HEAD_BYTES. */
static enum persist_status
head_read(const char *path, unsigned char *bytes, size_t *count, const struct report *r)
{
	struct stat st;
	ssize_t n;

	/* not to hang on a pipe */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return persist_report(r, PERSIST_ABSENT, "%s: no such file", path);
	if (fd < 0)
		return persist_report(r, PERSIST_FAILED, "%s: cannot open: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return persist_report(r, PERSIST_REFUSED, "%s: not a regular file; give another path", path);
	}
	do
		n = pread(fd, bytes, HEAD_BYTES, 0);
	while (n < 0 && errno == EINTR);
	int error = errno;
	(void)close(fd);
	if (n < 0)
		return persist_report(r, PERSIST_FAILED, "%s: cannot read: %s", path, strerror(error));
	*count = (size_t)n;
	return PERSIST_OK;
}

static enum persist_status
version_check(const char *path, uint32_t version, const struct report *r)
{
	if (version > PERSIST_FORMAT)
		return persist_report(r, PERSIST_REFUSED,
				      "%s: written by a newer version of kvmstore (tables %u, this one knows %u); "
				      "it was left alone, use that version",
				      path, (unsigned)version, (unsigned)PERSIST_FORMAT);
	if (version < 1)
		return persist_report(r, PERSIST_REFUSED,
				      "%s: damaged: tables of version 0; it was left alone, restore a copy", path);
	return PERSIST_OK;
}

enum persist_status
persist_db_probe(const char *path, struct db_head *head, const struct report *r)
{
	static const char magic[16] = "SQLite format 3";
	unsigned char bytes[HEAD_BYTES];
	size_t count = 0;

	enum persist_status status = head_read(path, bytes, &count, r);
	if (status != PERSIST_OK)
		return status;
	if (count == 0)
		return persist_report(
		    r, PERSIST_REFUSED,
		    "%s: an empty file, not a snapshot; it was left alone, remove it or give another path", path);
	if (count < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
		return persist_report(
		    r, PERSIST_REFUSED,
		    "%s: not a file of kvmstore (nor of SQLite); it was left alone, give another path", path);
	if (count < HEAD_BYTES)
		return persist_report(r, PERSIST_REFUSED, "%s: damaged: cut short; it was left alone, restore a copy",
				      path);
	head->application = big_endian(bytes + 68);
	head->version = big_endian(bytes + 60);
	head->wal = bytes[18] == 2 || bytes[19] == 2;
	if (head->application != PERSIST_ID_STATE && head->application != PERSIST_ID_SNAPSHOT)
		return persist_report(
		    r, PERSIST_REFUSED,
		    "%s: a SQLite database of another program (application_id 0x%08x); it was left alone, "
		    "give another path",
		    path, (unsigned)head->application);
	return version_check(path, head->version, r);
}

/* ---- Errors ------------------------------------------------------------------- */

enum persist_status
persist_db_damaged(const struct persist *db, const struct report *r, const char *format, ...)
{
	char what[400];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(what, sizeof what, format, ap);
	va_end(ap);
	return persist_report(r, PERSIST_REFUSED, "%s: damaged: %s; it was left alone, restore a copy", db->name, what);
}

static enum persist_status
db_io_status(const struct persist *db, int code, const struct report *r)
{
	int error = sqlite3_system_errno(db->sql);

	if (code == SQLITE_IOERR_SHORT_READ || code == SQLITE_IOERR_DATA || code == SQLITE_IOERR_CORRUPTFS)
		return persist_db_damaged(db, r, "cut short");
	if (code == SQLITE_IOERR_NOMEM)
		return persist_report(r, PERSIST_FAILED, "%s: out of memory; nothing was changed", db->name);
	return persist_report(r, PERSIST_FAILED, "%s: input/output error %d%s%s; earlier snapshots are as they were",
			      db->name, code, error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
}

enum persist_status
persist_db_status(const struct persist *db, int code, const struct report *r)
{
	int error;

	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return persist_report(
		    r, PERSIST_BUSY, "%s: in use by another program; end its transaction or the program, and try again",
		    db->name);
	case SQLITE_FULL:
		return persist_report(
		    r, PERSIST_FAILED,
		    "%s: the disk is full; earlier snapshots are as they were, free some space and save again",
		    db->name);
	case SQLITE_IOERR:
		return db_io_status(db, code, r);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return persist_report(r, PERSIST_FAILED,
				      "%s: cannot be written; check the permissions of the file and its directory",
				      db->name);
	case SQLITE_CANTOPEN:
		error = sqlite3_system_errno(db->sql);
		return persist_report(r, PERSIST_FAILED, "%s: cannot open it or a file beside it%s%s", db->name,
				      error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
	case SQLITE_NOMEM:
		return persist_report(r, PERSIST_FAILED, "%s: out of memory; nothing was changed", db->name);
	case SQLITE_TOOBIG:
		return persist_report(r, PERSIST_FAILED, "%s: a value is too big for SQLite; nothing was changed",
				      db->name);
	default:
		return persist_db_damaged(db, r, "%s", sqlite3_errmsg(db->sql));
	}
}

/* ---- Statements ------------------------------------------------------------------ */

enum persist_status
persist_db_exec(struct persist *db, const char *statements, const struct report *r)
{
	int code = sqlite3_exec(db->sql, statements, NULL, NULL, NULL);
	return code == SQLITE_OK ? PERSIST_OK : persist_db_status(db, sqlite3_extended_errcode(db->sql), r);
}

enum persist_status
persist_db_prepare(struct persist *db, sqlite3_stmt **statement, const struct report *r, const char *format, ...)
{
	va_list ap;

	*statement = NULL;
	va_start(ap, format);
	char *text = sqlite3_vmprintf(format, ap);
	va_end(ap);
	if (text == NULL)
		return persist_report(r, PERSIST_FAILED, "%s: out of memory; nothing was changed", db->name);
	int code = sqlite3_prepare_v2(db->sql, text, -1, statement, NULL);
	sqlite3_free(text);
	return code == SQLITE_OK ? PERSIST_OK : persist_db_status(db, sqlite3_extended_errcode(db->sql), r);
}

enum persist_status
persist_db_step(struct persist *db, sqlite3_stmt *statement, bool *row, const struct report *r)
{
	int code = sqlite3_step(statement);

	*row = code == SQLITE_ROW;
	if (code == SQLITE_ROW || code == SQLITE_DONE)
		return PERSIST_OK;
	return persist_db_status(db, sqlite3_extended_errcode(db->sql), r);
}

enum persist_status
persist_db_run(struct persist *db, sqlite3_stmt *statement, const struct report *r)
{
	bool row;

	enum persist_status status = persist_db_step(db, statement, &row, r);
	(void)sqlite3_reset(statement);
	return status;
}

/* One number out of the database. */
static enum persist_status
db_number(struct persist *db, const char *query, int64_t *number, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status = persist_db_prepare(db, &statement, r, "%s", query);
	if (status == PERSIST_OK)
		status = persist_db_step(db, statement, &row, r);
	if (status == PERSIST_OK)
		*number = row ? sqlite3_column_int64(statement, 0) : 0;
	(void)sqlite3_finalize(statement);
	return status;
}

/* ---- Opening ------------------------------------------------------------------------ */

/* "file:" URI of an absolute path; sqlite3_free() it. */
static char *
uri(const char *path, const char *query)
{
	static const char hex[] = "0123456789abcdef";
	size_t at = 0;

	char *text = sqlite3_malloc64(strlen("file:") + 3 * strlen(path) + strlen(query) + 1);
	if (text == NULL)
		return NULL;
	for (const char *p = "file:"; *p != '\0'; p++)
		text[at++] = *p;
	for (const char *p = path; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;
		if (c == '%' || c == '?' || c == '#') {
			text[at++] = '%';
			text[at++] = hex[c >> 4];
			text[at++] = hex[c & 15];
		} else {
			text[at++] = (char)c;
		}
	}
	memcpy(text + at, query, strlen(query) + 1);
	return text;
}

/*
 * How to open for reading.  A file without a log beside it is complete in
 * itself and is read as such: no lock, no file made beside it, also where the
 * directory cannot be written.
 */
static const char *
read_query(const char *path, bool wal)
{
	struct stat st;
	bool log = false;

	char *name = sqlite3_mprintf("%s-wal", path);
	if (name != NULL)
		log = stat(name, &st) == 0;
	sqlite3_free(name);
	return wal && log ? "?mode=ro" : "?mode=ro&immutable=1";
}

/* Trust nothing in the file, and change nothing when closing. */
static void
distrust(sqlite3 *sql)
{
	(void)sqlite3_extended_result_codes(sql, 1);
	(void)sqlite3_db_config(sql, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	(void)sqlite3_db_config(sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	(void)sqlite3_db_config(sql, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, (int *)NULL);
	(void)sqlite3_db_config(sql, SQLITE_DBCONFIG_ENABLE_VIEW, 0, (int *)NULL);
	(void)sqlite3_db_config(sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
	(void)sqlite3_busy_timeout(sql, PERSIST_BUSY_MS);
}

static enum persist_status
db_connect(const char *path, const char *shown, const char *query, struct persist **out, const struct report *r)
{
	struct persist *db = calloc(1, sizeof *db);
	char *name = uri(path, query);
	if (db != NULL) {
		db->path = strdup(path);
		db->name = strdup(shown);
	}
	if (db == NULL || name == NULL || db->path == NULL || db->name == NULL) {
		sqlite3_free(name);
		persist_close(&db);
		return persist_report(r, PERSIST_FAILED, "%s: out of memory", shown);
	}
	db->keep = 2;
	int code = sqlite3_open_v2(name, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
	sqlite3_free(name);
	if (code != SQLITE_OK) {
		enum persist_status status = persist_db_status(db, code, r);
		persist_close(&db);
		return status;
	}
	distrust(db->sql);
	*out = db;
	return PERSIST_OK;
}

/* Have SQLite check what it can. */
static enum persist_status
sqlite_check(struct persist *db, const char *pragma, const struct report *r)
{
	sqlite3_stmt *statement;
	bool row = false;

	enum persist_status status = persist_db_prepare(db, &statement, r, "PRAGMA %s", pragma);
	if (status == PERSIST_OK)
		status = persist_db_step(db, statement, &row, r);
	if (status == PERSIST_OK) {
		const char *text = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
		if (text == NULL || strcmp(text, "ok") != 0)
			status = persist_db_damaged(db, r, "%s", text != NULL ? text : "no answer");
	}
	(void)sqlite3_finalize(statement);
	return status;
}

/* What the log beside the file may have changed in its head, and then all of it. */
static enum persist_status
db_judge(struct persist *db, const struct report *r)
{
	int64_t application = 0, version = 0;

	enum persist_status status = persist_db_exec(db, "PRAGMA cell_size_check = ON", r);
	if (status == PERSIST_OK)
		status = db_number(db, "PRAGMA application_id", &application, r);
	if (status == PERSIST_OK)
		status = db_number(db, "PRAGMA user_version", &version, r);
	if (status == PERSIST_OK && (uint32_t)application != db->application)
		status = persist_db_damaged(db, r, "its log belongs to another database");
	if (status == PERSIST_OK)
		status = version_check(db->name, (uint32_t)version, r);
	db->version = (uint32_t)version;
	if (status == PERSIST_OK)
		status = sqlite_check(db, "quick_check(1)", r);
	/* a row that its index does not know would be lost without a word */
	if (status == PERSIST_OK && version >= PERSIST_FORMAT_JOURNAL)
		status = sqlite_check(db, "integrity_check(journal)", r);
	if (status == PERSIST_OK && version == 1) /* without a journal: for reading, as if it had an empty one */
		status = persist_db_exec(db,
					 "CREATE TEMP TABLE unfinished(snapshot INTEGER PRIMARY KEY);"
					 "CREATE TEMP TABLE aside(snapshot INTEGER PRIMARY KEY);"
					 "CREATE TEMP TABLE journal(store, first, last, restored, began, digest, records,"
					 " library, seal)",
					 r);
	int64_t kept = 0;
	if (status == PERSIST_OK)
		status = db_number(db, "SELECT count(*) FROM main.sqlite_master WHERE name = 'kept'", &kept, r);
	if (status == PERSIST_OK && kept == 0) /* it came later than the others; persist_db_settle() makes it */
		status = persist_db_exec(db, "CREATE TEMP TABLE kept(snapshot INTEGER PRIMARY KEY)", r);
	return status;
}

/* Bring a file of an earlier version up to date, completely or not at all. */
static enum persist_status
db_upgrade(struct persist *db, const struct report *r)
{
	int64_t version = 0;
	char stamp[64];

	enum persist_status status = db_number(db, "PRAGMA user_version", &version, r);
	if (status != PERSIST_OK || version >= PERSIST_FORMAT)
		return status;
	(void)snprintf(stamp, sizeof stamp, "PRAGMA user_version = %d", PERSIST_FORMAT);
	if (version < PERSIST_FORMAT_JOURNAL)
		status =
		    persist_db_exec(db, "DROP TABLE temp.unfinished; DROP TABLE temp.aside; DROP TABLE temp.journal", r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, "BEGIN IMMEDIATE", r);
	if (status == PERSIST_OK && version < PERSIST_FORMAT_JOURNAL)
		status = persist_db_exec(db, persist_schema_journal, r);
	if (status == PERSIST_OK && version < PERSIST_FORMAT_LISTS)
		status = persist_db_exec(db, persist_schema_lists, r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, stamp, r);
	status = persist_db_transaction_end(db, status, r);
	if (status == PERSIST_OK)
		db->version = PERSIST_FORMAT;
	return status;
}

enum persist_status
persist_db_transaction_end(struct persist *db, enum persist_status status, const struct report *r)
{
	if (status == PERSIST_OK)
		status = persist_db_exec(db, "COMMIT", r);
	/* SQLite ends it by itself after some failures */
	if (status != PERSIST_OK && !sqlite3_get_autocommit(db->sql))
		(void)sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	return status;
}

#define ASK_ROWS 1024u

enum persist_status
persist_db_wrote(struct persist *db, unsigned rows, const struct report *r)
{
	db->since_asked += rows;
	if (db->pause == NULL || db->since_asked < ASK_ROWS)
		return PERSIST_OK;
	db->since_asked = 0;
	if (!db->wanted(db->pause_arg))
		return PERSIST_OK;
	enum persist_status status = persist_db_exec(db, "COMMIT", r);
	if (status != PERSIST_OK)
		return status;
	db->pause(db->pause_arg);
	return persist_db_exec(db, "BEGIN IMMEDIATE", r);
}

enum persist_status
persist_db_settle(struct persist *db, const struct report *r)
{
	enum persist_status status = db_upgrade(db, r);

	if (status == PERSIST_OK)
		status = persist_db_exec(db,
					 "DROP TABLE IF EXISTS temp.kept;"
					 "CREATE TABLE IF NOT EXISTS main.kept("
					 "snapshot INTEGER PRIMARY KEY)",
					 r);
	if (status != PERSIST_OK)
		return status;
	(void)sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, (int *)NULL);
	return persist_db_exec(db,
			       "PRAGMA journal_mode = WAL;"
			       "PRAGMA synchronous = FULL;"
			       "PRAGMA secure_delete = OFF;"
			       "PRAGMA cache_size = -32768;"
			       "PRAGMA journal_size_limit = 16777216;",
			       r);
}

enum persist_status
persist_db_again(const struct persist *db, struct persist **again, const struct report *r)
{
	*again = NULL;
	enum persist_status status = db_connect(db->path, db->name, "?mode=rw", again, r);
	if (status != PERSIST_OK)
		return status;
	(*again)->application = db->application;
	(*again)->version = db->version;
	(*again)->keep = db->keep;
	status = persist_db_settle(*again, r);
	if (status != PERSIST_OK)
		persist_close(again);
	return status;
}

enum persist_status
persist_db_open(const char *path, bool read_only, struct persist **out, const struct report *r)
{
	struct db_head head;

	*out = NULL;
	enum persist_status status = persist_db_probe(path, &head, r);
	if (status != PERSIST_OK)
		return status;
	char *real = realpath(path, NULL);
	if (real == NULL)
		return persist_report(r, PERSIST_FAILED, "%s: cannot resolve: %s", path, strerror(errno));
	struct persist *db = NULL;
	status = db_connect(real, path, read_only ? read_query(real, head.wal) : "?mode=rw", &db, r);
	free(real);
	if (status != PERSIST_OK)
		return status;
	db->application = head.application;
	db->read_only = read_only;
	status = db_judge(db, r);
	if (status == PERSIST_OK && !read_only && sqlite3_db_readonly(db->sql, "main") == 1)
		status = persist_db_status(db, SQLITE_READONLY, r);
	if (status != PERSIST_OK)
		persist_close(&db);
	*out = db;
	return status;
}

void
persist_close(struct persist **db)
{
	if (*db == NULL)
		return;
	int code = sqlite3_close((*db)->sql);
	assert(code == SQLITE_OK); /* every statement was finalized */
	free((*db)->path);
	free((*db)->name);
	free(*db);
	*db = NULL;
}

/* ---- Making a file ------------------------------------------------------------------- */

/* Force what "path" names, a file or a directory, to the disk. */
static int
sync_path(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return -1;
	int failed = fsync(fd);
	int error = errno;
	(void)close(fd);
	errno = error;
	return failed;
}

/* The directory of "path"; free() it. */
static char *
directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* An empty file of a new name beside "path"; free() the name. */
static enum persist_status
temporary(const char *path, char **name, const struct report *r)
{
	size_t size = strlen(path) + 48;
	int fd = -1;

	*name = malloc(size);
	if (*name == NULL)
		return persist_report(r, PERSIST_FAILED, "%s: out of memory", path);
	for (unsigned attempt = 0; attempt < 1000 && fd < 0; attempt++) {
		(void)snprintf(*name, size, "%s.new-%ld-%u", path, (long)getpid(), attempt);
		fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd < 0) {
		int error = errno;
		free(*name);
		*name = NULL;
		return persist_report(r, PERSIST_FAILED, "%s: cannot make a file in its directory: %s", path,
				      strerror(error));
	}
	(void)close(fd);
	return PERSIST_OK;
}

enum persist_status
persist_db_create(const char *path, uint32_t application, struct persist **out, const struct report *r)
{
	char *name = NULL, *real = NULL;
	struct persist *db = NULL;

	*out = NULL;
	enum persist_status status = temporary(path, &name, r);
	if (status != PERSIST_OK)
		return status;
	real = realpath(name, NULL);
	if (real == NULL)
		status = persist_report(r, PERSIST_FAILED, "%s: cannot resolve: %s", path, strerror(errno));
	if (status == PERSIST_OK)
		status = db_connect(real, path, "?mode=rw", &db, r);
	/* nobody sees the file before it is complete: it needs no journal on disk, and one fsync at the end */
	if (status == PERSIST_OK)
		status = persist_db_exec(
		    db, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE", r);
	if (status == PERSIST_OK) {
		char begin[200];
		(void)snprintf(begin, sizeof begin, "BEGIN; PRAGMA application_id = %u; PRAGMA user_version = %d",
			       (unsigned)application, PERSIST_FORMAT);
		status = persist_db_exec(db, begin, r);
	}
	if (status == PERSIST_OK)
		status = persist_db_exec(db, persist_schema, r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, persist_schema_journal, r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, persist_schema_lists, r);
	if (status == PERSIST_OK)
		status = persist_db_exec(db, "COMMIT", r);
	if (status == PERSIST_OK) {
		db->application = application;
		db->version = PERSIST_FORMAT;
		*out = db;
	} else {
		persist_close(&db);
		(void)unlink(name);
	}
	free(real);
	free(name);
	return status;
}

void
persist_db_discard(struct persist **db)
{
	char *name = strdup((*db)->path);

	persist_close(db);
	if (name != NULL)
		(void)unlink(name);
	free(name);
}

/* Give "from" the name "to", which must be free. */
static int
rename_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* a file system that cannot do that in one step */
	if (link(from, to) != 0)
		return -1;
	return unlink(from);
}

enum persist_status
persist_db_install(struct persist **db, const char *path, bool replace, const struct report *r)
{
	enum persist_status status = PERSIST_OK;
	char *name = strdup((*db)->path);
	char *directory = directory_of(path);
	struct stat st;
	int failed = name == NULL || directory == NULL ? -1 : 0;

	persist_close(db);
	if (failed == 0 && replace && stat(path, &st) == 0)
		(void)chmod(name, st.st_mode & 07777);
	if (failed == 0)
		failed = sync_path(name, 0);
	if (failed == 0)
		failed = replace ? rename(name, path) : rename_new(name, path);
	if (failed == 0)
		failed = sync_path(directory, O_DIRECTORY);
	else if (errno == EEXIST)
		status = persist_report(r, PERSIST_BUSY, "%s: another program has just made it; try again", path);
	if (failed != 0 && status == PERSIST_OK)
		status = persist_report(r, PERSIST_FAILED, "%s: cannot put the new file in place: %s", path,
					strerror(errno));
	if (failed != 0 && name != NULL)
		(void)unlink(name);
	free(name);
	free(directory);
	return status;
}
