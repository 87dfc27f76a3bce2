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

enum arch { ARCH_X86_64 };
#define ARCHES 1u /* built; the others are refused at creation */

struct paging {
	enum arch arch;
	unsigned levels;       /* of the tree; the root's level */
	unsigned width;        /* bits of a virtual address */
	unsigned highest_leaf; /* highest level at which a leaf may stand */
	uint64_t present;      /* a word with none of these bits is absent */
	uint64_t kernel_base;  /* first address of the kernel half */
	uint64_t linear_base;
	uint64_t vmalloc_start, vmalloc_end; /* default vmalloc range */
};

/* Constants of an architecture, or NULL if it is not built. */
const struct paging *paging_of(enum arch arch);

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

static inline enum pte_kind
pte_kind(const struct paging *p, uint64_t word, unsigned level)
{
	(void)level; /* x86 tells a leaf by its word alone */
	(void)p;
	if ((word & (X86_P | X86_LEAF)) == 0)
		return PTE_ABSENT;
	return (word & X86_LEAF) != 0 ? PTE_LEAF : PTE_TABLE;
}

/* Physical address of the node that a table word designates. */
uint64_t pte_table_paddr(const struct paging *p, uint64_t word);
uint64_t pte_encode_table(const struct paging *p, uint64_t paddr);
/* The address bits of a leaf word, aligned or not. */
uint64_t pte_leaf_address(const struct paging *p, uint64_t word);
struct leaf pte_decode_leaf(const struct paging *p, uint64_t word, unsigned level);
/* O_ok and *word, or O_unsupported_cache, O_paddr_unencodable, O_prop_unencodable. */
unsigned pte_encode_leaf(const struct paging *p, const struct leaf *leaf, unsigned level, uint64_t *word);

#endif /* KVMS_PAGING_H */
