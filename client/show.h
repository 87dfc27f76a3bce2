/*
 * show - results for a person, a script or a program.
 *
 * A person (standard output is a terminal) gets tables; a script gets the
 * trace text, one line for each result; --json gives one object a line.
 */
#ifndef KVMCTL_SHOW_H
#define KVMCTL_SHOW_H

#include "client/kvmctl.h"
#include "trace/buffer.h"

/* The outcome of an operation, after "op"; or of a request. */
void kvmctl_show_outcome(const struct kvmctl *k, const struct kvms_row *row, bool is_request, const struct kvms_op *op,
			 const struct kvms_outcome *out);

/* The same as one JSON object: {"op":...,"args":...} and {"class":...} together. */
void kvmctl_json_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op,
			 const struct kvms_outcome *out);

/* Print a buffer and a line end, and empty it. */
void kvmctl_show_line(struct kvt_buffer *b);

/* Is standard output a terminal? */
bool kvmctl_show_tables(const struct kvmctl *k);

/* ---- Tables of text ------------------------------------------------------------ */

#define KVMCTL_COLUMNS_MAX 8u

/* Rows of cells, printed with the columns aligned.  Zero-initialise; kvmctl_table_print() ends it. */
struct kvmctl_table {
	unsigned columns;
	size_t cells_count, cells_capacity;
	char **cells;
	bool failed; /* no memory: printed as far as it came */
};

/* Add the next cell; after "columns" of them a new row begins. */
void kvmctl_table_add(struct kvmctl_table *t, const char *text);
void kvmctl_table_print(struct kvmctl_table *t, unsigned indent);

#endif /* KVMCTL_SHOW_H */
