/*
 * The state digest: the sum of mix(element) over all elements of the state.
 *
 * live.sum holds the elements of records that are not dirty, and every memory
 * word.  A record becomes dirty at its first change: its old elements leave
 * the sum and it joins the dirty list; digest_sync() adds what it has become.
 * So a record that changes often costs nothing until the digest is asked for.
 * Undoing a step restores sum, list length and dirty bits together.
 */
#include "store/foreign.h"

#include <string.h>

enum tag {
	TAG_SLOT = 2,
	TAG_WORD = 3,
	TAG_NODE = 4,
	TAG_FRAME = 5,
	TAG_SEGMENT = 6,
	TAG_UNIQUE = 7,
	TAG_LIST = 8,
	TAG_LINK = 9,
	TAG_VM_SPACE = 10,
	TAG_IO_ENTRY = 11,
	TAG_CURSOR = 12,
	TAG_FLUSHER = 13,
	TAG_AREA = 14,
	TAG_FREE_VA = 15,
	TAG_READER = 16,
	TAG_WRITER = 17,
	TAG_IOMEM = 18,
	TAG_FREE_MMIO = 19,
	TAG_CPU = 20,
	TAG_TLB = 21,
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

static kvms_visitor sum_element;

/* Inlined with a constant count: most elements are only summed, word by word, without being put together. */
static inline __attribute__((always_inline)) bool
element_give(kvms_visitor *visit, void *arg, const uint64_t *words, unsigned count)
{
	uint64_t h = 0;

	if (visit != sum_element)
		return visit(arg, words, count);
#pragma GCC unroll 12
	for (unsigned i = 0; i < count; i++)
		h = sm(h ^ words[i]);
	*(uint64_t *)arg += h;
	return true;
}

#define ELEMENT(...)                                                                                                   \
	element_give(visit, arg, (const uint64_t[]){ __VA_ARGS__ },                                                         \
		sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static inline __attribute__((always_inline)) bool
element_slot(struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg)
{
	const struct slot *sl = &s->slot[i];

	return slot_is_default(sl) || ELEMENT(TAG_SLOT, i, slot_rc(sl), sl->usage, sl->kind, sl->meta, slot_in_list(sl));
}

static inline __attribute__((always_inline)) bool
element_node(struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg)
{
	const struct slot *sl = &s->slot[i];

	return sl->usage != USAGE_PAGETABLE ||
	       ELEMENT(TAG_NODE, i, sl->level, sl->nr_children, (sl->bits & SLOT_STRAY) != 0, slot_lock(sl));
}

static inline __attribute__((always_inline)) bool
element_link(struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg)
{
	const struct slot *sl = &s->slot[i];

	return sl->listed == 0 || ELEMENT(TAG_LINK, i, sl->link_list, sl->link_prev, sl->link_next);
}

/*
 * An element whose length varies, word by word: for the sum its hash, which
 * needs no memory; for any other visitor the store's buffer.
 */
struct words {
	struct kvms *s;
	bool summing;
	uint64_t hash;
	size_t count;
};

static void
put(struct words *w, uint64_t word)
{
	struct kvms *s = w->s;

	if (w->summing) {
		w->hash = sm(w->hash ^ word);
		return;
	}
	s->element = grow(s, s->element, &s->element_capacity, w->count + 1, sizeof *s->element);
	s->element[w->count++] = word;
}

static void
put_stack(struct words *w, const struct flush_stack *stack)
{
	put(w, stack->all);
	put(w, stack->count);
	for (uint64_t i = 0; i < stack->count && i < FLUSH_PAGES - 1; i++) {
		put(w, stack->op[i].va);
		put(w, stack->op[i].pages);
	}
}

static bool
words_end(struct words *w, kvms_visitor *visit, void *arg)
{
	if (!w->summing)
		return visit(arg, w->s->element, (unsigned)w->count);
	*(uint64_t *)arg += w->hash;
	return true;
}

static bool
element_cpu(struct kvms *s, uint64_t id, const struct cpu *cpu, kvms_visitor *visit, void *arg)
{
	struct words w = { s, visit == sum_element, 0, 0 };

	put(&w, TAG_CPU);
	put(&w, id - 1);
	put(&w, cpu->active);
	put(&w, cpu->ipi);
	put_stack(&w, &cpu->queue);
	put(&w, cpu->kept_count);
	uint64_t left = cpu->kept_count;

	for (uint64_t k = cpu->kept_first; KEPT(s, k) != NULL && left-- > 0; k = KEPT(s, k)->next) {
		put(&w, KEPT(s, k)->is_node ? 2 : 1);
		put(&w, KEPT(s, k)->paddr);
	}
	return words_end(&w, visit, arg);
}

static bool
element_flusher(struct kvms *s, uint64_t id, const struct flusher *f, kvms_visitor *visit, void *arg)
{
	struct words w = { s, visit == sum_element, 0, 0 };

	put(&w, TAG_FLUSHER);
	put(&w, id);
	put_stack(&w, &f->stack);
	put(&w, (uint64_t)__builtin_popcountll(f->sent));
	for (uint64_t sent = f->sent; sent != 0; sent &= sent - 1)
		put(&w, (uint64_t)__builtin_ctzll(sent));
	return words_end(&w, visit, arg);
}

static bool
element_cursor(uint64_t id, const struct cursor_record *c, kvms_visitor *visit, void *arg)
{
	return ELEMENT(TAG_CURSOR, id, c->space, c->mutable, c->start, c->end, c->va, c->level, c->guard_level,
		       c->path[c->guard_level <= LEVELS_MAX ? c->guard_level : 0]);
}

static bool
element_vm_io(uint64_t tag, uint64_t id, const struct vm_io *io, kvms_visitor *visit, void *arg)
{
	return ELEMENT(tag, id, io->space, io->va, io->end, io->fallible);
}

static bool
element_record(struct kvms *s, unsigned kind, uint64_t id, kvms_visitor *visit, void *arg)
{
	const void *record = record_at(s, kind, id);
	const struct segment *g = record;
	const struct list *l = record;
	const struct area *a = record;
	const struct vm_space *v = record;
	const struct io_entry *e = record;
	const struct tlb_entry *t = record;
	const struct iomem *m = record;

	if (record == NULL)
		return true;
	switch (kind) {
	case KVMS_ID_FRAME:
		return ELEMENT(TAG_FRAME, id, ((const struct frame *)record)->paddr);
	case KVMS_ID_SEGMENT:
		return ELEMENT(TAG_SEGMENT, id, g->start, g->end);
	case KVMS_ID_UNIQUE:
		return ELEMENT(TAG_UNIQUE, id, ((const struct unique *)record)->paddr);
	case KVMS_ID_LIST:
		return ELEMENT(TAG_LIST, id, l->tag, l->length, l->checked_out, l->index);
	case KVMS_ID_VM_SPACE:
		return ELEMENT(TAG_VM_SPACE, id, v->root, v->handle);
	case REC_IO_ENTRY:
		return ELEMENT(TAG_IO_ENTRY, e->space, e->position, e->paddr, e->size, e->cache, e->area, e->offset);
	case KVMS_ID_CURSOR:
		return element_cursor(id, record, visit, arg);
	case REC_FLUSHER:
		return element_flusher(s, id, record, visit, arg);
	case KVMS_ID_AREA:
		return ELEMENT(TAG_AREA, id, a->start, a->end, a->refs);
	case KVMS_ID_READER:
		return element_vm_io(TAG_READER, id, record, visit, arg);
	case KVMS_ID_WRITER:
		return element_vm_io(TAG_WRITER, id, record, visit, arg);
	case KVMS_ID_IOMEM:
		return ELEMENT(TAG_IOMEM, id, m->area, m->paddr, m->size, m->cache, m->offset);
	case REC_CPU:
		return element_cpu(s, id, record, visit, arg);
	case REC_TLB:
		return ELEMENT(TAG_TLB, t->cpu, t->table, t->va, t->size, t->paddr, t->prop, t->tracked);
	default: /* kept references are part of their CPU's element */
		return true;
	}
}

static bool
element_extent(const struct extent *e, kvms_visitor *visit, void *arg)
{
	if (!e->live || e->set == SET_AREAS || e->set >= SET_TLB)
		return true;
	if (e->set == SET_FREE_VA)
		return ELEMENT(TAG_FREE_VA, e->start, e->end);
	return ELEMENT(TAG_FREE_MMIO, (uint64_t)e->set - SET_FREE_MMIO0, e->start, e->end);
}

static bool
element_config(struct kvms *s, kvms_visitor *visit, void *arg)
{
	return visit(arg, s->config_element, s->config_element_count);
}

static bool
element_next_ids(struct kvms *s, kvms_visitor *visit, void *arg)
{
	for (uint64_t kind = 1; kind < KVMS_ID_KINDS; kind++)
		if (!ELEMENT(TAG_NEXT_ID, kind, s->live.next_id[kind]))
			return false;
	return true;
}

static bool
element_current(struct kvms *s, kvms_visitor *visit, void *arg)
{
	return ELEMENT(TAG_CURRENT_CPU, 0, s->live.current_cpu);
}

static bool
element_foreign(struct kvms *s, kvms_visitor *visit, void *arg)
{
	uint64_t words[FOREIGN_ELEMENT_WORDS];

	if (s->foreign == NULL)
		return true;
	foreign_element(s, words);
	return visit(arg, words, FOREIGN_ELEMENT_WORDS);
}

/* ---- Visiting everything, in order of tag and key -------------------------------- */

typedef bool slot_elements(struct kvms *s, uint64_t i, kvms_visitor *visit, void *arg);

static bool
visit_slots(struct kvms *s, slot_elements *element, kvms_visitor *visit, void *arg)
{
	for (uint64_t i = bitmap_next(&s->used, 0); i != BITMAP_NONE; i = bitmap_next(&s->used, i + 1))
		if (!element(s, i, visit, arg))
			return false;
	return true;
}

static bool
visit_words(struct kvms *s, kvms_visitor *visit, void *arg)
{
	for (uint64_t i = bitmap_next(&s->written, 0); i != BITMAP_NONE; i = bitmap_next(&s->written, i + 1))
		for (uint64_t paddr = i * PAGE; paddr < (i + 1) * PAGE; paddr += 8)
			if (word_at(s, paddr) != 0 && !ELEMENT(TAG_WORD, paddr, word_at(s, paddr)))
				return false;
	return true;
}

static bool
visit_records(struct kvms *s, unsigned kind, kvms_visitor *visit, void *arg)
{
	for (uint64_t id = record_next(s, kind, 1); id != 0; id = record_next(s, kind, id + 1))
		if (!element_record(s, kind, id, visit, arg))
			return false;
	return true;
}

static bool
visit_set(struct kvms *s, enum extent_set set, kvms_visitor *visit, void *arg)
{
	for (const struct extent *e = extent_from(s, set, 0); e != NULL;
	     e = e->start < UINT64_MAX ? extent_from(s, set, e->start + 1) : NULL)
		if (!element_extent(e, visit, arg))
			return false;
	return true;
}

static bool
visit_all(struct kvms *s, kvms_visitor *visit, void *arg)
{
	return element_config(s, visit, arg) && visit_slots(s, element_slot, visit, arg) &&
	       visit_words(s, visit, arg) && visit_slots(s, element_node, visit, arg) &&
	       visit_records(s, KVMS_ID_FRAME, visit, arg) && visit_records(s, KVMS_ID_SEGMENT, visit, arg) &&
	       visit_records(s, KVMS_ID_UNIQUE, visit, arg) && visit_records(s, KVMS_ID_LIST, visit, arg) &&
	       visit_slots(s, element_link, visit, arg) && visit_records(s, KVMS_ID_VM_SPACE, visit, arg) &&
	       visit_records(s, REC_IO_ENTRY, visit, arg) && visit_records(s, KVMS_ID_CURSOR, visit, arg) &&
	       visit_records(s, REC_FLUSHER, visit, arg) && visit_records(s, KVMS_ID_AREA, visit, arg) &&
	       visit_set(s, SET_FREE_VA, visit, arg) && visit_records(s, KVMS_ID_READER, visit, arg) &&
	       visit_records(s, KVMS_ID_WRITER, visit, arg) && visit_records(s, KVMS_ID_IOMEM, visit, arg) &&
	       visit_set(s, SET_FREE_MMIO0, visit, arg) && visit_set(s, SET_FREE_MMIO1, visit, arg) &&
	       visit_records(s, REC_CPU, visit, arg) && visit_records(s, REC_TLB, visit, arg) &&
	       element_next_ids(s, visit, arg) && element_current(s, visit, arg) && element_foreign(s, visit, arg);
}

bool
kvms_visit(struct kvms *s, kvms_visitor *visit, void *arg)
{
	bool whole;

	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		return false;
	}
	whole = visit_all(s, visit, arg);
	s->can_leave = false;
	return whole;
}

/* ---- Sums --------------------------------------------------------------------------- */

static bool
sum_element(void *arg, const uint64_t *words, unsigned count)
{
	*(uint64_t *)arg += digest_mix(words, count);
	return true;
}

static uint64_t
sum_slot(struct kvms *s, uint64_t i)
{
	uint64_t sum = 0;

	(void)(element_slot(s, i, sum_element, &sum) && element_node(s, i, sum_element, &sum) &&
	       element_link(s, i, sum_element, &sum));
	return sum;
}

uint64_t
digest_of(struct kvms *s, enum undo_type type, unsigned which, uint64_t key)
{
	uint64_t sum = 0;

	switch (type) {
	case UNDO_SLOT:
		sum = sum_slot(s, key);
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
digest_config(struct kvms *s)
{
	uint64_t sum = 0;

	(void)element_config(s, sum_element, &sum);
	return sum;
}

/* The elements that no record holds. */
static uint64_t
digest_scalars(struct kvms *s)
{
	uint64_t sum = s->config_sum;

	(void)(element_next_ids(s, sum_element, &sum) && element_current(s, sum_element, &sum) &&
	       element_foreign(s, sum_element, &sum));
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

/* In any order, for a sum has none: what a slot gives is added when it is there, and not in three passes. */
uint64_t
digest_slot(struct kvms *s, uint64_t i)
{
	return bitmap_test(&s->used, i) ? sum_slot(s, i) : 0;
}

uint64_t
digest_but_slots(struct kvms *s)
{
	uint64_t sum = digest_scalars(s);

	(void)visit_words(s, sum_element, &sum);
	for (unsigned kind = 0; kind < REC_KINDS; kind++)
		(void)visit_records(s, kind, sum_element, &sum);
	for (enum extent_set set = SET_FREE_VA; set <= SET_FREE_MMIO1; set++)
		(void)visit_set(s, set, sum_element, &sum);
	return sum;
}

uint64_t
digest_recompute(struct kvms *s)
{
	uint64_t sum = digest_but_slots(s);

	for (uint64_t i = bitmap_next(&s->used, 0); i != BITMAP_NONE; i = bitmap_next(&s->used, i + 1))
		sum += digest_slot(s, i);
	return sum;
}
