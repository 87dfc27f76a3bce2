/*
 * state - the state directory: which stores were there, and what is kept.
 *
 *	DIR/kvmstore.db    journals and snapshots (persist/journal.h, persist/snapshot.h)
 *	DIR/kvmstored.lock held by the daemon that uses DIR
 *
 * Every step goes into the journal of its store, unless durability is off.
 * The loop calls kvmd_state_flush() before it sleeps; persist/writer.h does
 * the rest on its own thread.
 *
 * Law: nothing is overwritten that could not be read; a store whose law broke
 * is not saved, so its last snapshot is of a sound state.
 */
#ifndef KVMD_STATE_H
#define KVMD_STATE_H

#include "daemon/stores.h"
#include "persist/writer.h"

struct kvmd_options;

struct kvmd_state {
	const char *dir; /* NULL: no state directory, nothing is kept */
	int lock;        /* descriptor of the lock file */
	struct persist *db; /* for reading */
	struct persist_writer *writer;
	enum persist_durability durability;
	unsigned interval;       /* milliseconds, with PERSIST_DURABILITY_RELAXED */
	uint64_t snapshot_every; /* steps; 0 = not for their number */
	uint64_t snapshot_bytes; /* of the journal; 0 = not for them */
	bool ahead;              /* so much is to be written that no writes are taken until it is less */
	bool failing;            /* the writer cannot write: no store takes writes */
	char why[PERSIST_WHY];   /* if so, why */
};

/*
 * Take the state directory, making it if only its last component is missing.
 *
 * => options: what state-dir and the settings about it say
 * => fails with false, having logged why and what to do; there is nothing to close
 */
bool kvmd_state_open(struct kvmd_state *state, const struct kvmd_options *options);

/* Write what is left and let go of the directory; false: not all could be written, and that has been logged. */
bool kvmd_state_close(struct kvmd_state *state);

/*
 * Load every store: its newest good snapshot and what its journal says since.
 * Fails with false, having logged why.
 */
bool kvmd_state_load_all(struct kvmd_state *state, struct kvmd_stores *stores);

/* True, and why, if there is no state directory. */
bool kvmd_state_none(const struct kvmd_state *state, char *why, size_t size);

/* True if a new store has to be on the disk before it is there: there is a directory, and journals are kept. */
bool kvmd_state_keeps(const struct kvmd_state *state);

/* Save every store that changed since it was saved, and wait.  Fails with false, having logged what is not saved. */
bool kvmd_state_save_all(struct kvmd_state *state, struct kvmd_stores *stores);

/*
 * Keep a new store from now on, as a start does, and wait: its first snapshot
 * is on the disk when this returns.  Fails with false and a sentence in "why".
 */
bool kvmd_state_keep(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size);

/* Begin the journal of a store whose state is on the disk.  False: no memory. */
bool kvmd_state_journal(struct kvmd_state *state, struct kvmd_store *store);

/*
 * Begin to save a store as it is now.
 *
 * => needs: not store->saving, which is set
 * => hold: the snapshot stays until it is dropped
 * => done: calls kvmd_state_saved() first
 * => fails with false: no memory
 */
bool kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, bool hold, persist_saved *done, void *arg);

/* A snapshot of the store has ended so. */
void kvmd_state_saved(struct kvmd_store *store, enum persist_status status, const struct persist_snapshot *snapshot,
		      const char *why);

/* Note that "snapshot" is the newest of the store. */
void kvmd_state_is_saved(struct kvmd_store *store, const struct persist_snapshot *snapshot);

/* A snapshot of the store has been dropped. */
void kvmd_state_dropped(struct kvmd_state *state, struct kvmd_store *store, uint64_t id);

/*
 * Put a store into the state it had behind "step", which is in "model": one
 * more step.  "repeat" and "bytes" say what a start would repeat to get there.
 *
 * => takes the model
 * => fails with false and a sentence in "why"
 */
bool kvmd_state_put_back(struct kvmd_state *state, struct kvmd_store *store, struct kvms *model, uint64_t step,
			 uint64_t repeat, uint64_t bytes, char *why, size_t size);

/* ---- Steps ------------------------------------------------------------------------ */

/*
 * Note the step that was just applied.  False: there was no memory; the store
 * is closed for writes, because its journal is not complete.
 */
bool kvmd_state_step(struct kvmd_state *state, struct kvmd_store *store, uint64_t connection,
		     const struct kvms_op *op, const struct kvms_outcome *out);

/* Hand over what the stores have done, and begin the snapshots that are due.  Cheap if there is nothing. */
void kvmd_state_flush(struct kvmd_state *state, struct kvmd_stores *stores);

/* Have everything written without waiting for the interval; gives the number that kvmd_state_written() will come to. */
uint64_t kvmd_state_hurry(struct kvmd_state *state);

/*
 * The number that an answer has to wait for if its steps were just noted, 0 if
 * it need not: durability is not full.  kvmd_state_written() tells how far it is.
 */
uint64_t kvmd_state_number(const struct kvmd_state *state);
uint64_t kvmd_state_written(const struct kvmd_state *state);

/* Descriptor that tells of the writer's progress, -1 if there is none; call kvmd_state_heard() when it is readable. */
int kvmd_state_fd(const struct kvmd_state *state);
void kvmd_state_heard(struct kvmd_state *state);

#endif /* KVMD_STATE_H */
