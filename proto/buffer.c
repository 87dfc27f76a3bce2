#include "proto/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_FIRST 4096u /* bytes of the first allocation */

uint8_t *
kvmp_buffer_reserve(struct kvmp_buffer *b, size_t size)
{
	size_t held = kvmp_buffer_size(b);

	if (size <= b->capacity - b->end)
		return b->data + b->end;
	if (size > SIZE_MAX / 4 - held)
		return NULL;
	if (held + size <= b->capacity && b->start >= b->capacity / 2) {
		/* each byte moves at most once for each byte taken before it */
		memmove(b->data, b->data + b->start, held);
	} else {
		size_t capacity = b->capacity < BUFFER_FIRST ? BUFFER_FIRST : b->capacity;

		while (capacity < held + size)
			capacity *= 2;

		uint8_t *data = malloc(capacity);

		if (data == NULL)
			return NULL;
		if (held > 0)
			memcpy(data, b->data + b->start, held);
		free(b->data);
		b->data = data;
		b->capacity = capacity;
	}
	b->start = 0;
	b->end = held;
	return b->data + b->end;
}

void
kvmp_buffer_added(struct kvmp_buffer *b, size_t size)
{
	assert(size <= b->capacity - b->end);
	b->end += size;
}

void
kvmp_buffer_take(struct kvmp_buffer *b, size_t size)
{
	assert(size <= kvmp_buffer_size(b));
	b->start += size;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
kvmp_buffer_shrink(struct kvmp_buffer *b, size_t keep)
{
	if (kvmp_buffer_size(b) == 0 && b->capacity > keep)
		kvmp_buffer_free(b);
}

void
kvmp_buffer_free(struct kvmp_buffer *b)
{
	free(b->data);
	memset(b, 0, sizeof *b);
}
