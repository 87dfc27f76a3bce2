/*
 * describe - words about rows and fields, for help on a terminal and for
 * docs/ops.md, and text that keeps to 80 columns.
 */
#ifndef KVMCTL_DESCRIBE_H
#define KVMCTL_DESCRIBE_H

#include "store/kvmstore.h"
#include "trace/buffer.h"

#include <stdio.h>

/*
 * Print "text" from column "at" on, broken between words, and end the line;
 * lines after the first begin at "indent".  Backquotes are left out.
 */
void kvmctl_wrap(FILE *out, unsigned at, unsigned indent, const char *text);

/* "  NAME  TEXT", the text wrapped in a column of its own. */
void kvmctl_entry(FILE *out, const char *name, unsigned width, const char *text);

/* How a value of a type is written; NULL for ids and enumerated types. */
const char *kvmctl_type_text(enum kvms_type type);

/* Append the type of a field in words, words of an enumeration joined by |. */
void kvmctl_describe_type(struct kvt_buffer *b, const struct kvms_field *f);

/* Append the default of an argument that has one. */
void kvmctl_describe_default(struct kvt_buffer *b, const struct kvms_field *f);

/* The whole of docs/ops.md. */
void kvmctl_manual(FILE *out);

#endif /* KVMCTL_DESCRIBE_H */
