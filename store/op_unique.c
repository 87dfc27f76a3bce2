/* Unique frames: docs/ops.md. */
#include "store/op.h"

uint64_t
unique_new(struct kvms *s, uint64_t paddr)
{
	struct unique *u;
	uint64_t id = record_new(s, KVMS_ID_UNIQUE, (void **)&u);

	u->paddr = paddr;
	slot_mut(s, paddr / PAGE)->unique++;
	s->live.totals.uniques++;
	return id;
}

uint64_t
unique_end(struct kvms *s, uint64_t id)
{
	uint64_t paddr = UNIQUE(s, id)->paddr;

	slot_mut(s, paddr / PAGE)->unique--;
	record_end(s, KVMS_ID_UNIQUE, id);
	s->live.totals.uniques--;
	return paddr;
}

PRE(unique_from_unused)
{
	return claim_check(s, a->paddr);
}

STEP(unique_from_unused)
{
	slot_claim(s, a->paddr / PAGE, USAGE_FRAME, (enum slot_kind)a->kind, a->meta, KVMS_RC_UNIQUE);
	r->unique = unique_new(s, a->paddr);
	return O_ok;
}

POST(unique_from_unused)
{
	want->uniques++;
	want->frame++;
	want->unused--;
}

PRE(unique_from_shared)
{
	return slot_rc(&s->slot[FRAME(s, a->frame)->paddr / PAGE]) != 1 ? O_NotExclusive : O_ok;
}

STEP(unique_from_shared)
{
	uint64_t paddr = FRAME(s, a->frame)->paddr;

	handle_end(s, a->frame);
	slot_mut(s, paddr / PAGE)->rc1 = KVMS_RC_UNIQUE + 1;
	r->unique = unique_new(s, paddr);
	return O_ok;
}

POST(unique_from_shared)
{
	want->frames--;
	want->uniques++;
}

PRE(unique_drop)
{
	return O_ok;
}

STEP(unique_drop)
{
	slot_clear(s, unique_end(s, a->unique) / PAGE);
	return O_ok;
}

static void
freed_unique(union totals *want)
{
	want->uniques--;
	want->frame--;
	want->unused++;
}

POST(unique_drop)
{
	freed_unique(want);
}

PRE(unique_reset)
{
	return O_ok;
}

STEP(unique_reset)
{
	slot_clear(s, unique_end(s, a->unique) / PAGE);
	return O_ok;
}

POST(unique_reset)
{
	freed_unique(want);
}

PRE(unique_repurpose)
{
	return O_ok;
}

STEP(unique_repurpose)
{
	struct slot *sl = slot_mut(s, UNIQUE(s, a->unique)->paddr / PAGE);

	sl->kind = (uint8_t)a->kind;
	sl->meta = a->meta;
	return O_ok;
}

POST(unique_repurpose)
{
}

PRE(unique_set_meta)
{
	return O_ok;
}

STEP(unique_set_meta)
{
	slot_mut(s, UNIQUE(s, a->unique)->paddr / PAGE)->meta = a->meta;
	return O_ok;
}

POST(unique_set_meta)
{
}
