/*
 * The walk of one operation: ids, pre, step under the undo log, the frame
 * condition, the outcome set, the laws; then commit, or everything back.
 */
#include "store/op.h"

#include <string.h>

/* Thunks that unwrap arguments and reply for the three functions of every row. */
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	static unsigned do_pre_##name(const struct kvms *s, const struct kvms_op *op)                                  \
	{                                                                                                              \
		return pre_##name(s, (const void *)op->arg, op->list);                                                 \
	}                                                                                                              \
	static unsigned do_step_##name(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)             \
	{                                                                                                              \
		return step_##name(s, (const void *)op->arg, op->list, (void *)out->field, out);                       \
	}                                                                                                              \
	static void do_post_##name(union totals *want, const struct kvms_op *op, const struct kvms_outcome *out)       \
	{                                                                                                              \
		post_##name(want, (const void *)op->arg, (const void *)out->field);                                    \
	}
#include "store/ops.def"
#undef KVMS_OP

struct handlers {
	unsigned (*pre)(const struct kvms *, const struct kvms_op *);
	unsigned (*step)(struct kvms *, const struct kvms_op *, struct kvms_outcome *);
	void (*post)(union totals *, const struct kvms_op *, const struct kvms_outcome *);
	uint64_t may_move; /* totals that arguments and reply do not determine, as bits */
};

#define MOVES(total) | UINT64_C(1) << TOTAL_INDEX(total)
static const struct handlers handlers[] = {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	[code] = { do_pre_##name, do_step_##name, do_post_##name, 0 moves },
#include "store/ops.def"
#undef KVMS_OP
};
#undef MOVES

static bool
arguments_ok(const struct kvms_row *row, const struct kvms_op *op)
{
	for (unsigned i = 0; i < row->args_count; i++)
		if (!value_in_type(row->args[i].type, op->arg[i]))
			return false;
	return true;
}

/* A space that lives on without a handle, because a CPU runs on it, is not known any more. */
static bool
id_is_known(const struct kvms *s, enum kvms_kind kind, uint64_t id)
{
	const void *record = record_at(s, kind, id);

	return record != NULL && (kind != KVMS_ID_VM_SPACE || ((const struct vm_space *)record)->handle);
}

/* R1: ids, id lists element by element, and CPUs, in argument order. */
static unsigned
ids_check(const struct kvms *s, const struct kvms_row *row, const struct kvms_op *op)
{
	for (unsigned i = 0; i < row->args_count; i++) {
		const struct kvms_field *arg = &row->args[i];
		const uint64_t *ids = &op->arg[i];
		uint64_t count = 1;

		if (arg->type == KVMS_CPU && op->arg[i] >= s->ncpu)
			return O_unknown_cpu;
		if (arg->type == KVMS_IDS)
			ids = kvms_op_list(op, row, i, &count);
		else if (arg->type != KVMS_ID)
			continue;
		for (uint64_t k = 0; k < count; k++)
			if (!id_is_known(s, arg->kind, ids[k]))
				return unknown_outcome(arg->kind);
	}
	return O_ok;
}

/* The frame condition: totals moved as post says, or the row lets them move freely. */
static void
totals_check(struct kvms *s, const struct kvms_op *op, const struct kvms_outcome *out)
{
	const struct handlers *h = &handlers[op->code];
	union totals want = s->undo.live.totals;

	h->post(&want, op, out);
	if (memcmp(&want, &s->live.totals, sizeof want) == 0)
		return;
	for (unsigned i = 0; i < sizeof want.at / sizeof want.at[0]; i++)
		if ((h->may_move >> i & 1) == 0 && want.at[i] != s->live.totals.at[i])
			finding_add(&s->findings, kvms_law_max(), i, want.at[i], s->live.totals.at[i]);
}

static unsigned
evaluate(struct kvms *s, const struct kvms_row *row, const struct kvms_op *op, struct kvms_outcome *out)
{
	unsigned name = ids_check(s, row, op);

	if (name == O_ok)
		name = handlers[op->code].pre(s, op);
	if (name == O_ok)
		name = handlers[op->code].step(s, op, out);
	if (name == O_ok)
		totals_check(s, op, out);
	if ((s->outs[op->code][name / 64] >> name % 64 & 1) == 0)
		finding_add(&s->findings, kvms_law_max() + 1, op->code, 0, name);
	return name;
}

static void
laws_check(struct kvms *s)
{
	if (s->check == KVMS_CHECK_OFF)
		return;
	if (s->check == KVMS_CHECK_FULL && (s->steps + 1) % s->check_every == 0)
		laws_full(s, &s->findings);
	else
		laws_touched(s, &s->findings);
}

static enum kvms_status
run(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out, bool keep)
{
	const struct kvms_row *row = kvms_op_row(op->code);

	assert(row != NULL);
	if (!arguments_ok(row, op))
		return KVMS_INVALID;
	if (keep && s->broken)
		return KVMS_BROKEN;
	out->name = O_ok;
	out->detail = 0;
	out->present = (UINT64_C(1) << row->results_count) - 1;
	out->list_count = 0;
	memset(out->field, 0, sizeof out->field);
	if (s->foreign != NULL) {
		out->name = O_foreign_store;
		out->present = 0;
		s->steps += keep;
		return KVMS_DONE;
	}
	undo_begin(s);
	s->findings.total = s->broken ? s->findings.total : 0;
	s->can_leave = true;
	if (setjmp(s->nomem) != 0) {
		s->can_leave = false;
		undo_rollback(s);
		return KVMS_NOMEM;
	}
	out->name = evaluate(s, row, op, out);
	if (out->name != O_ok)
		out->present = 0;
	if (out->name == O_ok && keep)
		laws_check(s);
	if (out->name != O_ok || !keep || s->findings.total > 0)
		undo_rollback(s);
	else
		undo_commit(s);
	s->can_leave = false;
	if (keep && s->findings.total > 0) {
		s->broken = true;
		return KVMS_BROKEN;
	}
	s->steps += keep;
	return KVMS_DONE;
}

enum kvms_status
kvms_apply(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)
{
	return run(s, op, out, true);
}

enum kvms_status
kvms_dry_run(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)
{
	return run(s, op, out, false);
}
