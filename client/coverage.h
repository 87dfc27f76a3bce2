/*
 * coverage - what is told of the outcomes and laws that traces reach, by
 * "trace coverage" and "replay --coverage".
 */
#ifndef KVMCTL_COVERAGE_H
#define KVMCTL_COVERAGE_H

#include "client/kvmctl.h"
#include "trace/coverage.h"

#include <stdio.h>

/*
 * Print what the traces of the call have reached: as text, only the totals
 * with --quiet, or as JSON.
 *
 * => nanoseconds: that it took
 * => has_laws: false = the steps ran where nobody sees which laws they put to the test
 */
struct kvt_covered kvmctl_coverage_print(const struct kvmctl *k, FILE *to, const struct kvt_coverage *coverage,
					 uint64_t nanoseconds, bool has_laws);

#endif /* KVMCTL_COVERAGE_H */
