#include "store/paging.h"

#include "store/rows.h"

/* Layouts: start of the kernel half, of the linear map, of vmalloc, of the frame metadata. */
static const struct paging pagings[ARCHES] = {
	[ARCH_X86_64] = { .arch = ARCH_X86_64,
			  .levels = 4,
			  .width = 48,
			  .highest_leaf = 2,
			  .present = X86_P | X86_LEAF,
			  .kernel_base = UINT64_C(0xffff800000000000),
			  .linear_base = UINT64_C(0xffff800000000000),
			  .vmalloc_start = UINT64_C(0xffffc00000000000),
			  .vmalloc_end = UINT64_C(0xffffe00000000000) },
};

const struct paging *
paging_of(enum arch arch)
{
	return (unsigned)arch < ARCHES ? &pagings[arch] : NULL;
}

/*
 * x86-64 words.  Bit 7 is set in every leaf: page size above level 1, PAT at
 * level 1, where the upper half of the PAT repeats the lower.  So a leaf
 * without r (P = 0) still is a leaf.
 */
#define X86_W UINT64_C(0x2)
#define X86_USER UINT64_C(0x4)
#define X86_PWT UINT64_C(0x8)
#define X86_PCD UINT64_C(0x10)
#define X86_A UINT64_C(0x20)
#define X86_D UINT64_C(0x40)
#define X86_GLOBAL UINT64_C(0x100)
#define X86_AVAIL1 (UINT64_C(1) << 52)
#define X86_AVAIL2 (UINT64_C(1) << 53)
#define X86_NX (UINT64_C(1) << 63)
#define X86_PADDR UINT64_C(0x000ffffffffff000)
#define X86_PADDR_END (UINT64_C(1) << 52)

/* Cache codes uc wc wp wt wb as PCD and PWT; wp has none. */
#define X86_NO_CACHE UINT64_MAX
static const uint64_t x86_cache[5] = { X86_PCD | X86_PWT, X86_PCD, X86_NO_CACHE, X86_PWT, 0 };
/* ... and back: index 2*PCD + PWT. */
static const uint8_t x86_cache_back[4] = { 4, 3, 1, 0 };

/* Property bits and the hardware bits that hold them. */
static const struct {
	uint64_t prop;
	uint64_t word;
} x86_bits[] = {
	{ KVMS_PROP_R, X86_P },	    { KVMS_PROP_W, X86_W },	      { KVMS_PROP_A, X86_A },
	{ KVMS_PROP_D, X86_D },	    { KVMS_PROP_AVAIL2, X86_AVAIL2 }, { KVMS_PROP_USER, X86_USER },
	{ KVMS_PROP_GLOBAL, X86_GLOBAL },
};
#define X86_BITS (sizeof x86_bits / sizeof x86_bits[0])

uint64_t
pte_table_paddr(const struct paging *p, uint64_t word)
{
	(void)p;
	return word & X86_PADDR;
}

uint64_t
pte_encode_table(const struct paging *p, uint64_t paddr)
{
	(void)p;
	return paddr | X86_P | X86_W | X86_USER;
}

uint64_t
pte_leaf_address(const struct paging *p, uint64_t word)
{
	(void)p;
	return word & X86_PADDR;
}

struct leaf
pte_decode_leaf(const struct paging *p, uint64_t word, unsigned level)
{
	struct leaf leaf = { .avail1 = (word & X86_AVAIL1) != 0 };

	(void)p;
	leaf.paddr = word & X86_PADDR & ~(page_size(level) - 1);
	for (unsigned i = 0; i < X86_BITS; i++)
		if ((word & x86_bits[i].word) != 0)
			leaf.prop |= x86_bits[i].prop;
	if ((word & X86_NX) == 0)
		leaf.prop |= KVMS_PROP_X;
	leaf.prop |= (uint64_t)x86_cache_back[(word & (X86_PCD | X86_PWT)) / X86_PWT] << KVMS_PROP_CACHE_SHIFT;
	return leaf;
}

unsigned
pte_encode_leaf(const struct paging *p, const struct leaf *leaf, unsigned level, uint64_t *word)
{
	uint64_t cache = x86_cache[leaf->prop >> KVMS_PROP_CACHE_SHIFT];

	(void)p;
	if (cache == X86_NO_CACHE)
		return O_unsupported_cache;
	if (leaf->paddr % page_size(level) != 0 || leaf->paddr >= X86_PADDR_END)
		return O_paddr_unencodable;
	*word = leaf->paddr | X86_LEAF | cache;
	for (unsigned i = 0; i < X86_BITS; i++)
		if ((leaf->prop & x86_bits[i].prop) != 0)
			*word |= x86_bits[i].word;
	if ((leaf->prop & KVMS_PROP_X) == 0)
		*word |= X86_NX;
	if (leaf->avail1)
		*word |= X86_AVAIL1;
	return O_ok;
}
