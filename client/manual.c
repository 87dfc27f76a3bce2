/*
 * manual - docs/ops.md: every operation and request, from the tables.
 */
#include "client/describe.h"

#include "trace/text.h"

#include <limits.h>
#include <string.h>

/* Chapters: operations from a code on, up to the next chapter's. */
static const struct {
	unsigned first;
	const char *title;
	const char *text;
} chapters[] = {
	{ 1, "Frames", "Handles on physical frames, and what boot takes out of use." },
	{ 10, "Segments", "Contiguous frames under one handle." },
	{ 21, "Unique frames", "Frames with a single owner." },
	{ 30, "Lists",
	  "Lists of unique frames of kind `link`. The operations with `_cursor_` work on a list that is checked out, "
	  "the others, and those that check out, on one that is not." },
	{ 60, "Kernel areas and the kernel table",
	  "The virtual areas of the kernel half, and what boot maps beside them." },
	{ 80, "Address spaces and cursors",
	  "User halves, which CPU runs on which, and cursors that hold page-table nodes between operations." },
	{ 100, "Flushes, TLBs, CPUs",
	  "What a mutable cursor has to flush, how the flush reaches other CPUs, and what CPUs do." },
	{ 110, "Readers and writers", "Windows over user or kernel memory that move real bytes." },
	{ 150, "I/O memory",
	  "Device memory, mapped into kernel areas and, with `cursor_map_iomem`, into address spaces." },
};

#define CHAPTERS (sizeof chapters / sizeof chapters[0])

static unsigned
chapter_end(size_t chapter)
{
	return chapter + 1 < CHAPTERS ? chapters[chapter + 1].first : UINT_MAX;
}

/* A sentence of its own: a capital letter first. */
static void
sentence(FILE *out, const char *text)
{
	char first = text[0];

	fprintf(out, "%c%s", first >= 'a' && first <= 'z' ? first - 'a' + 'A' : first, text[0] != '\0' ? text + 1 : "");
}

/* A cell of a table: a bar would end it. */
static void
cell(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '|')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void
field_row(FILE *out, const struct kvms_row *row, const struct kvms_field *f)
{
	const char *meaning = kvms_field_meaning(row, f);
	struct kvt_buffer b = { 0 };

	fprintf(out, "| %s`%s` | ", f->created ? "+" : "", f->name);
	kvmctl_describe_type(&b, f);
	cell(out, kvt_buffer_text(&b));
	fputs(" | ", out);
	cell(out, meaning != NULL ? meaning : "");
	if (f->has_default) {
		kvt_buffer_reset(&b);
		kvmctl_describe_default(&b, f);
		fprintf(out, "%sdefault `%s`", meaning != NULL ? "; " : "", kvt_buffer_text(&b));
	}
	fputs(" |\n", out);
	kvt_buffer_free(&b);
}

static void
fields(FILE *out, const struct kvms_row *row, const char *title, const struct kvms_field *field, unsigned count)
{
	if (count == 0)
		return;
	fprintf(out, "\n| %s | type | meaning |\n|---|---|---|\n", title);
	for (unsigned i = 0; i < count; i++)
		field_row(out, row, &field[i]);
}

static void
outcomes(FILE *out, const struct kvms_row *row)
{
	if (kvms_row_outcome(row, 1) == UINT_MAX) {
		fputs("\nNo outcome but `ok`.\n", out);
		return;
	}
	fputs("\n| outcome | when |\n|---|---|\n", out);
	for (unsigned k = 1, name; (name = kvms_row_outcome(row, k)) != UINT_MAX; k++) {
		const char *cause = kvms_outcome_cause(name), *detail = kvms_outcome_detail(name);

		fprintf(out, "| `%s %s%s%s%s%s` | %s |\n", kvms_class_word(kvms_outcome_class(name)),
			kvms_outcome_name(name), cause != NULL ? " cause=" : "", cause != NULL ? cause : "",
			detail != NULL ? " " : "", detail != NULL ? detail : "", kvms_outcome_meaning(name));
	}
}

static void
row_section(FILE *out, const struct kvms_row *row, bool is_request)
{
	fprintf(out, "\n### %s\n\n", row->name);
	sentence(out, row->summary);
	fprintf(out, ".\n\n%s\n", row->effect);
	fields(out, row, "argument", row->args, row->args_count);
	fields(out, row, is_request ? "field" : "result", row->results, row->results_count);
	outcomes(out, row);
	fprintf(out, "\nNumber %u.", row->code);
	if (row->mirrors[0] != '\0')
		fprintf(out, " Upstream: `%s`.", row->mirrors);
	else if (!is_request)
		fputs(" Nothing upstream.", out);
	fputc('\n', out);
}

/* "Kernel areas" -> "kernel-areas", as readers of Markdown name a heading. */
static void
anchor(FILE *out, const char *title)
{
	for (; *title != '\0'; title++) {
		if (*title == ' ')
			fputc('-', out);
		else if (*title >= 'A' && *title <= 'Z')
			fputc(*title - 'A' + 'a', out);
		else if (*title >= 'a' && *title <= 'z')
			fputc(*title, out);
	}
}

static void
contents_line(FILE *out, const char *title, unsigned rows)
{
	fprintf(out, "| [%s](#", title);
	anchor(out, title);
	fprintf(out, ") | %u |\n", rows);
}

static void
introduction(FILE *out)
{
	fputs("# Operations and requests\n\n"
	      "Every operation of the model, in the order of its table, and every request. This file is made from\n"
	      "the tables in `store/` by `make docs`; `kvmctl help NAME` says the same of one. How values are written:\n"
	      "`docs/trace-format.md`.\n\n"
	      "* Arguments stand in table order; one without a default must be given.\n"
	      "* `+` marks the id of something new. A result that does not apply is left out.\n"
	      "* An id argument that names nothing alive is `pre unknown_KIND`; these checks come first, in\n"
	      "  argument order. Anything but `ok` leaves the store as it was.\n"
	      "* The number is that of the operation on the wire (`proto/kvmstore.proto`). Upstream is the item of the\n"
	      "  kernel whose part it plays; where the two differ, `docs/gaps.md` says so.\n\n"
	      "| chapter | rows |\n|---|---|\n",
	      out);
}

static unsigned
rows_between(unsigned first, unsigned end)
{
	unsigned count = 0;

	for (unsigned code = first; code < end && code <= kvms_op_max(); code++)
		count += kvms_op_row(code) != NULL;
	return count;
}

void
kvmctl_manual(FILE *out)
{
	introduction(out);
	for (size_t i = 0; i < CHAPTERS; i++)
		contents_line(out, chapters[i].title, rows_between(chapters[i].first, chapter_end(i)));
	contents_line(out, "Requests", kvms_request_max());
	for (size_t i = 0; i < CHAPTERS; i++) {
		fprintf(out, "\n## %s\n\n%s\n", chapters[i].title, chapters[i].text);
		for (unsigned code = chapters[i].first; code < chapter_end(i) && code <= kvms_op_max(); code++)
			if (kvms_op_row(code) != NULL)
				row_section(out, kvms_op_row(code), false);
	}
	fputs("\n## Requests\n\nQuestions that change nothing.\n", out);
	for (unsigned code = 1; code <= kvms_request_max(); code++)
		if (kvms_request_row(code) != NULL)
			row_section(out, kvms_request_row(code), true);
}
