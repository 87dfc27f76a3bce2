/*
 * owners - which connection each cursor of one store belongs to.
 *
 * Cursors that belong to nobody (opened detached, or loaded with a snapshot)
 * are not here.  Ids of a store only grow, so entries are added at the end and
 * the table is sorted by id as it is.
 *
 * Law: a cursor that is here lives in the store; each client's count of
 * cursors is that of its entries in all tables.
 */
#ifndef KVMD_OWNERS_H
#define KVMD_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvmd_client;

struct kvmd_owner {
	uint64_t cursor;
	struct kvmd_client *client; /* NULL: forgotten, the entry goes with the next tidying up */
};

/* Zero-initialise; kvmd_owners_free() ends it. */
struct kvmd_owners {
	struct kvmd_owner *at;
	size_t count;
	size_t live; /* entries with a client */
	size_t capacity;
};

/* Make room for one more entry; no pointer or index into the table is good after it.  Fails with false: no memory. */
bool kvmd_owners_reserve(struct kvmd_owners *o);

/* => needs: room, and an id above those that are there */
void kvmd_owners_add(struct kvmd_owners *o, uint64_t cursor, struct kvmd_client *client);

/* Whom a cursor belongs to, or NULL. */
struct kvmd_client *kvmd_owners_find(const struct kvmd_owners *o, uint64_t cursor);

/* The cursor belongs to nobody from here on.  No entry moves. */
void kvmd_owners_forget(struct kvmd_owners *o, uint64_t cursor);

/* No cursor belongs to anybody from here on. */
void kvmd_owners_clear(struct kvmd_owners *o);

void kvmd_owners_free(struct kvmd_owners *o);

#endif /* KVMD_OWNERS_H */
