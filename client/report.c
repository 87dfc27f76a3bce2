#include "client/report.h"

#include "client/show.h"

#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

/* ---- The state ------------------------------------------------------------------ */

/* Ask a request without arguments. */
static enum kvt_status
ask(struct kvt_target *target, const char *name, struct kvms_outcome *out)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find(name));
	return target->inspect(target, &op, out);
}

static void
sum_free(struct kvmctl_report *report, const uint64_t *ranges, uint64_t count)
{
	report->free_blocks = count;
	report->free_largest = report->free_total = 0;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t size = ranges[2 * i + 1] - ranges[2 * i];

		report->free_total += size;
		if (size > report->free_largest)
			report->free_largest = size;
	}
}

enum kvt_status
kvmctl_report_state(struct kvt_target *target, struct kvmctl_report *report)
{
	struct kvms_outcome out = { 0 };
	enum kvt_status status;

	memset(report, 0, sizeof *report);
	status = ask(target, "areas", &out);
	report->areas = out.field[0];
	if (status == KVT_DONE)
		status = ask(target, "free_va", &out);
	if (status == KVT_DONE) {
		uint64_t count;
		const uint64_t *ranges = kvms_outcome_list(&out, kvms_request_find("free_va"), 0, &count);

		sum_free(report, ranges, count);
	}
	if (status == KVT_DONE)
		status = ask(target, "check", &out);
	report->laws = out.field[0];
	if (status == KVT_DONE)
		status = target->digest(target, &report->digest);
	report->has_state = status == KVT_DONE;
	kvms_outcome_free(&out);
	return status;
}

/* ---- For a person ---------------------------------------------------------------- */

static void
put_outcomes(struct kvt_buffer *b, const struct kvt_statistics *run)
{
	bool first = true;

	for (unsigned c = 0; c < KVMS_CLASSES; c++) {
		if (run->outcomes[c] == 0)
			continue;
		kvt_putf(b, "%s%s ", first ? "" : ", ", kvms_class_word(c));
		kvmctl_put_grouped(b, run->outcomes[c]);
		first = false;
	}
	if (first)
		kvt_puts(b, "none");
}

static void
line(const char *name, struct kvt_buffer *b)
{
	printf("%-13s %s\n", name, kvt_buffer_text(b));
	kvt_buffer_reset(b);
}

static void
count_line(const char *name, uint64_t value, struct kvt_buffer *b)
{
	kvmctl_put_grouped(b, value);
	line(name, b);
}

static void
print_state(const struct kvmctl_report *report, struct kvt_buffer *b)
{
	count_line("areas alive", report->areas, b);
	kvmctl_put_grouped(b, report->free_blocks);
	kvt_puts(b, report->free_blocks == 1 ? " block, " : " blocks, ");
	kvmctl_put_size(b, report->free_total);
	if (report->free_blocks > 1) {
		kvt_puts(b, ", the largest ");
		kvmctl_put_size(b, report->free_largest);
	}
	line("free va", b);
	count_line("broken laws", report->laws, b);
	kvt_print_value(b, KVMS_DIGEST, report->digest, NULL);
	line("digest", b);
}

static void
print_text(const struct kvmctl_report *report, const struct kvt_statistics *run,
	   const struct kvmctl_comparison *listing, const struct kvmctl_comparison *mappings, const char *verdict)
{
	struct kvt_buffer b = { 0 };

	kvmctl_put_rate(&b, run);
	line("ops", &b);
	put_outcomes(&b, run);
	line("outcomes", &b);
	count_line("expect lines", run->expects, &b);
	if (run->gaps > 0)
		count_line("gaps", run->gaps, &b);
	count_line("divergences", run->divergences, &b);
	if (run->stale > 0) {
		kvmctl_put_grouped(&b, run->stale);
		kvt_puts(&b, run->stale == 1 ? " entry, its" : " entries, their");
		kvt_puts(&b, " range or frame in use again before a flush");
		line("stale tlb", &b);
	}
	if (report->has_state)
		print_state(report, &b);
	if (listing->text != NULL)
		fputs(listing->text, stdout);
	if (mappings->text != NULL)
		fputs(mappings->text, stdout);
	printf("replay %s\n", verdict);
	kvt_buffer_free(&b);
}

/* ---- For a program ----------------------------------------------------------------- */

static void
json_compared(struct kvt_buffer *b, const char *name, const struct kvt_compared *c, uint64_t attributes)
{
	kvt_putf(b,
		 ",\"%s\":{\"listed\":%" PRIu64 ",\"in_store\":%" PRIu64 ",\"agree\":%" PRIu64 ",\"differ\":%" PRIu64
		 ",\"only_listed\":%" PRIu64 ",\"only_store\":%" PRIu64 ",\"unpurged\":%" PRIu64 ",\"known\":%" PRIu64
		 ",\"attributes_differ\":%" PRIu64 "}",
		 name, c->listed, c->in_store, c->agree, c->differ, c->only_listed, c->only_store, c->unpurged,
		 c->known, attributes);
}

/* The mappings, and what lies outside the areas where the store has it. */
static void
json_leaves(struct kvt_buffer *b, const struct kvt_compared_leaves *c)
{
	static const char *const names[] = { "mappings", "direct_map", "kernel_image" };

	for (int part = 0; part < KVT_LEAVES_PARTS; part++)
		if (c->compared[part])
			json_compared(b, names[part], &c->part[part], c->attributes[part]);
}

static void
json_stale(struct kvt_buffer *b, const struct kvmctl_stale *stale)
{
	kvt_puts(b, ",\"stale\":[");
	for (size_t i = 0; i < stale->count; i++) {
		const struct kvt_stale_warning *w = &stale->at[i];

		kvt_putf(b,
			 "%s{\"cpu\":%" PRIu64 ",\"va\":\"0x%" PRIx64 "\",\"paddr\":\"0x%" PRIx64
			 "\",\"reused\":\"%s\",\"stale_line\":%" PRIu64 ",\"stale_step\":%" PRIu64
			 ",\"reused_line\":%" PRIu64 ",\"reused_step\":%" PRIu64 "}",
			 i > 0 ? "," : "", w->cpu, w->va, w->paddr, w->is_frame ? "frame" : "range", w->stale.line,
			 w->stale.step, w->reused.line, w->reused.step);
	}
	kvt_putc(b, ']');
}

static void
print_json(const struct kvmctl_report *report, const struct kvt_statistics *run, const struct kvmctl_stale *stale,
	   const struct kvmctl_comparison *listing, const struct kvmctl_comparison *mappings, const char *verdict)
{
	struct kvt_buffer b = { 0 };

	kvt_putf(&b, "{\"replay\":\"%s\",\"statistics\":", verdict);
	kvt_json_statistics(&b, run);
	if (report->has_state) {
		kvt_putf(&b,
			 ",\"areas\":%" PRIu64 ",\"free_va\":{\"blocks\":%" PRIu64 ",\"bytes\":\"0x%" PRIx64
			 "\",\"largest\":\"0x%" PRIx64 "\"},\"broken_laws\":%" PRIu64 ",\"digest\":",
			 report->areas, report->free_blocks, report->free_total, report->free_largest, report->laws);
		kvt_json_value(&b, KVMS_DIGEST, report->digest, NULL);
	}
	json_stale(&b, stale);
	if (listing->done)
		json_compared(&b, "listing", &listing->result, 0);
	if (mappings->done)
		json_leaves(&b, &mappings->leaves);
	kvt_puts(&b, ",\"file\":");
	kvt_json_string(&b, report->file, strlen(report->file));
	kvt_putf(&b, ",\"divergences\":[%s]}", report->divergences);
	kvmctl_show_line(&b);
	kvt_buffer_free(&b);
}

void
kvmctl_report_print(const struct kvmctl *k, const struct kvmctl_report *report, const struct kvt_statistics *run,
		    const struct kvmctl_stale *stale, const struct kvmctl_comparison *listing,
		    const struct kvmctl_comparison *mappings, const char *verdict)
{
	if (k->json)
		print_json(report, run, stale, listing, mappings, verdict);
	else if (!k->quiet || strcmp(verdict, "passed") != 0)
		print_text(report, run, listing, mappings, verdict);
}
