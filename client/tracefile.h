/*
 * tracefile - a trace being written, as text or binary.
 *
 * Functions that fail give an exit status, having said why.
 */
#ifndef KVMCTL_TRACEFILE_H
#define KVMCTL_TRACEFILE_H

#include "client/kvmctl.h"
#include "trace/binary.h"
#include "trace/text.h"

/* Zero-initialise before first use; kvmctl_tracefile_close() ends it. */
struct kvmctl_tracefile {
	const char *path; /* NULL: standard output */
	FILE *file;
	bool is_new;                      /* there was no such file before */
	struct kvt_binary_writer *binary; /* NULL: text */
	struct kvt_parser *parser;        /* of lines that come as text */
	struct kvt_buffer line;
	uint64_t lines, ops;
};

/* Do names like this one stand for binary traces? */
bool kvmctl_is_binary_name(const char *path);

/*
 * Begin to write "path"; NULL or "-" is standard output.
 * => binary: whatever the name says
 */
enum kvmctl_status kvmctl_tracefile_open(struct kvmctl_tracefile *t, const char *path, bool binary);

/* Add a line; a line given as text, without a line end, which must be one of a trace. */
enum kvmctl_status kvmctl_tracefile_put(struct kvmctl_tracefile *t, const struct kvt_line *line);
enum kvmctl_status kvmctl_tracefile_text(struct kvmctl_tracefile *t, const char *text, size_t size);

/* Hand over all lines so far: a reader finds them. */
enum kvmctl_status kvmctl_tracefile_flush(struct kvmctl_tracefile *t);

/*
 * End it.
 * => whole: false: it is of no use; what was made is removed
 */
enum kvmctl_status kvmctl_tracefile_close(struct kvmctl_tracefile *t, bool whole);

#endif /* KVMCTL_TRACEFILE_H */
