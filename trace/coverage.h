/*
 * coverage - which outcomes of which operations traces reach, and which laws
 * their steps put to the test.  Processes that are started later count in it too.
 *
 * A cell is an operation and an outcome that its row lists.  A law counts as
 * tested by a cell if it was evaluated on something that such a step touched.
 */
#ifndef KVT_COVERAGE_H
#define KVT_COVERAGE_H

#include "store/kvmstore.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVT_LAW_WORDS 4u

struct kvt_cell {
	uint64_t count;               /* steps */
	uint64_t laws[KVT_LAW_WORDS]; /* bit set of law numbers */
};

struct kvt_coverage {
	unsigned ops, outcomes; /* one more than the highest code and name */
	struct kvt_cell *cell;  /* [code][name] */
	uint64_t *requests;     /* [code]: expectations of a request */
	uint64_t *checked;      /* laws that a full check evaluated */
	size_t size;            /* of the memory of all three */
};

/* False: no memory. */
bool kvt_coverage_init(struct kvt_coverage *c);
void kvt_coverage_free(struct kvt_coverage *c);

/* Count a step.  "laws": what it put to the test, NULL = not known. */
void kvt_coverage_step(struct kvt_coverage *c, const struct kvms_op *op, const struct kvms_outcome *out,
		       const uint64_t laws[KVT_LAW_WORDS]);

/* Count an expectation. */
void kvt_coverage_expect(struct kvt_coverage *c, const struct kvms_op *request, const uint64_t laws[KVT_LAW_WORDS]);

const struct kvt_cell *kvt_coverage_cell(const struct kvt_coverage *c, unsigned code, unsigned name);

/* Totals of a coverage. */
struct kvt_covered {
	uint64_t steps;
	unsigned cells, cells_reached;
	unsigned ops, ops_reached;  /* operations with any step */
	unsigned ok, ok_reached;    /* operations that ended ok */
	unsigned laws, laws_tested; /* by steps */
	unsigned laws_checked;      /* by steps or by full checks */
	unsigned requests, requests_reached;
};
struct kvt_covered kvt_coverage_sum(const struct kvt_coverage *c);

/* Laws that the steps of an operation put to the test, all outcomes together. */
void kvt_coverage_laws(const struct kvt_coverage *c, unsigned code, uint64_t laws[KVT_LAW_WORDS]);

static inline bool
kvt_law_in(const uint64_t laws[KVT_LAW_WORDS], unsigned law)
{
	return (laws[law / 64] >> law % 64 & 1) != 0;
}

#endif /* KVT_COVERAGE_H */
