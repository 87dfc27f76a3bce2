/* What the benchmarks share: clock, figures, table, stores. */
#include "bench/bench.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t
bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- Figures ------------------------------------------------------------------- */

/* The rounds stay in order, least first. */
void
bench_add(struct bench_figure *f, double value)
{
	unsigned i = f->rounds;

	if (f->rounds == BENCH_ROUNDS)
		bench_die("a figure of more than %u rounds", BENCH_ROUNDS);
	for (; i > 0 && f->round[i - 1] > value; i--)
		f->round[i] = f->round[i - 1];
	f->round[i] = value;
	f->rounds++;
}

double
bench_median(const struct bench_figure *f)
{
	return f->round[f->rounds / 2];
}

void
bench_time(struct bench_figure *f, void (*once)(void *), void *arg, unsigned count, double unit)
{
	uint64_t start = bench_now();

	for (unsigned i = 0; i < count; i++)
		once(arg);
	bench_add(f, (double)(bench_now() - start) / count / unit);
}

/* ---- How it runs ------------------------------------------------------------------ */

bool
bench_quick(void)
{
	const char *mode = getenv("BENCH_QUICK");
	bool quick = mode != NULL && mode[0] != '\0' && strcmp(mode, "0") != 0;

	if (quick)
		printf("**A smoke test: these figures mean nothing.**\n\n");
	return quick;
}

void
bench_pin(void)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof all, &all) != 0)
		bench_die("cannot tell the CPUs: %s", strerror(errno));
	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one) != 0)
		bench_die("cannot choose a CPU: %s", strerror(errno));
}

uint64_t
bench_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

void
bench_die(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fprintf(stderr, "bench: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

/* ---- Cells of Markdown ----------------------------------------------------------------- */

static const char *
short_number(char text[40], double value)
{
	snprintf(text, 40, "%.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
	return text;
}

const char *
bench_cell(const struct bench_figure *f)
{
	static char cells[16][128];
	static unsigned turn;
	char *cell = cells[turn++ % 16], median[40], least[40], most[40];

	if (f->rounds == 0)
		return "";
	if (f->rounds == 1)
		snprintf(cell, sizeof cells[0], "%s", short_number(median, bench_median(f)));
	else
		snprintf(cell, sizeof cells[0], "%s (%s .. %s)", short_number(median, bench_median(f)),
			 short_number(least, f->round[0]), short_number(most, f->round[f->rounds - 1]));
	return cell;
}

const char *
bench_ratio(const struct bench_figure *above, const struct bench_figure *below)
{
	static char cells[4][40];
	static unsigned turn;

	return short_number(cells[turn++ % 4], bench_median(above) / bench_median(below));
}

/* ---- Memory ------------------------------------------------------------------------ */

double
bench_resident(pid_t pid)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL && sscanf(line, "Rss: %lu", &kib) != 1)
		continue;
	if (f == NULL || kib == 0)
		bench_die("cannot read %s", path);
	fclose(f);
	return (double)kib / 1024;
}

/* ---- Points of plots -------------------------------------------------------------- */

FILE *
bench_data(const char *name)
{
	const char *folder = getenv("BENCH_DATA");
	char path[4096];
	FILE *data;

	snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "", name);
	data = fopen(folder != NULL ? path : "/dev/null", "we");
	if (data == NULL)
		bench_die("%s: %s", path, strerror(errno));
	return data;
}

void
bench_point(FILE *data, const char *what, const struct bench_figure *f)
{
	if (f->rounds > 0)
		fprintf(data, "%s\t%.6g\t%.6g\t%.6g\n", what, bench_median(f), f->round[0], f->round[f->rounds - 1]);
}

void
bench_series(FILE *data, const char *name)
{
	fprintf(data, "\n\n# %s\n", name);
}

void
bench_data_end(FILE *data)
{
	if (fclose(data) != 0)
		bench_die("cannot write the points of a plot: %s", strerror(errno));
}

/* ---- Stores ---------------------------------------------------------------------- */

struct kvms *
bench_store(uint64_t max_paddr)
{
	struct kvms_refusal why;
	struct kvms_op config;
	struct kvms *s;

	kvms_op_init(&config, kvms_store_row());
	if (max_paddr != 0)
		config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = max_paddr;
	s = kvms_new(&config, &why);
	if (s == NULL)
		bench_die("no store: %s", why.text);
	return s;
}

static const struct kvms_row *
row_of(const char *name)
{
	const struct kvms_row *row = kvms_op_find(name);

	if (row == NULL)
		bench_die("no operation %s", name);
	return row;
}

struct kvms_op
bench_op(const char *name)
{
	struct kvms_op op;

	kvms_op_init(&op, row_of(name));
	return op;
}

unsigned
bench_argument(const char *op, const char *name)
{
	int i = kvms_arg_index(row_of(op), name);

	if (i < 0)
		bench_die("no argument %s of %s", name, op);
	return (unsigned)i;
}

unsigned
bench_result(const char *op, const char *name)
{
	int i = kvms_result_index(row_of(op), name);

	if (i < 0)
		bench_die("no result %s of %s", name, op);
	return (unsigned)i;
}

uint64_t
bench_apply(struct kvms *s, const struct kvms_op *op, unsigned result)
{
	static struct kvms_outcome out;
	enum kvms_status status = kvms_apply(s, op, &out);

	if (status != KVMS_DONE || kvms_outcome_class(out.name) != KVMS_OK)
		bench_die("%s: status %d, outcome %s", kvms_op_row(op->code)->name, (int)status,
			  kvms_outcome_name(out.name));
	return out.field[result];
}
