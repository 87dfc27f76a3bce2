/*
 * Messages <-> structs.  Operations and requests are walked by table, so a new
 * row is tested as soon as it is there.  Values come from seeds.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/internal.h"
#include "proto/kvmstore.pb-c.h"
#include "proto/message.h"
#include "proto/wire.h"

#define ROUNDS 100u

static uint64_t seed = 1;

static uint64_t
random_next(void)
{
	seed += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t x = seed;

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Numbers of all sizes, the ends among them. */
static uint64_t
random_number(void)
{
	uint64_t n = random_next() >> random_next() % 64;

	switch (random_next() % 8) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	default:
		return n;
	}
}

static uint64_t
random_value(enum kvms_type type)
{
	uint64_t value;
	unsigned words = 0;

	while (kvms_word_at(type, words, &value) != NULL)
		words++;
	if (words > 0) {
		kvms_word_at(type, (unsigned)(random_next() % words), &value);
		return value;
	}
	if (type == KVMS_FLAGS)
		return random_next() & 0x1f;
	if (type == KVMS_PROP)
		return (random_next() & 0x39f) | random_next() % 5 << KVMS_PROP_CACHE_SHIFT;
	return random_number();
}

static size_t
words_of(enum kvms_type type, uint64_t count)
{
	return type == KVMS_BYTES ? (size_t)(count + 7) / 8 : (size_t)count * kvms_type_arity(type);
}

/* A list of "type": its count, its words behind those in "list". */
static uint64_t
random_list(enum kvms_type type, uint64_t *list, size_t *used)
{
	uint64_t count = type == KVMS_RANGE ? random_next() % 2 : random_next() % 6;
	size_t words = words_of(type, count);

	for (size_t i = 0; i < words; i++)
		list[*used + i] = type == KVMS_LAWS ? random_next() % kvms_law_max() : random_number();
	if (type == KVMS_BYTES && count % 8 != 0) /* no bytes behind the last */
		list[*used + words - 1] &= (UINT64_C(1) << count % 8 * 8) - 1;
	*used += words;
	return count;
}

static uint64_t list_memory[1024];

static struct kvms_op
random_op(const struct kvms_row *row)
{
	struct kvms_op op = { .code = row->code, .list = list_memory };
	size_t used = 0;

	for (unsigned i = 0; i < row->args_count; i++)
		op.arg[i] = kvms_type_is_list(row->args[i].type) ? random_list(row->args[i].type, list_memory, &used)
								 : random_value(row->args[i].type);
	return op;
}

static void
assert_same_op(const struct kvms_row *row, const struct kvms_op *a, const struct kvms_op *b)
{
	cr_assert(a->code == b->code, "%s", row->name);
	for (unsigned i = 0; i < row->args_count; i++) {
		cr_assert(a->arg[i] == b->arg[i], "%s %s", row->name, row->args[i].name);
		if (kvms_type_is_list(row->args[i].type)) {
			uint64_t count;
			const uint64_t *x = kvms_op_list(a, row, i, &count), *y = kvms_op_list(b, row, i, &count);

			cr_assert(count == 0 || memcmp(x, y, words_of(row->args[i].type, count) * sizeof *x) == 0,
				  "%s %s", row->name, row->args[i].name);
		}
	}
}

/* One codec and one buffer for a whole test. */
static struct kvmp_codec *codec;
static struct kvmp_buffer bytes;
static struct kvmp_refusal why;

static void
setup(void)
{
	codec = kvmp_codec_new(0);
	cr_assert(codec != NULL);
}

static void
teardown(void)
{
	kvmp_codec_free(&codec);
	kvmp_buffer_free(&bytes);
}

TestSuite(codec, .init = setup, .fini = teardown);

/* Encode; the message is then at message() with message_size() bytes. */
static void
encode_request(const struct kvmp_request *r)
{
	kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
	cr_assert(kvmp_request_encode(codec, r, &bytes) == KVMP_ENCODED);
}

static void
encode_response(const struct kvmp_response *r)
{
	kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
	cr_assert(kvmp_response_encode(codec, r, &bytes) == KVMP_ENCODED);
}

static uint8_t *
message(void)
{
	return bytes.data + bytes.start + KVMP_FRAME_HEADER;
}

static size_t
message_size(void)
{
	size_t size;

	cr_assert(kvmp_frame_next(bytes.data + bytes.start, kvmp_buffer_size(&bytes), KVMP_RESPONSE_MAX, &size) ==
		  KVMP_FRAME_WHOLE);
	cr_assert(size + KVMP_FRAME_HEADER == kvmp_buffer_size(&bytes));
	return size;
}

/* Every operation and request: call "visit". */
static void
each_row(void (*visit)(const struct kvms_row *row, bool inspect))
{
	for (unsigned code = 0; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL)
			visit(kvms_op_row(code), false);
	for (unsigned code = 0; code <= kvms_request_max(); code++)
		if (kvms_request_row(code) != NULL)
			visit(kvms_request_row(code), true);
}

static struct kvmp_request
row_request(const struct kvms_row *row, bool inspect)
{
	return (struct kvmp_request){
		.id = random_number(),
		.type = inspect ? KVMP_INSPECT : KVMP_OP,
		.dry_run = !inspect && random_next() % 2 == 0,
		.op = random_op(row),
	};
}

/* ---- The schema and the tables ------------------------------------------------ */

Test(codec, schema_and_tables_agree)
{
	cr_assert(kvmp_schema_fault() == NULL, "%s", kvmp_schema_fault());
}

Test(codec, oneofs_have_as_many_members_as_there_are_rows)
{
	unsigned ops = 0, requests = 0;

	for (unsigned code = 0; code <= kvms_op_max(); code++)
		ops += kvms_op_row(code) != NULL;
	for (unsigned code = 0; code <= kvms_request_max(); code++)
		requests += kvms_request_row(code) != NULL;
	cr_assert(kvmstore__op__descriptor.n_fields == ops);
	cr_assert(kvmstore__op_result__descriptor.n_fields == ops);
	cr_assert(kvmstore__inspect__descriptor.n_fields == requests);
	cr_assert(kvmstore__inspect_result__descriptor.n_fields == requests);
}

/* No message contains itself, however far down. */
static void
assert_flat(const ProtobufCMessageDescriptor *m, unsigned depth)
{
	cr_assert(depth < 8, "%s", m->name);
	for (unsigned i = 0; i < m->n_fields; i++)
		if (m->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			assert_flat(m->fields[i].descriptor, depth + 1);
}

Test(codec, no_message_is_recursive)
{
	assert_flat(&kvmstore__request__descriptor, 0);
	assert_flat(&kvmstore__response__descriptor, 0);
}

/* ---- Round trips ------------------------------------------------------------------ */

static void
request_round_trip(const struct kvms_row *row, bool inspect)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvmp_request in = row_request(row, inspect), out;

		in.detached = !inspect && random_next() % 4 == 0;
		in.wait_ms = !inspect && random_next() % 4 == 0 ? (uint32_t)random_number() : 0;
		encode_request(&in);
		memset(&out, 0xff, sizeof out);
		cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s: %s", row->name,
			  why.text);
		cr_assert(out.id == in.id && out.type == in.type && out.dry_run == in.dry_run);
		cr_assert(out.detached == in.detached && out.wait_ms == in.wait_ms, "%s", row->name);
		assert_same_op(row, &in.op, &out.op);
	}
}

Test(codec, every_operation_and_request_reads_back)
{
	each_row(request_round_trip);
}

/* ---- Straight to bytes, against protobuf-c ---------------------------------------- */

/* Both ways of writing gave the same bytes. */
static void
assert_same_bytes(const char *name, const struct kvmp_buffer *a, const struct kvmp_buffer *b)
{
	cr_assert(kvmp_buffer_size(a) == kvmp_buffer_size(b), "%s: %zu and %zu bytes", name, kvmp_buffer_size(a),
		  kvmp_buffer_size(b));
	cr_assert(memcmp(a->data + a->start, b->data + b->start, kvmp_buffer_size(a)) == 0, "%s", name);
}

static void
request_both_ways(const struct kvms_row *row, bool inspect)
{
	struct kvmp_buffer fast = { 0 };
	struct kvmp_arena arena;
	unsigned read = 0;

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvmp_request in = row_request(row, inspect), a, b;

		kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
		kvmp_buffer_take(&fast, kvmp_buffer_size(&fast));
		cr_assert(kvmp_request_pack(codec, &in, &bytes) == KVMP_ENCODED);
		cr_assert(kvmp_wire_request_put(&in, &fast), "%s", row->name);
		assert_same_bytes(row->name, &bytes, &fast);
		cr_assert(kvmp_request_unpack(codec, message(), message_size(), &a, &why), "%s", why.text);
		kvmp_arena_reset(&arena);
		if (!kvmp_wire_request_get(message(), message_size(), &arena, &b))
			continue;
		read++;
		cr_assert(a.id == b.id && a.type == b.type && a.dry_run == b.dry_run);
		assert_same_op(row, &a.op, &b.op);
	}
	cr_assert(read > ROUNDS / 2, "%s: %u of %u are read", row->name, read, ROUNDS);
	kvmp_buffer_free(&fast);
	kvmp_arena_free(&arena);
}

Test(codec, requests_are_the_same_both_ways)
{
	each_row(request_both_ways);
}

static void
assert_same_addresses(const struct kvmp_request *a, const struct kvmp_request *b)
{
	cr_assert(a->id == b->id && a->type == b->type);
	cr_assert(a->translate.table == b->translate.table && a->translate.count == b->translate.count);
	cr_assert(memcmp(a->translate.va, b->translate.va, a->translate.count * sizeof *a->translate.va) == 0);
}

/* What the fast reader takes of damaged bytes, protobuf-c takes too, and means the same. */
static void
damage_both_ways(const struct kvms_row *row, bool inspect)
{
	struct kvmp_arena arena;

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned round = 0; round < ROUNDS * 5; round++) {
		struct kvmp_request in = row_request(row, inspect), a, b;
		size_t size;
		uint8_t *copy;

		encode_request(&in);
		size = message_size();
		copy = malloc(size + 4);
		cr_assert(copy != NULL);
		memcpy(copy, message(), size);
		if (random_next() % 4 == 0) /* an unlike length */
			size = random_next() % (size + 4);
		for (uint64_t n = random_next() % 4; n > 0 && size > 0; n--)
			copy[random_next() % size] =
			    (uint8_t)(random_next() % 2 == 0 ? random_next() : random_next() % 16);
		kvmp_arena_reset(&arena);
		if (kvmp_wire_request_get(copy, size, &arena, &b)) {
			cr_assert(kvmp_request_unpack(codec, copy, size, &a, &why), "%s: %s", row->name, why.text);
			cr_assert(a.id == b.id && a.type == b.type && a.dry_run == b.dry_run);
			if (a.type == KVMP_TRANSLATE_MANY)
				assert_same_addresses(&a, &b);
			else
				assert_same_op(a.type == KVMP_OP ? kvms_op_row(a.op.code) : kvms_request_row(a.op.code),
					       &a.op, &b.op);
		}
		free(copy);
	}
	kvmp_arena_free(&arena);
}

Test(codec, damaged_requests_are_the_same_both_ways)
{
	each_row(damage_both_ways);
}

/* A random answer of a row; its payload lies in "payload". */
static struct kvmp_response
row_response(const struct kvms_row *row, bool inspect, uint64_t *payload)
{
	struct kvmp_response r = { .id = random_number(), .type = KVMP_R_OUTCOME };
	struct kvms_outcome *o = &r.answer.outcome;

	r.answer.row = row;
	r.answer.inspect = inspect;
	r.answer.has_step = random_next() % 2 == 0;
	r.answer.step = r.answer.has_step ? random_number() : 0;
	o->list = payload;
	for (unsigned i = 0; i < row->results_count; i++) {
		enum kvms_type type = row->results[i].type;
		bool repeated = kvms_type_is_list(type) && type != KVMS_BYTES;

		if (!repeated && random_next() % 4 == 0)
			continue;
		o->present |= UINT64_C(1) << i;
		o->field[i] = kvms_type_is_list(type) ? random_list(type, payload, &o->list_count) : random_value(type);
	}
	return r;
}

static void
assert_same_outcome(const struct kvms_row *row, const struct kvmp_response *a, const struct kvmp_response *b)
{
	const struct kvms_outcome *o = &a->answer.outcome, *p = &b->answer.outcome;

	cr_assert(a->id == b->id && a->answer.row == b->answer.row && a->answer.inspect == b->answer.inspect);
	cr_assert(a->answer.has_step == b->answer.has_step && a->answer.step == b->answer.step);
	cr_assert(o->name == p->name && o->detail == p->detail && o->present == p->present, "%s", row->name);
	cr_assert(memcmp(o->field, p->field, sizeof o->field) == 0, "%s", row->name);
	cr_assert(o->list_count == p->list_count, "%s", row->name);
	cr_assert(o->list_count == 0 || memcmp(o->list, p->list, o->list_count * sizeof *o->list) == 0, "%s",
		  row->name);
}

static void
response_both_ways(const struct kvms_row *row, bool inspect)
{
	static uint64_t payload[1024];
	struct kvmp_buffer fast = { 0 };
	struct kvmp_arena arena;

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvmp_response in = row_response(row, inspect, payload), a, b;

		if (round % 4 == 0) {
			in.answer.outcome =
			    (struct kvms_outcome){ .name = (unsigned)(random_next() % kvms_outcome_max() + 1),
						   .detail = random_number() };
			if (kvms_outcome_detail(in.answer.outcome.name) == NULL)
				in.answer.outcome.detail = 0;
		}
		kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
		kvmp_buffer_take(&fast, kvmp_buffer_size(&fast));
		cr_assert(kvmp_response_pack(codec, &in, &bytes) == KVMP_ENCODED);
		if (kvmp_wire_response_put(&in, &fast))
			assert_same_bytes(row->name, &bytes, &fast);
		cr_assert(kvmp_response_unpack(codec, message(), message_size(), &a, &why), "%s", why.text);
		kvmp_arena_reset(&arena);
		if (kvmp_wire_response_get(message(), message_size(), &arena, &b))
			assert_same_outcome(row, &a, &b);
	}
	kvmp_buffer_free(&fast);
	kvmp_arena_free(&arena);
}

Test(codec, responses_are_the_same_both_ways)
{
	each_row(response_both_ways);
}

/* A copy of the message in memory of its own, sometimes with other bytes or another length. */
static uint8_t *
damaged(unsigned round, size_t *size)
{
	uint8_t *copy = malloc(message_size() + 1);

	cr_assert(copy != NULL);
	*size = message_size();
	memcpy(copy, message(), *size);
	if (round % 4 == 3) /* one byte short, or more */
		*size = random_next() % *size;
	for (unsigned n = round % 4; n > 0 && *size > 0; n--) /* where the lengths are, most of the time */
		copy[random_next() % (random_next() % 2 == 0 || *size < 24 ? *size : 24)] =
		    (uint8_t)(random_next() % 2 == 0 ? random_next() : random_next() % 16);
	return copy;
}

Test(codec, translate_many_is_the_same_both_ways)
{
	struct kvmp_buffer fast = { 0 };
	struct kvmp_arena arena;
	uint64_t va[40];

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned round = 0; round < 20000; round++) {
		struct kvmp_request in = { .id = random_number(), .type = KVMP_TRANSLATE_MANY }, a, b;
		uint8_t *copy;
		size_t size;
		bool read;

		in.translate.table = random_number();
		in.translate.va = va;
		in.translate.count = 1 + random_next() % 40;
		for (size_t i = 0; i < in.translate.count; i++)
			va[i] = random_number();
		kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
		kvmp_buffer_take(&fast, kvmp_buffer_size(&fast));
		cr_assert(kvmp_request_pack(codec, &in, &bytes) == KVMP_ENCODED);
		cr_assert(kvmp_wire_request_put(&in, &fast));
		assert_same_bytes("translate_many", &bytes, &fast);
		copy = damaged(round, &size);
		kvmp_arena_reset(&arena);
		read = kvmp_wire_request_get(copy, size, &arena, &b);
		cr_assert(read || round % 4 != 0);
		if (read) {
			cr_assert(kvmp_request_unpack(codec, copy, size, &a, &why), "%s", why.text);
			cr_assert(a.type == b.type);
			if (a.type == KVMP_TRANSLATE_MANY)
				assert_same_addresses(&a, &b);
		}
		free(copy);
	}
	kvmp_buffer_free(&fast);
	kvmp_arena_free(&arena);
}

Test(codec, translated_is_the_same_both_ways)
{
	struct kvmp_buffer fast = { 0 };
	struct kvmp_arena arena;
	uint64_t paddr[40];
	uint8_t found[40];

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned round = 0; round < 20000; round++) {
		struct kvmp_response in = { .id = random_number(), .type = KVMP_R_TRANSLATED }, a, b;
		uint8_t *copy;
		size_t size;
		bool read;

		in.translated.found = found;
		in.translated.paddr = paddr;
		in.translated.count = 1 + random_next() % 40;
		for (size_t i = 0; i < in.translated.count; i++) {
			found[i] = random_next() % 2;
			paddr[i] = random_number();
		}
		kvmp_buffer_take(&bytes, kvmp_buffer_size(&bytes));
		kvmp_buffer_take(&fast, kvmp_buffer_size(&fast));
		cr_assert(kvmp_response_pack(codec, &in, &bytes) == KVMP_ENCODED);
		cr_assert(kvmp_wire_response_put(&in, &fast));
		assert_same_bytes("translated", &bytes, &fast);
		copy = damaged(round, &size);
		kvmp_arena_reset(&arena);
		read = kvmp_wire_response_get(copy, size, &arena, &b);
		cr_assert(read || round % 4 != 0);
		if (read && b.type == KVMP_R_TRANSLATED) {
			cr_assert(kvmp_response_unpack(codec, copy, size, &a, &why), "%s", why.text);
			cr_assert(a.id == b.id && a.type == b.type && a.translated.count == b.translated.count);
			cr_assert(memcmp(a.translated.found, b.translated.found, a.translated.count) == 0);
			cr_assert(memcmp(a.translated.paddr, b.translated.paddr,
					 a.translated.count * sizeof *a.translated.paddr) == 0);
		}
		free(copy);
	}
	kvmp_buffer_free(&fast);
	kvmp_arena_free(&arena);
}

Test(codec, left_out_arguments_take_their_defaults)
{
	Kvmstore__Request r = KVMSTORE__REQUEST__INIT;
	Kvmstore__Op op = KVMSTORE__OP__INIT;
	Kvmstore__FrameAlloc args = KVMSTORE__FRAME_ALLOC__INIT;
	const struct kvms_row *row = kvms_op_find("frame_alloc");
	struct kvmp_request out;
	struct kvms_op want;
	uint8_t data[64];
	size_t size;

	op.op_case = KVMSTORE__OP__OP_FRAME_ALLOC;
	op.frame_alloc = &args;
	r.body_case = KVMSTORE__REQUEST__BODY_OP;
	r.op = &op;
	size = kvmstore__request__pack(&r, data);
	cr_assert(kvmp_request_decode(codec, data, size, &out, &why), "%s", why.text);
	kvms_op_init(&want, row);
	assert_same_op(row, &want, &out.op);
	cr_assert(out.id == 0 && !out.dry_run);
}

static void
outcome_round_trip(const struct kvms_row *row, bool inspect)
{
	static uint64_t payload[1024];

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvmp_response in = row_response(row, inspect, payload), out;

		encode_response(&in);
		cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s: %s", row->name,
			  why.text);
		assert_same_outcome(row, &in, &out);
	}
}

Test(codec, every_result_reads_back_with_presence)
{
	each_row(outcome_round_trip);
}

Test(codec, every_outcome_name_reads_back)
{
	for (unsigned name = 1; name <= kvms_outcome_max(); name++) {
		struct kvmp_response in = { .id = name, .type = KVMP_R_OUTCOME }, out;

		in.answer.row = kvms_op_find("frame_drop");
		in.answer.outcome.name = name;
		in.answer.outcome.detail = kvms_outcome_detail(name) == NULL ? 0 : random_number();
		encode_response(&in);
		cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s: %s",
			  kvms_outcome_name(name), why.text);
		cr_assert(out.answer.row == NULL);
		cr_assert(out.answer.outcome.name == name, "%s", kvms_outcome_name(name));
		cr_assert(out.answer.outcome.detail == in.answer.outcome.detail);
		cr_assert(out.answer.outcome.present == 0);
	}
}

Test(codec, why_an_open_blocks_reads_back)
{
	static const uint64_t cursors[] = { 7, UINT64_MAX, 1 };
	struct kvmp_response in = { .id = 1, .type = KVMP_R_OUTCOME }, out;

	in.answer.row = kvms_op_find("cursor_open");
	while (strcmp(kvms_outcome_name(in.answer.outcome.name), "cursor_locked") != 0)
		in.answer.outcome.name++;
	in.answer.outcome.detail = 7;
	for (unsigned round = 0; round < 4; round++) {
		in.answer.held_back = round % 2 == 1;
		in.answer.cycle = cursors;
		in.answer.cycle_count = round / 2 * 3;
		encode_response(&in);
		memset(&out, 0xff, sizeof out);
		cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
		cr_assert(out.answer.outcome.name == in.answer.outcome.name && out.answer.outcome.detail == 7);
		cr_assert(out.answer.held_back == in.answer.held_back);
		cr_assert(out.answer.cycle_count == in.answer.cycle_count);
		cr_assert(round < 2 || memcmp(out.answer.cycle, cursors, sizeof cursors) == 0);
	}
}

Test(codec, store_configuration_reads_back)
{
	const struct kvms_row *row = kvms_store_row();

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvmp_request in = { .type = KVMP_STORE_CREATE }, out;
		struct kvmp_response status = { .type = KVMP_R_STORE }, status_out;

		in.store.name = "one";
		in.store.config = random_op(row);
		encode_request(&in);
		cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
		cr_assert_str_eq(out.store.name, "one");
		assert_same_op(row, &in.store.config, &out.store.config);

		status.store = (struct kvmp_store_status){ .name = "two",
							   .step = 5,
							   .digest = 6,
							   .check = KVMS_CHECK_FULL,
							   .check_every = 9,
							   .broken = "no",
							   .saved = true,
							   .saved_step = 3,
							   .config = &in.store.config };
		encode_response(&status);
		cr_assert(kvmp_response_decode(codec, message(), message_size(), &status_out, &why), "%s", why.text);
		cr_assert_str_eq(status_out.store.name, "two");
		cr_assert_str_eq(status_out.store.broken, "no");
		cr_assert(status_out.store.step == 5 && status_out.store.digest == 6 && status_out.store.saved &&
			  status_out.store.saved_step == 3 && status_out.store.check == KVMS_CHECK_FULL &&
			  status_out.store.check_every == 9);
		assert_same_op(row, &in.store.config, status_out.store.config);
	}
}

Test(codec, other_requests_read_back)
{
	static const char *const features[] = { "batch", "more" };
	static const uint64_t va[] = { 0, 1, UINT64_MAX };
	struct kvms_op ops[3];
	struct kvmp_request r = { .id = 77, .type = KVMP_HELLO }, out;

	r.hello = (struct kvmp_hello){ 1, "some-store", "test 1", features, 2 };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.hello.version == 1 && out.hello.features_count == 2);
	cr_assert_str_eq(out.hello.store, "some-store");
	cr_assert_str_eq(out.hello.client, "test 1");
	cr_assert_str_eq(out.hello.features[1], "more");

	r = (struct kvmp_request){ .type = KVMP_TRANSLATE_MANY, .translate = { 5, va, 3 } };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.translate.table == 5 && out.translate.count == 3);
	cr_assert(memcmp(out.translate.va, va, sizeof va) == 0);

	ops[0] = random_op(kvms_op_find("frame_clone"));
	ops[1] = random_op(kvms_op_find("frame_from_unused"));
	ops[2] = random_op(kvms_op_find("kvirt_map_frames"));
	r = (struct kvmp_request){ .type = KVMP_BATCH, .batch = { ops, 3, true, true } };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.batch.count == 3 && out.batch.stop && out.batch.atomic);
	for (unsigned i = 0; i < 3; i++)
		assert_same_op(kvms_op_row(ops[i].code), &ops[i], &out.batch.ops[i]);

	r = (struct kvmp_request){ .type = KVMP_SET_CHECK, .check = { KVMS_CHECK_FULL, 1000 } };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.check.check == KVMS_CHECK_FULL && out.check.every == 1000);

	r = (struct kvmp_request){ .type = KVMP_UNDO, .undo = 77 };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert_eq(out.undo, 77);

	r = (struct kvmp_request){ .type = KVMP_STORE_CLONE, .clone = { "c", true, 5 } };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(strcmp(out.clone.name, "c") == 0 && out.clone.has_step && out.clone.step == 5);

	r = (struct kvmp_request){ .type = KVMP_EXTENTS, .extents = { 1, 2, 3 } };
	encode_request(&r);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.extents.table == 1 && out.extents.first == 2 && out.extents.last == 3);

	for (unsigned type = KVMP_STATUS; type < KVMP_REQUEST_TYPES; type++) {
		r = (struct kvmp_request){ .id = type, .type = (enum kvmp_request_type)type };
		if (type == KVMP_STORE_CREATE || type == KVMP_STORE_DROP || type == KVMP_STORE_SELECT)
			r.store.name = "a.b";
		if (type == KVMP_STORE_CREATE)
			kvms_op_init(&r.store.config, kvms_store_row());
		if (type == KVMP_SET_CHECK)
			r.check.every = 1;
		if (type == KVMP_STORE_CLONE)
			r.clone.name = "a.b";
		encode_request(&r);
		cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%u: %s", type, why.text);
		cr_assert((unsigned)out.type == type && out.id == type);
	}
}

Test(codec, other_responses_read_back)
{
	static const char *const findings[] = { "slot.rc_legal: object 0x1", "second" };
	static const uint8_t found[] = { 1, 0, 1 };
	static const uint64_t paddr[] = { 4096, 0, UINT64_MAX };
	static const struct kvmp_snapshot snapshots[] = { { "default", 4, 5, 6, "2024-05-17T09:30:00Z", "0.1.0", true } };
	static const struct kvms_extent runs[] = { { 0, 0x1000, 0x2000, 3, 1, 0x40003, true },
						   { 0, 1, 2, 3, 2, 5, false } };
	struct kvmp_answer answers[2] = { { .row = kvms_op_find("frame_drop") },
					  { .row = kvms_op_find("frame_drop") } };
	struct kvmp_response r = { .id = 9, .type = KVMP_R_ERROR }, out;

	r.error.code = KVMP_ERROR_STORE_BROKEN;
	r.error.text = "caf\xc3\xa9 \xff!";
	r.error.closing = true;
	r.error.findings = findings;
	r.error.findings_count = 2;
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.error.code == KVMP_ERROR_STORE_BROKEN && out.error.closing && out.error.findings_count == 2);
	cr_assert_str_eq(out.error.text, "caf\xc3\xa9 ?!");
	cr_assert_str_eq(out.error.findings[1], "second");

	r = (struct kvmp_response){ .type = KVMP_R_TRANSLATED, .translated = { found, paddr, 3 } };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.translated.count == 3 && memcmp(out.translated.found, found, 3) == 0 &&
		  memcmp(out.translated.paddr, paddr, sizeof paddr) == 0);

	r = (struct kvmp_response){ .type = KVMP_R_SNAPSHOTS, .snapshots = { snapshots, 1 } };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.snapshots.count == 1 && out.snapshots.snapshots[0].digest == 6);
	cr_assert_str_eq(out.snapshots.snapshots[0].taken, "2024-05-17T09:30:00Z");
	cr_assert(out.snapshots.snapshots[0].kept);

	r = (struct kvmp_response){ .type = KVMP_R_EXTENTS, .extents = { runs, 2, true, 0x9000 } };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.extents.count == 2 && out.extents.more && out.extents.next == 0x9000);
	cr_assert(memcmp(&out.extents.runs[0], &runs[0], sizeof runs[0]) == 0);

	answers[0].outcome.present = 1;
	answers[0].outcome.field[0] = 1;
	answers[1].outcome.name = 1;
	r = (struct kvmp_response){ .type = KVMP_R_BATCH, .batch = { answers, 2 } };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.batch.count == 2 && out.batch.answers[0].outcome.field[0] == 1 &&
		  out.batch.answers[1].outcome.name == 1);

	r = (struct kvmp_response){ .type = KVMP_R_STATUS };
	r.status = (struct kvmp_status){ "kvmstored 9", 1, 2, 3, 4, 5, 6, "/dir", "words", NULL };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.status.pid == 1 && out.status.stores == 5 && out.status.waiting == 6 && out.status.store == NULL);
	cr_assert_str_eq(out.status.state_dir, "/dir");

	r = (struct kvmp_response){ .id = 3, .type = KVMP_R_DONE };
	encode_response(&r);
	cr_assert(kvmp_response_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	cr_assert(out.type == KVMP_R_DONE && out.id == 3);
}

/* ---- Hostile bytes ---------------------------------------------------------------------- */

static void
truncations(const struct kvms_row *row, bool inspect)
{
	struct kvmp_request in = row_request(row, inspect), out;
	size_t size;

	encode_request(&in);
	size = message_size();
	for (size_t n = 0; n < size; n++) {
		/* in memory of its own, so that a read behind it is found */
		uint8_t *copy = malloc(n + 1);

		cr_assert(copy != NULL);
		memcpy(copy, message(), n);
		cr_assert(!kvmp_request_decode(codec, copy, n, &out, &why), "%s cut at %zu of %zu", row->name, n, size);
		cr_assert(why.text[0] != '\0');
		free(copy);
	}
}

Test(codec, every_truncation_is_refused)
{
	each_row(truncations);
}

static void
mutations(const struct kvms_row *row, bool inspect)
{
	for (unsigned round = 0; round < ROUNDS * 3; round++) {
		struct kvmp_request in = row_request(row, inspect), out;
		size_t size;
		uint8_t *copy;

		encode_request(&in);
		size = message_size();
		copy = malloc(size);
		cr_assert(copy != NULL);
		memcpy(copy, message(), size);
		for (uint64_t n = random_next() % 4 + 1; n > 0; n--)
			copy[random_next() % size] = (uint8_t)random_next();
		/* it is refused, or means what it says: writing it again gives the same meaning */
		if (kvmp_request_decode(codec, copy, size, &out, &why) &&
		    (out.type == KVMP_OP || out.type == KVMP_INSPECT)) {
			struct kvmp_codec *other = kvmp_codec_new(0);
			struct kvmp_request again;

			encode_request(&out);
			cr_assert(kvmp_request_decode(other, message(), message_size(), &again, &why), "%s", why.text);
			assert_same_op(out.type == KVMP_OP ? kvms_op_row(out.op.code) : kvms_request_row(out.op.code),
				       &out.op, &again.op);
			kvmp_codec_free(&other);
		}
		free(copy);
	}
}

Test(codec, damaged_messages_are_refused_or_mean_something)
{
	each_row(mutations);
}

Test(codec, random_bytes_do_no_harm)
{
	struct kvmp_request request;
	struct kvmp_response response;
	uint8_t data[200];

	for (unsigned round = 0; round < 20000; round++) {
		size_t size = random_next() % sizeof data;

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t)(random_next() % 3 == 0 ? random_next() : random_next() % 32);
		kvmp_request_decode(codec, data, size, &request, &why);
		kvmp_response_decode(codec, data, size, &response, &why);
	}
}

/* Pack a request whose operation or inspection has "args"; gives the size. */
static size_t
pack_row(const struct kvms_row *row, bool inspect, ProtobufCMessage *args, uint8_t *data)
{
	Kvmstore__Request r = KVMSTORE__REQUEST__INIT;
	Kvmstore__Op op = KVMSTORE__OP__INIT;
	Kvmstore__Inspect question = KVMSTORE__INSPECT__INIT;

	r.has_id = 1;
	r.id = 42;
	if (inspect) {
		question.request_case = (Kvmstore__Inspect__RequestCase)row->code;
		question.translate = (Kvmstore__InspectTranslate *)args;
		r.body_case = KVMSTORE__REQUEST__BODY_INSPECT;
		r.inspect = &question;
	} else {
		op.op_case = (Kvmstore__Op__OpCase)row->code;
		op.frame_from_unused = (Kvmstore__FrameFromUnused *)args;
		r.body_case = KVMSTORE__REQUEST__BODY_OP;
		r.op = &op;
	}
	return kvmstore__request__pack(&r, data);
}

/* The arguments' message of a row, from random values, changeable. */
static ProtobufCMessage *
args_of(const struct kvms_row *row, bool inspect, struct kvmp_arena *arena)
{
	const struct kvmp_binding *b = inspect ? kvmp_request_binding(row->code) : kvmp_op_binding(row->code);
	struct kvms_op op = random_op(row);

	return kvmp_args_encode(b, &op, arena);
}

static void
assert_refused(const struct kvms_row *row, const uint8_t *data, size_t size, const char *word)
{
	struct kvmp_request out;

	cr_assert(!kvmp_request_decode(codec, data, size, &out, &why), "%s: %s", row->name, word);
	cr_assert(why.code == KVMP_ERROR_INVALID, "%s: %s", row->name, why.text);
	cr_assert(why.id == 42);
	cr_assert(strstr(why.text, word) != NULL, "%s: \"%s\" does not say %s", row->name, why.text, word);
}

static void
unknown_field(const struct kvms_row *row, bool inspect)
{
	uint8_t value = 1, data[4096];
	ProtobufCMessageUnknownField unknown = { 999, PROTOBUF_C_WIRE_TYPE_VARINT, 1, &value };
	struct kvmp_arena arena;
	ProtobufCMessage *args;

	kvmp_arena_init(&arena, 1 << 20);
	args = args_of(row, inspect, &arena);
	args->n_unknown_fields = 1;
	args->unknown_fields = &unknown;
	assert_refused(row, data, pack_row(row, inspect, args, data), "999");
	kvmp_arena_free(&arena);
}

Test(codec, unknown_field_in_arguments_is_refused)
{
	each_row(unknown_field);
}

Test(codec, unknown_field_elsewhere_is_refused)
{
	uint8_t value = 1, data[256];
	ProtobufCMessageUnknownField unknown = { 999, PROTOBUF_C_WIRE_TYPE_VARINT, 1, &value };
	const struct kvms_row *row = kvms_op_find("frame_clone");
	Kvmstore__Request r = KVMSTORE__REQUEST__INIT;
	Kvmstore__Op op = KVMSTORE__OP__INIT;
	Kvmstore__FrameClone args = KVMSTORE__FRAME_CLONE__INIT;
	Kvmstore__Hello hello = KVMSTORE__HELLO__INIT;
	ProtobufCMessage *places[] = { &r.base, &op.base, &hello.base };

	args.has_frame = 1;
	op.op_case = KVMSTORE__OP__OP_FRAME_CLONE;
	op.frame_clone = &args;
	hello.has_version = 1;
	r.has_id = 1;
	r.id = 42;
	for (unsigned i = 0; i < 3; i++) {
		places[i]->n_unknown_fields = 1;
		places[i]->unknown_fields = &unknown;
		r.body_case = i == 2 ? KVMSTORE__REQUEST__BODY_HELLO : KVMSTORE__REQUEST__BODY_OP;
		if (i == 2)
			r.hello = &hello;
		else
			r.op = &op;
		assert_refused(row, data, kvmstore__request__pack(&r, data), "999");
		places[i]->n_unknown_fields = 0;
	}
}

Test(codec, trailing_bytes_and_fields_given_twice_are_refused)
{
	const struct kvms_row *row = kvms_op_find("frame_clone");
	struct kvmp_request in = row_request(row, false), out;
	uint8_t data[256];
	size_t size;

	in.id = 42;
	encode_request(&in);
	size = message_size();
	memcpy(data, message(), size);
	/* the id once more: field 1, fixed64 */
	memcpy(data + size, "\x09\x2a\0\0\0\0\0\0\0", 9);
	assert_refused(row, data, size + 9, "twice");
	/* another operation behind the first, which a decoder would merge or replace */
	memcpy(data + size, message() + 9, size - 9);
	assert_refused(row, data, 2 * size - 9, "twice");
	memcpy(data + size, "\0\0", 2);
	cr_assert(!kvmp_request_decode(codec, data, size + 2, &out, &why));
	cr_assert(why.code == KVMP_ERROR_MALFORMED);
}

Test(codec, envelope_says_only_what_goes_with_its_body)
{
	const struct kvms_row *row = kvms_request_find("census");
	Kvmstore__Request r = KVMSTORE__REQUEST__INIT;
	Kvmstore__StatusRequest status = KVMSTORE__STATUS_REQUEST__INIT;
	struct kvmp_request in = row_request(kvms_op_find("cursor_open"), false), out;
	uint8_t data[256];
	size_t size;

	r.has_id = 1;
	r.id = 42;
	r.body_case = KVMSTORE__REQUEST__BODY_STATUS;
	r.status = &status;
	r.has_detached = r.detached = 1;
	assert_refused(row, data, kvmstore__request__pack(&r, data), "detached");
	r.detached = 0;
	r.has_wait_ms = 1;
	r.wait_ms = 1;
	assert_refused(row, data, kvmstore__request__pack(&r, data), "wait_ms");
	r.wait_ms = 0; /* what is the default anyway says nothing */
	cr_assert(kvmp_request_decode(codec, data, kvmstore__request__pack(&r, data), &out, &why), "%s", why.text);
	/* a wait of 2^32 + 1 milliseconds is not one of 1 */
	in.id = 42;
	encode_request(&in);
	size = message_size();
	memcpy(data, message(), size);
	memcpy(data + size, "\x98\x01\x81\x80\x80\x80\x10", 7);
	assert_refused(row, data, size + 7, "more bytes");
	memcpy(data + size, "\x98\x01\xff\xff\xff\xff\x0f", 7);
	cr_assert(kvmp_request_decode(codec, data, size + 7, &out, &why), "%s", why.text);
	cr_assert(out.wait_ms == UINT32_MAX);
}

static void
missing_argument(const struct kvms_row *row, bool inspect)
{
	const struct kvmp_binding *b = inspect ? kvmp_request_binding(row->code) : kvmp_op_binding(row->code);
	struct kvmp_arena arena;
	uint8_t data[4096];

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned i = 0; i < row->args_count; i++) {
		ProtobufCMessage *args = args_of(row, inspect, &arena);

		if (row->args[i].has_default || b->args.place[i]->label == PROTOBUF_C_LABEL_REPEATED)
			continue;
		*(protobuf_c_boolean *)((uint8_t *)args + b->args.place[i]->quantifier_offset) = 0;
		assert_refused(row, data, pack_row(row, inspect, args, data), row->args[i].name);
		cr_assert(strstr(why.text, "missing") != NULL);
	}
	kvmp_arena_free(&arena);
}

Test(codec, missing_argument_is_refused_by_name)
{
	each_row(missing_argument);
}

static void
wrong_value(const struct kvms_row *row, bool inspect)
{
	const struct kvmp_binding *b = inspect ? kvmp_request_binding(row->code) : kvmp_op_binding(row->code);
	static const int values[] = { 6, 32, 64, 1000, -1, INT32_MIN };
	struct kvmp_arena arena;
	uint8_t data[4096];
	uint64_t word;

	kvmp_arena_init(&arena, 1 << 20);
	for (unsigned i = 0; i < row->args_count; i++) {
		enum kvms_type type = row->args[i].type;

		if (type == KVMS_BOOL ||
		    (type != KVMS_FLAGS && type != KVMS_PROP && kvms_word_at(type, 0, &word) == NULL))
			continue;
		for (unsigned v = 0; v < sizeof values / sizeof values[0]; v++) {
			ProtobufCMessage *args = args_of(row, inspect, &arena);

			if ((type == KVMS_FLAGS || type == KVMS_PROP) && v == 0)
				continue;
			if (values[v] > 0 && kvms_word(type, (uint64_t)values[v]) != NULL)
				continue; /* a word of this type */
			*(int *)((uint8_t *)args + b->args.place[i]->offset) = values[v];
			assert_refused(row, data, pack_row(row, inspect, args, data), row->args[i].name);
		}
	}
	kvmp_arena_free(&arena);
}

Test(codec, value_outside_its_type_is_refused)
{
	each_row(wrong_value);
}

Test(codec, list_too_long_is_refused)
{
	const struct kvms_row *row = kvms_op_find("kvirt_map_frames");
	struct kvmp_request in = { .id = 42, .type = KVMP_OP }, out;
	uint64_t *ids = calloc(KVMP_LIST_MAX + 1, sizeof *ids);

	cr_assert(ids != NULL);
	kvms_op_init(&in.op, row);
	in.op.list = ids;
	in.op.arg[kvms_arg_index(row, "frames")] = KVMP_LIST_MAX + 1;
	encode_request(&in);
	assert_refused(row, message(), message_size(), "lists");
	in.op.arg[kvms_arg_index(row, "frames")] = KVMP_LIST_MAX;
	encode_request(&in);
	cr_assert(kvmp_request_decode(codec, message(), message_size(), &out, &why), "%s", why.text);
	free(ids);
}

Test(codec, too_many_addresses_or_operations_are_refused)
{
	const struct kvms_row *row = kvms_op_find("frame_clone");
	struct kvmp_request in = { .id = 42, .type = KVMP_TRANSLATE_MANY };
	uint64_t *va = calloc(KVMP_TRANSLATE_MAX + 1, sizeof *va);
	struct kvms_op *ops = calloc(KVMP_BATCH_MAX + 1, sizeof *ops);

	cr_assert(va != NULL && ops != NULL);
	in.translate.va = va;
	in.translate.count = KVMP_TRANSLATE_MAX + 1;
	encode_request(&in);
	assert_refused(row, message(), message_size(), "addresses");
	for (unsigned i = 0; i <= KVMP_BATCH_MAX; i++)
		ops[i] = random_op(row);
	in = (struct kvmp_request){ .id = 42, .type = KVMP_BATCH, .batch = { ops, KVMP_BATCH_MAX + 1, false, false } };
	encode_request(&in);
	assert_refused(row, message(), message_size(), "operations");
	free(va);
	free(ops);
}

Test(codec, odd_words_in_a_list_of_pairs_are_refused)
{
	Kvmstore__Request r = KVMSTORE__REQUEST__INIT;
	Kvmstore__StoreCreate create = KVMSTORE__STORE_CREATE__INIT;
	Kvmstore__StoreConfig config = KVMSTORE__STORE_CONFIG__INIT;
	uint64_t words[4] = { 1, 2, 3, 4 };
	uint8_t data[256];

	r.has_id = 1;
	r.id = 42;
	r.body_case = KVMSTORE__REQUEST__BODY_STORE_CREATE;
	r.store_create = &create;
	create.name = "a";
	create.config = &config;
	config.reserve = words;
	config.n_reserve = 3;
	assert_refused(kvms_store_row(), data, kvmstore__request__pack(&r, data), "reserve");
	config.n_reserve = 0;
	config.kernel = words;
	config.n_kernel = 4;
	assert_refused(kvms_store_row(), data, kvmstore__request__pack(&r, data), "one range");
	config.n_kernel = 0;
	create.name = "../a";
	assert_refused(kvms_store_row(), data, kvmstore__request__pack(&r, data), "named");
	create.name = NULL;
	assert_refused(kvms_store_row(), data, kvmstore__request__pack(&r, data), "missing");
}

Test(codec, hello_is_checked)
{
	static const char *const features[KVMP_FEATURES_MAX + 1] = { "a", "a", "a", "a", "a", "a", "a", "a", "a",
								     "a", "a", "a", "a", "a", "a", "a", "a" };
	const struct kvms_row *row = kvms_store_row(); /* for the messages */
	struct kvmp_request in = { .id = 42, .type = KVMP_HELLO, .hello = { 1, "default", "", features, 17 } };
	char name[KVMP_CLIENT_NAME_MAX + 2];

	encode_request(&in);
	assert_refused(row, message(), message_size(), "features");
	in.hello.features_count = 0;
	in.hello.client = "a\nb";
	encode_request(&in);
	assert_refused(row, message(), message_size(), "client");
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	in.hello.client = name;
	encode_request(&in);
	assert_refused(row, message(), message_size(), "client");
	in.hello.client = "";
	in.hello.store = "a/b";
	encode_request(&in);
	assert_refused(row, message(), message_size(), "store");
}

/* ---- Memory -------------------------------------------------------------------------------- */

Test(codec, small_message_cannot_ask_for_much_memory)
{
	/* Request.batch with 2 million empty operations: 2 bytes each here, over 100 in memory */
	const uint32_t body = 4000000;
	uint8_t *data = malloc(body + 16), *at = data;
	struct kvmp_request out;

	cr_assert(data != NULL);
	*at++ = 7 << 3 | 2;
	for (uint32_t n = body; n > 0; n >>= 7)
		*at++ = (uint8_t)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
	for (uint32_t i = 0; i < body; i += 2) {
		*at++ = 0x0a;
		*at++ = 0;
	}
	cr_assert(!kvmp_request_decode(codec, data, (size_t)(at - data), &out, &why));
	cr_assert(strstr(why.text, "memory") != NULL, "%s", why.text);
	free(data);
}

/* Decode with ever more memory, until it is enough: each allocation fails once. */
static void
starve(const struct kvms_row *row, bool inspect)
{
	struct kvmp_request in = row_request(row, inspect), out;
	bool done = false;

	encode_request(&in);
	for (size_t limit = 1; limit < 100000 && !done; limit += 16) {
		struct kvmp_codec *poor = kvmp_codec_new(limit);

		cr_assert(poor != NULL);
		why.text[0] = '\0';
		done = kvmp_request_unpack(poor, message(), message_size(), &out, &why);
		cr_assert(done || why.text[0] != '\0');
		if (done)
			assert_same_op(row, &in.op, &out.op);
		kvmp_codec_free(&poor);
	}
	cr_assert(done, "%s", row->name);
}

Test(codec, every_allocation_may_fail)
{
	each_row(starve);
}

Test(codec, answer_beyond_the_limit_is_not_encoded)
{
	const struct kvms_row *row = kvms_request_find("areas");
	struct kvmp_response r = { .type = KVMP_R_OUTCOME };
	size_t count = KVMP_RESPONSE_MAX / 24 + 1;
	uint64_t *list = calloc(count * 3, sizeof *list);

	cr_assert(list != NULL);
	r.answer.row = row;
	r.answer.inspect = true;
	r.answer.outcome.present = 1;
	r.answer.outcome.field[0] = count;
	r.answer.outcome.list = list;
	r.answer.outcome.list_count = count * 3;
	cr_assert(kvmp_response_encode(codec, &r, &bytes) == KVMP_ENCODED_TOO_LARGE);
	cr_assert(kvmp_buffer_size(&bytes) == 0);
	r.answer.outcome.field[0] = count / 2;
	cr_assert(kvmp_response_encode(codec, &r, &bytes) == KVMP_ENCODED);
	free(list);
}
