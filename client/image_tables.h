/*
 * image_tables - where the tables of an image are: from options, or from the
 * text beside the file.
 */
#ifndef KVMCTL_IMAGE_TABLES_H
#define KVMCTL_IMAGE_TABLES_H

#include "client/image.h"

/* The address in the register CR3. */
uint64_t kvmctl_cr3_root(uint64_t cr3);

/* Add a root; with "once" only if it is none yet. */
void kvmctl_image_root(struct kvmctl_image *image, uint64_t root, bool once);

/* May the file, whose first bytes say nothing, be memory as it is?  False having said why not. */
bool kvmctl_image_may_be_raw(struct kvmctl *k, const struct kvmctl_image *image);

/*
 * Fill in machine, levels, roots and end of memory.
 *
 * => fails with KVMCTL_USAGE, having said what has to be given
 */
enum kvmctl_status kvmctl_image_tables(struct kvmctl *k, struct kvmctl_image *image);

#endif /* KVMCTL_IMAGE_TABLES_H */
