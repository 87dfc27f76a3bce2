#include "client/elements.h"

#include <stdlib.h>
#include <string.h>

/* Tags of the elements that are made into others here. */
#define TAG_SLOT 2u
#define TAG_WORD 3u
#define TAG_NODE 4u

#define USAGE_PAGETABLE 3u

/* clang-format off */
static const struct kvmctl_element_kind kinds[] = {
	{ TAG_NODE, "nodes", 1, 1, 7, false,
	  { { "paddr", KVMS_HEX }, { "level", KVMS_DEC }, { "nr_children", KVMS_DEC }, { "stray", KVMS_BOOL },
	    { "holder", KVMS_DEC }, { "hangs", KVMS_BOOL }, { "table", KVMS_TABLE }, { "va", KVMS_HEX } }, 8 },
	{ 21, "tlb", 3, 0, 0, false,
	  { { "cpu", KVMS_DEC }, { "table", KVMS_TABLE }, { "va", KVMS_HEX }, { "size", KVMS_HEX },
	    { "paddr", KVMS_HEX }, { "prop", KVMS_PROP }, { "tracked", KVMS_BOOL } }, 7 },
	{ 20, "cpus", 1, 0, 0, true,
	  { { "cpu", KVMS_DEC }, { "vm_space", KVMS_DEC }, { "ipi", KVMS_BOOL }, { "all", KVMS_BOOL } }, 4 },
	{ 13, "flushers", 1, 0, 0, true, { { "cursor", KVMS_DEC }, { "all", KVMS_BOOL } }, 2 },
	{ 23, "current_cpu", 1, 0, 0, false, { { "", KVMS_DEC }, { "cpu", KVMS_DEC } }, 2 },
	{ TAG_SLOT, "frames", 1, 1, 6, false,
	  { { "paddr", KVMS_HEX }, { "rc", KVMS_RC }, { "usage", KVMS_USAGE }, { "kind", KVMS_SLOT_KIND },
	    { "meta", KVMS_HEX }, { "in_list", KVMS_DEC } }, 6 },
	{ TAG_WORD, "contents", 1, 1, 1, false, { { "paddr", KVMS_HEX }, { "sum", KVMS_DIGEST } }, 2 },
	{ 5, "frame_handles", 1, 0, 0, false, { { "frame", KVMS_DEC }, { "paddr", KVMS_HEX } }, 2 },
	{ 6, "segments", 1, 0, 0, false,
	  { { "segment", KVMS_DEC }, { "start", KVMS_HEX }, { "end", KVMS_HEX } }, 3 },
	{ 7, "uniques", 1, 0, 0, false, { { "unique", KVMS_DEC }, { "paddr", KVMS_HEX } }, 2 },
	{ 8, "lists", 1, 0, 0, false,
	  { { "list", KVMS_DEC }, { "tag", KVMS_DEC }, { "length", KVMS_DEC }, { "checked_out", KVMS_BOOL },
	    { "index", KVMS_DEC } }, 5 },
	{ 9, "links", 1, 0, 0, false,
	  { { "slot", KVMS_DEC }, { "list", KVMS_DEC }, { "previous_slot_1", KVMS_DEC },
	    { "next_slot_1", KVMS_DEC } }, 4 },
	{ 10, "vm_spaces", 1, 0, 0, false,
	  { { "vm_space", KVMS_DEC }, { "root", KVMS_HEX }, { "handle", KVMS_BOOL } }, 3 },
	{ 11, "io_entries", 2, 0, 0, false,
	  { { "vm_space", KVMS_DEC }, { "position", KVMS_DEC }, { "paddr", KVMS_HEX }, { "size", KVMS_HEX },
	    { "cache", KVMS_CACHE }, { "area", KVMS_DEC }, { "offset", KVMS_HEX } }, 7 },
	{ 12, "cursors", 1, 0, 0, false,
	  { { "cursor", KVMS_DEC }, { "vm_space", KVMS_DEC }, { "mutable", KVMS_BOOL }, { "start", KVMS_HEX },
	    { "end", KVMS_HEX }, { "va", KVMS_HEX }, { "level", KVMS_DEC }, { "guard_level", KVMS_DEC },
	    { "guard_node", KVMS_HEX } }, 9 },
	{ 16, "readers", 1, 0, 0, false,
	  { { "reader", KVMS_DEC }, { "vm_space", KVMS_DEC }, { "va", KVMS_HEX }, { "end", KVMS_HEX },
	    { "fallible", KVMS_BOOL } }, 5 },
	{ 17, "writers", 1, 0, 0, false,
	  { { "writer", KVMS_DEC }, { "vm_space", KVMS_DEC }, { "va", KVMS_HEX }, { "end", KVMS_HEX },
	    { "fallible", KVMS_BOOL } }, 5 },
	{ 18, "iomems", 1, 0, 0, false,
	  { { "iomem", KVMS_DEC }, { "area", KVMS_DEC }, { "paddr", KVMS_HEX }, { "size", KVMS_HEX },
	    { "cache", KVMS_CACHE }, { "offset", KVMS_HEX } }, 6 },
	{ 22, "next_ids", 1, 0, 0, false, { { "kind", KVMS_DEC }, { "next", KVMS_DEC } }, 2 },
};
/* clang-format on */

const struct kvmctl_element_kind *
kvmctl_element_kind(unsigned index)
{
	return index < sizeof kinds / sizeof kinds[0] ? &kinds[index] : NULL;
}

/* ---- Gathering ------------------------------------------------------------------------- */

struct gather {
	struct kvmctl_elements *e;
	struct kvms *s;
	size_t node, nodes; /* slots of nodes, ascending, in "slots"; the one not yet passed */
	struct kvt_words slots;
	uint64_t page, sum; /* the page whose words are summed up */
	bool summing;
};

static bool
element_add(struct kvmctl_elements *e, const uint64_t *words, unsigned count)
{
	if (e->count == e->capacity) {
		size_t capacity = e->capacity == 0 ? 1024 : 2 * e->capacity;
		size_t *at = realloc(e->at, capacity * sizeof *at);

		if (at == NULL)
			return false;
		e->at = at;
		e->capacity = capacity;
	}
	e->at[e->count++] = e->words.size;
	uint64_t *to = kvt_words_add(&e->words, count + 1);
	if (to == NULL)
		return false;
	to[0] = count;
	memcpy(to + 1, words, count * sizeof *words);
	return true;
}

static bool
page_end(struct gather *g)
{
	const uint64_t words[] = { TAG_WORD, g->page, g->sum };
	bool added = !g->summing || element_add(g->e, words, 3);

	g->summing = false;
	return added;
}

/* A word of memory: into the sum of its page, unless that is a node. */
static bool
word_add(struct gather *g, uint64_t paddr, uint64_t word)
{
	uint64_t page = paddr / KVMS_PAGE_SIZE;

	if (g->summing && g->page != page && !page_end(g))
		return false;
	while (g->node < g->slots.size && g->slots.at[g->node] < page)
		g->node++;
	if (g->node < g->slots.size && g->slots.at[g->node] == page)
		return true;
	if (!g->summing)
		g->sum = 0;
	g->summing = true;
	g->page = page;
	g->sum = (g->sum ^ paddr) * UINT64_C(0x9e3779b97f4a7c15);
	g->sum = ((g->sum ^ g->sum >> 29) + word) * UINT64_C(0xbf58476d1ce4e5b9);
	g->sum ^= g->sum >> 32;
	return true;
}

/* A node, and where it hangs. */
static bool
node_add(struct gather *g, const uint64_t *words)
{
	struct kvms_node_place place = { .paddr = 0 };
	uint64_t hangs = kvms_node_find(g->s, words[1] * KVMS_PAGE_SIZE, &place);
	const uint64_t all[] = { TAG_NODE, words[1], words[2],    words[3], words[4],
				 words[5], hangs,    place.table, place.va };

	return element_add(g->e, all, 9);
}

static bool
gather_one(void *arg, const uint64_t *words, unsigned count)
{
	struct gather *g = arg;
	uint64_t *slot;

	if (words[0] == TAG_SLOT && words[3] == USAGE_PAGETABLE) {
		slot = kvt_words_add(&g->slots, 1);
		if (slot != NULL)
			*slot = words[1];
		return slot != NULL;
	}
	if (words[0] == TAG_WORD)
		return word_add(g, words[1], words[2]);
	if (!page_end(g))
		return false;
	return words[0] == TAG_NODE ? node_add(g, words) : element_add(g->e, words, count);
}

/* Words of an element behind their count. */
static const uint64_t *
words_of(const struct kvmctl_elements *e, size_t i)
{
	return e->words.at + e->at[i] + 1;
}

static const struct kvmctl_element_kind *
kind_of(uint64_t tag)
{
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].tag == tag)
			return &kinds[i];
	return NULL;
}

static int
words_compare(const uint64_t *a, const uint64_t *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

/* By tag and key. */
static int
element_compare(const void *a, const void *b, void *arg)
{
	const struct kvmctl_elements *e = arg;
	const uint64_t *x = e->words.at + *(const size_t *)a + 1, *y = e->words.at + *(const size_t *)b + 1;
	const struct kvmctl_element_kind *kind = kind_of(x[0]);

	return words_compare(x, y, x[0] == y[0] && kind != NULL ? 1 + kind->keys : 1);
}

void
kvmctl_elements_gather(struct kvmctl_elements *e, struct kvms *s)
{
	struct gather g = { .e = e, .s = s };

	e->failed = !kvms_visit(s, gather_one, &g) || !page_end(&g) || e->words.failed;
	kvt_words_free(&g.slots);
	if (!e->failed)
		qsort_r(e->at, e->count, sizeof *e->at, element_compare, e);
}

void
kvmctl_elements_free(struct kvmctl_elements *e)
{
	kvt_words_free(&e->words);
	free(e->at);
	memset(e, 0, sizeof *e);
}

/* ---- Comparing ---------------------------------------------------------------------------- */

/* The first element with the tag or one above it. */
static size_t
first_of(const struct kvmctl_elements *e, uint64_t tag)
{
	size_t low = 0, high = e->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (words_of(e, middle)[0] < tag)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct compare {
	const struct kvmctl_element_kind *kind;
	struct kvmctl_element_change held; /* may become longer */
	bool holding;
	kvmctl_element_visitor *visit;
	void *arg;
};

static void
flush(struct compare *c)
{
	if (c->holding)
		c->visit(c->arg, &c->held);
	c->holding = false;
}

/* Are both missing, or alike but for the key and what need not be the same? */
static bool
alike(const struct kvmctl_element_kind *kind, const uint64_t *a, const uint64_t *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return kind->alike <= kind->keys ||
	       words_compare(a + kind->keys, b + kind->keys, kind->alike - kind->keys) == 0;
}

static void
differ(struct compare *c, const struct kvmctl_element_change *change)
{
	const uint64_t *first = c->held.before != NULL ? c->held.before : c->held.after;
	const uint64_t *next = change->before != NULL ? change->before : change->after;

	if (c->holding && c->kind->pages && next[0] == first[0] + c->held.pages &&
	    alike(c->kind, c->held.before, change->before) && alike(c->kind, c->held.after, change->after)) {
		c->held.pages++;
		return;
	}
	flush(c);
	c->held = *change;
	c->holding = true;
}

void
kvmctl_elements_compare(const struct kvmctl_elements *before, const struct kvmctl_elements *after,
			const struct kvmctl_element_kind *kind, kvmctl_element_visitor *visit, void *arg)
{
	struct compare c = { .kind = kind, .visit = visit, .arg = arg };
	size_t i = first_of(before, kind->tag), i_end = first_of(before, kind->tag + 1);
	size_t k = first_of(after, kind->tag), k_end = first_of(after, kind->tag + 1);

	while (i < i_end || k < k_end) {
		const uint64_t *a = i < i_end ? words_of(before, i) : NULL, *b = k < k_end ? words_of(after, k) : NULL;
		int order = a == NULL ? 1 : b == NULL ? -1 : words_compare(a + 1, b + 1, kind->keys);
		struct kvmctl_element_change change = { .kind = kind, .pages = 1 };

		if (order <= 0) {
			change.before = a + 1;
			change.before_words = (size_t)a[-1] - 1;
			i++;
		}
		if (order >= 0) {
			change.after = b + 1;
			change.after_words = (size_t)b[-1] - 1;
			k++;
		}
		if (order != 0 || change.before_words != change.after_words ||
		    words_compare(change.before, change.after, change.before_words) != 0)
			differ(&c, &change);
	}
	flush(&c);
}
