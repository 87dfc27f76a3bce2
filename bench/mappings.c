/* Operations, checks and digests over the number of mappings. */
#include "bench/scale.h"
#include "persist/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#define BURST 256u /* pages that an operation meets one after the other */
#define ADDRESSES 8192u

enum { ALLOC, MAP, PROTECT, UNMAP, AREA, WRITES };
enum { REQUEST, MANY, READS };

static const char *const write_names[WRITES] = { "frame_alloc", "map", "protect", "unmap", "area of a page" };

/* One number of mappings. */
struct size {
	uint64_t count;
	bool quick;
	struct bench_figure writes[WRITES][2]; /* laws off, touched */
	struct bench_figure reads[READS];
	struct bench_figure full, digest, image;
	struct scale_room room;
};

/* ---- Changes ----------------------------------------------------------------------------- */

struct work {
	struct scale_store t;
	struct kvms_op alloc, map, protect, unmap, area, drop;
	unsigned map_va;
	uint64_t page[BURST]; /* which, each once */
	uint64_t frame[BURST];
	uint64_t random;
};

static struct work
work_make(uint64_t pages)
{
	struct work w = { .t = scale_store_make(pages),
			  .alloc = bench_op("frame_alloc"),
			  .map = bench_op("kvirt_map_frames_into"),
			  .protect = bench_op("kvirt_protect_range"),
			  .unmap = bench_op("kvirt_unmap_range"),
			  .area = bench_op("kvirt_map_frames"),
			  .drop = bench_op("kvirt_drop"),
			  .map_va = bench_argument("kvirt_map_frames_into", "va"),
			  .random = 1 };

	w.map.arg[bench_argument("kvirt_map_frames_into", "frames")] = 1;
	w.map.arg[bench_argument("kvirt_map_frames_into", "prop")] = PROP_RW;
	w.protect.arg[bench_argument("kvirt_protect_range", "clear")] = KVMS_PROP_W;
	w.area.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
	w.area.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
	w.area.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	return w;
}

static uint64_t
page_va(const struct work *w, uint64_t page)
{
	return w->t.start[page / SCALE_AREA] + page % SCALE_AREA * PAGE;
}

/* Pages from all over the store, in random order, none twice. */
static void
pages_draw(struct work *w)
{
	const uint64_t part = w->t.pages / BURST;

	for (unsigned i = 0; i < BURST; i++)
		w->page[i] = i * part + bench_random(&w->random) % part;
	for (unsigned i = BURST - 1; i > 0; i--) {
		unsigned j = (unsigned)(bench_random(&w->random) % (i + 1));
		uint64_t swap = w->page[i];

		w->page[i] = w->page[j];
		w->page[j] = swap;
	}
}

static void
range_set(struct work *w, struct kvms_op *op, unsigned i)
{
	op->arg[0] = w->t.area[w->page[i] / SCALE_AREA];
	op->arg[1] = page_va(w, w->page[i]);
	op->arg[2] = op->arg[1] + PAGE;
}

/* Nanoseconds that each kind of operation took, added to "sum". */
static void
burst(struct work *w, double sum[WRITES])
{
	uint64_t at = bench_now(), now;

	for (unsigned i = 0; i < BURST; i++) {
		range_set(w, &w->protect, i);
		bench_apply(w->t.s, &w->protect, 0);
	}
	now = bench_now();
	sum[PROTECT] += (double)(now - at);
	at = now;
	for (unsigned i = 0; i < BURST; i++) {
		range_set(w, &w->unmap, i);
		bench_apply(w->t.s, &w->unmap, 0);
	}
	now = bench_now();
	sum[UNMAP] += (double)(now - at);
	at = now;
	for (unsigned i = 0; i < BURST; i++)
		w->frame[i] = bench_apply(w->t.s, &w->alloc, 0);
	now = bench_now();
	sum[ALLOC] += (double)(now - at);
	at = now;
	for (unsigned i = 0; i < BURST; i++) {
		w->map.arg[0] = w->t.area[w->page[i] / SCALE_AREA];
		w->map.arg[w->map_va] = page_va(w, w->page[i]);
		w->map.list = &w->frame[i];
		bench_apply(w->t.s, &w->map, 0);
	}
	now = bench_now();
	sum[MAP] += (double)(now - at);
	at = now;
	for (unsigned i = 0; i < BURST; i++) {
		w->frame[0] = bench_apply(w->t.s, &w->alloc, 0);
		w->area.list = w->frame;
		w->drop.arg[0] = bench_apply(w->t.s, &w->area, 0);
		bench_apply(w->t.s, &w->drop, 0);
	}
	sum[AREA] += (double)(bench_now() - at);
}

static void
writes_round(struct work *w, struct size *z, unsigned round)
{
	const unsigned bursts = z->quick ? 4 : 80;

	for (unsigned turn = 0; turn < 2; turn++) {
		unsigned touched = (round + turn) % 2;
		double sum[WRITES] = { 0 };

		kvms_set_check(w->t.s, touched ? KVMS_CHECK_TOUCHED : KVMS_CHECK_OFF, 1);
		for (unsigned b = 0; b < bursts; b++) {
			pages_draw(w);
			burst(w, sum);
		}
		for (unsigned i = 0; i < WRITES; i++)
			bench_add(&z->writes[i][touched], sum[i] / bursts / BURST);
	}
}

/* ---- Questions --------------------------------------------------------------------------- */

static void
reads_round(struct work *w, struct size *z)
{
	static uint64_t va[ADDRESSES], paddr[ADDRESSES];
	static uint8_t found[ADDRESSES];
	const unsigned repeats = z->quick ? 1 : 16;
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op request;
	double sum[READS] = { 0 };

	kvms_op_init(&request, kvms_request_find("translate"));
	for (unsigned r = 0; r < repeats; r++) {
		uint64_t start, middle;

		for (unsigned i = 0; i < ADDRESSES; i++)
			va[i] = page_va(w, bench_random(&w->random) % w->t.pages);
		start = bench_now();
		for (unsigned i = 0; i < ADDRESSES; i++) {
			request.arg[1] = va[i];
			if (kvms_inspect(w->t.s, &request, &out) != KVMS_DONE || out.field[0] != 1)
				bench_die("an address is not mapped");
		}
		middle = bench_now();
		sum[REQUEST] += (double)(middle - start);
		for (unsigned i = 0; i < ADDRESSES; i++)
			va[i] = page_va(w, bench_random(&w->random) % w->t.pages);
		start = bench_now();
		kvms_translate(w->t.s, 0, va, ADDRESSES, found, paddr);
		sum[MANY] += (double)(bench_now() - start);
	}
	for (unsigned i = 0; i < READS; i++)
		bench_add(&z->reads[i], sum[i] / repeats / ADDRESSES);
	kvms_outcome_free(&out);
}

/* ---- The whole store ----------------------------------------------------------------------- */

static void
whole_round(struct work *w, struct size *z)
{
	struct kvms_findings findings;
	struct persist_image *image;
	char why[PERSIST_WHY];
	uint64_t start;
	double sum = 0;

	start = bench_now();
	if (!kvms_check_all(w->t.s, &findings))
		bench_die("a law is broken");
	bench_add(&z->full, (double)(bench_now() - start) / 1e6);
	start = bench_now();
	if (persist_capture(w->t.s, &image, why, sizeof why) != PERSIST_OK)
		bench_die("%s", why);
	bench_add(&z->image, (double)(bench_now() - start) / 1e6);
	persist_image_free(&image);
	kvms_digest(w->t.s);
	pages_draw(w);
	for (unsigned i = 0; i < BURST; i++) {
		range_set(w, &w->protect, i);
		bench_apply(w->t.s, &w->protect, 0);
		start = bench_now();
		kvms_digest(w->t.s);
		sum += (double)(bench_now() - start);
	}
	bench_add(&z->digest, sum / BURST);
}

/* ---- All of it -------------------------------------------------------------------------------- */

static void
size_measure(void *arg)
{
	struct size *z = arg;
	const struct scale_room before = scale_room(NULL, NULL);
	struct work w = work_make(z->count);
	unsigned rounds = z->quick ? 1 : 5;

	z->room = scale_room(w.t.s, &before);
	for (unsigned round = 0; round < rounds; round++) {
		writes_round(&w, z, round);
		reads_round(&w, z);
	}
	for (unsigned round = 0; round < (rounds < 3 ? rounds : 3); round++)
		whole_round(&w, z);
}

static void
sizes_print(const struct size *z, unsigned count)
{
	printf("\n### An operation\n\n"
	       "Nanoseconds, for a page out of all of them, at random.  Map: `kvirt_map_frames_into`; protect:\n"
	       "`kvirt_protect_range`; unmap: `kvirt_unmap_range`, which frees the frame; an area: `frame_alloc`,\n"
	       "`kvirt_map_frames` of that page, `kvirt_drop`.\n\n"
	       "| mappings | laws | frame_alloc | map | protect | unmap | an area of a page and back |\n"
	       "|---|---|---|---|---|---|---|\n");
	for (unsigned i = 0; i < count; i++)
		for (unsigned touched = 0; touched < 2; touched++) {
			printf("| %s | %s |", scale_count(z[i].count), touched ? "touched" : "off");
			for (unsigned w = 0; w < WRITES; w++)
				printf(" %s |", bench_cell(&z[i].writes[w][touched]));
			putchar('\n');
		}
	for (unsigned touched = 0; touched < 2; touched++) {
		printf("| %s : %s | %s |", scale_count(z[count - 1].count), scale_count(z[0].count),
		       touched ? "touched" : "off");
		for (unsigned w = 0; w < WRITES; w++)
			printf(" %s |", bench_ratio(&z[count - 1].writes[w][touched], &z[0].writes[w][touched]));
		putchar('\n');
	}
	printf("\nNanoseconds for an address, at random: as a request, and as one of %u in a call.\n\n"
	       "| mappings | `translate` | `kvms_translate` |\n|---|---|---|\n",
	       ADDRESSES);
	for (unsigned i = 0; i < count; i++)
		printf("| %s | %s | %s |\n", scale_count(z[i].count), bench_cell(&z[i].reads[REQUEST]),
		       bench_cell(&z[i].reads[MANY]));
	printf("| %s : %s | %s | %s |\n", scale_count(z[count - 1].count), scale_count(z[0].count),
	       bench_ratio(&z[count - 1].reads[REQUEST], &z[0].reads[REQUEST]),
	       bench_ratio(&z[count - 1].reads[MANY], &z[0].reads[MANY]));
	printf("\n### A whole store\n\n"
	       "The full check counts everything again and recomputes the digest; the digest is the one after one\n"
	       "operation more; the image is what a snapshot is written from.\n\n"
	       "| mappings | full check, ms | a mapping, ns | digest, ns | image, ms |\n|---|---|---|---|---|\n");
	for (unsigned i = 0; i < count; i++)
		printf("| %s | %s | %.0f | %s | %s |\n", scale_count(z[i].count), bench_cell(&z[i].full),
		       bench_median(&z[i].full) * 1e6 / (double)z[i].count, bench_cell(&z[i].digest),
		       bench_cell(&z[i].image));
	printf("\n### Memory\n\n"
	       "Host memory of a store whose mappings hold a frame each, in bytes a mapping, with what an empty store\n"
	       "takes.  Beyond its word: all but the 8 bytes that the mapping itself is.\n\n"
	       "| mappings | page tables | metadata of frames | all else | in all | beyond its word |\n|---|---|---|---|---|---|\n");
	for (unsigned i = 0; i < count; i++) {
		const double n = (double)z[i].count;
		const struct scale_room *r = &z[i].room;

		printf("| %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", scale_count(z[i].count), r->tables / n, r->metadata / n,
		       r->rest / n, r->all / n, r->all / n - 8);
	}
	fflush(stdout);
}

static void
sizes_plot(const struct size *z, unsigned count)
{
	FILE *data = bench_data("operations"), *checks = bench_data("checks");
	char at[32];

	for (unsigned w = 0; w < WRITES; w++) {
		if (w > 0)
			bench_series(data, write_names[w]);
		for (unsigned i = 0; i < count; i++) {
			snprintf(at, sizeof at, "%llu", (unsigned long long)z[i].count);
			bench_point(data, at, &z[i].writes[w][1]);
		}
	}
	for (unsigned r = 0; r < READS; r++) {
		bench_series(data, r == REQUEST ? "translate" : "kvms_translate");
		for (unsigned i = 0; i < count; i++) {
			snprintf(at, sizeof at, "%llu", (unsigned long long)z[i].count);
			bench_point(data, at, &z[i].reads[r]);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		snprintf(at, sizeof at, "%llu", (unsigned long long)z[i].count);
		bench_point(checks, at, &z[i].full);
	}
	bench_series(checks, "image");
	for (unsigned i = 0; i < count; i++) {
		snprintf(at, sizeof at, "%llu", (unsigned long long)z[i].count);
		bench_point(checks, at, &z[i].image);
	}
	bench_data_end(data);
	bench_data_end(checks);
}

void
scale_mappings(const struct bench_run *c)
{
	const unsigned count = c->quick ? 2 : 5;
	struct size *z = scale_shared(count * sizeof *z);
	uint64_t mappings = 1000;

	for (unsigned i = 0; i < count; i++, mappings *= 10) {
		z[i].count = mappings;
		z[i].quick = c->quick;
		scale_apart(size_measure, &z[i]);
	}
	sizes_print(z, count);
	sizes_plot(z, count);
}
