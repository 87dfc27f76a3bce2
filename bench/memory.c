/*
 * memory - what the model costs in this process, beside other ways to keep
 * addresses.
 *
 *   memory RECORDING
 *
 * Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in the environment
 * it only shows that everything works.
 */
#include "bench/bench.h"
#include "bench/tables.h"
#include "persist/snapshot.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE KVMS_PAGE_SIZE
#define PROP_RW (KVMS_PROP_R | KVMS_PROP_W | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT) /* rw:wb */
#define FILL_PAGES (UINT64_C(1) << 14)
#define TABLES_MAX 3u
#define ROUNDS 5u

static bool quick;

static uint64_t
random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* ---- Mappings: a store, the same memory by hand, and the other tables ------------------------- */

struct maps {
	struct kvms *s;
	uint64_t pages, va;  /* dense from here on */
	const char *memory;  /* of the store */
	uint64_t root;
	void *table[TABLES_MAX];
	struct kvms_op request;
	struct kvms_outcome out;
};

static bool
memory_found(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	*(const char **)arg = (const char *)bytes - paddr;
	return false;
}

static struct maps
maps_make(uint64_t pages, bool others)
{
	struct maps m = { .s = bench_store(UINT64_C(1) << 32), .pages = pages };
	struct kvms_op reserve = bench_op("kvirt_reserve"), map = bench_op("kvirt_map_untracked_into");

	kvms_set_check(m.s, KVMS_CHECK_OFF, 1);
	reserve.arg[0] = pages * PAGE;
	m.va = bench_apply(m.s, &reserve, bench_result("kvirt_reserve", "start"));
	map.arg[bench_argument("kvirt_map_untracked_into", "area")] = 1;
	map.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	map.arg[bench_argument("kvirt_map_untracked_into", "max_level")] = 1;
	for (uint64_t i = 0; i < pages; i += FILL_PAGES) {
		uint64_t count = pages - i < FILL_PAGES ? pages - i : FILL_PAGES;

		map.arg[bench_argument("kvirt_map_untracked_into", "va")] = m.va + i * PAGE;
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_start")] = i * PAGE;
		map.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = (i + count) * PAGE;
		bench_apply(m.s, &map, 0);
	}
	kvms_pages(m.s, 0, false, memory_found, &m.memory);
	if (!kvms_root(m.s, 0, &m.root))
		bench_die("no root");
	kvms_op_init(&m.request, kvms_request_find("translate"));
	for (unsigned t = 0; others && bench_tables[t].name != NULL; t++) {
		m.table[t] = bench_tables[t].make();
		for (uint64_t i = 0; i < pages; i++)
			bench_tables[t].put(m.table[t], m.va / PAGE + i, i * PAGE);
	}
	return m;
}

static void
maps_end(struct maps *m)
{
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		if (m->table[t] != NULL)
			bench_tables[t].end(m->table[t]);
	kvms_outcome_free(&m->out);
	kvms_free(&m->s);
}

/* The walk of the hardware, and nothing else. */
static uint64_t
walk(const struct maps *m, uint64_t va)
{
	uint64_t word = m->root;

	for (unsigned shift = 39; shift >= 12; shift -= 9) {
		memcpy(&word, m->memory + (word & UINT64_C(0x000ffffffffff000)) + 8 * (va >> shift & 511), sizeof word);
		if ((word & 0x81) == 0)
			return 0;
	}
	return (word & UINT64_C(0x000ffffffffff000)) + va % PAGE;
}

/* ---- Ways to translate -------------------------------------------------------------------------- */

/* One address; the way is known where it is called. */
static uint64_t
by_request(struct maps *m, unsigned t, uint64_t va)
{
	(void)t;
	m->request.arg[1] = va;
	kvms_inspect(m->s, &m->request, &m->out);
	return m->out.field[1];
}

static uint64_t
by_translate(struct maps *m, unsigned t, uint64_t va)
{
	uint64_t paddr;
	uint8_t found;

	(void)t;
	kvms_translate(m->s, 0, &va, 1, &found, &paddr);
	return paddr;
}

static uint64_t
by_walk(struct maps *m, unsigned t, uint64_t va)
{
	(void)t;
	return walk(m, va);
}

static uint64_t
by_table(struct maps *m, unsigned t, uint64_t va)
{
	uint64_t paddr;

	bench_tables[t].get(m->table[t], va / PAGE, &paddr);
	return paddr + va % PAGE;
}

typedef uint64_t way(struct maps *m, unsigned t, uint64_t va);

static uint64_t sink;

#define ADDRESSES 8192u

/* Addresses of a list, each known before. */
static double
list_time(struct maps *m, way *one, unsigned t, const uint64_t *va, unsigned repeats)
{
	uint64_t start = bench_now(), sum = 0;

	for (unsigned r = 0; r < repeats; r++)
		for (unsigned i = 0; i < ADDRESSES; i++)
			sum += one(m, t, va[(size_t)r * ADDRESSES + i]);
	sink += sum;
	return (double)(bench_now() - start) / ADDRESSES / repeats;
}

/* Each address comes from the answer before. */
static double
chain_time(struct maps *m, way *one, unsigned t, unsigned count)
{
	uint64_t start = bench_now(), va = m->va;

	for (unsigned i = 0; i < count; i++)
		va = m->va + (one(m, t, va) / PAGE * UINT64_C(7919) + i) % m->pages * PAGE;
	sink += va;
	return (double)(bench_now() - start) / count;
}

/* Many in one call. */
static double
bulk_time(struct maps *m, const uint64_t *va, unsigned count)
{
	static uint64_t paddr[ADDRESSES];
	static uint8_t found[ADDRESSES];
	uint64_t start = bench_now();

	for (unsigned i = 0; i < count; i += ADDRESSES) {
		kvms_translate(m->s, 0, va + i, ADDRESSES, found, paddr);
		sink += paddr[i % ADDRESSES];
	}
	return (double)(bench_now() - start) / count;
}

/* ---- Translation ----------------------------------------------------------------------------------- */

#define WAYS (4u + TABLES_MAX)

struct figures {
	struct bench_figure way[WAYS];
};

enum { REQUEST, TRANSLATE, BULK, WALK, OTHERS };

static const char *const way_names[OTHERS] = { "`translate` request", "`kvms_translate`, one", "`kvms_translate`, many",
					       "raw walk" };

static void
row_print(const char *what, const struct figures *f)
{
	printf("| %s |", what);
	for (unsigned w = 0; w < WAYS; w++) {
		if (w >= OTHERS && bench_tables[w - OTHERS].name == NULL)
			break;
		if (f->way[w].rounds == 0)
			printf(" |");
		else if (w == WALK)
			printf(" %s |", bench_cell(&f->way[w]));
		else
			printf(" %s, %s |", bench_cell(&f->way[w]), bench_ratio(&f->way[w], &f->way[WALK]));
	}
	putchar('\n');
	fflush(stdout);
}

static void
columns_print(const char *what)
{
	unsigned w;

	printf("| %s |", what);
	for (w = 0; w < OTHERS; w++)
		printf(" %s |", way_names[w]);
	for (; bench_tables[w - OTHERS].name != NULL; w++)
		printf(" %s |", bench_tables[w - OTHERS].name);
	printf("\n|---|");
	while (w-- > 0)
		printf("---|");
	putchar('\n');
}

static void
lists_measure(struct maps *m, struct figures *f, const uint64_t *va, unsigned repeats)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		bench_add(&f->way[REQUEST], list_time(m, by_request, 0, va, repeats));
		bench_add(&f->way[WALK], list_time(m, by_walk, 0, va, repeats));
		bench_add(&f->way[TRANSLATE], list_time(m, by_translate, 0, va, repeats));
		bench_add(&f->way[BULK], bulk_time(m, va, repeats * ADDRESSES));
		for (unsigned t = 0; bench_tables[t].name != NULL; t++)
			bench_add(&f->way[OTHERS + t], list_time(m, by_table, t, va, repeats));
	}
}

static void
translation(void)
{
	const uint64_t sizes[] = { UINT64_C(1) << 20, UINT64_C(1) << 24 };
	const unsigned repeats = quick ? 4 : 64;
	uint64_t *va = malloc(sizeof *va * repeats * ADDRESSES), random = 1;

	if (va == NULL)
		bench_die("no memory");
	printf("### Translation\n\nNanoseconds an address, and how many times the raw walk.\n\n");
	columns_print("mappings, addresses");
	for (unsigned k = 0; k < (quick ? 1 : 2); k++) {
		struct maps m = maps_make(quick ? 1 << 16 : sizes[k], true);
		struct figures hot = { 0 }, any = { 0 }, chain = { 0 }, sequence = { 0 };
		char what[64];

		for (unsigned i = 0; i < repeats * ADDRESSES; i++)
			va[i] = m.va + PAGE * (i % 16);
		lists_measure(&m, &hot, va, repeats);
		for (unsigned i = 0; i < repeats * ADDRESSES; i++)
			va[i] = m.va + random_next(&random) % (m.pages * PAGE);
		for (unsigned i = 0; i < repeats * ADDRESSES; i += 97)
			if (by_translate(&m, 0, va[i]) != walk(&m, va[i]) || by_table(&m, 0, va[i]) != walk(&m, va[i]))
				bench_die("two ways to translate do not agree");
		lists_measure(&m, &any, va, repeats);
		for (unsigned i = 0; i < repeats * ADDRESSES; i++)
			va[i] = m.va + PAGE * (i % m.pages);
		lists_measure(&m, &sequence, va, repeats);
		for (unsigned round = 0; round < ROUNDS; round++) {
			unsigned count = quick ? 10000 : 500000;

			bench_add(&chain.way[REQUEST], chain_time(&m, by_request, 0, count));
			bench_add(&chain.way[WALK], chain_time(&m, by_walk, 0, count));
			bench_add(&chain.way[TRANSLATE], chain_time(&m, by_translate, 0, count));
			for (unsigned t = 0; bench_tables[t].name != NULL; t++)
				bench_add(&chain.way[OTHERS + t], chain_time(&m, by_table, t, count));
		}
		snprintf(what, sizeof what, "%u Mi, hot", (unsigned)(m.pages >> 20));
		row_print(what, &hot);
		snprintf(what, sizeof what, "%u Mi, random", (unsigned)(m.pages >> 20));
		row_print(what, &any);
		snprintf(what, sizeof what, "%u Mi, each from the answer before", (unsigned)(m.pages >> 20));
		row_print(what, &chain);
		snprintf(what, sizeof what, "%u Mi, ascending", (unsigned)(m.pages >> 20));
		row_print(what, &sequence);
		maps_end(&m);
	}
	free(va);
}

/* ---- Changes: one page an operation --------------------------------------------------------------------- */

#define BURST 256u

struct changes {
	struct bench_figure map[2], protect[2], unmap[2]; /* laws off, touched */
	struct bench_figure put[TABLES_MAX], drop[TABLES_MAX];
};

/* "count" operations "op" at the pages of a burst, in nanoseconds each. */
static double
burst_time(struct kvms *s, struct kvms_op *op, const unsigned *moving, const unsigned *behind, uint64_t va)
{
	uint64_t start = bench_now();

	for (unsigned i = 0; i < BURST; i++) {
		op->arg[*moving] = va + i * PAGE;
		if (behind != NULL)
			op->arg[*behind] = va + (i + 1) * PAGE;
		bench_apply(s, op, 0);
	}
	return (double)(bench_now() - start) / BURST;
}

static void
changes_measure(struct maps *m, struct changes *c)
{
	const char *map_name = "kvirt_map_untracked_into", *unmap_name = "kvirt_unmap_range",
		   *protect_name = "kvirt_protect_range";
	struct kvms_op map = bench_op(map_name), unmap = bench_op(unmap_name), protect = bench_op(protect_name),
		       reserve = bench_op("kvirt_reserve");
	unsigned map_va = bench_argument(map_name, "va"), unmap_va = bench_argument(unmap_name, "start"),
		 unmap_end = bench_argument(unmap_name, "end"), protect_va = bench_argument(protect_name, "start"),
		 protect_end = bench_argument(protect_name, "end");
	const unsigned bursts = quick ? 2 : 40;
	uint64_t va;

	reserve.arg[0] = UINT64_C(2) * BURST * PAGE;
	va = bench_apply(m->s, &reserve, bench_result("kvirt_reserve", "start"));
	map.arg[bench_argument(map_name, "area")] = unmap.arg[0] = protect.arg[0] = 2;
	map.arg[bench_argument(map_name, "paddr_start")] = PAGE;
	map.arg[bench_argument(map_name, "paddr_end")] = UINT64_C(2) * PAGE;
	map.arg[bench_argument(map_name, "prop")] = PROP_RW;
	protect.arg[bench_argument(protect_name, "clear")] = KVMS_PROP_W;
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned touched = 0; touched < 2; touched++) {
			double sum[3] = { 0, 0, 0 };

			kvms_set_check(m->s, touched ? KVMS_CHECK_TOUCHED : KVMS_CHECK_OFF, 1);
			for (unsigned b = 0; b < bursts; b++) {
				sum[0] += burst_time(m->s, &map, &map_va, NULL, va);
				sum[1] += burst_time(m->s, &protect, &protect_va, &protect_end, va);
				sum[2] += burst_time(m->s, &unmap, &unmap_va, &unmap_end, va);
			}
			bench_add(&c->map[touched], sum[0] / bursts);
			bench_add(&c->protect[touched], sum[1] / bursts);
			bench_add(&c->unmap[touched], sum[2] / bursts);
			for (unsigned t = 0; !touched && bench_tables[t].name != NULL; t++) {
				uint64_t start = bench_now(), middle, put = 0, drop = 0;

				for (unsigned b = 0; b < bursts; b++, start = bench_now()) {
					for (unsigned i = 0; i < BURST; i++)
						bench_tables[t].put(m->table[t], va / PAGE + i, PAGE);
					middle = bench_now();
					put += middle - start;
					for (unsigned i = 0; i < BURST; i++)
						bench_tables[t].drop(m->table[t], va / PAGE + i);
					drop += bench_now() - middle;
				}
				bench_add(&c->put[t], (double)put / bursts / BURST);
				bench_add(&c->drop[t], (double)drop / bursts / BURST);
			}
		}
}

/* ---- Operations that come in pairs --------------------------------------------------------------------------- */

struct pair {
	struct kvms *s;
	struct kvms_op first, second, alloc;
	unsigned result;   /* of the first, the second's argument */
	bool frame;        /* a frame is handed over */
	uint64_t id;
};

static void
pair_once(void *arg)
{
	struct pair *p = arg;

	if (p->frame) {
		p->id = bench_apply(p->s, &p->alloc, 0);
		p->first.list = &p->id;
	}
	p->second.arg[0] = bench_apply(p->s, &p->first, p->result);
	bench_apply(p->s, &p->second, 0);
}

static void
pair_measure(struct pair *p, struct bench_figure f[2])
{
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned touched = 0; touched < 2; touched++) {
			kvms_set_check(p->s, touched ? KVMS_CHECK_TOUCHED : KVMS_CHECK_OFF, 1);
			bench_time(&f[touched], pair_once, p, quick ? 100 : 10000, 1);
		}
}

static void
pair_print(const char *what, const struct bench_figure f[2])
{
	printf("| %s | %s | %s |", what, bench_cell(&f[0]), bench_cell(&f[1]));
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		printf(" |");
	putchar('\n');
	fflush(stdout);
}

static void
operations(void)
{
	struct maps m = maps_make(quick ? 1 << 14 : 1 << 20, true);
	struct changes c = { 0 };
	struct bench_figure area[2] = { 0 }, cursor[2] = { 0 };
	struct pair p = { .s = m.s, .frame = true, .first = bench_op("kvirt_map_frames"),
			  .second = bench_op("kvirt_drop"), .alloc = bench_op("frame_alloc") };
	struct kvms_op space = bench_op("vm_space_new");

	p.first.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
	p.first.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
	p.first.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	changes_measure(&m, &c);
	pair_measure(&p, area);
	p.frame = false;
	p.first = bench_op("cursor_open_mut");
	p.second = bench_op("cursor_drop");
	p.first.arg[0] = bench_apply(m.s, &space, 0);
	p.first.arg[1] = 0x10000000;
	p.first.arg[2] = 0x10000000 + PAGE;
	pair_measure(&p, cursor);
	printf("\n### Changes\n\nNanoseconds, in a store with %u mappings.  The peers store and drop the key.\n\n",
	       (unsigned)m.pages);
	printf("| | laws off | touched laws |");
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		printf(" %s |", bench_tables[t].name);
	printf("\n|---|---|---|");
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		printf("---|");
	printf("\n| map a page | %s | %s |", bench_cell(&c.map[0]), bench_cell(&c.map[1]));
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		printf(" %s |", bench_cell(&c.put[t]));
	printf("\n| unmap a page | %s | %s |", bench_cell(&c.unmap[0]), bench_cell(&c.unmap[1]));
	for (unsigned t = 0; bench_tables[t].name != NULL; t++)
		printf(" %s |", bench_cell(&c.drop[t]));
	putchar('\n');
	pair_print("protect a page", c.protect);
	pair_print("frame_alloc, kvirt_map_frames of a page, kvirt_drop", area);
	pair_print("cursor_open_mut of a page, cursor_drop", cursor);
	maps_end(&m);
}

/* ---- Areas behind areas ------------------------------------------------------------------------------------------ */

#define LARGE (100 * PAGE)

struct areas {
	struct kvms *s;
	struct kvms_op reserve, unreserve;
	struct blocks blocks;
	uint64_t size;
};

static void
areas_once(void *arg)
{
	struct areas *a = arg;

	a->reserve.arg[0] = a->size;
	a->unreserve.arg[0] = bench_apply(a->s, &a->reserve, 0);
	bench_apply(a->s, &a->unreserve, 0);
}

static void
blocks_once(void *arg)
{
	struct areas *a = arg;
	uint64_t at = blocks_alloc(&a->blocks, a->size);

	blocks_free(&a->blocks, at, at + a->size);
}

/* "count" areas of a page, a hole of a page below each, and one block above them with room for more. */
static struct areas
areas_make(uint64_t count)
{
	struct areas a = { .s = bench_store(0), .reserve = bench_op("kvirt_reserve"),
			   .unreserve = bench_op("kvirt_unreserve") };
	const struct kvms_row *row = kvms_request_find("free_va");
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op request;
	uint64_t large, first = 0;

	kvms_set_check(a.s, KVMS_CHECK_OFF, 1);
	a.reserve.arg[0] = LARGE;
	large = bench_apply(a.s, &a.reserve, 0);
	a.reserve.arg[0] = PAGE;
	for (uint64_t i = 0; i < 2 * count; i++) {
		uint64_t id = bench_apply(a.s, &a.reserve, 0);

		first = i == 0 ? id : first;
	}
	kvms_op_init(&request, row);
	if (kvms_inspect(a.s, &request, &out) != KVMS_DONE || out.field[0] != 1)
		bench_die("the free addresses are not one block");
	a.reserve.arg[0] = out.list[1] - out.list[0];
	bench_apply(a.s, &a.reserve, 0);
	for (uint64_t i = 1; i < 2 * count; i += 2) {
		a.unreserve.arg[0] = first + i;
		bench_apply(a.s, &a.unreserve, 0);
	}
	a.unreserve.arg[0] = large;
	bench_apply(a.s, &a.unreserve, 0);
	if (kvms_inspect(a.s, &request, &out) != KVMS_DONE)
		bench_die("no free addresses");
	for (uint64_t i = 0; i < out.field[0]; i++)
		blocks_free(&a.blocks, out.list[2 * i], out.list[2 * i + 1]);
	kvms_outcome_free(&out);
	return a;
}

static void
areas(void)
{
	const uint64_t counts[] = { 15000, 150000, 1500000 };

	printf("\n### An area more\n\n"
	       "Microseconds for `kvirt_reserve` and `kvirt_unreserve` of an area behind as many holes of a page as there\n"
	       "are live areas.  Large: 100 pages, which fit behind all holes only; small: one page, which fits the first.\n"
	       "First fit: upstream's policy as upstream does it, on a sorted array, with nothing around it.\n\n"
	       "| live areas | laws off | touched laws | first fit |\n|---|---|---|---|\n");
	for (unsigned k = 0; k < (quick ? 1 : 3); k++) {
		struct areas a = areas_make(quick ? 150 : counts[k]);

		for (unsigned large = 0; large < 2; large++) {
			struct bench_figure f[3] = { 0 };

			a.size = large ? LARGE : PAGE;
			for (unsigned round = 0; round < ROUNDS; round++) {
				for (unsigned touched = 0; touched < 2; touched++) {
					kvms_set_check(a.s, touched ? KVMS_CHECK_TOUCHED : KVMS_CHECK_OFF, 1);
					bench_time(&f[touched], areas_once, &a, 10000, 1e3);
				}
				bench_time(&f[2], blocks_once, &a, large ? 100 : 1000, 1e3);
			}
			printf("| %u, %s | %s | %s | %s |\n", (unsigned)(quick ? 150 : counts[k]), large ? "large" : "small",
			       bench_cell(&f[0]), bench_cell(&f[1]), bench_cell(&f[2]));
		}
		free(a.blocks.at);
		kvms_free(&a.s);
	}
}

/* ---- Whole stores ----------------------------------------------------------------------------------------------------- */

static double
resident(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	unsigned long kib = 0;
	char line[256];

	while (f != NULL && fgets(line, sizeof line, f) != NULL && sscanf(line, "Rss: %lu", &kib) != 1)
		continue;
	if (f == NULL || kib == 0)
		bench_die("cannot read /proc/self/smaps_rollup");
	fclose(f);
	return (double)kib / 1024;
}

/* Frames with a reference each, mapped into areas of 512. */
static struct kvms *
tracked_store(uint64_t pages)
{
	struct kvms *s = bench_store(UINT64_C(16) << 30);
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames");
	uint64_t frames[512];

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	map.arg[bench_argument("kvirt_map_frames", "area_size")] = UINT64_C(512) * PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = 512;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	map.list = frames;
	for (uint64_t i = 0; i < pages; i += 512) {
		for (unsigned k = 0; k < 512; k++)
			frames[k] = bench_apply(s, &alloc, 0);
		bench_apply(s, &map, 0);
	}
	return s;
}

static void
image_time(struct kvms *s, struct bench_figure *f)
{
	uint64_t start = bench_now();
	struct persist_image *image;
	char why[PERSIST_WHY];

	if (persist_capture(s, &image, why, sizeof why) != PERSIST_OK)
		bench_die("%s", why);
	bench_add(f, (double)(bench_now() - start) / 1e6);
	persist_image_free(&image);
}

static void
whole_stores(void)
{
	uint64_t pages = quick ? 1 << 14 : 1 << 20;
	struct bench_figure full = { 0 }, digest = { 0 }, image = { 0 }, empty = { 0 }, size = { 0 }, bytes = { 0 };
	struct kvms_findings findings;
	struct kvms *s;

	for (unsigned round = 0; round < ROUNDS; round++) {
		double before = resident();
		uint64_t start = bench_now();

		s = bench_store(UINT64_C(1) << 44);
		bench_add(&empty, (double)(bench_now() - start) / 1e6);
		bench_add(&size, resident() - before);
		kvms_free(&s);
	}
	malloc_trim(0);
	for (unsigned round = 0; round < (quick ? 1 : 3); round++) {
		double before = resident();

		s = tracked_store(pages);
		bench_add(&bytes, (resident() - before) * 1048576 / (double)pages);
		for (unsigned i = 0; i < 2 && full.rounds < BENCH_ROUNDS; i++) {
			uint64_t start = bench_now();

			if (!kvms_check_all(s, &findings))
				bench_die("a law is broken");
			bench_add(&full, (double)(bench_now() - start) / 1e6);
		}
		for (unsigned i = 0; i < 2; i++)
			image_time(s, &image);
		struct pair p = { .s = s, .frame = true, .first = bench_op("kvirt_map_frames"),
				  .second = bench_op("kvirt_drop"), .alloc = bench_op("frame_alloc") };

		p.first.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
		p.first.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
		p.first.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
		for (unsigned i = 0; i < 2; i++) {
			uint64_t start;

			kvms_digest(s);
			pair_once(&p);
			start = bench_now();
			kvms_digest(s);
			bench_add(&digest, (double)(bench_now() - start) / 1e3);
		}
		kvms_free(&s);
		malloc_trim(0);
	}
	printf("\n### Whole stores\n\n| | |\n|---|---|\n");
	printf("| an empty store of 16 TiB: create, ms | %s |\n", bench_cell(&empty));
	printf("| ... resident, MiB | %s |\n", bench_cell(&size));
	printf("| memory for a mapping, its frame and all that counts it, bytes | %s |\n", bench_cell(&bytes));
	printf("| %u mappings of counted frames: full check, ms | %s |\n", (unsigned)pages, bench_cell(&full));
	printf("| ... digest after 3 operations, us | %s |\n", bench_cell(&digest));
	printf("| ... image for a snapshot, ms | %s |\n", bench_cell(&image));
}

int
main(int argc, char **argv)
{
	const char *mode = getenv("BENCH_QUICK");

	if (argc != 2) {
		fprintf(stderr, "Usage: memory RECORDING\n");
		return 2;
	}
	quick = mode != NULL && strcmp(mode, "0") != 0;
	if (quick)
		printf("**A smoke test: these figures mean nothing.**\n\n");
	printf("Medians of %u rounds (least .. largest), what is compared in turn.\n\n", ROUNDS);
	translation();
	operations();
	areas();
	whole_stores();
	bench_recording(argv[1], quick ? 1 : ROUNDS);
	return sink == 1; /* it is used */
}
