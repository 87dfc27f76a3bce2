/*
 * binary - traces in the binary form: zstd frames of protobuf messages with an
 * index at the end.  proto/kvmtrace.proto says what is in the file.
 *
 * Law: reading takes the memory of one frame, whatever the file holds.  A line
 * written and read again prints as the same canonical text.
 */
#ifndef KVT_BINARY_H
#define KVT_BINARY_H

#include "trace/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define KVT_BINARY_HEAD 16u /* bytes that a binary trace begins with */

/* Do these bytes begin a binary trace, of whichever version? */
bool kvt_is_binary(const void *bytes, size_t size);

/* ---- Writing ---------------------------------------------------------------- */

struct kvt_binary_writer; /* opaque */

/*
 * Write a binary trace to "to", from where it stands.  NULL: no memory, or errno.
 */
struct kvt_binary_writer *kvt_binary_writer_new(FILE *to);

/* Add a line.  False: it cannot be written (errno). */
bool kvt_binary_put(struct kvt_binary_writer *w, const struct kvt_line *line);

/* Hand all lines so far to the stream, in a frame that can be read. */
bool kvt_binary_flush(struct kvt_binary_writer *w);

/*
 * End the trace with its index: takes the writer.  The stream stays the caller's.
 * => finish: false leaves the index out, as if the writer had been killed
 * => false: it could not all be written (errno)
 */
bool kvt_binary_writer_end(struct kvt_binary_writer **w, bool finish);

/* ---- Reading ---------------------------------------------------------------- */

/* Where the bytes come from. */
struct kvt_binary_source {
	/* Up to "size" bytes: how many, 0 at the end, -1 on failure, which the source tells itself. */
	ssize_t (*read)(void *arg, void *to, size_t size);
	/* Go on from byte "offset"; NULL: it cannot. */
	bool (*seek)(void *arg, uint64_t offset);
	void *arg;
	uint64_t size; /* all bytes; 0: not known */
};

struct kvt_binary; /* opaque */

/*
 * Begin to read; the source stands behind the KVT_BINARY_HEAD bytes "head".
 * => fails with NULL and a sentence in "error"
 */
struct kvt_binary *kvt_binary_new(const struct kvt_binary_source *source, const void *head, char *error,
				  size_t error_size);
void kvt_binary_free(struct kvt_binary **b);

enum kvt_binary_status {
	KVT_BINARY_LINE,
	KVT_BINARY_TEXT, /* the line is there as text only */
	KVT_BINARY_END,
	KVT_BINARY_FAILED /* kvt_binary_error(), "" if the source failed */
};

/*
 * The next line.
 *
 * => LINE: *line, valid until the next call, its number filled in.  Typed
 *    fields have no text: text.at is NULL
 * => TEXT: *text
 */
enum kvt_binary_status kvt_binary_next(struct kvt_binary *b, struct kvt_line *line, struct kvt_span *text);

/*
 * Go on with a later frame, as far as the index leads without passing the
 * operation that follows "ops" operations from the beginning.
 *
 * => gives the operations in front of the next line, counted from the beginning
 * => without an index, or without a source that can seek, stays where it is
 */
uint64_t kvt_binary_skip(struct kvt_binary *b, uint64_t ops);

/* Lines so far, those skipped included. */
uint64_t kvt_binary_lines(const struct kvt_binary *b);

/* What went wrong and at which byte; "" if nothing did. */
const char *kvt_binary_error(const struct kvt_binary *b);

/* What a reader should know of a trace that was read without error: it is cut off.  "" if nothing. */
const char *kvt_binary_note(const struct kvt_binary *b);

#endif /* KVT_BINARY_H */
