#include "client/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kvmctl_status
kvmctl_output_open(struct kvmctl_output *o, const char *path)
{
	int fd;

	*o = (struct kvmctl_output){ .file = stdout };
	if (path == NULL || strcmp(path, "-") == 0)
		return KVMCTL_OK;
	o->path = path;
	o->is_new = access(path, F_OK) != 0;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	o->file = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (o->file != NULL)
		return KVMCTL_OK;
	kvmctl_complain("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_output_close(struct kvmctl_output *o, bool written)
{
	struct stat st;
	bool failed;

	if (o->path == NULL)
		return KVMCTL_OK; /* the end of the call looks at standard output */
	failed = fflush(o->file) != 0 || ferror(o->file);
	if (!failed && written && fstat(fileno(o->file), &st) == 0 && S_ISREG(st.st_mode))
		failed = ftruncate(fileno(o->file), ftello(o->file)) != 0;
	if (failed)
		kvmctl_complain("%s: %s", o->path, strerror(errno));
	fclose(o->file);
	if (!written && o->is_new)
		unlink(o->path);
	return failed ? KVMCTL_UNREADABLE : KVMCTL_OK;
}
