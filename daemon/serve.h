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
#include "daemon/waits.h"
#include "proto/message.h"

struct kvmd_options;

/* What the daemon is: one of it. */
struct kvmd_server {
	struct kvmd_stores stores;
	struct kvmd_state state;
	struct kvmd_waits waits;
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
};

/*
 * Start with no stores but those in the state directory, and "default".
 *
 * => gives false, having logged why; there is nothing to end then
 */
bool kvmd_server_begin(struct kvmd_server *server, const struct kvmd_options *options);

/* End, with all stores.  Saves nothing. */
void kvmd_server_end(struct kvmd_server *server);

/*
 * Carry out one request.
 *
 * => gives *response, which leads into the server's memory, the codec's and
 *    the request's; it must be encoded before the next request.  Then
 *    kvmd_settle() must be called.
 * => gives false: the request waits.  Its answer goes to client->answer(), and
 *    until then the client must not make another.
 */
bool kvmd_serve(struct kvmd_server *server, struct kvmd_client *client, const struct kvmp_request *request,
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
