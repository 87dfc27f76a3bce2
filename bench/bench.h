/*
 * bench - what the parts of the benchmark share: clock, rounds, table.
 *
 * A figure is the median of a few rounds; the table shows it with the least
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

#define BENCH_ROUNDS 7u

struct bench_figure {
	double round[BENCH_ROUNDS];
	unsigned rounds;
};

/* Nanoseconds on a clock that only goes forward. */
uint64_t bench_now(void);

void bench_add(struct bench_figure *f, double value);
double bench_median(const struct bench_figure *f);

/* Time "count" calls and add what one of them took, in nanoseconds divided by "unit". */
void bench_time(struct bench_figure *f, void (*once)(void *), void *arg, unsigned count, double unit);

/* A part of the table: its subject and what its columns are. */
void bench_heading(const char *subject, const char *left, const char *right);
/* One line; NULL leaves a column empty. */
void bench_row(const char *what, const struct bench_figure *left, const struct bench_figure *right);
/* A line of words below what they explain. */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "12.3 (11.0 .. 13.1)"; one of a few buffers in turn. */
const char *bench_cell(const struct bench_figure *f);
/* "1.23" of two medians. */
const char *bench_ratio(const struct bench_figure *above, const struct bench_figure *below);

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

/* ---- The parts ------------------------------------------------------------------ */

void bench_areas(void);
void bench_whole_store(void);
void bench_replay(const char *recording);
/* The same as Markdown. */
void bench_recording(const char *recording, unsigned rounds);
void bench_socket(const char *kvmstored);

#endif /* BENCH_H */
