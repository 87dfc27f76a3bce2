/*
 * bind - recorded ids of a trace, and the ids the store really gave.
 *
 * An id without a binding stands for itself, so a binding of an id to itself
 * needs no memory: a trace replayed against the store it was recorded on
 * keeps this empty.
 */
#ifndef KVT_BIND_H
#define KVT_BIND_H

#include "store/kvmstore.h"
#include "trace/text.h"
#include "trace/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvt_binding {
	uint64_t recorded;
	uint64_t actual;
	uint32_t kind; /* 0 = free place */
};

/* Zero-initialise.  Open addressing, linear probing, at most half full. */
struct kvt_bindings {
	struct kvt_binding *at;
	size_t capacity;
	size_t count;
	uint64_t seed;
};

/* Bind an id, in place of an older binding of it.  False: no memory. */
bool kvt_bind(struct kvt_bindings *b, enum kvms_kind kind, uint64_t recorded, uint64_t actual);

/* The actual id a recorded one stands for. */
uint64_t kvt_bound(const struct kvt_bindings *b, enum kvms_kind kind, uint64_t recorded);

/*
 * Put the actual ids into an operation or request that has recorded ones.
 *
 * => lists: takes its list with the actual ids, if it has one with ids in it
 * => false: no memory
 */
bool kvt_translate(const struct kvt_bindings *b, const struct kvms_row *row, struct kvms_op *op,
		   struct kvt_words *lists);

/* Created ids stand for the recorded ones from here on, if both sides succeeded.  False: no memory. */
bool kvt_bind_created(struct kvt_bindings *b, const struct kvt_line *line, const struct kvms_outcome *out);

void kvt_bindings_free(struct kvt_bindings *b);

#endif /* KVT_BIND_H */
