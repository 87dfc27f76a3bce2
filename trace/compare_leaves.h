/*
 * compare_leaves - a store's kernel table against the leaves of a real kernel's.
 *
 * The kernel's side is a table of text, "va,pa,size,entry,flags".  Three parts
 * of the kernel half are compared, each by itself: the ranges of areas, and what
 * boot_map made outside them, which is the direct map (below the first range)
 * and the image (above it).  A part begins at the store's first leaf there; the
 * kernel's other mappings (of its page descriptors, of per-CPU data, ...) are
 * not in the store and not compared.
 *
 * Cost: O(n log n) in what is listed plus what the store has.
 */
#ifndef KVT_COMPARE_LEAVES_H
#define KVT_COMPARE_LEAVES_H

#include "trace/compare.h"

enum kvt_leaves_part { KVT_LEAVES_AREAS, KVT_LEAVES_DIRECT, KVT_LEAVES_IMAGE, KVT_LEAVES_PARTS };

struct kvt_compared_leaves {
	struct kvt_compared part[KVT_LEAVES_PARTS];
	bool compared[KVT_LEAVES_PARTS];       /* the store has this part */
	uint64_t attributes[KVT_LEAVES_PARTS]; /* of those that agree: global bit or cache differ */
};

/* The part's name, for a reader: "leaves", "direct map", "kernel image". */
const char *kvt_leaves_part_name(enum kvt_leaves_part part);

/* True if nothing differs in any part. */
bool kvt_compared_leaves_equal(const struct kvt_compared_leaves *c);

/*
 * Compare address, size, writable, no-execute, and the frame where it is known.
 *
 * A recording names only some frames of areas; those it does not name lie in
 * [memory, max_paddr) of the store that replays it.  "memory" = 0 stands for
 * half of max_paddr.  On x86 a leaf without r is not present, and so not listed;
 * a leaf of 1 GiB there is listed as 512 of 2 MiB, as no store has larger ones.
 *
 * => report: for each part "NAME N of M", then the differing leaves, at most "most" of them
 * => gives KVT_DONE and *result; or the target's failure
 * => false in *readable: the table cannot be read; the reason is in the report
 */
enum kvt_status kvt_compare_leaves(struct kvt_target *t, struct kvt_input *table, uint64_t memory, unsigned most,
				   FILE *report, struct kvt_compared_leaves *result, bool *readable);

#endif /* KVT_COMPARE_LEAVES_H */
