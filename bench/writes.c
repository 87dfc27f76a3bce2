/* Durable writes: many small operations, over one connection or several, with requests sent ahead. */
#include "bench/durable.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX 8u
#define SAMPLES_MAX (1u << 20)
#define KEY_SIZE 12u
#define KEYS 1000000u

/* ---- Loads --------------------------------------------------------------------------- */

/* One connection and where it is in its round of batches. */
struct client {
	struct wire w;
	unsigned phase;
	uint64_t frames[WIRE_DEPTH_MAX];
	uint64_t random;
	uint64_t sent; /* when */
};

static struct kvms_op alloc, drop, map, unmap;
static size_t value_size;

static void
ops_prepare(void)
{
	alloc = bench_op("frame_alloc");
	drop = bench_op("frame_drop");
	map = bench_op("kvirt_map_frames");
	unmap = bench_op("kvirt_drop");
	map.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
}

size_t
durable_request_size(void)
{
	struct wire w = { .codec = kvmp_codec_new(0) };
	uint64_t frame = 1000000;
	size_t size;

	ops_prepare();
	map.list = &frame;
	drop.arg[0] = unmap.arg[0] = frame;
	wire_op(&w, &alloc);
	wire_op(&w, &map);
	wire_op(&w, &unmap);
	wire_op(&w, &drop);
	size = kvmp_buffer_size(&w.out) / 4;
	kvmp_codec_free(&w.codec);
	kvmp_buffer_free(&w.out);
	return size;
}

/* Allocate "depth" frames, then drop them. */
static void
gather_frames(struct client *k, unsigned depth)
{
	struct kvms_op op = drop;

	if (k->phase % 2 == 1)
		memcpy(k->frames, k->w.result, depth * sizeof k->frames[0]);
	for (unsigned i = 0; i < depth; i++) {
		op.arg[0] = k->frames[i];
		wire_op(&k->w, k->phase % 2 == 0 ? &alloc : &op);
	}
}

/* Allocate frames, map each into an area of its own, drop the areas, which frees the frames. */
static void
gather_maps(struct client *k, unsigned depth)
{
	struct kvms_op op = k->phase % 3 == 1 ? map : k->phase % 3 == 2 ? unmap : alloc;

	if (k->phase % 3 != 0)
		memcpy(k->frames, k->w.result, depth * sizeof k->frames[0]);
	for (unsigned i = 0; i < depth; i++) {
		if (k->phase % 3 == 1)
			op.list = &k->frames[i];
		if (k->phase % 3 == 2)
			op.arg[0] = k->frames[i];
		wire_op(&k->w, &op);
	}
}

/* SET of random keys. */
static void
gather_sets(struct client *k, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++) {
		k->random ^= k->random << 13;
		k->random ^= k->random >> 7;
		k->random ^= k->random << 17;
		wire_set(&k->w, k->random % KEYS, value_size);
	}
}

typedef void gather(struct client *k, unsigned depth);

/* ---- Measuring -------------------------------------------------------------------------- */

struct result {
	struct bench_figure rate, p50, p99; /* 1000/s, ms, ms */
};

static uint32_t samples[SAMPLES_MAX]; /* microseconds from the sending of a batch to its last answer */
static unsigned samples_count;

static int
compare(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

static void
begin(struct client *k, gather *load, unsigned depth)
{
	k->sent = bench_now();
	load(k, depth);
	wire_send(&k->w);
	k->phase++;
}

/* Answers of one connection have come; true: all of its batch. */
static bool
heard(struct client *k)
{
	if (!wire_take(&k->w))
		return false;
	if (samples_count < SAMPLES_MAX)
		samples[samples_count++] = (uint32_t)((bench_now() - k->sent) / 1000);
	return true;
}

/* Keep every connection busy until "end", and then until the last answer. */
static uint64_t
drive(struct client *clients, unsigned count, unsigned depth, gather *load, uint64_t end)
{
	struct pollfd polls[CONNECTIONS_MAX];
	unsigned busy = count;
	uint64_t batches = 0;

	for (unsigned i = 0; i < count; i++) {
		begin(&clients[i], load, depth);
		polls[i] = (struct pollfd){ clients[i].w.fd, POLLIN, 0 };
	}
	while (busy > 0) {
		if (poll(polls, count, -1) < 0 && errno != EINTR)
			bench_die("poll: %s", strerror(errno));
		for (unsigned i = 0; i < count; i++) {
			if (polls[i].revents == 0 || !heard(&clients[i]))
				continue;
			batches++;
			if (bench_now() < end) {
				begin(&clients[i], load, depth);
			} else {
				polls[i].fd = -1;
				busy--;
			}
		}
	}
	return batches;
}

static void
measure(struct client *clients, unsigned count, unsigned depth, gather *load, double seconds, struct result *r)
{
	uint64_t start, batches;

	peer_place(clients[0].w.peer, true);
	samples_count = 0;
	start = bench_now();
	batches = drive(clients, count, depth, load, start + (uint64_t)(seconds * 1e9));
	bench_add(&r->rate, (double)(batches * depth) * 1e6 / (double)(bench_now() - start));
	qsort(samples, samples_count, sizeof samples[0], compare);
	bench_add(&r->p50, samples[samples_count / 2] / 1e3);
	bench_add(&r->p99, samples[(uint64_t)samples_count * 99 / 100] / 1e3);
}

/* ---- The servers -------------------------------------------------------------------------- */

struct server {
	struct peer peer;
	bool redis;
	struct client clients[CONNECTIONS_MAX];
};

static struct server always, everysec, full, relaxed;

static void
server_start(struct server *s, const char *name, const char *fsync, const char *kvmstored)
{
	const char *const settings[] = { "--durability", name, "--snapshot-every", "0", "--log-level", "warning", NULL };

	peer_init(&s->peer, name);
	s->redis = fsync != NULL;
	if (s->redis)
		peer_redis(&s->peer, fsync);
	else
		peer_kvmstored(&s->peer, kvmstored, settings);
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		wire_open(&s->clients[i].w, &s->peer, s->redis ? WIRE_RESP : WIRE_KVMSTORED, "default");
		s->clients[i].random = UINT64_C(88172645463325252) + i;
	}
}

static void
server_stop(struct server *s)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		wire_close(&s->clients[i].w);
	peer_stop(&s->peer, SIGTERM);
}

/* A pair of servers that promise the same, under one shape of load. */
struct shape {
	unsigned connections, depth;
	struct result sets, frames, maps;
};

static const struct shape shapes[] = { { .connections = 1, .depth = 16 },
				       { .connections = 1, .depth = 64 },
				       { .connections = 8, .depth = 16 },
				       { .connections = 8, .depth = 64 } };

#define SHAPES (sizeof shapes / sizeof shapes[0])

static void
shape_measure(struct shape *s, struct server *redis, struct server *kvmstored, double seconds)
{
	for (unsigned i = 0; i < s->connections; i++)
		kvmstored->clients[i].phase = 0;
	measure(redis->clients, s->connections, s->depth, gather_sets, seconds, &s->sets);
	measure(kvmstored->clients, s->connections, s->depth, gather_frames, seconds, &s->frames);
	for (unsigned i = 0; i < s->connections; i++)
		kvmstored->clients[i].phase = 0;
	measure(kvmstored->clients, s->connections, s->depth, gather_maps, seconds, &s->maps);
}

/* The rates of a shape, each server and load by its name. */
static void
shapes_plot(const struct shape *s, const char *file)
{
	FILE *data = bench_data(file);
	char name[80];

	for (unsigned i = 0; i < SHAPES; i++) {
		snprintf(name, sizeof name, "%u x %u", s[i].connections, s[i].depth);
		bench_point(data, name, &s[i].sets.rate);
		bench_point(data, name, &s[i].frames.rate);
		bench_point(data, name, &s[i].maps.rate);
	}
	bench_data_end(data);
}

static void
load_print(const struct shape *s, const char *name, const struct result *r, bool ratio)
{
	printf("| %u x %u | %s | %s | %s | %s | %s |\n", s->connections, s->depth, name, bench_cell(&r->rate),
	       ratio ? bench_ratio(&r->rate, &s->sets.rate) : "", bench_cell(&r->p50), bench_cell(&r->p99));
}

static void
shapes_print(const struct shape *s, const char *redis, const char *kvmstored)
{
	char name[80];

	printf("\n| connections x ahead | server, load | 1000 operations/s | ratio | p50, ms | p99, ms |\n"
	       "|---|---|---|---|---|---|\n");
	for (unsigned i = 0; i < SHAPES; i++) {
		snprintf(name, sizeof name, "Redis %s, SET", redis);
		load_print(&s[i], name, &s[i].sets, false);
		snprintf(name, sizeof name, "kvmstored %s, frames", kvmstored);
		load_print(&s[i], name, &s[i].frames, true);
		snprintf(name, sizeof name, "kvmstored %s, mappings", kvmstored);
		load_print(&s[i], name, &s[i].maps, true);
	}
	fflush(stdout);
}

void
durable_writes(const struct bench_run *d)
{
	struct shape forced[SHAPES], later[SHAPES];
	double seconds = d->quick ? 0.05 : 1.0;
	size_t size = durable_request_size();

	memcpy(forced, shapes, sizeof shapes);
	memcpy(later, shapes, sizeof shapes);
	value_size = size > KEY_SIZE + 1 ? size - KEY_SIZE : 1;
	server_start(&always, "always", "always", d->kvmstored);
	server_start(&everysec, "everysec", "everysec", d->kvmstored);
	server_start(&full, "full", NULL, d->kvmstored);
	server_start(&relaxed, "relaxed", NULL, d->kvmstored);
	for (unsigned round = 0; round < d->rounds; round++)
		for (unsigned i = 0; i < SHAPES; i++) {
			shape_measure(&forced[i], &always, &full, seconds);
			shape_measure(&later[i], &everysec, &relaxed, seconds);
		}
	printf("\n### Writes\n\n"
	       "Each connection sends as many requests ahead as the table says, waits for all their answers, and\n"
	       "goes on; p50 and p99 are from the sending of such a batch to its last answer.  Client and server\n"
	       "share one CPU, with all their threads.  Frames: `frame_alloc`, then `frame_drop`, 1:1.  Mappings:\n"
	       "`frame_alloc`, `kvirt_map_frames` of one page, `kvirt_drop`, 1:1:1.  Redis: `SET` of random keys\n"
	       "out of %u, key %u bytes and value %zu, together what a request to kvmstored has on average.\n"
	       "No snapshot is taken meanwhile.\n\n"
	       "Answered when it is on the disk:\n",
	       KEYS, KEY_SIZE, value_size);
	shapes_print(forced, "always", "full");
	printf("\nAnswered at once, on the disk within a second (Redis) or 50 ms (kvmstored):\n");
	shapes_print(later, "everysec", "relaxed");
	shapes_plot(forced, "writes-forced");
	shapes_plot(later, "writes-later");
	server_stop(&always);
	server_stop(&everysec);
	server_stop(&full);
	server_stop(&relaxed);
}
