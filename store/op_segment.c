/* Segments: docs/ops.md. */
#include "store/op.h"

#include <string.h>

#define READ_MAX UINT64_C(0x10000)

/* A new segment over pages whose references it already has. */
static uint64_t
segment_new(struct kvms *s, uint64_t start, uint64_t end)
{
	struct segment *g;
	uint64_t id = record_new(s, KVMS_ID_SEGMENT, (void **)&g);

	g->start = start;
	g->end = end;
	for (uint64_t slot = start / PAGE; slot < end / PAGE; slot++)
		slot_users_mut(s, slot)->covers++;
	s->live.totals.segments++;
	s->live.totals.covers += (end - start) / PAGE;
	return id;
}

/* The segment ends; the references of its pages are the caller's. */
static struct segment
segment_end(struct kvms *s, uint64_t id)
{
	struct segment g = *SEGMENT(s, id);

	for (uint64_t slot = g.start / PAGE; slot < g.end / PAGE; slot++)
		slot_users_mut(s, slot)->covers--;
	record_end(s, KVMS_ID_SEGMENT, id);
	s->live.totals.segments--;
	s->live.totals.covers -= (g.end - g.start) / PAGE;
	return g;
}

unsigned
frames_check(const struct kvms *s, uint64_t start, uint64_t end)
{
	if (start % PAGE != 0 || end % PAGE != 0)
		return O_NotAligned;
	if (end > s->max_paddr)
		return O_OutOfBound;
	if (start >= end)
		return O_segment_empty;
	for (uint64_t slot = bitmap_next(&s->used, start / PAGE); slot < end / PAGE;
	     slot = bitmap_next(&s->used, slot + 1)) {
		unsigned name = claim_check(s, slot * PAGE);

		if (name != O_ok)
			return name;
	}
	return O_ok;
}

static uint64_t
segment_claim(struct kvms *s, uint64_t start, uint64_t end, uint64_t kind, uint64_t meta)
{
	for (uint64_t slot = start / PAGE; slot < end / PAGE; slot++)
		slot_claim(s, slot, USAGE_FRAME, (enum slot_kind)kind, meta, 1);
	return segment_new(s, start, end);
}

PRE(segment_from_unused)
{
	return frames_check(s, a->start, a->end);
}

STEP(segment_from_unused)
{
	r->segment = segment_claim(s, a->start, a->end, a->kind, a->meta);
	return O_ok;
}

POST(segment_from_unused)
{
	uint64_t pages = (a->end - a->start) / PAGE;

	want->segments++;
	want->covers += pages;
	want->frame += pages;
	want->unused -= pages;
}

/* The lowest run of unused frames: its first slot, or BITMAP_NONE. */
static uint64_t
lowest_run(const struct kvms *s, uint64_t pages)
{
	uint64_t at = bitmap_first_zero(&s->used);

	while (at != BITMAP_NONE && pages <= s->slots_count - at) {
		uint64_t used = bitmap_next(&s->used, at);

		if (used == BITMAP_NONE || used - at >= pages)
			return at;
		at = bitmap_next_zero(&s->used, used);
	}
	return BITMAP_NONE;
}

PRE(segment_alloc)
{
	if (a->pages == 0)
		return O_InvalidArgs;
	if (a->pages >= (UINT64_C(1) << 63) / PAGE)
		return O_layout_overflow;
	return lowest_run(s, a->pages) == BITMAP_NONE ? O_NoMemory : O_ok;
}

STEP(segment_alloc)
{
	r->start = lowest_run(s, a->pages) * PAGE;
	r->end = r->start + a->pages * PAGE;
	r->segment = segment_claim(s, r->start, r->end, a->kind, a->meta);
	if (a->zeroed)
		memory_zero(s, r->start, r->end - r->start);
	return O_ok;
}

POST(segment_alloc)
{
	want->segments++;
	want->covers += a->pages;
	want->frame += a->pages;
	want->unused -= a->pages;
}

PRE(segment_from_frame)
{
	return O_ok;
}

STEP(segment_from_frame)
{
	r->start = FRAME(s, a->frame)->paddr;
	r->end = r->start + PAGE;
	handle_end(s, a->frame);
	r->segment = segment_new(s, r->start, r->end);
	return O_ok;
}

POST(segment_from_frame)
{
	want->frames--;
	want->segments++;
	want->covers++;
}

PRE(segment_drop)
{
	return O_ok;
}

STEP(segment_drop)
{
	struct segment g = segment_end(s, a->segment);

	for (uint64_t slot = g.start / PAGE; slot < g.end / PAGE; slot++)
		r->pages += slot_dec(s, slot);
	return O_ok;
}

POST(segment_drop)
{
	want->segments--;
	want->frame -= r->pages;
	want->unused += r->pages;
}

PRE(segment_split)
{
	const struct segment *g = SEGMENT(s, a->segment);

	if (a->offset % PAGE != 0)
		return O_split_misaligned;
	return a->offset == 0 || a->offset >= g->end - g->start ? O_split_out_of_bound : O_ok;
}

STEP(segment_split)
{
	struct segment g = segment_end(s, a->segment);

	r->left = segment_new(s, g.start, g.start + a->offset);
	r->right = segment_new(s, g.start + a->offset, g.end);
	return O_ok;
}

POST(segment_split)
{
	want->segments++;
}

PRE(segment_next)
{
	return O_ok;
}

STEP(segment_next)
{
	struct segment *g = record_mut(s, KVMS_ID_SEGMENT, a->segment);

	r->paddr = g->start;
	g->start += PAGE;
	slot_users_mut(s, r->paddr / PAGE)->covers--;
	s->live.totals.covers--;
	r->frame = handle_new(s, r->paddr);
	r->last = g->start == g->end;
	if (r->last)
		segment_end(s, a->segment);
	return O_ok;
}

POST(segment_next)
{
	want->frames++;
	want->covers--;
	want->segments -= r->last;
}

/* One more reference on every page, and a segment that holds them. */
static unsigned
segment_again(struct kvms *s, uint64_t start, uint64_t end, uint64_t *id)
{
	for (uint64_t slot = start / PAGE; slot < end / PAGE; slot++)
		if (!slot_inc(s, slot))
			return O_refcount_saturated;
	*id = segment_new(s, start, end);
	return O_ok;
}

PRE(segment_clone)
{
	return O_ok;
}

STEP(segment_clone)
{
	const struct segment *g = SEGMENT(s, a->segment);

	return segment_again(s, g->start, g->end, &r->segment);
}

POST(segment_clone)
{
	want->segments++;
}

PRE(segment_slice)
{
	const struct segment *g = SEGMENT(s, a->segment);

	if (a->start % PAGE != 0 || a->end % PAGE != 0)
		return O_slice_misaligned;
	return a->start > a->end || a->end > g->end - g->start ? O_slice_out_of_bound : O_ok;
}

STEP(segment_slice)
{
	const struct segment *g = SEGMENT(s, a->segment);

	r->empty = a->start == a->end;
	if (r->empty) {
		out->present &= ~REPLY_BIT(segment_slice, segment);
		return O_ok;
	}
	return segment_again(s, g->start + a->start, g->start + a->end, &r->segment);
}

POST(segment_slice)
{
	want->segments += !r->empty;
	want->covers += (a->end - a->start) / PAGE;
}

/* ---- Bytes ---------------------------------------------------------------------- */

static unsigned
bytes_check(const struct kvms *s, uint64_t id, uint64_t offset, uint64_t len)
{
	const struct segment *g = SEGMENT(s, id);

	for (uint64_t slot = g->start / PAGE; slot < g->end / PAGE; slot++)
		if (s->slot[slot].kind != KIND_UNTYPED)
			return O_not_untyped;
	if (len > READ_MAX)
		return O_too_long;
	if (len > UINT64_MAX - offset)
		return O_Overflow;
	return offset + len > g->end - g->start ? O_InvalidArgs : O_ok;
}

PRE(segment_read)
{
	return bytes_check(s, a->segment, a->offset, a->len);
}

STEP(segment_read)
{
	r->bytes = a->len;
	memory_read(s, SEGMENT(s, a->segment)->start + a->offset, payload_bytes(s, out, a->len), a->len);
	return O_ok;
}

POST(segment_read)
{
}

PRE(segment_write)
{
	return bytes_check(s, a->segment, a->offset, a->bytes);
}

STEP(segment_write)
{
	memory_write(s, SEGMENT(s, a->segment)->start + a->offset, list, a->bytes);
	return O_ok;
}

POST(segment_write)
{
}

PRE(segment_fill_zeros)
{
	return bytes_check(s, a->segment, a->offset, a->len);
}

STEP(segment_fill_zeros)
{
	memory_zero(s, SEGMENT(s, a->segment)->start + a->offset, a->len);
	return O_ok;
}

POST(segment_fill_zeros)
{
}
