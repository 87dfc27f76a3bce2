/*
 * buffer - bytes between a socket and the codec.
 *
 * Bytes are appended at the end and taken from the front; what is in between
 * lies in one piece.  No I/O.
 *
 * Law: start <= end <= capacity.
 */
#ifndef KVMP_BUFFER_H
#define KVMP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty buffer. */
struct kvmp_buffer {
	uint8_t *data;
	size_t start; /* first byte not yet taken */
	size_t end;   /* behind the last byte */
	size_t capacity;
};

/* Bytes waiting to be taken. */
static inline size_t
kvmp_buffer_size(const struct kvmp_buffer *b)
{
	return b->end - b->start;
}

/*
 * Make room for "size" bytes behind the end.
 *
 * => gives the place for them; kvmp_buffer_added() says how many were written
 * => fails with NULL, nothing changed: no memory
 */
uint8_t *kvmp_buffer_reserve(struct kvmp_buffer *b, size_t size);

/* "size" bytes, at most what was reserved, are there. */
void kvmp_buffer_added(struct kvmp_buffer *b, size_t size);

/* Take "size" bytes, at most what is there, from the front. */
void kvmp_buffer_take(struct kvmp_buffer *b, size_t size);

/* Give memory back if the buffer is empty and larger than "keep" bytes. */
void kvmp_buffer_shrink(struct kvmp_buffer *b, size_t keep);

/* End: frees the memory and leaves an empty buffer. */
void kvmp_buffer_free(struct kvmp_buffer *b);

#endif /* KVMP_BUFFER_H */
