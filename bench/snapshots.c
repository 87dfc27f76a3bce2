/* Snapshots while a client reads, and what a start costs: from a snapshot, and from a journal. */
#include "bench/durable.h"
#include "client/connection.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AREA_PAGES 512u
#define FEW 3u /* rounds of what takes long */
#define BATCH 500u
#define EXTRA 1000u /* operations behind the fill, which make the snapshot due */
#define SAMPLES_MAX (1u << 22)
#define MAX_PADDR (UINT64_C(16) << 30)

static void
sleep_ms(unsigned ms)
{
	const struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&pause, NULL);
}

static double
ms_since(uint64_t start)
{
	return (double)(bench_now() - start) / 1e6;
}

/* ---- Filling ------------------------------------------------------------------------------ */

static void
shuffle(uint64_t *at, size_t count)
{
	uint64_t random = UINT64_C(88172645463325252);

	for (size_t i = count; i-- > 1;) {
		size_t j = bench_random(&random) % (i + 1);
		uint64_t swap = at[i];

		at[i] = at[j];
		at[j] = swap;
	}
}

/* "pages" frames, mapped into areas in random order; gives the first address of the last area. */
static uint64_t
fill(struct wire *w, size_t pages)
{
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames");
	unsigned size = bench_argument("kvirt_map_frames", "area_size"),
		 frames = bench_argument("kvirt_map_frames", "frames");
	uint64_t *frame = calloc(pages, sizeof *frame);

	if (frame == NULL)
		bench_die("no memory");
	for (size_t i = 0; i < pages; i += w->sent) {
		for (unsigned k = 0; k < BATCH && i + k < pages; k++)
			wire_op(w, &alloc);
		wire_batch(w);
		memcpy(frame + i, w->result, w->sent * sizeof *frame);
	}
	shuffle(frame, pages);
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	for (size_t i = 0; i < pages; i += map.arg[frames]) {
		map.arg[frames] = pages - i < AREA_PAGES ? pages - i : AREA_PAGES;
		map.arg[size] = map.arg[frames] * PAGE;
		map.list = frame + i;
		wire_op(w, &map);
		wire_batch(w);
	}
	free(frame);
	return w->second;
}

/* ---- A client that reads all the time -------------------------------------------------------- */

struct reader {
	pthread_t thread;
	struct kvmctl_connection *c;
	uint64_t start, size; /* where it reads */
	volatile bool stop;
	uint32_t *sample; /* microseconds, in the order of their starts */
	uint64_t *began;
	unsigned count;
};

static void *
read_on(void *arg)
{
	struct reader *r = arg;
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };
	struct kvms_outcome out = { .name = 0 };
	uint64_t random = 1;
	struct kvms_op translate;
	unsigned va = (unsigned)kvms_arg_index(kvms_request_find("translate"), "va");

	kvms_op_init(&translate, kvms_request_find("translate"));
	while (!r->stop && r->count < SAMPLES_MAX) {
		translate.arg[va] = r->start + bench_random(&random) % r->size;
		r->began[r->count] = bench_now();
		if (!kvmctl_inspect(r->c, &translate, &out, &why))
			bench_die("%s", why.text);
		r->sample[r->count] = (uint32_t)((bench_now() - r->began[r->count]) / 1000);
		r->count++;
	}
	kvms_outcome_free(&out);
	return NULL;
}

static void
reader_start(struct reader *r, const struct peer *p, size_t pages, uint64_t start)
{
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };

	*r = (struct reader){ .start = start, .size = (pages % AREA_PAGES != 0 ? pages % AREA_PAGES : AREA_PAGES) * PAGE };
	r->sample = calloc(SAMPLES_MAX, sizeof *r->sample);
	r->began = calloc(SAMPLES_MAX, sizeof *r->began);
	r->c = kvmctl_connect(p->socket, "bench", "reader", &why);
	if (r->sample == NULL || r->began == NULL || r->c == NULL)
		bench_die("%s", r->c == NULL ? why.text : "no memory");
	if (pthread_create(&r->thread, NULL, read_on, r) != 0)
		bench_die("no thread");
}

static void
reader_stop(struct reader *r)
{
	r->stop = true;
	pthread_join(r->thread, NULL);
	kvmctl_disconnect(&r->c);
}

struct pause {
	struct bench_figure p50, p99, most;
};

static int
compare(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* How long the requests took that were under way between two moments, in milliseconds. */
static void
reader_figures(const struct reader *r, uint64_t from, uint64_t to, struct pause *f)
{
	unsigned first = 0, last;
	uint32_t *sorted;

	while (first < r->count && r->began[first] + r->sample[first] * UINT64_C(1000) < from)
		first++;
	for (last = first; last < r->count && r->began[last] < to; last++)
		continue;
	if (first == last)
		bench_die("no request was under way during a snapshot");
	sorted = malloc((last - first) * sizeof *sorted);
	if (sorted == NULL)
		bench_die("no memory");
	memcpy(sorted, r->sample + first, (last - first) * sizeof *sorted);
	last -= first;
	qsort(sorted, last, sizeof *sorted, compare);
	bench_add(&f->p50, sorted[last / 2] / 1e3);
	bench_add(&f->p99, sorted[(uint64_t)last * 99 / 100] / 1e3);
	bench_add(&f->most, sorted[last - 1] / 1e3);
	free(sorted);
}

/* ---- Snapshots and starts ---------------------------------------------------------------------- */

struct sizes {
	size_t count;
	struct bench_figure pause; /* that the daemon measures */
	struct pause quiet, during;
	struct bench_figure saved, file, start;
	struct bench_figure redis_saved, redis_file, redis_start;
};

/* kvmctl's connection, for what is not measured. */
static void
store_create(const struct peer *p)
{
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };
	struct kvmctl_connection *c = NULL;
	struct kvmp_request request = { .type = KVMP_STORE_CREATE };
	struct kvmp_response response;
	struct wire first;

	wire_open(&first, (struct peer *)p, WIRE_KVMSTORED, "default"); /* waits until it listens */
	wire_close(&first);
	c = kvmctl_connect(p->socket, NULL, "bench", &why);
	request.store.name = "bench";
	kvms_op_init(&request.store.config, kvms_store_row());
	request.store.config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = MAX_PADDR;
	if (c == NULL || !kvmctl_request(c, &request, &response, &why))
		bench_die("%s", why.text);
	kvmctl_disconnect(&c);
}

/* Wait until the journal is on the disk. */
static void
settle(const struct peer *p)
{
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };
	struct kvmctl_connection *c = kvmctl_connect(p->socket, "bench", "bench", &why);
	struct kvmp_request request = { .type = KVMP_SETTLE };
	struct kvmp_response response;

	if (c == NULL || !kvmctl_request(c, &request, &response, &why))
		bench_die("%s", why.text);
	kvmctl_disconnect(&c);
}

/* The log tells of a snapshot behind the first one, which is of step 0. */
static bool
saved_any(const struct peer *p)
{
	const char *line = peer_line(p, "saved store \"bench\"");

	return line != NULL && strstr(line, "step 0,") == NULL;
}

/* Enough operations that a snapshot is due, then wait for it. */
static void
snapshot_provoke(struct wire *w, struct peer *p, struct bench_figure *saved)
{
	struct kvms_op alloc = bench_op("frame_alloc");
	uint64_t start = bench_now();

	for (unsigned i = 0; i < EXTRA; i += BATCH) {
		for (unsigned k = 0; k < BATCH; k++)
			wire_op(w, &alloc);
		wire_batch(w);
	}
	while (!saved_any(p)) {
		peer_check(p);
		if (ms_since(start) > 60000)
			bench_die("no snapshot after a minute");
		sleep_ms(1);
	}
	bench_add(saved, ms_since(start));
}

/* What the log says about how long the daemon stood still. */
static void
pause_read(const struct peer *p, struct bench_figure *pause)
{
	const char *line = peer_line(p, "snapshot begun"), *at = line != NULL ? strstr(line, "stood still for ") : NULL;

	if (at == NULL)
		bench_die("the log of kvmstored does not say how long a snapshot kept it");
	bench_add(pause, (double)atol(at + strlen("stood still for ")) / 1e3);
}

static void
size_kvmstored(const struct bench_run *d, struct sizes *s)
{
	uint64_t start, areas = (s->count + AREA_PAGES - 1) / AREA_PAGES, from;
	char every[32];
	const char *const settings[] = { "--snapshot-every", every, "--keep-snapshots", "1", NULL };
	struct reader reader;
	struct peer p;
	struct wire w;

	snprintf(every, sizeof every, "%" PRIu64, (uint64_t)s->count + areas + EXTRA / 2);
	peer_init(&p, "kvmstored");
	peer_kvmstored(&p, d->kvmstored, settings);
	store_create(&p);
	wire_open(&w, &p, WIRE_KVMSTORED, "bench");
	start = fill(&w, s->count);
	settle(&p);
	reader_start(&reader, &p, s->count, start);
	from = bench_now();
	sleep_ms(d->quick ? 50 : 300);
	reader_figures(&reader, from, bench_now(), &s->quiet);
	from = bench_now();
	snapshot_provoke(&w, &p, &s->saved);
	sleep_ms(2);
	reader_stop(&reader);
	reader_figures(&reader, from, bench_now(), &s->during);
	free(reader.sample);
	free(reader.began);
	pause_read(&p, &s->pause);
	wire_close(&w);
	peer_stop(&p, SIGTERM);
	bench_add(&s->file, (double)peer_file_size(&p, "kvmstore.db") / 1048576.0);
	from = bench_now();
	peer_kvmstored(&p, d->kvmstored, settings);
	wire_open(&w, &p, WIRE_KVMSTORED, "bench");
	bench_add(&s->start, ms_since(from));
	wire_close(&w);
	peer_end(&p);
}

static void
redis_fill(struct wire *w, size_t keys)
{
	size_t size = durable_request_size();

	for (size_t i = 0; i < keys; i += w->sent) {
		for (unsigned k = 0; k < BATCH && i + k < keys; k++)
			wire_set(w, i + k, size > 13 ? size - 12 : 1);
		wire_batch(w);
	}
}

static void
size_redis(struct sizes *s)
{
	struct peer p;
	struct wire w;
	uint64_t from;

	peer_init(&p, "redis");
	peer_redis(&p, NULL);
	wire_open(&w, &p, WIRE_RESP, NULL);
	redis_fill(&w, s->count);
	from = bench_now();
	if (wire_command(&w, "BGSAVE")[0] != '+')
		bench_die("redis-server does not save");
	while (strstr(wire_command(&w, "INFO persistence"), "rdb_bgsave_in_progress:0") == NULL)
		sleep_ms(1);
	bench_add(&s->redis_saved, ms_since(from));
	wire_close(&w);
	peer_stop(&p, SIGKILL); /* nothing has changed since */
	bench_add(&s->redis_file, (double)peer_file_size(&p, "dump.rdb") / 1048576.0);
	from = bench_now();
	peer_redis(&p, NULL);
	wire_open(&w, &p, WIRE_RESP, NULL);
	bench_add(&s->redis_start, ms_since(from));
	wire_close(&w);
	peer_end(&p);
}

static void
snapshots_print(const struct sizes *s, size_t count)
{
	printf("\n### Snapshots\n\n"
	       "Pages mapped into areas of %u, to frames in random order: nothing can be told in runs.  A client\n"
	       "asks for translations one by one all the time; the quiet columns are its requests before the\n"
	       "snapshot, the others those from the operations that make it due (%u, part of the figure) until it\n"
	       "is on the disk.  The daemon says itself how long it stood still.\n\n"
	       "| mappings | stood still, ms | p50, ms | p99, ms | most, ms | quiet p50 | quiet p99 | quiet most |\n"
	       "|---|---|---|---|---|---|---|---|\n",
	       AREA_PAGES, EXTRA);
	for (size_t i = 0; i < count; i++)
		printf("| %zu | %s | %s | %s | %s | %s | %s | %s |\n", s[i].count, bench_cell(&s[i].pause),
		       bench_cell(&s[i].during.p50), bench_cell(&s[i].during.p99), bench_cell(&s[i].during.most),
		       bench_cell(&s[i].quiet.p50), bench_cell(&s[i].quiet.p99), bench_cell(&s[i].quiet.most));
	printf("\nSaved, and started from it: from the start of the process to its first answer.  Redis has as many\n"
	       "keys, of the size above; it saves with `BGSAVE` and loads the RDB file.  The file of kvmstored\n"
	       "also has the journal and the room of a snapshot that was replaced.\n\n"
	       "| mappings, keys | kvmstored saves, ms | Redis, ms | file, MiB | Redis, MiB | kvmstored starts, ms | "
	       "Redis, ms | Redis : kvmstored |\n|---|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < count; i++)
		printf("| %zu | %s | %s | %s | %s | %s | %s | %s |\n", s[i].count, bench_cell(&s[i].saved),
		       bench_cell(&s[i].redis_saved), bench_cell(&s[i].file), bench_cell(&s[i].redis_file),
		       bench_cell(&s[i].start), bench_cell(&s[i].redis_start),
		       bench_ratio(&s[i].redis_start, &s[i].start));
	fflush(stdout);
}

void
durable_snapshots(const struct bench_run *d)
{
	static struct sizes sizes[] = { { .count = 10000 }, { .count = 100000 }, { .count = 1000000 } };
	const size_t count = sizeof sizes / sizeof sizes[0];

	for (size_t i = 0; i < count; i++) {
		if (d->quick)
			sizes[i].count /= 10;
		for (unsigned round = 0; round < d->rounds && (round < FEW || sizes[i].count < 1000000); round++) {
			size_kvmstored(d, &sizes[i]);
			size_redis(&sizes[i]);
		}
	}
	snapshots_print(sizes, count);
}

/* ---- Journals -------------------------------------------------------------------------------- */

/* As many operations as are asked for, a third of each of three. */
static void
journal_fill(struct wire *w, size_t ops)
{
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames"), drop = bench_op("kvirt_drop");
	static uint64_t id[BATCH];

	map.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	for (size_t i = 0; i < ops; i += 3 * (size_t)BATCH) {
		for (unsigned k = 0; k < BATCH; k++)
			wire_op(w, &alloc);
		wire_batch(w);
		memcpy(id, w->result, sizeof id);
		for (unsigned k = 0; k < BATCH; k++) {
			map.list = &id[k];
			wire_op(w, &map);
		}
		wire_batch(w);
		memcpy(id, w->result, sizeof id);
		for (unsigned k = 0; k < BATCH; k++) {
			drop.arg[0] = id[k];
			wire_op(w, &drop);
		}
		wire_batch(w);
	}
}

static double
journal_kvmstored(const struct bench_run *d, size_t ops)
{
	const char *const settings[] = { "--snapshot-every", "0", NULL };
	struct peer p;
	struct wire w;
	uint64_t from;
	double ms;

	peer_init(&p, "kvmstored");
	peer_kvmstored(&p, d->kvmstored, settings);
	store_create(&p);
	wire_open(&w, &p, WIRE_KVMSTORED, "bench");
	journal_fill(&w, ops);
	settle(&p);
	wire_close(&w);
	peer_stop(&p, SIGKILL);
	from = bench_now();
	peer_kvmstored(&p, d->kvmstored, settings);
	wire_open(&w, &p, WIRE_KVMSTORED, "bench");
	ms = ms_since(from);
	wire_close(&w);
	peer_end(&p);
	return ms;
}

static double
journal_redis(size_t keys)
{
	struct peer p;
	struct wire w;
	uint64_t from;
	double ms;

	peer_init(&p, "redis");
	peer_redis(&p, "everysec");
	wire_open(&w, &p, WIRE_RESP, NULL);
	redis_fill(&w, keys);
	wire_close(&w);
	peer_stop(&p, SIGKILL);
	from = bench_now();
	peer_redis(&p, "everysec");
	wire_open(&w, &p, WIRE_RESP, NULL);
	ms = ms_since(from);
	wire_close(&w);
	peer_end(&p);
	return ms;
}

void
durable_journal(const struct bench_run *d)
{
	struct bench_figure kvmstored = { .rounds = 0 }, redis = { .rounds = 0 };
	size_t ops = d->quick ? 30000 : 1000000;

	for (unsigned round = 0; round < d->rounds && round < FEW; round++) {
		bench_add(&kvmstored, (double)ops / journal_kvmstored(d, ops));
		bench_add(&redis, (double)ops / journal_redis(ops));
	}
	printf("\n### Starts from a journal\n\n"
	       "%zu operations in the journal and no snapshot but the first; the daemon was killed.  Each operation is\n"
	       "applied again, its outcome compared with the one recorded, and the digest with that of each group.\n"
	       "Redis: an append-only file with as many `SET`.\n\n"
	       "| | 1000 operations/s |\n|---|---|\n| kvmstored | %s |\n| Redis | %s |\n| kvmstored : Redis | %s |\n",
	       ops, bench_cell(&kvmstored), bench_cell(&redis), bench_ratio(&kvmstored, &redis));
}
