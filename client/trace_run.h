/*
 * trace_run - what the commands on traces share: a trace run step by step on a
 * store of its own in this process.
 */
#ifndef KVMCTL_TRACE_RUN_H
#define KVMCTL_TRACE_RUN_H

#include "client/output.h"
#include "client/session.h"
#include "trace/replay.h"

/* Zero-initialise, set the first members; kvmctl_trace_run_close() ends it. */
struct kvmctl_trace_run {
	struct kvmctl *k;
	const char *path; /* "-" is standard input */
	void *arg;
	/* The store is there.  False ends the run; "status" is set then, and why has been said. */
	bool (*begin)(void *arg, struct kvmctl_trace_run *run);
	bool (*step)(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out);

	struct kvmctl_session session; /* its store; stays open behind the run */
	struct kvt_statistics statistics;
	enum kvmctl_status status; /* of what is not the trace's own */
};

/*
 * Run it to its end.  Outcomes that differ from what the trace records are
 * counted, and told in one sentence; they end nothing.
 *
 * => gives KVMCTL_OK or KVMCTL_DIVERGED: all of the trace has run
 * => fails with any other status, having said why
 */
enum kvmctl_status kvmctl_trace_run(struct kvmctl_trace_run *run);
void kvmctl_trace_run_close(struct kvmctl_trace_run *run);

/*
 * The whole of a command whose result is one document: run, have it finished,
 * close where it went.  "finish" is called with run->arg if all of the trace has run.
 *
 * => out: open; it is closed, and kept only if the document is whole
 * => failed: looked at behind "finish"; true = memory ran out
 * => gives the status of the command, having said why
 */
enum kvmctl_status kvmctl_trace_result(struct kvmctl_trace_run *run, struct kvmctl_output *out,
				       void (*finish)(void *arg), const bool *failed);

/* The store of the run. */
struct kvms *kvmctl_trace_run_store(struct kvmctl_trace_run *run);

#endif /* KVMCTL_TRACE_RUN_H */
