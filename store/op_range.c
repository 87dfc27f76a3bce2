/* Kernel mappings by range, as docs/ops.md describes them. */
#include "store/area.h"
#include "store/op.h"
#include "store/space.h"

/* ARANGE without its cursor.  "end" may lie behind 2^64: then it wrapped below start. */
static unsigned
area_range_check(const struct kvms *s, uint64_t id, uint64_t start, uint64_t end)
{
	const struct area *area = AREA(s, id);

	if (area->refs > 0)
		return O_area_in_use;
	if (start % PAGE != 0 || end % PAGE != 0 || start > end)
		return O_range_unaligned;
	return start < area->start || end > area->end ? O_range_outside_area : O_ok;
}

/* The same for [start, start + size), a sum that may exceed 2^64. */
static unsigned
area_span_check(const struct kvms *s, uint64_t id, uint64_t start, uint64_t size)
{
	unsigned name = area_range_check(s, id, start, start);

	if (name == O_area_in_use || name == O_range_unaligned)
		return name;
	if (size > UINT64_MAX - start)
		return O_range_outside_area;
	return area_range_check(s, id, start, start + size);
}

static void
area_cursor(struct kvms *s, struct cursor *c, uint64_t id, uint64_t va)
{
	const struct area *area = AREA(s, id);

	cursor_open_root(s, c, area->start, area->end, va);
}

/* BRANGE without its cursor. */
static unsigned
boot_range_check(const struct kvms *s, uint64_t start, uint64_t end)
{
	if (start % PAGE != 0 || end % PAGE != 0 || start > end)
		return O_range_unaligned;
	if (start < s->paging.kernel_base || end > KERNEL_END_VADDR)
		return O_range_not_boot;
	for (uint64_t i = 0; i < s->vmalloc_count; i++)
		if (start < s->vmalloc[i].end && s->vmalloc[i].start < end)
			return O_range_not_boot;
	return O_ok;
}

/* PADDRS. */
static unsigned
paddrs_check(const struct kvms *s, uint64_t paddr_start, uint64_t paddr_end, uint64_t max_level)
{
	if (paddr_start % PAGE != 0)
		return O_paddr_start_unaligned;
	if (paddr_end % PAGE != 0)
		return O_paddr_end_unaligned;
	return max_level > s->paging.highest_leaf ? O_level_too_high : O_ok;
}

static void
nodes_moved(union totals *want, uint64_t allocated, uint64_t freed)
{
	want->pagetable += allocated - freed;
	want->unused -= allocated - freed;
}

/* ---- Inside an area ------------------------------------------------------------- */

PRE(kvirt_map_frames_into)
{
	if (AREA(s, a->area)->refs > 0)
		return O_area_in_use;
	if (ids_duplicate(s, list, a->frames))
		return O_duplicate_frame;
	return area_span_check(s, a->area, a->va, a->frames * PAGE);
}

STEP(kvirt_map_frames_into)
{
	struct cursor c;
	unsigned name;

	area_cursor(s, &c, a->area, a->va);
	name = map_frames(s, &c, list, a->frames, a->prop);
	r->end = a->va + a->frames * PAGE;
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

POST(kvirt_map_frames_into)
{
	want->frames -= a->frames;
	want->leaves_tracked += a->frames;
	nodes_moved(want, r->nodes_allocated, 0);
}

PRE(kvirt_map_untracked_into)
{
	unsigned name;

	if (AREA(s, a->area)->refs > 0)
		return O_area_in_use;
	name = paddrs_check(s, a->paddr_start, a->paddr_end, a->max_level);
	if (name != O_ok)
		return name;
	return area_span_check(s, a->area, a->va, paddr_range_size(a->paddr_start, a->paddr_end));
}

STEP(kvirt_map_untracked_into)
{
	uint64_t size = paddr_range_size(a->paddr_start, a->paddr_end);
	struct cursor c;
	unsigned name;

	area_cursor(s, &c, a->area, a->va);
	name = cursor_map_largest(s, &c, a->paddr_start, size, a->prop, (unsigned)a->max_level, &r->leaves);
	r->end = a->va + size;
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

POST(kvirt_map_untracked_into)
{
	want->leaves_untracked += r->leaves;
	nodes_moved(want, r->nodes_allocated, 0);
}

PRE(kvirt_unmap_range)
{
	return area_range_check(s, a->area, a->start, a->end);
}

STEP(kvirt_unmap_range)
{
	struct cursor c;
	unsigned name;

	area_cursor(s, &c, a->area, a->start);
	name = cursor_unmap(s, &c, a->end, &r->leaves, &r->subtrees);
	r->nodes_allocated = c.nodes_allocated;
	r->nodes_freed = c.nodes_freed;
	return name;
}

POST(kvirt_unmap_range)
{
	want->pagetable += r->nodes_allocated - r->nodes_freed;
}

PRE(kvirt_protect_range)
{
	return area_range_check(s, a->area, a->start, a->end);
}

STEP(kvirt_protect_range)
{
	struct protect p = { a->set, a->clear, a->cache, a->global };
	struct cursor c;
	unsigned name;

	area_cursor(s, &c, a->area, a->start);
	name = cursor_protect(s, &c, FAULT(protect_one_page_more) && a->end < c.end ? a->end + PAGE : a->end, &p,
			      &r->leaves);
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

/* Each node that protecting allocates comes from one leaf cut into 512. */
static void
protect_moved(union totals *want, uint64_t nodes_allocated)
{
	want->leaves_untracked += nodes_allocated * (NODE_ENTRIES - 1);
	nodes_moved(want, nodes_allocated, 0);
}

POST(kvirt_protect_range)
{
	protect_moved(want, r->nodes_allocated);
}

/* ---- Outside the vmalloc ranges ------------------------------------------------------ */

PRE(boot_map)
{
	uint64_t size = paddr_range_size(a->paddr_start, a->paddr_end);
	unsigned name = paddrs_check(s, a->paddr_start, a->paddr_end, a->max_level);

	if (name != O_ok)
		return name;
	if (a->va % PAGE != 0)
		return O_range_unaligned;
	return size > UINT64_MAX - a->va ? O_range_not_boot : boot_range_check(s, a->va, a->va + size);
}

STEP(boot_map)
{
	uint64_t size = paddr_range_size(a->paddr_start, a->paddr_end);
	struct cursor c;
	unsigned name;

	cursor_open_root(s, &c, a->va, a->va + size, a->va);
	name = cursor_map_largest(s, &c, a->paddr_start, size, a->prop, (unsigned)a->max_level, &r->leaves);
	r->end = a->va + size;
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

POST(boot_map)
{
	want->leaves_untracked += r->leaves;
	nodes_moved(want, r->nodes_allocated, 0);
}

PRE(boot_protect_range)
{
	return boot_range_check(s, a->start, a->end);
}

STEP(boot_protect_range)
{
	struct protect p = { a->set, a->clear, a->cache, a->global };
	struct cursor c;
	unsigned name;

	cursor_open_root(s, &c, a->start, a->end, a->start);
	name = cursor_protect(s, &c, a->end, &p, &r->leaves);
	r->nodes_allocated = c.nodes_allocated;
	return name;
}

POST(boot_protect_range)
{
	protect_moved(want, r->nodes_allocated);
}

/* ---- Flushing -------------------------------------------------------------------------- */

PRE(kvirt_flush)
{
	return a->start % PAGE != 0 || a->end % PAGE != 0 || a->start > a->end ? O_range_unaligned : O_ok;
}

STEP(kvirt_flush)
{
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++)
		r->flushed += tlb_flush_range(s, cpu, a->start, a->end);
	return O_ok;
}

POST(kvirt_flush)
{
	want->tlb_entries -= r->flushed;
}
