/*
 * connection - a client's side of one connection to kvmstored.
 *
 * Calls block until the answer is there.  Requests can also be sent ahead:
 * kvmctl_send_*() any number of times, then kvmctl_receive() once for each,
 * in the same order.  Neither side ever waits for the other to read: while
 * requests do not fit the socket, answers are read into memory.
 *
 * After a failure of kind KVMCTL_LOST the connection is of no more use and
 * every call fails the same way; after any other it goes on.
 *
 * One connection may be used by one thread at a time.
 */
#ifndef KVMCTL_CONNECTION_H
#define KVMCTL_CONNECTION_H

#include "proto/message.h"
#include "store/kvmstore.h"

struct kvmctl_connection; /* opaque */

enum kvmctl_failure_kind {
	KVMCTL_NO_FAILURE,
	KVMCTL_LOST,   /* no daemon, it went away, or it does not speak the protocol */
	KVMCTL_REFUSED /* the daemon refused the request; "code" says why */
};

/* Why a call failed. */
struct kvmctl_failure {
	enum kvmctl_failure_kind kind;
	enum kvmp_error_code code; /* KVMCTL_REFUSED */
	char text[1024]; /* for a person, without a full stop at the end; with STORE_BROKEN findings follow, one a line
			  */
};

/*
 * The path of the socket unless told otherwise (see proto/address.h), of this
 * process's user and environment.
 * => fails with false: there is none, the user must name one
 */
bool kvmctl_default_socket(char *path, size_t size);

/*
 * Connect to the daemon that listens on "path" and choose a store.
 *
 * => path: NULL = the default; store: NULL = "default"; client: a name for the daemon's log, or NULL
 * => gives a connection the caller owns and ends with kvmctl_disconnect()
 * => fails with NULL and *why, which says what to do
 */
struct kvmctl_connection *kvmctl_connect(const char *path, const char *store, const char *client,
					 struct kvmctl_failure *why);

/* End a connection: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void kvmctl_disconnect(struct kvmctl_connection **c);

/* The path it is connected to; valid as long as it. */
const char *kvmctl_socket(const struct kvmctl_connection *c);

/* ---- One request, one answer ---------------------------------------------- */

/*
 * Apply one operation, or with "dry_run" tell what it would answer.
 *
 * => gives *out, whose payload the caller owns (kvms_outcome_free), and in
 *    *step, unless NULL, the store's step number (dry run: 0)
 * => fails with KVMP_ERROR_STORE_BROKEN if a law of the model broke
 */
bool kvmctl_apply(struct kvmctl_connection *c, const struct kvms_op *op, bool dry_run, struct kvms_outcome *out,
		  uint64_t *step, struct kvmctl_failure *why);

/* Answer an inspection request, a row of kvms_request_row(). */
bool kvmctl_inspect(struct kvmctl_connection *c, const struct kvms_op *request, struct kvms_outcome *out,
		    struct kvmctl_failure *why);

/* What each of "count" addresses reaches; any count.  found[i] is 0 or 1. */
bool kvmctl_translate(struct kvmctl_connection *c, uint64_t table, const uint64_t *va, size_t count, uint8_t *found,
		      uint64_t *paddr, struct kvmctl_failure *why);

/*
 * Visit the leaves of a table that start in [first, last], ascending, in runs
 * as kvms_extents() gives them (a run may be cut in two); their table is set.
 * A visitor that gives false ends it, which is no failure.  The visitor must not
 * use the connection.  Other clients may change the table in the midst of it.
 */
bool kvmctl_extents(struct kvmctl_connection *c, uint64_t table, uint64_t first, uint64_t last,
		    kvms_extent_visitor *visit, void *arg, struct kvmctl_failure *why);

/* ---- Many requests under way -------------------------------------------------- */

/*
 * Send a request without waiting for its answer.  The operation and its lists
 * may go away after the call.
 */
bool kvmctl_send_op(struct kvmctl_connection *c, const struct kvms_op *op, bool dry_run, struct kvmctl_failure *why);
bool kvmctl_send_inspect(struct kvmctl_connection *c, const struct kvms_op *request, struct kvmctl_failure *why);

/*
 * The same for the open of a cursor, which waits "wait_ms" milliseconds at most
 * for what is in its way, and opens a cursor that stays when the connection ends
 * if "detached".
 */
bool kvmctl_send_open(struct kvmctl_connection *c, const struct kvms_op *op, uint32_t wait_ms, bool detached,
		      struct kvmctl_failure *why);

/* Why an open was answered "block". */
struct kvmctl_block {
	bool held_back;          /* by an open that waits for longer; it is no step */
	const uint64_t *cursors; /* waiting would not have ended: the schema's wait_cycle */
	size_t count;            /* 0: no cycle */
};

/* More about the outcome received last; valid until the next call. */
const struct kvmctl_block *kvmctl_last_block(const struct kvmctl_connection *c);

/*
 * The answer to the oldest request sent and not yet received, which must be a
 * kvmctl_send_*() one.  Fails as kvmctl_apply() does; the request is done with
 * then too.
 */
bool kvmctl_receive(struct kvmctl_connection *c, struct kvms_outcome *out, uint64_t *step, struct kvmctl_failure *why);

/* Requests sent whose answers are still to be received. */
size_t kvmctl_pending(const struct kvmctl_connection *c);

/* ---- Stores, snapshots, daemon ---------------------------------------------------- */

/*
 * Any other request, with no other under way.
 *
 * => gives *response, which leads into the connection's memory and is valid
 *    until the next call; its type is the one the schema names for the request
 * => fails with KVMCTL_REFUSED also for an Error in answer
 *
 * E.g. KVMP_STATUS, KVMP_STORE_LIST, KVMP_STORE_CREATE, KVMP_STORE_DROP,
 * KVMP_STORE_SELECT, KVMP_SET_CHECK, KVMP_SNAPSHOT_SAVE / _LIST / _LOAD.
 */
bool kvmctl_request(struct kvmctl_connection *c, struct kvmp_request *request, struct kvmp_response *response,
		    struct kvmctl_failure *why);

#endif /* KVMCTL_CONNECTION_H */
