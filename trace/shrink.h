/*
 * shrink - the shortest trace that still fails in the same way.
 *
 * Steps are taken out in ever smaller chunks until none can be spared, then
 * arguments and configuration are made small and plain.  Every candidate runs
 * on a fresh store in this process: ids are those of that run, and what names
 * something that is gone goes too.
 *
 * What "fails in the same way" means is fixed by the first run:
 *
 *   diverges     the same operation, and the same difference: class and name
 *                of both outcomes, or the first field in which they differ.  If
 *                nobody can be asked again what the kernel does, the model's
 *                value of that field stays too
 *   law breaks   the same law, at the same operation
 *   asked        somebody says so
 *
 * Law: the result fails; the same trace gives the same result.
 */
#ifndef KVT_SHRINK_H
#define KVT_SHRINK_H

#include "store/kvmstore.h"
#include "trace/buffer.h"
#include "trace/input.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum kvt_shrunk {
	KVT_SHRUNK,        /* what is left fails */
	KVT_SHRINK_PASSES, /* the trace does not fail at all: nothing is written */
	KVT_SHRINK_WRONG,  /* it cannot be read, or has no store: said on "report" */
	KVT_SHRINK_FAILED  /* a callback failed, or no memory: said on "report" */
};

/* What a callback found out. */
enum kvt_asked { KVT_ASKED_NO, KVT_ASKED_YES, KVT_ASKED_FAILED };

struct kvt_shrink_progress {
	uint64_t steps_before; /* operations and expect lines */
	uint64_t steps;        /* of the shortest so far */
	uint64_t tries;        /* candidates that have run */
};

/* Zero-initialise, fill in what is wanted; one condition at least.  All that are given must hold. */
struct kvt_shrink {
	void *arg; /* for the callbacks */

	bool while_diverges;
	bool while_law_breaks;

	/* Does this trace still fail?  May be NULL. */
	enum kvt_asked (*ask)(void *arg, const char *text, size_t size);

	/*
	 * With while_diverges: the same trace with the outcomes that the kernel in
	 * question gives, added to "recorded".  False: it could not be made.  NULL:
	 * the outcomes that the trace was recorded with are all there is.
	 */
	bool (*record)(void *arg, const char *text, size_t size, struct kvt_buffer *recorded);

	/* Called after each candidate.  May be NULL. */
	void (*progress)(void *arg, const struct kvt_shrink_progress *so_far);

	const volatile sig_atomic_t *stop; /* not 0: enough, what there is will do.  May be NULL */

	enum kvms_check check; /* of the model, as kvms_set_check() */
	uint64_t check_every;
	FILE *report;

	/* --- filled in --- */

	struct kvt_shrink_progress done;
	char failure[256]; /* half a sentence: what it is that fails */
};

/* Shrink a trace, and write what is left. */
enum kvt_shrunk kvt_shrink(struct kvt_shrink *k, struct kvt_input *in, FILE *out);

#endif /* KVT_SHRINK_H */
