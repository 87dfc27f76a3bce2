#include "proto/wire.h"

#include <string.h>

#include "proto/coding.h"

/* Numbers of the fields of the envelopes, from the schema. */
enum {
	REQUEST_ID = 1,
	REQUEST_DRY_RUN = 2,
	REQUEST_OP = 4,
	REQUEST_INSPECT = 5,
	REQUEST_TRANSLATE_MANY = 6,
	TRANSLATE_MANY_TABLE = 1,
	TRANSLATE_MANY_VA = 2,
	RESPONSE_ID = 1,
	RESPONSE_OUTCOME = 4,
	RESPONSE_TRANSLATED = 5,
	TRANSLATED_FOUND = 1,
	TRANSLATED_PADDR = 2,
	OUTCOME_CLASS = 1,
	OUTCOME_NAME = 2,
	OUTCOME_CAUSE = 3,
	OUTCOME_DETAIL = 4,
	OUTCOME_STEP = 5,
	OUTCOME_RESULT = 6,
	OUTCOME_INSPECT_RESULT = 7
};

/* Bytes of a frame with an outcome that is ok and scalars, whatever they are. */
#define SHORT_MAX (64u + KVMS_FIELDS_MAX * 11u)

/* ---- Sizes ------------------------------------------------------------------------- */

/* The values of one side of a row. */
struct values {
	uint64_t present; /* bit i: field i is there */
	const uint64_t *field;
	const uint64_t *list; /* payload of the lists that are there, in field order */
};

/* Bytes of all fields; false: a form that is not written here. */
static bool
side_size(const struct kvmp_side *side, const struct values *v, size_t *size)
{
	const uint64_t *list = v->list;

	*size = 0;
	for (unsigned i = 0; i < side->count; i++) {
		enum kvmp_form form = side->forms[i];
		size_t words;

		if ((v->present >> i & 1) == 0)
			continue;
		if (form == KVMP_FORM_OTHER)
			return false;
		if (form == KVMP_FORM_FIXED64) {
			*size += tag_size(side->numbers[i]) + sizeof(uint64_t);
		} else if (form == KVMP_FORM_VARINT) {
			*size += tag_size(side->numbers[i]) + varint_size(v->field[i]);
		} else if (form == KVMP_FORM_BYTES) {
			*size += piece_size(side->numbers[i], (size_t)v->field[i]);
			list += list_words(side, i, v->field[i]);
		} else {
			words = list_words(side, i, v->field[i]);
			if (words > 0) /* an empty list is not there */
				*size += piece_size(side->numbers[i], packed_size(form, list, words));
			list += words;
		}
	}
	return true;
}

/* ---- Writing ------------------------------------------------------------------------- */

static uint8_t *
side_put(uint8_t *at, const struct kvmp_side *side, const struct values *v)
{
	const uint64_t *list = v->list;

	for (unsigned i = 0; i < side->count; i++) {
		unsigned number = side->numbers[i];
		uint64_t value = v->field[i];
		size_t words;

		if ((v->present >> i & 1) == 0)
			continue;
		switch (side->forms[i]) {
		case KVMP_FORM_FIXED64:
			at = fixed64_put(tag_put(at, number, TYPE_FIXED64), value);
			break;
		case KVMP_FORM_VARINT:
			at = varint_put(tag_put(at, number, TYPE_VARINT), value);
			break;
		case KVMP_FORM_BYTES:
			at = bytes_put(at, number, list, (size_t)value);
			list += list_words(side, i, value);
			break;
		case KVMP_FORM_FIXED64_LIST:
		case KVMP_FORM_VARINT_LIST:
			words = list_words(side, i, value);
			if (words > 0) /* an empty list is not there */
				at = packed_put(at, number, side->forms[i], list, words);
			list += words;
			break;
		case KVMP_FORM_OTHER:
			break; /* side_size() has refused it */
		}
	}
	return at;
}

/* Room for a frame of "size" bytes, its header written; NULL: too large, or no memory. */
static uint8_t *
frame_begin(struct kvmp_buffer *to, size_t size, size_t max)
{
	uint8_t *at = size > max ? NULL : kvmp_buffer_reserve(to, KVMP_FRAME_HEADER + size);

	if (at == NULL)
		return NULL;
	kvmp_frame_header(at, size);
	kvmp_buffer_added(to, KVMP_FRAME_HEADER + size);
	return at + KVMP_FRAME_HEADER;
}

/* Numbers as they are on the wire: eight bytes each. */
static uint8_t *
words_put(uint8_t *at, const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		at = fixed64_put(at, words[i]);
	return at;
}

static bool
translate_many_put(const struct kvmp_request *r, struct kvmp_buffer *to)
{
	size_t words = r->translate.count * sizeof(uint64_t), size = piece_size(TRANSLATE_MANY_VA, words);
	uint8_t *at;

	if (words == 0)
		return false;
	size += tag_size(TRANSLATE_MANY_TABLE) + varint_size(r->translate.table);
	at = frame_begin(to, (r->id != 0 ? 9 : 0) + piece_size(REQUEST_TRANSLATE_MANY, size), KVMP_REQUEST_MAX);
	if (at == NULL)
		return false;
	if (r->id != 0)
		at = fixed64_put(tag_put(at, REQUEST_ID, TYPE_FIXED64), r->id);
	at = tag_put(piece_put(at, REQUEST_TRANSLATE_MANY, size), TRANSLATE_MANY_TABLE, TYPE_VARINT);
	at = varint_put(at, r->translate.table);
	words_put(piece_put(at, TRANSLATE_MANY_VA, words), r->translate.va, r->translate.count);
	return true;
}

bool
kvmp_wire_request_put(const struct kvmp_request *r, struct kvmp_buffer *to)
{
	bool inspect = r->type == KVMP_INSPECT;
	const struct kvmp_binding *b;
	struct values v = { UINT64_MAX, r->op.arg, r->op.list };
	size_t args, op, size;
	uint8_t *at;

	if (r->type == KVMP_TRANSLATE_MANY)
		return translate_many_put(r, to);
	if (r->type != KVMP_OP && !inspect)
		return false;
	if (r->type == KVMP_OP && (r->detached || r->wait_ms > 0))
		return false;
	b = inspect ? kvmp_request_binding(r->op.code) : kvmp_op_binding(r->op.code);
	if (!b->args.plain || !side_size(&b->args, &v, &args))
		return false;
	op = piece_size(b->row->code, args);
	size = piece_size(inspect ? REQUEST_INSPECT : REQUEST_OP, op);
	size += r->id != 0 ? 9 : 0;
	size += r->dry_run && !inspect ? 2 : 0;
	at = frame_begin(to, size, KVMP_REQUEST_MAX);
	if (at == NULL)
		return false;
	if (r->id != 0)
		at = fixed64_put(tag_put(at, REQUEST_ID, TYPE_FIXED64), r->id);
	if (r->dry_run && !inspect)
		at = varint_put(tag_put(at, REQUEST_DRY_RUN, TYPE_VARINT), 1);
	at = piece_put(at, inspect ? REQUEST_INSPECT : REQUEST_OP, op);
	at = piece_put(at, b->row->code, args);
	side_put(at, &b->args, &v);
	return true;
}

/* The words of an outcome that is not ok. */
struct words {
	const char *name;
	const char *cause; /* NULL: none */
	bool has_detail;
};

static struct words
words_of(const struct kvms_outcome *out)
{
	return (struct words){ kvms_outcome_name(out->name), kvms_outcome_cause(out->name),
			       kvms_outcome_detail(out->name) != NULL };
}

/* Bytes of an outcome without its result. */
static size_t
outcome_size(const struct kvmp_answer *a)
{
	size_t size = 2 + (a->has_step ? 1 + varint_size(a->step) : 0);

	if (a->outcome.name != 0) {
		struct words w = words_of(&a->outcome);

		size += piece_size(OUTCOME_NAME, strlen(w.name));
		size += w.cause != NULL ? piece_size(OUTCOME_CAUSE, strlen(w.cause)) : 0;
		size += w.has_detail ? 1 + varint_size(a->outcome.detail) : 0;
	}
	return size;
}

static uint8_t *
outcome_put(uint8_t *at, const struct kvmp_answer *a)
{
	at = varint_put(tag_put(at, OUTCOME_CLASS, TYPE_VARINT), kvms_outcome_class(a->outcome.name));
	if (a->outcome.name != 0) {
		struct words w = words_of(&a->outcome);

		at = text_put(at, OUTCOME_NAME, w.name);
		if (w.cause != NULL)
			at = text_put(at, OUTCOME_CAUSE, w.cause);
		if (w.has_detail)
			at = varint_put(tag_put(at, OUTCOME_DETAIL, TYPE_VARINT), a->outcome.detail);
	}
	if (a->has_step)
		at = varint_put(tag_put(at, OUTCOME_STEP, TYPE_VARINT), a->step);
	return at;
}

/*
 * The same in one pass, for a short answer of scalars: the three lengths that
 * stand before what they measure are one byte each and are filled in behind.
 * Gives false, with nothing appended, if they are not.
 */
static bool
short_response_put(const struct kvmp_response *r, const struct kvmp_binding *b, struct kvmp_buffer *to)
{
	const struct kvmp_answer *a = &r->answer;
	struct values v = { a->outcome.present, a->outcome.field, NULL };
	uint8_t *start = kvmp_buffer_reserve(to, SHORT_MAX), *at = start, *outcome, *member, *results;

	if (start == NULL)
		return false;
	at = fixed64_put(tag_put(at + KVMP_FRAME_HEADER, RESPONSE_ID, TYPE_FIXED64), r->id);
	outcome = tag_put(at, RESPONSE_OUTCOME, TYPE_LENGTH);
	at = outcome_put(outcome + 1, a);
	member = tag_put(at, a->inspect ? OUTCOME_INSPECT_RESULT : OUTCOME_RESULT, TYPE_LENGTH);
	results = tag_put(member + 1, a->row->code, TYPE_LENGTH);
	at = side_put(results + 1, &b->results, &v);
	if (at - outcome - 1 > 0x7f) /* and with it the others */
		return false;
	*outcome = (uint8_t)(at - outcome - 1);
	*member = (uint8_t)(at - member - 1);
	*results = (uint8_t)(at - results - 1);
	kvmp_frame_header(start, (size_t)(at - start) - KVMP_FRAME_HEADER);
	kvmp_buffer_added(to, (size_t)(at - start));
	return true;
}

static bool
translated_put(const struct kvmp_response *r, struct kvmp_buffer *to)
{
	size_t count = r->translated.count, words = count * sizeof(uint64_t), size;
	uint8_t *at;

	if (count == 0)
		return false;
	size = piece_size(TRANSLATED_FOUND, count) + piece_size(TRANSLATED_PADDR, words);
	at = frame_begin(to, 9 + piece_size(RESPONSE_TRANSLATED, size), KVMP_RESPONSE_MAX);
	if (at == NULL)
		return false;
	at = fixed64_put(tag_put(at, RESPONSE_ID, TYPE_FIXED64), r->id);
	at = piece_put(piece_put(at, RESPONSE_TRANSLATED, size), TRANSLATED_FOUND, count);
	memcpy(at, r->translated.found, count);
	words_put(piece_put(at + count, TRANSLATED_PADDR, words), r->translated.paddr, count);
	return true;
}

bool
kvmp_wire_response_put(const struct kvmp_response *r, struct kvmp_buffer *to)
{
	const struct kvmp_answer *a = &r->answer;
	struct values v = { a->outcome.present, a->outcome.field, a->outcome.list };
	const struct kvmp_binding *b;
	size_t results = 0, member = 0, size;
	unsigned number;
	bool ok;
	uint8_t *at;

	if (r->type == KVMP_R_TRANSLATED)
		return translated_put(r, to);
	if (r->type != KVMP_R_OUTCOME || a->held_back || a->cycle_count > 0)
		return false;
	ok = a->outcome.name == 0;
	number = a->inspect ? OUTCOME_INSPECT_RESULT : OUTCOME_RESULT;
	b = a->inspect ? kvmp_request_binding(a->row->code) : kvmp_op_binding(a->row->code);
	if (ok && b->results.plain && b->results.scalar && short_response_put(r, b, to))
		return true;
	size = outcome_size(a);
	if (ok) {
		if (!b->results.plain || !side_size(&b->results, &v, &results))
			return false;
		member = piece_size(a->row->code, results);
		size += piece_size(number, member);
	}
	at = frame_begin(to, 9 + piece_size(RESPONSE_OUTCOME, size), KVMP_RESPONSE_MAX);
	if (at == NULL)
		return false;
	at = fixed64_put(tag_put(at, RESPONSE_ID, TYPE_FIXED64), r->id);
	at = outcome_put(piece_put(at, RESPONSE_OUTCOME, size), a);
	if (ok) {
		at = piece_put(at, number, member);
		at = piece_put(at, a->row->code, results);
		side_put(at, &b->results, &v);
	}
	return true;
}

/* ---- Reading ---------------------------------------------------------------------------- */

/* A oneof's only member: its code, and what is in it. */
static bool
member_get(struct rest *in, unsigned *code, struct rest *piece)
{
	uint64_t tag;

	if (!varint_get(in, &tag) || (tag & 7) != TYPE_LENGTH || tag >> 3 > UINT16_MAX || !last_get(in, piece))
		return false;
	*code = (unsigned)(tag >> 3);
	return true;
}

/* The list of a side; one list only is read here. */
struct list {
	const uint64_t *at;
	size_t words;
};

static bool
list_get(const struct kvmp_side *side, unsigned i, struct rest *in, struct kvmp_arena *arena, struct list *list,
	 uint64_t *count)
{
	unsigned arity = kvms_type_arity(side->fields[i].type);
	struct rest piece;
	size_t words = 0;
	uint64_t *to;

	if (list->words > 0 || !piece_get(in, &piece) || piece.at == piece.end)
		return false;
	if (side->forms[i] == KVMP_FORM_FIXED64_LIST && (piece.end - piece.at) % 8 == 0)
		words = (size_t)(piece.end - piece.at) / 8;
	else if (side->forms[i] == KVMP_FORM_VARINT_LIST)
		for (const uint8_t *at = piece.at; at < piece.end; at++)
			words += *at <= 0x7f;
	if (words == 0 || words > KVMP_LIST_MAX || words % arity != 0 ||
	    (side->fields[i].type == KVMS_RANGE && words != arity))
		return false;
	to = kvmp_arena_alloc(arena, words * sizeof *to);
	if (to == NULL)
		return false;
	for (size_t k = 0; k < words; k++)
		if (!(side->forms[i] == KVMP_FORM_FIXED64_LIST ? fixed64_get(&piece, &to[k])
							       : varint_get(&piece, &to[k])))
			return false;
	*list = (struct list){ to, words };
	*count = words / arity;
	return piece.at == piece.end;
}

/* Bytes, laid into words; they may be none. */
static bool
bytes_get(struct rest *in, struct kvmp_arena *arena, struct list *list, uint64_t *count)
{
	struct rest piece;
	size_t size, words;
	uint64_t *to;

	if (list->words > 0 || !piece_get(in, &piece) || piece.end - piece.at > KVMP_BYTES_MAX)
		return false;
	*count = size = (size_t)(piece.end - piece.at);
	words = (size + 7) / 8;
	if (words == 0)
		return true;
	to = kvmp_arena_alloc(arena, words * sizeof *to);
	if (to == NULL)
		return false;
	to[words - 1] = 0;
	memcpy(to, piece.at, size);
	*list = (struct list){ to, words };
	return true;
}

/* One field behind its tag. */
static bool
field_get(const struct kvmp_side *side, unsigned i, unsigned type, struct rest *in, struct kvmp_arena *arena,
	  struct list *list, uint64_t *value)
{
	switch (side->forms[i]) {
	case KVMP_FORM_FIXED64:
		return type == TYPE_FIXED64 && fixed64_get(in, value);
	case KVMP_FORM_VARINT:
		return type == TYPE_VARINT && varint_get(in, value) && *value <= side->most[i] &&
		       (!side->checked[i] || kvmp_scalar_fits(side->fields[i].type, *value));
	case KVMP_FORM_FIXED64_LIST:
	case KVMP_FORM_VARINT_LIST:
		return type == TYPE_LENGTH && list_get(side, i, in, arena, list, value);
	case KVMP_FORM_BYTES:
		return type == TYPE_LENGTH && bytes_get(in, arena, list, value);
	case KVMP_FORM_OTHER:
		return false;
	}
	return false;
}

/* All fields, ascending; "present" gets which were there. */
static bool
side_get(const struct kvmp_side *side, struct rest *in, struct kvmp_arena *arena, uint64_t *field, uint64_t *present,
	 struct list *list)
{
	unsigned i = 0;

	while (in->at < in->end) {
		uint64_t tag;

		if (!varint_get(in, &tag))
			return false;
		while (i < side->count && side->numbers[i] < tag >> 3)
			i++;
		if (i == side->count || side->numbers[i] != tag >> 3 ||
		    !field_get(side, i, (unsigned)(tag & 7), in, arena, list, &field[i]))
			return false;
		*present |= UINT64_C(1) << i;
		i++;
	}
	return true;
}

/* Numbers of eight bytes each, at least one and nothing else; NULL: not so, or no memory. */
static const uint64_t *
words_get(struct rest *piece, struct kvmp_arena *arena, size_t *count)
{
	size_t size = (size_t)(piece->end - piece->at);
	uint64_t *words;

	if (size == 0 || size % sizeof *words != 0)
		return NULL;
	words = kvmp_arena_alloc(arena, size);
	if (words == NULL)
		return NULL;
	*count = size / sizeof *words;
	for (size_t i = 0; i < *count; i++)
		fixed64_get(piece, &words[i]);
	return words;
}

static bool
translate_many_get(struct rest *in, struct kvmp_arena *arena, struct kvmp_request *r)
{
	struct rest many, va;

	r->type = KVMP_TRANSLATE_MANY;
	r->translate.table = 0;
	if (!last_get(in, &many))
		return false;
	if (tag_take(&many, TRANSLATE_MANY_TABLE, TYPE_VARINT) && !varint_get(&many, &r->translate.table))
		return false;
	if (!tag_take(&many, TRANSLATE_MANY_VA, TYPE_LENGTH) || !last_get(&many, &va) ||
	    (size_t)(va.end - va.at) > KVMP_TRANSLATE_MAX * sizeof(uint64_t))
		return false;
	r->translate.va = words_get(&va, arena, &r->translate.count);
	return r->translate.va != NULL;
}

bool
kvmp_wire_request_get(const uint8_t *data, size_t size, struct kvmp_arena *arena, struct kvmp_request *r)
{
	struct rest in = { data, data + size }, op, args;
	const struct kvmp_binding *b;
	struct list list = { NULL, 0 };
	uint64_t present = 0;
	unsigned code;

	r->id = 0;
	r->dry_run = r->detached = false;
	r->wait_ms = 0;
	if (tag_take(&in, REQUEST_ID, TYPE_FIXED64) && !fixed64_get(&in, &r->id))
		return false;
	if (in.end - in.at >= 2 && in.at[0] == (REQUEST_DRY_RUN << 3 | TYPE_VARINT) && in.at[1] <= 1) {
		r->dry_run = in.at[1] == 1;
		in.at += 2;
	}
	if (!r->dry_run && tag_take(&in, REQUEST_TRANSLATE_MANY, TYPE_LENGTH))
		return translate_many_get(&in, arena, r);
	if (tag_take(&in, REQUEST_OP, TYPE_LENGTH))
		r->type = KVMP_OP;
	else if (!r->dry_run && tag_take(&in, REQUEST_INSPECT, TYPE_LENGTH))
		r->type = KVMP_INSPECT;
	else
		return false;
	if (!last_get(&in, &op) || !member_get(&op, &code, &args))
		return false;
	b = r->type == KVMP_OP ? kvmp_op_binding(code) : kvmp_request_binding(code);
	if (b == NULL || !b->args.plain)
		return false;
	r->op.code = code;
	for (unsigned i = 0; i < b->args.count; i++)
		r->op.arg[i] = b->args.fields[i].value;
	if (!side_get(&b->args, &args, arena, r->op.arg, &present, &list))
		return false;
	r->op.list = list.at;
	return (b->args.required & ~present) == 0;
}

/* What stands in an outcome that is ok before its result. */
static bool
outcome_get(struct rest *in, struct kvmp_answer *a)
{
	uint64_t class;

	if (!tag_take(in, OUTCOME_CLASS, TYPE_VARINT) || !varint_get(in, &class) || class != KVMS_OK)
		return false;
	a->has_step = tag_take(in, OUTCOME_STEP, TYPE_VARINT);
	a->step = 0;
	return !a->has_step || varint_get(in, &a->step);
}

static bool
translated_get(struct rest *in, struct kvmp_arena *arena, struct kvmp_response *r)
{
	struct rest translated, found, paddr;

	r->type = KVMP_R_TRANSLATED;
	if (!last_get(in, &translated) || !tag_take(&translated, TRANSLATED_FOUND, TYPE_LENGTH) ||
	    !piece_get(&translated, &found) || !tag_take(&translated, TRANSLATED_PADDR, TYPE_LENGTH) ||
	    !last_get(&translated, &paddr) || (paddr.end - paddr.at) != 8 * (found.end - found.at))
		return false;
	for (const uint8_t *at = found.at; at < found.end; at++)
		if (*at > 1)
			return false;
	r->translated.found = found.at;
	r->translated.paddr = words_get(&paddr, arena, &r->translated.count);
	return r->translated.paddr != NULL;
}

bool
kvmp_wire_response_get(const uint8_t *data, size_t size, struct kvmp_arena *arena, struct kvmp_response *r)
{
	struct rest in = { data, data + size }, outcome, result, fields;
	struct kvmp_answer *a = &r->answer;
	const struct kvmp_binding *b;
	struct list list = { NULL, 0 };
	unsigned code;

	if (!tag_take(&in, RESPONSE_ID, TYPE_FIXED64) || !fixed64_get(&in, &r->id))
		return false;
	if (tag_take(&in, RESPONSE_TRANSLATED, TYPE_LENGTH))
		return translated_get(&in, arena, r);
	r->type = KVMP_R_OUTCOME;
	if (!tag_take(&in, RESPONSE_OUTCOME, TYPE_LENGTH) || !last_get(&in, &outcome) || !outcome_get(&outcome, a))
		return false;
	a->inspect = !tag_take(&outcome, OUTCOME_RESULT, TYPE_LENGTH);
	if (a->inspect && !tag_take(&outcome, OUTCOME_INSPECT_RESULT, TYPE_LENGTH))
		return false;
	if (!last_get(&outcome, &result) || !member_get(&result, &code, &fields))
		return false;
	b = a->inspect ? kvmp_request_binding(code) : kvmp_op_binding(code);
	if (b == NULL || !b->results.plain)
		return false;
	memset(&a->outcome, 0, sizeof a->outcome);
	a->held_back = false;
	a->cycle_count = 0;
	a->row = b->row;
	if (!side_get(&b->results, &fields, arena, a->outcome.field, &a->outcome.present, &list))
		return false;
	a->outcome.present |= b->results.lists;
	/* lent to the reader, who does not write through it */
	a->outcome.list = (uint64_t *)(uintptr_t)list.at;
	a->outcome.list_count = list.words;
	return true;
}
