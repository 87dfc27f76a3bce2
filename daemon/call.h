/*
 * call - one request being served, and what the files that serve share.
 */
#ifndef KVMD_CALL_H
#define KVMD_CALL_H

#include "daemon/serve.h"

struct call {
	struct kvmd_server *server;
	struct kvmd_client *client;
	const struct kvmp_request *request;
	struct kvmp_response *response;
};

/* An Error as the answer. */
void kvmd_refuse(const struct call *call, enum kvmp_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What is told of a store; as the answer. */
void kvmd_store_status(const struct kvmd_store *store, struct kvmp_store_status *status);
void kvmd_answer_store(const struct call *call, const struct kvmd_store *store);

/* The store by the request's name; refuses if there is none. */
struct kvmd_store *kvmd_store_named(const struct call *call, const char *name);

/* ---- Requests that may take long: daemon/slow.c ---------------------------------------- */

void kvmd_serve_store_create(const struct call *call);
void kvmd_serve_store_clone(const struct call *call);
void kvmd_serve_store_drop(const struct call *call);
void kvmd_serve_snapshot_save(const struct call *call);
void kvmd_serve_snapshot_load(const struct call *call);
void kvmd_serve_snapshot_drop(const struct call *call);
void kvmd_serve_undo(const struct call *call);
void kvmd_serve_settle(const struct call *call);

#endif /* KVMD_CALL_H */
