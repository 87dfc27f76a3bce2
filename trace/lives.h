/*
 * lives - what is alive in a store while a trace runs, and where it came from.
 *
 * Kept up from the outcomes alone: a created id is born; an id that an
 * operation takes has ended if the census says that so many ended.  Where that
 * leaves a choice (an area that ends with the last I/O handle on it, a space
 * that ends on another CPU) the store is asked.
 *
 * Law: memory is bounded by what is alive; what is kept agrees with the census
 * after every step.
 */
#ifndef KVT_LIVES_H
#define KVT_LIVES_H

#include "trace/target.h"
#include "trace/text.h"

#include <stdbool.h>
#include <stdint.h>

struct kvt_life {
	enum kvms_kind kind;
	uint64_t id;
	uint64_t step, line; /* of its birth; step 0: older than the trace */
	uint64_t t;          /* nanoseconds of @t, if has_t */
	bool has_t;
	bool is_placed;      /* an area whose address was asked for, not allocated */
	unsigned op;         /* code of the operation that made it, 0 = older than the trace */
	uint64_t start, end; /* of areas */
	char *src;           /* @src without its quotes, NULL = none */
};

/* One step of a trace, as the callbacks of kvt_replay() have it. */
struct kvt_step {
	uint64_t number; /* of the operation, from 1 */
	const struct kvt_line *line;
	const struct kvms_op *op;
	const struct kvms_outcome *out;
	uint64_t t;     /* of the last @t so far, or nanoseconds from the first @time to the last */
	bool has_t;     /* this step has one of its own */
	uint64_t epoch; /* the first @time, 0 = none so far */
	uint64_t cpu;
	bool has_cpu;
};

typedef void kvt_life_visitor(void *arg, const struct kvt_life *life);

struct kvt_lives; /* opaque */

/* NULL: no memory. */
struct kvt_lives *kvt_lives_new(void);
void kvt_lives_free(struct kvt_lives **l);

/* Take in what the store has before the first step.  "t" must be a store in this process.  False: no memory. */
bool kvt_lives_begin(struct kvt_lives *l, struct kvt_target *t);

/*
 * An operation has run.  Those that ended are visited first, as they were, then those that were born.
 * => false: no memory
 */
bool kvt_lives_step(struct kvt_lives *l, struct kvt_target *t, const struct kvt_step *step, kvt_life_visitor *born,
		    kvt_life_visitor *ended, void *arg);

/* The census as it was after the last step: the fields of that request. */
const struct kvms_outcome *kvt_lives_census(const struct kvt_lives *l);

/* What is alive; NULL if it is not.  Good until the next step. */
const struct kvt_life *kvt_lives_find(const struct kvt_lives *l, enum kvms_kind kind, uint64_t id);

/* Visit all that is alive, by kind and then by id.  False: no memory. */
bool kvt_lives_visit(const struct kvt_lives *l, kvt_life_visitor *visit, void *arg);

/* The number of the next step, its annotations read.  "step" is kept from call to call; begin with zeros. */
void kvt_step_read(struct kvt_step *step, const struct kvt_line *line, const struct kvms_op *op,
		   const struct kvms_outcome *out);

/* A string annotation, without its quotes, into "b" (which is reset first): true if there is one of that name. */
bool kvt_annotation_text(const struct kvt_line *line, const char *name, struct kvt_buffer *b);

/* "area", "vm_space", ...: the field an id of that kind stands in. */
const char *kvt_kind_word(enum kvms_kind kind);

#endif /* KVT_LIVES_H */
