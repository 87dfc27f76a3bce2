/*
 * travel - a store on its way through its history, one step after the other.
 *
 * Steps come out of the journal as they were recorded.  A travel with a state
 * applies each to a store of its own, which so is the store as it was then; a
 * step that put an earlier state back makes that state again.
 *
 * Law: memory is the state and a piece of the journal of fixed size, however
 * long the journal is.  Nothing is read while the caller has a step in hand:
 * whoever writes the journal meanwhile is not held up.
 */
#ifndef PERSIST_TRAVEL_H
#define PERSIST_TRAVEL_H

#include "persist/journal.h"

/* Which steps of a store there are. */
struct persist_history {
	bool has_journal;
	uint64_t first, last; /* steps of the journal */
	bool has_state;
	/*
	 * Behind these steps and all between there is a state: from the oldest
	 * snapshot that the journal goes on from (older ones stand alone), to the last.
	 */
	uint64_t earliest, latest;
};

/*
 * Look up what there is of "store".
 *
 * => fails with PERSIST_ABSENT if there is nothing, or the file is of a version without journals
 */
enum persist_status persist_history(struct persist *db, const char *store, struct persist_history *history, char *why,
				    size_t size);

/* One recorded step; valid until the next. */
struct persist_step {
	uint64_t number;
	uint64_t time;            /* microseconds since 1970 */
	uint64_t connection;      /* which one asked; 0: the daemon itself */
	uint64_t restored;        /* step whose state was put back, or PERSIST_NO_STEP */
	uint64_t unrecorded;      /* 0, or: the steps from this one to "number" were not recorded */
	const struct kvms_op *op; /* NULL: a state was put back, or the step was not recorded */
	struct kvms_outcome *out; /* what it answered */
};

struct persist_travel; /* opaque */

/*
 * Begin behind step "behind"; the first step will be the next one.
 *
 * => to: the last step that will come
 * => with_state: make the state behind "behind", and behind every step that comes
 * => progress: called while that state is made; NULL = none
 * => gives *t, ended by persist_travel_free()
 * => needs: "db" outlives the travel
 * => fails as persist_rebuild()
 */
enum persist_status persist_travel_new(struct persist *db, const char *store, uint64_t behind, uint64_t to,
				       bool with_state, persist_progress *progress, void *arg,
				       struct persist_travel **t, char *why, size_t size);
void persist_travel_free(struct persist_travel **t);

/* The state behind the last step that came; NULL without one.  It may be another store after the next step. */
struct kvms *persist_travel_store(struct persist_travel *t);

/*
 * Go one step on.
 *
 * Steps that were not recorded (struct persist_gap) come as one, and the state
 * behind them is that of the snapshot that ends the gap.
 *
 * => gives PERSIST_OK and *step; PERSIST_ABSENT, without a sentence, behind the last
 * => fails with PERSIST_REFUSED (the journal is damaged, or the model
 *    disagrees with it); the travel is over then
 */
enum persist_status persist_travel_next(struct persist_travel *t, struct persist_step *step, char *why, size_t size);

#endif /* PERSIST_TRAVEL_H */
