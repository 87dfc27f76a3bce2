#include "config.h"

#include "bench/tables.h"

#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

#ifdef HAVE_GLIB
#include <glib.h>
#endif
#ifdef HAVE_JUDY
#include <Judy.h>
#endif

/* ---- Open addressing --------------------------------------------------------------------- */

#define GONE UINT64_MAX /* a key that was dropped; 0: none was ever here */

struct hash {
	struct {
		uint64_t key, value;
	} *at;
	size_t size, used; /* dropped keys included */
};

static void *
hash_make(void)
{
	struct hash *h = calloc(1, sizeof *h);

	if (h == NULL || (h->at = calloc(1024, sizeof *h->at)) == NULL)
		bench_die("no memory");
	h->size = 1024;
	return h;
}

static size_t
hash_find(const struct hash *h, uint64_t key)
{
	size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (h->size - 1);

	while (h->at[i].key != 0 && h->at[i].key != key)
		i = (i + 1) & (h->size - 1);
	return i;
}

static void
hash_grow(struct hash *h)
{
	struct hash old = *h;

	h->size *= 2;
	h->used = 0;
	h->at = calloc(h->size, sizeof *h->at);
	if (h->at == NULL)
		bench_die("no memory");
	for (size_t i = 0; i < old.size; i++)
		if (old.at[i].key != 0 && old.at[i].key != GONE) {
			h->at[hash_find(h, old.at[i].key)] = old.at[i];
			h->used++;
		}
	free(old.at);
}

static void
hash_put(void *t, uint64_t page, uint64_t value)
{
	struct hash *h = t;
	size_t i;

	if (h->used * 3 >= h->size * 2)
		hash_grow(h);
	i = hash_find(h, page);
	h->used += h->at[i].key == 0;
	h->at[i].key = page;
	h->at[i].value = value;
}

static bool
hash_get(void *t, uint64_t page, uint64_t *value)
{
	struct hash *h = t;
	size_t i = hash_find(h, page);

	*value = h->at[i].value;
	return h->at[i].key != 0;
}

static void
hash_drop(void *t, uint64_t page)
{
	struct hash *h = t;
	size_t i = hash_find(h, page);

	if (h->at[i].key == 0)
		return;
	if (h->at[(i + 1) & (h->size - 1)].key == 0) {
		h->at[i].key = 0;
		h->used--;
	} else {
		h->at[i].key = GONE;
	}
}

static void
hash_end(void *t)
{
	free(((struct hash *)t)->at);
	free(t);
}

/* ---- GLib ----------------------------------------------------------------------------------- */

#ifdef HAVE_GLIB
static void *
glib_make(void)
{
	return g_hash_table_new(g_direct_hash, g_direct_equal);
}

static void
glib_put(void *t, uint64_t page, uint64_t value)
{
	g_hash_table_insert(t, (void *)(uintptr_t)page, (void *)(uintptr_t)value);
}

static bool
glib_get(void *t, uint64_t page, uint64_t *value)
{
	void *found = NULL;
	bool any = g_hash_table_lookup_extended(t, (void *)(uintptr_t)page, NULL, &found);

	*value = (uint64_t)(uintptr_t)found;
	return any;
}

static void
glib_drop(void *t, uint64_t page)
{
	g_hash_table_remove(t, (void *)(uintptr_t)page);
}

static void
glib_end(void *t)
{
	g_hash_table_destroy(t);
}
#endif

/* ---- Judy -------------------------------------------------------------------------------------- */

#ifdef HAVE_JUDY
static void *
judy_make(void)
{
	void *t = calloc(1, sizeof(Pvoid_t));

	if (t == NULL)
		bench_die("no memory");
	return t;
}

static void
judy_put(void *t, uint64_t page, uint64_t value)
{
	Word_t *at = (Word_t *)JudyLIns(t, page, PJE0);

	if (at == NULL)
		bench_die("no memory");
	*at = value;
}

static bool
judy_get(void *t, uint64_t page, uint64_t *value)
{
	Word_t *at = (Word_t *)JudyLGet(*(Pvoid_t *)t, page, PJE0);

	*value = at != NULL ? *at : 0;
	return at != NULL;
}

static void
judy_drop(void *t, uint64_t page)
{
	JudyLDel(t, page, PJE0);
}

static void
judy_end(void *t)
{
	JudyLFreeArray(t, PJE0);
	free(t);
}
#endif

const struct table bench_tables[] = {
#ifdef HAVE_JUDY
	{ "JudyL", judy_make, judy_put, judy_get, judy_drop, judy_end },
#endif
	{ "open addressing", hash_make, hash_put, hash_get, hash_drop, hash_end },
#ifdef HAVE_GLIB
	{ "GHashTable", glib_make, glib_put, glib_get, glib_drop, glib_end },
#endif
	{ NULL, NULL, NULL, NULL, NULL, NULL },
};
