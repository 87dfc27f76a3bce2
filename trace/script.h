/*
 * script - a trace in memory, as steps that can be taken out and changed.
 *
 * A script runs on a fresh store of its own.  Its ids are those it was written
 * with: what an id stands for is found out again in each run, and a step that
 * names something whose maker is gone is left out with it.  An area that the
 * model has put elsewhere takes along the addresses of the steps that name it,
 * and so does a frame.
 * So any selection of steps is a script that runs.
 */
#ifndef KVT_SCRIPT_H
#define KVT_SCRIPT_H

#include "proto/arena.h"
#include "store/kvmstore.h"
#include "trace/bind.h"
#include "trace/input.h"
#include "trace/text.h"
#include "trace/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KVT_MOVED_MAX 32u
#define KVT_CREATED_MAX 2u /* most ids that one operation creates */

struct kvt_step {
	const struct kvms_row *row;
	struct kvms_op op;                 /* without its payload: op.list means nothing */
	size_t list;                       /* the payload is in the script's words from here on */
	uint64_t created[KVT_CREATED_MAX]; /* ids it made, in the order of the row's created fields; 0 = none */
	uint64_t paddr1;                   /* the "paddr" of its outcome + 1, 0 = none */
	uint64_t start;                    /* the "start" of its outcome, 0 = none */
	uint64_t moved_to;                 /* the "va" of its outcome, 0 = none */
	const struct kvt_line *line;       /* as it was read: annotations, what was recorded; NULL = made here */
	bool is_request;                   /* an expect line */
	bool was_ok;                       /* when it ran last */
	bool differs;                      /* what was recorded is not what the model says, and stays ... */
	uint64_t fields;                   /* ... of these results, as bits; 0 = as a whole */
};

/* Zero-initialise. */
struct kvt_script {
	struct kvms_op config; /* arguments of kvms_store_row() */
	struct kvt_words config_list;
	struct kvt_step *at;
	size_t count, capacity;
	struct kvt_words words;
};

/*
 * Read a trace.  Comments and gaps are left out; created ids are not known yet.
 *
 * => a: what lines hold lives there
 * => fails with false, having said on "report" (NULL: nowhere) where and why
 */
bool kvt_script_load(struct kvt_script *s, struct kvmp_arena *a, struct kvt_input *in, FILE *report);

void kvt_script_free(struct kvt_script *s);

/* Take away all steps; the configuration stays. */
void kvt_script_reset(struct kvt_script *s);

/* The same configuration.  False: no memory. */
bool kvt_script_configure(struct kvt_script *to, const struct kvms_op *config);

/* Add a step with its payload, which is copied.  False: no memory. */
bool kvt_script_add(struct kvt_script *s, const struct kvt_step *step, const uint64_t *list);

/* The same steps and configuration.  False: no memory. */
bool kvt_script_copy(struct kvt_script *to, const struct kvt_script *from);

/* The operation of a step, with its payload. */
struct kvms_op kvt_script_op(const struct kvt_script *s, size_t step);

/* A parsed line in memory of its own.  NULL: no memory. */
const struct kvt_line *kvt_line_keep(struct kvmp_arena *a, const struct kvt_line *line);

/* Is it a vm_space, where a table may be named? */
bool kvt_is_space_id(enum kvms_type type, uint64_t value);

/* What an argument is an address of. */
enum kvt_space { KVT_SPACE_NONE, KVT_SPACE_PHYSICAL, KVT_SPACE_VIRTUAL };
enum kvt_space kvt_space_of(const struct kvms_row *row, const struct kvms_field *arg);

/* ---- Running ------------------------------------------------------------------------ */

/* What ids of a script stand for in a run.  A recording may have any number for an id; those of a store are small. */
struct kvt_ids {
	uint64_t *at[KVMS_ID_KINDS];
	size_t capacity[KVMS_ID_KINDS];
	struct kvt_bindings large;
};

void kvt_ids_free(struct kvt_ids *ids);

/*
 * *id becomes what it stands for.  One that no step before has made stands for
 * itself: it names nothing.
 * => false: the step that makes it has not run, or was not ok
 */
bool kvt_ids_get(const struct kvt_ids *ids, enum kvms_kind kind, uint64_t *id);

enum kvt_end {
	KVT_END_RAN,    /* to the last step */
	KVT_END_ENOUGH, /* each() said so */
	KVT_END_BROKEN, /* a law broke at the last step of "ran" */
	KVT_END_LOST,   /* a step that must not be lost was lost */
	KVT_END_NOMEM   /* no store, or no memory */
};

/* Zero-initialise; kvt_trial_free() ends it. */
struct kvt_trial {
	/* given */
	enum kvms_check check;
	uint64_t check_every;
	const unsigned char *drop; /* steps to leave out, by index; NULL = none */
	const unsigned char *must; /* steps that must run, and be ok if they made something; NULL = none */
	bool keep_ok;              /* a step that was ok must be ok again */
	bool lenient;              /* what names something that has not been made runs too, with that id as it is */
	void *arg;
	/* Called after each step that ran, with r->out; "now" is the step as it ran.  False: enough.  May be NULL. */
	bool (*each)(void *arg, struct kvt_trial *r, const struct kvt_step *step, struct kvt_step *now);

	/* found */
	struct kvt_script ran;   /* the steps that ran, with the ids of this run */
	struct kvms *store;      /* as the last step left it, until the next run */
	struct kvms_outcome out; /* of the last step that ran */
	size_t last;             /* index of that step in the script */
	unsigned law;            /* KVT_END_BROKEN: the first law found broken */

	struct kvt_ids ids;
	struct kvt_ids shifts; /* how far areas of the script lie from where they lay in it; under KVMS_ID_AREA */
	struct kvt_words list;
	struct {
		uint64_t from, to;
	} moved[KVT_MOVED_MAX]; /* frames that lie elsewhere; the latest ones */
	unsigned moved_count;
};

enum kvt_end kvt_script_run(struct kvt_trial *r, const struct kvt_script *script);
void kvt_trial_free(struct kvt_trial *r);

/*
 * Print a script as a canonical trace, each step with the outcome it has; one
 * that "differs" with the recorded one.  An operation that breaks a law ends it
 * and has none.  Of a script that has been run, so that its ids are the store's.
 *
 * => fails with false: no memory
 */
bool kvt_script_print(struct kvt_buffer *b, const struct kvt_script *s, const char *comment, enum kvms_check check,
		      uint64_t check_every);

#endif /* KVT_SCRIPT_H */
