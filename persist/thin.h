/*
 * thin - which snapshots of a past stay: many of the recent one, few of the old.
 *
 * A state is made from the snapshot before it and the steps in between.  So the
 * gap between two snapshots bounds what it costs, and it may grow with the
 * distance from now: one snapshot for each doubling of it.
 *
 * Law: where a snapshot has been dropped, the gap between those on both sides
 * of it is no wider than the way from its end to the newest; and of three
 * snapshots that follow each other, held ones and the newest few aside, the
 * first is more than twice as far from the newest as the last.  So of n steps
 * with one snapshot every e at most 2 log2(n / e) + 2 stay, besides those.
 */
#ifndef PERSIST_THIN_H
#define PERSIST_THIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct persist_mark {
	uint64_t step;
	uint64_t id;
	bool held;    /* it may not be dropped */
	bool useless; /* it makes no way shorter: dropped unless it is one of the newest */
	bool drop;    /* the answer */
};

/*
 * Decide which marks go when one more is set at step "newest".
 *
 * => marks: ascending by step, none above "newest"
 * => keep: how many of the newest stay that are not held; the new one counts
 */
void persist_thin(struct persist_mark *marks, size_t count, uint64_t newest, unsigned keep);

#endif /* PERSIST_THIN_H */
