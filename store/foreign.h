/*
 * foreign - a store made from a memory image of another kernel.
 *
 * Its pages lie in simulated memory at their own addresses; those that roots
 * lead to have slots of usage PageTable whose rc is the number of words and
 * roots that lead there, those that none leads to have usage Reserved.
 *
 * A page may be a node at several levels, if the image is strange or hostile.
 * What is known of a node is known for each (page, level); as a level's
 * children are one level below, everything that is summed up over a tree is
 * summed up level by level and costs O(pages), however often they are shared.
 *
 * Law: nothing changes after kvms_adopt().
 */
#ifndef KVMS_FOREIGN_H
#define KVMS_FOREIGN_H

#include "store/pagetable.h"

struct foreign_node {
	uint64_t paddr;
	uint32_t parents;
	uint32_t levels;                 /* at which it is a node, as bits */
	uint64_t leaves[LEVELS_MAX + 1]; /* below it, if it is a node at that level; saturating */
};

struct foreign {
	uint64_t pat;
	struct foreign_node *node; /* that of a page: slot.more - 1 */
	size_t count, capacity;
	uint64_t *todo; /* (node's index, level) */
	size_t todo_count, todo_capacity;
	struct kvms_adopted known;
};

void foreign_free(struct kvms *s);

/* The element of the digest that says what the image is: tag 24. */
#define FOREIGN_ELEMENT_WORDS 6u
void foreign_element(const struct kvms *s, uint64_t words[FOREIGN_ELEMENT_WORDS]);

/* What the hardware finds at a canonical va. */
struct translation foreign_translate(const struct kvms *s, uint64_t root, uint64_t va);

/* Leaves of a table in ascending order, up to as many as are listed. */
bool foreign_leaves(struct kvms *s, uint64_t table, kvms_leaf_visitor *visit, void *arg);

/*
 * Visit every leaf of a table, which exists, that reaches a byte.  False if there are more
 * than "most" (then none is visited), or "visit" gave false.
 */
bool foreign_reverse(struct kvms *s, uint64_t table, uint64_t paddr, uint64_t most, kvms_leaf_visitor *visit,
		     void *arg);

#endif /* KVMS_FOREIGN_H */
