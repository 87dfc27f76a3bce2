/*
 * replays - many replays at a time, and what is written about them beside the
 * report: which outcomes there were, and a file in the form of JUnit.
 */
#ifndef KVMCTL_REPLAYS_H
#define KVMCTL_REPLAYS_H

#include "client/kvmctl.h"
#include "trace/replay.h"

/* ---- Coverage: how often each operation had each outcome --------------------- */

struct kvmctl_coverage; /* opaque; shared with the processes that are started later */

/* NULL: no memory. */
struct kvmctl_coverage *kvmctl_coverage_new(void);
void kvmctl_coverage_free(struct kvmctl_coverage **c);
void kvmctl_coverage_add(struct kvmctl_coverage *c, const struct kvms_op *op, const struct kvms_outcome *out);

/* Write it to a file, a line for each outcome an operation can have.  Fails having said why. */
enum kvmctl_status kvmctl_coverage_write(const struct kvmctl_coverage *c, const char *path);

/* ---- Many replays --------------------------------------------------------------- */

/* Replay the file "path" as the call says; *run gets what is known of it. */
typedef enum kvmctl_status kvmctl_replay_one(struct kvmctl *k, char *path, struct kvmctl_coverage *coverage,
					     struct kvt_statistics *run);

/*
 * Replay all files of the call, each in a process of its own, so many at a
 * time as --jobs says; tell of them in the order of the call.  Writes the file
 * of --junit.
 *
 * => gives the status of the first that did not pass; a broken law before all else
 */
enum kvmctl_status kvmctl_replay_all(struct kvmctl *k, kvmctl_replay_one *replay, struct kvmctl_coverage *coverage);

#endif /* KVMCTL_REPLAYS_H */
