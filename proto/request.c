#include "proto/message.h"

#include <string.h>

#include "proto/address.h"
#include "proto/internal.h"
#include "proto/wire.h"

/* The field of each request. */
static const Kvmstore__Request__BodyCase body_of[KVMP_REQUEST_TYPES] = {
	[KVMP_HELLO] = KVMSTORE__REQUEST__BODY_HELLO,
	[KVMP_OP] = KVMSTORE__REQUEST__BODY_OP,
	[KVMP_INSPECT] = KVMSTORE__REQUEST__BODY_INSPECT,
	[KVMP_TRANSLATE_MANY] = KVMSTORE__REQUEST__BODY_TRANSLATE_MANY,
	[KVMP_BATCH] = KVMSTORE__REQUEST__BODY_BATCH,
	[KVMP_STATUS] = KVMSTORE__REQUEST__BODY_STATUS,
	[KVMP_STORE_LIST] = KVMSTORE__REQUEST__BODY_STORE_LIST,
	[KVMP_STORE_CREATE] = KVMSTORE__REQUEST__BODY_STORE_CREATE,
	[KVMP_STORE_DROP] = KVMSTORE__REQUEST__BODY_STORE_DROP,
	[KVMP_STORE_SELECT] = KVMSTORE__REQUEST__BODY_STORE_SELECT,
	[KVMP_SET_CHECK] = KVMSTORE__REQUEST__BODY_SET_CHECK,
	[KVMP_SNAPSHOT_SAVE] = KVMSTORE__REQUEST__BODY_SNAPSHOT_SAVE,
	[KVMP_SNAPSHOT_LIST] = KVMSTORE__REQUEST__BODY_SNAPSHOT_LIST,
	[KVMP_SNAPSHOT_LOAD] = KVMSTORE__REQUEST__BODY_SNAPSHOT_LOAD,
	[KVMP_EXTENTS] = KVMSTORE__REQUEST__BODY_EXTENTS,
	[KVMP_UNDO] = KVMSTORE__REQUEST__BODY_UNDO,
	[KVMP_SETTLE] = KVMSTORE__REQUEST__BODY_SETTLE,
	[KVMP_STORE_CLONE] = KVMSTORE__REQUEST__BODY_STORE_CLONE,
	[KVMP_SNAPSHOT_DROP] = KVMSTORE__REQUEST__BODY_SNAPSHOT_DROP,
};

/* The type of a request that has a body. */
static unsigned
type_of(const Kvmstore__Request *m)
{
	unsigned type = 0;

	while (body_of[type] != m->body_case)
		type++; /* every body is in the table: a field that is not in it has been refused */
	return type;
}

/* ---- Reading -------------------------------------------------------------------- */

/* Each fills its part of *out from the message; the message's own unknown fields are looked at before. */
typedef bool reader(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out,
		    struct kvmp_refusal *why);

static bool
read_nothing(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c, (void)m, (void)out, (void)why;
	return true;
}

/* Printable ASCII, and not too long: it goes to the log. */
static bool
client_name_valid(const char *name)
{
	for (const char *at = name; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			return false;
	return strlen(name) <= KVMP_CLIENT_NAME_MAX;
}

static bool
store_name_read(const char *name, const char **out, struct kvmp_refusal *why)
{
	if (name == NULL)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "the name of the store is missing");
	*out = name;
	return kvmp_store_name_valid(name) ||
	       kvmp_refuse(why, KVMP_ERROR_INVALID,
			   "a store is named by 1 to %u of A-Z a-z 0-9 . _ - and does not start with a dot",
			   KVMP_STORE_NAME_MAX);
}

static bool
read_hello(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	const Kvmstore__Hello *hello = m->hello;

	(void)c;
	out->hello.version = hello->version;
	out->hello.client = hello->client == NULL ? "" : hello->client;
	out->hello.features = (const char *const *)hello->features;
	out->hello.features_count = hello->n_features;
	if (!hello->has_version)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Hello: the protocol version is missing");
	if (!client_name_valid(out->hello.client))
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Hello: client is more than %u bytes or not plain ASCII",
				   KVMP_CLIENT_NAME_MAX);
	if (hello->n_features > KVMP_FEATURES_MAX)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Hello: more than %u features", KVMP_FEATURES_MAX);
	return store_name_read(hello->store == NULL ? "default" : hello->store, &out->hello.store, why);
}

/* The operation in "m": the member of the oneof that is set, and its row. */
static bool
op_read(struct kvmp_codec *c, const Kvmstore__Op *m, struct kvms_op *op, struct kvmp_refusal *why)
{
	const struct kvmp_binding *b = kvmp_op_binding((unsigned)m->op_case);

	if (!kvmp_known(&m->base, why))
		return false;
	if (b == NULL)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Op: which operation is missing");
	/* members of the oneof are pointers to messages, all in one place */
	return kvmp_row_args_decode(c, b, &m->frame_from_unused->base, op, why);
}

static bool
read_op(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	out->dry_run = m->dry_run != 0;
	out->detached = m->detached != 0;
	out->wait_ms = m->wait_ms;
	return op_read(c, m->op, &out->op, why);
}

static bool
read_inspect(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	const Kvmstore__Inspect *inspect = m->inspect;
	const struct kvmp_binding *b = kvmp_request_binding((unsigned)inspect->request_case);

	if (b == NULL)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Inspect: which request is missing");
	return kvmp_row_args_decode(c, b, &inspect->translate->base, &out->op, why);
}

static bool
read_translate_many(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out,
		    struct kvmp_refusal *why)
{
	(void)c;
	out->translate.table = m->translate_many->table;
	out->translate.va = m->translate_many->va;
	out->translate.count = m->translate_many->n_va;
	return out->translate.count <= KVMP_TRANSLATE_MAX ||
	       kvmp_refuse(why, KVMP_ERROR_INVALID, "TranslateMany: %zu addresses, at most %u are taken",
			   out->translate.count, KVMP_TRANSLATE_MAX);
}

static bool
read_batch(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	size_t count = m->batch->n_ops;
	struct kvms_op *ops;

	if (count > KVMP_BATCH_MAX)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Batch: %zu operations, at most %u are taken", count,
				   KVMP_BATCH_MAX);
	ops = kvmp_arena_alloc(&c->in, count * sizeof *ops);
	if (ops == NULL)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Batch: too large");
	for (size_t i = 0; i < count; i++)
		if (!op_read(c, m->batch->ops[i], &ops[i], why))
			return false;
	out->batch.ops = ops;
	out->batch.count = count;
	out->batch.stop = m->batch->stop != 0;
	out->batch.atomic = m->batch->atomic != 0;
	return true;
}

static bool
read_store_create(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	const Kvmstore__StoreCreate *create = m->store_create;

	kvms_op_init(&out->store.config, kvms_store_row());
	return store_name_read(create->name, &out->store.name, why) &&
	       (create->config == NULL ||
		kvmp_row_args_decode(c, kvmp_store_binding(), &create->config->base, &out->store.config, why));
}

static bool
read_store_drop(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c;
	return store_name_read(m->store_drop->name, &out->store.name, why);
}

static bool
read_store_select(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c;
	return store_name_read(m->store_select->name, &out->store.name, why);
}

static bool
read_set_check(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	const Kvmstore__SetCheck *set = m->set_check;

	(void)c;
	out->check.check = (enum kvms_check)set->check;
	out->check.every = set->has_every ? set->every : 1;
	if (!set->has_check)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "SetCheck: argument check is missing");
	if ((int)set->check < (int)KVMS_CHECK_OFF || (int)set->check > (int)KVMS_CHECK_FULL)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "SetCheck: there is no Check %d", (int)set->check);
	return out->check.every > 0 || kvmp_refuse(why, KVMP_ERROR_INVALID, "SetCheck: every must be at least 1");
}

static bool
read_snapshot_load(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c, (void)why;
	out->snapshot = m->snapshot_load->id;
	return true;
}

static bool
read_snapshot_drop(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c, (void)why;
	out->snapshot = m->snapshot_drop->id;
	return true;
}

static bool
read_undo(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c, (void)why;
	out->undo = m->undo->steps;
	return true;
}

static bool
read_store_clone(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c;
	out->clone.has_step = m->store_clone->has_step;
	out->clone.step = m->store_clone->step;
	return store_name_read(m->store_clone->name, &out->clone.name, why);
}

static bool
read_extents(struct kvmp_codec *c, const Kvmstore__Request *m, struct kvmp_request *out, struct kvmp_refusal *why)
{
	(void)c, (void)why;
	out->extents.table = m->extents->table;
	out->extents.first = m->extents->first;
	out->extents.last = m->extents->last;
	return true;
}

static reader *const readers[KVMP_REQUEST_TYPES] = {
	[KVMP_HELLO] = read_hello,           [KVMP_OP] = read_op,
	[KVMP_INSPECT] = read_inspect,       [KVMP_TRANSLATE_MANY] = read_translate_many,
	[KVMP_BATCH] = read_batch,           [KVMP_STATUS] = read_nothing,
	[KVMP_STORE_LIST] = read_nothing,    [KVMP_STORE_CREATE] = read_store_create,
	[KVMP_STORE_DROP] = read_store_drop, [KVMP_STORE_SELECT] = read_store_select,
	[KVMP_SET_CHECK] = read_set_check,   [KVMP_SNAPSHOT_SAVE] = read_nothing,
	[KVMP_SNAPSHOT_LIST] = read_nothing, [KVMP_SNAPSHOT_LOAD] = read_snapshot_load,
	[KVMP_EXTENTS] = read_extents,       [KVMP_UNDO] = read_undo,
	[KVMP_SETTLE] = read_nothing,        [KVMP_STORE_CLONE] = read_store_clone,
	[KVMP_SNAPSHOT_DROP] = read_snapshot_drop,
};

bool
kvmp_request_unpack(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_request *out,
		    struct kvmp_refusal *why)
{
	const Kvmstore__Request *m =
	    (const Kvmstore__Request *)kvmp_unpack(c, &kvmstore__request__descriptor, data, size, why);
	unsigned type;

	if (m == NULL)
		return false;
	why->id = out->id = m->id;
	out->dry_run = out->detached = false;
	out->wait_ms = 0;
	if (!kvmp_known(&m->base, why))
		return false;
	if (m->body_case == KVMSTORE__REQUEST__BODY__NOT_SET)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Request: it asks for nothing");
	type = type_of(m);
	out->type = (enum kvmp_request_type)type;
	if (m->has_dry_run && m->dry_run && out->type != KVMP_OP)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Request: dry_run goes with op only");
	if (m->has_detached && m->detached && out->type != KVMP_OP)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Request: detached goes with op only");
	if (m->has_wait_ms && m->wait_ms > 0 && out->type != KVMP_OP)
		return kvmp_refuse(why, KVMP_ERROR_INVALID, "Request: wait_ms goes with op only");
	/* all bodies are messages, in one place */
	return kvmp_known(&m->hello->base, why) && kvmp_exact(&m->base, size, why) && readers[type](c, m, out, why);
}

/* ---- Writing ------------------------------------------------------------------------ */

/* Each gives the body's message in the codec's memory, or NULL: no memory. */
typedef ProtobufCMessage *writer(struct kvmp_arena *arena, const struct kvmp_request *r);

static void *
body_new(struct kvmp_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
	ProtobufCMessage *m = kvmp_arena_alloc(arena, descriptor->sizeof_message);

	if (m != NULL)
		protobuf_c_message_init(descriptor, m);
	return m;
}

static ProtobufCMessage *
write_hello(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Hello *hello = body_new(arena, &kvmstore__hello__descriptor);

	if (hello == NULL)
		return NULL;
	hello->has_version = 1;
	hello->version = r->hello.version;
	hello->store = (char *)(uintptr_t)r->hello.store;
	if (r->hello.client != NULL && r->hello.client[0] != '\0')
		hello->client = kvmp_text(arena, r->hello.client);
	hello->n_features = r->hello.features_count;
	hello->features = (char **)(uintptr_t)r->hello.features;
	return &hello->base;
}

static Kvmstore__Op *
op_write(struct kvmp_arena *arena, const struct kvms_op *op)
{
	Kvmstore__Op *m = body_new(arena, &kvmstore__op__descriptor);
	ProtobufCMessage *args = kvmp_args_encode(kvmp_op_binding(op->code), op, arena);

	if (m == NULL || args == NULL)
		return NULL;
	m->op_case = (Kvmstore__Op__OpCase)op->code;
	m->frame_from_unused = (Kvmstore__FrameFromUnused *)args;
	return m;
}

static ProtobufCMessage *
write_op(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Op *m = op_write(arena, &r->op);

	return m == NULL ? NULL : &m->base;
}

static ProtobufCMessage *
write_inspect(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Inspect *m = body_new(arena, &kvmstore__inspect__descriptor);
	ProtobufCMessage *args = kvmp_args_encode(kvmp_request_binding(r->op.code), &r->op, arena);

	if (m == NULL || args == NULL)
		return NULL;
	m->request_case = (Kvmstore__Inspect__RequestCase)r->op.code;
	m->translate = (Kvmstore__InspectTranslate *)args;
	return &m->base;
}

static ProtobufCMessage *
write_translate_many(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__TranslateMany *m = body_new(arena, &kvmstore__translate_many__descriptor);

	if (m == NULL)
		return NULL;
	m->has_table = 1;
	m->table = r->translate.table;
	m->n_va = r->translate.count;
	m->va = (uint64_t *)(uintptr_t)r->translate.va;
	return &m->base;
}

static ProtobufCMessage *
write_batch(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Batch *m = body_new(arena, &kvmstore__batch__descriptor);
	Kvmstore__Op **ops = kvmp_arena_alloc(arena, r->batch.count * sizeof *ops);

	if (m == NULL || ops == NULL)
		return NULL;
	for (size_t i = 0; i < r->batch.count; i++)
		if ((ops[i] = op_write(arena, &r->batch.ops[i])) == NULL)
			return NULL;
	m->n_ops = r->batch.count;
	m->ops = ops;
	m->has_stop = r->batch.stop;
	m->stop = r->batch.stop;
	m->has_atomic = r->batch.atomic;
	m->atomic = r->batch.atomic;
	return &m->base;
}

static ProtobufCMessage *
write_store_create(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__StoreCreate *m = body_new(arena, &kvmstore__store_create__descriptor);

	if (m == NULL)
		return NULL;
	m->name = (char *)(uintptr_t)r->store.name;
	m->config = (Kvmstore__StoreConfig *)kvmp_args_encode(kvmp_store_binding(), &r->store.config, arena);
	return m->config == NULL ? NULL : &m->base;
}

static ProtobufCMessage *
write_store_drop(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__StoreDrop *m = body_new(arena, &kvmstore__store_drop__descriptor);

	if (m == NULL)
		return NULL;
	m->name = (char *)(uintptr_t)r->store.name;
	return &m->base;
}

static ProtobufCMessage *
write_store_select(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__StoreSelect *m = body_new(arena, &kvmstore__store_select__descriptor);

	if (m == NULL)
		return NULL;
	m->name = (char *)(uintptr_t)r->store.name;
	return &m->base;
}

static ProtobufCMessage *
write_set_check(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__SetCheck *m = body_new(arena, &kvmstore__set_check__descriptor);

	if (m == NULL)
		return NULL;
	m->has_check = 1;
	m->check = (Kvmstore__Check)r->check.check;
	m->has_every = 1;
	m->every = r->check.every;
	return &m->base;
}

static ProtobufCMessage *
write_snapshot_load(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__SnapshotLoad *m = body_new(arena, &kvmstore__snapshot_load__descriptor);

	if (m == NULL)
		return NULL;
	m->has_id = r->snapshot != 0;
	m->id = r->snapshot;
	return &m->base;
}

static ProtobufCMessage *
write_snapshot_drop(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__SnapshotDrop *m = body_new(arena, &kvmstore__snapshot_drop__descriptor);

	if (m == NULL)
		return NULL;
	m->has_id = 1;
	m->id = r->snapshot;
	return &m->base;
}

static ProtobufCMessage *
write_undo(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Undo *m = body_new(arena, &kvmstore__undo__descriptor);

	if (m == NULL)
		return NULL;
	m->has_steps = 1;
	m->steps = r->undo;
	return &m->base;
}

static ProtobufCMessage *
write_store_clone(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__StoreClone *m = body_new(arena, &kvmstore__store_clone__descriptor);

	if (m == NULL)
		return NULL;
	m->name = (char *)(uintptr_t)r->clone.name;
	m->has_step = r->clone.has_step;
	m->step = r->clone.step;
	return &m->base;
}

static ProtobufCMessage *
write_extents(struct kvmp_arena *arena, const struct kvmp_request *r)
{
	Kvmstore__Extents *m = body_new(arena, &kvmstore__extents__descriptor);

	if (m == NULL)
		return NULL;
	m->has_table = m->has_first = m->has_last = 1;
	m->table = r->extents.table;
	m->first = r->extents.first;
	m->last = r->extents.last;
	return &m->base;
}

/* Bodies without fields are made from the descriptor alone. */
static const struct {
	writer *write;
	const ProtobufCMessageDescriptor *empty;
} writers[KVMP_REQUEST_TYPES] = {
	[KVMP_HELLO] = { write_hello, NULL },
	[KVMP_OP] = { write_op, NULL },
	[KVMP_INSPECT] = { write_inspect, NULL },
	[KVMP_TRANSLATE_MANY] = { write_translate_many, NULL },
	[KVMP_BATCH] = { write_batch, NULL },
	[KVMP_STATUS] = { NULL, &kvmstore__status_request__descriptor },
	[KVMP_STORE_LIST] = { NULL, &kvmstore__store_list__descriptor },
	[KVMP_STORE_CREATE] = { write_store_create, NULL },
	[KVMP_STORE_DROP] = { write_store_drop, NULL },
	[KVMP_STORE_SELECT] = { write_store_select, NULL },
	[KVMP_SET_CHECK] = { write_set_check, NULL },
	[KVMP_SNAPSHOT_SAVE] = { NULL, &kvmstore__snapshot_save__descriptor },
	[KVMP_SNAPSHOT_LIST] = { NULL, &kvmstore__snapshot_list__descriptor },
	[KVMP_SNAPSHOT_LOAD] = { write_snapshot_load, NULL },
	[KVMP_EXTENTS] = { write_extents, NULL },
	[KVMP_UNDO] = { write_undo, NULL },
	[KVMP_SETTLE] = { NULL, &kvmstore__settle__descriptor },
	[KVMP_STORE_CLONE] = { write_store_clone, NULL },
	[KVMP_SNAPSHOT_DROP] = { write_snapshot_drop, NULL },
};

enum kvmp_encoded
kvmp_request_pack(struct kvmp_codec *c, const struct kvmp_request *r, struct kvmp_buffer *to)
{
	Kvmstore__Request m = KVMSTORE__REQUEST__INIT;
	ProtobufCMessage *body;

	kvmp_arena_reset(&c->out);
	body = writers[r->type].write != NULL ? writers[r->type].write(&c->out, r)
					      : body_new(&c->out, writers[r->type].empty);
	if (body == NULL)
		return KVMP_ENCODED_NO_MEMORY;
	m.has_id = r->id != 0;
	m.id = r->id;
	m.has_dry_run = m.dry_run = r->type == KVMP_OP && r->dry_run;
	m.has_detached = m.detached = r->type == KVMP_OP && r->detached;
	m.has_wait_ms = r->type == KVMP_OP && r->wait_ms > 0;
	m.wait_ms = r->wait_ms;
	m.body_case = body_of[r->type];
	m.hello = (Kvmstore__Hello *)body;
	return kvmp_frame_append(&m.base, KVMP_REQUEST_MAX, to);
}

/* ---- Fast, or through protobuf-c ------------------------------------------------------- */

bool
kvmp_request_decode(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_request *out,
		    struct kvmp_refusal *why)
{
	kvmp_arena_reset(&c->in);
	return kvmp_wire_request_get(data, size, &c->in, out) || kvmp_request_unpack(c, data, size, out, why);
}

enum kvmp_encoded
kvmp_request_encode(struct kvmp_codec *c, const struct kvmp_request *r, struct kvmp_buffer *to)
{
	return kvmp_wire_request_put(r, to) ? KVMP_ENCODED : kvmp_request_pack(c, r, to);
}
