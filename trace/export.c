#include "trace/export.h"

#include <inttypes.h>
#include <string.h>

static void
flush(struct kvt_export *e)
{
	fwrite(kvt_buffer_text(&e->text), 1, e->text.size, e->out);
	e->failed = e->failed || e->text.failed;
	kvt_buffer_reset(&e->text);
}

/* A result or argument of the step by name: true if it is there. */
static bool
step_value(const struct kvt_step *step, const char *name, enum kvms_type *type, uint64_t *value)
{
	const struct kvms_row *row = step->line->row;
	int i = kvms_result_index(row, name);

	if (i >= 0 && (step->out->present >> i & 1) != 0 && !kvms_type_is_list(row->results[i].type)) {
		*type = row->results[i].type;
		*value = step->out->field[i];
		return true;
	}
	i = kvms_arg_index(row, name);
	if (i < 0 || kvms_type_is_list(row->args[i].type))
		return false;
	*type = row->args[i].type;
	*value = step->op->arg[i];
	return true;
}

/* ---- Chrome ------------------------------------------------------------------------- */

enum { PID_CPUS = 1, PID_CONNECTIONS, PID_OBJECTS, PID_COUNTERS };

/* Numbers of tracks: viewers take one for the same track in whichever process it stands, and 0 for an idle CPU. */
enum { TID_CPUS = 1, TID_OBJECTS = 100, TID_COUNTERS = 200, TID_CONNECTIONS = 1000 };

static void
event(struct kvt_export *e, const char *ph, unsigned pid, uint64_t tid)
{
	kvt_putf(&e->text, "%s{\"ph\":\"%s\",\"pid\":%u,\"tid\":%" PRIu64, e->more ? ",\n" : "\n", ph, pid, tid);
	e->more = true;
}

static void
put_time(struct kvt_export *e, const char *name, uint64_t ns)
{
	kvt_putf(&e->text, ",\"%s\":%" PRIu64 ".%03u", name, ns / 1000, (unsigned)(ns % 1000));
}

static void
name_track(struct kvt_export *e, const char *what, unsigned pid, uint64_t tid, const char *name)
{
	event(e, "M", pid, tid);
	kvt_putf(&e->text, ",\"ts\":0,\"name\":\"%s\",\"args\":{\"name\":\"%s\"}}", what, name);
}

/* The track of a CPU or a connection; what it is called is said, if that was not done a moment ago. */
static uint64_t
track(struct kvt_export *e, unsigned pid, uint64_t number)
{
	uint64_t tid = (number & 0x3fffffff) + (pid == PID_CPUS ? TID_CPUS : TID_CONNECTIONS), key = tid << 2 | pid;
	char name[40];

	if (e->tracks[key % KVT_TRACKS] == key)
		return tid;
	e->tracks[key % KVT_TRACKS] = key;
	snprintf(name, sizeof name, "%s %" PRIu64, pid == PID_CPUS ? "CPU" : "connection", number);
	name_track(e, "thread_name", pid, tid, name);
	return tid;
}

static void
chrome_head(struct kvt_export *e)
{
	kvt_puts(&e->text, "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"source\":");
	kvt_json_string(&e->text, e->source, strlen(e->source));
	kvt_puts(&e->text, "},\"traceEvents\":[");
	name_track(e, "process_name", PID_CPUS, TID_CPUS, "operations by CPU");
	name_track(e, "process_name", PID_CONNECTIONS, TID_CONNECTIONS, "operations by connection");
	name_track(e, "process_name", PID_OBJECTS, TID_OBJECTS, "objects");
	name_track(e, "process_name", PID_COUNTERS, TID_COUNTERS, "store");
}

static bool
is_shown(enum kvms_kind kind)
{
	return kind == KVMS_ID_AREA || kind == KVMS_ID_SEGMENT || kind == KVMS_ID_VM_SPACE || kind == KVMS_ID_CURSOR;
}

static void
slice(struct kvt_export *e, const char *ph, const struct kvt_life *life)
{
	const char *kind = kvt_kind_word(life->kind);

	event(e, ph, PID_OBJECTS, TID_OBJECTS + life->kind);
	put_time(e, "ts", e->now);
	kvt_putf(&e->text, ",\"cat\":\"%s\",\"id\":\"%s %" PRIu64 "\",\"name\":\"%s %" PRIu64 "\"", kind, kind,
		 life->id, kind, life->id);
}

static void
slice_begin(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	if (!is_shown(life->kind))
		return;
	slice(e, "b", life);
	kvt_putf(&e->text, ",\"args\":{\"step\":%" PRIu64 ",\"line\":%" PRIu64, life->step, life->line);
	if (life->op != 0)
		kvt_putf(&e->text, ",\"op\":\"%s\"", kvms_op_row(life->op)->name);
	if (life->kind == KVMS_ID_AREA)
		kvt_putf(&e->text, ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"", life->start, life->end);
	if (life->src != NULL) {
		kvt_puts(&e->text, ",\"src\":");
		kvt_json_string(&e->text, life->src, strlen(life->src));
	}
	kvt_puts(&e->text, "}}");
	flush(e);
}

static void
slice_end(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	if (!is_shown(life->kind))
		return;
	slice(e, "e", life);
	kvt_putf(&e->text, ",\"args\":{\"step\":%" PRIu64 "}}", e->step.number);
	flush(e);
}

/* What is alive behind the last step that is written: its slice ends with the document. */
static void
slice_cut(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	if (!is_shown(life->kind))
		return;
	slice(e, "e", life);
	kvt_puts(&e->text, ",\"args\":{\"alive\":true}}");
	flush(e);
}

static void
counter(struct kvt_export *e, unsigned number, const char *name, const char *unit, uint64_t value)
{
	if (e->shown[number] == value + 1)
		return;
	e->shown[number] = value + 1;
	event(e, "C", PID_COUNTERS, TID_COUNTERS);
	put_time(e, "ts", e->now);
	kvt_putf(&e->text, ",\"name\":\"%s\",\"args\":{\"%s\":%" PRIu64 "}}", name, unit, value);
}

static void
counters(struct kvt_export *e)
{
	const struct kvms_row *row = kvms_request_find("census");
	const uint64_t *census = kvt_lives_census(e->lives)->field;

	counter(e, 0, "frames in use", "frames", census[kvms_result_index(row, "frame")]);
	counter(e, 1, "page-table nodes", "nodes", census[kvms_result_index(row, "pagetable")]);
	counter(e, 2, "free addresses", "bytes", e->end - e->start - e->used);
	flush(e);
}

/* When the operation was over, if the trace says so. */
static bool
result_time(const struct kvt_line *line, uint64_t *t)
{
	for (size_t i = 0; i < line->annotations_count; i++) {
		const struct kvt_annotation *a = &line->annotations[i];

		if (a->is_result && a->name.size == 1 && a->name.at[0] == 't' &&
		    kvt_parse_u64(a->value.at, a->value.size, t))
			return true;
	}
	return false;
}

static void
chrome_op(struct kvt_export *e)
{
	const struct kvt_step *s = &e->step;
	uint64_t tid = s->has_cpu ? s->cpu : e->cpu, until;
	unsigned pid = PID_CPUS;

	if (kvt_annotation_text(s->line, "connection", &e->value) &&
	    kvt_parse_u64(kvt_buffer_text(&e->value), e->value.size, &tid))
		pid = PID_CONNECTIONS;
	tid = track(e, pid, tid);
	if (result_time(s->line, &until) && until >= e->now) {
		event(e, "X", pid, tid);
		put_time(e, "dur", until - e->now);
	} else {
		event(e, "i", pid, tid);
		kvt_puts(&e->text, ",\"s\":\"t\"");
	}
	put_time(e, "ts", e->now);
	kvt_putf(&e->text,
		 ",\"cat\":\"%s\",\"name\":\"%s\",\"args\":{\"step\":%" PRIu64 ",\"line\":%" PRIu64 ",\"op\":",
		 kvms_class_word(kvms_outcome_class(s->out->name)), s->line->row->name, s->number, s->line->number);
	kvt_buffer_reset(&e->value);
	kvt_print_op(&e->value, s->line->row, s->op);
	kvt_json_string(&e->text, kvt_buffer_text(&e->value), e->value.size);
	kvt_puts(&e->text, ",\"outcome\":");
	kvt_buffer_reset(&e->value);
	kvt_print_outcome(&e->value, s->line->row, s->out);
	kvt_json_string(&e->text, kvt_buffer_text(&e->value), e->value.size);
	if (kvt_annotation_text(s->line, "src", &e->value)) {
		kvt_puts(&e->text, ",\"src\":");
		kvt_json_string(&e->text, kvt_buffer_text(&e->value), e->value.size);
	}
	kvt_puts(&e->text, "}}");
	flush(e);
}

/* ---- ITF --------------------------------------------------------------------------------- */

static void
itf_head(struct kvt_export *e)
{
	kvt_puts(&e->text, "{\"#meta\":{\"format\":\"ITF\",\"format-description\":"
			   "\"https://apalache-mc.org/docs/adr/015adr-trace.html\",\"description\":\"kvmctl trace "
			   "export\",\"source\":");
	kvt_json_string(&e->text, e->source, strlen(e->source));
	kvt_puts(&e->text, "},\n\"params\":[],\n\"vars\":[\"step\",\"op\",\"args\",\"outcome\",\"result\",\"areas\","
			   "\"free_va\",\"counts\"],\n"
			   "\"states\":[");
	flush(e);
}

static void
put_bigint(struct kvt_buffer *b, uint64_t value)
{
	kvt_putf(b, "{\"#bigint\":\"%" PRIu64 "\"}", value);
}

/* [name, canonical text of the value] */
static void
put_pair(struct kvt_export *e, bool *more, const struct kvms_field *f, uint64_t value, const uint64_t *list)
{
	kvt_buffer_reset(&e->value);
	kvt_print_value(&e->value, f->type, value, list);
	kvt_putf(&e->text, "%s[\"%s\",", *more ? "," : "", f->name);
	kvt_json_string(&e->text, kvt_buffer_text(&e->value), e->value.size);
	kvt_putc(&e->text, ']');
	*more = true;
}

static void
put_args(struct kvt_export *e, const struct kvms_row *row, const struct kvms_op *op)
{
	bool more = false;
	uint64_t count;

	kvt_puts(&e->text, "{\"#map\":[");
	for (unsigned i = 0; row != NULL && i < row->args_count; i++)
		put_pair(e, &more, &row->args[i], op->arg[i],
			 kvms_type_is_list(row->args[i].type) ? kvms_op_list(op, row, i, &count) : NULL);
	kvt_puts(&e->text, "]}");
}

static void
put_result(struct kvt_export *e, const struct kvms_row *row, const struct kvms_outcome *out)
{
	bool more = false;
	uint64_t count;

	kvt_puts(&e->text, "{\"#map\":[");
	for (unsigned i = 0; row != NULL && i < row->results_count; i++)
		if ((out->present >> i & 1) != 0)
			put_pair(e, &more, &row->results[i], out->field[i],
				 kvms_type_is_list(row->results[i].type) ? kvms_outcome_list(out, row, i, &count)
									 : NULL);
	kvt_puts(&e->text, "]}");
}

/* A request without arguments; false: no answer. */
static bool
ask(struct kvt_export *e, const char *name)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find(name));
	if (e->target->inspect(e->target, &op, &e->answer) == KVT_DONE)
		return true;
	e->failed = true;
	return false;
}

/* The state behind a step; "out" NULL: before the first. */
static void
itf_state(struct kvt_export *e, const struct kvms_row *row, const struct kvms_op *op, const struct kvms_outcome *out)
{
	const struct kvms_row *census = kvms_request_find("census");
	const uint64_t *counts = kvt_lives_census(e->lives)->field;

	kvt_putf(&e->text, "%s{\"#meta\":{\"index\":%" PRIu64 "},\"step\":", e->more ? ",\n" : "\n", e->written);
	put_bigint(&e->text, e->step.number);
	kvt_putf(&e->text, ",\"op\":\"%s\",\"args\":", out != NULL ? row->name : "");
	put_args(e, out != NULL ? row : NULL, op);
	kvt_puts(&e->text, ",\"outcome\":\"");
	if (out != NULL) {
		kvt_puts(&e->text, kvms_class_word(kvms_outcome_class(out->name)));
		if (out->name != 0)
			kvt_putf(&e->text, " %s", kvms_outcome_name(out->name));
	}
	kvt_puts(&e->text, "\",\"result\":");
	put_result(e, out != NULL ? row : NULL, out);
	kvt_puts(&e->text, ",\"areas\":{\"#map\":[");
	for (uint64_t i = 0; ask(e, "areas") && i < e->answer.field[0]; i++) {
		const uint64_t *area = &e->answer.list[3 * i];

		kvt_puts(&e->text, i > 0 ? ",[" : "[");
		put_bigint(&e->text, area[0]);
		kvt_puts(&e->text, ",{\"start\":");
		put_bigint(&e->text, area[1]);
		kvt_puts(&e->text, ",\"end\":");
		put_bigint(&e->text, area[2]);
		kvt_puts(&e->text, "}]");
	}
	kvt_puts(&e->text, "]},\"free_va\":{\"#set\":[");
	for (uint64_t i = 0; ask(e, "free_va") && i < e->answer.field[0]; i++) {
		kvt_puts(&e->text, i > 0 ? ",{\"#tup\":[" : "{\"#tup\":[");
		put_bigint(&e->text, e->answer.list[2 * i]);
		kvt_putc(&e->text, ',');
		put_bigint(&e->text, e->answer.list[2 * i + 1]);
		kvt_puts(&e->text, "]}");
	}
	kvt_puts(&e->text, "]},\"counts\":{");
	for (unsigned i = 0; i < census->results_count; i++) {
		kvt_putf(&e->text, "%s\"%s\":", i > 0 ? "," : "", census->results[i].name);
		put_bigint(&e->text, counts[i]);
	}
	kvt_puts(&e->text, "}}");
	e->more = true;
	flush(e);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

/* Fields of arguments and results that have a column of their own. */
static const char *const columns[] = {
	"frame", "segment", "unique", "list", "vm_space", "cursor", "area", "iomem",           "start",       "end",
	"va",    "paddr",   "size",   "len",  "pages",    "level",  "prop", "nodes_allocated", "nodes_freed",
};
#define COLUMNS (sizeof columns / sizeof columns[0])

static void
csv_head(struct kvt_export *e)
{
	kvt_puts(&e->text, "step,line,t,cpu,src,op,class,name");
	for (size_t i = 0; i < COLUMNS; i++)
		kvt_putf(&e->text, ",%s", columns[i]);
	kvt_puts(&e->text, ",frames_in_use,nodes,areas,free_bytes,arguments,results\r\n");
	flush(e);
}

static void
put_cell(struct kvt_buffer *b, const char *text, size_t size)
{
	bool quote = false;

	for (size_t i = 0; i < size; i++)
		quote = quote || strchr(",\"\r\n", text[i]) != NULL;
	kvt_putc(b, ',');
	if (!quote) {
		kvt_put(b, text, size);
		return;
	}
	kvt_putc(b, '"');
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '"')
			kvt_putc(b, '"');
		kvt_putc(b, text[i]);
	}
	kvt_putc(b, '"');
}

static void
csv_op(struct kvt_export *e)
{
	const struct kvms_row *census = kvms_request_find("census");
	const uint64_t *counts = kvt_lives_census(e->lives)->field;
	const struct kvt_step *s = &e->step;
	enum kvms_type type;
	uint64_t value;
	size_t word;

	kvt_putf(&e->text, "%" PRIu64 ",%" PRIu64 ",", s->number, s->line->number);
	if (s->has_t)
		kvt_put_dec(&e->text, s->t);
	kvt_putf(&e->text, ",%" PRIu64, s->has_cpu ? s->cpu : e->cpu);
	kvt_annotation_text(s->line, "src", &e->value);
	put_cell(&e->text, kvt_buffer_text(&e->value), e->value.size);
	kvt_putf(&e->text, ",%s,%s,%s", s->line->row->name, kvms_class_word(kvms_outcome_class(s->out->name)),
		 kvms_outcome_name(s->out->name));
	for (size_t i = 0; i < COLUMNS; i++) {
		kvt_buffer_reset(&e->value);
		if (step_value(s, columns[i], &type, &value))
			kvt_print_value(&e->value, type, value, NULL);
		put_cell(&e->text, kvt_buffer_text(&e->value), e->value.size);
	}
	kvt_putf(&e->text, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, counts[kvms_result_index(census, "frame")],
		 counts[kvms_result_index(census, "pagetable")], counts[kvms_result_index(census, "areas")],
		 e->end - e->start - e->used);
	kvt_buffer_reset(&e->value);
	kvt_print_op(&e->value, s->line->row, s->op);
	word = strlen(s->line->row->name);
	word += e->value.size > word; /* and the blank behind it */
	put_cell(&e->text, kvt_buffer_text(&e->value) + word, e->value.size - word);
	kvt_buffer_reset(&e->value);
	kvt_print_results(&e->value, s->line->row, s->out);
	word = e->value.size > 0;
	put_cell(&e->text, kvt_buffer_text(&e->value) + word, e->value.size - word);
	kvt_puts(&e->text, "\r\n");
	flush(e);
}

/* ---- All forms --------------------------------------------------------------------------------- */

static bool
in_range(const struct kvt_export *e, const struct kvt_life *life)
{
	return life->kind == KVMS_ID_AREA && life->start < life->end && life->start >= e->start && life->end <= e->end;
}

static void
was_there(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	if (in_range(e, life))
		e->used += life->end - life->start;
}

static void
born(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	was_there(e, life);
	if (e->open && e->form == KVT_CHROME)
		slice_begin(e, life);
}

static void
ended(void *arg, const struct kvt_life *life)
{
	struct kvt_export *e = arg;

	if (in_range(e, life))
		e->used -= life->end - life->start;
	if (e->open && e->form == KVT_CHROME)
		slice_end(e, life);
}

/* The head, and what is alive before the first step that is written. */
static void
head(struct kvt_export *e)
{
	e->open = true;
	switch (e->form) {
	case KVT_CHROME:
		chrome_head(e);
		if (!kvt_lives_visit(e->lives, slice_begin, e))
			e->failed = true;
		counters(e);
		break;
	case KVT_ITF:
		itf_head(e);
		itf_state(e, NULL, NULL, NULL);
		break;
	case KVT_CSV:
		csv_head(e);
		break;
	}
}

bool
kvt_export_begin(struct kvt_export *e)
{
	const struct kvms_op *config;
	const uint64_t *first;
	uint64_t count;

	if (e->target->config(e->target, &config) != KVT_DONE)
		return false;
	first = kvms_op_list(config, kvms_store_row(), (unsigned)kvms_arg_index(kvms_store_row(), "vmalloc"), &count);
	e->start = first[0];
	e->end = first[1];
	e->lives = kvt_lives_new();
	if (e->lives == NULL || !kvt_lives_begin(e->lives, e->target) || !kvt_lives_visit(e->lives, was_there, e))
		return false;
	if (e->from <= 1 && e->form == KVT_ITF)
		head(e);
	return true;
}

bool
kvt_export_step(struct kvt_export *e, const struct kvt_line *line, const struct kvms_op *op,
		const struct kvms_outcome *out)
{
	uint64_t number = e->step.number + 1;

	if (line->kind != KVT_OP)
		return true;
	kvt_step_read(&e->step, line, op, out);
	e->now = e->step.has_t && e->step.t > e->now ? e->step.t : e->now + !e->step.has_t;
	if (number == e->from && e->form != KVT_ITF)
		head(e);
	if (!kvt_lives_step(e->lives, e->target, &e->step, born, ended, e))
		e->failed = true;
	if (out->name == 0 && strcmp(line->row->name, "cpu_set") == 0)
		e->cpu = op->arg[0];
	if (number + 1 == e->from && e->form == KVT_ITF) {
		head(e); /* the state behind this step is the first */
	} else if (number >= e->from) {
		e->written++;
		if (e->form == KVT_CHROME) {
			chrome_op(e);
			counters(e);
		} else if (e->form == KVT_ITF) {
			itf_state(e, line->row, op, out);
		} else {
			csv_op(e);
		}
	}
	return !e->failed && !ferror(e->out) && number < e->to;
}

void
kvt_export_end(struct kvt_export *e)
{
	if (!e->open)
		head(e);
	e->now++;
	if (e->form == KVT_CHROME && !kvt_lives_visit(e->lives, slice_cut, e))
		e->failed = true;
	if (e->form != KVT_CSV)
		kvt_puts(&e->text, "\n]}\n");
	flush(e);
	e->open = false;
}

void
kvt_export_free(struct kvt_export *e)
{
	kvt_lives_free(&e->lives);
	kvms_outcome_free(&e->answer);
	kvt_buffer_free(&e->text);
	kvt_buffer_free(&e->value);
}
