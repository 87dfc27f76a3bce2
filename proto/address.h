/*
 * address - where the daemon listens unless told otherwise.
 *
 * The daemon and its clients ask here, so that they meet.
 */
#ifndef KVMP_ADDRESS_H
#define KVMP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

/* Environment variable that names the socket, for the daemon and its clients. */
#define KVMP_SOCKET_VARIABLE "KVMSTORE_SOCKET"

/* Where root's daemon listens.  The system service has the same directory. */
#define KVMP_SOCKET_ROOT "/run/kvmstore/kvmstored.sock"

/* The same in words, for help texts. */
#define KVMP_SOCKET_WORDS KVMP_SOCKET_ROOT " for root, else $XDG_RUNTIME_DIR/kvmstored.sock"

/* What the default depends on; the caller asks the system. */
struct kvmp_surroundings {
	const char *variable;    /* value of KVMP_SOCKET_VARIABLE, or NULL */
	const char *runtime_dir; /* value of XDG_RUNTIME_DIR, or NULL */
	bool root;               /* the effective user is root */
};

/*
 * Write the default path of the socket into "path" of "size" bytes:
 *
 *	$KVMSTORE_SOCKET                   if set and not empty
 *	/run/kvmstore/kvmstored.sock       for root
 *	$XDG_RUNTIME_DIR/kvmstored.sock    for everyone else
 *
 * => fails with false: there is no default (XDG_RUNTIME_DIR is not set), or it
 *    does not fit
 */
bool kvmp_socket_path(const struct kvmp_surroundings *here, char *path, size_t size);

/* True if "name" may name a store: 1 to 64 of A-Z a-z 0-9 . _ -, no dot first. */
bool kvmp_store_name_valid(const char *name);

#endif /* KVMP_ADDRESS_H */
