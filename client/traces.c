/*
 * traces - making traces: from recordings, and from nothing.
 */
#include "client/commands.h"

#include "trace/gen.h"
#include "trace/import_ftrace.h"
#include "trace/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where a trace goes: --output, or standard output. */
struct output {
	const char *path; /* NULL: standard output */
	FILE *file;
	bool is_new; /* there was no such file before */
};

/* What was in the file stays until something is written: a call that fails early destroys nothing. */
static enum kvmctl_status
output_open(struct output *o, const char *path)
{
	int fd;

	*o = (struct output){ .file = stdout };
	if (path == NULL || strcmp(path, "-") == 0)
		return KVMCTL_OK;
	o->path = path;
	o->is_new = access(path, F_OK) != 0;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	o->file = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (o->file != NULL)
		return KVMCTL_OK;
	kvmctl_complain("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return KVMCTL_UNREADABLE;
}

/* End the output; "written": all of it is there. */
static enum kvmctl_status
output_close(struct output *o, bool written)
{
	bool failed = fflush(o->file) != 0 || ferror(o->file);
	struct stat st;

	if (o->path == NULL)
		return KVMCTL_OK; /* the end of the call looks at standard output */
	if (!failed && written && fstat(fileno(o->file), &st) == 0 && S_ISREG(st.st_mode))
		failed = ftruncate(fileno(o->file), ftello(o->file)) != 0;
	if (failed)
		kvmctl_complain("%s: %s", o->path, strerror(errno));
	fclose(o->file);
	if (!written && o->is_new)
		unlink(o->path);
	return failed ? KVMCTL_UNREADABLE : KVMCTL_OK;
}

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
		 ",\"areas_live\":%" PRIu64 ",\"anomalies\":%" PRIu64 ",\"kinds\":[",
		 report->lines, report->events, report->expressed, report->information, report->not_expressed,
		 report->events_lost, report->unparsed, report->ops, report->areas_live, anomalies);
	for (size_t i = 0; i < report->kinds_count; i++) {
		kvt_putf(&b, "%s{\"event\":", i > 0 ? "," : "");
		kvt_json_string(&b, report->kinds[i].name, strlen(report->kinds[i].name));
		kvt_putf(&b, ",\"use\":\"%s\",\"count\":%" PRIu64 "}", uses[report->kinds[i].use],
			 report->kinds[i].count);
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
	};
	struct kvt_import_report report;
	enum kvmctl_status status;
	char error[1024];
	struct output o;

	if (from == NULL || strcmp(from, "linux-ftrace") != 0) {
		kvmctl_complain("say what kind of recording it is: --from linux-ftrace");
		return KVMCTL_USAGE;
	}
	status = kvmctl_option_number(k, OPTION_memory, 0, &in.memory_size);
	if (status == KVMCTL_OK)
		status = output_open(&o, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	if (kvt_import_ftrace(&in, o.file, &report, error, sizeof error) != 0) {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	if (output_close(&o, status == KVMCTL_OK) != KVMCTL_OK && status == KVMCTL_OK)
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

static enum kvmctl_status
generate(struct kvmctl *k, const struct kvms_op *config)
{
	struct kvt_gen gen = { .config = config };
	enum kvmctl_status status, closed;
	char error[1024] = "";
	struct output o;

	if (k->option[OPTION_profile] != NULL) {
		gen.profile = kvt_profile_find(k->option[OPTION_profile]);
		if (gen.profile == NULL)
			return unknown_profile(k->option[OPTION_profile]);
	}
	status = kvmctl_option_number(k, OPTION_seed, 1, &gen.seed);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_steps, 1000, &gen.steps);
	if (status == KVMCTL_OK)
		status = output_open(&o, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	status = gen_status(kvt_gen(&gen, o.file, error, sizeof error));
	if (status != KVMCTL_OK)
		kvmctl_complain("%s", error);
	closed = output_close(&o, status == KVMCTL_OK || status == KVMCTL_BROKEN);
	return status != KVMCTL_OK ? status : closed;
}

enum kvmctl_status
kvmctl_trace_gen(struct kvmctl *k)
{
	return kvmctl_with_config(k, k->argc, k->argv, generate);
}
