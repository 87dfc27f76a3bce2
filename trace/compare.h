/*
 * compare - a store against what a real kernel says about itself: the kernel's
 * listing of its areas (vmallocinfo).  For its page tables see compare_leaves.
 *
 * Cost: O(n log n) in what is listed plus what the store has.
 */
#ifndef KVT_COMPARE_H
#define KVT_COMPARE_H

#include "trace/input.h"
#include "trace/target.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What a comparison found.  "agree of listed"; equal only if both and store are the same number. */
struct kvt_compared {
	uint64_t listed;   /* on the kernel's side */
	uint64_t in_store; /* on the store's side */
	uint64_t agree;
	uint64_t differ; /* same address, other content */
	uint64_t only_listed;
	uint64_t only_store;
	uint64_t unpurged; /* areas: freed, addresses not yet reusable; no area of the store */
	uint64_t known;    /* leaves: those whose frame could be compared */
};

/* True if nothing differs. */
bool kvt_compared_equal(const struct kvt_compared *c);

/*
 * Areas: address and size of each, against the lines of a vmallocinfo listing.
 *
 * => report: "areas N of M", then the differing ones, at most "most" of them
 * => gives KVT_DONE and *result; or the target's failure
 * => false in *readable: the listing cannot be read; the reason is in the report
 */
enum kvt_status kvt_compare_areas(struct kvt_target *t, struct kvt_input *listing, unsigned most, FILE *report,
				  struct kvt_compared *result, bool *readable);

#endif /* KVT_COMPARE_H */
