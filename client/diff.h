/*
 * diff - what is different in two states, section by section: counts, areas,
 * mappings, free addresses, then everything else.
 */
#ifndef KVMCTL_DIFF_H
#define KVMCTL_DIFF_H

#include "client/kvmctl.h"

/*
 * Print what is different, on standard output; nothing where nothing is.  With
 * --json: further members of an object whose first member has been printed.
 */
enum kvmctl_status kvmctl_diff_stores(struct kvmctl *k, struct kvms *before, struct kvms *after);

#endif /* KVMCTL_DIFF_H */
