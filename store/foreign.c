#include "store/foreign.h"

#include <stdlib.h>
#include <string.h>

#include "store/config.h"
#include "store/dump.h"
#include "store/hardware.h"

#define PAGES_MAX (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(1) << 46)
#define MEMORY_UNIT UINT64_C(0x200000)
#define PLACES_OF_A_KIND 8u               /* so that each kind has some */
#define LISTED_SHARED (UINT64_C(1) << 20) /* so many leaves may come of sharing alone */

static const struct {
	const char *name, *text;
} flaws[KVMS_FLAWS] = {
	[KVMS_FLAW_OUTSIDE] = { "outside", "leads to a page outside memory" },
	[KVMS_FLAW_MISSING] = { "missing", "leads to a page that the image lacks" },
	[KVMS_FLAW_TWO_LEVELS] = { "two_levels", "leads to a page that is a node at another level too" },
	[KVMS_FLAW_LEVEL1] = { "level1", "leads on from level 1" },
	[KVMS_FLAW_LEAF_LEVEL] = { "leaf_level", "a leaf at a level where the hardware has none" },
	[KVMS_FLAW_ALIGNMENT] = { "alignment", "a leaf whose address is no multiple of its size" },
	[KVMS_FLAW_RESERVED] = { "reserved", "reserved bits are set" },
};

const char *
kvms_flaw_name(enum kvms_flaw flaw)
{
	return (unsigned)flaw < KVMS_FLAWS ? flaws[flaw].name : NULL;
}

const char *
kvms_flaw_text(enum kvms_flaw flaw)
{
	return (unsigned)flaw < KVMS_FLAWS ? flaws[flaw].text : NULL;
}

void
foreign_free(struct kvms *s)
{
	if (s->foreign == NULL)
		return;
	free(s->foreign->node);
	free(s->foreign->todo);
	free(s->foreign);
	s->foreign = NULL;
}

const struct kvms_adopted *
kvms_adopted(const struct kvms *s)
{
	return s->foreign != NULL ? &s->foreign->known : NULL;
}

void
foreign_element(const struct kvms *s, uint64_t words[FOREIGN_ELEMENT_WORDS])
{
	const struct foreign *f = s->foreign;

	words[0] = 24;
	words[1] = 0;
	words[2] = f->known.machine;
	words[3] = s->paging.levels;
	words[4] = f->pat;
	words[5] = s->live.kernel_root;
}

static uint64_t
sum(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* ---- Making one: pages ------------------------------------------------------------ */

struct making {
	struct kvms *s;
	struct foreign *f;
	const struct kvms_image *image;
	bool too_many;
};

static void
note(struct foreign *f, enum kvms_flaw flaw, uint64_t paddr, uint64_t word, unsigned level)
{
	struct kvms_adopted *known = &f->known;

	known->flaws++;
	if (known->count[flaw]++ >= PLACES_OF_A_KIND || known->places == KVMS_FLAW_PLACES)
		return;
	known->place[known->places].flaw = flaw;
	known->place[known->places].paddr = paddr;
	known->place[known->places].word = word;
	known->place[known->places++].level = level;
}

/* Take a page of the image, unless it was taken before.  False: there is none. */
static bool
page_take(struct making *m, uint64_t paddr)
{
	struct kvms *s = m->s;
	uint64_t words[NODE_ENTRIES];
	const void *bytes;

	if (s->slot[paddr / PAGE].usage != USAGE_UNUSED)
		return true;
	bytes = m->image->page(m->image->arg, paddr);
	if (bytes == NULL)
		return false;
	if (m->f->known.pages == PAGES_MAX) {
		m->too_many = true;
		return false;
	}
	m->f->known.pages++;
	memcpy(words, bytes, sizeof words);
	for (unsigned i = 0; i < NODE_ENTRIES; i++)
		if (words[i] != 0)
			word_set(s, word_paddr(paddr, i), words[i]);
	slot_claim(s, paddr / PAGE, USAGE_RESERVED, KIND_BOOT, 0, 1);
	return true;
}

/* ---- Making one: nodes -------------------------------------------------------------- */

static struct foreign_node *
node_of(const struct kvms *s, uint64_t paddr)
{
	return &s->foreign->node[s->slot[paddr / PAGE].more - 1];
}

/* The page is a node at "level", by one word or root more.  True: and at another level too, which is news. */
static bool
node_add(struct making *m, uint64_t paddr, unsigned level)
{
	struct foreign *f = m->f;
	struct slot *sl = slot_mut(m->s, paddr / PAGE);
	struct foreign_node *node;
	bool other;

	if (sl->more == 0) {
		f->node = grow(m->s, f->node, &f->capacity, f->count + 1, sizeof *f->node);
		f->node[f->count] = (struct foreign_node){ .paddr = paddr };
		sl->more = (uint32_t)++f->count;
	}
	node = &f->node[sl->more - 1];
	node->parents++;
	if ((node->levels >> level & 1) != 0)
		return false;
	other = node->levels != 0;
	node->levels |= UINT32_C(1) << level;
	f->todo = grow(m->s, f->todo, &f->todo_capacity, 2 * (f->todo_count + 1), sizeof *f->todo);
	f->todo[2 * f->todo_count] = sl->more - 1;
	f->todo[2 * f->todo_count++ + 1] = level;
	return other;
}

static void
word_scan(struct making *m, uint64_t paddr, unsigned level)
{
	const struct paging *p = &m->s->paging;
	uint64_t word = word_at(m->s, paddr), child;
	enum kvms_flaw flaw = hardware_flaw(p, word, level);

	if (flaw != KVMS_FLAWS)
		note(m->f, flaw, paddr, word, level);
	if (level == 1 || pte_kind(p, word, level) != PTE_TABLE)
		return;
	child = pte_table_paddr(p, word);
	if (child >= m->s->max_paddr)
		note(m->f, KVMS_FLAW_OUTSIDE, paddr, word, level);
	else if (!page_take(m, child))
		note(m->f, KVMS_FLAW_MISSING, paddr, word, level);
	else if (node_add(m, child, level - 1))
		note(m->f, KVMS_FLAW_TWO_LEVELS, paddr, word, level);
}

/* All nodes from the roots on, higher levels first. */
static void
nodes_find(struct making *m)
{
	struct foreign *f = m->f;

	for (size_t i = 0; i < f->todo_count && !m->too_many; i++) {
		uint64_t paddr = f->node[f->todo[2 * i]].paddr;
		unsigned level = (unsigned)f->todo[2 * i + 1];

		for (unsigned k = 0; k < NODE_ENTRIES && !m->too_many; k++)
			if (pte_kind(&m->s->paging, word_at(m->s, word_paddr(paddr, k)), level) != PTE_ABSENT)
				word_scan(m, word_paddr(paddr, k), level);
	}
}

/* ---- Making one: what is known -------------------------------------------------------- */

/* Leaves behind a word of a node at "level", those below it counted already. */
static uint64_t
leaves_behind(const struct kvms *s, uint64_t word, unsigned level)
{
	uint64_t child;

	if (pte_kind(&s->paging, word, level) == PTE_LEAF)
		return 1;
	child = child_of(s, word, level);
	return child != NO_NODE ? node_of(s, child)->leaves[level - 1] : 0;
}

/* True if a word of a further table's root says what the first table's says. */
static bool
is_kernels(const struct kvms *s, uint64_t table, unsigned level, unsigned index, uint64_t word)
{
	return table != KERNEL_TABLE && level == s->paging.levels && index >= NODE_ENTRIES / 2 &&
	       word == word_at(s, word_paddr(s->live.kernel_root, index));
}

static uint64_t
leaves_of_table(const struct kvms *s, uint64_t table)
{
	uint64_t root = table_root(s, table), count = 0;

	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(s, word_paddr(root, i));

		if (!is_kernels(s, table, s->paging.levels, i, word))
			count = sum(count, leaves_behind(s, word, s->paging.levels));
	}
	return count;
}

static void
leaves_count(struct kvms *s)
{
	struct foreign *f = s->foreign;

	for (unsigned level = 1; level <= s->paging.levels; level++)
		for (size_t i = 0; i < f->count; i++) {
			struct foreign_node *node = &f->node[i];

			for (unsigned k = 0; (node->levels >> level & 1) != 0 && k < NODE_ENTRIES; k++)
				node->leaves[level] =
				    sum(node->leaves[level],
					leaves_behind(s, word_at(s, word_paddr(node->paddr, k)), level));
		}
	f->known.leaves = leaves_of_table(s, KERNEL_TABLE);
	for (uint64_t id = record_next(s, KVMS_ID_VM_SPACE, 1); id != 0; id = record_next(s, KVMS_ID_VM_SPACE, id + 1))
		f->known.leaves = sum(f->known.leaves, leaves_of_table(s, id));
	f->known.leaves_listed = NODE_ENTRIES * f->count + LISTED_SHARED;
	if (f->known.leaves_listed > f->known.leaves)
		f->known.leaves_listed = f->known.leaves;
	s->live.totals.leaves_untracked = f->known.leaves;
}

static unsigned
highest_level(const struct foreign_node *node)
{
	return 31 - (unsigned)__builtin_clz(node->levels);
}

/* Entries of a node that are not absent. */
static uint16_t
present(const struct kvms *s, uint64_t node, unsigned level)
{
	unsigned count = 0;

	for (unsigned i = 0; i < NODE_ENTRIES; i++)
		count += pte_kind(&s->paging, word_at(s, word_paddr(node, i)), level) != PTE_ABSENT;
	return (uint16_t)count;
}

static void
slots_fill(struct kvms *s)
{
	struct foreign *f = s->foreign;

	for (size_t i = 0; i < f->count; i++) {
		const struct foreign_node *node = &f->node[i];
		struct slot *sl = slot_claim(s, node->paddr / PAGE, USAGE_PAGETABLE, KIND_NODE, 0, node->parents);

		sl->level = (uint8_t)highest_level(node);
		sl->nr_children = present(s, node->paddr, sl->level);
		f->known.shared += node->parents > 1;
		if (node->parents > f->known.most_parents)
			f->known.most_parents = node->parents;
	}
	f->known.nodes = f->count;
}

static void
tables_fill(struct making *m)
{
	struct kvms *s = m->s;
	struct vm_space *space;
	void *cpu;

	s->live.kernel_root = m->image->roots[0];
	for (size_t i = 1; i < m->image->roots_count; i++) {
		(void)record_new(s, KVMS_ID_VM_SPACE, (void **)&space);
		space->root = m->image->roots[i];
		space->handle = 1;
		s->live.totals.vm_spaces++;
	}
	(void)record_new(s, REC_CPU, &cpu);
}

static bool
populate(struct kvms *s, void *arg, struct kvms_refusal *why)
{
	struct making m = { .s = s, .image = arg };
	const struct kvms_image *image = arg;

	m.f = s->foreign = calloc(1, sizeof *m.f);
	if (m.f == NULL)
		out_of_memory(s);
	m.f->known.machine = image->machine;
	if (image->machine == KVMS_MACHINE_X86_64)
		m.f->pat = image->pat != 0 ? image->pat : KVMS_PAT_RESET;
	for (size_t i = 0; i < image->pages_count; i++)
		(void)page_take(&m, image->pages[i]);
	for (size_t i = 0; i < image->roots_count; i++) {
		if (!page_take(&m, image->roots[i]) && !m.too_many) {
			config_refuse(why, -1, "the root of a table is a page that the image lacks");
			return false;
		}
		if (!m.too_many)
			(void)node_add(&m, image->roots[i], s->paging.levels);
	}
	nodes_find(&m);
	if (m.too_many) {
		config_refuse(why, -1, "more than 1048576 page-table pages: are these page tables?");
		return false;
	}
	slots_fill(s);
	tables_fill(&m);
	leaves_count(s);
	return true;
}

/* ---- Making one: what it is made from --------------------------------------------------- */

static bool
addresses_ok(const uint64_t *at, size_t count, uint64_t max_paddr, bool ascending)
{
	for (size_t i = 0; i < count; i++)
		if (at[i] % PAGE != 0 || at[i] >= max_paddr || (ascending && i > 0 && at[i] <= at[i - 1]))
			return false;
	return true;
}

struct kvms *
kvms_adopt(const struct kvms_image *image, struct kvms_refusal *why)
{
	uint64_t max_paddr = image->max_paddr;
	struct kvms_op config;
	struct paging paging;
	enum arch arch;

	why->key = -1;
	if (!hardware_paging(image->machine, image->levels, &paging, &arch)) {
		config_refuse(why, -1, "no such machine: x86_64 has 4 or 5 levels, riscv64 3, 4 or 5, loongarch64 4");
		return NULL;
	}
	if (max_paddr == 0 || max_paddr > MEMORY_MAX) {
		config_refuse(why, -1, "memory ends at 0 or beyond 0x400000000000");
		return NULL;
	}
	max_paddr = (max_paddr + MEMORY_UNIT - 1) / MEMORY_UNIT * MEMORY_UNIT;
	if (image->roots_count == 0 || !addresses_ok(image->roots, image->roots_count, max_paddr, false)) {
		config_refuse(why, -1, "a table has no root, or one that is no page of memory");
		return NULL;
	}
	if (!addresses_ok(image->pages, image->pages_count, max_paddr, true)) {
		config_refuse(why, -1, "pages of the image are no pages of memory, or not ascending");
		return NULL;
	}
	kvms_op_init(&config, kvms_store_row());
	config.arg[CONFIG_arch] = arch;
	config.arg[CONFIG_max_paddr] = max_paddr;
	return store_of_contents(&config, &paging, populate, (void *)(uintptr_t)image, why);
}

/* ---- Reading ------------------------------------------------------------------------------ */

struct translation
foreign_translate(const struct kvms *s, uint64_t root, uint64_t va)
{
	struct translation t = { .found = false };
	uint64_t rights = HARDWARE_RIGHTS, node = root;

	for (unsigned level = s->paging.levels;; level--) {
		uint64_t word = word_at(s, word_paddr(node, entry_index(va, level))), child = child_of(s, word, level);

		if (child == NO_NODE) {
			t.start = va & ~(page_size(level) - 1);
			t.last = t.start + (page_size(level) - 1);
			t.level = level;
			t.found = pte_kind(&s->paging, word, level) == PTE_LEAF;
			if (t.found)
				t.leaf = hardware_leaf(&s->paging, s->foreign->pat, word, level, t.start, rights);
			return t;
		}
		rights &= hardware_rights(&s->paging, word);
		node = child;
	}
}

/* A way through a table, leaf by leaf. */
struct walk {
	struct kvms *s;
	uint64_t table;
	kvms_leaf_visitor *visit;
	void *arg;
	uint64_t left;        /* leaves that may still be listed */
	const uint64_t *ways; /* see ways_count(); NULL: all leaves, wherever they lead */
	uint64_t paddr;
};

static bool
leaf_reaches(const struct leaf *leaf, unsigned level, uint64_t paddr)
{
	return paddr >= leaf->paddr && paddr - leaf->paddr < page_size(level);
}

static bool
walk_leaf(struct walk *w, uint64_t va, unsigned level, uint64_t word, uint64_t rights)
{
	struct leaf leaf = hardware_leaf(&w->s->paging, w->s->foreign->pat, word, level, va, rights);
	const struct kvms_leaf each = {
		.table = w->table,
		.va = va,
		.paddr = leaf.paddr,
		.size = page_size(level),
		.level = level,
		.word = word,
		.prop = leaf.prop,
	};

	if (w->ways != NULL && !leaf_reaches(&leaf, level, w->paddr))
		return true;
	if (w->left == 0)
		return true;
	w->left--;
	return w->visit(w->arg, &each);
}

#define WAYS (LEVELS_MAX + 1) /* numbers for each node */

/* How many leaves below a node at "level" reach the byte. */
static uint64_t
ways_of(const struct walk *w, uint64_t node, unsigned level)
{
	return w->ways[(size_t)(node_of(w->s, node) - w->s->foreign->node) * WAYS + level];
}

/* Is there anything to visit below a node? */
static bool
is_worth(const struct walk *w, uint64_t child, unsigned level)
{
	if (w->ways != NULL)
		return ways_of(w, child, level) > 0;
	return w->left > 0 && node_of(w->s, child)->leaves[level] > 0;
}

static bool
walk_node(struct walk *w, uint64_t node, unsigned level, uint64_t base, uint64_t rights)
{
	const struct paging *p = &w->s->paging;

	for (unsigned i = 0; i < NODE_ENTRIES; i++) {
		uint64_t word = word_at(w->s, word_paddr(node, i)), child, va = base + i * page_size(level);
		enum pte_kind kind = pte_kind(p, word, level);

		if (kind == PTE_ABSENT || is_kernels(w->s, w->table, level, i, word))
			continue;
		if (level == p->levels && i >= NODE_ENTRIES / 2)
			va |= p->kernel_base;
		if (kind == PTE_LEAF) {
			if (!walk_leaf(w, va, level, word, rights))
				return false;
			continue;
		}
		child = child_of(w->s, word, level);
		if (child != NO_NODE && is_worth(w, child, level - 1) &&
		    !walk_node(w, child, level - 1, va, rights & hardware_rights(p, word)))
			return false;
	}
	return true;
}

bool
foreign_leaves(struct kvms *s, uint64_t table, kvms_leaf_visitor *visit, void *arg)
{
	struct walk w = { .s = s, .table = table, .visit = visit, .arg = arg, .left = s->foreign->known.leaves_listed };
	uint64_t root = table_root(s, table);

	return root == NO_NODE || walk_node(&w, root, s->paging.levels, 0, HARDWARE_RIGHTS);
}

/* How many leaves behind a word of a node at "level" reach the byte, those below it counted already. */
static uint64_t
ways_behind(const struct walk *w, uint64_t word, unsigned level, unsigned index)
{
	const struct paging *p = &w->s->paging;
	struct leaf leaf;
	uint64_t child;

	switch (pte_kind(p, word, level)) {
	case PTE_ABSENT:
		return 0;
	case PTE_LEAF:
		leaf = hardware_leaf(p, w->s->foreign->pat, word, level, index * page_size(level), HARDWARE_RIGHTS);
		return leaf_reaches(&leaf, level, w->paddr);
	case PTE_TABLE:
		break;
	}
	child = child_of(w->s, word, level);
	return child != NO_NODE ? ways_of(w, child, level - 1) : 0;
}

static uint64_t
ways_of_words(const struct walk *w, uint64_t node, unsigned level)
{
	uint64_t count = 0;

	for (unsigned k = 0; k < NODE_ENTRIES; k++) {
		uint64_t word = word_at(w->s, word_paddr(node, k));

		if (!is_kernels(w->s, w->table, level, k, word))
			count = sum(count, ways_behind(w, word, level, k));
	}
	return count;
}

/* Count the ways to the byte from each node, level by level. */
static void
ways_count(const struct walk *w, uint64_t *ways)
{
	const struct foreign *f = w->s->foreign;

	memset(ways, 0, f->count * WAYS * sizeof *ways);
	for (unsigned level = 1; level < w->s->paging.levels; level++)
		for (size_t i = 0; i < f->count; i++)
			if ((f->node[i].levels >> level & 1) != 0)
				ways[i * WAYS + level] = ways_of_words(w, f->node[i].paddr, level);
}

bool
foreign_reverse(struct kvms *s, uint64_t table, uint64_t paddr, uint64_t most, kvms_leaf_visitor *visit, void *arg)
{
	uint64_t root = table_root(s, table), *ways = scratch_need(s, s->foreign->count * WAYS);
	struct walk w = {
		.s = s, .table = table, .visit = visit, .arg = arg, .left = UINT64_MAX, .ways = ways, .paddr = paddr
	};

	ways_count(&w, ways);
	return ways_of_words(&w, root, s->paging.levels) <= most &&
	       walk_node(&w, root, s->paging.levels, 0, HARDWARE_RIGHTS);
}
