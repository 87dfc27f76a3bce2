/*
 * A treap over one pool: ordered by start, heap by a priority that is a hash
 * of the start, so that the tree's shape is a function of its content.
 * Kept at each node of a set of free ranges: longest = the largest extent of
 * the sub-tree.
 *
 * Nothing recurses: whoever chooses addresses by their hashes gets a tree as
 * deep as it has extents, which costs time, but no stack.
 */
#include "store/int.h"

static const struct extent *
left_of(const struct kvms *s, const struct extent *e)
{
	return extent_at(s, e->left);
}

static const struct extent *
right_of(const struct kvms *s, const struct extent *e)
{
	return extent_at(s, e->right);
}

const struct extent *
extent_below(const struct kvms *s, enum extent_set set, uint64_t addr)
{
	const struct extent *e = extent_at(s, s->live.extent_root[set]), *best = NULL;

	while (e != NULL) {
		if (e->start <= addr) {
			best = e;
			e = right_of(s, e);
		} else {
			e = left_of(s, e);
		}
	}
	return best;
}

const struct extent *
extent_from(const struct kvms *s, enum extent_set set, uint64_t addr)
{
	const struct extent *e = extent_at(s, s->live.extent_root[set]), *best = NULL;

	while (e != NULL) {
		if (e->start >= addr) {
			best = e;
			e = left_of(s, e);
		} else {
			e = right_of(s, e);
		}
	}
	return best;
}

void
extent_around(const struct kvms *s, enum extent_set set, uint64_t addr, const struct extent **below,
	      const struct extent **above)
{
	const struct extent *e = extent_at(s, s->live.extent_root[set]);

	*below = *above = NULL;
	while (e != NULL) {
		if (e->start <= addr) {
			*below = e;
			e = right_of(s, e);
		} else {
			*above = e;
			e = left_of(s, e);
		}
	}
}

const struct extent *
extent_fit(const struct kvms *s, enum extent_set set, uint64_t size)
{
	const struct extent *e = extent_at(s, s->live.extent_root[set]);

	if (e == NULL || e->longest < size)
		return NULL;
	for (;;) { /* the sub-tree of e holds one that fits */
		const struct extent *left = left_of(s, e);

		if (left != NULL && left->longest >= size)
			e = left;
		else if (e->end - e->start >= size)
			return e;
		else
			e = right_of(s, e);
	}
}

static bool
keeps_longest(enum extent_set set)
{
	return set != SET_AREAS && set < SET_TLB;
}

/* ---- Changing the tree: nodes on the way down, then "longest" on the way up ---- */

/* A place that names a node: the set's root, or a side of its parent. */
struct link {
	uint32_t parent; /* 0 = the root */
	bool right;
};

static uint32_t
link_get(const struct kvms *s, enum extent_set set, struct link at)
{
	if (at.parent == 0)
		return s->live.extent_root[set];
	return at.right ? extent_at(s, at.parent)->right : extent_at(s, at.parent)->left;
}

static void
link_set(struct kvms *s, enum extent_set set, struct link at, uint32_t index)
{
	struct extent *parent;

	if (link_get(s, set, at) == index)
		return;
	if (at.parent == 0) {
		s->live.extent_root[set] = index;
		return;
	}
	parent = extent_links_mut(s, at.parent);
	if (at.right)
		parent->right = index;
	else
		parent->left = index;
}

static void
way_push(struct kvms *s, size_t depth, uint32_t index)
{
	s->way = grow(s, s->way, &s->way_capacity, depth + 1, sizeof *s->way);
	s->way[depth] = index;
}

/*
 * Go down to the node that begins at "start", or to the place where one of that
 * start and priority belongs.  The nodes above it are the way; gives their number.
 */
static size_t
way_to(struct kvms *s, enum extent_set set, uint64_t start, uint32_t priority, struct link *at)
{
	size_t depth = 0;
	uint32_t index;

	*at = (struct link){ 0, false };
	while ((index = link_get(s, set, *at)) != 0) {
		const struct extent *e = extent_at(s, index);

		if (e->start == start || e->priority < priority)
			break;
		way_push(s, depth++, index);
		*at = (struct link){ index, e->start < start };
	}
	return depth;
}

static uint64_t
longest_of(const struct kvms *s, const struct extent *e)
{
	uint64_t longest = e->end - e->start;

	if (e->left != 0 && left_of(s, e)->longest > longest)
		longest = left_of(s, e)->longest;
	if (e->right != 0 && right_of(s, e)->longest > longest)
		longest = right_of(s, e)->longest;
	return longest;
}

/* Bring "longest" up to date along the way, whose nodes from "changed" on have other children or another end. */
static void
way_mend(struct kvms *s, enum extent_set set, size_t depth, size_t changed)
{
	while (keeps_longest(set) && depth-- > 0) {
		const struct extent *e = extent_at(s, s->way[depth]);
		uint64_t longest = longest_of(s, e);

		if (longest != e->longest)
			extent_links_mut(s, s->way[depth])->longest = longest;
		else if (depth < changed)
			return; /* nor does it change further up */
	}
}

void
extent_insert(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end, uint64_t id)
{
	uint32_t index = pool_take(s, POOL_EXTENT), priority = (uint32_t)digest_mix(&start, 1), below;
	struct extent *e = pool_mut(s, POOL_EXTENT, index);
	struct link at, low = { index, false }, high = { index, true };
	size_t depth, changed;

	*e = (struct extent){ .start = start,
			      .end = end,
			      .longest = end - start,
			      .id = id,
			      .priority = priority,
			      .set = (uint8_t)set,
			      .live = 1,
			      .dirty = e->dirty };
	depth = changed = way_to(s, set, start, priority, &at);
	below = link_get(s, set, at);
	link_set(s, set, at, index);
	way_push(s, depth++, index);
	/* cut what was there into starts below and above */
	while (below != 0) {
		bool is_low = extent_at(s, below)->start < start;
		struct link *side = is_low ? &low : &high;

		link_set(s, set, *side, below);
		*side = (struct link){ below, is_low };
		way_push(s, depth++, below);
		below = link_get(s, set, *side);
	}
	link_set(s, set, low, 0);
	link_set(s, set, high, 0);
	way_mend(s, set, depth, changed);
}

void
extent_remove(struct kvms *s, enum extent_set set, uint64_t start)
{
	struct link at;
	size_t depth = way_to(s, set, start, 0, &at), changed = depth;
	uint32_t gone = link_get(s, set, at), low, high;
	struct extent *e;

	assert(gone != 0); /* the caller found the extent before */
	low = extent_at(s, gone)->left;
	high = extent_at(s, gone)->right;
	while (low != 0 && high != 0) { /* join the two: every start of "low" is below every start of "high" */
		bool is_low = extent_at(s, low)->priority >= extent_at(s, high)->priority;
		uint32_t *top = is_low ? &low : &high, index = *top;

		link_set(s, set, at, index);
		way_push(s, depth++, index);
		at = (struct link){ index, is_low };
		*top = link_get(s, set, at);
	}
	link_set(s, set, at, low | high);
	way_mend(s, set, depth, changed);
	e = pool_mut(s, POOL_EXTENT, gone);
	*e = (struct extent){ .dirty = e->dirty };
	pool_give(s, POOL_EXTENT, gone);
}

void
extent_set_end(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end)
{
	struct link at;
	size_t depth = way_to(s, set, start, 0, &at), changed = depth;
	uint32_t index = link_get(s, set, at);

	assert(index != 0);
	((struct extent *)pool_mut(s, POOL_EXTENT, index))->end = end;
	way_push(s, depth++, index);
	way_mend(s, set, depth, changed);
}
