#include "daemon/stores.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool
kvmd_stores_init(struct kvmd_stores *s, size_t max, enum kvms_check check, uint64_t every)
{
	*s = (struct kvmd_stores){ .max = max, .check = check, .check_every = every };
	s->at = calloc(max, sizeof(*s->at));
	return s->at != NULL;
}

void
kvmd_stores_free(struct kvmd_stores *s)
{
	while (s->count > 0)
		kvmd_stores_drop(s, s->at[s->count - 1]);
	free(s->at);
	s->at = NULL;
}

/* Index of the first store whose name is not below "name". */
static size_t
position(const struct kvmd_stores *s, const char *name)
{
	size_t i = 0;

	while (i < s->count && strcmp(s->at[i]->name, name) < 0)
		i++;
	return i;
}

struct kvmd_store *
kvmd_stores_find(const struct kvmd_stores *s, const char *name)
{
	size_t i = position(s, name);

	return i < s->count && strcmp(s->at[i]->name, name) == 0 ? s->at[i] : NULL;
}

struct kvmd_store *
kvmd_stores_add(struct kvmd_stores *s, const char *name, struct kvms *model)
{
	size_t i = position(s, name);
	struct kvmd_store *store = calloc(1, sizeof *store);

	assert(s->count < s->max);
	assert(strlen(name) <= KVMP_STORE_NAME_MAX);
	if (store == NULL)
		return NULL;
	strcpy(store->name, name);
	store->model = model;
	store->references = 1; /* the list's */
	TAILQ_INIT(&store->waits);
	TAILQ_INIT(&store->held);
	kvmd_store_set_check(store, s->check, s->check_every);
	memmove(s->at + i + 1, s->at + i, (s->count - i) * sizeof(*s->at));
	s->at[i] = store;
	s->count++;
	return store;
}

void
kvmd_store_replace(struct kvmd_store *store, struct kvms *model)
{
	kvms_free(&store->model);
	store->model = model;
	store->broken[0] = '\0';
	kvms_set_check(model, store->check, store->check_every);
}

void
kvmd_store_set_check(struct kvmd_store *store, enum kvms_check check, uint64_t every)
{
	store->check = check;
	store->check_every = every;
	kvms_set_check(store->model, check, every);
}

void
kvmd_stores_drop(struct kvmd_stores *s, struct kvmd_store *store)
{
	size_t i = position(s, store->name);

	assert(i < s->count && s->at[i] == store);
	s->count--;
	memmove(s->at + i, s->at + i + 1, (s->count - i) * sizeof(*s->at));
	kvms_free(&store->model);
	kvmd_store_put(store);
}

struct kvmd_store *
kvmd_store_get(struct kvmd_store *store)
{
	store->references++;
	return store;
}

void
kvmd_store_put(struct kvmd_store *store)
{
	if (store == NULL || --store->references > 0)
		return;
	assert(TAILQ_EMPTY(&store->waits) && TAILQ_EMPTY(&store->held));
	kvmd_owners_free(&store->owners);
	free(store);
}
