/* A daemon of its own on a temporary socket: what a request costs. */
#include "bench/bench.h"
#include "client/connection.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE KVMS_PAGE_SIZE
#define PROP_RW (KVMS_PROP_R | KVMS_PROP_W | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT) /* rw:wb */
#define PAGES 16384u   /* mapped in the daemon's store; the addresses asked for lie there */
#define SINGLES 20000u /* requests a round, one by one */
#define PIPELINED 131072u
#define DEPTH 64u
#define BULK 4096u /* addresses in one bulk request */

/* ---- The daemon ---------------------------------------------------------------------- */

static struct {
	pid_t pid; /* 0: none */
	char directory[64];
	char socket[96];
} started;

/* Ends the daemon that was started here. */
static void
daemon_stop(void)
{
	char lock[sizeof started.socket + 8];

	if (started.pid != 0) {
		kill(started.pid, SIGTERM);
		while (waitpid(started.pid, NULL, 0) < 0 && errno == EINTR)
			continue;
		started.pid = 0;
	}
	if (started.directory[0] != '\0') {
		snprintf(lock, sizeof lock, "%s.lock", started.socket);
		unlink(started.socket);
		unlink(lock);
		rmdir(started.directory);
		started.directory[0] = '\0';
	}
}

static _Noreturn void
daemon_become(const char *path, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive the benchmark, however that ends */
	if (getppid() != parent)
		_exit(1);
	execl(path, "kvmstored", "--listen", started.socket, "--log-level", "error", (char *)NULL);
	fprintf(stderr, "bench: cannot start %s: %s\n", path, strerror(errno));
	_exit(1);
}

static struct kvmctl_connection *
daemon_connect(void)
{
	const struct timespec pause = { 0, 10000000 };
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };

	for (unsigned i = 0; i < 1000; i++) {
		struct kvmctl_connection *c = kvmctl_connect(started.socket, NULL, "bench", &why);

		if (c != NULL)
			return c;
		if (waitpid(started.pid, NULL, WNOHANG) != 0) {
			started.pid = 0;
			bench_die("kvmstored did not start");
		}
		nanosleep(&pause, NULL);
	}
	bench_die("%s", why.text);
}

static struct kvmctl_connection *
daemon_start(const char *path)
{
	pid_t parent = getpid();

	strcpy(started.directory, "/tmp/kvmstore-bench-XXXXXX");
	if (mkdtemp(started.directory) == NULL) {
		started.directory[0] = '\0';
		bench_die("no temporary folder: %s", strerror(errno));
	}
	atexit(daemon_stop);
	snprintf(started.socket, sizeof started.socket, "%s/socket", started.directory);
	fflush(stdout);
	started.pid = fork();
	if (started.pid == 0)
		daemon_become(path, parent);
	if (started.pid < 0) {
		started.pid = 0;
		bench_die("no process: %s", strerror(errno));
	}
	return daemon_connect();
}

/* Both on the CPU where we are now, or both where the scheduler wants them. */
static void
place(bool one_cpu, const cpu_set_t *all)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof one, one_cpu ? &one : all) != 0 ||
	    sched_setaffinity(started.pid, sizeof one, one_cpu ? &one : all) != 0)
		bench_die("cannot choose CPUs: %s", strerror(errno));
}

/* ---- Requests -------------------------------------------------------------------------- */

struct client {
	struct kvmctl_connection *c;
	struct kvmctl_failure why;
	struct kvms_outcome out;
	struct kvms_op translate;
	unsigned va; /* argument of translate */
	uint64_t start, random;
};

static void
need(const struct client *k, bool done)
{
	if (!done)
		bench_die("%s", k->why.text);
	if (k->out.name != 0)
		bench_die("a request ended with %s", kvms_outcome_name(k->out.name));
}

static void
apply(struct client *k, const struct kvms_op *op)
{
	need(k, kvmctl_apply(k->c, op, false, &k->out, NULL, &k->why));
}

/* An address among the mapped ones; the same sequence in every run. */
static uint64_t
next_va(struct client *k)
{
	k->random ^= k->random << 13;
	k->random ^= k->random >> 7;
	k->random ^= k->random << 17;
	return k->start + k->random % ((uint64_t)PAGES * PAGE);
}

/* One area with many frames. */
static void
fill(struct client *k)
{
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames");
	uint64_t *frames = calloc(PAGES, sizeof *frames);

	if (frames == NULL)
		bench_die("no memory");
	for (unsigned i = 0; i < PAGES; i++) {
		apply(k, &alloc);
		frames[i] = k->out.field[bench_result("frame_alloc", "frame")];
	}
	map.arg[bench_argument("kvirt_map_frames", "area_size")] = (uint64_t)PAGES * PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = PAGES;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	map.list = frames;
	apply(k, &map);
	k->start = k->out.field[bench_result("kvirt_map_frames", "start")];
	free(frames);
}

/* ---- Measuring -------------------------------------------------------------------------- */

struct figures {
	struct bench_figure p50, p99, pipelined, writes, bulk;
};

static int
compare(const void *a, const void *b)
{
	const double *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* One request at a time: how long each takes. */
static void
singles(struct client *k, struct figures *f)
{
	static double sample[SINGLES];

	for (unsigned i = 0; i < SINGLES; i++) {
		uint64_t start = bench_now();

		k->translate.arg[k->va] = next_va(k);
		need(k, kvmctl_inspect(k->c, &k->translate, &k->out, &k->why));
		sample[i] = (double)(bench_now() - start) / 1e3;
	}
	qsort(sample, SINGLES, sizeof sample[0], compare);
	bench_add(&f->p50, sample[SINGLES / 2]);
	bench_add(&f->p99, sample[SINGLES / 100 * 99]);
}

/* Many requests under way: how many thousand a second. */
static void
pipelined(struct client *k, struct figures *f)
{
	uint64_t start = bench_now();

	for (unsigned i = 0; i < PIPELINED; i += DEPTH) {
		for (unsigned d = 0; d < DEPTH; d++) {
			k->translate.arg[k->va] = next_va(k);
			need(k, kvmctl_send_inspect(k->c, &k->translate, &k->why));
		}
		for (unsigned d = 0; d < DEPTH; d++)
			need(k, kvmctl_receive(k->c, &k->out, NULL, &k->why));
	}
	bench_add(&f->pipelined, PIPELINED * 1e6 / (double)(bench_now() - start));
}

/* The same with operations.  Ids count up, so the id of an area is known before the answer. */
static void
writes(struct client *k, struct figures *f)
{
	struct kvms_op reserve = bench_op("kvirt_reserve"), unreserve = bench_op("kvirt_unreserve");
	uint64_t start, next;

	reserve.arg[0] = PAGE;
	apply(k, &reserve);
	next = unreserve.arg[0] = k->out.field[bench_result("kvirt_reserve", "area")];
	apply(k, &unreserve);
	start = bench_now();
	for (unsigned i = 0; i < PIPELINED; i += DEPTH) {
		for (unsigned d = 0; d < DEPTH; d += 2) {
			unreserve.arg[0] = ++next;
			need(k, kvmctl_send_op(k->c, &reserve, false, &k->why));
			need(k, kvmctl_send_op(k->c, &unreserve, false, &k->why));
		}
		for (unsigned d = 0; d < DEPTH; d++)
			need(k, kvmctl_receive(k->c, &k->out, NULL, &k->why));
	}
	bench_add(&f->writes, PIPELINED * 1e6 / (double)(bench_now() - start));
}

/* Many addresses in one request. */
static void
bulk(struct client *k, struct figures *f)
{
	static uint64_t va[BULK], paddr[BULK];
	static uint8_t found[BULK];
	uint64_t start;

	for (unsigned i = 0; i < BULK; i++)
		va[i] = next_va(k);
	start = bench_now();
	for (unsigned i = 0; i < 256; i++)
		need(k, kvmctl_translate(k->c, 0, va, BULK, found, paddr, &k->why));
	bench_add(&f->bulk, 256.0 * BULK * 1e6 / (double)(bench_now() - start));
}

static void
print(const struct figures *one, const struct figures *any)
{
	bench_row("translate, one by one: p50, us", &one->p50, &any->p50);
	bench_row("... p99, us", &one->p99, &any->p99);
	bench_row("translate, 64 under way, 1000/s", &one->pipelined, &any->pipelined);
	bench_row("translate, 4096 in one request, 1000/s", &one->bulk, &any->bulk);
	bench_row("reserve, unreserve, 64 under way, 1000/s", &one->writes, &any->writes);
	bench_note("(%u pages mapped, touched laws; one CPU: client and daemon share it)", PAGES);
}

void
bench_socket(const char *kvmstored)
{
	static struct figures one, any;
	struct client k = { .random = 88172645463325252u };
	cpu_set_t all;

	if (sched_getaffinity(0, sizeof all, &all) != 0)
		bench_die("cannot tell the CPUs: %s", strerror(errno));
	k.c = daemon_start(kvmstored);
	bench_heading("over the socket of kvmstored", "one CPU", "any CPU");
	kvms_op_init(&k.translate, kvms_request_find("translate"));
	k.va = (unsigned)kvms_arg_index(kvms_request_find("translate"), "va");
	fill(&k);
	for (unsigned i = 0; i < 2 * BENCH_ROUNDS; i++) {
		struct figures *f = i % 2 == 0 ? &one : &any;

		place(i % 2 == 0, &all);
		singles(&k, f);
		pipelined(&k, f);
		bulk(&k, f);
		writes(&k, f);
	}
	place(false, &all);
	print(&one, &any);
	kvms_outcome_free(&k.out);
	kvmctl_disconnect(&k.c);
	daemon_stop();
}
