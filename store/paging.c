#include "store/paging.h"

#include "store/rows.h"

#include <stddef.h>

#define SHIFT48 9u  /* shift from the 39-bit layout to the 48-bit one */
#define SHIFT57 18u /* ... and to the 57-bit one */

/* The kernel's layout is written for 39 bits and shifted left for wider addresses. */
#define LAYOUT(shift)                                                                                                  \
	.kernel_base = UINT64_C(0xffffffc000000000) << (shift),                                                        \
	.vmalloc_start = UINT64_C(0xffffffe000000000) << (shift),                                                      \
	.vmalloc_end = UINT64_C(0xfffffff000000000) << (shift),                                                        \
	.user_end = (UINT64_C(0x4000000000) << (shift)) - 4096, .user_last = (UINT64_C(0x4000000000) << (shift)) - 1
#define LINEAR(shift)                                                                                                  \
	.linear_base = UINT64_C(0xffffffc000000000) << (shift),                                                        \
	.space_base = UINT64_C(0xffffffc000000000) << (shift), .linear_in_table = true
#define LOONG_WINDOW UINT64_C(0x9000000000000000)

static const struct paging pagings[ARCHES] = {
	[ARCH_X86_64] = { .format = PTE_X86, .present = X86_P | X86_LEAF, .levels = 4, .width = 48, .highest_leaf = 2, LAYOUT(SHIFT48),
			  LINEAR(SHIFT48), .code_base = UINT64_C(0xffffffff80000000) },
	[ARCH_X86_64_LA57] = { .format = PTE_X86, .present = X86_P | X86_LEAF, .levels = 5, .width = 57, .highest_leaf = 2, LAYOUT(SHIFT57),
			       LINEAR(SHIFT57), .code_base = UINT64_C(0xffffffff80000000) },
	[ARCH_RISCV64_SV39] = { .format = PTE_RISCV, .present = RISCV_V, .levels = 3, .width = 39, .highest_leaf = 2, LAYOUT(0), LINEAR(0),
				.code_base = UINT64_C(0xffffffff00000000) },
	[ARCH_RISCV64_SV48] = { .format = PTE_RISCV, .present = RISCV_V, .levels = 4, .width = 48, .highest_leaf = 4, LAYOUT(SHIFT48),
				LINEAR(SHIFT48), .code_base = UINT64_C(0xffffffff00000000) },
	[ARCH_LOONGARCH64] = { .format = PTE_LOONGARCH, .present = LOONG_V, .levels = 4, .width = 48, .highest_leaf = 1, LAYOUT(SHIFT48),
			       .linear_base = LOONG_WINDOW, .space_base = LOONG_WINDOW, .linear_in_table = false,
			       .code_base = LOONG_WINDOW },
};

const struct paging *
paging_of(enum arch arch)
{
	return (unsigned)arch < ARCHES ? &pagings[arch] : NULL;
}

/* Addresses between the halves, or at their wrong end. */
static const char *
layout_flaw(const struct paging *p)
{
	uint64_t half = UINT64_C(1) << (p->width - 1);

	if (p->user_last != half - 1)
		return "the user half does not end below the sign bit";
	if (p->user_end % (UINT64_C(1) << PAGE_BITS) != 0 || p->user_end > half)
		return "the end of user memory is not a page of the user half";
	if (p->kernel_base != ~(half - 1))
		return "the kernel half does not begin at the sign bit";
	if (p->linear_in_table && p->linear_base < p->kernel_base)
		return "the linear map lies outside the kernel half";
	if (p->vmalloc_start < p->kernel_base || p->vmalloc_start >= p->vmalloc_end)
		return "the default range of areas is empty or outside the kernel half";
	return NULL;
}

const char *
paging_flaw(const struct paging *p)
{
	/* the kernel's root holds tables, so there is a level below it */
	if (p->levels < 2 || p->levels > LEVELS_MAX)
		return "not 2 to 5 levels";
	/* the halves meet in the middle of the root */
	if (p->width != PAGE_BITS + INDEX_BITS * p->levels)
		return "the root's index is not 9 bits wide";
	if (p->highest_leaf < 1 || p->highest_leaf > p->levels)
		return "no level for leaves, or one above the root";
	if (p->format > PTE_LOONGARCH_HARDWARE)
		return "a format of words that is not built";
	if (p->present != (p->format == PTE_X86 ? X86_P | X86_LEAF : RISCV_V)) /* bit 0 in all others */
		return "the bits of a present word are not its format's";
	return layout_flaw(p);
}

/*
 * Leaf bits that stand for property bits, for each format: "set" if the
 * property bit is there, "clear" if it is not (no-execute, no-read).
 */
struct bits {
	uint64_t prop;
	uint64_t set;
	uint64_t clear;
};

/*
 * x86-64.  Bit 7 is set in every leaf: page size above level 1, PAT at level 1,
 * where the upper half of the PAT repeats the lower.  So a leaf without r
 * (P = 0) still is a leaf.
 */
#define X86_TABLE UINT64_C(0x7)
#define X86_BITS 8u
#define X86_CACHE UINT64_C(0x18) /* PCD, PWT */
static const struct bits x86_bits[X86_BITS] = {
	{ KVMS_PROP_R, X86_P, 0 },
	{ KVMS_PROP_W, 0x2, 0 },
	{ KVMS_PROP_X, 0, UINT64_C(1) << 63 },
	{ KVMS_PROP_A, 0x20, 0 },
	{ KVMS_PROP_D, 0x40, 0 },
	{ KVMS_PROP_AVAIL2, UINT64_C(1) << 53, 0 },
	{ KVMS_PROP_USER, 0x4, 0 },
	{ KVMS_PROP_GLOBAL, 0x100, 0 },
};

/* riscv64, always with Svpbmt. */
#define RISCV_BITS 8u
#define RISCV_CACHE (UINT64_C(3) << 61) /* PBMT */
static const struct bits riscv_bits[RISCV_BITS] = {
	{ KVMS_PROP_R, 0x2, 0 },      { KVMS_PROP_W, 0x4, 0 },     { KVMS_PROP_X, 0x8, 0 },
	{ KVMS_PROP_USER, 0x10, 0 },  { KVMS_PROP_GLOBAL, 0x20, 0 }, { KVMS_PROP_A, 0x40, 0 },
	{ KVMS_PROP_D, 0x80, 0 },     { KVMS_PROP_AVAIL2, 0x200, 0 },
};

/* loongarch64: dirty is always set; global is bit 6, above level 1 bit 12 beside the huge marker. */
#define LOONG_DIRTY UINT64_C(0x2)
#define LOONG_USER UINT64_C(0xc) /* privilege level 3 */
#define LOONG_BITS 7u
#define LOONG_CACHE UINT64_C(0x30)
static const struct bits loong_bits[LOONG_BITS] = {
	{ KVMS_PROP_R, 0, UINT64_C(1) << 61 },
	{ KVMS_PROP_W, 0x100, 0 },
	{ KVMS_PROP_X, 0, UINT64_C(1) << 62 },
	{ KVMS_PROP_A, 0x80, 0 },
	{ KVMS_PROP_D, LOONG_DIRTY, 0 },
	{ KVMS_PROP_AVAIL2, 0x800, 0 },
	{ KVMS_PROP_USER, LOONG_USER, 0 },
};

#define NO_CACHE UINT64_MAX
#define CACHES 5u

static const struct format {
	const struct bits *bits;
	unsigned paddr_shift;     /* the field is the address shifted right by this */
	uint64_t paddr_end;       /* first address that cannot be encoded */
	uint64_t table;           /* bits of a table word */
	uint64_t leaf;            /* bits of every leaf */
	uint64_t avail1;
	uint64_t cache;           /* mask of the cache bits */
	uint64_t encode[CACHES];  /* by code uc wc wp wt wb */
	uint64_t lossy;           /* bits that decoding loses */
	uint64_t reads_as_wb;     /* cache bits that decode as wb, whatever encoded them */
} formats[] = {
	[PTE_X86] = { x86_bits, 0, UINT64_C(1) << 52, X86_TABLE, X86_LEAF, X86_AVAIL1, X86_CACHE,
		      { 0x18, 0x10, NO_CACHE, 0x08, 0 }, 0, 0 },
	[PTE_RISCV] = { riscv_bits, RISCV_PADDR_SHIFT, UINT64_C(1) << 54, RISCV_V, RISCV_V, RISCV_AVAIL1, RISCV_CACHE,
			{ UINT64_C(1) << 62, NO_CACHE, NO_CACHE, NO_CACHE, 0 }, 0, 0 },
	[PTE_LOONGARCH] = { loong_bits, 0, UINT64_C(1) << 48, LOONG_V, LOONG_V | LOONG_DIRTY,
			    LOONG_AVAIL1, LOONG_CACHE, { 0, 0x20, NO_CACHE, NO_CACHE, 0x10 }, LOONG_CACHE, 0 },
	[PTE_LOONGARCH_HARDWARE] = { .bits = NULL }, /* the hardware's are never written, and read in hardware.c */
};

uint64_t
pte_encode_table(const struct paging *p, uint64_t paddr)
{
	const struct format *f = &formats[p->format];

	return paddr >> f->paddr_shift | f->table;
}

uint64_t
pte_lossy_bits(const struct paging *p)
{
	return formats[p->format].lossy;
}

/* Bits of a leaf word that depend on the level. */
static uint64_t
level_bits(const struct paging *p, unsigned level, bool global)
{
	if (p->format != PTE_LOONGARCH)
		return 0;
	if (level == 1)
		return LOONG_BASIC | (global ? LOONG_HUGE : 0);
	return LOONG_HUGE | (global ? LOONG_HUGE_GLOBAL : 0);
}

/* Cache bits back to a code; what none encodes reads as write-back. */
static inline __attribute__((always_inline)) uint64_t
cache_decode(const struct format *f, uint64_t word)
{
	uint64_t bits = word & f->cache;

#pragma GCC unroll 8
	for (uint64_t code = 0; code < CACHES; code++)
		if (f->encode[code] == bits && bits != f->reads_as_wb)
			return code;
	return 4;
}

/* Inlined once for each format, so that its row and the loop over its bits become constants. */
static inline __attribute__((always_inline)) uint64_t
prop_decode(const struct format *f, unsigned bits_count, uint64_t word)
{
	uint64_t prop = cache_decode(f, word) << KVMS_PROP_CACHE_SHIFT;

#pragma GCC unroll 8
	for (unsigned i = 0; i < bits_count; i++) {
		const struct bits *b = &f->bits[i];

		if (b->clear != 0 ? (word & b->clear) == 0 : (word & b->set) == b->set)
			prop |= b->prop;
	}
	return prop;
}

static inline __attribute__((always_inline)) uint64_t
prop_encode(const struct format *f, unsigned bits_count, uint64_t prop)
{
	uint64_t word = 0;

#pragma GCC unroll 8
	for (unsigned i = 0; i < bits_count; i++)
		word |= (prop & f->bits[i].prop) != 0 ? f->bits[i].set : f->bits[i].clear;
	return word;
}

uint64_t
pte_decode_prop(const struct paging *p, uint64_t word, unsigned level)
{
	uint64_t prop = 0;

	switch (p->format) {
	case PTE_X86:
		return prop_decode(&formats[PTE_X86], X86_BITS, word);
	case PTE_RISCV:
		return prop_decode(&formats[PTE_RISCV], RISCV_BITS, word);
	case PTE_LOONGARCH:
		prop = prop_decode(&formats[PTE_LOONGARCH], LOONG_BITS, word);
		if ((word & (level == 1 ? LOONG_HUGE : LOONG_HUGE_GLOBAL)) != 0)
			prop |= KVMS_PROP_GLOBAL;
		break;
	case PTE_X86_HARDWARE:
	case PTE_RISCV_HARDWARE:
	case PTE_LOONGARCH_HARDWARE:
		break;
	}
	return prop;
}

struct leaf
pte_decode_exact(const struct paging *p, uint64_t word, unsigned level)
{
	struct leaf leaf = pte_decode_leaf(p, word, level);

	if (p->format == PTE_LOONGARCH && (word & LOONG_CACHE) == 0) /* encoded from uc, reads as wb */
		leaf.prop &= (UINT64_C(1) << KVMS_PROP_CACHE_SHIFT) - 1;
	return leaf;
}

unsigned
pte_encode_leaf(const struct paging *p, const struct leaf *leaf, unsigned level, uint64_t *word)
{
	const struct format *f = &formats[p->format];
	uint64_t cache = f->encode[leaf->prop >> KVMS_PROP_CACHE_SHIFT];

	if (cache == NO_CACHE)
		return O_unsupported_cache;
	if (leaf->paddr % page_size(level) != 0 || leaf->paddr >= f->paddr_end)
		return O_paddr_unencodable;
	if (p->format == PTE_RISCV && level > 1 && (leaf->prop & (KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X)) == 0)
		return O_prop_unencodable;
	*word = leaf->paddr >> f->paddr_shift | f->leaf | cache |
		level_bits(p, level, (leaf->prop & KVMS_PROP_GLOBAL) != 0);
	switch (p->format) {
	case PTE_X86:
		*word |= prop_encode(&formats[PTE_X86], X86_BITS, leaf->prop);
		break;
	case PTE_RISCV:
		*word |= prop_encode(&formats[PTE_RISCV], RISCV_BITS, leaf->prop);
		break;
	case PTE_LOONGARCH:
		*word |= prop_encode(&formats[PTE_LOONGARCH], LOONG_BITS, leaf->prop);
		break;
	case PTE_X86_HARDWARE:
	case PTE_RISCV_HARDWARE:
	case PTE_LOONGARCH_HARDWARE:
		break;
	}
	if (leaf->avail1)
		*word |= f->avail1;
	return O_ok;
}
