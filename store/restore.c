/*
 * Rebuilding a saved state: elements as kvms_visit() gave them, then the
 * places of page-table nodes, then runs of leaves.  What the digest does not
 * hold (counts of users, reverse map, indexes, totals) is derived on the way.
 */
#include "store/area.h"

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
	memset(&s->live, 0, sizeof s->live);
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
restore_cpu(struct kvms *s, const uint64_t *w)
{
	/* active space, IPI flag, queue: nothing in this build sets them */
	return w[1] < s->ncpu && (w[2] | w[3] | w[4] | w[5] | w[6]) == 0;
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

/* Words of an element and what takes it, by tag. */
static const struct {
	unsigned words;
	bool (*restore)(struct kvms *s, const uint64_t *words);
} elements[] = {
	[2] = { 7, restore_slot },	[3] = { 3, restore_word },	 [4] = { 6, restore_node },
	[5] = { 3, restore_frame },	[6] = { 4, restore_segment },	 [14] = { 5, restore_area },
	[15] = { 3, restore_free_va },	[19] = { 4, restore_free_mmio }, [20] = { 7, restore_cpu },
	[22] = { 3, restore_next_id },	[23] = { 3, restore_current },
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
	if (count == 0 || words[0] >= sizeof elements / sizeof elements[0] || elements[words[0]].restore == NULL)
		return refuse(why, size, "the state holds an element that this version does not know");
	if (count != elements[words[0]].words)
		return refuse(why, size, "an element of the state has the wrong number of words");
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return refuse(why, size, no_memory);
	}
	done = elements[words[0]].restore(s, words);
	s->can_leave = false;
	return done || refuse(why, size, "an element of the state is out of bounds or stands twice");
}

/* ---- Page tables -------------------------------------------------------------- */

/* The node of "level" on the walk to va, NO_NODE if the walk ends before or va is not the table's. */
static uint64_t
node_on_way(const struct kvms *s, uint64_t table, uint64_t va, unsigned level)
{
	uint64_t node = va >= s->paging.kernel_base ? table_root(s, table) : NO_NODE;

	for (unsigned l = s->paging.levels; node != NO_NODE && l > level; l--)
		node = child_of(s, word_at(s, word_paddr(node, entry_index(va, l))), l);
	return node;
}

bool
kvms_restore_node(struct kvms *s, const struct kvms_node_place *place, char *why, size_t size)
{
	uint64_t parent, word;
	struct slot *sl;

	if (place->paddr % PAGE != 0 || place->paddr >= s->max_paddr || place->table != KERNEL_TABLE)
		return refuse(why, size, "a page-table node lies outside memory or in an unknown table");
	sl = &s->slot[place->paddr / PAGE];
	if (sl->usage != USAGE_PAGETABLE || sl->level != place->level || sl->place_table != 0)
		return refuse(why, size, "a page-table node has no slot of that level, or stands twice");
	sl->place_table = (uint32_t)place->table + 1;
	sl->place_va = place->va & ~(page_size(place->level + 1) - 1);
	if (place->level == s->paging.levels) {
		if (s->live.kernel_root != 0)
			return refuse(why, size, "the kernel table has two roots");
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

static bool
restore_leaf(struct kvms *s, const struct kvms_extent *run, uint64_t va, uint64_t paddr)
{
	struct leaf leaf = { .paddr = paddr, .prop = run->prop, .avail1 = run->tracked == (run->table == KERNEL_TABLE) };
	uint64_t node = node_on_way(s, run->table, va, run->level), word;
	unsigned index = entry_index(va, run->level);

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

bool
kvms_restore_extent(struct kvms *s, const struct kvms_extent *run, char *why, size_t size)
{
	if (run->table != KERNEL_TABLE || run->level < 1 || run->level > s->paging.highest_leaf ||
	    !kvms_prop_valid(run->prop))
		return refuse(why, size, "a run of leaves has an impossible table, level or property");
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return refuse(why, size, no_memory);
	}
	for (uint64_t i = 0; i < run->leaves; i++) {
		uint64_t offset = i * page_size(run->level);

		if (!restore_leaf(s, run, run->va + offset, run->paddr + offset)) {
			s->can_leave = false;
			return refuse(why, size, "a leaf has no page-table node, or shares its place");
		}
	}
	s->can_leave = false;
	return true;
}

bool
kvms_restore_end(struct kvms *s, uint64_t steps, uint64_t digest, char *why, size_t size)
{
	struct kvms_findings findings;

	if (s->live.kernel_root == 0)
		return refuse(why, size, "the state has no kernel page table");
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

static bool
run_leaf(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word)
{
	struct run *r = arg;
	struct leaf leaf = pte_decode_leaf(&r->s->paging, word, level);
	bool tracked = leaf_tracked(table, &leaf);
	uint64_t length = r->now.leaves * page_size(r->now.leaves ? r->now.level : 1);

	if (r->now.leaves > 0 && r->now.level == level && r->now.prop == leaf.prop && r->now.tracked == tracked &&
	    r->now.va + length == va && r->now.paddr + length == leaf.paddr) {
		r->now.leaves++;
		return true;
	}
	if (r->now.leaves > 0 && !r->visit(r->arg, &r->now))
		return false;
	r->now = (struct kvms_extent){ table, va, leaf.paddr, 1, level, leaf.prop, tracked };
	return true;
}

bool
kvms_extents(struct kvms *s, uint64_t table, kvms_extent_visitor *visit, void *arg)
{
	struct run r = { .visit = visit, .arg = arg, .s = s };

	if (table_root(s, table) == NO_NODE)
		return true;
	return leaves_visit(s, table, run_leaf, &r) && (r.now.leaves == 0 || visit(arg, &r.now));
}

bool
kvms_node_find(const struct kvms *s, uint64_t paddr, struct kvms_node_place *place)
{
	const struct slot *sl;

	if (paddr % PAGE != 0 || paddr >= s->max_paddr || s->slot[paddr / PAGE].usage != USAGE_PAGETABLE)
		return false;
	sl = &s->slot[paddr / PAGE];
	*place = (struct kvms_node_place){ paddr, sl->place_table - 1, sl->place_va, sl->level };
	return true;
}
