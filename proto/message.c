#include "proto/message.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/address.h"
#include "proto/codec.h"
#include "proto/internal.h"

/* ---- The codec ---------------------------------------------------------------- */

/* Room for the largest list a message can carry, twice, and for many small parts. */
#define CODEC_LIMIT (64u * 1024 * 1024)

/* What building a message to send may take: it refers to the lists it sends. */
#define ENCODE_LIMIT (64u * 1024 * 1024)

static void *
allocate(void *codec, size_t size)
{
	return kvmp_arena_alloc(&((struct kvmp_codec *)codec)->in, size);
}

static void
release(void *codec, void *place)
{
	(void)codec; /* the next decode resets the arena */
	(void)place;
}

struct kvmp_codec *
kvmp_codec_new(size_t limit)
{
	struct kvmp_codec *c = malloc(sizeof *c);

	assert(kvmp_schema_fault() == NULL);
	if (c == NULL)
		return NULL;
	kvmp_arena_init(&c->in, limit == 0 ? CODEC_LIMIT : limit);
	kvmp_arena_init(&c->out, ENCODE_LIMIT);
	c->allocator = (ProtobufCAllocator){ allocate, release, c };
	return c;
}

void
kvmp_codec_free(struct kvmp_codec **c)
{
	if (*c == NULL)
		return;
	kvmp_arena_free(&(*c)->in);
	kvmp_arena_free(&(*c)->out);
	free(*c);
	*c = NULL;
}

void *
kvmp_codec_alloc(struct kvmp_codec *c, size_t size)
{
	return kvmp_arena_alloc(&c->in, size);
}

const char *
kvmp_error_word(enum kvmp_error_code code)
{
	static const char *const words[KVMP_ERROR_CODES] = {
		"no error",      "malformed",    "invalid",       "hello first",  "unsupported",
		"unknown store", "store exists", "store refused", "store broken", "no memory",
		"too large",     "state",        "limit",         "timeout",
	};

	return (unsigned)code < KVMP_ERROR_CODES ? words[code] : "unknown error";
}

/* ---- Shared by requests and responses ---------------------------------------------- */

bool
kvmp_refuse(struct kvmp_refusal *why, enum kvmp_error_code code, const char *format, ...)
{
	va_list arguments;

	why->code = code;
	va_start(arguments, format);
	vsnprintf(why->text, sizeof why->text, format, arguments);
	va_end(arguments);
	return false;
}

ProtobufCMessage *
kvmp_unpack(struct kvmp_codec *c, const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size,
	    struct kvmp_refusal *why)
{
	ProtobufCMessage *m;

	why->id = 0;
	kvmp_arena_reset(&c->in);
	m = protobuf_c_message_unpack(descriptor, &c->allocator, size, data);
	if (m == NULL && c->in.refused)
		kvmp_refuse(why, KVMP_ERROR_MALFORMED, "a message of %zu bytes asks for more than %zu bytes of memory",
			    size, c->in.limit);
	else if (m == NULL)
		kvmp_refuse(why, KVMP_ERROR_MALFORMED, "%zu bytes that are not a message of this protocol", size);
	return m;
}

bool
kvmp_known(const ProtobufCMessage *m, struct kvmp_refusal *why)
{
	return m->n_unknown_fields == 0 || kvmp_refuse(why, KVMP_ERROR_INVALID, "%s has no field number %u",
						       m->descriptor->short_name, m->unknown_fields[0].tag);
}

/*
 * Every field once and nothing behind: what was understood is as long as what
 * came.  Unknown fields count as understood here; kvmp_known() finds those.
 */
bool
kvmp_exact(const ProtobufCMessage *m, size_t size, struct kvmp_refusal *why)
{
	return protobuf_c_message_get_packed_size(m) == size ||
	       kvmp_refuse(why, KVMP_ERROR_INVALID,
			   "%s holds a field twice, bytes behind its end, or numbers written in more bytes than needed",
			   m->descriptor->short_name);
}

/* Length of the UTF-8 character at "s", or 0 if there is none. */
static size_t
character(const unsigned char *s)
{
	static const unsigned smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
	unsigned code = length > 1 ? s[0] & 0x7fu >> length : s[0];

	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3fu);
	}
	return length > 1 && (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		   ? 0
		   : length;
}

char *
kvmp_text(struct kvmp_arena *arena, const char *text)
{
	char *copy = kvmp_arena_alloc(arena, strlen(text) + 1);

	if (copy == NULL)
		return NULL;
	strcpy(copy, text);
	for (char *at = copy; *at != '\0';) {
		size_t length = character((const unsigned char *)at);

		if (length == 0)
			*at++ = '?';
		else
			at += length;
	}
	return copy;
}

enum kvmp_encoded
kvmp_frame_append(const ProtobufCMessage *m, size_t max, struct kvmp_buffer *to)
{
	size_t size = protobuf_c_message_get_packed_size(m);

	if (size > max)
		return KVMP_ENCODED_TOO_LARGE;

	uint8_t *place = kvmp_buffer_reserve(to, KVMP_FRAME_HEADER + size);

	if (place == NULL)
		return KVMP_ENCODED_NO_MEMORY;
	kvmp_frame_header(place, size);
	protobuf_c_message_pack(m, place + KVMP_FRAME_HEADER);
	kvmp_buffer_added(to, KVMP_FRAME_HEADER + size);
	return KVMP_ENCODED;
}

bool
kvmp_row_args_decode(struct kvmp_codec *c, const struct kvmp_binding *b, const ProtobufCMessage *m, struct kvms_op *op,
		     struct kvmp_refusal *why)
{
	return kvmp_args_decode(b, m, &c->in, op, why->text, sizeof why->text) ||
	       (why->code = KVMP_ERROR_INVALID, false);
}

/* The schema's numbers are this program's. */
_Static_assert((int)KVMSTORE__OUTCOME_CLASS__OUTCOME_OK == (int)KVMS_OK &&
		   (int)KVMSTORE__OUTCOME_CLASS__OUTCOME_PRE == (int)KVMS_PRE &&
		   (int)KVMSTORE__OUTCOME_CLASS__OUTCOME_ERR == (int)KVMS_ERR &&
		   (int)KVMSTORE__OUTCOME_CLASS__OUTCOME_PANIC == (int)KVMS_PANIC &&
		   (int)KVMSTORE__OUTCOME_CLASS__OUTCOME_ABORT == (int)KVMS_ABORT &&
		   (int)KVMSTORE__OUTCOME_CLASS__OUTCOME_BLOCK == (int)KVMS_BLOCK && KVMS_CLASSES == 6,
	       "OutcomeClass");
_Static_assert((int)KVMSTORE__CHECK__CHECK_OFF == (int)KVMS_CHECK_OFF &&
		   (int)KVMSTORE__CHECK__CHECK_TOUCHED == (int)KVMS_CHECK_TOUCHED &&
		   (int)KVMSTORE__CHECK__CHECK_FULL == (int)KVMS_CHECK_FULL,
	       "Check");
_Static_assert((int)KVMSTORE__ERROR_CODE__ERROR_MALFORMED == (int)KVMP_ERROR_MALFORMED &&
		   (int)KVMSTORE__ERROR_CODE__ERROR_STORE_BROKEN == (int)KVMP_ERROR_STORE_BROKEN &&
		   (int)KVMSTORE__ERROR_CODE__ERROR_TIMEOUT == (int)KVMP_ERROR_TIMEOUT &&
		   KVMP_ERROR_CODES == KVMP_ERROR_TIMEOUT + 1,
	       "ErrorCode");
