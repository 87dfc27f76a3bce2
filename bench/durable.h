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

/* Bytes of a request on average, over those that the loads of writes are made of. */
size_t durable_request_size(void);

void durable_writes(const struct bench_run *d);
void durable_snapshots(const struct bench_run *d);
void durable_journal(const struct bench_run *d);

#endif /* BENCH_DURABLE_H */
