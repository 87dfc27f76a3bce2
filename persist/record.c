#include "persist/record.h"

#include <stdlib.h>
#include <string.h>

#define VARINT_MAX 10u

/* ---- Bytes ------------------------------------------------------------------------ */

void
persist_bytes_reset(struct bytes *b)
{
	b->size = 0;
	b->failed = false;
}

void
persist_bytes_free(struct bytes *b)
{
	free(b->at);
	*b = (struct bytes){ .at = NULL };
}

/* Room for "size" more; NULL = no memory. */
static unsigned char *
room(struct bytes *b, size_t size)
{
	if (b->failed)
		return NULL;
	if (b->capacity - b->size < size) {
		size_t capacity = b->capacity * 2 + size + 256;
		unsigned char *at = realloc(b->at, capacity);

		if (at == NULL) {
			b->failed = true;
			return NULL;
		}
		b->at = at;
		b->capacity = capacity;
	}
	return b->at + b->size;
}

void
persist_bytes_add(struct bytes *b, const void *bytes, size_t size)
{
	unsigned char *at = room(b, size);

	if (at == NULL || size == 0)
		return;
	memcpy(at, bytes, size);
	b->size += size;
}

static void
put(struct bytes *b, uint64_t number)
{
	unsigned char *at = room(b, VARINT_MAX);

	if (at == NULL)
		return;
	for (; number >= 0x80; number >>= 7)
		*at++ = (unsigned char)(number | 0x80);
	*at++ = (unsigned char)number;
	b->size = (size_t)(at - b->at);
}

/* ---- Lists -------------------------------------------------------------------------- */

/* Words of a list of "count" elements; UINT64_MAX if there cannot be so many. */
static uint64_t
list_words(enum kvms_type type, uint64_t count)
{
	if (count > UINT32_MAX)
		return UINT64_MAX;
	return type == KVMS_BYTES ? (count + 7) / 8 : count * kvms_type_arity(type);
}

static void
list_put(struct bytes *b, enum kvms_type type, const uint64_t *words, uint64_t count)
{
	if (type == KVMS_BYTES)
		persist_bytes_add(b, words, (size_t)count * sizeof *words);
	else
		for (uint64_t i = 0; i < count; i++)
			put(b, words[i]);
}

/* ---- Encoding ------------------------------------------------------------------------- */

static void
op_put(struct bytes *b, const struct kvms_row *row, const struct kvms_op *op)
{
	const uint64_t *list = op->list;

	put(b, op->code);
	for (unsigned i = 0; i < row->args_count; i++)
		put(b, op->arg[i]);
	for (unsigned i = 0; i < row->args_count; i++) {
		if (!kvms_type_is_list(row->args[i].type))
			continue;
		uint64_t words = list_words(row->args[i].type, op->arg[i]);

		list_put(b, row->args[i].type, list, words);
		list += words;
	}
}

void
persist_outcome_encode(struct bytes *b, unsigned code, const struct kvms_outcome *out)
{
	const struct kvms_row *row = kvms_op_row(code);
	const uint64_t *list = out->list;

	put(b, out->name);
	if (kvms_outcome_detail(out->name) != NULL)
		put(b, out->detail);
	if (out->name != 0)
		return;
	put(b, out->present);
	for (unsigned i = 0; i < row->results_count; i++)
		if ((out->present >> i & 1) != 0)
			put(b, out->field[i]);
	for (unsigned i = 0; i < row->results_count; i++) {
		if ((out->present >> i & 1) == 0 || !kvms_type_is_list(row->results[i].type))
			continue;
		uint64_t words = list_words(row->results[i].type, out->field[i]);

		list_put(b, row->results[i].type, list, words);
		list += words;
	}
}

void
persist_record_encode(struct bytes *b, uint64_t connection, uint64_t delay, const struct kvms_op *op,
		      const struct kvms_outcome *out)
{
	put(b, connection);
	put(b, delay);
	op_put(b, kvms_op_row(op->code), op);
	persist_outcome_encode(b, op->code, out);
}

/* ---- Decoding --------------------------------------------------------------------------- */

/* What is left to read.  "bad" stays set from the first thing that is wrong. */
struct reader {
	const unsigned char *at, *end;
	bool bad, nomem;
};

static uint64_t
get(struct reader *r)
{
	uint64_t number = 0;

	for (unsigned shift = 0; r->at < r->end && shift < 64; shift += 7) {
		unsigned char byte = *r->at++;

		if (shift == 63 && byte > 1)
			break;
		number |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return number;
	}
	r->bad = true;
	return 0;
}

/* Append the words of a list to *list.  Each takes at least a byte, so that a count cannot lie. */
static void
list_get(struct reader *r, enum kvms_type type, uint64_t elements, uint64_t **list, size_t *count, size_t *capacity)
{
	uint64_t words = list_words(type, elements), left = (uint64_t)(r->end - r->at);

	if (r->bad || words > (type == KVMS_BYTES ? left / 8 : left)) {
		r->bad = true;
		return;
	}
	if (*capacity - *count < words) {
		size_t grown = *capacity * 2 + (size_t)words;
		uint64_t *at = realloc(*list, grown * sizeof *at);

		if (at == NULL) {
			r->bad = r->nomem = true;
			return;
		}
		*list = at;
		*capacity = grown;
	}
	if (type == KVMS_BYTES) {
		if (words > 0)
			memcpy(*list + *count, r->at, (size_t)words * 8);
		r->at += words * 8;
	} else {
		for (uint64_t i = 0; i < words; i++)
			(*list)[*count + i] = get(r);
	}
	*count += (size_t)words;
}

static void
op_get(struct reader *r, struct persist_record *record, const struct kvms_row *row)
{
	size_t count = 0;

	for (unsigned i = 0; i < row->args_count; i++)
		record->op.arg[i] = get(r);
	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			list_get(r, row->args[i].type, record->op.arg[i], &record->list, &count,
				 &record->list_capacity);
	record->op.list = record->list;
}

static void
outcome_get(struct reader *r, struct kvms_outcome *out, const struct kvms_row *row)
{
	uint64_t name = get(r);

	if (r->bad || name > kvms_outcome_max()) {
		r->bad = true;
		return;
	}
	out->name = (unsigned)name;
	if (kvms_outcome_detail(out->name) != NULL)
		out->detail = get(r);
	if (out->name != 0)
		return;
	out->present = get(r);
	if (row->results_count < 64 && out->present >> row->results_count != 0)
		r->bad = true;
	for (unsigned i = 0; i < row->results_count && !r->bad; i++)
		if ((out->present >> i & 1) != 0)
			out->field[i] = get(r);
	for (unsigned i = 0; i < row->results_count && !r->bad; i++)
		if ((out->present >> i & 1) != 0 && kvms_type_is_list(row->results[i].type))
			list_get(r, row->results[i].type, out->field[i], &out->list, &out->list_count,
				 &out->list_capacity);
}

enum persist_decode
persist_record_decode(const unsigned char *at, size_t size, struct persist_record *record, size_t *used)
{
	struct reader r = { .at = at, .end = at + size };

	record->connection = get(&r);
	record->delay = get(&r);
	uint64_t code = get(&r);
	const struct kvms_row *row = r.bad || code > kvms_op_max() ? NULL : kvms_op_row((unsigned)code);

	if (row == NULL)
		return PERSIST_MALFORMED;
	kvms_op_init(&record->op, row);
	record->op.code = (unsigned)code;
	record->out.name = 0;
	record->out.detail = record->out.present = 0;
	record->out.list_count = 0;
	memset(record->out.field, 0, sizeof record->out.field);
	op_get(&r, record, row);
	if (!r.bad)
		outcome_get(&r, &record->out, row);
	*used = (size_t)(r.at - at);
	if (r.nomem)
		return PERSIST_NOMEM;
	return r.bad ? PERSIST_MALFORMED : PERSIST_DECODED;
}

void
persist_record_free(struct persist_record *record)
{
	free(record->list);
	kvms_outcome_free(&record->out);
	*record = (struct persist_record){ .connection = 0 };
}
