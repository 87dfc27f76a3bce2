/*
 * A treap over one pool: ordered by start, heap by a priority that is a hash
 * of the start, so that the tree's shape is a function of its content.
 * Kept at each node: longest = the largest extent of the sub-tree.
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

/* Change links and longest of a node, saving it only if something differs. */
static void
relink(struct kvms *s, uint32_t index, uint32_t left, uint32_t right)
{
	struct extent now = *extent_at(s, index);
	struct extent *e;

	now.left = left;
	now.right = right;
	now.longest = longest_of(s, &now);
	e = pool_raw(s, POOL_EXTENT, index);
	if (e->left == left && e->right == right && e->longest == now.longest)
		return;
	e = pool_mut(s, POOL_EXTENT, index);
	e->left = left;
	e->right = right;
	e->longest = now.longest;
}

/* Cut a sub-tree into starts < addr and starts >= addr. */
static void
split(struct kvms *s, uint32_t root, uint64_t addr, uint32_t *low, uint32_t *high)
{
	uint32_t inner;

	if (root == 0) {
		*low = *high = 0;
	} else if (extent_at(s, root)->start < addr) {
		split(s, extent_at(s, root)->right, addr, &inner, high);
		relink(s, root, extent_at(s, root)->left, inner);
		*low = root;
	} else {
		split(s, extent_at(s, root)->left, addr, low, &inner);
		relink(s, root, inner, extent_at(s, root)->right);
		*high = root;
	}
}

/* Join two sub-trees; every start of "low" is below every start of "high". */
static uint32_t
join(struct kvms *s, uint32_t low, uint32_t high)
{
	if (low == 0 || high == 0)
		return low | high;
	if (extent_at(s, low)->priority >= extent_at(s, high)->priority) {
		uint32_t right = join(s, extent_at(s, low)->right, high);

		relink(s, low, extent_at(s, low)->left, right);
		return low;
	} else {
		uint32_t left = join(s, low, extent_at(s, high)->left);

		relink(s, high, left, extent_at(s, high)->right);
		return high;
	}
}

static uint32_t
insert(struct kvms *s, uint32_t root, uint32_t index)
{
	const struct extent *e = extent_at(s, index), *at = extent_at(s, root);
	uint32_t low, high, below;

	if (root == 0 || e->priority > at->priority) {
		split(s, root, e->start, &low, &high);
		relink(s, index, low, high);
		return index;
	}
	if (e->start < at->start) {
		below = insert(s, at->left, index);
		relink(s, root, below, extent_at(s, root)->right);
	} else {
		below = insert(s, at->right, index);
		relink(s, root, extent_at(s, root)->left, below);
	}
	return root;
}

void
extent_insert(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end, uint64_t id)
{
	uint32_t index = pool_take(s, POOL_EXTENT);
	struct extent *e = pool_mut(s, POOL_EXTENT, index);
	uint8_t dirty = e->dirty;

	*e = (struct extent){ .start = start,
			      .end = end,
			      .longest = end - start,
			      .id = id,
			      .priority = (uint32_t)digest_mix(&start, 1),
			      .set = (uint8_t)set,
			      .live = 1,
			      .dirty = dirty };
	s->live.extent_root[set] = insert(s, s->live.extent_root[set], index);
}

static uint32_t
remove_start(struct kvms *s, uint32_t root, uint64_t start, uint32_t *gone)
{
	const struct extent *at = extent_at(s, root);
	uint32_t below;

	assert(root != 0); /* the caller found the extent before */
	if (at->start == start) {
		*gone = root;
		return join(s, at->left, at->right);
	}
	if (start < at->start) {
		below = remove_start(s, at->left, start, gone);
		relink(s, root, below, extent_at(s, root)->right);
	} else {
		below = remove_start(s, at->right, start, gone);
		relink(s, root, extent_at(s, root)->left, below);
	}
	return root;
}

void
extent_remove(struct kvms *s, enum extent_set set, uint64_t start)
{
	uint32_t gone = 0;
	struct extent *e;

	s->live.extent_root[set] = remove_start(s, s->live.extent_root[set], start, &gone);
	e = pool_mut(s, POOL_EXTENT, gone);
	*e = (struct extent){ .dirty = e->dirty };
	pool_give(s, POOL_EXTENT, gone);
}

static void
set_end(struct kvms *s, uint32_t root, uint64_t start, uint64_t end)
{
	const struct extent *at = extent_at(s, root);

	assert(root != 0);
	if (at->start == start) {
		struct extent *e = pool_mut(s, POOL_EXTENT, root);

		e->end = end;
		e->longest = longest_of(s, e);
		return;
	}
	set_end(s, start < at->start ? at->left : at->right, start, end);
	relink(s, root, extent_at(s, root)->left, extent_at(s, root)->right);
}

void
extent_set_end(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end)
{
	set_end(s, s->live.extent_root[set], start, end);
}
