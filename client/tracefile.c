#include "client/tracefile.h"

#include "client/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool
kvmctl_is_binary_name(const char *path)
{
	size_t size = strlen(path);

	return size > 5 && strcmp(path + size - 5, ".kvtb") == 0;
}

static enum kvmctl_status
failed(const struct kvmctl_tracefile *t)
{
	kvmctl_complain("%s: %s", t->path != NULL ? t->path : "standard output", strerror(errno));
	return KVMCTL_UNREADABLE;
}

/* What was in the file stays until something is written: a call that fails early destroys nothing. */
enum kvmctl_status
kvmctl_tracefile_open(struct kvmctl_tracefile *t, const char *path, bool binary)
{
	int fd;

	*t = (struct kvmctl_tracefile){ .file = stdout };
	if (path != NULL && strcmp(path, "-") != 0) {
		enum kvmctl_status spared = kvmctl_outfile_spare(path);

		if (spared != KVMCTL_OK)
			return spared;
		t->path = path;
		t->is_new = access(path, F_OK) != 0;
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		t->file = fd >= 0 ? fdopen(fd, "w") : NULL;
		if (t->file == NULL) {
			enum kvmctl_status status = failed(t);

			if (fd >= 0)
				close(fd);
			return status;
		}
	}
	t->parser = kvt_parser_new(path != NULL ? path : "standard output");
	if (t->parser == NULL)
		errno = ENOMEM;
	else if (binary)
		t->binary = kvt_binary_writer_new(t->file);
	if (t->parser != NULL && (t->binary != NULL || !binary))
		return KVMCTL_OK;
	enum kvmctl_status status = failed(t);
	kvmctl_tracefile_close(t, false);
	return status;
}

enum kvmctl_status
kvmctl_tracefile_put(struct kvmctl_tracefile *t, const struct kvt_line *line)
{
	t->lines++;
	t->ops += line->kind == KVT_OP;
	if (t->binary != NULL)
		return kvt_binary_put(t->binary, line) ? KVMCTL_OK : failed(t);
	kvt_buffer_reset(&t->line);
	kvt_print_line(&t->line, line, NULL);
	kvt_putc(&t->line, '\n');
	if (t->line.failed)
		errno = ENOMEM;
	if (!t->line.failed && fwrite(t->line.at, 1, t->line.size, t->file) == t->line.size)
		return KVMCTL_OK;
	return failed(t);
}

enum kvmctl_status
kvmctl_tracefile_text(struct kvmctl_tracefile *t, const char *text, size_t size)
{
	struct kvt_line line;

	if (kvt_parse(t->parser, text, size, &line))
		return kvmctl_tracefile_put(t, &line);
	kvmctl_complain("%s", kvt_parser_error(t->parser));
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_tracefile_flush(struct kvmctl_tracefile *t)
{
	struct stat st;

	if (!(t->binary != NULL ? kvt_binary_flush(t->binary) : fflush(t->file) == 0))
		return failed(t);
	/* what was in the file before is of no use to a reader of what is there now */
	if (t->path != NULL && !t->is_new && fstat(fileno(t->file), &st) == 0 && S_ISREG(st.st_mode) &&
	    ftruncate(fileno(t->file), ftello(t->file)) != 0)
		return failed(t);
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_tracefile_close(struct kvmctl_tracefile *t, bool whole)
{
	enum kvmctl_status status = KVMCTL_OK;
	struct stat st;

	if (!kvt_binary_writer_end(&t->binary, whole) || (whole && (fflush(t->file) != 0 || ferror(t->file))))
		status = failed(t);
	if (t->path != NULL) {
		if (status == KVMCTL_OK && whole && fstat(fileno(t->file), &st) == 0 && S_ISREG(st.st_mode) &&
		    ftruncate(fileno(t->file), ftello(t->file)) != 0)
			status = failed(t);
		if (fclose(t->file) != 0 && status == KVMCTL_OK && whole)
			status = failed(t);
		if (!whole && t->is_new)
			unlink(t->path);
	}
	kvt_parser_free(&t->parser);
	kvt_buffer_free(&t->line);
	return status;
}
