#include "client/show.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
kvmctl_show_line(struct kvt_buffer *b)
{
	kvt_putc(b, '\n');
	fwrite(kvt_buffer_text(b), 1, b->size, stdout);
	kvt_buffer_reset(b);
}

bool
kvmctl_show_tables(const struct kvmctl *k)
{
	return !k->json && isatty(STDOUT_FILENO);
}

/* ---- Numbers for people ----------------------------------------------------------- */

void
kvmctl_put_grouped(struct kvt_buffer *b, uint64_t value)
{
	char digits[24];
	int length = snprintf(digits, sizeof digits, "%" PRIu64, value);

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			kvt_putc(b, ',');
		kvt_putc(b, digits[i]);
	}
}

void
kvmctl_put_size(struct kvt_buffer *b, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	uint64_t whole = bytes;

	while (whole >= 1024) {
		whole /= 1024;
		unit++;
	}
	if (unit == 0)
		kvt_putf(b, "%" PRIu64 " bytes", bytes);
	else
		kvt_putf(b, "%" PRIu64 ".%u %s", whole, (unsigned)((bytes >> (10 * (unit - 1)) & 1023) * 10 / 1024),
			 units[unit]);
}

void
kvmctl_put_rate(struct kvt_buffer *b, const struct kvt_statistics *s)
{
	double seconds = (double)s->nanoseconds / 1e9;

	kvmctl_put_grouped(b, s->ops);
	kvt_putf(b, " in %.2f s", seconds);
	if (s->ops > 0 && s->nanoseconds > 0) {
		kvt_puts(b, ", ");
		kvmctl_put_grouped(b, (uint64_t)((double)s->ops / seconds));
		kvt_puts(b, " a second");
	}
}

/* ---- Tables of text ------------------------------------------------------------ */

void
kvmctl_table_add(struct kvmctl_table *t, const char *text)
{
	char *copy = strdup(text);

	if (t->cells_count == t->cells_capacity) {
		size_t capacity = t->cells_capacity == 0 ? 64 : 2 * t->cells_capacity;
		char **cells = realloc(t->cells, capacity * sizeof *cells);

		if (cells == NULL) {
			free(copy);
			t->failed = true;
			return;
		}
		t->cells = cells;
		t->cells_capacity = capacity;
	}
	if (copy == NULL)
		t->failed = true;
	else
		t->cells[t->cells_count++] = copy;
}

void
kvmctl_table_print(struct kvmctl_table *t, unsigned indent)
{
	size_t width[KVMCTL_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < t->cells_count; i++)
		if (strlen(t->cells[i]) > width[i % t->columns])
			width[i % t->columns] = strlen(t->cells[i]);
	for (size_t i = 0; i < t->cells_count; i++) {
		unsigned column = (unsigned)(i % t->columns);

		if (column == 0)
			printf("%*s", (int)indent, "");
		if (column + 1 == t->columns)
			printf("%s\n", t->cells[i]);
		else
			printf("%-*s", (int)width[column] + 2, t->cells[i]);
		free(t->cells[i]);
	}
	free(t->cells);
	if (t->failed)
		kvmctl_complain("no memory for all of the table");
	*t = (struct kvmctl_table){ 0 };
}

/* ---- Lists as tables ------------------------------------------------------------- */

struct column {
	const char *name;
	enum kvms_type type;
};

/* How each list type looks as a table; types without columns are shown as text. */
static const struct list_form {
	struct column columns[4];
	bool has_size; /* the last two columns are start and end: show their distance too */
} list_forms[KVMS_TYPES] = {
	[KVMS_RANGES] = { { { "start", KVMS_HEX }, { "end", KVMS_HEX } }, true },
	[KVMS_LEVELS] = { { { "level", KVMS_DEC }, { "node", KVMS_HEX }, { "index", KVMS_DEC }, { "word", KVMS_HEX } },
			  false },
	[KVMS_MAPPINGS] = { { { "table", KVMS_TABLE }, { "va", KVMS_HEX } }, false },
	[KVMS_REVERSE] = { { { "table", KVMS_TABLE },
			     { "va", KVMS_HEX },
			     { "level", KVMS_DEC },
			     { "tracked", KVMS_BOOL } },
			   false },
	[KVMS_AREAS] = { { { "area", KVMS_DEC }, { "start", KVMS_HEX }, { "end", KVMS_HEX } }, true },
	[KVMS_STALE] = { { { "cpu", KVMS_DEC }, { "table", KVMS_TABLE }, { "va", KVMS_HEX }, { "paddr", KVMS_HEX } },
			 false },
};

static unsigned
columns_of(const struct list_form *form)
{
	unsigned n = 0;

	while (n < 4 && form->columns[n].name != NULL)
		n++;
	return n;
}

static void
list_table(enum kvms_type type, const uint64_t *list, uint64_t count)
{
	const struct list_form *form = &list_forms[type];
	unsigned columns = columns_of(form);
	struct kvmctl_table t = { .columns = columns + form->has_size };
	struct kvt_buffer b = { 0 };

	for (unsigned c = 0; c < columns; c++)
		kvmctl_table_add(&t, form->columns[c].name);
	if (form->has_size)
		kvmctl_table_add(&t, "size");
	for (uint64_t i = 0; i < count; i++, list += columns) {
		for (unsigned c = 0; c < columns; c++) {
			kvt_buffer_reset(&b);
			kvt_print_value(&b, form->columns[c].type, list[c], NULL);
			kvmctl_table_add(&t, kvt_buffer_text(&b));
		}
		if (form->has_size) {
			kvt_buffer_reset(&b);
			kvt_put_hex(&b, list[columns - 1] - list[columns - 2]);
			kvmctl_table_add(&t, kvt_buffer_text(&b));
		}
	}
	kvmctl_table_print(&t, 2);
	kvt_buffer_free(&b);
}

/* Laws that broke, each with the sentence it stands for. */
static void
laws_table(const uint64_t *list, uint64_t count)
{
	struct kvmctl_table t = { .columns = 2 };

	for (uint64_t i = 0; i < count; i++) {
		kvmctl_table_add(&t, kvms_law_name((unsigned)list[i]));
		kvmctl_table_add(&t, kvms_law_text((unsigned)list[i]));
	}
	kvmctl_table_print(&t, 2);
}

/* ---- Outcomes ----------------------------------------------------------------------- */

/* Scalars, one a line; then each list that has a form of its own. */
static void
fields_table(const struct kvms_row *row, const struct kvms_outcome *out)
{
	struct kvmctl_table t = { .columns = 2 };
	struct kvt_buffer b = { 0 };
	uint64_t count;

	for (unsigned i = 0; i < row->results_count; i++) {
		const struct kvms_field *f = &row->results[i];
		const uint64_t *list = NULL;

		if ((out->present >> i & 1) == 0)
			continue;
		kvt_buffer_reset(&b);
		if (kvms_type_is_list(f->type))
			list = kvms_outcome_list(out, row, i, &count);
		if (list != NULL && (columns_of(&list_forms[f->type]) > 0 || f->type == KVMS_LAWS) && out->field[i] > 0)
			kvt_putf(&b, "%" PRIu64, out->field[i]);
		else
			kvt_print_value(&b, f->type, out->field[i], list);
		kvmctl_table_add(&t, f->name);
		kvmctl_table_add(&t, kvt_buffer_text(&b));
	}
	kvt_buffer_free(&b);
	kvmctl_table_print(&t, 2);
	for (unsigned i = 0; i < row->results_count; i++) {
		enum kvms_type type = row->results[i].type;

		if ((out->present >> i & 1) == 0 || !kvms_type_is_list(type))
			continue;
		if (type == KVMS_LAWS)
			laws_table(kvms_outcome_list(out, row, i, &count), out->field[i]);
		else if (columns_of(&list_forms[type]) > 0 && out->field[i] > 0)
			list_table(type, kvms_outcome_list(out, row, i, &count), out->field[i]);
	}
}

static void
show_table(const struct kvmctl *k, const struct kvms_row *row, bool is_request, const struct kvms_outcome *out)
{
	struct kvt_buffer b = { 0 };

	/* where there may be several, say which */
	if (k->command != NULL)
		printf("%s%s", row->name, is_request && out->name == 0 ? "\n" : ": ");
	if (out->name != 0) {
		kvt_print_outcome(&b, row, out);
		printf("%s\n  %s\n", kvt_buffer_text(&b), kvms_outcome_meaning(out->name));
	} else {
		if (!is_request)
			printf("ok\n");
		fields_table(row, out);
	}
	kvt_buffer_free(&b);
}

void
kvmctl_json_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op,
		    const struct kvms_outcome *out)
{
	struct kvt_buffer rest = { 0 };

	kvt_json_op(b, row, op);
	kvt_json_outcome(&rest, row, out);
	if (b->size > 0 && rest.size > 0) {
		b->at[b->size - 1] = ',';
		kvt_puts(b, rest.at + 1);
	}
	b->failed |= rest.failed;
	kvt_buffer_free(&rest);
}

void
kvmctl_show_outcome(const struct kvmctl *k, const struct kvms_row *row, bool is_request, const struct kvms_op *op,
		    const struct kvms_outcome *out)
{
	struct kvt_buffer b = { 0 };
	size_t skip = 0;

	if (kvmctl_show_tables(k)) {
		show_table(k, row, is_request, out);
		return;
	}
	if (k->json)
		kvmctl_json_outcome(&b, row, op, out);
	else
		kvt_print_outcome(&b, row, out);
	/* a question has no outcome worth telling when it was answered: its fields alone */
	if (!k->json && is_request && out->name == 0 && b.size > 3)
		skip = 3;
	if (b.failed) {
		kvmctl_complain("no memory to print the result");
	} else {
		fwrite(b.at + skip, 1, b.size - skip, stdout);
		putchar('\n');
	}
	kvt_buffer_free(&b);
}
