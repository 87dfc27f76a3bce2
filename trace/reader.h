/*
 * reader - a trace line by line, text or binary, parsed.
 *
 * The same as kvt_input_line() and kvt_parse(), but a binary trace does not go
 * through text.
 */
#ifndef KVT_READER_H
#define KVT_READER_H

#include "trace/input.h"
#include "trace/text.h"

struct kvt_reader; /* opaque */

/* Read "in", which stays the caller's.  "source" is its name in messages.  NULL: no memory. */
struct kvt_reader *kvt_reader_new(struct kvt_input *in, const char *source);
void kvt_reader_free(struct kvt_reader **r);

enum kvt_read {
	KVT_READ_LINE,
	KVT_READ_END,    /* and it was a trace */
	KVT_READ_SYNTAX, /* the line is none, or there was no header: kvt_reader_error() */
	KVT_READ_FAILED  /* the input failed: kvt_reader_error() too */
};

/* The next line, valid until the one after it.  Its fields may have no text, see trace/binary.h. */
enum kvt_read kvt_reader_next(struct kvt_reader *r, struct kvt_line *line);

/*
 * Go on further behind, as far as that is possible without reading and without
 * passing the operation that follows "ops" operations from the beginning.
 *
 * => needs: the last line read was an operation, the "so_far"-th
 * => gives the operations in front of the next line, "so_far" or more
 */
uint64_t kvt_reader_skip(struct kvt_reader *r, uint64_t so_far, uint64_t ops);

/* One sentence without line end, after SYNTAX or FAILED. */
const char *kvt_reader_error(const struct kvt_reader *r);

#endif /* KVT_READER_H */
