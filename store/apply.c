/*
 * The walk of one operation: ids, pre, step under the undo log, the frame
 * condition, the outcome set, the laws; then commit, or everything back.
 */
#include "store/op.h"

#include <string.h>

/* Is an id known; is each of a list? */
static unsigned
id_check(const struct kvms *s, enum kvms_kind kind, uint64_t id)
{
	const void *record = record_at(s, kind, id);

	/* a space that lives on without a handle, because a CPU runs on it, is not known any more */
	if (record == NULL || (kind == KVMS_ID_VM_SPACE && !((const struct vm_space *)record)->handle))
		return unknown_outcome(kind);
	return O_ok;
}

static unsigned
ids_check(const struct kvms *s, enum kvms_kind kind, const struct kvms_op *op, unsigned arg)
{
	uint64_t count;
	const uint64_t *ids = kvms_op_list(op, kvms_op_row(op->code), arg, &count);
	unsigned name = O_ok;

	for (uint64_t i = 0; i < count && name == O_ok; i++)
		name = id_check(s, kind, ids[i]);
	return name;
}

/*
 * For every row: are scalar arguments inside their types, and are ids and CPUs
 * known, in argument order?  Expanded from the row, so that each asks only what its arguments need.
 */
#define ARG_DEFAULT(type, name, value) ARG(type, name)
#define ARG(type, name)                                                                                                \
	if (!value_in_type(KVMS_##type, a->name))                                                                      \
		return false;
#define ARG_ID(kind, name)
#define ARG_IDS(kind, name)
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	static bool do_types_##name(const struct kvms_op *op)                                                          \
	{                                                                                                              \
		UNUSED_OK const struct args_##name *a = (const void *)op->arg;                                         \
		args return true;                                                                                      \
	}
#include "store/ops.def"
#undef KVMS_OP
#undef ARG
#undef ARG_ID
#undef ARG_IDS

#define ARG(type, name)                                                                                                \
	if (KVMS_##type == KVMS_CPU && a->name >= s->ncpu)                                                             \
		return O_unknown_cpu;
#define ARG_ID(kind, name)                                                                                             \
	if ((outcome = id_check(s, KVMS_ID_##kind, a->name)) != O_ok)                                                  \
		return outcome;
#define ARG_IDS(kind, name)                                                                                            \
	if ((outcome = ids_check(s, KVMS_ID_##kind, op, (unsigned)(&a->name - op->arg))) != O_ok)                      \
		return outcome;
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	static unsigned do_ids_##name(UNUSED_OK const struct kvms *s, const struct kvms_op *op)                        \
	{                                                                                                              \
		UNUSED_OK const struct args_##name *a = (const void *)op->arg;                                         \
		UNUSED_OK unsigned outcome;                                                                            \
		args return O_ok;                                                                                      \
	}
#include "store/ops.def"
#undef KVMS_OP
#undef ARG
#undef ARG_ID
#undef ARG_IDS
#undef ARG_DEFAULT

/* The operation itself, and how totals should have moved. */
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	static unsigned do_##name(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)                  \
	{                                                                                                              \
		unsigned outcome = do_ids_##name(s, op);                                                               \
                                                                                                                       \
		if (outcome == O_ok)                                                                                   \
			outcome = pre_##name(s, (const void *)op->arg, op->list);                                      \
		if (outcome == O_ok)                                                                                   \
			outcome = step_##name(s, (const void *)op->arg, op->list, (void *)out->field, out);            \
		return outcome;                                                                                        \
	}                                                                                                              \
	static void do_post_##name(union totals *want, const struct kvms_op *op, const struct kvms_outcome *out)       \
	{                                                                                                              \
		post_##name(want, (const void *)op->arg, (const void *)out->field);                                    \
	}
#include "store/ops.def"
#undef KVMS_OP

struct handlers {
	bool (*types)(const struct kvms_op *);
	unsigned (*op)(struct kvms *, const struct kvms_op *, struct kvms_outcome *);
	void (*post)(union totals *, const struct kvms_op *, const struct kvms_outcome *);
	uint64_t results;  /* of the reply, as bits */
	uint64_t may_move; /* totals that arguments and reply do not determine, as bits */
};

#define MOVES(total) | UINT64_C(1) << TOTAL_INDEX(total)
static const struct handlers handlers[] = {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	[code] = { do_types_##name, do_##name, do_post_##name,                                                         \
		   (UINT64_C(1) << sizeof(struct reply_##name) / sizeof(uint64_t)) - 1, 0 moves },
#include "store/ops.def"
#undef KVMS_OP
};
#undef MOVES

/* One by one: wider loads would wait for what was stored just before. */
static bool
totals_equal(const union totals *a, const union totals *b)
{
#pragma GCC unroll 22
	for (unsigned i = 0; i < sizeof a->at / sizeof a->at[0]; i++)
		if (a->at[i] != b->at[i])
			return false;
	return true;
}

/* The frame condition: totals moved as post says, or the row lets them move freely. */
static void
totals_check(struct kvms *s, const struct kvms_op *op, const struct kvms_outcome *out)
{
	const struct handlers *h = &handlers[op->code];
	union totals want = s->undo.live.totals;

	h->post(&want, op, out);
	for (uint64_t left = h->may_move; left != 0; left &= left - 1)
		want.at[__builtin_ctzll(left)] = s->live.totals.at[__builtin_ctzll(left)];
	if (totals_equal(&want, &s->live.totals))
		return;
	for (unsigned i = 0; i < sizeof want.at / sizeof want.at[0]; i++)
		if (want.at[i] != s->live.totals.at[i])
			finding_add(&s->findings, kvms_law_max(), i, want.at[i], s->live.totals.at[i]);
}

static unsigned
evaluate(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out)
{
	unsigned name = handlers[op->code].op(s, op, out);

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
	assert(kvms_op_row(op->code) != NULL);
	if (!handlers[op->code].types(op))
		return KVMS_INVALID;
	if (keep && s->broken)
		return KVMS_BROKEN;
	outcome_begin(out, handlers[op->code].results);
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
	out->name = evaluate(s, op, out);
	if (out->name != O_ok) {
		out->present = 0;
		fields_clear(out); /* what a step filled in before it refused */
	} else if (keep) {
		laws_check(s);
	}
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
