#include "trace/lives.h"

#include "trace/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define SRC_MAX 256u /* bytes of an @src that are kept */

/* Open addressing, linear probing, at most half full; kind 0 = free place. */
struct kvt_lives {
	struct kvt_life *at;
	size_t capacity, count;
	uint64_t seed;
	struct kvms_outcome census, answer;
	unsigned census_field[KVMS_ID_KINDS]; /* where the census counts a kind */
	struct kvt_buffer text;
	bool failed;
};

static const char *const kind_words[KVMS_ID_KINDS] = {
	[KVMS_ID_NONE] = "",         [KVMS_ID_FRAME] = "frame", [KVMS_ID_SEGMENT] = "segment",
	[KVMS_ID_UNIQUE] = "unique", [KVMS_ID_LIST] = "list",   [KVMS_ID_VM_SPACE] = "vm_space",
	[KVMS_ID_CURSOR] = "cursor", [KVMS_ID_AREA] = "area",   [KVMS_ID_READER] = "reader",
	[KVMS_ID_WRITER] = "writer", [KVMS_ID_IOMEM] = "iomem", [KVMS_ID_LIST_TAG] = "list_tag",
};

const char *
kvt_kind_word(enum kvms_kind kind)
{
	return kind < KVMS_ID_KINDS ? kind_words[kind] : "";
}

struct kvt_lives *
kvt_lives_new(void)
{
	struct kvt_lives *l = calloc(1, sizeof *l);
	char plural[32];

	if (l == NULL)
		return NULL;
	for (unsigned kind = KVMS_ID_FRAME; kind <= KVMS_ID_IOMEM; kind++) {
		size_t size = strlen(kind_words[kind]);

		memcpy(plural, kind_words[kind], size);
		memcpy(plural + size, "s", 2);
		l->census_field[kind] = (unsigned)kvms_result_index(kvms_request_find("census"), plural);
	}
	if (getrandom(&l->seed, sizeof l->seed, GRND_NONBLOCK) < 0)
		l->seed = (uint64_t)(uintptr_t)l;
	return l;
}

void
kvt_lives_free(struct kvt_lives **lives)
{
	struct kvt_lives *l = *lives;

	*lives = NULL;
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->capacity; i++)
		free(l->at[i].src);
	free(l->at);
	kvms_outcome_free(&l->census);
	kvms_outcome_free(&l->answer);
	kvt_buffer_free(&l->text);
	free(l);
}

/* ---- The table --------------------------------------------------------------------- */

static size_t
home(const struct kvt_lives *l, enum kvms_kind kind, uint64_t id)
{
	uint64_t x = (id ^ l->seed) + (uint64_t)kind * 0x9E3779B97F4A7C15u;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	return (size_t)(x ^ x >> 31) & (l->capacity - 1);
}

static struct kvt_life *
place(const struct kvt_lives *l, enum kvms_kind kind, uint64_t id)
{
	size_t i = home(l, kind, id);

	while (l->at[i].kind != KVMS_ID_NONE && (l->at[i].kind != kind || l->at[i].id != id))
		i = (i + 1) & (l->capacity - 1);
	return &l->at[i];
}

const struct kvt_life *
kvt_lives_find(const struct kvt_lives *l, enum kvms_kind kind, uint64_t id)
{
	const struct kvt_life *life = l->count > 0 ? place(l, kind, id) : NULL;

	return life != NULL && life->kind != KVMS_ID_NONE ? life : NULL;
}

static bool
grow(struct kvt_lives *l)
{
	size_t old = l->capacity;
	struct kvt_life *at = l->at;

	if (l->count < l->capacity / 2)
		return true;
	l->capacity = old != 0 ? 2 * old : 256;
	l->at = calloc(l->capacity, sizeof *l->at);
	if (l->at == NULL) {
		l->at = at;
		l->capacity = old;
		l->failed = true;
		return false;
	}
	for (size_t i = 0; i < old; i++)
		if (at[i].kind != KVMS_ID_NONE)
			*place(l, at[i].kind, at[i].id) = at[i];
	free(at);
	return true;
}

/* Free a place, and move up what a search could no longer reach past it. */
static void
erase(struct kvt_lives *l, struct kvt_life *life)
{
	size_t mask = l->capacity - 1, hole = (size_t)(life - l->at);

	free(life->src);
	for (size_t i = (hole + 1) & mask; l->at[i].kind != KVMS_ID_NONE; i = (i + 1) & mask) {
		if (((i - home(l, l->at[i].kind, l->at[i].id)) & mask) < ((i - hole) & mask))
			continue;
		l->at[hole] = l->at[i];
		hole = i;
	}
	memset(&l->at[hole], 0, sizeof l->at[hole]);
	l->count--;
}

static int
by_kind_and_id(const void *a, const void *b)
{
	const struct kvt_life *const *x = a, *const *y = b;

	if ((*x)->kind != (*y)->kind)
		return (*x)->kind < (*y)->kind ? -1 : 1;
	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

bool
kvt_lives_visit(const struct kvt_lives *l, kvt_life_visitor *visit, void *arg)
{
	const struct kvt_life **sorted = calloc(l->count + 1, sizeof *sorted);
	size_t count = 0;

	if (sorted == NULL)
		return false;
	for (size_t i = 0; i < l->capacity; i++)
		if (l->at[i].kind != KVMS_ID_NONE)
			sorted[count++] = &l->at[i];
	qsort(sorted, count, sizeof *sorted, by_kind_and_id);
	for (size_t i = 0; i < count; i++)
		visit(arg, sorted[i]);
	free(sorted);
	return true;
}

const struct kvms_outcome *
kvt_lives_census(const struct kvt_lives *l)
{
	return &l->census;
}

/* ---- Steps --------------------------------------------------------------------------- */

static bool
is_name(struct kvt_span name, const char *word)
{
	return name.size == strlen(word) && memcmp(name.at, word, name.size) == 0;
}

bool
kvt_annotation_text(const struct kvt_line *line, const char *name, struct kvt_buffer *b)
{
	kvt_buffer_reset(b);
	for (size_t i = 0; i < line->annotations_count; i++) {
		const struct kvt_annotation *a = &line->annotations[i];

		if (!is_name(a->name, name))
			continue;
		if (a->value.size > 0 && a->value.at[0] == '"')
			kvt_unquote(b, a->value);
		else
			kvt_put(b, a->value.at, a->value.size);
		return true;
	}
	return false;
}

/* A time of day as histories have it, "2024-05-17T09:30:00.000000Z", in nanoseconds since 1970. */
static bool
time_of_day(struct kvt_span value, uint64_t *t)
{
	struct tm day = { .tm_isdst = 0 };
	char text[40];
	unsigned micro;
	int size = 0;
	time_t seconds;

	if (value.size < 2 || value.size > sizeof text || value.at[0] != '"')
		return false;
	memcpy(text, value.at + 1, value.size - 2);
	text[value.size - 2] = '\0';
	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6uZ%n", &day.tm_year, &day.tm_mon, &day.tm_mday, &day.tm_hour,
		   &day.tm_min, &day.tm_sec, &micro, &size) != 7 ||
	    size != 27)
		return false;
	day.tm_year -= 1900;
	day.tm_mon -= 1;
	seconds = timegm(&day);
	*t = (uint64_t)seconds * UINT64_C(1000000000) + micro * UINT64_C(1000);
	return seconds > 0;
}

void
kvt_step_read(struct kvt_step *step, const struct kvt_line *line, const struct kvms_op *op,
	      const struct kvms_outcome *out)
{
	uint64_t value;

	step->number++;
	step->line = line;
	step->op = op;
	step->out = out;
	step->has_t = step->has_cpu = false;
	for (size_t i = 0; i < line->annotations_count; i++) {
		const struct kvt_annotation *a = &line->annotations[i];

		if (a->is_result)
			continue;
		if (is_name(a->name, "time") && time_of_day(a->value, &value)) {
			step->epoch = step->epoch != 0 ? step->epoch : value;
			value = value > step->epoch ? value - step->epoch : 0;
			step->t = value > step->t ? value : step->t; /* time does not go back */
			step->has_t = true;
		} else if (is_name(a->name, "t") && kvt_parse_u64(a->value.at, a->value.size, &value)) {
			step->t = value > step->t ? value : step->t;
			step->has_t = true;
		} else if (is_name(a->name, "cpu") && kvt_parse_u64(a->value.at, a->value.size, &value)) {
			step->cpu = value;
			step->has_cpu = true;
		}
	}
}

/* A result field of that name: its value, or "otherwise". */
static uint64_t
result(const struct kvt_step *step, const char *name, uint64_t otherwise)
{
	int i = kvms_result_index(step->line->row, name);

	return i >= 0 && (step->out->present >> i & 1) != 0 ? step->out->field[i] : otherwise;
}

static uint64_t
argument(const struct kvt_step *step, const char *name)
{
	int i = kvms_arg_index(step->line->row, name);

	return i >= 0 ? step->op->arg[i] : 0;
}

/* Where a new area lies: its outcome says so, or the area it was cut from, or the device's range. */
static void
find_range(const struct kvt_step *step, const struct kvt_life *whole, const char *name, struct kvt_life *life)
{
	uint64_t page = KVMS_PAGE_SIZE;

	if (whole != NULL) {
		uint64_t middle = whole->start + argument(step, "offset");

		life->start = strcmp(name, "left") == 0 ? whole->start : middle;
		life->end = strcmp(name, "left") == 0 ? middle : whole->end;
	} else if (kvms_result_index(step->line->row, "va") >= 0) {
		uint64_t first = argument(step, "start") / page, last = (argument(step, "end") - 1) / page;

		life->start = result(step, "va", 0) & ~(page - 1);
		life->end = life->start + (last - first + 1) * page;
	} else {
		life->start = argument(step, "start");
		life->end = result(step, "end", life->start + argument(step, "area_size"));
		life->start = result(step, "start", life->start);
	}
}

static bool
ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && strcmp(text + a - b, end) == 0;
}

static void
bear(struct kvt_lives *l, const struct kvt_step *step, unsigned field, const struct kvt_life *whole,
     kvt_life_visitor *born, void *arg)
{
	const struct kvms_field *f = &step->line->row->results[field];
	struct kvt_life life = { .kind = f->kind,
				 .id = step->out->field[field],
				 .step = step->number,
				 .line = step->line->number,
				 .t = step->t,
				 .has_t = step->has_t,
				 .op = step->op->code };
	struct kvt_life *at;

	if (f->kind == KVMS_ID_AREA) {
		find_range(step, whole, f->name, &life);
		life.is_placed = ends_with(step->line->row->name, "_at");
	}
	if (!grow(l))
		return;
	if (whole != NULL)
		life.src = whole->src != NULL ? strdup(whole->src) : NULL; /* cut from what somebody else took */
	else if (kvt_annotation_text(step->line, "src", &l->text))
		life.src = strndup(kvt_buffer_text(&l->text), SRC_MAX);
	at = place(l, life.kind, life.id);
	if (at->kind != KVMS_ID_NONE) {
		free(at->src);
		l->count--;
	}
	*at = life;
	l->count++;
	if (born != NULL)
		born(arg, at);
}

static void
end_one(struct kvt_lives *l, enum kvms_kind kind, uint64_t id, kvt_life_visitor *ended, void *arg)
{
	struct kvt_life *life = l->count > 0 ? place(l, kind, id) : NULL;

	if (life == NULL || life->kind == KVMS_ID_NONE)
		return;
	if (ended != NULL)
		ended(arg, life);
	erase(l, life);
}

/* Ids of a kind among the arguments: how many; with "end" they end. */
static uint64_t
argument_ids(struct kvt_lives *l, const struct kvt_step *step, enum kvms_kind kind, bool end, kvt_life_visitor *ended,
	     void *arg)
{
	const struct kvms_row *row = step->line->row;
	uint64_t ids = 0;

	for (unsigned i = 0; i < row->args_count; i++) {
		const uint64_t *at = &step->op->arg[i];
		uint64_t count = 1;

		if (row->args[i].kind != kind)
			continue;
		if (row->args[i].type == KVMS_IDS)
			at = kvms_op_list(step->op, row, i, &count);
		else if (row->args[i].type != KVMS_ID)
			continue;
		for (uint64_t k = 0; end && k < count; k++)
			end_one(l, kind, at[k], ended, arg);
		ids += count;
	}
	return ids;
}

/* ---- Asking the store ------------------------------------------------------------------ */

/* Ids of one kind that are alive, ascending. */
struct alive {
	unsigned tag;
	struct kvt_words ids;
};

/* Tags of the state's elements, by kind of id. */
static const unsigned element_tags[KVMS_ID_KINDS] = {
	[KVMS_ID_FRAME] = 5,     [KVMS_ID_SEGMENT] = 6, [KVMS_ID_UNIQUE] = 7, [KVMS_ID_LIST] = 8,
	[KVMS_ID_VM_SPACE] = 10, [KVMS_ID_CURSOR] = 12, [KVMS_ID_AREA] = 14,  [KVMS_ID_READER] = 16,
	[KVMS_ID_WRITER] = 17,   [KVMS_ID_IOMEM] = 18,
};

static bool
see_element(void *arg, const uint64_t *words, unsigned count)
{
	struct alive *alive = arg;
	uint64_t *at;

	(void)count;
	if (words[0] > alive->tag)
		return false;
	if (words[0] != alive->tag)
		return true;
	at = kvt_words_add(&alive->ids, 1);
	if (at != NULL)
		*at = words[1];
	return at != NULL;
}

static bool
ask_areas(struct kvt_lives *l, struct kvt_target *t, struct alive *alive)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find("areas"));
	if (t->inspect(t, &op, &l->answer) != KVT_DONE)
		return false;
	for (uint64_t i = 0; i < l->answer.field[0]; i++) {
		uint64_t *at = kvt_words_add(&alive->ids, 1);

		if (at == NULL)
			return false;
		*at = l->answer.list[3 * i];
	}
	return true;
}

static int
by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Has a space ended?  A table that is none answers no question. */
static bool
space_ended(struct kvt_lives *l, struct kvt_target *t, uint64_t id)
{
	const struct kvms_row *row = kvms_request_find("translate");
	struct kvms_op op;

	kvms_op_init(&op, row);
	op.arg[kvms_arg_index(row, "table")] = id;
	return t->inspect(t, &op, &l->answer) == KVT_DONE && l->answer.name != 0;
}

/* A kind of which more ended than the arguments name: end what the store does not have. */
static void
ask_alive(struct kvt_lives *l, struct kvt_target *t, enum kvms_kind kind, kvt_life_visitor *ended, void *arg)
{
	struct alive alive = { .tag = element_tags[kind] };
	struct kvt_words gone = { 0 };

	if (kind == KVMS_ID_AREA)
		l->failed = !ask_areas(l, t, &alive) || l->failed;
	else if (kind != KVMS_ID_VM_SPACE)
		(void)kvms_visit(kvt_target_store(t), see_element, &alive);
	for (size_t i = 0; i < l->capacity; i++) {
		const struct kvt_life *life = &l->at[i];
		bool lives;
		uint64_t *at;

		if (life->kind != kind)
			continue;
		if (kind == KVMS_ID_VM_SPACE)
			lives = !space_ended(l, t, life->id);
		else
			lives = alive.ids.size > 0 &&
				bsearch(&life->id, alive.ids.at, alive.ids.size, sizeof life->id, by_number) != NULL;
		at = lives ? NULL : kvt_words_add(&gone, 1);
		if (at != NULL)
			*at = life->id;
	}
	if (gone.size > 0)
		qsort(gone.at, gone.size, sizeof *gone.at, by_number);
	for (size_t i = 0; i < gone.size; i++)
		end_one(l, kind, gone.at[i], ended, arg);
	l->failed = l->failed || alive.ids.failed || gone.failed;
	kvt_words_free(&alive.ids);
	kvt_words_free(&gone);
}

/* The space that an operation names is not the one that ends when a CPU leaves it. */
static bool
switches_space(const struct kvms_row *row, enum kvms_kind kind)
{
	return kind == KVMS_ID_VM_SPACE && strcmp(row->name, "vm_space_activate") == 0;
}

static bool
ask_census(struct kvt_lives *l, struct kvt_target *t)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find("census"));
	return t->inspect(t, &op, &l->census) == KVT_DONE;
}

bool
kvt_lives_step(struct kvt_lives *l, struct kvt_target *t, const struct kvt_step *step, kvt_life_visitor *born,
	       kvt_life_visitor *ended, void *arg)
{
	const struct kvms_row *row = step->line->row;
	uint64_t created[KVMS_ID_KINDS] = { 0 }, before[KVMS_ID_KINDS];
	struct kvt_life whole = { .kind = KVMS_ID_NONE };
	bool is_split = kvms_result_index(row, "left") >= 0;

	if (step->out->name != 0)
		return true;
	for (unsigned kind = KVMS_ID_FRAME; kind <= KVMS_ID_IOMEM; kind++)
		before[kind] = l->census.field[l->census_field[kind]];
	if (!ask_census(l, t))
		return false;
	for (unsigned i = 0; i < row->results_count; i++)
		created[row->results[i].kind] += row->results[i].created && (step->out->present >> i & 1) != 0;
	if (is_split && row->args[0].kind == KVMS_ID_AREA) {
		const struct kvt_life *found = kvt_lives_find(l, KVMS_ID_AREA, step->op->arg[0]);

		if (found != NULL) {
			whole = *found;
			whole.src = found->src != NULL ? strdup(found->src) : NULL;
		}
	}
	for (enum kvms_kind kind = KVMS_ID_FRAME; kind <= KVMS_ID_IOMEM; kind++) {
		uint64_t gone = before[kind] + created[kind] - l->census.field[l->census_field[kind]];

		if (gone == 0)
			continue;
		if (gone == argument_ids(l, step, kind, false, NULL, NULL) && !switches_space(row, kind))
			argument_ids(l, step, kind, true, ended, arg);
		else
			ask_alive(l, t, kind, ended, arg);
	}
	for (unsigned i = 0; i < row->results_count; i++)
		if (row->results[i].created && (step->out->present >> i & 1) != 0)
			bear(l, step, i, row->results[i].kind == whole.kind ? &whole : NULL, born, arg);
	free(whole.src);
	return !l->failed;
}

/* ---- What was there before ----------------------------------------------------------------- */

static bool
see_earlier(void *arg, const uint64_t *words, unsigned count)
{
	struct kvt_lives *l = arg;

	for (enum kvms_kind kind = KVMS_ID_FRAME; kind <= KVMS_ID_IOMEM; kind++) {
		if (element_tags[kind] != words[0])
			continue;
		if (!grow(l))
			return false;
		*place(l, kind, words[1]) =
		    (struct kvt_life){ .kind = kind,
				       .id = words[1],
				       .start = kind == KVMS_ID_AREA && count > 3 ? words[2] : 0,
				       .end = kind == KVMS_ID_AREA && count > 3 ? words[3] : 0 };
		l->count++;
	}
	return true;
}

bool
kvt_lives_begin(struct kvt_lives *l, struct kvt_target *t)
{
	return ask_census(l, t) && kvms_visit(kvt_target_store(t), see_earlier, l) && !l->failed;
}
