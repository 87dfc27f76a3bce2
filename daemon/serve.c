#include "daemon/serve.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "trace/text.h"

/* What requests may ask for in Hello; "snapshots" comes last: only with a state directory. */
static const char *const features[] = {
	"atomic", "batch", "clone", "detached", "dry_run", "extents", "translate_many", "wait", "snapshots"
};

#define FEATURES (sizeof features / sizeof features[0])

static char server_name[64];

/* ---- Beginning and end -------------------------------------------------------------- */

static time_t
monotonic_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static bool
default_store_add(struct kvmd_server *server)
{
	char why_not[PERSIST_WHY];
	struct kvmd_store *store;
	struct kvms_refusal why;
	struct kvms *model;

	if (kvmd_stores_find(&server->stores, KVMD_DEFAULT_STORE) != NULL)
		return true;
	if (server->stores.count == server->stores.max) {
		kvmd_log(KVMD_ERROR, "no room for store \"default\"; raise --max-stores");
		return false;
	}
	model = kvms_new(NULL, &why);
	if (model == NULL) {
		kvmd_log(KVMD_ERROR, "cannot make store \"default\": %s", why.text);
		return false;
	}
	store = kvmd_stores_add(&server->stores, KVMD_DEFAULT_STORE, model);
	if (store == NULL) {
		kvms_free(&model);
		kvmd_log(KVMD_ERROR, "cannot make store \"default\": no memory left");
		return false;
	}
	if (!kvmd_state_keep(&server->state, store, why_not, sizeof why_not)) {
		kvmd_log(KVMD_ERROR, "cannot make store \"default\": %s", why_not);
		return false;
	}
	return true;
}

bool
kvmd_server_begin(struct kvmd_server *server, const struct kvmd_options *o)
{
	memset(server, 0, sizeof *server);
	snprintf(server_name, sizeof server_name, "kvmstored %s", kvms_version());
	server->started = monotonic_seconds();
	server->state.lock = -1;
	server->tasks.event = -1;
	STAILQ_INIT(&server->waits.woken);
	server->waits.max = o->max_waiting;
	server->waits.max_ms = UINT64_C(1000) * o->max_wait;
	server->codec = kvmp_codec_new(0);
	if (!kvmd_tasks_init(&server->tasks) || server->codec == NULL || !kvmd_stores_init(&server->stores, o->max_stores, o->check, o->check_every)) {
		kvmd_log(KVMD_ERROR, "no memory left");
		kvmd_server_end(server);
		return false;
	}
	if (!kvmd_state_open(&server->state, o) ||
	    !kvmd_state_load_all(&server->state, &server->stores) || !default_store_add(server)) {
		kvmd_server_end(server);
		return false;
	}
	return true;
}

void
kvmd_server_rest(struct kvmd_server *server)
{
	if (server->tasks.event < 0)
		return;
	kvmd_tasks_stop(server);
	if (server->state.writer != NULL)
		persist_writer_quiet(server->state.writer);
}

void
kvmd_server_end(struct kvmd_server *server)
{
	struct kvmd_store *store;

	while ((store = kvmd_store_woken(&server->waits)) != NULL)
		kvmd_store_put(store);
	kvmd_server_rest(server);
	kvmd_state_close(&server->state); /* what the stores hold is written before they end */
	kvmd_tasks_free(&server->tasks);
	kvmd_stores_free(&server->stores);
	kvmp_codec_free(&server->codec);
	kvms_outcome_free(&server->outcome);
}

/* ---- Errors ---------------------------------------------------------------------------- */

void
kvmd_error(struct kvmp_response *response, uint64_t id, enum kvmp_error_code code, const char *text, bool closing)
{
	memset(response, 0, sizeof *response);
	response->id = id;
	response->type = KVMP_R_ERROR;
	response->error.code = code;
	response->error.text = text;
	response->error.closing = closing;
}

void
kvmd_refuse(const struct call *call, enum kvmp_error_code code, const char *format, ...)
{
	struct kvmd_server *server = call->server;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(server->text, sizeof server->text, format, arguments);
	va_end(arguments);
	kvmd_error(call->response, call->request->id, code, server->text, false);
}

/* The store that the client works on is no more. */
static void
refuse_dropped(const struct call *call)
{
	kvmd_refuse(call, KVMP_ERROR_UNKNOWN_STORE, "store \"%s\" has been dropped; use store_select to work on another",
	       call->client->store->name);
}

/* ---- A law that broke --------------------------------------------------------------------- */

static const char *
law_word(unsigned law)
{
	const char *name = kvms_law_name(law);

	if (name != NULL)
		return name;
	return law == kvms_law_max() ? "self.frame_condition" : "self.outcome_set";
}

/* Say it once, with all that is needed to find the defect. */
static void
broken_note(struct kvmd_store *store, const struct kvms_op *op)
{
	const struct kvms_findings *f = kvms_broken(store->model);
	struct kvt_buffer text = { 0 };

	if (store->broken[0] != '\0')
		return;
	kvt_print_op(&text, kvms_op_row(op->code), op);
	snprintf(store->broken, sizeof store->broken, "%s at step %" PRIu64,
		 f->count > 0 ? law_word(f->at[0].law) : "a law", kvms_steps(store->model) + 1);
	kvmd_log(KVMD_ERROR,
		 "store \"%s\": a law of the model broke at step %" PRIu64 ", %" PRIu64
		 " findings; it takes no more writes. "
		 "The operation was undone: %s",
		 store->name, kvms_steps(store->model) + 1, f->total, kvt_buffer_text(&text));
	for (unsigned i = 0; i < f->count; i++) {
		const char *sentence = kvms_law_text(f->at[i].law);

		kvmd_log(KVMD_ERROR,
			 "store \"%s\": %s: object 0x%" PRIx64 ", expected 0x%" PRIx64 ", found 0x%" PRIx64 "%s%s",
			 store->name, law_word(f->at[i].law), f->at[i].object, f->at[i].want, f->at[i].have,
			 sentence == NULL ? "" : ": ", sentence == NULL ? "" : sentence);
	}
	kvt_buffer_free(&text);
}

static void
refuse_broken(const struct call *call, const struct kvms_op *op)
{
	struct kvmd_server *server = call->server;
	struct kvmd_store *store = call->client->store;
	const struct kvms_findings *f = kvms_broken(store->model);
	size_t count = f->count < 8 ? f->count : 8;

	broken_note(store, op);
	kvmd_refuse(call, KVMP_ERROR_STORE_BROKEN, "store \"%s\" takes no more writes: a law of the model broke (%s)",
	       store->name, store->broken);
	for (size_t i = 0; i < count; i++) {
		snprintf(server->finding_text[i], sizeof server->finding_text[i],
			 "%s: object 0x%" PRIx64 ", expected 0x%" PRIx64 ", found 0x%" PRIx64, law_word(f->at[i].law),
			 f->at[i].object, f->at[i].want, f->at[i].have);
		server->findings[i] = server->finding_text[i];
	}
	call->response->error.findings = server->findings;
	call->response->error.findings_count = count;
}

/* ---- Operations and inspection -------------------------------------------------------------- */

/* Refuse what the store did not answer; true if it did. */
static bool
answered(const struct call *call, enum kvms_status status, const struct kvms_op *op)
{
	switch (status) {
	case KVMS_DONE:
		return true;
	case KVMS_BROKEN:
		refuse_broken(call, op);
		return false;
	case KVMS_INVALID:
		kvmd_refuse(call, KVMP_ERROR_INVALID, "an argument is outside its type");
		return false;
	case KVMS_NOMEM:
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "the machine has no memory left for this; nothing changed");
		return false;
	}
	return false;
}

/*
 * The one place where a step of a daemon's store happens.
 *
 * => connection: its number, 0 = none asked
 * => owner: the client that a cursor opened by it will belong to; NULL: nobody
 */
static enum kvms_status
apply(struct kvmd_server *server, struct kvmd_store *store, const struct kvms_op *op, uint64_t connection,
      struct kvmd_client *owner, struct kvms_outcome *out)
{
	bool opens = kvmd_op_opens(op) && owner != NULL;
	enum kvms_status status;

	if (opens && !kvmd_owners_reserve(&store->owners))
		return KVMS_NOMEM;
	status = kvms_apply(store->model, op, out);
	if (status == KVMS_BROKEN)
		kvmd_store_wake(&server->waits, store);
	if (status == KVMS_DONE) {
		server->stepped = true;
		(void)kvmd_state_step(&server->state, store, connection, op, out); /* it says what goes wrong */
	}
	if (status != KVMS_DONE || out->name != 0)
		return status;
	if (opens)
		kvmd_owners_add(&store->owners, out->field[0], owner);
	else if (kvmd_op_drops(op))
		kvmd_cursor_gone(&server->waits, store, op->arg[0]);
	return status;
}

static void
answer_outcome(const struct call *call, const struct kvms_row *row, const struct kvms_outcome *out)
{
	call->response->type = KVMP_R_OUTCOME;
	call->response->answer = (struct kvmp_answer){
		.row = row,
		.inspect = call->request->type == KVMP_INSPECT,
		.has_step = !call->request->dry_run,
		.step = kvms_steps(call->client->store->model),
		.outcome = *out,
	};
}

/* Writes go on only while the journal does; false: refused. */
static bool
writable(const struct call *call)
{
	const struct kvmd_state *state = &call->server->state;
	const struct kvmd_store *store = call->client->store;

	if (state->failing)
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" takes no writes for now, and nothing changed: %s",
		       store->name, state->why);
	else if (store->broken[0] != '\0' && kvms_broken(store->model)->total == 0)
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" takes no more writes: %s", store->name, store->broken);
	else
		return true;
	return false;
}

/* A write that must not happen yet: true, and it is held. */
static bool
held(const struct call *call)
{
	struct kvmd_store *store = call->client->store;

	if (store->changing)
		kvmd_held_add(&store->held, call->client);
	else if (call->server->state.ahead)
		kvmd_held_add(&call->server->tasks.ahead, call->client);
	return call->client->held_in != NULL;
}

static void
serve_step(const struct call *call)
{
	const struct kvmp_request *request = call->request;
	struct kvmd_store *store = call->client->store;
	struct kvms_outcome *out = &call->server->outcome;
	enum kvms_status status =
	    request->dry_run ? kvms_dry_run(store->model, &request->op, out)
			     : apply(call->server, store, &request->op, call->client->number,
				     request->detached ? NULL : call->client, out);

	if (answered(call, status, &request->op))
		answer_outcome(call, kvms_op_row(request->op.code), out);
}

static void
serve_inspect(const struct call *call)
{
	const struct kvms_op *op = &call->request->op;
	struct kvms_outcome *out = &call->server->outcome;

	if (answered(call, kvms_inspect(call->client->store->model, op, out), op))
		answer_outcome(call, kvms_request_row(op->code), out);
}

/* ---- Opens that wait -------------------------------------------------------------------------- */

/* The outcome of an open that must not overtake others. */
static void
hold_back(const struct kvmd_wait *w, struct kvms_outcome *out)
{
	static unsigned locked;

	while (kvms_outcome_class(locked) != KVMS_BLOCK || strcmp(kvms_outcome_name(locked), "cursor_locked") != 0)
		locked++;
	out->name = locked;
	out->detail = kvmd_wait_holder(w);
	out->present = 0;
	out->list_count = 0;
}

/* Answer an open that does not wait, or no longer. */
static void
answer_at_once(const struct call *call, const struct kvmd_wait *w, enum kvmd_way way)
{
	if (way != KVMD_BEHIND) {
		serve_step(call);
		return;
	}
	hold_back(w, &call->server->outcome);
	answer_outcome(call, kvms_op_row(call->request->op.code), &call->server->outcome);
	call->response->answer.has_step = false;
	call->response->answer.held_back = true;
}

/* Say it in the log, for whoever wonders. */
static void
cycle_log(const struct call *call, const uint64_t *cursors, size_t count)
{
	struct kvt_buffer text = { 0 };

	for (size_t i = 0; i < count; i++)
		kvt_putf(&text, "%s%" PRIu64, i == 0 ? "" : ", ", cursors[i]);
	kvmd_log_limited(KVMD_INFO,
			 "store \"%s\": an open of %s would wait for its own connection, over the cursors %s; it is "
			 "answered block",
			 call->client->store->name, call->client->name[0] == '\0' ? "a client" : call->client->name,
			 kvt_buffer_text(&text));
	kvt_buffer_free(&text);
}

/* If waiting would not end, answer: true. */
static bool
answer_cycle(const struct call *call, struct kvmd_wait *w, enum kvmd_way way)
{
	struct kvmd_waits *waits = &call->server->waits;
	size_t most = (size_t)waits->count + 1;
	uint64_t *cursors = kvmp_codec_alloc(call->server->codec, most * sizeof *cursors);
	size_t count = kvmd_wait_cycle(waits, w, cursors, cursors == NULL ? 0 : most);

	if (count == 0)
		return false;
	answer_at_once(call, w, way);
	if (call->response->type != KVMP_R_OUTCOME || cursors == NULL)
		return true;
	cycle_log(call, cursors, count);
	call->response->answer.cycle = cursors;
	call->response->answer.cycle_count = count;
	return true;
}

/* The envelope of an operation says only what goes with it; false: it has been refused. */
static bool
envelope_fits(const struct call *call)
{
	const struct kvmp_request *request = call->request;
	const char *option = request->detached ? "detached" : "wait_ms";

	if (!request->detached && request->wait_ms == 0)
		return true;
	if (!kvmd_op_opens(&request->op))
		kvmd_refuse(call, KVMP_ERROR_INVALID, "Request: %s goes with cursor_open and cursor_open_mut only", option);
	else if (request->dry_run)
		kvmd_refuse(call, KVMP_ERROR_INVALID, "Request: %s does not go with dry_run", option);
	else if (request->wait_ms > call->server->waits.max_ms)
		kvmd_refuse(call, KVMP_ERROR_LIMIT,
		       "wait_ms is %" PRIu32 ", this daemon takes at most %" PRIu64 " (--max-wait)", request->wait_ms,
		       call->server->waits.max_ms);
	else
		return true;
	return false;
}

/* Something is in the way of an open that may wait: have it wait, or say why it does not. */
static void
wait_begin(const struct call *call, struct kvmd_wait *w, enum kvmd_way way)
{
	struct kvmd_store *store = call->client->store;

	if (answer_cycle(call, w, way))
		return;
	if (store->waits_count >= call->server->waits.max) {
		kvmd_refuse(call, KVMP_ERROR_LIMIT,
		       "%u opens wait on store \"%s\", as many as this daemon takes (--max-waiting)",
		       store->waits_count, store->name);
		return;
	}
	kvmd_wait_add(&call->server->waits, w);
}

static void
serve_op(const struct call *call)
{
	const struct kvmp_request *request = call->request;
	struct kvmd_wait *w = &call->client->wait;
	enum kvmd_way way;

	if (!envelope_fits(call) || (!request->dry_run && (!writable(call) || held(call))))
		return;
	if (!kvmd_op_opens(&request->op) || (request->wait_ms == 0 && TAILQ_EMPTY(&call->client->store->waits))) {
		serve_step(call);
		return;
	}
	kvmd_wait_init(w, call->client, request);
	way = kvmd_wait_look(w, &call->server->outcome);
	if (way == KVMD_CLEAR || request->wait_ms == 0 || call->server->waits.closed || call->client->answer == NULL)
		answer_at_once(call, w, way);
	else
		wait_begin(call, w, way);
}

/* Give a client the answer to its open, which is out of the queue. */
static void
wait_answer(const struct call *call)
{
	call->server->requests++;
	call->client->answer(call->client, call->response);
}

/* The answer to a queued open, whose wait is over. */
static void
wait_finish(const struct call *call, struct kvmd_wait *w, enum kvmd_way way)
{
	if (call->client->store->model == NULL)
		refuse_dropped(call);
	else if (call->client->store->dropping)
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" is being dropped", call->client->store->name);
	else
		answer_at_once(call, w, way);
	kvmd_wait_remove(&call->server->waits, w);
	wait_answer(call);
}

/* One call for the request that "w" is about. */
static struct call
call_of(struct kvmd_server *server, struct kvmd_wait *w, struct kvmp_response *response)
{
	response->id = w->request.id;
	response->type = KVMP_R_NOTHING;
	return (struct call){ server, w->client, &w->request, response };
}

/* Try one open of a queue. */
static void
wait_try(struct kvmd_server *server, struct kvmd_wait *w)
{
	struct kvmp_response response;
	const struct call call = call_of(server, w, &response);
	uint64_t before = w->holder;
	enum kvmd_way way = kvmd_wait_look(w, &server->outcome);

	if (way == KVMD_CLEAR) {
		wait_finish(&call, w, way);
	} else if (w->holder != before && answer_cycle(&call, w, way)) {
		kvmd_wait_remove(&server->waits, w);
		wait_answer(&call);
	}
}

void
kvmd_settle(struct kvmd_server *server)
{
	struct kvmd_store *store;

	while ((store = kvmd_store_woken(&server->waits)) != NULL) {
		struct kvmd_wait *w, *next;

		/*
		 * What is in the way of an open stands in front of it, so one pass finds all there is.  Of a
		 * store that is being dropped nothing is kept any more: they wait for what comes of that.
		 */
		for (w = store->dropping ? NULL : TAILQ_FIRST(&store->waits); w != NULL; w = next) {
			next = TAILQ_NEXT(w, link);
			wait_try(server, w);
		}
		kvmd_store_put(store);
	}
}

/* Answer one open as things are, and leave those behind it for later. */
static void
wait_end(struct kvmd_server *server, struct kvmd_wait *w)
{
	struct kvmp_response response;
	const struct call call = call_of(server, w, &response);

	wait_finish(&call, w, kvmd_wait_look(w, &server->outcome));
}

void
kvmd_wait_over(struct kvmd_server *server, struct kvmd_client *client)
{
	wait_end(server, &client->wait);
	kvmd_settle(server);
}

void
kvmd_waits_close(struct kvmd_server *server)
{
	server->waits.closed = true;
	for (size_t i = 0; i < server->stores.count; i++) {
		struct kvmd_wait_queue *queue = &server->stores.at[i]->waits;

		while (!TAILQ_EMPTY(queue))
			wait_end(server, TAILQ_FIRST(queue));
	}
	kvmd_settle(server);
}

/* ---- Cursors of a client that is gone ---------------------------------------------------------- */

static void
cursor_drop(struct kvmd_server *server, struct kvmd_store *store, uint64_t cursor)
{
	struct kvms_op op;
	enum kvms_status status;

	if (store->dropping) { /* it goes with the store */
		kvmd_owners_forget(&store->owners, cursor);
		return;
	}
	kvms_op_init(&op, kvms_op_find("cursor_drop"));
	op.arg[0] = cursor;
	status = apply(server, store, &op, 0, NULL, &server->outcome);
	if (status == KVMS_DONE)
		return;
	if (status == KVMS_BROKEN)
		broken_note(store, &op);
	else
		kvmd_log_limited(KVMD_ERROR, "store \"%s\": no memory left to drop cursor %" PRIu64 "; it stays",
				 store->name, cursor);
	kvmd_owners_forget(&store->owners, cursor);
}

/* In ascending order of their ids; gives how many. */
static size_t
cursors_drop(struct kvmd_server *server, struct kvmd_store *store, const struct kvmd_client *client)
{
	size_t count = 0;

	/* nothing is added meanwhile, and so nothing moves */
	for (size_t i = 0; i < store->owners.count && client->cursors > 0; i++)
		if (store->owners.at[i].client == client) {
			cursor_drop(server, store, store->owners.at[i].cursor);
			count++;
		}
	return count;
}

void
kvmd_client_end(struct kvmd_server *server, struct kvmd_client *client)
{
	if (client->wait.queued)
		kvmd_wait_remove(&server->waits, &client->wait);
	if (client->task != NULL) /* it goes on without */
		client->task->client = NULL;
	client->task = NULL;
	kvmd_held_remove(client);
	for (size_t i = 0; i < server->stores.count && client->cursors > 0; i++) {
		struct kvmd_store *store = server->stores.at[i];
		size_t count = cursors_drop(server, store, client);

		if (count > 0)
			kvmd_log(KVMD_DEBUG, "store \"%s\": dropped %zu cursors with their connection%s%s", store->name,
				 count, client->name[0] == '\0' ? "" : ", that of ", client->name);
	}
	kvmd_store_put(client->store);
	client->store = NULL;
	kvmd_settle(server);
}

/* ---- Many at once ------------------------------------------------------------------------------ */

static void
serve_translate_many(const struct call *call)
{
	uint64_t table = call->request->translate.table;
	size_t count = call->request->translate.count;
	uint8_t *found = kvmp_codec_alloc(call->server->codec, count);
	uint64_t *paddr = kvmp_codec_alloc(call->server->codec, count * sizeof *paddr);

	if (found == NULL || paddr == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	if (!kvms_translate(call->client->store->model, table, call->request->translate.va, count, found, paddr)) {
		kvmd_refuse(call, KVMP_ERROR_INVALID, "there is no table %" PRIu64, table);
		return;
	}
	call->response->type = KVMP_R_TRANSLATED;
	call->response->translated.found = found;
	call->response->translated.paddr = paddr;
	call->response->translated.count = count;
}

/* The answer to one operation of a batch, its payload copied; false: no room, so it has no results. */
static bool
answer_keep(struct kvmp_codec *codec, const struct kvms_op *op, const struct kvms_outcome *out, uint64_t step,
	    struct kvmp_answer *answer)
{
	size_t bytes = out->list_count * sizeof *out->list;

	*answer = (struct kvmp_answer){ .row = kvms_op_row(op->code), .has_step = true, .step = step, .outcome = *out };
	if (bytes == 0)
		return true;
	answer->outcome.list = kvmp_codec_alloc(codec, bytes);
	if (answer->outcome.list == NULL) {
		answer->outcome.present = 0;
		answer->outcome.list_count = 0;
		return false;
	}
	memcpy(answer->outcome.list, out->list, bytes);
	return true;
}

/* Is it an open that would overtake one that waits?  Then that is its outcome. */
static bool
batch_held_back(const struct call *call, const struct kvms_op *op)
{
	const struct kvmp_request request = { .type = KVMP_OP, .op = *op };
	struct kvmd_wait *w = &call->client->wait;

	if (!kvmd_op_opens(op) || TAILQ_EMPTY(&call->client->store->waits))
		return false;
	kvmd_wait_init(w, call->client, &request);
	if (kvmd_wait_look(w, &call->server->outcome) != KVMD_BEHIND)
		return false;
	hold_back(w, &call->server->outcome);
	return true;
}

/* Bytes of an outcome in a message, at most, its lists aside. */
#define ANSWER_BYTES 512u

/* The operations of an atomic batch have happened: what one by one does after each of them. */
static void
batch_happened(const struct call *call, const struct kvmp_answer *answers)
{
	struct kvmd_server *server = call->server;
	struct kvmd_store *store = call->client->store;
	size_t count = call->request->batch.count;

	server->stepped = true;
	if (store->journal != NULL)
		persist_stream_together(store->journal, true);
	for (size_t i = 0; i < count; i++) {
		const struct kvms_op *op = &call->request->batch.ops[i];

		if (!kvmd_state_step(&server->state, store, call->client->number, op, &answers[i].outcome))
			break;
		if (kvmd_op_drops(op))
			kvmd_cursor_gone(&server->waits, store, op->arg[0]);
	}
	if (store->journal != NULL)
		persist_stream_together(store->journal, false);
}

/* Apply one after the other in a group; *done = how many have an answer.  False: refused. */
static bool
batch_try(const struct call *call, struct kvmp_answer *answers, size_t *done)
{
	struct kvmd_store *store = call->client->store;
	size_t count = call->request->batch.count, bytes = 0;
	struct kvms_outcome *out = &call->server->outcome;

	for (*done = 0; *done < count; (*done)++) {
		const struct kvms_op *op = &call->request->batch.ops[*done];
		enum kvms_status status = kvms_apply(store->model, op, out);

		if (!answered(call, status, op))
			return false;
		bytes += ANSWER_BYTES + out->list_count * sizeof *out->list;
		if (!answer_keep(call->server->codec, op, out, kvms_steps(store->model), &answers[*done]) ||
		    bytes > KVMP_RESPONSE_MAX / 2) {
			kvmd_refuse(call, KVMP_ERROR_TOO_LARGE, "the answer to the batch would be too large; nothing happened");
			return false;
		}
		if (out->name != 0) {
			(*done)++;
			return true;
		}
	}
	return true;
}

static void
serve_batch_atomic(const struct call *call, struct kvmp_answer *answers)
{
	struct kvmd_store *store = call->client->store;
	size_t count = call->request->batch.count, done;

	for (size_t i = 0; i < count; i++)
		if (kvmd_op_opens(&call->request->batch.ops[i])) {
			kvmd_refuse(call, KVMP_ERROR_INVALID, "Batch: atomic does not go with %s",
			       kvms_op_row(call->request->batch.ops[i].code)->name);
			return;
		}
	kvms_group_begin(store->model);
	bool tried = batch_try(call, answers, &done);
	bool happened = tried && (done == 0 || answers[done - 1].outcome.name == 0);

	if (!kvms_group_end(store->model, happened)) {
		answered(call, KVMS_NOMEM, NULL);
		return;
	}
	if (!tried)
		return;
	if (happened)
		batch_happened(call, answers);
	for (size_t i = 0; i < done && !happened; i++)
		answers[i].has_step = false;
	call->response->type = KVMP_R_BATCH;
	call->response->batch.answers = answers;
	call->response->batch.count = done;
}

static void
serve_batch(const struct call *call)
{
	struct kvmd_store *store = call->client->store;
	size_t count = call->request->batch.count, done = 0, bytes = 0;
	struct kvms_outcome *out = &call->server->outcome;
	struct kvmp_answer *answers = kvmp_codec_alloc(call->server->codec, count * sizeof *answers);
	enum kvms_status status = KVMS_DONE;

	if (!writable(call) || held(call))
		return;
	if (answers == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	if (call->request->batch.atomic) {
		serve_batch_atomic(call, answers);
		return;
	}
	while (done < count && bytes < KVMP_RESPONSE_MAX / 2) {
		const struct kvms_op *op = &call->request->batch.ops[done];
		bool held_back = batch_held_back(call, op);

		status = held_back ? KVMS_DONE : apply(call->server, store, op, call->client->number, call->client, out);
		if (status != KVMS_DONE)
			break;
		if (!answer_keep(call->server->codec, op, out, kvms_steps(store->model), &answers[done]))
			bytes = KVMP_RESPONSE_MAX; /* the last */
		answers[done].has_step = !held_back;
		answers[done].held_back = held_back;
		bytes += ANSWER_BYTES + out->list_count * sizeof *out->list;
		done++;
		if (call->request->batch.stop && out->name != 0)
			break;
	}
	if (status == KVMS_BROKEN)
		broken_note(store, &call->request->batch.ops[done]);
	if (done == 0 && count > 0) {
		answered(call, status, &call->request->batch.ops[0]);
		return;
	}
	call->response->type = KVMP_R_BATCH;
	call->response->batch.answers = answers;
	call->response->batch.count = done;
}

/* Runs gathered for one answer. */
struct runs {
	struct kvms_extent *at;
	size_t count;
	uint64_t first;
	uint64_t last;
	bool more;
	uint64_t next;
};

static bool
run_gather(void *arg, const struct kvms_extent *given)
{
	struct runs *runs = arg;
	struct kvms_extent run = *given;
	uint64_t size = UINT64_C(1) << (12 + 9 * (run.level - 1));

	if (run.va < runs->first) {
		uint64_t skip = (runs->first - run.va + size - 1) / size;

		if (skip >= run.leaves)
			return true;
		run.va += skip * size;
		run.paddr += skip * size;
		run.leaves -= skip;
	}
	if (run.va > runs->last)
		return false;
	if ((runs->last - run.va) / size < run.leaves - 1)
		run.leaves = (runs->last - run.va) / size + 1;
	if (runs->count == KVMP_RUNS_MAX) {
		runs->more = true;
		runs->next = run.va;
		return false;
	}
	runs->at[runs->count++] = run;
	return true;
}

/* Refuse a table that does not exist; true if it does. */
static bool
table_check(const struct call *call, uint64_t table)
{
	const struct kvms_row *row = kvms_request_find("translate");
	struct kvms_outcome *out = &call->server->outcome;
	struct kvms_op op;

	kvms_op_init(&op, row);
	op.arg[kvms_arg_index(row, "table")] = table;
	if (!answered(call, kvms_inspect(call->client->store->model, &op, out), &op))
		return false;
	if (out->name != 0)
		kvmd_refuse(call, KVMP_ERROR_INVALID, "there is no table %" PRIu64, table);
	return out->name == 0;
}

static void
serve_extents(const struct call *call)
{
	struct runs runs = {
		.at = kvmp_codec_alloc(call->server->codec, KVMP_RUNS_MAX * sizeof(struct kvms_extent)),
		.first = call->request->extents.first,
		.last = call->request->extents.last,
	};

	if (runs.at == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	if (!table_check(call, call->request->extents.table))
		return;
	kvms_extents(call->client->store->model, call->request->extents.table, run_gather, &runs);
	call->response->type = KVMP_R_EXTENTS;
	call->response->extents.runs = runs.at;
	call->response->extents.count = runs.count;
	call->response->extents.more = runs.more;
	call->response->extents.next = runs.next;
}

/* ---- The daemon and its stores ------------------------------------------------------------------ */

void
kvmd_store_status(const struct kvmd_store *store, struct kvmp_store_status *status)
{
	*status = (struct kvmp_store_status){
		.name = store->name,
		.step = kvms_steps(store->model),
		.digest = kvms_digest(store->model),
		.check = store->check,
		.check_every = store->check_every,
		.broken = store->broken[0] == '\0' ? NULL : store->broken,
		.saved = store->saved,
		.saved_step = store->saved_step,
		.config = kvms_config(store->model),
	};
}

void
kvmd_answer_store(const struct call *call, const struct kvmd_store *store)
{
	call->response->type = KVMP_R_STORE;
	kvmd_store_status(store, &call->response->store);
}

/* The store by the request's name; refuses if there is none. */
struct kvmd_store *
kvmd_store_named(const struct call *call, const char *name)
{
	struct kvmd_store *store = kvmd_stores_find(&call->server->stores, name);

	if (store == NULL)
		kvmd_refuse(call, KVMP_ERROR_UNKNOWN_STORE, "there is no store \"%s\"", name);
	return store;
}

static void
client_select(struct kvmd_client *client, struct kvmd_store *store)
{
	kvmd_store_put(client->store);
	client->store = kvmd_store_get(store);
}

static size_t
features_count(const struct kvmd_server *server)
{
	return server->state.db == NULL ? FEATURES - 1 : FEATURES;
}

static bool
feature_known(const struct kvmd_server *server, const char *feature)
{
	for (size_t i = 0; i < features_count(server); i++)
		if (strcmp(features[i], feature) == 0)
			return true;
	return false;
}

static void
serve_hello(const struct call *call)
{
	const struct kvmp_hello *hello = &call->request->hello;
	struct kvmp_response *response = call->response;
	struct kvmp_store_status *status = kvmp_codec_alloc(call->server->codec, sizeof *status);
	struct kvmd_store *store;

	if (call->client->greeted) {
		kvmd_refuse(call, KVMP_ERROR_HELLO_FIRST, "Hello comes once; use store_select to work on another store");
		return;
	}
	if (hello->version != KVMP_VERSION) {
		kvmd_refuse(call, KVMP_ERROR_UNSUPPORTED, "%s speaks version %u of the protocol, the client %u", server_name,
		       KVMP_VERSION, hello->version);
		return;
	}
	for (size_t i = 0; i < hello->features_count; i++)
		if (!feature_known(call->server, hello->features[i])) {
			kvmd_refuse(call, KVMP_ERROR_UNSUPPORTED, "this %s does not have the feature \"%.64s\"", server_name,
			       hello->features[i]);
			return;
		}
	store = kvmd_store_named(call, hello->store);
	if (store == NULL)
		return;
	if (status == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	client_select(call->client, store);
	call->client->greeted = true;
	snprintf(call->client->name, sizeof call->client->name, "%s", hello->client);
	kvmd_store_status(store, status);
	response->type = KVMP_R_HELLO;
	response->hello.version = KVMP_VERSION;
	response->hello.server = server_name;
	response->hello.features = features;
	response->hello.features_count = features_count(call->server);
	response->hello.store = status;
}

/* What a kill would cost, in words. */
static const char *
durability(struct kvmd_server *server, const struct kvmd_store *store)
{
	const struct kvmd_state *state = &server->state;
	char *text = server->text;
	size_t size = sizeof server->text;

	if (state->db == NULL)
		return "nothing is kept: the daemon has no state directory (--state-dir)";
	if (state->failing)
		snprintf(text, size, "no store takes writes: %s", state->why);
	else if (state->durability == PERSIST_DURABILITY_FULL)
		snprintf(text, size, "full: an answer leaves when its operation is on the disk");
	else if (state->durability == PERSIST_DURABILITY_RELAXED)
		snprintf(text, size, "relaxed: what was answered in the last %u ms may be lost", state->interval);
	else if (store == NULL || store->model == NULL || !store->saved)
		snprintf(text, size, "off: what came after the last snapshot is lost if the daemon is killed");
	else
		snprintf(text, size, "off: what came after step %" PRIu64 " is lost if the daemon is killed",
			 store->saved_step);
	return text;
}

static void
serve_status(const struct call *call)
{
	struct kvmd_server *server = call->server;
	const struct kvmd_store *store = call->client->store;
	struct kvmp_store_status *status = kvmp_codec_alloc(server->codec, sizeof *status);

	if (status == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	if (store->model != NULL)
		kvmd_store_status(store, status);
	call->response->type = KVMP_R_STATUS;
	call->response->status = (struct kvmp_status){
		.server = server_name,
		.pid = (uint64_t)getpid(),
		.uptime_seconds = (uint64_t)(monotonic_seconds() - server->started),
		.connections = server->connections,
		.requests = server->requests,
		.stores = server->stores.count,
		.waiting = server->waits.count,
		.state_dir = server->state.dir,
		.durability = durability(server, store),
		.store = store->model == NULL ? NULL : status,
	};
}

static void
serve_store_list(const struct call *call)
{
	const struct kvmd_stores *stores = &call->server->stores;
	struct kvmp_store_status *list = kvmp_codec_alloc(call->server->codec, stores->count * sizeof *list);

	if (list == NULL) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	for (size_t i = 0; i < stores->count; i++)
		kvmd_store_status(stores->at[i], &list[i]);
	call->response->type = KVMP_R_STORES;
	call->response->stores.stores = list;
	call->response->stores.count = stores->count;
}

static void
serve_store_select(const struct call *call)
{
	struct kvmd_store *store = kvmd_store_named(call, call->request->store.name);

	if (store == NULL)
		return;
	client_select(call->client, store);
	kvmd_answer_store(call, store);
}

static void
serve_set_check(const struct call *call)
{
	kvmd_store_set_check(call->client->store, call->request->check.check, call->request->check.every);
	kvmd_answer_store(call, call->client->store);
}

/* ---- Snapshots -------------------------------------------------------------------------------- */

/* Snapshots gathered for one answer, in the codec's memory. */
struct listing {
	struct kvmp_codec *codec;
	struct kvmp_snapshot *at;
	size_t count;
	size_t capacity;
	bool full;
};

static char *
text_keep(struct kvmp_codec *codec, const char *text)
{
	char *copy = kvmp_codec_alloc(codec, strlen(text) + 1);

	return copy == NULL ? NULL : strcpy(copy, text);
}

static bool
snapshot_gather(void *arg, const struct persist_snapshot *s)
{
	struct listing *l = arg;
	struct kvmp_snapshot *to;

	if (l->count == l->capacity) {
		size_t capacity = l->capacity == 0 ? 64 : l->capacity * 2;
		struct kvmp_snapshot *grown = kvmp_codec_alloc(l->codec, capacity * sizeof *grown);

		if (grown == NULL)
			return !(l->full = true);
		if (l->count > 0)
			memcpy(grown, l->at, l->count * sizeof *grown);
		l->at = grown;
		l->capacity = capacity;
	}
	to = &l->at[l->count];
	*to = (struct kvmp_snapshot){
		text_keep(l->codec, s->store),  s->id, s->step, s->digest, text_keep(l->codec, s->taken),
		text_keep(l->codec, s->library), s->kept
	};
	if (to->store == NULL || to->taken == NULL || to->library == NULL)
		return !(l->full = true);
	l->count++;
	return true;
}

static void
serve_snapshot_list(const struct call *call)
{
	struct listing listing = { .codec = call->server->codec };
	char why[PERSIST_WHY];

	if (call->server->state.db == NULL) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "this kvmstored keeps no snapshots; start it with --state-dir DIR");
		return;
	}
	if (persist_list(call->server->state.db, snapshot_gather, &listing, why, sizeof why) != PERSIST_OK) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "%s", why);
		return;
	}
	if (listing.full) {
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the answer");
		return;
	}
	call->response->type = KVMP_R_SNAPSHOTS;
	call->response->snapshots.snapshots = listing.at;
	call->response->snapshots.count = listing.count;
}

/* ---- Dispatch ---------------------------------------------------------------------------------- */

static const struct {
	void (*serve)(const struct call *call);
	bool needs_store; /* it acts on the connection's store, which may have been dropped */
} handlers[KVMP_REQUEST_TYPES] = {
	[KVMP_HELLO] = { serve_hello, false },
	[KVMP_OP] = { serve_op, true },
	[KVMP_INSPECT] = { serve_inspect, true },
	[KVMP_TRANSLATE_MANY] = { serve_translate_many, true },
	[KVMP_BATCH] = { serve_batch, true },
	[KVMP_STATUS] = { serve_status, false },
	[KVMP_STORE_LIST] = { serve_store_list, false },
	[KVMP_STORE_CREATE] = { kvmd_serve_store_create, false },
	[KVMP_STORE_DROP] = { kvmd_serve_store_drop, false },
	[KVMP_STORE_SELECT] = { serve_store_select, false },
	[KVMP_SET_CHECK] = { serve_set_check, true },
	[KVMP_SNAPSHOT_SAVE] = { kvmd_serve_snapshot_save, true },
	[KVMP_SNAPSHOT_LIST] = { serve_snapshot_list, false },
	[KVMP_SNAPSHOT_LOAD] = { kvmd_serve_snapshot_load, true },
	[KVMP_EXTENTS] = { serve_extents, true },
	[KVMP_UNDO] = { kvmd_serve_undo, true },
	[KVMP_SETTLE] = { kvmd_serve_settle, false },
	[KVMP_STORE_CLONE] = { kvmd_serve_store_clone, true },
	[KVMP_SNAPSHOT_DROP] = { kvmd_serve_snapshot_drop, true },
};

/* Serve for a client that does not wait: the tasks of this one and others are waited for. */
static void
wait_here(const struct call *call)
{
	struct kvmd_client *client = call->client;

	while (client->task != NULL || client->held_in != NULL) {
		kvmd_state_flush(&call->server->state, NULL);
		if (client->task != NULL) {
			client->task->into = call->response;
			usleep(200);
		}
		if (call->server->state.writer != NULL)
			kvmd_state_heard(&call->server->state);
		kvmd_tasks_run(call->server);
		if (client->task == NULL && call->response->type == KVMP_R_NOTHING) {
			kvmd_held_remove(client);
			handlers[call->request->type].serve(call);
		}
	}
}

enum kvmd_served
kvmd_serve(struct kvmd_server *server, struct kvmd_client *client, const struct kvmp_request *request,
	   struct kvmp_response *response)
{
	const struct call call = { server, client, request, response };

	response->id = request->id;
	response->type = KVMP_R_NOTHING;
	if (!client->greeted && request->type != KVMP_HELLO)
		kvmd_refuse(&call, KVMP_ERROR_HELLO_FIRST, "the first request must be Hello");
	else if (handlers[request->type].needs_store && client->store->model == NULL)
		refuse_dropped(&call);
	else
		handlers[request->type].serve(&call);
	if (!client->patient && (client->task != NULL || client->held_in != NULL)) {
		wait_here(&call);
		server->requests++;
		return KVMD_ANSWERED;
	}
	if (response->type == KVMP_R_NOTHING)
		return client->held_in != NULL ? KVMD_HELD : KVMD_WAITS;
	server->requests++;
	return KVMD_ANSWERED;
}
