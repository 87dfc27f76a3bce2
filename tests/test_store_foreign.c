/*
 * Foreign stores: page tables of any kernel, read as the hardware reads them;
 * our own, dumped and adopted, say the same; and images that mean harm.
 */
#include "tests/store_kit.h"

#include <stdio.h>

#include "store/dump.h"
#include "store/foreign.h"
#include "store/pagetable.h"

#define WB (UINT64_C(4) << KVMS_PROP_CACHE_SHIFT)
#define WT (UINT64_C(3) << KVMS_PROP_CACHE_SHIFT)
#define WP (UINT64_C(2) << KVMS_PROP_CACHE_SHIFT)
#define WC (UINT64_C(1) << KVMS_PROP_CACHE_SHIFT)
#define RWX (KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X)
#define NX (UINT64_C(1) << 63)

/* ---- Images ----------------------------------------------------------------------- */

#define PAGES 64u

/* A few pages of memory, numbered from 0; page n stands at n * PAGE. */
struct memory {
	uint64_t word[PAGES][512];
	bool there[PAGES];
};

static const void *
memory_page(void *arg, uint64_t paddr)
{
	const struct memory *m = arg;

	return paddr / PAGE < PAGES && m->there[paddr / PAGE] ? m->word[paddr / PAGE] : NULL;
}

static void
put(struct memory *m, unsigned page, unsigned index, uint64_t word)
{
	m->there[page] = true;
	m->word[page][index] = word;
}

/* Tables for an x86 leaf at "va": pages 1 (root), 2, 3, ... downwards to "level", all rights given. */
static void
x86_path(struct memory *m, unsigned levels, uint64_t va, unsigned level, uint64_t word)
{
	for (unsigned l = levels; l > level; l--)
		put(m, levels - l + 1, entry_index(va, l), (uint64_t)(levels - l + 2) * PAGE | 7);
	put(m, levels - level + 1, entry_index(va, level), word);
}

static struct kvms *
adopt(struct memory *m, enum kvms_machine machine, unsigned levels, const char *want_refusal)
{
	static const uint64_t root = PAGE;
	struct kvms_image image = { .machine = machine,
				    .levels = levels,
				    .max_paddr = PAGES * PAGE,
				    .roots = &root,
				    .roots_count = 1,
				    .page = memory_page,
				    .arg = m };
	struct kvms_refusal why = { .key = 0 };
	struct kvms *s = kvms_adopt(&image, &why);

	if (want_refusal == NULL)
		cr_assert_not_null(s, "%s", why.text);
	else
		cr_assert(s == NULL && strstr(why.text, want_refusal) != NULL, "%s", why.text);
	return s;
}

/* What va reaches: "found=..." as a trace prints it. */
#define see(s, va, want) kit_see(s, "ok " want, "translate va=0x%" PRIx64, (uint64_t)(va))

/* ---- The hardware's rules ------------------------------------------------------------- */

Test(foreign, x86_words_mean_what_the_hardware_takes_them_for)
{
	const uint64_t va = UINT64_C(0xffff888000200000);
	struct memory m = { 0 };
	struct kvms *s;

	x86_path(&m, 4, va, 1, UINT64_C(0x123456e7) | NX);            /* all but global, PAT, no execute */
	put(&m, 4, 1, UINT64_C(0x80));                                /* PAT alone: absent */
	put(&m, 4, 2, UINT64_C(0x5001));                              /* read, execute */
	put(&m, 3, 2, UINT64_C(0x400000) | 0x1000 | 0x80 | 3);        /* 2 MiB, its own PAT bit */
	put(&m, 2, 3, UINT64_C(0x80000000) | 0x80 | 0x1 | 0x18 | NX); /* 1 GiB, cache type 3 */
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	see(s, va + 0x123,
	    "found=true paddr=0x12345123 start=0xffff888000200000 end=0xffff888000201000 level=1 prop=rwad:wb+user "
	    "tracked=false");
	see(s, va + 0x1000, "found=false");
	see(s, va + 0x2000,
	    "found=true paddr=0x5000 start=0xffff888000202000 end=0xffff888000203000 level=1 prop=rx:wb tracked=false");
	see(s, UINT64_C(0xffff888000400000),
	    "found=true paddr=0x400000 start=0xffff888000400000 end=0xffff888000600000 level=2 prop=rwx:wb "
	    "tracked=false");
	see(s, UINT64_C(0xffff8880c0000010),
	    "found=true paddr=0x80000010 start=0xffff8880c0000000 end=0xffff888100000000 level=3 prop=r:uc "
	    "tracked=false");
	see(s, UINT64_C(0x800000000000), "found=false"); /* not canonical */
	cr_assert_eq(kvms_adopted(s)->flaws, 0);
	cr_assert_eq(kvms_adopted(s)->leaves, 4);
	kit_sound(s);
	kvms_free(&s);
}

Test(foreign, rights_are_those_that_all_levels_leave)
{
	static const struct {
		uint64_t table, leaf;
		const char *prop;
	} cases[] = {
		{ 7, 7, "rwx:wb+user" },     { 3, 7, "rwx:wb" },    { 5, 7, "rx:wb+user" }, { 7 | NX, 7, "rw:wb+user" },
		{ 7, 7 | NX, "rw:wb+user" }, { 1 | NX, 7, "r:wb" }, { 7, 1, "rx:wb" },      { 1, 7 | NX, "r:wb" },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++)
		for (unsigned level = 2; level <= 5; level++) {
			struct memory m = { 0 };
			struct kvms *s;

			x86_path(&m, 5, 0, 1, 0x9000 | cases[i].leaf);
			m.word[6 - level][0] = m.word[6 - level][0] - 7 + cases[i].table;
			s = adopt(&m, KVMS_MACHINE_X86_64, 5, NULL);
			cr_expect_not_null(strstr(kit_ask(s, "translate va=0x0"), cases[i].prop),
					   "case %zu level %u: %s", i, level, kit_ask(s, "translate va=0x0"));
			kvms_free(&s);
		}
}

static bool
leaf_copy(void *arg, const struct kvms_leaf *leaf)
{
	*(struct kvms_leaf *)arg = *leaf;
	return true;
}

Test(foreign, cache_types_come_from_the_pat)
{
	static const uint64_t root = PAGE, reset[] = { WB, WT, 0, 0, WB, WT, 0, 0 };
	static const uint64_t other[] = { WC, WP, WT, WB, 0, 0, WC, WP }; /* WC WP WT WB UC UC- WC WP */
	struct memory m = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		struct kvms_image image = { .machine = KVMS_MACHINE_X86_64,
					    .levels = 4,
					    .max_paddr = PAGES * PAGE,
					    .roots = &root,
					    .roots_count = 1,
					    .page = memory_page,
					    .arg = &m };
		struct kvms_refusal why;
		struct kvms_leaf leaf;
		struct kvms *s;

		x86_path(&m, 4, 0, 1, 0x9000 | 1 | (uint64_t)(i & 3) << 3 | (i & 4 ? 0x80 : 0));
		s = kvms_adopt(&image, &why);
		cr_assert_not_null(s);
		cr_assert_eq(kvms_pat(s), KVMS_PAT_RESET);
		cr_assert(kvms_leaves(s, 0, leaf_copy, &leaf));
		cr_assert_eq(leaf.prop & ~UINT64_C(0xffff), reset[i]);
		kvms_free(&s);
		image.pat = UINT64_C(0x0501070006040501);
		s = kvms_adopt(&image, &why);
		cr_assert_not_null(s);
		cr_assert(kvms_leaves(s, 0, leaf_copy, &leaf));
		cr_assert_eq(leaf.prop & ~UINT64_C(0xffff), other[i], "%u", i);
		kvms_free(&s);
	}
}

/* A riscv word. */
static uint64_t
rv(uint64_t paddr, uint64_t bits)
{
	return paddr >> 2 | bits;
}

Test(foreign, riscv_words_with_page_types_and_contiguous_pages)
{
	struct memory m = { 0 };
	struct kvms *s;

	put(&m, 1, 0, rv(2 * PAGE, 0x1));
	put(&m, 1, 1, rv(UINT64_C(0x40000000), 0x1 | 0xe)); /* 1 GiB in Sv39's root */
	put(&m, 2, 0, rv(3 * PAGE, 0x1));
	put(&m, 2, 1, rv(UINT64_C(0x200000), 0x1 | 0x2 | 0x20) | UINT64_C(1) << 61);
	put(&m, 3, 0, rv(0x5000, 0x1 | 0xa | 0x10 | 0xc0));
	put(&m, 3, 1, rv(0x6000, 0x0 | 0xe)); /* not valid */
	put(&m, 3, 2, rv(0x7000, 0x1 | 0x8) | UINT64_C(2) << 61);
	for (unsigned i = 16; i < 32; i++) /* 64 KiB at 0x120000 */
		put(&m, 3, i, rv(UINT64_C(0x128000), 0x1 | 0x6) | UINT64_C(1) << 63);
	s = adopt(&m, KVMS_MACHINE_RISCV64, 3, NULL);
	see(s, 0x10, "found=true paddr=0x5010 start=0x0 end=0x1000 level=1 prop=rxad:wb+user tracked=false");
	see(s, 0x1000, "found=false");
	see(s, 0x2000, "found=true paddr=0x7000 start=0x2000 end=0x3000 level=1 prop=x:uc tracked=false");
	see(s, 0x13456, "found=true paddr=0x123456 start=0x13000 end=0x14000 level=1 prop=rw:wb tracked=false");
	see(s, 0x200000,
	    "found=true paddr=0x200000 start=0x200000 end=0x400000 level=2 prop=r:wc+global tracked=false");
	see(s, 0x7fffffff,
	    "found=true paddr=0x7fffffff start=0x40000000 end=0x80000000 level=3 prop=rwx:wb tracked=false");
	kit_see(s, "ok mappings=[kernel:0x1f123:1:untracked]", "reverse_map paddr=0x12f123");
	cr_assert_eq(kvms_adopted(s)->flaws, 0);
	cr_assert_str_eq(kvms_machine_name(s), "riscv64_sv39");
	kvms_free(&s);
}

Test(foreign, sv57_has_five_levels_and_leaves_at_each)
{
	const uint64_t va = UINT64_C(0xff00000000000000);
	struct memory m = { 0 };
	struct kvms *s;

	for (unsigned level = 5; level >= 2; level--) {
		put(&m, 6 - level, level == 5 ? 256 : 0, rv((uint64_t)(7 - level) * PAGE, 0x1));
		put(&m, 6 - level, 300, rv(page_size(level), 0x1 | 0x2));
	}
	put(&m, 5, 0, rv(0x5000, 0x3));
	s = adopt(&m, KVMS_MACHINE_RISCV64, 5, NULL);
	cr_assert_str_eq(kvms_machine_name(s), "riscv64_sv57");
	see(s, va,
	    "found=true paddr=0x5000 start=0xff00000000000000 end=0xff00000000001000 level=1 prop=r:wb tracked=false");
	for (unsigned level = 2; level <= 5; level++) {
		uint64_t at = level == 5 ? UINT64_C(0xff2c000000000000) : va + 300 * page_size(level);
		char want[40];

		snprintf(want, sizeof want, "paddr=0x%" PRIx64 " ", page_size(level));
		cr_expect_not_null(strstr(kit_ask(s, "translate va=0x%" PRIx64, at), want), "%s",
				   kit_ask(s, "translate va=0x%" PRIx64, at));
	}
	cr_assert_eq(kvms_adopted(s)->leaves, 5);
	kit_sound(s);
	kvms_free(&s);
}

Test(foreign, loongarch_directories_have_no_present_bit)
{
	struct memory m = { 0 };
	struct kvms *s;

	put(&m, 1, 0, 2 * PAGE);
	put(&m, 2, 0, 3 * PAGE);
	put(&m, 3, 0, 4 * PAGE);
	put(&m, 3, 1, UINT64_C(0x200000) | 0x1000 | 0x40 | 0x1 | 0x10 | 0x100); /* 2 MiB, global */
	put(&m, 3, 2, UINT64_C(0x200000) | 0x40);                               /* huge, not valid */
	put(&m, 4, 0, UINT64_C(0x5000) | 0x1 | 0x2 | 0xc | 0x20 | UINT64_C(1) << 61);
	put(&m, 4, 1, UINT64_C(0x6000) | 0x2);
	s = adopt(&m, KVMS_MACHINE_LOONGARCH64, 4, NULL);
	see(s, 0x0, "found=true paddr=0x5000 start=0x0 end=0x1000 level=1 prop=xd:wc+user tracked=false");
	see(s, 0x1000, "found=false");
	see(s, 0x200000,
	    "found=true paddr=0x200000 start=0x200000 end=0x400000 level=2 prop=rwx:wb+global tracked=false");
	see(s, 0x400000, "found=false");
	cr_assert_eq(kvms_adopted(s)->flaws, 0);
	kvms_free(&s);
}

/* ---- What such a store is ------------------------------------------------------------------ */

Test(foreign, every_operation_is_refused_and_nothing_changes)
{
	struct memory m = { 0 };
	struct kvms_outcome out = { .name = 0 };
	static const uint64_t list[64];
	uint64_t digest, steps = 0;
	struct kvms *s;

	x86_path(&m, 4, 0, 1, 0x9007);
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	digest = kvms_digest(s);
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		struct kvms_op op;

		if (kvms_op_row(code) == NULL)
			continue;
		kvms_op_init(&op, kvms_op_row(code));
		op.list = list;
		for (unsigned i = 0; i < kvms_op_row(code)->args_count; i++) {
			uint64_t value;

			if (kvms_word_at(kvms_op_row(code)->args[i].type, 0, &value) != NULL)
				op.arg[i] = value;
		}
		cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_DONE);
		cr_assert_str_eq(kit_outcome(out.name), "foreign_store");
		cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
		cr_assert_str_eq(kit_outcome(out.name), "foreign_store", "%s", kvms_op_row(code)->name);
		cr_assert_eq(kvms_steps(s), ++steps);
	}
	cr_assert_gt(steps, 100);
	cr_assert_eq(kvms_digest(s), digest);
	kit_sound(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
}

Test(foreign, requests_answer)
{
	struct memory m = { 0 };
	struct kvms *s;

	x86_path(&m, 4, UINT64_C(0xffff800000000000), 1, 0x9003);
	put(&m, 4, 7, 0x9001);
	m.there[20] = true; /* nothing leads there */
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	kit_see(s, "ok levels=[4:0x1000:256:0x2007,3:0x2000:0:0x3007,2:0x3000:0:0x4007,1:0x4000:0:0x9003]",
		"walk va=0xffff800000000000");
	kit_see(s, "ok rc=1 usage=PageTable kind=node meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0",
		"frame paddr=0x4000");
	kit_see(s, "ok level=1 nr_children=2 stray=false holder=0 rc=1", "node paddr=0x4000");
	kit_see(s, "pre bad_paddr", "node paddr=0x9000");
	kit_see(s, "ok frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[]", "who_holds paddr=0x9000");
	kit_see(s, "ok mappings=[kernel:0xffff800000000fff:1:untracked,kernel:0xffff800000007fff:1:untracked]",
		"reverse_map paddr=0x9fff");
	kit_see(s, "ok areas=[]", "areas");
	kit_see(s, "ok free_va=[]", "free_va");
	kit_see(s, "ok nodes=4", "nodes");
	kit_see(s, "ok nodes=4", "nodes table=kernel");
	kit_see(s, "pre unknown_vm_space", "nodes table=1");
	kit_see(s, "ok count=0 paddrs=[]", "unhandled");
	kit_see(s, "ok entries=[]", "stale");
	kit_see(s, "ok inv=ok", "check");
	kvms_free(&s);
}

/* ---- Our own tables, dumped and adopted ------------------------------------------------------- */

struct copy {
	struct {
		uint64_t paddr;
		unsigned char bytes[PAGE];
	} *page;
	uint64_t *paddr;
	size_t count, capacity;
};

static bool
copy_page(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	struct copy *c = arg;

	if (c->count == c->capacity) {
		c->capacity = c->capacity * 2 + 64;
		c->page = realloc(c->page, c->capacity * sizeof *c->page);
		c->paddr = realloc(c->paddr, c->capacity * sizeof *c->paddr);
		cr_assert(c->page != NULL && c->paddr != NULL);
	}
	cr_assert(c->count == 0 || c->paddr[c->count - 1] < paddr);
	c->paddr[c->count] = c->page[c->count].paddr = paddr;
	memcpy(c->page[c->count++].bytes, bytes, PAGE);
	return true;
}

static const void *
copied_page(void *arg, uint64_t paddr)
{
	const struct copy *c = arg;

	for (size_t low = 0, high = c->count; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (c->paddr[middle] == paddr)
			return c->page[middle].bytes;
		if (c->paddr[middle] < paddr)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static void
copy_free(struct copy *c)
{
	free(c->page);
	free(c->paddr);
	memset(c, 0, sizeof *c);
}

static struct kvms *
adopt_copy(const struct kvms *s, struct copy *c, const uint64_t *roots, size_t roots_count)
{
	const char *name = kvms_machine_name(s);
	struct kvms_image image = {
		.machine = strncmp(name, "x86", 3) == 0    ? KVMS_MACHINE_X86_64
			   : strncmp(name, "risc", 4) == 0 ? KVMS_MACHINE_RISCV64
							   : KVMS_MACHINE_LOONGARCH64,
		.levels = kvms_levels(s),
		.max_paddr = s->max_paddr,
		.pat = kvms_pat(s),
		.roots = roots,
		.roots_count = roots_count,
		.pages = c->paddr,
		.pages_count = c->count,
		.page = copied_page,
		.arg = c,
	};
	struct kvms_refusal why = { .key = 0 };
	struct kvms *foreign = kvms_adopt(&image, &why);

	cr_assert_not_null(foreign, "%s", why.text);
	return foreign;
}

struct leaf_list {
	struct kvms_leaf *at;
	size_t count, capacity;
	uint64_t rights; /* one of these bits makes a leaf for the hardware: not each word that is one to us */
};

static bool
list_leaf(void *arg, const struct kvms_leaf *leaf)
{
	struct leaf_list *l = arg;

	if (l->rights != 0 && (leaf->word & l->rights) == 0)
		return true;
	if (l->count == l->capacity) {
		l->capacity = l->capacity * 2 + 64;
		l->at = realloc(l->at, l->capacity * sizeof *l->at);
		cr_assert_not_null(l->at);
	}
	l->at[l->count++] = *leaf;
	return true;
}

/* x86: without r a word is absent; riscv: without r, w and x it leads on. */
static uint64_t
leaf_rights(const char *machine)
{
	return strncmp(machine, "x86", 3) == 0 ? 0x1 : strncmp(machine, "riscv", 5) == 0 ? 0xe : 0;
}

/* Nothing is wrong but what the hardware does not take and we do: riscv words without r. */
static void
sound_but_for_rights(const struct kvms *foreign)
{
	const struct kvms_adopted *known = kvms_adopted(foreign);

	cr_assert_eq(known->flaws, known->count[KVMS_FLAW_LEVEL1] + known->count[KVMS_FLAW_RESERVED]);
	cr_assert(known->flaws == 0 || known->machine == KVMS_MACHINE_RISCV64);
}

/* Gives how many leaves there are. */
static size_t
same_leaves(struct kvms *ours, uint64_t table, struct kvms *foreign, uint64_t foreign_table)
{
	bool is_loong = strcmp(kvms_machine_name(ours), "loongarch64") == 0; /* uc reads as wb in ours */
	uint64_t ignored = is_loong ? ~UINT64_C(0xffff) : 0;
	struct leaf_list a = { .rights = leaf_rights(kvms_machine_name(ours)) }, b = { 0 };
	size_t count;

	cr_assert(kvms_leaves(ours, table, list_leaf, &a));
	cr_assert(kvms_leaves(foreign, foreign_table, list_leaf, &b));
	cr_assert_eq(a.count, b.count);
	for (size_t i = 0; i < a.count; i++) {
		const struct kvms_leaf *x = &a.at[i], *y = &b.at[i];

		cr_assert(x->va == y->va && x->paddr == y->paddr && x->size == y->size && x->word == y->word &&
			      x->level == y->level && ((x->prop ^ y->prop) & ~ignored) == 0 && !y->tracked,
			  "va 0x%" PRIx64 ": word 0x%" PRIx64 " prop 0x%" PRIx64 " and 0x%" PRIx64, x->va, x->word,
			  x->prop, y->prop);
		cr_assert_eq(y->table, foreign_table);
	}
	count = a.count;
	free(a.at);
	free(b.at);
	return count;
}

static bool
count_page(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	(void)paddr;
	(void)bytes;
	++*(uint64_t *)arg;
	return true;
}

/* Everything of a store as an image: its leaves come back, and so do its pages. */
static size_t
round_trip(struct kvms *s)
{
	uint64_t roots[64], spaces[64];
	struct copy c = { 0 }, again = { 0 };
	size_t count = 1, leaves;
	struct kvms *foreign;
	uint64_t all = 0;

	cr_assert(kvms_root(s, 0, &roots[0]));
	for (uint64_t id = kvms_next_space(s, 0); id != 0 && count < 64; id = kvms_next_space(s, id)) {
		spaces[count] = id;
		cr_assert(kvms_root(s, id, &roots[count++]));
	}
	cr_assert(kvms_pages(s, KVMS_ALL_TABLES, false, copy_page, &c));
	foreign = adopt_copy(s, &c, roots, count);
	sound_but_for_rights(foreign);
	leaves = same_leaves(s, 0, foreign, 0);
	for (size_t i = 1; i < count; i++)
		leaves += same_leaves(s, spaces[i], foreign, i);
	cr_assert_leq(kvms_adopted(foreign)->leaves, leaves);
	cr_assert(kvms_pages(foreign, KVMS_ALL_TABLES, false, copy_page, &again));
	cr_assert_eq(again.count, c.count);
	cr_assert(kvms_pages(s, KVMS_ALL_TABLES, true, count_page, &all));
	cr_assert_geq(all, c.count);
	cr_assert_eq(memcmp(again.page, c.page, c.count * sizeof *c.page), 0);
	copy_free(&again);
	kvms_free(&foreign);
	copy_free(&c);
	/* one table alone is whole by itself */
	for (size_t i = 0; i < count; i++) {
		cr_assert(kvms_pages(s, i == 0 ? 0 : spaces[i], false, copy_page, &c));
		foreign = adopt_copy(s, &c, &roots[i], 1);
		sound_but_for_rights(foreign);
		cr_assert_eq(kvms_adopted(foreign)->nodes, c.count);
		if (i == 0)
			same_leaves(s, 0, foreign, 0);
		kvms_free(&foreign);
		copy_free(&c);
	}
	return leaves;
}

Test(foreign, our_tables_adopted_say_what_they_said, .timeout = 120)
{
	size_t leaves = 0;

	for (unsigned world = 0; world < kit_worlds_count; world++) {
		struct kvms_outcome out = { .name = 0 };
		size_t before = leaves;
		struct kit_walk w;

		kit_walk_init(&w, NULL, world, 7 + world);
		for (uint64_t i = 0, n = kit_scaled(3000); i < n; i++) {
			if (kit_walk_draw(&w))
				(void)kvms_apply(w.s, &w.op, &out);
			if (i % (n / 20) == n / 20 - 1)
				leaves += round_trip(w.s);
		}
		/* a shortened walk may come to no leaf */
		cr_expect(leaves > before || kit_scaled(3000) < 3000, "world %u", world);
		kvms_outcome_free(&out);
		kvms_free(&w.s);
	}
	cr_assert_gt(leaves, 200);
}

Test(foreign, our_boot_maps_with_pages_of_all_sizes)
{
	static const char *const archs[] = { "x86_64", "x86_64_la57", "riscv64_sv39", "riscv64_sv48" };

	for (size_t i = 0; i < KIT_COUNT(archs); i++) {
		struct kvms *s = kit_new("arch=%s boot=full", archs[i]);

		cr_assert_gt(round_trip(s), i < 3 ? 1000 : 1);
		kvms_free(&s);
	}
}

/* ---- Images that mean harm ------------------------------------------------------------------------ */

Test(foreign, each_flaw_is_found_and_fires_its_law)
{
	static const struct {
		enum kvms_machine machine;
		unsigned page, index;
		uint64_t word;
		enum kvms_flaw flaw;
		const char *law;
	} cases[] = {
		{ KVMS_MACHINE_X86_64, 2, 9, UINT64_C(0x100000000007), KVMS_FLAW_OUTSIDE, "pt.child_is_node" },
		{ KVMS_MACHINE_X86_64, 2, 9, 30 * PAGE | 7, KVMS_FLAW_MISSING, "pt.child_is_node" },
		{ KVMS_MACHINE_X86_64, 2, 9, 2 * PAGE | 7, KVMS_FLAW_TWO_LEVELS, "pt.child_level" },
		{ KVMS_MACHINE_X86_64, 3, 9, 1 * PAGE | 7, KVMS_FLAW_TWO_LEVELS, "pt.child_level" },
		{ KVMS_MACHINE_X86_64, 1, 9, 0x87, KVMS_FLAW_LEAF_LEVEL, "pt.leaf_level" },
		{ KVMS_MACHINE_X86_64, 3, 9, 0x4000 | 0x87, KVMS_FLAW_ALIGNMENT, "pt.leaf_aligned" },
		{ KVMS_MACHINE_RISCV64, 4, 9, 0x2401, KVMS_FLAW_LEVEL1, "pt.level1_has_no_child" },
		{ KVMS_MACHINE_RISCV64, 3, 9, 0x2403, KVMS_FLAW_ALIGNMENT, "pt.leaf_aligned" },
		{ KVMS_MACHINE_RISCV64, 4, 9, 0x2405, KVMS_FLAW_RESERVED, "" },
		{ KVMS_MACHINE_RISCV64, 4, 9, 0x2403 | UINT64_C(1) << 54, KVMS_FLAW_RESERVED, "" },
		{ KVMS_MACHINE_RISCV64, 4, 9, 0x2403 | UINT64_C(3) << 61, KVMS_FLAW_RESERVED, "" },
		{ KVMS_MACHINE_RISCV64, 4, 9, 0x2403 | UINT64_C(1) << 63, KVMS_FLAW_RESERVED, "" },
		{ KVMS_MACHINE_RISCV64, 3, 9, 0x1041, KVMS_FLAW_RESERVED, "" },
		{ KVMS_MACHINE_LOONGARCH64, 3, 9, 0x4000 | 0x41, KVMS_FLAW_ALIGNMENT, "pt.leaf_aligned" },
		{ KVMS_MACHINE_LOONGARCH64, 3, 9, UINT64_C(0x900000000000), KVMS_FLAW_OUTSIDE, "pt.child_is_node" },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct memory m = { 0 };
		struct kvms_findings findings;
		const struct kvms_adopted *known;
		struct kvms *s;

		for (unsigned page = 1; page < 4; page++)
			put(&m, page, 0,
			    cases[i].machine == KVMS_MACHINE_RISCV64 ? rv((page + 1) * PAGE, 1)
								     : (page + 1) * PAGE | 7);
		m.there[4] = true;
		put(&m, cases[i].page, cases[i].index, cases[i].word);
		s = adopt(&m, cases[i].machine, 4, NULL);
		known = kvms_adopted(s);
		cr_expect_geq(known->count[cases[i].flaw], 1, "case %zu", i);
		cr_expect(known->flaws == known->count[cases[i].flaw], "case %zu: %" PRIu64 " flaws", i, known->flaws);
		cr_expect(known->places > 0 && known->place[0].flaw == cases[i].flaw &&
			      known->place[0].paddr == cases[i].page * PAGE + 8 * cases[i].index &&
			      known->place[0].word == cases[i].word && known->place[0].level == 5 - cases[i].page,
			  "case %zu", i);
		cr_expect_eq(kvms_check_all(s, &findings), cases[i].law[0] == '\0');
		cr_expect_str_eq(kit_fired(&findings), cases[i].law, "case %zu", i);
		kvms_free(&s);
	}
	for (unsigned flaw = 0; flaw < KVMS_FLAWS; flaw++)
		cr_assert(kvms_flaw_name(flaw) != NULL && kvms_flaw_text(flaw) != NULL);
	cr_assert(kvms_flaw_name(KVMS_FLAWS) == NULL && kvms_flaw_text(KVMS_FLAWS) == NULL);
}

static bool
count_leaf(void *arg, const struct kvms_leaf *leaf)
{
	(void)leaf;
	++*(uint64_t *)arg;
	return true;
}

/* 512 ways down at every level: 500 * 2^27 leaves in four pages. */
Test(foreign, sharing_at_every_level_takes_no_longer_than_its_pages, .timeout = 60)
{
	struct kvms_outcome out = { .name = 0 };
	struct memory m = { 0 };
	const struct kvms_adopted *known;
	uint64_t count = 0;
	struct kvms *s;

	for (unsigned page = 1; page <= 4; page++)
		for (unsigned i = 0; i < (page == 4 ? 500 : 512); i++)
			put(&m, page, i, (uint64_t)(page + 1) * PAGE | 7);
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	known = kvms_adopted(s);
	cr_assert_eq(known->leaves, UINT64_C(500) << 27);
	cr_assert_eq(known->nodes, 4);
	cr_assert_eq(known->shared, 3);
	cr_assert_eq(known->most_parents, 512);
	cr_assert_eq(known->flaws, 0);
	kit_sound(s);
	cr_assert(kvms_leaves(s, 0, count_leaf, &count));
	cr_assert_eq(count, known->leaves_listed);
	cr_assert_lt(count, UINT64_C(1) << 21);
	kit_see(s, "pre too_long", "reverse_map paddr=0x5000");
	kit_see(s, "ok mappings=[]", "reverse_map paddr=0x6000");
	kit_see(s, "ok nodes=4", "nodes table=kernel");
	kvms_outcome_free(&out);
	kvms_free(&s);
}

/* A root all of whose words lead to itself, then one whose way down never meets a leaf. */
Test(foreign, loops_end, .timeout = 60)
{
	struct memory m = { 0 };
	uint64_t count = 0;
	struct kvms *s;

	for (unsigned i = 0; i < 512; i++)
		put(&m, 1, i, 1 * PAGE | 7);
	s = adopt(&m, KVMS_MACHINE_X86_64, 5, NULL);
	cr_assert_eq(kvms_adopted(s)->nodes, 1);
	cr_assert_eq(kvms_adopted(s)->count[KVMS_FLAW_TWO_LEVELS], 4);
	cr_assert_eq(kvms_adopted(s)->leaves, UINT64_C(1) << 45);
	cr_assert(kvms_leaves(s, 0, count_leaf, &count));
	cr_assert_lt(count, UINT64_C(1) << 21);
	kit_see(s, "ok inv=[pt.child_level]", "check");
	kit_see(s,
		"ok levels=[5:0x1000:0:0x1007,4:0x1000:0:0x1007,3:0x1000:0:0x1007,2:0x1000:0:0x1007,1:0x1000:0:0x1007]",
		"walk va=0x0");
	kvms_free(&s);
	for (unsigned i = 0; i < 512; i++)
		put(&m, 1, i, rv(1 * PAGE, 1));
	s = adopt(&m, KVMS_MACHINE_RISCV64, 5, NULL);
	cr_assert_eq(kvms_adopted(s)->leaves, 0);
	cr_assert_eq(kvms_adopted(s)->count[KVMS_FLAW_LEVEL1], 512);
	count = 0;
	cr_assert(kvms_leaves(s, 0, count_leaf, &count));
	cr_assert_eq(count, 0);
	kit_see(s, "ok inv=[pt.child_level,pt.level1_has_no_child]", "check");
	kvms_free(&s);
}

/* Linux's stacks for returns to 16-bit code: one page reached through every entry of the page above. */
Test(foreign, a_shared_page_is_no_flaw_and_lists_every_way)
{
	struct memory m = { 0 };
	uint64_t count = 0;
	struct kvms *s;

	x86_path(&m, 4, 0, 1, 0x9003);
	for (unsigned i = 0; i < 512; i++)
		put(&m, 3, i, 4 * PAGE | 7);
	for (unsigned i = 0; i < 128; i++)
		put(&m, 4, 4 * i, 0x9001);
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	cr_assert_eq(kvms_adopted(s)->leaves, 65536);
	cr_assert_eq(kvms_adopted(s)->leaves_listed, 65536);
	cr_assert_eq(kvms_adopted(s)->most_parents, 512);
	cr_assert(kvms_leaves(s, 0, count_leaf, &count));
	cr_assert_eq(count, 65536);
	kit_see(s, "ok level=1 nr_children=128 stray=false holder=0 rc=512", "node paddr=0x4000");
	kit_sound(s);
	kvms_free(&s);
}

/* Of a second table the upper half is listed where it differs. */
Test(foreign, a_second_table_lists_what_is_its_own)
{
	static const uint64_t roots[] = { 1 * PAGE, 10 * PAGE };
	struct memory m = { 0 };
	struct kvms_image image = { .machine = KVMS_MACHINE_X86_64,
				    .levels = 4,
				    .max_paddr = PAGES * PAGE,
				    .roots = roots,
				    .roots_count = 2,
				    .page = memory_page,
				    .arg = &m };
	struct kvms_refusal why;
	struct leaf_list list = { 0 };
	uint64_t paddr[3];
	uint8_t found[3];
	struct kvms *s;

	x86_path(&m, 4, UINT64_C(0xffff800000000000), 1, 0x9003);
	put(&m, 10, 256, 2 * PAGE | 7);
	put(&m, 10, 300, 2 * PAGE | 5);
	put(&m, 10, 1, 2 * PAGE | 7);
	s = kvms_adopt(&image, &why);
	cr_assert_not_null(s);
	cr_assert(kvms_leaves(s, 1, list_leaf, &list));
	cr_assert_eq(list.count, 2);
	cr_assert_eq(list.at[0].va, UINT64_C(0x8000000000));
	cr_assert_eq(list.at[1].va, UINT64_C(0xffff960000000000));
	cr_assert_eq(list.at[1].prop & KVMS_PROP_W, 0);
	free(list.at);
	kit_see(s, "ok nodes=4", "nodes table=1");
	kit_see(s, "ok nodes=5", "nodes");
	kit_see(s,
		"ok mappings=[kernel:0xffff800000000000:1:untracked,1:0x8000000000:1:untracked,"
		"1:0xffff960000000000:1:untracked]",
		"reverse_map paddr=0x9000");
	cr_assert_not_null(strstr(kit_ask(s, "translate table=1 va=0xffff800000000000"), "found=true"));
	cr_assert(kvms_translate(s, 1, (uint64_t[]){ UINT64_C(0xffff800000000123), UINT64_C(1) << 62, 0 }, 3, found, paddr));
	cr_assert(found[0] == 1 && found[1] == 0 && found[2] == 0);
	cr_assert(paddr[0] == 0x9123 && paddr[1] == 0 && paddr[2] == 0);
	cr_assert_not_null(strstr(kit_ask(s, "census"), "vm_spaces=1"));
	kit_sound(s);
	kvms_free(&s);
}

static bool
stop_at(void *arg, const struct kvms_leaf *leaf)
{
	(void)leaf;
	return --*(uint64_t *)arg > 0;
}

static bool
stop_at_page(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	(void)paddr;
	(void)bytes;
	return --*(uint64_t *)arg > 0;
}

Test(foreign, visits_end_when_the_visitor_says_so)
{
	struct memory m = { 0 };
	uint64_t left = 2;
	struct kvms *s;

	x86_path(&m, 4, 0, 1, 0x9003);
	put(&m, 4, 1, 0x9003);
	put(&m, 4, 2, 0x9003);
	s = adopt(&m, KVMS_MACHINE_X86_64, 4, NULL);
	cr_assert(!kvms_leaves(s, 0, stop_at, &left));
	cr_assert_eq(left, 0);
	left = 2;
	cr_assert(!kvms_pages(s, 0, false, stop_at_page, &left));
	left = 2;
	cr_assert(!kvms_pages(s, KVMS_ALL_TABLES, false, stop_at_page, &left));
	left = 5;
	cr_assert(kvms_pages(s, 0, true, stop_at_page, &left));
	cr_assert_eq(left, 1);
	kvms_free(&s);
}

static const void *
page_of_zeros(void *arg, uint64_t paddr)
{
	static const unsigned char zeros[PAGE];

	(void)arg;
	(void)paddr;
	return zeros;
}

Test(foreign, more_pages_than_page_tables_have_are_refused, .timeout = 120)
{
	enum { COUNT = (1 << 20) + 1 };
	uint64_t *pages = malloc(COUNT * sizeof *pages);
	struct kvms_image image = { .machine = KVMS_MACHINE_X86_64,
				    .levels = 4,
				    .max_paddr = (uint64_t)COUNT * PAGE,
				    .roots = pages,
				    .roots_count = 1,
				    .pages = pages,
				    .pages_count = COUNT,
				    .page = page_of_zeros };
	struct kvms_refusal why;

	cr_assert_not_null(pages);
	for (uint64_t i = 0; i < COUNT; i++)
		pages[i] = i * PAGE;
	cr_assert_null(kvms_adopt(&image, &why));
	cr_assert_not_null(strstr(why.text, "1048576"), "%s", why.text);
	free(pages);
}

Test(foreign, what_is_no_image_is_refused)
{
	static const uint64_t root = PAGE, odd = PAGE + 8, high = PAGES * PAGE * 1000, twice[] = { PAGE, PAGE };
	struct memory m = { 0 };
	struct kvms_image image = { .machine = KVMS_MACHINE_X86_64,
				    .levels = 4,
				    .max_paddr = PAGES * PAGE,
				    .roots = &root,
				    .roots_count = 1,
				    .page = memory_page,
				    .arg = &m };
	struct kvms_refusal why;

	cr_assert_null(adopt(&m, KVMS_MACHINE_X86_64, 4, "a page that the image lacks"));
	cr_assert_null(adopt(&m, KVMS_MACHINE_X86_64, 3, "no such machine"));
	cr_assert_null(adopt(&m, KVMS_MACHINE_LOONGARCH64, 5, "no such machine"));
	cr_assert_null(adopt(&m, KVMS_MACHINES, 4, "no such machine"));
	put(&m, 1, 0, 0);
	image.roots_count = 0;
	cr_assert_null(kvms_adopt(&image, &why));
	image.roots_count = 1;
	image.roots = &odd;
	cr_assert_null(kvms_adopt(&image, &why));
	image.roots = &high;
	cr_assert_null(kvms_adopt(&image, &why));
	image.roots = &root;
	image.pages = twice;
	image.pages_count = 2;
	cr_assert_null(kvms_adopt(&image, &why));
	cr_assert_not_null(strstr(why.text, "ascending"));
	image.pages_count = 0;
	image.max_paddr = UINT64_MAX;
	cr_assert_null(kvms_adopt(&image, &why));
	image.max_paddr = 0;
	cr_assert_null(kvms_adopt(&image, &why));
}
