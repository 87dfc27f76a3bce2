#include "client/trace_run.h"

#include "client/progress.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* ---- The run -------------------------------------------------------------------- */

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvmctl_trace_run *run = arg;
	const struct kvmctl_trace_store want = { .trace = run->path, .config = config, .base = base };
	struct kvmctl here = *run->k;

	if (here.option[OPTION_embedded] == NULL)
		here.option[OPTION_embedded] = "";
	run->status = kvmctl_session_open_trace(&here, &run->session, &want, why);
	if (run->status != KVMCTL_OK)
		return NULL;
	if (run->begin == NULL || run->begin(run->arg, run))
		return run->session.target;
	why->key = -1;
	snprintf(why->text, sizeof why->text, "the command cannot use it");
	return NULL;
}

static bool
on_step(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
	const struct kvms_outcome *out, uint64_t number)
{
	struct kvmctl_trace_run *run = arg;

	(void)target, (void)number;
	return run->step(run->arg, line, op, out);
}

static void
on_progress(void *arg, const struct kvt_statistics *so_far)
{
	struct kvmctl_trace_run *run = arg;

	if (!run->k->quiet && isatty(STDERR_FILENO))
		kvmctl_progress_draw(so_far);
}

static enum kvmctl_status
status_of(const struct kvmctl_trace_run *run, enum kvt_result result, const struct kvt_input *in)
{
	if (result == KVT_SYNTAX && kvt_input_error(in)[0] != '\0')
		return KVMCTL_UNREADABLE;
	if (run->status != KVMCTL_OK && result != KVT_SYNTAX)
		return run->status;
	return (enum kvmctl_status)result;
}

enum kvmctl_status
kvmctl_trace_run(struct kvmctl_trace_run *run)
{
	struct kvt_replay r = {
		.arg = run,
		.open = open_store,
		.step = on_step,
		.progress = on_progress,
		.untold = true,
		.report = stderr,
	};
	FILE *clean = kvmctl_progress_stream();
	enum kvmctl_status status;
	struct kvt_input *in;
	char error[1024];

	in = kvt_input_open(run->path, error, sizeof error);
	if (in != NULL) {
		r.report = clean != NULL ? clean : stderr;
		status = status_of(run, kvt_replay(&r, in, kvt_input_name(in)), in);
		kvt_input_close(&in);
		kvmctl_progress_clear();
	} else {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	if (clean != NULL)
		fclose(clean);
	run->statistics = r.statistics;
	if (status == KVMCTL_DIVERGED)
		kvmctl_complain("%s: %" PRIu64
				" of its lines record something else than what comes out, the first is line %" PRIu64
				"; \"kvmctl replay\" shows it",
				run->path, r.statistics.divergences, r.statistics.divergence_line);
	return status;
}

enum kvmctl_status
kvmctl_trace_result(struct kvmctl_trace_run *run, struct kvmctl_output *out, void (*finish)(void *arg),
		    const bool *failed)
{
	enum kvmctl_status status = kvmctl_trace_run(run), closed;
	bool whole = status == KVMCTL_OK || status == KVMCTL_DIVERGED;

	if (whole)
		finish(run->arg);
	if (*failed) {
		kvmctl_complain("no memory");
		status = KVMCTL_UNREADABLE;
		whole = false;
	}
	closed = kvmctl_output_close(out, whole);
	return status != KVMCTL_OK ? status : closed;
}

void
kvmctl_trace_run_close(struct kvmctl_trace_run *run)
{
	kvmctl_session_close(&run->session);
}

struct kvms *
kvmctl_trace_run_store(struct kvmctl_trace_run *run)
{
	return kvt_target_store(run->session.target);
}
