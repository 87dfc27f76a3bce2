/*
 * align - two traces side by side: where their operations differ, and where
 * the same operation had another outcome.
 *
 * Each trace runs on a store of its own.  Outcomes are those of the stores; what
 * the traces record only tells which of their ids mean what.
 *
 *   both at the same operation ----> both run, outcomes are compared ---+
 *      ^            | not the same                                      |
 *      |            v                                                   |
 *      |    up to KVT_ALIGN_WINDOW operations of each are read ahead;   |
 *      |    the longest sequence they have in common says which of them |
 *      |    belong together and which only one of the traces has        |
 *      +----------------------------------------------------------------+
 *
 * Operations are the same if they have the same name and arguments, ids being
 * the same if they name partners: objects that the two traces made by
 * operations that belong together.  An id that is not made yet agrees with any
 * other such id while reading ahead.
 *
 * Law: memory is bounded by the window and by what is alive.
 */
#ifndef KVT_ALIGN_H
#define KVT_ALIGN_H

#include "trace/replay.h"

#define KVT_ALIGN_WINDOW 512u

enum kvt_difference_kind {
	KVT_CONFIG,  /* a key of the store line: "field" */
	KVT_ONLY,    /* only one of the traces has the operation */
	KVT_CHANGED, /* in the same place the same operation with other arguments; outcomes are told, too */
	KVT_OUTCOME  /* the same operation, another outcome */
};

/* One trace's part of a difference. */
struct kvt_aligned {
	uint64_t line, step; /* step: of this trace, from 1 */
	struct kvms_op op;   /* with the ids of its store; of KVT_CONFIG the configuration */
	const struct kvms_outcome *out;
};

struct kvt_difference {
	enum kvt_difference_kind kind;
	const struct kvms_row *row;
	bool has[2]; /* who has the operation: KVT_ONLY */
	struct kvt_aligned side[2];
	unsigned field;   /* KVT_CONFIG: the argument */
	uint64_t args;    /* KVT_CHANGED: arguments that differ, as bits */
	bool outcomes;    /* class, name, or any field differs */
	uint64_t results; /* result fields that differ, as bits */
};

struct kvt_align_counts {
	uint64_t ops[2];
	uint64_t same; /* operations that both have */
	uint64_t changed;
	uint64_t only[2];
	uint64_t outcomes; /* that differ, of the same operations and of the changed ones */
	uint64_t config;
	uint64_t nanoseconds;
};

struct kvt_align {
	/* --- given --- */
	void *arg;
	/* The store of a side (0 or 1); as kvt_replay.open. */
	struct kvt_target *(*open)(void *arg, unsigned side, const struct kvms_op *config, const struct kvt_base *base,
				   struct kvms_refusal *why);
	/* A difference; good for this call only.  False ends it there. */
	bool (*differs)(void *arg, const struct kvt_difference *d);
	FILE *report; /* errors */

	/* --- the result --- */
	struct kvt_target *target[2];
	struct kvt_align_counts counts;
};

/*
 * Run both to their ends.
 * => gives KVT_PASSED: nothing differs; KVT_DIVERGED: something does; anything
 *    else: what stopped it, which has been reported
 */
enum kvt_result kvt_align(struct kvt_align *a, struct kvt_input *first, struct kvt_input *second);

#endif /* KVT_ALIGN_H */
