/*
 * progress - a bar on standard error while a trace runs.
 *
 * Law: whatever else goes to standard error meanwhile begins on a clean line.
 */
#ifndef KVMCTL_PROGRESS_H
#define KVMCTL_PROGRESS_H

#include "trace/replay.h"

#include <stdio.h>

/* Draw the bar. */
void kvmctl_progress_draw(const struct kvt_statistics *run);

/* Take the bar away, if there is one. */
void kvmctl_progress_clear(void);

/*
 * A stream to standard error that takes the bar away before it writes.
 * => gives a stream the caller closes; NULL: no memory
 */
FILE *kvmctl_progress_stream(void);

#endif /* KVMCTL_PROGRESS_H */
