/*
 * buffer - text that grows.
 *
 * Law: at[size] is NUL whenever at is not NULL.  When memory runs out "failed"
 * is set, what was there stays, and nothing is added until the next reset.
 */
#ifndef KVT_BUFFER_H
#define KVT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise before first use. */
struct kvt_buffer {
	char *at;
	size_t size;
	size_t capacity;
	bool failed;
};

/* Empty it and keep the memory. */
void kvt_buffer_reset(struct kvt_buffer *b);

/* End it: free the memory and zero the struct. */
void kvt_buffer_free(struct kvt_buffer *b);

/* The text; "" if there is none. */
const char *kvt_buffer_text(const struct kvt_buffer *b);

/* Add bytes, a string, one byte, a formatted string, a number in decimal or in hex with 0x. */
void kvt_put(struct kvt_buffer *b, const char *bytes, size_t size);
void kvt_puts(struct kvt_buffer *b, const char *text);
void kvt_putc(struct kvt_buffer *b, char byte);
void kvt_putf(struct kvt_buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kvt_put_dec(struct kvt_buffer *b, uint64_t value);
void kvt_put_hex(struct kvt_buffer *b, uint64_t value);

#endif /* KVT_BUFFER_H */
