/*
 * item - one line of a trace <-> one message of proto/kvmtrace.proto.
 *
 * Written and read by table, as proto/wire.c does it.
 *
 * Law: what is written here is, byte for byte, what a protobuf library writes
 * for the same message, and reading accepts nothing else.
 */
#ifndef KVMP_ITEM_H
#define KVMP_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "store/kvmstore.h"

#define KVMP_ITEM_MAX (4u * 1024 * 1024) /* bytes of a message */

enum kvmp_item_type {
	KVMP_ITEM_BLANK = 1, /* the numbers are those of the schema */
	KVMP_ITEM_HEADER,
	KVMP_ITEM_STORE,
	KVMP_ITEM_OP,
	KVMP_ITEM_EXPECT,
	KVMP_ITEM_GAP,
	KVMP_ITEM_BASE,
	KVMP_ITEM_TEXT
};

/* A piece of text; at == NULL: it is not there. */
struct kvmp_span {
	const char *at;
	size_t size;
};

struct kvmp_annotation {
	struct kvmp_span name;
	struct kvmp_span value;
	bool is_result;
};

/*
 * A line.  What is read points into the message and into the memory of the
 * struct: it is valid until the next is read, or either is gone.
 */
struct kvmp_item {
	enum kvmp_item_type type;
	const struct kvms_row *row; /* STORE, OP, EXPECT */
	struct kvms_op op;

	bool has_recorded; /* OP, EXPECT: there is something recorded */
	bool has_class;
	enum kvms_class class;
	struct kvmp_span name;
	struct kvmp_span cause;
	bool has_detail;
	uint64_t detail;
	uint64_t present; /* bit i: result field i is recorded */
	uint64_t field[KVMS_FIELDS_MAX];
	const uint64_t *list; /* payload of the lists among them, in field order */

	bool is_short;         /* EXPECT */
	bool has_number;       /* GAP: ops; BASE: digest */
	uint64_t number;       /* and HEADER: the version */
	struct kvmp_span text; /* TEXT: the line; BASE: the snapshot */

	const struct kvmp_annotation *annotations;
	size_t annotations_count;
	struct kvmp_span comment;
};

/* Memory behind what is read.  Zero-initialise. */
struct kvmp_item_memory {
	uint64_t *words;
	size_t words_count, words_capacity;
	struct kvmp_annotation *annotations;
	size_t annotations_count, annotations_capacity;
};

void kvmp_item_memory_free(struct kvmp_item_memory *m);

/* To be called once before the others: do the tables agree with the schema? */
bool kvmp_item_ready(void);

enum kvmp_item_status {
	KVMP_ITEM_DONE,
	KVMP_ITEM_REFUSED, /* putting: no message can say it, write it as TEXT; getting: this is no item */
	KVMP_ITEM_NOMEM
};

/* Append the message, without its length.  Nothing is appended unless it is DONE. */
enum kvmp_item_status kvmp_item_put(const struct kvmp_item *item, struct kvmp_buffer *to);

/* Read a message, all of data[0..size). */
enum kvmp_item_status kvmp_item_get(const uint8_t *data, size_t size, struct kvmp_item_memory *memory,
				    struct kvmp_item *item);

/* ---- The index -------------------------------------------------------------- */

/* One frame of items. */
struct kvmp_index_row {
	uint64_t size;  /* bytes */
	uint64_t items; /* in it */
	uint64_t ops;   /* among them */
};

/* Append a TraceIndex.  False: no memory. */
bool kvmp_index_put(const struct kvmp_index_row *rows, size_t count, struct kvmp_buffer *to);

/*
 * Read a TraceIndex of at most "most" rows.
 * => gives *rows, which the caller frees, and *count
 * => DONE, REFUSED, NOMEM as above
 */
enum kvmp_item_status kvmp_index_get(const uint8_t *data, size_t size, uint64_t most, struct kvmp_index_row **rows,
				     size_t *count);

#endif /* KVMP_ITEM_H */
