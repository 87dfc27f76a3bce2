/*
 * memory - what the model costs in this process, beside other ways to keep
 * addresses.
 *
 *   memory
 *
 * Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in the environment
 * it only shows that everything works.
 */
#include "bench/bench.h"
#include "bench/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILL_PAGES (UINT64_C(1) << 14)
#define TABLES_MAX 3u
#define ROUNDS 5u

static bool quick;

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
static const char *const plot_names[OTHERS] = { "translate, a request", "kvms_translate, one", "kvms_translate, many",
						"raw walk" };

/* One bar a way: the plot is of the larger store. */
static void
row_plot(const char *name, const struct figures *f)
{
	FILE *data = bench_data(name);

	for (unsigned w = 0; w < WAYS && (w < OTHERS || bench_tables[w - OTHERS].name != NULL); w++)
		bench_point(data, w < OTHERS ? plot_names[w] : bench_tables[w - OTHERS].name, &f->way[w]);
	bench_data_end(data);
}

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
			va[i] = m.va + bench_random(&random) % (m.pages * PAGE);
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
		row_plot("translate-hot", &hot);
		row_plot("translate-random", &any);
		row_plot("translate-chain", &chain);
		row_plot("translate-ascending", &sequence);
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

int
main(int argc, char **argv)
{
	(void)argv;
	if (argc != 1) {
		fprintf(stderr, "Usage: memory\n");
		return 2;
	}
	quick = bench_quick();
	bench_pin();
	printf("Medians of %u rounds (least .. largest), what is compared in turn.\n\n", ROUNDS);
	translation();
	operations();
	return sink == 1; /* it is used */
}
