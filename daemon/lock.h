/*
 * lock - what one daemon alone may use: its socket, its state directory.
 */
#ifndef KVMD_LOCK_H
#define KVMD_LOCK_H

#include <stdbool.h>

/*
 * How long to be patient, in milliseconds: a child that takes a picture of a
 * store holds what its daemon held, for a moment more than that lives if it is
 * killed.
 */
#define KVMD_LOCK_MS 1000u

/* Lock an open file until the process ends; false: another one holds it. */
bool kvmd_lock(int fd);

#endif /* KVMD_LOCK_H */
