/*
 * rates - requests a second over a unix socket, beside Redis and memcached.
 *
 *   rates KVMSTORED FOLDER [connections]
 *
 * With "connections" it measures up to a thousand of them, beside Redis, and
 * nothing else.  Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in
 * the environment it only shows that everything works.
 */
#include "bench/bench.h"
#include "bench/lanes.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define SPARES 50u /* connections that map and unmap */
#define FILL_PAGES (UINT64_C(1) << 14)

/* ---- Requests ------------------------------------------------------------------------------ */

static uint64_t mappings = 1000000, first_va, spare_va[SPARES], spare_area[SPARES];
static struct kvmp_codec *codec;

static uint64_t
random_next(void)
{
	static uint64_t x = UINT64_C(88172645463325252);

	return bench_random(&x);
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
	uint64_t va[LANES_MANY];

	(void)c;
	for (unsigned k = 0; k < LANES_MANY; k++)
		va[k] = first_va + random_next() % (mappings * PAGE);
	r.translate.va = va;
	r.translate.count = LANES_MANY;
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
key_text(char text[LANES_KEY + 1], uint64_t key)
{
	snprintf(text, LANES_KEY + 1, "%0*u", (int)LANES_KEY, (unsigned)key);
}

static void
get_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char key[LANES_KEY + 1], text[128];

	(void)c, (void)i;
	key_text(key, random_next() % mappings);
	snprintf(text, sizeof text, "*2\r\n$3\r\nGET\r\n$%u\r\n%s\r\n", LANES_KEY, key);
	text_put(to, text);
}

static void
set_text(char *text, size_t size, uint64_t n)
{
	char key[LANES_KEY + 1];

	key_text(key, n);
	snprintf(text, size, "*3\r\n$3\r\nSET\r\n$%u\r\n%s\r\n$%u\r\n%0*u\r\n", LANES_KEY, key, LANES_VALUE, (int)LANES_VALUE,
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
	char key[LANES_KEY + 1], text[64];

	(void)c, (void)i;
	snprintf(text, sizeof text, "*%u\r\n$4\r\nMGET\r\n", LANES_MANY + 1);
	text_put(to, text);
	for (unsigned k = 0; k < LANES_MANY; k++) {
		key_text(key, random_next() % mappings);
		snprintf(text, sizeof text, "$%u\r\n%s\r\n", LANES_KEY, key);
		text_put(to, text);
	}
}

static void
memcached_get_put(struct kvmp_buffer *to, unsigned c, unsigned i)
{
	char key[LANES_KEY + 1], text[64];

	(void)c, (void)i;
	key_text(key, random_next() % mappings);
	snprintf(text, sizeof text, "get %s\r\n", key);
	text_put(to, text);
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
	for (unsigned c = 0; c <= SPARES; c++) {
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
	char text[128], key[LANES_KEY + 1];
	struct kvmp_buffer bytes = { .data = NULL };

	lanes_open(&load, 1, 0);
	for (uint64_t i = 0; i < mappings; i += 100) {
		bytes.start = bytes.end = 0;
		for (uint64_t k = i; k < i + 100; k++) {
			key_text(key, k);
			if (kind == WIRE_RESP)
				set_text(text, sizeof text, k);
			else
				snprintf(text, sizeof text, "set %s 0 0 %u\r\n%0*u\r\n", key, LANES_VALUE,
					 (int)LANES_VALUE, (unsigned)k);
			text_put(&bytes, text);
		}
		lanes_ask(&load, &bytes, 100);
	}
	lanes_close(1);
	kvmp_buffer_free(&bytes);
}

/* memcached only if it is asked for. */
static void
servers_start(const char *program, bool three)
{
	const char *const daemon[] = { program, "--listen", kvmstored.socket, "--log-level", "warning", NULL };
	const char *const cache[] = { "memcached", "-s", memcached.socket, "-t", "1", "-m", "1024", "-u", "root", NULL };

	peer_init(&kvmstored, "kvmstored");
	peer_init(&redis, "redis");
	peer_start(&kvmstored, daemon);
	peer_redis(&redis, NULL);
	kvmstored_fill();
	keys_fill(&redis, WIRE_RESP);
	if (!three)
		return;
	peer_init(&memcached, "memcached");
	peer_start(&memcached, cache);
	keys_fill(&memcached, WIRE_MEMCACHED);
}

static void
servers_stop(void)
{
	peer_stop(&kvmstored, SIGTERM);
	peer_stop(&redis, SIGTERM);
	peer_stop(&memcached, SIGTERM);
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
	struct lanes_result results[12][LOOKUPS];
};

#define GRID                                                                                                           \
	{ { 1, 1 }, { 1, 16 }, { 1, 64 }, { 1, 256 }, { 8, 1 }, { 8, 16 }, { 8, 64 }, { 8, 256 }, { 50, 1 }, { 50, 16 },   \
	  { 50, 64 }, { 50, 256 } }

static struct table tables[] = {
	{ "Lookups", lookups, LOOKUPS, TRANSLATE, GET, 1, GRID, { { { .rate = { .rounds = 0 } } } } },
	{ "Writes", writes, WRITES, MAP, SET, 1, GRID, { { { .rate = { .rounds = 0 } } } } },
	{ "64 lookups in a request", bulks, BULKS, BULK, MGET, LANES_MANY, { { 1, 1 }, { 1, 16 }, { 8, 1 }, { 8, 16 } },
	  { { { .rate = { .rounds = 0 } } } } },
};

static void
table_round(struct table *t, unsigned round, double seconds)
{
	for (unsigned s = 0; s < 12 && t->shapes[s].depth != 0; s++)
		for (unsigned l = 0; l < t->loads_count; l++) {
			unsigned turn = round % 2 == 0 ? l : t->loads_count - 1 - l;

			lanes_measure(&t->loads[turn], t->shapes[s].connections, t->shapes[s].depth, seconds,
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
			const struct lanes_result *r = &t->results[s][l];

			printf("| %u x %u | %s | %s | %s | %s | %s | %s |\n", t->shapes[s].connections, t->shapes[s].depth,
			       t->loads[l].name, bench_cell(&r->rate),
			       l != t->theirs ? bench_ratio(&r->rate, &t->results[s][t->theirs].rate) : "",
			       bench_cell(&r->p50), bench_cell(&r->p99), bench_cell(&r->p999));
		}
	fflush(stdout);
}

/* A series a server, for one number of connections: its rate over the depth. */
static void
table_plot(const struct table *t, const char *name, unsigned connections)
{
	char file[64], depth[16];
	FILE *data;

	snprintf(file, sizeof file, "%s-%u", name, connections);
	data = bench_data(file);
	for (unsigned l = 0; l < t->loads_count; l++) {
		if (l > 0)
			bench_series(data, t->loads[l].name);
		for (unsigned s = 0; s < 12 && t->shapes[s].depth != 0; s++) {
			snprintf(depth, sizeof depth, "%u", t->shapes[s].depth);
			if (t->shapes[s].connections == connections)
				bench_point(data, depth, &t->results[s][l].rate);
		}
	}
	bench_data_end(data);
}

static void
few(const char *program, bool quick)
{
	const unsigned rounds = quick ? 1 : 5, connections[] = { 1, 8, 50 };
	const double seconds = quick ? 0.02 : 0.15;

	servers_start(program, true);
	printf("Medians of %u rounds (least .. largest), %.2f s each, in turn; %u mappings, as many keys.\n", rounds,
	       seconds, (unsigned)mappings);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < sizeof tables / sizeof tables[0]; i++)
			table_round(&tables[i], round, seconds);
	for (unsigned i = 0; i < sizeof tables / sizeof tables[0]; i++)
		table_print(&tables[i]);
	for (unsigned i = 0; i < 3; i++) {
		table_plot(&tables[0], "lookups", connections[i]);
		table_plot(&tables[1], "writes", connections[i]);
	}
}

/* ---- Many connections ----------------------------------------------------------------------------------- */

static struct crowd {
	unsigned connections, depth;
	struct lanes_result results[2]; /* TRANSLATE, GET */
} crowds[] = { { .connections = 10, .depth = 1 },   { .connections = 10, .depth = 16 },
	       { .connections = 100, .depth = 1 },  { .connections = 100, .depth = 16 },
	       { .connections = 1000, .depth = 1 }, { .connections = 1000, .depth = 16 } };

#define CROWDS (sizeof crowds / sizeof crowds[0])

/* What a server pays for connections, by the server. */
static struct {
	struct bench_figure connect;    /* microseconds until it has been answered once */
	struct bench_figure idle, used; /* KiB, before the first request and after many, 16 ahead */
} costs[2];

/* As many as the limit on open files allows. */
static unsigned
connections_allowed(unsigned wanted)
{
	const rlim_t own = 64;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		bench_die("cannot tell the limit of open files: %s", strerror(errno));
	if (limit.rlim_cur < wanted + own) {
		limit.rlim_cur = limit.rlim_max < wanted + own ? limit.rlim_max : wanted + own;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur < wanted + own ? (unsigned)(limit.rlim_cur - own) : wanted;
}

/* Memory a connection, as what many of them add. */
static void
cost_measure(unsigned server, unsigned count, double seconds)
{
	const struct load *load = &lookups[server];
	struct lanes_result unused = { .rate = { .rounds = 0 } };
	double before, most = count;
	uint64_t start;

	lanes_measure(load, 1, 16, seconds, &unused); /* what the first request costs, the later ones do not */
	before = bench_resident(load->peer->pid);
	start = bench_now();
	lanes_open(load, count, 0);
	bench_add(&costs[server].connect, (double)(bench_now() - start) / 1e3 / most);
	bench_add(&costs[server].idle, (bench_resident(load->peer->pid) - before) * 1024 / most);
	lanes_close(count);
	lanes_open(load, count, 16);
	lanes_run(load, count, 16, seconds, &unused);
	bench_add(&costs[server].used, (bench_resident(load->peer->pid) - before) * 1024 / most);
	lanes_close(count);
}

static void
crowd_print(const struct crowd *c)
{
	for (unsigned l = TRANSLATE; l <= GET; l++) {
		const struct lanes_result *r = &c->results[l];

		printf("| %u x %u | %s | %s | %s | %s | %s | %s | %s |\n", c->connections, c->depth, lookups[l].name,
		       bench_cell(&r->rate), l == TRANSLATE ? bench_ratio(&r->rate, &c->results[GET].rate) : "",
		       bench_cell(&r->p50), bench_cell(&r->p99), bench_cell(&r->p999), bench_cell(&r->slowest));
	}
}

/* For each depth a series a server: the rate over the number of connections. */
static void
crowds_plot(void)
{
	FILE *data = bench_data("connections");
	char count[16];

	for (unsigned first = 0; first < 2; first++)
		for (unsigned l = TRANSLATE; l <= GET; l++) {
			if (first + l > 0)
				bench_series(data, lookups[l].name);
			for (unsigned i = first; i < CROWDS; i += 2) {
				snprintf(count, sizeof count, "%u", crowds[i].connections);
				bench_point(data, count, &crowds[i].results[l].rate);
			}
		}
	bench_data_end(data);
}

static void
crowds_print(void)
{
	printf("\n### Connections\n\n"
	       "`translate` of random addresses out of %u mappings, `GET` of as many keys, as in `socket.md`.  The last\n"
	       "column is how many requests the slowest connection got answered, as a part of those of the fastest.\n\n"
	       "| connections x ahead | server | 1000 requests a second | times Redis GET | p50, us | p99, us | "
	       "p99.9, us | slowest : fastest |\n|---|---|---|---|---|---|---|---|\n",
	       (unsigned)mappings);
	for (unsigned i = 0; i < CROWDS; i++)
		crowd_print(&crowds[i]);
}

/* Each round has servers of its own: memory that one has kept it does not take again. */
static void
costs_measure(const char *program, unsigned allowed, bool quick)
{
	const unsigned rounds = quick ? 1 : 3;

	mappings = 20000; /* connections are what is looked at */
	for (unsigned round = 0; round < rounds; round++) {
		servers_stop();
		peer_end(&kvmstored);
		peer_end(&redis);
		servers_start(program, false);
		for (unsigned l = TRANSLATE; l <= GET; l++)
			cost_measure(l, allowed, quick ? 0.05 : 0.5);
	}
	printf("\nWhat one of %u connections costs its server, medians of %u rounds:\n\n"
	       "| | kvmstored | Redis |\n|---|---|---|\n",
	       allowed, rounds);
	printf("| to connect and get the first answer, us | %s | %s |\n", bench_cell(&costs[TRANSLATE].connect),
	       bench_cell(&costs[GET].connect));
	printf("| resident, before the first request, KiB | %s | %s |\n", bench_cell(&costs[TRANSLATE].idle),
	       bench_cell(&costs[GET].idle));
	printf("| ... after a load of 16 ahead, KiB | %s | %s |\n", bench_cell(&costs[TRANSLATE].used),
	       bench_cell(&costs[GET].used));
}

static void
many(const char *program, bool quick)
{
	const unsigned allowed = connections_allowed(LANES_MAX), rounds = quick ? 1 : 5;

	servers_start(program, false);
	for (unsigned i = 0; i < CROWDS; i++)
		crowds[i].connections = crowds[i].connections < allowed ? crowds[i].connections : allowed;
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < CROWDS; i++)
			for (unsigned l = 0; l < 2; l++) {
				unsigned turn = round % 2 == 0 ? l : 1 - l;
				double seconds = quick ? 0.05 : crowds[i].connections > 100 ? 1 : 0.25;

				lanes_measure(&lookups[turn], crowds[i].connections, crowds[i].depth, seconds,
					      &crowds[i].results[turn]);
			}
	crowds_print();
	crowds_plot();
	costs_measure(program, allowed, quick);
}

int
main(int argc, char **argv)
{
	bool quick, crowd = argc == 4 && strcmp(argv[3], "connections") == 0;

	if (argc != 3 && !crowd) {
		fprintf(stderr, "Usage: rates KVMSTORED FOLDER [connections]\n");
		return 2;
	}
	codec = kvmp_codec_new(0);
	if (codec == NULL)
		bench_die("no memory");
	quick = bench_quick();
	if (quick)
		mappings = 20000;
	peer_folder(argv[2]);
	(crowd ? many : few)(argv[1], quick);
	servers_stop();
	kvmp_codec_free(&codec);
	return 0;
}
