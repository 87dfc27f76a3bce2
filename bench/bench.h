/*
 * bench - what the benchmarks share: clock, rounds, cells of tables, points of plots.
 *
 * A figure is the median of a few rounds; a table shows it with the least
 * and the largest of them, so that noise is seen and not guessed at.  What two
 * columns compare is measured in turn, round by round.
 *
 * Anything unexpected ends the program: a benchmark of failures measures nothing.
 */
#ifndef BENCH_H
#define BENCH_H

#include "store/kvmstore.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define BENCH_ROUNDS 7u /* at most */

#define PAGE KVMS_PAGE_SIZE
#define PROP_RW (KVMS_PROP_R | KVMS_PROP_W | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT) /* rw:wb */

struct bench_figure {
	double round[BENCH_ROUNDS];
	unsigned rounds;
};

/* What the parts of a benchmark with a daemon are given. */
struct bench_run {
	const char *kvmstored; /* program */
	bool quick;            /* a smoke test: figures mean nothing */
	unsigned rounds;
};

/* Nanoseconds on a clock that only goes forward. */
uint64_t bench_now(void);

void bench_add(struct bench_figure *f, double value);
double bench_median(const struct bench_figure *f);

/* Time "count" calls and add what one of them took, in nanoseconds divided by "unit". */
void bench_time(struct bench_figure *f, void (*once)(void *), void *arg, unsigned count, double unit);

/* "12.3 (11.0 .. 13.1)"; one of a few buffers in turn. */
const char *bench_cell(const struct bench_figure *f);
/* "1.23" of two medians. */
const char *bench_ratio(const struct bench_figure *above, const struct bench_figure *below);

/*
 * Points for a plot go into the file NAME of the folder that BENCH_DATA names
 * in the environment, one line each: what or where it is, median, least, most,
 * with tabs between.  Each series but the first begins with bench_series().
 * Without the variable they go nowhere.
 */
FILE *bench_data(const char *name);
void bench_series(FILE *data, const char *name);
void bench_point(FILE *data, const char *what, const struct bench_figure *f);
void bench_data_end(FILE *data);

/* BENCH_QUICK is set: only show that everything works.  Says so, in Markdown. */
bool bench_quick(void);

/* Stay on the first CPU that this process may use; so do processes started from now on. */
void bench_pin(void);

/* Resident memory of a process in MiB, counted exactly (statm may lag behind). */
double bench_resident(pid_t pid);

/* The next number of a sequence that is the same in every run; begin with anything but 0. */
uint64_t bench_random(uint64_t *x);

_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Stores ------------------------------------------------------------------ */

/* A store of "max_paddr" bytes, 0 = the default. */
struct kvms *bench_store(uint64_t max_paddr);

/* The operation "name" with default arguments; places of its arguments and results, by name. */
struct kvms_op bench_op(const char *name);
unsigned bench_argument(const char *op, const char *name);
unsigned bench_result(const char *op, const char *name);

/* Apply it; it must end ok.  Gives result field "result". */
uint64_t bench_apply(struct kvms *s, const struct kvms_op *op, unsigned result);

#endif /* BENCH_H */
