#include "client/connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/address.h"

#define SEND_AHEAD 65536u   /* bytes of requests gathered before they are sent */
#define RECEIVE_SIZE 65536u /* bytes asked for at once */
#define HELLO_MS 10000      /* how long a daemon may take to say hello */

/* A request whose answer is still to come. */
struct pending {
	const struct kvms_row *row; /* of an operation or inspection, else NULL */
	bool inspect;
};

/*
 * Answers come in the order of the requests, so ids count up and the pending
 * requests are those from id_received + 1 to id_sent, in a ring.
 */
struct kvmctl_connection {
	int fd;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct kvmp_codec *codec;
	struct kvmp_buffer in;
	struct kvmp_buffer out;
	size_t taken; /* bytes at the front of "in" that the last answer still refers to */
	uint64_t id_sent;
	uint64_t id_received;
	struct pending *pending;
	size_t pending_capacity;   /* a power of two */
	struct kvmctl_block block; /* of the last outcome */
	bool lost;
	char lost_text[512];
};

/* ---- Failures ------------------------------------------------------------------- */

static bool fail(struct kvmctl_failure *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(struct kvmctl_failure *why, const char *format, ...)
{
	va_list arguments;

	why->kind = KVMCTL_LOST;
	why->code = KVMP_ERROR_NONE;
	va_start(arguments, format);
	vsnprintf(why->text, sizeof why->text, format, arguments);
	va_end(arguments);
	return false;
}

/* The connection is of no more use. */
static bool __attribute__((format(printf, 3, 4)))
lose(struct kvmctl_connection *c, struct kvmctl_failure *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(c->lost_text, sizeof c->lost_text, format, arguments);
	va_end(arguments);
	c->lost = true;
	return fail(why, "%s", c->lost_text);
}

/* The daemon said no. */
static bool
refused(struct kvmctl_connection *c, const struct kvmp_response *r, struct kvmctl_failure *why)
{
	size_t used;

	if (r->error.closing)
		return lose(c, why, "kvmstored ended the connection: %s", r->error.text);
	why->kind = KVMCTL_REFUSED;
	why->code = r->error.code;
	snprintf(why->text, sizeof why->text, "%s", r->error.text);
	used = strlen(why->text);
	for (size_t i = 0; i < r->error.findings_count && used < sizeof why->text; i++) {
		snprintf(why->text + used, sizeof why->text - used, "\n%s", r->error.findings[i]);
		used += strlen(why->text + used);
	}
	return false;
}

/* ---- Bytes ------------------------------------------------------------------------ */

/* Send what the socket takes without waiting. */
static bool
send_some(struct kvmctl_connection *c, struct kvmctl_failure *why)
{
	while (kvmp_buffer_size(&c->out) > 0) {
		ssize_t n =
		    send(c->fd, c->out.data + c->out.start, kvmp_buffer_size(&c->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			kvmp_buffer_take(&c->out, (size_t)n);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return true;
		else if (errno == EPIPE || errno == ECONNRESET)
			return true; /* the reason may still wait to be read */
		else if (errno != EINTR)
			return lose(c, why, "cannot write to kvmstored on %s: %s", c->path, strerror(errno));
	}
	return true;
}

/* Read what is there into memory; "flags" as for recv(). */
static bool
receive_some(struct kvmctl_connection *c, int flags, struct kvmctl_failure *why)
{
	uint8_t *place = kvmp_buffer_reserve(&c->in, RECEIVE_SIZE);
	ssize_t n;

	if (place == NULL)
		return lose(c, why, "no memory left for the answers of kvmstored");
	do
		n = recv(c->fd, place, RECEIVE_SIZE, flags);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		kvmp_buffer_added(&c->in, (size_t)n);
	else if (n == 0 || errno == ECONNRESET)
		return lose(c, why, "kvmstored on %s has closed the connection", c->path);
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		return lose(c, why, "cannot read from kvmstored on %s: %s", c->path, strerror(errno));
	return true;
}

/* Wait until the socket can be read, or written while requests wait; false after "ms" (-1: for ever). */
static bool
ready(struct kvmctl_connection *c, int ms)
{
	struct pollfd p = { c->fd, POLLIN, 0 };
	int n;

	if (kvmp_buffer_size(&c->out) > 0)
		p.events |= POLLOUT;
	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

static enum kvmp_frame
frame_look(const struct kvmctl_connection *c, size_t *size)
{
	return kvmp_frame_next(c->in.data + c->in.start, kvmp_buffer_size(&c->in), KVMP_RESPONSE_MAX, size);
}

/* Send all requests and read until a whole answer is there. */
static bool
frame_wait(struct kvmctl_connection *c, int ms, struct kvmctl_failure *why)
{
	size_t size;

	while (frame_look(c, &size) == KVMP_FRAME_PARTIAL) {
		bool more;

		if (!send_some(c, why))
			return false;
		more = kvmp_buffer_size(&c->out) > 0;
		if ((more || ms >= 0) && !ready(c, ms))
			return lose(c, why, "kvmstored on %s does not answer", c->path);
		if (!receive_some(c, more || ms >= 0 ? MSG_DONTWAIT : 0, why))
			return false;
	}
	return true;
}

/* Send requests until few are left, reading answers while the socket is full. */
static bool
send_most(struct kvmctl_connection *c, struct kvmctl_failure *why)
{
	while (kvmp_buffer_size(&c->out) >= SEND_AHEAD) {
		if (!send_some(c, why))
			return false;
		if (kvmp_buffer_size(&c->out) < SEND_AHEAD)
			break;
		ready(c, -1);
		if (!receive_some(c, MSG_DONTWAIT, why))
			return false;
	}
	return true;
}

/* ---- Requests and answers ------------------------------------------------------------ */

/* The answer given last is no longer needed. */
static void
answer_release(struct kvmctl_connection *c)
{
	kvmp_buffer_take(&c->in, c->taken);
	c->taken = 0;
	kvmp_buffer_shrink(&c->in, 4 * RECEIVE_SIZE);
}

static bool
pending_add(struct kvmctl_connection *c, const struct kvms_row *row, bool inspect)
{
	size_t count = kvmctl_pending(c);

	if (count == c->pending_capacity) {
		size_t capacity = count == 0 ? 64 : count * 2;
		struct pending *grown = malloc(capacity * sizeof *grown);

		if (grown == NULL)
			return false;
		for (uint64_t id = c->id_received + 1; id <= c->id_sent; id++)
			grown[id & (capacity - 1)] = c->pending[id & (c->pending_capacity - 1)];
		free(c->pending);
		c->pending = grown;
		c->pending_capacity = capacity;
	}
	c->id_sent++;
	c->pending[c->id_sent & (c->pending_capacity - 1)] = (struct pending){ row, inspect };
	return true;
}

/* A request that is not the daemon's fault to refuse. */
static bool
not_sent(struct kvmctl_failure *why, enum kvmp_error_code code, const char *text)
{
	why->kind = KVMCTL_REFUSED;
	why->code = code;
	snprintf(why->text, sizeof why->text, "%s", text);
	return false;
}

static bool
request_send(struct kvmctl_connection *c, struct kvmp_request *r, const struct kvms_row *row,
	     struct kvmctl_failure *why)
{
	if (c->lost)
		return fail(why, "%s", c->lost_text);
	answer_release(c);
	r->id = c->id_sent + 1;
	switch (kvmp_request_encode(c->codec, r, &c->out)) {
	case KVMP_ENCODED:
		break;
	case KVMP_ENCODED_TOO_LARGE:
		return not_sent(why, KVMP_ERROR_INVALID, "the request is larger than 8 MiB; nothing was sent");
	case KVMP_ENCODED_NO_MEMORY:
		return not_sent(why, KVMP_ERROR_NO_MEMORY, "no memory left to send a request; nothing was sent");
	}
	if (!pending_add(c, row, r->type == KVMP_INSPECT))
		return lose(c, why, "no memory left");
	return send_most(c, why);
}

/* The next answer, to the oldest request pending. */
static bool
response_receive(struct kvmctl_connection *c, int ms, struct kvmp_response *r, struct kvmctl_failure *why)
{
	struct kvmp_refusal refusal;
	size_t size;

	if (c->lost)
		return fail(why, "%s", c->lost_text);
	answer_release(c);
	if (!frame_wait(c, ms, why))
		return false;
	if (frame_look(c, &size) == KVMP_FRAME_BAD)
		return lose(c, why, "what listens on %s is not kvmstored, or another version of it", c->path);
	c->id_received++;
	c->taken = KVMP_FRAME_HEADER + size;
	if (!kvmp_response_decode(c->codec, c->in.data + c->in.start + KVMP_FRAME_HEADER, size, r, &refusal))
		return lose(c, why, "an answer of kvmstored on %s cannot be understood: %s", c->path, refusal.text);
	if (r->type == KVMP_R_ERROR)
		return refused(c, r, why);
	if (r->id != c->id_received)
		return lose(c, why, "kvmstored on %s answers out of order", c->path);
	return true;
}

/* The answer's type that each request has. */
static const enum kvmp_response_type answer_types[KVMP_REQUEST_TYPES] = {
	[KVMP_HELLO] = KVMP_R_HELLO,
	[KVMP_OP] = KVMP_R_OUTCOME,
	[KVMP_INSPECT] = KVMP_R_OUTCOME,
	[KVMP_TRANSLATE_MANY] = KVMP_R_TRANSLATED,
	[KVMP_BATCH] = KVMP_R_BATCH,
	[KVMP_STATUS] = KVMP_R_STATUS,
	[KVMP_STORE_LIST] = KVMP_R_STORES,
	[KVMP_STORE_CREATE] = KVMP_R_STORE,
	[KVMP_STORE_DROP] = KVMP_R_DONE,
	[KVMP_STORE_SELECT] = KVMP_R_STORE,
	[KVMP_SET_CHECK] = KVMP_R_STORE,
	[KVMP_SNAPSHOT_SAVE] = KVMP_R_STORE,
	[KVMP_SNAPSHOT_LIST] = KVMP_R_SNAPSHOTS,
	[KVMP_SNAPSHOT_LOAD] = KVMP_R_STORE,
	[KVMP_EXTENTS] = KVMP_R_EXTENTS,
	[KVMP_UNDO] = KVMP_R_STORE,
	[KVMP_SETTLE] = KVMP_R_DONE,
	[KVMP_STORE_CLONE] = KVMP_R_STORE,
	[KVMP_SNAPSHOT_DROP] = KVMP_R_DONE,
};

static bool
exchange(struct kvmctl_connection *c, int ms, struct kvmp_request *request, struct kvmp_response *response,
	 struct kvmctl_failure *why)
{
	assert(kvmctl_pending(c) == 0);
	if (!request_send(c, request, NULL, why) || !response_receive(c, ms, response, why))
		return false;
	return response->type == answer_types[request->type] ||
	       lose(c, why, "kvmstored on %s gives an answer of another kind than was asked for", c->path);
}

bool
kvmctl_request(struct kvmctl_connection *c, struct kvmp_request *request, struct kvmp_response *response,
	       struct kvmctl_failure *why)
{
	return exchange(c, -1, request, response, why);
}

/* ---- Connecting ------------------------------------------------------------------------ */

bool
kvmctl_default_socket(char *path, size_t size)
{
	const struct kvmp_surroundings here = { getenv(KVMP_SOCKET_VARIABLE), getenv("XDG_RUNTIME_DIR"),
						geteuid() == 0 };

	return kvmp_socket_path(&here, path, size);
}

static bool
socket_open(struct kvmctl_connection *c, const char *path, struct kvmctl_failure *why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (path == NULL && !kvmctl_default_socket(address.sun_path, sizeof address.sun_path))
		return fail(
		    why, "which socket? XDG_RUNTIME_DIR is not set, so there is no default; name one with --connect or "
			 "in " KVMP_SOCKET_VARIABLE ", or use --embedded");
	if (path != NULL && (path[0] == '\0' || strlen(path) >= sizeof address.sun_path))
		return fail(why, "the path of a socket has 1 to %zu bytes: \"%s\"", sizeof address.sun_path - 1, path);
	if (path != NULL)
		strcpy(address.sun_path, path);
	strcpy(c->path, address.sun_path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail(why, "cannot make a socket: %s", strerror(errno));
	if (connect(c->fd, (const struct sockaddr *)&address, sizeof address) == 0)
		return true;
	if (errno == ENOENT || errno == ENOTDIR || errno == ECONNREFUSED)
		return fail(why,
			    "no kvmstored listens on %s; start one with `kvmstored --listen %s`, or use --embedded",
			    c->path, c->path);
	if (errno == EACCES)
		return fail(why, "no permission to use %s: kvmstored admits only the user it runs as", c->path);
	return fail(why, "cannot connect to %s: %s", c->path, strerror(errno));
}

static bool
hello(struct kvmctl_connection *c, const char *store, const char *client, struct kvmctl_failure *why)
{
	struct kvmp_request request = { .type = KVMP_HELLO };
	struct kvmp_response response;

	request.hello.version = KVMP_VERSION;
	request.hello.store = store == NULL ? "default" : store;
	request.hello.client = client;
	if (!exchange(c, HELLO_MS, &request, &response, why))
		return false;
	return response.hello.version == KVMP_VERSION ||
	       lose(c, why, "kvmstored on %s speaks protocol version %u, this program %u", c->path,
		    response.hello.version, KVMP_VERSION);
}

struct kvmctl_connection *
kvmctl_connect(const char *path, const char *store, const char *client, struct kvmctl_failure *why)
{
	struct kvmctl_connection *c = calloc(1, sizeof *c);

	if (c == NULL) {
		fail(why, "no memory left");
		return NULL;
	}
	c->fd = -1;
	c->codec = kvmp_codec_new(0);
	if (c->codec == NULL)
		fail(why, "no memory left");
	else if (socket_open(c, path, why) && hello(c, store, client, why))
		return c;
	kvmctl_disconnect(&c);
	return NULL;
}

void
kvmctl_disconnect(struct kvmctl_connection **taken)
{
	struct kvmctl_connection *c = *taken;

	*taken = NULL;
	if (c == NULL)
		return;
	if (c->fd >= 0)
		close(c->fd);
	kvmp_codec_free(&c->codec);
	kvmp_buffer_free(&c->in);
	kvmp_buffer_free(&c->out);
	free(c->pending);
	free(c);
}

const char *
kvmctl_socket(const struct kvmctl_connection *c)
{
	return c->path;
}

/* ---- Operations and inspection ---------------------------------------------------------- */

bool
kvmctl_send_op(struct kvmctl_connection *c, const struct kvms_op *op, bool dry_run, struct kvmctl_failure *why)
{
	struct kvmp_request request = { .type = KVMP_OP, .dry_run = dry_run, .op = *op };

	return request_send(c, &request, kvms_op_row(op->code), why);
}

bool
kvmctl_send_open(struct kvmctl_connection *c, const struct kvms_op *op, uint32_t wait_ms, bool detached,
		 struct kvmctl_failure *why)
{
	struct kvmp_request request = { .type = KVMP_OP, .wait_ms = wait_ms, .detached = detached, .op = *op };

	return request_send(c, &request, kvms_op_row(op->code), why);
}

const struct kvmctl_block *
kvmctl_last_block(const struct kvmctl_connection *c)
{
	return &c->block;
}

bool
kvmctl_send_inspect(struct kvmctl_connection *c, const struct kvms_op *op, struct kvmctl_failure *why)
{
	struct kvmp_request request = { .type = KVMP_INSPECT, .op = *op };

	return request_send(c, &request, kvms_request_row(op->code), why);
}

size_t
kvmctl_pending(const struct kvmctl_connection *c)
{
	return (size_t)(c->id_sent - c->id_received);
}

/* A copy whose payload the caller owns. */
static bool
outcome_copy(struct kvms_outcome *to, const struct kvms_outcome *from)
{
	if (from->list_count > to->list_capacity) {
		uint64_t *list = realloc(to->list, from->list_count * sizeof *list);

		if (list == NULL)
			return false;
		to->list = list;
		to->list_capacity = from->list_count;
	}
	if (from->list_count > 0)
		memcpy(to->list, from->list, from->list_count * sizeof *to->list);
	to->list_count = from->list_count;
	to->name = from->name;
	to->detail = from->detail;
	to->present = from->present;
	memcpy(to->field, from->field, sizeof to->field);
	return true;
}

bool
kvmctl_receive(struct kvmctl_connection *c, struct kvms_outcome *out, uint64_t *step, struct kvmctl_failure *why)
{
	struct kvmp_response response;
	struct pending expected;

	assert(kvmctl_pending(c) > 0);
	expected = c->pending[(c->id_received + 1) & (c->pending_capacity - 1)];
	if (!response_receive(c, -1, &response, why))
		return false;
	if (response.type != KVMP_R_OUTCOME ||
	    (response.answer.row != NULL &&
	     (response.answer.row != expected.row || response.answer.inspect != expected.inspect)))
		return lose(c, why, "kvmstored on %s gives an answer of another kind than was asked for", c->path);
	if (!outcome_copy(out, &response.answer.outcome))
		return lose(c, why, "no memory left");
	c->block =
	    (struct kvmctl_block){ response.answer.held_back, response.answer.cycle, response.answer.cycle_count };
	if (step != NULL)
		*step = response.answer.step;
	return true;
}

bool
kvmctl_apply(struct kvmctl_connection *c, const struct kvms_op *op, bool dry_run, struct kvms_outcome *out,
	     uint64_t *step, struct kvmctl_failure *why)
{
	assert(kvmctl_pending(c) == 0);
	return kvmctl_send_op(c, op, dry_run, why) && kvmctl_receive(c, out, step, why);
}

bool
kvmctl_inspect(struct kvmctl_connection *c, const struct kvms_op *request, struct kvms_outcome *out,
	       struct kvmctl_failure *why)
{
	assert(kvmctl_pending(c) == 0);
	return kvmctl_send_inspect(c, request, why) && kvmctl_receive(c, out, NULL, why);
}

bool
kvmctl_translate(struct kvmctl_connection *c, uint64_t table, const uint64_t *va, size_t count, uint8_t *found,
		 uint64_t *paddr, struct kvmctl_failure *why)
{
	while (count > 0) {
		size_t part = count < KVMP_TRANSLATE_MAX ? count : KVMP_TRANSLATE_MAX;
		struct kvmp_request request = { .type = KVMP_TRANSLATE_MANY, .translate = { table, va, part } };
		struct kvmp_response response;

		if (!exchange(c, -1, &request, &response, why))
			return false;
		if (response.translated.count != part)
			return lose(c, why, "kvmstored on %s does not answer for every address", c->path);
		memcpy(found, response.translated.found, part * sizeof *found);
		memcpy(paddr, response.translated.paddr, part * sizeof *paddr);
		va += part;
		found += part;
		paddr += part;
		count -= part;
	}
	return true;
}

bool
kvmctl_extents(struct kvmctl_connection *c, uint64_t table, uint64_t first, uint64_t last, kvms_extent_visitor *visit,
	       void *arg, struct kvmctl_failure *why)
{
	for (;;) {
		struct kvmp_request request = { .type = KVMP_EXTENTS, .extents = { table, first, last } };
		struct kvmp_response response;

		if (!exchange(c, -1, &request, &response, why))
			return false;
		for (size_t i = 0; i < response.extents.count; i++) {
			struct kvms_extent run = response.extents.runs[i];

			run.table = table;
			if (!visit(arg, &run))
				return true;
		}
		if (!response.extents.more)
			return true;
		if (response.extents.next <= first)
			return lose(c, why, "kvmstored on %s does not get on with its answer", c->path);
		first = response.extents.next;
	}
}
