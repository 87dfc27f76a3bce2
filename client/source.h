/*
 * source - a whole store to read in this process: the one of --embedded, or
 * the state behind a step of the history (--step; the last, unless told).
 */
#ifndef KVMCTL_SOURCE_H
#define KVMCTL_SOURCE_H

#include "client/session.h"

/* Zero-initialise before first use; kvmctl_source_close() ends it. */
struct kvmctl_source {
	struct kvmctl_session session;
	struct kvms *owned;
	struct kvms *s; /* the store */
};

/* => fails with a status, having said why; there is nothing to close then */
enum kvmctl_status kvmctl_source_open(struct kvmctl *k, struct kvmctl_source *source);
void kvmctl_source_close(struct kvmctl_source *source);

/*
 * The table of --table: "kernel" (0), the id of an address space, or
 * "all" (KVMS_ALL_TABLES) where that is meant to be; "fallback" without it.
 *
 * => fails with a status, having said why, also if the store has no such table
 */
enum kvmctl_status kvmctl_source_table(const struct kvmctl *k, const struct kvmctl_source *source, uint64_t fallback,
				       bool may_be_all, uint64_t *table);

#endif /* KVMCTL_SOURCE_H */
