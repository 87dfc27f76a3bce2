/* Frames: docs/ops.md. */
#include "store/op.h"

PRE(frame_from_unused)
{
	return claim_check(s, a->paddr);
}

STEP(frame_from_unused)
{
	slot_claim(s, a->paddr / PAGE, USAGE_FRAME, (enum slot_kind)a->kind, a->meta, 1);
	r->frame = handle_new(s, a->paddr);
	return O_ok;
}

POST(frame_from_unused)
{
	want->frames++;
	want->frame++;
	want->unused--;
}

PRE(frame_from_in_use)
{
	const struct slot *sl;

	if (a->paddr % PAGE != 0)
		return O_NotAligned;
	if (a->paddr >= s->max_paddr)
		return O_OutOfBound;
	sl = &s->slot[a->paddr / PAGE];
	if (slot_rc(sl) == KVMS_RC_UNUSED)
		return O_Unused;
	if (slot_rc(sl) == KVMS_RC_UNIQUE)
		return O_Unique;
	if (sl->usage != USAGE_FRAME)
		return O_NotDataFrame;
	return O_ok;
}

STEP(frame_from_in_use)
{
	if (!slot_inc(s, a->paddr / PAGE))
		return O_refcount_saturated;
	r->frame = handle_new(s, a->paddr);
	return O_ok;
}

POST(frame_from_in_use)
{
	want->frames++;
}

unsigned
leaf_clone(struct kvms *s, const struct translation *t, uint64_t *frame)
{
	if (!slot_inc(s, t->leaf.paddr / PAGE))
		return O_refcount_saturated;
	*frame = handle_new(s, t->leaf.paddr);
	return O_ok;
}

PRE(frame_clone)
{
	return O_ok;
}

STEP(frame_clone)
{
	uint64_t paddr = FRAME(s, a->frame)->paddr;

	if (!slot_inc(s, paddr / PAGE))
		return O_refcount_saturated;
	r->frame = handle_new(s, paddr);
	return O_ok;
}

POST(frame_clone)
{
	want->frames++;
}

PRE(frame_drop)
{
	return O_ok;
}

STEP(frame_drop)
{
	uint64_t slot = FRAME(s, a->frame)->paddr / PAGE;

	handle_end(s, a->frame);
	r->last = slot_dec(s, slot);
	return O_ok;
}

POST(frame_drop)
{
	want->frames--;
	want->frame -= r->last;
	want->unused += r->last;
}

PRE(frame_alloc)
{
	return bitmap_first_zero(&s->used) == BITMAP_NONE ? O_NoMemory : O_ok;
}

STEP(frame_alloc)
{
	uint64_t slot = bitmap_first_zero(&s->used);

	slot_claim(s, slot, USAGE_FRAME, (enum slot_kind)a->kind, a->meta, 1);
	r->paddr = slot * PAGE;
	if (a->zeroed)
		page_zero(s, r->paddr);
	r->frame = handle_new(s, r->paddr);
	return O_ok;
}

POST(frame_alloc)
{
	want->frames++;
	want->frame++;
	want->unused--;
}

/* ---- Sharing a unique frame ------------------------------------------------- */

PRE(frame_from_unique)
{
	return O_ok;
}

STEP(frame_from_unique)
{
	uint64_t paddr = unique_end(s, a->unique);

	slot_mut(s, paddr / PAGE)->rc1 = 1 + 1;
	r->frame = handle_new(s, paddr);
	return O_ok;
}

POST(frame_from_unique)
{
	want->uniques--;
	want->frames++;
}

/* ---- Boot ------------------------------------------------------------------- */

PRE(boot_reserve)
{
	return frames_check(s, a->start, a->end);
}

STEP(boot_reserve)
{
	bool mmio = a->usage == USAGE_MMIO;

	for (uint64_t slot = a->start / PAGE; slot < a->end / PAGE; slot++)
		slot_claim(s, slot, (enum usage)a->usage, mmio ? KIND_NONE : KIND_BOOT, 0,
			   mmio ? KVMS_RC_UNUSED : 1);
	return O_ok;
}

POST(boot_reserve)
{
	uint64_t pages = (a->end - a->start) / PAGE;

	want->unused -= pages;
	want->at[a->usage] += pages;
}
