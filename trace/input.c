#include "trace/input.h"

#include "trace/binary.h"

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
	const uint8_t *memory; /* all of it */
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

	struct kvt_binary *binary; /* a binary trace: text[] holds bytes of it */
	struct kvt_buffer line;    /* of it as text */
	bool told;
};

static void (*teller)(const char *sentence);

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

/* ---- Binary traces ---------------------------------------------------------- */

static ssize_t
binary_read(void *arg, void *to, size_t size)
{
	struct kvt_input *in = arg;
	size_t waiting = in->end - in->begin;
	ssize_t n;

	if (waiting > 0) {
		n = (ssize_t)(waiting < size ? waiting : size);
		memcpy(to, in->text + in->begin, (size_t)n);
		in->begin += (size_t)n;
		return n;
	}
	if (in->text_end || in->failed)
		return in->failed ? -1 : 0;
	n = in->compressed ? read_decoded(in, to, size) : read_raw(in, to, size);
	in->text_end = n <= 0;
	return n;
}

static bool
binary_seek(void *arg, uint64_t offset)
{
	struct kvt_input *in = arg;

	in->begin = in->end = 0;
	in->raw_end = in->text_end = false;
	in->raw_done = offset;
	if (in->memory != NULL) {
		in->bytes = in->memory + offset;
		in->bytes_left = (size_t)(in->raw_total - offset);
		return true;
	}
	if (lseek(in->fd, (off_t)offset, SEEK_SET) >= 0)
		return true;
	fail(in, strerror(errno));
	return false;
}

/* Is it a binary trace?  No more is read than tells. */
static bool
start_binary(struct kvt_input *in)
{
	static const uint8_t skippable[4] = { 0x50, 0x2a, 0x4d, 0x18 }, zstd[4] = { 0x28, 0xb5, 0x2f, 0xfd };
	struct kvt_binary_source source = { .read = binary_read, .arg = in };
	char what[150];
	size_t have;

	if (in->compressed)
		(void)fill(in);
	while ((have = in->end - in->begin) < KVT_BINARY_HEAD &&
	       memcmp(in->text + in->begin, skippable, have < 4 ? have : 4) == 0 && have > 0 && fill(in))
		;
	if (in->failed)
		return false;
	if (have >= 4 && memcmp(in->text + in->begin, zstd, 4) == 0) {
		fail(in, "byte 0: zstd data that is no binary trace: unpack it with \"zstd -d\"");
		return false;
	}
	if (have < KVT_BINARY_HEAD || !kvt_is_binary(in->text + in->begin, have)) {
		if (have < 4 || memcmp(in->text + in->begin, skippable, 4) != 0)
			return true;
		fail(in, have < KVT_BINARY_HEAD ? "byte 0: a binary trace that is cut off in its first 16 bytes"
						: "byte 0: zstd data that is no binary trace");
		return false;
	}
	if (in->seekable && !in->compressed && in->raw_total > 0) {
		source.seek = binary_seek;
		source.size = in->raw_total;
	}
	in->begin += KVT_BINARY_HEAD;
	in->binary = kvt_binary_new(&source, in->text + in->begin - KVT_BINARY_HEAD, what, sizeof what);
	if (in->binary == NULL)
		fail(in, what);
	return in->binary != NULL;
}

struct kvt_binary *
kvt_input_binary(struct kvt_input *in)
{
	return in->binary;
}

void
kvt_input_tell(void (*tell)(const char *sentence))
{
	teller = tell;
}

void
kvt_input_took(struct kvt_input *in, unsigned status)
{
	const char *note = kvt_binary_note(in->binary);
	char sentence[700];

	in->lines = kvt_binary_lines(in->binary);
	if (status == KVT_BINARY_FAILED && !in->failed)
		fail(in, kvt_binary_error(in->binary));
	if (status != KVT_BINARY_END || note[0] == '\0' || in->told || teller == NULL)
		return;
	in->told = true;
	snprintf(sentence, sizeof sentence, "%.300s: %s", in->name, note);
	teller(sentence);
}

/* The next line of a binary trace, as text. */
static ssize_t
binary_line(struct kvt_input *in, char **text)
{
	struct kvt_line line;
	struct kvt_span span;
	enum kvt_binary_status status = in->failed ? KVT_BINARY_FAILED : kvt_binary_next(in->binary, &line, &span);

	if (!in->failed)
		kvt_input_took(in, status);
	if (status == KVT_BINARY_END)
		return -1;
	if (status == KVT_BINARY_FAILED)
		return -2;
	kvt_buffer_reset(&in->line);
	if (status == KVT_BINARY_TEXT)
		kvt_put(&in->line, span.at, span.size);
	else
		kvt_print_line(&in->line, &line, NULL);
	kvt_putc(&in->line, '\0');
	if (in->line.failed) {
		fail(in, "no memory for a line");
		return -2;
	}
	*text = in->line.at;
	if (in->line.size - 1 <= KVT_LINE_MAX)
		return (ssize_t)in->line.size - 1;
	in->line.at[KVT_LINE_MAX + 1] = '\0';
	return (ssize_t)KVT_LINE_MAX + 1;
}

static struct kvt_input *
started(struct kvt_input *in, char *error, size_t error_size)
{
	if (!start(in) || !start_binary(in)) {
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
	in->bytes = in->memory = bytes;
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
	if (in->binary != NULL)
		return binary_line(in, line);
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
	kvt_binary_free(&i->binary);
	kvt_buffer_free(&i->line);
	free(i->raw);
	free(i->text);
	free(i->name);
	free(i);
}
