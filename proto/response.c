#include "proto/message.h"

#include <assert.h>
#include <string.h>

#include "proto/internal.h"
#include "proto/wire.h"

/* Types of responses follow the numbers of the oneof. */
#define BODY_OF(type) ((type) + 1)

_Static_assert((int)KVMSTORE__RESPONSE__BODY_ERROR == BODY_OF(KVMP_R_ERROR) &&
		   (int)KVMSTORE__RESPONSE__BODY_HELLO == BODY_OF(KVMP_R_HELLO) &&
		   (int)KVMSTORE__RESPONSE__BODY_OUTCOME == BODY_OF(KVMP_R_OUTCOME) &&
		   (int)KVMSTORE__RESPONSE__BODY_TRANSLATED == BODY_OF(KVMP_R_TRANSLATED) &&
		   (int)KVMSTORE__RESPONSE__BODY_BATCH == BODY_OF(KVMP_R_BATCH) &&
		   (int)KVMSTORE__RESPONSE__BODY_STATUS == BODY_OF(KVMP_R_STATUS) &&
		   (int)KVMSTORE__RESPONSE__BODY_STORES == BODY_OF(KVMP_R_STORES) &&
		   (int)KVMSTORE__RESPONSE__BODY_STORE == BODY_OF(KVMP_R_STORE) &&
		   (int)KVMSTORE__RESPONSE__BODY_SNAPSHOTS == BODY_OF(KVMP_R_SNAPSHOTS) &&
		   (int)KVMSTORE__RESPONSE__BODY_DONE == BODY_OF(KVMP_R_DONE) &&
		   (int)KVMSTORE__RESPONSE__BODY_EXTENTS == BODY_OF(KVMP_R_EXTENTS),
	       "Response");

/* ---- Writing ------------------------------------------------------------------------ */

/* Each gives the body's message in "arena", or NULL: no memory. */
typedef ProtobufCMessage *writer(struct kvmp_arena *arena, const struct kvmp_response *r);

static void *
part_new(struct kvmp_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
	ProtobufCMessage *m = kvmp_arena_alloc(arena, descriptor->sizeof_message);

	if (m != NULL)
		protobuf_c_message_init(descriptor, m);
	return m;
}

/* Strings that come from tables of this program are plain ASCII and used where they are. */
static char *
constant(const char *text)
{
	return (char *)(uintptr_t)text;
}

static ProtobufCMessage *
write_error(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__Error *m = part_new(arena, &kvmstore__error__descriptor);

	if (m == NULL || (m->text = kvmp_text(arena, r->error.text)) == NULL)
		return NULL;
	m->has_code = 1;
	m->code = (Kvmstore__ErrorCode)r->error.code;
	m->has_closing = m->closing = r->error.closing;
	m->n_findings = r->error.findings_count;
	m->findings = (char **)(uintptr_t)r->error.findings;
	return &m->base;
}

static Kvmstore__StoreStatus *
store_write(struct kvmp_arena *arena, const struct kvmp_store_status *s)
{
	Kvmstore__StoreStatus *m = part_new(arena, &kvmstore__store_status__descriptor);

	if (m == NULL || (m->name = kvmp_text(arena, s->name)) == NULL)
		return NULL;
	if (s->broken != NULL && (m->broken = kvmp_text(arena, s->broken)) == NULL)
		return NULL;
	m->has_step = m->has_digest = m->has_check = 1;
	m->step = s->step;
	m->digest = s->digest;
	m->check = (Kvmstore__Check)s->check;
	m->has_check_every = s->check == KVMS_CHECK_FULL;
	m->check_every = s->check_every;
	m->has_saved_step = s->saved;
	m->saved_step = s->saved_step;
	m->config = (Kvmstore__StoreConfig *)kvmp_args_encode(kvmp_store_binding(), s->config, arena);
	return m->config == NULL ? NULL : m;
}

static ProtobufCMessage *
write_store(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__StoreStatus *m = store_write(arena, &r->store);

	return m == NULL ? NULL : &m->base;
}

static ProtobufCMessage *
write_stores(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__Stores *m = part_new(arena, &kvmstore__stores__descriptor);
	Kvmstore__StoreStatus **stores = kvmp_arena_alloc(arena, r->stores.count * sizeof *stores);

	if (m == NULL || stores == NULL)
		return NULL;
	for (size_t i = 0; i < r->stores.count; i++)
		if ((stores[i] = store_write(arena, &r->stores.stores[i])) == NULL)
			return NULL;
	m->n_stores = r->stores.count;
	m->stores = stores;
	return &m->base;
}

static ProtobufCMessage *
write_hello(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__HelloAnswer *m = part_new(arena, &kvmstore__hello_answer__descriptor);

	if (m == NULL || (m->server = kvmp_text(arena, r->hello.server)) == NULL)
		return NULL;
	if (r->hello.store != NULL && (m->store = store_write(arena, r->hello.store)) == NULL)
		return NULL;
	m->has_version = 1;
	m->version = r->hello.version;
	m->n_features = r->hello.features_count;
	m->features = (char **)(uintptr_t)r->hello.features;
	return &m->base;
}

/* The result message inside its oneof, for an operation or an inspection. */
static bool
result_write(struct kvmp_arena *arena, const struct kvmp_answer *a, Kvmstore__Outcome *m)
{
	const struct kvmp_binding *b = a->inspect ? kvmp_request_binding(a->row->code) : kvmp_op_binding(a->row->code);
	ProtobufCMessage *result = kvmp_results_encode(b, &a->outcome, arena);

	if (result == NULL)
		return false;
	if (a->inspect) {
		m->inspect_result = part_new(arena, &kvmstore__inspect_result__descriptor);
		if (m->inspect_result == NULL)
			return false;
		m->inspect_result->request_case = (Kvmstore__InspectResult__RequestCase)a->row->code;
		m->inspect_result->translate = (Kvmstore__InspectTranslateResult *)result;
	} else {
		m->result = part_new(arena, &kvmstore__op_result__descriptor);
		if (m->result == NULL)
			return false;
		m->result->op_case = (Kvmstore__OpResult__OpCase)a->row->code;
		m->result->frame_from_unused = (Kvmstore__FrameFromUnusedResult *)result;
	}
	return true;
}

static Kvmstore__Outcome *
outcome_write(struct kvmp_arena *arena, const struct kvmp_answer *a)
{
	Kvmstore__Outcome *m = part_new(arena, &kvmstore__outcome__descriptor);
	enum kvms_class outcome = kvms_outcome_class(a->outcome.name);

	if (m == NULL)
		return NULL;
	m->has_outcome = 1;
	m->outcome = (Kvmstore__OutcomeClass)outcome;
	m->has_step = a->has_step;
	m->step = a->step;
	if (outcome == KVMS_OK)
		return result_write(arena, a, m) ? m : NULL;
	m->name = constant(kvms_outcome_name(a->outcome.name));
	m->cause = constant(kvms_outcome_cause(a->outcome.name));
	m->has_detail = kvms_outcome_detail(a->outcome.name) != NULL;
	m->detail = a->outcome.detail;
	m->has_held_back = m->held_back = a->held_back;
	m->n_wait_cycle = a->cycle_count;
	m->wait_cycle = (uint64_t *)(uintptr_t)a->cycle;
	return m;
}

static ProtobufCMessage *
write_outcome(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__Outcome *m = outcome_write(arena, &r->answer);

	return m == NULL ? NULL : &m->base;
}

static ProtobufCMessage *
write_batch(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__BatchOutcomes *m = part_new(arena, &kvmstore__batch_outcomes__descriptor);
	Kvmstore__Outcome **outcomes = kvmp_arena_alloc(arena, r->batch.count * sizeof *outcomes);

	if (m == NULL || outcomes == NULL)
		return NULL;
	for (size_t i = 0; i < r->batch.count; i++)
		if ((outcomes[i] = outcome_write(arena, &r->batch.answers[i])) == NULL)
			return NULL;
	m->n_outcomes = r->batch.count;
	m->outcomes = outcomes;
	return &m->base;
}

static ProtobufCMessage *
write_translated(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__Translated *m = part_new(arena, &kvmstore__translated__descriptor);
	protobuf_c_boolean *found = kvmp_arena_alloc(arena, r->translated.count * sizeof *found);

	if (m == NULL || found == NULL)
		return NULL;
	for (size_t i = 0; i < r->translated.count; i++)
		found[i] = r->translated.found[i];
	m->n_found = m->n_paddr = r->translated.count;
	m->found = found;
	m->paddr = (uint64_t *)(uintptr_t)r->translated.paddr;
	return &m->base;
}

static ProtobufCMessage *
write_status(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	const struct kvmp_status *s = &r->status;
	Kvmstore__Status *m = part_new(arena, &kvmstore__status__descriptor);

	if (m == NULL || (m->server = kvmp_text(arena, s->server)) == NULL ||
	    (m->durability = kvmp_text(arena, s->durability)) == NULL ||
	    (s->state_dir != NULL && (m->state_dir = kvmp_text(arena, s->state_dir)) == NULL) ||
	    (s->store != NULL && (m->store = store_write(arena, s->store)) == NULL))
		return NULL;
	m->has_pid = m->has_uptime_seconds = m->has_connections = m->has_requests = m->has_stores = 1;
	m->pid = s->pid;
	m->uptime_seconds = s->uptime_seconds;
	m->connections = s->connections;
	m->requests = s->requests;
	m->stores = s->stores;
	m->has_waiting = 1;
	m->waiting = s->waiting;
	return &m->base;
}

static Kvmstore__Snapshot *
snapshot_write(struct kvmp_arena *arena, const struct kvmp_snapshot *s)
{
	Kvmstore__Snapshot *m = part_new(arena, &kvmstore__snapshot__descriptor);

	if (m == NULL || (m->store = kvmp_text(arena, s->store)) == NULL ||
	    (m->taken = kvmp_text(arena, s->taken)) == NULL || (m->library = kvmp_text(arena, s->library)) == NULL)
		return NULL;
	m->has_id = m->has_step = m->has_digest = 1;
	m->id = s->id;
	m->step = s->step;
	m->digest = s->digest;
	m->has_kept = 1;
	m->kept = s->kept;
	return m;
}

static ProtobufCMessage *
write_snapshots(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__Snapshots *m = part_new(arena, &kvmstore__snapshots__descriptor);
	Kvmstore__Snapshot **snapshots = kvmp_arena_alloc(arena, r->snapshots.count * sizeof *snapshots);

	if (m == NULL || snapshots == NULL)
		return NULL;
	for (size_t i = 0; i < r->snapshots.count; i++)
		if ((snapshots[i] = snapshot_write(arena, &r->snapshots.snapshots[i])) == NULL)
			return NULL;
	m->n_snapshots = r->snapshots.count;
	m->snapshots = snapshots;
	return &m->base;
}

static ProtobufCMessage *
write_extents(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	Kvmstore__ExtentRuns *m = part_new(arena, &kvmstore__extent_runs__descriptor);
	size_t count = r->extents.count;
	uint64_t *va = kvmp_arena_alloc(arena, count * sizeof *va),
		 *paddr = kvmp_arena_alloc(arena, count * sizeof *va);
	uint64_t *leaves = kvmp_arena_alloc(arena, count * sizeof *va);
	uint32_t *level = kvmp_arena_alloc(arena, count * sizeof *level),
		 *prop = kvmp_arena_alloc(arena, count * sizeof *prop);
	protobuf_c_boolean *tracked = kvmp_arena_alloc(arena, count * sizeof *tracked);

	if (m == NULL || va == NULL || paddr == NULL || leaves == NULL || level == NULL || prop == NULL ||
	    tracked == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		const struct kvms_extent *run = &r->extents.runs[i];

		va[i] = run->va;
		paddr[i] = run->paddr;
		leaves[i] = run->leaves;
		level[i] = run->level;
		prop[i] = (uint32_t)run->prop;
		tracked[i] = run->tracked;
	}
	m->n_va = m->n_paddr = m->n_leaves = m->n_level = m->n_prop = m->n_tracked = count;
	m->va = va;
	m->paddr = paddr;
	m->leaves = leaves;
	m->level = level;
	m->prop = prop;
	m->tracked = tracked;
	m->has_next = r->extents.more;
	m->next = r->extents.next;
	return &m->base;
}

static ProtobufCMessage *
write_done(struct kvmp_arena *arena, const struct kvmp_response *r)
{
	(void)r;
	return part_new(arena, &kvmstore__done__descriptor);
}

static writer *const writers[KVMP_RESPONSE_TYPES] = {
	[KVMP_R_ERROR] = write_error,         [KVMP_R_HELLO] = write_hello,
	[KVMP_R_OUTCOME] = write_outcome,     [KVMP_R_TRANSLATED] = write_translated,
	[KVMP_R_BATCH] = write_batch,         [KVMP_R_STATUS] = write_status,
	[KVMP_R_STORES] = write_stores,       [KVMP_R_STORE] = write_store,
	[KVMP_R_SNAPSHOTS] = write_snapshots, [KVMP_R_DONE] = write_done,
	[KVMP_R_EXTENTS] = write_extents,
};

enum kvmp_encoded
kvmp_response_pack(struct kvmp_codec *c, const struct kvmp_response *r, struct kvmp_buffer *to)
{
	Kvmstore__Response m = KVMSTORE__RESPONSE__INIT;
	ProtobufCMessage *body;

	assert(r->type > KVMP_R_NOTHING && r->type < KVMP_RESPONSE_TYPES);
	kvmp_arena_reset(&c->out);
	body = writers[r->type](&c->out, r);
	if (body == NULL)
		return KVMP_ENCODED_NO_MEMORY;
	m.has_id = 1;
	m.id = r->id;
	m.body_case = (Kvmstore__Response__BodyCase)BODY_OF(r->type);
	m.error = (Kvmstore__Error *)body;
	return kvmp_frame_append(&m.base, KVMP_RESPONSE_MAX, to);
}

/* ---- Reading ---------------------------------------------------------------------------- */

typedef bool reader(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out,
		    struct kvmp_refusal *why);

static const char *
or_empty(const char *text)
{
	return text == NULL ? "" : text;
}

static bool
read_error(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	(void)c, (void)why;
	out->error.code = (enum kvmp_error_code)m->error->code;
	out->error.text = or_empty(m->error->text);
	out->error.closing = m->error->closing != 0;
	out->error.findings = (const char *const *)m->error->findings;
	out->error.findings_count = m->error->n_findings;
	return true;
}

static bool
store_read(struct kvmp_codec *c, const Kvmstore__StoreStatus *m, struct kvmp_store_status *out,
	   struct kvmp_refusal *why)
{
	struct kvms_op *config = kvmp_arena_alloc(&c->in, sizeof *config);

	if (config == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "StoreStatus: too large");
	if (m->config == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "StoreStatus: the configuration is missing");
	out->name = or_empty(m->name);
	out->step = m->step;
	out->digest = m->digest;
	out->check = (enum kvms_check)m->check;
	out->check_every = m->has_check_every ? m->check_every : 1;
	out->broken = m->broken;
	out->saved = m->has_saved_step != 0;
	out->saved_step = m->saved_step;
	out->config = config;
	return kvmp_known(&m->base, why) &&
	       kvmp_row_args_decode(c, kvmp_store_binding(), &m->config->base, config, why);
}

static bool
read_store(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	return store_read(c, m->store, &out->store, why);
}

static bool
read_stores(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	size_t count = m->stores->n_stores;
	struct kvmp_store_status *stores = kvmp_arena_alloc(&c->in, count * sizeof *stores);

	if (stores == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Stores: too large");
	for (size_t i = 0; i < count; i++)
		if (!store_read(c, m->stores->stores[i], &stores[i], why))
			return false;
	out->stores.stores = stores;
	out->stores.count = count;
	return true;
}

/* A part that may be missing. */
static bool
store_part_read(struct kvmp_codec *c, const Kvmstore__StoreStatus *m, const struct kvmp_store_status **out,
		struct kvmp_refusal *why)
{
	struct kvmp_store_status *store;

	*out = NULL;
	if (m == NULL)
		return true;
	store = kvmp_arena_alloc(&c->in, sizeof *store);
	if (store == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "StoreStatus: too large");
	*out = store;
	return store_read(c, m, store, why);
}

static bool
read_hello(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	out->hello.version = m->hello->version;
	out->hello.server = or_empty(m->hello->server);
	out->hello.features = (const char *const *)m->hello->features;
	out->hello.features_count = m->hello->n_features;
	return store_part_read(c, m->hello->store, &out->hello.store, why);
}

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The outcome that is not ok, by its three words. */
static bool
name_read(const Kvmstore__Outcome *m, struct kvms_outcome *out, struct kvmp_refusal *why)
{
	for (unsigned name = 1; name <= kvms_outcome_max(); name++)
		if (m->name != NULL && (int)kvms_outcome_class(name) == (int)m->outcome &&
		    same(kvms_outcome_name(name), m->name) && same(kvms_outcome_cause(name), m->cause)) {
			memset(out, 0, sizeof *out);
			out->name = name;
			out->detail = m->detail;
			return true;
		}
	return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Outcome: not known here: class %d, name %.64s", (int)m->outcome,
			   or_empty(m->name));
}

static bool
result_read(struct kvmp_codec *c, const Kvmstore__Outcome *m, struct kvmp_answer *out, struct kvmp_refusal *why)
{
	const struct kvmp_binding *b = NULL;
	const ProtobufCMessage *result = NULL;

	out->inspect = m->inspect_result != NULL;
	if (m->result != NULL) {
		b = kvmp_op_binding((unsigned)m->result->op_case);
		result = b == NULL ? NULL : &m->result->frame_from_unused->base;
	} else if (m->inspect_result != NULL) {
		b = kvmp_request_binding((unsigned)m->inspect_result->request_case);
		result = b == NULL ? NULL : &m->inspect_result->translate->base;
	}
	if (result == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Outcome: a result that is missing or not known here");
	out->row = b->row;
	return kvmp_results_decode(b, result, &c->in, &out->outcome, why->text, sizeof why->text) ||
	       (why->code = KVMP_ERROR_MALFORMED, false);
}

static bool
outcome_read(struct kvmp_codec *c, const Kvmstore__Outcome *m, struct kvmp_answer *out, struct kvmp_refusal *why)
{
	memset(out, 0, sizeof *out);
	out->has_step = m->has_step != 0;
	out->step = m->step;
	out->held_back = m->held_back != 0;
	out->cycle = m->wait_cycle;
	out->cycle_count = m->n_wait_cycle;
	if (!kvmp_known(&m->base, why))
		return false;
	if (!m->has_outcome)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Outcome: its class is missing");
	return m->outcome == KVMSTORE__OUTCOME_CLASS__OUTCOME_OK ? result_read(c, m, out, why)
								 : name_read(m, &out->outcome, why);
}

static bool
read_outcome(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	return outcome_read(c, m->outcome, &out->answer, why);
}

static bool
read_batch(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	size_t count = m->batch->n_outcomes;
	struct kvmp_answer *answers = kvmp_arena_alloc(&c->in, count * sizeof *answers);

	if (answers == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "BatchOutcomes: too large");
	for (size_t i = 0; i < count; i++)
		if (!outcome_read(c, m->batch->outcomes[i], &answers[i], why))
			return false;
	out->batch.answers = answers;
	out->batch.count = count;
	return true;
}

static bool
read_translated(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	size_t count = m->translated->n_found;
	uint8_t *found = kvmp_arena_alloc(&c->in, count);

	if (found == NULL || m->translated->n_paddr != count)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Translated: columns of different length, or too large");
	for (size_t i = 0; i < count; i++)
		found[i] = m->translated->found[i] != 0;
	out->translated.found = found;
	out->translated.paddr = m->translated->paddr;
	out->translated.count = count;
	return true;
}

static bool
read_status(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	const Kvmstore__Status *s = m->status;

	out->status.server = or_empty(s->server);
	out->status.pid = s->pid;
	out->status.uptime_seconds = s->uptime_seconds;
	out->status.connections = s->connections;
	out->status.requests = s->requests;
	out->status.stores = s->stores;
	out->status.waiting = s->waiting;
	out->status.state_dir = s->state_dir;
	out->status.durability = or_empty(s->durability);
	return store_part_read(c, s->store, &out->status.store, why);
}

static bool
read_snapshots(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	size_t count = m->snapshots->n_snapshots;
	struct kvmp_snapshot *snapshots = kvmp_arena_alloc(&c->in, count * sizeof *snapshots);

	if (snapshots == NULL)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Snapshots: too large");
	for (size_t i = 0; i < count; i++) {
		const Kvmstore__Snapshot *s = m->snapshots->snapshots[i];

		snapshots[i] = (struct kvmp_snapshot){
			.store = or_empty(s->store),
			.id = s->id,
			.step = s->step,
			.digest = s->digest,
			.taken = or_empty(s->taken),
			.library = or_empty(s->library),
			.kept = s->kept != 0,
		};
	}
	out->snapshots.snapshots = snapshots;
	out->snapshots.count = count;
	return true;
}

static bool
read_extents(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	const Kvmstore__ExtentRuns *e = m->extents;
	size_t count = e->n_va;
	struct kvms_extent *runs = kvmp_arena_alloc(&c->in, count * sizeof *runs);

	if (runs == NULL || e->n_paddr != count || e->n_leaves != count || e->n_level != count || e->n_prop != count ||
	    e->n_tracked != count)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "ExtentRuns: columns of different length, or too large");
	for (size_t i = 0; i < count; i++)
		runs[i] = (struct kvms_extent){
			.va = e->va[i],
			.paddr = e->paddr[i],
			.leaves = e->leaves[i],
			.level = e->level[i],
			.prop = e->prop[i],
			.tracked = e->tracked[i] != 0,
		};
	out->extents.runs = runs;
	out->extents.count = count;
	out->extents.more = e->has_next != 0;
	out->extents.next = e->next;
	return true;
}

static bool
read_done(struct kvmp_codec *c, const Kvmstore__Response *m, struct kvmp_response *out, struct kvmp_refusal *why)
{
	(void)c, (void)m, (void)out, (void)why;
	return true;
}

static reader *const readers[KVMP_RESPONSE_TYPES] = {
	[KVMP_R_ERROR] = read_error,         [KVMP_R_HELLO] = read_hello,
	[KVMP_R_OUTCOME] = read_outcome,     [KVMP_R_TRANSLATED] = read_translated,
	[KVMP_R_BATCH] = read_batch,         [KVMP_R_STATUS] = read_status,
	[KVMP_R_STORES] = read_stores,       [KVMP_R_STORE] = read_store,
	[KVMP_R_SNAPSHOTS] = read_snapshots, [KVMP_R_DONE] = read_done,
	[KVMP_R_EXTENTS] = read_extents,
};

bool
kvmp_response_unpack(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_response *out,
		     struct kvmp_refusal *why)
{
	const Kvmstore__Response *m =
	    (const Kvmstore__Response *)kvmp_unpack(c, &kvmstore__response__descriptor, data, size, why);
	unsigned type;

	if (m == NULL)
		return false;
	why->id = out->id = m->id;
	if (!kvmp_known(&m->base, why))
		return false;
	if (m->body_case == KVMSTORE__RESPONSE__BODY__NOT_SET)
		return kvmp_refuse(why, KVMP_ERROR_MALFORMED, "Response: it says nothing");
	type = (unsigned)m->body_case - BODY_OF(0);
	out->type = (enum kvmp_response_type)type;
	/* all bodies are messages, in one place */
	return kvmp_known(&m->error->base, why) && kvmp_exact(&m->base, size, why) && readers[type](c, m, out, why);
}

/* ---- Fast, or through protobuf-c ------------------------------------------------------- */

bool
kvmp_response_decode(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_response *out,
		     struct kvmp_refusal *why)
{
	kvmp_arena_reset(&c->in);
	return kvmp_wire_response_get(data, size, &c->in, out) || kvmp_response_unpack(c, data, size, out, why);
}

enum kvmp_encoded
kvmp_response_encode(struct kvmp_codec *c, const struct kvmp_response *r, struct kvmp_buffer *to)
{
	return kvmp_wire_response_put(r, to) ? KVMP_ENCODED : kvmp_response_pack(c, r, to);
}
