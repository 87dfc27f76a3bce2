/*
 * remote - a daemon's store as the target of a trace.
 *
 * The protocol has no request for the leaves of a table; they are found by
 * asking what an address reaches, and where nothing is, how far the walk came:
 * an absent entry at level n clears the whole span of that entry at once.
 * Within the vmalloc ranges leaves lie in areas only (law area.owns_leaves),
 * so what lies between areas there is not asked for at all.
 */
#include "client/session.h"

#include <stdlib.h>
#include <string.h>

struct remote {
	struct kvt_target target; /* first, so that one is the other */
	struct kvmctl_connection *connection;
	struct kvms_op config;
	uint64_t *config_list;
	bool has_config;
	bool detached; /* cursors it opens stay */
	char error[sizeof((struct kvmctl_failure *)NULL)->text];
};

static struct remote *
remote_of(struct kvt_target *t)
{
	return (struct remote *)t;
}

static enum kvt_status
fail(struct remote *r, enum kvt_status status, const char *text)
{
	snprintf(r->error, sizeof r->error, "%s", text);
	return status;
}

static enum kvt_status
fail_connection(struct remote *r, const struct kvmctl_failure *why)
{
	if (why->kind != KVMCTL_REFUSED)
		return fail(r, KVT_LOST, why->text);
	if (why->code == KVMP_ERROR_STORE_BROKEN)
		return fail(r, KVT_BROKEN, why->text);
	return fail(r, why->code == KVMP_ERROR_NO_MEMORY ? KVT_NOMEM : KVT_LOST, why->text);
}

static enum kvt_status
remote_apply(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	struct remote *r = remote_of(t);
	struct kvmctl_failure why;

	if (r->detached && kvmctl_row_opens(kvms_op_row(op->code)))
		return kvmctl_remote_open(t, op, 0, true, out);
	if (!kvmctl_apply(r->connection, op, false, out, NULL, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
}

void
kvmctl_remote_detach(struct kvt_target *t)
{
	remote_of(t)->detached = true;
}

enum kvt_status
kvmctl_remote_dry_run(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	struct remote *r = remote_of(t);
	struct kvmctl_failure why;

	if (!kvmctl_apply(r->connection, op, true, out, NULL, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
}

enum kvt_status
kvmctl_remote_open(struct kvt_target *t, const struct kvms_op *op, uint32_t wait_ms, bool detached,
		   struct kvms_outcome *out)
{
	struct remote *r = remote_of(t);
	struct kvmctl_failure why;

	if (!kvmctl_send_open(r->connection, op, wait_ms, detached, &why) ||
	    !kvmctl_receive(r->connection, out, NULL, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
}

static enum kvt_status
remote_inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	struct remote *r = remote_of(t);
	struct kvmctl_failure why;

	if (!kvmctl_inspect(r->connection, request, out, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
}

/* Ask a request of the table whose only result is a number. */
static enum kvt_status
remote_digest(struct kvt_target *t, uint64_t *digest)
{
	const struct kvms_row *row = kvms_request_find("digest");
	struct kvms_outcome out = { 0 };
	enum kvt_status status;
	struct kvms_op op;

	kvms_op_init(&op, row);
	status = remote_inspect(t, &op, &out);
	*digest = out.field[0];
	kvms_outcome_free(&out);
	return status;
}

/* The state of the connection's store, from the daemon. */
static enum kvt_status
store_status(struct remote *r, struct kvmp_response *response)
{
	struct kvmp_request request = { .type = KVMP_STATUS };
	struct kvmctl_failure why;

	if (!kvmctl_request(r->connection, &request, response, &why))
		return fail_connection(r, &why);
	if (response->status.store == NULL)
		return fail(r, KVT_LOST, "the store has been dropped");
	return KVT_DONE;
}

static enum kvt_status
remote_steps(struct kvt_target *t, uint64_t *steps)
{
	struct remote *r = remote_of(t);
	struct kvmp_response response;
	enum kvt_status status = store_status(r, &response);

	if (status == KVT_DONE)
		*steps = response.status.store->step;
	return status;
}

static enum kvt_status
remote_set_check(struct kvt_target *t, enum kvms_check check, uint64_t every)
{
	struct remote *r = remote_of(t);
	struct kvmp_request request = { .type = KVMP_SET_CHECK };
	struct kvmp_response response;
	struct kvmctl_failure why;

	request.check.check = check;
	request.check.every = every;
	if (!kvmctl_request(r->connection, &request, &response, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
}

/* Words of all list arguments of a configuration. */
static size_t
config_words(const struct kvms_op *config)
{
	const struct kvms_row *row = kvms_store_row();
	size_t words = 0;

	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			words += (size_t)config->arg[i] * kvms_type_arity(row->args[i].type);
	return words;
}

static enum kvt_status
remote_config(struct kvt_target *t, const struct kvms_op **config)
{
	struct remote *r = remote_of(t);
	struct kvmp_response response;
	enum kvt_status status;
	size_t words;

	*config = &r->config;
	if (r->has_config)
		return KVT_DONE;
	status = store_status(r, &response);
	if (status != KVT_DONE)
		return status;
	r->config = *response.status.store->config;
	words = config_words(&r->config);
	r->config_list = calloc(words + 1, sizeof *r->config_list);
	if (r->config_list == NULL)
		return fail(r, KVT_NOMEM, "no memory");
	if (words > 0)
		memcpy(r->config_list, r->config.list, words * sizeof *r->config_list);
	r->config.list = r->config_list;
	r->has_config = true;
	return KVT_DONE;
}

/* ---- Leaves ---------------------------------------------------------------- */

/* A walk through the leaves of one table. */
struct leaf_walk {
	struct remote *remote;
	const struct kvms_row *translate, *walk;
	uint64_t table;
	kvms_extent_visitor *visit;
	void *arg;
	bool ended; /* the visitor has had enough */
	struct kvms_outcome out;
};

#define LEVEL_WORDS 4u /* of an element of KVMS_LEVELS */

/* The size of the slot that an entry at "level" maps. */
static uint64_t
slot_size(uint64_t level)
{
	return UINT64_C(1) << (12 + 9 * (level - 1));
}

static enum kvt_status
ask(struct leaf_walk *w, const struct kvms_row *row, uint64_t va)
{
	struct kvms_op op;

	kvms_op_init(&op, row);
	op.arg[kvms_arg_index(row, "table")] = w->table;
	op.arg[kvms_arg_index(row, "va")] = va;
	return remote_inspect(&w->remote->target, &op, &w->out);
}

static uint64_t
answer(const struct leaf_walk *w, const char *name)
{
	return w->out.field[kvms_result_index(w->translate, name)];
}

/* Hand the leaf just found to the visitor; *va becomes its end (0 past the top). */
static void
visit_leaf(struct leaf_walk *w, uint64_t *va)
{
	uint64_t start = answer(w, "start"), end = answer(w, "end");
	struct kvms_extent run = {
		.table = w->table,
		.va = start,
		.paddr = answer(w, "paddr") - (*va - start),
		.leaves = 1,
		.level = (unsigned)answer(w, "level"),
		.prop = answer(w, "prop"),
		.tracked = answer(w, "tracked") != 0,
	};

	w->ended = !w->visit(w->arg, &run);
	*va = end;
}

/* Nothing is at *va: move it behind what is absent there. */
static enum kvt_status
skip_absent(struct leaf_walk *w, uint64_t *va)
{
	enum kvt_status status = ask(w, w->walk, *va);
	const uint64_t *levels;
	uint64_t count, size;

	if (status != KVT_DONE)
		return status;
	levels = kvms_outcome_list(&w->out, w->walk, 0, &count);
	if (w->out.name != 0 || count == 0) {
		*va = 0; /* no address of this table: nothing from here on */
		return KVT_DONE;
	}
	size = slot_size(levels[(count - 1) * LEVEL_WORDS]);
	*va = (*va & ~(size - 1)) + size;
	return KVT_DONE;
}

/* Leaves that start in [first, last]. */
static enum kvt_status
walk_range(struct leaf_walk *w, uint64_t first, uint64_t last)
{
	uint64_t va = first;

	/* All that starts in [first, va) has been visited. */
	do {
		enum kvt_status status = ask(w, w->translate, va);

		if (status != KVT_DONE)
			return status;
		if (w->out.name == 0 && answer(w, "found") && answer(w, "start") >= first) {
			visit_leaf(w, &va);
		} else if (w->out.name == 0 && answer(w, "found")) {
			va = answer(w, "end"); /* it starts before */
		} else {
			status = skip_absent(w, &va);
			if (status != KVT_DONE)
				return status;
		}
	} while (!w->ended && va > first && va <= last);
	return KVT_DONE;
}

struct span {
	uint64_t first, last;
};

static int
span_order(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* The live areas, in a list the caller frees. */
static enum kvt_status
areas_by_address(struct remote *r, struct span **spans, size_t *spans_count)
{
	const struct kvms_row *row = kvms_request_find("areas");
	struct kvms_outcome out = { 0 };
	enum kvt_status status;
	struct kvms_op op;
	const uint64_t *at;
	uint64_t count = 0;

	*spans = NULL;
	*spans_count = 0;
	kvms_op_init(&op, row);
	status = remote_inspect(&r->target, &op, &out);
	if (status == KVT_DONE) {
		at = kvms_outcome_list(&out, row, 0, &count);
		*spans = calloc(count + 1, sizeof **spans);
		if (*spans == NULL)
			status = fail(r, KVT_NOMEM, "no memory");
	}
	for (uint64_t i = 0; status == KVT_DONE && i < count; i++)
		if (at[3 * i + 1] < at[3 * i + 2])
			(*spans)[(*spans_count)++] = (struct span){ at[3 * i + 1], at[3 * i + 2] - 1 };
	kvms_outcome_free(&out);
	if (status == KVT_DONE)
		qsort(*spans, *spans_count, sizeof **spans, span_order);
	return status;
}

/* The vmalloc range that holds "va" gives its last address; outside of them 0. */
static uint64_t
vmalloc_last(const struct kvms_op *config, uint64_t va)
{
	const struct kvms_row *row = kvms_store_row();
	uint64_t count;
	const uint64_t *ranges = kvms_op_list(config, row, (unsigned)kvms_arg_index(row, "vmalloc"), &count);

	for (uint64_t i = 0; i < count; i++)
		if (ranges[2 * i] <= va && va < ranges[2 * i + 1])
			return ranges[2 * i + 1] - 1;
	return 0;
}

/* As far as [first, last] lies in one vmalloc range, area by area; the rest as it comes. */
static enum kvt_status
walk_kernel(struct leaf_walk *w, uint64_t first, uint64_t last)
{
	const struct kvms_op *config;
	struct span *spans;
	size_t count;
	uint64_t end;
	enum kvt_status status = remote_config(&w->remote->target, &config);

	if (status != KVT_DONE)
		return status;
	end = vmalloc_last(config, first);
	if (end < last)
		return walk_range(w, first, last);
	status = areas_by_address(w->remote, &spans, &count);
	for (size_t i = 0; status == KVT_DONE && i < count && !w->ended; i++) {
		uint64_t from = spans[i].first > first ? spans[i].first : first;
		uint64_t to = spans[i].last < last ? spans[i].last : last;

		if (from <= to)
			status = walk_range(w, from, to);
	}
	free(spans);
	return status;
}

static enum kvt_status
remote_extents(struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last, kvms_extent_visitor *visit,
	       void *arg)
{
	struct leaf_walk w = {
		.remote = remote_of(t),
		.translate = kvms_request_find("translate"),
		.walk = kvms_request_find("walk"),
		.table = table,
		.visit = visit,
		.arg = arg,
	};
	enum kvt_status status;

	status = table == 0 ? walk_kernel(&w, first, last) : walk_range(&w, first, last);
	kvms_outcome_free(&w.out);
	return status;
}

/* ---- The target ---------------------------------------------------------------- */

static const char *
remote_error(struct kvt_target *t)
{
	return remote_of(t)->error;
}

static void
remote_close(struct kvt_target *t)
{
	free(remote_of(t)->config_list);
	free(t);
}

struct kvt_target *
kvmctl_remote_target(struct kvmctl_connection *connection)
{
	struct remote *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	r->connection = connection;
	r->target = (struct kvt_target){
		.apply = remote_apply,
		.inspect = remote_inspect,
		.digest = remote_digest,
		.steps = remote_steps,
		.set_check = remote_set_check,
		.config = remote_config,
		.extents = remote_extents,
		.error = remote_error,
		.close = remote_close,
	};
	return &r->target;
}
