/* Many connections to one server: see bench/lanes.h. */
#include "bench/lanes.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS 65536u /* keys, addresses made for all connections, sent in turn */
#define BATCHES_MIN 16u /* for each connection; an even number, for what is done has to be undone */
#define IN_SIZE (1u << 16)
#define SAMPLES_MAX (1u << 21)

/* ---- Answers --------------------------------------------------------------------------------- */

/* Bytes of an answer of kvmstored whose body has the tag "tag"; 0: not all there. */
static size_t
kvmstored_size(const uint8_t *at, size_t have, uint8_t tag)
{
	size_t size, skip = KVMP_FRAME_HEADER + 9; /* the id */

	if (kvmp_frame_next(at, have, KVMP_RESPONSE_MAX, &size) != KVMP_FRAME_WHOLE)
		return 0;
	if (at[skip] != tag || (tag == 0x22 && (at[skip + 2] != 0x08 || at[skip + 3] != KVMS_OK)))
		bench_die("kvmstored: a request was refused, or did not end ok");
	return KVMP_FRAME_HEADER + size;
}

/* Of a server that answers in text: what must stand there, and how long it is in all. */
static size_t
text_size(const uint8_t *at, size_t have, const char *begin, size_t begin_size, size_t size)
{
	if (have < size)
		return 0;
	if (memcmp(at, begin, begin_size) != 0)
		bench_die("an answer begins with %.20s instead of %s", (const char *)at, begin);
	return size;
}

static size_t
answer_size(enum answer kind, const uint8_t *at, size_t have)
{
	switch (kind) {
	case ANSWER_OUTCOME:
		return kvmstored_size(at, have, 0x22);
	case ANSWER_TRANSLATED:
		return kvmstored_size(at, have, 0x2a);
	case ANSWER_OK:
		return text_size(at, have, "+OK\r\n", 5, 5);
	case ANSWER_BULK:
		return text_size(at, have, "$16\r\n", 5, 5 + LANES_VALUE + 2);
	case ANSWER_ARRAY:
		return text_size(at, have, "*64\r\n$16\r\n", 10, 5 + LANES_MANY * (5 + LANES_VALUE + 2));
	case ANSWER_VALUE:
		return text_size(at, have, "VALUE ", 6, 6 + LANES_KEY + 7 + LANES_VALUE + 7);
	case ANSWER_STORED:
		return text_size(at, have, "STORED\r\n", 8, 8);
	}
	return 0;
}

/* ---- One connection ---------------------------------------------------------------------------- */

struct lane {
	int fd;
	struct kvmp_buffer requests;
	size_t *from;      /* where each batch begins, and the last ends */
	unsigned batches;
	unsigned next;     /* batch */
	unsigned awaited;  /* answers */
	unsigned done;     /* batches */
	uint64_t sent;     /* when */
	size_t start, end; /* of what is in "in" */
	uint8_t *in;
};

static struct lane lanes[LANES_MAX];

static void
lane_send(struct lane *l, struct peer *p, const uint8_t *bytes, size_t size, unsigned requests)
{
	l->sent = bench_now();
	l->awaited = requests;
	while (size > 0) {
		ssize_t n = send(l->fd, bytes, size, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR) {
			peer_check(p);
			bench_die("%s: writing: %s", p->name, strerror(errno));
		}
		bytes += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
	}
}

static void
lane_next(struct lane *l, struct peer *p, unsigned depth)
{
	unsigned batch = l->next++ % l->batches;

	lane_send(l, p, l->requests.data + l->from[batch], l->from[batch + 1] - l->from[batch], depth);
}

/* Read once; true: all answers have come. */
static bool
lane_take(struct lane *l, const struct load *load)
{
	ssize_t n;
	size_t size;

	if (l->end == IN_SIZE) {
		memmove(l->in, l->in + l->start, l->end - l->start);
		l->end -= l->start;
		l->start = 0;
	}
	n = recv(l->fd, l->in + l->end, IN_SIZE - l->end, 0);
	if (n <= 0) {
		if (n < 0 && errno == EINTR)
			return false;
		peer_check(load->peer);
		bench_die("%s: the connection was closed", load->peer->name);
	}
	l->end += (size_t)n;
	while (l->awaited > 0 && (size = answer_size(load->answer, l->in + l->start, l->end - l->start)) > 0) {
		l->start += size;
		l->awaited--;
	}
	if (l->start == l->end)
		l->start = l->end = 0;
	return l->awaited == 0;
}

static void
lane_fill(struct lane *l, const struct load *load, unsigned c, unsigned depth)
{
	for (unsigned b = 0; b < l->batches; b++) {
		l->from[b] = l->requests.end;
		for (unsigned i = 0; i < depth; i++)
			load->put(&l->requests, c, b * depth + i);
	}
	l->from[l->batches] = l->requests.end;
}

void
lanes_open(const struct load *load, unsigned count, unsigned depth)
{
	unsigned keys = load->answer == ANSWER_TRANSLATED || load->answer == ANSWER_ARRAY ? LANES_MANY : 1;
	unsigned batches = depth == 0 ? 0 : REQUESTS / (count * depth * keys) / 2 * 2;
	struct wire w;

	for (unsigned c = 0; c < count; c++) {
		struct lane *l = &lanes[c];

		wire_open(&w, load->peer,
			  load->answer <= ANSWER_TRANSLATED ? WIRE_KVMSTORED :
			  load->answer <= ANSWER_ARRAY	    ? WIRE_RESP :
							      WIRE_MEMCACHED,
			  "default");
		l->fd = dup(w.fd);
		wire_close(&w);
		l->start = l->end = 0;
		l->in = l->in != NULL ? l->in : malloc(IN_SIZE);
		l->batches = batches < BATCHES_MIN ? BATCHES_MIN : batches;
		l->from = calloc(l->batches + 1, sizeof *l->from);
		if (l->fd < 0 || l->in == NULL || l->from == NULL)
			bench_die("no memory");
		if (depth > 0)
			lane_fill(l, load, c, depth);
	}
}

void
lanes_close(unsigned count)
{
	for (unsigned c = 0; c < count; c++) {
		close(lanes[c].fd);
		kvmp_buffer_free(&lanes[c].requests);
		free(lanes[c].from);
	}
}

/* ---- Measuring ------------------------------------------------------------------------------------ */

static uint32_t samples[SAMPLES_MAX]; /* nanoseconds */
static unsigned samples_count;

static int
compare(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* All answers of a batch have come: the next one goes out, until the end. */
static bool
lane_again(struct lane *l, const struct load *load, unsigned depth, uint64_t end)
{
	uint64_t now = bench_now();

	l->done++;
	if (samples_count < SAMPLES_MAX)
		samples[samples_count++] = (uint32_t)(now - l->sent);
	if (now >= end && l->next % 2 == 0) /* what was done is undone */
		return false;
	lane_next(l, load->peer, depth);
	return true;
}

/* One connection needs no epoll: it waits in recv(). */
static void
lane_drive(struct lane *l, const struct load *load, unsigned depth, uint64_t end)
{
	lane_next(l, load->peer, depth);
	do
		while (!lane_take(l, load))
			continue;
	while (lane_again(l, load, depth, end));
}

static void
lanes_drive(const struct load *load, unsigned count, unsigned depth, uint64_t end)
{
	struct epoll_event events[64];
	int set = epoll_create1(EPOLL_CLOEXEC);
	unsigned busy = count;

	for (unsigned c = 0; c < count; c++) {
		events[0] = (struct epoll_event){ .events = EPOLLIN, .data.ptr = &lanes[c] };
		if (epoll_ctl(set, EPOLL_CTL_ADD, lanes[c].fd, &events[0]) != 0)
			bench_die("epoll: %s", strerror(errno));
		lane_next(&lanes[c], load->peer, depth);
	}
	while (busy > 0) {
		int n = epoll_wait(set, events, sizeof events / sizeof events[0], -1);

		if (n < 0 && errno != EINTR)
			bench_die("epoll: %s", strerror(errno));
		for (int i = 0; i < n; i++)
			if (lane_take(events[i].data.ptr, load) && !lane_again(events[i].data.ptr, load, depth, end))
				busy--;
	}
	close(set);
}

static void
drive(const struct load *load, unsigned count, unsigned depth, double seconds)
{
	uint64_t end = bench_now() + (uint64_t)(seconds * 1e9);

	samples_count = 0;
	for (unsigned c = 0; c < count; c++)
		lanes[c].done = 0;
	if (count == 1)
		lane_drive(&lanes[0], load, depth, end);
	else
		lanes_drive(load, count, depth, end);
}

void
lanes_run(const struct load *load, unsigned count, unsigned depth, double seconds, struct lanes_result *r)
{
	uint64_t start, batches = 0;
	unsigned least = UINT_MAX, most = 0;

	peer_place(load->peer, true);
	for (unsigned c = 0; c < count; c++)
		lanes[c].next = 0;
	drive(load, count, depth, seconds / 5); /* warm */
	start = bench_now();
	drive(load, count, depth, seconds);
	start = bench_now() - start;
	for (unsigned c = 0; c < count; c++) {
		batches += lanes[c].done;
		least = lanes[c].done < least ? lanes[c].done : least;
		most = lanes[c].done > most ? lanes[c].done : most;
	}
	bench_add(&r->rate, (double)(batches * depth) * 1e6 / (double)start);
	bench_add(&r->slowest, (double)least / most);
	qsort(samples, samples_count, sizeof samples[0], compare);
	bench_add(&r->p50, samples[samples_count / 2] / 1e3);
	bench_add(&r->p99, samples[(uint64_t)samples_count * 99 / 100] / 1e3);
	bench_add(&r->p999, samples[(uint64_t)samples_count * 999 / 1000] / 1e3);
}

void
lanes_measure(const struct load *load, unsigned count, unsigned depth, double seconds, struct lanes_result *r)
{
	lanes_open(load, count, depth);
	lanes_run(load, count, depth, seconds, r);
	lanes_close(count);
}

void
lanes_ask(const struct load *load, const struct kvmp_buffer *bytes, unsigned requests)
{
	lane_send(&lanes[0], load->peer, bytes->data + bytes->start, kvmp_buffer_size(bytes), requests);
	while (!lane_take(&lanes[0], load))
		continue;
}
