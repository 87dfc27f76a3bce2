/*
 * journal - what happened to the stores of a state directory, step by step,
 * and any state they ever had.
 *
 * A journal is a sequence of groups (persist/schema.c, table journal).  A
 * group of steps holds records (persist/record.h) for the steps first .. last;
 * a group of one step may instead say that the store took the state of an
 * earlier step again.  Step numbers grow by one in either case and are never
 * used twice, so "the state at step N" is one state.
 *
 * Law: groups of a store are never changed, and have no gap but where the store
 * was kept without a journal: each gap ends with a snapshot, from which the
 * journal goes on.  The digest of each is that of the state behind it.  What is rebuilt from snapshots and groups
 * has every group's digest, or is refused with the step and both digests.
 */
#ifndef PERSIST_JOURNAL_H
#define PERSIST_JOURNAL_H

#include "persist/record.h"
#include "persist/snapshot.h"

#define PERSIST_NO_STEP UINT64_MAX

struct persist_group {
	const char *store;
	uint64_t first, last; /* steps */
	uint64_t restored;    /* step whose state was put back, or PERSIST_NO_STEP */
	uint64_t began;       /* microseconds since 1970; the first record's delay counts from here */
	uint64_t digest;      /* after it */
	const unsigned char *records;
	size_t size; /* of the records in bytes */
};

/*
 * Write groups, in one transaction.
 *
 * => needs: they continue what is there; the caller is the only writer
 * => fails with nothing written
 */
enum persist_status persist_journal_write(struct persist *db, const struct persist_group *groups, size_t count,
					  char *why, size_t size);

/* The last step in the journal of "store"; PERSIST_ABSENT if it has none. */
enum persist_status persist_journal_last(struct persist *db, const char *store, uint64_t *last, char *why, size_t size);

/* Called with each group in turn; valid during the call.  False ends the visit. */
typedef bool persist_group_visitor(void *arg, const struct persist_group *group);

/*
 * Visit the groups of "store" that hold any of the steps from .. to, ascending.
 *
 * => fails with PERSIST_REFUSED if a row is not what was written
 */
enum persist_status persist_journal_visit(struct persist *db, const char *store, uint64_t from, uint64_t to,
					  persist_group_visitor *visit, void *arg, char *why, size_t size);

/*
 * The last step at "before" or earlier that put a state back, and the step
 * whose state it was; *found = false if there is none.
 */
enum persist_status persist_journal_restored(struct persist *db, const char *store, uint64_t before, uint64_t *step,
					     uint64_t *target, bool *found, char *why, size_t size);

/* Steps that were not recorded, because the store was kept without a journal. */
struct persist_gap {
	uint64_t first, last; /* behind the last of them there is a snapshot */
};

/*
 * Look whether "step", which the journal of "store" does not have, is in a gap
 * that a snapshot ends, and not missing for another reason.
 */
enum persist_status persist_journal_gap(struct persist *db, const char *store, uint64_t step, struct persist_gap *gap,
					bool *found, char *why, size_t size);

/*
 * Apply a recorded step to "s".
 *
 * => scratch: zero-initialised before the first call, and ended by the caller
 * => fails with PERSIST_REFUSED if the outcome is not the recorded one
 */
enum persist_status persist_step_replay(struct persist *db, const char *store, struct kvms *s,
					const struct persist_record *record, struct bytes scratch[2], char *why,
					size_t size);

/* Fails with PERSIST_REFUSED if "s", behind the group's last step, has not the group's digest. */
enum persist_status persist_group_check(struct persist *db, const struct persist_group *g, struct kvms *s, char *why,
					size_t size);

/* Called now and then while a store is rebuilt: steps applied, and steps in all; 0 and 0 while a snapshot is loaded. */
typedef void persist_progress(void *arg, uint64_t done, uint64_t total);

#define PERSIST_ASIDE 16u

/* What a rebuilt store was made of. */
struct persist_rebuilt {
	struct persist_snapshot snapshot; /* where it began */
	uint64_t replayed;                /* steps applied since */
	uint64_t bytes;                   /* their records take */
	uint64_t last;                    /* last step that the journal knows */
	unsigned aside;                   /* snapshots that could not be loaded and were passed over */
	uint64_t aside_id[PERSIST_ASIDE]; /* the first of them */
	char aside_why[PERSIST_WHY];      /* why the last of them could not */
};

/*
 * Make the state of "store" behind step "step": the nearest snapshot before
 * it, and the steps since.
 *
 * => step: PERSIST_NO_STEP = the newest
 * => progress: NULL = none
 * => gives *s, which the caller owns, numbered "step", with its checks off
 * => fails with PERSIST_ABSENT (no such store, a step that has not been yet, or
 *    one that was not recorded)
 *    or PERSIST_REFUSED (the journal and the model disagree: "why" names the step)
 * => O(state + steps since the snapshot)
 */
enum persist_status persist_rebuild(struct persist *db, const char *store, uint64_t step, persist_progress *progress,
				    void *arg, struct kvms **s, struct persist_rebuilt *rebuilt, char *why,
				    size_t size);

/* Remember that a snapshot could not be loaded, so that it is not tried again. */
enum persist_status persist_set_aside(struct persist *db, uint64_t snapshot, const char *because, char *why,
				      size_t size);

#endif /* PERSIST_JOURNAL_H */
