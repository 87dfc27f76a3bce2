/*
 * waits - opens that wait for a lock: the queue of each store.
 *
 *	idle --in the way, wait_ms--> queued --answered, connection gone--> idle
 *
 * A connection has at most one open that waits: what it sent behind it is not
 * served before.  Whenever a queued open could have become possible its store
 * is woken, and kvmd_settle() (daemon/serve.h) tries the queue in order.
 *
 * What is in an open's way is found by a dry run.  The store names one cursor
 * that holds a node; while that one lives the open stays locked out, because
 * locks end with their cursor, so there is no second dry run before it is
 * dropped.  Another cursor may be in the way as well: it is found, and a cycle
 * over it, when the first is gone.
 *
 * Law: between two requests, with no store woken, the first of a queue is
 * locked out by a live cursor, and each of the others by one or by an open in
 * front of it; over the cursors found so far and the places in the queue, no
 * open waits for its own connection.
 */
#ifndef KVMD_WAITS_H
#define KVMD_WAITS_H

#include <sys/queue.h>

#include "daemon/stores.h"
#include "proto/message.h"

struct kvmd_client;

/* The open of one connection. */
struct kvmd_wait {
	TAILQ_ENTRY(kvmd_wait) link; /* in its store's queue, in order of arrival */
	bool queued;
	struct kvmd_client *client; /* whose store is the one it waits on */
	struct kvmp_request request;
	uint64_t holder; /* cursor found in the way; 0: to be found out, or none */
	/* of one search for a cycle: */
	uint64_t search;
	STAILQ_ENTRY(kvmd_wait) next;
	struct kvmd_wait *from; /* who waits for this one ... */
	uint64_t via;           /* ... because of this cursor; 0: because it is in front in the queue */
};

/* What all stores share. */
struct kvmd_waits {
	STAILQ_HEAD(, kvmd_store) woken; /* each referenced */
	unsigned count;                  /* opens that wait */
	unsigned max;                    /* ... on one store */
	uint64_t max_ms;
	uint64_t searches;
	bool closed; /* nothing waits any more: the end is near */
};

/* What is in the way of an open. */
enum kvmd_way {
	KVMD_CLEAR,  /* nothing, or it would not end ok for another reason */
	KVMD_LOCKED, /* a cursor's lock */
	KVMD_BEHIND  /* an open in front of it in the queue */
};

/* True for the operations that open a cursor. */
bool kvmd_op_opens(const struct kvms_op *op);

/* True for the operation that drops the cursor arg[0]. */
bool kvmd_op_drops(const struct kvms_op *op);

/*
 * True if "first", once carried out, could keep "second" out.
 * => needs: start < end in both
 */
bool kvmd_opens_collide(const struct kvms_op *first, const struct kvms_op *second);

/* Make "w", which is not queued, the open that its client asks for. */
void kvmd_wait_init(struct kvmd_wait *w, struct kvmd_client *client, const struct kvmp_request *request);

/*
 * Find out what is in the way of "w", queued or not; if a lock is, w->holder.
 * "out" is for the dry run's use.
 */
enum kvmd_way kvmd_wait_look(struct kvmd_wait *w, struct kvms_outcome *out);

/* The cursor that keeps out the opens that "w" is behind; 0: none, their turn is next. */
uint64_t kvmd_wait_holder(const struct kvmd_wait *w);

/*
 * If "w" waits for its own connection, the cursors over which it does, in the
 * order of the schema's wait_cycle: how many, "at most" of them stored.
 */
size_t kvmd_wait_cycle(struct kvmd_waits *waits, struct kvmd_wait *w, uint64_t *cursors, size_t at_most);

void kvmd_wait_add(struct kvmd_waits *waits, struct kvmd_wait *w);

/* Take it out of the queue, and wake the store for those behind it. */
void kvmd_wait_remove(struct kvmd_waits *waits, struct kvmd_wait *w);

/* Have the queue of a store tried, if there is one. */
void kvmd_store_wake(struct kvmd_waits *waits, struct kvmd_store *store);

/* A cursor has been dropped: opens it kept out may be possible. */
void kvmd_cursor_gone(struct kvmd_waits *waits, struct kvmd_store *store, uint64_t cursor);

/* The store's state is another, or gone: no cursor of the old one matters. */
void kvmd_store_changed(struct kvmd_waits *waits, struct kvmd_store *store);

/* The next store that was woken, its reference the caller's; NULL: none. */
struct kvmd_store *kvmd_store_woken(struct kvmd_waits *waits);

#endif /* KVMD_WAITS_H */
