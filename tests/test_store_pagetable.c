/*
 * The page-table engine where operations do not reach: large pages in a table
 * of the user half, every architecture's words at every level, trees of other
 * depths.  Each case names the OSTD test it follows; those that operations can
 * express are traces, tests/traces/pagetable/README lists all.
 */
#include "tests/store_kit.h"

#include <stdio.h>

#include "store/pagetable.h"
#include "store/paging.h"

#define P UINT64_C(0x1000)
#define H UINT64_C(0x200000)
#define G UINT64_C(0x40000000)

#define R KVMS_PROP_R
#define RW (KVMS_PROP_R | KVMS_PROP_W)
#define RWX (KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X)
#define CACHE(code) ((uint64_t)(code) << KVMS_PROP_CACHE_SHIFT)
#define UC CACHE(0)
#define WB CACHE(4)
#define USER_RW (RW | WB | KVMS_PROP_USER)
#define FLAGS_ALL UINT64_C(0x9f)  /* r w x a d avail2 */
#define PRIV_ALL UINT64_C(0x300) /* user, global */

/* ---- Properties, and what is left of them ------------------------------------------ */

/* The next lower subset of "full"; false behind the empty one. */
static bool
subset_next(uint64_t full, uint64_t *subset)
{
	if (*subset == 0)
		return false;
	*subset = (*subset - 1) & full;
	return true;
}

/* OSTD: test_subset_iter. */
Test(pagetable_words, subsets_come_in_descending_order)
{
	static const uint64_t want[] = { 11, 10, 9, 8, 3, 2, 1, 0 };
	uint64_t subset = 11;

	for (size_t i = 0; i < KIT_COUNT(want); i++) {
		cr_assert_eq(subset, want[i]);
		cr_assert_eq(subset_next(11, &subset), i + 1 < KIT_COUNT(want));
	}
}

/*
 * What a word gives back of a property.  loongarch64 is the one that loses
 * something: dirty is always set, and uc reads wb.
 */
static uint64_t
survives(const struct paging *p, uint64_t prop)
{
	if (p->format != PTE_LOONGARCH)
		return prop;
	prop |= KVMS_PROP_D;
	return prop >> KVMS_PROP_CACHE_SHIFT == 0 ? prop | WB : prop;
}

/* A large page of riscv64 without r, w and x has the word of a table. */
static bool
is_no_leaf(const struct paging *p, uint64_t prop, unsigned level)
{
	return p->format == PTE_RISCV && level > 1 && (prop & RWX) == 0;
}

/* True if a cache code can be encoded. */
static bool
has_cache(const struct paging *p, uint64_t code)
{
	static const bool built[][5] = {
		[PTE_X86] = { true, true, false, true, true },
		[PTE_RISCV] = { true, false, false, false, true },
		[PTE_LOONGARCH] = { true, true, false, false, true },
	};

	return built[p->format][code];
}

/* Every property, in the order of the subsets: cache, privileged bits, flags. */
static bool
prop_next(uint64_t *prop)
{
	uint64_t flags = *prop & FLAGS_ALL, priv = *prop & PRIV_ALL, code = *prop >> KVMS_PROP_CACHE_SHIFT;

	if (!subset_next(FLAGS_ALL, &flags)) {
		flags = FLAGS_ALL;
		if (!subset_next(PRIV_ALL, &priv)) {
			priv = PRIV_ALL;
			if (code-- == 0)
				return false;
		}
	}
	*prop = flags | priv | CACHE(code);
	return true;
}

#define PROP_FIRST (FLAGS_ALL | PRIV_ALL | WB)
#define PROPS (64u * 4 * 5)

Test(pagetable_words, of_every_property_are_tried)
{
	uint64_t prop = PROP_FIRST;
	unsigned count = 0;

	do {
		cr_assert(kvms_prop_valid(prop), "%" PRIx64, prop);
		count++;
	} while (prop_next(&prop));
	cr_assert_eq(count, PROPS);
}

/* OSTD: zeroed_pte_is_absent_pte, cast_absent_pte_preserves_repr. */
Test(pagetable_words, of_zero_are_absent_at_every_level)
{
	for (unsigned arch = 0; arch < ARCHES; arch++)
		for (unsigned level = 1; level <= paging_of((enum arch)arch)->levels; level++)
			cr_assert_eq(pte_kind(paging_of((enum arch)arch), 0, level), PTE_ABSENT, "arch %u level %u",
				     arch, level);
}

/* One leaf there and back; false if it cannot be encoded, with the reason that is due. */
static bool
leaf_round_trip(const struct paging *p, const struct leaf *leaf, unsigned level)
{
	uint64_t word = 0, again = 0;
	unsigned name = pte_encode_leaf(p, leaf, level, &word);
	struct leaf back;

	if (!has_cache(p, leaf->prop >> KVMS_PROP_CACHE_SHIFT)) {
		cr_assert_eq(name, O_unsupported_cache, "%" PRIx64, leaf->prop);
		return false;
	}
	if (leaf->paddr % page_size(level) != 0) {
		cr_assert_eq(name, O_paddr_unencodable, "%" PRIx64, leaf->paddr);
		return false;
	}
	if (is_no_leaf(p, leaf->prop, level)) {
		cr_assert_eq(name, O_prop_unencodable, "%" PRIx64, leaf->prop);
		return false;
	}
	cr_assert_eq(name, O_ok);
	cr_assert_eq(pte_kind(p, word, level), PTE_LEAF, "level %u word %" PRIx64, level, word);
	back = pte_decode_leaf(p, word, level);
	cr_assert_eq(back.paddr, leaf->paddr);
	cr_assert_eq(back.avail1, leaf->avail1);
	cr_assert_eq(back.prop, survives(p, leaf->prop), "level %u: %" PRIx64 " came back as %" PRIx64, level,
		     leaf->prop, back.prop);
	/* what survives, survives for ever; and the exact reading gives the very word */
	cr_assert_eq(pte_encode_leaf(p, &back, level, &again), O_ok);
	cr_assert_eq(pte_decode_leaf(p, again, level).prop, back.prop);
	back = pte_decode_exact(p, word, level);
	cr_assert_eq(pte_encode_leaf(p, &back, level, &again), O_ok);
	cr_assert_eq(again, word);
	return true;
}

/*
 * OSTD: cast_frame_pte_preserves_repr, with every cache, without r as well, and
 * up to level 3 on every architecture.  Its address is a multiple of 1 GiB, so
 * at level 4 another one is needed: a page stands at a multiple of its size.
 */
Test(pagetable_words, of_leaves_give_back_what_was_put_in)
{
	static const uint64_t paddrs[] = { UINT64_C(0xffc0000000), UINT64_C(0x8000000000) };

	for (unsigned arch = 0; arch < ARCHES; arch++) {
		const struct paging *p = paging_of((enum arch)arch);
		unsigned top = p->highest_leaf > 3 ? p->highest_leaf : 3, caches = 0;

		for (uint64_t code = 0; code < 5; code++)
			caches += has_cache(p, code);
		for (unsigned level = 1; level <= top; level++) {
			for (unsigned k = 0; k < 2 * KIT_COUNT(paddrs); k++) {
				struct leaf leaf = { paddrs[k / 2], PROP_FIRST, k % 2 == 1 };
				unsigned done = 0;

				do {
					done += leaf_round_trip(p, &leaf, level);
				} while (prop_next(&leaf.prop));
				unsigned none = p->format == PTE_RISCV && level > 1 ? 8 : 0; /* subsets of a d avail2 */
				unsigned want = leaf.paddr % page_size(level) != 0 ? 0 : (64 - none) * 4 * caches;

				cr_assert_eq(done, want, "arch %u level %u: %u, not %u", arch, level, done, want);
			}
		}
	}
}

/* OSTD: cast_pt_pte_preserves_repr.  The software bits of a table word are never written, and change nothing. */
Test(pagetable_words, of_tables_give_back_the_address)
{
	static const uint64_t avail[][2] = {
		[PTE_X86] = { UINT64_C(1) << 52, UINT64_C(1) << 53 },
		[PTE_RISCV] = { UINT64_C(1) << 8, UINT64_C(1) << 9 },
		[PTE_LOONGARCH] = { UINT64_C(1) << 10, UINT64_C(1) << 11 },
	};
	static const uint64_t paddrs[] = { UINT64_C(0xffc0000000), 0, 0x1000, UINT64_C(0x3ffffffff000) };

	for (unsigned arch = 0; arch < ARCHES; arch++) {
		const struct paging *p = paging_of((enum arch)arch);
		uint64_t both = avail[p->format][0] | avail[p->format][1];

		for (unsigned level = 2; level <= p->levels; level++) {
			for (size_t i = 0; i < KIT_COUNT(paddrs); i++) {
				uint64_t word = pte_encode_table(p, paddrs[i]), subset = both;

				cr_assert_eq(word & both, 0);
				do {
					cr_assert_eq(pte_kind(p, word | subset, level), PTE_TABLE);
					cr_assert_eq(pte_table_paddr(p, word | subset), paddrs[i]);
				} while (subset_next(both, &subset));
			}
		}
	}
}

/* x86-64's stand in test_store_paging.c; both of its depths have the same. */
Test(pagetable_words, worked_out_by_hand_for_the_other_architectures)
{
	static const struct {
		enum arch arch;
		struct leaf leaf;
		unsigned level;
		uint64_t word;
	} cases[] = {
		{ ARCH_X86_64_LA57, { 0x5000, USER_RW, false }, 1, UINT64_C(0x8000000000005087) },
		{ ARCH_X86_64_LA57, { 0x200000, RW | WB | KVMS_PROP_GLOBAL, false }, 2, UINT64_C(0x8000000000200183) },
		{ ARCH_RISCV64_SV48, { 0x5000, USER_RW, false }, 1, UINT64_C(0x1417) },
		{ ARCH_RISCV64_SV39, { 0x5000, RW | UC | KVMS_PROP_USER, true }, 1, UINT64_C(0x4000000000001517) },
		{ ARCH_RISCV64_SV48, { 0x200000, RW | WB | KVMS_PROP_GLOBAL, false }, 2, UINT64_C(0x80027) },
		{ ARCH_RISCV64_SV39, { 0x5000, WB, false }, 1, UINT64_C(0x1401) },
		{ ARCH_RISCV64_SV39, { 0x5000, KVMS_PROP_A | KVMS_PROP_D | KVMS_PROP_AVAIL2 | WB, false }, 1, 0x16c1 },
		{ ARCH_LOONGARCH64, { 0x5000, USER_RW, false }, 1, UINT64_C(0x400000000000531f) },
		{ ARCH_LOONGARCH64, { 0x5000, RW | WB | KVMS_PROP_GLOBAL, false }, 1, UINT64_C(0x4000000000005353) },
		{ ARCH_LOONGARCH64, { 0x5000, UC, true }, 1, UINT64_C(0x6000000000005603) },
		/* above level 1: the huge marker in bit 6, global in bit 12 */
		{ ARCH_LOONGARCH64, { 0x200000, RWX | WB, false }, 2, UINT64_C(0x200153) },
		{ ARCH_LOONGARCH64, { 0x200000, RWX | WB | KVMS_PROP_GLOBAL, false }, 2, UINT64_C(0x201153) },
	};
	uint64_t word;

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		cr_assert_eq(pte_encode_leaf(paging_of(cases[i].arch), &cases[i].leaf, cases[i].level, &word), O_ok);
		cr_assert_eq(word, cases[i].word, "case %zu: %" PRIx64, i, word);
	}
	cr_assert_eq(pte_encode_table(paging_of(ARCH_X86_64_LA57), 0x6000), 0x6007);
	cr_assert_eq(pte_encode_table(paging_of(ARCH_RISCV64_SV39), 0x6000), 0x1801);
	cr_assert_eq(pte_encode_table(paging_of(ARCH_LOONGARCH64), 0x6000), 0x6001);
}

/* What no word can hold, and which of several reasons is told. */
Test(pagetable_words, that_cannot_be_are_refused_in_order)
{
	static const uint64_t ends[] = { [PTE_X86] = UINT64_C(1) << 52, [PTE_RISCV] = UINT64_C(1) << 54,
					 [PTE_LOONGARCH] = UINT64_C(1) << 48 };
	uint64_t word;

	for (unsigned arch = 0; arch < ARCHES; arch++) {
		const struct paging *p = paging_of((enum arch)arch);
		uint64_t end = ends[p->format];

		for (unsigned level = 1; level <= 3; level++) {
			uint64_t size = page_size(level);
			const struct {
				struct leaf leaf;
				unsigned name;
			} cases[] = {
				{ { end - size, USER_RW, false }, O_ok },
				{ { end, USER_RW, false }, O_paddr_unencodable },
				{ { ~(size - 1), USER_RW, false }, O_paddr_unencodable },
				{ { size / 2, USER_RW, false }, O_paddr_unencodable },
				{ { size + P / 2, USER_RW, false }, O_paddr_unencodable },
				{ { end, RW | CACHE(2), false }, O_unsupported_cache },
				{ { end, WB, false }, O_paddr_unencodable },
				{ { 0, KVMS_PROP_A | WB, false },
				  is_no_leaf(p, KVMS_PROP_A | WB, level) ? O_prop_unencodable : O_ok },
				{ { 0, CACHE(2), false }, O_unsupported_cache },
			};

			for (size_t i = 0; i < KIT_COUNT(cases); i++)
				cr_assert_eq(pte_encode_leaf(p, &cases[i].leaf, level, &word), cases[i].name,
					     "arch %u level %u case %zu", arch, level, i);
		}
	}
}

/* OSTD: map_preserves_page_property.  Through an operation, and back through a walk. */
Test(pagetable_words, of_a_mapped_page_keep_its_property)
{
	for (unsigned arch = 0; arch < ARCHES; arch++) {
		const struct paging *p = paging_of((enum arch)arch);
		struct kvms *s = kit_new("arch=%s max_paddr=0x400000", kvms_word(KVMS_ARCH, arch));
		uint64_t prop = PROP_FIRST;

		kit_ok(s, "vm_space_new");
		kit_ok(s, "cursor_open_mut vm_space=1 start=0x1000 end=0x2000");
		do {
			uint64_t frame = kit_get(s, "frame", "frame_from_unused paddr=0x5000");
			struct kvms_op op = kit_op("cursor_map cursor=1 frame=%" PRIu64 " prop=-:wb", frame);
			struct kvms_outcome out = { .name = O_ok };
			struct translation t;

			op.arg[2] = prop;
			cr_assert_eq(kvms_apply(s, &op, &out), KVMS_DONE);
			if (!has_cache(p, prop >> KVMS_PROP_CACHE_SHIFT)) {
				cr_assert_eq(out.name, O_unsupported_cache);
				kit_ok(s, "frame_drop frame=%" PRIu64, frame);
				continue;
			}
			cr_assert_eq(out.name, O_ok);
			t = translate(s, 1, P + 100);
			cr_assert(t.found && t.tracked && t.level == 1 && t.leaf.paddr == 0x5000);
			cr_assert_eq(t.leaf.prop, survives(p, prop), "arch %u: %" PRIx64 " reads %" PRIx64, arch, prop,
				     t.leaf.prop);
			kit_ok(s, "cursor_jump cursor=1 va=0x1000");
			kit_ok(s, "cursor_unmap cursor=1 len=0x1000");
			kit_ok(s, "cursor_jump cursor=1 va=0x1000");
		} while (prop_next(&prop));
		kit_sound(s);
		kvms_free(&s);
	}
}

/* ---- A table with pages of 1 GiB ---------------------------------------------------------- */

#define LOCK 1u

/*
 * A table of the user half in which leaves may stand up to level 3, all of them
 * untracked, and one cursor on it.  Each call is a step: what is refused is undone.
 */
struct table {
	struct kvms *s;
	uint64_t id;
	struct cursor c;
};

static struct kvms *
store_make(unsigned arch, const struct paging *paging)
{
	struct kvms_refusal why;
	struct kvms_op config;

	kvms_op_init(&config, kvms_store_row());
	config.arg[CONFIG_arch] = arch;
	config.arg[CONFIG_max_paddr] = 0x800000;
	struct kvms *s = store_of_paging(&config, paging, &why);
	cr_assert_not_null(s, "arch %u: %s", arch, why.text);
	return s;
}

static struct table
table_make(unsigned arch)
{
	struct paging paging = *paging_of((enum arch)arch);
	struct table t = { .s = NULL };

	paging.highest_leaf = 3;
	t.s = store_make(arch, &paging);
	t.id = kit_get(t.s, "vm_space", "vm_space_new");
	return t;
}

/* End a step; what is not ok leaves no trace. */
static unsigned
settle(struct table *t, const struct cursor *before, unsigned name)
{
	uint64_t digest = 0;

	if (name == O_ok) {
		undo_commit(t->s);
		return name;
	}
	undo_rollback(t->s);
	t->c = *before;
	digest = kvms_digest(t->s);
	cr_assert_eq(digest, digest_recompute(t->s), "%s left something behind", kit_outcome(name));
	return name;
}

static void
open_at(struct table *t, uint64_t start, uint64_t end, unsigned guard, uint64_t nodes)
{
	struct cursor before = t->c;
	uint64_t holder;

	undo_begin(t->s);
	cr_assert_eq(settle(t, &before, cursor_open_locked(t->s, &t->c, t->id, start, end, LOCK, &holder)), O_ok);
	cr_assert(t->c.va == start && t->c.level == guard && t->c.guard_level == guard,
		  "va %" PRIx64 " level %u guard %u", t->c.va, t->c.level, t->c.guard_level);
	cr_assert_eq(t->c.nodes_allocated, nodes, "%" PRIu64 " nodes", t->c.nodes_allocated);
	t->c.nodes_allocated = 0;
}

/* The laws of a user table that this one breaks on purpose; all others hold when no cursor is open. */
static void
table_sound(struct table *t)
{
	static const char *const broken = "pt.io_leaf_not_ram pt.leaf_level vspace.iomem_listed";
	struct kvms_findings findings;
	char fired[200];

	(void)kvms_check_all(t->s, &findings);
	strncpy(fired, kit_fired(&findings), sizeof fired - 1);
	fired[sizeof fired - 1] = '\0';
	for (char *at = strtok(fired, " "); at != NULL; at = strtok(NULL, " "))
		cr_assert_not_null(strstr(broken, at), "%s", at);
}

static void
close_it(struct table *t)
{
	undo_begin(t->s);
	cursor_unlock(t->s, &t->c);
	undo_commit(t->s);
	table_sound(t);
}

static unsigned
map(struct table *t, uint64_t paddr, unsigned level)
{
	struct leaf leaf = { paddr, USER_RW, true };
	struct cursor before = t->c;

	undo_begin(t->s);
	return settle(t, &before, cursor_map(t->s, &t->c, &leaf, level));
}

static uint64_t
map_largest(struct table *t, uint64_t paddr, uint64_t len)
{
	struct cursor before = t->c;
	uint64_t leaves = 0;

	undo_begin(t->s);
	cr_assert_eq(settle(t, &before, cursor_map_largest(t->s, &t->c, paddr, len, USER_RW, 0, &leaves)), O_ok);
	return leaves;
}

/* TAKE one fragment, and let go of it; what a sub-tree counts. */
static struct fragment
take(struct table *t, uint64_t len, uint64_t *frames, uint64_t *freed)
{
	struct cursor before = t->c;
	struct fragment f;
	unsigned name;

	*frames = *freed = 0;
	undo_begin(t->s);
	name = cursor_take(t->s, &t->c, t->c.va + len, &f);
	if (name == O_ok && f.kind == FRAGMENT_SUBTREE) {
		*frames = subtree_detach(t->s, f.paddr);
		node_release(t->s, f.paddr, freed);
	}
	cr_assert_eq(settle(t, &before, name), O_ok);
	return f;
}

static bool
find(struct table *t, uint64_t len)
{
	struct cursor before = t->c;
	bool found;

	undo_begin(t->s);
	cr_assert_eq(settle(t, &before, cursor_find(t->s, &t->c, t->c.va + len, &found)), O_ok);
	return found;
}

static bool
protect(struct table *t, uint64_t len, uint64_t set, uint64_t clear, uint64_t *start, uint64_t *last)
{
	struct protect p = { set, clear, 5, 0 };
	struct cursor before = t->c;
	bool found;

	undo_begin(t->s);
	cr_assert_eq(settle(t, &before,
			    cursor_protect_one(t->s, &t->c, t->c.va + len, &p, &found, start, last)),
		     O_ok);
	return found;
}

static void
jump(struct table *t, uint64_t va, unsigned level)
{
	cursor_jump(&t->c, va);
	cr_assert(t->c.va == va && t->c.level == level, "va %" PRIx64 " level %u", t->c.va, t->c.level);
}

static struct translation
query(struct table *t)
{
	uint64_t va = t->c.va;

	cr_assert_lt(va, t->c.end);
	struct translation found = cursor_query(t->s, &t->c);
	cr_assert(t->c.va == va && t->c.level == found.level);
	return found;
}

static void
at(const struct table *t, uint64_t va, unsigned level)
{
	cr_assert(t->c.va == va && t->c.level == level, "va %" PRIx64 " level %u, not %" PRIx64 " %u", t->c.va,
		  t->c.level, va, level);
}

/* A leaf of the table, as a walk finds it. */
static void
reads(const struct table *t, uint64_t va, uint64_t paddr, unsigned level, uint64_t prop)
{
	struct translation found = translate(t->s, t->id, va);

	cr_assert(found.found && !found.tracked && found.level == level, "%" PRIx64 ": level %u", va, found.level);
	cr_assert_eq(found.leaf.paddr + (va - found.start), paddr, "%" PRIx64 ": %" PRIx64, va, found.leaf.paddr);
	cr_assert_eq(found.leaf.prop, survives(&t->s->paging, prop), "%" PRIx64 ": %" PRIx64, va, found.leaf.prop);
}

/* Nodes that a one-page cursor puts into an empty table of this store. */
static uint64_t
depth(const struct table *t)
{
	return t->s->paging.levels - 1;
}

#define EACH_ARCH(arch) for (unsigned arch = 0; arch < ARCHES; arch++)

/* OSTD: unaligned_map. */
Test(pagetable_engine, does_not_map_a_large_page_at_a_small_one)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);

		open_at(&t, P, H + P, 2, depth(&t) - 1);
		cr_assert_eq(map(&t, H, 2), O_va_unaligned);
		at(&t, P, 2);
		/* the order of the reasons: end, level, alignment, size, guard */
		cr_assert_eq(map(&t, H, 4), O_level_too_high);
		jump(&t, H, 2);
		cr_assert_eq(map(&t, H, 2), O_map_out_of_range);
		cr_assert_eq(map(&t, H, 3), O_va_unaligned);
		cr_assert_eq(map(&t, H, 1), O_ok);
		at(&t, H + P, 1); /* the cursor's end */
		cr_assert_eq(map(&t, H + 1, 4), O_cursor_at_end);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* OSTD: jump_from_end_and_query_huge_middle. */
Test(pagetable_engine, jumps_back_from_the_end_and_looks_into_a_large_page)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		struct translation found;

		open_at(&t, 0, 2 * H, 2, depth(&t) - 1);
		jump(&t, H, 2);
		cr_assert_eq(map(&t, 0, 2), O_ok);
		at(&t, 2 * H, 2);
		cr_assert_geq(t.c.va, t.c.end); /* a query would be refused */
		jump(&t, 0, 2);
		found = query(&t);
		cr_assert(!found.found && found.start == 0 && found.last == H - 1);
		jump(&t, 2 * H - H / 2, 2);
		found = query(&t);
		cr_assert(found.found && found.start == H && found.last == 2 * H - 1 && found.leaf.paddr == 0);
		at(&t, 2 * H - H / 2, 2);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* OSTD: take_next_takes_something, take_large_takes_subtree. */
Test(pagetable_engine, takes_a_leaf_or_a_table_at_a_time)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, P, 2 * P, 1, depth(&t));
		cr_assert_eq(map(&t, 100 * P, 1), O_ok);
		close_it(&t);
		open_at(&t, P, 2 * P, 1, 0);
		f = take(&t, P, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == P && f.paddr == 100 * P && f.level == 1 && !f.tracked);
		at(&t, 2 * P, 1);
		close_it(&t);

		open_at(&t, 513 * P, 514 * P, 1, 1);
		cr_assert_eq(map(&t, P, 1), O_ok);
		close_it(&t);
		open_at(&t, 0, G, 2, 0);
		/* the table at 0 is empty, but it is a table */
		f = take(&t, G, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_SUBTREE && f.va == 0 && f.level == 2 && frames == 0 && freed == 1);
		at(&t, H, 2);
		f = take(&t, G - H, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_SUBTREE && f.va == H && f.level == 2 && frames == 1 && freed == 1);
		at(&t, 2 * H, 2);
		f = take(&t, G - 2 * H, &frames, &freed);
		cr_assert_eq(f.kind, FRAGMENT_NONE);
		at(&t, G, 2);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* OSTD: mixed_granularity_map_unmap. */
Test(pagetable_engine, maps_small_pages_where_addresses_do_not_fit)
{
	const uint64_t va = 13245 * P, pa = 2235 * P, len = (512 * 512 + 23456 - 13245) * P, hole = 13456 * P;

	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, va, va + len, 3, depth(&t) - 2);
		cr_assert_eq(map_largest(&t, pa, len), 272355);
		cr_assert_eq(t.c.nodes_allocated, 2 + 533);
		cr_assert_eq(t.c.va, va + len);
		close_it(&t);
		for (uint64_t i = 0; i < 100; i++)
			reads(&t, va + i * (P + 1000), pa + i * (P + 1000), 1, USER_RW);
		open_at(&t, hole, hole + P, 1, 0);
		f = take(&t, P, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == hole && f.paddr == 2446 * P && f.level == 1);
		at(&t, hole + P, 1);
		close_it(&t);
		cr_assert(!translate(t.s, t.id, hole).found && !translate(t.s, t.id, hole + P - 1).found);
		reads(&t, hole - P, 2445 * P, 1, USER_RW);
		reads(&t, hole + P, 2447 * P, 1, USER_RW);
		kvms_free(&t.s);
	}
}

/* OSTD: mixed_granularity_protect_query. */
Test(pagetable_engine, cuts_a_large_page_to_protect_a_part_of_it)
{
	const uint64_t start = 261632 * P, end = 524802 * P, from = 261650 * P, to = 261652 * P;

	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t first, last;
		unsigned i = 0;

		open_at(&t, start, end, 3, depth(&t) - 2);
		cr_assert_eq(map_largest(&t, start - H, end - start), 514 + 2);
		cr_assert_eq(t.c.nodes_allocated, 3 + 1); /* tables of level 2, of level 1 */
		jump(&t, start, 3);
		for (uint64_t va = start; va < end; i++) {
			struct translation found = query(&t);

			cr_assert(found.found && found.start == va && found.level == (i < 514 ? 2 : 1));
			cr_assert_eq(found.leaf.paddr, va - H);
			va = found.last + 1;
			if (va < end)
				cursor_jump(&t.c, va);
		}
		cr_assert_eq(i, 516);
		close_it(&t);

		open_at(&t, from, to, 2, 0); /* the large page is as far down as one gets */
		cr_assert(protect(&t, to - t.c.va, 0, KVMS_PROP_W, &first, &last));
		cr_assert(first == from && last == from + P - 1 && t.c.nodes_allocated == 1);
		at(&t, from + P, 1);
		cr_assert(protect(&t, to - t.c.va, 0, KVMS_PROP_W, &first, &last));
		cr_assert(first == from + P && last == to - 1 && t.c.nodes_allocated == 1);
		at(&t, to, 1);
		cr_assert(!protect(&t, 0, 0, KVMS_PROP_W, &first, &last));
		close_it(&t);
		reads(&t, from - P, from - P - H, 1, USER_RW);
		reads(&t, from, from - H, 1, USER_RW & ~(uint64_t)KVMS_PROP_W);
		reads(&t, from + P, from + P - H, 1, USER_RW & ~(uint64_t)KVMS_PROP_W);
		reads(&t, to, to - H, 1, USER_RW);
		reads(&t, start + H, start, 2, USER_RW);
		kvms_free(&t.s);
	}
}

/* OSTD: base_protect_query. */
Test(pagetable_engine, protects_small_pages_one_by_one)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t first, last;

		open_at(&t, P, 1000 * P, 2, depth(&t) - 1);
		cr_assert_eq(map_largest(&t, 0, 999 * P), 999);
		cr_assert_eq(t.c.nodes_allocated, 2);
		close_it(&t);
		open_at(&t, 18 * P, 20 * P, 1, 0);
		for (uint64_t k = 18; k < 20; k++) {
			cr_assert(protect(&t, 20 * P - t.c.va, 0, KVMS_PROP_W, &first, &last));
			cr_assert(first == k * P && last == k * P + P - 1);
			at(&t, k * P + P, 1);
		}
		close_it(&t);
		for (uint64_t k = 17; k <= 20; k++)
			reads(&t, k * P, (k - 1) * P, 1, k == 18 || k == 19 ? R | WB | KVMS_PROP_USER : USER_RW);
		kvms_free(&t.s);
	}
}

/* A cursor over exactly one slot stands below it; a page that is there already holds it up. */
Test(pagetable_engine, has_no_room_for_a_page_of_exactly_its_range)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, 0, H, 1, depth(&t));
		cr_assert_eq(map(&t, 0, 2), O_level_above_guard);
		close_it(&t);
		open_at(&t, 8 * G, 9 * G, 2, 1);
		cr_assert_eq(map(&t, 0, 3), O_level_above_guard);
		close_it(&t);

		open_at(&t, 2 * H, 4 * H, 2, 0);
		cr_assert_eq(map(&t, H, 2), O_ok);
		cr_assert_eq(map(&t, 2 * H, 2), O_ok);
		close_it(&t);
		open_at(&t, 3 * H, 4 * H, 2, 0);
		f = take(&t, H, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == 3 * H && f.paddr == 2 * H && f.level == 2);
		at(&t, 4 * H, 2);
		jump(&t, 3 * H, 2);
		cr_assert_eq(map(&t, 5 * H, 2), O_ok);
		at(&t, 4 * H, 2);
		close_it(&t);
		reads(&t, 3 * H + 1, 5 * H + 1, 2, USER_RW);
		kvms_free(&t.s);
	}
}

Test(pagetable_engine, counts_no_frames_in_a_table_of_large_pages)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, 0, 2 * G, 3, depth(&t) - 2);
		for (uint64_t i = 0; i < 512; i++)
			cr_assert_eq(map(&t, 4 * G + i * H, 2), O_ok);
		at(&t, G, 3);
		jump(&t, 0, 3);
		f = take(&t, 2 * G, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_SUBTREE && f.va == 0 && f.level == 3 && frames == 0 && freed == 1);
		at(&t, G, 3);
		f = take(&t, G, &frames, &freed);
		cr_assert_eq(f.kind, FRAGMENT_NONE);
		at(&t, 2 * G, 3);
		close_it(&t);
		kvms_free(&t.s);
	}
}

Test(pagetable_engine, takes_empty_tables_that_a_cursor_left)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, 0, P, 1, depth(&t));
		close_it(&t);
		open_at(&t, 0, 2 * G, 3, 0);
		f = take(&t, G, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_SUBTREE && f.va == 0 && f.level == 3 && frames == 0 && freed == 2);
		at(&t, G, 3);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* Two levels in one go. */
Test(pagetable_engine, cuts_a_page_of_1_gib_down_to_4_kib)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t first, last;

		open_at(&t, 0, 2 * G, 3, depth(&t) - 2);
		cr_assert_eq(map(&t, 16 * G, 3), O_ok);
		at(&t, G, 3);
		close_it(&t);
		open_at(&t, 5 * P, 6 * P, 3, 0);
		cr_assert(protect(&t, P, 0, KVMS_PROP_W, &first, &last));
		cr_assert(first == 5 * P && last == 6 * P - 1 && t.c.nodes_allocated == 2);
		at(&t, 6 * P, 1);
		close_it(&t);
		reads(&t, 4 * P, 16 * G + 4 * P, 1, USER_RW);
		reads(&t, 5 * P, 16 * G + 5 * P, 1, R | WB | KVMS_PROP_USER);
		reads(&t, 6 * P, 16 * G + 6 * P, 1, USER_RW);
		reads(&t, H, 16 * G + H, 2, USER_RW);
		reads(&t, G - 1, 17 * G - 1, 2, USER_RW);
		cr_assert_eq(t.s->live.totals.leaves_untracked, 511 + 512);
		kvms_free(&t.s);
	}
}

Test(pagetable_engine, finds_a_large_page_from_its_middle_and_takes_a_part_of_it)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t frames, freed;
		struct fragment f;

		open_at(&t, 0, 4 * H, 2, depth(&t) - 1);
		cr_assert_eq(map(&t, 0, 2), O_ok);
		jump(&t, 3 * P, 2);
		cr_assert(find(&t, P));
		at(&t, 3 * P, 2);
		cr_assert(find(&t, P)); /* again, and nothing was cut */
		at(&t, 3 * P, 2);
		cr_assert_eq(t.c.nodes_allocated, 0);
		f = take(&t, 2 * P, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == 3 * P && f.paddr == 3 * P && f.level == 1);
		cr_assert_eq(t.c.nodes_allocated, 1);
		at(&t, 4 * P, 1);
		/* the next of the two */
		f = take(&t, P, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == 4 * P && f.paddr == 4 * P && f.level == 1);
		at(&t, 5 * P, 1);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* A refusal behind two cuts puts the pages together again. */
Test(pagetable_engine, undoes_the_cuts_of_a_map_that_is_refused)
{
	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);
		uint64_t nodes, digest;

		open_at(&t, 0, 2 * G, 3, depth(&t) - 2);
		cr_assert_eq(map(&t, 16 * G, 3), O_ok);
		jump(&t, 5 * P, 3);
		nodes = t.s->live.totals.pagetable;
		digest = kvms_digest(t.s);
		cr_assert_eq(map(&t, 0, 1), O_already_mapped);
		at(&t, 5 * P, 3);
		cr_assert_eq(t.s->live.totals.pagetable, nodes);
		cr_assert_eq(kvms_digest(t.s), digest);
		close_it(&t);
		reads(&t, 5 * P, 16 * G + 5 * P, 3, USER_RW);
		kvms_free(&t.s);
	}
}

/* Greedy from the front; the worked example of a range that needs three sizes. */
Test(pagetable_engine, maps_the_largest_pages_that_fit)
{
	static const struct {
		uint64_t start;
		unsigned level;
	} want[] = { { 0x3fdff000, 1 }, { 0x3fe00000, 2 }, { 0x40000000, 3 }, { 0x80000000, 1 }, { 0x80001000, 1 } };

	EACH_ARCH(arch)
	{
		struct table t = table_make(arch);

		open_at(&t, 0x3fdff000, 0x80002000, 3, depth(&t) - 2);
		cr_assert_eq(map_largest(&t, 0x3fdff000, 0x80002000 - 0x3fdff000), KIT_COUNT(want));
		for (size_t i = 0; i < KIT_COUNT(want); i++)
			reads(&t, want[i].start, want[i].start, want[i].level, USER_RW);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* ---- The end of the address space ------------------------------------------------------------ */

/* Take the last entry out of the kernel's root, as a table has it that is not the kernel's yet. */
static void
last_entry_remove(struct kvms *s)
{
	uint64_t at = word_paddr(s->live.kernel_root, NODE_ENTRIES - 1), freed = 0;
	uint64_t child = pte_table_paddr(&s->paging, word_at(s, at));

	undo_begin(s);
	entry_set(s, s->live.kernel_root, NODE_ENTRIES - 1, 0);
	node_release(s, child, &freed);
	undo_commit(s);
	cr_assert_eq(freed, 1);
}

/* OSTD: jump_near_address_space_end. */
Test(pagetable_engine, works_up_to_the_last_page_but_one)
{
	EACH_ARCH(arch)
	{
		const struct leaf leaf = { 0, RW | WB, false };
		struct kvms *s = store_make(arch, NULL);
		uint64_t leaves = 0, subtrees = 0;
		struct cursor c;
		bool found;

		last_entry_remove(s);
		undo_begin(s);
		cr_assert_eq(cursor_open(s, &c, KERNEL_TABLE, -H, -P), O_ok);
		cr_assert(c.guard_level == 1 && c.nodes_allocated == s->paging.levels - 1);
		cr_assert_eq(cursor_map(s, &c, &leaf, 1), O_ok);
		cr_assert(c.va == P - H && c.level == 1);
		cursor_jump(&c, -(H / 2));
		cr_assert(c.va == -(H / 2) && c.level == 1);
		cursor_jump(&c, -2 * P);
		cr_assert(c.va == -2 * P && c.level == 1);
		/* the last page that a range can have */
		cr_assert_eq(cursor_map(s, &c, &leaf, 1), O_ok);
		cr_assert(c.va == -P && c.va == c.end);
		undo_commit(s);

		/* a slot whose end is 2^64: the cursor stops at its own end */
		undo_begin(s);
		cr_assert_eq(cursor_open(s, &c, KERNEL_TABLE, -2 * H, -P), O_ok);
		cr_assert(c.guard_level == 2 && c.nodes_allocated == 0);
		cr_assert_eq(cursor_find(s, &c, c.end, &found), O_ok);
		cr_assert(found && c.va == -H && c.level == 1);
		cursor_jump(&c, -P - P);
		cr_assert_eq(cursor_unmap(s, &c, c.end, &leaves, &subtrees), O_ok);
		cr_assert(leaves == 1 && subtrees == 0 && c.va == c.end);
		cursor_jump(&c, -2 * H);
		cr_assert_eq(cursor_unmap(s, &c, c.end, &leaves, &subtrees), O_ok);
		cr_assert(leaves == 2 && subtrees == 0 && c.va == c.end);
		/* and does not begin again at the front, where something is mapped */
		cr_assert_eq(cursor_open(s, &c, KERNEL_TABLE, s->paging.kernel_base, s->paging.kernel_base + P), O_ok);
		cr_assert_eq(cursor_map(s, &c, &leaf, 1), O_ok);
		cursor_open_root(s, &c, -4 * H, -P, -4 * H);
		cr_assert_eq(cursor_find(s, &c, c.end, &found), O_ok);
		cr_assert(!found && c.va == c.end);
		undo_commit(s);
		kit_sound(s);
		kvms_free(&s);
	}
}

/* ---- Trees of other depths ----------------------------------------------------------------------- */

/* Two levels, 30 bits of address: 512 MiB in each half. */
static struct paging
two_levels(enum arch words)
{
	const struct paging *of = paging_of(words);

	return (struct paging){ .format = of->format,
				.levels = 2,
				.width = 30,
				.highest_leaf = 2,
				.present = of->present,
				.kernel_base = UINT64_C(0xffffffffe0000000),
				.linear_base = UINT64_C(0xffffffffe0000000),
				.linear_in_table = true,
				.space_base = UINT64_C(0xffffffffe0000000),
				.vmalloc_start = UINT64_C(0xfffffffff0000000),
				.vmalloc_end = UINT64_C(0xfffffffff8000000),
				.code_base = UINT64_C(0xfffffffff8000000),
				.user_end = UINT64_C(0x1ffff000),
				.user_last = UINT64_C(0x1fffffff) };
}

static void
two_levels_work(enum arch arch)
{
	struct paging paging = two_levels(arch);
	const char *rw = arch == ARCH_LOONGARCH64 ? "rwd" : "rw";
	struct kvms *s = store_make(arch, &paging);
	char want[300];

	/* root and 256 nodes of level 1, as many as anywhere: 0x7ff000 to 0x6ff000 */
	kit_see(s, "ok level=2 nr_children=256 stray=false holder=0 rc=1", "node paddr=0x7ff000");
	kit_see(s, "ok level=1 nr_children=0 stray=false holder=0 rc=1", "node paddr=0x6ff000");
	kit_want(s, "ok frame=1", "frame_from_unused paddr=0x1000");
	kit_want(s, "ok frame=2", "frame_clone frame=1");
	kit_want(s, "ok area=1 start=0xfffffffff7fff000 end=0xfffffffff8000000 nodes_allocated=0",
		 "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb");
	/* a root entry is a table, so no large page fits there, and none is taken away */
	kit_want(s, "ok area=2 start=0xfffffffff0000000 end=0xfffffffff0400000",
		 "kvirt_reserve_at start=0xfffffffff0000000 area_size=0x400000");
	kit_want(s, "panic already_mapped",
		 "kvirt_map_untracked_into area=2 va=0xfffffffff0000000 paddr_start=0x40000000 paddr_end=0x40200000 "
		 "prop=rw:wb");
	kit_want(s, "ok end=0xfffffffff0200000 leaves=512 nodes_allocated=0",
		 "kvirt_map_untracked_into area=2 va=0xfffffffff0000000 paddr_start=0x40000000 paddr_end=0x40200000 "
		 "prop=rw:wb max_level=1");
	kit_want(s, "ok leaves=512 subtrees=0 nodes_allocated=0 nodes_freed=0", "kvirt_drop area=2");
	kit_want(s, "ok vm_space=1 paddr=0x6fe000", "vm_space_new");
	kit_want(s, "err AccessDenied cause=InvalidVaddrRange",
		 "cursor_open vm_space=1 start=0x1ffff000 end=0x20001000");
	kit_want(s, "ok cursor=1 guard_level=1 nodes_allocated=1",
		 "cursor_open_mut vm_space=1 start=0x1ffff000 end=0x20000000");
	kit_want(s, "ok va=0x20000000 level=1 nodes_allocated=0", "cursor_map cursor=1 frame=2 prop=rw:wb+user");
	snprintf(want, sizeof want,
		 "ok found=true paddr=0x1fff start=0x1ffff000 end=0x20000000 level=1 prop=%s:wb+user tracked=true", rw);
	kit_see(s, want, "translate table=1 va=0x1fffffff");
	kit_see(s, "ok found=false", "translate table=1 va=0x20000000"); /* between the halves */
	kit_want(s, "ok", "cursor_drop cursor=1");
	kit_want(s, "ok cursor=2 guard_level=2 nodes_allocated=0",
		 "cursor_open_mut vm_space=1 start=0x0 end=0x20000000");
	kit_want(s, "ok found=true va=0x1ffff000 level=1", "cursor_find_next cursor=2 len=0x20000000");
	kit_want(s, "ok va=0x0 level=2", "cursor_jump cursor=2 va=0x0");
	kit_want(s, "ok count=1 leaves=0 subtrees=1 remote=0 nodes_freed=1 va=0x20000000 level=2",
		 "cursor_unmap cursor=2 len=0x20000000");
	kit_sound(s);
	kvms_free(&s);
}

Test(pagetable_depths, of_two_levels_serve_every_operation)
{
	EACH_ARCH(arch)
	two_levels_work((enum arch)arch);
}

/* In a user's root of two levels a page of 2 MiB may stand. */
Test(pagetable_depths, of_two_levels_hold_large_pages_in_the_root)
{
	EACH_ARCH(arch)
	{
		struct paging paging = two_levels((enum arch)arch);
		struct table t = { .s = store_make(arch, &paging) };
		uint64_t frames, freed, first, last;
		struct fragment f;

		t.id = kit_get(t.s, "vm_space", "vm_space_new");
		open_at(&t, 0, 4 * H, 2, 0);
		cr_assert_eq(map_largest(&t, G, 2 * H), 2);
		at(&t, 2 * H, 2);
		jump(&t, 5 * P, 2);
		cr_assert(protect(&t, P, 0, KVMS_PROP_W, &first, &last));
		cr_assert(first == 5 * P && last == 6 * P - 1 && t.c.nodes_allocated == 1);
		at(&t, 6 * P, 1);
		jump(&t, 0, 1);
		f = take(&t, 4 * H, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == 0 && f.paddr == G && f.level == 1); /* it stands inside */
		jump(&t, H, 2);
		jump(&t, 0, 2);
		f = take(&t, 4 * H, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_SUBTREE && f.va == 0 && frames == 511 && freed == 1);
		f = take(&t, 3 * H, &frames, &freed);
		cr_assert(f.kind == FRAGMENT_LEAF && f.va == H && f.paddr == G + H && f.level == 2);
		at(&t, 2 * H, 2);
		close_it(&t);
		kvms_free(&t.s);
	}
}

/* ---- Constants that make no sense --------------------------------------------------------------------- */

#define CONSTANT(field, value, why) { offsetof(struct paging, field), sizeof(((struct paging *)0)->field), value, why }

Test(pagetable_depths, that_make_no_sense_are_refused_with_the_reason)
{
	static const struct {
		size_t offset, size;
		uint64_t value;
		const char *why;
	} cases[] = {
		CONSTANT(levels, 0, "not 2 to 5 levels"),
		CONSTANT(levels, 1, "not 2 to 5 levels"),
		CONSTANT(levels, 6, "not 2 to 5 levels"),
		CONSTANT(levels, 3, "the root's index is not 9 bits wide"),
		CONSTANT(levels, 5, "the root's index is not 9 bits wide"),
		CONSTANT(width, 0, "the root's index is not 9 bits wide"),
		CONSTANT(width, 47, "the root's index is not 9 bits wide"),
		CONSTANT(width, 64, "the root's index is not 9 bits wide"),
		CONSTANT(highest_leaf, 0, "no level for leaves, or one above the root"),
		CONSTANT(highest_leaf, 5, "no level for leaves, or one above the root"),
		CONSTANT(format, 6, "a format of words that is not built"),
		CONSTANT(format, PTE_RISCV, "the bits of a present word are not its format's"),
		CONSTANT(present, 0, "the bits of a present word are not its format's"),
		CONSTANT(user_last, UINT64_C(0x7fffffffefff), "the user half does not end below the sign bit"),
		CONSTANT(user_last, UINT64_C(0x800000000000), "the user half does not end below the sign bit"),
		CONSTANT(user_end, UINT64_C(0x7ffffffff800), "the end of user memory is not a page of the user half"),
		CONSTANT(user_end, UINT64_C(0x800000001000), "the end of user memory is not a page of the user half"),
		CONSTANT(kernel_base, UINT64_C(0xffff000000000000), "the kernel half does not begin at the sign bit"),
		CONSTANT(kernel_base, UINT64_C(0x800000000000), "the kernel half does not begin at the sign bit"),
		CONSTANT(linear_base, 0, "the linear map lies outside the kernel half"),
		CONSTANT(vmalloc_start, 0, "the default range of areas is empty or outside the kernel half"),
		CONSTANT(vmalloc_start, UINT64_C(0xffffe00000000000),
			 "the default range of areas is empty or outside the kernel half"),
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct paging paging = *paging_of(ARCH_X86_64);
		struct kvms_refusal why = { .key = -2 };
		uint32_t narrow = (uint32_t)cases[i].value;

		memcpy((char *)&paging + cases[i].offset,
		       cases[i].size == sizeof narrow ? (const void *)&narrow : &cases[i].value, cases[i].size);
		struct kvms *s = store_of_paging(NULL, &paging, &why);
		cr_assert_null(s, "case %zu makes a store", i);
		cr_assert_eq(why.key, (int)CONFIG_arch, "case %zu: key %d", i, why.key);
		cr_assert_str_eq(why.text, cases[i].why, "case %zu: %s", i, why.text);
	}
	EACH_ARCH(arch)
	{
		struct paging paging = two_levels((enum arch)arch);

		cr_assert_null(paging_flaw(paging_of((enum arch)arch)), "arch %u", arch);
		cr_assert_null(paging_flaw(&paging), "arch %u", arch);
	}
}

/* ---- Many translations in one call ------------------------------------------------------------ */

/* One by one, as the request says. */
static void
assert_translated(struct kvms *s, uint64_t table, const uint64_t *va, size_t count)
{
	uint64_t *paddr = calloc(count, sizeof *paddr);
	uint8_t *found = calloc(count, sizeof *found);

	cr_assert(paddr != NULL && found != NULL);
	memset(found, 7, count);
	cr_assert(kvms_translate(s, table, va, count, found, paddr));
	for (size_t i = 0; i < count; i++) {
		struct translation t = translate(s, table, va[i]);

		cr_assert_eq(found[i], t.found, "0x%" PRIx64, va[i]);
		cr_assert_eq(paddr[i], t.found ? t.leaf.paddr + (va[i] - t.start) : 0, "0x%" PRIx64, va[i]);
	}
	free(found);
	free(paddr);
}

Test(translate, many_addresses_reach_what_each_of_them_does)
{
	EACH_ARCH(arch)
	{
		struct kvms *s = kit_new("arch=%s", kvms_word(KVMS_ARCH, arch));
		uint64_t start = kit_get(s, "start",
					 "kvirt_map_untracked_frames area_size=0x1000000 map_offset=0x3000 "
					 "paddr_start=0x403000 paddr_end=0xc05000 prop=rw:wb");
		struct kit_random random = { arch + 1 };
		uint64_t va[500], *end = va;

		for (unsigned i = 0; i < 200; i++) /* anywhere around, small and large pages */
			*end++ = start - P + kit_below(&random, 0x1002000);
		for (unsigned i = 0; i < 200; i++) /* in order */
			*end++ = start + i * 0x13001;
		*end++ = 0;
		*end++ = UINT64_MAX;
		*end++ = UINT64_C(1) << 62; /* no address at all, amid neighbours */
		*end++ = start + 0x3000;
		*end++ = (UINT64_C(1) << 62) + 1;
		*end++ = start + 0x3001;
		assert_translated(s, 0, va, (size_t)(end - va));
		for (size_t count = 0; count < 40; count++)
			assert_translated(s, 0, va + 180, count);
		cr_assert_not(kvms_translate(s, 99, va, 1, (uint8_t[1]){ 0 }, (uint64_t[1]){ 0 }));
		kvms_free(&s);
	}
}
