/* Areas over the number of areas, beside a first fit. */
#include "bench/scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- First fit ---------------------------------------------------------------------------- */

/*
 * A first fit as upstream does it: free blocks by address, looked at from the
 * lowest on; one that fits is carved from its top, a freed one joins its neighbours.
 */
struct blocks {
	struct block {
		uint64_t start, end;
	} *at;
	size_t count, capacity;
};

static void
blocks_remove(struct blocks *b, size_t i)
{
	memmove(b->at + i, b->at + i + 1, (--b->count - i) * sizeof *b->at);
}

static uint64_t
blocks_alloc(struct blocks *b, uint64_t size)
{
	for (size_t i = 0; i < b->count; i++) {
		struct block *at = &b->at[i];

		if (at->end - at->start < size)
			continue;
		at->end -= size;
		size = at->end; /* the address */
		if (at->start == at->end)
			blocks_remove(b, i);
		return size;
	}
	bench_die("no block is large enough");
}

static void
blocks_free(struct blocks *b, uint64_t start, uint64_t end)
{
	size_t low = 0, high = b->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (b->at[middle].start < start)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < b->count && b->at[low].start == end) {
		end = b->at[low].end;
		blocks_remove(b, low);
	}
	if (low > 0 && b->at[low - 1].end == start) {
		b->at[low - 1].end = end;
		return;
	}
	if (b->count == b->capacity) {
		b->capacity = b->capacity == 0 ? 1024 : 2 * b->capacity;
		b->at = realloc(b->at, b->capacity * sizeof *b->at);
		if (b->at == NULL)
			bench_die("no memory");
	}
	memmove(b->at + low + 1, b->at + low, (b->count - low) * sizeof *b->at);
	b->at[low] = (struct block){ start, end };
	b->count++;
}

/* ---- Areas behind areas ------------------------------------------------------------------------------------------ */

#define LARGE (100 * PAGE)
#define AIM 15000u /* areas behind which there is an aim */

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

/* ---- All of it ------------------------------------------------------------------------------ */

/* One number of areas. */
struct count {
	uint64_t areas;
	bool quick;
	unsigned rounds;
	struct bench_figure off[2], touched[2], first[2]; /* small, large */
};

static void
count_measure(void *arg)
{
	struct count *n = arg;
	struct areas a = areas_make(n->areas);
	const unsigned times = n->quick ? 100 : 10000, slow = n->quick ? 10 : n->areas < 1000000 ? 1000 : 200;

	for (unsigned round = 0; round < n->rounds; round++)
		for (unsigned large = 0; large < 2; large++) {
			a.size = large ? LARGE : PAGE;
			for (unsigned turn = 0; turn < 2; turn++) {
				unsigned touched = (round + turn) % 2;

				kvms_set_check(a.s, touched ? KVMS_CHECK_TOUCHED : KVMS_CHECK_OFF, 1);
				bench_time(touched ? &n->touched[large] : &n->off[large], areas_once, &a, times, 1e3);
			}
			bench_time(&n->first[large], blocks_once, &a, slow, 1e3);
		}
}

static void
counts_plot(const struct count *n, unsigned count)
{
	FILE *data = bench_data("areas");
	char at[32];

	for (unsigned series = 0; series < 6; series++) {
		if (series > 0)
			bench_series(data, "");
		for (unsigned i = 0; i < count; i++) {
			const struct bench_figure *kinds[] = { n[i].off, n[i].touched, n[i].first };

			snprintf(at, sizeof at, "%llu", (unsigned long long)n[i].areas);
			if (n[i].areas != AIM)
				bench_point(data, at, &kinds[series / 2][series % 2]);
		}
	}
	bench_data_end(data);
}

void
scale_areas(const struct bench_run *c)
{
	const uint64_t counts[] = { 1000, 10000, AIM, 100000, 1000000 };
	const unsigned count = c->quick ? 2 : 5;
	struct count *n = scale_shared(count * sizeof *n);

	for (unsigned i = 0; i < count; i++) {
		n[i] = (struct count){ .areas = counts[i], .quick = c->quick, .rounds = c->rounds };
		scale_apart(count_measure, &n[i]);
	}
	printf("\n### An area more\n\n"
	       "Microseconds for `kvirt_reserve` and `kvirt_unreserve` of an area behind as many holes of a page as\n"
	       "there are live areas.  Large: 100 pages, which fit behind all holes only; small: one page, which fits\n"
	       "the first.  First fit: upstream's policy as upstream does it, on a sorted array, with nothing around\n"
	       "it.\n\n"
	       "| live areas | laws off | touched laws | first fit | first fit : laws off | : touched laws |\n"
	       "|---|---|---|---|---|---|\n");
	for (unsigned large = 0; large < 2; large++)
		for (unsigned i = 0; i < count; i++)
			printf("| %s, %s | %s | %s | %s | %s | %s |\n", scale_count(n[i].areas),
			       large ? "large" : "small", bench_cell(&n[i].off[large]), bench_cell(&n[i].touched[large]),
			       bench_cell(&n[i].first[large]),
			       bench_ratio(&n[i].first[large], &n[i].off[large]),
			       bench_ratio(&n[i].first[large], &n[i].touched[large]));
	fflush(stdout);
	counts_plot(n, count);
}
