/*
 * stat - a trace in figures: what ran, what was alive when, how the virtual
 * range fell to pieces, how large and how old areas became, and what was left.
 *
 * Feed it every step of a replay (kvt_replay.step); the replay's target must
 * be a store in this process.
 *
 * Law: memory is bounded by what is alive and by KVT_SAMPLES, unless samples
 * at a fixed distance were asked for and are kept.
 */
#ifndef KVT_STAT_H
#define KVT_STAT_H

#include "trace/coverage.h"
#include "trace/lives.h"

#define KVT_SAMPLES 24u /* most samples kept when the distance is free */
#define KVT_BUCKETS 64u /* of a histogram: bucket i counts values in [2^i, 2^(i+1)); 0 goes into the first */
#define KVT_CENSUS_MAX 32u
#define KVT_LEVELS_MAX 8u

/* Free addresses of the first vmalloc range, in which addresses are allocated. */
struct kvt_free_va {
	uint64_t blocks, bytes, largest;
};

/* The state behind a step. */
struct kvt_sample {
	uint64_t step;
	uint64_t t;
	bool has_t;
	uint64_t census[KVT_CENSUS_MAX]; /* fields of that request */
	struct kvt_free_va free_va;
};

struct kvt_peak {
	uint64_t value, step;
};

/* Who holds what at the end: all objects of one kind that one operation made for one @src. */
struct kvt_leak {
	enum kvms_kind kind;
	unsigned op;    /* 0 = older than the trace */
	char *src;      /* NULL = none */
	uint64_t count; /* objects */
	uint64_t pages; /* frames they hold: handles, covers, links, tracked leaves in an area or a space */
	uint64_t bytes; /* of addresses: areas */
	uint64_t line;  /* of the first */
};

struct kvt_stat {
	/* --- given --- */
	uint64_t every; /* steps between two samples; 0: chosen so that at most KVT_SAMPLES remain */
	void (*sampled)(void *arg, const struct kvt_sample *sample); /* NULL: samples are kept; else they go here */
	void *arg;
	struct kvt_target *target; /* set it before the first step */

	/* --- the result --- */
	struct kvt_coverage ops; /* operations by outcome */
	struct kvt_sample *samples;
	size_t samples_count;
	struct kvt_peak peak[KVT_CENSUS_MAX];
	struct kvt_sample last;         /* the state at the end */
	uint64_t nodes[KVT_LEVELS_MAX]; /* page-table nodes at the end; [0]: level 1 */
	uint64_t sizes[KVT_BUCKETS];    /* areas by size in pages */
	uint64_t ages[KVT_BUCKETS];     /* areas that ended, by how many steps they lived */
	uint64_t times[KVT_BUCKETS];    /* the same by nanoseconds, where both ends have @t */
	uint64_t areas_made, areas_ended, areas_bytes;
	struct kvt_leak *leaks; /* sorted: most pages first */
	size_t leaks_count;
	bool failed; /* no memory */

	/* --- its own --- */
	struct kvt_lives *lives;
	struct kvt_step step;
	struct kvms_outcome answer;
	uint64_t stride;
	size_t samples_capacity;
};

/* Zero-initialise, set what is given, then begin.  False: no memory. */
bool kvt_stat_begin(struct kvt_stat *s);
void kvt_stat_free(struct kvt_stat *s);

/* A step of the trace, of an operation or an expectation. */
void kvt_stat_step(struct kvt_stat *s, const struct kvt_line *line, const struct kvms_op *op,
		   const struct kvms_outcome *out);

/* The trace is at its end: the last sample, the nodes, and with "leaks" who holds what. */
void kvt_stat_end(struct kvt_stat *s, bool leaks);

/* Part of the free addresses outside the largest block, in thousandths: 0 = all in one piece. */
unsigned kvt_fragmentation(const struct kvt_free_va *f);

/* Free addresses of the store now.  "answer" is reused from call to call.  False: the store does not answer. */
bool kvt_free_va_ask(struct kvt_target *t, struct kvms_outcome *answer, struct kvt_free_va *f);

#endif /* KVT_STAT_H */
