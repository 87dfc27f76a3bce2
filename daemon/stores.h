/*
 * stores - the named stores of a daemon.
 *
 * A connection refers to its store by pointer.  Dropping a store ends its
 * model at once; the record stays, with model NULL, until the last reference
 * is gone.
 *
 * Law: names are valid and distinct; the list is ascending by name.
 */
#ifndef KVMD_STORES_H
#define KVMD_STORES_H

#include <stddef.h>
#include <sys/queue.h>

#include "daemon/owners.h"
#include "proto/message.h"
#include "store/kvmstore.h"

#define KVMD_DEFAULT_STORE "default"

TAILQ_HEAD(kvmd_wait_queue, kvmd_wait);
TAILQ_HEAD(kvmd_held, kvmd_client); /* whose next request cannot be looked at yet (daemon/tasks.h) */

struct persist_stream;

struct kvmd_store {
	char name[KVMP_STORE_NAME_MAX + 1];
	struct kvms *model; /* NULL: dropped */
	unsigned references;
	enum kvms_check check;
	uint64_t check_every;
	char broken[256]; /* which law broke, in words; "" = sound */
	bool saved;
	uint64_t saved_step; /* of the newest snapshot, if saved */
	uint64_t saved_digest;
	uint64_t saved_id;              /* 0: not known */
	bool saving;                    /* one is being written */
	uint64_t saving_bytes;          /* bytes of its journal when that began */
	uint64_t save_after;            /* one that failed is not tried again before this step */
	struct persist_stream *journal; /* NULL: none is kept */
	/* what a start repeats: so much up to step "from", when its journal had "from_bytes", and what came since */
	uint64_t repeat, repeat_bytes, from, from_bytes;
	bool changing;         /* another state is on its way, or its end: no writes meanwhile */
	bool dropping;         /* its end is */
	unsigned reading;      /* requests that read its past */
	struct kvmd_held held; /* clients that wait for one of these to end */
	struct kvmd_owners owners;    /* of its cursors */
	struct kvmd_wait_queue waits; /* opens that wait; see daemon/waits.h */
	unsigned waits_count;
	bool woken; /* it is in the list of stores whose queue is to be tried */
	STAILQ_ENTRY(kvmd_store) woken_link;
};

struct kvmd_stores {
	struct kvmd_store **at; /* ascending by name */
	size_t count;
	size_t max;
	enum kvms_check check; /* for new stores */
	uint64_t check_every;
};

/* => fails with false: no memory */
bool kvmd_stores_init(struct kvmd_stores *s, size_t max, enum kvms_check check, uint64_t every);

/* End all stores. */
void kvmd_stores_free(struct kvmd_stores *s);

/* The store of that name, or NULL. */
struct kvmd_store *kvmd_stores_find(const struct kvmd_stores *s, const char *name);

/*
 * Add a store.
 *
 * => needs: a valid name that is not taken, and count < max
 * => owns: the model ends with the store
 * => fails with NULL: no memory; the model is still the caller's
 */
struct kvmd_store *kvmd_stores_add(struct kvmd_stores *s, const char *name, struct kvms *model);

/* Put another model in place of the store's, which ends.  The dial stays. */
void kvmd_store_replace(struct kvmd_store *store, struct kvms *model);

/* Turn the dial of one store. */
void kvmd_store_set_check(struct kvmd_store *store, enum kvms_check check, uint64_t every);

/* Drop a store: its model ends. */
void kvmd_stores_drop(struct kvmd_stores *s, struct kvmd_store *store);

/* References, so that a record outlives its users.  kvmd_store_put() takes NULL. */
struct kvmd_store *kvmd_store_get(struct kvmd_store *store);
void kvmd_store_put(struct kvmd_store *store);

#endif /* KVMD_STORES_H */
