/*
 * The state digest: the sum of mix(element) over all elements of the state.
 *
 * live.sum holds the elements of records that are not dirty, and every memory
 * word.  A record becomes dirty at its first change: its old elements leave
 * the sum and it joins the dirty list; digest_sync() adds what it has become.
 * So a record that changes often costs nothing until the digest is asked for.
 * Undoing a step restores sum, list length and dirty bits together.
 */
#include "store/pagetable.h"

#include <string.h>

enum tag {
	TAG_SLOT = 2,
	TAG_WORD = 3,
	TAG_NODE = 4,
	TAG_FRAME = 5,
	TAG_SEGMENT = 6,
	TAG_AREA = 14,
	TAG_FREE_VA = 15,
	TAG_FREE_MMIO = 19,
	TAG_CPU = 20,
	TAG_NEXT_ID = 22,
	TAG_CURRENT_CPU = 23,
};

static inline uint64_t
sm(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

uint64_t
digest_mix(const uint64_t *words, unsigned count)
{
	uint64_t h = 0;

	for (unsigned i = 0; i < count; i++)
		h = sm(h ^ words[i]);
	return h;
}

uint64_t
digest_word(uint64_t paddr, uint64_t word)
{
	return word != 0 ? sm(sm(sm(TAG_WORD) ^ paddr) ^ word) : 0;
}

/* ---- The elements of each object: a visitor is called for each ---------------- */

#define ELEMENT(...)                                                                                                   \
	visit(arg, (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static bool
element_slot(const struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg)
{
	const struct slot *sl = &s->slot[i];

	return slot_is_default(sl) || ELEMENT(TAG_SLOT, i, slot_rc(sl), sl->usage, sl->kind, sl->meta, slot_in_list(sl));
}

static bool
element_node(const struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg)
{
	const struct slot *sl = &s->slot[i];

	return sl->usage != USAGE_PAGETABLE ||
	       ELEMENT(TAG_NODE, i, sl->level, sl->nr_children, (sl->bits & SLOT_STRAY) != 0, slot_lock(sl));
}

static bool
element_record(const struct kvms *s, enum kvms_kind kind, uint64_t id, kvms_visitor *visit, void *arg)
{
	const void *record = record_at(s, kind, id);

	if (record == NULL)
		return true;
	if (kind == KVMS_ID_FRAME)
		return ELEMENT(TAG_FRAME, id, ((const struct frame *)record)->paddr);
	if (kind == KVMS_ID_SEGMENT) {
		const struct segment *g = record;

		return ELEMENT(TAG_SEGMENT, id, g->start, g->end);
	}
	assert(kind == KVMS_ID_AREA);
	const struct area *a = record;

	return ELEMENT(TAG_AREA, id, a->start, a->end, a->refs);
}

static bool
element_extent(const struct extent *e, kvms_visitor *visit, void *arg)
{
	if (!e->live || e->set == SET_AREAS)
		return true;
	if (e->set == SET_FREE_VA)
		return ELEMENT(TAG_FREE_VA, e->start, e->end);
	return ELEMENT(TAG_FREE_MMIO, (uint64_t)e->set - SET_FREE_MMIO0, e->start, e->end);
}

static bool
element_config(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	return visit(arg, s->config_element, s->config_element_count);
}

static bool
element_cpus(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	/* active vm_space, IPI flag, all, n, k: nothing sets them yet */
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++)
		if (!ELEMENT(TAG_CPU, cpu, 0, 0, 0, 0, 0))
			return false;
	return true;
}

static bool
element_next_ids(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	for (uint64_t kind = 1; kind < KVMS_ID_KINDS; kind++)
		if (!ELEMENT(TAG_NEXT_ID, kind, s->live.next_id[kind]))
			return false;
	return true;
}

static bool
element_current(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	return ELEMENT(TAG_CURRENT_CPU, 0, s->live.current_cpu);
}

/* ---- Visiting everything, in order of tag and key -------------------------------- */

static bool
visit_slots(const struct kvms *s, bool nodes, kvms_visitor *visit, void *arg)
{
	for (uint64_t i = bitmap_next(&s->used, 0); i != BITMAP_NONE; i = bitmap_next(&s->used, i + 1))
		if (nodes ? !element_node(s, i, visit, arg) : !element_slot(s, i, visit, arg))
			return false;
	return true;
}

static bool
visit_words(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	for (uint64_t i = bitmap_next(&s->written, 0); i != BITMAP_NONE; i = bitmap_next(&s->written, i + 1))
		for (uint64_t paddr = i * PAGE; paddr < (i + 1) * PAGE; paddr += 8)
			if (word_at(s, paddr) != 0 && !ELEMENT(TAG_WORD, paddr, word_at(s, paddr)))
				return false;
	return true;
}

static bool
visit_records(const struct kvms *s, enum kvms_kind kind, kvms_visitor *visit, void *arg)
{
	for (uint64_t id = record_next(s, kind, 1); id != 0; id = record_next(s, kind, id + 1))
		if (!element_record(s, kind, id, visit, arg))
			return false;
	return true;
}

static bool
visit_set(const struct kvms *s, enum extent_set set, kvms_visitor *visit, void *arg)
{
	for (const struct extent *e = extent_from(s, set, 0); e != NULL;
	     e = e->start < UINT64_MAX ? extent_from(s, set, e->start + 1) : NULL)
		if (!element_extent(e, visit, arg))
			return false;
	return true;
}

static bool
visit_all(const struct kvms *s, kvms_visitor *visit, void *arg)
{
	return element_config(s, visit, arg) && visit_slots(s, false, visit, arg) && visit_words(s, visit, arg) &&
	       visit_slots(s, true, visit, arg) && visit_records(s, KVMS_ID_FRAME, visit, arg) &&
	       visit_records(s, KVMS_ID_SEGMENT, visit, arg) && visit_records(s, KVMS_ID_AREA, visit, arg) &&
	       visit_set(s, SET_FREE_VA, visit, arg) && visit_set(s, SET_FREE_MMIO0, visit, arg) &&
	       visit_set(s, SET_FREE_MMIO1, visit, arg) && element_cpus(s, visit, arg) &&
	       element_next_ids(s, visit, arg) && element_current(s, visit, arg);
}

bool
kvms_visit(struct kvms *s, kvms_visitor *visit, void *arg)
{
	return visit_all(s, visit, arg);
}

/* ---- Sums --------------------------------------------------------------------------- */

static bool
sum_element(void *arg, const uint64_t *words, unsigned count)
{
	*(uint64_t *)arg += digest_mix(words, count);
	return true;
}

uint64_t
digest_of(const struct kvms *s, enum undo_type type, unsigned which, uint64_t key)
{
	uint64_t sum = 0;

	switch (type) {
	case UNDO_SLOT:
		(void)(element_slot(s, key, sum_element, &sum) && element_node(s, key, sum_element, &sum));
		break;
	case UNDO_RECORD:
		(void)element_record(s, which, key, sum_element, &sum);
		break;
	case UNDO_POOL:
		(void)element_extent(pool_raw(s, which, (uint32_t)key), sum_element, &sum);
		break;
	case UNDO_WORD:
		sum = digest_word(key, word_at(s, key));
		break;
	}
	return sum;
}

void
digest_touch(struct kvms *s, enum undo_type type, unsigned which, uint64_t key)
{
	if (s->live.dirty_count == s->dirty_capacity) {
		size_t capacity = s->dirty_capacity;

		s->dirty = grow(s, s->dirty, &capacity, capacity + 1, sizeof *s->dirty);
		s->dirty_capacity = (uint32_t)capacity;
	}
	s->live.sum -= digest_of(s, type, which, key);
	s->dirty[s->live.dirty_count++] = (struct dirty){ key, (uint8_t)type, (uint8_t)which };
}

static void
dirty_clear(struct kvms *s, const struct dirty *d)
{
	struct record *r;

	if (d->type == UNDO_SLOT)
		s->slot[d->key].bits &= (uint8_t)~SLOT_DIRTY;
	else if (d->type == UNDO_POOL)
		((struct extent *)pool_raw(s, d->which, (uint32_t)d->key))->dirty = 0;
	else if ((r = record_raw(s, d->which, d->key)) != NULL)
		r->dirty = 0;
}

void
digest_sync(struct kvms *s)
{
	for (uint32_t i = 0; i < s->live.dirty_count; i++) {
		const struct dirty *d = &s->dirty[i];

		s->live.sum += digest_of(s, d->type, d->which, d->key);
		dirty_clear(s, d);
	}
	s->live.dirty_count = 0;
}

uint64_t
digest_config(const struct kvms *s)
{
	uint64_t sum = 0;

	(void)(element_config(s, sum_element, &sum) && element_cpus(s, sum_element, &sum));
	return sum;
}

/* The elements that no record holds. */
static uint64_t
digest_scalars(const struct kvms *s)
{
	uint64_t sum = s->config_sum;

	(void)(element_next_ids(s, sum_element, &sum) && element_current(s, sum_element, &sum));
	return sum;
}

uint64_t
kvms_digest(struct kvms *s)
{
	digest_sync(s);
	return s->live.sum + digest_scalars(s);
}

uint64_t
digest_kept(struct kvms *s)
{
	uint64_t sum = s->live.sum + digest_scalars(s);

	for (uint32_t i = 0; i < s->live.dirty_count; i++)
		sum += digest_of(s, s->dirty[i].type, s->dirty[i].which, s->dirty[i].key);
	return sum;
}

uint64_t
digest_recompute(struct kvms *s)
{
	uint64_t sum = 0;

	(void)visit_all(s, sum_element, &sum);
	return sum;
}
