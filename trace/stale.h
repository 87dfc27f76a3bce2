/*
 * stale - kernel TLB entries that outlive their mapping, watched through a run.
 *
 * Dropping a kernel area flushes no TLB: until somebody flushes, a CPU may
 * still reach what lay there.  That is legal, and dangerous once the addresses
 * or the frame are in use again.  The watch remembers since when an entry is
 * stale and tells when that happens, once for each CPU and address.
 *
 *           unmapped               range mapped again, or frame in use again
 *   backed ----------> stale (a place) -----------------------> told
 *      ^                 |                                        |
 *      +-----------------+--- mapped as it was, or flushed -------+
 *
 * Law: a trace that fills no TLB costs nothing but one request at its start;
 * memory is bounded by the three limits below.
 */
#ifndef KVT_STALE_H
#define KVT_STALE_H

#include "trace/target.h"

#include <stdbool.h>
#include <stdint.h>

#define KVT_STALE_WATCHED 1024u /* stale entries watched at a time, those of the lowest CPUs and addresses */
#define KVT_STALE_TOLD 1024u    /* warnings of one run */
#define KVT_STALE_LARGE 256u    /* entries larger than a page whose size is known; others count as one page */

/* A place in the run: a line of the trace, and how many operations had run then, its own included. */
struct kvt_place {
	uint64_t line; /* 0 = before the first line */
	uint64_t step;
};

struct kvt_stale_warning {
	uint64_t cpu, va, paddr;
	bool is_frame;          /* the frame is in use again; else the range is mapped again */
	struct kvt_place stale; /* since when the entry has no leaf */
	struct kvt_place reused;
};

typedef void kvt_stale_teller(void *arg, const struct kvt_stale_warning *w);

struct kvt_stale; /* opaque */

/* NULL: no memory. */
struct kvt_stale *kvt_stale_new(void);
void kvt_stale_free(struct kvt_stale **w);

/*
 * Look at the state the run begins with.
 * => a target that does not answer ends the watch, here and below; nothing is told then
 */
void kvt_stale_begin(struct kvt_stale *w, struct kvt_target *t);

/* An operation ended ok, at "here".  Warnings go to "tell". */
void kvt_stale_step(struct kvt_stale *w, struct kvt_target *t, const struct kvms_op *op, const struct kvms_outcome *out,
		    struct kvt_place here, kvt_stale_teller *tell, void *arg);

/* True if more entries were stale at once, or more warnings due, than there is room for. */
bool kvt_stale_overflowed(const struct kvt_stale *w);

#endif /* KVT_STALE_H */
