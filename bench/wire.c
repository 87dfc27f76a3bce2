#include "bench/wire.h"
#include "bench/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536u
#define KEY_SIZE 12u

static _Noreturn void
lost(struct wire *w, const char *doing)
{
	int error = errno;

	peer_check(w->peer);
	bench_die("%s: %s: %s", w->peer->name, doing, error != 0 ? strerror(error) : "connection closed");
}

static uint8_t *
reserve(struct kvmp_buffer *b, size_t size)
{
	uint8_t *at = kvmp_buffer_reserve(b, size);

	if (at == NULL)
		bench_die("no memory");
	return at;
}

static void
receive(struct wire *w)
{
	uint8_t *place = reserve(&w->in, READ_SIZE);
	ssize_t n;

	do
		n = recv(w->fd, place, READ_SIZE, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		errno = n == 0 ? 0 : errno;
		lost(w, "reading");
	}
	kvmp_buffer_added(&w->in, (size_t)n);
}

/* ---- Answers --------------------------------------------------------------------------- */

static bool
answer_resp(struct wire *w)
{
	static const char ok[5] = { '+', 'O', 'K', '\r', '\n' };

	if (kvmp_buffer_size(&w->in) < sizeof ok)
		return false;
	if (memcmp(w->in.data + w->in.start, ok, sizeof ok) != 0)
		bench_die("%s answered %.40s", w->peer->name, (const char *)w->in.data + w->in.start);
	kvmp_buffer_take(&w->in, sizeof ok);
	return true;
}

static bool
answer_kvmstored(struct wire *w)
{
	struct kvmp_response response;
	struct kvmp_refusal why;
	const uint8_t *at = w->in.data + w->in.start;
	size_t size;

	if (kvmp_frame_next(at, kvmp_buffer_size(&w->in), KVMP_RESPONSE_MAX, &size) != KVMP_FRAME_WHOLE)
		return false;
	if (!kvmp_response_decode(w->codec, at + KVMP_FRAME_HEADER, size, &response, &why))
		bench_die("%s: %s", w->peer->name, why.text);
	if (response.type == KVMP_R_ERROR)
		bench_die("%s: %s", w->peer->name, response.error.text);
	if (response.type == KVMP_R_OUTCOME) {
		if (kvms_outcome_class(response.answer.outcome.name) != KVMS_OK)
			bench_die("%s: an operation ended with %s", w->peer->name,
				  kvms_outcome_name(response.answer.outcome.name));
		w->result[w->answered] = response.answer.outcome.field[0];
		w->second = response.answer.outcome.field[1];
	}
	kvmp_buffer_take(&w->in, KVMP_FRAME_HEADER + size);
	return true;
}

bool
wire_take(struct wire *w)
{
	receive(w);
	while (w->answered < w->sent && (w->resp ? answer_resp(w) : answer_kvmstored(w)))
		w->answered++;
	return w->answered == w->sent;
}

/* ---- Requests -------------------------------------------------------------------------- */

static void
request(struct wire *w, const struct kvmp_request *r)
{
	if (w->sent == WIRE_DEPTH_MAX || kvmp_request_encode(w->codec, r, &w->out) != KVMP_ENCODED)
		bench_die("a request cannot be encoded");
	w->sent++;
}

void
wire_op(struct wire *w, const struct kvms_op *op)
{
	struct kvmp_request r = { .id = w->sent + 1, .type = KVMP_OP, .op = *op };

	if (w->answered == w->sent)
		w->answered = w->sent = 0;
	request(w, &r);
}

void
wire_set(struct wire *w, uint64_t key, size_t value_size)
{
	char *at = (char *)reserve(&w->out, 64 + value_size);
	int n = snprintf(at, 64, "*3\r\n$3\r\nSET\r\n$%u\r\n%0*" PRIu64 "\r\n$%zu\r\n", KEY_SIZE, (int)KEY_SIZE,
			 key % UINT64_C(1000000000000), value_size);

	if (w->answered == w->sent)
		w->answered = w->sent = 0;
	memset(at + n, 'v', value_size);
	memcpy(at + n + value_size, "\r\n", 2);
	kvmp_buffer_added(&w->out, (size_t)n + value_size + 2);
	w->sent++;
}

void
wire_send(struct wire *w)
{
	while (kvmp_buffer_size(&w->out) > 0) {
		ssize_t n = send(w->fd, w->out.data + w->out.start, kvmp_buffer_size(&w->out), MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			lost(w, "writing");
		if (n > 0)
			kvmp_buffer_take(&w->out, (size_t)n);
	}
}

void
wire_batch(struct wire *w)
{
	wire_send(w);
	while (!wire_take(w))
		continue;
}

const char *
wire_command(struct wire *w, const char *command)
{
	static char answer[READ_SIZE];
	size_t size = strlen(command), have;
	const char *end;

	memcpy(reserve(&w->out, size + 2), command, size);
	memcpy(w->out.data + w->out.end + size, "\r\n", 2);
	kvmp_buffer_added(&w->out, size + 2);
	wire_send(w);
	do {
		receive(w);
		have = kvmp_buffer_size(&w->in) < sizeof answer ? kvmp_buffer_size(&w->in) : sizeof answer - 1;
		memcpy(answer, w->in.data + w->in.start, have);
		answer[have] = '\0';
		end = strstr(answer, "\r\n");
	} while (end == NULL || (answer[0] == '$' && have < (size_t)(end - answer) + (size_t)atol(answer + 1) + 4));
	kvmp_buffer_take(&w->in, kvmp_buffer_size(&w->in));
	return answer;
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

static bool
hello(struct wire *w, const char *store)
{
	struct kvmp_request r = { .id = 1, .type = KVMP_HELLO };

	if (w->resp)
		return strncmp(wire_command(w, "PING"), "+PONG", 5) == 0;
	r.hello.version = KVMP_VERSION;
	r.hello.store = store;
	r.hello.client = "bench";
	w->codec = w->codec != NULL ? w->codec : kvmp_codec_new(0);
	if (w->codec == NULL)
		bench_die("no memory");
	request(w, &r);
	wire_batch(w);
	return true;
}

void
wire_open(struct wire *w, struct peer *p, enum wire_kind kind, const char *store)
{
	const struct timespec pause = { 0, 500000 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*w = (struct wire){ .peer = p, .fd = -1, .resp = kind == WIRE_RESP };
	memcpy(address.sun_path, p->socket, strlen(p->socket) + 1);
	for (unsigned i = 0; i < 120000; i++) {
		w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (w->fd >= 0 && connect(w->fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
		    (kind == WIRE_MEMCACHED || hello(w, store)))
			return;
		close(w->fd); /* it starts, or loads */
		peer_check(p);
		nanosleep(&pause, NULL);
	}
	bench_die("%s does not listen", p->name);
}

void
wire_close(struct wire *w)
{
	close(w->fd);
	kvmp_codec_free(&w->codec);
	kvmp_buffer_free(&w->in);
	kvmp_buffer_free(&w->out);
}
