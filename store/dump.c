/*
 * Memory as it lies: the pages of page tables, every leaf with its word.
 *
 * A page is met once however many words lead to it: what has been met is kept
 * in a set of (address, level), so that a table whose nodes are shared, or
 * lead back to one above, costs what it has pages.
 */
#include "store/dump.h"

#include "store/foreign.h"

#include <stdlib.h>
#include <string.h>

/* ---- Sets -------------------------------------------------------------------- */

void
nodeset_free(struct nodeset *set)
{
	free(set->at);
	memset(set, 0, sizeof *set);
}

/* Where a key stands, or would. */
static size_t
place_of(const struct nodeset *set, uint64_t key)
{
	size_t at = (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (set->capacity - 1);

	while (set->at[at] != 0 && set->at[at] != key)
		at = (at + 1) & (set->capacity - 1);
	return at;
}

static bool
nodeset_grow(struct nodeset *set)
{
	struct nodeset larger = { .capacity = set->capacity == 0 ? 256 : 2 * set->capacity };

	larger.at = calloc(larger.capacity, sizeof *larger.at);
	if (larger.at == NULL)
		return false;
	for (size_t i = 0; i < set->capacity; i++)
		if (set->at[i] != 0)
			larger.at[place_of(&larger, set->at[i])] = set->at[i];
	larger.count = set->count;
	free(set->at);
	*set = larger;
	return true;
}

bool
nodeset_add(struct nodeset *set, uint64_t paddr, unsigned level, bool *is_new)
{
	uint64_t key = paddr | level;
	size_t at;

	*is_new = false;
	if (2 * set->count >= set->capacity && !nodeset_grow(set))
		return false;
	at = place_of(set, key);
	*is_new = set->at[at] == 0;
	set->at[at] = key;
	set->count += *is_new;
	return true;
}

static int
key_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

size_t
nodeset_pages(struct nodeset *set)
{
	size_t count = 0, pages = 0;

	for (size_t i = 0; i < set->capacity; i++)
		if (set->at[i] != 0)
			set->at[count++] = set->at[i];
	if (count > 0)
		qsort(set->at, count, sizeof *set->at, key_compare);
	for (size_t i = 0; i < count; i++) {
		uint64_t paddr = set->at[i] & ~(uint64_t)(PAGE - 1);

		if (pages == 0 || set->at[pages - 1] != paddr)
			set->at[pages++] = paddr;
	}
	set->count = pages;
	return pages;
}

bool
nodeset_reach(struct nodeset *set, const struct kvms *s, uint64_t node, unsigned level, unsigned end)
{
	bool is_new;

	if (!nodeset_add(set, node, level, &is_new))
		return false;
	for (unsigned i = 0; is_new && level > 1 && i < end; i++) {
		uint64_t child = child_of(s, word_at(s, word_paddr(node, i)), level);

		if (child != NO_NODE && !nodeset_reach(set, s, child, level - 1, NODE_ENTRIES))
			return false;
	}
	return true;
}

/* ---- Pages ---------------------------------------------------------------------- */

bool
kvms_root(const struct kvms *s, uint64_t table, uint64_t *paddr)
{
	*paddr = table_root(s, table);
	return *paddr != NO_NODE;
}

uint64_t
kvms_next_space(const struct kvms *s, uint64_t id)
{
	return id != UINT64_MAX ? record_next(s, KVMS_ID_VM_SPACE, id + 1) : 0;
}

unsigned
kvms_levels(const struct kvms *s)
{
	return s->paging.levels;
}

const char *
kvms_machine_name(const struct kvms *s)
{
	static const char *const riscv[] = { [3] = "riscv64_sv39", [4] = "riscv64_sv48", [5] = "riscv64_sv57" };
	unsigned levels = s->paging.levels;

	if (s->paging.format == PTE_LOONGARCH || s->paging.format == PTE_LOONGARCH_HARDWARE)
		return "loongarch64";
	if (s->paging.format == PTE_X86 || s->paging.format == PTE_X86_HARDWARE)
		return levels == 5 ? "x86_64_la57" : "x86_64";
	return levels >= 3 && levels <= 5 ? riscv[levels] : "riscv64";
}

/* Entries wb wt wc uc, twice: bit 7 of a word at level 1 makes no difference. */
#define PAT_OSTD UINT64_C(0x0001040600010406)

uint64_t
kvms_pat(const struct kvms *s)
{
	if (s->paging.format == PTE_X86_HARDWARE)
		return s->foreign->pat;
	return s->paging.format == PTE_X86 ? PAT_OSTD : 0;
}

static bool
visit_page(const struct kvms *s, uint64_t paddr, kvms_page_visitor *visit, void *arg)
{
	return visit(arg, paddr, s->memory + paddr);
}

/* The pages that one table leads to. */
static bool
visit_reached(const struct kvms *s, uint64_t table, kvms_page_visitor *visit, void *arg)
{
	struct nodeset set = { 0 };
	uint64_t root = table_root(s, table);
	size_t pages;
	bool done = root == NO_NODE || nodeset_reach(&set, s, root, s->paging.levels, NODE_ENTRIES);

	pages = done ? nodeset_pages(&set) : 0;
	for (size_t i = 0; done && i < pages; i++)
		done = visit_page(s, set.at[i], visit, arg);
	nodeset_free(&set);
	return done;
}

bool
kvms_pages(const struct kvms *s, uint64_t table, bool all_memory, kvms_page_visitor *visit, void *arg)
{
	uint64_t slot, page;

	if (table != KVMS_ALL_TABLES && !all_memory)
		return visit_reached(s, table, visit, arg);
	slot = bitmap_next(&s->used, 0);
	page = all_memory ? bitmap_next(&s->written, 0) : BITMAP_NONE;
	while (slot != BITMAP_NONE || page != BITMAP_NONE) {
		uint64_t at = slot < page ? slot : page;
		bool is_node = at == slot && (s->slot[at].usage == USAGE_PAGETABLE || s->foreign != NULL);

		if ((is_node || at == page) && !visit_page(s, at * PAGE, visit, arg))
			return false;
		if (at == slot)
			slot = bitmap_next(&s->used, at + 1);
		if (at == page)
			page = bitmap_next(&s->written, at + 1);
	}
	return true;
}

/* ---- Leaves ----------------------------------------------------------------------- */

struct leaves {
	const struct kvms *s;
	kvms_leaf_visitor *visit;
	void *arg;
};

static bool
visit_leaf(void *arg, uint64_t table, uint64_t va, unsigned level, uint64_t word)
{
	const struct leaves *l = arg;
	struct leaf leaf = pte_decode_leaf(&l->s->paging, word, level);
	const struct kvms_leaf each = {
		.table = table,
		.va = va,
		.paddr = leaf.paddr,
		.size = page_size(level),
		.level = level,
		.word = word,
		.prop = leaf.prop,
		.tracked = leaf_tracked(table, &leaf),
	};

	return l->visit(l->arg, &each);
}

bool
kvms_leaves(struct kvms *s, uint64_t table, kvms_leaf_visitor *visit, void *arg)
{
	struct leaves l = { s, visit, arg };

	if (s->foreign != NULL)
		return foreign_leaves(s, table, visit, arg);
	return leaves_visit(s, table, visit_leaf, &l);
}
