#include "trace/input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 65536u
#define DECODER_MEMORY (UINT64_C(256) << 20)

/*
 * Text waits in text[begin..end); it is at least one byte smaller than the
 * memory, so that a last line without LF has room for its NUL.
 */
struct kvt_input {
	char *name;
	int fd; /* -1: memory */
	bool close_fd;
	bool seekable;        /* from its beginning: it can be read twice */
	const uint8_t *bytes; /* memory: what is left of it */
	size_t bytes_left;
	bool compressed;
	lzma_stream decoder;
	lzma_ret status; /* other than LZMA_OK: the decoder has ended so */
	uint8_t *raw;    /* compressed bytes */
	bool raw_end;    /* nothing more to read */
	uint64_t raw_done, raw_total;

	char *text;
	size_t capacity, begin, end;
	bool text_end; /* nothing more to add to the text */
	bool skipping; /* inside a line that was too long */
	uint64_t lines;
	bool failed;
	char error[512];
};

static const uint8_t xz_magic[6] = { 0xfd, '7', 'z', 'X', 'Z', 0 };

static void
fail(struct kvt_input *in, const char *what)
{
	in->failed = true;
	snprintf(in->error, sizeof in->error, "%.300s: %.150s", in->name, what);
}

/* Read up to "size" raw bytes: how many, 0 at the end, -1 on failure. */
static ssize_t
read_raw(struct kvt_input *in, void *to, size_t size)
{
	ssize_t n;

	if (in->raw_end)
		return 0;
	if (in->fd < 0) {
		n = (ssize_t)(size < in->bytes_left ? size : in->bytes_left);
		if (n > 0)
			memcpy(to, in->bytes, (size_t)n);
		in->bytes += n;
		in->bytes_left -= (size_t)n;
	} else {
		do
			n = read(in->fd, to, size);
		while (n < 0 && errno == EINTR);
	}
	if (n < 0)
		fail(in, strerror(errno));
	else if (n == 0)
		in->raw_end = true;
	else
		in->raw_done += (uint64_t)n;
	return n;
}

static void
fail_decoder(struct kvt_input *in)
{
	lzma_ret status = in->status;
	char what[150];
	const char *kind = "cannot decode the .xz data";

	if (status == LZMA_BUF_ERROR)
		kind = "the .xz data is cut off";
	else if (status == LZMA_DATA_ERROR || status == LZMA_FORMAT_ERROR)
		kind = "the .xz data is damaged";
	else if (status == LZMA_OPTIONS_ERROR)
		kind = "the .xz data needs a decoder that is not there";
	else if (status == LZMA_MEMLIMIT_ERROR)
		kind = "decoding the .xz data would take more than 256 MiB of memory";
	else if (status == LZMA_MEM_ERROR)
		kind = "no memory to decode the .xz data";
	snprintf(what, sizeof what, "%s at byte %" PRIu64 ", after line %" PRIu64, kind,
		 in->raw_done - (uint64_t)in->decoder.avail_in, in->lines);
	fail(in, what);
}

/* Decode up to "size" bytes of text: how many, 0 at the end, -1 on failure. */
static ssize_t
read_decoded(struct kvt_input *in, void *to, size_t size)
{
	in->decoder.next_out = to;
	in->decoder.avail_out = size;
	while (in->decoder.avail_out == size && in->status == LZMA_OK) {
		if (in->decoder.avail_in == 0 && !in->raw_end) {
			ssize_t n = read_raw(in, in->raw, CHUNK);

			if (n < 0)
				return -1;
			in->decoder.next_in = in->raw;
			in->decoder.avail_in = (size_t)n;
		}
		in->status = lzma_code(&in->decoder, in->raw_end ? LZMA_FINISH : LZMA_RUN);
	}
	/* what came before damage is good: it is handed out first */
	if (in->decoder.avail_out == size && in->status != LZMA_STREAM_END) {
		fail_decoder(in);
		return -1;
	}
	return (ssize_t)(size - in->decoder.avail_out);
}

/* More text behind the end: false when there is none. */
static bool
fill(struct kvt_input *in)
{
	size_t room;
	ssize_t n;

	if (in->failed || in->text_end)
		return false;
	if (in->begin > 0) {
		memmove(in->text, in->text + in->begin, in->end - in->begin);
		in->end -= in->begin;
		in->begin = 0;
	}
	room = in->capacity - 1 - in->end;
	if (room < CHUNK / 2) {
		char *text = realloc(in->text, in->capacity * 2);

		if (text == NULL) {
			fail(in, "no memory for a line");
			return false;
		}
		in->text = text;
		in->capacity *= 2;
		room = in->capacity - 1 - in->end;
	}
	n = in->compressed ? read_decoded(in, in->text + in->end, room) : read_raw(in, in->text + in->end, room);
	if (n <= 0) {
		in->text_end = true;
		return false;
	}
	in->end += (size_t)n;
	return true;
}

/* A decoder whose first bytes are those already read to tell the file's form. */
static bool
start_decoder(struct kvt_input *in)
{
	lzma_stream fresh = LZMA_STREAM_INIT;

	in->decoder = fresh;
	in->status = LZMA_OK;
	if (lzma_stream_decoder(&in->decoder, DECODER_MEMORY, LZMA_CONCATENATED) != LZMA_OK) {
		fail(in, "no memory to decode the .xz data");
		return false;
	}
	memcpy(in->raw, xz_magic, sizeof xz_magic);
	in->decoder.next_in = in->raw;
	in->decoder.avail_in = sizeof xz_magic;
	return true;
}

/*
 * Damage shows only at the end of a block of compressed data, when its text
 * has long been used.  A file can be read twice, so decode it once before.
 */
static bool
verify(struct kvt_input *in)
{
	const uint8_t *bytes = in->bytes;
	size_t bytes_left = in->bytes_left;
	ssize_t n;

	while ((n = read_decoded(in, in->text, in->capacity)) > 0)
		for (const char *at = in->text; (at = memchr(at, '\n', (size_t)(in->text + n - at))) != NULL; at++)
			in->lines++;
	if (n < 0)
		return false;
	lzma_end(&in->decoder);
	in->bytes = bytes;
	in->bytes_left = bytes_left;
	in->raw_done = sizeof xz_magic;
	in->raw_end = false;
	in->lines = 0;
	if (in->fd >= 0 && lseek(in->fd, sizeof xz_magic, SEEK_SET) < 0) {
		fail(in, strerror(errno));
		return false;
	}
	return start_decoder(in);
}

/* Look at the first bytes and set up the decoder if they are an .xz file's. */
static bool
start(struct kvt_input *in)
{
	char first[sizeof xz_magic];
	size_t have = 0;

	while (have < sizeof first) {
		ssize_t n = read_raw(in, first + have, sizeof first - have);

		if (n < 0)
			return false;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	if (have < sizeof first || memcmp(first, xz_magic, sizeof first) != 0) {
		memcpy(in->text, first, have);
		in->end = have;
		return true;
	}
	in->compressed = true;
	in->raw = malloc(CHUNK);
	if (in->raw == NULL) {
		fail(in, "no memory to decode the .xz data");
		return false;
	}
	return start_decoder(in) && (!in->seekable || verify(in));
}

static struct kvt_input *
input_new(const char *name)
{
	struct kvt_input *in = calloc(1, sizeof *in);

	if (in == NULL)
		return NULL;
	in->fd = -1;
	in->capacity = 2 * (size_t)CHUNK;
	in->name = strdup(name);
	in->text = malloc(in->capacity);
	if (in->name == NULL || in->text == NULL)
		kvt_input_close(&in);
	return in;
}

static struct kvt_input *
started(struct kvt_input *in, char *error, size_t error_size)
{
	if (!start(in)) {
		snprintf(error, error_size, "%s", in->error);
		kvt_input_close(&in);
	}
	return in;
}

struct kvt_input *
kvt_input_open(const char *path, char *error, size_t error_size)
{
	struct kvt_input *in = input_new(path);
	struct stat st;

	if (in == NULL) {
		snprintf(error, error_size, "%s: no memory", path);
		return NULL;
	}
	if (strcmp(path, "-") == 0) {
		in->fd = STDIN_FILENO;
	} else {
		in->fd = open(path, O_RDONLY | O_CLOEXEC);
		in->close_fd = true;
	}
	if (in->fd < 0) {
		snprintf(error, error_size, "%s: %s", path, strerror(errno));
		kvt_input_close(&in);
		return NULL;
	}
	if (fstat(in->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		in->raw_total = (uint64_t)st.st_size;
		in->seekable = in->close_fd;
	}
	return started(in, error, error_size);
}

struct kvt_input *
kvt_input_memory(const char *name, const void *bytes, size_t size, char *error, size_t error_size)
{
	struct kvt_input *in = input_new(name);

	if (in == NULL) {
		snprintf(error, error_size, "%s: no memory", name);
		return NULL;
	}
	in->bytes = bytes;
	in->bytes_left = size;
	in->raw_total = size;
	in->seekable = true;
	return started(in, error, error_size);
}

/* Drop text up to and with the next LF; false if the text ends first. */
static bool
skip_line(struct kvt_input *in)
{
	for (;;) {
		char *lf = memchr(in->text + in->begin, '\n', in->end - in->begin);

		if (lf != NULL) {
			in->begin = (size_t)(lf - in->text) + 1;
			return true;
		}
		in->begin = in->end;
		if (!fill(in))
			return false;
	}
}

/* Hand out the first "size" bytes of the text and go on behind them and the byte that follows, if there is one. */
static ssize_t
hand_out(struct kvt_input *in, char **line, size_t size)
{
	*line = in->text + in->begin;
	(*line)[size] = '\0';
	in->begin += in->end - in->begin > size ? size + 1 : size;
	in->lines++;
	return (ssize_t)size;
}

/* Hand out the beginning of a line that is too long.  The byte behind it becomes the NUL: it is the LF, or skipped. */
static ssize_t
hand_out_cut(struct kvt_input *in, char **line)
{
	size_t size = KVT_LINE_MAX + 1;

	if (in->end - in->begin == size && !fill(in) && in->failed)
		return -2;
	in->skipping = in->end - in->begin > size && in->text[in->begin + size] != '\n';
	return hand_out(in, line, size);
}

ssize_t
kvt_input_line(struct kvt_input *in, char **line)
{
	size_t searched = 0; /* no LF so far behind begin */

	*line = NULL;
	if (in->skipping) {
		in->skipping = false;
		skip_line(in);
	}
	while (!in->failed) {
		size_t waiting = in->end - in->begin;
		size_t look = waiting < KVT_LINE_MAX + 1 ? waiting : KVT_LINE_MAX + 1;
		char *lf = memchr(in->text + in->begin + searched, '\n', look - searched);

		if (lf != NULL)
			return hand_out(in, line, (size_t)(lf - (in->text + in->begin)));
		if (look == KVT_LINE_MAX + 1)
			return hand_out_cut(in, line);
		searched = look;
		if (!fill(in) && !in->failed)
			return waiting > 0 ? hand_out(in, line, waiting) : -1;
	}
	return -2;
}

const char *
kvt_input_error(const struct kvt_input *in)
{
	return in->error;
}

const char *
kvt_input_name(const struct kvt_input *in)
{
	return in->name;
}

uint64_t
kvt_input_lines(const struct kvt_input *in)
{
	return in->lines;
}

void
kvt_input_progress(const struct kvt_input *in, uint64_t *done, uint64_t *total)
{
	*done = in->raw_done;
	*total = in->raw_total;
}

void
kvt_input_close(struct kvt_input **in)
{
	struct kvt_input *i = *in;

	*in = NULL;
	if (i == NULL)
		return;
	if (i->compressed)
		lzma_end(&i->decoder);
	if (i->close_fd && i->fd >= 0)
		close(i->fd);
	free(i->raw);
	free(i->text);
	free(i->name);
	free(i);
}
