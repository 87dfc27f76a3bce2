#include "persist/picture.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "persist/image.h"
#include "trace/value.h"

#define PATIENCE_MS 120000u /* then the child is taken for stuck */

struct persist_picture {
	pid_t child;
	int file;
};

/* ---- Over and back -------------------------------------------------------------------- */

static bool
send_bytes(int file, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t n = write(file, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

/* An image is itself, then the words of its configuration and of each of its tables. */
static bool
image_send(int file, const struct persist_image *image, size_t config_words)
{
	bool done = send_bytes(file, image, sizeof *image) && send_bytes(file, &config_words, sizeof config_words) &&
		    send_bytes(file, image->config.list, config_words * sizeof *image->config.list);

	for (unsigned t = 0; t < TABLES && done; t++)
		done = send_bytes(file, image->rows[t].word, image->rows[t].used * sizeof(uint64_t));
	return done;
}

static bool
receive_bytes(int file, void *bytes, size_t size)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t n = read(file, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

/* "words" words of the file in memory of their own; NULL = not there, or no memory. */
static uint64_t *
receive_words(int file, size_t words)
{
	uint64_t *at = malloc((words + 1) * sizeof *at);

	if (at != NULL && receive_bytes(file, at, words * sizeof *at))
		return at;
	free(at);
	return NULL;
}

static bool
image_receive(int file, struct persist_image *image)
{
	size_t config_words;
	bool done = receive_bytes(file, image, sizeof *image);

	for (unsigned t = 0; t < TABLES; t++)
		image->rows[t].word = NULL;
	image->config_list = NULL;
	image->config.list = NULL;
	done = done && receive_bytes(file, &config_words, sizeof config_words) &&
	       (image->config_list = receive_words(file, config_words)) != NULL;
	image->config.list = image->config_list;
	for (unsigned t = 0; t < TABLES && done; t++) {
		struct rows *rows = &image->rows[t];

		rows->capacity = rows->used;
		done = (rows->word = receive_words(file, rows->used)) != NULL;
	}
	return done;
}

/* ---- The child -------------------------------------------------------------------------- */

_Noreturn static void
child(struct kvms *s, int file, pid_t parent)
{
	struct persist_image *image;
	sigset_t all;
	char why[1];

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* above all the lock of the state directory, which must end with the parent */
	if (file != 3 && dup2(file, 3) != 3)
		_exit(1);
	close(0);
	close(1);
	close(2);
	close_range(4, ~0u, 0);
	if (persist_capture(s, &image, why, sizeof why) != PERSIST_OK ||
	    !image_send(3, image, kvt_payload_words(kvms_store_row(), &image->config)))
		_exit(1);
	_exit(0);
}

enum persist_status
persist_picture_begin(struct kvms *s, struct persist_picture **picture, char *why, size_t size)
{
	const struct report report = { why, size }, *r = &report;
	struct persist_picture *p = calloc(1, sizeof *p);
	pid_t self = getpid();

	*picture = NULL;
#ifdef __SANITIZE_ADDRESS__
	/* its allocator does not survive the fork of a process with threads, as that of the C library does */
	free(p);
	return persist_report(r, PERSIST_FAILED, "no picture of the store is taken under the sanitizer");
#endif
	if (p == NULL)
		return persist_report(r, PERSIST_FAILED, "no memory left for a picture of the store");
	p->file = memfd_create("kvmstore-picture", MFD_CLOEXEC);
	p->child = p->file < 0 ? -1 : fork();
	if (p->child == 0)
		child(s, p->file, self);
	if (p->child < 0) {
		int error = errno;

		if (p->file >= 0)
			close(p->file);
		free(p);
		return persist_report(r, PERSIST_FAILED, "no picture of the store can be taken: %s", strerror(error));
	}
	*picture = p;
	return PERSIST_OK;
}

enum persist_status
persist_picture_end(struct persist_picture **picture, struct persist_image **image, char *why, size_t size)
{
	const struct report report = { why, size }, *r = &report;
	struct persist_picture *p = *picture;
	int status = -1;

	*picture = NULL;
	*image = NULL;
	for (unsigned ms = 0; waitpid(p->child, &status, WNOHANG) == 0; ms++) {
		if (ms == PATIENCE_MS)
			kill(p->child, SIGKILL);
		usleep(1000);
	}
	bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0 && lseek(p->file, 0, SEEK_SET) == 0;

	if (done) {
		*image = persist_image_new();
		done = *image != NULL && image_receive(p->file, *image);
	}
	close(p->file);
	free(p);
	if (done)
		return PERSIST_OK;
	persist_image_free(image);
	return persist_report(r, PERSIST_FAILED, "no picture of the store: the process that took it %s",
			      WIFSIGNALED(status) ? "was killed" : "had no memory");
}
