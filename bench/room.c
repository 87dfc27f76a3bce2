/* Host memory: what things take, and what an empty store takes and costs. */
#include "bench/scale.h"
#include "bench/wire.h"
#include "client/connection.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- What this process has --------------------------------------------------------------- */

/* A page that was never written takes no memory. */
static bool
page_count(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	(void)paddr;
	if (bytes[0] != 0 || memcmp(bytes, bytes + 1, PAGE - 1) != 0)
		*(double *)arg += PAGE;
	return true;
}

/*
 * Page tables and the metadata of frames are the reservations of address space
 * that a store makes, which nobody else makes; page tables are counted.
 */
struct scale_room
scale_room(const struct kvms *s, const struct scale_room *before)
{
	struct scale_room room = { .all = 0 };
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long kib, rss = 0;
	double reserved = 0;
	char line[512];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "Rss: %lu", &kib) == 1) {
			rss = kib;
			room.all += (double)kib * 1024;
		}
		if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " nr") != NULL)
			reserved += (double)rss * 1024;
	}
	if (f == NULL || room.all == 0)
		bench_die("cannot read /proc/self/smaps: %s", strerror(errno));
	fclose(f);
	if (s != NULL && !kvms_pages(s, KVMS_ALL_TABLES, true, page_count, &room.tables))
		bench_die("no memory");
	if (before != NULL)
		room.all -= before->all;
	room.metadata = reserved > room.tables ? reserved - room.tables : 0;
	room.rest = room.all - room.tables - room.metadata;
	return room;
}

/* ---- What things take ------------------------------------------------------------------------ */

struct thing {
	void (*make)(struct kvms *s, uint64_t count);
	uint64_t count;
	struct scale_room room;
};

static void
frames_make(struct kvms *s, uint64_t count)
{
	struct kvms_op alloc = bench_op("frame_alloc");

	for (uint64_t i = 0; i < count; i++)
		bench_apply(s, &alloc, 0);
}

/* Frames with a reference each, mapped into areas of 512; "times" each. */
static void
mapped_make(struct kvms *s, uint64_t count, unsigned times)
{
	struct kvms_op alloc = bench_op("frame_alloc"), clone = bench_op("frame_clone");
	struct kvms_op map = bench_op("kvirt_map_frames");
	uint64_t frames[2][512];

	map.arg[bench_argument("kvirt_map_frames", "area_size")] = UINT64_C(512) * PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = 512;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	for (uint64_t i = 0; i < count; i += 512) {
		for (unsigned k = 0; k < 512; k++) {
			frames[0][k] = bench_apply(s, &alloc, 0);
			clone.arg[0] = frames[0][k];
			frames[1][k] = times > 1 ? bench_apply(s, &clone, 0) : 0;
		}
		for (unsigned t = 0; t < times; t++) {
			map.list = frames[t];
			bench_apply(s, &map, 0);
		}
	}
}

static void
once_make(struct kvms *s, uint64_t count)
{
	mapped_make(s, count, 1);
}

static void
twice_make(struct kvms *s, uint64_t count)
{
	mapped_make(s, count, 2);
}

static void
user_make(struct kvms *s, uint64_t count)
{
	struct kvms_op alloc = bench_op("frame_alloc"), space = bench_op("vm_space_new");
	struct kvms_op open = bench_op("cursor_open_mut"), map = bench_op("cursor_map"), drop = bench_op("cursor_drop");

	open.arg[0] = bench_apply(s, &space, 0);
	open.arg[1] = UINT64_C(1) << 30;
	open.arg[2] = open.arg[1] + count * PAGE;
	drop.arg[0] = map.arg[0] = bench_apply(s, &open, 0);
	map.arg[bench_argument("cursor_map", "prop")] = PROP_RW | KVMS_PROP_USER;
	for (uint64_t i = 0; i < count; i++) {
		map.arg[1] = bench_apply(s, &alloc, 0);
		bench_apply(s, &map, 0);
	}
	bench_apply(s, &drop, 0);
}

static void
untracked_make(struct kvms *s, uint64_t count)
{
	struct kvms_op reserve = bench_op("kvirt_reserve"), map = bench_op("kvirt_map_untracked_into");

	reserve.arg[0] = count * PAGE;
	map.arg[1] = bench_apply(s, &reserve, bench_result("kvirt_reserve", "start"));
	map.arg[0] = 1;
	map.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	map.arg[bench_argument("kvirt_map_untracked_into", "max_level")] = 1;
	for (uint64_t i = 0; i < count; i += 512, map.arg[1] += UINT64_C(512) * PAGE) {
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_start")] = i * PAGE;
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = (i + 512) * PAGE;
		bench_apply(s, &map, 0);
	}
}

static void
areas_make(struct kvms *s, uint64_t count)
{
	struct kvms_op reserve = bench_op("kvirt_reserve");

	reserve.arg[0] = PAGE;
	for (uint64_t i = 0; i < count; i++)
		bench_apply(s, &reserve, 0);
}

static void
thing_measure(void *arg)
{
	struct thing *t = arg;
	const struct scale_room before = scale_room(NULL, NULL);
	struct kvms *s = bench_store(UINT64_C(1) << 34);

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	t->make(s, t->count);
	t->room = scale_room(s, &before);
}

void
scale_memory(const struct bench_run *c)
{
	static const struct {
		const char *what;
		void (*make)(struct kvms *s, uint64_t count);
	} things[] = {
		{ "a frame with a handle", frames_make },
		{ "a frame, mapped; the mapping has its reference", once_make },
		{ "a frame, mapped at two addresses", twice_make },
		{ "a frame, mapped in a user address space", user_make },
		{ "a mapping that counts nothing", untracked_make },
		{ "an area of a page, with nothing in it", areas_make },
	};
	const unsigned count = sizeof things / sizeof things[0];
	const uint64_t number = c->quick ? 1 << 12 : 1 << 20;
	struct thing *t = scale_shared(sizeof *t);

	printf("\nOf %s each, bytes:\n\n"
	       "| | page tables | metadata of frames | all else | in all |\n|---|---|---|---|---|\n",
	       scale_count(number));
	for (unsigned i = 0; i < count; i++) {
		*t = (struct thing){ .make = things[i].make, .count = number };
		scale_apart(thing_measure, t);
		printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", things[i].what, t->room.tables / (double)number,
		       t->room.metadata / (double)number, t->room.rest / (double)number, t->room.all / (double)number);
		fflush(stdout);
	}
}

/* ---- An empty store -------------------------------------------------------------------------- */

#define EMPTY (UINT64_C(1) << 44)

/* The daemon from its start to its first answer, and a store of 16 TiB in it. */
struct daemon {
	struct bench_figure start, resident, create, added;
};

static void
daemon_measure(const struct bench_run *c, struct daemon *d)
{
	struct kvmctl_failure why = { .kind = KVMCTL_NO_FAILURE };
	struct kvmp_request request = { .type = KVMP_STORE_CREATE };
	struct kvmp_response response;
	struct kvmctl_connection *to;
	struct peer p;
	struct wire w;
	double before;
	uint64_t start;

	peer_init(&p, "kvmstored");
	start = bench_now();
	peer_start(&p, (const char *const[]){ c->kvmstored, "--listen", p.socket, "--log-level", "warning", NULL });
	wire_open(&w, &p, WIRE_KVMSTORED, "default");
	bench_add(&d->start, (double)(bench_now() - start) / 1e6);
	before = bench_resident(p.pid);
	to = kvmctl_connect(p.socket, NULL, "bench", &why);
	request.store.name = "empty";
	kvms_op_init(&request.store.config, kvms_store_row());
	request.store.config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = EMPTY;
	start = bench_now();
	if (to == NULL || !kvmctl_request(to, &request, &response, &why))
		bench_die("%s", why.text);
	bench_add(&d->create, (double)(bench_now() - start) / 1e6);
	bench_add(&d->resident, bench_resident(p.pid));
	bench_add(&d->added, bench_resident(p.pid) - before);
	kvmctl_disconnect(&to);
	wire_close(&w);
	peer_end(&p);
}

void
scale_empty(const struct bench_run *c, const char *folder)
{
	struct bench_figure create = { .rounds = 0 }, size = { .rounds = 0 };
	struct daemon d = { .start = { .rounds = 0 } };

	peer_folder(folder);
	for (unsigned round = 0; round < c->rounds; round++) {
		double before = bench_resident(getpid());
		uint64_t start = bench_now();
		struct kvms *s = bench_store(EMPTY);

		bench_add(&create, (double)(bench_now() - start) / 1e6);
		bench_add(&size, bench_resident(getpid()) - before);
		kvms_free(&s);
		daemon_measure(c, &d);
	}
	printf("\n### An empty store of 16 TiB\n\n"
	       "The daemon keeps nothing on a disk here; it has its default store besides, of 2 GiB.\n\n"
	       "| | in this process | in the daemon |\n|---|---|---|\n");
	printf("| the process starts and answers, ms | | %s |\n", bench_cell(&d.start));
	printf("| the store is made, ms | %s | %s |\n", bench_cell(&create), bench_cell(&d.create));
	printf("| resident for it, MiB | %s | %s |\n", bench_cell(&size), bench_cell(&d.added));
	printf("| resident, the whole process, MiB | | %s |\n", bench_cell(&d.resident));
	fflush(stdout);
}
