/* Lists of link frames: docs/ops.md. */
#include "store/op.h"

/* The slot of the n-th link, n < length, from the nearer end; frame number + 1. */
static uint64_t
link_at(const struct kvms *s, const struct list *l, uint64_t n)
{
	uint64_t at;

	if (n < l->length / 2) {
		for (at = l->first; n > 0; n--)
			at = s->slot[at - 1].link_next;
		return at;
	}
	for (at = l->last; n < l->length - 1; n++)
		at = s->slot[at - 1].link_prev;
	return at;
}

/* Index of the link at paddr, or UINT64_MAX. */
static uint64_t
link_index(const struct kvms *s, uint64_t list, uint64_t paddr)
{
	uint64_t index = 0;
	const struct slot *sl;

	if (paddr % PAGE != 0 || paddr >= s->max_paddr)
		return UINT64_MAX;
	sl = &s->slot[paddr / PAGE];
	if (sl->listed == 0 || sl->link_list != list)
		return UINT64_MAX;
	for (uint64_t at = sl->link_prev; at != 0; at = s->slot[at - 1].link_prev)
		index++;
	return index;
}

/* PUT n: wire a unique frame in between n-1 and n. */
static unsigned
list_put(struct kvms *s, uint64_t id, uint64_t n, uint64_t unique)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, id);
	uint64_t next = n < l->length ? link_at(s, l, n) : 0;
	uint64_t prev = next != 0 ? s->slot[next - 1].link_prev : l->last;
	uint64_t slot;
	struct slot *sl;

	if (l->tag == 0) {
		if (s->live.next_id[KVMS_ID_LIST_TAG] >= INT64_MAX)
			return O_list_ids_exhausted;
		l->tag = s->live.next_id[KVMS_ID_LIST_TAG]++;
	}
	slot = unique_end(s, unique) / PAGE;
	sl = slot_mut(s, slot);
	sl->owner = l->tag;
	sl->listed = 1;
	sl->link_list = id;
	sl->link_prev = prev;
	sl->link_next = next;
	if (prev != 0)
		slot_mut(s, prev - 1)->link_next = slot + 1;
	else
		l->first = slot + 1;
	if (next != 0)
		slot_mut(s, next - 1)->link_prev = slot + 1;
	else
		l->last = slot + 1;
	l->length++;
	s->live.totals.links++;
	return O_ok;
}

/* Unwire the n-th link, n < length; its paddr. */
static uint64_t
list_unwire(struct kvms *s, uint64_t id, uint64_t n)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, id);
	uint64_t at = link_at(s, l, n);
	struct slot *sl = slot_mut(s, at - 1);
	uint64_t prev = sl->link_prev, next = sl->link_next;

	if (prev != 0)
		slot_mut(s, prev - 1)->link_next = next;
	else
		l->first = next;
	if (next != 0)
		slot_mut(s, next - 1)->link_prev = prev;
	else
		l->last = prev;
	sl->owner = FAULT(unlink_keeps_tag) ? l->tag : 0;
	sl->listed = 0;
	sl->link_list = sl->link_prev = sl->link_next = 0;
	l->length--;
	s->live.totals.links--;
	return (at - 1) * PAGE;
}

/* PULL n. */
static uint64_t
list_pull(struct kvms *s, uint64_t id, uint64_t n, uint64_t *paddr)
{
	*paddr = list_unwire(s, id, n);
	return unique_new(s, *paddr);
}

static unsigned
list_held(const struct kvms *s, uint64_t id)
{
	return LIST(s, id)->checked_out ? O_list_has_cursor : O_ok;
}

static unsigned
list_out(const struct kvms *s, uint64_t id)
{
	return LIST(s, id)->checked_out ? O_ok : O_list_has_no_cursor;
}

static unsigned
link_check(const struct kvms *s, uint64_t unique)
{
	return s->slot[UNIQUE(s, unique)->paddr / PAGE].kind != KIND_LINK ? O_not_link : O_ok;
}

PRE(list_new)
{
	return O_ok;
}

STEP(list_new)
{
	void *l;

	r->list = record_new(s, KVMS_ID_LIST, &l);
	s->live.totals.lists++;
	return O_ok;
}

POST(list_new)
{
	want->lists++;
}

PRE(list_drop)
{
	return list_held(s, a->list);
}

STEP(list_drop)
{
	for (; LIST(s, a->list)->length > 0; r->count++)
		slot_clear(s, list_unwire(s, a->list, 0) / PAGE);
	record_end(s, KVMS_ID_LIST, a->list);
	s->live.totals.lists--;
	return O_ok;
}

POST(list_drop)
{
	want->lists--;
	want->links -= r->count;
	want->frame -= r->count;
	want->unused += r->count;
}

PRE(list_size)
{
	return list_held(s, a->list);
}

STEP(list_size)
{
	r->count = LIST(s, a->list)->length;
	return O_ok;
}

POST(list_size)
{
}

PRE(list_is_empty)
{
	return list_held(s, a->list);
}

STEP(list_is_empty)
{
	r->is_empty = LIST(s, a->list)->length == 0;
	return O_ok;
}

POST(list_is_empty)
{
}

PRE(list_contains)
{
	return list_held(s, a->list);
}

STEP(list_contains)
{
	r->contains = link_index(s, a->list, a->paddr) != UINT64_MAX;
	return O_ok;
}

POST(list_contains)
{
}

/* A unique frame became a link. */
static void
linked(union totals *want)
{
	want->uniques--;
	want->links++;
}

PRE(list_push_front)
{
	unsigned name = list_held(s, a->list);

	return name != O_ok ? name : link_check(s, a->unique);
}

STEP(list_push_front)
{
	return list_put(s, a->list, 0, a->unique);
}

POST(list_push_front)
{
	linked(want);
}

PRE(list_push_back)
{
	unsigned name = list_held(s, a->list);

	return name != O_ok ? name : link_check(s, a->unique);
}

STEP(list_push_back)
{
	return list_put(s, a->list, LIST(s, a->list)->length, a->unique);
}

POST(list_push_back)
{
	linked(want);
}

PRE(list_insert_before_at)
{
	unsigned name = list_held(s, a->list);

	if (name == O_ok)
		name = link_check(s, a->unique);
	if (name != O_ok)
		return name;
	return a->index > LIST(s, a->list)->length ? O_index_out_of_range : O_ok;
}

STEP(list_insert_before_at)
{
	return list_put(s, a->list, a->index, a->unique);
}

POST(list_insert_before_at)
{
	linked(want);
}

/* A link, if one was found, became a unique frame. */
static void
unlinked(union totals *want, uint64_t found)
{
	want->uniques += found;
	want->links -= found;
}

PRE(list_pop_front)
{
	return list_held(s, a->list);
}

STEP(list_pop_front)
{
	r->found = LIST(s, a->list)->length > 0;
	if (r->found)
		r->unique = list_pull(s, a->list, 0, &r->paddr);
	else
		out->present = REPLY_BIT(list_pop_front, found);
	return O_ok;
}

POST(list_pop_front)
{
	unlinked(want, r->found);
}

PRE(list_pop_back)
{
	return list_held(s, a->list);
}

STEP(list_pop_back)
{
	uint64_t length = LIST(s, a->list)->length;

	r->found = length > 0;
	if (r->found)
		r->unique = list_pull(s, a->list, length - 1, &r->paddr);
	else
		out->present = REPLY_BIT(list_pop_back, found);
	return O_ok;
}

POST(list_pop_back)
{
	unlinked(want, r->found);
}

PRE(list_take_at)
{
	return list_held(s, a->list);
}

STEP(list_take_at)
{
	r->found = a->index < LIST(s, a->list)->length;
	if (r->found)
		r->unique = list_pull(s, a->list, a->index, &r->paddr);
	else
		out->present = REPLY_BIT(list_take_at, found);
	return O_ok;
}

POST(list_take_at)
{
	unlinked(want, r->found);
}

/* ---- The cursor of a list: it has the list's id ------------------------------- */

/* Check the list out, standing at "index". */
static uint64_t
check_out(struct kvms *s, uint64_t id, uint64_t index)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, id);

	l->checked_out = 1;
	l->index = index;
	return index;
}

PRE(list_cursor_front_mut)
{
	return list_held(s, a->list);
}

STEP(list_cursor_front_mut)
{
	r->index = check_out(s, a->list, 0);
	return O_ok;
}

POST(list_cursor_front_mut)
{
}

PRE(list_cursor_back_mut)
{
	return list_held(s, a->list);
}

STEP(list_cursor_back_mut)
{
	uint64_t length = LIST(s, a->list)->length;

	r->index = check_out(s, a->list, length > 0 ? length - 1 : 0);
	return O_ok;
}

POST(list_cursor_back_mut)
{
}

PRE(list_cursor_mut_at)
{
	return list_held(s, a->list);
}

STEP(list_cursor_mut_at)
{
	uint64_t index = link_index(s, a->list, a->paddr);

	r->found = index != UINT64_MAX;
	if (r->found)
		r->index = check_out(s, a->list, index);
	else
		out->present = REPLY_BIT(list_cursor_mut_at, found);
	return O_ok;
}

POST(list_cursor_mut_at)
{
}

PRE(list_cursor_move_next)
{
	return list_out(s, a->list);
}

STEP(list_cursor_move_next)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, a->list);

	l->index = (l->index + 1) % (l->length + 1);
	r->index = l->index;
	return O_ok;
}

POST(list_cursor_move_next)
{
}

PRE(list_cursor_move_prev)
{
	return list_out(s, a->list);
}

STEP(list_cursor_move_prev)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, a->list);

	l->index = (l->index + l->length) % (l->length + 1);
	r->index = l->index;
	return O_ok;
}

POST(list_cursor_move_prev)
{
}

PRE(list_cursor_current_meta)
{
	return list_out(s, a->list);
}

STEP(list_cursor_current_meta)
{
	const struct list *l = LIST(s, a->list);
	uint64_t slot;

	r->index = l->index;
	r->found = l->index < l->length;
	if (!r->found) {
		out->present = REPLY_BIT(list_cursor_current_meta, found) | REPLY_BIT(list_cursor_current_meta, index);
		return O_ok;
	}
	slot = link_at(s, l, l->index) - 1;
	r->paddr = slot * PAGE;
	r->meta = s->slot[slot].meta;
	return O_ok;
}

POST(list_cursor_current_meta)
{
}

PRE(list_cursor_as_list)
{
	return list_out(s, a->list);
}

STEP(list_cursor_as_list)
{
	for (uint64_t at = LIST(s, a->list)->first; at != 0; at = s->slot[at - 1].link_next) {
		uint64_t paddr = (at - 1) * PAGE;

		payload_add(s, out, &paddr, 1);
		r->paddrs++;
	}
	r->count = r->paddrs;
	return O_ok;
}

POST(list_cursor_as_list)
{
}

PRE(list_cursor_insert_before)
{
	unsigned name = list_out(s, a->list);

	return name != O_ok ? name : link_check(s, a->unique);
}

STEP(list_cursor_insert_before)
{
	unsigned name = list_put(s, a->list, LIST(s, a->list)->index, a->unique);

	if (name == O_ok)
		r->index = ++((struct list *)record_mut(s, KVMS_ID_LIST, a->list))->index;
	return name;
}

POST(list_cursor_insert_before)
{
	linked(want);
}

PRE(list_cursor_take_current)
{
	return list_out(s, a->list);
}

STEP(list_cursor_take_current)
{
	const struct list *l = LIST(s, a->list);

	r->index = l->index;
	r->found = l->index < l->length;
	if (r->found)
		r->unique = list_pull(s, a->list, l->index, &r->paddr);
	else
		out->present =
			REPLY_BIT(list_cursor_take_current, found) | REPLY_BIT(list_cursor_take_current, index);
	return O_ok;
}

POST(list_cursor_take_current)
{
	unlinked(want, r->found);
}

PRE(list_cursor_drop)
{
	return list_out(s, a->list);
}

STEP(list_cursor_drop)
{
	struct list *l = record_mut(s, KVMS_ID_LIST, a->list);

	l->checked_out = 0;
	l->index = 0;
	return O_ok;
}

POST(list_cursor_drop)
{
}
