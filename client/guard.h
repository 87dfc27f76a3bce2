/*
 * guard - drops a store in the daemon when this process is gone.
 *
 * A replay makes a store for itself.  However the replay ends (done, a signal,
 * a crash, killed), the store must not stay.  So a child process waits for the
 * end of its parent, and then drops the store if the parent has not done so.
 */
#ifndef KVMCTL_GUARD_H
#define KVMCTL_GUARD_H

#include <sys/types.h>

struct kvmctl_guard {
	int fd;    /* our end of a pipe; the guard sees it close */
	pid_t pid; /* 0: there is no guard */
};

/*
 * Start a guard for "store" of the daemon on "socket".
 *
 * => needs: one thread; nothing buffered for standard output
 * => fails with -1 and errno
 */
int kvmctl_guard_start(struct kvmctl_guard *g, const char *socket, const char *store);

/* The store is dropped, or is to stay: end the guard.  A guard of zeros is fine. */
void kvmctl_guard_end(struct kvmctl_guard *g);

#endif /* KVMCTL_GUARD_H */
