/*
 * export_json - all of a store as one JSON document.
 *
 * The fields are those that kvmctl(1) documents.  Memory beside the store's
 * own does not grow with the document, but for a list of areas and of gaps
 * between used frames.
 */
#ifndef KVMCTL_EXPORT_JSON_H
#define KVMCTL_EXPORT_JSON_H

#include "store/kvmstore.h"

#include <stdio.h>

#define KVMCTL_EXPORT_VERSION 1u /* of the document; grows when a field changes its meaning */

/*
 * Write the document.
 *
 * => name: of the store
 * => fails with false: no memory; what cannot be written, the file knows
 */
bool kvmctl_export_json(struct kvms *s, const char *name, FILE *out);

#endif /* KVMCTL_EXPORT_JSON_H */
