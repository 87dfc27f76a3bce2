/*
 * target - the store a trace runs against, in this process or behind a socket.
 *
 * A target is a struct whose first members are functions.  Whoever implements
 * one embeds struct kvt_target as the first member of its own struct.  All
 * calls are synchronous and come from one thread.  Members added later (a
 * submit and a collect for pipelining) go to the end and may be NULL.
 *
 * Law: after anything but KVT_DONE the outcome means nothing and error() has
 * the words.
 */
#ifndef KVT_TARGET_H
#define KVT_TARGET_H

#include "store/kvmstore.h"

#include <stdbool.h>
#include <stdint.h>

enum kvt_status {
	KVT_DONE,
	KVT_BROKEN,    /* a law broke; error() has the findings, one a line */
	KVT_LOST,      /* the connection is gone, or the other side misbehaves */
	KVT_READ_ONLY, /* this store takes no writes (any more) */
	KVT_NOMEM,     /* no memory here or there; nothing changed */
	KVT_INVALID    /* an argument is outside its type, or no such operation: nothing happened, not a step */
};

struct kvt_target {
	/* Apply an operation. */
	enum kvt_status (*apply)(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out);
	/* Answer an inspection request. */
	enum kvt_status (*inspect)(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out);
	/* The state digest. */
	enum kvt_status (*digest)(struct kvt_target *t, uint64_t *digest);
	/* Operations applied since the store was created. */
	enum kvt_status (*steps)(struct kvt_target *t, uint64_t *steps);
	/* Turn the dial of checks, as kvms_set_check(). */
	enum kvt_status (*set_check)(struct kvt_target *t, enum kvms_check check, uint64_t every);
	/* The store's configuration, every key filled in; it lives as long as the target. */
	enum kvt_status (*config)(struct kvt_target *t, const struct kvms_op **config);
	/*
	 * The leaves of a table that start in [first, last], ascending by va,
	 * in runs as kvms_extents() gives them (a run may be cut in two).  A
	 * visitor that gives false ends it, which is still KVT_DONE.
	 */
	enum kvt_status (*extents)(struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last,
				   kvms_extent_visitor *visit, void *arg);
	/* What the last failure was about; "" if there was none. */
	const char *(*error)(struct kvt_target *t);
	/* End the target.  A daemon's store lives on. */
	void (*close)(struct kvt_target *t);
};

/* End a target: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void kvt_target_close(struct kvt_target **t);

/*
 * A target on a store in this process.
 *
 * => owns: with "owned" the store ends with the target
 * => fails with NULL: no memory; the store is still the caller's
 */
struct kvt_target *kvt_target_embedded(struct kvms *s, bool owned);

/* The store of an embedded target; NULL for any other. */
struct kvms *kvt_target_store(struct kvt_target *t);

#endif /* KVT_TARGET_H */
