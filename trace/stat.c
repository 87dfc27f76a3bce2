#include "trace/stat.h"

#include "trace/value.h"

#include <stdlib.h>
#include <string.h>

static unsigned
bucket(uint64_t value)
{
	return value > 1 ? 63u - (unsigned)__builtin_clzll(value) : 0;
}

unsigned
kvt_fragmentation(const struct kvt_free_va *f)
{
	if (f->bytes == 0)
		return 0;
	return (unsigned)(1000.0 * (double)(f->bytes - f->largest) / (double)f->bytes + 0.5);
}

bool
kvt_free_va_ask(struct kvt_target *t, struct kvms_outcome *answer, struct kvt_free_va *f)
{
	const struct kvms_row *row = kvms_request_find("free_va");
	const struct kvms_op *config;
	const uint64_t *first, *ranges;
	struct kvms_op op;
	uint64_t count;

	*f = (struct kvt_free_va){ .blocks = 0 };
	kvms_op_init(&op, row);
	if (t->config(t, &config) != KVT_DONE || t->inspect(t, &op, answer) != KVT_DONE)
		return false;
	first = kvms_op_list(config, kvms_store_row(), (unsigned)kvms_arg_index(kvms_store_row(), "vmalloc"), &count);
	ranges = kvms_outcome_list(answer, row, 0, &count);
	for (uint64_t i = 0; i < count && ranges[2 * i] < first[1]; i++) {
		uint64_t size = ranges[2 * i + 1] - ranges[2 * i];

		f->blocks++;
		f->bytes += size;
		f->largest = size > f->largest ? size : f->largest;
	}
	return true;
}

bool
kvt_stat_begin(struct kvt_stat *s)
{
	s->stride = s->every > 0 ? s->every : 1;
	s->lives = kvt_lives_new();
	return s->lives != NULL && kvt_coverage_init(&s->ops) && kvt_lives_begin(s->lives, s->target);
}

void
kvt_stat_free(struct kvt_stat *s)
{
	for (size_t i = 0; i < s->leaks_count; i++)
		free(s->leaks[i].src);
	free(s->leaks);
	free(s->samples);
	kvt_coverage_free(&s->ops);
	kvt_lives_free(&s->lives);
	kvms_outcome_free(&s->answer);
}

/* ---- Samples -------------------------------------------------------------------- */

/* Only every second one stays, and from here on half as many come. */
static void
thin_out(struct kvt_stat *s)
{
	size_t kept = 0;

	s->stride *= 2;
	for (size_t i = 0; i < s->samples_count; i++)
		if (s->samples[i].step % s->stride == 0)
			s->samples[kept++] = s->samples[i];
	s->samples_count = kept;
}

static void
keep_sample(struct kvt_stat *s, const struct kvt_sample *sample)
{
	if (s->samples_count == s->samples_capacity) {
		size_t capacity = s->samples_capacity > 0 ? 2 * s->samples_capacity : 2 * KVT_SAMPLES;
		struct kvt_sample *samples = realloc(s->samples, capacity * sizeof *samples);

		if (samples == NULL) {
			s->failed = true;
			return;
		}
		s->samples = samples;
		s->samples_capacity = capacity;
	}
	s->samples[s->samples_count++] = *sample;
	if (s->every == 0 && s->samples_count == KVT_SAMPLES)
		thin_out(s);
}

static bool
take_sample(struct kvt_stat *s, struct kvt_sample *sample)
{
	const struct kvms_outcome *census = kvt_lives_census(s->lives);

	*sample = (struct kvt_sample){ .step = s->step.number, .t = s->step.t, .has_t = s->step.t > 0 };
	memcpy(sample->census, census->field, KVMS_FIELDS_MAX * sizeof *sample->census);
	return kvt_free_va_ask(s->target, &s->answer, &sample->free_va);
}

static void
sample(struct kvt_stat *s)
{
	struct kvt_sample now;

	if (!take_sample(s, &now))
		s->failed = true;
	else if (s->sampled != NULL)
		s->sampled(s->arg, &now);
	else
		keep_sample(s, &now);
}

static void
note_peaks(struct kvt_stat *s)
{
	const struct kvms_outcome *census = kvt_lives_census(s->lives);

	for (unsigned i = 0; i < KVMS_FIELDS_MAX; i++)
		if (census->field[i] > s->peak[i].value)
			s->peak[i] = (struct kvt_peak){ census->field[i], s->step.number };
}

/* ---- Steps ------------------------------------------------------------------------ */

static void
area_born(void *arg, const struct kvt_life *life)
{
	struct kvt_stat *s = arg;

	if (life->kind != KVMS_ID_AREA)
		return;
	s->areas_made++;
	s->areas_bytes += life->end - life->start;
	s->sizes[bucket((life->end - life->start) / KVMS_PAGE_SIZE)]++;
}

static void
area_ended(void *arg, const struct kvt_life *life)
{
	struct kvt_stat *s = arg;

	if (life->kind != KVMS_ID_AREA)
		return;
	s->areas_ended++;
	s->ages[bucket(s->step.number - life->step)]++;
	if (life->has_t && s->step.has_t)
		s->times[bucket(s->step.t - life->t)]++;
}

void
kvt_stat_step(struct kvt_stat *s, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	if (line->kind == KVT_EXPECT) {
		kvt_coverage_expect(&s->ops, op, NULL);
		return;
	}
	kvt_step_read(&s->step, line, op, out);
	kvt_coverage_step(&s->ops, op, out, NULL);
	if (!kvt_lives_step(s->lives, s->target, &s->step, area_born, area_ended, s))
		s->failed = true;
	if (out->name == 0)
		note_peaks(s);
	if (s->step.number % s->stride == 0)
		sample(s);
}

/* ---- The end ------------------------------------------------------------------------ */

static int
by_pages(const void *a, const void *b)
{
	const struct kvt_leak *x = a, *y = b;

	if (x->pages != y->pages)
		return x->pages > y->pages ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Groups by kind, operation and @src, found by a hash of the three. */
struct groups {
	struct kvt_stat *s;
	size_t *at; /* number of the leak + 1, 0 = free; open addressing, at most half full */
	size_t capacity, leaks_capacity;
	uint64_t *pages; /* that areas and spaces hold, as (kind << 56 | id), pages; sorted */
	size_t pages_count;
};

static size_t
group_home(const struct groups *g, const struct kvt_life *life)
{
	uint64_t h = (uint64_t)life->kind << 32 | life->op;

	for (const char *p = life->src != NULL ? life->src : ""; *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
	return (size_t)(h ^ h >> 31) & (g->capacity - 1);
}

static struct kvt_leak *
group_of(struct groups *g, const struct kvt_life *life)
{
	struct kvt_stat *s = g->s;
	size_t i = group_home(g, life);
	struct kvt_leak *leak;

	for (; g->at[i] != 0; i = (i + 1) & (g->capacity - 1)) {
		leak = &s->leaks[g->at[i] - 1];
		if (leak->kind == life->kind && leak->op == life->op && same_text(leak->src, life->src))
			return leak;
	}
	leak = &s->leaks[s->leaks_count];
	*leak = (struct kvt_leak){ .kind = life->kind, .op = life->op, .line = life->line };
	if (life->src != NULL)
		leak->src = strdup(life->src);
	g->at[i] = ++s->leaks_count;
	return leak;
}

/* Pages that one object holds, as the state's elements and leaves tell. */
struct holding {
	struct kvt_words words; /* kind << 56 | id, pages, one pair after the other */
	struct kvt_stat *s;
	uint64_t table;
};

static void
hold(struct holding *h, enum kvms_kind kind, uint64_t id, uint64_t pages)
{
	uint64_t *at = kvt_words_add(&h->words, 2);

	if (at == NULL)
		return;
	at[0] = (uint64_t)kind << 56 | id;
	at[1] = pages;
}

static bool
see_holder(void *arg, const uint64_t *words, unsigned count)
{
	struct holding *h = arg;

	(void)count;
	switch (words[0]) {
	case 4:
		if (words[2] >= 1 && words[2] <= KVT_LEVELS_MAX)
			h->s->nodes[words[2] - 1]++;
		break;
	case 5:
		hold(h, KVMS_ID_FRAME, words[1], 1);
		break;
	case 6:
		hold(h, KVMS_ID_SEGMENT, words[1], (words[3] - words[2]) / KVMS_PAGE_SIZE);
		break;
	case 7:
		hold(h, KVMS_ID_UNIQUE, words[1], 1);
		break;
	case 8:
		hold(h, KVMS_ID_LIST, words[1], words[3]);
		break;
	default:
		break;
	}
	return !h->words.failed;
}

/* Areas by address, to find whose a leaf is. */
struct areas {
	const uint64_t *at; /* id, start, end */
	uint64_t count;
};

static int
by_start(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	if (x[1] != y[1])
		return x[1] < y[1] ? -1 : 1;
	return x[2] < y[2] ? -1 : x[2] > y[2];
}

struct leaves {
	struct holding *h;
	const struct areas *areas; /* NULL: of a space */
	uint64_t next;             /* area */
	uint64_t pages;
};

static bool
see_leaves(void *arg, const struct kvms_extent *run)
{
	struct leaves *l = arg;
	uint64_t size = (uint64_t)KVMS_PAGE_SIZE << 9 * (run->level - 1), va = run->va, left = run->leaves;

	if (!run->tracked)
		return true;
	if (l->areas == NULL) {
		l->pages += run->leaves;
		return true;
	}
	while (left > 0) {
		const uint64_t *area;
		uint64_t part;

		while (l->next < l->areas->count && l->areas->at[3 * l->next + 2] <= va)
			l->next++;
		if (l->next == l->areas->count)
			break;
		area = &l->areas->at[3 * l->next];
		if (area[1] > va) { /* of no area */
			va += size;
			left--;
			continue;
		}
		part = (area[2] - va + size - 1) / size;
		part = part < left ? part : left;
		hold(l->h, KVMS_ID_AREA, area[0], part);
		va += part * size;
		left -= part;
	}
	return !l->h->words.failed;
}

static void
hold_areas(struct holding *h)
{
	struct kvt_target *t = h->s->target;
	struct leaves l = { .h = h };
	struct areas areas;
	struct kvms_op op;
	uint64_t *at;

	kvms_op_init(&op, kvms_request_find("areas"));
	if (t->inspect(t, &op, &h->s->answer) != KVT_DONE) {
		h->s->failed = true;
		return;
	}
	at = h->s->answer.list;
	areas.count = h->s->answer.field[0];
	if (areas.count > 0)
		qsort(at, areas.count, 3 * sizeof *at, by_start);
	areas.at = at;
	l.areas = &areas;
	t->extents(t, 0, 0, UINT64_MAX, see_leaves, &l);
}

static void
hold_space(void *arg, const struct kvt_life *life)
{
	struct holding *h = arg;
	struct leaves l = { .h = h };

	if (life->kind != KVMS_ID_VM_SPACE)
		return;
	h->s->target->extents(h->s->target, life->id, 0, UINT64_MAX, see_leaves, &l);
	hold(h, KVMS_ID_VM_SPACE, life->id, l.pages);
}

static int
by_key(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
count_leak(void *arg, const struct kvt_life *life)
{
	struct groups *g = arg;
	uint64_t key = (uint64_t)life->kind << 56 | life->id;
	const uint64_t *pages;
	struct kvt_leak *leak = group_of(g, life);

	leak->count++;
	if (life->kind == KVMS_ID_AREA)
		leak->bytes += life->end - life->start;
	pages = g->pages_count > 0 ? bsearch(&key, g->pages, g->pages_count, 2 * sizeof key, by_key) : NULL;
	if (pages == NULL)
		return;
	while (pages > g->pages && pages[-2] == key)
		pages -= 2;
	for (; pages < g->pages + 2 * g->pages_count && pages[0] == key; pages += 2)
		leak->pages += pages[1];
}

static void
count_life(void *arg, const struct kvt_life *life)
{
	(void)life;
	++*(size_t *)arg;
}

static void
find_leaks(struct kvt_stat *s, struct holding *h)
{
	struct groups g = { .s = s, .capacity = 64 };
	size_t alive = 0;

	hold_areas(h);
	if (!kvt_lives_visit(s->lives, hold_space, h) || !kvt_lives_visit(s->lives, count_life, &alive)) {
		s->failed = true;
		return;
	}
	while (g.capacity < 2 * alive)
		g.capacity *= 2;
	g.at = calloc(g.capacity, sizeof *g.at);
	s->leaks = calloc(alive + 1, sizeof *s->leaks);
	if (h->words.size > 0)
		qsort(h->words.at, h->words.size / 2, 2 * sizeof *h->words.at, by_key);
	g.pages = h->words.at;
	g.pages_count = h->words.size / 2;
	if (g.at == NULL || s->leaks == NULL || !kvt_lives_visit(s->lives, count_leak, &g))
		s->failed = true;
	else
		qsort(s->leaks, s->leaks_count, sizeof *s->leaks, by_pages);
	free(g.at);
}

void
kvt_stat_end(struct kvt_stat *s, bool leaks)
{
	struct holding h = { .s = s };

	if (!take_sample(s, &s->last))
		s->failed = true;
	if (s->sampled != NULL && s->step.number % s->stride != 0)
		s->sampled(s->arg, &s->last);
	(void)kvms_visit(kvt_target_store(s->target), see_holder, &h);
	if (leaks)
		find_leaks(s, &h);
	s->failed = s->failed || h.words.failed;
	kvt_words_free(&h.words);
}
