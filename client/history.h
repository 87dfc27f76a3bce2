/*
 * history - the past of a store, read from its state directory.
 *
 * The directory is the one that --state-dir names, or the one of the daemon,
 * which says where it is.  It is opened for reading only, also beside a daemon
 * that goes on writing; what the daemon holds is asked to be written first.
 *
 * Functions that fail give an exit status, having said why.
 */
#ifndef KVMCTL_HISTORY_H
#define KVMCTL_HISTORY_H

#include "client/session.h"
#include "persist/travel.h"
#include "trace/buffer.h"

#include <time.h>

/* Zero-initialise before first use; kvmctl_history_close() ends it. */
struct kvmctl_history {
	struct kvmctl *k;
	struct persist *db;
	const char *store; /* its name */
	struct persist_history is;
	bool recording;       /* the daemon that was asked keeps a journal */
	bool without_journal; /* it keeps none */
	bool progress;        /* draw it */
	struct timespec began;
	uint64_t drawn; /* milliseconds, when the bar was drawn last */
	char why[PERSIST_WHY];
};

enum kvmctl_status kvmctl_history_open(struct kvmctl *k, struct kvmctl_history *h);
void kvmctl_history_close(struct kvmctl_history *h);

/* Does the word stand for a step, whichever steps there are? */
bool kvmctl_step_is(const char *word);

/* The same, as a status, having said if it does not.  "what" says where it comes from. */
enum kvmctl_status kvmctl_step_check(const char *what, const char *word);

/* The step that a word names: N, "last" or "last-N". */
enum kvmctl_status kvmctl_history_step(struct kvmctl_history *h, const char *word, uint64_t *step);

/*
 * Are steps recorded, or will be in a store that has not made any?  Then the
 * steps of the journal are from h->is.first to h->is.last, none if that is before.
 */
enum kvmctl_status kvmctl_history_recorded(struct kvmctl_history *h);

/*
 * The range that --from and --to name.
 *
 * => first, last: what they are without the options
 * => fails with KVMCTL_USAGE if it is none
 */
enum kvmctl_status kvmctl_history_range(struct kvmctl_history *h, uint64_t first, uint64_t last, uint64_t *from,
					uint64_t *to);

/* The state behind a step, which the caller owns. */
enum kvmctl_status kvmctl_history_rebuild(struct kvmctl_history *h, uint64_t step, struct kvms **s);

/* Set out behind "behind", as persist_travel_new(). */
enum kvmctl_status kvmctl_history_travel(struct kvmctl_history *h, uint64_t behind, uint64_t to, bool with_state,
					 struct persist_travel **t);

/* One step on: KVMCTL_OK, with *more = false behind the last. */
enum kvmctl_status kvmctl_history_next(struct kvmctl_history *h, struct persist_travel *t, struct persist_step *step,
				       bool *more);

/* Steps that follow each other without one that puts a state back; "from" > "to": none. */
struct kvmctl_stretch {
	uint64_t from, to;
};

/* Zero-initialise; the owner frees "at". */
struct kvmctl_stretches {
	struct kvmctl_stretch *at;
	size_t count, capacity;
};

/*
 * The steps from .. to that led to the state behind "to", without those that
 * were undone by putting a state back; the last stretch first.
 */
enum kvmctl_status kvmctl_history_stretches(struct kvmctl_history *h, uint64_t from, uint64_t to,
					    struct kvmctl_stretches *all);

/* Draw how far it is, "done" of "total", if a terminal is there to see it and it is time again. */
void kvmctl_history_progress(struct kvmctl_history *h, uint64_t done, uint64_t total);

/* The exit status of a failure, which is said. */
enum kvmctl_status kvmctl_history_fail(const struct kvmctl_history *h);

/* ---- Steps as text ------------------------------------------------------------- */

/* 2024-05-17T09:30:00.000000Z */
void kvmctl_put_time(struct kvt_buffer *b, uint64_t microseconds);

/* The step as a line of a trace: number, connection and time as annotations. */
void kvmctl_put_step(struct kvt_buffer *b, const struct persist_step *step);

/* The same as JSON, without the closing brace. */
void kvmctl_json_step(struct kvt_buffer *b, const struct persist_step *step);

#endif /* KVMCTL_HISTORY_H */
