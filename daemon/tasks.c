#include "daemon/tasks.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/serve.h"

/* ---- Held requests ------------------------------------------------------------------- */

void
kvmd_held_add(struct kvmd_held *held, struct kvmd_client *client)
{
	client->held_in = held;
	TAILQ_INSERT_TAIL(held, client, held);
}

void
kvmd_held_remove(struct kvmd_client *client)
{
	if (client->held_in == NULL)
		return;
	TAILQ_REMOVE(client->held_in, client, held);
	client->held_in = NULL;
}

void
kvmd_held_again(struct kvmd_held *held)
{
	struct kvmd_client *client;

	while ((client = TAILQ_FIRST(held)) != NULL) {
		kvmd_held_remove(client);
		if (client->again != NULL)
			client->again(client);
	}
}

/* ---- Workers --------------------------------------------------------------------------- */

/* Do the first task that waits.  Needs the lock, lets go of it. */
static void
task_work(struct kvmd_tasks *tasks, struct persist **db)
{
	struct kvmd_task *task = STAILQ_FIRST(&tasks->waiting);
	const struct kvmd_state *state = &task->server->state;
	const uint64_t one = 1;

	STAILQ_REMOVE_HEAD(&tasks->waiting, link);
	pthread_mutex_unlock(&tasks->lock);
	task->status = PERSIST_OK;
	if (*db == NULL && state->db != NULL)
		task->status = persist_again(state->db, db, task->why, sizeof task->why);
	if (task->status == PERSIST_OK && state->writer != NULL)
		task->status = persist_writer_reach(state->writer, task->number, task->why, sizeof task->why);
	task->work(task, *db);
	pthread_mutex_lock(&tasks->lock);
	STAILQ_INSERT_TAIL(&tasks->worked, task, link);
	while (write(tasks->event, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void *
worker(void *arg)
{
	struct kvmd_tasks *tasks = arg;
	struct persist *db = NULL;

	pthread_mutex_lock(&tasks->lock);
	while (!tasks->stop) {
		if (STAILQ_EMPTY(&tasks->waiting))
			pthread_cond_wait(&tasks->work, &tasks->lock);
		else
			task_work(tasks, &db);
	}
	pthread_mutex_unlock(&tasks->lock);
	persist_close(&db);
	return NULL;
}

/* One more thread, with all signals blocked: they are the loop's. */
static bool
worker_start(struct kvmd_tasks *tasks)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	bool done = pthread_create(&tasks->thread[tasks->workers], NULL, worker, tasks) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	tasks->workers += done;
	return done;
}

bool
kvmd_tasks_init(struct kvmd_tasks *tasks)
{
	TAILQ_INIT(&tasks->all);
	TAILQ_INIT(&tasks->ahead);
	STAILQ_INIT(&tasks->waiting);
	STAILQ_INIT(&tasks->worked);
	tasks->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return tasks->event >= 0 && pthread_mutex_init(&tasks->lock, NULL) == 0 &&
	       pthread_cond_init(&tasks->work, NULL) == 0;
}

void
kvmd_tasks_stop(struct kvmd_server *server)
{
	struct kvmd_tasks *tasks = &server->tasks;
	struct kvmd_task *task;

	pthread_mutex_lock(&tasks->lock);
	tasks->stop = true;
	pthread_cond_broadcast(&tasks->work);
	pthread_mutex_unlock(&tasks->lock);
	while (tasks->workers > 0)
		pthread_join(tasks->thread[--tasks->workers], NULL);
	STAILQ_CONCAT(&tasks->waiting, &tasks->worked);
	while ((task = STAILQ_FIRST(&tasks->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&tasks->waiting, link);
		kvmd_task_free(task);
	}
}

void
kvmd_tasks_free(struct kvmd_tasks *tasks)
{
	if (tasks->event < 0)
		return;
	while (!TAILQ_EMPTY(&tasks->all))
		kvmd_task_free(TAILQ_FIRST(&tasks->all));
	close(tasks->event);
	tasks->event = -1;
}

/* ---- A task ------------------------------------------------------------------------------ */

struct kvmd_task *
kvmd_task_new(struct kvmd_server *server, struct kvmd_client *client, uint64_t id, struct kvmd_store *store)
{
	struct kvmd_task *task = calloc(1, sizeof *task);

	if (task == NULL)
		return NULL;
	task->server = server;
	task->client = client;
	task->id = id;
	if (store != NULL)
		task->store = kvmd_store_get(store);
	client->task = task;
	TAILQ_INSERT_TAIL(&server->tasks.all, task, all);
	return task;
}

void
kvmd_task_free(struct kvmd_task *task)
{
	struct persist_image *image = NULL;

	if (task->client != NULL)
		task->client->task = NULL;
	if (task->picture != NULL) /* its process must not stay behind */
		(void)persist_picture_end(&task->picture, &image, task->why, sizeof task->why);
	persist_image_free(&image);
	persist_image_free(&task->image);
	kvms_free(&task->model);
	TAILQ_REMOVE(&task->server->tasks.all, task, all);
	kvmd_store_put(task->store);
	free(task);
}

void
kvmd_task_start(struct kvmd_task *task)
{
	struct kvmd_tasks *tasks = &task->server->tasks;

	if (tasks->workers < KVMD_WORKERS && !worker_start(tasks) && tasks->workers == 0) {
		/* without a thread the loop does it, this once */
		STAILQ_INSERT_TAIL(&tasks->waiting, task, link);
		struct persist *db = NULL;
		pthread_mutex_lock(&tasks->lock);
		task_work(tasks, &db);
		pthread_mutex_unlock(&tasks->lock);
		persist_close(&db);
		return;
	}
	pthread_mutex_lock(&tasks->lock);
	STAILQ_INSERT_TAIL(&tasks->waiting, task, link);
	pthread_cond_signal(&tasks->work);
	pthread_mutex_unlock(&tasks->lock);
}

void
kvmd_task_answer(struct kvmd_task *task, struct kvmp_response *response)
{
	struct kvmd_client *client = task->client;
	struct kvmp_response *into = task->into;

	response->id = task->id;
	if (into == NULL)
		task->server->requests++; /* else whoever takes it counts it */
	kvmd_task_free(task);
	if (into != NULL)
		*into = *response;
	else if (client != NULL)
		client->answer(client, response);
}

void
kvmd_task_refuse(struct kvmd_task *task, enum kvmp_error_code code, const char *format, ...)
{
	struct kvmd_server *server = task->server;
	struct kvmp_response response;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(server->text, sizeof server->text, format, arguments);
	va_end(arguments);
	kvmd_error(&response, task->id, code, server->text, false);
	kvmd_task_answer(task, &response);
}

bool
kvmd_tasks_make(const struct kvmd_tasks *tasks, const char *name)
{
	const struct kvmd_task *task;

	TAILQ_FOREACH(task, &tasks->all, all)
		if (strcmp(task->name, name) == 0)
			return true;
	return false;
}

size_t
kvmd_tasks_making(const struct kvmd_tasks *tasks)
{
	const struct kvmd_task *task;
	size_t count = 0;

	TAILQ_FOREACH(task, &tasks->all, all)
		count += task->name[0] != '\0';
	return count;
}

/* Requests that wait for no more than the journal. */
static void
settled_answer(struct kvmd_server *server)
{
	struct kvmd_task *task, *next;

	for (task = TAILQ_FIRST(&server->tasks.all); task != NULL; task = next) {
		struct kvmp_response response = { .type = KVMP_R_DONE };

		next = TAILQ_NEXT(task, all);
		if (task->work != NULL || task->finish != NULL || task->number == 0)
			continue;
		if (kvmd_state_written(&server->state) >= task->number)
			kvmd_task_answer(task, &response);
		else if (server->state.failing)
			kvmd_task_refuse(task, KVMP_ERROR_STATE, "%s", server->state.why);
	}
}

void
kvmd_tasks_run(struct kvmd_server *server)
{
	struct kvmd_tasks *tasks = &server->tasks;
	struct kvmd_task_queue worked = STAILQ_HEAD_INITIALIZER(worked);
	struct kvmd_task *task;
	uint64_t count;

	while (read(tasks->event, &count, sizeof count) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&tasks->lock);
	STAILQ_CONCAT(&worked, &tasks->worked);
	pthread_mutex_unlock(&tasks->lock);
	while ((task = STAILQ_FIRST(&worked)) != NULL) {
		STAILQ_REMOVE_HEAD(&worked, link);
		server->stepped = false;
		task->finish(task);
	}
	server->stepped = false;
	settled_answer(server);
	if (!server->state.ahead || server->state.failing)
		kvmd_held_again(&tasks->ahead);
	kvmd_settle(server);
}
