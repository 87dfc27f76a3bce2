#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/lock.h"
#include "daemon/log.h"
#include "proto/address.h"

static bool
address_of(const char *path, struct sockaddr_un *address)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	if (path[0] == '\0') {
		kvmd_log(KVMD_ERROR,
			 "which socket? XDG_RUNTIME_DIR is not set, so there is no default; use --listen PATH");
		return false;
	}
	if (strlen(path) >= sizeof address->sun_path) {
		kvmd_log(KVMD_ERROR, "the path of a socket has at most %zu bytes: %s; use a shorter --listen PATH",
			 sizeof address->sun_path - 1, path);
		return false;
	}
	strcpy(address->sun_path, path);
	return true;
}

/* Root's default lies in a directory of its own, which the first start makes. */
static void
default_directory_make(const char *path)
{
	static const char root[] = KVMP_SOCKET_ROOT;
	char directory[sizeof root];

	if (strcmp(path, root) != 0)
		return;
	strcpy(directory, root);
	*strrchr(directory, '/') = '\0';
	if (mkdir(directory, 0755) != 0 && errno != EEXIST)
		kvmd_log(KVMD_WARNING, "cannot make %s: %s", directory, strerror(errno));
}

static bool
lock_take(struct kvmd_listener *l)
{
	char path[PATH_MAX + 8];

	snprintf(path, sizeof path, "%s.lock", l->path);
	l->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->lock < 0) {
		kvmd_log(KVMD_ERROR,
			 "cannot make %s: %s; its directory must exist and be writable, or use another "
			 "--listen PATH",
			 path, strerror(errno));
		return false;
	}
	if (!kvmd_lock(l->lock)) {
		kvmd_log(KVMD_ERROR, "another kvmstored listens on %s; stop that one, or use another --listen PATH",
			 l->path);
		return false;
	}
	return true;
}

/* Make way at the path if what is there is a socket that nobody listens on. */
static bool
stale_remove(const struct kvmd_listener *l, const struct sockaddr_un *address)
{
	struct stat st;
	int fd, error;

	if (lstat(l->path, &st) != 0)
		return true; /* bind() tells what else may be wrong */
	if (!S_ISSOCK(st.st_mode)) {
		kvmd_log(KVMD_ERROR,
			 "%s is there already and is not a socket; remove it yourself, or use another "
			 "--listen PATH",
			 l->path);
		return false;
	}
	for (unsigned ms = 0;; ms += 10) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0) {
			kvmd_log(KVMD_ERROR, "cannot make a socket: %s", strerror(errno));
			return false;
		}
		error = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
		close(fd);
		if (error != 0 || ms >= KVMD_LOCK_MS)
			break;
		usleep(10000);
	}
	if (error != ECONNREFUSED) {
		kvmd_log(KVMD_ERROR,
			 "the socket %s is in use%s%s; stop who listens there, or use another --listen PATH", l->path,
			 error == 0 ? "" : ": ", error == 0 ? "" : strerror(error));
		return false;
	}
	kvmd_log(KVMD_INFO, "removing the socket %s, which nobody listens on", l->path);
	if (unlink(l->path) != 0) {
		kvmd_log(KVMD_ERROR, "cannot remove %s: %s", l->path, strerror(errno));
		return false;
	}
	return true;
}

static bool
socket_bind(struct kvmd_listener *l, const struct sockaddr_un *address)
{
	struct stat st;
	mode_t mask;
	int bound;

	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0) {
		kvmd_log(KVMD_ERROR, "cannot make a socket: %s", strerror(errno));
		return false;
	}
	mask = umask(0177); /* mode 0600 from the first moment */
	bound = bind(l->fd, (const struct sockaddr *)address, sizeof *address);
	umask(mask);
	if (bound != 0) {
		kvmd_log(KVMD_ERROR,
			 "cannot make the socket %s: %s; its directory must exist and be writable, or use "
			 "another --listen PATH",
			 l->path, strerror(errno));
		return false;
	}
	if (lstat(l->path, &st) == 0) {
		l->device = st.st_dev;
		l->inode = st.st_ino;
	}
	return true;
}

bool
kvmd_listener_open(struct kvmd_listener *l, const char *path)
{
	struct sockaddr_un address;

	*l = (struct kvmd_listener){ .fd = -1, .lock = -1 };
	if (!address_of(path, &address))
		return false;
	strcpy(l->path, path);
	default_directory_make(path);
	if (lock_take(l) && stale_remove(l, &address) && socket_bind(l, &address))
		return true;
	kvmd_listener_close(l);
	return false;
}

bool
kvmd_listener_start(struct kvmd_listener *l)
{
	if (listen(l->fd, SOMAXCONN) == 0)
		return true;
	kvmd_log(KVMD_ERROR, "cannot listen on %s: %s", l->path, strerror(errno));
	return false;
}

void
kvmd_listener_close(struct kvmd_listener *l)
{
	struct stat st;

	if (l->inode != 0 && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
		unlink(l->path);
	l->inode = 0;
	if (l->fd >= 0)
		close(l->fd);
	if (l->lock >= 0)
		close(l->lock); /* the lock file stays: removing it would race with the next daemon */
	l->fd = l->lock = -1;
}
