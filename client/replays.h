/*
 * replays - many replays at a time, and the file that tells of them in the form
 * of JUnit.
 */
#ifndef KVMCTL_REPLAYS_H
#define KVMCTL_REPLAYS_H

#include "client/kvmctl.h"
#include "trace/coverage.h"
#include "trace/replay.h"

/* Replay the file "path" as the call says; *run gets what is known of it. */
typedef enum kvmctl_status kvmctl_replay_one(struct kvmctl *k, char *path, struct kvt_coverage *coverage,
					     struct kvt_statistics *run);

/*
 * Replay all files of the call, each in a process of its own, so many at a
 * time as --jobs says; tell of them in the order of the call.  Writes the file
 * of --junit.
 *
 * => coverage: NULL = nobody asks
 * => run: what is known of all together
 * => gives the status of the first that did not pass; a broken law before all else
 */
enum kvmctl_status kvmctl_replay_all(struct kvmctl *k, kvmctl_replay_one *replay, struct kvt_coverage *coverage,
				     struct kvt_statistics *run);

#endif /* KVMCTL_REPLAYS_H */
