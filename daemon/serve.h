/*
 * serve - one request in, one response out.
 *
 * No sockets and no clock here: daemon/session.c moves the bytes and knows the
 * time.  Requests are served one after the other, whole; between two of them
 * every store is at rest.
 */
#ifndef KVMD_SERVE_H
#define KVMD_SERVE_H

#include <time.h>

#include "daemon/state.h"
#include "daemon/stores.h"
#include "daemon/tasks.h"
#include "daemon/waits.h"
#include "proto/message.h"

struct kvmd_options;

/* What the daemon is: one of it. */
struct kvmd_server {
	struct kvmd_stores stores;
	struct kvmd_state state;
	struct kvmd_waits waits;
	struct kvmd_tasks tasks;
	struct kvmp_codec *codec;
	time_t started; /* monotonic seconds */
	uint64_t requests;
	unsigned connections;

	bool stepped; /* a store has made a step since this was last cleared */

	/* memory of the response under way; valid until the next request */
	struct kvms_outcome outcome;
	char text[PERSIST_WHY + 256];
	char finding_text[8][160];
	const char *findings[8];
};

/* One connection, as far as its requests are concerned.  Zero-initialise; end with kvmd_client_end(). */
struct kvmd_client {
	bool greeted;             /* Hello has been answered */
	struct kvmd_store *store; /* the store chosen, perhaps dropped since; NULL until greeted */
	char name[KVMP_CLIENT_NAME_MAX + 1];
	uint64_t number; /* of the connection, for the journal */
	size_t cursors;  /* that belong to it, in all stores */
	struct kvmd_wait wait;
	/*
	 * Takes the answer to a request that waited; it must be encoded before
	 * the function returns, which must not serve requests.  NULL: this client
	 * does not wait.
	 */
	void (*answer)(struct kvmd_client *client, const struct kvmp_response *response);
	/*
	 * It takes answers later than at once also to what is not an open, and
	 * again() tells it to make a request again that was held; that must not be
	 * done before again() returns.  Not patient: kvmd_serve() waits for it.
	 */
	bool patient;
	void (*again)(struct kvmd_client *client);
	struct kvmd_task *task;          /* its request that is being carried out, or NULL */
	struct kvmd_held *held_in;       /* where its request is held, or NULL */
	TAILQ_ENTRY(kvmd_client) held;
};

enum kvmd_served {
	KVMD_WAITS,    /* the answer goes to client->answer() */
	KVMD_ANSWERED, /* it is in *response */
	KVMD_HELD      /* nothing was done: make the request again when client->again() is called */
};

/*
 * Start with no stores but those in the state directory, and "default".
 *
 * => gives false, having logged why; there is nothing to end then
 */
bool kvmd_server_begin(struct kvmd_server *server, const struct kvmd_options *options);

/* Wait until no request is being carried out any more; those that only read are given up. */
void kvmd_server_rest(struct kvmd_server *server);

/* End, with all stores.  Saves nothing. */
void kvmd_server_end(struct kvmd_server *server);

/*
 * Carry out one request.
 *
 * => KVMD_ANSWERED: gives *response, which leads into the server's memory, the codec's and
 *    the request's; it must be encoded before the next request.  Then
 *    kvmd_settle() must be called.
 * => otherwise the client must not make another before it has had its answer, or
 *    is told to make this one again
 */
enum kvmd_served kvmd_serve(struct kvmd_server *server, struct kvmd_client *client, const struct kvmp_request *request,
		struct kvmp_response *response);

/* An Error as response. */
void kvmd_error(struct kvmp_response *response, uint64_t id, enum kvmp_error_code code, const char *text, bool closing);

/*
 * Answer the requests that waited for what has ended, and may go on.  Cheap if
 * there is none.
 */
void kvmd_settle(struct kvmd_server *server);

/* The client's request has waited for as long as it may: answer it as it stands. */
void kvmd_wait_over(struct kvmd_server *server, struct kvmd_client *client);

/* The same for all, and nothing waits from here on. */
void kvmd_waits_close(struct kvmd_server *server);

/* The client is gone: what it waits for is forgotten, its cursors are dropped. */
void kvmd_client_end(struct kvmd_server *server, struct kvmd_client *client);

#endif /* KVMD_SERVE_H */
