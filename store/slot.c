#include "store/int.h"

void
slot_sync(struct kvms *s, uint64_t index)
{
	if (slot_is_default(&s->slot[index]))
		bitmap_clear(&s->used, index);
	else
		bitmap_set(&s->used, index);
}

unsigned
claim_check(const struct kvms *s, uint64_t paddr)
{
	const struct slot *sl;

	if (paddr % PAGE != 0)
		return O_NotAligned;
	if (paddr >= s->max_paddr)
		return O_OutOfBound;
	sl = &s->slot[paddr / PAGE];
	if (slot_rc(sl) == KVMS_RC_UNIQUE)
		return O_Unique;
	if (slot_rc(sl) != KVMS_RC_UNUSED || sl->usage == USAGE_MMIO)
		return O_InUse;
	return O_ok;
}

static void
usage_set(struct kvms *s, struct slot *sl, enum usage usage)
{
	s->live.totals.at[sl->usage]--;
	s->live.totals.at[usage]++;
	sl->usage = (uint8_t)usage;
}

struct slot *
slot_claim(struct kvms *s, uint64_t index, enum usage usage, enum slot_kind kind, uint64_t meta, uint64_t rc)
{
	struct slot *sl = slot_mut(s, index);

	usage_set(s, sl, usage);
	sl->kind = (uint8_t)kind;
	sl->meta = meta;
	sl->rc1 = rc + 1;
	sl->owner = 0;
	slot_sync(s, index);
	return sl;
}

void
slot_clear(struct kvms *s, uint64_t index)
{
	struct slot *sl = slot_mut(s, index);

	usage_set(s, sl, USAGE_UNUSED);
	*sl = (struct slot){ .bits = SLOT_DIRTY };
	slot_sync(s, index);
}

bool
slot_inc(struct kvms *s, uint64_t index)
{
	if (slot_rc(&s->slot[index]) >= s->rc_max)
		return false;
	slot_mut(s, index)->rc1++;
	return true;
}

bool
slot_dec(struct kvms *s, uint64_t index)
{
	if (slot_rc(&s->slot[index]) == 1) {
		slot_clear(s, index);
		return true;
	}
	slot_mut(s, index)->rc1--;
	return false;
}

uint64_t
handle_new(struct kvms *s, uint64_t paddr)
{
	struct frame *f;
	uint64_t id = record_new(s, KVMS_ID_FRAME, (void **)&f);

	f->paddr = paddr;
	slot_users_mut(s, paddr / PAGE)->handles++;
	s->live.totals.frames++;
	return id;
}

void
handle_end(struct kvms *s, uint64_t id)
{
	slot_users_mut(s, FRAME(s, id)->paddr / PAGE)->handles--;
	record_end(s, KVMS_ID_FRAME, id);
	s->live.totals.frames--;
}
