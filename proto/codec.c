#include "proto/codec.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/kvmstore.pb-c.h"
#include "proto/message.h"

/* ---- Rows and messages: what the compiler checks --------------------------- */

/*
 * A row whose messages, or a field of theirs, are missing from the schema does
 * not compile: each function below names them all.  Numbers, types and the
 * other direction are looked at by kvmp_schema_fault().
 */
/* clang-format off */
#define new new_ /* protobuf-c marks members that C++ reserves */
#define ARG(type, name) (void)m->name;
#define ARG_DEFAULT(type, name, value) (void)m->name;
#define ARG_ID(kind, name) (void)m->name;
#define ARG_IDS(kind, name) (void)m->name;
#define RESULT(type, name) (void)m->name;
#define RESULT_IDS(kind, name) (void)m->name;
#define NEW(kind, name) (void)m->name;
#define FIELDS_OF(prefix, container, row, fields)                                                                      \
	static inline __attribute__((unused)) void prefix##row(__typeof__(((container *)0)->row) m) { (void)m; fields }
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	FIELDS_OF(op_has_, Kvmstore__Op, name, args)                                                                   \
	FIELDS_OF(op_gives_, Kvmstore__OpResult, name, results)
#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	FIELDS_OF(request_has_, Kvmstore__Inspect, name, args)                                                         \
	FIELDS_OF(request_gives_, Kvmstore__InspectResult, name, results)
#include "store/ops.def"
#include "store/requests.def"
#undef KVMS_OP
#undef KVMS_REQUEST
static inline __attribute__((unused)) void
store_has_(const Kvmstore__StoreConfig *m)
{
#include "store/config.def"
}
#undef ARG
#undef ARG_DEFAULT
#undef ARG_ID
#undef ARG_IDS
#undef RESULT
#undef RESULT_IDS
#undef NEW
#undef new
/* clang-format on */

/* As long as the largest code is large. */
union op_codes {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary) char name[code + 1];
#include "store/ops.def"
#undef KVMS_OP
};
union request_codes {
#define KVMS_REQUEST(code, name, args, results, outs, summary) char name[code + 1];
#include "store/requests.def"
#undef KVMS_REQUEST
};

_Static_assert(KVMS_ARGS_MAX <= KVMS_FIELDS_MAX, "one side holds either");

/* ---- Rows and messages: what is checked once ---------------------------------- */

static struct kvmp_binding op_bindings[sizeof(union op_codes)];
static struct kvmp_binding request_bindings[sizeof(union request_codes)];
static struct kvmp_binding store_binding;

static char schema_fault[256];
static bool schema_bound;

static bool fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool
fault(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(schema_fault, sizeof schema_fault, format, arguments);
	va_end(arguments);
	return false;
}

/* Types whose values are words. */
static bool
has_words(enum kvms_type type)
{
	uint64_t value;

	return type != KVMS_BOOL && kvms_word_at(type, 0, &value) != NULL;
}

/* True if a field of "type" may be "wire" in the schema. */
static bool
wire_type_fits(enum kvms_type type, ProtobufCType wire)
{
	if (type == KVMS_BOOL)
		return wire == PROTOBUF_C_TYPE_BOOL;
	if (type == KVMS_FLAGS || type == KVMS_PROP)
		return wire == PROTOBUF_C_TYPE_UINT32;
	if (type == KVMS_BYTES)
		return wire == PROTOBUF_C_TYPE_BYTES;
	if (type == KVMS_LAWS)
		return wire == PROTOBUF_C_TYPE_STRING;
	if (has_words(type))
		return wire == PROTOBUF_C_TYPE_ENUM;
	return wire == PROTOBUF_C_TYPE_FIXED64 || wire == PROTOBUF_C_TYPE_UINT64;
}

/* True if "symbol" is PREFIX_WORD for "word". */
static bool
symbol_fits(const char *symbol, const char *word)
{
	size_t prefix = strlen(symbol), length = strlen(word);

	if (prefix <= length || symbol[prefix - length - 1] != '_')
		return false;
	for (size_t i = 0; i < length; i++)
		if (symbol[prefix - length + i] != toupper((unsigned char)word[i]))
			return false;
	return true;
}

/* The enum has exactly the words of "type", with their numbers. */
static bool
enum_fits(enum kvms_type type, const ProtobufCEnumDescriptor *e)
{
	unsigned count = 0;
	uint64_t value;
	const char *word;

	while ((word = kvms_word_at(type, count, &value)) != NULL) {
		const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(e, (int)value);

		if (v == NULL || !symbol_fits(v->name, word))
			return fault("%s has no %s = %d", e->name, word, (int)value);
		count++;
	}
	return count == e->n_values || fault("%s has values without a word", e->name);
}

/* The default written in the schema; 0 where none is. */
static uint64_t
written_default(const ProtobufCFieldDescriptor *f)
{
	if (f->default_value == NULL)
		return f->type == PROTOBUF_C_TYPE_ENUM
			   ? (uint64_t)((const ProtobufCEnumDescriptor *)f->descriptor)->values[0].value
			   : 0;
	switch ((int)f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return *(const protobuf_c_boolean *)f->default_value != 0;
	case PROTOBUF_C_TYPE_ENUM:
		return (uint64_t)((const int *)f->default_value)[0];
	case PROTOBUF_C_TYPE_UINT32:
		return *(const uint32_t *)f->default_value;
	default:
		return *(const uint64_t *)f->default_value;
	}
}

static bool
field_fits(const struct kvms_field *field, const ProtobufCFieldDescriptor *f, const char *message)
{
	bool repeated = kvms_type_is_list(field->type) && field->type != KVMS_BYTES;

	if (f == NULL)
		return fault("%s has no field %s", message, field->name);
	if (!wire_type_fits(field->type, f->type))
		return fault("%s.%s is of another type", message, field->name);
	if (f->label != (repeated ? PROTOBUF_C_LABEL_REPEATED : PROTOBUF_C_LABEL_OPTIONAL))
		return fault("%s.%s must be %s", message, field->name, repeated ? "repeated" : "optional");
	if (repeated && field->type != KVMS_LAWS && (f->flags & PROTOBUF_C_FIELD_FLAG_PACKED) == 0)
		return fault("%s.%s must be packed", message, field->name);
	if (f->type == PROTOBUF_C_TYPE_ENUM && !enum_fits(field->type, f->descriptor))
		return false;
	if (field->has_default && !repeated && written_default(f) != field->value)
		return fault("%s.%s has another default", message, field->name);
	return true;
}

static enum kvmp_form
form_of(const ProtobufCFieldDescriptor *f)
{
	bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

	switch ((int)f->type) {
	case PROTOBUF_C_TYPE_FIXED64:
		return repeated ? KVMP_FORM_FIXED64_LIST : KVMP_FORM_FIXED64;
	case PROTOBUF_C_TYPE_UINT64:
		return repeated ? KVMP_FORM_VARINT_LIST : KVMP_FORM_VARINT;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_ENUM:
	case PROTOBUF_C_TYPE_BOOL:
		return repeated ? KVMP_FORM_OTHER : KVMP_FORM_VARINT;
	case PROTOBUF_C_TYPE_BYTES:
		return KVMP_FORM_BYTES;
	default:
		return KVMP_FORM_OTHER;
	}
}

/* Largest number a field of that type can carry. */
static uint64_t
most_of(const ProtobufCFieldDescriptor *f)
{
	switch ((int)f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return 1;
	case PROTOBUF_C_TYPE_ENUM:
		return INT32_MAX;
	case PROTOBUF_C_TYPE_UINT32:
		return UINT32_MAX;
	default:
		return UINT64_MAX;
	}
}

/* What proto/wire.c wants to know of field "i". */
static void
bind_wire(struct kvmp_side *side, unsigned i)
{
	const ProtobufCFieldDescriptor *f = side->place[i];
	enum kvms_type type = side->fields[i].type;
	bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

	side->numbers[i] = f->id;
	side->forms[i] = form_of(f);
	side->most[i] = most_of(f);
	side->checked[i] = has_words(type) || type == KVMS_FLAGS || type == KVMS_PROP;
	if (repeated)
		side->lists |= UINT64_C(1) << i;
	else if (!side->fields[i].has_default)
		side->required |= UINT64_C(1) << i;
	side->plain = side->plain && (i == 0 || side->numbers[i - 1] < f->id);
	side->scalar = side->scalar && f->id < 16 &&
		       (side->forms[i] == KVMP_FORM_FIXED64 || side->forms[i] == KVMP_FORM_VARINT);
}

static bool
bind_side(struct kvmp_side *side, const struct kvms_field *fields, unsigned count,
	  const ProtobufCMessageDescriptor *message)
{
	side->fields = fields;
	side->count = count;
	side->message = message;
	side->plain = side->scalar = true;
	if (message->n_fields != count)
		return fault("%s has %u fields, its row %u", message->name, message->n_fields, count);
	for (unsigned i = 0; i < count; i++) {
		side->place[i] = protobuf_c_message_descriptor_get_field_by_name(message, fields[i].name);
		if (!field_fits(&fields[i], side->place[i], message->name))
			return false;
		bind_wire(side, i);
	}
	return true;
}

/* The message of the row in the oneof of "container", found by code and compared by name. */
static const ProtobufCMessageDescriptor *
member(const ProtobufCMessageDescriptor *container, const struct kvms_row *row)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(container, row->code);

	if (f == NULL || strcmp(f->name, row->name) != 0 || f->type != PROTOBUF_C_TYPE_MESSAGE ||
	    (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
		fault("%s has no %s = %u", container->name, row->name, row->code);
		return NULL;
	}
	return f->descriptor;
}

static bool
bind_rows(struct kvmp_binding *bindings, unsigned max, const struct kvms_row *(*row_at)(unsigned),
	  const ProtobufCMessageDescriptor *args, const ProtobufCMessageDescriptor *results)
{
	unsigned rows = 0;

	for (unsigned code = 0; code <= max; code++) {
		const struct kvms_row *row = row_at(code);
		const ProtobufCMessageDescriptor *arg_message, *result_message;

		if (row == NULL)
			continue;
		if ((arg_message = member(args, row)) == NULL || (result_message = member(results, row)) == NULL ||
		    !bind_side(&bindings[code].args, row->args, row->args_count, arg_message) ||
		    !bind_side(&bindings[code].results, row->results, row->results_count, result_message))
			return false;
		bindings[code].row = row;
		rows++;
	}
	if (args->n_fields != rows || results->n_fields != rows)
		return fault("%s has %u members, %s %u, the table %u rows", args->name, args->n_fields, results->name,
			     results->n_fields, rows);
	return true;
}

const char *
kvmp_schema_fault(void)
{
	if (!schema_bound) {
		const struct kvms_row *store = kvms_store_row();

		schema_bound = true;
		assert(kvms_op_max() < sizeof(union op_codes) && kvms_request_max() < sizeof(union request_codes));
		store_binding.row = store;
		if (bind_rows(op_bindings, kvms_op_max(), kvms_op_row, &kvmstore__op__descriptor,
			      &kvmstore__op_result__descriptor) &&
		    bind_rows(request_bindings, kvms_request_max(), kvms_request_row, &kvmstore__inspect__descriptor,
			      &kvmstore__inspect_result__descriptor))
			bind_side(&store_binding.args, store->args, store->args_count,
				  &kvmstore__store_config__descriptor);
	}
	return schema_fault[0] == '\0' ? NULL : schema_fault;
}

const struct kvmp_binding *
kvmp_op_binding(unsigned code)
{
	return code < sizeof(union op_codes) && op_bindings[code].row != NULL ? &op_bindings[code] : NULL;
}

const struct kvmp_binding *
kvmp_request_binding(unsigned code)
{
	return code < sizeof(union request_codes) && request_bindings[code].row != NULL ? &request_bindings[code]
											: NULL;
}

const struct kvmp_binding *
kvmp_store_binding(void)
{
	return &store_binding;
}

/* ---- Places in a message ------------------------------------------------------- */

static const void *
at(const ProtobufCMessage *m, unsigned offset)
{
	return (const uint8_t *)m + offset;
}

static void *
at_mut(ProtobufCMessage *m, unsigned offset)
{
	return (uint8_t *)m + offset;
}

/* A scalar is there.  Repeated fields have no presence. */
static bool
is_present(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	return *(const protobuf_c_boolean *)at(m, f->quantifier_offset) != 0;
}

static uint64_t
scalar_get(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	switch ((int)f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return *(const protobuf_c_boolean *)at(m, f->offset) != 0;
	case PROTOBUF_C_TYPE_ENUM:
		return (uint64_t)((const int *)at(m, f->offset))[0]; /* negative: no word has it */
	case PROTOBUF_C_TYPE_UINT32:
		return *(const uint32_t *)at(m, f->offset);
	default:
		return *(const uint64_t *)at(m, f->offset);
	}
}

static void
scalar_set(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, uint64_t value)
{
	*(protobuf_c_boolean *)at_mut(m, f->quantifier_offset) = 1;
	switch ((int)f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)at_mut(m, f->offset) = value != 0;
		break;
	case PROTOBUF_C_TYPE_ENUM:
		*(int *)at_mut(m, f->offset) = (int)value;
		break;
	case PROTOBUF_C_TYPE_UINT32:
		*(uint32_t *)at_mut(m, f->offset) = (uint32_t)value;
		break;
	default:
		*(uint64_t *)at_mut(m, f->offset) = value;
	}
}

/* Words that "count" elements of a list take in the payload. */
static size_t
words_of(enum kvms_type type, uint64_t count)
{
	return type == KVMS_BYTES ? (size_t)(count + 7) / 8 : (size_t)count * kvms_type_arity(type);
}

/* ---- Decoding --------------------------------------------------------------------- */

bool
kvmp_scalar_fits(enum kvms_type type, uint64_t value)
{
	if (type == KVMS_FLAGS)
		return (value & ~UINT64_C(0x1f)) == 0;
	if (type == KVMS_PROP)
		return kvms_prop_valid(value);
	return !has_words(type) || kvms_word(type, value) != NULL;
}

/* Where decoding stands: one message, its payload, and where to complain. */
struct decoding {
	const struct kvmp_side *side;
	const ProtobufCMessage *message;
	const char *row;  /* for complaints */
	const char *what; /* "argument" or "result" */
	char *why;
	size_t size;
};

static bool refuse(const struct decoding *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
refuse(const struct decoding *d, const char *format, ...)
{
	int length = snprintf(d->why, d->size, "%s: ", d->row);
	va_list arguments;

	if (length < 0 || (size_t)length >= d->size)
		return false;
	va_start(arguments, format);
	vsnprintf(d->why + length, d->size - (size_t)length, format, arguments);
	va_end(arguments);
	return false;
}

static bool
scalar_decode(const struct decoding *d, unsigned i, uint64_t *value)
{
	const struct kvms_field *field = &d->side->fields[i];

	*value = scalar_get(d->message, d->side->place[i]);
	return kvmp_scalar_fits(field->type, *value) ||
	       refuse(d, "%s %s: 0x%llx is not a value it can have", d->what, field->name, (unsigned long long)*value);
}

/* Elements of list "i" (bytes for BYTES) and the words they take. */
static bool
list_measure(const struct decoding *d, unsigned i, uint64_t *count, size_t *words)
{
	const struct kvms_field *field = &d->side->fields[i];
	const ProtobufCFieldDescriptor *f = d->side->place[i];
	unsigned arity = kvms_type_arity(field->type);
	size_t n;

	if (field->type == KVMS_BYTES) {
		n = is_present(d->message, f) ? ((const ProtobufCBinaryData *)at(d->message, f->offset))->len : 0;
		*count = n;
		*words = words_of(KVMS_BYTES, n);
		return n <= KVMP_BYTES_MAX ||
		       refuse(d, "%s %s has %zu bytes, at most %u are taken", d->what, field->name, n, KVMP_BYTES_MAX);
	}
	n = *(const size_t *)at(d->message, f->quantifier_offset);
	*words = n;
	*count = n / arity;
	if (n % arity != 0)
		return refuse(d, "%s %s has %zu numbers, not a multiple of %u", d->what, field->name, n, arity);
	return field->type != KVMS_RANGE || n <= arity ||
	       refuse(d, "%s %s is more than one range", d->what, field->name);
}

/* Copy list "i" to "to". */
static bool
list_copy(const struct decoding *d, unsigned i, uint64_t *to, size_t words)
{
	const ProtobufCFieldDescriptor *f = d->side->place[i];

	if (words == 0)
		return true;
	if (d->side->fields[i].type == KVMS_BYTES) {
		const ProtobufCBinaryData *bytes = at(d->message, f->offset);

		to[words - 1] = 0;
		memcpy(to, bytes->data, bytes->len);
		return true;
	}
	if (d->side->fields[i].type != KVMS_LAWS) {
		memcpy(to, *(uint64_t *const *)at(d->message, f->offset), words * sizeof *to);
		return true;
	}

	char *const *names = *(char *const *const *)at(d->message, f->offset);

	for (size_t k = 0; k < words; k++) {
		unsigned law = 0;

		while (law < kvms_law_max() && strcmp(kvms_law_name(law), names[k]) != 0)
			law++;
		if (law == kvms_law_max())
			return refuse(d, "%s %s names a law that is not known here", d->what, d->side->fields[i].name);
		to[k] = law;
	}
	return true;
}

/*
 * Lay the lists one behind the other.  A single list of numbers is used where
 * the message has it.  "count[i]" are their elements; "total" the words.
 */
static bool
lists_decode(const struct decoding *d, struct kvmp_arena *arena, uint64_t *count, const uint64_t **payload,
	     size_t *total)
{
	size_t words[KVMS_FIELDS_MAX] = { 0 }, sum = 0;
	unsigned only = d->side->count;

	for (unsigned i = 0; i < d->side->count; i++) {
		if (!kvms_type_is_list(d->side->fields[i].type))
			continue;
		if (!list_measure(d, i, &count[i], &words[i]))
			return false;
		if (words[i] > 0)
			only = sum == 0 ? i : d->side->count;
		sum += words[i];
	}
	*total = sum;
	*payload = NULL;
	if (sum == 0)
		return true;
	if (only < d->side->count && d->side->fields[only].type != KVMS_BYTES &&
	    d->side->fields[only].type != KVMS_LAWS) {
		*payload = *(uint64_t *const *)at(d->message, d->side->place[only]->offset);
		return true;
	}

	uint64_t *to = kvmp_arena_alloc(arena, sum * sizeof *to);

	if (to == NULL)
		return refuse(d, "its lists are too long");
	*payload = to;
	for (unsigned i = 0; i < d->side->count; i++) {
		if (!list_copy(d, i, to, words[i]))
			return false;
		to += words[i];
	}
	return true;
}

bool
kvmp_args_decode(const struct kvmp_binding *b, const ProtobufCMessage *message, struct kvmp_arena *arena,
		 struct kvms_op *op, char *why, size_t size)
{
	const struct decoding d = { &b->args, message, b->row->name, "argument", why, size };
	size_t words;

	op->code = b->row->code;
	if (message->n_unknown_fields > 0)
		return refuse(&d, "it has no field number %u", message->unknown_fields[0].tag);
	for (unsigned i = 0; i < b->args.count; i++) {
		const struct kvms_field *field = &b->args.fields[i];
		const ProtobufCFieldDescriptor *f = b->args.place[i];
		bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

		op->arg[i] = field->value;
		if (!repeated && !is_present(message, f)) {
			if (!field->has_default)
				return refuse(&d, "argument %s is missing", field->name);
		} else if (!kvms_type_is_list(field->type) && !scalar_decode(&d, i, &op->arg[i])) {
			return false;
		}
	}
	if (!lists_decode(&d, arena, op->arg, &op->list, &words))
		return false;
	return words <= KVMP_LIST_MAX ||
	       refuse(&d, "its lists have %zu numbers, at most %u are taken", words, KVMP_LIST_MAX);
}

bool
kvmp_results_decode(const struct kvmp_binding *b, const ProtobufCMessage *message, struct kvmp_arena *arena,
		    struct kvms_outcome *out, char *why, size_t size)
{
	const struct decoding d = { &b->results, message, b->row->name, "result", why, size };
	const uint64_t *payload;

	memset(out, 0, sizeof *out);
	if (message->n_unknown_fields > 0)
		return refuse(&d, "it has no field number %u", message->unknown_fields[0].tag);
	for (unsigned i = 0; i < b->results.count; i++) {
		const ProtobufCFieldDescriptor *f = b->results.place[i];

		if (f->label != PROTOBUF_C_LABEL_REPEATED && !is_present(message, f))
			continue;
		out->present |= UINT64_C(1) << i;
		if (!kvms_type_is_list(b->results.fields[i].type) && !scalar_decode(&d, i, &out->field[i]))
			return false;
	}
	if (!lists_decode(&d, arena, out->field, &payload, &out->list_count))
		return false;
	/* lent to the reader, who does not write through it */
	out->list = (uint64_t *)(uintptr_t)payload;
	return true;
}

/* ---- Encoding ---------------------------------------------------------------------- */

static ProtobufCMessage *
message_new(const ProtobufCMessageDescriptor *descriptor, struct kvmp_arena *arena)
{
	ProtobufCMessage *m = kvmp_arena_alloc(arena, descriptor->sizeof_message);

	if (m != NULL)
		protobuf_c_message_init(descriptor, m);
	return m;
}

/* The message refers to the list where it is; only names need a place of their own. */
static bool
list_encode(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, enum kvms_type type, const uint64_t *list,
	    uint64_t count, struct kvmp_arena *arena)
{
	size_t words = words_of(type, count);

	if (type == KVMS_BYTES) {
		ProtobufCBinaryData *bytes = at_mut(m, f->offset);

		*(protobuf_c_boolean *)at_mut(m, f->quantifier_offset) = 1;
		bytes->len = (size_t)count;
		bytes->data = (uint8_t *)(uintptr_t)list;
		return true;
	}
	*(size_t *)at_mut(m, f->quantifier_offset) = words;
	if (type != KVMS_LAWS) {
		*(uint64_t **)at_mut(m, f->offset) = (uint64_t *)(uintptr_t)list;
		return true;
	}

	const char **names = kvmp_arena_alloc(arena, words * sizeof *names);

	if (names == NULL)
		return false;
	for (size_t k = 0; k < words; k++)
		names[k] = kvms_law_name((unsigned)list[k]);
	*(const char ***)at_mut(m, f->offset) = names;
	return true;
}

ProtobufCMessage *
kvmp_args_encode(const struct kvmp_binding *b, const struct kvms_op *op, struct kvmp_arena *arena)
{
	ProtobufCMessage *m = message_new(b->args.message, arena);
	const uint64_t *list = op->list;

	for (unsigned i = 0; m != NULL && i < b->args.count; i++) {
		enum kvms_type type = b->args.fields[i].type;

		if (!kvms_type_is_list(type)) {
			scalar_set(m, b->args.place[i], op->arg[i]);
			continue;
		}
		if (!list_encode(m, b->args.place[i], type, list, op->arg[i], arena))
			return NULL;
		if (list != NULL)
			list += words_of(type, op->arg[i]);
	}
	return m;
}

ProtobufCMessage *
kvmp_results_encode(const struct kvmp_binding *b, const struct kvms_outcome *out, struct kvmp_arena *arena)
{
	ProtobufCMessage *m = message_new(b->results.message, arena);
	const uint64_t *list = out->list;

	for (unsigned i = 0; m != NULL && i < b->results.count; i++) {
		enum kvms_type type = b->results.fields[i].type;

		if ((out->present >> i & 1) == 0)
			continue;
		if (!kvms_type_is_list(type)) {
			scalar_set(m, b->results.place[i], out->field[i]);
			continue;
		}
		if (!list_encode(m, b->results.place[i], type, list, out->field[i], arena))
			return NULL;
		if (list != NULL)
			list += words_of(type, out->field[i]);
	}
	return m;
}
