/*
 * coding - the pieces that protobuf messages are made of: numbers, tags and
 * lengths.
 *
 * Reading accepts only the form in which protobuf libraries write: numbers in
 * as few bytes as they need.
 */
#ifndef KVMP_CODING_H
#define KVMP_CODING_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/codec.h"

/* Wire types of the encoding. */
enum { TYPE_VARINT = 0, TYPE_FIXED64 = 1, TYPE_LENGTH = 2 };

/* ---- Sizes ------------------------------------------------------------------------- */

static inline size_t
varint_size(uint64_t value)
{
	/* seven bits a byte, at least one byte */
	return (size_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}

static inline size_t
tag_size(unsigned number)
{
	return varint_size((uint64_t)number << 3);
}

/* A field that holds "size" bytes behind their length. */
static inline size_t
piece_size(unsigned number, size_t size)
{
	return tag_size(number) + varint_size(size) + size;
}

/* ---- Writing ------------------------------------------------------------------------- */

static inline uint8_t *
varint_put(uint8_t *at, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

static inline uint8_t *
tag_put(uint8_t *at, unsigned number, unsigned type)
{
	return varint_put(at, (uint64_t)number << 3 | type);
}

static inline uint8_t *
fixed64_put(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof value);
	return at + sizeof value;
}

/* Tag and length of what follows. */
static inline uint8_t *
piece_put(uint8_t *at, unsigned number, size_t size)
{
	return varint_put(tag_put(at, number, TYPE_LENGTH), size);
}

static inline uint8_t *
text_put(uint8_t *at, unsigned number, const char *text)
{
	size_t size = strlen(text);

	at = piece_put(at, number, size);
	memcpy(at, text, size);
	return at + size;
}

/* ---- Reading ---------------------------------------------------------------------------- */

/* What is left of a message. */
struct rest {
	const uint8_t *at;
	const uint8_t *end;
};

/* A number of more than a byte, in as few as it needs. */
static inline bool
long_varint_get(struct rest *in, uint64_t *value)
{
	unsigned shift = 0;
	uint8_t byte;

	*value = 0;
	do {
		if (in->at == in->end || shift > 63)
			return false;
		byte = *in->at++;
		if (shift == 63 && byte > 1)
			return false;
		*value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte > 0x7f);
	return byte != 0 || shift == 7;
}

/* A number in as few bytes as it needs. */
static inline bool
varint_get(struct rest *in, uint64_t *value)
{
	if (in->at == in->end || *in->at > 0x7f)
		return long_varint_get(in, value);
	*value = *in->at++;
	return true;
}

static inline bool
fixed64_get(struct rest *in, uint64_t *value)
{
	if (in->end - in->at < 8)
		return false;
	memcpy(value, in->at, sizeof *value);
	*value = le64toh(*value);
	in->at += sizeof *value;
	return true;
}

/* If the next byte is this field's tag, take it.  For numbers below 16. */
static inline bool
tag_take(struct rest *in, unsigned number, unsigned type)
{
	if (in->at == in->end || *in->at != (number << 3 | type))
		return false;
	in->at++;
	return true;
}

/* A length and that many bytes. */
static inline bool
piece_get(struct rest *in, struct rest *piece)
{
	uint64_t size;

	if (!varint_get(in, &size) || size > (uint64_t)(in->end - in->at))
		return false;
	piece->at = in->at;
	piece->end = in->at += size;
	return true;
}

/* The last piece of a message: nothing may be behind it. */
static inline bool
last_get(struct rest *in, struct rest *piece)
{
	return piece_get(in, piece) && in->at == in->end;
}

/* ---- Lists ------------------------------------------------------------------------- */

/* Words that list field "i" takes in a payload. */
static inline size_t
list_words(const struct kvmp_side *side, unsigned i, uint64_t count)
{
	return side->forms[i] == KVMP_FORM_BYTES ? (size_t)(count + 7) / 8
						 : (size_t)count * kvms_type_arity(side->fields[i].type);
}

/* Bytes of the numbers of a packed list. */
static inline size_t
packed_size(enum kvmp_form form, const uint64_t *list, size_t words)
{
	size_t size = 0;

	if (form == KVMP_FORM_FIXED64_LIST)
		return words * sizeof *list;
	for (size_t i = 0; i < words; i++)
		size += varint_size(list[i]);
	return size;
}

/* A packed list as a field. */
static inline uint8_t *
packed_put(uint8_t *at, unsigned number, enum kvmp_form form, const uint64_t *list, size_t words)
{
	at = piece_put(at, number, packed_size(form, list, words));
	for (size_t i = 0; i < words; i++)
		at = form == KVMP_FORM_FIXED64_LIST ? fixed64_put(at, list[i]) : varint_put(at, list[i]);
	return at;
}

/* Bytes, which a payload keeps in words, as a field. */
static inline uint8_t *
bytes_put(uint8_t *at, unsigned number, const uint64_t *list, size_t size)
{
	at = piece_put(at, number, size);
	if (size > 0)
		memcpy(at, list, size);
	return at + size;
}

#endif /* KVMP_CODING_H */
