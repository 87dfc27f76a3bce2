/*
 * match - a table of a store against a listing of a real system, address by
 * address, or its areas against a listing of areas.
 *
 * Cost: O(n) in the runs of both sides, which are held in memory.
 */
#ifndef KVT_MATCH_H
#define KVT_MATCH_H

#include "trace/listing.h"

/* What is compared, and how. */
struct kvt_match {
	uint64_t table;         /* of the store; a listing of areas ignores it */
	const uint64_t *ranges; /* [first, last] in pairs, ascending; NULL: the half that is the table's own */
	size_t ranges_count;
	unsigned aspects; /* those that the listing tells are compared */
	uint64_t memory;  /* frames of the store from here on stand for unknown ones; 0: all are known */
	bool partial;     /* the store may have less: pages that are not mapped, rights that are withheld */
};

/* A range at which the sides differ: after one joining of neighbours that differ alike. */
struct kvt_difference {
	bool is_listed, is_in_store;
	uint64_t start, last;
	struct kvt_item listed, store;      /* what holds "start"; their paddr is that of "start" */
	bool listed_goes_on, store_goes_on; /* frames follow each other to the end of the range */
	unsigned aspects;                   /* both: in what they differ; 0 = an area's end */
};

typedef void kvt_difference_visitor(void *arg, const struct kvt_difference *difference);

/* Pages of 4 KiB, or areas. */
struct kvt_matched {
	uint64_t listed, in_store;
	uint64_t agree;
	uint64_t missing;     /* listed, and not in the store */
	uint64_t extra;       /* in the store, and not listed */
	uint64_t different;   /* in both */
	uint64_t outside;     /* listed, and not in the ranges */
	uint64_t unknown;     /* agree, but for a frame that the store does not know */
	uint64_t unpurged;    /* areas that the listing has as freed */
	uint64_t differences; /* ranges, as visited */
	bool equal;           /* nothing differs that was to be compared */
};

/*
 * Compare.
 *
 * => listing: of kvt_listing_read(); sizes that it is not sure of are settled
 * => fails as the target does, or with KVT_NOMEM
 */
enum kvt_status kvt_match(struct kvt_target *t, enum kvt_form form, struct kvt_items *listing,
			  const struct kvt_match *how, kvt_difference_visitor *visit, void *arg,
			  struct kvt_matched *result);

#endif /* KVT_MATCH_H */
