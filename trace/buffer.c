#include "trace/buffer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for "more" bytes and the NUL behind them. */
static bool
reserve(struct kvt_buffer *b, size_t more)
{
	size_t capacity = b->capacity != 0 ? b->capacity : 256;
	char *at;

	if (b->failed || more >= SIZE_MAX / 4 - b->size) {
		b->failed = true;
		return false;
	}
	if (b->at != NULL && b->size + more + 1 <= b->capacity)
		return true;
	while (capacity < b->size + more + 1)
		capacity *= 2;
	at = realloc(b->at, capacity);
	if (at == NULL) {
		b->failed = true;
		return false;
	}
	at[b->size] = '\0';
	b->at = at;
	b->capacity = capacity;
	return true;
}

void
kvt_buffer_reset(struct kvt_buffer *b)
{
	b->size = 0;
	b->failed = false;
	if (b->at != NULL)
		b->at[0] = '\0';
}

void
kvt_buffer_free(struct kvt_buffer *b)
{
	free(b->at);
	memset(b, 0, sizeof *b);
}

const char *
kvt_buffer_text(const struct kvt_buffer *b)
{
	return b->at != NULL ? b->at : "";
}

void
kvt_put(struct kvt_buffer *b, const char *bytes, size_t size)
{
	if (size == 0 || !reserve(b, size))
		return;
	memcpy(b->at + b->size, bytes, size);
	b->size += size;
	b->at[b->size] = '\0';
}

void
kvt_puts(struct kvt_buffer *b, const char *text)
{
	kvt_put(b, text, strlen(text));
}

void
kvt_putc(struct kvt_buffer *b, char byte)
{
	kvt_put(b, &byte, 1);
}

void
kvt_putf(struct kvt_buffer *b, const char *format, ...)
{
	va_list ap;
	int size;

	va_start(ap, format);
	size = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (size < 0 || !reserve(b, (size_t)size)) {
		b->failed = true;
		return;
	}
	va_start(ap, format);
	vsnprintf(b->at + b->size, (size_t)size + 1, format, ap);
	va_end(ap);
	b->size += (size_t)size;
}

void
kvt_put_dec(struct kvt_buffer *b, uint64_t value)
{
	char digits[20];
	size_t i = sizeof digits;

	do
		digits[--i] = (char)('0' + value % 10);
	while ((value /= 10) != 0);
	kvt_put(b, digits + i, sizeof digits - i);
}

void
kvt_put_hex(struct kvt_buffer *b, uint64_t value)
{
	char digits[18];
	size_t i = sizeof digits;

	do
		digits[--i] = "0123456789abcdef"[value & 15];
	while ((value >>= 4) != 0);
	digits[--i] = 'x';
	digits[--i] = '0';
	kvt_put(b, digits + i, sizeof digits - i);
}
