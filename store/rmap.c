/*
 * Reverse map: the (table, va) pairs that map a frame.  The first lies in the
 * frame's slot; more go to nodes of a pool, linked per frame and found by a
 * hash of (table, va), so that adding and removing are O(1).
 */
#include "store/int.h"

static uint32_t
bucket_of(const struct kvms *s, uint64_t table, uint64_t va)
{
	uint64_t key[2] = { table, va };

	return (uint32_t)digest_mix(key, 2) & (s->buckets - 1);
}

static uint32_t
bucket_head(const struct kvms *s, uint32_t bucket)
{
	return *(const uint32_t *)pool_raw(s, POOL_BUCKET, bucket);
}

static const struct mapping *
mapping_at(const struct kvms *s, uint32_t index)
{
	return pool_raw(s, POOL_MAPPING, index);
}

/* Index of the node for (table, va), 0 if there is none; *before is its predecessor in the chain. */
static uint32_t
mapping_find(const struct kvms *s, uint64_t table, uint64_t va, uint32_t *before)
{
	uint32_t index = bucket_head(s, bucket_of(s, table, va));

	*before = 0;
	while (index != 0 && (mapping_at(s, index)->va != va || mapping_at(s, index)->table1 != table + 1)) {
		*before = index;
		index = mapping_at(s, index)->chain;
	}
	return index;
}

void
rmap_add(struct kvms *s, uint64_t slot, uint64_t table, uint64_t va)
{
	struct slot *sl = slot_users_mut(s, slot);
	uint32_t index, *head, bucket;
	struct mapping *m;

	if (sl->place_table == 0) {
		sl->place_table = (uint32_t)table + 1;
		sl->place_va = va;
		return;
	}
	index = pool_take(s, POOL_MAPPING);
	bucket = bucket_of(s, table, va);
	head = pool_mut(s, POOL_BUCKET, bucket);
	m = pool_mut(s, POOL_MAPPING, index);
	*m = (struct mapping){ .va = va,
			       .table1 = (uint32_t)table + 1,
			       .slot = slot,
			       .next = sl->more,
			       .chain = *head };
	*head = index;
	if (sl->more != 0)
		((struct mapping *)pool_mut(s, POOL_MAPPING, sl->more))->prev = index;
	sl->more = index;
	s->live.extra_mappings++;
}

void
rmap_remove(struct kvms *s, uint64_t slot, uint64_t table, uint64_t va)
{
	struct slot *sl = slot_users_mut(s, slot);
	uint32_t index, before;
	struct mapping *m;

	if (sl->place_table == table + 1 && sl->place_va == va) {
		sl->place_table = 0;
		sl->place_va = 0;
		return;
	}
	index = mapping_find(s, table, va, &before);
	assert(index != 0);
	m = pool_mut(s, POOL_MAPPING, index);
	if (before == 0)
		*(uint32_t *)pool_mut(s, POOL_BUCKET, bucket_of(s, table, va)) = m->chain;
	else
		((struct mapping *)pool_mut(s, POOL_MAPPING, before))->chain = m->chain;
	if (m->prev == 0)
		sl->more = m->next;
	else
		((struct mapping *)pool_mut(s, POOL_MAPPING, m->prev))->next = m->next;
	if (m->next != 0)
		((struct mapping *)pool_mut(s, POOL_MAPPING, m->next))->prev = m->prev;
	*m = (struct mapping){ .va = 0 };
	pool_give(s, POOL_MAPPING, index);
	s->live.extra_mappings--;
}

/* The node at "index" of a chain that may be damaged, of which "left" nodes are left; NULL behind its end. */
static const struct mapping *
mapping_in_chain(const struct kvms *s, uint32_t index, uint64_t left)
{
	return index != 0 && index <= s->live.pool_used[POOL_MAPPING] && left > 0 ? mapping_at(s, index) : NULL;
}

bool
rmap_has(const struct kvms *s, uint64_t slot, uint64_t table, uint64_t va)
{
	uint64_t left = s->live.extra_mappings;
	const struct mapping *m;

	if (s->slot[slot].place_table == table + 1 && s->slot[slot].place_va == va)
		return true;
	m = mapping_in_chain(s, bucket_head(s, bucket_of(s, table, va)), left);
	while (m != NULL && (m->va != va || m->table1 != table + 1))
		m = mapping_in_chain(s, m->chain, --left);
	return m != NULL && m->slot == slot;
}

uint64_t
rmap_count(const struct kvms *s, uint64_t slot)
{
	uint64_t count = s->slot[slot].place_table != 0, left = s->live.extra_mappings + 1;

	for (uint32_t i = s->slot[slot].more; i != 0 && left > 0; left--) {
		const struct mapping *m = mapping_in_chain(s, i, left);

		count++;
		i = m != NULL ? m->next : 0; /* one that is nowhere counts as well: it is one too many */
	}
	return count;
}

/* Between steps: double the buckets when the chains grow, so that they stay short. */
void
rmap_commit(struct kvms *s)
{
	if (s->live.extra_mappings <= s->buckets)
		return;
	pool_reserve(s, POOL_BUCKET, s->buckets * 2);
	s->buckets *= 2;
	for (uint32_t b = 0; b < s->buckets; b++)
		*(uint32_t *)pool_raw(s, POOL_BUCKET, b) = 0;
	for (uint32_t i = 1; i <= s->live.pool_used[POOL_MAPPING]; i++) {
		struct mapping *m = pool_raw(s, POOL_MAPPING, i);
		uint32_t *head;

		if (m->table1 == 0)
			continue;
		head = pool_raw(s, POOL_BUCKET, bucket_of(s, m->table1 - 1, m->va));
		m->chain = *head;
		*head = i;
	}
}

size_t
rmap_list(struct kvms *s, uint64_t slot)
{
	const struct slot *sl = &s->slot[slot];
	size_t count = 0;
	uint64_t *at = scratch_need(s, 2 * (size_t)sl->mappings + 2);

	if (sl->usage != USAGE_FRAME)
		return 0;
	if (sl->place_table != 0) {
		at[0] = sl->place_table - 1;
		at[1] = sl->place_va;
		count = 1;
	}
	for (uint32_t i = sl->more; i != 0 && count < sl->mappings; i = mapping_at(s, i)->next) {
		at[2 * count] = mapping_at(s, i)->table1 - 1;
		at[2 * count + 1] = mapping_at(s, i)->va;
		count++;
	}
	return count;
}
