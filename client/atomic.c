#include "client/atomic.h"

#include "client/show.h"

#include "trace/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum kvmctl_status
no_memory(void)
{
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

/* ---- What is to happen --------------------------------------------------------- */

static bool
room_for_one(struct kvmctl_atomic *a)
{
	size_t capacity = 2 * a->capacity + 16;
	struct kvms_op *ops;

	if (a->count < a->capacity)
		return true;
	ops = realloc(a->ops, capacity * sizeof *ops);
	if (ops == NULL)
		return false;
	a->ops = ops;
	a->capacity = capacity;
	return true;
}

enum kvmctl_status
kvmctl_atomic_add(struct kvmctl_atomic *a, const struct kvt_line *line)
{
	size_t words = kvt_payload_words(line->row, &line->op);
	uint64_t *list;

	if (kvmctl_row_opens(line->row)) {
		kvmctl_complain("--atomic does not go with %s: a cursor is opened by itself", line->row->name);
		return KVMCTL_USAGE;
	}
	if (a->count == KVMP_BATCH_MAX) {
		kvmctl_complain("more than %u operations: with --atomic there may be that many", KVMP_BATCH_MAX);
		return KVMCTL_USAGE;
	}
	list = malloc((words + 1) * sizeof *list);
	if (list == NULL || !room_for_one(a)) {
		free(list);
		return no_memory();
	}
	if (words > 0)
		memcpy(list, line->op.list, words * sizeof *list);
	a->ops[a->count] = line->op;
	a->ops[a->count++].list = list;
	return KVMCTL_OK;
}

void
kvmctl_atomic_free(struct kvmctl_atomic *a)
{
	for (size_t i = 0; i < a->count; i++)
		free((void *)(uintptr_t)a->ops[i].list);
	free(a->ops);
	*a = (struct kvmctl_atomic){ 0 };
}

/* ---- What came of it -------------------------------------------------------------- */

static void
show(const struct kvmctl *k, const struct kvms_op *op, const struct kvms_outcome *out)
{
	kvmctl_show_outcome(k, kvms_op_row(op->code), false, op, out);
}

/* The last of "done" outcomes ended the batch, unless that was "ok". */
static enum kvmctl_status
verdict(const struct kvmctl_atomic *a, size_t done, bool ok)
{
	if (done == 0 || ok)
		return KVMCTL_OK;
	kvmctl_complain("operation %zu of %zu is not ok: none of them has happened", done, a->count);
	return KVMCTL_NOT_OK;
}

static enum kvmctl_status
run_remote(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_atomic *a)
{
	struct kvmp_request request = { .type = KVMP_BATCH };
	struct kvmp_response response;
	enum kvmctl_status status;
	bool ok = true;

	request.batch.ops = a->ops;
	request.batch.count = a->count;
	request.batch.atomic = true;
	status = kvmctl_session_request(s, &request, &response);
	if (status == KVMCTL_OK && response.batch.count > a->count) {
		snprintf(s->error, sizeof s->error, "the daemon answers more than was asked");
		status = KVMCTL_CONNECTION;
	}
	if (status != KVMCTL_OK) {
		kvmctl_complain("%s", s->error);
		/* a journal that cannot be written is refused as for a single operation */
		return status == KVMCTL_UNREADABLE ? KVMCTL_CONNECTION : status;
	}
	for (size_t i = 0; i < response.batch.count; i++) {
		show(k, &a->ops[i], &response.batch.answers[i].outcome);
		ok &= response.batch.answers[i].outcome.name == 0;
	}
	return verdict(a, response.batch.count, ok);
}

/* Apply one after the other up to the first that is not ok: how many have an outcome; *status of the last. */
static size_t
apply_all(struct kvms *store, const struct kvmctl_atomic *a, struct kvms_outcome *outs, enum kvms_status *status)
{
	size_t done = 0;

	*status = KVMS_DONE;
	while (done < a->count && (done == 0 || outs[done - 1].name == 0)) {
		*status = kvms_apply(store, &a->ops[done], &outs[done]);
		if (*status != KVMS_DONE)
			break;
		done++;
	}
	return done;
}

static enum kvmctl_status
run_embedded(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_atomic *a)
{
	struct kvms_outcome *outs = calloc(a->count + 1, sizeof *outs);
	struct kvms *store = kvt_target_store(s->target);
	enum kvmctl_status result;
	enum kvms_status status;
	size_t done;
	bool ok;

	if (outs == NULL)
		return no_memory();
	kvms_group_begin(store);
	done = apply_all(store, a, outs, &status);
	ok = done == 0 || outs[done - 1].name == 0;
	if (!kvms_group_end(store, status == KVMS_DONE && ok))
		status = KVMS_NOMEM;
	if (status == KVMS_DONE) {
		for (size_t i = 0; i < done; i++)
			show(k, &a->ops[i], &outs[i]);
		result = verdict(a, done, ok);
	} else {
		result = kvmctl_complain_target(s, status == KVMS_BROKEN    ? KVT_BROKEN
						   : status == KVMS_INVALID ? KVT_INVALID
									    : KVT_NOMEM);
	}
	for (size_t i = 0; i < a->count; i++)
		kvms_outcome_free(&outs[i]);
	free(outs);
	return result;
}

enum kvmctl_status
kvmctl_atomic_run(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_atomic *a)
{
	if (a->count == 0)
		return KVMCTL_OK;
	return s->connection != NULL ? run_remote(k, s, a) : run_embedded(k, s, a);
}
