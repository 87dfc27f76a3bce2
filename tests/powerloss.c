/*
 * Loaded before the C library: notes what is done to the files of one
 * directory, in the order in which it is done.  One operation at a time, and
 * each is in the log before the caller goes on; see tests/powerlog.h.
 *
 * The index of SQLite's log and lock files need not outlive anything and are
 * left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/powerlog.h"

#define DESCRIPTORS 4096
#define DIRECTORY UINT64_MAX

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t inode_of[DESCRIPTORS]; /* 0: not ours */
static int log_fd = -2;

/* The name within the directory: "" for itself, NULL for anything else. */
static const char *
ours(const char *path)
{
	const char *dir = getenv(POWERLOG_DIR);
	size_t size = dir == NULL ? 0 : strlen(dir);

	if (size == 0 || path == NULL || strncmp(path, dir, size) != 0)
		return NULL;
	if (path[size] == '\0')
		return "";
	if (path[size] != '/' || strstr(path, ".lock") != NULL || strstr(path, "-shm") != NULL)
		return NULL;
	return path + size + 1;
}

static void
note(enum powerlog_type type, const char *name, uint64_t inode, uint64_t offset, const void *bytes, size_t size)
{
	struct powerlog head = { .type = type,
				 .name_size = (uint32_t)strlen(name),
				 .inode = inode,
				 .offset = offset,
				 .size = size };
	const struct iovec parts[] = { { &head, sizeof head }, { (void *)name, head.name_size }, { (void *)bytes, size } };
	int error = errno;

	if (log_fd == -2)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, getenv(POWERLOG_FILE), O_WRONLY | O_APPEND | O_CLOEXEC, 0);
	if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof head + head.name_size + size))
		abort(); /* a log with gaps would prove nothing */
	errno = error;
}

static uint64_t
inode(int fd)
{
	return fd >= 0 && fd < DESCRIPTORS ? inode_of[fd] : 0;
}

/* ---- Open and close ------------------------------------------------------------------ */

static int
open_noted(int at, const char *path, int flags, mode_t mode)
{
	const char *name = at == AT_FDCWD || (path != NULL && path[0] == '/') ? ours(path) : NULL;
	struct stat st;

	if (name == NULL) {
		int fd = (int)syscall(SYS_openat, at, path, flags, mode);

		if (fd >= 0 && fd < DESCRIPTORS)
			inode_of[fd] = 0;
		return fd;
	}
	pthread_mutex_lock(&lock);
	bool there = access(path, F_OK) == 0;
	int fd = (int)syscall(SYS_openat, at, path, flags, mode);

	if (fd >= 0 && fd < DESCRIPTORS && fstat(fd, &st) == 0) {
		inode_of[fd] = S_ISDIR(st.st_mode) ? DIRECTORY : st.st_ino;
		if (!there)
			note(POWERLOG_MADE, name, st.st_ino, 0, NULL, 0);
		else if ((flags & O_TRUNC) != 0)
			note(POWERLOG_TRUNCATE, "", st.st_ino, 0, NULL, 0);
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

#define OPEN(name)                                                                                                     \
	int name(const char *path, int flags, ...);                                                                    \
	int name(const char *path, int flags, ...)                                                                     \
	{                                                                                                              \
		va_list ap;                                                                                            \
		mode_t mode;                                                                                           \
                                                                                                                       \
		va_start(ap, flags);                                                                                   \
		mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(ap, mode_t) : 0;                                  \
		va_end(ap);                                                                                            \
		return open_noted(AT_FDCWD, path, flags, mode);                                                        \
	}
OPEN(open)
OPEN(open64)

int
close(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS)
		inode_of[fd] = 0;
	return (int)syscall(SYS_close, fd);
}

/* ---- Contents -------------------------------------------------------------------------- */

static ssize_t
pwrite_noted(int fd, const void *bytes, size_t size, off_t offset)
{
	uint64_t file = inode(fd);

	if (file == 0)
		return syscall(SYS_pwrite64, fd, bytes, size, offset);
	pthread_mutex_lock(&lock);
	ssize_t n = syscall(SYS_pwrite64, fd, bytes, size, offset);
	if (n > 0)
		note(POWERLOG_WRITE, "", file, (uint64_t)offset, bytes, (size_t)n);
	pthread_mutex_unlock(&lock);
	return n;
}

ssize_t
pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	return pwrite_noted(fd, bytes, size, offset);
}

ssize_t
pwrite64(int fd, const void *bytes, size_t size, off_t offset)
{
	return pwrite_noted(fd, bytes, size, offset);
}

ssize_t
write(int fd, const void *bytes, size_t size)
{
	uint64_t file = inode(fd);

	if (file == 0)
		return syscall(SYS_write, fd, bytes, size);
	pthread_mutex_lock(&lock);
	off_t offset = lseek(fd, 0, SEEK_CUR);
	ssize_t n = syscall(SYS_write, fd, bytes, size);
	if (n > 0)
		note(POWERLOG_WRITE, "", file, (uint64_t)offset, bytes, (size_t)n);
	pthread_mutex_unlock(&lock);
	return n;
}

static int
truncate_noted(int fd, off_t size)
{
	uint64_t file = inode(fd);

	if (file == 0)
		return (int)syscall(SYS_ftruncate, fd, size);
	pthread_mutex_lock(&lock);
	int failed = (int)syscall(SYS_ftruncate, fd, size);
	if (failed == 0)
		note(POWERLOG_TRUNCATE, "", file, (uint64_t)size, NULL, 0);
	pthread_mutex_unlock(&lock);
	return failed;
}

int
ftruncate(int fd, off_t size)
{
	return truncate_noted(fd, size);
}

int
ftruncate64(int fd, off_t size)
{
	return truncate_noted(fd, size);
}

static int
sync_noted(long number, int fd)
{
	uint64_t file = inode(fd);

	if (file == 0)
		return (int)syscall(number, fd);
	pthread_mutex_lock(&lock);
	int failed = (int)syscall(number, fd);
	if (failed == 0)
		note(file == DIRECTORY ? POWERLOG_SYNC_DIR : POWERLOG_SYNC, "", file, 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return failed;
}

int
fsync(int fd)
{
	return sync_noted(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	return sync_noted(SYS_fdatasync, fd);
}

/* ---- Names --------------------------------------------------------------------------------- */

static int
rename_noted(const char *from, const char *to, unsigned flags)
{
	const char *old = ours(from), *new = ours(to);

	if (old == NULL || new == NULL)
		return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
	pthread_mutex_lock(&lock);
	int failed = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
	if (failed == 0)
		note(POWERLOG_RENAME, old, 0, 0, new, strlen(new));
	pthread_mutex_unlock(&lock);
	return failed;
}

int
rename(const char *from, const char *to)
{
	return rename_noted(from, to, 0);
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	if (from_dir != AT_FDCWD || to_dir != AT_FDCWD)
		return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
	return rename_noted(from, to, flags);
}

int
unlink(const char *path)
{
	const char *name = ours(path);

	if (name == NULL)
		return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
	pthread_mutex_lock(&lock);
	int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
	if (failed == 0)
		note(POWERLOG_UNLINK, name, 0, 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return failed;
}
