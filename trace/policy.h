/*
 * policy - the areas of a trace under other ways to choose their addresses.
 *
 * Each policy has a set of free blocks of its own, which begins as the first
 * vmalloc range.  Every area that the trace makes there is allocated from it,
 * and every one that ends is freed; blocks that touch become one.
 *
 *   policy             block                         part of it
 *   first-fit-top      the lowest that fits          its top: upstream's policy
 *   first-fit-bottom   the lowest that fits          its bottom: the lowest address there is
 *   best-fit           the smallest that fits        its bottom
 *   best-fit-top       the smallest that fits        its top
 *   worst-fit          the largest                   its bottom
 *   next-fit           the next that fits behind     its bottom
 *                      the last allocation, around
 *   highest            the highest that fits         its top: the highest address there is
 *
 * Equal sizes: the lowest.  What a search costs is counted twice: the blocks
 * that a scan in the policy's own order looks at until it knows (all of them
 * for best-fit and worst-fit, as upstream keeps no order by size), and the
 * nodes that a search in balanced trees by address and by size looks at.
 *
 * Law: memory is bounded by what is alive.  first-fit-top gives the addresses
 * that the model gives.
 */
#ifndef KVT_POLICY_H
#define KVT_POLICY_H

#include "trace/lives.h"
#include "trace/stat.h"

enum kvt_policy_kind {
	KVT_FIRST_FIT_TOP,
	KVT_FIRST_FIT_BOTTOM,
	KVT_BEST_FIT,
	KVT_BEST_FIT_TOP,
	KVT_WORST_FIT,
	KVT_NEXT_FIT,
	KVT_HIGHEST,
	KVT_POLICIES
};

const char *kvt_policy_name(enum kvt_policy_kind kind);
/* The same in at most 9 letters, for the head of a column. */
const char *kvt_policy_short_name(enum kvt_policy_kind kind);
/* By name; "lowest" is first-fit-bottom.  False: no such policy. */
bool kvt_policy_find(const char *name, size_t size, enum kvt_policy_kind *kind);

/* How a policy did. */
struct kvt_policy_figures {
	uint64_t allocated;
	uint64_t failed;             /* the trace's allocator found room, this policy did not */
	uint64_t rescued;            /* the trace's allocator found none, this policy would have */
	uint64_t moved;              /* got another address than in the trace */
	uint64_t span_most;          /* bytes from the lowest to the highest address in use, at most */
	uint64_t blocks_most;        /* free blocks */
	unsigned fragmentation_most; /* thousandths, see kvt_fragmentation() */
	unsigned waste_most;         /* thousandths, see kvt_policy_waste() */
	double waste_sum;            /* behind each allocation or end: divide by "changes" */
	uint64_t changes;
	uint64_t searches, scanned, scanned_most, looked, looked_most; /* blocks of a scan, nodes of a tree */
};

struct kvt_policy_now {
	struct kvt_free_va free_va;
	uint64_t used; /* bytes */
	uint64_t span; /* from the lowest to the highest address in use */
};

/* Part of the span that is not in use, in thousandths. */
unsigned kvt_policy_waste(const struct kvt_policy_now *now);

struct kvt_policy; /* opaque: one policy at work */

/* On the free range [start, end).  NULL: no memory. */
struct kvt_policy *kvt_policy_new(enum kvt_policy_kind kind, uint64_t start, uint64_t end);
void kvt_policy_free(struct kvt_policy **p);

/*
 * An area of the trace, by its id there.
 *
 * => start: where it lies in the trace; with "fixed" it must lie there here too
 * => false: no memory
 */
bool kvt_policy_alloc(struct kvt_policy *p, uint64_t area, uint64_t start, uint64_t size, bool fixed);
/* The trace's allocator found no room for so many bytes: would this one have? */
void kvt_policy_refused(struct kvt_policy *p, uint64_t size);
/* An area became two, the first "offset" bytes long. */
bool kvt_policy_split(struct kvt_policy *p, uint64_t area, uint64_t left, uint64_t right, uint64_t offset);
bool kvt_policy_end(struct kvt_policy *p, uint64_t area);

const struct kvt_policy_figures *kvt_policy_figures(const struct kvt_policy *p);
struct kvt_policy_now kvt_policy_now(const struct kvt_policy *p);

/* ---- A trace under several of them ------------------------------------------------ */

struct kvt_policies {
	/* --- given --- */
	struct kvt_target *target;
	unsigned count;
	enum kvt_policy_kind kind[KVT_POLICIES];
	bool fixed;     /* areas whose address was asked for keep it; else they are placed like all others */
	uint64_t every; /* steps between two samples; 0 as in struct kvt_stat */
	void (*sampled)(void *arg, uint64_t step, const struct kvt_policy_now *now); /* NULL: they are kept */
	void *arg;

	/* --- the result --- */
	struct kvt_policy *policy[KVT_POLICIES];
	uint64_t asked;   /* allocations in the range */
	uint64_t placed;  /* of them with an address that was asked for */
	uint64_t refused; /* that the trace's allocator could not give */
	uint64_t outside; /* areas that lie in no part of the range, or are empty: not counted */
	uint64_t *samples_step;
	struct kvt_policy_now *samples; /* "count" for each step */
	size_t samples_count;
	bool failed;

	/* --- its own --- */
	struct kvt_lives *lives;
	struct kvt_step step;
	uint64_t start, end, stride;
	size_t samples_capacity;
};

bool kvt_policies_begin(struct kvt_policies *p);
void kvt_policies_step(struct kvt_policies *p, const struct kvt_line *line, const struct kvms_op *op,
		       const struct kvms_outcome *out);
void kvt_policies_end(struct kvt_policies *p); /* the last sample */
void kvt_policies_free(struct kvt_policies *p);

#endif /* KVT_POLICY_H */
