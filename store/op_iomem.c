/* I/O memory: docs/ops.md.  Devices are not simulated: they read as zeros and ignore writes. */
#include "store/area.h"
#include "store/op.h"
#include "store/space.h"

#define READ_MAX UINT64_C(0x10000)

static uint64_t
page_down(uint64_t address)
{
	return address & ~(uint64_t)(PAGE - 1);
}

/* The window that serves [start, end): the first that overlaps it; EXTENT_SETS if none does. */
static enum extent_set
window_of(const struct kvms *s, uint64_t start, uint64_t end)
{
	uint64_t memory_end = (s->max_paddr + 0xfffff) & ~UINT64_C(0xfffff);
	uint64_t high_start = memory_end > 4 * GiB ? memory_end : 4 * GiB;

	if (memory_end < 4 * GiB && start < 4 * GiB && memory_end < end)
		return SET_FREE_MMIO0;
	return start < s->mmio_end && high_start < end ? SET_FREE_MMIO1 : EXTENT_SETS;
}

PRE(iomem_acquire)
{
	enum extent_set set = window_of(s, a->start, a->end);
	const struct extent *block;

	if (a->start >= a->end || set == EXTENT_SETS)
		return O_IoRange;
	block = extent_below(s, set, a->start);
	return block == NULL || block->end < a->end ? O_IoRange : O_ok;
}

STEP(iomem_acquire)
{
	uint64_t start = page_down(a->start), size = page_down(a->end + PAGE - 1) - start, va, leaves = 0;
	uint64_t prop = KVMS_PROP_R | KVMS_PROP_W | a->cache << KVMS_PROP_CACHE_SHIFT;
	struct cursor c;
	unsigned name;

	(void)range_alloc_specific(s, window_of(s, a->start, a->end), a->start, a->end);
	if (!va_alloc(s, size, &va))
		return O_va_exhausted;
	r->area = area_new(s, va, va + size);
	name = cursor_open(s, &c, KERNEL_TABLE, va, va + size);
	if (name == O_ok)
		name = cursor_map_largest(s, &c, start, size, prop, 0, &leaves);
	if (name != O_ok)
		return name;
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++)
		tlb_flush_range(s, cpu, va, va + size);
	io_area_get(s, r->area);
	r->iomem = iomem_new(s, r->area, a->start, a->end - a->start, a->cache, a->start - start);
	r->va = va + (a->start - start);
	r->nodes_allocated = c.nodes_allocated;
	return O_ok;
}

POST(iomem_acquire)
{
	want->iomems++;
	want->areas++;
	want->pagetable += r->nodes_allocated;
	want->unused -= r->nodes_allocated;
}

PRE(iomem_slice)
{
	return a->start >= a->end || a->end > IOMEM(s, a->iomem)->size ? O_slice_out_of_bound : O_ok;
}

STEP(iomem_slice)
{
	struct iomem m = *IOMEM(s, a->iomem);

	io_area_get(s, m.area);
	r->iomem = iomem_new(s, m.area, m.paddr + a->start, a->end - a->start, m.cache, m.offset + a->start);
	return O_ok;
}

POST(iomem_slice)
{
	want->iomems++;
}

PRE(iomem_clone)
{
	return O_ok;
}

STEP(iomem_clone)
{
	struct iomem m = *IOMEM(s, a->iomem);

	io_area_get(s, m.area);
	r->iomem = iomem_new(s, m.area, m.paddr, m.size, m.cache, m.offset);
	return O_ok;
}

POST(iomem_clone)
{
	want->iomems++;
}

PRE(iomem_drop)
{
	return O_ok;
}

STEP(iomem_drop)
{
	uint64_t area = IOMEM(s, a->iomem)->area;

	record_end(s, KVMS_ID_IOMEM, a->iomem);
	s->live.totals.iomems--;
	io_area_put(s, area, &r->nodes_freed);
	return O_ok;
}

POST(iomem_drop)
{
	want->iomems--;
	want->pagetable -= r->nodes_freed;
}

static unsigned
bounds_check(const struct iomem *m, uint64_t offset, uint64_t len)
{
	if (len > READ_MAX)
		return O_too_long;
	return offset > m->size || len > m->size - offset ? O_InvalidArgs : O_ok;
}

PRE(iomem_read)
{
	return bounds_check(IOMEM(s, a->iomem), a->offset, a->len);
}

STEP(iomem_read)
{
	r->bytes = a->len;
	(void)payload_bytes(s, out, a->len);
	return O_ok;
}

POST(iomem_read)
{
}

PRE(iomem_write)
{
	return bounds_check(IOMEM(s, a->iomem), a->offset, a->bytes);
}

STEP(iomem_write)
{
	return O_ok;
}

POST(iomem_write)
{
}

static unsigned
once_check(const struct kvms *s, uint64_t id, uint64_t offset, uint64_t width)
{
	const struct iomem *m = IOMEM(s, id);

	if (width != 1 && width != 2 && width != 4 && width != 8)
		return O_bad_width;
	if (offset > m->size || width > m->size - offset)
		return O_InvalidArgs;
	return (AREA(s, m->area)->start + m->offset + offset) % width != 0 ? O_InvalidArgs : O_ok;
}

PRE(iomem_read_once)
{
	return once_check(s, a->iomem, a->offset, a->width);
}

STEP(iomem_read_once)
{
	r->value = 0;
	return O_ok;
}

POST(iomem_read_once)
{
}

PRE(iomem_write_once)
{
	return once_check(s, a->iomem, a->offset, a->width);
}

STEP(iomem_write_once)
{
	return O_ok;
}

POST(iomem_write_once)
{
}
