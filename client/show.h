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
#include "trace/replay.h"

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

/* ---- Numbers for people ----------------------------------------------------------- */

/* "79,344 in 0.19 s, 417,600 a second" */
void kvmctl_put_rate(struct kvt_buffer *b, const struct kvt_statistics *s);

/* 1234567 as 1,234,567; bytes in the largest unit that leaves a number of at least 1: "1.5 MiB". */
void kvmctl_put_grouped(struct kvt_buffer *b, uint64_t value);
void kvmctl_put_size(struct kvt_buffer *b, uint64_t bytes);

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
