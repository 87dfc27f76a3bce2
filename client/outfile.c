#include "client/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kvmctl_status
kvmctl_outfile_check(const char *path, bool force)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return KVMCTL_OK; /* or making it tells what is wrong */
	if (!force) {
		kvmctl_complain("%s is there already: give another name, or --force to replace it", path);
		return KVMCTL_UNREADABLE;
	}
	if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
		return KVMCTL_OK;
	kvmctl_complain("%s is not a file that could be replaced: give another name", path);
	return KVMCTL_UNREADABLE;
}

static bool
is_database(const char *path)
{
	static const char magic[] = "SQLite format 3"; /* with the zero behind it */
	char first[sizeof magic];
	struct stat st;
	ssize_t got = 0;
	int fd;

	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false; /* writing it tells what is wrong */
	got = read(fd, first, sizeof first);
	close(fd);
	return got == (ssize_t)sizeof first && memcmp(first, magic, sizeof magic) == 0;
}

/* Is "path" one of the files that SQLite has beside a database? */
static bool
belongs_to_database(const char *path)
{
	static const char *const endings[] = { "-wal", "-shm", "-journal" };
	size_t length = strlen(path);
	char of[PATH_MAX];

	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		size_t ending = strlen(endings[i]);

		if (length <= ending || length >= sizeof of || strcmp(path + length - ending, endings[i]) != 0)
			continue;
		memcpy(of, path, length - ending);
		of[length - ending] = '\0';
		return is_database(of);
	}
	return false;
}

enum kvmctl_status
kvmctl_outfile_spare(const char *path)
{
	if (is_database(path))
		kvmctl_complain("%s: a database; it was left alone, give another path", path);
	else if (belongs_to_database(path))
		kvmctl_complain("%s: a part of a database; it was left alone, give another path", path);
	else
		return KVMCTL_OK;
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_outfile_apart(const char *path, const char *from)
{
	struct stat a, b;

	if (stat(path, &a) != 0 || stat(from, &b) != 0 || !S_ISREG(a.st_mode) || a.st_dev != b.st_dev ||
	    a.st_ino != b.st_ino)
		return KVMCTL_OK;
	kvmctl_complain("%s and %s are one file: write to another", from, path);
	return KVMCTL_USAGE;
}

static enum kvmctl_status
fail(struct kvmctl_outfile *o, const char *path, int error)
{
	kvmctl_complain("%s: cannot write it: %s", path, strerror(error));
	free(o->path);
	free(o->beside);
	memset(o, 0, sizeof *o);
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_outfile_open(struct kvmctl_outfile *o, const char *path, bool force)
{
	enum kvmctl_status status;
	int fd;

	memset(o, 0, sizeof *o);
	if (strcmp(path, "-") == 0) {
		o->file = stdout;
		return KVMCTL_OK;
	}
	status = kvmctl_outfile_check(path, force);
	if (status == KVMCTL_OK)
		status = kvmctl_outfile_spare(path);
	if (status != KVMCTL_OK)
		return status;
	o->replace = force;
	o->path = force ? realpath(path, NULL) : NULL;
	if (o->path == NULL)
		o->path = strdup(path);
	if (o->path == NULL || asprintf(&o->beside, "%s.new-%ld", o->path, (long)getpid()) < 0) {
		o->beside = NULL;
		return fail(o, path, ENOMEM);
	}
	fd = open(o->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return fail(o, path, errno);
	o->file = fdopen(fd, "w");
	if (o->file != NULL)
		return KVMCTL_OK;
	close(fd);
	unlink(o->beside);
	return fail(o, path, ENOMEM);
}

/* Give the file its name, if nothing has that by now or it is to be replaced. */
static int
take_name(const struct kvmctl_outfile *o)
{
	struct stat st;

	if (o->replace) {
		if (stat(o->path, &st) == 0)
			(void)chmod(o->beside, st.st_mode & 07777);
		return rename(o->beside, o->path);
	}
	if (renameat2(AT_FDCWD, o->beside, AT_FDCWD, o->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* a file system that cannot do that in one step */
	if (link(o->beside, o->path) != 0)
		return -1;
	return unlink(o->beside);
}

enum kvmctl_status
kvmctl_outfile_close(struct kvmctl_outfile *o, bool complete)
{
	bool failed;
	int error;

	if (o->path == NULL)
		return KVMCTL_OK; /* the end of the call looks at standard output */
	failed = fflush(o->file) != 0 || ferror(o->file);
	error = errno;
	if (complete && !failed && fsync(fileno(o->file)) != 0) {
		failed = true;
		error = errno;
	}
	if (fclose(o->file) != 0 && !failed) {
		failed = true;
		error = errno;
	}
	if (complete && !failed && take_name(o) != 0) {
		failed = true;
		error = errno;
	}
	if (complete && failed)
		kvmctl_complain("%s: cannot write it: %s", o->path, strerror(error));
	if (!complete || failed)
		unlink(o->beside);
	free(o->path);
	free(o->beside);
	memset(o, 0, sizeof *o);
	return failed ? KVMCTL_UNREADABLE : KVMCTL_OK;
}
