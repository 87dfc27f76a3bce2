/*
 * leaves - the leaves of page tables as runs, and how two lists of runs differ.
 */
#ifndef KVMCTL_LEAVES_H
#define KVMCTL_LEAVES_H

#include "store/kvmstore.h"
#include "trace/buffer.h"

/* Runs, ascending by table and address.  Zero-initialise; kvmctl_leaves_free() ends them. */
struct kvmctl_leaves {
	struct kvms_extent *at;
	size_t count, capacity;
	bool failed; /* no memory */
};

void kvmctl_leaves_free(struct kvmctl_leaves *l);

/* Add a run as it is. */
void kvmctl_leaves_add(struct kvmctl_leaves *l, const struct kvms_extent *run);

/* Add the leaves of a whole table. */
void kvmctl_leaves_table(struct kvmctl_leaves *l, struct kvms *s, uint64_t table);

/* Add the parts of leaves that lie in [first, last].  O(leaves there), whatever else the table has. */
void kvmctl_leaves_range(struct kvmctl_leaves *l, struct kvms *s, uint64_t table, uint64_t first, uint64_t last);

/* Bytes of one leaf. */
uint64_t kvmctl_leaf_size(unsigned level);

/*
 * Addresses [start, last] of a table that reach something else in one list
 * than in the other: after one run, in bytes from its start.
 */
struct kvmctl_piece {
	uint64_t table, start, last;
	bool is_before, is_after; /* there is something: "before", "after" */
	struct kvmctl_reach {
		uint64_t paddr; /* of "start" */
		uint64_t prop;
		unsigned level;
		bool tracked;
	} before, after;
};

typedef void kvmctl_piece_visitor(void *arg, const struct kvmctl_piece *piece);

/* Visit the differences, ascending, neighbours that go on alike as one. */
void kvmctl_leaves_compare(const struct kvmctl_leaves *before, const struct kvmctl_leaves *after,
			   kvmctl_piece_visitor *visit, void *arg);

/* "0x1000 rw:wb", "0x200000 rw:wb 2M untracked": what is not said is a tracked leaf of 4 KiB. */
void kvmctl_put_reach(struct kvt_buffer *b, const struct kvmctl_reach *reach);

/* {"paddr":...,"prop":...,"level":...,"tracked":...} */
void kvmctl_json_reach(struct kvt_buffer *b, const struct kvmctl_reach *reach);

#endif /* KVMCTL_LEAVES_H */
