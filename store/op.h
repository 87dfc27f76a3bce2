/*
 * op - how the functions of an operation are written.
 *
 * Each row of ops.def has three:
 *   PRE(op)   may refuse with an outcome, reads only
 *   STEP(op)  has the effect and fills the reply; may still refuse halfway,
 *             the undo log restores
 *   POST(op)  from arguments and reply alone: how the running totals moved
 * They see their own arguments "a", the payload "list" of list arguments, the
 * reply "r" and, for fields that may be absent, the outcome "out".
 */
#ifndef KVMS_OP_H
#define KVMS_OP_H

#include "store/pagetable.h"

#define UNUSED_OK __attribute__((unused))

#define PRE(name)                                                                                                      \
	unsigned pre_##name(UNUSED_OK const struct kvms *s, UNUSED_OK const struct args_##name *a,                     \
			    UNUSED_OK const uint64_t *list)
#define STEP(name)                                                                                                     \
	unsigned step_##name(UNUSED_OK struct kvms *s, UNUSED_OK const struct args_##name *a,                          \
			     UNUSED_OK const uint64_t *list, UNUSED_OK struct reply_##name *r,                         \
			     UNUSED_OK struct kvms_outcome *out)
#define POST(name)                                                                                                     \
	void post_##name(UNUSED_OK union totals *want, UNUSED_OK const struct args_##name *a,                          \
			 UNUSED_OK const struct reply_##name *r)

/* Presence bit of a reply's field. */
#define REPLY_BIT(op, field) (UINT64_C(1) << (offsetof(struct reply_##op, field) / sizeof(uint64_t)))

/* Fill the reply of a query or a peek with what the walk found. */
#define REPLY_LEAF(op, t)                                                                                              \
	do {                                                                                                           \
		r->found = (t).found;                                                                                  \
		r->start = (t).start;                                                                                  \
		r->end = (t).last + 1;                                                                                 \
		r->level = (t).level;                                                                                  \
		r->paddr = (t).leaf.paddr;                                                                             \
		r->prop = (t).leaf.prop;                                                                               \
		r->tracked = (t).tracked;                                                                              \
		if (!(t).found)                                                                                        \
			out->present &= ~(REPLY_BIT(op, paddr) | REPLY_BIT(op, prop) | REPLY_BIT(op, tracked));        \
	} while (0)

#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	PRE(name);                                                                                                     \
	STEP(name);                                                                                                    \
	POST(name);
#include "store/ops.def"
#undef KVMS_OP

/* ---- Shared between files of ops ------------------------------------------- */

/* Errors of claiming every frame of [start, end), or O_ok. */
unsigned frames_check(const struct kvms *s, uint64_t start, uint64_t end);
/* One more handle on the frame of a tracked leaf: O_ok, or O_refcount_saturated. */
unsigned leaf_clone(struct kvms *s, const struct translation *t, uint64_t *frame);
/* A new unique handle on a slot that is UNIQUE; end one, which gives its paddr. */
uint64_t unique_new(struct kvms *s, uint64_t paddr);
uint64_t unique_end(struct kvms *s, uint64_t id);

#endif /* KVMS_OP_H */
