/*
 * hardware - page-table words as the hardware reads them, whoever wrote them.
 *
 * The words of paging.h are those that OSTD writes; the formats here decode
 * what any kernel writes.  What is present, a table or a leaf is in
 * pte_kind(); here is what a leaf grants, on the way to it too, and what the
 * hardware does not take.
 */
#ifndef KVMS_HARDWARE_H
#define KVMS_HARDWARE_H

#include "store/kvmstore.h"
#include "store/paging.h"

/*
 * Paging of a machine whose root is of that level, and the value of the key
 * arch that comes nearest.  False: there is no such machine.
 */
bool hardware_paging(enum kvms_machine machine, unsigned levels, struct paging *p, enum arch *arch);

/* Rights that a table word leaves to what lies below, out of W, X, USER; x86 cuts them at every level. */
#define HARDWARE_RIGHTS (KVMS_PROP_W | KVMS_PROP_X | KVMS_PROP_USER)
uint64_t hardware_rights(const struct paging *p, uint64_t word);

/*
 * What a leaf word at "va" is, with the rights left by the words above it.
 *
 * => pat: the eight cache types of x86
 */
struct leaf hardware_leaf(const struct paging *p, uint64_t pat, uint64_t word, unsigned level, uint64_t va,
			  uint64_t rights);

/* The first thing wrong with a word that is not absent, or KVMS_FLAWS if nothing is. */
enum kvms_flaw hardware_flaw(const struct paging *p, uint64_t word, unsigned level);

#endif /* KVMS_HARDWARE_H */
