/*
 * input - lines of a text file, plain or .xz, from a path or standard input.
 *
 * A binary trace (trace/binary.h) is read as the lines of its canonical text,
 * so that whoever reads a trace line by line reads both; trace/reader.h spares
 * the way through text.
 *
 * Law: memory stays at about 2 MiB whatever the file holds (plus what the .xz
 * decoder needs, at most 256 MiB).  A line longer than KVT_LINE_MAX comes cut
 * at KVT_LINE_MAX + 1 bytes, so that its reader can tell; the rest of it is
 * skipped.
 */
#ifndef KVT_INPUT_H
#define KVT_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KVT_LINE_MAX 1048576u /* bytes of a line, its line end not counted */

struct kvt_input; /* opaque */

/*
 * Open a file for reading line by line.
 *
 * => path: "-" is standard input.  Compression is told from the first bytes,
 *    not from the name.  A compressed file is decoded once before its first
 *    line is given, so that damage is found before anything runs (not from standard input)
 * => gives an input the caller ends with kvt_input_close()
 * => fails with NULL and a sentence in "error" that begins with the path
 */
struct kvt_input *kvt_input_open(const char *path, char *error, size_t error_size);

/* The same on memory, which must outlive the input; "name" stands for the path in messages. */
struct kvt_input *kvt_input_memory(const char *name, const void *bytes, size_t size, char *error, size_t error_size);

/*
 * The next line.
 *
 * => gives its length without the LF; *line is NUL-terminated (a line may hold
 *    NUL bytes of its own) and belongs to the input until the next call
 * => a last line without LF is a line
 * => -1 at the end; -2 on an error, see kvt_input_error(), and ever after
 */
ssize_t kvt_input_line(struct kvt_input *in, char **line);

/*
 * What a reader should know of a file that was read without error: a binary
 * trace is cut off.  Whoever sets this is told so at the end of every such
 * input, with a sentence that begins with the path.  NULL: nobody is.
 */
void kvt_input_tell(void (*tell)(const char *sentence));

/* The binary trace behind the input; NULL: it is text.  For trace/reader.c. */
struct kvt_binary;
struct kvt_binary *kvt_input_binary(struct kvt_input *in);

/* Keep what kvt_binary_next() gave as the input's state: the end is told, a failure is the input's. */
void kvt_input_took(struct kvt_input *in, unsigned status);

/* What went wrong and where, beginning with the path; "" if nothing did. */
const char *kvt_input_error(const struct kvt_input *in);

/* The path as it was given. */
const char *kvt_input_name(const struct kvt_input *in);

/* Lines handed out so far. */
uint64_t kvt_input_lines(const struct kvt_input *in);

/* Bytes of the file read so far, and all of them; *total is 0 if that is not known (a pipe). */
void kvt_input_progress(const struct kvt_input *in, uint64_t *done, uint64_t *total);

/* End an input: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void kvt_input_close(struct kvt_input **in);

#endif /* KVT_INPUT_H */
