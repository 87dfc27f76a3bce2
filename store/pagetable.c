#include "store/pagetable.h"

#include "store/foreign.h"

/* ---- nodes ---- */

unsigned
node_new(struct kvms *s, unsigned level, uint64_t table, uint64_t va, uint64_t lock, uint64_t *paddr)
{
	uint64_t index = bitmap_last_zero(&s->used);
	struct slot *sl;

	if (index == BITMAP_NONE)
		return O_out_of_frames;
	page_zero(s, index * PAGE);
	sl = slot_claim(s, index, USAGE_PAGETABLE, KIND_NODE, 0, 1);
	sl->level = (uint8_t)level;
	sl->owner = lock;
	sl->place_table = (uint32_t)table + 1;
	sl->place_va = va & ~(page_size(level + 1) - 1);
	*paddr = index * PAGE;
	return O_ok;
}

/* The address of entry "index" of a node of "level" whose span begins at base. */
static uint64_t
entry_base(const struct kvms *s, uint64_t base, unsigned index, unsigned level)
{
	uint64_t va = base + index * page_size(level);

	/* the root's span starts at 0 and wraps into the kernel half */
	return level == s->paging.levels && index >= NODE_ENTRIES / 2 ? va | s->paging.kernel_base : va;
}

uint64_t
entry_va(const struct kvms *s, uint64_t node, unsigned index)
{
	const struct slot *sl = &s->slot[node / PAGE];

	return entry_base(s, sl->place_va, index, sl->level);
}

/* The frame of a tracked leaf loses (sign = -1) or gains (+1) a mapping. */
static void
leaf_count(struct kvms *s, uint64_t node, unsigned index, uint64_t word, int sign)
{
	uint64_t table = node_table(s, node);
	struct leaf leaf = pte_decode_frame(&s->paging, word, s->slot[node / PAGE].level);
	uint64_t slot = leaf.paddr / PAGE;

	if (!leaf_tracked(table, &leaf)) {
		s->live.totals.leaves_untracked += (uint64_t)sign;
		return;
	}
	s->live.totals.leaves_tracked += (uint64_t)sign;
	slot_users_mut(s, slot)->mappings += (uint32_t)sign;
	if (sign > 0)
		rmap_add(s, slot, table, entry_va(s, node, index));
	else if (!FAULT(reverse_map_keeps))
		rmap_remove(s, slot, table, entry_va(s, node, index));
}

void
entry_set(struct kvms *s, uint64_t node, unsigned index, uint64_t word)
{
	unsigned level = s->slot[node / PAGE].level;
	uint64_t old = word_at(s, word_paddr(node, index));
	enum pte_kind was = pte_kind(&s->paging, old, level), is = pte_kind(&s->paging, word, level);

	if (was == PTE_LEAF)
		leaf_count(s, node, index, old, -1);
	if (is == PTE_LEAF)
		leaf_count(s, node, index, word, +1);
	if ((was == PTE_ABSENT) != (is == PTE_ABSENT)) {
		struct slot *sl = slot_mut(s, node / PAGE);

		if (was == PTE_ABSENT || !FAULT(count_not_lowered))
			sl->nr_children = (uint16_t)(sl->nr_children + (was == PTE_ABSENT ? 1 : -1));
	}
	word_set(s, word_paddr(node, index), word);
}

/* Give up what a word owns: a node, or a reference of a tracked frame. */
static void
leaf_release(struct kvms *s, uint64_t paddr)
{
	slot_dec(s, paddr / PAGE);
}

void
node_release(struct kvms *s, uint64_t paddr, uint64_t *freed)
{
	const struct slot *sl = &s->slot[paddr / PAGE];
	unsigned level = sl->level, end = level == s->paging.levels ? NODE_ENTRIES / 2 : NODE_ENTRIES;
	bool stray = (sl->bits & SLOT_STRAY) != 0; /* then its leaves are kept, not mapped */

	if (slot_rc(sl) > 1) {
		slot_mut(s, paddr / PAGE)->rc1--;
		return;
	}
	for (unsigned i = 0; i < end && sl->nr_children > 0; i++) {
		uint64_t word = word_at(s, word_paddr(paddr, i));
		enum pte_kind kind = pte_kind(&s->paging, word, level);

		if (kind == PTE_ABSENT)
			continue;
		if (kind == PTE_TABLE) {
			node_release(s, pte_table_paddr(&s->paging, word), freed);
			continue;
		}
		struct leaf leaf = pte_decode_frame(&s->paging, word, level);
		bool tracked = leaf_tracked(node_table(s, paddr), &leaf);

		if (!stray)
			entry_set(s, paddr, i, 0);
		else if (tracked)
			slot_users_mut(s, leaf.paddr / PAGE)->kept--;
		if (tracked)
			leaf_release(s, leaf.paddr);
	}
	page_zero(s, paddr);
	slot_clear(s, paddr / PAGE);
	(*freed)++;
}

/* ---- walking without a cursor ---- */

uint64_t
table_root(const struct kvms *s, uint64_t table)
{
	const struct vm_space *space;

	uint64_t root = s->live.kernel_root;

	if (table != KERNEL_TABLE) {
		space = VM_SPACE(s, table);
		if (space == NULL)
			return NO_NODE;
		root = space->root;
	}
	return root < s->max_paddr && root % PAGE == 0 ? root : NO_NODE;
}

uint64_t
child_of(const struct kvms *s, uint64_t word, unsigned level)
{
	uint64_t child;

	if (pte_kind(&s->paging, word, level) != PTE_TABLE || level == 1)
		return NO_NODE;
	child = pte_table_paddr(&s->paging, word);
	if (child >= s->max_paddr || (s->foreign != NULL && s->slot[child / PAGE].usage != USAGE_PAGETABLE))
		return NO_NODE; /* of a foreign store, a page that the image lacks */
	return child;
}

static void
answer(const struct kvms *s, struct translation *t, uint64_t table, uint64_t word, uint64_t va, unsigned level)
{
	t->start = va & ~(page_size(level) - 1);
	t->last = t->start + (page_size(level) - 1);
	t->level = level;
	t->found = pte_kind(&s->paging, word, level) == PTE_LEAF;
	if (t->found) {
		t->leaf = pte_decode_leaf(&s->paging, word, level);
		t->tracked = leaf_tracked(table, &t->leaf);
	}
}

struct translation
translate(const struct kvms *s, uint64_t table, uint64_t va)
{
	struct translation t = { .found = false };
	uint64_t node = table_root(s, table), word;
	unsigned level = s->paging.levels;

	if (node == NO_NODE || !va_is_canonical(&s->paging, va))
		return t;
	if (s->foreign != NULL)
		return foreign_translate(s, node, va);
	for (;; level--) {
		uint64_t child;

		word = word_at(s, word_paddr(node, entry_index(va, level)));
		child = child_of(s, word, level);
		if (child == NO_NODE)
			break;
		node = child;
	}
	/* the kernel half of a user table is the kernel's: so is what its bits mean */
	answer(s, &t, va >= s->paging.kernel_base ? KERNEL_TABLE : table, word, va, level);
	return t;
}

/* The same for a foreign store, where rights and holes of the image count. */
static void
translate_foreign(const struct kvms *s, uint64_t root, const uint64_t *va, size_t count, uint8_t *found, uint64_t *paddr)
{
	for (size_t i = 0; i < count; i++) {
		struct translation t = { .found = false };

		if (va_is_canonical(&s->paging, va[i]))
			t = foreign_translate(s, root, va[i]);
		found[i] = t.found;
		paddr[i] = t.found ? t.leaf.paddr + (va[i] - t.start) : 0;
	}
}

/* Where a walk ended: the word that answers. */
struct answer_at {
	const unsigned char *word;
	unsigned level;
};

#define WALKS 16u /* at once: their words come from memory together */

/*
 * Always in line, so that the format of the words is known where it is compiled.
 * Of the places that "p" names only those that a walk needs are filled in.
 */
__attribute__((always_inline)) static inline void
translate_all(const struct kvms *s, const struct paging p, uint64_t root, const uint64_t *va, size_t count,
	      uint8_t *restrict found, uint64_t *restrict paddr)
{
	static const unsigned char absent[sizeof(uint64_t)];
	const unsigned char *memory = s->memory;
	uint64_t max_paddr = s->max_paddr, word;
	uint64_t node = NO_NODE, base = 0; /* the level-1 node of the address before */
	struct answer_at at[WALKS];

	for (size_t i = 0; i < count; i += WALKS) {
		size_t walks = count - i < WALKS ? count - i : WALKS;

		for (size_t k = 0; k < walks; k++) {
			uint64_t addr = va[i + k];
			unsigned level = p.levels;

			if (node != NO_NODE && (addr ^ base) < page_size(2)) {
				at[k] = (struct answer_at){ memory + word_paddr(node, entry_index(addr, 1)), 1 };
				continue;
			}
			if (!va_is_canonical(&p, addr)) {
				at[k] = (struct answer_at){ absent, 1 };
				continue;
			}
			for (node = root;; node = pte_table_paddr(&p, word), level--) {
				at[k] = (struct answer_at){ memory + word_paddr(node, entry_index(addr, level)), level };
				if (level == 1)
					break;
				memcpy(&word, at[k].word, sizeof word);
				if (pte_kind(&p, word, level) != PTE_TABLE || pte_table_paddr(&p, word) >= max_paddr)
					break;
			}
			base = addr & ~(page_size(2) - 1);
			if (level != 1)
				node = NO_NODE;
			__builtin_prefetch(at[k].word);
		}
		for (size_t k = 0; k < walks; k++) {
			bool leaf;

			memcpy(&word, at[k].word, sizeof word);
			leaf = pte_kind(&p, word, at[k].level) == PTE_LEAF;
			found[i + k] = leaf;
			paddr[i + k] = leaf ? pte_decode_frame(&p, word, at[k].level).paddr +
						      (va[i + k] & (page_size(at[k].level) - 1))
					    : 0;
		}
	}
}

bool
kvms_translate(const struct kvms *s, uint64_t table, const uint64_t *va, size_t count, uint8_t *found, uint64_t *paddr)
{
	const struct paging *p = &s->paging;
	uint64_t root = table_root(s, table);

	if (root == NO_NODE)
		return false;
	if (s->foreign != NULL)
		translate_foreign(s, root, va, count, found, paddr);
	else if (p->format == PTE_X86)
		translate_all(s, (struct paging){ .format = PTE_X86, .levels = p->levels, .width = p->width }, root, va,
			      count, found, paddr);
	else
		translate_all(s, (struct paging){ .format = p->format, .levels = p->levels, .width = p->width }, root, va,
			      count, found, paddr);
	return true;
}

/* A node and the addresses it spans. */
struct span {
	uint64_t node;
	unsigned level;
	uint64_t base;
};

/* The first leaf that meets [start, last] under a node, in ascending order. */
static bool
first_leaf(const struct kvms *s, struct span span, uint64_t start, uint64_t last, uint64_t *va)
{
	unsigned level = span.level;

	if (s->slot[span.node / PAGE].nr_children == 0)
		return false;
	for (unsigned i = entry_index(start, level); i <= entry_index(last, level); i++) {
		uint64_t word = word_at(s, word_paddr(span.node, i)), child = child_of(s, word, level);
		uint64_t at = entry_base(s, span.base, i, level), at_last = at + (page_size(level) - 1);

		if (pte_kind(&s->paging, word, level) == PTE_LEAF) {
			*va = at;
			return true;
		}
		if (child != NO_NODE && first_leaf(s, (struct span){ child, level - 1, at }, at > start ? at : start,
					     at_last < last ? at_last : last, va))
			return true;
	}
	return false;
}

bool
leaf_in_range(const struct kvms *s, uint64_t table, uint64_t start, uint64_t end, uint64_t *va)
{
	struct span root = { table_root(s, table), s->paging.levels, 0 };

	return root.node != NO_NODE && start < end && first_leaf(s, root, start, end - 1, va);
}

static bool
visit_node(const struct kvms *s, uint64_t table, struct span span, leaf_visitor *visit, void *arg)
{
	unsigned from = 0, to = NODE_ENTRIES, level = span.level;

	if (level == s->paging.levels) {
		from = table == KERNEL_TABLE ? NODE_ENTRIES / 2 : 0;
		to = from + NODE_ENTRIES / 2;
	} else if (s->slot[span.node / PAGE].nr_children == 0) {
		return true;
	}
	for (unsigned i = from; i < to; i++) {
		uint64_t word = word_at(s, word_paddr(span.node, i)), child = child_of(s, word, level);
		uint64_t at = entry_base(s, span.base, i, level);

		if (pte_kind(&s->paging, word, level) == PTE_LEAF && !visit(arg, table, at, level, word))
			return false;
		if (child != NO_NODE && !visit_node(s, table, (struct span){ child, level - 1, at }, visit, arg))
			return false;
	}
	return true;
}

bool
leaves_visit(const struct kvms *s, uint64_t table, leaf_visitor *visit, void *arg)
{
	struct span root = { table_root(s, table), s->paging.levels, 0 };

	return root.node == NO_NODE || visit_node(s, table, root, visit, arg);
}

/* ---- cursors ---- */

static uint64_t
slot_word_paddr(const struct cursor *c)
{
	return word_paddr(c->path[c->level], entry_index(c->va, c->level));
}

static uint64_t
slot_word(const struct kvms *s, const struct cursor *c)
{
	return word_at(s, slot_word_paddr(c));
}

static uint64_t
slot_start(const struct cursor *c)
{
	return c->va & ~(page_size(c->level) - 1);
}

/* Last byte of the slot: its exclusive end may be 2^64. */
static uint64_t
slot_last(const struct cursor *c)
{
	return c->va | (page_size(c->level) - 1);
}

static void
slot_set(struct kvms *s, struct cursor *c, uint64_t word)
{
	entry_set(s, c->path[c->level], entry_index(c->va, c->level), word);
}

static void
push(struct cursor *c, uint64_t node)
{
	c->level--;
	c->path[c->level] = node;
}

/* To the next slot, climbing out of nodes that are done, up to the guard. */
static void
advance(struct cursor *c)
{
	uint64_t next = slot_last(c) + 1;

	while (c->level < c->guard_level && entry_index(next, c->level) == 0)
		c->level++;
	c->va = next != 0 ? next : c->end; /* past the last slot of the address space */
}

/* Put an empty child node under the cursor's absent slot and enter it. */
static unsigned
child_new(struct kvms *s, struct cursor *c)
{
	uint64_t node;
	unsigned name = node_new(s, c->level - 1, c->table, c->va, c->lock, &node);

	if (name != O_ok)
		return name;
	c->nodes_allocated++;
	slot_set(s, c, pte_encode_table(&s->paging, node));
	push(c, node);
	return O_ok;
}

/* SPLIT the leaf under the cursor into 512 of the level below and enter them. */
static unsigned
split(struct kvms *s, struct cursor *c)
{
	struct leaf leaf = pte_decode_leaf(&s->paging, slot_word(s, c), c->level);
	unsigned level = c->level - 1, name;
	uint64_t node, word;

	name = node_new(s, level, c->table, c->va, c->lock, &node);
	if (name != O_ok)
		return name;
	c->nodes_allocated++;
	if (FAULT(split_loses_global))
		leaf.prop &= ~(uint64_t)KVMS_PROP_GLOBAL;
	for (unsigned i = 0; i < NODE_ENTRIES; i++, leaf.paddr += page_size(level)) {
		name = pte_encode_leaf(&s->paging, &leaf, level, &word);
		if (name != O_ok)
			return name;
		entry_set(s, node, i, word);
	}
	slot_set(s, c, pte_encode_table(&s->paging, node));
	push(c, node);
	return O_ok;
}

unsigned
cursor_open(struct kvms *s, struct cursor *c, uint64_t table, uint64_t start, uint64_t end)
{
	unsigned name;

	assert(start < end);
	*c = (struct cursor){ .table = table, .start = start, .end = end, .va = start };
	c->level = s->paging.levels;
	c->path[c->level] = table_root(s, table);
	while (c->level > 1 && entry_index(start, c->level) == entry_index(end - 1, c->level)) {
		uint64_t word = slot_word(s, c);
		enum pte_kind kind = pte_kind(&s->paging, word, c->level);

		if (kind == PTE_LEAF)
			break;
		if (kind == PTE_TABLE) {
			push(c, pte_table_paddr(&s->paging, word));
			continue;
		}
		c->guard_level = c->level;
		name = child_new(s, c);
		if (name != O_ok)
			return name;
	}
	c->guard_level = c->level;
	return O_ok;
}

static bool
node_held(const struct kvms *s, uint64_t node, uint64_t *holder)
{
	*holder = slot_lock(&s->slot[node / PAGE]);
	return *holder != 0;
}

static void
node_lock(struct kvms *s, uint64_t node, uint64_t lock)
{
	slot_mut(s, node / PAGE)->owner = lock;
}

/* Lock or unlock (lock = 0) the nodes below one, parent first, that meet [start, last]. */
static unsigned
lock_below(struct kvms *s, uint64_t node, unsigned level, uint64_t start, uint64_t last, uint64_t lock,
	   uint64_t *holder)
{
	for (unsigned i = entry_index(start, level); level > 1 && i <= entry_index(last, level); i++) {
		uint64_t word = word_at(s, word_paddr(node, i));
		uint64_t at = (start & ~(page_size(level + 1) - 1)) + i * page_size(level);
		uint64_t at_last = at + (page_size(level) - 1), child;
		unsigned name;

		if (pte_kind(&s->paging, word, level) != PTE_TABLE)
			continue;
		child = pte_table_paddr(&s->paging, word);
		if (lock != 0 && node_held(s, child, holder))
			return O_cursor_locked;
		node_lock(s, child, lock);
		name = lock_below(s, child, level - 1, at > start ? at : start, at_last < last ? at_last : last, lock,
				  holder);
		if (name != O_ok)
			return name;
	}
	return O_ok;
}

unsigned
cursor_open_locked(struct kvms *s, struct cursor *c, uint64_t table, uint64_t start, uint64_t end, uint64_t lock,
		   uint64_t *holder)
{
	bool held = false; /* the current node was made on the way, and so is locked already */
	unsigned name;

	*c = (struct cursor){ .table = table, .lock = lock, .start = start, .end = end, .va = start };
	c->level = s->paging.levels;
	c->path[c->level] = table_root(s, table);
	while (c->level > 1 && entry_index(start, c->level) == entry_index(end - 1, c->level)) {
		uint64_t node = c->path[c->level], word = slot_word(s, c);
		enum pte_kind kind = pte_kind(&s->paging, word, c->level);

		if (kind == PTE_LEAF)
			break;
		if (kind == PTE_TABLE) {
			push(c, pte_table_paddr(&s->paging, word));
			held = false;
			continue;
		}
		if (!held && node_held(s, node, holder))
			return O_cursor_locked;
		name = child_new(s, c);
		if (name != O_ok)
			return name;
		if (held)
			node_lock(s, node, 0);
		held = true;
	}
	c->guard_level = c->level;
	if (!held) {
		if (node_held(s, c->path[c->level], holder))
			return O_cursor_locked;
		if (!FAULT(guard_not_locked))
			node_lock(s, c->path[c->level], lock);
	}
	return lock_below(s, c->path[c->level], c->level, start, end - 1, lock, holder);
}

void
cursor_unlock(struct kvms *s, const struct cursor *c)
{
	uint64_t ignored, guard = c->path[c->guard_level];

	(void)lock_below(s, guard, c->guard_level, c->start, c->end - 1, 0, &ignored);
	node_lock(s, guard, 0);
}

uint64_t
subtree_detach(struct kvms *s, uint64_t node)
{
	struct slot *sl = slot_mut(s, node / PAGE);
	uint64_t count = sl->level == 1 ? sl->nr_children : 0;

	sl->bits |= SLOT_STRAY;
	sl->owner = 0;
	for (unsigned i = 0; i < NODE_ENTRIES && sl->nr_children > 0; i++) {
		uint64_t word = word_at(s, word_paddr(node, i));
		enum pte_kind kind = pte_kind(&s->paging, word, sl->level);

		if (kind == PTE_TABLE)
			count += subtree_detach(s, pte_table_paddr(&s->paging, word));
		if (kind != PTE_LEAF)
			continue;
		struct leaf leaf = pte_decode_frame(&s->paging, word, sl->level);

		leaf_count(s, node, i, word, -1);
		if (leaf_tracked(node_table(s, node), &leaf))
			slot_users_mut(s, leaf.paddr / PAGE)->kept++;
	}
	return count;
}

void
cursor_jump(struct cursor *c, uint64_t va)
{
	if (c->va == c->end)
		c->level = c->guard_level;
	while (c->level < c->guard_level && (va ^ c->va) >> (PAGE_BITS + INDEX_BITS * c->level) != 0)
		c->level++;
	c->va = va;
}

void
cursor_open_root(struct kvms *s, struct cursor *c, uint64_t start, uint64_t end, uint64_t va)
{
	*c = (struct cursor){ .table = KERNEL_TABLE, .start = start, .end = end, .va = va };
	c->level = c->guard_level = s->paging.levels;
	c->path[c->level] = table_root(s, KERNEL_TABLE);
}

struct translation
cursor_query(struct kvms *s, struct cursor *c)
{
	struct translation t = { .found = false };
	uint64_t word;

	while (pte_kind(&s->paging, word = slot_word(s, c), c->level) == PTE_TABLE)
		push(c, pte_table_paddr(&s->paging, word));
	answer(s, &t, c->table, word, c->va, c->level);
	return t;
}

static unsigned
map_check(const struct kvms *s, const struct cursor *c, unsigned level)
{
	if (c->va >= c->end)
		return O_cursor_at_end;
	if (level > s->paging.highest_leaf)
		return O_level_too_high;
	if (c->va % page_size(level) != 0)
		return O_va_unaligned;
	if (page_size(level) > c->end - c->va)
		return O_map_out_of_range;
	if (level > c->guard_level)
		return O_level_above_guard;
	return O_ok;
}

unsigned
cursor_map(struct kvms *s, struct cursor *c, const struct leaf *leaf, unsigned level)
{
	unsigned name = map_check(s, c, level);
	uint64_t word;

	if (name != O_ok)
		return name;
	while (c->level < level) /* climbing: the path above is still there */
		c->level++;
	while (c->level > level) {
		word = slot_word(s, c);
		name = O_ok;
		switch (pte_kind(&s->paging, word, c->level)) {
		case PTE_TABLE:
			push(c, pte_table_paddr(&s->paging, word));
			break;
		case PTE_ABSENT:
			name = child_new(s, c);
			break;
		case PTE_LEAF:
			name = split(s, c);
			break;
		}
		if (name != O_ok)
			return name;
	}
	if (pte_kind(&s->paging, slot_word(s, c), level) != PTE_ABSENT)
		return O_already_mapped;
	name = pte_encode_leaf(&s->paging, leaf, level, &word);
	if (name != O_ok)
		return name;
	slot_set(s, c, word);
	advance(c);
	return O_ok;
}

/* The highest level <= max at which a page fits at (va, pa) in len bytes. */
static unsigned
largest_level(uint64_t va, uint64_t pa, uint64_t len, unsigned max)
{
	unsigned level = max;

	while (level > 1 && (page_size(level) > len || (va | pa) % page_size(level) != 0))
		level--;
	return level;
}

unsigned
cursor_map_largest(struct kvms *s, struct cursor *c, uint64_t paddr, uint64_t len, uint64_t prop, unsigned max_level,
		   uint64_t *leaves)
{
	unsigned max = max_level != 0 ? max_level : s->paging.highest_leaf;

	while (len > 0) {
		unsigned level = largest_level(c->va, paddr, len, max);
		struct leaf leaf = { .paddr = paddr, .prop = prop, .avail1 = c->table != KERNEL_TABLE };
		unsigned name = cursor_map(s, c, &leaf, level);

		if (name != O_ok)
			return name;
		(*leaves)++;
		paddr += page_size(level);
		len -= page_size(level);
	}
	return O_ok;
}

/*
 * SCAN to "limit": stand on the next leaf, or with "subtrees" on the next
 * child node that lies wholly in front of the limit.  With "splits" a leaf
 * that does not fit is cut until one does.  *found tells; without a find the
 * cursor stands on the first slot boundary at or behind the limit.
 */
static unsigned
scan(struct kvms *s, struct cursor *c, uint64_t limit, bool subtrees, bool splits, bool *found)
{
	*found = false;
	while (c->va < limit) {
		uint64_t word = slot_word(s, c);
		enum pte_kind kind = pte_kind(&s->paging, word, c->level);
		bool fits = c->va == slot_start(c) && slot_last(c) <= limit - 1;

		if (kind == PTE_TABLE) {
			uint64_t child = pte_table_paddr(&s->paging, word);

			if (subtrees && fits && (c->table != KERNEL_TABLE || c->level != s->paging.levels)) {
				*found = true;
				return O_ok;
			}
			if (s->slot[child / PAGE].nr_children != 0)
				push(c, child);
			else
				advance(c);
		} else if (kind == PTE_ABSENT) {
			advance(c);
		} else if (fits || !splits) {
			*found = true;
			return O_ok;
		} else {
			unsigned name = split(s, c);

			if (name != O_ok)
				return name;
		}
	}
	if (c->va > c->end)
		c->va = c->end;
	return O_ok;
}

unsigned
cursor_take(struct kvms *s, struct cursor *c, uint64_t limit, struct fragment *f)
{
	bool found;
	unsigned name = scan(s, c, limit, true, true, &found);
	uint64_t word;

	*f = (struct fragment){ .kind = FRAGMENT_NONE, .va = slot_start(c), .level = c->level };
	if (name != O_ok || !found)
		return name;
	word = slot_word(s, c);
	if (pte_kind(&s->paging, word, c->level) == PTE_TABLE) {
		f->kind = FRAGMENT_SUBTREE;
		f->paddr = pte_table_paddr(&s->paging, word);
	} else {
		struct leaf leaf = pte_decode_frame(&s->paging, word, c->level);

		f->kind = FRAGMENT_LEAF;
		f->paddr = leaf.paddr;
		f->tracked = leaf_tracked(c->table, &leaf);
	}
	slot_set(s, c, 0);
	advance(c);
	return O_ok;
}

unsigned
cursor_unmap(struct kvms *s, struct cursor *c, uint64_t limit, uint64_t *leaves, uint64_t *subtrees)
{
	struct fragment f;

	for (;;) {
		unsigned name = cursor_take(s, c, limit, &f);

		if (name != O_ok || f.kind == FRAGMENT_NONE)
			return name;
		if (f.kind == FRAGMENT_SUBTREE) {
			node_release(s, f.paddr, &c->nodes_freed);
			(*subtrees)++;
		} else {
			if (f.tracked && !FAULT(unmap_keeps_reference))
				leaf_release(s, f.paddr);
			(*leaves)++;
		}
	}
}

static uint64_t
protected_prop(uint64_t prop, const struct protect *p)
{
	prop = (prop & ~p->clear) | p->set;
	if (p->cache != 5)
		prop = (prop & ((UINT64_C(1) << KVMS_PROP_CACHE_SHIFT) - 1)) | p->cache << KVMS_PROP_CACHE_SHIFT;
	if (p->global == 1)
		prop |= KVMS_PROP_GLOBAL;
	if (p->global == 2)
		prop &= ~(uint64_t)KVMS_PROP_GLOBAL;
	return prop;
}

/* PROTECT the leaf under the cursor, then move behind it. */
static unsigned
protect_here(struct kvms *s, struct cursor *c, const struct protect *p)
{
	struct leaf leaf = pte_decode_leaf(&s->paging, slot_word(s, c), c->level);
	uint64_t word;
	unsigned name;

	leaf.prop = protected_prop(leaf.prop, p);
	name = pte_encode_leaf(&s->paging, &leaf, c->level, &word);
	if (name != O_ok)
		return name;
	/* the frame, its count and its reverse mapping stay: only the word changes */
	word_set(s, slot_word_paddr(c), word);
	advance(c);
	return O_ok;
}

unsigned
cursor_protect(struct kvms *s, struct cursor *c, uint64_t limit, const struct protect *p, uint64_t *leaves)
{
	for (;;) {
		bool found;
		unsigned name = scan(s, c, limit, false, true, &found);

		if (name != O_ok || !found)
			return name;
		name = protect_here(s, c, p);
		if (name != O_ok)
			return name;
		(*leaves)++;
	}
}

unsigned
cursor_protect_one(struct kvms *s, struct cursor *c, uint64_t limit, const struct protect *p, bool *found,
		   uint64_t *start, uint64_t *last)
{
	unsigned name = scan(s, c, limit, false, true, found);

	if (name != O_ok || !*found)
		return name;
	*start = slot_start(c);
	*last = slot_last(c);
	name = protect_here(s, c, p);
	if (c->va > c->end)
		c->va = c->end;
	return name;
}

unsigned
cursor_find(struct kvms *s, struct cursor *c, uint64_t limit, bool *found)
{
	return scan(s, c, limit, false, false, found);
}
