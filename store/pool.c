#include "store/int.h"

#include <stdlib.h>
#include <string.h>

/* Byte offset of the free link in each pool's records: a uint32_t. */
static uint32_t *
free_link(struct kvms *s, enum pool_id pool, uint32_t index)
{
	if (pool == POOL_EXTENT)
		return &((struct extent *)pool_raw(s, pool, index))->left;
	return &((struct mapping *)pool_raw(s, pool, index))->chain;
}

void
pool_reserve(struct kvms *s, enum pool_id pool, uint32_t count)
{
	struct pool *p = &s->pools[pool];
	size_t capacity = p->capacity;

	p->at = grow(s, p->at, &capacity, count, p->size);
	memset(p->at + p->capacity * p->size, 0, (capacity - p->capacity) * p->size);
	p->capacity = (uint32_t)capacity;
}

void *
pool_mut(struct kvms *s, enum pool_id pool, uint32_t index)
{
	void *at = pool_raw(s, pool, index);

	undo_save(s, UNDO_POOL, pool, index, at, s->pools[pool].size);
	if (pool == POOL_EXTENT && !((struct extent *)at)->dirty) {
		digest_touch(s, UNDO_POOL, pool, index);
		((struct extent *)at)->dirty = 1;
	}
	return at;
}

struct extent *
extent_links_mut(struct kvms *s, uint32_t index)
{
	struct extent *e = pool_raw(s, POOL_EXTENT, index);

	undo_save(s, UNDO_POOL, POOL_EXTENT, index, e, sizeof *e);
	return e;
}

uint32_t
pool_take(struct kvms *s, enum pool_id pool)
{
	uint32_t index = s->live.pool_free[pool];

	if (index != 0) {
		s->live.pool_free[pool] = *free_link(s, pool, index);
		return index;
	}
	index = s->live.pool_used[pool] + 1; /* 0 is none */
	if (index >= s->pools[pool].capacity)
		pool_reserve(s, pool, index + 1);
	s->live.pool_used[pool] = index;
	return index;
}

void
pool_give(struct kvms *s, enum pool_id pool, uint32_t index)
{
	*free_link(s, pool, index) = s->live.pool_free[pool];
	s->live.pool_free[pool] = index;
}
