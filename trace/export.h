/*
 * export - a trace, as it runs, in forms that other programs read.
 *
 *   chrome   Trace Event Format, for Perfetto and about:tracing: operations on a
 *            track for each CPU (or connection, where @connection is there);
 *            areas, segments, address spaces and cursors as asynchronous slices
 *            from birth to end; counters of frames, page-table nodes and free
 *            addresses.  Time is @t, or what has passed since the first @time of a
 *            history; a step without either is 1 ns behind the step before it, so
 *            that without any the N-th step is at N ns.
 *   itf      Informal Trace Format of the model checkers Apalache and Quint: one
 *            state before the first step and one behind each.
 *   csv      RFC 4180: one record for each operation.
 *
 * Law: what is written is one well-formed document whatever the trace holds;
 * every slice that begins ends.  Memory is bounded by what is alive.
 */
#ifndef KVT_EXPORT_H
#define KVT_EXPORT_H

#include "trace/lives.h"
#include "trace/stat.h"

#include <stdio.h>

enum kvt_export_form { KVT_CHROME, KVT_ITF, KVT_CSV };

#define KVT_TRACKS 256u

struct kvt_export {
	/* --- given --- */
	enum kvt_export_form form;
	FILE *out;
	const char *source;        /* name of the trace */
	struct kvt_target *target; /* a store in this process */
	uint64_t from, to;         /* only these steps; all: 1 and UINT64_MAX */

	/* --- its own --- */
	struct kvt_lives *lives;
	struct kvt_step step;
	struct kvms_outcome answer;
	struct kvt_buffer text, value;
	uint64_t cpu;                /* the store's current one */
	uint64_t now;                /* nanoseconds */
	uint64_t start, end, used;   /* the first vmalloc range, and how much of it areas have */
	uint64_t shown[3];           /* counters as written last */
	uint64_t tracks[KVT_TRACKS]; /* named lately */
	uint64_t written;            /* steps */
	bool open;                   /* the head is written, the end is not */
	bool more;                   /* an element was written: a comma comes first */
	bool failed;                 /* no memory */
};

/* Zero-initialise, set what is given.  False: no memory. */
bool kvt_export_begin(struct kvt_export *e);

/* A step.  False: the last one asked for has been written, or something failed. */
bool kvt_export_step(struct kvt_export *e, const struct kvt_line *line, const struct kvms_op *op,
		     const struct kvms_outcome *out);

/* The trace is at its end. */
void kvt_export_end(struct kvt_export *e);
void kvt_export_free(struct kvt_export *e);

#endif /* KVT_EXPORT_H */
