/*
 * pagetable - the engine: nodes, cursors, walk, map, scan, take, protect.
 *
 * A cursor stands at va in the node path[level] of one table; guard_level is
 * the highest level it may climb to.  A cursor of a kernel operation lives
 * only inside that operation and locks nothing.
 *
 * Law: between calls 1 <= level <= guard_level <= levels and
 * start <= va <= end; while va < end, path[k] spans va for level <= k <= guard_level.
 */
#ifndef KVMS_PAGETABLE_H
#define KVMS_PAGETABLE_H

#include "store/int.h"

#define KERNEL_TABLE 0u

struct cursor {
	uint64_t table; /* 0 = kernel, else vm_space id */
	uint64_t lock;  /* id that locks its nodes; 0 = a kernel cursor, which locks nothing */
	uint64_t start, end;
	uint64_t va;
	unsigned level;
	unsigned guard_level;
	uint64_t path[LEVELS_MAX + 1]; /* paddr of the node at each level */
	uint64_t nodes_allocated;      /* since the cursor was made */
	uint64_t nodes_freed;
};

/* A mapped page, as a walk finds it. */
struct translation {
	bool found;
	uint64_t start; /* of the slot that answered */
	uint64_t last;  /* its last byte, so that the end of the address space needs no 65th bit */
	unsigned level;
	struct leaf leaf;
	bool tracked;
};

/* ---- nodes ---- */

/* Address of word "index" of a node. */
static inline uint64_t
word_paddr(uint64_t node, unsigned index)
{
	return node + 8 * (uint64_t)index;
}
/* NODE: the highest unused frame becomes an empty node; O_out_of_frames if there is none. */
unsigned node_new(struct kvms *s, unsigned level, uint64_t table, uint64_t va, uint64_t lock, uint64_t *paddr);
/* RELEASE: drop one reference; the last one frees the sub-tree and drops what its leaves hold. */
void node_release(struct kvms *s, uint64_t paddr, uint64_t *freed);
/* Write word "index" of a node, keeping nr_children, leaf totals, P and the reverse map in step. */
void entry_set(struct kvms *s, uint64_t node, unsigned index, uint64_t word);
/* The first va of entry "index" of a node. */
uint64_t entry_va(const struct kvms *s, uint64_t node, unsigned index);
/* True if a leaf word of this table counts a reference of its frame. */
static inline bool
leaf_tracked(uint64_t table, const struct leaf *leaf)
{
	return leaf->avail1 == (table == KERNEL_TABLE);
}
static inline uint64_t
node_table(const struct kvms *s, uint64_t node)
{
	return s->slot[node / PAGE].place_table - 1;
}

/* ---- walking without a cursor ---- */

/* No node: 0 is a frame like any other. */
#define NO_NODE UINT64_MAX
/* Root of a table; NO_NODE if there is no such table, or if its root lies outside memory. */
uint64_t table_root(const struct kvms *s, uint64_t table);
/*
 * The node that a word at "level" leads to, NO_NODE if none.  Never leads out of
 * memory, so that what only looks may walk a damaged table.
 */
uint64_t child_of(const struct kvms *s, uint64_t word, unsigned level);
/* What the hardware finds at va.  Not found also for a non-canonical address. */
struct translation translate(const struct kvms *s, uint64_t table, uint64_t va);
/* The first leaf that starts or continues in [start, end): where it starts, which may be below; false if none. */
bool leaf_in_range(const struct kvms *s, uint64_t table, uint64_t start, uint64_t end, uint64_t *va);

/* Visit leaves of a sub-tree in ascending order. */
typedef bool leaf_visitor(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word);
bool leaves_visit(const struct kvms *s, uint64_t table, leaf_visitor *visit, void *arg);

/* ---- cursors ---- */

struct protect {
	uint64_t set, clear; /* page flags */
	uint64_t cache;      /* code, or 5 = keep */
	uint64_t global;     /* 0 keep, 1 set, 2 clear */
};


/* OPEN [start, end): page-aligned, non-empty, inside the table's half.  O_out_of_frames. */
unsigned cursor_open(struct kvms *s, struct cursor *c, uint64_t table, uint64_t start, uint64_t end);
/*
 * The same on a user table, locking as the kernel does: ancestors that need a
 * new child for a moment, then the guard and every node under it that meets
 * the range.  O_cursor_locked with *holder, the owner of the first node met
 * that another cursor holds.
 */
unsigned cursor_open_locked(struct kvms *s, struct cursor *c, uint64_t table, uint64_t start, uint64_t end,
			    uint64_t lock, uint64_t *holder);
/* Unlock every node that the cursor holds. */
void cursor_unlock(struct kvms *s, const struct cursor *c);
/* Find: stand on the next leaf in front of limit. */
unsigned cursor_find(struct kvms *s, struct cursor *c, uint64_t limit, bool *found);
/* Move to va, inside [start, end) and page-aligned. */
void cursor_jump(struct cursor *c, uint64_t va);
/* PROTECT the next leaf only; its slot, if found. */
unsigned cursor_protect_one(struct kvms *s, struct cursor *c, uint64_t limit, const struct protect *p, bool *found,
			    uint64_t *start, uint64_t *last);
/*
 * A child node taken from a user table becomes a detached sub-tree: its nodes
 * stray and unlocked, its tracked leaves kept instead of mapped.  Gives the
 * number of entries of its level-1 nodes.
 */
uint64_t subtree_detach(struct kvms *s, uint64_t node);

/* A root cursor: nothing allocated, guard = root, barrier [start, end), standing at va. */
void cursor_open_root(struct kvms *s, struct cursor *c, uint64_t start, uint64_t end, uint64_t va);
/* QUERY at va < end: goes down to the slot that answers. */
struct translation cursor_query(struct kvms *s, struct cursor *c);
/* MAP one page of "level" at va, then move behind it. */
unsigned cursor_map(struct kvms *s, struct cursor *c, const struct leaf *leaf, unsigned level);
/* MAP the largest pages of level <= max_level (0: any) covering len bytes, untracked; *leaves counts them. */
unsigned cursor_map_largest(struct kvms *s, struct cursor *c, uint64_t paddr, uint64_t len, uint64_t prop,
			    unsigned max_level, uint64_t *leaves);

struct fragment {
	enum { FRAGMENT_NONE, FRAGMENT_LEAF, FRAGMENT_SUBTREE } kind;
	uint64_t paddr; /* of the leaf, or of the node */
	bool tracked;
	uint64_t va;
	unsigned level; /* of the slot it filled */
};
/* TAKE up to "limit" (<= end): detach the next leaf or child node.  O_out_of_frames if a split needs a node. */
unsigned cursor_take(struct kvms *s, struct cursor *c, uint64_t limit, struct fragment *f);
/* TAKE until none, releasing each fragment before the next. */
unsigned cursor_unmap(struct kvms *s, struct cursor *c, uint64_t limit, uint64_t *leaves, uint64_t *subtrees);

/* PROTECT every leaf up to "limit". */
unsigned cursor_protect(struct kvms *s, struct cursor *c, uint64_t limit, const struct protect *p, uint64_t *leaves);

#endif /* KVMS_PAGETABLE_H */
