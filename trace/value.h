/*
 * value - single values: from text to words and back, for every type.
 *
 * Law: for each type, parsing what was printed gives the same value and list.
 */
#ifndef KVT_VALUE_H
#define KVT_VALUE_H

#include "store/kvmstore.h"
#include "trace/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words that grow.  Zero-initialise; "failed" is set when memory runs out. */
struct kvt_words {
	uint64_t *at;
	size_t size;
	size_t capacity;
	bool failed;
};

/* Room for "more" words, uninitialised, behind those there are: a pointer to it, or NULL. */
uint64_t *kvt_words_add(struct kvt_words *w, size_t more);
void kvt_words_free(struct kvt_words *w);

/* Words that "count" elements of a list type take in a payload. */
size_t kvt_list_words(enum kvms_type type, uint64_t count);

/* Words that all list arguments of an operation take. */
size_t kvt_payload_words(const struct kvms_row *row, const struct kvms_op *op);

/* What is wrong with a text: which form was expected. */
enum kvt_fault {
	KVT_FAULT_NONE,
	KVT_FAULT_U64,
	KVT_FAULT_IDS,
	KVT_FAULT_RANGE,
	KVT_FAULT_RANGES,
	KVT_FAULT_FLAGS,
	KVT_FAULT_PROP,
	KVT_FAULT_SUFFIX,
	KVT_FAULT_BYTES,
	KVT_FAULT_BYTES_MAX,
	KVT_FAULT_WORD /* + a type: one of its words */
};

/*
 * Parse a value of "type".
 *
 * => gives KVT_FAULT_NONE and *value, of a list its count, whose words are added to "list"
 * => anything else: what was expected.  "list" may have grown.  Without memory list->failed is set
 */
unsigned kvt_value_parse(enum kvms_type type, const char *text, size_t size, uint64_t *value, struct kvt_words *list);

/* The form of a fault as an error message names it. */
void kvt_fault_print(struct kvt_buffer *b, unsigned fault);

/* The words of a type, joined by |. */
void kvt_words_print(struct kvt_buffer *b, enum kvms_type type);

#endif /* KVT_VALUE_H */
