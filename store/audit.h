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
	uint32_t queues;     /* CPU queues that keep it, if it is the top of a detached sub-tree */
	uint32_t detached;   /* 1: a node of a detached sub-tree */
};

/* A non-empty area. */
struct audit_area {
	uint64_t start, end, id;
	uint64_t reach;   /* largest end of this and all before it */
	uint64_t reach_id; /* of the area that reaches there */
};

/* Ids, sorted, so that one can be counted. */
struct audit_ids {
	uint64_t *at;
	size_t count, capacity;
};

#define AUDIT_CHUNK 512u

/*
 * Tallies of neighbouring slots.  Most frames have mappings and nothing else, and a
 * full check of a large store is as fast as memory is touched: so those stand alone.
 */
struct tallies {
	uint32_t mappings[AUDIT_CHUNK];
	struct tally *more; /* all else; NULL = zero */
};

struct audit {
	struct kvms *s;
	struct tallies **chunks; /* of slot i: chunks[i / AUDIT_CHUNK], at i % AUDIT_CHUNK; NULL = all zero */
	uint64_t chunks_count;
	uint64_t *made; /* indexes of the chunks that exist, ascending when the audit is made */
	size_t made_count, made_capacity;
	union totals totals;
	uint64_t slots_sum; /* of the digest */
	struct audit_ids locks;   /* lock owner of every locked node */
	struct audit_ids links;   /* list of every link */
	struct audit_ids tags;    /* tag of every list that has one */
	struct audit_ids uses;    /* space of every cursor, reader and writer */
	struct audit_ids io_refs; /* area of every I/O handle and list entry */
	struct audit_area *areas; /* by start */
	size_t areas_count;
	struct extent *blocks; /* free VA blocks, by start */
	size_t blocks_count;
	struct extent *mmio; /* free I/O blocks, by window and start */
	size_t mmio_count;
};

/*
 * Gather everything but what the slots themselves say; then, in one pass with the
 * laws about them, every slot of audit_next_slot(); then the end of it.
 * out_of_memory() if the host has none for it.
 */
void audit_make(struct kvms *s, struct audit *a);
void audit_slot(struct audit *a, uint64_t i);
void audit_slots_end(struct audit *a);
void audit_free(struct audit *a);

/* The least slot >= from that is in use or has users; BITMAP_NONE if there is none. */
uint64_t audit_next_slot(const struct audit *a, uint64_t from);
struct tally audit_tally(const struct audit *a, uint64_t slot);
/* How often an id stands in a collection. */
uint64_t audit_count(const struct audit_ids *ids, uint64_t id);
/* The end of the area that holds va, 0 if none. */
uint64_t audit_area_end(const struct audit *a, uint64_t va);
/* An area that overlaps area "id", 0 if none. */
uint64_t audit_area_overlap(const struct audit *a, uint64_t id);
/* An address in the range that free blocks and areas do not tile exactly, 0 if they do. */
uint64_t audit_untiled(const struct audit *a, const struct kvms_range *range);
/* True if what a space counts of its users and CPUs is so. */
bool audit_space_matches(const struct audit *a, uint64_t id);
/* True if the queues' chains hold every kept reference; if the TLBs' indexes hold every entry. */
bool audit_kept_matches(const struct audit *a);
bool audit_tlb_matches(const struct audit *a);
/* True if the index over areas names exactly the live non-empty areas. */
bool audit_index_matches(const struct audit *a);
/* True if a word of a node at "level" leads to a node that is fit to be walked. */
bool audit_may_descend(const struct kvms *s, uint64_t word, unsigned level);

#endif /* KVMS_AUDIT_H */
