/*
 * Rebuilding a saved state: elements as kvms_visit() gave them, then the
 * places of page-table nodes, then runs of leaves.  What the digest does not
 * hold (counts of users, reverse map, indexes, totals) is derived on the way.
 */
#include "store/area.h"
#include "store/foreign.h"
#include "store/space.h"

#include <stdlib.h>

#include <string.h>

static const char no_memory[] = "the machine has no memory left";

static bool
refuse(char *why, size_t size, const char *text)
{
	if (size > 0) {
		strncpy(why, text, size - 1);
		why[size - 1] = '\0';
	}
	return false;
}

bool
kvms_restore_begin(struct kvms *s)
{
	uint64_t i;

	assert(!s->undo.active && s->steps == 0);
	while ((i = bitmap_next(&s->written, 0)) != BITMAP_NONE) {
		memset(s->memory + i * PAGE, 0, PAGE);
		bitmap_clear(&s->written, i);
	}
	while ((i = bitmap_next(&s->used, 0)) != BITMAP_NONE) {
		memset(&s->slot[i], 0, sizeof s->slot[i]);
		bitmap_clear(&s->used, i);
	}
	for (uint32_t e = 1; e <= s->live.pool_used[POOL_EXTENT]; e++)
		memset(pool_raw(s, POOL_EXTENT, e), 0, sizeof(struct extent));
	for (unsigned kind = 0; kind < REC_KINDS; kind++)
		idtab_free(&s->ids[kind]);
	memset(&s->live, 0, sizeof s->live);
	for (unsigned kind = KVMS_ID_KINDS; kind < REC_KINDS; kind++)
		s->live.next_id[kind] = 1;
	s->live.totals.unused = s->slots_count;
	return true;
}

/* ---- Elements -------------------------------------------------------------- */

static bool
restore_slot(struct kvms *s, const uint64_t *w)
{
	struct slot *sl;

	if (w[1] >= s->slots_count || w[3] >= USAGES || w[4] >= SLOT_KINDS || !slot_is_default(&s->slot[w[1]]))
		return false;
	sl = slot_claim(s, w[1], (enum usage)w[3], (enum slot_kind)w[4], w[5], w[2]);
	sl->owner = w[6];
	slot_sync(s, w[1]);
	return true;
}

static bool
restore_word(struct kvms *s, const uint64_t *w)
{
	if (w[1] % 8 != 0 || w[1] >= s->max_paddr || w[2] == 0)
		return false;
	word_set(s, w[1], w[2]);
	return true;
}

static bool
restore_node(struct kvms *s, const uint64_t *w)
{
	struct slot *sl;

	if (w[1] >= s->slots_count || s->slot[w[1]].usage != USAGE_PAGETABLE || w[2] < 1 || w[2] > s->paging.levels ||
	    w[3] > NODE_ENTRIES || w[4] > 1)
		return false;
	sl = slot_mut(s, w[1]);
	sl->level = (uint8_t)w[2];
	sl->nr_children = (uint16_t)w[3];
	sl->bits |= w[4] ? SLOT_STRAY : 0;
	sl->owner = w[5];
	return true;
}

static bool
id_is_new(const struct kvms *s, enum kvms_kind kind, uint64_t id)
{
	/* ids beyond 2^40 cannot have been counted up to; refusing them bounds the table */
	return id != 0 && id < UINT64_C(1) << 40 && record_at(s, kind, id) == NULL;
}

static bool
restore_frame(struct kvms *s, const uint64_t *w)
{
	struct frame *f;

	if (!id_is_new(s, KVMS_ID_FRAME, w[1]) || w[2] % PAGE != 0 || w[2] >= s->max_paddr)
		return false;
	f = record_put(s, KVMS_ID_FRAME, w[1]);
	f->paddr = w[2];
	slot_mut(s, w[2] / PAGE)->handles++;
	s->live.totals.frames++;
	return true;
}

static bool
restore_segment(struct kvms *s, const uint64_t *w)
{
	struct segment *g;

	if (!id_is_new(s, KVMS_ID_SEGMENT, w[1]) || w[2] % PAGE != 0 || w[3] % PAGE != 0 || w[2] >= w[3] ||
	    w[3] > s->max_paddr)
		return false;
	g = record_put(s, KVMS_ID_SEGMENT, w[1]);
	g->start = w[2];
	g->end = w[3];
	for (uint64_t slot = g->start / PAGE; slot < g->end / PAGE; slot++)
		slot_mut(s, slot)->covers++;
	s->live.totals.segments++;
	s->live.totals.covers += (g->end - g->start) / PAGE;
	return true;
}

/* True if [start, end) is clear of what a set holds. */
static bool
set_is_clear(const struct kvms *s, enum extent_set set, uint64_t start, uint64_t end)
{
	const struct extent *below = extent_below(s, set, end - 1);

	return start < end && (below == NULL || below->end <= start);
}

static bool
restore_area(struct kvms *s, const uint64_t *w)
{
	struct area *a;

	if (!id_is_new(s, KVMS_ID_AREA, w[1]) || w[2] > w[3])
		return false;
	if (w[2] < w[3] && !set_is_clear(s, SET_AREAS, w[2], w[3]))
		return false;
	a = record_put(s, KVMS_ID_AREA, w[1]);
	a->start = w[2];
	a->end = w[3];
	a->refs = w[4];
	s->live.totals.areas++;
	if (w[2] < w[3])
		extent_insert(s, SET_AREAS, w[2], w[3], w[1]);
	return true;
}

static bool
restore_free_va(struct kvms *s, const uint64_t *w)
{
	if (!set_is_clear(s, SET_FREE_VA, w[1], w[2]))
		return false;
	extent_insert(s, SET_FREE_VA, w[1], w[2], 0);
	return true;
}

static bool
restore_free_mmio(struct kvms *s, const uint64_t *w)
{
	enum extent_set set = w[1] == 0 ? SET_FREE_MMIO0 : SET_FREE_MMIO1;

	if (w[1] > 1 || !set_is_clear(s, set, w[2], w[3]))
		return false;
	extent_insert(s, set, w[2], w[3], 0);
	return true;
}

static bool
restore_unique(struct kvms *s, const uint64_t *w)
{
	struct unique *u;

	if (!id_is_new(s, KVMS_ID_UNIQUE, w[1]) || w[2] % PAGE != 0 || w[2] >= s->max_paddr)
		return false;
	u = record_put(s, KVMS_ID_UNIQUE, w[1]);
	u->paddr = w[2];
	slot_mut(s, w[2] / PAGE)->unique++;
	s->live.totals.uniques++;
	return true;
}

static bool
restore_list(struct kvms *s, const uint64_t *w)
{
	struct list *l;

	if (!id_is_new(s, KVMS_ID_LIST, w[1]) || w[4] > 1)
		return false;
	l = record_put(s, KVMS_ID_LIST, w[1]);
	l->tag = w[2];
	l->length = w[3];
	l->checked_out = w[4];
	l->index = w[5];
	s->live.totals.lists++;
	return true;
}

static bool
restore_link(struct kvms *s, const uint64_t *w)
{
	struct slot *sl;
	struct list *l;

	if (w[1] >= s->slots_count || w[3] > s->slots_count || w[4] > s->slots_count || LIST(s, w[2]) == NULL)
		return false;
	sl = &s->slot[w[1]];
	if (sl->usage != USAGE_FRAME || (sl->handles | sl->mappings | sl->covers | sl->kept | sl->unique | sl->listed) != 0)
		return false;
	sl = slot_mut(s, w[1]);
	l = record_mut(s, KVMS_ID_LIST, w[2]);
	sl->listed = 1;
	sl->link_list = w[2];
	sl->link_prev = w[3];
	sl->link_next = w[4];
	if (w[3] == 0)
		l->first = w[1] + 1;
	if (w[4] == 0)
		l->last = w[1] + 1;
	s->live.totals.links++;
	return true;
}

static bool
restore_vm_space(struct kvms *s, const uint64_t *w)
{
	struct vm_space *space;

	if (!id_is_new(s, KVMS_ID_VM_SPACE, w[1]) || w[2] % PAGE != 0 || w[2] >= s->max_paddr || w[3] > 1)
		return false;
	space = record_put(s, KVMS_ID_VM_SPACE, w[1]);
	space->root = w[2];
	space->handle = w[3];
	s->live.totals.vm_spaces++;
	return true;
}

static bool
restore_io_entry(struct kvms *s, const uint64_t *w)
{
	struct vm_space *space;
	struct io_entry *e;
	uint64_t id;

	if (VM_SPACE(s, w[1]) == NULL || w[2] != VM_SPACE(s, w[1])->io_count + 1)
		return false;
	space = record_mut(s, KVMS_ID_VM_SPACE, w[1]);
	id = record_new(s, REC_IO_ENTRY, (void **)&e);
	*e = (struct io_entry){ e->head, w[1], w[2], w[3], w[4], w[5], w[6], w[7], 0 };
	if (space->io_last != 0)
		((struct io_entry *)record_mut(s, REC_IO_ENTRY, space->io_last))->next = id;
	else
		space->io_first = id;
	space->io_last = id;
	space->io_count++;
	return true;
}

static bool
restore_cursor(struct kvms *s, const uint64_t *w)
{
	struct cursor_record *c;

	if (!id_is_new(s, KVMS_ID_CURSOR, w[1]) || VM_SPACE(s, w[2]) == NULL || w[3] > 1 || w[7] < 1 || w[7] > w[8] ||
	    w[8] > s->paging.levels || w[4] >= w[5] || w[6] < w[4] || w[6] > w[5])
		return false;
	c = record_put(s, KVMS_ID_CURSOR, w[1]);
	c->space = w[2];
	c->mutable = w[3];
	c->start = w[4];
	c->end = w[5];
	c->va = w[6];
	c->level = w[7];
	c->guard_level = w[8];
	c->path[c->guard_level] = w[9]; /* the rest of the path follows from the table */
	space_use(s, w[2], +1);
	s->live.totals.cursors++;
	return true;
}

/* A flush stack from words[0 ..]: how many words it took, 0 if it does not fit. */
static unsigned
stack_words(struct flush_stack *stack, const uint64_t *w, unsigned count)
{
	if (count < 2 || w[0] > 1 || w[1] > FLUSH_PAGES - 1 || count < 2 + 2 * w[1])
		return 0;
	stack->all = w[0];
	stack->count = w[1];
	for (unsigned i = 0; i < w[1]; i++) {
		stack->op[i].va = w[2 + 2 * i];
		stack->op[i].pages = w[3 + 2 * i];
	}
	return (unsigned)(2 + 2 * w[1]);
}

static bool
restore_flusher(struct kvms *s, const uint64_t *w, unsigned count)
{
	struct flush_stack stack = { 0 };
	unsigned used = stack_words(&stack, w + 2, count - 2), at = 2 + used;
	struct flusher *f;

	if (used == 0 || CURSOR(s, w[1]) == NULL || FLUSHER(s, w[1]) != NULL || at >= count || count != at + 1 + w[at])
		return false;
	f = record_put(s, REC_FLUSHER, w[1]);
	f->stack = stack;
	for (unsigned i = at + 1; i < count; i++) {
		if (w[i] >= s->ncpu)
			return false;
		f->sent |= UINT64_C(1) << w[i];
	}
	return true;
}

static bool
restore_vm_io(struct kvms *s, enum kvms_kind kind, const uint64_t *w)
{
	struct vm_io *io;

	if (!id_is_new(s, kind, w[1]) || (w[2] != 0 && VM_SPACE(s, w[2]) == NULL) || w[5] > 1)
		return false;
	io = record_put(s, kind, w[1]);
	*io = (struct vm_io){ io->head, w[2], w[3], w[4], w[5] };
	space_use(s, w[2], +1);
	if (kind == KVMS_ID_READER)
		s->live.totals.readers++;
	else
		s->live.totals.writers++;
	return true;
}

static bool
restore_reader(struct kvms *s, const uint64_t *w)
{
	return restore_vm_io(s, KVMS_ID_READER, w);
}

static bool
restore_writer(struct kvms *s, const uint64_t *w)
{
	return restore_vm_io(s, KVMS_ID_WRITER, w);
}

static bool
restore_iomem(struct kvms *s, const uint64_t *w)
{
	struct iomem *m;

	if (!id_is_new(s, KVMS_ID_IOMEM, w[1]) || AREA(s, w[2]) == NULL)
		return false;
	m = record_put(s, KVMS_ID_IOMEM, w[1]);
	*m = (struct iomem){ m->head, w[2], w[3], w[4], w[5], w[6] };
	s->live.totals.iomems++;
	return true;
}

/* One reference that a CPU's queue keeps; what a kept node's leaves hold is counted at the end. */
static bool
restore_kept(struct kvms *s, struct cpu *cpu, uint64_t type, uint64_t paddr)
{
	struct kept *k;
	uint64_t id;

	if (type < 1 || type > 2 || paddr % PAGE != 0 || paddr >= s->max_paddr)
		return false;
	if (type == 1)
		slot_mut(s, paddr / PAGE)->kept++;
	id = record_new(s, REC_KEPT, (void **)&k);
	k->is_node = type == 2;
	k->paddr = paddr;
	if (cpu->kept_last != 0)
		((struct kept *)record_mut(s, REC_KEPT, cpu->kept_last))->next = id;
	else
		cpu->kept_first = id;
	cpu->kept_last = id;
	cpu->kept_count++;
	return true;
}

static bool
restore_cpu(struct kvms *s, const uint64_t *w, unsigned count)
{
	struct flush_stack queue = { 0 };
	unsigned used = count > 4 ? stack_words(&queue, w + 4, count - 4) : 0, at = 4 + used;
	struct cpu *cpu;

	if (used == 0 || w[1] >= s->ncpu || CPU(s, w[1]) != NULL || w[3] > 1 || at >= count ||
	    (count - at - 1) / 2 != w[at] || (count - at - 1) % 2 != 0)
		return false;
	if (w[2] != 0) {
		if (VM_SPACE(s, w[2]) == NULL)
			return false;
		((struct vm_space *)record_mut(s, KVMS_ID_VM_SPACE, w[2]))->cpus |= UINT64_C(1) << w[1];
	}
	cpu = record_put(s, REC_CPU, w[1] + 1);
	cpu->active = w[2];
	cpu->ipi = w[3];
	cpu->queue = queue;
	for (unsigned i = at + 1; i < count; i += 2)
		if (!restore_kept(s, cpu, w[i], w[i + 1]))
			return false;
	return true;
}

static bool
restore_tlb(struct kvms *s, const uint64_t *w)
{
	struct translation t = { .found = true, .start = w[3], .level = 0 };

	for (unsigned level = 1; level <= s->paging.highest_leaf; level++)
		if (page_size(level) == w[4])
			t.level = level;
	if (w[1] >= s->ncpu || t.level == 0 || w[3] % w[4] != 0 || !kvms_prop_valid(w[6]) || w[7] > 1 ||
	    (w[2] != 0 && VM_SPACE(s, w[2]) == NULL))
		return false;
	t.last = t.start + (w[4] - 1);
	t.leaf.paddr = w[5];
	t.leaf.prop = w[6];
	t.tracked = w[7];
	if (!set_is_clear(s, (enum extent_set)(SET_TLB + w[1]), t.start, t.last + 1))
		return false;
	tlb_insert(s, w[1], w[2], &t);
	return true;
}

static bool
restore_next_id(struct kvms *s, const uint64_t *w)
{
	if (w[1] == KVMS_ID_NONE || w[1] >= KVMS_ID_KINDS || w[2] == 0 || w[2] >= UINT64_C(1) << 40)
		return false;
	s->live.next_id[w[1]] = w[2];
	return true;
}

static bool
restore_current(struct kvms *s, const uint64_t *w)
{
	s->live.current_cpu = w[2];
	return w[2] < s->ncpu;
}

/* Words of an element and what takes it, by tag.  Two tags vary in length. */
static const struct {
	unsigned words; /* 0: at least 3 */
	bool (*restore)(struct kvms *s, const uint64_t *words);
	bool (*restore_long)(struct kvms *s, const uint64_t *words, unsigned count);
} elements[] = {
	[2] = { 7, restore_slot, NULL },      [3] = { 3, restore_word, NULL },
	[4] = { 6, restore_node, NULL },      [5] = { 3, restore_frame, NULL },
	[6] = { 4, restore_segment, NULL },   [7] = { 3, restore_unique, NULL },
	[8] = { 6, restore_list, NULL },      [9] = { 5, restore_link, NULL },
	[10] = { 4, restore_vm_space, NULL }, [11] = { 8, restore_io_entry, NULL },
	[12] = { 10, restore_cursor, NULL },  [13] = { 0, NULL, restore_flusher },
	[14] = { 5, restore_area, NULL },     [15] = { 3, restore_free_va, NULL },
	[16] = { 6, restore_reader, NULL },   [17] = { 6, restore_writer, NULL },
	[18] = { 7, restore_iomem, NULL },    [19] = { 4, restore_free_mmio, NULL },
	[20] = { 0, NULL, restore_cpu },      [21] = { 8, restore_tlb, NULL },
	[22] = { 3, restore_next_id, NULL },  [23] = { 3, restore_current, NULL },
};

bool
kvms_restore_element(struct kvms *s, const uint64_t *words, unsigned count, char *why, size_t size)
{
	bool done;

	if (count > 0 && words[0] == 1) {
		if (count != s->config_element_count ||
		    memcmp(words, s->config_element, count * sizeof *words) != 0)
			return refuse(why, size, "the saved configuration is not the store's");
		return true;
	}
	if (count == 0 || words[0] >= sizeof elements / sizeof elements[0] || words[0] < 2)
		return refuse(why, size, "the state holds an element that this version does not know");
	if (elements[words[0]].words != 0 ? count != elements[words[0]].words : count < 3)
		return refuse(why, size, "an element of the state has the wrong number of words");
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return refuse(why, size, no_memory);
	}
	if (elements[words[0]].restore != NULL)
		done = elements[words[0]].restore(s, words);
	else
		done = elements[words[0]].restore_long(s, words, count);
	s->can_leave = false;
	return done || refuse(why, size, "an element of the state is out of bounds or stands twice");
}

/* ---- Page tables -------------------------------------------------------------- */

/* The node of "level" on the walk to va, NO_NODE if the walk ends before or va is not the table's. */
static uint64_t
node_on_way(const struct kvms *s, uint64_t table, uint64_t va, unsigned level)
{
	bool own_half = table == KERNEL_TABLE ? va >= s->paging.kernel_base : va <= s->paging.user_last;
	uint64_t node = own_half ? table_root(s, table) : NO_NODE;

	for (unsigned l = s->paging.levels; node != NO_NODE && l > level; l--)
		node = child_of(s, word_at(s, word_paddr(node, entry_index(va, l))), l);
	return node;
}

bool
kvms_restore_node(struct kvms *s, const struct kvms_node_place *place, char *why, size_t size)
{
	uint64_t parent, word;
	struct slot *sl;

	if (place->paddr % PAGE != 0 || place->paddr >= s->max_paddr ||
	    (place->table != KERNEL_TABLE && VM_SPACE(s, place->table) == NULL))
		return refuse(why, size, "a page-table node lies outside memory or in an unknown table");
	sl = &s->slot[place->paddr / PAGE];
	if (sl->usage != USAGE_PAGETABLE || sl->level != place->level || sl->place_table != 0)
		return refuse(why, size, "a page-table node has no slot of that level, or stands twice");
	sl->place_table = (uint32_t)place->table + 1;
	sl->place_va = place->va & ~(page_size(place->level + 1) - 1);
	if (place->level == s->paging.levels) {
		if (place->table == KERNEL_TABLE ? s->live.kernel_root != 0
						 : VM_SPACE(s, place->table)->root != place->paddr)
			return refuse(why, size, "a table has two roots");
		if (place->table == KERNEL_TABLE)
			s->live.kernel_root = place->paddr;
		sl->place_va = 0;
		return true;
	}
	parent = node_on_way(s, place->table, place->va, place->level + 1);
	word = parent != NO_NODE ? word_paddr(parent, entry_index(place->va, place->level + 1)) : 0;
	if (parent == NO_NODE || word_at(s, word) != 0)
		return refuse(why, size, "a page-table node has no parent, or shares its place");
	word_set(s, word, pte_encode_table(&s->paging, place->paddr));
	return true;
}

/* Put a leaf into the node of its level. */
static bool
restore_leaf(struct kvms *s, const struct kvms_extent *run, uint64_t node, uint64_t va, uint64_t paddr)
{
	struct leaf leaf = { .paddr = paddr, .prop = run->prop, .avail1 = run->tracked == (run->table == KERNEL_TABLE) };
	unsigned index = entry_index(va, run->level);
	uint64_t word;

	if (node == NO_NODE || word_at(s, word_paddr(node, index)) != 0 || va % page_size(run->level) != 0 ||
	    pte_encode_leaf(&s->paging, &leaf, run->level, &word) != O_ok)
		return false;
	word_set(s, word_paddr(node, index), word);
	if (!run->tracked) {
		s->live.totals.leaves_untracked++;
		return true;
	}
	if (paddr >= s->max_paddr)
		return false;
	s->live.totals.leaves_tracked++;
	slot_mut(s, paddr / PAGE)->mappings++;
	rmap_add(s, paddr / PAGE, run->table, va);
	rmap_commit(s);
	return true;
}

/* The leaves of a run, or of a list if "page" is not NULL. */
static bool
restore_leaves(struct kvms *s, const struct kvms_extent *run, const uint64_t *page, uint64_t count)
{
	uint64_t node = NO_NODE, size = page_size(run->level);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t va = run->va + i * size, paddr = page == NULL ? run->paddr + i * size : page[i] * PAGE;

		if (i == 0 || entry_index(va, run->level) == 0)
			node = node_on_way(s, run->table, va, run->level);
		if (page != NULL && i + AHEAD < count)
			slot_ahead(s, page[i + AHEAD] * PAGE);
		if (page != NULL && page[i] == UINT64_MAX)
			continue;
		if ((page != NULL && page[i] > UINT64_MAX / PAGE) || !restore_leaf(s, run, node, va, paddr))
			return false;
	}
	return true;
}

static bool
restore_extent(struct kvms *s, const struct kvms_extent *run, const uint64_t *page, uint64_t count, char *why,
	       size_t size)
{
	bool done;

	if (table_root(s, run->table) == NO_NODE || run->level < 1 || run->level > s->paging.highest_leaf ||
	    !kvms_prop_valid(run->prop))
		return refuse(why, size, "a run of leaves has an impossible table, level or property");
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return refuse(why, size, no_memory);
	}
	done = restore_leaves(s, run, page, count);
	s->can_leave = false;
	return done || refuse(why, size, "a leaf has no page-table node, or shares its place");
}

bool
kvms_restore_extent(struct kvms *s, const struct kvms_extent *run, char *why, size_t size)
{
	return restore_extent(s, run, NULL, run->leaves, why, size);
}

bool
kvms_restore_list(struct kvms *s, const struct kvms_extent *run, const uint64_t *page, size_t count, char *why,
		  size_t size)
{
	return restore_extent(s, run, page, count, why, size);
}

/* ---- What follows from the rest ---------------------------------------------------- */

/* A detached sub-tree keeps the frames of its tracked leaves; its nodes belong to no table. */
static void
settle_detached(struct kvms *s, uint64_t node)
{
	struct slot *sl = &s->slot[node / PAGE];

	if (sl->usage != USAGE_PAGETABLE || sl->place_table != 0 || sl->level == 0 || sl->level > s->paging.levels)
		return;
	sl->place_table = UINT32_MAX;
	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(s, word_paddr(node, i)), child = child_of(s, word, sl->level);
		struct leaf leaf;

		if (child != NO_NODE)
			settle_detached(s, child);
		if (pte_kind(&s->paging, word, sl->level) != PTE_LEAF)
			continue;
		leaf = pte_decode_leaf(&s->paging, word, sl->level);
		if (leaf_tracked(UINT32_MAX - 1, &leaf) && leaf.paddr < s->max_paddr)
			slot_mut(s, leaf.paddr / PAGE)->kept++;
	}
}

/* The nodes that a cursor stands on; behind its end only the guard matters. */
static void
settle_cursor(struct kvms *s, uint64_t id)
{
	struct cursor_record *c = record_mut(s, KVMS_ID_CURSOR, id);

	for (unsigned k = (unsigned)c->level; c->va < c->end && k <= c->guard_level; k++)
		c->path[k] = node_on_way(s, c->space, c->va, k);
}

static void
settle(struct kvms *s)
{
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		for (unsigned i = NODE_ENTRIES / 2; i < NODE_ENTRIES; i++)
			word_set(s, word_paddr(VM_SPACE(s, id)->root, i),
				 word_at(s, word_paddr(s->live.kernel_root, i)));
	for (uint64_t id = record_next(s, REC_KEPT, 1); id != 0; id = record_next(s, REC_KEPT, id + 1))
		if (KEPT(s, id)->is_node)
			settle_detached(s, KEPT(s, id)->paddr);
	for (uint64_t id = record_next(s, KVMS_ID_CURSOR, 1); id != 0; id = record_next(s, KVMS_ID_CURSOR, id + 1))
		settle_cursor(s, id);
}

/* Every address space has its root among the nodes that were given. */
static bool
roots_are_there(const struct kvms *s)
{
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1)) {
		uint64_t root = VM_SPACE(s, id)->root;

		if (root >= s->max_paddr || s->slot[root / PAGE].place_table != id + 1)
			return false;
	}
	return true;
}

bool
kvms_restore_end(struct kvms *s, uint64_t steps, uint64_t digest, char *why, size_t size)
{
	struct kvms_findings findings;

	if (s->live.kernel_root == 0)
		return refuse(why, size, "the state has no kernel page table");
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++)
		if (CPU(s, cpu) == NULL)
			return refuse(why, size, "the state lacks a CPU");
	if (!roots_are_there(s))
		return refuse(why, size, "an address space has no root");
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return refuse(why, size, no_memory);
	}
	settle(s);
	s->can_leave = false;
	if (kvms_digest(s) != digest)
		return refuse(why, size, "the restored state does not have the saved digest");
	if (!kvms_check_all(s, &findings))
		return refuse(why, size, findings.count > 0 ? kvms_law_text(findings.at[0].law) : no_memory);
	s->steps = steps;
	return true;
}

/* ---- Reading the tables back out -------------------------------------------------- */

struct run {
	kvms_extent_visitor *visit;
	void *arg;
	const struct kvms *s;
	struct kvms_extent now; /* leaves == 0: none yet */
};

/* One leaf: it makes the run longer, or begins the next. */
static bool
run_add(struct run *r, const struct kvms_extent *leaf)
{
	uint64_t length = r->now.leaves * page_size(r->now.leaves ? r->now.level : 1);

	if (r->now.leaves > 0 && r->now.level == leaf->level && r->now.prop == leaf->prop &&
	    r->now.tracked == leaf->tracked && r->now.va + length == leaf->va &&
	    r->now.paddr + length == leaf->paddr) {
		r->now.leaves++;
		return true;
	}
	if (r->now.leaves > 0 && !r->visit(r->arg, &r->now))
		return false;
	r->now = *leaf;
	return true;
}

static bool
run_leaf(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word)
{
	struct run *r = arg;
	struct leaf leaf = pte_decode_exact(&r->s->paging, word, level);
	bool tracked = leaf_tracked(table, &leaf);

	return run_add(r, &(struct kvms_extent){ table, va, leaf.paddr, 1, level, leaf.prop, tracked });
}

/* The same of a foreign store: what all levels leave of its rights is the leaf's property. */
static bool
run_foreign(void *arg, const struct kvms_leaf *leaf)
{
	struct run *r = arg;

	return run_add(r, &(struct kvms_extent){ leaf->table, leaf->va, leaf->paddr, 1, leaf->level, leaf->prop, false });
}

bool
kvms_extents(struct kvms *s, uint64_t table, kvms_extent_visitor *visit, void *arg)
{
	struct run r = { .visit = visit, .arg = arg, .s = s };

	if (table_root(s, table) == NO_NODE)
		return true;
	if (s->foreign != NULL)
		return foreign_leaves(s, table, run_foreign, &r) && (r.now.leaves == 0 || visit(arg, &r.now));
	return leaves_visit(s, table, run_leaf, &r) && (r.now.leaves == 0 || visit(arg, &r.now));
}

bool
kvms_node_find(const struct kvms *s, uint64_t paddr, struct kvms_node_place *place)
{
	const struct slot *sl;

	if (paddr % PAGE != 0 || paddr >= s->max_paddr || s->slot[paddr / PAGE].usage != USAGE_PAGETABLE)
		return false;
	sl = &s->slot[paddr / PAGE];
	if ((sl->bits & SLOT_STRAY) != 0 || s->foreign != NULL)
		return false;
	*place = (struct kvms_node_place){ paddr, sl->place_table - 1, sl->place_va, sl->level };
	return true;
}
