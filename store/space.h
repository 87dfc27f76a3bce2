/*
 * space - user address spaces, CPUs and their TLBs, I/O memory's references.
 *
 * Law: a CPU's TLB holds entries of the kernel table and of the space that is
 * active there, none other; what a queue keeps lives until it has flushed.
 */
#ifndef KVMS_SPACE_H
#define KVMS_SPACE_H

#include "store/pagetable.h"

/* ---- TLB ---------------------------------------------------------------- */

/* The entry of a CPU that covers va, or NULL. */
const struct tlb_entry *tlb_find(const struct kvms *s, uint64_t cpu, uint64_t va);
/* True if the entry's table has a leaf of the same va, size and paddr, or the CPU's queue covers the entry. */
bool tlb_is_backed(const struct kvms *s, const struct tlb_entry *t);
/* Cache a leaf, removing entries that overlap it. */
void tlb_insert(struct kvms *s, uint64_t cpu, uint64_t table, const struct translation *t);
/* Remove entries: those that overlap [start, end); all that a root switch or a flush of everything drops. */
uint64_t tlb_flush_range(struct kvms *s, uint64_t cpu, uint64_t start, uint64_t end);
uint64_t tlb_flush_all(struct kvms *s, uint64_t cpu);
/* FLUSH what a stack says. */
uint64_t tlb_flush_stack(struct kvms *s, uint64_t cpu, const struct flush_stack *stack);

/* ---- Flush stacks ------------------------------------------------------------ */

void stack_push(struct flush_stack *stack, uint64_t va, uint64_t pages);
void stack_push_all(struct flush_stack *stack);
static inline bool
stack_is_empty(const struct flush_stack *stack)
{
	return !stack->all && stack->count == 0;
}
/* The flusher of a mutable cursor, made if it has none. */
struct flusher *flusher_mut(struct kvms *s, uint64_t cursor);
/* End a flusher that has become empty. */
void flusher_tidy(struct kvms *s, uint64_t cursor);
/*
 * DISPATCH the cursor's stack with the references in "kept" (pairs: 1 = node
 * or 0 = frame, paddr), which end.  O_refcount_saturated if one cannot be
 * taken once more for another CPU.
 */
unsigned flush_dispatch(struct kvms *s, uint64_t cursor, const uint64_t *kept, uint64_t kept_count, uint64_t *remote,
			uint64_t *nodes_freed);
/* End the references that a CPU's queue keeps. */
void queue_release(struct kvms *s, uint64_t cpu, uint64_t *nodes_freed);

/* ---- Spaces -------------------------------------------------------------------- */

/* SWITCH the current CPU to a space (0 = kernel table only).  O_refcount_saturated. */
unsigned space_switch(struct kvms *s, uint64_t space, uint64_t *changed, uint64_t *nodes_freed);
/* DESTROY a space without handle that no CPU runs on. */
void space_destroy(struct kvms *s, uint64_t space, uint64_t *nodes_freed);
/* One more or one less cursor, reader or writer refers to a space (0 = kernel: nothing). */
void space_use(struct kvms *s, uint64_t space, int by);

/* ---- I/O memory ------------------------------------------------------------------ */

/* One more reference on an I/O area; one less: the last one unmaps and frees it. */
void io_area_get(struct kvms *s, uint64_t area);
void io_area_put(struct kvms *s, uint64_t area, uint64_t *nodes_freed);
/* A handle whose reference the caller has taken. */
uint64_t iomem_new(struct kvms *s, uint64_t area, uint64_t paddr, uint64_t size, uint64_t cache, uint64_t offset);

#endif /* KVMS_SPACE_H */
