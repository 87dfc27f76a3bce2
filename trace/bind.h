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

void kvt_bindings_free(struct kvt_bindings *b);

#endif /* KVT_BIND_H */
