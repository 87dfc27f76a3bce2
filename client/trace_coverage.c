/*
 * trace_coverage - what traces reach of the table of operations and outcomes,
 * and which laws their steps put to the test.
 */
#include "client/commands.h"
#include "client/coverage.h"
#include "client/trace_run.h"

#include <stdlib.h>

struct covering {
	struct kvmctl *k;
	struct kvmctl_trace_run run; /* of the file at hand */
	struct kvmctl_output out;
	struct kvt_coverage coverage;
	uint64_t nanoseconds;
	uint64_t fail_under; /* thousandths of a percent */
};

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
		sum = kvmctl_coverage_print(k, c.out.file, &c.coverage, c.nanoseconds, true);
		told = true;
		if (status == KVMCTL_OK && sum.cells_reached * UINT64_C(100000) < c.fail_under * sum.cells) {
			kvmctl_complain("%u of %u outcomes are less than %s %%", sum.cells_reached, sum.cells,
					k->option[OPTION_fail_under]);
			status = KVMCTL_NOT_OK;
		}
	}
	closed = kvmctl_output_close(&c.out, told);
	kvt_coverage_free(&c.coverage);
	return status != KVMCTL_OK ? status : closed;
}
