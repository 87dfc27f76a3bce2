#include "daemon/session.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"

#define READ_SIZE (64u * 1024)     /* bytes asked for at once */
#define OUTPUT_HIGH (1024u * 1024) /* bytes of output at which a session stops serving */
#define OUTPUT_LOW (256u * 1024)   /* ... and at which it goes on */
#define DRAIN_READS 256u           /* reads of one session at the end: 16 MiB */
#define KEEP_SPARE (1024u * 1024)  /* bytes of a spare buffer that are kept */
#define LOOK_MS 1000u              /* how often a waiting client that will send no more is looked after */
#define FAR_MS 3600000u            /* as far as the clock of a wait is set */
#define FOREVER UINT64_MAX

struct kvmd_session {
	TAILQ_ENTRY(kvmd_session) link;
	struct kvmd_sessions *all;
	struct kvmd_client client;
	uint64_t number;
	int fd;
	struct event *readable; /* persistent; added while it reads */
	struct event *writable; /* added while output waits for the socket */
	struct event *idle;     /* added while half a frame waits for the rest, and while the session waits */
	struct event *closed;   /* added while it waits: the client will send no more; made when first needed */
	struct kvmp_buffer in;
	struct kvmp_buffer out;
	bool reading;
	bool paused;    /* output filled up: neither read nor serve until it is low */
	bool waiting;   /* for its turn: neither read nor serve */
	bool resumed;   /* no longer: serve what has come behind it */
	bool sent_all;  /* while waiting: the client will send no more, or is gone */
	bool finishing; /* no more requests: end when all output is sent */
	bool lost;      /* the socket is of no more use */
	uint64_t until; /* when a wait ends, in milliseconds */
	struct lot {
		size_t bytes;    /* of the output, the last ones */
		uint64_t number; /* that the journal must have come to */
	} held, next;
};

/* ---- Words for the log -------------------------------------------------------------- */

static const char *
name_of(const struct kvmd_session *s)
{
	static char text[KVMP_CLIENT_NAME_MAX + 40];

	if (s->client.name[0] == '\0')
		snprintf(text, sizeof text, "connection %" PRIu64, s->number);
	else
		snprintf(text, sizeof text, "connection %" PRIu64 " (%s)", s->number, s->client.name);
	return text;
}

/* ---- Output --------------------------------------------------------------------------- */

/* Take a spare buffer for one's own while it is needed. */
static void
lend(struct kvmp_buffer *own, struct kvmp_buffer *spare)
{
	if (own->data == NULL) {
		*own = *spare;
		memset(spare, 0, sizeof *spare);
	}
}

/* Give it back when it is empty, or its memory away if there is a spare one. */
static void
give_back(struct kvmp_buffer *own, struct kvmp_buffer *spare)
{
	if (kvmp_buffer_size(own) > 0)
		return;
	if (spare->data == NULL && own->capacity <= KEEP_SPARE) {
		*spare = *own;
		memset(own, 0, sizeof *own);
	}
	kvmp_buffer_free(own);
}

/* What may be sent. */
static size_t
sendable(const struct kvmd_session *s)
{
	return kvmp_buffer_size(&s->out) - s->held.bytes - s->next.bytes;
}

/* The last "bytes" of the output belong to a step, or come after one that is not written yet. */
static void
hold(struct kvmd_session *s, size_t bytes)
{
	uint64_t number = s->all->server->stepped ? kvmd_state_number(&s->all->server->state) : 0;

	if (s->held.bytes == 0 && number == 0)
		return;
	if (s->held.bytes == 0)
		s->held.number = number;
	if (s->next.bytes == 0 && (number == 0 || number == s->held.number)) {
		s->held.bytes += bytes;
		return;
	}
	s->next.bytes += bytes;
	if (number != 0)
		s->next.number = number;
}

/* Let go of what is written; true if there was any. */
static bool
release(struct kvmd_session *s, uint64_t written)
{
	bool any = false;

	while (s->held.bytes > 0 && s->held.number <= written) {
		s->held = s->next;
		s->next.bytes = 0;
		any = true;
	}
	return any;
}

static void
encode(struct kvmd_session *s, const struct kvmp_response *response)
{
	struct kvmp_codec *codec = s->all->server->codec;
	struct kvmp_response instead;

	switch (kvmp_response_encode(codec, response, &s->out)) {
	case KVMP_ENCODED:
		return;
	case KVMP_ENCODED_TOO_LARGE:
		kvmd_error(&instead, response->id, KVMP_ERROR_TOO_LARGE, "the answer is larger than 32 MiB", false);
		break;
	case KVMP_ENCODED_NO_MEMORY:
		kvmd_error(&instead, response->id, KVMP_ERROR_NO_MEMORY, "no memory left for the answer", false);
		break;
	}
	if (kvmp_response_encode(codec, &instead, &s->out) != KVMP_ENCODED) {
		kvmd_log_limited(KVMD_ERROR, "%s: closed, no memory left to answer", name_of(s));
		s->lost = true;
	}
}

static void
respond(struct kvmd_session *s, const struct kvmp_response *response)
{
	size_t before = kvmp_buffer_size(&s->out);

	encode(s, response);
	hold(s, kvmp_buffer_size(&s->out) - before);
}

/* Tell the client why and end the session. */
static void
refuse(struct kvmd_session *s, uint64_t id, enum kvmp_error_code code, const char *text)
{
	struct kvmp_response response;

	kvmd_log_limited(KVMD_WARNING, "%s: closed: %s", name_of(s), text);
	kvmd_error(&response, id, code, text, true);
	lend(&s->out, &s->all->spare_out);
	respond(s, &response);
	s->finishing = true;
}

/* Send what the socket takes. */
static void
flush(struct kvmd_session *s)
{
	while (!s->lost && sendable(s) > 0) {
		ssize_t n = send(s->fd, s->out.data + s->out.start, sendable(s), MSG_NOSIGNAL);

		if (n >= 0) {
			kvmp_buffer_take(&s->out, (size_t)n);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return;
		} else if (errno != EINTR) {
			kvmd_log(KVMD_DEBUG, "%s: gone with %zu bytes of answers unsent: %s", name_of(s),
				 kvmp_buffer_size(&s->out), strerror(errno));
			s->lost = true;
		}
	}
}

/* ---- Waiting ---------------------------------------------------------------------------- */

static uint64_t
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Set the clock for the end of the wait, or for the next look after the client. */
static void
wait_watch(struct kvmd_session *s)
{
	uint64_t now = monotonic_ms(), left = s->until > now ? s->until - now : 0;
	struct timeval timeout;

	if (left > FAR_MS)
		left = FAR_MS;
	if (s->sent_all && left > LOOK_MS)
		left = LOOK_MS;
	timeout = (struct timeval){ (time_t)(left / 1000), (suseconds_t)(left % 1000 * 1000) };
	event_add(s->idle, &timeout);
}

/* Nobody is there any more; a client that has only sent all it wanted is. */
static bool
client_gone(const struct kvmd_session *s)
{
	struct pollfd p = { s->fd, 0, 0 };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static void settle(struct kvmd_session *s);

/* Look whether a waiting client is still there; false: the session has ended. */
static bool
client_look(struct kvmd_session *s)
{
	if (!client_gone(s))
		return true;
	kvmd_log(KVMD_DEBUG, "%s: gone while it waited", name_of(s));
	s->lost = true;
	settle(s);
	return false;
}

static void
on_closed(evutil_socket_t fd, short what, void *arg)
{
	struct kvmd_session *s = arg;

	(void)fd, (void)what;
	/* it would be said again and again: from here on the clock tells when to look */
	s->sent_all = true;
	if (client_look(s))
		wait_watch(s);
}

/* Begin to wait: for "ms", or with FOREVER until it is told. */
static void
wait_begin(struct kvmd_session *s, uint64_t ms)
{
	s->waiting = true;
	s->sent_all = false;
	s->until = ms == FOREVER ? FOREVER : monotonic_ms() + ms + 1; /* the clock is cut to milliseconds: not too early */
	if (s->closed == NULL)
		s->closed = event_new(s->all->base, s->fd, EV_CLOSED, on_closed, s);
	if (s->closed != NULL)
		event_add(s->closed, NULL); /* without it a client that goes is noticed when the wait ends */
	wait_watch(s);
}

static struct kvmd_session *
session_of(struct kvmd_client *client)
{
	return (struct kvmd_session *)(void *)((char *)client - offsetof(struct kvmd_session, client));
}

/* It waits no longer. */
static void
wait_end(struct kvmd_session *s)
{
	s->waiting = false;
	s->resumed = true;
	event_del(s->idle);
	if (s->closed != NULL)
		event_del(s->closed);
	/* it goes on in its own time, from the loop */
	event_add(s->writable, NULL);
}

/* The answer to what it waited for. */
static void
on_answer(struct kvmd_client *client, const struct kvmp_response *response)
{
	struct kvmd_session *s = session_of(client);

	lend(&s->out, &s->all->spare_out);
	respond(s, response);
	wait_end(s);
}

/* The request that was held may be made again: it is still the first in the input. */
static void
on_again(struct kvmd_client *client)
{
	wait_end(session_of(client));
}

/* ---- Input ------------------------------------------------------------------------------ */

/* False: it stays in the input, and the session waits. */
static bool
serve_frame(struct kvmd_session *s, const uint8_t *message, size_t size)
{
	struct kvmd_server *server = s->all->server;
	struct kvmp_response response;
	struct kvmp_request request;
	struct kvmp_refusal why;

	server->stepped = false;
	if (kvmp_request_decode(server->codec, message, size, &request, &why)) {
		enum kvmd_served served = kvmd_serve(server, &s->client, &request, &response);

		if (served == KVMD_ANSWERED)
			respond(s, &response);
		else
			wait_begin(s, s->client.wait.queued ? request.wait_ms : FOREVER);
		kvmd_settle(server);
		return served != KVMD_HELD;
	} else if (why.code == KVMP_ERROR_MALFORMED) {
		refuse(s, why.id, why.code, why.text);
	} else {
		kvmd_log(KVMD_DEBUG, "%s: request refused: %s", name_of(s), why.text);
		kvmd_error(&response, why.id, why.code, why.text, false);
		respond(s, &response);
	}
	return true;
}

/* Serve whole frames while the output has room. */
static void
serve_frames(struct kvmd_session *s)
{
	s->paused = s->resumed = false;
	while (!s->finishing && !s->waiting && !s->lost) {
		const uint8_t *at = s->in.data + s->in.start;
		char text[96];
		size_t size;

		if (kvmp_buffer_size(&s->out) >= OUTPUT_HIGH) {
			s->paused = true;
			return;
		}
		switch (kvmp_frame_next(at, kvmp_buffer_size(&s->in), KVMP_REQUEST_MAX, &size)) {
		case KVMP_FRAME_PARTIAL:
			return;
		case KVMP_FRAME_BAD:
			snprintf(text, sizeof text, "a frame of %zu bytes; a request has 1 to %u", size,
				 KVMP_REQUEST_MAX);
			refuse(s, 0, KVMP_ERROR_MALFORMED, text);
			break;
		case KVMP_FRAME_WHOLE:
			if (serve_frame(s, at + KVMP_FRAME_HEADER, size))
				kvmp_buffer_take(&s->in, KVMP_FRAME_HEADER + size);
			break;
		}
	}
}

/*
 * Serve and send until the input is used up or the socket is full.  Each turn
 * takes at least one frame out of the input, so it ends.
 */
static void
work(struct kvmd_session *s)
{
	do {
		serve_frames(s);
		flush(s);
	} while (s->paused && !s->lost && kvmp_buffer_size(&s->out) <= OUTPUT_LOW);
}

/* Read once.  Gives bytes read; 0 at the end of input; -1: nothing there, or lost. */
static ssize_t
read_some(struct kvmd_session *s)
{
	uint8_t *place;
	ssize_t n;

	lend(&s->in, &s->all->spare_in);
	place = kvmp_buffer_reserve(&s->in, READ_SIZE);
	if (place == NULL) {
		kvmd_log_limited(KVMD_ERROR, "%s: closed, no memory left to read", name_of(s));
		s->lost = true;
		return -1;
	}
	do
		n = read(s->fd, place, READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		kvmp_buffer_added(&s->in, (size_t)n);
	} else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
		kvmd_log(KVMD_DEBUG, "%s: gone: %s", name_of(s), strerror(errno));
		s->lost = true;
	}
	return n;
}

static void
input_ended(struct kvmd_session *s)
{
	if (kvmp_buffer_size(&s->in) > 0)
		kvmd_log(KVMD_DEBUG, "%s: ended in the middle of a request, %zu bytes of it came", name_of(s),
			 kvmp_buffer_size(&s->in));
	s->finishing = true;
}

/* ---- Rest ---------------------------------------------------------------------------------- */

static void
session_end(struct kvmd_session *s)
{
	struct kvmd_sessions *all = s->all;

	kvmd_log(KVMD_DEBUG, "%s: end", name_of(s));
	TAILQ_REMOVE(&all->list, s, link);
	all->count--;
	all->server->connections--;
	if (s->readable != NULL)
		event_free(s->readable);
	if (s->writable != NULL)
		event_free(s->writable);
	if (s->idle != NULL)
		event_free(s->idle);
	if (s->closed != NULL)
		event_free(s->closed);
	close(s->fd);
	kvmp_buffer_free(&s->in);
	kvmp_buffer_free(&s->out);
	kvmd_client_end(all->server, &s->client);
	free(s);
	if (all->gone != NULL)
		all->gone(all->arg);
}

/* The clock runs while half a frame is there, or the last answers, and it is the client's turn. */
static void
idle_watch(struct kvmd_session *s)
{
	const struct timeval timeout = { (time_t)s->all->idle_timeout, 0 };

	if (s->waiting)
		return; /* the clock is set */
	if (s->finishing || (s->reading && kvmp_buffer_size(&s->in) > 0))
		event_add(s->idle, &timeout);
	else if (event_pending(s->idle, EV_TIMEOUT, NULL))
		event_del(s->idle);
}

/* Say what it waits for next; ends it if that is nothing. */
static void
settle(struct kvmd_session *s)
{
	bool output = kvmp_buffer_size(&s->out) > 0;
	bool read_on = !s->finishing && !s->paused && !s->waiting;

	if (s->lost || (s->finishing && !output)) {
		session_end(s);
		return;
	}
	if (sendable(s) > 0)
		event_add(s->writable, NULL);
	if (read_on && !s->reading)
		event_add(s->readable, NULL);
	else if (!read_on && s->reading)
		event_del(s->readable);
	s->reading = read_on;
	idle_watch(s);
	give_back(&s->in, &s->all->spare_in);
	give_back(&s->out, &s->all->spare_out);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct kvmd_session *s = arg;
	ssize_t n = read_some(s);

	(void)fd, (void)what;
	if (n >= 0) {
		lend(&s->out, &s->all->spare_out);
		work(s);
		if (n == 0 && !s->paused && !s->waiting)
			input_ended(s);
	}
	settle(s);
}

/*
 * The end is near: take what is in the socket and finish.  What was held back
 * for lack of room for output is served as the client makes room.
 */
static void
drain(struct kvmd_session *s)
{
	work(s);
	for (unsigned i = 0; i < DRAIN_READS && !s->paused && !s->finishing && !s->waiting && !s->lost; i++) {
		if (read_some(s) <= 0)
			break;
		lend(&s->out, &s->all->spare_out);
		work(s);
	}
	if (!s->paused && !s->finishing && !s->waiting)
		input_ended(s);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct kvmd_session *s = arg;

	(void)fd, (void)what;
	flush(s);
	if ((s->paused || s->resumed) && !s->lost && kvmp_buffer_size(&s->out) <= OUTPUT_LOW) {
		lend(&s->out, &s->all->spare_out);
		if (s->all->draining)
			drain(s);
		else
			work(s);
	}
	settle(s);
}

static void
on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct kvmd_session *s = arg;
	char text[128];

	(void)fd, (void)what;
	if (s->waiting) {
		if (s->sent_all && !client_look(s))
			return;
		if (monotonic_ms() < s->until)
			wait_watch(s);
		else
			kvmd_wait_over(s->all->server, &s->client);
		return;
	}
	if (s->finishing) {
		kvmd_log(KVMD_DEBUG, "%s: closed, it does not take its last answers", name_of(s));
		s->lost = true;
		settle(s);
		return;
	}
	snprintf(text, sizeof text, "half a request (%zu bytes), then nothing for %u seconds", kvmp_buffer_size(&s->in),
		 s->all->idle_timeout);
	refuse(s, 0, KVMP_ERROR_TIMEOUT, text);
	flush(s);
	settle(s);
}

/* ---- Beginning and end ------------------------------------------------------------------------ */

void
kvmd_sessions_init(struct kvmd_sessions *all, struct event_base *base, struct kvmd_server *server,
		   unsigned idle_timeout)
{
	*all = (struct kvmd_sessions){ .base = base, .server = server, .idle_timeout = idle_timeout };
	TAILQ_INIT(&all->list);
}

static void
client_log(const struct kvmd_session *s)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
		kvmd_log(KVMD_DEBUG, "%s: from process %ld of user %lu", name_of(s), (long)peer.pid,
			 (unsigned long)peer.uid);
}

bool
kvmd_session_begin(struct kvmd_sessions *all, int fd)
{
	struct kvmd_session *s = calloc(1, sizeof *s);

	if (s == NULL) {
		close(fd);
		return false;
	}
	s->all = all;
	s->client.answer = on_answer;
	s->client.again = on_again;
	s->client.patient = true;
	s->number = s->client.number = ++all->serial;
	s->fd = fd;
	s->readable = event_new(all->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	s->writable = event_new(all->base, fd, EV_WRITE, on_writable, s);
	s->idle = event_new(all->base, -1, 0, on_idle, s);
	TAILQ_INSERT_TAIL(&all->list, s, link);
	all->count++;
	all->server->connections++;
	if (s->readable == NULL || s->writable == NULL || s->idle == NULL || event_add(s->readable, NULL) != 0) {
		session_end(s);
		return false;
	}
	s->reading = true;
	client_log(s);
	return true;
}

void
kvmd_sessions_written(struct kvmd_sessions *all)
{
	uint64_t written = kvmd_state_written(&all->server->state);
	struct kvmd_session *s = TAILQ_FIRST(&all->list), *next;

	for (; s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		if (release(s, written))
			on_writable(s->fd, 0, s);
	}
}

void
kvmd_sessions_drain(struct kvmd_sessions *all)
{
	struct kvmd_session *s = TAILQ_FIRST(&all->list), *next;

	all->draining = true;
	kvmd_waits_close(all->server);
	for (; s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		drain(s);
		settle(s);
	}
}

unsigned
kvmd_sessions_end(struct kvmd_sessions *all)
{
	unsigned unsent = 0;

	kvmd_waits_close(all->server);
	while (!TAILQ_EMPTY(&all->list)) {
		struct kvmd_session *s = TAILQ_FIRST(&all->list);

		unsent += kvmp_buffer_size(&s->out) > 0;
		session_end(s);
	}
	kvmp_buffer_free(&all->spare_in);
	kvmp_buffer_free(&all->spare_out);
	return unsent;
}
