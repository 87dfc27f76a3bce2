/*
 * replay - run a trace against a target, and say where the two part.
 *
 * Recorded ids are bound to actual ones as the trace goes, so a trace replays
 * whatever numbers the store hands out.  Only what a line records is compared.
 *
 * Law: nothing of a line runs if the line has a syntax error.
 */
#ifndef KVT_REPLAY_H
#define KVT_REPLAY_H

#include "store/kvmstore.h"
#include "trace/input.h"
#include "trace/stale.h"
#include "trace/target.h"
#include "trace/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* How a run ended.  The numbers are kvmctl's exit statuses. */
enum kvt_result {
	KVT_PASSED = 0,
	KVT_SYNTAX = 2,       /* syntax error, store limits, or the file cannot be read */
	KVT_DISCONNECTED = 3, /* connection gone, a store that takes no writes, or no memory */
	KVT_DIVERGED = 4,
	KVT_LAW_BROKEN = 5,
	KVT_UNREADABLE = 6 /* no store: the callback could not give one */
};

/* Nanoseconds of a clock that nobody sets: for differences. */
uint64_t kvt_now(void);

struct kvt_statistics {
	uint64_t lines;
	uint64_t ops;
	uint64_t outcomes[KVMS_CLASSES]; /* of ops, by class */
	uint64_t expects;
	uint64_t gaps;
	uint64_t divergences; /* lines that differ */
	uint64_t divergence_line; /* the first of them, 0 = none */
	uint64_t stale;       /* warnings of stale TLB entries whose range or frame is in use again */
	uint64_t nanoseconds; /* from the first line on */
	uint64_t bytes_done;  /* of the file */
	uint64_t bytes_total; /* 0 = not known */
	uint64_t gap_line;    /* line of the last gap, 0 = none */
	bool stopped;         /* a callback ended it */
};

/* The state a trace starts from instead of a fresh store. */
struct kvt_base {
	uint64_t digest;
	const char *snapshot; /* the file it names, or NULL */
};

/* A line that differs. */
struct kvt_divergence {
	const struct kvt_line *line;
	const struct kvms_op *op; /* with the store's ids */
	const struct kvms_outcome *out;
	uint64_t step; /* operations up to there, itself included */
	struct kvt_target *target;
};

/*
 * One run.  Zero-initialise, fill in what is wanted, call kvt_replay().
 */
struct kvt_replay {
	/* --- given by the caller --- */

	void *arg; /* for the callbacks */

	/*
	 * The store to run against.  Called once, before the first line that needs it.
	 *
	 * => config: the store line's, or all defaults; the payload is the replay's
	 * => base: NULL = a fresh store; else that state.  The replay itself compares the digest
	 * => owns: the target stays the callback's; it must live until kvt_replay() is back
	 * => fails with NULL and *why: key >= 0 if the configuration breaks a limit,
	 *    key -1 and a sentence for anything else
	 */
	struct kvt_target *(*open)(void *arg, const struct kvms_op *config, const struct kvt_base *base,
				   struct kvms_refusal *why);

	/*
	 * Called for every line that is a comment alone, in its turn; "text" begins
	 * at the #.  May be NULL.  "target" is NULL before the first line that needs
	 * a store.  False ends the run there.
	 */
	bool (*comment)(void *arg, const char *text, uint64_t line, struct kvt_target *target);

	/*
	 * Called behind every operation and every expectation, whatever came of it,
	 * before a divergence is told.  May be NULL.  False ends the run there.
	 *
	 * => op: with the store's ids in place of recorded ones
	 * => number: of the operation in the trace, from 1; an expectation's is that of the last before it
	 * => all of it is good for this call only
	 */
	bool (*step)(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
		     const struct kvms_outcome *out, uint64_t number);

	/* Called about ten times a second and once at the end.  May be NULL. */
	void (*progress)(void *arg, const struct kvt_statistics *so_far);

	/*
	 * Called for every stale TLB entry whose range or frame is in use again, behind
	 * the text about it.  May be NULL.  It changes nothing of how the run ends.
	 */
	kvt_stale_teller *stale;

	/* Called for every divergence; adds what it knows to the text that is reported.  May be NULL. */
	void (*diverged)(void *arg, const struct kvt_divergence *d, struct kvt_buffer *text);

	/*
	 * Which operations, counted from 1.  Those in front of "from" are carried out
	 * and not compared; with "skip" they are left out, since the store has their
	 * state.  With "has_to" the run ends in front of operation "to" + 1.
	 */
	uint64_t from;
	bool skip;
	bool has_to;
	uint64_t to;

	bool keep_going; /* run on after a divergence */
	bool untold;     /* run on, and count divergences and stale entries without a word */

	/*
	 * NULL: replay, compare.  Else run: op lines are printed here in canonical
	 * form with their actual outcome, which is not compared to a recorded one;
	 * all other lines are kept.  Expect lines are checked, a mismatch does not
	 * stop the run.
	 */
	FILE *print;

	/* Where errors and divergences are told; must be given. */
	FILE *report;

	/* --- filled in by the run --- */

	struct kvt_target *target;   /* what open() gave */
	struct kvms_refusal refusal; /* why it gave none; key -1 and no text if it did */
	struct kvt_statistics statistics;
};

/*
 * Run a trace to its end, or to what stops it.
 *
 * => source: the name shown before line numbers
 * => gives how it ended; everything worth saying has been written to "report"
 */
enum kvt_result kvt_replay(struct kvt_replay *r, struct kvt_input *in, const char *source);

/*
 * The same piece by piece: each call of kvt_run() goes on up to the operation
 * that "to" of "r", with "has_to", names by then.
 *
 * => kvt_run_begin(): NULL: no memory.  "r", "in" and "source" must outlive the run
 * => kvt_run(): KVT_PASSED or KVT_DIVERGED: it may go on
 */
struct kvt_run; /* opaque */
struct kvt_run *kvt_run_begin(struct kvt_replay *r, struct kvt_input *in, const char *source);
enum kvt_result kvt_run(struct kvt_run *run);
void kvt_run_end(struct kvt_run **run);

/* The statistics as text, several lines: ops, rate, outcomes by class, expect lines, divergences. */
void kvt_print_statistics(struct kvt_buffer *b, const struct kvt_statistics *s);
void kvt_json_statistics(struct kvt_buffer *b, const struct kvt_statistics *s);

#endif /* KVT_REPLAY_H */
