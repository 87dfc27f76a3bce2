/*
 * listen - the socket file: taken, watched over, given back.
 *
 * Law: a socket file is removed only if nobody listens on it, or if it is the
 * one made here.  Nothing that is not a socket is ever removed.
 */
#ifndef KVMD_LISTEN_H
#define KVMD_LISTEN_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct kvmd_listener {
	char path[PATH_MAX];
	int fd;
	int lock;     /* PATH.lock, held while we live: of two daemons that start at once, one wins */
	dev_t device; /* of the socket file made here */
	ino_t inode;
};

/*
 * Take the path: make the socket file, readable and writable for its owner
 * only.  Clients can connect after kvmd_listener_start().
 *
 * => fails with false, having logged why and what to do; there is nothing to close
 */
bool kvmd_listener_open(struct kvmd_listener *l, const char *path);

/* Let clients connect. */
bool kvmd_listener_start(struct kvmd_listener *l);

/* Stop listening and remove the socket file.  May be called twice. */
void kvmd_listener_close(struct kvmd_listener *l);

#endif /* KVMD_LISTEN_H */
