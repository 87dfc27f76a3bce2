/*
 * Upstream's range allocator (ostd util::range_alloc), with its policy to the
 * letter: the lowest-addressed block that fits, carved from its top, freed
 * ranges coalescing with both neighbours.  Upstream scans; we descend a tree.
 */
#include "store/int.h"

bool
va_alloc(struct kvms *s, uint64_t size, uint64_t *start)
{
	/* the first vmalloc range is the lowest, so if any of its blocks fits, the lowest fitting one is in it */
	const struct extent *block = extent_fit(s, SET_FREE_VA, size);
	uint64_t block_start;

	if (block == NULL || block->start >= s->vmalloc[0].end)
		return false;
	*start = block->end - size;
	block_start = block->start;
	if (size == 0)
		return true;
	if (*start == block_start)
		extent_remove(s, SET_FREE_VA, block_start);
	else
		extent_set_end(s, SET_FREE_VA, block_start, *start);
	return true;
}

bool
range_alloc_specific(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end)
{
	const struct extent *block = start < end ? extent_below(s, set, start) : NULL;
	uint64_t block_start, block_end;

	if (block == NULL || block->end < end)
		return false;
	block_start = block->start;
	block_end = block->end;
	if (block_start == start)
		extent_remove(s, set, start);
	else
		extent_set_end(s, set, block_start, start);
	if (end < block_end)
		extent_insert(s, set, end, block_end, 0);
	return true;
}

bool
va_alloc_at(struct kvms *s, uint64_t start, uint64_t size)
{
	if (size > UINT64_MAX - start)
		return false;
	return range_alloc_specific(s, SET_FREE_VA, start, start + size);
}

void
range_free(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end)
{
	const struct extent *below, *above;

	assert(start < end);
	extent_around(s, set, start, &below, &above);
	assert(below == NULL || below->end <= start);
	assert(above == NULL || above->start >= end);
	if (above != NULL && above->start == end) {
		end = above->end;
		extent_remove(s, set, above->start);
	}
	if (below != NULL && below->end == start)
		extent_set_end(s, set, below->start, end);
	else
		extent_insert(s, set, start, end, 0);
}

void
va_free(struct kvms *s, uint64_t start, uint64_t end)
{
	range_free(s, SET_FREE_VA, start, end);
}
