/*
 * gen - random operations, legal and illegal, over every row of the op table.
 *
 * The generator knows no operation by name, only, for its profiles, how names
 * of groups begin.  It draws arguments from pools of
 * values (live ids, addresses near what those ids cover, boundaries, misuse),
 * asks the store by dry runs what would come of them, and so learns which pools
 * serve which argument, which operations end which ids, and which outcomes are
 * still rare.
 *
 * Law: the same seed, configuration and number of steps give the same
 * operations on every machine: own random numbers, integers only, and every
 * choice is a function of the seed and of outcomes.
 */
#ifndef KVT_GEN_H
#define KVT_GEN_H

#include "store/kvmstore.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- What to draw ---------------------------------------------------------- */

/* Most steps of a profile come from some groups of operations, the others from all. */
struct kvt_profile {
	const char *name;
	const char *ops;  /* how their names begin, with blanks between; "" = all; NULL = the workload of that name */
	const char *text; /* half a sentence */
};

/* By index from 0 on, which is what NULL means elsewhere; NULL past the last one. */
const struct kvt_profile *kvt_profile_at(unsigned index);
const struct kvt_profile *kvt_profile_find(const char *name);

/* ---- One operation at a time: for tests, fuzzing, soak runs ---------------- */

struct kvt_generator; /* opaque */

/*
 * A generator of operations for a store.
 *
 * => profile: NULL = every operation alike
 * => s: any state; it must outlive the generator.  The generator itself only
 *    runs it dry and asks it
 * => fails with NULL: no memory
 */
struct kvt_generator *kvt_generator_new(uint64_t seed, const struct kvt_profile *profile, struct kvms *s);

/* How operations are drawn.  Zero is what a new generator does. */
struct kvt_generator_options {
	bool has_illegal;
	unsigned illegal; /* percent of the random steps for which anything but ok is wanted; 25 */
	unsigned clients; /* 0 = 1; up to KVT_CLIENTS_MAX of trace/workload.h */
	bool cover;       /* prefer what leads to outcomes that have not come yet */
};

/* Set the options of a generator that has not drawn yet.  False: no memory, or too many clients. */
bool kvt_generator_set(struct kvt_generator *g, const struct kvt_generator_options *options);

/* The client of the last operation, from 0 on. */
unsigned kvt_generator_client(const struct kvt_generator *g);

/*
 * Outcomes of operations that have come, of all that can (those are left out
 * for which docs/gaps.md says that no run of bearable length has them).
 *
 * => missing: called for each that has not come; may be NULL
 * => gives how many have not come; *all gets how many there are
 */
unsigned kvt_generator_missing(const struct kvt_generator *g, unsigned *all,
			       void (*missing)(void *arg, const struct kvms_row *row, unsigned name), void *arg);

void kvt_generator_free(struct kvt_generator **g);

/*
 * The next operation.  It and its payload belong to the generator until the
 * next call.  The caller applies it and calls kvt_generator_answer().
 */
const struct kvms_op *kvt_generator_next(struct kvt_generator *g);

/* What the store said to that operation: ids are born and end by it. */
void kvt_generator_answer(struct kvt_generator *g, const struct kvms_outcome *out);

/* An inspection request with arguments drawn the same way.  Valid until the next call. */
const struct kvms_op *kvt_generator_request(struct kvt_generator *g);

/* ---- A whole trace --------------------------------------------------------------- */

struct kvt_gen {
	uint64_t seed;
	uint64_t steps;
	const struct kvt_profile *profile; /* NULL = every operation alike */
	const struct kvms_op *config;      /* arguments of kvms_store_row(); NULL = all defaults */
	uint64_t digest_every;             /* expect digest after so many ops; 0 = every 50 */
	struct kvt_generator_options options;
	bool until_covered; /* end as soon as every outcome of every operation has come */

	/* called at the end for each outcome that has not come; may be NULL */
	void (*missing)(void *arg, const struct kvms_row *row, unsigned name);
	void *arg;
	unsigned cells, cells_missing; /* filled in: outcomes there are, and that have not come */
	uint64_t made;                 /* filled in: operations */
};

/*
 * Generate a trace: every op with its outcome; with each digest, inv=ok and
 * a request with its answer; at the end the requests that sum up a state.
 *
 * => gives 0; or fails with 5 if the store breaks a law of its own (the trace
 *    so far is written, its last op is the one), with 2 if the configuration
 *    breaks a limit, with 1 if the output or memory fails; "error" says what
 */
int kvt_gen(struct kvt_gen *gen, FILE *out, char *error, size_t error_size);

#endif /* KVT_GEN_H */
