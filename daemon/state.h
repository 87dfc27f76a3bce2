/*
 * state - the state directory: which stores were there, and what is kept.
 *
 *	DIR/kvmstore.db    snapshots (persist/snapshot.h)
 *	DIR/kvmstored.lock held by the daemon that uses DIR
 *
 * Until there is a journal a daemon that is killed loses what came after the
 * newest snapshot of each store.
 *
 * Law: nothing is overwritten that could not be read; a store whose law broke
 * is not saved, so its last snapshot is of a sound state.
 */
#ifndef KVMD_STATE_H
#define KVMD_STATE_H

#include "daemon/stores.h"
#include "persist/snapshot.h"

struct kvmd_state {
	const char *dir; /* NULL: no state directory, nothing is kept */
	int lock;        /* descriptor of the lock file */
	struct persist *db;
};

/*
 * Take the state directory, making it if only its last component is missing.
 *
 * => dir: NULL = none; it must live as long as the state
 * => keep: snapshots kept of each store
 * => fails with false, having logged why and what to do; there is nothing to close
 */
bool kvmd_state_open(struct kvmd_state *state, const char *dir, unsigned keep);
void kvmd_state_close(struct kvmd_state *state);

/* Load the newest snapshot of every store.  Fails with false, having logged why. */
bool kvmd_state_load_all(struct kvmd_state *state, struct kvmd_stores *stores);

/*
 * Save one store as its newest snapshot.
 *
 * => fails with false and a sentence in "why"; earlier snapshots are intact
 */
bool kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size);

/* Save every store that changed since it was saved.  Fails with false, having logged what is not saved. */
bool kvmd_state_save_all(struct kvmd_state *state, struct kvmd_stores *stores);

/* Put a store back to snapshot "id" of it, 0 = the newest. */
bool kvmd_state_load(struct kvmd_state *state, struct kvmd_store *store, uint64_t id, char *why, size_t size);

/* Forget the snapshots of a store that is about to be dropped. */
bool kvmd_state_forget(struct kvmd_state *state, const char *name, char *why, size_t size);

#endif /* KVMD_STATE_H */
