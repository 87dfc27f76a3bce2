/*
 * atomic - operations that happen together or not at all.
 */
#ifndef KVMCTL_ATOMIC_H
#define KVMCTL_ATOMIC_H

#include "client/session.h"
#include "trace/text.h"

/* Operations, in their order, whose lists are their own.  Zero-initialise; kvmctl_atomic_free() ends it. */
struct kvmctl_atomic {
	struct kvms_op *ops;
	size_t count;
	size_t capacity;
};

/*
 * Add the operation of a line, which may go away.
 *
 * => fails with a status, having said why: it opens a cursor, there are too
 *    many, or no memory
 */
enum kvmctl_status kvmctl_atomic_add(struct kvmctl_atomic *a, const struct kvt_line *line);

/*
 * Carry them out on the store of the session, in the daemon as one request,
 * and print the outcomes up to the first that is not ok.
 *
 * => gives KVMCTL_NOT_OK if there was one, having said that nothing happened
 * => fails as a single operation would; nothing happened then either
 */
enum kvmctl_status kvmctl_atomic_run(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_atomic *a);

void kvmctl_atomic_free(struct kvmctl_atomic *a);

#endif /* KVMCTL_ATOMIC_H */
