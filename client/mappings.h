/*
 * mappings - every leaf of a table, a line each: va,pa,size,entry,flags.
 */
#ifndef KVMCTL_MAPPINGS_H
#define KVMCTL_MAPPINGS_H

#include "client/kvmctl.h"

/*
 * Print the leaves of the table that --table names (the kernel's unless told),
 * as CSV, or with --json one object a line.
 *
 * => fails with a status, having said why
 */
enum kvmctl_status kvmctl_mappings_print(const struct kvmctl *k, struct kvms *s, FILE *out);

#endif /* KVMCTL_MAPPINGS_H */
