/*
 * durable - the parts of the durability figures, as Markdown on stdout.
 *
 * What two columns compare is measured in turn, round by round, with both
 * servers running and one of them idle.
 */
#ifndef BENCH_DURABLE_H
#define BENCH_DURABLE_H

#include "bench/bench.h"
#include "bench/wire.h"

struct durable {
	const char *kvmstored; /* program */
	bool quick;            /* a smoke test: figures mean nothing */
	unsigned rounds;
};

/* "12.3 (11.0 .. 13.1)"; one of a few buffers in turn. */
const char *durable_cell(const struct bench_figure *f);
/* "1.23" of two medians. */
const char *durable_ratio(const struct bench_figure *above, const struct bench_figure *below);

/* Bytes of a request on average, over those that the loads of writes are made of. */
size_t durable_request_size(void);

void durable_writes(const struct durable *d);
void durable_snapshots(const struct durable *d);
void durable_journal(const struct durable *d);

#endif /* BENCH_DURABLE_H */
