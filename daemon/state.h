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
	uint64_t snapshot_every; /* steps; 0 = only when asked, and at the end */
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

/*
 * Save one store as its newest snapshot.
 *
 * => fails with false and a sentence in "why"; earlier snapshots are intact
 */
bool kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size);

/* Save every store that changed since it was saved.  Fails with false, having logged what is not saved. */
bool kvmd_state_save_all(struct kvmd_state *state, struct kvmd_stores *stores);

/*
 * Keep a new store from now on: its first snapshot is on the disk when this
 * returns.  Fails with false and a sentence in "why".
 */
bool kvmd_state_keep(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size);

/* Put a store back to snapshot "id" of it, 0 = the newest: a step of its history. */
bool kvmd_state_load(struct kvmd_state *state, struct kvmd_store *store, uint64_t id, char *why, size_t size);

/* The state of a store behind "step" of its history, or as it is now; the caller owns *model. */
bool kvmd_state_at(struct kvmd_state *state, struct kvmd_store *store, uint64_t step, struct kvms **model, char *why,
		   size_t size);
bool kvmd_state_copy(struct kvmd_store *store, struct kvms **model, char *why, size_t size);

/* Put a store back by "steps" of its steps: one more step.  Fails with false and a sentence. */
bool kvmd_state_undo(struct kvmd_state *state, struct kvmd_store *store, uint64_t steps, char *why, size_t size);

/* Forget the snapshots and the journal of a store that is about to be dropped. */
bool kvmd_state_forget(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size);

/* ---- Steps ------------------------------------------------------------------------ */

/*
 * Note the step that was just applied.  False: there was no memory; the store
 * is closed for writes, because its journal is not complete.
 */
bool kvmd_state_step(struct kvmd_state *state, struct kvmd_store *store, uint64_t connection,
		     const struct kvms_op *op, const struct kvms_outcome *out);

/* Hand over what the stores have done, and begin the snapshots that are due.  Cheap if there is nothing. */
void kvmd_state_flush(struct kvmd_state *state, struct kvmd_stores *stores);

/* Wait until everything is on the disk; false and a sentence if that fails or takes long. */
bool kvmd_state_settle(struct kvmd_state *state, char *why, size_t size);

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
