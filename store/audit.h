/*
 * audit - what a full check gathers afresh: users of every slot, totals,
 * areas and free blocks in order of address.  O(live state).
 */
#ifndef KVMS_AUDIT_H
#define KVMS_AUDIT_H

#include "store/pagetable.h"

/* Users of one slot, recounted. */
struct tally {
	uint32_t handles, mappings, covers, kept;
	uint32_t unique, listed;
	uint32_t designated; /* table words and roots that point at it */
};

/* A non-empty area. */
struct audit_area {
	uint64_t start, end, id;
	uint64_t reach;   /* largest end of this and all before it */
	uint64_t reach_id; /* of the area that reaches there */
};

#define AUDIT_CHUNK 512u

struct audit {
	struct kvms *s;
	struct tally **chunks; /* tally of slot i: chunks[i / AUDIT_CHUNK][i % AUDIT_CHUNK], or all zero */
	uint64_t chunks_count;
	uint64_t *made; /* indexes of the chunks that exist, ascending when the audit is made */
	size_t made_count, made_capacity;
	union totals totals;
	struct audit_area *areas; /* by start */
	size_t areas_count;
	struct extent *blocks; /* free VA blocks, by start */
	size_t blocks_count;
	struct extent *mmio; /* free I/O blocks, by window and start */
	size_t mmio_count;
};

/* Gather everything; out_of_memory() if the host has none for it. */
void audit_make(struct kvms *s, struct audit *a);
void audit_free(struct audit *a);

/* The least slot >= from that is in use or has users; BITMAP_NONE if there is none. */
uint64_t audit_next_slot(const struct audit *a, uint64_t from);
struct tally audit_tally(const struct audit *a, uint64_t slot);
/* The end of the area that holds va, 0 if none. */
uint64_t audit_area_end(const struct audit *a, uint64_t va);
/* An area that overlaps area "id", 0 if none. */
uint64_t audit_area_overlap(const struct audit *a, uint64_t id);
/* An address in the range that free blocks and areas do not tile exactly, 0 if they do. */
uint64_t audit_untiled(const struct audit *a, const struct kvms_range *range);
/* True if the index over areas names exactly the live non-empty areas. */
bool audit_index_matches(const struct audit *a);
/* True if a word of a node at "level" leads to a node that is fit to be walked. */
bool audit_may_descend(const struct kvms *s, uint64_t word, unsigned level);

#endif /* KVMS_AUDIT_H */
