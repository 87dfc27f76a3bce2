/*
 * rates - requests a second over a unix socket, beside Redis and memcached.
 *
 *   rates KVMSTORED FOLDER
 *
 * Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in the environment
 * it only shows that everything works.
 *
 * One client for all: requests are bytes made before the clock runs, a batch
 * goes out with one write, and of an answer no more is looked at than its size
 * and whether it is what was asked for.  So what is compared is the servers and
 * the bytes they want, not three client libraries.
 */
#include "bench/bench.h"
#include "bench/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE KVMS_PAGE_SIZE
#define PROP_RW (KVMS_PROP_R | KVMS_PROP_W | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT) /* rw:wb */
#define CONNECTIONS_MAX 50u
#define REQUESTS 65536u    /* keys, addresses made for all connections, sent in turn */
#define BATCHES_MIN 16u    /* for each connection; an even number, for what is done has to be undone */
#define IN_SIZE (1u << 18)
#define SAMPLES_MAX (1u << 21)
#define MANY 64u   /* addresses, keys in one request */
#define KEY_SIZE 12u
#define VALUE_SIZE 16u
#define FILL_PAGES (UINT64_C(1) << 14)

/* ---- Requests ------------------------------------------------------------------------------ */

/* What stands at the beginning of a good answer is known; the rest is skipped. */
enum answer { ANSWER_OUTCOME, ANSWER_TRANSLATED, ANSWER_OK, ANSWER_BULK, ANSWER_ARRAY, ANSWER_VALUE, ANSWER_STORED };

/* One load: which server, what is asked. */
struct load {
	const char *name;
	struct peer *peer;
	enum answer answer;
	/* Append request "i" of connection "c". */
	void (*put)(struct kvmp_buffer *to, unsigned c, unsigned i);
};

static uint64_t mappings = 1000000, first_va, spare_va[CONNECTIONS_MAX], spare_area[CONNECTIONS_MAX];
static struct kvmp_codec *codec;

static uint64_t
random_next(void)
{
	static uint64_t x = UINT64_C(88172645463325252);

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void
request_put(struct kvmp_buffer *to, const struct kvmp_request *r)
{
	if (kvmp_request_encode(codec, r, to) != KVMP_ENCODED)
		bench_die("a request cannot be encoded");
}

static void
text_put(struct kvmp_buffer *to, const char *text)
{
	size_t size = strlen(text);
	uint8_t *at = kvmp_buffer_reserve(to, size);

	if (at == NULL)
		bench_die("no memory");
	memcpy(at, text, size);
	kvmp_buffer_added(to, size);
}

static void
translate_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	struct kvmp_request r = { .id = i + 1, .type = KVMP_INSPECT };

	(void)c;
	kvms_op_init(&r.op, kvms_request_find("translate"));
	r.op.arg[kvms_arg_index(kvms_request_find("translate"), "va")] = first_va + random_next() % (mappings * PAGE);
	request_put(to, &r);
}

static void
translate_many_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	struct kvmp_request r = { .id = i + 1, .type = KVMP_TRANSLATE_MANY };
	uint64_t va[MANY];

	(void)c;
	for (unsigned k = 0; k < MANY; k++)
		va[k] = first_va + random_next() % (mappings * PAGE);
	r.translate.va = va;
	r.translate.count = MANY;
	request_put(to, &r);
}

/* Map a page, take it away again: in the connection's own area, so that no batch waits for another. */
static void
map_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	struct kvmp_request map = { .id = i + 1, .type = KVMP_OP, .op = bench_op("kvirt_map_untracked_into") };
	struct kvmp_request unmap = { .id = i + 1, .type = KVMP_OP, .op = bench_op("kvirt_unmap_range") };
	uint64_t va = spare_va[c] + i / 2 % 256 * PAGE;

	map.op.arg[bench_argument("kvirt_map_untracked_into", "area")] = spare_area[c];
	map.op.arg[bench_argument("kvirt_map_untracked_into", "va")] = va;
	map.op.arg[bench_argument("kvirt_map_untracked_into", "paddr_start")] = PAGE;
	map.op.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = UINT64_C(2) * PAGE;
	map.op.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	unmap.op.arg[bench_argument("kvirt_unmap_range", "area")] = spare_area[c];
	unmap.op.arg[bench_argument("kvirt_unmap_range", "start")] = va;
	unmap.op.arg[bench_argument("kvirt_unmap_range", "end")] = va + PAGE;
	request_put(to, i % 2 == 0 ? &map : &unmap);
}

static void
key_text(char text[KEY_SIZE + 1], uint64_t key)
{
	snprintf(text, KEY_SIZE + 1, "%0*u", (int)KEY_SIZE, (unsigned)key);
}

static void
get_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char key[KEY_SIZE + 1], text[128];

	(void)c, (void)i;
	key_text(key, random_next() % mappings);
	snprintf(text, sizeof text, "*2\r\n$3\r\nGET\r\n$%u\r\n%s\r\n", KEY_SIZE, key);
	text_put(to, text);
}

static void
set_text(char *text, size_t size, uint64_t n)
{
	char key[KEY_SIZE + 1];

	key_text(key, n);
	snprintf(text, size, "*3\r\n$3\r\nSET\r\n$%u\r\n%s\r\n$%u\r\n%0*u\r\n", KEY_SIZE, key, VALUE_SIZE, (int)VALUE_SIZE,
		 (unsigned)n);
}

static void
set_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char text[128];

	(void)c, (void)i;
	set_text(text, sizeof text, random_next() % mappings);
	text_put(to, text);
}

static void
mget_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char key[KEY_SIZE + 1], text[64];

	(void)c, (void)i;
	snprintf(text, sizeof text, "*%u\r\n$4\r\nMGET\r\n", MANY + 1);
	text_put(to, text);
	for (unsigned k = 0; k < MANY; k++) {
		key_text(key, random_next() % mappings);
		snprintf(text, sizeof text, "$%u\r\n%s\r\n", KEY_SIZE, key);
		text_put(to, text);
	}
}

static void
memcached_get_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char key[KEY_SIZE + 1], text[64];

	(void)c, (void)i;
	key_text(key, random_next() % mappings);
	snprintf(text, sizeof text, "get %s\r\n", key);
	text_put(to, text);
}

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
		return text_size(at, have, "$16\r\n", 5, 5 + VALUE_SIZE + 2);
	case ANSWER_ARRAY:
		return text_size(at, have, "*64\r\n$16\r\n", 10, 5 + MANY * (5 + VALUE_SIZE + 2));
	case ANSWER_VALUE:
		return text_size(at, have, "VALUE ", 6, 6 + KEY_SIZE + 7 + VALUE_SIZE + 7);
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
	uint64_t sent;     /* when */
	size_t start, end; /* of what is in "in" */
	uint8_t *in;
};

static struct lane lanes[CONNECTIONS_MAX];

static void
lane_send(struct lane *l, struct peer *p, unsigned depth)
{
	unsigned batch = l->next++ % l->batches;

	l->sent = bench_now();
	l->awaited = depth;
	for (size_t at = l->from[batch]; at < l->from[batch + 1];) {
		ssize_t n = send(l->fd, l->requests.data + at, l->from[batch + 1] - at, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR) {
			peer_check(p);
			bench_die("%s: writing: %s", p->name, strerror(errno));
		}
		at += n > 0 ? (size_t)n : 0;
	}
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

static void
lanes_open(const struct load *load, unsigned count, unsigned depth)
{
	unsigned keys = load->answer == ANSWER_TRANSLATED || load->answer == ANSWER_ARRAY ? MANY : 1;
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

static void
lanes_close(unsigned count)
{
	for (unsigned c = 0; c < count; c++) {
		close(lanes[c].fd);
		kvmp_buffer_free(&lanes[c].requests);
		free(lanes[c].from);
	}
}

/* ---- Measuring ------------------------------------------------------------------------------------ */

struct result {
	struct bench_figure rate, p50, p99, p999; /* 1000/s, and microseconds from sending to the last answer of a batch */
};

static uint32_t samples[SAMPLES_MAX]; /* nanoseconds */
static unsigned samples_count;

static int
compare(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* One connection needs no poll(): it waits in recv(). */
static bool
lanes_wait(struct pollfd *polls, unsigned count)
{
	if (count == 1) {
		polls[0].revents = POLLIN;
		return true;
	}
	return poll(polls, count, -1) >= 0 || errno == EINTR;
}

static uint64_t
lanes_drive(const struct load *load, unsigned count, unsigned depth, uint64_t end)
{
	struct pollfd polls[CONNECTIONS_MAX];
	unsigned busy = count;
	uint64_t batches = 0, now;

	for (unsigned c = 0; c < count; c++) {
		lane_send(&lanes[c], load->peer, depth);
		polls[c] = (struct pollfd){ lanes[c].fd, POLLIN, 0 };
	}
	while (busy > 0) {
		if (!lanes_wait(polls, count))
			bench_die("poll: %s", strerror(errno));
		for (unsigned c = 0; c < count; c++) {
			if (polls[c].fd < 0 || polls[c].revents == 0 || !lane_take(&lanes[c], load))
				continue;
			now = bench_now();
			batches++;
			if (samples_count < SAMPLES_MAX)
				samples[samples_count++] = (uint32_t)(now - lanes[c].sent);
			if (now < end || lanes[c].next % 2 != 0) {
				lane_send(&lanes[c], load->peer, depth);
			} else {
				polls[c].fd = -1;
				busy--;
			}
		}
	}
	return batches;
}

static void
measure(const struct load *load, unsigned count, unsigned depth, double seconds, struct result *r)
{
	uint64_t start, batches;

	lanes_open(load, count, depth);
	for (unsigned c = 0; c < count; c++)
		lanes[c].next = 0;
	peer_place(load->peer, true);
	lanes_drive(load, count, depth, bench_now() + (uint64_t)(seconds * 2e8)); /* warm */
	samples_count = 0;
	start = bench_now();
	batches = lanes_drive(load, count, depth, start + (uint64_t)(seconds * 1e9));
	bench_add(&r->rate, (double)(batches * depth) * 1e6 / (double)(bench_now() - start));
	qsort(samples, samples_count, sizeof samples[0], compare);
	bench_add(&r->p50, samples[samples_count / 2] / 1e3);
	bench_add(&r->p99, samples[(uint64_t)samples_count * 99 / 100] / 1e3);
	bench_add(&r->p999, samples[(uint64_t)samples_count * 999 / 1000] / 1e3);
	lanes_close(count);
}

/* ---- The servers ------------------------------------------------------------------------------------ */

static struct peer kvmstored, redis, memcached;

/* One area with all mappings, each a page; then one for each connection, where it maps and unmaps. */
static void
kvmstored_fill(void)
{
	struct kvms_op reserve = bench_op("kvirt_reserve"), map = bench_op("kvirt_map_untracked_into");
	struct wire w;

	wire_open(&w, &kvmstored, WIRE_KVMSTORED, "default");
	for (unsigned c = 0; c <= CONNECTIONS_MAX; c++) {
		reserve.arg[0] = (c == 0 ? mappings : 512) * PAGE;
		wire_op(&w, &reserve);
		wire_batch(&w);
		if (c == 0) {
			first_va = w.second;
			map.arg[bench_argument("kvirt_map_untracked_into", "area")] = w.result[0];
		} else {
			spare_area[c - 1] = w.result[0];
			spare_va[c - 1] = w.second;
		}
	}
	map.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	map.arg[bench_argument("kvirt_map_untracked_into", "max_level")] = 1;
	for (uint64_t i = 0; i < mappings; i += FILL_PAGES) {
		uint64_t pages = mappings - i < FILL_PAGES ? mappings - i : FILL_PAGES;

		map.arg[bench_argument("kvirt_map_untracked_into", "va")] = first_va + i * PAGE;
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_start")] = i * PAGE;
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = (i + pages) * PAGE;
		wire_op(&w, &map);
		wire_batch(&w);
	}
	wire_close(&w);
}

/* As many keys as there are mappings. */
static void
keys_fill(struct peer *p, enum wire_kind kind)
{
	const struct load load = { p->name, p, kind == WIRE_RESP ? ANSWER_OK : ANSWER_STORED, NULL };
	char text[128], key[KEY_SIZE + 1];
	struct lane *l = &lanes[0];

	lanes_open(&load, 1, 0);
	for (uint64_t i = 0; i < mappings; i += 100) {
		l->requests.start = l->requests.end = 0;
		l->next = 0;
		for (uint64_t k = i; k < i + 100; k++) {
			key_text(key, k);
			if (kind == WIRE_RESP)
				set_text(text, sizeof text, k);
			else
				snprintf(text, sizeof text, "set %s 0 0 %u\r\n%0*u\r\n", key, VALUE_SIZE, (int)VALUE_SIZE,
					 (unsigned)k);
			text_put(&l->requests, text);
		}
		l->from[1] = l->requests.end;
		lane_send(l, p, 100);
		while (!lane_take(l, &load))
			continue;
	}
	lanes_close(1);
}

static void
servers_start(const char *program)
{
	const char *const daemon[] = { program, "--listen", kvmstored.socket, "--log-level", "warning", NULL };
	const char *const cache[] = { "memcached", "-s", memcached.socket, "-t", "1", "-m", "1024", "-u", "root", NULL };

	peer_start(&kvmstored, daemon);
	peer_redis(&redis, NULL);
	peer_start(&memcached, cache);
	kvmstored_fill();
	keys_fill(&redis, WIRE_RESP);
	keys_fill(&memcached, WIRE_MEMCACHED);
}

/* ---- The tables ---------------------------------------------------------------------------------------- */

enum { TRANSLATE, GET, CACHE_GET, LOOKUPS };
enum { MAP, SET, WRITES };
enum { BULK, MGET, BULKS };

static const struct load lookups[LOOKUPS] = {
	[TRANSLATE] = { "kvmstored translate", &kvmstored, ANSWER_OUTCOME, translate_put },
	[GET] = { "Redis GET", &redis, ANSWER_BULK, get_put },
	[CACHE_GET] = { "memcached get", &memcached, ANSWER_VALUE, memcached_get_put },
};
static const struct load writes[WRITES] = {
	[MAP] = { "kvmstored map, unmap", &kvmstored, ANSWER_OUTCOME, map_put },
	[SET] = { "Redis SET", &redis, ANSWER_OK, set_put },
};
static const struct load bulks[BULKS] = {
	[BULK] = { "kvmstored translate_many", &kvmstored, ANSWER_TRANSLATED, translate_many_put },
	[MGET] = { "Redis MGET", &redis, ANSWER_ARRAY, mget_put },
};

/* Loads that are compared under the shapes of connections and depth. */
struct table {
	const char *what;
	const struct load *loads;
	unsigned loads_count;
	unsigned ours, theirs;
	unsigned keys; /* in a request */
	struct {
		unsigned connections, depth;
	} shapes[12];
	struct result results[12][LOOKUPS];
};

#define GRID                                                                                                           \
	{ { 1, 1 }, { 1, 16 }, { 1, 64 }, { 1, 256 }, { 8, 1 }, { 8, 16 }, { 8, 64 }, { 8, 256 }, { 50, 1 }, { 50, 16 },   \
	  { 50, 64 }, { 50, 256 } }

static struct table tables[] = {
	{ "Lookups", lookups, LOOKUPS, TRANSLATE, GET, 1, GRID, { { { .rate = { .rounds = 0 } } } } },
	{ "Writes", writes, WRITES, MAP, SET, 1, GRID, { { { .rate = { .rounds = 0 } } } } },
	{ "64 lookups in a request", bulks, BULKS, BULK, MGET, MANY, { { 1, 1 }, { 1, 16 }, { 8, 1 }, { 8, 16 } },
	  { { { .rate = { .rounds = 0 } } } } },
};

static void
table_round(struct table *t, unsigned round, double seconds)
{
	for (unsigned s = 0; s < 12 && t->shapes[s].depth != 0; s++)
		for (unsigned l = 0; l < t->loads_count; l++) {
			unsigned turn = round % 2 == 0 ? l : t->loads_count - 1 - l;

			measure(&t->loads[turn], t->shapes[s].connections, t->shapes[s].depth, seconds,
				&t->results[s][turn]);
		}
}

static void
table_print(const struct table *t)
{
	printf("\n### %s\n\n| connections x ahead | server | 1000 %s a second | times %s | p50, us | p99, us | p99.9, us |\n"
	       "|---|---|---|---|---|---|---|\n",
	       t->what, t->keys > 1 ? "requests of 64" : "requests", t->loads[t->theirs].name);
	for (unsigned s = 0; s < 12 && t->shapes[s].depth != 0; s++)
		for (unsigned l = 0; l < t->loads_count; l++) {
			const struct result *r = &t->results[s][l];

			printf("| %u x %u | %s | %s | %s | %s | %s | %s |\n", t->shapes[s].connections, t->shapes[s].depth,
			       t->loads[l].name, bench_cell(&r->rate),
			       l != t->theirs ? bench_ratio(&r->rate, &t->results[s][t->theirs].rate) : "",
			       bench_cell(&r->p50), bench_cell(&r->p99), bench_cell(&r->p999));
		}
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	const char *mode = getenv("BENCH_QUICK");
	bool quick = mode != NULL && strcmp(mode, "0") != 0;
	unsigned rounds = quick ? 1 : 5;
	double seconds = quick ? 0.02 : 0.15;

	if (argc != 3) {
		fprintf(stderr, "Usage: rates KVMSTORED FOLDER\n");
		return 2;
	}
	if (quick)
		mappings = 20000;
	codec = kvmp_codec_new(0);
	if (codec == NULL)
		bench_die("no memory");
	peer_folder(argv[2]);
	peer_init(&kvmstored, "kvmstored");
	peer_init(&redis, "redis");
	peer_init(&memcached, "memcached");
	servers_start(argv[1]);
	if (quick)
		printf("**A smoke test: these figures mean nothing.**\n\n");
	printf("Medians of %u rounds (least .. largest), %.2f s each, in turn; %u mappings, as many keys.\n", rounds, seconds,
	       (unsigned)mappings);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < sizeof tables / sizeof tables[0]; i++)
			table_round(&tables[i], round, seconds);
	for (unsigned i = 0; i < sizeof tables / sizeof tables[0]; i++)
		table_print(&tables[i]);
	peer_stop(&kvmstored, SIGTERM);
	peer_stop(&redis, SIGTERM);
	peer_stop(&memcached, SIGTERM);
	kvmp_codec_free(&codec);
	return 0;
}
