/*
 * traces - making traces: from recordings, and from nothing.
 */
#include "client/commands.h"
#include "client/output.h"

#include "trace/gen.h"
#include "trace/import_ftrace.h"
#include "trace/text.h"
#include "trace/workload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The report as one JSON object on standard error: standard output may hold the trace. */
static void
json_report(const struct kvt_import_report *report)
{
	static const char *const uses[] = { "expressed", "information", "not_expressed" };
	struct kvt_buffer b = { 0 };
	uint64_t anomalies = 0;

	for (unsigned i = 0; i < KVT_IMPORT_ANOMALY_KINDS; i++)
		anomalies += report->anomalies_count[i];
	kvt_putf(&b,
		 "{\"lines\":%" PRIu64 ",\"events\":%" PRIu64 ",\"expressed\":%" PRIu64 ",\"information\":%" PRIu64
		 ",\"not_expressed\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"unparsed\":%" PRIu64 ",\"ops\":%" PRIu64
		 ",\"areas_live\":%" PRIu64 ",\"leaves_older\":%" PRIu64 ",\"leaves_direct\":%" PRIu64
		 ",\"leaves_image\":%" PRIu64 ",\"anomalies\":%" PRIu64 ",\"kinds\":[",
		 report->lines, report->events, report->expressed, report->information, report->not_expressed,
		 report->events_lost, report->unparsed, report->ops, report->areas_live, report->leaves_older,
		 report->leaves_direct, report->leaves_image, anomalies);
	for (size_t i = 0; i < report->kinds_count; i++) {
		kvt_putf(&b, "%s{\"event\":", i > 0 ? "," : "");
		kvt_json_string(&b, report->kinds[i].name, strlen(report->kinds[i].name));
		kvt_putf(&b, ",\"use\":\"%s\",\"count\":%" PRIu64 "}", uses[report->kinds[i].use],
			 report->kinds[i].count);
	}
	kvt_puts(&b, "],\"found\":[");
	for (size_t i = 0; i < report->anomalies_kept; i++) {
		const struct kvt_import_anomaly *a = &report->anomalies[i];
		const char *file = report->file[kvt_import_anomaly_file(a->kind)];

		kvt_putf(&b, "%s{\"anomaly\":\"%s\",\"file\":", i > 0 ? "," : "", kvt_import_anomaly_text(a->kind));
		kvt_json_string(&b, file, strlen(file));
		kvt_putf(&b, ",\"line\":%" PRIu64 ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"}", a->line,
			 a->start, a->end);
	}
	kvt_puts(&b, "]}");
	fprintf(stderr, "%s\n", kvt_buffer_text(&b));
	kvt_buffer_free(&b);
}

enum kvmctl_status
kvmctl_trace_import(struct kvmctl *k)
{
	const char *from = k->option[OPTION_from];
	struct kvt_import in = {
		.path = k->argv[0],
		.areas_before = k->option[OPTION_areas_before],
		.mappings_before = k->option[OPTION_mappings_before],
		.strict = k->option[OPTION_strict] != NULL,
	};
	struct kvt_import_report report;
	enum kvmctl_status status;
	char error[1024];
	struct kvmctl_output o;

	if (from != NULL && strcmp(from, "strace") == 0)
		return kvmctl_import_strace(k);
	if (from == NULL || strcmp(from, "linux-ftrace") != 0) {
		kvmctl_complain("say what kind of recording it is: --from linux-ftrace or strace");
		return KVMCTL_USAGE;
	}
	status = kvmctl_option_number(k, OPTION_memory, 0, &in.memory_size);
	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&o, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	if (kvt_import_ftrace(&in, o.file, &report, error, sizeof error) != 0) {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	if (kvmctl_output_close(&o, status == KVMCTL_OK) != KVMCTL_OK && status == KVMCTL_OK)
		status = KVMCTL_UNREADABLE;
	if (status == KVMCTL_OK && k->json)
		json_report(&report);
	else if (status == KVMCTL_OK && !k->quiet)
		kvt_import_report_print(&report, stderr);
	kvt_import_report_free(&report);
	return status;
}

/* The exit status for what kvt_gen() gives. */
static enum kvmctl_status
gen_status(int result)
{
	switch (result) {
	case 0:
		return KVMCTL_OK;
	case 2:
		return KVMCTL_USAGE;
	case 5:
		return KVMCTL_BROKEN;
	default:
		return KVMCTL_UNREADABLE;
	}
}

static enum kvmctl_status
unknown_profile(const char *name)
{
	char names[256] = "";

	for (unsigned i = 0; kvt_profile_at(i) != NULL; i++) {
		size_t size = strlen(names);

		snprintf(names + size, sizeof names - size, "%s%s", i > 0 ? ", " : "", kvt_profile_at(i)->name);
	}
	kvmctl_complain("no profile \"%s\": there are %s", name, names);
	return KVMCTL_USAGE;
}

/* A number from an option, in a range. */
static enum kvmctl_status
small_number(const struct kvmctl *k, enum kvmctl_option option, uint64_t fallback, uint64_t low, uint64_t high,
	     unsigned *value)
{
	uint64_t number;
	enum kvmctl_status status = kvmctl_option_number(k, option, fallback, &number);

	if (status == KVMCTL_OK && (number < low || number > high)) {
		kvmctl_complain("--%s: from %" PRIu64 " to %" PRIu64, kvmctl_option_row(option)->name, low, high);
		status = KVMCTL_USAGE;
	}
	*value = (unsigned)number;
	return status;
}

static void
tell_missing(void *arg, const struct kvms_row *row, unsigned name)
{
	const char *cause = kvms_outcome_cause(name);
	const struct kvmctl *k = arg;

	if (k->json)
		fprintf(stderr, "{\"op\":\"%s\",\"class\":\"%s\",\"name\":\"%s\",\"cause\":\"%s\"}\n", row->name,
			kvms_class_word(kvms_outcome_class(name)), kvms_outcome_name(name), cause != NULL ? cause : "");
	else if (!k->quiet)
		fprintf(stderr, "not reached: %s %s%s%s%s%s\n", row->name, kvms_class_word(kvms_outcome_class(name)),
			name != 0 ? " " : "", kvms_outcome_name(name), cause != NULL ? " cause=" : "",
			cause != NULL ? cause : "");
}

static enum kvmctl_status
read_options(struct kvmctl *k, struct kvt_gen *gen)
{
	enum kvmctl_status status = kvmctl_option_number(k, OPTION_seed, 1, &gen->seed);

	if (k->option[OPTION_profile] != NULL) {
		gen->profile = kvt_profile_find(k->option[OPTION_profile]);
		if (gen->profile == NULL)
			return unknown_profile(k->option[OPTION_profile]);
	}
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_steps, 1000, &gen->steps);
	if (status == KVMCTL_OK)
		status = small_number(k, OPTION_clients, 1, 1, KVT_CLIENTS_MAX, &gen->options.clients);
	if (status == KVMCTL_OK)
		status = small_number(k, OPTION_illegal, 25, 0, 100, &gen->options.illegal);
	gen->options.has_illegal = k->option[OPTION_illegal] != NULL;
	gen->until_covered = gen->options.cover = k->option[OPTION_until_covered] != NULL;
	return status;
}

static enum kvmctl_status
generate(struct kvmctl *k, const struct kvms_op *config)
{
	struct kvt_gen gen = { .config = config, .arg = k };
	enum kvmctl_status status = read_options(k, &gen), closed;
	char error[1024] = "";
	struct kvmctl_output o;

	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&o, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	gen.missing = gen.until_covered ? tell_missing : NULL;
	status = gen_status(kvt_gen(&gen, o.file, error, sizeof error));
	if (status != KVMCTL_OK)
		kvmctl_complain("%s", error);
	closed = kvmctl_output_close(&o, status == KVMCTL_OK || status == KVMCTL_BROKEN);
	if (status != KVMCTL_OK || closed != KVMCTL_OK || !gen.until_covered)
		return status != KVMCTL_OK ? status : closed;
	if (k->json)
		fprintf(stderr, "{\"reached\":%u,\"outcomes\":%u,\"ops\":%" PRIu64 "}\n", gen.cells - gen.cells_missing,
			gen.cells, gen.made);
	else if (!k->quiet)
		fprintf(stderr, "%u of %u outcomes reached in %" PRIu64 " operations\n", gen.cells - gen.cells_missing,
			gen.cells, gen.made);
	return gen.cells_missing > 0 ? KVMCTL_NOT_OK : KVMCTL_OK;
}

enum kvmctl_status
kvmctl_trace_gen(struct kvmctl *k)
{
	char arch[KVMCTL_SHOWN + 8];
	enum kvmctl_status status;
	char **words;

	if (k->option[OPTION_arch] == NULL)
		return kvmctl_with_config(k, k->argc, k->argv, generate);
	words = calloc((size_t)k->argc + 1, sizeof *words);
	if (words == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	snprintf(arch, sizeof arch, "arch=%.*s", KVMCTL_SHOWN, k->option[OPTION_arch]);
	if (k->argc > 0)
		memcpy(words + 1, k->argv, (size_t)k->argc * sizeof *words);
	words[0] = arch;
	status = kvmctl_with_config(k, k->argc + 1, words, generate);
	free(words);
	return status;
}
