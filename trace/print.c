/* Printers of lines, operations and outcomes, and the comparison of recorded with actual ones. */
#include "trace/text.h"

#include "trace/value.h"

#include <stdlib.h>
#include <string.h>

/* ---- Operations and outcomes ------------------------------------------------ */

/* " key=value" of every argument; lists that are empty by default and mean "the layout's" may be left out. */
static void
print_arguments(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op)
{
	const uint64_t *list = op->list;

	for (unsigned i = 0; i < row->args_count; i++) {
		enum kvms_type type = row->args[i].type;

		if ((type == KVMS_RANGE || type == KVMS_VMALLOC) && op->arg[i] == 0)
			continue;
		kvt_putc(b, ' ');
		kvt_puts(b, row->args[i].name);
		kvt_putc(b, '=');
		kvt_print_value(b, type, op->arg[i], list);
		if (kvms_type_is_list(type) && list != NULL)
			list += kvt_list_words(type, op->arg[i]);
	}
}

void
kvt_print_op(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op)
{
	kvt_puts(b, row->name);
	print_arguments(b, row, op);
}

void
kvt_print_store(struct kvt_buffer *b, const struct kvms_op *config)
{
	kvt_print_op(b, kvms_store_row(), config);
}

static void
print_failure(struct kvt_buffer *b, const struct kvms_outcome *out)
{
	const char *cause = kvms_outcome_cause(out->name);
	const char *detail = kvms_outcome_detail(out->name);

	kvt_putc(b, ' ');
	kvt_puts(b, kvms_outcome_name(out->name));
	if (cause != NULL) {
		kvt_puts(b, " cause=");
		kvt_puts(b, cause);
	}
	if (detail != NULL) {
		kvt_putc(b, ' ');
		kvt_puts(b, detail);
		kvt_putc(b, '=');
		kvt_put_dec(b, out->detail);
	}
}

void
kvt_print_results(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out)
{
	const uint64_t *list = out->list;

	for (unsigned i = 0; i < row->results_count; i++) {
		enum kvms_type type = row->results[i].type;

		if ((out->present >> i & 1) == 0)
			continue;
		kvt_putc(b, ' ');
		kvt_puts(b, row->results[i].name);
		kvt_putc(b, '=');
		kvt_print_value(b, type, out->field[i], list);
		if (kvms_type_is_list(type))
			list += kvt_list_words(type, out->field[i]);
	}
}

void
kvt_print_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out)
{
	if (out->name > kvms_outcome_max()) {
		kvt_puts(b, "?");
		return;
	}
	kvt_puts(b, kvms_class_word(kvms_outcome_class(out->name)));
	if (out->name != 0)
		print_failure(b, out);
	else
		kvt_print_results(b, row, out);
}

/* ---- Lines --------------------------------------------------------------------- */

static void
print_span(struct kvt_buffer *b, const struct kvt_span *span)
{
	kvt_put(b, span->at, span->size);
}

static void
print_field(struct kvt_buffer *b, const struct kvt_field *f)
{
	kvt_putc(b, ' ');
	print_span(b, &f->name);
	kvt_putc(b, '=');
	if (f->typed)
		kvt_print_value(b, f->type, f->value, f->list);
	else
		print_span(b, &f->text);
}

/* Fields of the row in its order, then the others as they came. */
static void
print_fields(struct kvt_buffer *b, const struct kvt_line *line)
{
	const struct kvt_field *at[KVMS_FIELDS_MAX] = { NULL };

	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].index >= 0)
			at[line->fields[i].index] = &line->fields[i];
	for (unsigned i = 0; i < KVMS_FIELDS_MAX; i++)
		if (at[i] != NULL)
			print_field(b, at[i]);
	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].index < 0)
			print_field(b, &line->fields[i]);
}

void
kvt_print_recorded(struct kvt_buffer *b, const struct kvt_line *line)
{
	if (line->kind == KVT_OP) {
		kvt_puts(b, kvms_class_word(line->class));
		if (line->name.at != NULL) {
			kvt_putc(b, ' ');
			print_span(b, &line->name);
		}
	} else {
		kvt_puts(b, kvms_class_word(KVMS_OK));
	}
	print_fields(b, line);
}

static void
print_annotations(struct kvt_buffer *b, const struct kvt_line *line, bool of_result)
{
	for (size_t i = 0; i < line->annotations_count; i++) {
		const struct kvt_annotation *a = &line->annotations[i];

		if (a->is_result != of_result)
			continue;
		kvt_puts(b, " @");
		print_span(b, &a->name);
		kvt_putc(b, '=');
		print_span(b, &a->value);
	}
}

static void
print_op_line(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *actual)
{
	kvt_print_op(b, line->row, &line->op);
	print_annotations(b, line, false);
	if (actual != NULL || line->recorded)
		kvt_puts(b, " -> ");
	if (actual != NULL)
		kvt_print_outcome(b, line->row, actual);
	else if (line->recorded)
		kvt_print_recorded(b, line);
	print_annotations(b, line, true);
}

static void
print_expect_line(struct kvt_buffer *b, const struct kvt_line *line)
{
	kvt_puts(b, "expect");
	if (!line->is_short) {
		kvt_putc(b, ' ');
		kvt_print_op(b, line->row, &line->op);
		if (line->fields_count > 0)
			kvt_puts(b, " ->");
	}
	print_fields(b, line);
}

static void
print_gap_or_base(struct kvt_buffer *b, const struct kvt_line *line)
{
	if (line->kind == KVT_GAP) {
		kvt_puts(b, "gap");
		if (line->has_ops) {
			kvt_puts(b, " ops=");
			kvt_put_dec(b, line->ops);
		}
		print_annotations(b, line, false);
		return;
	}
	kvt_puts(b, "base digest=");
	kvt_print_value(b, KVMS_DIGEST, line->digest, NULL);
	if (line->snapshot.at != NULL) {
		kvt_puts(b, " snapshot=");
		print_span(b, &line->snapshot);
	}
}

void
kvt_print_line(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *actual)
{
	size_t size = b->size;

	switch (line->kind) {
	case KVT_BLANK:
		break;
	case KVT_HEADER:
		kvt_puts(b, "kvmtrace 1");
		break;
	case KVT_STORE:
		kvt_print_store(b, &line->op);
		break;
	case KVT_OP:
		print_op_line(b, line, actual);
		break;
	case KVT_EXPECT:
		print_expect_line(b, line);
		break;
	case KVT_GAP:
	case KVT_BASE:
		print_gap_or_base(b, line);
		break;
	}
	if (line->comment.at == NULL)
		return;
	if (b->size > size)
		kvt_putc(b, ' ');
	print_span(b, &line->comment);
}

/* ---- JSON -------------------------------------------------------------------------- */

static void
json_key(struct kvt_buffer *b, const char *name, bool first)
{
	kvt_puts(b, first ? "\"" : ",\"");
	kvt_puts(b, name);
	kvt_puts(b, "\":");
}

static void
json_arguments(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op)
{
	kvt_putc(b, '{');
	for (unsigned i = 0; i < row->args_count; i++) {
		uint64_t count;
		const uint64_t *list = op->list != NULL ? kvms_op_list(op, row, i, &count) : NULL;

		json_key(b, row->args[i].name, i == 0);
		kvt_json_value(b, row->args[i].type, op->arg[i], list);
	}
	kvt_putc(b, '}');
}

void
kvt_json_op(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op)
{
	kvt_puts(b, "{\"op\":\"");
	kvt_puts(b, row->name);
	kvt_puts(b, "\",\"args\":");
	json_arguments(b, row, op);
	kvt_putc(b, '}');
}

void
kvt_json_store(struct kvt_buffer *b, const struct kvms_op *config)
{
	json_arguments(b, kvms_store_row(), config);
}

static void
json_word(struct kvt_buffer *b, const char *name, const char *word)
{
	json_key(b, name, false);
	kvt_json_string(b, word, strlen(word));
}

static void
json_failure(struct kvt_buffer *b, const struct kvms_outcome *out)
{
	const char *cause = kvms_outcome_cause(out->name);
	const char *detail = kvms_outcome_detail(out->name);

	json_word(b, "name", kvms_outcome_name(out->name));
	if (cause != NULL)
		json_word(b, "cause", cause);
	if (detail != NULL) {
		json_key(b, detail, false);
		kvt_json_value(b, KVMS_DEC, out->detail, NULL);
	}
	json_word(b, "meaning", kvms_outcome_meaning(out->name));
}

void
kvt_json_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out)
{
	bool first = true;

	if (out->name > kvms_outcome_max()) {
		kvt_puts(b, "{}");
		return;
	}
	kvt_puts(b, "{\"class\":\"");
	kvt_puts(b, kvms_class_word(kvms_outcome_class(out->name)));
	kvt_putc(b, '"');
	if (out->name != 0) {
		json_failure(b, out);
		kvt_putc(b, '}');
		return;
	}
	kvt_puts(b, ",\"result\":{");
	for (unsigned i = 0; i < row->results_count; i++) {
		uint64_t count;

		if ((out->present >> i & 1) == 0)
			continue;
		json_key(b, row->results[i].name, first);
		kvt_json_value(b, row->results[i].type, out->field[i], kvms_outcome_list(out, row, i, &count));
		first = false;
	}
	kvt_puts(b, "}}");
}

/* ---- Comparing --------------------------------------------------------------------------- */

const struct kvt_field *
kvt_line_result(const struct kvt_line *line, unsigned index)
{
	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].index == (int)index)
			return &line->fields[i];
	return NULL;
}

bool
kvt_outcome_field(const struct kvms_row *row, const struct kvms_outcome *out, const struct kvt_field *field,
		  uint64_t *value, const uint64_t **list)
{
	const char *detail = kvms_outcome_detail(out->name);
	uint64_t count;

	*value = 0;
	*list = NULL;
	if (field->index == KVT_FIELD_CAUSE)
		return kvms_outcome_cause(out->name) != NULL;
	if (field->index == KVT_FIELD_DETAIL) {
		*value = out->detail;
		return detail != NULL && strlen(detail) == field->name.size &&
		       memcmp(detail, field->name.at, field->name.size) == 0;
	}
	if (field->index < 0 || out->name != 0 || (out->present >> field->index & 1) == 0)
		return false;
	*value = out->field[field->index];
	if (kvms_type_is_list(field->type))
		*list = kvms_outcome_list(out, row, (unsigned)field->index, &count);
	return true;
}

static bool
same_list(enum kvms_type type, uint64_t count, const uint64_t *a, const uint64_t *b)
{
	if (type == KVMS_BYTES)
		return memcmp(a, b, (size_t)count) == 0;
	return memcmp(a, b, kvt_list_words(type, count) * sizeof *a) == 0;
}

bool
kvt_field_holds(const struct kvms_row *row, const struct kvms_outcome *out, const struct kvt_field *field)
{
	const uint64_t *list;
	uint64_t value;

	if (!kvt_outcome_field(row, out, field, &value, &list))
		return false;
	if (field->index == KVT_FIELD_CAUSE) {
		const char *cause = kvms_outcome_cause(out->name);

		return strlen(cause) == field->text.size && memcmp(cause, field->text.at, field->text.size) == 0;
	}
	if (field->index >= 0 && row->results[field->index].created)
		return true;
	if (!field->typed || value != field->value)
		return false;
	return !kvms_type_is_list(field->type) || value == 0 || same_list(field->type, value, list, field->list);
}

bool
kvt_outcome_holds(const struct kvt_line *line, const struct kvms_outcome *out)
{
	const char *name = kvms_outcome_name(out->name);

	if (kvms_outcome_class(out->name) != line->class)
		return false;
	return line->name.at == NULL ||
	       (strlen(name) == line->name.size && memcmp(name, line->name.at, line->name.size) == 0);
}
