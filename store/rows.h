/*
 * rows - readings of the tables: codes, argument and reply structs, row lookup.
 *
 * struct args_<op> and struct reply_<op> name the words of kvms_op.arg and
 * kvms_outcome.field; all members are uint64_t, so the structs overlay them.
 */
#ifndef KVMS_ROWS_H
#define KVMS_ROWS_H

#include "store/kvmstore.h"

enum kvms_opcode {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary) OP_##name = code,
#include "store/ops.def"
#undef KVMS_OP
};

enum kvms_request_code {
#define KVMS_REQUEST(code, name, args, results, outs, summary) REQ_##name = code,
#include "store/requests.def"
#undef KVMS_REQUEST
};

/* Outcome numbers: O_ok is 0. */
enum kvms_outcome_number {
	O_ok,
#define KVMS_OUTCOME(class, symbol, name, cause, detail, meaning) O_##symbol,
#include "store/outcomes.def"
#undef KVMS_OUTCOME
	O_COUNT
};

enum kvms_config_key {
#define ARG_DEFAULT(type, name, value) CONFIG_##name,
#include "store/config.def"
#undef ARG_DEFAULT
	CONFIG_KEYS
};

#define ARG(type, name) uint64_t name;
#define ARG_DEFAULT(type, name, value) uint64_t name;
#define ARG_ID(kind, name) uint64_t name;
#define ARG_IDS(kind, name) uint64_t name;
#define RESULT(type, name) uint64_t name;
#define RESULT_IDS(kind, name) uint64_t name;
#define NEW(kind, name) uint64_t name;
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	struct args_##name {                                                                                           \
		args                                                                                                   \
	};                                                                                                             \
	struct reply_##name {                                                                                          \
		results                                                                                                \
	};
#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	struct args_request_##name {                                                                                   \
		args                                                                                                   \
	};                                                                                                             \
	struct reply_request_##name {                                                                                  \
		results                                                                                                \
	};
#include "store/ops.def"
#include "store/requests.def"
#undef KVMS_OP
#undef KVMS_REQUEST
#undef ARG
#undef ARG_DEFAULT
#undef ARG_ID
#undef ARG_IDS
#undef RESULT
#undef RESULT_IDS
#undef NEW

/* True if a scalar value lies inside its type: one of its words, a valid property, known flags. */
static inline bool
value_in_type(enum kvms_type type, uint64_t value)
{
	if (type == KVMS_BOOL)
		return value <= 1;
	if (type == KVMS_PROP)
		return kvms_prop_valid(value);
	if (type == KVMS_FLAGS)
		return value <= 0x1f;
	return type < KVMS_ARCH || type > KVMS_HIT || kvms_word(type, value) != NULL; /* those between have words */
}

/*
 * Every field zero.  By stores of 16 bytes: what a compiler makes of a memset of
 * this size ("rep stos") takes as long as a walk.
 */
static inline void
fields_clear(struct kvms_outcome *out)
{
	typedef uint64_t pair __attribute__((vector_size(16), aligned(8), may_alias));
	pair *at = (pair *)(void *)out->field;

	_Static_assert(KVMS_FIELDS_MAX % 2 == 0, "whole pairs");
#pragma GCC unroll 12
	for (unsigned i = 0; i < KVMS_FIELDS_MAX / 2; i++)
		at[i] = (pair){ 0, 0 };
}

/* An outcome to be filled in: ok, with the fields of "results" (bits), no list. */
static inline void
outcome_begin(struct kvms_outcome *out, uint64_t results)
{
	out->name = O_ok;
	out->detail = 0;
	out->present = results;
	out->list_count = 0;
	fields_clear(out);
}

/* The pre outcome for an id of "kind" that is not live; O_ok for kinds without objects. */
unsigned unknown_outcome(enum kvms_kind kind);

#endif /* KVMS_ROWS_H */
