/*
 * lanes - many connections to one server, each with requests ahead.
 *
 * Requests are bytes made before the clock runs, a batch goes out with one
 * write, and of an answer no more is looked at than its size and whether it is
 * what was asked for.  So what is compared is the servers and the bytes they
 * want, not client libraries.
 */
#ifndef BENCH_LANES_H
#define BENCH_LANES_H

#include "bench/bench.h"
#include "bench/wire.h"

#define LANES_MAX 1000u
#define LANES_MANY 64u /* addresses, keys in one request */
#define LANES_KEY 12u  /* bytes of a key, a value */
#define LANES_VALUE 16u

/* What stands at the beginning of a good answer is known; the rest is skipped. */
enum answer { ANSWER_OUTCOME, ANSWER_TRANSLATED, ANSWER_OK, ANSWER_BULK, ANSWER_ARRAY, ANSWER_VALUE, ANSWER_STORED };

/* One load: which server, what is asked. */
struct load {
	const char *name;
	struct peer *peer;
	enum answer answer;
	/* Append request "i" of connection "c". */
	void (*put)(struct kvmp_buffer *to, unsigned c, unsigned i);
};

struct lanes_result {
	struct bench_figure rate;            /* 1000 requests a second */
	struct bench_figure p50, p99, p999;  /* microseconds from sending a batch to its last answer */
	struct bench_figure slowest;         /* the requests of the slowest connection, of those of the fastest */
};

/*
 * Connections that do nothing: "count" of them.  With "depth" requests ahead
 * there is a list of batches for each; 0: none, for lanes_ask().
 */
void lanes_open(const struct load *load, unsigned count, unsigned depth);
void lanes_close(unsigned count);

/* Send all of them again and again for some seconds, on one CPU, and add what came of it. */
void lanes_run(const struct load *load, unsigned count, unsigned depth, double seconds, struct lanes_result *r);

/* Open, run, close. */
void lanes_measure(const struct load *load, unsigned count, unsigned depth, double seconds, struct lanes_result *r);

/* The first connection sends these bytes, which are "requests" requests, and takes the answers. */
void lanes_ask(const struct load *load, const struct kvmp_buffer *bytes, unsigned requests);

#endif /* BENCH_LANES_H */
