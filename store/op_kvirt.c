/* Kernel virtual areas: docs/ops.md. */
#include "store/area.h"
#include "store/op.h"

#include <stdlib.h>
#include <string.h>

static int
id_compare(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* A sorted copy of a list, NULL if the host has no memory for it. */
static const uint64_t *
sorted_copy(struct sorting *sorting, const uint64_t *ids, uint64_t count)
{
	if (count > sorting->capacity) {
		uint64_t *more = realloc(sorting->at, (size_t)count * sizeof *more);

		if (more == NULL)
			return NULL;
		sorting->at = more;
		sorting->capacity = (size_t)count;
	}
	memcpy(sorting->at, ids, (size_t)count * sizeof *ids);
	qsort(sorting->at, (size_t)count, sizeof *ids, id_compare);
	return sorting->at;
}

bool
ids_duplicate(const struct kvms *s, const uint64_t *ids, uint64_t count)
{
	const uint64_t *sorted = count > 32 ? sorted_copy(s->sorting, ids, count) : NULL;

	for (uint64_t i = 1; i < count; i++) {
		if (sorted != NULL) {
			if (sorted[i] == sorted[i - 1])
				return true;
			continue;
		}
		for (uint64_t k = 0; k < i; k++)
			if (ids[i] == ids[k])
				return true;
	}
	return false;
}

/* ---- Areas ------------------------------------------------------------------ */

uint64_t
area_new(struct kvms *s, uint64_t start, uint64_t end)
{
	struct area *area;
	uint64_t id = record_new(s, KVMS_ID_AREA, (void **)&area);

	area->start = start;
	area->end = end;
	s->live.totals.areas++;
	if (start < end)
		extent_insert(s, SET_AREAS, start, end, id);
	return id;
}

/* The area ends; its addresses stay taken. */
static void
area_end(struct kvms *s, uint64_t id)
{
	struct area area = *AREA(s, id);

	if (area.start < area.end)
		extent_remove(s, SET_AREAS, area.start);
	record_end(s, KVMS_ID_AREA, id);
	s->live.totals.areas--;
}

void
area_free(struct kvms *s, uint64_t id)
{
	struct area area = *AREA(s, id);

	area_end(s, id);
	if (area.start < area.end)
		va_free(s, area.start, area.end);
}

/* ---- Mapping into a new area -------------------------------------------------- */

/* Each frame in order: a tracked leaf at level 1; the handle's reference becomes the mapping's. */
unsigned
map_frames(struct kvms *s, struct cursor *c, const uint64_t *frames, uint64_t count, uint64_t prop)
{
	for (uint64_t i = 0; i < count; i++) {
		struct leaf leaf = { .paddr = FRAME(s, frames[i])->paddr, .prop = prop, .avail1 = true };
		unsigned name = cursor_map(s, c, &leaf, 1);

		if (name != O_ok)
			return name == O_cursor_at_end ? O_frames_exceed_area : name;
		handle_end(s, frames[i]);
	}
	return O_ok;
}

/* What both forms of kvirt_map_frames do once the range [start, start + area_size) is taken. */
static unsigned
area_map_frames(struct kvms *s, uint64_t start, const struct args_kvirt_map_frames *a, const uint64_t *frames,
		struct reply_kvirt_map_frames *r)
{
	struct cursor c;
	unsigned name;

	if (a->map_offset >= a->area_size)
		return O_map_offset_out_of_range;
	r->start = start;
	r->end = start + a->area_size;
	r->area = area_new(s, r->start, r->end);
	name = cursor_open(s, &c, KERNEL_TABLE, start + a->map_offset, r->end);
	if (name == O_ok)
		name = map_frames(s, &c, frames, a->frames, a->prop);
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

static void
area_map_frames_moved(union totals *want, uint64_t frames, uint64_t nodes)
{
	want->areas++;
	want->frames -= frames;
	want->leaves_tracked += frames;
	want->pagetable += nodes;
	want->unused -= nodes;
}

static unsigned
area_sizes_check(uint64_t area_size, uint64_t map_offset)
{
	if (area_size % PAGE != 0)
		return O_area_size_unaligned;
	return map_offset % PAGE != 0 ? O_map_offset_unaligned : O_ok;
}

PRE(kvirt_map_frames)
{
	if (ids_duplicate(s, list, a->frames))
		return O_duplicate_frame;
	return area_sizes_check(a->area_size, a->map_offset);
}

STEP(kvirt_map_frames)
{
	uint64_t start;

	if (!va_alloc(s, a->area_size, &start))
		return O_va_exhausted;
	return area_map_frames(s, start, a, list, r);
}

POST(kvirt_map_frames)
{
	area_map_frames_moved(want, a->frames, r->nodes_allocated);
}

PRE(kvirt_map_frames_at)
{
	if (ids_duplicate(s, list, a->frames))
		return O_duplicate_frame;
	if (a->start % PAGE != 0)
		return O_start_unaligned;
	return area_sizes_check(a->area_size, a->map_offset);
}

STEP(kvirt_map_frames_at)
{
	struct args_kvirt_map_frames rest = { a->area_size, a->map_offset, a->frames, a->prop };
	struct reply_kvirt_map_frames reply = { 0 };
	unsigned name;

	if (!va_alloc_at(s, a->start, a->area_size))
		return O_RangeAllocError;
	name = area_map_frames(s, a->start, &rest, list, &reply);
	*r = (struct reply_kvirt_map_frames_at){ reply.area, reply.start, reply.end, reply.nodes_allocated };
	return name;
}

POST(kvirt_map_frames_at)
{
	area_map_frames_moved(want, a->frames, r->nodes_allocated);
}

/* ---- Mapping a physical range into a new area ------------------------------------ */

static unsigned
untracked_check(const struct args_kvirt_map_untracked_frames *a)
{
	uint64_t size = paddr_range_size(a->paddr_start, a->paddr_end);
	unsigned name;

	if (a->paddr_start % PAGE != 0)
		return O_paddr_start_unaligned;
	if (a->paddr_end % PAGE != 0)
		return O_paddr_end_unaligned;
	name = area_sizes_check(a->area_size, a->map_offset);
	if (name != O_ok)
		return name;
	/* map_offset + size > area_size, without overflow */
	return a->map_offset > a->area_size || size > a->area_size - a->map_offset ? O_paddr_range_exceeds_area : O_ok;
}

static unsigned
area_map_untracked(struct kvms *s, uint64_t start, const struct args_kvirt_map_untracked_frames *a,
		   struct reply_kvirt_map_untracked_frames *r)
{
	uint64_t size = paddr_range_size(a->paddr_start, a->paddr_end), va = start + a->map_offset, leaves = 0;
	struct cursor c;
	unsigned name;

	r->start = start;
	r->end = start + a->area_size;
	r->area = area_new(s, r->start, r->end);
	if (size == 0)
		return O_ok;
	name = cursor_open(s, &c, KERNEL_TABLE, va, va + size);
	if (name == O_ok)
		name = cursor_map_largest(s, &c, a->paddr_start, size, a->prop, 0, &leaves);
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

PRE(kvirt_map_untracked_frames)
{
	return untracked_check(a);
}

STEP(kvirt_map_untracked_frames)
{
	uint64_t start;

	if (!va_alloc(s, a->area_size, &start))
		return O_va_exhausted;
	return area_map_untracked(s, start, a, r);
}

POST(kvirt_map_untracked_frames)
{
	area_map_frames_moved(want, 0, r->nodes_allocated);
}

PRE(kvirt_map_untracked_frames_at)
{
	struct args_kvirt_map_untracked_frames rest = { a->area_size, a->map_offset, a->paddr_start, a->paddr_end,
							a->prop };

	return a->start % PAGE != 0 ? O_start_unaligned : untracked_check(&rest);
}

STEP(kvirt_map_untracked_frames_at)
{
	struct args_kvirt_map_untracked_frames rest = { a->area_size, a->map_offset, a->paddr_start, a->paddr_end,
							a->prop };
	struct reply_kvirt_map_untracked_frames reply = { 0 };
	unsigned name;

	if (!va_alloc_at(s, a->start, a->area_size))
		return O_RangeAllocError;
	name = area_map_untracked(s, a->start, &rest, &reply);
	*r = (struct reply_kvirt_map_untracked_frames_at){ reply.area, reply.start, reply.end, reply.nodes_allocated };
	return name;
}

POST(kvirt_map_untracked_frames_at)
{
	area_map_frames_moved(want, 0, r->nodes_allocated);
}

/* ---- Reserving ----------------------------------------------------------------------- */

PRE(kvirt_reserve)
{
	return area_sizes_check(a->area_size, 0);
}

STEP(kvirt_reserve)
{
	if (!va_alloc(s, a->area_size, &r->start))
		return O_RangeAllocError;
	r->end = r->start + a->area_size;
	r->area = area_new(s, r->start, r->end);
	return O_ok;
}

POST(kvirt_reserve)
{
	want->areas++;
}

PRE(kvirt_reserve_at)
{
	return a->start % PAGE != 0 ? O_start_unaligned : area_sizes_check(a->area_size, 0);
}

STEP(kvirt_reserve_at)
{
	if (!va_alloc_at(s, a->start, a->area_size))
		return O_RangeAllocError;
	r->start = a->start;
	r->end = a->start + a->area_size;
	r->area = area_new(s, r->start, r->end);
	return O_ok;
}

POST(kvirt_reserve_at)
{
	want->areas++;
}

PRE(kvirt_unreserve)
{
	const struct area *area = AREA(s, a->area);
	uint64_t va;

	if (area->refs > 0)
		return O_area_in_use;
	if (FAULT(range_freed_while_mapped))
		return O_ok;
	return leaf_in_range(s, KERNEL_TABLE, area->start, area->end, &va) ? O_area_mapped : O_ok;
}

STEP(kvirt_unreserve)
{
	area_free(s, a->area);
	return O_ok;
}

POST(kvirt_unreserve)
{
	want->areas--;
}

/* ---- Looking --------------------------------------------------------------------------- */

static unsigned
query_check(const struct kvms *s, uint64_t id, uint64_t va)
{
	const struct area *area = AREA(s, id);

	return va < area->start || va >= area->end ? O_query_out_of_range : O_ok;
}

/* OPEN the page of va, then QUERY. */
static unsigned
area_query(struct kvms *s, uint64_t va, struct translation *t, uint64_t *nodes)
{
	uint64_t page = va & ~(uint64_t)(PAGE - 1);
	struct cursor c;
	unsigned name = cursor_open(s, &c, KERNEL_TABLE, page, page + PAGE);

	*nodes = c.nodes_allocated;
	if (name == O_ok)
		*t = cursor_query(s, &c);
	return name;
}

PRE(kvirt_query)
{
	return query_check(s, a->area, a->va);
}

STEP(kvirt_query)
{
	struct translation t;
	unsigned name = area_query(s, a->va, &t, &r->nodes_allocated);

	if (name != O_ok)
		return name;
	REPLY_LEAF(kvirt_query, t);
	if (!t.tracked) {
		out->present &= ~REPLY_BIT(kvirt_query, frame);
		return O_ok;
	}
	return leaf_clone(s, &t, &r->frame);
}

POST(kvirt_query)
{
	want->frames += r->frame != 0;
	want->pagetable += r->nodes_allocated;
	want->unused -= r->nodes_allocated;
}

PRE(kvirt_peek)
{
	return query_check(s, a->area, a->va);
}

STEP(kvirt_peek)
{
	struct translation t;
	unsigned name = area_query(s, a->va, &t, &r->nodes_allocated);

	if (name != O_ok)
		return name;
	REPLY_LEAF(kvirt_peek, t);
	return O_ok;
}

POST(kvirt_peek)
{
	want->pagetable += r->nodes_allocated;
	want->unused -= r->nodes_allocated;
}

PRE(kvirt_range)
{
	return O_ok;
}

STEP(kvirt_range)
{
	const struct area *area = AREA(s, a->area);

	r->start = area->start;
	r->end = area->end;
	r->size = area->end - area->start;
	return O_ok;
}

POST(kvirt_range)
{
}

/* ---- Cutting and ending ------------------------------------------------------------------ */

PRE(kvirt_split)
{
	const struct area *area = AREA(s, a->area);

	if (area->refs > 0)
		return O_area_in_use;
	if (a->offset % PAGE != 0)
		return O_split_misaligned;
	return a->offset == 0 || a->offset >= area->end - area->start ? O_split_out_of_bound : O_ok;
}

STEP(kvirt_split)
{
	struct area area = *AREA(s, a->area);

	area_end(s, a->area);
	r->left = area_new(s, area.start, area.start + a->offset);
	r->right = area_new(s, area.start + a->offset, area.end);
	return O_ok;
}

POST(kvirt_split)
{
	want->areas++;
}

PRE(kvirt_drop)
{
	const struct area *area = AREA(s, a->area);

	if (area->refs > 0)
		return O_area_in_use;
	return area->start == area->end ? O_area_empty : O_ok;
}

STEP(kvirt_drop)
{
	const struct area *area = AREA(s, a->area);
	struct cursor c;
	unsigned name = cursor_open(s, &c, KERNEL_TABLE, area->start, area->end);

	if (name == O_ok)
		name = cursor_unmap(s, &c, c.end, &r->leaves, &r->subtrees);
	if (name != O_ok)
		return name;
	r->nodes_allocated = c.nodes_allocated;
	r->nodes_freed = c.nodes_freed;
	area_free(s, a->area);
	return O_ok;
}

POST(kvirt_drop)
{
	want->areas--;
	want->pagetable += r->nodes_allocated - r->nodes_freed;
}
