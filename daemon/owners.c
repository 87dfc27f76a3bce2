#include "daemon/owners.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve.h"

/* Take the forgotten entries out. */
static void
tidy(struct kvmd_owners *o)
{
	size_t kept = 0;

	for (size_t i = 0; i < o->count; i++)
		if (o->at[i].client != NULL)
			o->at[kept++] = o->at[i];
	o->count = kept;
}

bool
kvmd_owners_reserve(struct kvmd_owners *o)
{
	size_t capacity = o->capacity == 0 ? 16 : o->capacity * 2;
	struct kvmd_owner *grown;

	if (o->count < o->capacity)
		return true;
	/* half of it gained: what tidying up costs is paid by the entries that come before the next time */
	if (o->live <= o->capacity / 2 && o->count > 0) {
		tidy(o);
		return true;
	}
	grown = realloc(o->at, capacity * sizeof *grown);
	if (grown == NULL)
		return false;
	o->at = grown;
	o->capacity = capacity;
	return true;
}

void
kvmd_owners_add(struct kvmd_owners *o, uint64_t cursor, struct kvmd_client *client)
{
	assert(o->count < o->capacity);
	assert(o->count == 0 || o->at[o->count - 1].cursor < cursor);
	o->at[o->count++] = (struct kvmd_owner){ cursor, client };
	o->live++;
	client->cursors++;
}

/* The entry of a cursor, or NULL. */
static struct kvmd_owner *
entry_find(const struct kvmd_owners *o, uint64_t cursor)
{
	size_t low = 0, high = o->count;

	/* entries below "low" have smaller ids, those from "high" on larger ones or the same */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (o->at[middle].cursor < cursor)
			low = middle + 1;
		else
			high = middle;
	}
	return low < o->count && o->at[low].cursor == cursor ? &o->at[low] : NULL;
}

struct kvmd_client *
kvmd_owners_find(const struct kvmd_owners *o, uint64_t cursor)
{
	const struct kvmd_owner *entry = entry_find(o, cursor);

	return entry == NULL ? NULL : entry->client;
}

static void
entry_forget(struct kvmd_owners *o, struct kvmd_owner *entry)
{
	if (entry->client == NULL)
		return;
	entry->client->cursors--;
	entry->client = NULL;
	o->live--;
}

void
kvmd_owners_forget(struct kvmd_owners *o, uint64_t cursor)
{
	struct kvmd_owner *entry = entry_find(o, cursor);

	if (entry != NULL)
		entry_forget(o, entry);
}

void
kvmd_owners_clear(struct kvmd_owners *o)
{
	for (size_t i = 0; i < o->count; i++)
		entry_forget(o, &o->at[i]);
	o->count = 0;
}

void
kvmd_owners_free(struct kvmd_owners *o)
{
	kvmd_owners_clear(o);
	free(o->at);
	memset(o, 0, sizeof *o);
}
