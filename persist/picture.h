/*
 * picture - an image of a store, taken by a child process.
 *
 * Taking an image is O(live state), too long for a loop that serves.  A fork
 * gives a frozen copy of the store for the price of its page tables; the child
 * takes the image and hands it over through a file in memory.
 *
 * The child dies with its parent, holds none of its descriptors and takes none
 * of its signals.
 */
#ifndef PERSIST_PICTURE_H
#define PERSIST_PICTURE_H

#include "persist/snapshot.h"

struct persist_picture; /* opaque: one under way */

/*
 * Begin a picture of "s" as it is now.
 *
 * => gives *picture, ended by persist_picture_end()
 * => fails with PERSIST_FAILED: no process or memory
 */
enum persist_status persist_picture_begin(struct kvms *s, struct persist_picture **picture, char *why, size_t size);

/*
 * Wait for a picture.  Any thread may do so.
 *
 * => takes *picture
 * => gives *image, or fails with PERSIST_FAILED
 */
enum persist_status persist_picture_end(struct persist_picture **picture, struct persist_image **image, char *why,
					size_t size);

#endif /* PERSIST_PICTURE_H */
