/*
 * slow - requests that have to wait for the disk, or for a state to be made.
 *
 * Which of them exclude each other on one store:
 *
 *	saving	   a snapshot is being written: no other that was asked for, no drop
 *	changing   an undo, a load or a drop is on its way: no write, no other of these
 *	reading	   a clone of its past is being made: no drop
 *
 * What is excluded is held until the other has ended, and then tried again.
 */
#include "daemon/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"

/* ---- What they share ------------------------------------------------------------------- */

/* True, and the request is held, while "condition" keeps it from being looked at. */
static bool
hold_if(const struct call *call, struct kvmd_store *store, bool condition)
{
	if (condition)
		kvmd_held_add(&store->held, call->client);
	return condition;
}

static struct kvmd_task *
task_new(const struct call *call, struct kvmd_store *store)
{
	struct kvmd_task *task = kvmd_task_new(call->server, call->client, call->request->id, store);

	if (task == NULL)
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the request");
	return task;
}

static void
task_answer_store(struct kvmd_task *task, const struct kvmd_store *store)
{
	struct kvmp_response response = { .type = KVMP_R_STORE };

	kvmd_store_status(store, &response.store);
	kvmd_task_answer(task, &response);
}

/* Tell whoever asked, and the log. */
static void
task_failed(struct kvmd_task *task, const char *what)
{
	kvmd_log_limited(KVMD_WARNING, "%s: %s", what, task->why);
	kvmd_task_refuse(task, KVMP_ERROR_STATE, "%s", task->why);
}

static void
why_keep(struct kvmd_task *task, enum persist_status status, const char *why)
{
	task->status = status;
	if (status != PERSIST_OK)
		snprintf(task->why, sizeof task->why, "%s", why);
}

/* True unless the disk takes nothing; else refuses, at once and not when the writer has tried for a while. */
static bool
disk_writes(const struct call *call, const char *name, const char *what)
{
	const struct kvmd_state *state = &call->server->state;

	if (state->failing)
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" is not %s: %s", name, what, state->why);
	return !state->failing;
}

/* ---- New stores -------------------------------------------------------------------------- */

/* True if a store of that name may be added; else refuses. */
static bool
store_may_be_added(const struct call *call, const char *name)
{
	const struct kvmd_stores *stores = &call->server->stores;

	if (kvmd_stores_find(stores, name) != NULL || kvmd_tasks_make(&call->server->tasks, name))
		kvmd_refuse(call, KVMP_ERROR_STORE_EXISTS, "there is a store \"%s\" already", name);
	else if (stores->count + kvmd_tasks_making(&call->server->tasks) >= stores->max)
		kvmd_refuse(call, KVMP_ERROR_LIMIT, "there are %zu stores, as many as this daemon takes (--max-stores)",
			    stores->max);
	else
		return disk_writes(call, name, "made");
	return false;
}

/* The new store can be there now: its first snapshot is on the disk, if there is one. */
static void
store_appears(struct kvmd_task *task, const struct persist_snapshot *saved)
{
	struct kvmd_server *server = task->server;
	struct kvmd_store *store = kvmd_stores_add(&server->stores, task->name, task->model);

	if (store != NULL) {
		task->model = NULL;
		if (saved != NULL)
			kvmd_state_is_saved(store, saved);
		store->from = kvms_steps(store->model);
	}
	if (store == NULL || (saved != NULL && !kvmd_state_journal(&server->state, store))) {
		/* it must not come back at the next start; if even that fails, it does */
		if (saved != NULL)
			(void)persist_writer_forget(server->state.writer, task->name, NULL, NULL);
		if (store != NULL)
			kvmd_stores_drop(&server->stores, store);
		kvmd_task_refuse(task, KVMP_ERROR_NO_MEMORY, "no memory left for a store");
		return;
	}
	if (task->store == NULL)
		kvmd_log(KVMD_INFO, "created store \"%s\"", store->name);
	else
		kvmd_log(KVMD_INFO, "store \"%s\" begins as \"%s\" at step %" PRIu64, store->name, task->store->name,
			 kvms_steps(store->model));
	task_answer_store(task, store);
}

static void
on_first_saved(void *arg, enum persist_status status, const struct persist_snapshot *saved, const char *why)
{
	struct kvmd_task *task = arg;

	if (status == PERSIST_OK)
		store_appears(task, saved);
	else
		kvmd_task_refuse(task, KVMP_ERROR_STATE, "store \"%s\" is not made: %s", task->name, why);
}

/* The model of a new store is made, and its picture if it is to be kept. */
static void
store_made(struct kvmd_task *task)
{
	struct kvmd_state *state = &task->server->state;

	if (task->status != PERSIST_OK)
		kvmd_task_refuse(task, KVMP_ERROR_STATE, "store \"%s\" is not made: %s", task->name, task->why);
	else if (!kvmd_state_keeps(state))
		store_appears(task, NULL);
	else if (!persist_writer_save_image(state->writer, task->name, &task->image, on_first_saved, task))
		kvmd_task_refuse(task, KVMP_ERROR_NO_MEMORY, "no memory left for a store");
}

void
kvmd_serve_store_create(const struct call *call)
{
	const char *name = call->request->store.name;
	struct kvms_refusal why;
	struct kvmd_task *task;

	if (!store_may_be_added(call, name) || (task = task_new(call, NULL)) == NULL)
		return;
	task->model = kvms_new(&call->request->store.config, &why);
	if (task->model == NULL) {
		kvmd_task_free(task);
		kvmd_refuse(call, KVMP_ERROR_STORE_REFUSED, "%s%s%s",
			    why.key < 0 ? "" : kvms_store_row()->args[why.key].name, why.key < 0 ? "" : ": ", why.text);
		return;
	}
	snprintf(task->name, sizeof task->name, "%s", name);
	/* a new store is small, however large its machine */
	if (kvmd_state_keeps(&call->server->state))
		task->status = persist_capture(task->model, &task->image, task->why, sizeof task->why);
	task->into = call->response;
	store_made(task);
	if (call->client->task != NULL) /* else it has been answered */
		call->client->task->into = NULL;
}

/* In a worker: the state that the picture shows. */
static void
picture_build(struct kvmd_task *task, struct persist *db)
{
	(void)db;
	if (task->picture != NULL)
		task->status = persist_picture_end(&task->picture, &task->image, task->why, sizeof task->why);
	if (task->status == PERSIST_OK)
		task->status = persist_build(task->image, &task->model, task->why, sizeof task->why);
}

/* In a worker: the state behind task->step. */
static void
past_build(struct kvmd_task *task, struct persist *db)
{
	if (task->status == PERSIST_OK)
		task->status = persist_rebuild(db, task->store->name, task->step, NULL, NULL, &task->model,
					       &task->rebuilt, task->why, sizeof task->why);
}

static void
past_clone(struct kvmd_task *task, struct persist *db)
{
	past_build(task, db);
	if (task->status == PERSIST_OK)
		task->status = persist_capture(task->model, &task->image, task->why, sizeof task->why);
}

/* The source may be dropped again. */
static void
past_cloned(struct kvmd_task *task)
{
	struct kvmd_store *source = kvmd_store_get(task->store);

	source->reading--;
	store_made(task);
	kvmd_held_again(&source->held);
	kvmd_store_put(source);
}

void
kvmd_serve_store_clone(const struct call *call)
{
	struct kvmd_state *state = &call->server->state;
	struct kvmd_store *store = call->client->store;
	const char *name = call->request->clone.name;
	bool was = call->request->clone.has_step;
	char why[PERSIST_WHY];
	struct kvmd_task *task;

	if (hold_if(call, store, store->changing) || !store_may_be_added(call, name))
		return;
	if (was && (kvmd_state_none(state, why, sizeof why) || store->journal == NULL)) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" is not made: %s", name,
			    state->db == NULL ? why : "this kvmstored keeps no journal (--durability off)");
		return;
	}
	if (was && call->request->clone.step == PERSIST_NO_STEP) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "store \"%s\" is not made: there is no step %" PRIu64, name,
			    call->request->clone.step);
		return;
	}
	if ((task = task_new(call, store)) == NULL)
		return;
	snprintf(task->name, sizeof task->name, "%s", name);
	if (was) {
		task->step = call->request->clone.step;
		task->number = kvmd_state_hurry(state);
		task->work = past_clone;
		task->finish = past_cloned;
		store->reading++;
		kvmd_task_start(task);
		return;
	}
	task->work = picture_build;
	task->finish = store_made;
	if (persist_picture_begin(store->model, &task->picture, why, sizeof why) == PERSIST_OK ||
	    persist_capture(store->model, &task->image, task->why, sizeof task->why) == PERSIST_OK) {
		kvmd_task_start(task);
		return;
	}
	kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "store \"%s\" is not made: %s", name, task->why);
	kvmd_task_free(task);
}

/* ---- The end of a store --------------------------------------------------------------------- */

static void
store_disappears(struct kvmd_server *server, struct kvmd_store *store)
{
	kvmd_log(KVMD_INFO, "dropped store \"%s\" at step %" PRIu64 ", and its snapshots", store->name,
		 kvms_steps(store->model));
	kvmd_store_changed(&server->waits, store);
	kvmd_held_again(&store->held);
	kvmd_stores_drop(&server->stores, store);
}

static void
on_forgotten(void *arg, enum persist_status status, const struct persist_snapshot *saved, const char *why)
{
	struct kvmp_response response = { .type = KVMP_R_DONE };
	struct kvmd_task *task = arg;
	struct kvmd_server *server = task->server;
	struct kvmd_store *store = task->store;

	(void)saved;
	store->changing = store->dropping = false;
	if (status == PERSIST_OK || status == PERSIST_ABSENT) {
		store_disappears(server, store);
		kvmd_task_answer(task, &response);
		return;
	}
	if (!kvmd_state_journal(&server->state, store))
		snprintf(store->broken, sizeof store->broken, "its journal was lost, for lack of memory");
	kvmd_store_wake(&server->waits, store);
	kvmd_held_again(&store->held);
	kvmd_task_refuse(task, KVMP_ERROR_STATE, "store \"%s\" is not dropped: %s", store->name, why);
}

void
kvmd_serve_store_drop(const struct call *call)
{
	struct kvmd_server *server = call->server;
	struct kvmd_store *store = kvmd_store_named(call, call->request->store.name);
	struct kvmd_task *task;

	if (store == NULL)
		return;
	if (strcmp(store->name, KVMD_DEFAULT_STORE) == 0) {
		kvmd_refuse(call, KVMP_ERROR_INVALID, "store \"%s\" cannot be dropped", store->name);
		return;
	}
	if (!disk_writes(call, store->name, "dropped") ||
	    hold_if(call, store, store->saving || store->changing || store->reading > 0))
		return;
	if (server->state.db == NULL) {
		store_disappears(server, store);
		call->response->type = KVMP_R_DONE;
		return;
	}
	if ((task = task_new(call, store)) == NULL)
		return;
	/* from here on nothing of it is kept: neither writes nor ends of cursors happen until it is gone */
	store->changing = store->dropping = true;
	persist_stream_free(&store->journal);
	if (persist_writer_forget(server->state.writer, store->name, on_forgotten, task))
		return;
	task->into = call->response;
	on_forgotten(task, PERSIST_FAILED, NULL, "no memory left");
}

/* ---- Snapshots ---------------------------------------------------------------------------------- */

static void
on_asked_saved(void *arg, enum persist_status status, const struct persist_snapshot *saved, const char *why)
{
	struct kvmd_task *task = arg;
	struct kvmd_store *store = kvmd_store_get(task->store);

	kvmd_state_saved(store, status, saved, why);
	why_keep(task, status, why);
	if (status != PERSIST_OK)
		task_failed(task, "snapshot_save");
	else if (store->model == NULL)
		kvmd_task_refuse(task, KVMP_ERROR_UNKNOWN_STORE, "store \"%s\" has been dropped", store->name);
	else
		task_answer_store(task, store);
	kvmd_held_again(&store->held);
	kvmd_store_put(store);
}

void
kvmd_serve_snapshot_save(const struct call *call)
{
	struct kvmd_state *state = &call->server->state;
	struct kvmd_store *store = call->client->store;
	char why[PERSIST_WHY];
	struct kvmd_task *task;

	if (kvmd_state_none(state, why, sizeof why)) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "%s", why);
		return;
	}
	if (store->broken[0] != '\0') {
		kvmd_refuse(call, KVMP_ERROR_STATE,
			    "store \"%s\" is not saved, because a law broke (%s); its last snapshot stays", store->name,
			    store->broken);
		return;
	}
	if (!disk_writes(call, store->name, "saved") || hold_if(call, store, store->saving || store->dropping) ||
	    (task = task_new(call, store)) == NULL)
		return;
	if (!kvmd_state_save(state, store, true, on_asked_saved, task)) {
		kvmd_task_free(task);
		kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for a picture of store \"%s\"", store->name);
	}
}

static void
on_snapshot_dropped(void *arg, enum persist_status status, const struct persist_snapshot *saved, const char *why)
{
	struct kvmp_response response = { .type = KVMP_R_DONE };
	struct kvmd_task *task = arg;

	(void)saved;
	why_keep(task, status, why);
	if (status != PERSIST_OK) {
		task_failed(task, "snapshot_drop");
		return;
	}
	if (task->store->model != NULL)
		kvmd_state_dropped(&task->server->state, task->store, task->snapshot);
	kvmd_task_answer(task, &response);
}

void
kvmd_serve_snapshot_drop(const struct call *call)
{
	struct kvmd_state *state = &call->server->state;
	struct kvmd_store *store = call->client->store;
	char why[PERSIST_WHY];
	struct kvmd_task *task;

	if (kvmd_state_none(state, why, sizeof why)) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "%s", why);
		return;
	}
	if (state->failing) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "the snapshot is not dropped: %s", state->why);
		return;
	}
	if (hold_if(call, store, store->changing) || (task = task_new(call, store)) == NULL)
		return;
	task->snapshot = call->request->snapshot;
	if (persist_writer_drop_snapshot(state->writer, store->name, task->snapshot, on_snapshot_dropped, task))
		return;
	kvmd_task_free(task);
	kvmd_refuse(call, KVMP_ERROR_NO_MEMORY, "no memory left for the request");
}

/* ---- Going back ------------------------------------------------------------------------------------ */

/* In a worker: the state of a snapshot. */
static void
snapshot_read(struct kvmd_task *task, struct persist *db)
{
	if (task->status == PERSIST_OK)
		task->status = persist_load(db, task->store->name, task->snapshot, &task->model, &task->rebuilt.snapshot,
					    task->why, sizeof task->why);
	task->step = task->rebuilt.snapshot.step;
}

/* The state to be put back is made, or is not. */
static void
go_back(struct kvmd_task *task)
{
	struct kvmd_server *server = task->server;
	struct kvmd_store *store = kvmd_store_get(task->store);
	struct kvms *model = task->model;

	task->model = NULL;
	store->changing = false;
	if (task->status == PERSIST_OK &&
	    !kvmd_state_put_back(&server->state, store, model, task->step, task->rebuilt.replayed, task->rebuilt.bytes,
				 task->why, sizeof task->why))
		task->status = PERSIST_FAILED;
	if (task->status == PERSIST_OK) {
		server->stepped = true; /* its answer waits for this step */
		kvmd_store_changed(&server->waits, store);
		task_answer_store(task, store);
	} else {
		task_failed(task, task->work == snapshot_read ? "snapshot_load" : "undo");
	}
	kvmd_held_again(&store->held);
	kvmd_store_put(store);
}

/* Begin; "step" of the store's past, or a snapshot of it. */
static void
go_back_begin(const struct call *call, void (*work)(struct kvmd_task *task, struct persist *db), uint64_t step,
	      uint64_t snapshot)
{
	struct kvmd_store *store = call->client->store;
	struct kvmd_task *task = task_new(call, store);

	if (task == NULL)
		return;
	task->step = step;
	task->snapshot = snapshot;
	task->work = work;
	task->finish = go_back;
	task->number = kvmd_state_hurry(&call->server->state); /* all that is gone back over is on the disk before */
	store->changing = true;
	kvmd_task_start(task);
}

/* True if a store may be put back; else refuses, or holds. */
static bool
may_go_back(const struct call *call)
{
	struct kvmd_store *store = call->client->store;
	char why[PERSIST_WHY];

	if (!kvmd_state_none(&call->server->state, why, sizeof why))
		return !hold_if(call, store, store->changing);
	kvmd_refuse(call, KVMP_ERROR_STATE, "%s", why);
	return false;
}

void
kvmd_serve_snapshot_load(const struct call *call)
{
	if (may_go_back(call))
		go_back_begin(call, snapshot_read, 0, call->request->snapshot);
}

void
kvmd_serve_undo(const struct call *call)
{
	const struct kvmd_store *store = call->client->store;
	uint64_t now, steps = call->request->undo;

	if (!may_go_back(call))
		return;
	now = kvms_steps(store->model);
	if (steps == 0 || steps > now)
		kvmd_refuse(call, KVMP_ERROR_STATE,
			    "store \"%s\" has made %" PRIu64 " steps; undo takes 1 to that many", store->name, now);
	else if (store->journal == NULL)
		kvmd_refuse(call, KVMP_ERROR_STATE, "this kvmstored keeps no journal (--durability off)");
	else
		go_back_begin(call, past_build, now - steps, 0);
}

/* ---- All is written ---------------------------------------------------------------------------------- */

void
kvmd_serve_settle(const struct call *call)
{
	struct kvmd_state *state = &call->server->state;
	uint64_t number = kvmd_state_hurry(state);
	struct kvmd_task *task;

	if (kvmd_state_written(state) >= number) {
		call->response->type = KVMP_R_DONE;
		return;
	}
	if (state->failing) {
		kvmd_refuse(call, KVMP_ERROR_STATE, "%s", state->why);
		return;
	}
	if ((task = task_new(call, NULL)) != NULL)
		task->number = number; /* kvmd_tasks_run() looks after it */
}
