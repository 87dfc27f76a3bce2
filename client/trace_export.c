/*
 * trace_export - a trace in forms that other programs read.
 */
#include "client/commands.h"
#include "client/show.h"
#include "client/trace_run.h"

#include "trace/export.h"

#include <inttypes.h>

struct exporting {
	struct kvmctl *k;
	struct kvmctl_trace_run run;
	struct kvmctl_output out;
	struct kvt_export form;
};

static bool
begin(void *arg, struct kvmctl_trace_run *run)
{
	struct exporting *e = arg;

	e->form.target = run->session.target;
	if (kvt_export_begin(&e->form))
		return true;
	kvmctl_complain("no memory");
	run->status = KVMCTL_UNREADABLE;
	return false;
}

static bool
step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct exporting *e = arg;

	return kvt_export_step(&e->form, line, op, out);
}

static enum kvmctl_status
options(struct exporting *e)
{
	const char *const *option = e->k->option;
	enum kvmctl_status status;

	if ((option[OPTION_chrome] != NULL) + (option[OPTION_itf] != NULL) + (option[OPTION_csv] != NULL) != 1) {
		kvmctl_complain("say which form: one of --chrome, --itf and --csv");
		return KVMCTL_USAGE;
	}
	e->form.form = option[OPTION_chrome] != NULL ? KVT_CHROME : option[OPTION_itf] != NULL ? KVT_ITF : KVT_CSV;
	status = kvmctl_option_number(e->k, OPTION_from, 1, &e->form.from);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(e->k, OPTION_to, UINT64_MAX, &e->form.to);
	if (status != KVMCTL_OK)
		return status;
	e->form.from = e->form.from > 0 ? e->form.from : 1;
	if (e->form.from <= e->form.to)
		return KVMCTL_OK;
	kvmctl_complain("--from %" PRIu64 " is behind --to %" PRIu64, e->form.from, e->form.to);
	return KVMCTL_USAGE;
}

/* What became of it, on standard error: standard output may hold the document. */
static void
tell(struct exporting *e)
{
	struct kvt_buffer b = { 0 };

	if (e->k->json) {
		kvt_putf(&b, "{\"steps_written\":%" PRIu64 ",\"statistics\":", e->form.written);
		kvt_json_statistics(&b, &e->run.statistics);
		kvt_putc(&b, '}');
	} else {
		kvt_putf(&b, "%" PRIu64 " operations written; ran ", e->form.written);
		kvmctl_put_rate(&b, &e->run.statistics);
	}
	fprintf(stderr, "%s\n", kvt_buffer_text(&b));
	kvt_buffer_free(&b);
}

static void
finish(void *arg)
{
	struct exporting *e = arg;

	kvt_export_end(&e->form);
}

enum kvmctl_status
kvmctl_trace_export(struct kvmctl *k)
{
	struct exporting e = { .k = k, .run = { .k = k, .path = k->argv[0], .begin = begin, .step = step } };
	enum kvmctl_status status = options(&e);

	e.run.arg = &e;
	if (status == KVMCTL_OK)
		status = kvmctl_output_open(&e.out, k->option[OPTION_output]);
	if (status != KVMCTL_OK)
		return status;
	e.form.out = e.out.file;
	e.form.source = e.run.path;
	status = kvmctl_trace_result(&e.run, &e.out, finish, &e.form.failed);
	if (status == KVMCTL_OK && (k->json || !k->quiet))
		tell(&e);
	kvt_export_free(&e.form);
	kvmctl_trace_run_close(&e.run);
	return status;
}
