/*
 * The laws of invariants.def and the two ways to run them.
 *
 * touched: on every object that the undo log of the current step names, with
 *          the counters kept in the slots and the indexes kept over areas and
 *          blocks; O(log n) each.
 * full:    on every object, with counts, areas and blocks gathered afresh
 *          (struct audit), which are then compared with the kept ones.
 */
#include "store/audit.h"

#include <string.h>

enum law_number {
#define LAW_SLOT(symbol, name, text) LAW_##symbol,
#define LAW_WORD LAW_SLOT
#define LAW_FRAME LAW_SLOT
#define LAW_SEGMENT LAW_SLOT
#define LAW_AREA LAW_SLOT
#define LAW_BLOCK LAW_SLOT
#define LAW_TILES LAW_SLOT
#define LAW_MMIO LAW_SLOT
#define LAW_STORE LAW_SLOT
#include "store/invariants.def"
#undef LAW_SLOT
	LAWS
};

static const struct {
	const char *name;
	const char *text;
} laws[] = {
#define LAW_SLOT(symbol, name, text) { name, text },
#include "store/invariants.def"
#undef LAW_SLOT
	/* not laws of the state, but of a step */
	{ "op.totals", "running totals moved otherwise than arguments and reply say (object: number of the total)" },
	{ "op.outcome_set", "the op gave an outcome that its row does not list (object: the op's code)" },
};

unsigned
kvms_law_max(void)
{
	return LAWS;
}

const char *
kvms_law_name(unsigned law)
{
	return law < sizeof laws / sizeof laws[0] ? laws[law].name : NULL;
}

const char *
kvms_law_text(unsigned law)
{
	return law < sizeof laws / sizeof laws[0] ? laws[law].text : NULL;
}

void
finding_add(struct kvms_findings *f, unsigned law, uint64_t object, uint64_t want, uint64_t have)
{
	if (f->total++ == 0) {
		f->count = 0;
		memset(f->fired, 0, sizeof f->fired);
	}
	f->fired[law / 64] |= UINT64_C(1) << law % 64;
	if (f->count < KVMS_FINDINGS_MAX)
		f->at[f->count++] = (struct kvms_finding){ law, object, want, have };
}

/* A check under way. */
struct check {
	struct kvms *s;
	struct kvms_findings *findings;
	struct audit *audit; /* NULL: touched laws, kept counters */
	unsigned law;        /* that is being judged */
};

/* A page-table word and where it stands. */
struct place {
	uint64_t node;
	unsigned index;
	unsigned level;
	uint64_t table;
	uint64_t va;
	uint64_t word;
	enum pte_kind kind;
};

static void
bad(struct check *c, uint64_t object, uint64_t want, uint64_t have)
{
	finding_add(c->findings, c->law, object, want, have);
}

/* Users of a slot: recounted in a full check, else as kept. */
static struct tally
users(const struct check *c, uint64_t i)
{
	const struct slot *sl = &c->s->slot[i];

	if (c->audit != NULL)
		return audit_tally(c->audit, i);
	return (struct tally){ sl->handles, sl->mappings, sl->covers, sl->kept, sl->unique, sl->listed, 0 };
}

static uint64_t
counted(struct tally t)
{
	return (uint64_t)t.handles + t.mappings + t.covers + t.kept;
}

/* ---- Slots ---------------------------------------------------------------- */

#define SLOT_LAW(symbol) static void law_##symbol(struct check *c, uint64_t i, const struct slot *sl)

SLOT_LAW(slot_rc_legal)
{
	if (slot_rc(sl) < KVMS_RC_UNIQUE && !slot_is_shared(c->s, sl))
		bad(c, i, c->s->rc_max, slot_rc(sl));
}

SLOT_LAW(slot_usage_unused)
{
	if ((slot_rc(sl) == KVMS_RC_UNUSED) != (sl->usage == USAGE_UNUSED || sl->usage == USAGE_MMIO))
		bad(c, i, sl->usage, slot_rc(sl));
}

SLOT_LAW(slot_unused_clean)
{
	if (slot_rc(sl) == KVMS_RC_UNUSED && (sl->kind != KIND_NONE || sl->meta != 0 || slot_in_list(sl) != 0))
		bad(c, i, sl->kind, sl->meta);
}

SLOT_LAW(slot_unique_is_frame)
{
	if (slot_rc(sl) == KVMS_RC_UNIQUE && sl->usage != USAGE_FRAME)
		bad(c, i, USAGE_FRAME, sl->usage);
}

SLOT_LAW(slot_shared_not_listed)
{
	if (slot_is_shared(c->s, sl) && slot_in_list(sl) != 0)
		bad(c, i, 0, slot_in_list(sl));
}

SLOT_LAW(slot_kind_matches_usage)
{
	/* kinds that each usage allows, as bits */
	static const uint8_t allowed[USAGES] = {
		[USAGE_UNUSED] = 1 << KIND_NONE,    [USAGE_RESERVED] = 1 << KIND_BOOT,
		[USAGE_FRAME] = 1 << KIND_UNTYPED | 1 << KIND_TYPED | 1 << KIND_LINK,
		[USAGE_PAGETABLE] = 1 << KIND_NODE, [USAGE_META] = 1 << KIND_BOOT,
		[USAGE_KERNEL] = 1 << KIND_BOOT,    [USAGE_MMIO] = 1 << KIND_NONE,
	};

	if (sl->usage >= USAGES || sl->kind >= SLOT_KINDS || (allowed[sl->usage] >> sl->kind & 1) == 0)
		bad(c, i, sl->usage, sl->kind);
}

SLOT_LAW(slot_listed_is_link)
{
	if (slot_in_list(sl) != 0 && (slot_rc(sl) != KVMS_RC_UNIQUE || sl->kind != KIND_LINK))
		bad(c, i, KIND_LINK, sl->kind);
}

SLOT_LAW(acct_handle_on_frame)
{
	struct tally t = users(c, i);

	if ((t.handles | t.covers | t.unique | t.listed) != 0 && sl->usage != USAGE_FRAME)
		bad(c, i, USAGE_FRAME, sl->usage);
}

SLOT_LAW(acct_unused_has_no_users)
{
	if (slot_rc(sl) == KVMS_RC_UNUSED && counted(users(c, i)) != 0)
		bad(c, i, 0, counted(users(c, i)));
}

SLOT_LAW(acct_live_has_user)
{
	if (sl->usage == USAGE_FRAME && slot_is_shared(c->s, sl) && counted(users(c, i)) == 0)
		bad(c, i, slot_rc(sl), 0);
}

SLOT_LAW(acct_rc_exact)
{
	uint64_t n = counted(users(c, i));

	if (sl->usage == USAGE_FRAME && n > 0 && slot_rc(sl) != n)
		bad(c, i, n, slot_rc(sl));
}

SLOT_LAW(acct_unique_one_owner)
{
	struct tally t = users(c, i);
	uint64_t owners = (uint64_t)t.unique + t.listed;

	if (sl->usage == USAGE_FRAME && (owners > 1 || (slot_rc(sl) == KVMS_RC_UNIQUE) != (owners == 1)))
		bad(c, i, slot_rc(sl) == KVMS_RC_UNIQUE, owners);
}

SLOT_LAW(acct_unique_has_no_users)
{
	if (sl->usage == USAGE_FRAME && slot_rc(sl) == KVMS_RC_UNIQUE && counted(users(c, i)) != 0)
		bad(c, i, 0, counted(users(c, i)));
}

SLOT_LAW(acct_reserved_rc_one)
{
	if (sl->usage != USAGE_RESERVED && sl->usage != USAGE_META && sl->usage != USAGE_KERNEL)
		return;
	if (slot_rc(sl) != 1 || counted(users(c, i)) != 0)
		bad(c, i, 1, slot_rc(sl));
}

SLOT_LAW(meta_node_slot)
{
	bool has_record = sl->level != 0 || sl->nr_children != 0 || (sl->bits & SLOT_STRAY) != 0;

	if (sl->usage != USAGE_PAGETABLE ? has_record : sl->level == 0 || sl->level > c->s->paging.levels)
		bad(c, i, sl->usage, sl->level);
}

SLOT_LAW(meta_node_rc)
{
	if (sl->usage == USAGE_PAGETABLE && slot_rc(sl) != 1)
		bad(c, i, 1, slot_rc(sl));
}

SLOT_LAW(pt_count_consistent)
{
	const uint64_t *word = (const uint64_t *)(const void *)(c->s->memory + i * PAGE);
	const uint64_t mask = c->s->paging.present;
	unsigned present = 0, from = 0;

	if (sl->usage != USAGE_PAGETABLE)
		return;
	if (i * PAGE == c->s->live.kernel_root)
		from = NODE_ENTRIES / 2; /* a root counts its own half */
	for (unsigned k = from; k < NODE_ENTRIES; k++)
		present += (word[k] & mask) != 0;
	if (present != sl->nr_children)
		bad(c, i, present, sl->nr_children);
}

/* The node that the walk to a node's recorded place finds at its level; NO_NODE if none. */
static uint64_t
node_on_walk(const struct kvms *s, const struct slot *sl)
{
	uint64_t node = table_root(s, sl->place_table - 1);

	for (unsigned level = s->paging.levels; node != NO_NODE && level > sl->level; level--)
		node = child_of(s, word_at(s, word_paddr(node, entry_index(sl->place_va, level))), level);
	return node;
}

SLOT_LAW(pt_no_orphan)
{
	if (sl->usage != USAGE_PAGETABLE || (sl->bits & SLOT_STRAY) != 0)
		return;
	if (c->audit != NULL ? audit_tally(c->audit, i).designated == 0 : node_on_walk(c->s, sl) != i * PAGE)
		bad(c, i, 1, 0);
}

SLOT_LAW(pt_not_stray)
{
	/* no operation of this build detaches a sub-tree and keeps it */
	if (sl->usage == USAGE_PAGETABLE && (sl->bits & SLOT_STRAY) != 0)
		bad(c, i, 0, 1);
}

/* ---- Words ---------------------------------------------------------------------- */

#define WORD_LAW(symbol) static void law_##symbol(struct check *c, uint64_t paddr, const struct place *p)

/* The slot of a table word's child, or NULL if the word leads out of memory. */
static const struct slot *
child_slot(const struct check *c, const struct place *p)
{
	uint64_t child = pte_table_paddr(&c->s->paging, p->word);

	return p->kind == PTE_TABLE && child < c->s->max_paddr ? &c->s->slot[child / PAGE] : NULL;
}

WORD_LAW(pt_child_is_node)
{
	const struct slot *child = child_slot(c, p);

	if (p->kind == PTE_TABLE && p->level > 1 && (child == NULL || child->usage != USAGE_PAGETABLE))
		bad(c, paddr, USAGE_PAGETABLE, p->word);
}

WORD_LAW(pt_child_level)
{
	const struct slot *child = child_slot(c, p);

	if (p->level > 1 && child != NULL && child->usage == USAGE_PAGETABLE && child->level != p->level - 1)
		bad(c, paddr, p->level - 1, child->level);
}

WORD_LAW(pt_node_unique)
{
	const struct slot *child = child_slot(c, p);
	uint64_t index = pte_table_paddr(&c->s->paging, p->word) / PAGE;

	if (p->level == 1 || child == NULL || child->usage != USAGE_PAGETABLE)
		return;
	/* a full check counts who designates the node; a touched one knows where it belongs */
	if (c->audit != NULL ? audit_tally(c->audit, index).designated > 1
			     : child->place_table != p->table + 1 || child->place_va != p->va)
		bad(c, paddr, child->place_va, p->va);
}

WORD_LAW(pt_kernel_top_nodes)
{
	if (p->node == c->s->live.kernel_root && p->index >= NODE_ENTRIES / 2 && p->kind != PTE_TABLE)
		bad(c, paddr, PTE_TABLE, p->word);
}

WORD_LAW(pt_top_range)
{
	if (p->node == c->s->live.kernel_root && p->index < NODE_ENTRIES / 2 && p->kind != PTE_ABSENT)
		bad(c, paddr, 0, p->word);
}

WORD_LAW(pt_level1_has_no_child)
{
	if (p->level == 1 && p->kind == PTE_TABLE)
		bad(c, paddr, 0, p->word);
}

WORD_LAW(pt_word_canonical)
{
	uint64_t again = 0;
	unsigned name = O_ok;

	if (p->kind == PTE_LEAF) {
		struct leaf leaf = pte_decode_leaf(&c->s->paging, p->word, p->level);

		name = pte_encode_leaf(&c->s->paging, &leaf, p->level, &again);
	} else if (p->kind == PTE_TABLE) {
		again = pte_encode_table(&c->s->paging, pte_table_paddr(&c->s->paging, p->word));
	}
	if (name != O_ok || again != p->word)
		bad(c, paddr, again, p->word);
}

WORD_LAW(pt_leaf_level)
{
	if (p->kind == PTE_LEAF && p->level > c->s->paging.highest_leaf)
		bad(c, paddr, c->s->paging.highest_leaf, p->level);
}

WORD_LAW(pt_leaf_aligned)
{
	if (p->kind == PTE_LEAF && pte_leaf_address(&c->s->paging, p->word) % page_size(p->level) != 0)
		bad(c, paddr, page_size(p->level), p->word);
}

static bool
place_tracked(const struct check *c, const struct place *p, uint64_t *leaf_paddr)
{
	struct leaf leaf;

	if (p->kind != PTE_LEAF)
		return false;
	leaf = pte_decode_leaf(&c->s->paging, p->word, p->level);
	*leaf_paddr = leaf.paddr;
	return leaf_tracked(p->table, &leaf);
}

WORD_LAW(pt_tracked_leaf)
{
	uint64_t frame;

	if (!place_tracked(c, p, &frame))
		return;
	if (p->level != 1 || frame >= c->s->max_paddr || c->s->slot[frame / PAGE].usage != USAGE_FRAME ||
	    !slot_is_shared(c->s, &c->s->slot[frame / PAGE]))
		bad(c, paddr, 1, p->word);
}

/* The vmalloc range that holds va, or NULL. */
static const struct kvms_range *
vmalloc_of(const struct kvms *s, uint64_t va)
{
	uint64_t low = 0, high = s->vmalloc_count;

	while (low < high) { /* the first range that ends behind va lies in [low, high] */
		uint64_t middle = low + (high - low) / 2;

		if (s->vmalloc[middle].end <= va)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s->vmalloc_count && s->vmalloc[low].start <= va ? &s->vmalloc[low] : NULL;
}

/* The end of the area that holds va, or 0. */
static uint64_t
area_end_at(const struct check *c, uint64_t va)
{
	const struct extent *e;

	if (c->audit != NULL)
		return audit_area_end(c->audit, va);
	e = extent_below(c->s, SET_AREAS, va);
	return e != NULL && va < e->end ? e->end : 0;
}

WORD_LAW(area_owns_leaves)
{
	uint64_t va = p->va, end = p->va + page_size(p->level);

	if (p->kind != PTE_LEAF || p->table != KERNEL_TABLE || vmalloc_of(c->s, va) == NULL)
		return;
	while (va != 0 && va < end)
		va = area_end_at(c, va);
	if (va == 0)
		bad(c, paddr, p->va, end);
}

WORD_LAW(area_boot_leaves)
{
	uint64_t frame;

	if (p->table == KERNEL_TABLE && vmalloc_of(c->s, p->va) == NULL && place_tracked(c, p, &frame))
		bad(c, paddr, p->va, p->word);
}

/* ---- Handles ----------------------------------------------------------------------- */

static void
law_region_frame_valid(struct check *c, uint64_t id, const struct frame *f)
{
	if (f->paddr % PAGE != 0 || f->paddr >= c->s->max_paddr)
		bad(c, id, c->s->max_paddr, f->paddr);
}

static void
law_region_segment_valid(struct check *c, uint64_t id, const struct segment *g)
{
	if (g->start % PAGE != 0 || g->end % PAGE != 0 || g->start >= g->end || g->end > c->s->max_paddr)
		bad(c, id, g->start, g->end);
}

/* ---- Areas and free blocks ------------------------------------------------------------ */

static void
law_area_range(struct check *c, uint64_t id, const struct area *a)
{
	bool inside = false;

	for (uint64_t i = 0; i < c->s->vmalloc_count && !inside; i++)
		inside = a->start >= c->s->vmalloc[i].start && a->end <= c->s->vmalloc[i].end;
	if (a->start % PAGE != 0 || a->end % PAGE != 0 || a->start > a->end || !inside)
		bad(c, id, a->start, a->end);
}

static void
law_area_disjoint(struct check *c, uint64_t id, const struct area *a)
{
	uint64_t other;

	if (a->start >= a->end)
		return;
	if (c->audit != NULL) {
		other = audit_area_overlap(c->audit, id);
	} else {
		const struct extent *below = extent_below(c->s, SET_AREAS, a->start - 1);
		const struct extent *self = extent_below(c->s, SET_AREAS, a->start);
		const struct extent *above = extent_from(c->s, SET_AREAS, a->start + 1);

		other = above != NULL && above->start < a->end ? above->id : 0;
		if (below != NULL && below->end > a->start)
			other = below->id;
		if (self == NULL || self->id != id)
			other = self != NULL ? self->id : UINT64_MAX;
	}
	if (other != 0)
		bad(c, id, 0, other);
}

static void
law_area_refs(struct check *c, uint64_t id, const struct area *a)
{
	/* no operation of this build makes an I/O handle */
	if (a->refs != 0)
		bad(c, id, 0, a->refs);
}

static void
law_alloc_blocks(struct check *c, uint64_t start, const struct extent *e, const struct extent *next)
{
	const struct kvms_range *range = vmalloc_of(c->s, start);

	if (e->start >= e->end || range == NULL || e->end > range->end || (next != NULL && next->start < e->end))
		bad(c, start, range != NULL ? range->end : 0, e->end);
}

static void
law_alloc_coalesced(struct check *c, uint64_t start, const struct extent *e, const struct extent *next)
{
	if (next != NULL && next->start == e->end)
		bad(c, start, 0, next->start);
}

static void
law_alloc_mmio_blocks(struct check *c, uint64_t start, const struct extent *e, const struct extent *next)
{
	uint64_t low = e->set == SET_FREE_MMIO0 ? 0 : 4 * GiB;
	uint64_t high = e->set == SET_FREE_MMIO0 ? 4 * GiB : UINT64_C(1) << 52;
	uint64_t memory_end = (c->s->max_paddr + 0xfffff) & ~UINT64_C(0xfffff);

	if (low < memory_end)
		low = memory_end;
	if (e->start >= e->end || e->start < low || e->end > high || (next != NULL && next->start < e->end))
		bad(c, start, high, e->end);
}

/* Free or area: what tile begins at va?  Its end, or 0. */
static uint64_t
tile_end(const struct kvms *s, uint64_t va)
{
	const struct extent *e = extent_below(s, SET_FREE_VA, va);

	if (e == NULL || e->start != va)
		e = extent_below(s, SET_AREAS, va);
	return e != NULL && e->start == va ? e->end : 0;
}

/* Touched: whatever ends at "va" inside a range, something begins there, and nothing straddles it. */
static void
law_alloc_partition(struct check *c, uint64_t start, uint64_t end)
{
	const struct kvms_range *range = vmalloc_of(c->s, start);

	if (range == NULL || start >= end)
		return;
	if (end < range->end && tile_end(c->s, end) == 0)
		bad(c, start, end, 0);
	if (start > range->start) {
		const struct extent *free = extent_below(c->s, SET_FREE_VA, start - 1);
		const struct extent *area = extent_below(c->s, SET_AREAS, start - 1);

		if ((free == NULL || free->end != start) && (area == NULL || area->end != start))
			bad(c, start, start, 0);
	}
}

/* ---- The whole store ------------------------------------------------------------------------ */

static void
law_region_slot_domain(struct check *c)
{
	if (!slot_is_default(&c->s->slot[c->s->slots_count]))
		bad(c, c->s->slots_count, 0, 1);
}

static void
law_region_memory_bounds(struct check *c)
{
	for (uint64_t paddr = c->s->max_paddr; paddr < c->s->max_paddr + PAGE; paddr += 8)
		if (word_at(c->s, paddr) != 0)
			bad(c, paddr, 0, word_at(c->s, paddr));
}

static void
law_region_ids_below_next(struct check *c)
{
	static const enum kvms_kind kinds[] = { KVMS_ID_FRAME, KVMS_ID_SEGMENT, KVMS_ID_AREA };

	for (unsigned k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
		uint64_t next = c->s->live.next_id[kinds[k]];

		if (record_at(c->s, kinds[k], 0) != NULL)
			bad(c, 0, 1, 0);
		for (uint64_t id = record_next(c->s, kinds[k], next); id != 0;
		     id = record_next(c->s, kinds[k], id + 1))
			bad(c, id, next, id);
	}
}

static void
law_self_digest(struct check *c)
{
	uint64_t kept = digest_kept(c->s), again = digest_recompute(c->s);

	if (kept != again)
		bad(c, 0, again, kept);
}

static void
law_self_counters(struct check *c)
{
	const struct kvms *s = c->s;

	for (uint64_t i = audit_next_slot(c->audit, 0); i != BITMAP_NONE; i = audit_next_slot(c->audit, i + 1)) {
		const struct slot *sl = &s->slot[i];
		struct tally t = audit_tally(c->audit, i);

		if (t.handles != sl->handles || t.mappings != sl->mappings || t.covers != sl->covers ||
		    t.kept != sl->kept || t.unique != sl->unique || t.listed != sl->listed)
			bad(c, i, counted(t), (uint64_t)sl->handles + sl->mappings + sl->covers + sl->kept);
		else if (bitmap_test(&s->used, i) == slot_is_default(sl))
			bad(c, i, !slot_is_default(sl), bitmap_test(&s->used, i));
	}
	for (unsigned i = 0; i < sizeof s->live.totals.at / sizeof s->live.totals.at[0]; i++)
		if (c->audit->totals.at[i] != s->live.totals.at[i])
			bad(c, (UINT64_C(1) << 63) + i, c->audit->totals.at[i], s->live.totals.at[i]);
	if (!audit_index_matches(c->audit))
		bad(c, (UINT64_C(1) << 63) + TOTAL_INDEX(areas), 0, 0);
}

/* ---- Running all laws of a domain ------------------------------------------------------------- */

#undef LAW_WORD
#undef LAW_FRAME
#undef LAW_SEGMENT
#undef LAW_AREA
#undef LAW_BLOCK
#undef LAW_TILES
#undef LAW_MMIO
#undef LAW_STORE
#define LAW_SLOT(symbol, name, text)
#define LAW_WORD(symbol, name, text)
#define LAW_FRAME(symbol, name, text)
#define LAW_SEGMENT(symbol, name, text)
#define LAW_AREA(symbol, name, text)
#define LAW_BLOCK(symbol, name, text)
#define LAW_TILES(symbol, name, text)
#define LAW_MMIO(symbol, name, text)
#define LAW_STORE(symbol, name, text)
#define RUN(symbol, ...) c->law = LAW_##symbol, law_##symbol(c, __VA_ARGS__)

static void
run_slot(struct check *c, uint64_t i)
{
	const struct slot *sl = &c->s->slot[i];

#undef LAW_SLOT
#define LAW_SLOT(symbol, name, text) RUN(symbol, i, sl);
#include "store/invariants.def"
#undef LAW_SLOT
#define LAW_SLOT(symbol, name, text)
}

static void
run_word(struct check *c, uint64_t node, unsigned index)
{
	const struct slot *sl = &c->s->slot[node / PAGE];
	uint64_t paddr = word_paddr(node, index), word = word_at(c->s, paddr);

	if (sl->level < 1 || sl->level > c->s->paging.levels)
		return; /* meta.node_slot says so; nothing about the word can be said */
	struct place place = { .node = node,
			       .index = index,
			       .level = sl->level,
			       .table = sl->place_table - 1,
			       .va = entry_va(c->s, node, index),
			       .word = word,
			       .kind = pte_kind(&c->s->paging, word, sl->level) };

#undef LAW_WORD
#define LAW_WORD(symbol, name, text) RUN(symbol, paddr, &place);
#include "store/invariants.def"
#undef LAW_WORD
#define LAW_WORD(symbol, name, text)
}

static void
run_frame(struct check *c, uint64_t id, const struct frame *f)
{
#undef LAW_FRAME
#define LAW_FRAME(symbol, name, text) RUN(symbol, id, f);
#include "store/invariants.def"
#undef LAW_FRAME
#define LAW_FRAME(symbol, name, text)
}

static void
run_segment(struct check *c, uint64_t id, const struct segment *g)
{
#undef LAW_SEGMENT
#define LAW_SEGMENT(symbol, name, text) RUN(symbol, id, g);
#include "store/invariants.def"
#undef LAW_SEGMENT
#define LAW_SEGMENT(symbol, name, text)
}

static void
run_area(struct check *c, uint64_t id, const struct area *a)
{
#undef LAW_AREA
#define LAW_AREA(symbol, name, text) RUN(symbol, id, a);
#include "store/invariants.def"
#undef LAW_AREA
#define LAW_AREA(symbol, name, text)
}

static void
run_block(struct check *c, const struct extent *e, const struct extent *next)
{
#undef LAW_BLOCK
#define LAW_BLOCK(symbol, name, text) RUN(symbol, e->start, e, next);
#include "store/invariants.def"
#undef LAW_BLOCK
#define LAW_BLOCK(symbol, name, text)
}

static void
run_mmio(struct check *c, const struct extent *e, const struct extent *next)
{
#undef LAW_MMIO
#define LAW_MMIO(symbol, name, text) RUN(symbol, e->start, e, next);
#include "store/invariants.def"
#undef LAW_MMIO
#define LAW_MMIO(symbol, name, text)
}

static void
run_tiles(struct check *c, uint64_t start, uint64_t end)
{
#undef LAW_TILES
#define LAW_TILES(symbol, name, text) RUN(symbol, start, end);
#include "store/invariants.def"
#undef LAW_TILES
#define LAW_TILES(symbol, name, text)
}

static void
run_store(struct check *c)
{
#undef LAW_STORE
#define LAW_STORE(symbol, name, text) c->law = LAW_##symbol, law_##symbol(c);
#include "store/invariants.def"
#undef LAW_STORE
#define LAW_STORE(symbol, name, text)
}

/* ---- Touched ------------------------------------------------------------------------------------ */

static void
touched_record(struct check *c, enum kvms_kind kind, uint64_t id)
{
	const void *record = record_at(c->s, kind, id);

	if (record == NULL)
		return;
	if (kind == KVMS_ID_FRAME)
		run_frame(c, id, record);
	if (kind == KVMS_ID_SEGMENT)
		run_segment(c, id, record);
	if (kind == KVMS_ID_AREA) {
		run_area(c, id, record);
		run_tiles(c, ((const struct area *)record)->start, ((const struct area *)record)->end);
	}
}

static void
touched_extent(struct check *c, uint32_t index)
{
	const struct extent *e = extent_at(c->s, index), *next;

	if (!e->live || e->set == SET_AREAS)
		return;
	next = extent_from(c->s, e->set, e->start + 1);
	if (e->set == SET_FREE_VA) {
		run_block(c, e, next);
		run_tiles(c, e->start, e->end);
	} else {
		run_mmio(c, e, next);
	}
}

static void
touched_word(struct check *c, uint64_t paddr)
{
	uint64_t node = paddr & ~(uint64_t)(PAGE - 1);

	if (c->s->slot[node / PAGE].usage == USAGE_PAGETABLE)
		run_word(c, node, (unsigned)(paddr % PAGE / 8));
}

#define SEEN 256u

void
laws_touched(struct kvms *s, struct kvms_findings *f)
{
	struct check c = { s, f, NULL, 0 };
	uint64_t seen[SEEN] = { 0 }; /* objects judged a moment ago; large steps touch the same ones often */

	for (size_t i = 0; i < s->undo.count; i++) {
		const struct undo_entry *e = &s->undo.entry[i];
		uint64_t name = (e->key << 8 | (uint64_t)e->type << 4 | e->which) + 1;

		if (seen[(e->key ^ e->key >> 9) % SEEN] == name)
			continue;
		seen[(e->key ^ e->key >> 9) % SEEN] = name;
		switch ((enum undo_type)e->type) {
		case UNDO_WORD:
			touched_word(&c, e->key);
			break;
		case UNDO_SLOT:
			run_slot(&c, e->key);
			break;
		case UNDO_RECORD:
			touched_record(&c, e->which, e->key);
			break;
		case UNDO_POOL:
			if (e->which == POOL_EXTENT)
				touched_extent(&c, (uint32_t)e->key);
			break;
		}
	}
}

/* ---- Full ---------------------------------------------------------------------------------------- */

static void
full_words(struct check *c, uint64_t node, unsigned level)
{
	bool root = level == c->s->paging.levels;

	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(c->s, word_paddr(node, i));

		if (word == 0 && !root)
			continue;
		run_word(c, node, i);
		if (audit_may_descend(c->s, word, level))
			full_words(c, pte_table_paddr(&c->s->paging, word), level - 1);
	}
}

static void
full_extents(struct check *c)
{
	const struct audit *a = c->audit;

	for (size_t i = 0; i < a->blocks_count; i++)
		run_block(c, &a->blocks[i], i + 1 < a->blocks_count ? &a->blocks[i + 1] : NULL);
	for (size_t i = 0; i < a->mmio_count; i++)
		run_mmio(c, &a->mmio[i],
			 i + 1 < a->mmio_count && a->mmio[i + 1].set == a->mmio[i].set ? &a->mmio[i + 1] : NULL);
	c->law = LAW_alloc_partition;
	for (uint64_t i = 0; i < c->s->vmalloc_count; i++) {
		uint64_t gap = audit_untiled(a, &c->s->vmalloc[i]);

		if (gap != 0)
			bad(c, gap, c->s->vmalloc[i].start, c->s->vmalloc[i].end);
	}
}

/* The root is designated by no word: judge it here for the laws about what is designated. */
static void
full_root(struct check *c)
{
	uint64_t root = c->s->live.kernel_root;

	if (root >= c->s->max_paddr || c->s->slot[root / PAGE].usage != USAGE_PAGETABLE) {
		c->law = LAW_pt_child_is_node;
		bad(c, root, USAGE_PAGETABLE, 0);
		return;
	}
	if (c->s->slot[root / PAGE].level != c->s->paging.levels) {
		c->law = LAW_pt_child_level;
		bad(c, root, c->s->paging.levels, c->s->slot[root / PAGE].level);
		return;
	}
	full_words(c, root, c->s->paging.levels);
}

void
laws_full(struct kvms *s, struct kvms_findings *f)
{
	struct audit audit;
	struct check c = { s, f, &audit, 0 };

	audit_make(s, &audit);
	for (uint64_t i = audit_next_slot(&audit, 0); i != BITMAP_NONE; i = audit_next_slot(&audit, i + 1))
		run_slot(&c, i);
	full_root(&c);
	for (uint64_t id = record_next(s, KVMS_ID_FRAME, 0); id != 0; id = record_next(s, KVMS_ID_FRAME, id + 1))
		run_frame(&c, id, FRAME(s, id));
	for (uint64_t id = record_next(s, KVMS_ID_SEGMENT, 0); id != 0; id = record_next(s, KVMS_ID_SEGMENT, id + 1))
		run_segment(&c, id, SEGMENT(s, id));
	for (uint64_t id = record_next(s, KVMS_ID_AREA, 0); id != 0; id = record_next(s, KVMS_ID_AREA, id + 1))
		run_area(&c, id, AREA(s, id));
	full_extents(&c);
	run_store(&c);
	audit_free(&audit);
}

bool
kvms_check_all(struct kvms *s, struct kvms_findings *findings)
{
	*findings = (struct kvms_findings){ .total = 0 };
	s->can_leave = true;
	if (setjmp(s->nomem) != 0)
		findings->total = 1; /* and no finding: the check could not be made */
	else
		laws_full(s, findings);
	s->can_leave = false;
	return findings->total == 0;
}
