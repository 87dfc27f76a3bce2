#include "store/int.h"

#include <stdlib.h>
#include <string.h>

/* Position of an id in the three steps of the table. */
#define TOP(id) ((id) / (ID_FANOUT * ID_FANOUT))
#define MID(id) ((id) / ID_FANOUT % ID_FANOUT)
#define LOW(id) ((id) % ID_FANOUT)
#define SPARE_MAX 8u

static struct id_leaf *
leaf_of(const struct idtab *t, uint64_t id)
{
	if (TOP(id) >= t->top_count || t->top[TOP(id)] == NULL)
		return NULL;
	return t->top[TOP(id)]->leaf[MID(id)];
}

static struct record *
record_in(const struct idtab *t, struct id_leaf *leaf, uint64_t id)
{
	return (struct record *)(void *)(leaf->records + LOW(id) * t->size);
}

static void
record_save(struct kvms *s, unsigned kind, uint64_t id, struct record *r)
{
	undo_save(s, UNDO_RECORD, kind, id, r, s->ids[kind].size);
	if (!r->dirty) {
		digest_touch(s, UNDO_RECORD, kind, id);
		r->dirty = 1;
	}
}

void *
record_mut(struct kvms *s, unsigned kind, uint64_t id)
{
	struct record *r = record_raw(s, kind, id);

	assert(r != NULL && r->live);
	record_save(s, kind, id, r);
	return r;
}

/* The leaf for an id, made if missing. */
static struct id_leaf *
leaf_need(struct kvms *s, struct idtab *t, uint64_t id)
{
	struct id_leaf **at;

	if (TOP(id) >= t->top_count) {
		uint64_t count = TOP(id) + 1;
		struct id_mid **top = realloc(t->top, (size_t)count * sizeof *top);

		if (top == NULL)
			out_of_memory(s);
		memset(top + t->top_count, 0, (size_t)(count - t->top_count) * sizeof *top);
		t->top = top;
		t->top_count = count;
	}
	if (t->top[TOP(id)] == NULL) {
		t->top[TOP(id)] = calloc(1, sizeof **t->top);
		if (t->top[TOP(id)] == NULL)
			out_of_memory(s);
	}
	at = &t->top[TOP(id)]->leaf[MID(id)];
	if (*at == NULL) {
		*at = t->spare_count > 0 ? t->spare[--t->spare_count]
					 : malloc(sizeof **at + ID_FANOUT * t->size);
		if (*at == NULL)
			out_of_memory(s);
		memset(*at, 0, sizeof **at + ID_FANOUT * t->size);
		t->top[TOP(id)]->leaves++;
	}
	return *at;
}

void *
record_put(struct kvms *s, unsigned kind, uint64_t id)
{
	struct idtab *t = &s->ids[kind];
	struct id_leaf *leaf = leaf_need(s, t, id);
	struct record *r = record_in(t, leaf, id);

	assert(!r->live);
	record_save(s, kind, id, r);
	r->live = 1;
	leaf->live++;
	return r;
}

uint64_t
record_new(struct kvms *s, unsigned kind, void **record)
{
	uint64_t id = s->live.next_id[kind];

	*record = record_put(s, kind, id);
	s->live.next_id[kind]++;
	return id;
}

void
record_end(struct kvms *s, unsigned kind, uint64_t id)
{
	struct record *r = record_mut(s, kind, id);
	uint8_t dirty = r->dirty;

	memset(r, 0, s->ids[kind].size);
	r->dirty = dirty;
	leaf_of(&s->ids[kind], id)->live--;
}

void
record_restored(struct kvms *s, unsigned kind, uint64_t id, bool was_live)
{
	struct id_leaf *leaf = leaf_of(&s->ids[kind], id);

	leaf->live += record_in(&s->ids[kind], leaf, id)->live;
	leaf->live -= was_live;
}

/* Let go of the leaf of an ended id when nothing can live in it any more. */
void
idtab_reclaim(struct kvms *s, unsigned kind, uint64_t id)
{
	struct idtab *t = &s->ids[kind];
	struct id_leaf *leaf = leaf_of(t, id);

	if (leaf == NULL || leaf->live != 0 || s->live.next_id[kind] / ID_FANOUT <= id / ID_FANOUT)
		return;
	t->top[TOP(id)]->leaf[MID(id)] = NULL;
	if (--t->top[TOP(id)]->leaves == 0 && TOP(s->live.next_id[kind]) > TOP(id)) {
		free(t->top[TOP(id)]);
		t->top[TOP(id)] = NULL;
	}
	if (t->spare_count < SPARE_MAX)
		t->spare[t->spare_count++] = leaf;
	else
		free(leaf);
}

uint64_t
record_next(const struct kvms *s, unsigned kind, uint64_t from)
{
	const struct idtab *t = &s->ids[kind];

	for (uint64_t id = from; TOP(id) < t->top_count;) {
		struct id_leaf *leaf = leaf_of(t, id);

		if (t->top[TOP(id)] == NULL) {
			id = (TOP(id) + 1) * ID_FANOUT * ID_FANOUT;
		} else if (leaf == NULL || leaf->live == 0) {
			id = (id / ID_FANOUT + 1) * ID_FANOUT;
		} else {
			if (record_in(t, leaf, id)->live)
				return id;
			id++;
		}
	}
	return 0;
}

void
idtab_free(struct idtab *t)
{
	for (uint64_t top = 0; top < t->top_count; top++) {
		for (unsigned mid = 0; t->top[top] != NULL && mid < ID_FANOUT; mid++)
			free(t->top[top]->leaf[mid]);
		free(t->top[top]);
	}
	free(t->top);
	while (t->spare_count > 0)
		free(t->spare[--t->spare_count]);
	*t = (struct idtab){ .size = t->size };
}
