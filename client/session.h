/*
 * session - the store a call works on: in a daemon, or in this process.
 *
 * Functions that fail give an exit status and leave one or two sentences in
 * "error" of the session, without a full stop at the end.
 */
#ifndef KVMCTL_SESSION_H
#define KVMCTL_SESSION_H

#include "client/connection.h"
#include "client/kvmctl.h"
#include "trace/replay.h"
#include "trace/target.h"

/* Zero-initialise before first use; kvmctl_session_close() ends it. */
struct kvmctl_session {
	struct kvmctl_connection *connection; /* NULL: the store is in this process */
	struct kvt_target *target;            /* NULL: no store chosen yet */
	bool borrowed;                        /* it is the shell's: closing lets go of it */
	char error[1200];
};

/*
 * Open the store that the options of the call name: a daemon's, a fresh one
 * with the default configuration, or one loaded from a snapshot file.  Turns
 * the dial of --check if the option was given.
 *
 * => fails with a status, having said why; there is nothing to close then
 */
enum kvmctl_status kvmctl_session_open(const struct kvmctl *k, struct kvmctl_session *s);

/* Connect to the daemon; "store" as the store to work on. */
enum kvmctl_status kvmctl_session_connect(const struct kvmctl *k, struct kvmctl_session *s, const char *store);

/* Work on "store" from here on.  It is the session's, also after failure. */
enum kvmctl_status kvmctl_session_embed(const struct kvmctl *k, struct kvmctl_session *s, struct kvms *store);

/* Work on the store saved in the snapshot file "path". */
enum kvmctl_status kvmctl_session_load(const struct kvmctl *k, struct kvmctl_session *s, const char *path);

/* Save the store of this process to the snapshot file "path". */
enum kvmctl_status kvmctl_session_save(const struct kvmctl *k, struct kvmctl_session *s, const char *path);

/*
 * Open the store that a trace is to run in.  In this process: a fresh one as
 * the trace configures it, or the one that --embedded or the trace's base line
 * names.  In a daemon: "name", which must be configured as the trace asks;
 * with "given_only" keys that the trace leaves at their default do not count.
 *
 * => trace: its path, for a base line's file beside it
 * => gives the session an open target
 * => fails with a status and *why; its key is >= 0 if the trace's configuration
 *    breaks a limit
 */
struct kvmctl_trace_store {
	const char *trace;
	const char *name; /* in the daemon */
	const struct kvms_op *config;
	const struct kvt_base *base;
	bool given_only;
};
enum kvmctl_status kvmctl_session_open_trace(const struct kvmctl *k, struct kvmctl_session *s,
					     const struct kvmctl_trace_store *want, struct kvms_refusal *why);

/* The last error as a replay's refusal; what does not fit there is said at once. */
void kvmctl_session_why(const struct kvmctl_session *s, struct kvms_refusal *why);

/* Any request beside operations and inspection, as kvmctl_request(). */
enum kvmctl_status kvmctl_session_request(struct kvmctl_session *s, struct kvmp_request *request,
					  struct kvmp_response *response);

/* Tell an operation's outcome without effect. */
enum kvt_status kvmctl_session_dry_run(struct kvmctl_session *s, const struct kvms_op *op, struct kvms_outcome *out);

/* True for the operations that open a cursor. */
bool kvmctl_row_opens(const struct kvms_row *row);

/*
 * Open a cursor in the daemon, waiting for it and detached as the options of
 * the call say, and tell on standard error why it had to be "block".
 *
 * => needs: a connection
 */
enum kvt_status kvmctl_session_open_cursor(const struct kvmctl *k, struct kvmctl_session *s, const struct kvms_op *op,
					   struct kvms_outcome *out);

void kvmctl_session_close(struct kvmctl_session *s);

/*
 * Run the requests in the words of the call, as "exec" does, on the store that
 * "open" puts into the session; it is called when the words are known to be
 * without mistakes (client/exec.c).
 */
enum kvmctl_status kvmctl_exec_requests(struct kvmctl *k,
					enum kvmctl_status (*open)(struct kvmctl *k, struct kvmctl_session *session,
								   void *arg),
					void *arg);

/* Say what an answer other than KVT_DONE means; gives the exit status. */
enum kvmctl_status kvmctl_complain_target(struct kvmctl_session *s, enum kvt_status status);

/* The name a new store gets in a snapshot file, or has in a daemon: --store, else "default". */
const char *kvmctl_store_name(const struct kvmctl *k);

/*
 * A target on the store that a connection has chosen (client/remote.c).
 *
 * => needs: "connection" outlives the target
 * => fails with NULL: no memory
 */
struct kvt_target *kvmctl_remote_target(struct kvmctl_connection *connection);

/* Dry run on a target that kvmctl_remote_target() made. */
enum kvt_status kvmctl_remote_dry_run(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out);

/* Cursors that such a target opens from here on stay when the connection ends. */
void kvmctl_remote_detach(struct kvt_target *t);

/* Open a cursor on such a target. */
enum kvt_status kvmctl_remote_open(struct kvt_target *t, const struct kvms_op *op, uint32_t wait_ms, bool detached,
				   struct kvms_outcome *out);

#endif /* KVMCTL_SESSION_H */
