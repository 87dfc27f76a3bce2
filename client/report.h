/*
 * report - what a replay found out, for a person or as one JSON object.
 */
#ifndef KVMCTL_REPORT_H
#define KVMCTL_REPORT_H

#include "client/session.h"
#include "trace/compare_leaves.h"
#include "trace/replay.h"

/* A comparison with what the recorded kernel said of itself. */
struct kvmctl_comparison {
	const char *path; /* NULL: not asked for */
	const char *mark; /* comment at which to compare; NULL: at the end */
	bool done;
	struct kvt_compared result;        /* of a listing */
	struct kvt_compared_leaves leaves; /* of mappings */
	char *text;                        /* what kvt_compare_*() had to say; the comparison's owner frees it */
};

/* Stale TLB entries whose range or frame came into use again.  Zero-initialise; the owner frees "at". */
struct kvmctl_stale {
	struct kvt_stale_warning *at;
	size_t count, capacity;
};

/* The state of the store when the trace had run. */
struct kvmctl_report {
	bool has_state; /* the store could be asked */
	uint64_t areas;
	uint64_t free_blocks, free_largest, free_total; /* of virtual addresses: blocks, bytes, bytes */
	uint64_t laws;                                  /* broken ones */
	uint64_t digest;
	const char *file;        /* the trace */
	const char *divergences; /* objects, separated by commas */
};

/*
 * Ask the store for the state part.
 * => fails with the target's status; "report" then has no state
 */
enum kvt_status kvmctl_report_state(struct kvt_target *target, struct kvmctl_report *report);

/* Print it.  "verdict" is one word: passed, diverged, ... */
void kvmctl_report_print(const struct kvmctl *k, const struct kvmctl_report *report, const struct kvt_statistics *run,
			 const struct kvmctl_stale *stale, const struct kvmctl_comparison *listing,
			 const struct kvmctl_comparison *mappings, const char *verdict);

#endif /* KVMCTL_REPORT_H */
