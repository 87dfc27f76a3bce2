/*
 * dump - which pages are nodes of a table, each once.
 */
#ifndef KVMS_DUMP_H
#define KVMS_DUMP_H

#include "store/pagetable.h"

/* Nodes by address and level.  Zero-initialise; nodeset_free() ends it. */
struct nodeset {
	uint64_t *at; /* address | level; 0 = none.  After nodeset_pages(): addresses */
	size_t count, capacity;
};

void nodeset_free(struct nodeset *set);

/* Add one; *is_new = it was not there.  False: no memory. */
bool nodeset_add(struct nodeset *set, uint64_t paddr, unsigned level, bool *is_new);

/*
 * Add a node and all below it: of itself, entries 0 .. end - 1.  O(nodes that
 * were not there).  False: no memory.
 */
bool nodeset_reach(struct nodeset *set, const struct kvms *s, uint64_t node, unsigned level, unsigned end);

/* Turn it into addresses, ascending, each once: at[0 .. count - 1]. */
size_t nodeset_pages(struct nodeset *set);

#endif /* KVMS_DUMP_H */
