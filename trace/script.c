#include "trace/script.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (UINT64_C(1) << 24) /* ids from here on are in a hash */
#define MISSING UINT64_MAX        /* of an id: the step that makes it has not run */

/* ---- Steps ------------------------------------------------------------------------- */

bool
kvt_is_space_id(enum kvms_type type, uint64_t value)
{
	return (type == KVMS_TABLE || type == KVMS_TABLE_ALL) && value != 0 && value != UINT64_MAX;
}

static bool
begins(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

enum kvt_space
kvt_space_of(const struct kvms_row *row, const struct kvms_field *arg)
{
	bool is_range = strcmp(arg->name, "start") == 0 || strcmp(arg->name, "end") == 0;

	if (arg->type != KVMS_HEX || strstr(row->name, "slice") != NULL) /* those are offsets */
		return KVT_SPACE_NONE;
	if (begins(arg->name, "paddr"))
		return KVT_SPACE_PHYSICAL;
	if (strcmp(arg->name, "va") == 0)
		return KVT_SPACE_VIRTUAL;
	if (!is_range)
		return KVT_SPACE_NONE;
	return begins(row->name, "segment_") || begins(row->name, "iomem_") || strcmp(row->name, "boot_reserve") == 0
		   ? KVT_SPACE_PHYSICAL
		   : KVT_SPACE_VIRTUAL;
}

struct kvms_op
kvt_script_op(const struct kvt_script *s, size_t step)
{
	struct kvms_op op = s->at[step].op;

	op.list = s->words.at != NULL ? s->words.at + s->at[step].list : NULL;
	return op;
}

void
kvt_script_reset(struct kvt_script *s)
{
	s->count = 0;
	s->words.size = 0;
}

void
kvt_script_free(struct kvt_script *s)
{
	free(s->at);
	kvt_words_free(&s->words);
	kvt_words_free(&s->config_list);
	memset(s, 0, sizeof *s);
}

/* A copy of a payload at the end of "words": where it begins.  False: no memory. */
static bool
add_payload(struct kvt_words *words, const uint64_t *list, size_t count, size_t *at)
{
	uint64_t *to;

	*at = words->size;
	if (count == 0)
		return true;
	to = kvt_words_add(words, count);
	if (to != NULL)
		memcpy(to, list, count * sizeof *to);
	return to != NULL;
}

bool
kvt_script_configure(struct kvt_script *to, const struct kvms_op *config)
{
	size_t at;

	to->config_list.size = 0;
	if (!add_payload(&to->config_list, config->list, kvt_payload_words(kvms_store_row(), config), &at))
		return false;
	to->config = *config;
	to->config.list = to->config_list.at;
	return true;
}

bool
kvt_script_add(struct kvt_script *s, const struct kvt_step *step, const uint64_t *list)
{
	if (s->count == s->capacity) {
		size_t capacity = s->capacity != 0 ? s->capacity * 2 : 64;
		struct kvt_step *at = realloc(s->at, capacity * sizeof *at);

		if (at == NULL)
			return false;
		s->at = at;
		s->capacity = capacity;
	}
	s->at[s->count] = *step;
	s->at[s->count].op.list = NULL;
	if (!add_payload(&s->words, list, kvt_payload_words(step->row, &step->op), &s->at[s->count].list))
		return false;
	s->count++;
	return true;
}

bool
kvt_script_copy(struct kvt_script *to, const struct kvt_script *from)
{
	kvt_script_reset(to);
	if (!kvt_script_configure(to, &from->config))
		return false;
	for (size_t i = 0; i < from->count; i++)
		if (!kvt_script_add(to, &from->at[i], kvt_script_op(from, i).list))
			return false;
	return true;
}

/* ---- Reading ------------------------------------------------------------------------- */

static void *
keep(struct kvmp_arena *a, const void *bytes, size_t size)
{
	void *to = kvmp_arena_alloc(a, size > 0 ? size : 1);

	if (to != NULL && size > 0)
		memcpy(to, bytes, size);
	return to;
}

const struct kvt_line *
kvt_line_keep(struct kvmp_arena *a, const struct kvt_line *line)
{
	struct kvt_line *to = keep(a, line, sizeof *line);
	struct kvt_field *fields = keep(a, line->fields, line->fields_count * sizeof *fields);

	if (to == NULL || fields == NULL)
		return NULL;
	to->fields = fields;
	to->annotations = keep(a, line->annotations, line->annotations_count * sizeof *line->annotations);
	to->op.list = keep(a, line->op.list, kvt_payload_words(line->row, &line->op) * sizeof(uint64_t));
	for (size_t i = 0; i < line->fields_count; i++) {
		struct kvt_field *f = &fields[i];

		if (!f->typed || !kvms_type_is_list(f->type))
			continue;
		f->list = keep(a, f->list, kvt_list_words(f->type, f->value) * sizeof *f->list);
		if (f->list == NULL)
			return NULL;
	}
	return to->annotations != NULL && to->op.list != NULL ? to : NULL;
}

static bool
add_line(struct kvt_script *s, struct kvmp_arena *a, const struct kvt_line *line)
{
	struct kvt_step step = { .row = line->row, .op = line->op, .is_request = line->kind == KVT_EXPECT };

	if (line->kind == KVT_STORE)
		return kvt_script_configure(s, &line->op);
	if (line->kind != KVT_OP && line->kind != KVT_EXPECT)
		return true;
	step.line = kvt_line_keep(a, line);
	return step.line != NULL && kvt_script_add(s, &step, line->op.list);
}

/* One sentence, if anybody listens. */
static bool __attribute__((format(printf, 2, 3))) wrong(FILE *report, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	if (report != NULL)
		vfprintf(report, format, values);
	va_end(values);
	return false;
}

static bool
load_line(struct kvt_script *s, struct kvmp_arena *a, struct kvt_parser *p, const char *source, const char *text,
	  size_t size, FILE *report)
{
	char *copy = keep(a, text, size);
	struct kvt_line line;

	if (copy == NULL)
		return wrong(report, "%s: no memory for a trace of this length\n", source);
	if (!kvt_parse(p, copy, size, &line))
		return wrong(report, "%s\n", kvt_parser_error(p));
	if (line.kind == KVT_BASE)
		return wrong(report, "%s:%" PRIu64 ": a trace that starts from a saved state cannot be shrunk\n",
			     source, line.number);
	return add_line(s, a, &line) || wrong(report, "%s: no memory\n", source);
}

bool
kvt_script_load(struct kvt_script *s, struct kvmp_arena *a, struct kvt_input *in, FILE *report)
{
	struct kvt_parser *p = kvt_parser_new(kvt_input_name(in));
	struct kvms_op config;
	ssize_t size = -1;
	char *text;

	kvms_op_init(&config, kvms_store_row());
	bool good = (p != NULL && kvt_script_configure(s, &config)) || wrong(report, "no memory\n");
	while (good && (size = kvt_input_line(in, &text)) >= 0)
		good = load_line(s, a, p, kvt_input_name(in), text, (size_t)size, report);
	if (good && size == -2)
		good = wrong(report, "%s\n", kvt_input_error(in));
	if (good && !kvt_parse_end(p))
		good = wrong(report, "%s\n", kvt_parser_error(p));
	kvt_parser_free(&p);
	return good;
}

/* ---- Ids in a run ----------------------------------------------------------------------- */

void
kvt_ids_free(struct kvt_ids *ids)
{
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		free(ids->at[kind]);
	kvt_bindings_free(&ids->large);
	memset(ids, 0, sizeof *ids);
}

static void
ids_reset(struct kvt_ids *ids)
{
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		if (ids->at[kind] != NULL)
			memset(ids->at[kind], 0, ids->capacity[kind] * sizeof *ids->at[kind]);
	if (ids->large.count > 0)
		kvt_bindings_free(&ids->large);
}

static bool
ids_set(struct kvt_ids *ids, enum kvms_kind kind, uint64_t id, uint64_t actual)
{
	if (id >= LARGE)
		return kvt_bind(&ids->large, kind, id, actual);
	if (id >= ids->capacity[kind]) {
		size_t capacity = ids->capacity[kind] != 0 ? ids->capacity[kind] : 64;
		uint64_t *at;

		while (capacity <= id)
			capacity *= 2;
		at = realloc(ids->at[kind], capacity * sizeof *at);
		if (at == NULL)
			return false;
		memset(at + ids->capacity[kind], 0, (capacity - ids->capacity[kind]) * sizeof *at);
		ids->at[kind] = at;
		ids->capacity[kind] = capacity;
	}
	ids->at[kind][id] = actual;
	return true;
}

bool
kvt_ids_get(const struct kvt_ids *ids, enum kvms_kind kind, uint64_t *id)
{
	uint64_t actual = *id < ids->capacity[kind] ? ids->at[kind][*id] : 0;

	if (*id >= LARGE)
		actual = kvt_bound(&ids->large, kind, *id) != *id ? kvt_bound(&ids->large, kind, *id) : 0;
	if (actual == MISSING)
		return false;
	if (actual != 0)
		*id = actual;
	return true;
}

/* The ids of a list, without those that nothing has made in this run. */
static uint64_t
translate_list(const struct kvt_ids *ids, enum kvms_kind kind, uint64_t *at, uint64_t count)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < count; i++) {
		at[kept] = at[i];
		if (kvt_ids_get(ids, kind, &at[kept]))
			kept++;
	}
	return kept;
}

/* The area that an operation is about, or 0. */
static uint64_t
area_of(const struct kvms_row *row, const struct kvms_op *op)
{
	return row->args_count > 0 && row->args[0].type == KVMS_ID && row->args[0].kind == KVMS_ID_AREA ? op->arg[0]
													: 0;
}

static uint64_t
shift_of(const struct kvt_trial *r, uint64_t area)
{
	return area < r->shifts.capacity[KVMS_ID_AREA] ? r->shifts.at[KVMS_ID_AREA][area] : 0;
}

/* Addresses in an area that lies elsewhere in this run. */
static void
shift_addresses(const struct kvt_trial *r, const struct kvms_row *row, struct kvms_op *op)
{
	uint64_t shift = shift_of(r, area_of(row, op));

	for (unsigned i = 0; shift != 0 && i < row->args_count; i++)
		if (kvt_space_of(row, &row->args[i]) == KVT_SPACE_VIRTUAL)
			op->arg[i] += shift;
}

/* Addresses of frames that lie elsewhere in this run. */
static void
move_addresses(const struct kvt_trial *r, const struct kvms_row *row, struct kvms_op *op)
{
	for (unsigned i = 0; r->moved_count > 0 && i < row->args_count; i++) {
		uint64_t page = op->arg[i] & ~(uint64_t)(KVMS_PAGE_SIZE - 1);

		if (kvt_space_of(row, &row->args[i]) != KVT_SPACE_PHYSICAL)
			continue;
		for (unsigned k = r->moved_count; k-- > 0;)
			if (r->moved[k].from == page) {
				op->arg[i] += r->moved[k].to - page;
				break;
			}
	}
}

/* The operation with the ids of this run, its payload in r->list.  False: it names what is missing. */
static bool
translate(struct kvt_trial *r, const struct kvms_row *row, struct kvms_op *op)
{
	size_t words = kvt_payload_words(row, op), at = 0;
	const uint64_t *from = op->list;

	shift_addresses(r, row, op);
	move_addresses(r, row, op);
	r->list.size = 0;
	if (words > 0 && kvt_words_add(&r->list, words) == NULL)
		return false;
	op->list = r->list.at;
	for (unsigned i = 0; i < row->args_count; i++) {
		enum kvms_type type = row->args[i].type;
		uint64_t count = op->arg[i];

		if (type == KVMS_ID && !kvt_ids_get(&r->ids, row->args[i].kind, &op->arg[i]))
			return false;
		if (kvt_is_space_id(type, count) && !kvt_ids_get(&r->ids, KVMS_ID_VM_SPACE, &op->arg[i]))
			return false;
		if (!kvms_type_is_list(type))
			continue;
		if (kvt_list_words(type, count) == 0)
			continue;
		memcpy(r->list.at + at, from, kvt_list_words(type, count) * sizeof *from);
		from += kvt_list_words(type, count);
		if (type == KVMS_IDS)
			op->arg[i] = translate_list(&r->ids, row->args[i].kind, r->list.at + at, count);
		if (type == KVMS_IDS && op->arg[i] == 0 && count > 0)
			return false;
		at += kvt_list_words(type, op->arg[i]);
	}
	return true;
}

/* How far an area lies from where it lay; the parts of one lie as far. */
static bool
bind_shift(struct kvt_trial *r, const struct kvt_step *step, uint64_t area, uint64_t start)
{
	uint64_t shift =
	    start != 0 && step->start != 0 ? start - step->start : shift_of(r, area_of(step->row, &step->op));

	return shift == 0 || ids_set(&r->shifts, KVMS_ID_AREA, area, shift);
}

/* What the step made in this run stands for what it made in the script. */
static bool
bind_created(struct kvt_trial *r, const struct kvt_step *step, struct kvt_step *now, bool ran)
{
	unsigned n = 0;

	memset(now->created, 0, sizeof now->created);
	for (unsigned i = 0; i < step->row->results_count && n < KVT_CREATED_MAX; i++) {
		const struct kvms_field *f = &step->row->results[i];
		bool made = ran && !step->is_request && r->out.name == 0 && (r->out.present >> i & 1) != 0;

		if (!f->created)
			continue;
		if (made)
			now->created[n] = r->out.field[i];
		if (step->created[n] != 0 && (made || !r->lenient) &&
		    !ids_set(&r->ids, f->kind, step->created[n], made ? r->out.field[i] : MISSING))
			return false;
		if (made && f->kind == KVMS_ID_AREA && step->created[n] != 0 &&
		    !bind_shift(r, step, step->created[n], now->start))
			return false;
		n++;
	}
	return true;
}

/* ---- Running ------------------------------------------------------------------------------- */

void
kvt_trial_free(struct kvt_trial *r)
{
	kvms_free(&r->store);
	kvt_script_free(&r->ran);
	kvms_outcome_free(&r->out);
	kvt_ids_free(&r->ids);
	kvt_ids_free(&r->shifts);
	kvt_words_free(&r->list);
}

static bool
run_begin(struct kvt_trial *r, const struct kvt_script *script)
{
	struct kvms_refusal why;

	kvms_free(&r->store);
	ids_reset(&r->ids);
	ids_reset(&r->shifts);
	r->moved_count = 0;
	kvt_script_reset(&r->ran);
	if (!kvt_script_configure(&r->ran, &script->config))
		return false;
	r->store = kvms_new(&script->config, &why);
	if (r->store != NULL)
		kvms_set_check(r->store, r->check, r->check_every != 0 ? r->check_every : 1);
	return r->store != NULL;
}

static enum kvms_status
run_step(struct kvt_trial *r, const struct kvt_step *step, const struct kvms_op *op)
{
	return step->is_request ? kvms_inspect(r->store, op, &r->out) : kvms_apply(r->store, op, &r->out);
}

/* A number of an outcome, by name; 0 = it has none. */
static uint64_t
told(const struct kvt_step *step, const struct kvms_outcome *out, const char *name)
{
	int i = step->is_request ? -1 : kvms_result_index(step->row, name);

	return i >= 0 && out->name == 0 && (out->present >> i & 1) != 0 ? out->field[i] : 0;
}

/* A frame that lies elsewhere in this run takes along what names its address from here on. */
static void
note_frame(struct kvt_trial *r, const struct kvt_step *step, struct kvt_step *now)
{
	int i = step->is_request ? -1 : kvms_result_index(step->row, "paddr");

	now->paddr1 = i >= 0 && r->out.name == 0 && (r->out.present >> i & 1) != 0 ? r->out.field[i] + 1 : 0;
	if (now->paddr1 == 0 || step->paddr1 == 0 || (now->paddr1 == step->paddr1 && r->moved_count == 0))
		return;
	if (r->moved_count == KVT_MOVED_MAX)
		memmove(&r->moved[0], &r->moved[1], --r->moved_count * sizeof r->moved[0]);
	r->moved[r->moved_count].from = step->paddr1 - 1;
	r->moved[r->moved_count++].to = now->paddr1 - 1;
}

/* One step, unless it is left out; what it made is bound in any case. */
static enum kvt_end
run_one(struct kvt_trial *r, const struct kvt_script *script, size_t i, bool dropped)
{
	const struct kvt_step *step = &script->at[i];
	struct kvt_step now = *step;
	struct kvms_op op = kvt_script_op(script, i);
	enum kvms_status status = KVMS_INVALID;

	if (!dropped && translate(r, step->row, &op))
		status = run_step(r, step, &op);
	now.moved_to = status == KVMS_DONE ? told(step, &r->out, "va") : 0;
	now.start = status == KVMS_DONE ? told(step, &r->out, "start") : 0;
	if (status == KVMS_NOMEM || !bind_created(r, step, &now, status == KVMS_DONE))
		return KVT_END_NOMEM;
	if (status == KVMS_INVALID)
		return KVT_END_LOST;
	if (status == KVMS_DONE)
		note_frame(r, step, &now);
	now.op = op;
	now.was_ok = status == KVMS_DONE && r->out.name == 0;
	if (!kvt_script_add(&r->ran, &now, op.list))
		return KVT_END_NOMEM;
	r->last = i;
	if (status != KVMS_BROKEN)
		return r->each == NULL || r->each(r->arg, r, step, &r->ran.at[r->ran.count - 1]) ? KVT_END_RAN
												 : KVT_END_ENOUGH;
	r->law = kvms_broken(r->store)->count > 0 ? kvms_broken(r->store)->at[0].law : kvms_law_max();
	return KVT_END_BROKEN;
}

enum kvt_end
kvt_script_run(struct kvt_trial *r, const struct kvt_script *script)
{
	if (!run_begin(r, script))
		return KVT_END_NOMEM;
	for (size_t i = 0; i < script->count; i++) {
		bool must = r->must != NULL && r->must[i] != 0;
		enum kvt_end end = run_one(r, script, i, r->drop != NULL && r->drop[i] != 0);

		if (end == KVT_END_NOMEM || end == KVT_END_BROKEN || end == KVT_END_ENOUGH)
			return end;
		if (r->keep_ok && end == KVT_END_RAN && script->at[i].was_ok && r->out.name != 0)
			return KVT_END_LOST;
		if (must && (end == KVT_END_LOST || (script->at[i].created[0] != 0 && r->out.name != 0)))
			return KVT_END_LOST;
	}
	return KVT_END_RAN;
}

/* ---- Printing --------------------------------------------------------------------------------- */

/* What the model says, with what was recorded in the place of what differs. */
static void
put_merged(struct kvt_buffer *b, const struct kvt_step *step, const struct kvms_outcome *out)
{
	const struct kvt_line *line = step->line;

	if (!step->is_request)
		kvt_puts(b, " ok");
	for (unsigned i = 0; i < line->row->results_count; i++) {
		const struct kvt_field *f = (step->fields >> i & 1) != 0 ? kvt_line_result(line, i) : NULL;
		uint64_t count;

		if (f == NULL && (out->present >> i & 1) == 0)
			continue;
		kvt_putf(b, " %s=", line->row->results[i].name);
		if (f != NULL)
			kvt_put(b, f->text.at, f->text.size);
		else
			kvt_print_value(b, line->row->results[i].type, out->field[i],
					kvms_outcome_list(out, line->row, i, &count));
	}
	for (size_t i = 0; i < line->fields_count; i++) /* what no outcome of the operation has */
		if (line->fields[i].index < 0)
			kvt_putf(b, " %.*s=%.*s", (int)line->fields[i].name.size, line->fields[i].name.at,
				 (int)line->fields[i].text.size, line->fields[i].text.at);
}

static void
put_annotations(struct kvt_buffer *b, const struct kvt_line *line, bool is_result)
{
	for (size_t i = 0; line != NULL && i < line->annotations_count; i++) {
		const struct kvt_annotation *n = &line->annotations[i];

		if (n->is_result == is_result)
			kvt_putf(b, " @%.*s=%.*s", (int)n->name.size, n->name.at, (int)n->value.size, n->value.at);
	}
}

/* Do recorded and model differ in fields alone?  A request has nothing else. */
static bool
in_fields(const struct kvt_line *line, const struct kvms_outcome *out)
{
	return line->kind != KVT_OP || (out->name == 0 && kvt_outcome_holds(line, out));
}

static void
put_outcome(struct kvt_buffer *b, const struct kvt_step *step, const struct kvms_outcome *out)
{
	bool differs = step->differs && step->line != NULL;

	kvt_puts(b, " ->");
	if (differs && in_fields(step->line, out)) {
		put_merged(b, step, out);
		return;
	}
	if (!differs && step->is_request) {
		kvt_print_results(b, step->row, out);
		return;
	}
	kvt_putc(b, ' ');
	if (differs)
		kvt_print_recorded(b, step->line);
	else
		kvt_print_outcome(b, step->row, out);
}

static void
put_step(struct kvt_buffer *b, const struct kvt_step *step, const struct kvms_op *op, const struct kvms_outcome *out)
{
	if (step->is_request)
		kvt_puts(b, "expect ");
	kvt_print_op(b, step->row, op);
	put_annotations(b, step->line, false);
	if (out != NULL) {
		put_outcome(b, step, out);
		put_annotations(b, step->line, true);
	}
	kvt_putc(b, '\n');
}

/* Steps one by one on a fresh store. */
static bool
put_steps(struct kvt_buffer *b, const struct kvt_script *s, struct kvms *store)
{
	struct kvms_outcome out = { 0 };
	bool good = true;

	for (size_t i = 0; good && i < s->count; i++) {
		struct kvms_op op = kvt_script_op(s, i);
		enum kvms_status status =
		    s->at[i].is_request ? kvms_inspect(store, &op, &out) : kvms_apply(store, &op, &out);

		if (status == KVMS_BROKEN) {
			put_step(b, &s->at[i], &op, NULL);
			break;
		}
		good = status == KVMS_DONE;
		if (good && (!s->at[i].is_request || out.name == 0 || s->at[i].differs))
			put_step(b, &s->at[i], &op, &out);
	}
	kvms_outcome_free(&out);
	return good;
}

bool
kvt_script_print(struct kvt_buffer *b, const struct kvt_script *s, const char *comment, enum kvms_check check,
		 uint64_t check_every)
{
	struct kvms_refusal why;
	struct kvms *store = kvms_new(&s->config, &why);
	bool good;

	if (store == NULL)
		return false;
	kvms_set_check(store, check, check_every != 0 ? check_every : 1);
	kvt_puts(b, "kvmtrace 1\n");
	if (comment != NULL)
		kvt_putf(b, "# %s\n", comment);
	kvt_print_store(b, kvms_config(store));
	kvt_putc(b, '\n');
	good = put_steps(b, s, store) && !b->failed;
	kvms_free(&store);
	return good;
}
