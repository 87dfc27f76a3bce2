/*
 * record - one step of a store as bytes of the journal.
 *
 *	record   = connection  delay  code  arguments  outcome
 *	outcome  = name  [detail]  [present  fields  lists]
 *
 * Every number is a LEB128: seven bits to a byte, the lowest first, bit 7 set
 * in all but the last.  "delay" is in microseconds since the record before, or
 * since the group began.  Arguments and fields stand in table order; a list
 * argument is its count, the words of all lists follow behind the arguments.
 * "detail" is there if the name has one; what is in brackets behind it only
 * with ok, and of the fields only those present.  Words of KVMS_BYTES are 8
 * bytes each.
 *
 * Codes, orders and names of outcomes are those of the operation table, which
 * only grows; a journal says which version wrote it.
 *
 * Law: decoding gives what was encoded, or refuses; it never reads past the
 * end and never takes memory that the bytes do not account for.
 */
#ifndef PERSIST_RECORD_H
#define PERSIST_RECORD_H

#include "store/kvmstore.h"

/* Bytes that grow.  Zero-initialise; "failed" is set when memory runs out, and nothing is added any more. */
struct bytes {
	unsigned char *at;
	size_t size, capacity;
	bool failed;
};

void persist_bytes_reset(struct bytes *b);
void persist_bytes_free(struct bytes *b);
void persist_bytes_add(struct bytes *b, const void *bytes, size_t size);

/* One step, decoded.  The payloads of "op" and "out" belong to the record; persist_record_free() ends it. */
struct persist_record {
	uint64_t connection; /* which one asked; 0: the daemon itself */
	uint64_t delay;      /* microseconds */
	struct kvms_op op;
	struct kvms_outcome out;
	uint64_t *list; /* behind op.list */
	size_t list_capacity;
};

void persist_record_free(struct persist_record *record);

/* Append a record.  "out" is what "op" answered. */
void persist_record_encode(struct bytes *b, uint64_t connection, uint64_t delay, const struct kvms_op *op,
			   const struct kvms_outcome *out);

/* The outcome alone, as it stands in a record. */
void persist_outcome_encode(struct bytes *b, unsigned code, const struct kvms_outcome *out);

enum persist_decode {
	PERSIST_DECODED,
	PERSIST_MALFORMED, /* the bytes are no record */
	PERSIST_NOMEM
};

/*
 * Decode the record at "at".
 *
 * => size: bytes from there to the end of the group
 * => gives *record, whose memory is reused from call to call, and in *used the
 *    bytes the record takes
 */
enum persist_decode persist_record_decode(const unsigned char *at, size_t size, struct persist_record *record,
					  size_t *used);

#endif /* PERSIST_RECORD_H */
