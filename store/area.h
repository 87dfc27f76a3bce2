/*
 * area - kernel virtual areas, shared by the ops that make and change them.
 *
 * Law: non-empty areas and free blocks tile each vmalloc range exactly
 * (law alloc.partition).
 */
#ifndef KVMS_AREA_H
#define KVMS_AREA_H

#include "store/pagetable.h"

/* A new area over addresses already taken from the allocator; its id. */
uint64_t area_new(struct kvms *s, uint64_t start, uint64_t end);

/* The area ends and its addresses are free again. */
void area_free(struct kvms *s, uint64_t id);

/* Map frames one after the other at the cursor, consuming their handles; O_frames_exceed_area at its end. */
unsigned map_frames(struct kvms *s, struct cursor *c, const uint64_t *frames, uint64_t count, uint64_t prop);

/* Bytes of a physical range; an inverted one is empty. */
static inline uint64_t
paddr_range_size(uint64_t paddr_start, uint64_t paddr_end)
{
	return paddr_end > paddr_start ? paddr_end - paddr_start : 0;
}

/* True if an id stands twice in the list. */
bool ids_duplicate(const struct kvms *s, const uint64_t *ids, uint64_t count);

#endif /* KVMS_AREA_H */
