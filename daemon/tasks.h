/*
 * tasks - requests that take long, and what has to wait for them.
 *
 * The loop waits for no disk and rebuilds no state.  A request that needs that
 * becomes a task: a worker thread does its part with a connection to the
 * database of its own, or the writer does (persist/writer.h), and the loop
 * finishes it and answers.  The connection that asked is not served meanwhile;
 * all others are.
 *
 *	loop:    begin ---------------------------> finish, answer
 *	worker:        work (reads the past)     /
 *	writer:              or writes          /
 *
 * A request that must not be looked at before a task has ended is held: its
 * connection tries it again then (struct kvmd_held).
 *
 * Law: between work and finish a task belongs to one thread; stores, clients
 * and answers are the loop's alone.
 */
#ifndef KVMD_TASKS_H
#define KVMD_TASKS_H

#include <pthread.h>

#include "daemon/stores.h"
#include "persist/journal.h"
#include "persist/picture.h"
#include "proto/message.h"

#define KVMD_WORKERS 2u

struct kvmd_client;
struct kvmd_server;
struct kvmd_task;

STAILQ_HEAD(kvmd_task_queue, kvmd_task);

struct kvmd_task {
	STAILQ_ENTRY(kvmd_task) link; /* with the workers */
	TAILQ_ENTRY(kvmd_task) all;
	struct kvmd_server *server;
	struct kvmd_client *client;  /* NULL: gone */
	struct kvmp_response *into;  /* where its answer goes; NULL: to client->answer() */
	uint64_t id;                 /* of the request */
	struct kvmd_store *store;    /* it is about, referenced; NULL: none */
	char name[KVMP_STORE_NAME_MAX + 1]; /* of a store to be made, which nobody else may make meanwhile; "" */
	/* in a worker, "db" is NULL if there is no state directory */
	void (*work)(struct kvmd_task *task, struct persist *db);
	void (*finish)(struct kvmd_task *task); /* in the loop, behind it */
	uint64_t number;                        /* flush that must be written before */
	uint64_t step;                          /* whose state is made */
	uint64_t snapshot;
	struct kvms *model;
	struct persist_image *image;
	struct persist_picture *picture;
	struct persist_rebuilt rebuilt;
	enum persist_status status; /* of the work, with "why" */
	char why[PERSIST_WHY];
};

struct kvmd_tasks {
	TAILQ_HEAD(, kvmd_task) all;
	struct kvmd_held ahead; /* clients whose writes wait until the journal has come on */
	int event;              /* readable when a worker has done its part */
	unsigned workers;       /* that run */
	pthread_t thread[KVMD_WORKERS];
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t work;
	struct kvmd_task_queue waiting, worked;
	bool stop;
};

/* => fails with false: no memory or descriptors */
bool kvmd_tasks_init(struct kvmd_tasks *tasks);

/* End the workers; what they have not begun is forgotten.  Tasks of the writer are left to it. */
void kvmd_tasks_stop(struct kvmd_server *server);

/* Free what is left; nothing may be under way. */
void kvmd_tasks_free(struct kvmd_tasks *tasks);

/*
 * A task for the request of "client" with that id; it is client->task.
 *
 * => store: NULL = none
 * => gives NULL: no memory
 */
struct kvmd_task *kvmd_task_new(struct kvmd_server *server, struct kvmd_client *client, uint64_t id,
				struct kvmd_store *store);

/* Have a worker do task->work, and task->finish called behind it. */
void kvmd_task_start(struct kvmd_task *task);

/* Answer whoever asked, and end the task. */
void kvmd_task_answer(struct kvmd_task *task, struct kvmp_response *response);
void kvmd_task_refuse(struct kvmd_task *task, enum kvmp_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* End it without an answer, or after one that was given in another way. */
void kvmd_task_free(struct kvmd_task *task);

/* True if a store of that name is being made; how many are. */
bool kvmd_tasks_make(const struct kvmd_tasks *tasks, const char *name);
size_t kvmd_tasks_making(const struct kvmd_tasks *tasks);

/* Finish what can be.  Call it when the descriptor is readable, and when the writer has told something. */
void kvmd_tasks_run(struct kvmd_server *server);

/* ---- Held requests ----------------------------------------------------------------------- */

/* Have the client's request tried again when kvmd_held_again() is called on "held". */
void kvmd_held_add(struct kvmd_held *held, struct kvmd_client *client);

/* It is gone, or held no longer. */
void kvmd_held_remove(struct kvmd_client *client);

void kvmd_held_again(struct kvmd_held *held);

#endif /* KVMD_TASKS_H */
