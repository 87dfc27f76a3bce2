/*
 * Inspection requests (docs/ops.md).  They read; the only thing they may write
 * is the answer and the store's scratch memory.
 */
#include "store/area.h"
#include "store/dump.h"
#include "store/foreign.h"
#include "store/space.h"

#include <stdlib.h>
#include <string.h>

uint64_t *
scratch_need(struct kvms *s, size_t words)
{
	s->scratch = grow(s, s->scratch, &s->scratch_capacity, words, sizeof *s->scratch);
	return s->scratch;
}

void
payload_add(struct kvms *s, struct kvms_outcome *out, const uint64_t *words, unsigned count)
{
	if (count == 0)
		return;
	out->list = grow(s, out->list, &out->list_capacity, out->list_count + count, sizeof *out->list);
	memcpy(out->list + out->list_count, words, count * sizeof *words);
	out->list_count += count;
}

unsigned char *
payload_bytes(struct kvms *s, struct kvms_outcome *out, uint64_t size)
{
	size_t words = (size_t)(size + 7) / 8;
	unsigned char *at;

	out->list = grow(s, out->list, &out->list_capacity, out->list_count + words + 1, sizeof *out->list);
	at = (unsigned char *)(out->list + out->list_count);
	memset(at, 0, words * sizeof *out->list);
	out->list_count += words;
	return at;
}

void
kvms_outcome_free(struct kvms_outcome *out)
{
	free(out->list);
	*out = (struct kvms_outcome){ .name = O_ok };
}

#define UNUSED_OK __attribute__((unused))
#define INSPECT(name)                                                                                                  \
	unsigned inspect_##name(UNUSED_OK struct kvms *s, UNUSED_OK const struct args_request_##name *a,               \
				UNUSED_OK struct reply_request_##name *r, UNUSED_OK struct kvms_outcome *out)
#define ADD(...)                                                                                                       \
	payload_add(s, out, (const uint64_t[]){ __VA_ARGS__ },                                                         \
		    sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

#define KVMS_REQUEST(code, name, args, results, outs, summary) static INSPECT(name);
#include "store/requests.def"
#undef KVMS_REQUEST

/* ---- Translation ------------------------------------------------------------ */

static INSPECT(translate)
{
	struct translation t;

	if (table_root(s, a->table) == NO_NODE)
		return O_unknown_vm_space;
	t = translate(s, a->table, a->va);
	r->found = t.found;
	if (!t.found) {
		out->present = 1;
		return O_ok;
	}
	r->start = t.start;
	r->end = t.last + 1;
	r->level = t.level;
	r->paddr = t.leaf.paddr + (a->va - t.start);
	r->prop = t.leaf.prop;
	r->tracked = t.tracked;
	return O_ok;
}

static INSPECT(walk)
{
	uint64_t node = table_root(s, a->table);

	if (node == NO_NODE)
		return O_unknown_vm_space;
	if (!va_is_canonical(&s->paging, a->va))
		return O_ok;
	for (unsigned level = s->paging.levels;; level--) {
		unsigned index = entry_index(a->va, level);
		uint64_t word = word_at(s, word_paddr(node, index));

		ADD(level, node, index, word);
		r->levels++;
		node = child_of(s, word, level);
		if (node == NO_NODE)
			return O_ok;
	}
}

/* ---- Frames and nodes ---------------------------------------------------------- */

static INSPECT(frame)
{
	const struct slot *sl;
	struct users u;

	if (a->paddr % PAGE != 0 || a->paddr >= s->max_paddr)
		return O_bad_paddr;
	sl = &s->slot[a->paddr / PAGE];
	r->rc = slot_rc(sl);
	r->usage = sl->usage;
	r->kind = sl->kind;
	r->meta = sl->meta;
	r->in_list = slot_in_list(sl);
	u = slot_users(sl);
	r->h = u.handles;
	r->p = u.mappings;
	r->c = u.covers;
	r->k = u.kept;
	r->u = u.unique;
	r->l = u.listed;
	return O_ok;
}

static INSPECT(node)
{
	const struct slot *sl;

	if (a->paddr % PAGE != 0 || a->paddr >= s->max_paddr || s->slot[a->paddr / PAGE].usage != USAGE_PAGETABLE)
		return O_bad_paddr;
	sl = &s->slot[a->paddr / PAGE];
	r->level = sl->level;
	r->nr_children = sl->nr_children;
	r->stray = (sl->bits & SLOT_STRAY) != 0;
	r->holder = slot_lock(sl);
	r->rc = slot_rc(sl);
	return O_ok;
}

static int
pair_compare(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	if (left[0] != right[0])
		return left[0] < right[0] ? -1 : 1;
	return left[1] < right[1] ? -1 : left[1] > right[1];
}

static INSPECT(who_holds)
{
	uint64_t paddr = a->paddr & ~(uint64_t)(PAGE - 1), slot = paddr / PAGE;
	size_t mappings;

	if (slot >= s->slots_count || s->slot[slot].usage != USAGE_FRAME)
		return O_ok;
	for (uint64_t id = slot_users(&s->slot[slot]).handles ? record_next(s, KVMS_ID_FRAME, 1) : 0; id != 0;
	     id = record_next(s, KVMS_ID_FRAME, id + 1)) {
		if (FRAME(s, id)->paddr != paddr)
			continue;
		ADD(id);
		r->frames++;
	}
	for (uint64_t id = slot_users(&s->slot[slot]).covers ? record_next(s, KVMS_ID_SEGMENT, 1) : 0; id != 0;
	     id = record_next(s, KVMS_ID_SEGMENT, id + 1)) {
		if (paddr < SEGMENT(s, id)->start || paddr >= SEGMENT(s, id)->end)
			continue;
		ADD(id);
		r->segments++;
	}
	for (uint64_t id = s->slot[slot].unique ? record_next(s, KVMS_ID_UNIQUE, 1) : 0; id != 0;
	     id = record_next(s, KVMS_ID_UNIQUE, id + 1)) {
		if (UNIQUE(s, id)->paddr != paddr)
			continue;
		ADD(id);
		r->uniques++;
	}
	if (s->slot[slot].listed) {
		ADD(s->slot[slot].link_list);
		r->lists = 1;
		return O_ok; /* a link has no mappings */
	}
	mappings = rmap_list(s, slot);
	qsort(s->scratch, mappings, 2 * sizeof *s->scratch, pair_compare);
	for (size_t i = 0; i < mappings; i++)
		ADD(s->scratch[2 * i], s->scratch[2 * i + 1]);
	r->mappings = mappings;
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++)
		for (uint64_t k = CPU(s, cpu)->kept_first; KEPT(s, k) != NULL; k = KEPT(s, k)->next) {
			if (KEPT(s, k)->is_node || KEPT(s, k)->paddr != paddr)
				continue;
			ADD(cpu);
			r->queues++;
		}
	return O_ok;
}

#define REVERSE_MAX (UINT64_C(1) << 18) /* mappings of an adopted image that are told */

/* The leaves that reach one byte. */
struct reverse {
	struct kvms *s;
	struct kvms_outcome *out;
	uint64_t paddr;
	uint64_t count;
};

static bool
reverse_leaf(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word)
{
	struct reverse *rev = arg;
	struct leaf leaf = pte_decode_leaf(&rev->s->paging, word, level);
	uint64_t offset = rev->paddr - leaf.paddr;

	if (rev->paddr < leaf.paddr || offset >= page_size(level))
		return true;
	payload_add(rev->s, rev->out, (const uint64_t[]){ table, va + offset, level, leaf_tracked(table, &leaf) }, 4);
	rev->count++;
	return true;
}

/* The same for leaves that are known to reach it. */
static bool
reverse_found(void *arg, const struct kvms_leaf *leaf)
{
	struct reverse *rev = arg;
	uint64_t va = leaf->va + (rev->paddr - leaf->paddr);

	payload_add(rev->s, rev->out, (const uint64_t[]){ leaf->table, va, leaf->level, 0 }, 4);
	rev->count++;
	return true;
}

static unsigned
reverse_foreign(struct reverse *rev)
{
	uint64_t id = KERNEL_TABLE;

	do {
		if (!foreign_reverse(rev->s, id, rev->paddr, REVERSE_MAX - rev->count, reverse_found, rev))
			return O_too_long;
		id = record_next(rev->s, KVMS_ID_VM_SPACE, id + 1);
	} while (id != 0);
	return O_ok;
}

static INSPECT(reverse_map)
{
	struct reverse rev = { s, out, a->paddr, 0 };
	unsigned name;

	if (s->foreign != NULL) {
		name = reverse_foreign(&rev);
		r->mappings = rev.count;
		return name;
	}

	leaves_visit(s, KERNEL_TABLE, reverse_leaf, &rev);
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		leaves_visit(s, id, reverse_leaf, &rev);
	r->mappings = rev.count;
	return O_ok;
}

/* ---- Areas, allocator, counts ------------------------------------------------------- */

static INSPECT(areas)
{
	for (uint64_t id = record_next(s, KVMS_ID_AREA, 1); id != 0; id = record_next(s, KVMS_ID_AREA, id + 1)) {
		ADD(id, AREA(s, id)->start, AREA(s, id)->end);
		r->areas++;
	}
	return O_ok;
}

static INSPECT(free_va)
{
	for (const struct extent *e = extent_from(s, SET_FREE_VA, 0); e != NULL;
	     e = extent_from(s, SET_FREE_VA, e->start + 1)) {
		ADD(e->start, e->end);
		r->free_va++;
	}
	return O_ok;
}

/* Nodes that a table of an adopted image leads to. */
static uint64_t
nodes_reached(struct kvms *s, uint64_t table)
{
	struct nodeset set = { 0 };
	uint64_t count;

	if (!nodeset_reach(&set, s, table_root(s, table), s->paging.levels, NODE_ENTRIES)) {
		nodeset_free(&set);
		out_of_memory(s);
	}
	count = nodeset_pages(&set);
	nodeset_free(&set);
	return count;
}

/* Nodes of a sub-tree; of a root, of the half that is the table's own. */
static uint64_t
nodes_under(const struct kvms *s, uint64_t node, unsigned level)
{
	bool root = level == s->paging.levels, kernel = node == s->live.kernel_root;
	unsigned from = root && kernel ? NODE_ENTRIES / 2 : 0, end = root && !kernel ? NODE_ENTRIES / 2 : NODE_ENTRIES;
	uint64_t count = 1;

	if (level == 1)
		return count;
	for (unsigned i = from; i < end; i++) {
		uint64_t child = child_of(s, word_at(s, word_paddr(node, i)), level);

		if (child != NO_NODE)
			count += nodes_under(s, child, level - 1);
	}
	return count;
}

static INSPECT(nodes)
{
	if (a->table == UINT64_MAX)
		r->nodes = s->live.totals.pagetable;
	else if (table_root(s, a->table) == NO_NODE)
		return O_unknown_vm_space;
	else if (s->foreign != NULL)
		r->nodes = nodes_reached(s, a->table);
	else
		r->nodes = nodes_under(s, table_root(s, a->table), s->paging.levels);
	return O_ok;
}

static INSPECT(census)
{
	_Static_assert(sizeof *r == offsetof(union totals, covers), "the census is the running totals but covers");
	memcpy(r, &s->live.totals, sizeof *r);
	return O_ok;
}

static INSPECT(unhandled)
{
	for (uint64_t i = bitmap_next(&s->used, 0); i != BITMAP_NONE; i = bitmap_next(&s->used, i + 1)) {
		const struct slot *sl = &s->slot[i];

		struct users u = slot_users(sl);

		if (sl->usage != USAGE_FRAME || u.handles || u.covers || u.unique || u.listed)
			continue;
		if (r->count++ < 64) {
			ADD(i * PAGE);
			r->paddrs++;
		}
	}
	return O_ok;
}

/* By CPU, then the kernel's before the space's, then by va: the order of each CPU's set, upper half first. */
static uint64_t
stale_half(struct kvms *s, struct kvms_outcome *out, uint64_t cpu, uint64_t start, uint64_t last)
{
	uint64_t count = 0;

	for (const struct extent *e = extent_from(s, (enum extent_set)(SET_TLB + cpu), start);
	     e != NULL && e->start <= last; e = extent_from(s, (enum extent_set)(SET_TLB + cpu), e->start + 1)) {
		const struct tlb_entry *t = TLB(s, e->id);

		if (tlb_is_backed(s, t))
			continue;
		ADD(cpu, t->table, t->va, t->paddr);
		count++;
	}
	return count;
}

static INSPECT(stale)
{
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++) {
		r->entries += stale_half(s, out, cpu, s->paging.kernel_base, UINT64_MAX);
		r->entries += stale_half(s, out, cpu, 0, s->paging.user_last);
	}
	return O_ok;
}

static INSPECT(check)
{
	struct kvms_findings f;

	f.total = 0;
	memset(f.fired, 0, sizeof f.fired);
	laws_full(s, &f);
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		if ((f.fired[law / 64] >> law % 64 & 1) == 0)
			continue;
		ADD(law);
		r->inv++;
	}
	return O_ok;
}

static INSPECT(digest)
{
	r->digest = kvms_digest(s);
	return O_ok;
}

/* ---- Dispatch ------------------------------------------------------------------------ */

#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	static unsigned do_##name(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)                  \
	{                                                                                                              \
		return inspect_##name(s, (const void *)op->arg, (void *)out->field, out);                              \
	}
#include "store/requests.def"
#undef KVMS_REQUEST

static unsigned (*const handlers[])(struct kvms *, const struct kvms_op *, struct kvms_outcome *) = {
#define KVMS_REQUEST(code, name, args, results, outs, summary) [code] = do_##name,
#include "store/requests.def"
#undef KVMS_REQUEST
};

enum kvms_status
kvms_inspect(struct kvms *s, const struct kvms_op *request, struct kvms_outcome *out)
{
	const struct kvms_row *row = kvms_request_row(request->code);

	assert(row != NULL);
	outcome_begin(out, (UINT64_C(1) << row->results_count) - 1);
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return KVMS_NOMEM;
	}
	out->name = handlers[request->code](s, request, out);
	s->can_leave = false;
	if (out->name != O_ok)
		out->present = 0;
	return KVMS_DONE;
}
