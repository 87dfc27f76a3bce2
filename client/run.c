/*
 * run - the operations of a trace on a store, printed with what came of them.
 */
#include "client/commands.h"
#include "client/session.h"
#include "client/show.h"

/*
 * The target that the run sees: passes everything on and watches outcomes.
 * With --json it prints them, in place of the trace.
 */
struct watched {
	struct kvt_target target; /* first, so that one is the other */
	struct kvmctl *k;
	struct kvmctl_session session;
	enum kvmctl_status status; /* why there is no store */
	struct kvt_replay replay;
	FILE *nowhere;
	bool not_ok;
	bool stopped; /* by --strict */
};

static struct watched *
watched_of(struct kvt_target *t)
{
	return (struct watched *)t;
}

static struct kvt_target *
inner(struct kvt_target *t)
{
	return watched_of(t)->session.target;
}

static enum kvt_status
watched_apply(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	struct watched *w = watched_of(t);
	enum kvt_status status;

	if (w->not_ok && w->k->option[OPTION_strict] != NULL) {
		/* ends the run; what it has to say about a target that fails is beside the point */
		w->stopped = true;
		w->replay.report = w->nowhere;
		return KVT_LOST;
	}
	status = inner(t)->apply(inner(t), op, out);
	if (status != KVT_DONE)
		return status;
	if (w->k->json)
		kvmctl_show_outcome(w->k, kvms_op_row(op->code), false, op, out);
	w->not_ok |= out->name != 0;
	return KVT_DONE;
}

static enum kvt_status
watched_inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	return inner(t)->inspect(inner(t), request, out);
}

static enum kvt_status
watched_digest(struct kvt_target *t, uint64_t *digest)
{
	return inner(t)->digest(inner(t), digest);
}

static enum kvt_status
watched_steps(struct kvt_target *t, uint64_t *steps)
{
	return inner(t)->steps(inner(t), steps);
}

static enum kvt_status
watched_set_check(struct kvt_target *t, enum kvms_check check, uint64_t every)
{
	return inner(t)->set_check(inner(t), check, every);
}

static enum kvt_status
watched_config(struct kvt_target *t, const struct kvms_op **config)
{
	return inner(t)->config(inner(t), config);
}

static enum kvt_status
watched_extents(struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last, kvms_extent_visitor *visit,
		void *arg)
{
	return inner(t)->extents(inner(t), table, first, last, visit, arg);
}

static const char *
watched_error(struct kvt_target *t)
{
	return inner(t)->error(inner(t));
}

static void
watched_close(struct kvt_target *t)
{
	(void)t; /* not made by allocation; kvmctl_run() ends it */
}

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct watched *w = arg;
	const struct kvmctl_trace_store want = {
		.trace = w->k->argv[0],
		.name = kvmctl_store_name(w->k),
		.config = config,
		.base = base,
		.given_only = true,
	};

	w->status = kvmctl_session_open_trace(w->k, &w->session, &want, why);
	return w->status == KVMCTL_OK ? &w->target : NULL;
}

static enum kvmctl_status
status_of(const struct watched *w, enum kvt_result result, const struct kvt_input *in)
{
	bool strict = w->k->option[OPTION_strict] != NULL;

	if (w->status != KVMCTL_OK)
		return w->status;
	if (result == KVT_SYNTAX && (kvt_input_error(in)[0] != '\0' || ferror(w->replay.print)))
		return KVMCTL_UNREADABLE;
	if (result != KVT_PASSED && !w->stopped)
		return (enum kvmctl_status)result;
	return w->not_ok && strict ? KVMCTL_NOT_OK : KVMCTL_OK;
}

static enum kvmctl_status
run_input(struct watched *w, struct kvt_input *in)
{
	enum kvmctl_status status;
	enum kvt_result result;

	w->replay = (struct kvt_replay){ .arg = w, .open = open_store, .keep_going = true, .report = stderr };
	w->replay.print = w->k->json ? w->nowhere : stdout;
	result = kvt_replay(&w->replay, in, kvt_input_name(in));
	status = status_of(w, result, in);
	if (w->stopped)
		kvmctl_complain("stopped behind the first operation that was not ok (--strict)");
	if (w->k->option[OPTION_keep] != NULL && w->session.target != NULL) {
		enum kvmctl_status saved = kvmctl_session_save(w->k, &w->session, w->k->option[OPTION_keep]);

		if (saved != KVMCTL_OK)
			kvmctl_complain("%s", w->session.error);
		status = status == KVMCTL_OK ? saved : status;
	}
	return status;
}

enum kvmctl_status
kvmctl_run(struct kvmctl *k)
{
	struct watched w = {
		.target = {
			.apply = watched_apply,
			.inspect = watched_inspect,
			.digest = watched_digest,
			.steps = watched_steps,
			.set_check = watched_set_check,
			.config = watched_config,
			.extents = watched_extents,
			.error = watched_error,
			.close = watched_close,
		},
		.k = k,
	};
	struct kvt_input *in;
	enum kvmctl_status status;
	char error[1024];

	if (k->option[OPTION_keep] != NULL && k->option[OPTION_embedded] == NULL) {
		kvmctl_complain(
		    "--keep goes with --embedded here; a daemon's store is kept anyway (\"kvmctl snapshot save\")");
		return KVMCTL_USAGE;
	}
	in = kvt_input_open(k->argv[0], error, sizeof error);
	if (in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	w.nowhere = fopen("/dev/null", "w");
	if (w.nowhere == NULL) {
		kvmctl_complain("cannot open /dev/null");
		kvt_input_close(&in);
		return KVMCTL_UNREADABLE;
	}
	status = run_input(&w, in);
	kvt_input_close(&in);
	kvmctl_session_close(&w.session);
	fclose(w.nowhere);
	return status;
}
