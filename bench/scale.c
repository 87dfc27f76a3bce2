/*
 * scale - what becomes of the costs as a store grows.
 *
 *   scale KVMSTORED FOLDER
 *
 * Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in the environment
 * it only shows that everything works.  The largest store has 10 million
 * mappings and takes about 1 GiB.
 */
#include "bench/scale.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Processes ------------------------------------------------------------------------ */

void
scale_apart(void (*part)(void *), void *arg)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		part(arg);
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		bench_die("no process: %s", strerror(errno));
	if (status != 0)
		bench_die("a part of the benchmark ended with status %d", status);
}

void *
scale_shared(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		bench_die("no memory");
	return at;
}

const char *
scale_count(uint64_t n)
{
	static char texts[8][32];
	static unsigned turn;
	char digits[32], *text = texts[turn++ % 8], *to = text;
	int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = '\0';
	return text;
}

/* ---- A store with mappings ---------------------------------------------------------------- */

struct scale_store
scale_store_make(uint64_t pages)
{
	const uint64_t areas = (pages + SCALE_AREA - 1) / SCALE_AREA;
	struct scale_store t = { .s = bench_store(UINT64_C(1) << 36), .pages = pages };
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames");
	unsigned size = bench_argument("kvirt_map_frames", "area_size");
	unsigned count = bench_argument("kvirt_map_frames", "frames"), start = bench_result("kvirt_map_frames", "start");
	struct kvms_outcome out = { .name = 0 };
	uint64_t frames[SCALE_AREA];

	t.area = calloc(areas, sizeof *t.area);
	t.start = calloc(areas, sizeof *t.start);
	if (t.area == NULL || t.start == NULL)
		bench_die("no memory");
	kvms_set_check(t.s, KVMS_CHECK_OFF, 1);
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	map.list = frames;
	for (uint64_t a = 0; a < areas; a++) {
		uint64_t here = pages - a * SCALE_AREA < SCALE_AREA ? pages - a * SCALE_AREA : SCALE_AREA;

		for (unsigned k = 0; k < here; k++)
			frames[k] = bench_apply(t.s, &alloc, 0);
		map.arg[size] = here * PAGE;
		map.arg[count] = here;
		if (kvms_apply(t.s, &map, &out) != KVMS_DONE || out.name != 0)
			bench_die("an area cannot be mapped");
		t.area[a] = out.field[0];
		t.start[a] = out.field[start];
	}
	kvms_outcome_free(&out);
	return t;
}

int
main(int argc, char **argv)
{
	struct bench_run c;

	if (argc != 3) {
		fprintf(stderr, "Usage: scale KVMSTORED FOLDER\n");
		return 2;
	}
	c = (struct bench_run){ .kvmstored = argv[1], .quick = bench_quick() };
	c.rounds = c.quick ? 1 : 5;
	bench_pin();
	printf("Medians of %u rounds (least .. largest).\n", c.rounds);
	scale_mappings(&c);
	scale_memory(&c);
	scale_areas(&c);
	scale_empty(&c, argv[2]);
	return 0;
}
