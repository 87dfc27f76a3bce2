/*
 * explain - a divergence in the light of what led to it.
 *
 * The trace is replayed a second time, in this process, up to the step that
 * differs.  On the way it is noted which steps touched the objects that the
 * operation names; in the state in front of it, what other arguments would
 * have come to.
 */
#ifndef KVMCTL_EXPLAIN_H
#define KVMCTL_EXPLAIN_H

#include "client/kvmctl.h"
#include "trace/replay.h"

/*
 * Add what is known of a divergence to its report.
 *
 * => path: of the trace.  If it cannot be read again ("-"), only what needs no replay is said
 * => budget: nanoseconds that the replay up to there took; where it took long there is no second
 */
void kvmctl_explain(struct kvmctl *k, const char *path, const struct kvt_divergence *d, uint64_t budget,
		    struct kvt_buffer *text);

#endif /* KVMCTL_EXPLAIN_H */
