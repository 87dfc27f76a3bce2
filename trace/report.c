#include "trace/report.h"

#include <inttypes.h>
#include <string.h>

/* ---- Expected and actual --------------------------------------------------------- */

struct kvt_field
kvt_translated(const struct kvt_line *line, const struct kvt_field *field, const struct kvt_bindings *bindings)
{
	struct kvt_field f = *field;
	bool created = f.index >= 0 && line->row->results[f.index].created;

	if (line->kind == KVT_OP && f.id != KVMS_ID_NONE && f.typed && !created)
		f.value = kvt_bound(bindings, f.id, f.value);
	return f;
}

static void
print_row(struct kvt_buffer *b, bool differs, const char *name, size_t name_size, const char *expected,
	  const char *actual)
{
	kvt_putf(b, "  %c %-16.*s %-24s %s\n", differs ? '*' : ' ', (int)(name_size < 200 ? name_size : 200), name,
		 expected, actual);
}

static void
print_expected(struct kvt_buffer *b, const struct kvt_line *line, const struct kvt_field *field,
	       const struct kvt_bindings *bindings)
{
	struct kvt_field f = kvt_translated(line, field, bindings);

	if (!field->typed) {
		kvt_put(b, field->text.at, field->text.size);
		return;
	}
	kvt_print_value(b, field->type, field->value, field->list);
	if (f.value != field->value)
		kvt_putf(b, " (= %" PRIu64 ")", f.value);
}

static void
print_actual(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out,
	     const struct kvt_field *field)
{
	const uint64_t *list;
	uint64_t value;

	if (!kvt_outcome_field(row, out, field, &value, &list))
		kvt_putc(b, '-');
	else if (field->index == KVT_FIELD_CAUSE)
		kvt_puts(b, kvms_outcome_cause(out->name));
	else
		kvt_print_value(b, field->type, value, list);
}

/* A row of the table for one recorded field. */
static void
report_recorded(struct kvt_buffer *b, const struct kvt_line *line, const struct kvt_field *field,
		const struct kvms_outcome *out, const struct kvt_bindings *bindings)
{
	struct kvt_field f = kvt_translated(line, field, bindings);
	struct kvt_buffer expected = { 0 }, actual = { 0 };

	print_expected(&expected, line, field, bindings);
	print_actual(&actual, line->row, out, field);
	print_row(b, !kvt_field_holds(line->row, out, &f), field->name.at, field->name.size, kvt_buffer_text(&expected),
		  kvt_buffer_text(&actual));
	kvt_buffer_free(&expected);
	kvt_buffer_free(&actual);
}

/* A row for a field that was not recorded. */
static void
report_unrecorded(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out, unsigned i)
{
	struct kvt_buffer actual = { 0 };
	uint64_t count;

	if (out->name != 0 || (out->present >> i & 1) == 0)
		return;
	kvt_print_value(&actual, row->results[i].type, out->field[i], kvms_outcome_list(out, row, i, &count));
	print_row(b, false, row->results[i].name, strlen(row->results[i].name), "", kvt_buffer_text(&actual));
	kvt_buffer_free(&actual);
}

/* "ok", "err NotAligned": class, and name where there is one. */
static void
report_class(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *out)
{
	struct kvt_buffer expected = { 0 }, actual = { 0 };
	bool is_op = line->kind == KVT_OP;

	kvt_puts(&expected, kvms_class_word(is_op ? line->class : KVMS_OK));
	if (is_op && line->name.at != NULL) {
		kvt_putc(&expected, ' ');
		kvt_put(&expected, line->name.at, line->name.size);
	}
	kvt_puts(&actual, kvms_class_word(kvms_outcome_class(out->name)));
	if (out->name != 0) {
		kvt_putc(&actual, ' ');
		kvt_puts(&actual, kvms_outcome_name(out->name));
	}
	print_row(b, is_op ? !kvt_outcome_holds(line, out) : out->name != 0, "outcome", strlen("outcome"),
		  kvt_buffer_text(&expected), kvt_buffer_text(&actual));
	kvt_buffer_free(&expected);
	kvt_buffer_free(&actual);
}

void
kvt_report_fields(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *out,
		  const struct kvt_bindings *bindings)
{
	print_row(b, false, "", 0, "expected", "actual");
	report_class(b, line, out);
	for (unsigned i = 0; i < line->row->results_count; i++) {
		const struct kvt_field *f = kvt_line_result(line, i);

		if (f != NULL)
			report_recorded(b, line, f, out, bindings);
		else
			report_unrecorded(b, line->row, out, i);
	}
	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].index < 0)
			report_recorded(b, line, &line->fields[i], out, bindings);
}

#define LIST_SHOWN 32u /* elements of a list */

/* ---- The state around it ---------------------------------------------------------- */

/* What an operation is about, as far as its fields tell. */
struct around {
	bool has_va, has_paddr, has_area;
	uint64_t table, va, paddr, area;
};

static bool
is_named(const struct kvms_field *field, const char *name)
{
	return strcmp(field->name, name) == 0;
}

/* Note a field.  The first of each sort counts: arguments come before results. */
static void
note_field(struct around *a, const struct kvms_field *field, uint64_t value)
{
	bool is_address = field->type == KVMS_HEX;

	if (field->type == KVMS_ID && field->kind == KVMS_ID_AREA && !a->has_area) {
		a->has_area = true;
		a->area = value;
	} else if (field->type == KVMS_ID && field->kind == KVMS_ID_VM_SPACE && a->table == 0) {
		a->table = value;
	} else if ((field->type == KVMS_TABLE || field->type == KVMS_TABLE_ALL) && value != UINT64_MAX) {
		a->table = value;
	} else if (is_address && strncmp(field->name, "paddr", 5) == 0 && !a->has_paddr) {
		a->has_paddr = true;
		a->paddr = value;
	} else if (is_address && !a->has_va &&
		   (is_named(field, "va") || (is_named(field, "start") && value >> 63 != 0))) {
		a->has_va = true;
		a->va = value;
	}
}

static void
note_all(struct around *a, const struct kvms_row *row, const struct kvms_op *op, const struct kvms_outcome *out)
{
	memset(a, 0, sizeof *a);
	for (unsigned i = 0; i < row->args_count; i++)
		note_field(a, &row->args[i], op->arg[i]);
	for (unsigned i = 0; out != NULL && out->name == 0 && i < row->results_count; i++)
		if ((out->present >> i & 1) != 0)
			note_field(a, &row->results[i], out->field[i]);
	if (a->has_va && a->va >> 63 != 0)
		a->table = 0;
}

struct question {
	struct kvt_target *target;
	const struct kvms_row *row;
	struct kvms_op op;
	struct kvms_outcome out;
};

/* Ask a request by name with its arguments by name; false if there is no answer. */
static bool
ask(struct question *q, const char *request, const char *first, uint64_t first_value, const char *second,
    uint64_t second_value)
{
	int index;

	q->row = kvms_request_find(request);
	if (q->row == NULL)
		return false;
	kvms_op_init(&q->op, q->row);
	if (first != NULL && (index = kvms_arg_index(q->row, first)) >= 0)
		q->op.arg[index] = first_value;
	if (second != NULL && (index = kvms_arg_index(q->row, second)) >= 0)
		q->op.arg[index] = second_value;
	return q->target->inspect(q->target, &q->op, &q->out) == KVT_DONE && q->out.name == 0;
}

/* A list field of the answer. */
static const uint64_t *
answer_list(const struct question *q, const char *field, uint64_t *count)
{
	int index = kvms_result_index(q->row, field);

	*count = 0;
	if (index < 0 || (q->out.present >> index & 1) == 0)
		return NULL;
	return kvms_outcome_list(&q->out, q->row, (unsigned)index, count);
}

static void
report_area(struct kvt_buffer *b, struct question *q, const struct around *a)
{
	const uint64_t *area;
	uint64_t count;

	if (!ask(q, "areas", NULL, 0, NULL, 0))
		return;
	area = answer_list(q, "areas", &count);
	for (uint64_t i = 0; i < count; i++, area += 3) {
		bool holds_va = a->has_va && area[1] <= a->va && a->va < area[2];

		if (holds_va || (a->has_area && area[0] == a->area))
			kvt_putf(b, "  area %" PRIu64 ": 0x%" PRIx64 "..0x%" PRIx64 " (0x%" PRIx64 " bytes)\n", area[0],
				 area[1], area[2], area[2] - area[1]);
	}
}

static void
report_walk(struct kvt_buffer *b, struct question *q, struct around *a)
{
	const uint64_t *level;
	uint64_t count;
	int paddr;

	if (!a->has_va || !ask(q, "walk", "table", a->table, "va", a->va))
		return;
	kvt_puts(b, "  walk of table ");
	kvt_print_value(b, KVMS_TABLE, a->table, NULL);
	kvt_putf(b, " to 0x%" PRIx64 ":\n", a->va);
	level = answer_list(q, "levels", &count);
	for (uint64_t i = 0; i < count; i++, level += 4)
		kvt_putf(b, "    level %" PRIu64 "  node 0x%" PRIx64 "  index %" PRIu64 "  word 0x%" PRIx64 "\n",
			 level[0], level[1], level[2], level[3]);
	if (!ask(q, "translate", "table", a->table, "va", a->va) || a->has_paddr)
		return;
	paddr = kvms_result_index(q->row, "paddr");
	if (paddr >= 0 && (q->out.present >> paddr & 1) != 0) {
		a->has_paddr = true;
		a->paddr = q->out.field[paddr];
	}
}

/* A value of an answer; of a long list its beginning. */
static void
print_answer(struct kvt_buffer *b, const struct question *q, unsigned field)
{
	enum kvms_type type = q->row->results[field].type;
	uint64_t count, shown = q->out.field[field];
	const uint64_t *list = kvms_outcome_list(&q->out, q->row, field, &count);

	if (kvms_type_is_list(type) && shown > LIST_SHOWN)
		shown = LIST_SHOWN;
	kvt_putf(b, " %s=", q->row->results[field].name);
	kvt_print_value(b, type, shown, list);
	if (shown < q->out.field[field])
		kvt_putf(b, " (the first %" PRIu64 " of %" PRIu64 ")", shown, count);
}

static void
report_frame(struct kvt_buffer *b, struct question *q, const struct around *a)
{
	uint64_t page = a->paddr & ~(uint64_t)(KVMS_PAGE_SIZE - 1);
	static const char *const requests[] = { "frame", "who_holds" };

	if (!a->has_paddr)
		return;
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		if (!ask(q, requests[i], "paddr", page, NULL, 0))
			return;
		if (i == 0)
			kvt_putf(b, "  frame 0x%" PRIx64 ":", page);
		else
			kvt_puts(b, "  held by:");
		for (unsigned k = 0; k < q->row->results_count; k++)
			print_answer(b, q, k);
		kvt_putc(b, '\n');
	}
}

void
kvt_report_state(struct kvt_buffer *b, struct kvt_target *t, const struct kvms_row *row, const struct kvms_op *op,
		 const struct kvms_outcome *out)
{
	struct question q = { .target = t };
	struct around a;

	note_all(&a, row, op, out);
	report_area(b, &q, &a);
	report_walk(b, &q, &a);
	report_frame(b, &q, &a);
	kvms_outcome_free(&q.out);
}
