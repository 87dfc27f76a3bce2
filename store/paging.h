/*
 * paging - constants of an architecture and its page-table words.
 *
 * A word is absent, a table (the address of the next node) or a leaf (a page
 * with its property).  Encoding and decoding take the level of the node that
 * holds the word; decoding undoes encoding at the same level.
 */
#ifndef KVMS_PAGING_H
#define KVMS_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BITS 12u
#define INDEX_BITS 9u
#define NODE_ENTRIES 512u
#define LEVELS_MAX 5u

/* In the order of the store key arch. */
enum arch { ARCH_X86_64, ARCH_X86_64_LA57, ARCH_RISCV64_SV39, ARCH_RISCV64_SV48, ARCH_LOONGARCH64 };
#define ARCHES 5u

/* Who lays a word out: OSTD for its machines, or any kernel as the hardware reads it (hardware.h). */
enum pte_format {
	PTE_X86,
	PTE_RISCV,
	PTE_LOONGARCH,
	PTE_X86_HARDWARE,
	PTE_RISCV_HARDWARE,
	PTE_LOONGARCH_HARDWARE
};

struct paging {
	enum pte_format format;
	unsigned levels;       /* of the tree; the root's level */
	unsigned width;        /* bits of a virtual address */
	unsigned highest_leaf; /* highest level at which a leaf may stand */
	uint64_t present;      /* a word with none of these bits is absent */
	uint64_t kernel_base;  /* first address of the kernel half */
	uint64_t linear_base;
	bool linear_in_table;  /* false: a hardware window, neither linear map nor image is mapped */
	uint64_t space_base;   /* KERNEL_BASE: first address of a kernel reader or writer */
	uint64_t vmalloc_start, vmalloc_end; /* default vmalloc range; the frame metadata starts at its end */
	uint64_t code_base;
	uint64_t user_end;     /* MAX_USERSPACE_VADDR: end of what readers and writers reach */
	uint64_t user_last;    /* last address of the user half */
};

/* Constants of an architecture, or NULL if it is not built. */
const struct paging *paging_of(enum arch arch);
/* What makes no sense about such constants, in a few words; NULL if they do. */
const char *paging_flaw(const struct paging *p);

enum pte_kind { PTE_ABSENT, PTE_TABLE, PTE_LEAF };

struct leaf {
	uint64_t paddr;
	uint64_t prop;  /* KVMS_PROP_* without AVAIL1 */
	bool avail1;    /* kernel table: tracked */
};

/* Bytes that one entry of a level spans: 4 KiB at level 1.  level <= 5. */
static inline uint64_t
page_size(unsigned level)
{
	return UINT64_C(1) << (PAGE_BITS + INDEX_BITS * (level - 1));
}

static inline unsigned
entry_index(uint64_t va, unsigned level)
{
	return (unsigned)(va >> (PAGE_BITS + INDEX_BITS * (level - 1))) & (NODE_ENTRIES - 1);
}

/* True if all bits from the sign bit up are equal. */
static inline bool
va_is_canonical(const struct paging *p, uint64_t va)
{
	uint64_t top = va >> (p->width - 1);

	return top == 0 || top == UINT64_MAX >> (p->width - 1);
}

#define X86_P UINT64_C(0x1)
#define X86_LEAF UINT64_C(0x80)
#define RISCV_V UINT64_C(0x1)
#define RISCV_RWX UINT64_C(0xe)
#define LOONG_V UINT64_C(0x1)
#define LOONG_HUGE UINT64_C(0x40)
#define LOONG_BASIC UINT64_C(0x200)
#define LOONG_HUGE_GLOBAL UINT64_C(0x1000)
#define X86_AVAIL1 (UINT64_C(1) << 52)
#define RISCV_AVAIL1 UINT64_C(0x100)
#define LOONG_AVAIL1 UINT64_C(0x400)
#define LOONG_DIRECTORY UINT64_C(0x0000fffffffff000)

static inline enum pte_kind
pte_kind(const struct paging *p, uint64_t word, unsigned level)
{
	switch (p->format) {
	case PTE_X86:
		if ((word & (X86_P | X86_LEAF)) == 0)
			return PTE_ABSENT;
		return (word & X86_LEAF) != 0 ? PTE_LEAF : PTE_TABLE;
	case PTE_RISCV:
		if ((word & RISCV_V) == 0)
			return PTE_ABSENT;
		return level == 1 || (word & RISCV_RWX) != 0 ? PTE_LEAF : PTE_TABLE;
	case PTE_LOONGARCH:
		if ((word & LOONG_V) == 0)
			return PTE_ABSENT;
		return level == 1 || (word & (LOONG_HUGE | LOONG_BASIC)) == LOONG_HUGE ? PTE_LEAF : PTE_TABLE;
	case PTE_X86_HARDWARE:
		if ((word & X86_P) == 0)
			return PTE_ABSENT;
		return level == 1 || (word & X86_LEAF) != 0 ? PTE_LEAF : PTE_TABLE;
	case PTE_RISCV_HARDWARE:
		if ((word & RISCV_V) == 0)
			return PTE_ABSENT;
		return (word & RISCV_RWX) != 0 ? PTE_LEAF : PTE_TABLE;
	case PTE_LOONGARCH_HARDWARE: /* a directory entry is an address, and has no bit that makes it one */
		if (level == 1 || (word & LOONG_HUGE) != 0)
			return (word & LOONG_V) != 0 ? PTE_LEAF : PTE_ABSENT;
		return (word & LOONG_DIRECTORY) != 0 ? PTE_TABLE : PTE_ABSENT;
	}
	return PTE_ABSENT;
}

#define X86_PADDR UINT64_C(0x000ffffffffff000)
#define RISCV_PADDR UINT64_C(0x003ffffffffffc00)
#define RISCV_PADDR_SHIFT 2u
#define LOONG_PADDR UINT64_C(0x0000fffffffff000)

/* Physical address of the node that a table word designates. */
static inline uint64_t
pte_table_paddr(const struct paging *p, uint64_t word)
{
	switch (p->format) {
	case PTE_X86:
	case PTE_X86_HARDWARE:
		return word & X86_PADDR;
	case PTE_RISCV:
	case PTE_RISCV_HARDWARE:
		return (word & RISCV_PADDR) << RISCV_PADDR_SHIFT;
	case PTE_LOONGARCH:
	case PTE_LOONGARCH_HARDWARE:
		return word & LOONG_PADDR;
	}
	return 0;
}
/* The bits of a word at level 1 that are its address. */
static inline uint64_t
pte_address_bits(const struct paging *p)
{
	static const uint64_t bits[PTE_LOONGARCH_HARDWARE + 1] = { X86_PADDR,	RISCV_PADDR,	LOONG_PADDR,
								   X86_PADDR, RISCV_PADDR, LOONG_PADDR };

	return bits[p->format];
}
uint64_t pte_encode_table(const struct paging *p, uint64_t paddr);
/* The address bits of a leaf word, aligned or not. */
static inline uint64_t
pte_leaf_address(const struct paging *p, uint64_t word, unsigned level)
{
	return pte_table_paddr(p, p->format == PTE_LOONGARCH && level > 1 ? word & ~LOONG_HUGE_GLOBAL : word);
}
/* Bits of a leaf word that decoding loses, so that re-encoding need not give them back. */
uint64_t pte_lossy_bits(const struct paging *p);
/* A leaf but for its property: who counts references needs no more. */
static inline struct leaf
pte_decode_frame(const struct paging *p, uint64_t word, unsigned level)
{
	static const uint64_t avail1[PTE_LOONGARCH_HARDWARE + 1] = { X86_AVAIL1, RISCV_AVAIL1, LOONG_AVAIL1 };

	return (struct leaf){ .paddr = pte_leaf_address(p, word, level) & ~(page_size(level) - 1),
			      .avail1 = (word & avail1[p->format]) != 0 };
}
uint64_t pte_decode_prop(const struct paging *p, uint64_t word, unsigned level);
/* Inlined, so that the three parts need not go through memory. */
static inline struct leaf
pte_decode_leaf(const struct paging *p, uint64_t word, unsigned level)
{
	struct leaf leaf = pte_decode_frame(p, word, level);

	leaf.prop = pte_decode_prop(p, word, level);
	return leaf;
}
/* The same, but with the property that encodes to this very word, where decoding is lossy. */
struct leaf pte_decode_exact(const struct paging *p, uint64_t word, unsigned level);
/* O_ok and *word, or O_unsupported_cache, O_paddr_unencodable, O_prop_unencodable. */
unsigned pte_encode_leaf(const struct paging *p, const struct leaf *leaf, unsigned level, uint64_t *word);

#endif /* KVMS_PAGING_H */
