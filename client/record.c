/*
 * record - the steps of a store as a trace: those of the past, and those to
 * come as they happen.
 *
 * The recorder has a store of its own in which it repeats every step, so that
 * it can tell the digest at the end whenever that is.
 */
#include "client/commands.h"
#include "client/history.h"
#include "client/progress.h"
#include "client/tracefile.h"

#include "persist/snapshot.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_NANOSECONDS 200000000L

struct recording {
	struct kvmctl *k;
	struct kvmctl_history h;
	struct kvmctl_tracefile to;
	struct kvms *s; /* the state behind the last step recorded */
	struct kvms_outcome out;
	uint64_t last; /* step recorded, or left out, last */
	uint64_t total;
	struct kvt_buffer line;
	bool ended; /* by a step that no trace can have */
};

static volatile sig_atomic_t interrupted;

static void
interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static enum kvmctl_status
no_memory(void)
{
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

/* Write the line in the buffer, and empty it. */
static enum kvmctl_status
put_line(struct recording *r)
{
	enum kvmctl_status status =
	    r->line.failed ? no_memory() : kvmctl_tracefile_text(&r->to, kvt_buffer_text(&r->line), r->line.size);

	kvt_buffer_reset(&r->line);
	return status;
}

/* ---- The beginning ------------------------------------------------------------------ */

/* The state in front of the first step, in a file beside the trace. */
static enum kvmctl_status
put_base(struct recording *r)
{
	struct kvt_buffer path = { 0 };
	enum kvmctl_status status = KVMCTL_OK;
	const char *name;

	kvt_putf(&r->line, "base digest=0x%016" PRIx64, kvms_digest(r->s));
	if (r->to.path != NULL) {
		kvt_puts(&path, r->to.path);
		kvt_puts(&path, ".base.db");
		name = strrchr(kvt_buffer_text(&path), '/');
		name = name != NULL ? name + 1 : kvt_buffer_text(&path);
		kvt_puts(&r->line, " snapshot=\"");
		for (; *name != '\0'; name++) {
			if (*name == '"' || *name == '\\')
				kvt_putc(&r->line, '\\');
			kvt_putc(&r->line, *name);
		}
		kvt_putc(&r->line, '"');
		if (path.failed || persist_file_save(kvt_buffer_text(&path), kvmctl_store_name(r->k), r->s, NULL,
						     r->h.why, sizeof r->h.why) != PERSIST_OK)
			status = path.failed ? no_memory() : kvmctl_history_fail(&r->h);
		kvt_buffer_free(&path);
	}
	return status == KVMCTL_OK ? put_line(r) : status;
}

static enum kvmctl_status
put_head(struct recording *r)
{
	struct kvms_refusal why;
	struct kvms *fresh = kvms_new(kvms_config(r->s), &why);
	enum kvmctl_status status;
	bool is_fresh;

	if (fresh == NULL)
		return no_memory();
	is_fresh = kvms_digest(fresh) == kvms_digest(r->s);
	kvms_free(&fresh);
	kvt_puts(&r->line, "kvmtrace 1");
	status = put_line(r);
	kvt_print_store(&r->line, kvms_config(r->s));
	if (status == KVMCTL_OK)
		status = put_line(r);
	return status == KVMCTL_OK && !is_fresh ? put_base(r) : status;
}

/* ---- Steps --------------------------------------------------------------------------- */

static enum kvmctl_status
put_step(struct recording *r, const struct persist_step *step)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);

	if (kvms_apply(r->s, step->op, &r->out) != KVMS_DONE || r->out.name != step->out->name) {
		kvmctl_complain("step %" PRIu64 ": the model disagrees with the journal", step->number);
		return KVMCTL_UNREADABLE;
	}
	kvt_print_op(&r->line, row, step->op);
	kvt_putf(&r->line, " @step=%" PRIu64 " @connection=%" PRIu64 " @t=%" PRIu64 " -> ", step->number,
		 step->connection, step->time * 1000);
	kvt_print_outcome(&r->line, row, step->out);
	return put_line(r);
}

/* Record the steps from .. to.  One among them that puts a state back ends the recording. */
static enum kvmctl_status
put_steps(struct recording *r, uint64_t from, uint64_t to)
{
	struct persist_travel *t = NULL;
	struct persist_step step;
	enum kvmctl_status status;
	bool more = true;

	if (from > to)
		return KVMCTL_OK;
	status = kvmctl_history_travel(&r->h, from - 1, to, false, &t);
	while (status == KVMCTL_OK && !r->ended) {
		status = kvmctl_history_next(&r->h, t, &step, &more);
		if (status != KVMCTL_OK || !more)
			break;
		if (step.op == NULL) {
			kvmctl_complain("the trace ends here: step %" PRIu64 " put back the state behind step %" PRIu64
					", which is no operation; go on with --from %" PRIu64,
					step.number, step.restored, step.number + 1);
			r->ended = true;
			break;
		}
		status = put_step(r, &step);
		r->last = step.number;
		if (r->to.ops % 256 == 0)
			kvmctl_history_progress(&r->h, r->to.ops, r->total);
	}
	persist_travel_free(&t);
	return status;
}

/* What led to the state behind "to": steps that were undone are left out. */
static enum kvmctl_status
put_past(struct recording *r, uint64_t from, uint64_t to)
{
	struct kvmctl_stretches all = { .at = NULL };
	enum kvmctl_status status = KVMCTL_OK;

	if (from <= to)
		status = kvmctl_history_stretches(&r->h, from, to, &all);
	for (size_t i = 0; i < all.count; i++)
		r->total += all.at[i].to + 1 - all.at[i].from;
	if (status == KVMCTL_OK)
		status = kvmctl_history_rebuild(&r->h, from - 1, &r->s);
	if (status == KVMCTL_OK) {
		kvms_set_check(r->s, KVMS_CHECK_OFF, 0);
		status = put_head(r);
	}
	for (size_t i = all.count; i-- > 0 && status == KVMCTL_OK;)
		status = put_steps(r, all.at[i].from, all.at[i].to);
	r->last = to;
	kvmctl_progress_clear();
	free(all.at);
	return status;
}

/* ---- Live ---------------------------------------------------------------------------------- */

/* Steps as they happen, until a signal, --to, or the end of the daemon. */
static enum kvmctl_status
follow(struct recording *r, uint64_t to)
{
	const struct timespec pause = { 0, POLL_NANOSECONDS };
	enum kvmctl_status status = kvmctl_tracefile_flush(&r->to);

	while (status == KVMCTL_OK && !interrupted && !r->ended && r->last < to) {
		uint64_t before = r->last;

		kvmctl_history_close(&r->h);
		r->h = (struct kvmctl_history){ .k = NULL };
		status = kvmctl_history_open(r->k, &r->h);
		r->h.progress = false;
		if (status == KVMCTL_OK && r->h.is.latest < r->last) {
			kvmctl_complain("the trace ends here: store \"%s\" has begun anew, its last step is %" PRIu64,
					r->h.store, r->h.is.latest);
			r->ended = true;
		}
		if (status == KVMCTL_OK && r->h.is.has_journal && r->h.is.last > r->last)
			status = put_steps(r, r->last + 1, r->h.is.last < to ? r->h.is.last : to);
		if (status == KVMCTL_OK && r->last > before)
			status = kvmctl_tracefile_flush(&r->to);
		else if (status == KVMCTL_OK && !interrupted)
			nanosleep(&pause, NULL);
	}
	return status;
}

static void
catch_signals(void)
{
	struct sigaction action = { .sa_handler = interrupt };

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* ---- The command ----------------------------------------------------------------------------- */

/* The first step, and the last of those that are past, or that will be. */
static enum kvmctl_status
find_range(struct recording *r, bool live, uint64_t *from, uint64_t *to)
{
	const char *given = r->k->option[OPTION_to];
	struct kvmctl asked = *r->k;
	enum kvmctl_status status;

	status = kvmctl_history_recorded(&r->h);
	if (status != KVMCTL_OK)
		return status;
	*from = r->h.is.latest + 1;
	*to = UINT64_MAX;
	if (!live)
		return kvmctl_history_range(&r->h, r->h.is.first, r->h.is.last, from, to);
	if (given != NULL && strncmp(given, "last", 4) == 0) {
		kvmctl_complain("--to %s: a live recording goes beyond the last step: give a number", given);
		return KVMCTL_USAGE;
	}
	status = kvmctl_option_number(r->k, OPTION_to, UINT64_MAX, to);
	if (status == KVMCTL_OK && r->k->option[OPTION_from] == NULL && *to < *from) {
		kvmctl_complain("--to %" PRIu64 ": that step has passed; say with --from where to begin", *to);
		return KVMCTL_USAGE;
	}
	if (status != KVMCTL_OK || r->k->option[OPTION_from] == NULL)
		return status;
	asked.option[OPTION_to] = NULL;
	r->h.k = &asked;
	uint64_t last;
	status = kvmctl_history_range(&r->h, r->h.is.first, r->h.is.last, from, &last);
	r->h.k = r->k;
	if (status == KVMCTL_OK && *to < *from) {
		kvmctl_complain("--from %" PRIu64 " --to %" PRIu64 ": no step lies between them", *from, *to);
		return KVMCTL_USAGE;
	}
	return status;
}

static enum kvmctl_status
record(struct recording *r)
{
	bool live = r->k->option[OPTION_live] != NULL;
	const char *path = r->k->option[OPTION_output];
	bool binary = r->k->option[OPTION_binary] != NULL || (path != NULL && kvmctl_is_binary_name(path));
	enum kvmctl_status status, ended;
	uint64_t from, to, past;
	bool begun;

	status = find_range(r, live, &from, &to);
	if (status == KVMCTL_OK)
		status = kvmctl_tracefile_open(&r->to, path, binary);
	if (status != KVMCTL_OK)
		return status;
	past = to < r->h.is.latest ? to : r->h.is.latest;
	status = put_past(r, from, past > from - 1 ? past : from - 1);
	begun = status == KVMCTL_OK;
	if (begun && live)
		status = follow(r, to);
	/* what was recorded before something went wrong is a trace */
	if (begun) {
		kvt_putf(&r->line, "expect digest=0x%016" PRIx64, kvms_digest(r->s));
		ended = put_line(r);
		status = status == KVMCTL_OK ? ended : status;
	}
	ended = kvmctl_tracefile_close(&r->to, begun);
	return status == KVMCTL_OK ? ended : status;
}

enum kvmctl_status
kvmctl_trace_record(struct kvmctl *k)
{
	struct recording r = { .k = k };
	enum kvmctl_status status;

	if (k->option[OPTION_live] != NULL)
		catch_signals();
	status = kvmctl_history_open(k, &r.h);
	if (status == KVMCTL_OK)
		status = record(&r);
	kvmctl_history_close(&r.h);
	if (r.to.path != NULL && k->json && status == KVMCTL_OK)
		printf("{\"lines\":%" PRIu64 ",\"ops\":%" PRIu64 "}\n", r.to.lines, r.to.ops);
	kvms_free(&r.s);
	kvms_outcome_free(&r.out);
	kvt_buffer_free(&r.line);
	return status;
}
