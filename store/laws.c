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
#include "store/space.h"

#include <string.h>

enum law_number {
#define LAW_SLOT(symbol, name, text) LAW_##symbol,
#define LAW_WORD LAW_SLOT
#define LAW_FRAME LAW_SLOT
#define LAW_SEGMENT LAW_SLOT
#define LAW_AREA LAW_SLOT
#define LAW_UNIQUE LAW_SLOT
#define LAW_LIST LAW_SLOT
#define LAW_SPACE LAW_SLOT
#define LAW_CURSOR LAW_SLOT
#define LAW_VM_IO LAW_SLOT
#define LAW_IOMEM LAW_SLOT
#define LAW_ENTRY LAW_SLOT
#define LAW_CPU LAW_SLOT
#define LAW_KEPT LAW_SLOT
#define LAW_TLB LAW_SLOT
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
	struct tally users;  /* of the slot that is being judged */
	/* the last level-1 leaf found canonical: most leaves differ from the one before by their address only */
	bool known;
	uint64_t known_word;
	uint64_t known_prop;
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
	struct leaf leaf; /* if it is one */
	const struct kvms_range *range; /* of vmalloc, if it is a leaf of the kernel's in one */
	bool canonical;                 /* known to be */
};

static void
bad(struct check *c, uint64_t object, uint64_t want, uint64_t have)
{
	finding_add(c->findings, c->law, object, want, have);
}

/* Users of the slot that is being judged: recounted in a full check, else as kept. */
static void
users_read(struct check *c, uint64_t i)
{
	struct users u;

	if (c->audit != NULL) {
		c->users = audit_tally(c->audit, i);
		return;
	}
	u = slot_users(&c->s->slot[i]);
	c->users.handles = u.handles;
	c->users.mappings = u.mappings;
	c->users.covers = u.covers;
	c->users.kept = u.kept;
	c->users.unique = u.unique;
	c->users.listed = u.listed;
}

static uint64_t
counted(const struct tally *t)
{
	return (uint64_t)t->handles + t->mappings + t->covers + t->kept;
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
	const struct tally *t = &c->users;

	if ((t->handles | t->covers | t->unique | t->listed) != 0 && sl->usage != USAGE_FRAME)
		bad(c, i, USAGE_FRAME, sl->usage);
}

SLOT_LAW(acct_unused_has_no_users)
{
	if (slot_rc(sl) == KVMS_RC_UNUSED && counted(&c->users) != 0)
		bad(c, i, 0, counted(&c->users));
}

SLOT_LAW(acct_live_has_user)
{
	if (sl->usage == USAGE_FRAME && slot_is_shared(c->s, sl) && counted(&c->users) == 0)
		bad(c, i, slot_rc(sl), 0);
}

SLOT_LAW(acct_rc_exact)
{
	uint64_t n = counted(&c->users);

	if (sl->usage == USAGE_FRAME && n > 0 && slot_rc(sl) != n)
		bad(c, i, n, slot_rc(sl));
}

SLOT_LAW(acct_unique_one_owner)
{
	const struct tally *t = &c->users;
	uint64_t owners = (uint64_t)t->unique + t->listed;

	if (sl->usage == USAGE_FRAME && (owners > 1 || (slot_rc(sl) == KVMS_RC_UNIQUE) != (owners == 1)))
		bad(c, i, slot_rc(sl) == KVMS_RC_UNIQUE, owners);
}

SLOT_LAW(acct_unique_has_no_users)
{
	if (sl->usage == USAGE_FRAME && slot_rc(sl) == KVMS_RC_UNIQUE && counted(&c->users) != 0)
		bad(c, i, 0, counted(&c->users));
}

SLOT_LAW(acct_reserved_rc_one)
{
	if (sl->usage != USAGE_RESERVED && sl->usage != USAGE_META && sl->usage != USAGE_KERNEL)
		return;
	if (slot_rc(sl) != 1 || counted(&c->users) != 0)
		bad(c, i, 1, slot_rc(sl));
}

SLOT_LAW(meta_node_slot)
{
	bool has_record = sl->level != 0 || sl->nr_children != 0 || (sl->bits & SLOT_STRAY) != 0;

	if (sl->usage != USAGE_PAGETABLE ? has_record : sl->level == 0 || sl->level > c->s->paging.levels)
		bad(c, i, sl->usage, sl->level);
}

/* The space whose root a node is, or NULL. */
static const struct vm_space *
space_of_root(const struct kvms *s, uint64_t i)
{
	const struct slot *sl = &s->slot[i];
	const struct vm_space *space = sl->level == s->paging.levels ? VM_SPACE(s, sl->place_table - 1) : NULL;

	return space != NULL && space->root == i * PAGE ? space : NULL;
}

SLOT_LAW(meta_node_rc)
{
	const struct vm_space *space = space_of_root(c->s, i);
	uint64_t want = 1;

	if (sl->usage != USAGE_PAGETABLE)
		return;
	if (space != NULL)
		want += (uint64_t)__builtin_popcountll(space->cpus);
	if ((sl->bits & SLOT_STRAY) != 0) {
		if (c->audit == NULL)
			return; /* which queues keep it only a full check counts */
		want = audit_tally(c->audit, i).queues;
		if (want == 0)
			want = 1; /* inside the sub-tree */
	}
	if (slot_rc(sl) != want)
		bad(c, i, want, slot_rc(sl));
}

/*
 * How many of "count" words, a multiple of 16, have a bit of the mask.  It is
 * counted for every touched node, so four words at a time, which is twice as fast
 * where the machine compares them in one instruction, and four times that a turn.
 */
#if defined __x86_64__ && defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ && !defined __clang__
__attribute__((target_clones("avx2", "default")))
#endif
static unsigned
words_with(const uint64_t *word, unsigned count, uint64_t mask)
{
	typedef uint64_t four __attribute__((vector_size(32), aligned(8), may_alias));
	const four masks = { mask, mask, mask, mask }, none = { 0, 0, 0, 0 };
	const four *at = (const four *)(const void *)word, *end = at + count / 4;
	four absent = none, more = none;

	for (; at < end; at += 4) {
		absent += (four)((at[0] & masks) == none); /* all ones: -1 */
		more += (four)((at[1] & masks) == none);
		absent += (four)((at[2] & masks) == none);
		more += (four)((at[3] & masks) == none);
	}
	absent += more;
	return count + (unsigned)(absent[0] + absent[1] + absent[2] + absent[3]);
}

SLOT_LAW(pt_count_consistent)
{
	const uint64_t *word = (const uint64_t *)(const void *)(c->s->memory + i * PAGE);
	const uint64_t mask = c->s->paging.present;
	bool root = sl->level == c->s->paging.levels; /* a root counts its own half */
	bool kernel = i * PAGE == c->s->live.kernel_root;
	unsigned present, from = root && kernel ? NODE_ENTRIES / 2 : 0;
	unsigned end = root && !kernel ? NODE_ENTRIES / 2 : NODE_ENTRIES;

	if (sl->usage != USAGE_PAGETABLE)
		return;
	present = words_with(word + from, end - from, mask);
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
	struct tally t;

	if (sl->usage != USAGE_PAGETABLE)
		return;
	if (c->audit == NULL) {
		if ((sl->bits & SLOT_STRAY) == 0 && node_on_walk(c->s, sl) != i * PAGE)
			bad(c, i, 1, 0);
		return;
	}
	t = audit_tally(c->audit, i);
	if (t.designated == 0 && !t.detached)
		bad(c, i, 1, 0);
}

SLOT_LAW(pt_not_stray)
{
	bool stray = (sl->bits & SLOT_STRAY) != 0;

	if (sl->usage != USAGE_PAGETABLE)
		return;
	if (c->audit == NULL ? stray && node_on_walk(c->s, sl) == i * PAGE
			     : stray != (audit_tally(c->audit, i).detached != 0))
		bad(c, i, !stray, stray);
}

SLOT_LAW(lock_owner_live)
{
	if (slot_lock(sl) != 0 && CURSOR(c->s, slot_lock(sl)) == NULL)
		bad(c, i, 0, slot_lock(sl));
}

SLOT_LAW(lock_stray_unlocked)
{
	if (sl->usage == USAGE_PAGETABLE && (sl->bits & SLOT_STRAY) != 0 && slot_lock(sl) != 0)
		bad(c, i, 0, slot_lock(sl));
}

/* ---- Links: slots on a list ------------------------------------------------------ */

SLOT_LAW(list_in_list_iff_listed)
{
	if ((slot_in_list(sl) != 0) != (c->users.listed == 1))
		bad(c, i, c->users.listed, slot_in_list(sl));
}

SLOT_LAW(list_no_stray_links)
{
	if (sl->listed && LIST(c->s, sl->link_list) == NULL)
		bad(c, i, 0, sl->link_list);
}

SLOT_LAW(list_slot)
{
	const struct list *l = sl->listed ? LIST(c->s, sl->link_list) : NULL;

	if (!sl->listed)
		return;
	if (slot_rc(sl) != KVMS_RC_UNIQUE || sl->usage != USAGE_FRAME || sl->kind != KIND_LINK ||
	    (l != NULL && slot_in_list(sl) != l->tag))
		bad(c, i, l != NULL ? l->tag : 0, slot_in_list(sl));
}

/* The link of the same list at "at" (frame number + 1), or NULL. */
static const struct slot *
link_slot(const struct kvms *s, uint64_t list, uint64_t at)
{
	const struct slot *sl = at != 0 && at <= s->slots_count ? &s->slot[at - 1] : NULL;

	return sl != NULL && sl->listed && sl->link_list == list ? sl : NULL;
}

SLOT_LAW(list_wiring)
{
	const struct list *l = sl->listed ? LIST(c->s, sl->link_list) : NULL;
	const struct slot *prev, *next;

	if (l == NULL)
		return;
	prev = link_slot(c->s, sl->link_list, sl->link_prev);
	next = link_slot(c->s, sl->link_list, sl->link_next);
	if (sl->link_prev == 0 ? l->first != i + 1 : prev == NULL || prev->link_next != i + 1)
		bad(c, i, i + 1, sl->link_prev);
	if (sl->link_next == 0 ? l->last != i + 1 : next == NULL || next->link_prev != i + 1)
		bad(c, i, i + 1, sl->link_next);
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

/* True for the kernel half of a user root: copies of the kernel root's words. */
static bool
is_copy(const struct check *c, const struct place *p)
{
	return p->table != KERNEL_TABLE && p->level == c->s->paging.levels && p->index >= NODE_ENTRIES / 2;
}

WORD_LAW(pt_node_unique)
{
	const struct slot *child = child_slot(c, p);
	uint64_t index = pte_table_paddr(&c->s->paging, p->word) / PAGE;

	if (p->level == 1 || is_copy(c, p) || child == NULL || child->usage != USAGE_PAGETABLE)
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
	if (is_copy(c, p) && p->word != word_at(c->s, word_paddr(c->s->live.kernel_root, p->index)))
		bad(c, paddr, word_at(c->s, word_paddr(c->s->live.kernel_root, p->index)), p->word);
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
	uint64_t again = 0, lossy = 0;
	unsigned name = O_ok;

	if (p->canonical)
		return;
	if (p->kind == PTE_LEAF)
		name = pte_encode_leaf(&c->s->paging, &p->leaf, p->level, &again);
	else if (p->kind == PTE_TABLE)
		again = pte_encode_table(&c->s->paging, pte_table_paddr(&c->s->paging, p->word));
	if (p->kind == PTE_LEAF)
		lossy = pte_lossy_bits(&c->s->paging);
	if (name != O_ok || ((again ^ p->word) & ~lossy) != 0) {
		bad(c, paddr, again, p->word);
	} else if (c->audit != NULL && p->kind == PTE_LEAF && p->level == 1) {
		c->known = true;
		c->known_word = p->word;
		c->known_prop = p->leaf.prop;
	}
}

WORD_LAW(pt_leaf_level)
{
	unsigned most = p->table == KERNEL_TABLE ? c->s->paging.highest_leaf : 1;

	if (p->kind == PTE_LEAF && p->level > most)
		bad(c, paddr, most, p->level);
}

WORD_LAW(pt_leaf_aligned)
{
	if (p->kind == PTE_LEAF && pte_leaf_address(&c->s->paging, p->word, p->level) % page_size(p->level) != 0)
		bad(c, paddr, page_size(p->level), p->word);
}

static bool
place_tracked(const struct place *p, uint64_t *leaf_paddr)
{
	*leaf_paddr = p->leaf.paddr;
	return p->kind == PTE_LEAF && leaf_tracked(p->table, &p->leaf);
}

WORD_LAW(pt_tracked_leaf)
{
	uint64_t frame;

	if (!place_tracked(p, &frame))
		return;
	if (p->level != 1 || frame >= c->s->max_paddr || c->s->slot[frame / PAGE].usage != USAGE_FRAME ||
	    !slot_is_shared(c->s, &c->s->slot[frame / PAGE]))
		bad(c, paddr, 1, p->word);
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

	if (p->range == NULL)
		return;
	while (va != 0 && va < end)
		va = area_end_at(c, va);
	if (va == 0)
		bad(c, paddr, p->va, end);
}

WORD_LAW(area_boot_leaves)
{
	uint64_t frame;

	if (p->table == KERNEL_TABLE && p->range == NULL && place_tracked(p, &frame))
		bad(c, paddr, p->va, p->word);
}

/* True, and where it leads, for an untracked leaf of a user table. */
static bool
io_leaf(const struct place *p, uint64_t *leaf_paddr)
{
	return p->kind == PTE_LEAF && p->table != KERNEL_TABLE && !place_tracked(p, leaf_paddr);
}

WORD_LAW(pt_io_leaf_not_ram)
{
	uint64_t io;

	if (io_leaf(p, &io) && io < c->s->max_paddr)
		bad(c, paddr, c->s->max_paddr, io);
}

WORD_LAW(vspace_iomem_listed)
{
	const struct vm_space *space;
	uint64_t io, entry, left;

	if (!io_leaf(p, &io))
		return;
	space = VM_SPACE(c->s, p->table);
	left = space != NULL ? space->io_count : 0;
	for (entry = left > 0 ? space->io_first : 0; IO_ENTRY(c->s, entry) != NULL && left-- > 0;
	     entry = IO_ENTRY(c->s, entry)->next)
		if (io >= (IO_ENTRY(c->s, entry)->paddr & ~(uint64_t)(PAGE - 1)) &&
		    io < IO_ENTRY(c->s, entry)->paddr + IO_ENTRY(c->s, entry)->size)
			return;
	bad(c, paddr, 1, io);
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
	/* who names an area only a full check counts */
	if (c->audit != NULL && a->refs != audit_count(&c->audit->io_refs, id))
		bad(c, id, audit_count(&c->audit->io_refs, id), a->refs);
}

static void
law_region_unique_valid(struct check *c, uint64_t id, const struct unique *u)
{
	if (u->paddr % PAGE != 0 || u->paddr >= c->s->max_paddr)
		bad(c, id, c->s->max_paddr, u->paddr);
}

/* ---- Lists ------------------------------------------------------------------------------ */

static void
law_list_size(struct check *c, uint64_t id, const struct list *l)
{
	uint64_t reached = 0, at = l->first;

	if (c->audit == NULL)
		return; /* walking a list for each touch would make every op linear */
	for (; at != 0 && at <= c->s->slots_count && reached <= l->length && reached <= c->s->slots_count; reached++)
		at = c->s->slot[at - 1].listed ? c->s->slot[at - 1].link_next : 0;
	if (reached != l->length || audit_count(&c->audit->links, id) != l->length)
		bad(c, id, l->length, reached);
}

static void
law_list_tag(struct check *c, uint64_t id, const struct list *l)
{
	if (l->length > 0 && l->tag == 0)
		bad(c, id, 1, 0);
}

static void
law_list_tags_distinct(struct check *c, uint64_t id, const struct list *l)
{
	if (l->tag == 0)
		return;
	if (l->tag >= c->s->live.next_id[KVMS_ID_LIST_TAG] ||
	    (c->audit != NULL && audit_count(&c->audit->tags, l->tag) > 1))
		bad(c, id, c->s->live.next_id[KVMS_ID_LIST_TAG], l->tag);
}

static void
law_list_cursor(struct check *c, uint64_t id, const struct list *l)
{
	if (l->index > l->length || (!l->checked_out && l->index != 0))
		bad(c, id, l->length, l->index);
}

/* ---- Spaces and cursors ------------------------------------------------------------------- */

static void
law_vspace_handle_or_active(struct check *c, uint64_t id, const struct vm_space *v)
{
	if (!v->handle && v->cpus == 0)
		bad(c, id, 1, 0);
}

static void
law_vspace_iomem_owner(struct check *c, uint64_t id, const struct io_entry *e)
{
	if (VM_SPACE(c->s, e->space) == NULL)
		bad(c, id, 0, e->space);
}

static void
law_vspace_iomem_distinct(struct check *c, uint64_t id, const struct io_entry *e)
{
	const struct vm_space *space = VM_SPACE(c->s, e->space);
	uint64_t left = space != NULL ? space->io_count : 0;

	for (uint64_t other = e->next; IO_ENTRY(c->s, other) != NULL && left-- > 0; other = IO_ENTRY(c->s, other)->next)
		if (IO_ENTRY(c->s, other)->paddr == e->paddr && IO_ENTRY(c->s, other)->size == e->size)
			bad(c, id, 0, other);
}

static void
law_vspace_active_exists(struct check *c, uint64_t id, const struct cpu *cpu)
{
	if (cpu->active != 0 && VM_SPACE(c->s, cpu->active) == NULL)
		bad(c, id, 0, cpu->active);
}

static void
law_cursor_space_live(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	const struct vm_space *space = VM_SPACE(c->s, cur->space);

	if (space == NULL || !space->handle)
		bad(c, id, 1, cur->space);
}

static void
law_cursor_barrier(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (cur->start >= cur->end || cur->start % PAGE != 0 || cur->end % PAGE != 0 ||
	    cur->end - 1 > c->s->paging.user_last)
		bad(c, id, cur->start, cur->end);
}

static void
law_cursor_levels(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (cur->level < 1 || cur->level > cur->guard_level || cur->guard_level > c->s->paging.levels)
		bad(c, id, cur->guard_level, cur->level);
}

static void
law_cursor_va(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (cur->va < cur->start || cur->va > cur->end || cur->va % PAGE != 0)
		bad(c, id, cur->start, cur->va);
}

static bool
levels_ok(const struct kvms *s, const struct cursor_record *cur)
{
	return cur->level >= 1 && cur->level <= cur->guard_level && cur->guard_level <= s->paging.levels;
}

static void
law_cursor_guard_covers(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (levels_ok(c->s, cur) && ((cur->start ^ (cur->end - 1)) & ~(page_size((unsigned)cur->guard_level + 1) - 1)) != 0)
		bad(c, id, cur->guard_level, cur->end);
}

/* The node of a level on the walk to va in a table, NO_NODE if there is none. */
static uint64_t
walk_to(const struct kvms *s, uint64_t table, uint64_t va, unsigned level)
{
	struct slot place = { .place_table = (uint32_t)table + 1, .place_va = va, .level = (uint8_t)level };

	return node_on_walk(s, &place);
}

static void
law_cursor_guard_node(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (levels_ok(c->s, cur) &&
	    walk_to(c->s, cur->space, cur->start, (unsigned)cur->guard_level) != cur->path[cur->guard_level])
		bad(c, id, walk_to(c->s, cur->space, cur->start, (unsigned)cur->guard_level),
		    cur->path[cur->guard_level]);
}

static void
law_cursor_path(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	if (!levels_ok(c->s, cur) || cur->va >= cur->end)
		return;
	for (unsigned k = (unsigned)cur->level; k <= cur->guard_level; k++)
		if (walk_to(c->s, cur->space, cur->va, k) != cur->path[k])
			bad(c, id, walk_to(c->s, cur->space, cur->va, k), cur->path[k]);
}

/* Below 32 pages in total; "all" has an empty list. */
static bool
stack_ok(const struct flush_stack *stack)
{
	uint64_t pages = 0;

	if (stack->count > FLUSH_PAGES - 1 || (stack->all && stack->count != 0))
		return false;
	for (uint64_t i = 0; i < stack->count; i++)
		pages += stack->op[i].pages;
	return pages < FLUSH_PAGES;
}

static void
law_cursor_flusher(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	const struct flusher *f = FLUSHER(c->s, id);

	if (f == NULL)
		return;
	if (!cur->mutable || !stack_ok(&f->stack) || (c->s->ncpu < 64 && f->sent >> c->s->ncpu != 0))
		bad(c, id, cur->mutable, f->sent);
}

/* Nodes below one that meet [start, last]: how many the cursor holds, and how many it does not. */
static void
count_locked(const struct kvms *s, uint64_t node, unsigned level, uint64_t start, uint64_t last, uint64_t lock,
	     uint64_t *held, uint64_t *free_nodes)
{
	for (unsigned i = entry_index(start, level); level > 1 && i <= entry_index(last, level); i++) {
		uint64_t word = word_at(s, word_paddr(node, i)), child = pte_table_paddr(&s->paging, word);
		uint64_t at = (start & ~(page_size(level + 1) - 1)) + i * page_size(level);
		uint64_t at_last = at + (page_size(level) - 1);

		if (!audit_may_descend(s, word, level))
			continue;
		if (slot_lock(&s->slot[child / PAGE]) == lock)
			(*held)++;
		else
			(*free_nodes)++;
		count_locked(s, child, level - 1, at > start ? at : start, at_last < last ? at_last : last, lock, held,
			     free_nodes);
	}
}

static void
law_lock_subtree_exact(struct check *c, uint64_t id, const struct cursor_record *cur)
{
	uint64_t held = 0, free_nodes = 0, guard;

	if (!levels_ok(c->s, cur) || cur->start >= cur->end)
		return;
	guard = cur->path[cur->guard_level];
	if (guard >= c->s->max_paddr || guard % PAGE != 0 || c->s->slot[guard / PAGE].usage != USAGE_PAGETABLE)
		return;
	held = slot_lock(&c->s->slot[guard / PAGE]) == id;
	free_nodes = !held;
	if (c->audit == NULL) {
		/* what else it holds a touched check cannot know, and a large range has many nodes */
		if (!held)
			bad(c, id, id, slot_lock(&c->s->slot[guard / PAGE]));
		return;
	}
	count_locked(c->s, guard, (unsigned)cur->guard_level, cur->start, cur->end - 1, id, &held, &free_nodes);
	if (free_nodes != 0 || held != audit_count(&c->audit->locks, id))
		bad(c, id, audit_count(&c->audit->locks, id), held);
}

/* ---- Readers, writers, I/O memory ------------------------------------------------------------ */

static void
law_io_window(struct check *c, uint64_t id, const struct vm_io *io)
{
	if (io->va > io->end)
		bad(c, id, io->end, io->va);
}

static void
law_io_user_handle(struct check *c, uint64_t id, const struct vm_io *io)
{
	const struct vm_space *space = io->space != 0 ? VM_SPACE(c->s, io->space) : NULL;

	if (io->space != 0 && (space == NULL || !space->handle || io->end > c->s->paging.user_end || !io->fallible))
		bad(c, id, io->space, io->end);
}

static void
law_io_kernel_range(struct check *c, uint64_t id, const struct vm_io *io)
{
	if (io->space == 0 && io->va < io->end && (io->va < c->s->paging.space_base || io->end > KERNEL_END_VADDR))
		bad(c, id, c->s->paging.space_base, io->va);
}

static void
law_io_iomem_area(struct check *c, uint64_t id, const struct iomem *m)
{
	const struct area *area = AREA(c->s, m->area);

	if (area == NULL || area->refs == 0 || m->offset > area->end - area->start ||
	    m->size > area->end - area->start - m->offset)
		bad(c, id, m->area, m->size);
}

static void
law_io_iomem_phys(struct check *c, uint64_t id, const struct iomem *m)
{
	uint64_t memory_end = (c->s->max_paddr + 0xfffff) & ~UINT64_C(0xfffff), end = m->paddr + m->size;
	uint64_t high_start = memory_end > 4 * GiB ? memory_end : 4 * GiB;
	bool low = m->paddr >= memory_end && end <= 4 * GiB, high = m->paddr >= high_start && end <= c->s->mmio_end;

	if (m->size > UINT64_MAX - m->paddr || !(low || high))
		bad(c, id, memory_end, m->paddr);
}

/* ---- TLB --------------------------------------------------------------------------------------- */

static void
law_tlb_shape(struct check *c, uint64_t id, const struct tlb_entry *t)
{
	if (t->cpu >= c->s->ncpu || t->size == 0 || (t->size & (t->size - 1)) != 0 || (t->va | t->paddr) % t->size != 0)
		bad(c, id, t->size, t->va);
}

static void
law_tlb_va_disjoint(struct check *c, uint64_t id, const struct tlb_entry *t)
{
	const struct extent *next;

	if (t->cpu >= c->s->ncpu)
		return;
	next = extent_from(c->s, (enum extent_set)(SET_TLB + t->cpu), t->va + 1);
	if (next != NULL && next->start - t->va < t->size)
		bad(c, id, t->va, next->start);
}

static void
law_tlb_active_only(struct check *c, uint64_t id, const struct tlb_entry *t)
{
	if (t->cpu < c->s->ncpu && t->table != KERNEL_TABLE && CPU(c->s, t->cpu)->active != t->table)
		bad(c, id, CPU(c->s, t->cpu)->active, t->table);
}

static void
law_tlb_live(struct check *c, uint64_t id, const struct tlb_entry *t)
{
	const struct slot *sl;

	if (t->table == KERNEL_TABLE || !t->tracked)
		return;
	sl = t->paddr < c->s->max_paddr ? &c->s->slot[t->paddr / PAGE] : NULL;
	if (sl == NULL || sl->usage != USAGE_FRAME || !slot_is_shared(c->s, sl))
		bad(c, id, USAGE_FRAME, t->paddr);
}

static void
law_tlb_backed(struct check *c, uint64_t id, const struct tlb_entry *t)
{
	if (t->cpu < c->s->ncpu && t->table != KERNEL_TABLE && !tlb_is_backed(c->s, t))
		bad(c, id, t->va, t->paddr);
}

static void
law_tlb_queue(struct check *c, uint64_t id, const struct cpu *cpu)
{
	bool queued = cpu->queue.all || cpu->queue.count != 0 || cpu->kept_count != 0;

	if (!stack_ok(&cpu->queue) || (queued && !cpu->ipi))
		bad(c, id, queued, cpu->ipi);
}

static void
law_tlb_keep_alive(struct check *c, uint64_t id, const struct kept *k)
{
	bool fits = k->paddr < c->s->max_paddr && k->paddr % PAGE == 0;
	const struct slot *sl = fits ? &c->s->slot[k->paddr / PAGE] : NULL;

	if (sl == NULL || (k->is_node ? sl->usage != USAGE_PAGETABLE
				      : sl->usage != USAGE_FRAME || !slot_is_shared(c->s, sl)))
		bad(c, id, k->is_node, k->paddr);
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
	uint64_t high = e->set == SET_FREE_MMIO0 ? 4 * GiB : c->s->mmio_end;
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
	for (unsigned kind = KVMS_ID_FRAME; kind < KVMS_ID_LIST_TAG; kind++) {
		uint64_t next = c->s->live.next_id[kind];

		if (record_at(c->s, kind, 0) != NULL)
			bad(c, 0, 1, 0);
		for (uint64_t id = record_next(c->s, kind, next); id != 0; id = record_next(c->s, kind, id + 1))
			bad(c, id, next, id);
	}
}

static void
law_self_digest(struct check *c)
{
	uint64_t kept = digest_kept(c->s), again = c->audit->slots_sum + digest_but_slots(c->s);

	if (kept != again)
		bad(c, 0, again, kept);
}

/* The part of it about one slot, whose users have just been recounted. */
static void
slot_counters(struct check *c, uint64_t i)
{
	const struct kvms *s = c->s;
	const struct slot *sl = &s->slot[i];
	const struct tally *t = &c->users;
	struct users u = slot_users(sl);
	bool is_default = slot_is_default(sl);

	c->law = LAW_self_counters;
	if (t->handles != u.handles || t->mappings != u.mappings || t->covers != u.covers || t->kept != u.kept ||
	    t->unique != u.unique || t->listed != u.listed)
		bad(c, i, counted(t), (uint64_t)u.handles + u.mappings + u.covers + u.kept);
	else if (bitmap_test(&s->used, i) == is_default)
		bad(c, i, !is_default, is_default);
	else if (sl->usage == USAGE_FRAME && !sl->listed && rmap_count(s, i) != t->mappings)
		bad(c, i, t->mappings, rmap_count(s, i));
}

/* ... and about a leaf: its frame's reverse mappings name it.  As many as there are leaves, so they name no other. */
static void
leaf_is_known(struct check *c, const struct place *p)
{
	const struct slot *sl;
	uint64_t frame;

	if (!place_tracked(p, &frame) || frame >= c->s->max_paddr)
		return;
	/* in a group, whose steps wait with more buckets, the chains may be too long to look into for every leaf */
	if (c->s->live.extra_mappings / 4 > c->s->buckets)
		return;
	sl = &c->s->slot[frame / PAGE];
	c->law = LAW_self_counters;
	if (sl->usage == USAGE_FRAME && !sl->listed && !rmap_has(c->s, frame / PAGE, p->table, p->va))
		bad(c, frame / PAGE, p->va, 0);
}

static void
law_self_counters(struct check *c)
{
	const struct kvms *s = c->s;

	for (unsigned i = 0; i < sizeof s->live.totals.at / sizeof s->live.totals.at[0]; i++)
		if (c->audit->totals.at[i] != s->live.totals.at[i])
			bad(c, (UINT64_C(1) << 63) + i, c->audit->totals.at[i], s->live.totals.at[i]);
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		if (!audit_space_matches(c->audit, id))
			bad(c, (UINT64_C(1) << 63) + TOTAL_INDEX(vm_spaces), id, 0);
	if (!audit_kept_matches(c->audit) || !audit_tlb_matches(c->audit))
		bad(c, (UINT64_C(1) << 63) + TOTAL_INDEX(tlb_entries), 0, 0);
	if (!audit_index_matches(c->audit))
		bad(c, (UINT64_C(1) << 63) + TOTAL_INDEX(areas), 0, 0);
}

/* ---- Running all laws of a domain ------------------------------------------------------------- */

#undef LAW_WORD
#undef LAW_FRAME
#undef LAW_SEGMENT
#undef LAW_AREA
#undef LAW_UNIQUE
#undef LAW_LIST
#undef LAW_SPACE
#undef LAW_CURSOR
#undef LAW_VM_IO
#undef LAW_IOMEM
#undef LAW_ENTRY
#undef LAW_CPU
#undef LAW_KEPT
#undef LAW_TLB
#undef LAW_BLOCK
#undef LAW_TILES
#undef LAW_MMIO
#undef LAW_STORE
#define LAW_SLOT(symbol, name, text)
#define LAW_WORD(symbol, name, text)
#define LAW_FRAME(symbol, name, text)
#define LAW_SEGMENT(symbol, name, text)
#define LAW_AREA(symbol, name, text)
#define LAW_UNIQUE(symbol, name, text)
#define LAW_LIST(symbol, name, text)
#define LAW_SPACE(symbol, name, text)
#define LAW_CURSOR(symbol, name, text)
#define LAW_VM_IO(symbol, name, text)
#define LAW_IOMEM(symbol, name, text)
#define LAW_ENTRY(symbol, name, text)
#define LAW_CPU(symbol, name, text)
#define LAW_KEPT(symbol, name, text)
#define LAW_TLB(symbol, name, text)
#define LAW_BLOCK(symbol, name, text)
#define LAW_TILES(symbol, name, text)
#define LAW_MMIO(symbol, name, text)
#define LAW_STORE(symbol, name, text)
#define RUN(symbol, ...) c->law = LAW_##symbol, law_##symbol(c, __VA_ARGS__)

/* What laws look at; s->judged is a set of them. */
enum domain {
	DOMAIN_SLOT,
	DOMAIN_WORD,
	DOMAIN_FRAME,
	DOMAIN_SEGMENT,
	DOMAIN_UNIQUE,
	DOMAIN_LIST,
	DOMAIN_SPACE,
	DOMAIN_CURSOR,
	DOMAIN_AREA,
	DOMAIN_VM_IO,
	DOMAIN_IOMEM,
	DOMAIN_ENTRY,
	DOMAIN_CPU,
	DOMAIN_KEPT,
	DOMAIN_TLB,
	DOMAIN_BLOCK,
	DOMAIN_MMIO,
	DOMAIN_TILES,
	DOMAIN_STORE,
	DOMAINS
};
#define DOMAIN_BIT(domain) (UINT32_C(1) << DOMAIN_##domain)

static void
run_slot(struct check *c, uint64_t i)
{
	const struct slot *sl = &c->s->slot[i];

	users_read(c, i);
	c->s->judged |= DOMAIN_BIT(SLOT);
#undef LAW_SLOT
#define LAW_SLOT(symbol, name, text) RUN(symbol, i, sl);
#include "store/invariants.def"
#undef LAW_SLOT
#define LAW_SLOT(symbol, name, text)
}

/* True for a leaf like the last one, of another frame: then it means the same, and is as canonical. */
static bool
differs_by_address(const struct check *c, const struct place *p)
{
	uint64_t differs = p->word ^ c->known_word;

	return c->known && p->level == 1 && pte_table_paddr(&c->s->paging, p->word) < c->s->max_paddr &&
	       (differs & ~pte_address_bits(&c->s->paging)) == 0;
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

	if (place.kind == PTE_LEAF) {
		place.canonical = differs_by_address(c, &place);
		if (place.canonical) {
			place.leaf = pte_decode_frame(&c->s->paging, word, sl->level);
			place.leaf.prop = c->known_prop;
		} else {
			place.leaf = pte_decode_leaf(&c->s->paging, word, sl->level);
		}
		place.range = place.table == KERNEL_TABLE ? vmalloc_of(c->s, place.va) : NULL;
	}
	c->s->judged |= DOMAIN_BIT(WORD);
#undef LAW_WORD
#define LAW_WORD(symbol, name, text) RUN(symbol, paddr, &place);
#include "store/invariants.def"
#undef LAW_WORD
#define LAW_WORD(symbol, name, text)
	if (c->audit != NULL)
		leaf_is_known(c, &place);
}

static void
run_frame(struct check *c, uint64_t id, const void *record)
{
	const struct frame *r = record;

	c->s->judged |= DOMAIN_BIT(FRAME);
#undef LAW_FRAME
#define LAW_FRAME(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_FRAME
#define LAW_FRAME(symbol, name, text)
}

static void
run_segment(struct check *c, uint64_t id, const void *record)
{
	const struct segment *r = record;

	c->s->judged |= DOMAIN_BIT(SEGMENT);
#undef LAW_SEGMENT
#define LAW_SEGMENT(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_SEGMENT
#define LAW_SEGMENT(symbol, name, text)
}

static void
run_unique(struct check *c, uint64_t id, const void *record)
{
	const struct unique *r = record;

	c->s->judged |= DOMAIN_BIT(UNIQUE);
#undef LAW_UNIQUE
#define LAW_UNIQUE(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_UNIQUE
#define LAW_UNIQUE(symbol, name, text)
}

static void
run_list(struct check *c, uint64_t id, const void *record)
{
	const struct list *r = record;

	c->s->judged |= DOMAIN_BIT(LIST);
#undef LAW_LIST
#define LAW_LIST(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_LIST
#define LAW_LIST(symbol, name, text)
}

static void
run_space(struct check *c, uint64_t id, const void *record)
{
	const struct vm_space *r = record;

	c->s->judged |= DOMAIN_BIT(SPACE);
#undef LAW_SPACE
#define LAW_SPACE(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_SPACE
#define LAW_SPACE(symbol, name, text)
}

static void
run_cursor(struct check *c, uint64_t id, const void *record)
{
	const struct cursor_record *r = record;

	c->s->judged |= DOMAIN_BIT(CURSOR);
#undef LAW_CURSOR
#define LAW_CURSOR(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_CURSOR
#define LAW_CURSOR(symbol, name, text)
}

static void
run_area(struct check *c, uint64_t id, const void *record)
{
	const struct area *r = record;

	c->s->judged |= DOMAIN_BIT(AREA);
#undef LAW_AREA
#define LAW_AREA(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_AREA
#define LAW_AREA(symbol, name, text)
}

static void
run_vm_io(struct check *c, uint64_t id, const void *record)
{
	const struct vm_io *r = record;

	c->s->judged |= DOMAIN_BIT(VM_IO);
#undef LAW_VM_IO
#define LAW_VM_IO(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_VM_IO
#define LAW_VM_IO(symbol, name, text)
}

static void
run_iomem(struct check *c, uint64_t id, const void *record)
{
	const struct iomem *r = record;

	c->s->judged |= DOMAIN_BIT(IOMEM);
#undef LAW_IOMEM
#define LAW_IOMEM(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_IOMEM
#define LAW_IOMEM(symbol, name, text)
}

static void
run_entry(struct check *c, uint64_t id, const void *record)
{
	const struct io_entry *r = record;

	c->s->judged |= DOMAIN_BIT(ENTRY);
#undef LAW_ENTRY
#define LAW_ENTRY(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_ENTRY
#define LAW_ENTRY(symbol, name, text)
}

static void
run_cpu(struct check *c, uint64_t id, const void *record)
{
	const struct cpu *r = record;

	c->s->judged |= DOMAIN_BIT(CPU);
#undef LAW_CPU
#define LAW_CPU(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_CPU
#define LAW_CPU(symbol, name, text)
}

static void
run_kept(struct check *c, uint64_t id, const void *record)
{
	const struct kept *r = record;

	c->s->judged |= DOMAIN_BIT(KEPT);
#undef LAW_KEPT
#define LAW_KEPT(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_KEPT
#define LAW_KEPT(symbol, name, text)
}

static void
run_tlb(struct check *c, uint64_t id, const void *record)
{
	const struct tlb_entry *r = record;

	c->s->judged |= DOMAIN_BIT(TLB);
#undef LAW_TLB
#define LAW_TLB(symbol, name, text) RUN(symbol, id, r);
#include "store/invariants.def"
#undef LAW_TLB
#define LAW_TLB(symbol, name, text)
}

/* The laws of a record, by its kind. */
static void (*const run_record[REC_KINDS])(struct check *, uint64_t, const void *) = {
	[KVMS_ID_FRAME] = run_frame,	[KVMS_ID_SEGMENT] = run_segment, [KVMS_ID_UNIQUE] = run_unique,
	[KVMS_ID_LIST] = run_list,	[KVMS_ID_VM_SPACE] = run_space,	 [KVMS_ID_CURSOR] = run_cursor,
	[KVMS_ID_AREA] = run_area,	[KVMS_ID_READER] = run_vm_io,	 [KVMS_ID_WRITER] = run_vm_io,
	[KVMS_ID_IOMEM] = run_iomem,	[REC_IO_ENTRY] = run_entry,	 [REC_CPU] = run_cpu,
	[REC_KEPT] = run_kept,		[REC_TLB] = run_tlb,
};

static void
run_block(struct check *c, const struct extent *e, const struct extent *next)
{
	c->s->judged |= DOMAIN_BIT(BLOCK);
#undef LAW_BLOCK
#define LAW_BLOCK(symbol, name, text) RUN(symbol, e->start, e, next);
#include "store/invariants.def"
#undef LAW_BLOCK
#define LAW_BLOCK(symbol, name, text)
}

static void
run_mmio(struct check *c, const struct extent *e, const struct extent *next)
{
	c->s->judged |= DOMAIN_BIT(MMIO);
#undef LAW_MMIO
#define LAW_MMIO(symbol, name, text) RUN(symbol, e->start, e, next);
#include "store/invariants.def"
#undef LAW_MMIO
#define LAW_MMIO(symbol, name, text)
}

static void
run_tiles(struct check *c, uint64_t start, uint64_t end)
{
	c->s->judged |= DOMAIN_BIT(TILES);
#undef LAW_TILES
#define LAW_TILES(symbol, name, text) RUN(symbol, start, end);
#include "store/invariants.def"
#undef LAW_TILES
#define LAW_TILES(symbol, name, text)
}

static void
run_store(struct check *c)
{
	c->s->judged |= DOMAIN_BIT(STORE);
#undef LAW_STORE
#define LAW_STORE(symbol, name, text) c->law = LAW_##symbol, law_##symbol(c);
#include "store/invariants.def"
#undef LAW_STORE
#define LAW_STORE(symbol, name, text)
}

/* ---- Touched ------------------------------------------------------------------------------------ */

/*
 * What an area owned that has ended or changed: its addresses are free or in one now, and so
 * are its leaves, of which the first that is in none is judged.
 */
static void
touched_former_area(struct check *c, const struct undo_entry *saved)
{
	const struct area *now = AREA(c->s, saved->key);
	uint64_t at, va = 0, node = table_root(c->s, KERNEL_TABLE), child;
	unsigned level = c->s->paging.levels;
	const struct extent *free;
	struct area old;

	memcpy(&old, c->s->undo.bytes + saved->old, sizeof old);
	at = old.start;
	if (!old.head.live || old.start >= old.end || (now != NULL && now->start == old.start && now->end == old.end))
		return;
	free = extent_below(c->s, SET_FREE_VA, at);
	if ((free == NULL || free->end <= at) && area_end_at(c, at) == 0 && vmalloc_of(c->s, at) != NULL) {
		c->law = LAW_alloc_partition;
		bad(c, at, at, 0);
	}
	do {
		if (at >= old.end || !leaf_in_range(c->s, KERNEL_TABLE, at, old.end, &va))
			return;
		/* a large leaf may begin below */
	} while ((at = area_end_at(c, va > at ? va : at)) != 0);
	while ((child = child_of(c->s, word_at(c->s, word_paddr(node, entry_index(va, level))), level)) != NO_NODE) {
		node = child;
		level--;
	}
	run_word(c, node, entry_index(va, level));
}

static void
touched_record(struct check *c, unsigned kind, uint64_t id)
{
	const void *record = record_at(c->s, kind, id);

	if (record == NULL)
		return;
	if (run_record[kind] != NULL)
		run_record[kind](c, id, record);
	if (kind == REC_FLUSHER && CURSOR(c->s, id) != NULL)
		run_cursor(c, id, CURSOR(c->s, id));
	if (kind == KVMS_ID_AREA)
		run_tiles(c, ((const struct area *)record)->start, ((const struct area *)record)->end);
}

static void
run_free(struct check *c, const struct extent *e)
{
	const struct extent *next = extent_from(c->s, e->set, e->start + 1);

	if (e->set == SET_FREE_VA)
		run_block(c, e, next);
	else
		run_mmio(c, e, next);
}

static bool
is_free_range(const struct extent *e)
{
	return e->live && e->set != SET_AREAS && e->set < SET_TLB;
}

/* The free range below has another neighbour. */
static void
touched_below(struct check *c, const struct extent *e)
{
	const struct extent *below = e->start > 0 ? extent_below(c->s, e->set, e->start - 1) : NULL;

	if (below != NULL)
		run_free(c, below);
}

/* A free range that came, went or changed.  Those that only hang elsewhere in the tree are not touched. */
static void
touched_extent(struct check *c, const struct undo_entry *saved)
{
	const struct extent *e = extent_at(c->s, (uint32_t)saved->key);
	struct extent old;

	memcpy(&old, c->s->undo.bytes + saved->old, sizeof old);
	if (e->live == old.live && e->start == old.start && e->end == old.end && e->set == old.set)
		return;
	if (is_free_range(&old))
		touched_below(c, &old);
	if (!is_free_range(e))
		return;
	if (!is_free_range(&old) || old.start != e->start)
		touched_below(c, e);
	run_free(c, e);
	if (e->set == SET_FREE_VA)
		run_tiles(c, e->start, e->end);
}

static void
touched_word(struct check *c, uint64_t paddr)
{
	uint64_t node = paddr & ~(uint64_t)(PAGE - 1);

	if (c->s->slot[node / PAGE].usage == USAGE_PAGETABLE)
		run_word(c, node, (unsigned)(paddr % PAGE / 8));
}

static void
touched(struct check *c, const struct undo_entry *e)
{
	switch ((enum undo_type)e->type) {
	case UNDO_WORD:
		touched_word(c, e->key);
		break;
	case UNDO_SLOT:
		run_slot(c, e->key);
		break;
	case UNDO_RECORD:
		touched_record(c, e->which, e->key);
		if (e->which == KVMS_ID_AREA)
			touched_former_area(c, e);
		break;
	case UNDO_POOL:
		if (e->which == POOL_EXTENT)
			touched_extent(c, e);
		break;
	}
}

#define SEEN 256u
#define FEW 16u

/* A large step touches the same objects often: not again what was judged a moment ago. */
static void
many_touched(struct check *c, const struct undo_entry *entry, size_t count)
{
	uint64_t seen[SEEN] = { 0 };

	for (size_t i = 0; i < count; i++) {
		const struct undo_entry *e = &entry[i];
		uint64_t name = undo_name((enum undo_type)e->type, e->which, e->key);

		if (seen[(e->key ^ e->key >> 9) % SEEN] == name)
			continue;
		seen[(e->key ^ e->key >> 9) % SEEN] = name;
		touched(c, e);
	}
}

void
laws_touched(struct kvms *s, struct kvms_findings *f)
{
	struct check c = { .s = s, .findings = f };
	size_t count = s->undo.count - s->undo.mark;

	if (count > FEW)
		many_touched(&c, &s->undo.entry[s->undo.mark], count);
	else
		for (size_t i = s->undo.mark; i < s->undo.count; i++)
			touched(&c, &s->undo.entry[i]);
}

/* ---- Full ---------------------------------------------------------------------------------------- */

static void
full_words(struct check *c, uint64_t table, uint64_t node, unsigned level)
{
	bool root = level == c->s->paging.levels;

	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(c->s, word_paddr(node, i));

		if (i + AHEAD < NODE_ENTRIES)
			slot_ahead(c->s, pte_leaf_address(&c->s->paging, word_at(c->s, word_paddr(node, i + AHEAD)), level));
		if (word == 0 && !root)
			continue;
		run_word(c, node, i);
		if (root && table != KERNEL_TABLE && i >= NODE_ENTRIES / 2)
			continue; /* the kernel's nodes */
		if (audit_may_descend(c->s, word, level))
			full_words(c, table, pte_table_paddr(&c->s->paging, word), level - 1);
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

/* A root is designated by no word: judge it here for the laws about what is designated. */
static void
full_table(struct check *c, uint64_t table)
{
	uint64_t root = table_root(c->s, table);

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
	full_words(c, table, root, c->s->paging.levels);
}

/*
 * An adopted image: the laws that page tables of any kernel keep.  What breaks
 * them was found when it was made; bits that the hardware reserves are no law.
 */
static void
laws_foreign(const struct kvms_adopted *known, struct kvms_findings *f)
{
	static const unsigned law_of[KVMS_FLAWS] = {
		[KVMS_FLAW_OUTSIDE] = LAW_pt_child_is_node,
		[KVMS_FLAW_MISSING] = LAW_pt_child_is_node,
		[KVMS_FLAW_TWO_LEVELS] = LAW_pt_child_level,
		[KVMS_FLAW_LEVEL1] = LAW_pt_level1_has_no_child,
		[KVMS_FLAW_LEAF_LEVEL] = LAW_pt_leaf_level,
		[KVMS_FLAW_ALIGNMENT] = LAW_pt_leaf_aligned,
		[KVMS_FLAW_RESERVED] = LAWS,
	};
	uint64_t told = 0, total = 0;

	for (unsigned i = 0; i < known->places; i++)
		if (law_of[known->place[i].flaw] != LAWS) {
			finding_add(f, law_of[known->place[i].flaw], known->place[i].paddr, known->place[i].level,
				    known->place[i].word);
			told++;
		}
	for (unsigned flaw = 0; flaw < KVMS_FLAWS; flaw++)
		total += law_of[flaw] != LAWS ? known->count[flaw] : 0;
	f->total += total - told;
}

void
laws_full(struct kvms *s, struct kvms_findings *f)
{
	struct audit audit;
	struct check c = { .s = s, .findings = f, .audit = &audit };

	if (s->foreign != NULL) {
		laws_foreign(kvms_adopted(s), f);
		return;
	}

	audit_make(s, &audit);
	for (uint64_t i = audit_next_slot(&audit, 0); i != BITMAP_NONE; i = audit_next_slot(&audit, i + 1)) {
		audit_slot(&audit, i);
		run_slot(&c, i);
		slot_counters(&c, i);
	}
	audit_slots_end(&audit);
	full_table(&c, KERNEL_TABLE);
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 0); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		full_table(&c, id);
	for (unsigned kind = 0; kind < REC_KINDS; kind++)
		for (uint64_t id = run_record[kind] != NULL ? record_next(s, kind, 0) : 0; id != 0;
		     id = record_next(s, kind, id + 1))
			run_record[kind](&c, id, record_at(s, kind, id));
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

/* ---- Which laws were evaluated ------------------------------------------------------------------- */

static const uint8_t law_domain[LAWS] = {
#undef LAW_SLOT
#define LAW_SLOT(symbol, name, text) [LAW_##symbol] = DOMAIN_SLOT,
#undef LAW_WORD
#define LAW_WORD(symbol, name, text) [LAW_##symbol] = DOMAIN_WORD,
#undef LAW_FRAME
#define LAW_FRAME(symbol, name, text) [LAW_##symbol] = DOMAIN_FRAME,
#undef LAW_SEGMENT
#define LAW_SEGMENT(symbol, name, text) [LAW_##symbol] = DOMAIN_SEGMENT,
#undef LAW_UNIQUE
#define LAW_UNIQUE(symbol, name, text) [LAW_##symbol] = DOMAIN_UNIQUE,
#undef LAW_LIST
#define LAW_LIST(symbol, name, text) [LAW_##symbol] = DOMAIN_LIST,
#undef LAW_SPACE
#define LAW_SPACE(symbol, name, text) [LAW_##symbol] = DOMAIN_SPACE,
#undef LAW_CURSOR
#define LAW_CURSOR(symbol, name, text) [LAW_##symbol] = DOMAIN_CURSOR,
#undef LAW_AREA
#define LAW_AREA(symbol, name, text) [LAW_##symbol] = DOMAIN_AREA,
#undef LAW_VM_IO
#define LAW_VM_IO(symbol, name, text) [LAW_##symbol] = DOMAIN_VM_IO,
#undef LAW_IOMEM
#define LAW_IOMEM(symbol, name, text) [LAW_##symbol] = DOMAIN_IOMEM,
#undef LAW_ENTRY
#define LAW_ENTRY(symbol, name, text) [LAW_##symbol] = DOMAIN_ENTRY,
#undef LAW_CPU
#define LAW_CPU(symbol, name, text) [LAW_##symbol] = DOMAIN_CPU,
#undef LAW_KEPT
#define LAW_KEPT(symbol, name, text) [LAW_##symbol] = DOMAIN_KEPT,
#undef LAW_TLB
#define LAW_TLB(symbol, name, text) [LAW_##symbol] = DOMAIN_TLB,
#undef LAW_BLOCK
#define LAW_BLOCK(symbol, name, text) [LAW_##symbol] = DOMAIN_BLOCK,
#undef LAW_MMIO
#define LAW_MMIO(symbol, name, text) [LAW_##symbol] = DOMAIN_MMIO,
#undef LAW_TILES
#define LAW_TILES(symbol, name, text) [LAW_##symbol] = DOMAIN_TILES,
#undef LAW_STORE
#define LAW_STORE(symbol, name, text) [LAW_##symbol] = DOMAIN_STORE,
#include "store/invariants.def"
};

void
kvms_laws_judged(struct kvms *s, uint64_t set[4])
{
	memset(set, 0, 4 * sizeof *set);
	for (unsigned law = 0; law < LAWS; law++)
		if ((s->judged >> law_domain[law] & 1) != 0)
			set[law / 64] |= UINT64_C(1) << law % 64;
	s->judged = 0;
}
