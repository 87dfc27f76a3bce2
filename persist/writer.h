/*
 * writer - the thread that writes journals and snapshots of a state directory.
 *
 * One thread, called the loop here, applies operations and adds them to
 * streams, one for each store.  Now and then, at the latest before it sleeps,
 * it flushes: what the streams hold gets the next number.  The writer takes
 * whatever waits, writes it in one transaction, and says up to which number
 * everything is on the disk.  While it writes, more gathers: that is the group
 * commit.
 *
 *	loop:    add, add, add, flush -> 17    add, flush -> 18    ...
 *	writer:         [ .. 16 ]      [ 17, 18 ]
 *
 * What cannot be written stays and is tried again every quarter of a second;
 * persist_writer_failing() says why.  Nothing that was flushed is dropped.
 *
 * Law: steps reach the disk in their order; a snapshot given to the writer
 * reaches it behind every step that was added before.
 */
#ifndef PERSIST_WRITER_H
#define PERSIST_WRITER_H

#include "persist/journal.h"

enum persist_durability {
	PERSIST_DURABILITY_OFF,     /* no journal, snapshots only */
	PERSIST_DURABILITY_RELAXED, /* written when the oldest portion has waited for the interval */
	PERSIST_DURABILITY_FULL     /* written at once */
};

struct persist_writer; /* opaque */
struct persist_stream; /* opaque: the journal of one store, as the loop sees it */

/*
 * Start the thread.
 *
 * => db: the state directory's, open for writing.  The thread has a connection
 *    of its own to the same file; "db" stays the caller's, for reading
 * => interval: milliseconds, for PERSIST_DURABILITY_RELAXED
 * => gives *writer, ended by persist_writer_stop()
 * => fails with PERSIST_FAILED or PERSIST_BUSY
 */
enum persist_status persist_writer_start(struct persist *db, enum persist_durability durability, unsigned interval,
					 struct persist_writer **writer, char *why, size_t size);

/*
 * Write what is left and end the thread: takes *writer.  NULL is fine.
 *
 * => patience: milliseconds to wait while writing fails
 * => gives false, and the reason, if something could not be written
 */
bool persist_writer_stop(struct persist_writer **writer, unsigned patience, char *why, size_t size);

/*
 * Descriptor that becomes readable whenever something was written or failed.
 * persist_writer_heard() makes it silent again.
 */
int persist_writer_fd(const struct persist_writer *w);
void persist_writer_heard(struct persist_writer *w);

/* Number of the flush up to which all is on the disk. */
uint64_t persist_writer_written(struct persist_writer *w);

/* Bytes that wait to be written. */
size_t persist_writer_waiting(struct persist_writer *w);

/* True, and why, while writing fails. */
bool persist_writer_failing(struct persist_writer *w, char *why, size_t size);

/* ---- Streams ------------------------------------------------------------------ */

/*
 * Begin the journal of a store whose state behind step kvms_steps(model) is on
 * the disk, as a snapshot or by its journal.
 *
 * => model: must live as long as the stream, or until persist_stream_restored() gives another
 * => gives NULL if there is no memory
 */
struct persist_stream *persist_stream_new(struct persist_writer *w, const char *store, struct kvms *model);

/* End a stream: what it holds is written all the same.  NULL is fine. */
void persist_stream_free(struct persist_stream **stream);

/*
 * Add the step that was just applied.
 *
 * => fails with false: no memory.  The step happened and will not be in the
 *    journal: the store must take no more writes
 */
bool persist_stream_add(struct persist_stream *stream, uint64_t connection, const struct kvms_op *op,
			const struct kvms_outcome *out);

/* While "together" is set, the steps that are added stay in one group. */
void persist_stream_together(struct persist_stream *stream, bool together);

/*
 * Add a step that put back the state of step "target"; "model" holds it and is
 * numbered as the new step.  False: no memory, and the stream is as it was.
 */
bool persist_stream_restored(struct persist_stream *stream, struct kvms *model, uint64_t target);

/* The last step that was added. */
uint64_t persist_stream_last(const struct persist_stream *stream);

/* Bytes of all records that were added. */
uint64_t persist_stream_bytes(const struct persist_stream *stream);

/* The number that the next flush will have: what was added so far is written once that is. */
uint64_t persist_writer_next(const struct persist_writer *w);

/* Hand over what the streams hold.  Cheap if that is nothing. */
void persist_writer_flush(struct persist_writer *w);

/* The same, and it is written without waiting for the interval. */
void persist_writer_hurry(struct persist_writer *w);

/* ---- Snapshots ------------------------------------------------------------------- */

/*
 * How a snapshot, or what else the thread was asked for below, ended; called by
 * persist_writer_finished(), in the loop.  "saved" means something for a
 * snapshot only.
 *
 * What has not begun two seconds after it was asked for, because the journal
 * before it cannot be written, ends with PERSIST_FAILED.
 */
typedef void persist_saved(void *arg, enum persist_status status, const struct persist_snapshot *saved,
			   const char *why);

/*
 * Have a store written as its newest snapshot, as it is now.
 *
 * => the loop goes on as soon as a child process has a copy (persist/picture.h):
 *    O(memory in use / 512), not O(state)
 * => fails with false: no memory
 */
bool persist_writer_save(struct persist_writer *w, const char *store, struct kvms *s, persist_saved *done, void *arg);

/* The same, and the snapshot stays until somebody drops it. */
bool persist_writer_hold(struct persist_writer *w, const char *store, struct kvms *s, persist_saved *done, void *arg);

/* Have a picture written as the first snapshot of a store: takes *image, unless it fails with false. */
bool persist_writer_save_image(struct persist_writer *w, const char *store, struct persist_image **image,
			       persist_saved *done, void *arg);

/*
 * Forget a store: its snapshots and its journal.
 *
 * => needs: its stream has ended, and no snapshot of it is under way
 * => fails with false: no memory
 */
bool persist_writer_forget(struct persist_writer *w, const char *store, persist_saved *done, void *arg);

/* Drop one snapshot of a store, as persist_drop_snapshot() does. */
bool persist_writer_drop_snapshot(struct persist_writer *w, const char *store, uint64_t id, persist_saved *done,
				  void *arg);

/* Call "done" of every snapshot that has ended since; call it when the descriptor is readable. */
void persist_writer_finished(struct persist_writer *w);

/* Wait until all that the thread was asked for has ended, and call "done" of it. */
void persist_writer_quiet(struct persist_writer *w);

/*
 * Wait until the flush of that number is written.  Any thread may do so.
 * Fails with PERSIST_FAILED and a sentence while writing fails.
 */
enum persist_status persist_writer_reach(struct persist_writer *w, uint64_t number, char *why, size_t size);

/* Save a store and wait until it is on the disk: for its first snapshot, before anything is added to its stream. */
enum persist_status persist_writer_save_now(struct persist_writer *w, const char *store, struct kvms *s, char *why,
					    size_t size);

/* As persist_writer_forget(), and wait for it. */
enum persist_status persist_writer_drop(struct persist_writer *w, const char *store, char *why, size_t size);

#endif /* PERSIST_WRITER_H */
