/*
 * trace_stat - a trace in figures: for people, as JSON, and its time line as CSV.
 */
#include "client/commands.h"
#include "client/show.h"
#include "client/trace_run.h"

#include "trace/stat.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define BAR 40u
#define LEAKS_SHOWN 30u /* in text */
#define WHO 48u         /* bytes of who made them, in text */

struct stating {
	struct kvmctl *k;
	struct kvmctl_trace_run run;
	struct kvmctl_output out;
	struct kvt_stat stat;
	struct kvt_buffer line;
	enum { AS_TEXT, AS_JSON, AS_CSV, AS_FOLDED } form;
};

/* ---- The time line as CSV --------------------------------------------------------- */

static void
csv_head(struct stating *s)
{
	const struct kvms_row *census = kvms_request_find("census");

	fputs("step,t", s->out.file);
	for (unsigned i = 0; i < census->results_count; i++)
		fprintf(s->out.file, ",%s", census->results[i].name);
	fputs(",free_va_blocks,free_va_bytes,free_va_largest,fragmentation\r\n", s->out.file);
}

static void
csv_sample(void *arg, const struct kvt_sample *sample)
{
	struct stating *s = arg;
	unsigned fields = kvms_request_find("census")->results_count,
		 fragmentation = kvt_fragmentation(&sample->free_va);

	kvt_buffer_reset(&s->line);
	kvt_put_dec(&s->line, sample->step);
	kvt_putc(&s->line, ',');
	if (sample->has_t)
		kvt_put_dec(&s->line, sample->t);
	for (unsigned i = 0; i < fields; i++) {
		kvt_putc(&s->line, ',');
		kvt_put_dec(&s->line, sample->census[i]);
	}
	kvt_putf(&s->line, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u.%03u\r\n", sample->free_va.blocks,
		 sample->free_va.bytes, sample->free_va.largest, fragmentation / 1000, fragmentation % 1000);
	fwrite(kvt_buffer_text(&s->line), 1, s->line.size, s->out.file);
}

/* ---- For people --------------------------------------------------------------------- */

static void
title(struct stating *s, const char *text)
{
	fprintf(s->out.file, "\n%s\n", text);
}

static void
print_line(struct stating *s, const char *name)
{
	fprintf(s->out.file, "%-13s %s\n", name, kvt_buffer_text(&s->line));
	kvt_buffer_reset(&s->line);
}

static void
print_head(struct stating *s)
{
	const struct kvt_statistics *run = &s->run.statistics;

	kvt_buffer_reset(&s->line);
	kvmctl_put_rate(&s->line, run);
	print_line(s, "operations");
	for (unsigned c = 0; c < KVMS_CLASSES; c++)
		if (run->outcomes[c] > 0)
			kvt_putf(&s->line, "%s%s %" PRIu64, s->line.size > 0 ? ", " : "", kvms_class_word(c),
				 run->outcomes[c]);
	print_line(s, "outcomes");
	kvt_put_dec(&s->line, run->expects);
	print_line(s, "expectations");
	if (run->gaps > 0) {
		kvt_put_dec(&s->line, run->gaps);
		print_line(s, "gaps");
	}
	if (run->divergences > 0) {
		kvt_putf(&s->line, "%" PRIu64 ", the first in line %" PRIu64, run->divergences, run->divergence_line);
		print_line(s, "divergences");
	}
}

static uint64_t
steps_of(const struct kvt_coverage *c, unsigned code)
{
	uint64_t steps = 0;

	for (unsigned name = 0; name < c->outcomes; name++)
		steps += kvt_coverage_cell(c, code, name)->count;
	return steps;
}

static void
print_outcome(struct stating *s, unsigned name, uint64_t count)
{
	const char *cause = kvms_outcome_cause(name);

	fprintf(s->out.file, "    %s %s%s%s: %" PRIu64 "\n", kvms_class_word(kvms_outcome_class(name)),
		kvms_outcome_name(name), cause != NULL ? " cause=" : "", cause != NULL ? cause : "", count);
}

static void
print_ops(struct stating *s)
{
	const struct kvt_coverage *c = &s->stat.ops;

	fprintf(s->out.file, "\n%-44s %11s %11s %9s\n", "steps by operation", "steps", "ok", "not ok");
	for (unsigned code = 1; code < c->ops; code++) {
		uint64_t steps = steps_of(c, code), ok = kvt_coverage_cell(c, code, 0)->count;

		if (steps == 0)
			continue;
		fprintf(s->out.file, "  %-42s %11" PRIu64 " %11" PRIu64 " %9" PRIu64 "\n", kvms_op_row(code)->name,
			steps, ok, steps - ok);
		for (unsigned name = 1; name < c->outcomes; name++)
			if (kvt_coverage_cell(c, code, name)->count > 0)
				print_outcome(s, name, kvt_coverage_cell(c, code, name)->count);
	}
}

/* What the fields of the census are called for people; those that are left out here are not worth a line. */
static const struct {
	const char *field, *words;
} counted[] = {
	{ "frame", "data frames in use" },
	{ "pagetable", "page-table nodes" },
	{ "reserved", "reserved frames" },
	{ "frames", "frame handles" },
	{ "segments", "segments" },
	{ "uniques", "unique frames" },
	{ "lists", "lists" },
	{ "areas", "areas" },
	{ "vm_spaces", "address spaces" },
	{ "cursors", "cursors" },
	{ "readers", "readers" },
	{ "writers", "writers" },
	{ "iomems", "I/O memory handles" },
	{ "leaves_tracked", "tracked leaves" },
	{ "leaves_untracked", "untracked leaves" },
	{ "tlb_entries", "TLB entries" },
};

static unsigned
census_field(const char *name)
{
	return (unsigned)kvms_result_index(kvms_request_find("census"), name);
}

static void
print_counts(struct stating *s)
{
	fprintf(s->out.file, "\n%-30s %15s %15s %15s\n", "alive", "at the end", "most", "at step");
	for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
		unsigned field = census_field(counted[i].field);
		const struct kvt_peak *peak = &s->stat.peak[field];

		if (peak->value == 0 && s->stat.last.census[field] == 0)
			continue;
		fprintf(s->out.file, "  %-28s %15" PRIu64 " %15" PRIu64 " %15" PRIu64 "\n", counted[i].words,
			s->stat.last.census[field], peak->value, peak->step);
	}
}

static unsigned
levels(const struct kvt_stat *stat)
{
	unsigned level = KVT_LEVELS_MAX;

	while (level > 1 && stat->nodes[level - 1] == 0)
		level--;
	return level;
}

static void
print_memory(struct stating *s)
{
	const struct kvt_free_va *f = &s->stat.last.free_va;
	uint64_t nodes = s->stat.last.census[census_field("pagetable")];
	unsigned fragmentation = kvt_fragmentation(f);

	title(s, "page-table memory at the end");
	kvt_putf(&s->line, "  %" PRIu64 " nodes, ", nodes);
	kvmctl_put_size(&s->line, nodes * KVMS_PAGE_SIZE);
	for (unsigned level = levels(&s->stat); level >= 1; level--)
		kvt_putf(&s->line, "%s %u: %" PRIu64, level == levels(&s->stat) ? "; by level" : ",", level,
			 s->stat.nodes[level - 1]);
	fprintf(s->out.file, "%s\n", kvt_buffer_text(&s->line));
	kvt_buffer_reset(&s->line);
	title(s, "free addresses of the first vmalloc range at the end");
	kvt_putf(&s->line, "  %" PRIu64 " block%s, ", f->blocks, f->blocks == 1 ? "" : "s");
	kvmctl_put_size(&s->line, f->bytes);
	kvt_puts(&s->line, ", the largest ");
	kvmctl_put_size(&s->line, f->largest);
	kvt_putf(&s->line, "; fragmentation %u.%u %%", fragmentation / 10, fragmentation % 10);
	fprintf(s->out.file, "%s\n", kvt_buffer_text(&s->line));
	kvt_buffer_reset(&s->line);
}

/* A power of two in words: "512", "4 Ki", "2 Mi". */
static void
put_power(struct kvt_buffer *b, unsigned power)
{
	static const char *const units[] = { "", " Ki", " Mi", " Gi", " Ti", " Pi", " Ei" };

	kvt_putf(b, "%u%s", 1u << power % 10, units[power / 10]);
}

static void
print_histogram(struct stating *s, const char *text, const char *unit, const uint64_t bucket[KVT_BUCKETS])
{
	uint64_t most = 0, all = 0;
	unsigned first = KVT_BUCKETS, last = 0;

	for (unsigned i = 0; i < KVT_BUCKETS; i++) {
		if (bucket[i] == 0)
			continue;
		first = first < i ? first : i;
		last = i;
		all += bucket[i];
		most = bucket[i] > most ? bucket[i] : most;
	}
	if (all == 0)
		return;
	fprintf(s->out.file, "\n%s\n", text);
	for (unsigned i = first; i <= last; i++) {
		unsigned bar = (unsigned)((double)bucket[i] * BAR / (double)most + 0.5);

		kvt_buffer_reset(&s->line);
		kvt_puts(&s->line, "from ");
		put_power(&s->line, i);
		fprintf(s->out.file, "  %-14s %-6s %12" PRIu64 " %.*s\n", kvt_buffer_text(&s->line), unit, bucket[i],
			(int)bar, "########################################");
	}
	kvt_buffer_reset(&s->line);
}

static void
print_sample(struct stating *s, const struct kvt_sample *sample)
{
	const struct kvt_free_va *f = &sample->free_va;
	unsigned fragmentation = kvt_fragmentation(f);
	char seconds[24] = "-";

	if (sample->has_t)
		snprintf(seconds, sizeof seconds, "%" PRIu64 ".%03u", sample->t / 1000000000,
			 (unsigned)(sample->t / 1000000 % 1000));
	kvt_buffer_reset(&s->line);
	kvmctl_put_size(&s->line, f->bytes - f->largest);
	fprintf(s->out.file,
		"%9" PRIu64 "%10s%7" PRIu64 "%7" PRIu64 "%8" PRIu64 "%9" PRIu64 "%7" PRIu64 "%6" PRIu64 "%11s%4u.%u\n",
		sample->step, seconds, sample->census[census_field("areas")], sample->census[census_field("vm_spaces")],
		sample->census[census_field("frame")],
		sample->census[census_field("leaves_tracked")] + sample->census[census_field("leaves_untracked")],
		sample->census[census_field("pagetable")], f->blocks > 0 ? f->blocks - 1 : 0, kvt_buffer_text(&s->line),
		fragmentation / 10, fragmentation % 10);
	kvt_buffer_reset(&s->line);
}

static void
print_samples(struct stating *s)
{
	const struct kvt_stat *stat = &s->stat;

	title(s, "over time");
	fputs("     step   seconds  areas spaces  frames   leaves  nodes holes   in holes frag%\n", s->out.file);
	for (size_t i = 0; i < stat->samples_count; i++)
		print_sample(s, &stat->samples[i]);
	if (stat->samples_count == 0 || stat->samples[stat->samples_count - 1].step != stat->last.step)
		print_sample(s, &stat->last);
}

static const char *
op_name(unsigned code)
{
	return code != 0 ? kvms_op_row(code)->name : "(older than the trace)";
}

static void
print_leaks(struct stating *s)
{
	size_t count = s->stat.leaks_count;

	fprintf(s->out.file, "\n%9s %8s %10s  %s\n", "objects", "frames", "addresses",
		"still held, by what made it and its @src");
	if (count == 0)
		fputs("  none\n", s->out.file);
	for (size_t i = 0; i < count && (i < LEAKS_SHOWN || count == LEAKS_SHOWN + 1); i++) {
		const struct kvt_leak *leak = &s->stat.leaks[i];
		struct kvt_buffer who = { 0 };

		kvt_buffer_reset(&s->line);
		if (leak->bytes > 0)
			kvmctl_put_size(&s->line, leak->bytes);
		kvt_putf(&who, "%s %s %s", kvt_kind_word(leak->kind), op_name(leak->op),
			 leak->src != NULL ? leak->src : "");
		fprintf(s->out.file, "%9" PRIu64 " %8" PRIu64 " %10s  %.*s\n", leak->count, leak->pages,
			kvt_buffer_text(&s->line), (int)WHO, kvt_buffer_text(&who));
		kvt_buffer_free(&who);
	}
	if (count > LEAKS_SHOWN + 1)
		fprintf(s->out.file, "and %zu groups more; --json has all\n", count - LEAKS_SHOWN);
	kvt_buffer_reset(&s->line);
}

static void
print_text(struct stating *s)
{
	const struct kvt_stat *stat = &s->stat;

	print_head(s);
	print_ops(s);
	print_counts(s);
	print_memory(s);
	print_histogram(s, "areas made, by size", "pages", stat->sizes);
	print_histogram(s, "areas that ended, by how long they lived", "steps", stat->ages);
	print_histogram(s, "the same, by @t", "ns", stat->times);
	print_samples(s);
	if (s->k->option[OPTION_leaks] != NULL)
		print_leaks(s);
}

/* ---- Folded stacks: what a flame graph is made of --------------------------------------- */

static void
put_folded(struct kvt_buffer *b, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		kvt_putc(b, (unsigned char)*p < ' ' ? '?' : *p);
}

static void
print_folded(struct stating *s)
{
	for (size_t i = 0; i < s->stat.leaks_count; i++) {
		const struct kvt_leak *leak = &s->stat.leaks[i];

		if (leak->pages == 0)
			continue;
		kvt_buffer_reset(&s->line);
		put_folded(&s->line, leak->src != NULL ? leak->src : "(no @src)");
		fprintf(s->out.file, "%s;%s;%s %" PRIu64 "\n", kvt_buffer_text(&s->line), op_name(leak->op),
			kvt_kind_word(leak->kind), leak->pages);
	}
	kvt_buffer_reset(&s->line);
}

/* ---- For programs ---------------------------------------------------------------------- */

static void
json_ops(struct kvt_buffer *b, const struct kvt_coverage *c)
{
	bool more = false;

	kvt_puts(b, ",\"operations\":[");
	for (unsigned code = 1; code < c->ops; code++)
		for (unsigned name = 0; name < c->outcomes; name++) {
			const struct kvt_cell *cell = kvt_coverage_cell(c, code, name);

			if (cell->count == 0)
				continue;
			kvt_putf(b, "%s{\"op\":\"%s\",\"class\":\"%s\"", more ? "," : "", kvms_op_row(code)->name,
				 kvms_class_word(kvms_outcome_class(name)));
			if (name != 0)
				kvt_putf(b, ",\"name\":\"%s\"", kvms_outcome_name(name));
			if (kvms_outcome_cause(name) != NULL)
				kvt_putf(b, ",\"cause\":\"%s\"", kvms_outcome_cause(name));
			kvt_putf(b, ",\"steps\":%" PRIu64 "}", cell->count);
			more = true;
		}
	kvt_putc(b, ']');
}

static void
json_sample(struct kvt_buffer *b, const struct kvt_sample *sample)
{
	const struct kvms_row *census = kvms_request_find("census");
	unsigned fragmentation = kvt_fragmentation(&sample->free_va);

	kvt_putf(b, "{\"step\":%" PRIu64, sample->step);
	if (sample->has_t)
		kvt_putf(b, ",\"t\":%" PRIu64, sample->t);
	kvt_puts(b, ",\"census\":{");
	for (unsigned i = 0; i < census->results_count; i++)
		kvt_putf(b, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", census->results[i].name, sample->census[i]);
	kvt_putf(b,
		 "},\"free_va\":{\"blocks\":%" PRIu64 ",\"bytes\":\"0x%" PRIx64 "\",\"largest\":\"0x%" PRIx64
		 "\",\"fragmentation\":%u.%03u}}",
		 sample->free_va.blocks, sample->free_va.bytes, sample->free_va.largest, fragmentation / 1000,
		 fragmentation % 1000);
}

static void
json_histogram(struct kvt_buffer *b, const char *name, const uint64_t bucket[KVT_BUCKETS])
{
	bool more = false;

	kvt_putf(b, ",\"%s\":[", name);
	for (unsigned i = 0; i < KVT_BUCKETS; i++) {
		if (bucket[i] == 0)
			continue;
		kvt_putf(b, "%s{\"from\":", more ? "," : "");
		kvt_json_value(b, KVMS_DEC, i == 0 ? 0 : UINT64_C(1) << i, NULL);
		kvt_putf(b, ",\"count\":%" PRIu64 "}", bucket[i]);
		more = true;
	}
	kvt_putc(b, ']');
}

static void
json_leaks(struct kvt_buffer *b, const struct kvt_stat *stat)
{
	kvt_puts(b, ",\"leaks\":[");
	for (size_t i = 0; i < stat->leaks_count; i++) {
		const struct kvt_leak *leak = &stat->leaks[i];

		kvt_putf(b, "%s{\"kind\":\"%s\"", i > 0 ? "," : "", kvt_kind_word(leak->kind));
		if (leak->op != 0)
			kvt_putf(b, ",\"op\":\"%s\"", kvms_op_row(leak->op)->name);
		if (leak->src != NULL) {
			kvt_puts(b, ",\"src\":");
			kvt_json_string(b, leak->src, strlen(leak->src));
		}
		kvt_putf(b,
			 ",\"objects\":%" PRIu64 ",\"frames\":%" PRIu64 ",\"addresses\":\"0x%" PRIx64
			 "\",\"line\":%" PRIu64 "}",
			 leak->count, leak->pages, leak->bytes, leak->line);
	}
	kvt_putc(b, ']');
}

static void
print_json(struct stating *s)
{
	const struct kvt_stat *stat = &s->stat;
	const struct kvms_row *census = kvms_request_find("census");
	struct kvt_buffer *b = &s->line;

	kvt_buffer_reset(b);
	kvt_puts(b, "{\"statistics\":");
	kvt_json_statistics(b, &s->run.statistics);
	json_ops(b, &stat->ops);
	kvt_puts(b, ",\"end\":");
	json_sample(b, &stat->last);
	kvt_puts(b, ",\"most\":{");
	for (unsigned i = 0; i < census->results_count; i++)
		kvt_putf(b, "%s\"%s\":{\"count\":%" PRIu64 ",\"step\":%" PRIu64 "}", i > 0 ? "," : "",
			 census->results[i].name, stat->peak[i].value, stat->peak[i].step);
	kvt_puts(b, "},\"nodes\":{");
	for (unsigned level = levels(stat); level >= 1; level--)
		kvt_putf(b, "%s\"%u\":%" PRIu64, level == levels(stat) ? "" : ",", level, stat->nodes[level - 1]);
	kvt_putf(b, "},\"areas\":{\"made\":%" PRIu64 ",\"ended\":%" PRIu64, stat->areas_made, stat->areas_ended);
	json_histogram(b, "pages", stat->sizes);
	json_histogram(b, "lived_steps", stat->ages);
	json_histogram(b, "lived_ns", stat->times);
	kvt_puts(b, "},\"samples\":[");
	for (size_t i = 0; i < stat->samples_count; i++) {
		if (i > 0)
			kvt_putc(b, ',');
		json_sample(b, &stat->samples[i]);
	}
	kvt_putc(b, ']');
	if (s->k->option[OPTION_leaks] != NULL)
		json_leaks(b, stat);
	kvt_puts(b, "}\n");
	fwrite(kvt_buffer_text(b), 1, b->size, s->out.file);
}

/* ---- The command ------------------------------------------------------------------------- */

static bool
begin(void *arg, struct kvmctl_trace_run *run)
{
	struct stating *s = arg;

	s->stat.target = run->session.target;
	if (kvt_stat_begin(&s->stat)) {
		if (s->form == AS_CSV)
			csv_head(s);
		return true;
	}
	kvmctl_complain("no memory");
	run->status = KVMCTL_UNREADABLE;
	return false;
}

static bool
step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct stating *s = arg;

	kvt_stat_step(&s->stat, line, op, out);
	return !s->stat.failed && (s->form != AS_CSV || !ferror(s->out.file));
}

static enum kvmctl_status
options(struct stating *s)
{
	const char *leaks = s->k->option[OPTION_leaks];
	enum kvmctl_status status = kvmctl_option_number(s->k, OPTION_every, 0, &s->stat.every);

	if (status != KVMCTL_OK)
		return status;
	if (leaks != NULL && leaks[0] != '\0' && strcmp(leaks, "folded") != 0) {
		kvmctl_complain("--leaks=%s: there is --leaks, and --leaks=folded", leaks);
		return KVMCTL_USAGE;
	}
	s->form = s->k->json ? AS_JSON : AS_TEXT;
	if (s->k->option[OPTION_csv] != NULL)
		s->form = AS_CSV;
	if (leaks != NULL && leaks[0] != '\0')
		s->form = AS_FOLDED;
	if ((s->k->json || leaks != NULL) && s->form == AS_CSV) {
		kvmctl_complain("--csv is the time line alone: leave --json and --leaks out");
		return KVMCTL_USAGE;
	}
	if (s->form == AS_CSV) {
		s->stat.sampled = csv_sample;
		s->stat.arg = s;
		s->stat.every = s->stat.every > 0 ? s->stat.every : 1;
	}
	return KVMCTL_OK;
}

static void
finish(void *arg)
{
	struct stating *s = arg;

	kvt_stat_end(&s->stat, s->k->option[OPTION_leaks] != NULL);
	if (s->form == AS_FOLDED)
		print_folded(s);
	else if (s->form == AS_JSON)
		print_json(s);
	else if (s->form == AS_TEXT)
		print_text(s);
}

enum kvmctl_status
kvmctl_trace_stat(struct kvmctl *k)
{
	struct stating s = { .k = k, .run = { .k = k, .path = k->argv[0], .begin = begin, .step = step } };
	enum kvmctl_status status = options(&s);

	s.run.arg = &s;
	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&s.out, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_trace_result(&s.run, &s.out, finish, &s.stat.failed);
	kvt_stat_free(&s.stat);
	kvt_buffer_free(&s.line);
	kvmctl_trace_run_close(&s.run);
	return status;
}
