/*
 * trace_coverage - what traces reach of the table of operations and outcomes,
 * and which laws their steps put to the test.
 */
#include "client/commands.h"
#include "client/describe.h"
#include "client/trace_run.h"

#include "trace/coverage.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct covering {
	struct kvmctl *k;
	struct kvmctl_trace_run run; /* of the file at hand */
	struct kvmctl_output out;
	struct kvt_coverage coverage;
	struct kvt_buffer line;
	uint64_t nanoseconds;
	uint64_t fail_under; /* thousandths of a percent */
};

/* ---- For people -------------------------------------------------------------------- */

static double
percent(unsigned part, unsigned whole)
{
	return whole > 0 ? 100.0 * part / whole : 100.0;
}

static void
count_line(struct covering *c, const char *what, unsigned part, unsigned whole)
{
	fprintf(c->out.file, "%-36s %5u of %5u  %6.2f %%\n", what, part, whole, percent(part, whole));
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
print_ops(struct covering *c)
{
	const struct kvt_coverage *v = &c->coverage;

	fputs("\noperation                           steps  outcomes  laws   never\n", c->out.file);
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
		fprintf(c->out.file, "%-32s %8" PRIu64 " %4u/%-4u %5u", row->name, steps, reached, all, tested);
		if (steps == 0)
			fputs("   all\n", c->out.file);
		else if (never.size == 0)
			fputs("   -\n", c->out.file);
		else {
			fputs("\n    ", c->out.file);
			kvmctl_wrap(c->out.file, 4, 4, kvt_buffer_text(&never));
		}
		kvt_buffer_free(&never);
	}
}

static void
print_laws(struct covering *c, const uint64_t tested[KVT_LAW_WORDS])
{
	bool some = false;

	for (unsigned law = 0; law < kvms_law_max(); law++) {
		if (kvt_law_in(tested, law))
			continue;
		if (!some)
			fputs("\nlaws that no step put to the test\n", c->out.file);
		some = true;
		fprintf(c->out.file, "  %-30s %s\n", kvms_law_name(law),
			kvt_law_in(c->coverage.checked, law) ? "full checks only" : "never");
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
print_text(struct covering *c, const struct kvt_covered *sum)
{
	const struct kvt_coverage *v = &c->coverage;
	uint64_t laws[KVT_LAW_WORDS];

	fprintf(c->out.file, "%d trace%s, %" PRIu64 " steps\n", c->k->argc, c->k->argc == 1 ? "" : "s", v->steps);
	count_line(c, "outcomes of operations", sum->cells_reached, sum->cells);
	count_line(c, "operations", sum->ops_reached, sum->ops);
	count_line(c, "operations that ended ok", sum->ok_reached, sum->ok);
	count_line(c, "laws that steps put to the test", sum->laws_tested, sum->laws);
	count_line(c, "laws, those of full checks too", sum->laws_checked, sum->laws);
	count_line(c, "requests of expect lines", sum->requests_reached, sum->requests);
	if (c->k->quiet)
		return;
	print_ops(c);
	all_laws(v, laws);
	print_laws(c, laws);
	for (unsigned code = 1; code <= kvms_request_max(); code++)
		if (kvms_request_row(code) != NULL && v->requests[code] == 0)
			fprintf(c->out.file, "%s%s", c->line.size++ == 0 ? "\nrequests that nothing expects:\n " : " ",
				kvms_request_row(code)->name);
	if (c->line.size > 0)
		fputc('\n', c->out.file);
	c->line.size = 0;
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

static void
json_part(struct kvt_buffer *b, const char *name, unsigned part, unsigned whole)
{
	kvt_putf(b, "\"%s\":{\"reached\":%u,\"of\":%u,\"percent\":%.2f}", name, part, whole, percent(part, whole));
}

static void
json_cells(struct kvt_buffer *b, const struct kvt_coverage *v, unsigned code)
{
	const struct kvms_row *row = kvms_op_row(code);

	for (unsigned i = 0, name; (name = kvms_row_outcome(row, i)) != UINT_MAX; i++) {
		const struct kvt_cell *cell = kvt_coverage_cell(v, code, name);

		kvt_putf(b, "%s{\"class\":\"%s\"", i > 0 ? "," : "", kvms_class_word(kvms_outcome_class(name)));
		if (name != 0)
			kvt_putf(b, ",\"name\":\"%s\"", kvms_outcome_name(name));
		if (kvms_outcome_cause(name) != NULL)
			kvt_putf(b, ",\"cause\":\"%s\"", kvms_outcome_cause(name));
		kvt_putf(b, ",\"steps\":%" PRIu64 ",\"laws\":", cell->count);
		json_laws(b, cell->laws, true);
		kvt_putc(b, '}');
	}
}

static void
print_json(struct covering *c, const struct kvt_covered *sum)
{
	const struct kvt_coverage *v = &c->coverage;
	struct kvt_buffer *b = &c->line;
	uint64_t laws[KVT_LAW_WORDS];
	bool more = false;

	kvt_buffer_reset(b);
	kvt_putf(b, "{\"traces\":%d,\"steps\":%" PRIu64 ",\"nanoseconds\":%" PRIu64 ",", c->k->argc, v->steps,
		 c->nanoseconds);
	json_part(b, "outcomes", sum->cells_reached, sum->cells);
	kvt_putc(b, ',');
	json_part(b, "operations", sum->ops_reached, sum->ops);
	kvt_putc(b, ',');
	json_part(b, "operations_ok", sum->ok_reached, sum->ok);
	kvt_putc(b, ',');
	json_part(b, "laws", sum->laws_tested, sum->laws);
	kvt_putc(b, ',');
	json_part(b, "laws_checked", sum->laws_checked, sum->laws);
	kvt_putc(b, ',');
	json_part(b, "requests", sum->requests_reached, sum->requests);
	kvt_puts(b, ",\"by_operation\":[");
	for (unsigned code = 1; code < v->ops; code++) {
		if (kvms_op_row(code) == NULL)
			continue;
		kvt_putf(b, "%s{\"op\":\"%s\",\"outcomes\":[", more ? "," : "", kvms_op_row(code)->name);
		json_cells(b, v, code);
		kvt_puts(b, "]}");
		more = true;
	}
	all_laws(v, laws);
	kvt_puts(b, "],\"laws_untested\":");
	json_laws(b, laws, false);
	kvt_puts(b, "}\n");
	fwrite(kvt_buffer_text(b), 1, b->size, c->out.file);
	kvt_buffer_reset(b);
}

/* ---- The command --------------------------------------------------------------------------- */

static bool
begin(void *arg, struct kvmctl_trace_run *run)
{
	uint64_t laws[KVT_LAW_WORDS];

	(void)arg;
	kvms_laws_judged(kvmctl_trace_run_store(run), laws); /* of its making */
	return true;
}

static bool
step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct covering *c = arg;
	uint64_t laws[KVT_LAW_WORDS];

	kvms_laws_judged(kvmctl_trace_run_store(&c->run), laws);
	if (line->kind == KVT_EXPECT)
		kvt_coverage_expect(&c->coverage, op, laws);
	else
		kvt_coverage_step(&c->coverage, op, out, laws);
	return true;
}

/* A percentage, at most three digits behind the point, in thousandths. */
static enum kvmctl_status
percentage(const struct kvmctl *k, uint64_t *value)
{
	const char *text = k->option[OPTION_fail_under];
	char *end, shown[KVMCTL_SHOWN];
	double number;

	*value = 0;
	if (text == NULL)
		return KVMCTL_OK;
	number = strtod(text, &end);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && number <= 100) {
		*value = (uint64_t)(number * 1000 + 0.5);
		return KVMCTL_OK;
	}
	kvmctl_complain("--fail-under '%s': expected a percentage, 0 to 100", kvmctl_shown(shown, text));
	return KVMCTL_USAGE;
}

/* One after the other; what a trace has reached before its mistake counts for nothing, for then there is no report. */
static enum kvmctl_status
run_all(struct covering *c)
{
	enum kvmctl_status worst = KVMCTL_OK, status;

	for (int i = 0; i < c->k->argc; i++) {
		c->run = (struct kvmctl_trace_run){
			.k = c->k, .path = c->k->argv[i], .arg = c, .begin = begin, .step = step
		};
		status = kvmctl_trace_run(&c->run);
		c->nanoseconds += c->run.statistics.nanoseconds;
		kvmctl_trace_run_close(&c->run);
		if (status != KVMCTL_OK && status != KVMCTL_DIVERGED)
			return status;
		worst = status != KVMCTL_OK ? status : worst;
	}
	return worst;
}

enum kvmctl_status
kvmctl_trace_coverage(struct kvmctl *k)
{
	struct covering c = { .k = k };
	enum kvmctl_status status = percentage(k, &c.fail_under), closed;
	struct kvt_covered sum;
	bool told = false;

	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&c.out, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	if (kvt_coverage_init(&c.coverage)) {
		status = run_all(&c);
	} else {
		kvmctl_complain("no memory");
		status = KVMCTL_UNREADABLE;
	}
	if (status == KVMCTL_OK || status == KVMCTL_DIVERGED) {
		sum = kvt_coverage_sum(&c.coverage);
		(k->json ? print_json : print_text)(&c, &sum);
		told = true;
		if (status == KVMCTL_OK && sum.cells_reached * UINT64_C(100000) < c.fail_under * sum.cells) {
			kvmctl_complain("%u of %u outcomes are less than %s %%", sum.cells_reached, sum.cells,
					k->option[OPTION_fail_under]);
			status = KVMCTL_NOT_OK;
		}
	}
	closed = kvmctl_output_close(&c.out, told);
	kvt_coverage_free(&c.coverage);
	kvt_buffer_free(&c.line);
	return status != KVMCTL_OK ? status : closed;
}
