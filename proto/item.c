#include "proto/item.h"

#include <stdlib.h>
#include <string.h>

#include "proto/coding.h"
#include "proto/kvmtrace.pb-c.h"
#include "proto/message.h"

/* Numbers of the fields, from the schema. */
enum {
	ITEM_RECORDED = 9,
	ITEM_SHORT = 10,
	ITEM_ANNOTATIONS = 11,
	ITEM_COMMENT = 12,
	RECORDED_CLASS = 1,
	RECORDED_NAME = 2,
	RECORDED_CAUSE = 3,
	RECORDED_DETAIL = 4,
	RECORDED_RESULT = 6,
	RECORDED_INSPECT_RESULT = 7,
	RECORDED_EMPTY = 8,
	GAP_OPS = 1,
	BASE_DIGEST = 1,
	BASE_SNAPSHOT = 2,
	ANNOTATION_NAME = 1,
	ANNOTATION_VALUE = 2,
	ANNOTATION_RESULT = 3,
	INDEX_SIZE = 1,
	INDEX_ITEMS = 2,
	INDEX_OPS = 3
};

_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_BLANK == (int)KVMP_ITEM_BLANK, "blank");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_HEADER == (int)KVMP_ITEM_HEADER, "header");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_STORE == (int)KVMP_ITEM_STORE, "store");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_OP == (int)KVMP_ITEM_OP, "op");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_EXPECT == (int)KVMP_ITEM_EXPECT, "expect");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_GAP == (int)KVMP_ITEM_GAP, "gap");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_BASE_LINE == (int)KVMP_ITEM_BASE, "base");
_Static_assert((int)KVMSTORE__TRACE_ITEM__ITEM_TEXT == (int)KVMP_ITEM_TEXT, "text");

void
kvmp_item_memory_free(struct kvmp_item_memory *m)
{
	free(m->words);
	free(m->annotations);
	*m = (struct kvmp_item_memory){ .words = NULL };
}

bool
kvmp_item_ready(void)
{
	return kvmp_schema_fault() == NULL;
}

static const struct kvmp_binding *
binding_of(enum kvmp_item_type type, unsigned code)
{
	if (type == KVMP_ITEM_STORE)
		return kvmp_store_binding();
	return type == KVMP_ITEM_OP ? kvmp_op_binding(code) : kvmp_request_binding(code);
}

/* ---- Writing: what goes into a message ------------------------------------------ */

/* The values of one side of a row, and which of them are written. */
struct values {
	const struct kvmp_side *side;
	const uint64_t *field;
	const uint64_t *list; /* payload of the lists that are there */
	uint64_t present;     /* bit i: field i is there */
	uint64_t written;     /* and stands in the message */
	uint64_t empty;       /* a list that is there, and so cannot stand in the message */
	size_t size;          /* bytes of the message */
};

static bool
is_list_form(enum kvmp_form form)
{
	return form == KVMP_FORM_FIXED64_LIST || form == KVMP_FORM_VARINT_LIST;
}

/* Can the message carry this scalar?  Bytes of the field, 0 if not. */
static size_t
scalar_size(const struct kvmp_side *side, unsigned i, uint64_t value)
{
	if (side->forms[i] == KVMP_FORM_FIXED64)
		return tag_size(side->numbers[i]) + 8;
	if (side->forms[i] != KVMP_FORM_VARINT || value > side->most[i] ||
	    (side->checked[i] && !kvmp_scalar_fits(side->fields[i].type, value)))
		return 0;
	return tag_size(side->numbers[i]) + varint_size(value);
}

/* One field that is there.  False: no message can say it. */
static bool
measure_field(struct values *v, unsigned i, const uint64_t **list, bool is_argument)
{
	const struct kvms_field *field = &v->side->fields[i];
	uint64_t value = v->field[i];
	size_t words, size;

	if (!kvms_type_is_list(field->type)) {
		if (is_argument && field->has_default && value == field->value)
			return true;
		size = scalar_size(v->side, i, value);
	} else if (value == 0 && v->side->forms[i] != KVMP_FORM_BYTES) {
		v->empty |= UINT64_C(1) << i;
		return true;
	} else {
		words = list_words(v->side, i, value);
		if (v->side->forms[i] == KVMP_FORM_BYTES && value <= KVMP_BYTES_MAX)
			size = piece_size(v->side->numbers[i], (size_t)value);
		else if (is_list_form(v->side->forms[i]) && value <= KVMP_LIST_MAX && words <= KVMP_LIST_MAX)
			size = piece_size(v->side->numbers[i], packed_size(v->side->forms[i], *list, words));
		else
			return false;
		*list += words;
	}
	v->written |= UINT64_C(1) << i;
	v->size += size;
	return size > 0;
}

static bool
measure(struct values *v, bool is_argument)
{
	const uint64_t *list = v->list;

	if (!v->side->plain)
		return false;
	for (unsigned i = 0; i < v->side->count; i++)
		if ((v->present >> i & 1) != 0 && !measure_field(v, i, &list, is_argument))
			return false;
	return true;
}

static uint8_t *
values_put(uint8_t *at, const struct values *v)
{
	const uint64_t *list = v->list;

	for (unsigned i = 0; i < v->side->count; i++) {
		enum kvmp_form form = v->side->forms[i];
		unsigned number = v->side->numbers[i];

		if ((v->written >> i & 1) == 0)
			continue;
		if (form == KVMP_FORM_BYTES)
			at = bytes_put(at, number, list, (size_t)v->field[i]);
		else if (is_list_form(form))
			at = packed_put(at, number, form, list, list_words(v->side, i, v->field[i]));
		else if (form == KVMP_FORM_FIXED64)
			at = fixed64_put(tag_put(at, number, TYPE_FIXED64), v->field[i]);
		else
			at = varint_put(tag_put(at, number, TYPE_VARINT), v->field[i]);
		if (kvms_type_is_list(v->side->fields[i].type))
			list += list_words(v->side, i, v->field[i]);
	}
	return at;
}

/* ---- Writing: the parts of an item ------------------------------------------------ */

/* What of an item needs measuring before it can be written. */
struct plan {
	const struct kvmp_item *item;
	const struct kvmp_binding *binding;
	struct values args, results;
	bool has_results; /* the result message is there */
	size_t member;    /* bytes of what the oneof holds */
	size_t empty;     /* bytes of the numbers in "empty" */
	size_t recorded;
	size_t size;
};

static size_t
span_size(unsigned number, struct kvmp_span span)
{
	return span.at != NULL ? piece_size(number, span.size) : 0;
}

static uint8_t *
span_put(uint8_t *at, unsigned number, struct kvmp_span span)
{
	if (span.at == NULL)
		return at;
	at = piece_put(at, number, span.size);
	if (span.size > 0)
		memcpy(at, span.at, span.size);
	return at + span.size;
}

static size_t
annotation_size(const struct kvmp_annotation *a)
{
	return span_size(ANNOTATION_NAME, a->name) + span_size(ANNOTATION_VALUE, a->value) + (a->is_result ? 2 : 0);
}

static bool
plan_recorded(struct plan *p)
{
	const struct kvmp_item *item = p->item;
	const struct kvmp_binding *b = p->binding;

	p->results = (struct values){ &b->results, item->field, item->list, item->present, 0, 0, 0 };
	if (!measure(&p->results, false))
		return false;
	p->has_results = item->present != 0;
	for (unsigned i = 0; i < b->results.count; i++)
		if ((p->results.empty >> i & 1) != 0)
			p->empty += varint_size(b->results.numbers[i]);
	p->recorded += item->has_class ? 2 : 0;
	p->recorded += span_size(RECORDED_NAME, item->name) + span_size(RECORDED_CAUSE, item->cause);
	p->recorded += item->has_detail ? 1 + varint_size(item->detail) : 0;
	if (p->has_results)
		p->recorded += piece_size(RECORDED_RESULT, piece_size(b->row->code, p->results.size));
	p->recorded += p->empty > 0 ? piece_size(RECORDED_EMPTY, p->empty) : 0;
	return true;
}

/* What the oneof holds: its size without tag and length, or of a number all of it. */
static bool
plan_member(struct plan *p)
{
	const struct kvmp_item *item = p->item;

	switch (item->type) {
	case KVMP_ITEM_BLANK:
		p->size = 2;
		return true;
	case KVMP_ITEM_HEADER:
		p->size = 1 + varint_size(item->number);
		return true;
	case KVMP_ITEM_GAP:
		p->member = item->has_number ? 1 + varint_size(item->number) : 0;
		break;
	case KVMP_ITEM_BASE:
		p->member = (item->has_number ? 9 : 0) + span_size(BASE_SNAPSHOT, item->text);
		break;
	case KVMP_ITEM_TEXT:
		p->member = item->text.size;
		break;
	case KVMP_ITEM_STORE:
	case KVMP_ITEM_OP:
	case KVMP_ITEM_EXPECT:
		p->binding = binding_of(item->type, item->op.code);
		if (p->binding == NULL)
			return false;
		p->args = (struct values){ &p->binding->args, item->op.arg, item->op.list, UINT64_MAX, 0, 0, 0 };
		if (!measure(&p->args, true))
			return false;
		p->member = p->args.size;
		if (item->type != KVMP_ITEM_STORE)
			p->member = piece_size(p->binding->row->code, p->args.size);
		break;
	}
	p->size = piece_size(item->type, p->member);
	return true;
}

static bool
plan_item(struct plan *p)
{
	const struct kvmp_item *item = p->item;

	if (!plan_member(p))
		return false;
	if (item->has_recorded) {
		if (!plan_recorded(p))
			return false;
		p->size += piece_size(ITEM_RECORDED, p->recorded);
	}
	p->size += item->is_short ? 2 : 0;
	for (size_t i = 0; i < item->annotations_count; i++)
		p->size += piece_size(ITEM_ANNOTATIONS, annotation_size(&item->annotations[i]));
	p->size += span_size(ITEM_COMMENT, item->comment);
	return p->size <= KVMP_ITEM_MAX;
}

static uint8_t *
recorded_put(uint8_t *at, const struct plan *p)
{
	const struct kvmp_item *item = p->item;
	unsigned number = item->type == KVMP_ITEM_OP ? RECORDED_RESULT : RECORDED_INSPECT_RESULT;

	at = piece_put(at, ITEM_RECORDED, p->recorded);
	if (item->has_class)
		at = varint_put(tag_put(at, RECORDED_CLASS, TYPE_VARINT), item->class);
	at = span_put(at, RECORDED_NAME, item->name);
	at = span_put(at, RECORDED_CAUSE, item->cause);
	if (item->has_detail)
		at = varint_put(tag_put(at, RECORDED_DETAIL, TYPE_VARINT), item->detail);
	if (p->has_results) {
		at = piece_put(at, number, piece_size(p->binding->row->code, p->results.size));
		at = values_put(piece_put(at, p->binding->row->code, p->results.size), &p->results);
	}
	if (p->empty > 0)
		at = piece_put(at, RECORDED_EMPTY, p->empty);
	for (unsigned i = 0; p->empty > 0 && i < p->binding->results.count; i++)
		if ((p->results.empty >> i & 1) != 0)
			at = varint_put(at, p->binding->results.numbers[i]);
	return at;
}

static uint8_t *
member_put(uint8_t *at, const struct plan *p)
{
	const struct kvmp_item *item = p->item;

	if (item->type == KVMP_ITEM_BLANK || item->type == KVMP_ITEM_HEADER)
		return varint_put(tag_put(at, item->type, TYPE_VARINT),
				  item->type == KVMP_ITEM_BLANK ? 1 : item->number);
	if (item->type == KVMP_ITEM_TEXT)
		return span_put(at, KVMP_ITEM_TEXT, item->text);
	at = piece_put(at, item->type, p->member);
	if (item->type == KVMP_ITEM_GAP)
		return item->has_number ? varint_put(tag_put(at, GAP_OPS, TYPE_VARINT), item->number) : at;
	if (item->type == KVMP_ITEM_BASE) {
		if (item->has_number)
			at = fixed64_put(tag_put(at, BASE_DIGEST, TYPE_FIXED64), item->number);
		return span_put(at, BASE_SNAPSHOT, item->text);
	}
	if (item->type != KVMP_ITEM_STORE)
		at = piece_put(at, p->binding->row->code, p->args.size);
	return values_put(at, &p->args);
}

enum kvmp_item_status
kvmp_item_put(const struct kvmp_item *item, struct kvmp_buffer *to)
{
	struct plan p = { .item = item };
	uint8_t *at;

	if (!plan_item(&p))
		return KVMP_ITEM_REFUSED;
	at = kvmp_buffer_reserve(to, p.size);
	if (at == NULL)
		return KVMP_ITEM_NOMEM;
	at = member_put(at, &p);
	if (item->has_recorded)
		at = recorded_put(at, &p);
	if (item->is_short)
		at = varint_put(tag_put(at, ITEM_SHORT, TYPE_VARINT), 1);
	for (size_t i = 0; i < item->annotations_count; i++) {
		const struct kvmp_annotation *a = &item->annotations[i];

		at = piece_put(at, ITEM_ANNOTATIONS, annotation_size(a));
		at = span_put(span_put(at, ANNOTATION_NAME, a->name), ANNOTATION_VALUE, a->value);
		if (a->is_result)
			at = varint_put(tag_put(at, ANNOTATION_RESULT, TYPE_VARINT), 1);
	}
	span_put(at, ITEM_COMMENT, item->comment);
	kvmp_buffer_added(to, p.size);
	return KVMP_ITEM_DONE;
}

/* ---- Reading: the fields of a row ----------------------------------------------------- */

/* An item being read.  "nomem" tells why it failed. */
struct getting {
	struct kvmp_item_memory *memory;
	struct kvmp_item *item;
	bool nomem;
};

/* Room for "more" words; NULL: no memory.  It moves what was there. */
static uint64_t *
words_add(struct getting *g, size_t more)
{
	struct kvmp_item_memory *m = g->memory;

	if (m->words_capacity - m->words_count < more) {
		size_t capacity = 2 * m->words_capacity + more + 64;
		uint64_t *words = realloc(m->words, capacity * sizeof *words);

		if (words == NULL) {
			g->nomem = true;
			return NULL;
		}
		m->words = words;
		m->words_capacity = capacity;
	}
	m->words_count += more;
	return m->words + m->words_count - more;
}

static bool
list_get(struct getting *g, const struct kvmp_side *side, unsigned i, struct rest *in, uint64_t *count)
{
	bool is_fixed = side->forms[i] == KVMP_FORM_FIXED64_LIST;
	unsigned arity = kvms_type_arity(side->fields[i].type);
	struct rest piece;
	size_t words = 0;
	uint64_t *to;

	if (!piece_get(in, &piece) || piece.at == piece.end)
		return false;
	if (is_fixed && (piece.end - piece.at) % 8 != 0)
		return false;
	if (is_fixed)
		words = (size_t)(piece.end - piece.at) / 8;
	else
		for (const uint8_t *at = piece.at; at < piece.end; at++)
			words += *at <= 0x7f;
	if (words == 0 || words > KVMP_LIST_MAX || words % arity != 0 ||
	    (side->fields[i].type == KVMS_RANGE && words != arity))
		return false;
	to = words_add(g, words);
	for (size_t k = 0; to != NULL && k < words; k++)
		if (!(is_fixed ? fixed64_get(&piece, &to[k]) : varint_get(&piece, &to[k])))
			return false;
	*count = words / arity;
	return to != NULL && piece.at == piece.end;
}

static bool
bytes_get(struct getting *g, struct rest *in, uint64_t *count)
{
	struct rest piece;
	size_t words;
	uint64_t *to;

	if (!piece_get(in, &piece) || piece.end - piece.at > KVMP_BYTES_MAX)
		return false;
	*count = (uint64_t)(piece.end - piece.at);
	words = (size_t)(*count + 7) / 8;
	if (words == 0)
		return true;
	to = words_add(g, words);
	if (to == NULL)
		return false;
	to[words - 1] = 0;
	memcpy(to, piece.at, (size_t)*count);
	return true;
}

/* One field behind its tag. */
static bool
field_get(struct getting *g, const struct kvmp_side *side, unsigned i, unsigned type, struct rest *in, uint64_t *value)
{
	switch (side->forms[i]) {
	case KVMP_FORM_FIXED64:
		return type == TYPE_FIXED64 && fixed64_get(in, value);
	case KVMP_FORM_VARINT:
		return type == TYPE_VARINT && varint_get(in, value) && *value <= side->most[i] &&
		       (!side->checked[i] || kvmp_scalar_fits(side->fields[i].type, *value));
	case KVMP_FORM_FIXED64_LIST:
	case KVMP_FORM_VARINT_LIST:
		return type == TYPE_LENGTH && list_get(g, side, i, in, value);
	case KVMP_FORM_BYTES:
		return type == TYPE_LENGTH && bytes_get(g, in, value);
	case KVMP_FORM_OTHER:
		return false;
	}
	return false;
}

/* All fields, ascending; "present" gets which were there. */
static bool
side_get(struct getting *g, const struct kvmp_side *side, struct rest *in, uint64_t *field, uint64_t *present)
{
	unsigned i = 0;

	if (!side->plain)
		return false;
	while (in->at < in->end) {
		uint64_t tag;

		if (!varint_get(in, &tag))
			return false;
		while (i < side->count && side->numbers[i] < tag >> 3)
			i++;
		if (i == side->count || side->numbers[i] != tag >> 3 ||
		    !field_get(g, side, i, (unsigned)(tag & 7), in, &field[i]))
			return false;
		*present |= UINT64_C(1) << i;
		i++;
	}
	return true;
}

/* ---- Reading: the parts of an item -------------------------------------------------- */

static bool
take_span(struct rest *in, unsigned number, struct kvmp_span *span)
{
	struct rest piece;

	if (!tag_take(in, number, TYPE_LENGTH))
		return true;
	if (!piece_get(in, &piece))
		return false;
	*span = (struct kvmp_span){ (const char *)piece.at, (size_t)(piece.end - piece.at) };
	return true;
}

/* A truth that is written only if it is one. */
static bool
take_true(struct rest *in, unsigned number, bool *value)
{
	uint64_t one;

	*value = tag_take(in, number, TYPE_VARINT);
	return !*value || (varint_get(in, &one) && one == 1);
}

/* A oneof's only member: its code, and what is in it. */
static bool
only_get(struct rest *in, unsigned *code, struct rest *piece)
{
	uint64_t tag;

	if (!varint_get(in, &tag) || (tag & 7) != TYPE_LENGTH || tag >> 3 > UINT16_MAX || !last_get(in, piece))
		return false;
	*code = (unsigned)(tag >> 3);
	return true;
}

static bool
call_get(struct getting *g, struct rest *in)
{
	struct kvmp_item *item = g->item;
	const struct kvmp_binding *b;
	struct rest args = *in;
	uint64_t present = 0;
	unsigned code = 0;

	if (item->type != KVMP_ITEM_STORE && !only_get(in, &code, &args))
		return false;
	b = binding_of(item->type, code);
	if (b == NULL)
		return false;
	item->row = b->row;
	item->op.code = code;
	for (unsigned i = 0; i < b->args.count; i++)
		item->op.arg[i] = b->args.fields[i].value;
	return side_get(g, &b->args, &args, item->op.arg, &present) && (b->args.required & ~present) == 0;
}

static bool
gap_get(struct kvmp_item *item, struct rest *in)
{
	item->has_number = tag_take(in, GAP_OPS, TYPE_VARINT);
	return (!item->has_number || varint_get(in, &item->number)) && in->at == in->end;
}

static bool
base_get(struct kvmp_item *item, struct rest *in)
{
	item->has_number = tag_take(in, BASE_DIGEST, TYPE_FIXED64);
	return item->has_number && fixed64_get(in, &item->number) && take_span(in, BASE_SNAPSHOT, &item->text) &&
	       in->at == in->end;
}

static bool
member_get(struct getting *g, struct rest *in)
{
	struct kvmp_item *item = g->item;
	struct rest piece;
	uint64_t tag;

	if (!varint_get(in, &tag) || tag >> 3 < KVMP_ITEM_BLANK || tag >> 3 > KVMP_ITEM_TEXT)
		return false;
	item->type = (enum kvmp_item_type)(tag >> 3);
	if (item->type == KVMP_ITEM_BLANK || item->type == KVMP_ITEM_HEADER)
		return (tag & 7) == TYPE_VARINT && varint_get(in, &item->number) && item->number <= UINT32_MAX &&
		       (item->type != KVMP_ITEM_BLANK || item->number == 1);
	if ((tag & 7) != TYPE_LENGTH || !piece_get(in, &piece))
		return false;
	if (item->type == KVMP_ITEM_GAP)
		return gap_get(item, &piece);
	if (item->type == KVMP_ITEM_BASE)
		return base_get(item, &piece);
	if (item->type != KVMP_ITEM_TEXT)
		return call_get(g, &piece);
	item->text = (struct kvmp_span){ (const char *)piece.at, (size_t)(piece.end - piece.at) };
	return true;
}

/* Numbers of list fields that are there without elements. */
static bool
empty_get(struct kvmp_item *item, const struct kvmp_side *side, struct rest *in)
{
	struct rest piece;
	unsigned i = 0;

	if (!tag_take(in, RECORDED_EMPTY, TYPE_LENGTH))
		return true;
	if (!piece_get(in, &piece) || piece.at == piece.end)
		return false;
	while (piece.at < piece.end) {
		uint64_t number;

		if (!varint_get(&piece, &number))
			return false;
		while (i < side->count && side->numbers[i] < number)
			i++;
		if (i == side->count || side->numbers[i] != number || !kvms_type_is_list(side->fields[i].type) ||
		    side->forms[i] == KVMP_FORM_BYTES || (item->present >> i & 1) != 0)
			return false;
		item->present |= UINT64_C(1) << i;
		item->field[i] = 0;
		i++;
	}
	return true;
}

static bool
recorded_get(struct getting *g, struct rest *in)
{
	struct kvmp_item *item = g->item;
	unsigned number = item->type == KVMP_ITEM_OP ? RECORDED_RESULT : RECORDED_INSPECT_RESULT;
	const struct kvmp_binding *b;
	struct rest recorded, result, fields;
	uint64_t class;
	unsigned code;

	item->has_recorded = tag_take(in, ITEM_RECORDED, TYPE_LENGTH);
	if (!item->has_recorded)
		return true;
	if ((item->type != KVMP_ITEM_OP && item->type != KVMP_ITEM_EXPECT) || !piece_get(in, &recorded))
		return false;
	b = binding_of(item->type, item->op.code);
	item->has_class = tag_take(&recorded, RECORDED_CLASS, TYPE_VARINT);
	if (item->has_class) {
		if (!varint_get(&recorded, &class) || class >= KVMS_CLASSES)
			return false;
		item->class = (enum kvms_class) class;
	}
	if (!take_span(&recorded, RECORDED_NAME, &item->name) || !take_span(&recorded, RECORDED_CAUSE, &item->cause))
		return false;
	item->has_detail = tag_take(&recorded, RECORDED_DETAIL, TYPE_VARINT);
	if (item->has_detail && !varint_get(&recorded, &item->detail))
		return false;
	if (tag_take(&recorded, number, TYPE_LENGTH) &&
	    (!piece_get(&recorded, &result) || !only_get(&result, &code, &fields) || code != item->op.code ||
	     !side_get(g, &b->results, &fields, item->field, &item->present)))
		return false;
	return empty_get(item, &b->results, &recorded) && recorded.at == recorded.end;
}

static bool
annotation_get(struct getting *g, struct rest *in)
{
	struct kvmp_item_memory *m = g->memory;
	struct kvmp_annotation a = { .is_result = false };
	struct rest piece;

	if (!piece_get(in, &piece) || !take_span(&piece, ANNOTATION_NAME, &a.name) ||
	    !take_span(&piece, ANNOTATION_VALUE, &a.value) || !take_true(&piece, ANNOTATION_RESULT, &a.is_result) ||
	    piece.at != piece.end || a.name.at == NULL || a.value.at == NULL)
		return false;
	if (m->annotations_count == m->annotations_capacity) {
		size_t capacity = 2 * m->annotations_capacity + 8;
		struct kvmp_annotation *at = realloc(m->annotations, capacity * sizeof *at);

		if (at == NULL) {
			g->nomem = true;
			return false;
		}
		m->annotations = at;
		m->annotations_capacity = capacity;
	}
	m->annotations[m->annotations_count++] = a;
	return true;
}

static bool
item_get(struct getting *g, struct rest *in)
{
	struct kvmp_item *item = g->item;
	size_t arguments;

	if (!member_get(g, in))
		return false;
	arguments = g->memory->words_count;
	if (!recorded_get(g, in) || !take_true(in, ITEM_SHORT, &item->is_short))
		return false;
	while (tag_take(in, ITEM_ANNOTATIONS, TYPE_LENGTH))
		if (!annotation_get(g, in))
			return false;
	if (!take_span(in, ITEM_COMMENT, &item->comment) || in->at != in->end)
		return false;
	/* the lists no longer move */
	item->op.list = g->memory->words;
	item->list = g->memory->words != NULL ? g->memory->words + arguments : NULL;
	item->annotations = g->memory->annotations;
	item->annotations_count = g->memory->annotations_count;
	return true;
}

enum kvmp_item_status
kvmp_item_get(const uint8_t *data, size_t size, struct kvmp_item_memory *memory, struct kvmp_item *item)
{
	struct getting g = { memory, item, false };
	struct rest in = { data, data + size };

	memory->words_count = memory->annotations_count = 0;
	item->row = NULL;
	item->is_short = item->has_recorded = item->has_class = item->has_detail = item->has_number = false;
	item->present = item->number = 0;
	item->name = item->cause = item->text = item->comment = (struct kvmp_span){ NULL, 0 };
	item->op.list = item->list = NULL;
	item->annotations_count = 0;
	if (item_get(&g, &in))
		return KVMP_ITEM_DONE;
	return g.nomem ? KVMP_ITEM_NOMEM : KVMP_ITEM_REFUSED;
}

/* ---- The index ------------------------------------------------------------------------- */

static uint64_t *
column(struct kvmp_index_row *row, unsigned number)
{
	return number == INDEX_SIZE ? &row->size : number == INDEX_ITEMS ? &row->items : &row->ops;
}

bool
kvmp_index_put(const struct kvmp_index_row *rows, size_t count, struct kvmp_buffer *to)
{
	for (unsigned number = INDEX_SIZE; number <= INDEX_OPS && count > 0; number++) {
		size_t size = 0;
		uint8_t *at;

		for (size_t i = 0; i < count; i++) {
			struct kvmp_index_row row = rows[i];

			size += varint_size(*column(&row, number));
		}
		at = kvmp_buffer_reserve(to, piece_size(number, size));
		if (at == NULL)
			return false;
		kvmp_buffer_added(to, piece_size(number, size));
		at = piece_put(at, number, size);
		for (size_t i = 0; i < count; i++) {
			struct kvmp_index_row row = rows[i];

			at = varint_put(at, *column(&row, number));
		}
	}
	return true;
}

static bool
column_get(struct rest *in, unsigned number, struct kvmp_index_row *rows, size_t count)
{
	struct rest piece;

	if (!tag_take(in, number, TYPE_LENGTH) || !piece_get(in, &piece))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!varint_get(&piece, column(&rows[i], number)))
			return false;
	return piece.at == piece.end;
}

enum kvmp_item_status
kvmp_index_get(const uint8_t *data, size_t size, uint64_t most, struct kvmp_index_row **rows, size_t *count)
{
	struct rest in = { data, data + size }, first = in, piece;

	*rows = NULL;
	*count = 0;
	if (size == 0)
		return KVMP_ITEM_DONE;
	if (!tag_take(&first, INDEX_SIZE, TYPE_LENGTH) || !piece_get(&first, &piece))
		return KVMP_ITEM_REFUSED;
	for (const uint8_t *at = piece.at; at < piece.end; at++)
		*count += *at <= 0x7f;
	if (*count > most) {
		*count = 0;
		return KVMP_ITEM_REFUSED;
	}
	*rows = calloc(*count + 1, sizeof **rows);
	if (*rows == NULL)
		return KVMP_ITEM_NOMEM;
	if (column_get(&in, INDEX_SIZE, *rows, *count) && column_get(&in, INDEX_ITEMS, *rows, *count) &&
	    column_get(&in, INDEX_OPS, *rows, *count) && in.at == in.end)
		return KVMP_ITEM_DONE;
	free(*rows);
	*rows = NULL;
	*count = 0;
	return KVMP_ITEM_REFUSED;
}
