/* The model in this process: areas, and what a whole store costs. */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE KVMS_PAGE_SIZE
#define MICROSECOND 1e3
#define MILLISECOND 1e6
#define PROP_RW (KVMS_PROP_R | KVMS_PROP_W | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT) /* rw:wb */

/* ---- Mapping and dropping an area -------------------------------------------------- */

#define AREA_PAGES 4u

struct mapping {
	struct kvms *s;
	struct kvms_op alloc, map, drop;
	unsigned frame, area; /* where the results are */
	uint64_t frames[AREA_PAGES];
};

static struct mapping
mapping_prepare(struct kvms *s)
{
	struct mapping m = { .s = s,
			     .alloc = bench_op("frame_alloc"),
			     .map = bench_op("kvirt_map_frames"),
			     .drop = bench_op("kvirt_drop") };

	m.map.arg[bench_argument("kvirt_map_frames", "area_size")] = AREA_PAGES * PAGE;
	m.map.arg[bench_argument("kvirt_map_frames", "frames")] = AREA_PAGES;
	m.map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	m.frame = bench_result("frame_alloc", "frame");
	m.area = bench_result("kvirt_map_frames", "area");
	return m;
}

/* Four frames into a new area; its id. */
static uint64_t
mapping_make(struct mapping *m)
{
	for (unsigned i = 0; i < AREA_PAGES; i++)
		m->frames[i] = bench_apply(m->s, &m->alloc, m->frame);
	m->map.list = m->frames;
	return bench_apply(m->s, &m->map, m->area);
}

/* Six operations.  Dropping the area ends the last reference of each frame. */
static void
mapping_once(void *arg)
{
	struct mapping *m = arg;

	m->drop.arg[0] = mapping_make(m);
	bench_apply(m->s, &m->drop, 0);
}

static void
mapping_measure(void)
{
	struct mapping m = mapping_prepare(bench_store(0));
	struct bench_figure off = { .rounds = 0 }, touched = { .rounds = 0 };

	for (unsigned i = 0; i < 20000; i++)
		mapping_once(&m); /* warm */
	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		kvms_set_check(m.s, KVMS_CHECK_OFF, 1);
		bench_time(&off, mapping_once, &m, 20000, MICROSECOND);
		kvms_set_check(m.s, KVMS_CHECK_TOUCHED, 1);
		bench_time(&touched, mapping_once, &m, 20000, MICROSECOND);
	}
	bench_row("map and drop 4 pages: 6 operations", &off, &touched);
	bench_note("(4 frame_alloc, kvirt_map_frames, and kvirt_drop, which frees the frames)");
	kvms_free(&m.s);
}

/* ---- Allocating addresses behind many areas ------------------------------------------ */

#define LARGE (100 * PAGE)

struct addresses {
	struct kvms *s;
	struct kvms_op reserve, unreserve;
	unsigned area;
};

static uint64_t
reserve(struct addresses *a, uint64_t size)
{
	a->reserve.arg[0] = size;
	return bench_apply(a->s, &a->reserve, a->area);
}

static void
unreserve(struct addresses *a, uint64_t id)
{
	a->unreserve.arg[0] = id;
	bench_apply(a->s, &a->unreserve, 0);
}

/* Everything that is still free, as one area. */
static void
reserve_rest(struct addresses *a)
{
	const struct kvms_row *row = kvms_request_find("free_va");
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op request;

	kvms_op_init(&request, row);
	if (kvms_inspect(a->s, &request, &out) != KVMS_DONE || out.field[0] != 1)
		bench_die("the free addresses are not one block");
	reserve(a, out.list[1] - out.list[0]);
	kvms_outcome_free(&out);
}

/*
 * The allocator's worst case: from the bottom up one area that fills the rest,
 * then "count" areas of a page with a hole of a page below each, and on top
 * the only block with room for more than a page.  "layout" shifts all of it:
 * the depth of a block in the allocator's tree is a matter of its address.
 */
static struct addresses
addresses_prepare(unsigned count, unsigned layout)
{
	struct addresses a = { .s = bench_store(0),
			       .reserve = bench_op("kvirt_reserve"),
			       .unreserve = bench_op("kvirt_unreserve") };
	uint64_t top, first = 0;

	a.area = bench_result("kvirt_reserve", "area");
	kvms_set_check(a.s, KVMS_CHECK_OFF, 1);
	for (unsigned i = 0; i < layout; i++)
		reserve(&a, PAGE);
	top = reserve(&a, LARGE);
	for (unsigned i = 0; i < 2 * count; i++) {
		uint64_t id = reserve(&a, PAGE);

		first = i == 0 ? id : first;
	}
	reserve_rest(&a);
	for (unsigned i = 1; i < 2 * count; i += 2)
		unreserve(&a, first + i);
	unreserve(&a, top);
	return a;
}

/* Two areas, one that fits behind all holes only, one that fits the lowest; then both go. */
static void
addresses_once(void *arg)
{
	struct addresses *a = arg;
	uint64_t large = reserve(a, LARGE), small = reserve(a, PAGE);

	unreserve(a, large);
	unreserve(a, small);
}

static void
addresses_measure(unsigned count, struct bench_figure *off, struct bench_figure *touched)
{
	char what[64];

	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		struct addresses a = addresses_prepare(count, i);

		bench_time(off, addresses_once, &a, 10000, 2 * MICROSECOND);
		kvms_set_check(a.s, KVMS_CHECK_TOUCHED, 1);
		bench_time(touched, addresses_once, &a, 10000, 2 * MICROSECOND);
		kvms_free(&a.s);
	}
	snprintf(what, sizeof what, "reserve and unreserve, %u live areas", count);
	bench_row(what, off, touched);
}

void
bench_areas(void)
{
	struct bench_figure off[3] = { { .rounds = 0 } }, touched[3] = { { .rounds = 0 } };

	bench_heading("in process, microseconds", "laws off", "touched laws");
	mapping_measure();
	addresses_measure(150, &off[0], &touched[0]);
	addresses_measure(15000, &off[1], &touched[1]);
	addresses_measure(150000, &off[2], &touched[2]);
	bench_note("(2 operations behind as many holes as areas; 1000 times the areas cost %.1f times as much,",
		   bench_median(&off[2]) / bench_median(&off[0]));
	bench_note(" with touched laws %.1f times)", bench_median(&touched[2]) / bench_median(&touched[0]));
}

/* ---- Whole stores ---------------------------------------------------------------------- */

#define MAPPINGS 100000u

/* Resident memory of this process in MiB, counted exactly (statm may lag behind). */
static double
resident(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	unsigned long kib = 0;
	char line[256];

	while (f != NULL && fgets(line, sizeof line, f) != NULL && sscanf(line, "Rss: %lu", &kib) != 1)
		continue;
	if (f == NULL || kib == 0)
		bench_die("cannot read /proc/self/smaps_rollup");
	fclose(f);
	return (double)kib / 1024;
}

/* Digest and full check of a store with many mappings. */
static void
checks_measure(void)
{
	struct mapping m = mapping_prepare(bench_store(0));
	struct bench_figure one = { .rounds = 0 }, many = { .rounds = 0 }, full = { .rounds = 0 };
	struct kvms_findings findings;
	uint64_t start;

	kvms_set_check(m.s, KVMS_CHECK_OFF, 1);
	for (unsigned i = 0; i < MAPPINGS / AREA_PAGES; i++)
		mapping_make(&m);
	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		kvms_digest(m.s);
		mapping_once(&m);
		start = bench_now();
		kvms_digest(m.s);
		bench_add(&one, (double)(bench_now() - start) / MICROSECOND);
		for (unsigned k = 0; k < 1000; k++)
			mapping_make(&m);
		start = bench_now();
		kvms_digest(m.s);
		bench_add(&many, (double)(bench_now() - start) / MICROSECOND);
	}
	kvms_free(&m.s);
	m = mapping_prepare(bench_store(0));
	kvms_set_check(m.s, KVMS_CHECK_OFF, 1);
	for (unsigned i = 0; i < MAPPINGS / AREA_PAGES; i++)
		mapping_make(&m);
	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		start = bench_now();
		if (!kvms_check_all(m.s, &findings))
			bench_die("a law is broken: %s", kvms_law_name(findings.at[0].law));
		bench_add(&full, (double)(bench_now() - start) / MILLISECOND);
	}
	kvms_free(&m.s);
	bench_row("100,000 mappings: digest after 6 ops, us", &one, NULL);
	bench_row("... digest after 5,000 operations, us", &many, NULL);
	bench_row("... full check, digest recomputed, ms", &full, NULL);
}

/* A machine of 16 TiB with nothing in it. */
static void
creation_measure(void)
{
	struct bench_figure time = { .rounds = 0 }, memory = { .rounds = 0 };

	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		double before = resident();
		uint64_t start = bench_now();
		struct kvms *s = bench_store(UINT64_C(1) << 44);

		bench_add(&time, (double)(bench_now() - start) / MILLISECOND);
		bench_add(&memory, resident() - before);
		kvms_free(&s);
	}
	bench_row("create a store of 16 TiB, ms", &time, NULL);
	bench_row("... resident memory, MiB", &memory, NULL);
}

void
bench_whole_store(void)
{
	bench_heading("a whole store", "", "");
	checks_measure();
	creation_measure();
}
