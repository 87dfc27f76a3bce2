/*
 * import_strace - "trace import --from strace".
 */
#include "client/commands.h"
#include "client/output.h"

#include "trace/import_strace.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

/* The report as one JSON object on standard error: standard output may hold the trace. */
static void
json_report(const struct kvt_strace_report *r)
{
	static const char *const uses[] = { "expressed", "information", "not_expressed" };
	struct kvt_buffer b = { 0 };

	kvt_putf(&b,
		 "{\"lines\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"expressed\":%" PRIu64 ",\"information\":%" PRIu64
		 ",\"not_expressed\":%" PRIu64 ",\"signals\":%" PRIu64 ",\"ends\":%" PRIu64 ",\"other_lines\":%" PRIu64
		 ",\"unparsed\":%" PRIu64 ",\"ops\":%" PRIu64 ",\"processes\":%" PRIu64 ",\"spaces\":%" PRIu64
		 ",\"spaces_live\":%" PRIu64 ",\"pages_mapped\":%" PRIu64 ",\"pages_peak\":%" PRIu64
		 ",\"pages_left_out\":%" PRIu64 ",\"kinds\":[",
		 r->lines, r->calls, r->expressed, r->information, r->not_expressed, r->signals, r->ends,
		 r->other_lines, r->unparsed, r->ops, r->processes, r->spaces, r->spaces_live, r->pages_mapped,
		 r->pages_peak, r->pages_left_out);
	for (size_t i = 0; i < r->kinds_count; i++) {
		kvt_putf(&b, "%s{\"call\":", i > 0 ? "," : "");
		kvt_json_string(&b, r->kinds[i].name, strlen(r->kinds[i].name));
		kvt_putf(&b, ",\"use\":\"%s\",\"count\":%" PRIu64 "}", uses[r->kinds[i].use], r->kinds[i].count);
	}
	kvt_puts(&b, "],\"anomalies\":[");
	for (unsigned i = 0, told = 0; i < KVT_STRACE_ANOMALY_KINDS; i++) {
		if (r->anomalies_count[i] == 0)
			continue;
		kvt_putf(&b, "%s{\"anomaly\":\"%s\",\"count\":%" PRIu64 "}", told++ > 0 ? "," : "",
			 kvt_strace_anomaly_text((enum kvt_strace_anomaly_kind)i), r->anomalies_count[i]);
	}
	kvt_puts(&b, "],\"found\":[");
	for (size_t i = 0; i < r->anomalies_kept; i++) {
		const struct kvt_strace_anomaly *a = &r->anomalies[i];

		kvt_putf(&b,
			 "%s{\"anomaly\":\"%s\",\"line\":%" PRIu64 ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64
			 "\"}",
			 i > 0 ? "," : "", kvt_strace_anomaly_text(a->kind), a->line, a->start, a->end);
	}
	kvt_puts(&b, "]}");
	fprintf(stderr, "%s\n", kvt_buffer_text(&b));
	kvt_buffer_free(&b);
}

static enum kvmctl_status
import(struct kvmctl *k, struct kvt_strace *from)
{
	struct kvt_strace_report report;
	struct kvmctl_output o;
	char error[1024];

	enum kvmctl_status status = kvmctl_output_open(&o, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	if (kvt_import_strace(from, o.file, &report, error, sizeof error) != 0) {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	enum kvmctl_status closed = kvmctl_output_close(&o, status == KVMCTL_OK);
	status = status == KVMCTL_OK ? closed : status;
	if (status == KVMCTL_OK && k->json)
		json_report(&report);
	else if (status == KVMCTL_OK && !k->quiet)
		kvt_strace_report_print(&report, k->argv[0], stderr);
	return status;
}

enum kvmctl_status
kvmctl_import_strace(struct kvmctl *k)
{
	struct kvt_strace from = { .strict = k->option[OPTION_strict] != NULL };
	const char *maps = k->option[OPTION_mappings_before];
	char error[1024];

	if (k->option[OPTION_areas_before] != NULL || k->option[OPTION_memory] != NULL) {
		kvmctl_complain("--areas-before and --memory are for recordings of a kernel");
		return KVMCTL_USAGE;
	}
	enum kvmctl_status status = kvmctl_option_number(k, OPTION_populate, 0, &from.populate);
	if (status != KVMCTL_OK)
		return status;
	if (k->option[OPTION_populate] != NULL && from.populate == 0) {
		kvmctl_complain("--populate 0: at least one page");
		return KVMCTL_USAGE;
	}
	from.in = kvt_input_open(k->argv[0], error, sizeof error);
	if (from.in != NULL && maps != NULL)
		from.maps_before = kvt_input_open(maps, error, sizeof error);
	if (from.in == NULL || (maps != NULL && from.maps_before == NULL)) {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	} else {
		status = import(k, &from);
	}
	kvt_input_close(&from.in);
	kvt_input_close(&from.maps_before);
	return status;
}
