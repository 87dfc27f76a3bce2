/*
 * trace_policy - the areas of a trace under several ways to choose addresses.
 */
#include "client/commands.h"
#include "client/show.h"
#include "client/trace_run.h"

#include "trace/policy.h"

#include <inttypes.h>
#include <string.h>

struct comparing {
	struct kvmctl *k;
	struct kvmctl_trace_run run;
	struct kvmctl_output out;
	struct kvt_policies policies;
	struct kvt_buffer line;
	bool csv;
};

/* ---- The time line as CSV -------------------------------------------------------- */

static void
csv_head(struct comparing *c)
{
	fputs("step,policy,span,used,free_blocks,free_largest,waste,fragmentation\r\n", c->out.file);
}

static void
csv_sample(void *arg, uint64_t step, const struct kvt_policy_now *now)
{
	struct comparing *c = arg;

	for (unsigned i = 0; i < c->policies.count; i++) {
		unsigned waste = kvt_policy_waste(&now[i]), fragmentation = kvt_fragmentation(&now[i].free_va);

		fprintf(c->out.file,
			"%" PRIu64 ",%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u.%03u,%u.%03u\r\n", step,
			kvt_policy_name(c->policies.kind[i]), now[i].span, now[i].used, now[i].free_va.blocks,
			now[i].free_va.largest, waste / 1000, waste % 1000, fragmentation / 1000, fragmentation % 1000);
	}
}

/* ---- For people -------------------------------------------------------------------- */

static void
print_head(struct comparing *c)
{
	const struct kvt_policies *p = &c->policies;

	kvt_buffer_reset(&c->line);
	kvmctl_put_rate(&c->line, &c->run.statistics);
	fprintf(c->out.file, "operations    %s\n", kvt_buffer_text(&c->line));
	kvt_buffer_reset(&c->line);
	fprintf(c->out.file, "range         0x%" PRIx64 "..0x%" PRIx64 "\n", p->start, p->end);
	fprintf(c->out.file, "areas         %" PRIu64 " allocated", p->asked);
	if (p->placed > 0)
		fprintf(c->out.file, "; %" PRIu64 " had an address of their own, %s", p->placed,
			p->fixed ? "kept" : "placed anew");
	fputc('\n', c->out.file);
	if (p->refused > 0)
		fprintf(c->out.file, "refused       %" PRIu64 " for want of addresses\n", p->refused);
	if (p->outside > 0)
		fprintf(c->out.file, "not counted   %" PRIu64 ": empty, or outside the range\n", p->outside);
}

static double
mean(uint64_t sum, uint64_t count)
{
	return count > 0 ? (double)sum / (double)count : 0;
}

static void
print_policies(struct comparing *c)
{
	const struct kvt_policies *p = &c->policies;

	fputs("\n                             most   most    unused %   blocks scanned  in trees\n"
	      "policy          failed       span blocks  mean  most    mean   most  mean most\n",
	      c->out.file);
	for (unsigned i = 0; i < p->count; i++) {
		const struct kvt_policy_figures *f = kvt_policy_figures(p->policy[i]);

		kvt_buffer_reset(&c->line);
		kvmctl_put_size(&c->line, f->span_most);
		fprintf(c->out.file, "%-16s%6" PRIu64 "%11s%7" PRIu64 "%6.1f%6.1f%8.1f%7" PRIu64 "%6.1f%5" PRIu64 "\n",
			kvt_policy_name(p->kind[i]), f->failed, kvt_buffer_text(&c->line), f->blocks_most,
			f->changes > 0 ? f->waste_sum / (double)f->changes / 10 : 0, f->waste_most / 10.0,
			mean(f->scanned, f->searches), f->scanned_most, mean(f->looked, f->searches), f->looked_most);
	}
	kvt_buffer_reset(&c->line);
	fputs("\nspan: from the lowest to the highest area; unused: the part of it that is free\n", c->out.file);
}

static void
print_samples(struct comparing *c)
{
	const struct kvt_policies *p = &c->policies;

	fputs("\nunused % of the span over time\n     step", c->out.file);
	for (unsigned i = 0; i < p->count; i++)
		fprintf(c->out.file, "%10s", kvt_policy_short_name(p->kind[i]));
	fputc('\n', c->out.file);
	for (size_t s = 0; s < p->samples_count; s++) {
		fprintf(c->out.file, "%9" PRIu64, p->samples_step[s]);
		for (unsigned i = 0; i < p->count; i++)
			fprintf(c->out.file, "%10.1f", kvt_policy_waste(&p->samples[s * p->count + i]) / 10.0);
		fputc('\n', c->out.file);
	}
}

/* ---- For programs ---------------------------------------------------------------------- */

static void
json_policy(struct kvt_buffer *b, enum kvt_policy_kind kind, const struct kvt_policy_figures *f)
{
	kvt_putf(b,
		 "{\"policy\":\"%s\",\"allocated\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"rescued\":%" PRIu64
		 ",\"moved\":%" PRIu64 ",\"span_most\":\"0x%" PRIx64 "\",\"blocks_most\":%" PRIu64,
		 kvt_policy_name(kind), f->allocated, f->failed, f->rescued, f->moved, f->span_most, f->blocks_most);
	kvt_putf(b, ",\"waste_mean\":%.6f,\"waste_most\":%.3f,\"fragmentation_most\":%.3f",
		 f->changes > 0 ? f->waste_sum / (double)f->changes / 1000 : 0, f->waste_most / 1000.0,
		 f->fragmentation_most / 1000.0);
	kvt_putf(b,
		 ",\"searches\":%" PRIu64 ",\"scan\":{\"blocks\":%" PRIu64 ",\"most\":%" PRIu64
		 "},\"tree\":{\"nodes\":%" PRIu64 ",\"most\":%" PRIu64 "}}",
		 f->searches, f->scanned, f->scanned_most, f->looked, f->looked_most);
}

static void
print_json(struct comparing *c)
{
	const struct kvt_policies *p = &c->policies;
	struct kvt_buffer *b = &c->line;

	kvt_buffer_reset(b);
	kvt_puts(b, "{\"statistics\":");
	kvt_json_statistics(b, &c->run.statistics);
	kvt_putf(b,
		 ",\"range\":{\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"},\"areas\":%" PRIu64
		 ",\"placed\":%" PRIu64 ",\"fixed\":%s,\"refused\":%" PRIu64 ",\"outside\":%" PRIu64 ",\"policies\":[",
		 p->start, p->end, p->asked, p->placed, p->fixed ? "true" : "false", p->refused, p->outside);
	for (unsigned i = 0; i < p->count; i++) {
		kvt_puts(b, i > 0 ? "," : "");
		json_policy(b, p->kind[i], kvt_policy_figures(p->policy[i]));
	}
	kvt_puts(b, "],\"samples\":[");
	for (size_t s = 0; s < p->samples_count; s++) {
		kvt_putf(b, "%s{\"step\":%" PRIu64 ",\"policies\":[", s > 0 ? "," : "", p->samples_step[s]);
		for (unsigned i = 0; i < p->count; i++) {
			const struct kvt_policy_now *now = &p->samples[s * p->count + i];

			kvt_putf(b,
				 "%s{\"policy\":\"%s\",\"span\":\"0x%" PRIx64 "\",\"used\":\"0x%" PRIx64
				 "\",\"blocks\":%" PRIu64 ",\"largest\":\"0x%" PRIx64
				 "\",\"waste\":%.3f,\"fragmentation\":%.3f}",
				 i > 0 ? "," : "", kvt_policy_name(p->kind[i]), now->span, now->used,
				 now->free_va.blocks, now->free_va.largest, kvt_policy_waste(now) / 1000.0,
				 kvt_fragmentation(&now->free_va) / 1000.0);
		}
		kvt_puts(b, "]}");
	}
	kvt_puts(b, "]}\n");
	fwrite(kvt_buffer_text(b), 1, b->size, c->out.file);
}

/* ---- The command --------------------------------------------------------------------------- */

static bool
begin(void *arg, struct kvmctl_trace_run *run)
{
	struct comparing *c = arg;

	c->policies.target = run->session.target;
	if (kvt_policies_begin(&c->policies)) {
		if (c->csv)
			csv_head(c);
		return true;
	}
	kvmctl_complain("no memory");
	run->status = KVMCTL_UNREADABLE;
	return false;
}

static bool
step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct comparing *c = arg;

	kvt_policies_step(&c->policies, line, op, out);
	return !c->policies.failed && (!c->csv || !ferror(c->out.file));
}

/* The policies that --alloc names, each once; all of them without it. */
static enum kvmctl_status
choose(struct kvt_policies *p, const char *text)
{
	while (text != NULL && *text != '\0') {
		size_t size = strcspn(text, ",");
		enum kvt_policy_kind kind;
		bool known = false;

		if (!kvt_policy_find(text, size, &kind)) {
			struct kvt_buffer all = { 0 };

			for (unsigned i = 0; i < KVT_POLICIES; i++)
				kvt_putf(&all, "%s%s", i > 0 ? ", " : "", kvt_policy_name((enum kvt_policy_kind)i));
			kvmctl_complain("no policy \"%.*s\": there are %s", size < 40 ? (int)size : 40, text,
					kvt_buffer_text(&all));
			kvt_buffer_free(&all);
			return KVMCTL_USAGE;
		}
		for (unsigned i = 0; i < p->count; i++)
			known = known || p->kind[i] == kind;
		if (!known)
			p->kind[p->count++] = kind;
		text += size + (text[size] == ',');
	}
	for (unsigned i = 0; text == NULL && i < KVT_POLICIES; i++)
		p->kind[p->count++] = (enum kvt_policy_kind)i;
	if (p->count > 0)
		return KVMCTL_OK;
	kvmctl_complain("--alloc needs the name of a policy, or several with commas between");
	return KVMCTL_USAGE;
}

static enum kvmctl_status
options(struct comparing *c)
{
	enum kvmctl_status status = choose(&c->policies, c->k->option[OPTION_alloc]);

	if (status == KVMCTL_OK)
		status = kvmctl_option_number(c->k, OPTION_every, 0, &c->policies.every);
	c->csv = c->k->option[OPTION_csv] != NULL;
	c->policies.fixed = c->k->option[OPTION_fixed] != NULL;
	if (!c->csv || status != KVMCTL_OK)
		return status;
	if (c->k->json) {
		kvmctl_complain("--csv and --json are two forms of the same: choose one");
		return KVMCTL_USAGE;
	}
	c->policies.sampled = csv_sample;
	c->policies.arg = c;
	c->policies.every = c->policies.every > 0 ? c->policies.every : 1;
	return KVMCTL_OK;
}

static void
finish(void *arg)
{
	struct comparing *c = arg;

	kvt_policies_end(&c->policies);
	if (c->csv)
		return;
	if (c->k->json) {
		print_json(c);
		return;
	}
	print_head(c);
	print_policies(c);
	print_samples(c);
}

enum kvmctl_status
kvmctl_trace_policy(struct kvmctl *k)
{
	struct comparing c = { .k = k, .run = { .k = k, .path = k->argv[0], .begin = begin, .step = step } };
	enum kvmctl_status status = options(&c);

	c.run.arg = &c;
	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&c.out, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_trace_result(&c.run, &c.out, finish, &c.policies.failed);
	kvt_policies_free(&c.policies);
	kvt_buffer_free(&c.line);
	kvmctl_trace_run_close(&c.run);
	return status;
}
