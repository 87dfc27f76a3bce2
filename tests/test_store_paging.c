/*
 * Words of page tables: what is encoded decodes to the same, at every level,
 * with every property; the worked values; and what cannot be encoded.
 */
#include "tests/store_kit.h"

#include "store/paging.h"

#define RW (KVMS_PROP_R | KVMS_PROP_W)
#define WB (UINT64_C(4) << KVMS_PROP_CACHE_SHIFT)
#define UC UINT64_C(0)

static const struct paging *
x86(void)
{
	const struct paging *p = paging_of(ARCH_X86_64);

	cr_assert_not_null(p);
	return p;
}

static uint64_t
encode(uint64_t paddr, uint64_t prop, bool avail1, unsigned level)
{
	struct leaf leaf = { .paddr = paddr, .prop = prop, .avail1 = avail1 };
	uint64_t word = 0;

	cr_assert_eq(pte_encode_leaf(x86(), &leaf, level, &word), O_ok);
	return word;
}

Test(paging, words_worked_out_by_hand)
{
	/* user, kernel tracked, linear map, kernel code: bit 7 in every leaf, bit 63 unless x */
	cr_assert_eq(encode(0x5000, RW | WB | KVMS_PROP_USER, false, 1), UINT64_C(0x8000000000005087));
	cr_assert_eq(encode(0x5000, WB | KVMS_PROP_USER, false, 1), UINT64_C(0x8000000000005084));
	cr_assert_eq(encode(0x5000, RW | UC | KVMS_PROP_USER, true, 1), UINT64_C(0x801000000000509f));
	cr_assert_eq(encode(0x5000, RW | WB, true, 1), UINT64_C(0x8010000000005083));
	cr_assert_eq(encode(0x200000, RW | WB | KVMS_PROP_GLOBAL, false, 2), UINT64_C(0x8000000000200183));
	cr_assert_eq(encode(0x8000000, RW | KVMS_PROP_X | WB | KVMS_PROP_GLOBAL, false, 2), UINT64_C(0x8000183));
	cr_assert_eq(pte_encode_table(x86(), 0x6000), UINT64_C(0x6007));
	cr_assert_eq(pte_table_paddr(x86(), 0x6007), UINT64_C(0x6000));
	/* the other bits, one at a time: accessed, dirty, avail2, and the cache codes PWT and PCD */
	cr_assert_eq(encode(0x5000, WB, false, 1), UINT64_C(0x8000000000005080));
	cr_assert_eq(encode(0x5000, WB | KVMS_PROP_A, false, 1), UINT64_C(0x80000000000050a0));
	cr_assert_eq(encode(0x5000, WB | KVMS_PROP_D, false, 1), UINT64_C(0x80000000000050c0));
	cr_assert_eq(encode(0x5000, WB | KVMS_PROP_AVAIL2, false, 1), UINT64_C(0x8020000000005080));
	cr_assert_eq(encode(0x5000, UINT64_C(3) << KVMS_PROP_CACHE_SHIFT, false, 1), UINT64_C(0x8000000000005088));
	cr_assert_eq(encode(0x5000, UINT64_C(1) << KVMS_PROP_CACHE_SHIFT, false, 1), UINT64_C(0x8000000000005090));
	cr_assert_eq(encode(0x5000, KVMS_PROP_X, false, 1), UINT64_C(0x5098));
}

Test(paging, every_property_comes_back_at_every_level)
{
	static const uint64_t paddrs[] = { 0, 0x40000000, UINT64_C(0xfffffc0000000), UINT64_C(0x5555540000000) };
	unsigned encoded = 0;

	for (unsigned level = 1; level <= 3; level++) {
		for (uint64_t prop = 0; prop < UINT64_C(5) << KVMS_PROP_CACHE_SHIFT; prop++) {
			if (!kvms_prop_valid(prop)) {
				/* go on at the next that can be valid */
				if ((prop & 0xffff) > 0x39f)
					prop |= 0xffff;
				continue;
			}
			for (unsigned k = 0; k < 2 * KIT_COUNT(paddrs); k++) {
				struct leaf leaf = { .paddr = paddrs[k / 2], .prop = prop, .avail1 = k % 2 == 1 }, back;
				uint64_t word = 0, again = 0;
				unsigned name = pte_encode_leaf(x86(), &leaf, level, &word);

				if (prop >> KVMS_PROP_CACHE_SHIFT == 2) {
					cr_assert_eq(name, O_unsupported_cache);
					continue;
				}
				cr_assert_eq(name, O_ok);
				cr_assert_eq(pte_kind(x86(), word, level), PTE_LEAF, "%" PRIx64, word);
				cr_assert_eq(pte_leaf_address(x86(), word, level), leaf.paddr);
				back = pte_decode_leaf(x86(), word, level);
				cr_assert(back.paddr == leaf.paddr && back.prop == prop && back.avail1 == leaf.avail1,
					  "level %u property %" PRIx64 " came back as %" PRIx64, level, prop,
					  back.prop);
				cr_assert_eq(pte_encode_leaf(x86(), &back, level, &again), O_ok);
				cr_assert_eq(again, word);
				encoded++;
			}
		}
	}
	/* 6 flags and 2 privileged bits, 4 caches, 3 levels, 4 addresses, tracked or not */
	cr_assert_eq(encoded, (1u << 8) * 4 * 3 * 4 * 2);
}

Test(paging, addresses_that_do_not_fit_are_refused_after_the_cache)
{
	static const struct {
		uint64_t paddr;
		unsigned level;
		unsigned name;
	} cases[] = {
		{ 0x800, 1, O_paddr_unencodable },
		{ 0x1000, 1, O_ok },
		{ 0x1000, 2, O_paddr_unencodable },
		{ 0x1ff000, 2, O_paddr_unencodable },
		{ 0x200000, 2, O_ok },
		{ 0x200000, 3, O_paddr_unencodable },
		{ 0x40000000, 3, O_ok },
		{ UINT64_C(0xffffffffff000), 1, O_ok },
		{ UINT64_C(0x10000000000000), 1, O_paddr_unencodable },
		{ UINT64_C(0x10000000000000), 2, O_paddr_unencodable },
		{ UINT64_C(0xfffffffffffff000), 1, O_paddr_unencodable },
	};
	uint64_t word;

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct leaf leaf = { .paddr = cases[i].paddr, .prop = RW | WB };

		cr_assert_eq(pte_encode_leaf(x86(), &leaf, cases[i].level, &word), cases[i].name, "case %zu", i);
		leaf.prop = RW | UINT64_C(2) << KVMS_PROP_CACHE_SHIFT;
		cr_assert_eq(pte_encode_leaf(x86(), &leaf, cases[i].level, &word), O_unsupported_cache, "case %zu", i);
	}
}

Test(paging, words_are_absent_table_or_leaf)
{
	for (unsigned level = 1; level <= 4; level++) {
		cr_assert_eq(pte_kind(x86(), 0, level), PTE_ABSENT);
		/* bits that neither say present nor leaf */
		for (unsigned bit = 0; bit < 64; bit++)
			cr_assert_eq(pte_kind(x86(), UINT64_C(1) << bit, level),
				     bit == 0   ? PTE_TABLE
				     : bit == 7 ? PTE_LEAF
						: PTE_ABSENT,
				     "bit %u", bit);
		/* without r a leaf has P = 0 and still is one */
		cr_assert_eq(pte_kind(x86(), encode(0, WB, false, 1), level), PTE_LEAF);
		cr_assert_eq(pte_kind(x86(), pte_encode_table(x86(), 0), level), PTE_TABLE);
	}
}

Test(paging, constants_of_the_layout)
{
	const struct paging *p = x86();

	cr_assert(p->levels == 4 && p->width == 48 && p->highest_leaf == 2);
	cr_assert_eq(p->kernel_base, UINT64_C(0xffff800000000000));
	cr_assert_eq(p->vmalloc_start, KIT_VMALLOC);
	cr_assert_eq(p->vmalloc_end, KIT_VMALLOC_END);
	cr_assert_eq(page_size(1), 0x1000);
	cr_assert_eq(page_size(2), 0x200000);
	cr_assert_eq(page_size(3), 0x40000000);
	cr_assert_eq(page_size(4), UINT64_C(0x8000000000));
	cr_assert_eq(entry_index(UINT64_C(0xffffdfffffffe000), 4), 447);
	cr_assert_eq(entry_index(UINT64_C(0xffffdfffffffe000), 1), 510);
	cr_assert(va_is_canonical(p, 0) && va_is_canonical(p, UINT64_C(0x7fffffffffff)));
	cr_assert(!va_is_canonical(p, UINT64_C(0x800000000000)) && !va_is_canonical(p, UINT64_C(0xffff7fffffffffff)));
	cr_assert(va_is_canonical(p, UINT64_C(0xffff800000000000)) && va_is_canonical(p, UINT64_MAX));
	cr_assert_null(paging_of((enum arch)77));
}
