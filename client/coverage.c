#include "client/coverage.h"

#include "client/describe.h"

#include "trace/buffer.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

struct document {
	const struct kvmctl *k;
	FILE *to;
	const struct kvt_coverage *coverage;
	uint64_t nanoseconds;
	bool has_laws;
};

/* ---- For people -------------------------------------------------------------------- */

static double
percent(unsigned part, unsigned whole)
{
	return whole > 0 ? 100.0 * part / whole : 100.0;
}

static void
count_line(const struct document *c, const char *what, unsigned part, unsigned whole)
{
	fprintf(c->to, "%-36s %5u of %5u  %6.2f %%\n", what, part, whole, percent(part, whole));
}

/* An outcome as it is written: "ok", "err AccessDenied cause=NotActive". */
static void
put_outcome(struct kvt_buffer *b, unsigned name)
{
	const char *cause = kvms_outcome_cause(name);

	kvt_puts(b, kvms_class_word(kvms_outcome_class(name)));
	if (name != 0)
		kvt_putf(b, " %s", kvms_outcome_name(name));
	if (cause != NULL)
		kvt_putf(b, " cause=%s", cause);
}

/* For each operation: how often, and what it never gave. */
static void
print_ops(const struct document *c)
{
	const struct kvt_coverage *v = c->coverage;

	fputs("\noperation                           steps  outcomes  laws   never\n", c->to);
	for (unsigned code = 1; code < v->ops; code++) {
		const struct kvms_row *row = kvms_op_row(code);
		uint64_t steps = 0, laws[KVT_LAW_WORDS];
		unsigned all = 0, reached = 0, tested = 0;
		struct kvt_buffer never = { 0 };

		if (row == NULL)
			continue;
		for (unsigned i = 0, name; (name = kvms_row_outcome(row, i)) != UINT_MAX; i++) {
			uint64_t count = kvt_coverage_cell(v, code, name)->count;

			all++;
			reached += count > 0;
			steps += count;
			if (count > 0)
				continue;
			kvt_puts(&never, never.size > 0 ? ", " : "");
			put_outcome(&never, name);
		}
		kvt_coverage_laws(v, code, laws);
		for (unsigned law = 0; law < kvms_law_max(); law++)
			tested += kvt_law_in(laws, law);
		fprintf(c->to, "%-32s %8" PRIu64 " %4u/%-4u", row->name, steps, reached, all);
		if (c->has_laws)
			fprintf(c->to, " %5u", tested);
		else
			fputs("     -", c->to);
		if (steps == 0)
			fputs("   all\n", c->to);
		else if (never.size == 0)
			fputs("   -\n", c->to);
		else {
			fputs("\n    ", c->to);
			kvmctl_wrap(c->to, 4, 4, kvt_buffer_text(&never));
		}
		kvt_buffer_free(&never);
	}
}

static void
print_laws(const struct document *c, const uint64_t tested[KVT_LAW_WORDS])
{
	bool some = false;

	for (unsigned law = 0; law < kvms_law_max(); law++) {
		if (kvt_law_in(tested, law))
			continue;
		if (!some)
			fputs("\nlaws that no step put to the test\n", c->to);
		some = true;
		fprintf(c->to, "  %-30s %s\n", kvms_law_name(law),
			kvt_law_in(c->coverage->checked, law) ? "full checks only" : "never");
	}
}

static void
all_laws(const struct kvt_coverage *v, uint64_t laws[KVT_LAW_WORDS])
{
	memset(laws, 0, KVT_LAW_WORDS * sizeof *laws);
	for (unsigned code = 1; code < v->ops; code++) {
		uint64_t of_op[KVT_LAW_WORDS];

		kvt_coverage_laws(v, code, of_op);
		for (unsigned i = 0; i < KVT_LAW_WORDS; i++)
			laws[i] |= of_op[i];
	}
}

static void
print_text(const struct document *c, const struct kvt_covered *sum)
{
	const struct kvt_coverage *v = c->coverage;
	uint64_t laws[KVT_LAW_WORDS];
	bool some = false;

	fprintf(c->to, "%d trace%s, %" PRIu64 " steps\n", c->k->argc, c->k->argc == 1 ? "" : "s", sum->steps);
	count_line(c, "outcomes of operations", sum->cells_reached, sum->cells);
	count_line(c, "operations", sum->ops_reached, sum->ops);
	count_line(c, "operations that ended ok", sum->ok_reached, sum->ok);
	if (c->has_laws) {
		count_line(c, "laws that steps put to the test", sum->laws_tested, sum->laws);
		count_line(c, "laws, those of full checks too", sum->laws_checked, sum->laws);
	}
	count_line(c, "requests of expect lines", sum->requests_reached, sum->requests);
	if (c->k->quiet)
		return;
	print_ops(c);
	if (c->has_laws) {
		all_laws(v, laws);
		print_laws(c, laws);
	}
	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		if (kvms_request_row(code) == NULL || v->requests[code] > 0)
			continue;
		fprintf(c->to, "%s%s", some ? " " : "\nrequests that nothing expects:\n ", kvms_request_row(code)->name);
		some = true;
	}
	if (some)
		fputc('\n', c->to);
}

/* ---- For programs --------------------------------------------------------------------- */

static void
json_laws(struct kvt_buffer *b, const uint64_t laws[KVT_LAW_WORDS], bool in)
{
	bool more = false;

	kvt_putc(b, '[');
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		if (kvt_law_in(laws, law) != in)
			continue;
		kvt_putf(b, "%s\"%s\"", more ? "," : "", kvms_law_name(law));
		more = true;
	}
	kvt_putc(b, ']');
}

/* One of the totals, of which none is the last. */
static void
json_part(struct kvt_buffer *b, const char *name, unsigned part, unsigned whole)
{
	kvt_putf(b, "\"%s\":{\"reached\":%u,\"of\":%u,\"percent\":%.2f},", name, part, whole, percent(part, whole));
}

static void
json_cells(struct kvt_buffer *b, const struct document *c, unsigned code)
{
	const struct kvms_row *row = kvms_op_row(code);

	for (unsigned i = 0, name; (name = kvms_row_outcome(row, i)) != UINT_MAX; i++) {
		const struct kvt_cell *cell = kvt_coverage_cell(c->coverage, code, name);

		kvt_putf(b, "%s{\"class\":\"%s\"", i > 0 ? "," : "", kvms_class_word(kvms_outcome_class(name)));
		if (name != 0)
			kvt_putf(b, ",\"name\":\"%s\"", kvms_outcome_name(name));
		if (kvms_outcome_cause(name) != NULL)
			kvt_putf(b, ",\"cause\":\"%s\"", kvms_outcome_cause(name));
		kvt_putf(b, ",\"steps\":%" PRIu64, cell->count);
		if (c->has_laws) {
			kvt_puts(b, ",\"laws\":");
			json_laws(b, cell->laws, true);
		}
		kvt_putc(b, '}');
	}
}

static void
print_json(const struct document *c, const struct kvt_covered *sum)
{
	struct kvt_buffer text = { 0 }, *b = &text;
	uint64_t laws[KVT_LAW_WORDS];
	bool more = false;

	kvt_putf(b, "{\"traces\":%d,\"steps\":%" PRIu64 ",\"nanoseconds\":%" PRIu64 ",", c->k->argc, sum->steps,
		 c->nanoseconds);
	json_part(b, "outcomes", sum->cells_reached, sum->cells);
	json_part(b, "operations", sum->ops_reached, sum->ops);
	json_part(b, "operations_ok", sum->ok_reached, sum->ok);
	if (c->has_laws) {
		json_part(b, "laws", sum->laws_tested, sum->laws);
		json_part(b, "laws_checked", sum->laws_checked, sum->laws);
	}
	json_part(b, "requests", sum->requests_reached, sum->requests);
	kvt_puts(b, "\"by_operation\":[");
	for (unsigned code = 1; code < c->coverage->ops; code++) {
		if (kvms_op_row(code) == NULL)
			continue;
		kvt_putf(b, "%s{\"op\":\"%s\",\"outcomes\":[", more ? "," : "", kvms_op_row(code)->name);
		json_cells(b, c, code);
		kvt_puts(b, "]}");
		more = true;
	}
	kvt_putc(b, ']');
	if (c->has_laws) {
		all_laws(c->coverage, laws);
		kvt_puts(b, ",\"laws_untested\":");
		json_laws(b, laws, false);
	}
	kvt_puts(b, "}\n");
	fwrite(kvt_buffer_text(b), 1, b->size, c->to);
	kvt_buffer_free(b);
}

struct kvt_covered
kvmctl_coverage_print(const struct kvmctl *k, FILE *to, const struct kvt_coverage *coverage, uint64_t nanoseconds,
		      bool has_laws)
{
	const struct document c = { k, to, coverage, nanoseconds, has_laws };
	struct kvt_covered sum = kvt_coverage_sum(coverage);

	(k->json ? print_json : print_text)(&c, &sum);
	return sum;
}
