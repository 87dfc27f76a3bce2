/*
 * codec - rows of the operation tables <-> messages of the schema.
 *
 * Each operation has a message for its arguments and one for its results, with
 * fields named as in its row.  The row and the generated descriptor are bound
 * to each other once; encoding and decoding then walk the row.  There is no
 * code for any single operation.
 *
 * Private to proto/: generated types do not leave it.
 */
#ifndef KVMP_CODEC_H
#define KVMP_CODEC_H

#include <protobuf-c/protobuf-c.h>

#include "proto/arena.h"
#include "store/kvmstore.h"

/* How a field travels; see proto/wire.c. */
enum kvmp_form {
	KVMP_FORM_OTHER, /* through protobuf-c only */
	KVMP_FORM_FIXED64,
	KVMP_FORM_VARINT,
	KVMP_FORM_FIXED64_LIST,
	KVMP_FORM_VARINT_LIST,
	KVMP_FORM_BYTES
};

/* One side of a row: its arguments or its results. */
struct kvmp_side {
	const struct kvms_field *fields;
	unsigned count;
	const ProtobufCMessageDescriptor *message;
	const ProtobufCFieldDescriptor *place[KVMS_FIELDS_MAX]; /* of fields[i] in the message */
	/* the same for proto/wire.c */
	uint32_t numbers[KVMS_FIELDS_MAX];
	enum kvmp_form forms[KVMS_FIELDS_MAX];
	uint64_t most[KVMS_FIELDS_MAX]; /* largest number of a VARINT */
	bool checked[KVMS_FIELDS_MAX];  /* kvmp_scalar_fits() has something to say */
	uint64_t required;              /* bit i: argument i must be there */
	uint64_t lists;                 /* bit i: field i is a list without presence of its own */
	bool plain;                     /* numbers ascend as the fields do */
	bool scalar;                    /* FIXED64 and VARINT only, tagged in one byte */
};

/* A row and its two messages. */
struct kvmp_binding {
	const struct kvms_row *row; /* NULL: no such code */
	struct kvmp_side args;
	struct kvmp_side results;
};

/*
 * Bindings by code; NULL for a code that does not exist.
 * => needs: kvmp_schema_fault() has been called
 */
const struct kvmp_binding *kvmp_op_binding(unsigned code);
const struct kvmp_binding *kvmp_request_binding(unsigned code);
const struct kvmp_binding *kvmp_store_binding(void);

/*
 * Bind all rows and compare them with the schema: each row has its messages
 * with fields of the right name, type and default, and each message has its row.
 * => gives NULL if they agree, else a sentence in static storage
 */
const char *kvmp_schema_fault(void);

/*
 * Arguments.  Decoding refuses what the table does not allow: unknown fields,
 * a missing argument, a number outside its type, lists that are too long.
 *
 * => decoded lists lie in "arena" or in the message
 * => encoding gives a message in "arena", or NULL: no memory
 * => decoding fails with a sentence in "why" of "size" bytes
 */
bool kvmp_args_decode(const struct kvmp_binding *b, const ProtobufCMessage *message, struct kvmp_arena *arena,
		      struct kvms_op *op, char *why, size_t size);
ProtobufCMessage *kvmp_args_encode(const struct kvmp_binding *b, const struct kvms_op *op, struct kvmp_arena *arena);

/* Results, in the same way; a field that does not apply is absent. */
bool kvmp_results_decode(const struct kvmp_binding *b, const ProtobufCMessage *message, struct kvmp_arena *arena,
			 struct kvms_outcome *out, char *why, size_t size);
ProtobufCMessage *kvmp_results_encode(const struct kvmp_binding *b, const struct kvms_outcome *out,
				      struct kvmp_arena *arena);

/* True if "value" is one that a scalar of "type" can have. */
bool kvmp_scalar_fits(enum kvms_type type, uint64_t value);

#endif /* KVMP_CODEC_H */
