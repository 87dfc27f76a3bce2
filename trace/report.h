/*
 * report - a divergence for a reader: what was expected, what came, and the
 * state around it.
 */
#ifndef KVT_REPORT_H
#define KVT_REPORT_H

#include "trace/bind.h"
#include "trace/target.h"
#include "trace/text.h"

#include <stdbool.h>

/*
 * Expected and actual, field by field; those that differ are marked with *.
 * Recorded ids that stand for others are shown with both numbers.
 */
void kvt_report_fields(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *out,
		       const struct kvt_bindings *bindings);

/*
 * The state around an operation or request, asked of the target: its area, the
 * walk to the address it names, the frame it names or reaches, and who holds it.
 *
 * => op: with actual ids.  "out" is its outcome, or NULL
 * => what the target cannot answer is left out
 */
void kvt_report_state(struct kvt_buffer *b, struct kvt_target *t, const struct kvms_row *row, const struct kvms_op *op,
		      const struct kvms_outcome *out);

/* A recorded field as it must hold against an outcome: ids of others translated. */
struct kvt_field kvt_translated(const struct kvt_line *line, const struct kvt_field *field,
				const struct kvt_bindings *bindings);

#endif /* KVT_REPORT_H */
