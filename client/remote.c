/* remote - a daemon's store as the target of a trace. */
#include "client/session.h"

#include "trace/value.h"

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
	words = kvt_payload_words(kvms_store_row(), &r->config);
	r->config_list = calloc(words + 1, sizeof *r->config_list);
	if (r->config_list == NULL)
		return fail(r, KVT_NOMEM, "no memory");
	if (words > 0)
		memcpy(r->config_list, r->config.list, words * sizeof *r->config_list);
	r->config.list = r->config_list;
	r->has_config = true;
	return KVT_DONE;
}

/* ---- Leaves --------------------------------------------------------------------- */

static enum kvt_status
remote_extents(struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last, kvms_extent_visitor *visit,
	       void *arg)
{
	struct remote *r = remote_of(t);
	struct kvmctl_failure why;

	if (!kvmctl_extents(r->connection, table, first, last, visit, arg, &why))
		return fail_connection(r, &why);
	return KVT_DONE;
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
