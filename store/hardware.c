#include "store/hardware.h"

#include <stddef.h>

/* The machines.  What OSTD makes of the halves of the address space holds for every kernel of the same width. */
static const struct {
	enum kvms_machine machine;
	unsigned levels;
	enum pte_format format;
	enum arch layout; /* has the same width */
	enum arch arch;   /* comes nearest */
	unsigned highest_leaf;
	uint64_t present;
} machines[] = {
	{ KVMS_MACHINE_X86_64, 4, PTE_X86_HARDWARE, ARCH_X86_64, ARCH_X86_64, 3, X86_P },
	{ KVMS_MACHINE_X86_64, 5, PTE_X86_HARDWARE, ARCH_X86_64_LA57, ARCH_X86_64_LA57, 3, X86_P },
	{ KVMS_MACHINE_RISCV64, 3, PTE_RISCV_HARDWARE, ARCH_RISCV64_SV39, ARCH_RISCV64_SV39, 3, RISCV_V },
	{ KVMS_MACHINE_RISCV64, 4, PTE_RISCV_HARDWARE, ARCH_RISCV64_SV48, ARCH_RISCV64_SV48, 4, RISCV_V },
	{ KVMS_MACHINE_RISCV64, 5, PTE_RISCV_HARDWARE, ARCH_X86_64_LA57, ARCH_RISCV64_SV48, 5, RISCV_V },
	{ KVMS_MACHINE_LOONGARCH64, 4, PTE_LOONGARCH_HARDWARE, ARCH_LOONGARCH64, ARCH_LOONGARCH64, 4, LOONG_V },
};

bool
hardware_paging(enum kvms_machine machine, unsigned levels, struct paging *p, enum arch *arch)
{
	for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
		if (machines[i].machine != machine || machines[i].levels != levels)
			continue;
		*p = *paging_of(machines[i].layout);
		p->format = machines[i].format;
		p->highest_leaf = machines[i].highest_leaf;
		p->present = machines[i].present;
		*arch = machines[i].arch;
		return true;
	}
	return false;
}

/* ---- x86-64 ------------------------------------------------------------------- */

#define X86_W UINT64_C(0x2)
#define X86_USER UINT64_C(0x4)
#define X86_NX (UINT64_C(1) << 63)
#define X86_PADDR UINT64_C(0x000ffffffffff000)
#define X86_PAT_HUGE UINT64_C(0x1000) /* the cache bit of a leaf above level 1, where bit 7 has another meaning */

static uint64_t
x86_rights(uint64_t word)
{
	return ((word & X86_W) != 0 ? KVMS_PROP_W : 0) | ((word & X86_USER) != 0 ? KVMS_PROP_USER : 0) |
	       ((word & X86_NX) == 0 ? KVMS_PROP_X : 0);
}

/* The code of a cache type of the PAT: uncacheable, also where a range register could still say otherwise. */
static uint64_t
x86_cache(uint64_t pat, uint64_t word, unsigned level)
{
	static const uint8_t codes[8] = { 0, 1, 0, 0, 3, 2, 4, 0 };
	bool high = (word & (level == 1 ? X86_LEAF : X86_PAT_HUGE)) != 0;
	unsigned index = (unsigned)(word >> 3 & 3) + (high ? 4 : 0);

	return codes[pat >> 8 * index & 7];
}

static struct leaf
x86_leaf(uint64_t pat, uint64_t word, unsigned level, uint64_t rights)
{
	struct leaf leaf = { .paddr = word & X86_PADDR & ~(page_size(level) - 1) };

	leaf.prop = KVMS_PROP_R | (x86_rights(word) & rights);
	leaf.prop |= (word & 0x20) != 0 ? KVMS_PROP_A : 0;
	leaf.prop |= (word & 0x40) != 0 ? KVMS_PROP_D : 0;
	leaf.prop |= (word & 0x100) != 0 ? KVMS_PROP_GLOBAL : 0;
	leaf.prop |= (word >> 53 & 1) != 0 ? KVMS_PROP_AVAIL2 : 0;
	leaf.prop |= x86_cache(pat, word, level) << KVMS_PROP_CACHE_SHIFT;
	return leaf;
}

/* ---- riscv64 --------------------------------------------------------------------- */

#define RISCV_PADDR UINT64_C(0x003ffffffffffc00)
#define RISCV_R UINT64_C(0x2)
#define RISCV_W UINT64_C(0x4)
#define RISCV_UAD UINT64_C(0xd0)
#define RISCV_PBMT_SHIFT 61
#define RISCV_PBMT (UINT64_C(3) << RISCV_PBMT_SHIFT)
#define RISCV_NAPOT (UINT64_C(1) << 63)
#define RISCV_RESERVED (UINT64_C(0x7f) << 54)
#define NAPOT_PAGES UINT64_C(16) /* the only size there is: 64 KiB, the page number ends in binary 1000 */

static bool
riscv_is_napot(uint64_t word, unsigned level)
{
	return (word & RISCV_NAPOT) != 0 && level == 1 && (word >> 10 & (NAPOT_PAGES - 1)) == NAPOT_PAGES / 2;
}

static struct leaf
riscv_leaf(uint64_t word, unsigned level, uint64_t va)
{
	static const uint8_t codes[4] = { 4, 1, 0, 0 }; /* PBMT: of the memory, NC, IO, reserved */
	static const struct {
		uint64_t bit, prop;
	} bits[] = { { 0x2, KVMS_PROP_R },     { 0x4, KVMS_PROP_W },       { 0x8, KVMS_PROP_X },
		     { 0x10, KVMS_PROP_USER }, { 0x20, KVMS_PROP_GLOBAL }, { 0x40, KVMS_PROP_A },
		     { 0x80, KVMS_PROP_D },    { 0x200, KVMS_PROP_AVAIL2 } };
	struct leaf leaf = { .paddr = (word & RISCV_PADDR) << 2 & ~(page_size(level) - 1) };

	if (riscv_is_napot(word, level)) { /* the low bits of the page number are the address's */
		leaf.paddr &= ~(NAPOT_PAGES * KVMS_PAGE_SIZE - 1);
		leaf.paddr |= va & (NAPOT_PAGES * KVMS_PAGE_SIZE - 1) & ~(page_size(1) - 1);
	}
	for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
		leaf.prop |= (word & bits[i].bit) != 0 ? bits[i].prop : 0;
	leaf.prop |= (uint64_t)codes[word >> RISCV_PBMT_SHIFT & 3] << KVMS_PROP_CACHE_SHIFT;
	return leaf;
}

static bool
riscv_is_reserved(uint64_t word, enum pte_kind kind, unsigned level)
{
	if ((word & RISCV_RESERVED) != 0)
		return true;
	if (kind == PTE_TABLE)
		return (word & (RISCV_NAPOT | RISCV_PBMT | RISCV_UAD)) != 0;
	if ((word & RISCV_W) != 0 && (word & RISCV_R) == 0)
		return true;
	return (word & RISCV_PBMT) == RISCV_PBMT || ((word & RISCV_NAPOT) != 0 && !riscv_is_napot(word, level));
}

/* ---- loongarch64 ------------------------------------------------------------------ */

#define LOONG_PADDR UINT64_C(0x0000fffffffff000)
#define LOONG_GLOBAL_HUGE UINT64_C(0x1000)

static struct leaf
loong_leaf(uint64_t word, unsigned level)
{
	static const uint8_t codes[4] = { 0, 4, 1, 0 }; /* MAT: strongly ordered, cached, weakly ordered, reserved */
	uint64_t global = level == 1 ? LOONG_HUGE : LOONG_GLOBAL_HUGE;
	struct leaf leaf = { .paddr = word & LOONG_PADDR & ~(page_size(level) - 1) };

	leaf.prop |= (word >> 61 & 1) == 0 ? KVMS_PROP_R : 0;
	leaf.prop |= (word & 0x100) != 0 ? KVMS_PROP_W : 0;
	leaf.prop |= (word >> 62 & 1) == 0 ? KVMS_PROP_X : 0;
	leaf.prop |= (word & 0x80) != 0 ? KVMS_PROP_A : 0;
	leaf.prop |= (word & 0x2) != 0 ? KVMS_PROP_D : 0;
	leaf.prop |= (word & 0xc) == 0xc ? KVMS_PROP_USER : 0;
	leaf.prop |= (word & 0x800) != 0 ? KVMS_PROP_AVAIL2 : 0;
	leaf.prop |= (word & global) != 0 ? KVMS_PROP_GLOBAL : 0;
	leaf.prop |= (uint64_t)codes[word >> 4 & 3] << KVMS_PROP_CACHE_SHIFT;
	return leaf;
}

/* ---- All ----------------------------------------------------------------------------- */

uint64_t
hardware_rights(const struct paging *p, uint64_t word)
{
	return p->format == PTE_X86_HARDWARE ? x86_rights(word) : HARDWARE_RIGHTS;
}

struct leaf
hardware_leaf(const struct paging *p, uint64_t pat, uint64_t word, unsigned level, uint64_t va, uint64_t rights)
{
	if (p->format == PTE_X86_HARDWARE)
		return x86_leaf(pat, word, level, rights);
	return p->format == PTE_RISCV_HARDWARE ? riscv_leaf(word, level, va) : loong_leaf(word, level);
}

/* True if address bits of a leaf are set that a page of that size cannot have. */
static bool
leaf_is_unaligned(const struct paging *p, uint64_t word, unsigned level)
{
	uint64_t below = page_size(level) - 1;

	if (p->format == PTE_RISCV_HARDWARE)
		return ((word & RISCV_PADDR) << 2 & below) != 0;
	if (p->format == PTE_X86_HARDWARE)
		return level > 1 && (word & X86_PADDR & below & ~X86_PAT_HUGE) != 0;
	return level > 1 && (word & LOONG_PADDR & below & ~LOONG_GLOBAL_HUGE) != 0;
}

enum kvms_flaw
hardware_flaw(const struct paging *p, uint64_t word, unsigned level)
{
	enum pte_kind kind = pte_kind(p, word, level);

	if (kind == PTE_TABLE && level == 1)
		return KVMS_FLAW_LEVEL1;
	if (p->format == PTE_RISCV_HARDWARE && riscv_is_reserved(word, kind, level))
		return KVMS_FLAW_RESERVED;
	if (kind != PTE_LEAF)
		return KVMS_FLAWS;
	if (level > p->highest_leaf)
		return KVMS_FLAW_LEAF_LEVEL;
	return leaf_is_unaligned(p, word, level) ? KVMS_FLAW_ALIGNMENT : KVMS_FLAWS;
}
