#include "store/audit.h"

#include <stdlib.h>
#include <string.h>

static void *
need(struct audit *a, void *p)
{
	if (p == NULL) {
		audit_free(a);
		out_of_memory(a->s);
	}
	return p;
}

/* Room for one more element; what is gathered so far stays owned by the audit. */
static void *
room(struct audit *a, void *array, size_t count, size_t *capacity, size_t size)
{
	size_t more = *capacity == 0 ? 64 : *capacity * 2;

	if (count < *capacity)
		return array;
	void *larger = realloc(array, more * size);

	if (larger == NULL) {
		audit_free(a);
		out_of_memory(a->s);
	}
	*capacity = more;
	return larger;
}

static int
index_compare(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

static struct tallies *
chunk_of(struct audit *a, uint64_t slot)
{
	struct tallies **chunk = &a->chunks[slot / AUDIT_CHUNK];

	if (*chunk == NULL) {
		a->made = room(a, a->made, a->made_count, &a->made_capacity, sizeof *a->made);
		*chunk = need(a, calloc(1, sizeof **chunk));
		a->made[a->made_count++] = slot / AUDIT_CHUNK;
	}
	return *chunk;
}

/* The tally of a slot, for counting all but mappings; NULL for a slot that does not exist. */
static struct tally *
tally_at(struct audit *a, uint64_t slot)
{
	struct tallies *chunk;

	if (slot >= a->s->slots_count)
		return NULL;
	chunk = chunk_of(a, slot);
	if (chunk->more == NULL)
		chunk->more = need(a, calloc(AUDIT_CHUNK, sizeof *chunk->more));
	return &chunk->more[slot % AUDIT_CHUNK];
}

struct tally
audit_tally(const struct audit *a, uint64_t slot)
{
	const struct tallies *chunk = a->chunks[slot / AUDIT_CHUNK];
	struct tally t = { 0 };

	if (chunk == NULL)
		return t;
	if (chunk->more != NULL)
		t = chunk->more[slot % AUDIT_CHUNK];
	t.mappings = chunk->mappings[slot % AUDIT_CHUNK];
	return t;
}

/* The least slot >= from with a tally that is not zero. */
static uint64_t
next_tallied(const struct audit *a, uint64_t from)
{
	size_t low = 0, high = a->made_count;

	while (low < high) { /* chunks before low end at or below from */
		size_t middle = low + (high - low) / 2;

		if ((a->made[middle] + 1) * AUDIT_CHUNK <= from)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < a->made_count; low++) {
		static const struct tally none;
		const struct tallies *chunk = a->chunks[a->made[low]];
		uint64_t first = a->made[low] * AUDIT_CHUNK;

		for (uint64_t i = from > first ? from - first : 0; i < AUDIT_CHUNK; i++)
			if (chunk->mappings[i] != 0 ||
			    (chunk->more != NULL && memcmp(&chunk->more[i], &none, sizeof none) != 0))
				return first + i;
	}
	return BITMAP_NONE;
}

uint64_t
audit_next_slot(const struct audit *a, uint64_t from)
{
	uint64_t used = bitmap_next(&a->s->used, from), tallied;

	if (used == from)
		return used;
	tallied = next_tallied(a, from);
	return used < tallied ? used : tallied;
}

bool
audit_may_descend(const struct kvms *s, uint64_t word, unsigned level)
{
	uint64_t child = pte_table_paddr(&s->paging, word);

	return level > 1 && pte_kind(&s->paging, word, level) == PTE_TABLE && child < s->max_paddr &&
	       s->slot[child / PAGE].usage == USAGE_PAGETABLE && s->slot[child / PAGE].level == level - 1;
}

static void
count_leaf(struct audit *a, uint64_t table, uint64_t word, unsigned level)
{
	struct leaf leaf = pte_decode_frame(&a->s->paging, word, level);
	uint64_t slot = leaf.paddr / PAGE;

	if (!leaf_tracked(table, &leaf)) {
		a->totals.leaves_untracked++;
		return;
	}
	a->totals.leaves_tracked++;
	if (slot < a->s->slots_count)
		chunk_of(a, slot)->mappings[slot % AUDIT_CHUNK]++;
}

/* Count what the words of a table designate; of a user root only the user half is its own. */
static void
count_node(struct audit *a, uint64_t table, uint64_t node, unsigned level)
{
	const struct kvms *s = a->s;
	unsigned end = level == s->paging.levels && table != KERNEL_TABLE ? NODE_ENTRIES / 2 : NODE_ENTRIES;

	for (unsigned i = 0; i < end; i++) {
		uint64_t word = word_at(s, word_paddr(node, i));
		enum pte_kind kind = pte_kind(&s->paging, word, level);
		struct tally *child;

		if (kind == PTE_LEAF)
			count_leaf(a, table, word, level);
		if (kind != PTE_TABLE || level == 1)
			continue;
		child = tally_at(a, pte_table_paddr(&s->paging, word) / PAGE);
		if (child == NULL)
			continue;
		child->designated++;
		if (audit_may_descend(s, word, level) && child->designated == 1)
			count_node(a, table, pte_table_paddr(&s->paging, word), level - 1);
	}
}

static void
count_table(struct audit *a, uint64_t table)
{
	uint64_t root = table_root(a->s, table);
	struct tally *t = tally_at(a, root / PAGE);

	if (t == NULL)
		return;
	t->designated++;
	if (a->s->slot[root / PAGE].usage == USAGE_PAGETABLE)
		count_node(a, table, root, a->s->paging.levels);
}

/* A detached sub-tree: its nodes, and one kept reference for each tracked leaf. */
static void
count_detached(struct audit *a, uint64_t node)
{
	const struct kvms *s = a->s;
	const struct slot *sl = &s->slot[node / PAGE];
	struct tally *t = tally_at(a, node / PAGE);

	if (t == NULL || t->detached || node % PAGE != 0 || sl->usage != USAGE_PAGETABLE || sl->level == 0 || sl->level > LEVELS_MAX)
		return;
	t->detached = 1;
	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(s, word_paddr(node, i));
		enum pte_kind kind = pte_kind(&s->paging, word, sl->level);

		if (kind == PTE_TABLE && audit_may_descend(s, word, sl->level))
			count_detached(a, pte_table_paddr(&s->paging, word));
		if (kind != PTE_LEAF)
			continue;
		struct leaf leaf = pte_decode_frame(&s->paging, word, sl->level);

		if (leaf_tracked(node_table(s, node), &leaf) && tally_at(a, leaf.paddr / PAGE) != NULL)
			tally_at(a, leaf.paddr / PAGE)->kept++;
	}
}

static void
count_kept(struct audit *a)
{
	const struct kvms *s = a->s;

	for (uint64_t id = record_next(s, REC_KEPT, 0); id != 0; id = record_next(s, REC_KEPT, id + 1)) {
		struct tally *t = tally_at(a, KEPT(s, id)->paddr / PAGE);

		if (t == NULL)
			continue;
		if (!KEPT(s, id)->is_node) {
			t->kept++;
			continue;
		}
		t->queues++;
		count_detached(a, KEPT(s, id)->paddr);
	}
}

static void
count_tables(struct audit *a)
{
	const struct kvms *s = a->s;

	count_table(a, KERNEL_TABLE);
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 0); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		count_table(a, id);
	count_kept(a);
}

static void
count_handles(struct audit *a)
{
	const struct kvms *s = a->s;
	struct tally *t;

	for (uint64_t id = record_next(s, KVMS_ID_FRAME, 0); id != 0; id = record_next(s, KVMS_ID_FRAME, id + 1)) {
		a->totals.frames++;
		t = tally_at(a, FRAME(s, id)->paddr / PAGE);
		if (t != NULL)
			t->handles++;
	}
	for (uint64_t id = record_next(s, KVMS_ID_SEGMENT, 0); id != 0; id = record_next(s, KVMS_ID_SEGMENT, id + 1)) {
		const struct segment *g = SEGMENT(s, id);

		a->totals.segments++;
		for (uint64_t slot = g->start / PAGE; slot < g->end / PAGE && slot < s->slots_count; slot++) {
			a->totals.covers++;
			tally_at(a, slot)->covers++;
		}
	}
}

static void
ids_add(struct audit *a, struct audit_ids *ids, uint64_t id)
{
	ids->at = room(a, ids->at, ids->count, &ids->capacity, sizeof *ids->at);
	ids->at[ids->count++] = id;
}

static void
ids_sort(struct audit_ids *ids)
{
	if (ids->count > 0)
		qsort(ids->at, ids->count, sizeof *ids->at, index_compare);
}

uint64_t
audit_count(const struct audit_ids *ids, uint64_t id)
{
	size_t low = 0, high = ids->count, first;

	while (low < high) { /* ids before low are smaller */
		size_t middle = low + (high - low) / 2;

		if (ids->at[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	for (first = low; low < ids->count && ids->at[low] == id;)
		low++;
	return low - first;
}

/* How many records of a kind live. */
static uint64_t
live_count(const struct kvms *s, unsigned kind)
{
	uint64_t count = 0;

	for (uint64_t id = record_next(s, kind, 0); id != 0; id = record_next(s, kind, id + 1))
		count++;
	return count;
}

static void
count_others(struct audit *a)
{
	struct kvms *s = a->s;

	a->totals.vm_spaces = live_count(s, KVMS_ID_VM_SPACE);
	a->totals.cursors = live_count(s, KVMS_ID_CURSOR);
	a->totals.readers = live_count(s, KVMS_ID_READER);
	a->totals.writers = live_count(s, KVMS_ID_WRITER);
	a->totals.iomems = live_count(s, KVMS_ID_IOMEM);
	a->totals.tlb_entries = live_count(s, REC_TLB);
	for (uint64_t id = record_next(s, KVMS_ID_IOMEM, 0); id != 0; id = record_next(s, KVMS_ID_IOMEM, id + 1))
		ids_add(a, &a->io_refs, IOMEM(s, id)->area);
	for (uint64_t id = record_next(s, REC_IO_ENTRY, 0); id != 0; id = record_next(s, REC_IO_ENTRY, id + 1))
		ids_add(a, &a->io_refs, IO_ENTRY(s, id)->area);
	for (uint64_t id = record_next(s, KVMS_ID_CURSOR, 0); id != 0; id = record_next(s, KVMS_ID_CURSOR, id + 1))
		ids_add(a, &a->uses, CURSOR(s, id)->space);
	for (uint64_t id = record_next(s, KVMS_ID_READER, 0); id != 0; id = record_next(s, KVMS_ID_READER, id + 1))
		ids_add(a, &a->uses, READER(s, id)->space);
	for (uint64_t id = record_next(s, KVMS_ID_WRITER, 0); id != 0; id = record_next(s, KVMS_ID_WRITER, id + 1))
		ids_add(a, &a->uses, WRITER(s, id)->space);
	ids_sort(&a->uses);
	ids_sort(&a->io_refs);
	ids_sort(&a->tags);
}

/* Links as the lists reach them from their heads, never more than the list says. */
static void
count_links(struct audit *a)
{
	const struct kvms *s = a->s;

	for (uint64_t id = record_next(s, KVMS_ID_UNIQUE, 0); id != 0; id = record_next(s, KVMS_ID_UNIQUE, id + 1)) {
		struct tally *t = tally_at(a, UNIQUE(s, id)->paddr / PAGE);

		a->totals.uniques++;
		if (t != NULL)
			t->unique++;
	}
	for (uint64_t id = record_next(s, KVMS_ID_LIST, 0); id != 0; id = record_next(s, KVMS_ID_LIST, id + 1)) {
		const struct list *l = LIST(s, id);
		uint64_t at = l->first;

		a->totals.lists++;
		if (l->tag != 0)
			ids_add(a, &a->tags, l->tag);
		for (uint64_t n = 0; n < l->length && n < s->slots_count && at != 0 && at <= s->slots_count; n++) {
			tally_at(a, at - 1)->listed++;
			a->totals.links++;
			at = s->slot[at - 1].link_next;
		}
	}
}

void
audit_slot(struct audit *a, uint64_t i)
{
	const struct slot *sl = &a->s->slot[i];

	a->slots_sum += digest_slot(a->s, i);
	if (slot_lock(sl) != 0)
		ids_add(a, &a->locks, slot_lock(sl));
	if (sl->listed)
		ids_add(a, &a->links, sl->link_list);
	if (sl->usage >= USAGES)
		return;
	a->totals.unused--;
	a->totals.at[sl->usage]++;
}

void
audit_slots_end(struct audit *a)
{
	ids_sort(&a->locks);
	ids_sort(&a->links);
}

/* ---- Areas and blocks --------------------------------------------------------- */

static int
area_compare(const void *a, const void *b)
{
	const struct audit_area *left = a, *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->id < right->id ? -1 : left->id > right->id;
}

static void
gather_areas(struct audit *a)
{
	const struct kvms *s = a->s;
	size_t capacity = 0;

	for (uint64_t id = record_next(s, KVMS_ID_AREA, 0); id != 0; id = record_next(s, KVMS_ID_AREA, id + 1)) {
		const struct area *area = AREA(s, id);

		a->totals.areas++;
		if (area->start >= area->end)
			continue;
		a->areas = room(a, a->areas, a->areas_count, &capacity, sizeof *a->areas);
		a->areas[a->areas_count++] = (struct audit_area){ area->start, area->end, id, 0, 0 };
	}
	if (a->areas_count > 0)
		qsort(a->areas, a->areas_count, sizeof *a->areas, area_compare);
	for (size_t i = 0; i < a->areas_count; i++) {
		struct audit_area *area = &a->areas[i];

		area->reach = area->end;
		area->reach_id = area->id;
		if (i > 0 && area[-1].reach > area->end) {
			area->reach = area[-1].reach;
			area->reach_id = area[-1].reach_id;
		}
	}
}

/* Index of the last area with start <= va, or SIZE_MAX. */
static size_t
area_below(const struct audit *a, uint64_t va)
{
	size_t low = 0, high = a->areas_count;

	while (low < high) { /* areas before low start at or below va, areas from high on above */
		size_t middle = low + (high - low) / 2;

		if (a->areas[middle].start <= va)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

uint64_t
audit_area_end(const struct audit *a, uint64_t va)
{
	size_t i = area_below(a, va);

	return i != SIZE_MAX && va < a->areas[i].reach ? a->areas[i].reach : 0;
}

uint64_t
audit_area_overlap(const struct audit *a, uint64_t id)
{
	const struct area *area = AREA(a->s, id);
	size_t i = area_below(a, area->start);

	while (i != SIZE_MAX && a->areas[i].id != id && a->areas[i].start == area->start)
		i--;
	if (i == SIZE_MAX || a->areas[i].id != id)
		return 0; /* empty areas are not gathered */
	if (i > 0 && a->areas[i - 1].reach > area->start)
		return a->areas[i - 1].reach_id;
	if (i + 1 < a->areas_count && a->areas[i + 1].start < area->end)
		return a->areas[i + 1].id;
	return 0;
}

static int
block_compare(const void *a, const void *b)
{
	const struct extent *left = a, *right = b;

	if (left->set != right->set)
		return left->set < right->set ? -1 : 1;
	return left->start < right->start ? -1 : left->start > right->start;
}

static void
gather_blocks(struct audit *a)
{
	const struct kvms *s = a->s;
	size_t count = s->live.pool_used[POOL_EXTENT];

	a->blocks = need(a, calloc(count + 1, sizeof *a->blocks));
	a->mmio = need(a, calloc(count + 1, sizeof *a->mmio));
	for (uint32_t i = 1; i <= count; i++) {
		const struct extent *e = extent_at(s, i);

		if (e->live && e->set == SET_FREE_VA)
			a->blocks[a->blocks_count++] = *e;
		if (e->live && (e->set == SET_FREE_MMIO0 || e->set == SET_FREE_MMIO1))
			a->mmio[a->mmio_count++] = *e;
	}
	qsort(a->blocks, a->blocks_count, sizeof *a->blocks, block_compare);
	qsort(a->mmio, a->mmio_count, sizeof *a->mmio, block_compare);
}

/* The first block that starts at or behind va. */
static size_t
first_block(const struct audit *a, uint64_t va)
{
	size_t low = 0, high = a->blocks_count;

	while (low < high) { /* blocks before low start below va, blocks from high on do not */
		size_t middle = low + (high - low) / 2;

		if (a->blocks[middle].start < va)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t
audit_untiled(const struct audit *a, const struct kvms_range *range)
{
	size_t block = first_block(a, range->start), area = area_below(a, range->start - 1) + 1;
	uint64_t at = range->start;

	while (at < range->end) {
		if (block < a->blocks_count && a->blocks[block].start == at && a->blocks[block].end > at)
			at = a->blocks[block++].end;
		else if (area < a->areas_count && a->areas[area].start == at)
			at = a->areas[area++].end;
		else
			return at;
	}
	/* nothing more may start inside, nothing may reach out */
	if (at != range->end || (block < a->blocks_count && a->blocks[block].start < range->end) ||
	    (area < a->areas_count && a->areas[area].start < range->end))
		return at;
	return 0;
}

bool
audit_space_matches(const struct audit *a, uint64_t id)
{
	const struct vm_space *space = VM_SPACE(a->s, id);
	uint64_t cpus = 0;

	for (uint64_t cpu = 0; cpu < a->s->ncpu; cpu++)
		if (CPU(a->s, cpu)->active == id)
			cpus |= UINT64_C(1) << cpu;
	return cpus == space->cpus && audit_count(&a->uses, id) == space->users;
}

bool
audit_kept_matches(const struct audit *a)
{
	uint64_t reached = 0, live = live_count(a->s, REC_KEPT);

	for (uint64_t cpu = 0; cpu < a->s->ncpu; cpu++) {
		uint64_t before = reached;

		for (uint64_t k = CPU(a->s, cpu)->kept_first; KEPT(a->s, k) != NULL && reached <= live;
		     k = KEPT(a->s, k)->next)
			reached++;
		if (reached - before != CPU(a->s, cpu)->kept_count)
			return false;
	}
	return reached == live;
}

bool
audit_tlb_matches(const struct audit *a)
{
	uint64_t indexed = 0;

	for (uint64_t cpu = 0; cpu < a->s->ncpu; cpu++) {
		enum extent_set set = (enum extent_set)(SET_TLB + cpu);

		for (const struct extent *e = extent_from(a->s, set, 0); e != NULL;
		     e = extent_from(a->s, set, e->start + 1), indexed++) {
			const struct tlb_entry *t = TLB(a->s, e->id);

			if (t == NULL || t->cpu != cpu || t->va != e->start || t->size != e->end - e->start)
				return false;
		}
	}
	return indexed == a->totals.tlb_entries;
}

bool
audit_index_matches(const struct audit *a)
{
	const struct extent *e = extent_from(a->s, SET_AREAS, 0);

	for (size_t i = 0; i < a->areas_count; i++) {
		if (e == NULL || e->start != a->areas[i].start || e->end != a->areas[i].end || e->id != a->areas[i].id)
			return false;
		e = extent_from(a->s, SET_AREAS, e->start + 1);
	}
	return e == NULL;
}

void
audit_make(struct kvms *s, struct audit *a)
{
	*a = (struct audit){ .s = s };
	a->chunks_count = s->slots_count / AUDIT_CHUNK + 1;
	a->chunks = need(a, calloc((size_t)a->chunks_count, sizeof *a->chunks));
	a->totals.unused = s->slots_count;
	count_tables(a);
	count_handles(a);
	count_links(a);
	count_others(a);
	qsort(a->made, a->made_count, sizeof *a->made, index_compare);
	gather_areas(a);
	gather_blocks(a);
}

void
audit_free(struct audit *a)
{
	for (size_t i = 0; i < a->made_count; i++) {
		free(a->chunks[a->made[i]]->more);
		free(a->chunks[a->made[i]]);
	}
	free(a->made);
	free(a->chunks);
	free(a->locks.at);
	free(a->links.at);
	free(a->tags.at);
	free(a->io_refs.at);
	free(a->uses.at);
	free(a->areas);
	free(a->blocks);
	free(a->mmio);
}
