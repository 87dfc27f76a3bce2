#include "store/int.h"

#include <stdlib.h>
#include <string.h>

#define UNDO_BYTES_KEPT (size_t)(64 << 20)

_Noreturn void
out_of_memory(struct kvms *s)
{
	if (s->can_leave)
		longjmp(s->nomem, 1);
	abort();
}

void *
grow(struct kvms *s, void *array, size_t *capacity, size_t need, size_t size)
{
	size_t more = *capacity < 64 ? 64 : *capacity;

	if (need <= *capacity)
		return array;
	while (more < need)
		more *= 2;
	array = realloc(array, more * size);
	if (array == NULL)
		out_of_memory(s);
	*capacity = more;
	return array;
}

/* What a step may change of the scalars: without the roots of TLBs of CPUs that there are not. */
static size_t
live_size(const struct kvms *s)
{
	return offsetof(struct live, extent_root) + (SET_TLB + (size_t)s->ncpu) * sizeof s->live.extent_root[0];
}

void
undo_begin(struct kvms *s)
{
	struct undo *u = &s->undo;

	if (!u->group)
		u->count = u->bytes_count = 0;
	u->mark = u->count;
	u->bytes_mark = u->bytes_count;
	memcpy(&u->live, &s->live, live_size(s));
	memset(u->saved, 0, sizeof u->saved);
	u->active = true;
}

static struct undo_entry *
entry_new(struct kvms *s)
{
	struct undo *u = &s->undo;

	if (u->count == u->capacity)
		u->entry = grow(s, u->entry, &u->capacity, u->count + 1, sizeof *u->entry);
	return &u->entry[u->count];
}

void *
undo_room(struct kvms *s, enum undo_type type, unsigned which, uint64_t key, size_t size)
{
	struct undo *u = &s->undo;
	struct undo_entry *e = entry_new(s);
	unsigned char *room;

	if (u->bytes_count + size > u->bytes_capacity)
		u->bytes = grow(s, u->bytes, &u->bytes_capacity, u->bytes_count + size, 1);
	*e = (struct undo_entry){ (uint8_t)type, (uint8_t)which, key, u->bytes_count };
	room = u->bytes + u->bytes_count;
	u->bytes_count += size;
	u->count++;
	return room;
}

void
undo_save_word(struct kvms *s, uint64_t paddr, uint64_t old)
{
	struct undo_entry *e;

	if (!s->undo.active)
		return;
	e = entry_new(s);
	*e = (struct undo_entry){ UNDO_WORD, 0, paddr, old };
	s->undo.count++;
}

static void
entry_restore(struct kvms *s, const struct undo_entry *e)
{
	uint64_t rc1;
	const void *bytes = e->type != UNDO_WORD ? s->undo.bytes + e->old : NULL;

	switch ((enum undo_type)e->type) {
	case UNDO_WORD:
		*(uint64_t *)(void *)(s->memory + e->key) = e->old;
		if (e->old != 0)
			bitmap_set(&s->written, e->key / PAGE);
		break;
	case UNDO_SLOT:
		rc1 = s->slot[e->key].rc1;
		memcpy(&s->slot[e->key], bytes, sizeof(struct slot));
		if (FAULT(refused_keeps_count) && s->slot[e->key].usage == USAGE_FRAME)
			s->slot[e->key].rc1 = rc1;
		slot_sync(s, e->key);
		break;
	case UNDO_RECORD: {
		struct record *r = record_raw(s, e->which, e->key);
		bool was_live = r->live;

		memcpy(r, bytes, s->ids[e->which].size);
		record_restored(s, e->which, e->key, was_live);
		break;
	}
	case UNDO_POOL:
		memcpy(pool_raw(s, e->which, (uint32_t)e->key), bytes, s->pools[e->which].size);
		break;
	}
}

/* The step is over.  What a huge one needed is given back; the usual size is kept. */
static void
undo_end(struct kvms *s)
{
	struct undo *u = &s->undo;

	u->active = false;
	if (u->group)
		return;
	if (u->bytes_capacity > UNDO_BYTES_KEPT) {
		free(u->bytes);
		u->bytes = NULL;
		u->bytes_capacity = 0;
	}
	if (u->capacity * sizeof *u->entry > UNDO_BYTES_KEPT) {
		free(u->entry);
		u->entry = NULL;
		u->capacity = 0;
	}
}

void
undo_rollback(struct kvms *s)
{
	struct undo *u = &s->undo;

	for (size_t i = u->count; i-- > u->mark;)
		entry_restore(s, &u->entry[i]);
	u->count = u->mark;
	u->bytes_count = u->bytes_mark;
	memcpy(&s->live, &u->live, live_size(s));
	undo_end(s);
}

void
undo_commit(struct kvms *s)
{
	if (s->undo.group) { /* the rest waits for the end of the group */
		s->undo.active = false;
		return;
	}
	rmap_commit(s); /* first: it is the only part that may find no memory, and then the step is undone */
	for (size_t i = 0; i < s->undo.count; i++) {
		const struct undo_entry *e = &s->undo.entry[i];

		if (e->type == UNDO_RECORD)
			idtab_reclaim(s, e->which, e->key);
	}
	undo_end(s);
	if (s->live.dirty_count > DIRTY_BOUND)
		digest_sync(s);
}

void
kvms_group_begin(struct kvms *s)
{
	struct undo *u = &s->undo;

	assert(!u->active && !u->group);
	digest_sync(s); /* what the group changes begins at the head of the dirty list */
	u->group = true;
	u->count = u->bytes_count = 0;
	u->group_live = s->live;
	u->group_steps = s->steps;
}

/* Undo all steps of the group. */
static void
group_rollback(struct kvms *s)
{
	s->undo.mark = s->undo.bytes_mark = 0;
	s->undo.live = s->undo.group_live;
	s->steps = s->undo.group_steps;
	undo_rollback(s);
}

bool
kvms_group_end(struct kvms *s, bool keep)
{
	assert(!s->undo.active && s->undo.group);
	s->undo.group = false;
	if (!keep) {
		group_rollback(s);
		return true;
	}
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		group_rollback(s);
		return false;
	}
	undo_commit(s);
	s->can_leave = false;
	return true;
}
