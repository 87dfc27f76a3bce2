/*
 * snapshot - stores on disk: save one, load it back, list and drop snapshots.
 *
 * Snapshots live in a SQLite file that a person can read with the sqlite3
 * shell (persist/schema.h says what is in it).  There are two sorts of file:
 *
 *	DIR/kvmstore.db   the database of a state directory: several named
 *	                  stores, the newest few snapshots of each
 *	FILE              one snapshot on its own, to keep or to send around
 *
 * Law: what is loaded is the state that was saved, checked against every law
 * of the model and against its digest, or nothing.  A save happens completely
 * or leaves the file as it was.  A file that is not ours, is damaged, or was
 * written by a newer version is refused and never changed.
 *
 * Nothing here logs or prints.  Functions return a status; unless it is
 * PERSIST_OK, "why" holds one sentence without a full stop that says what is
 * wrong and what to do.  "size" is the size of "why"; PERSIST_WHY is enough.
 *
 * One struct persist may be used by one thread at a time.
 */
#ifndef PERSIST_SNAPSHOT_H
#define PERSIST_SNAPSHOT_H

#include "store/kvmstore.h"

#define PERSIST_WHY 1024u

enum persist_status {
	PERSIST_OK,
	PERSIST_ABSENT,  /* no such file, store or snapshot */
	PERSIST_REFUSED, /* foreign, damaged, newer, or a store that cannot be what was saved */
	PERSIST_BUSY,    /* another process is using the file */
	PERSIST_FAILED   /* the machine: disk full, permission, I/O error, memory */
};

/* What is known about one snapshot without loading it. */
struct persist_snapshot {
	uint64_t id; /* within its file; grows, never reused while the file lives */
	uint64_t step;
	uint64_t digest;
	unsigned format;  /* version of the tables it was written with */
	bool kept;        /* it stays until persist_drop_snapshot() */
	char store[256];  /* name of the store */
	char taken[32];   /* when, UTC: 2024-05-17T09:30:00Z */
	char library[32]; /* kvms_version() of the writer */
};

/* Called once for each snapshot; returning false ends the listing. */
typedef bool persist_visitor(void *arg, const struct persist_snapshot *snapshot);

/* ---- A state directory ------------------------------------------------------ */

struct persist; /* opaque: an open kvmstore.db */

#define PERSIST_CREATE 1u    /* make kvmstore.db if there is none (not the directory) */
#define PERSIST_READ_ONLY 2u /* never write; not together with PERSIST_CREATE */
#define PERSIST_ALONE 4u     /* with PERSIST_READ_ONLY: nobody else writes, so the log is judged too */

/*
 * Open the database of state directory "dir".
 *
 * => needs: the directory exists.  That only one daemon uses it is the
 *    caller's matter; other readers are fine
 * => gives *db, ended by persist_close()
 * => fails with PERSIST_ABSENT (no kvmstore.db, and PERSIST_CREATE not given),
 *    PERSIST_REFUSED (the file is left as it was, byte for byte; also if its
 *    log lacks what was on the disk before: persist/wal.h),
 *    PERSIST_BUSY, PERSIST_FAILED; *db is NULL then
 * => reads the whole file once, to find damage now and not in the middle of work
 */
enum persist_status persist_open(const char *dir, unsigned flags, struct persist **db, char *why, size_t size);

/* One more connection to a database that is open for writing, for another thread; ended by persist_close(). */
enum persist_status persist_again(const struct persist *db, struct persist **again, char *why, size_t size);

/* End an open database: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void persist_close(struct persist **db);

/*
 * Bytes at the end of the journal that were no whole group when the database
 * was opened for writing, and are gone: work that a crash cut short.
 */
uint64_t persist_torn(const struct persist *db);

/*
 * Keep the newest "count" snapshots of each store, at least 1; 2 unless told.
 * Of older ones those stay that persist/thin.h says, that persist_hold() was
 * called for, and that the journal begins with or goes on from behind a gap.
 */
void persist_keep(struct persist *db, unsigned count);

/*
 * Save "s" as the newest snapshot of the store "name", and drop those that
 * need not stay.  One transaction, on the disk when it returns.
 *
 * => needs: name of 1 .. 255 bytes
 * => gives *saved, unless that is NULL
 * => fails with all earlier snapshots intact
 * => O(live state)
 */
enum persist_status persist_save(struct persist *db, const char *name, struct kvms *s, struct persist_snapshot *saved,
				 char *why, size_t size);

/*
 * Load a snapshot of store "name" into a new store.
 *
 * => id: of persist_list(), or 0 for the newest
 * => gives *s, which the caller owns and ends with kvms_free(), and *loaded,
 *    unless that is NULL
 * => fails with PERSIST_ABSENT (no such store or id), PERSIST_REFUSED (the
 *    rows do not make the store that was saved), PERSIST_BUSY, PERSIST_FAILED;
 *    *s is NULL then, and the file as it was
 * => O(live state)
 */
enum persist_status persist_load(struct persist *db, const char *name, uint64_t id, struct kvms **s,
				 struct persist_snapshot *loaded, char *why, size_t size);

/* Visit all snapshots: by name of the store, the newest of each first.  "visit" must not use "db". */
enum persist_status persist_list(struct persist *db, persist_visitor *visit, void *arg, char *why, size_t size);

/* Keep snapshot "id" until it is dropped by its id. */
enum persist_status persist_hold(struct persist *db, uint64_t id, char *why, size_t size);

/*
 * Drop one snapshot of store "name".
 *
 * => fails with PERSIST_ABSENT, or PERSIST_REFUSED if the journal goes on from
 *    it, or nothing else has the store's newest state
 */
enum persist_status persist_drop_snapshot(struct persist *db, const char *name, uint64_t id, char *why, size_t size);

/* Drop every snapshot of store "name", and its journal.  Fails with PERSIST_ABSENT if there is nothing. */
enum persist_status persist_drop(struct persist *db, const char *name, char *why, size_t size);

/* ---- Saving in two halves ----------------------------------------------------- */

/*
 * A picture of a store, taken in memory and independent of it: one thread
 * takes it between two operations, another writes it while the store moves on.
 */
struct persist_image; /* opaque */

/*
 * Take the picture of "s".
 *
 * => gives *image, ended by persist_image_free()
 * => fails with PERSIST_FAILED: no memory
 * => O(live state), no I/O
 */
enum persist_status persist_capture(struct kvms *s, struct persist_image **image, char *why, size_t size);

/* End a picture: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void persist_image_free(struct persist_image **image);

/* A store in the state of a picture, which the caller owns; its checks are those of a new store. */
enum persist_status persist_build(const struct persist_image *image, struct kvms **s, char *why, size_t size);

/* A second store in the same state, which the caller owns; its checks are those of a new store. */
enum persist_status persist_copy(struct kvms *s, struct kvms **copy, char *why, size_t size);

/* Write a picture, as persist_save() does with a store. */
enum persist_status persist_write(struct persist *db, const char *name, const struct persist_image *image,
				  struct persist_snapshot *saved, char *why, size_t size);

/* ---- A snapshot file --------------------------------------------------------------- */

/*
 * Save "s", as store "name", to the snapshot file "path".
 *
 * => needs: write permission for the directory: the file is written beside
 *    the old one and takes its place when it is complete and on the disk
 * => gives a file that holds this one snapshot, and *saved, unless that is NULL
 * => fails with PERSIST_REFUSED if there is something at "path" that is not a
 *    sound snapshot file (the database of a state directory is none either),
 *    PERSIST_FAILED; what was at "path" stays as it was.  A process that dies
 *    half-way leaves a file "path".new-* behind
 */
enum persist_status persist_file_save(const char *path, const char *name, struct kvms *s,
				      struct persist_snapshot *saved, char *why, size_t size);

/* The same, but whatever is at "path" stays: then it fails with PERSIST_BUSY. */
enum persist_status persist_file_save_new(const char *path, const char *name, struct kvms *s,
					  struct persist_snapshot *saved, char *why, size_t size);

/*
 * Load a snapshot from the file "path": a snapshot file, or the database of a
 * state directory.
 *
 * => name: of the store, or NULL: the file must then hold one store only
 * => id: as in persist_load()
 * => otherwise as persist_load(); PERSIST_ABSENT also if there is no file
 */
enum persist_status persist_file_load(const char *path, const char *name, uint64_t id, struct kvms **s,
				      struct persist_snapshot *loaded, char *why, size_t size);

/* List what is in the file, as persist_list() does. */
enum persist_status persist_file_list(const char *path, persist_visitor *visit, void *arg, char *why, size_t size);

/* True if the first bytes of the file at "path" are those of one of our files, whatever its version. */
bool persist_file_is_ours(const char *path);

#endif /* PERSIST_SNAPSHOT_H */
