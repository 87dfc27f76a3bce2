#include "store/rows.h"

#include <limits.h>
#include <string.h>

/* clang-format off */
#define ARG(type, name) { #name, KVMS_##type, KVMS_ID_NONE, false, false, 0 },
#define ARG_DEFAULT(type, name, value) { #name, KVMS_##type, KVMS_ID_NONE, true, false, value },
#define ARG_ID(kind, name) { #name, KVMS_ID, KVMS_ID_##kind, false, false, 0 },
#define ARG_IDS(kind, name) { #name, KVMS_IDS, KVMS_ID_##kind, false, false, 0 },
#define RESULT(type, name) { #name, KVMS_##type, KVMS_ID_NONE, false, false, 0 },
#define RESULT_IDS(kind, name) { #name, KVMS_IDS, KVMS_ID_##kind, false, false, 0 },
#define NEW(kind, name) { #name, KVMS_ID, KVMS_ID_##kind, false, true, 0 },
#define OUT(symbol) O_##symbol,
/* every list ends in a sentinel, so that an empty one is an array too */
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	static const struct kvms_field op_args_##name[] = { args { NULL, 0, 0, false, false, 0 } };                    \
	static const struct kvms_field op_results_##name[] = { results { NULL, 0, 0, false, false, 0 } };              \
	static const uint8_t op_outs_##name[] = { outs 0 };
#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	static const struct kvms_field request_args_##name[] = { args { NULL, 0, 0, false, false, 0 } };               \
	static const struct kvms_field request_results_##name[] = { results { NULL, 0, 0, false, false, 0 } };         \
	static const uint8_t request_outs_##name[] = { outs 0 };
#include "store/ops.def"
#include "store/requests.def"
#undef KVMS_OP
#undef KVMS_REQUEST

/* What a row does, once for each row: a name without one, or of no row, does not compile. */
#define KVMS_EFFECT(name, text)                                                                                        \
	_Static_assert(OP_##name > 0, #name);                                                                          \
	static const char op_effect_##name[] = text;
#define KVMS_ANSWER(name, text)                                                                                        \
	_Static_assert(REQ_##name > 0, #name);                                                                         \
	static const char request_effect_##name[] = text;
#include "store/effects.def"
#undef KVMS_EFFECT
#undef KVMS_ANSWER

static const struct kvms_field store_keys[] = {
#include "store/config.def"
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct kvms_row op_rows[] = {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	[code] = { code, #name, op_args_##name, COUNT(op_args_##name) - 1, op_results_##name,                          \
		   COUNT(op_results_##name) - 1, mirrors, summary, op_effect_##name },
#include "store/ops.def"
#undef KVMS_OP
};

static const struct kvms_row request_rows[] = {
#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	[code] = { code, #name, request_args_##name, COUNT(request_args_##name) - 1, request_results_##name,           \
		   COUNT(request_results_##name) - 1, "", summary, request_effect_##name },
#include "store/requests.def"
#undef KVMS_REQUEST
};

static const uint8_t *const op_outs[] = {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary) [code] = op_outs_##name,
#include "store/ops.def"
#undef KVMS_OP
};

static const uint8_t *const request_outs[] = {
#define KVMS_REQUEST(code, name, args, results, outs, summary) [code] = request_outs_##name,
#include "store/requests.def"
#undef KVMS_REQUEST
};

static const struct kvms_row store_row = { 0, "store", store_keys, COUNT(store_keys), NULL, 0, "",
					   "configuration, fixed when a store is created", "" };

#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary)                                              \
	_Static_assert(COUNT(op_args_##name) - 1 <= KVMS_ARGS_MAX, #name ": too many arguments");                      \
	_Static_assert(COUNT(op_results_##name) - 1 <= KVMS_FIELDS_MAX, #name ": too many results");
#define KVMS_REQUEST(code, name, args, results, outs, summary)                                                         \
	_Static_assert(COUNT(request_args_##name) - 1 <= KVMS_ARGS_MAX, #name ": too many arguments");                 \
	_Static_assert(COUNT(request_results_##name) - 1 <= KVMS_FIELDS_MAX, #name ": too many results");
#include "store/ops.def"
#include "store/requests.def"
#undef KVMS_OP
#undef KVMS_REQUEST
_Static_assert(COUNT(store_keys) <= KVMS_ARGS_MAX, "store: too many keys");
_Static_assert(O_COUNT < 256, "outcome numbers fit a byte");

/* The type each list or word type is read by: words in the documented order. */
struct word {
	uint8_t value;
	const char *text;
};

static const struct word bool_words[] = { { 1, "true" }, { 0, "false" }, { 0, NULL } };
static const struct word arch_words[] = { { 0, "x86_64" }, { 1, "x86_64_la57" }, { 2, "riscv64_sv39" },
					  { 3, "riscv64_sv48" }, { 4, "loongarch64" }, { 0, NULL } };
static const struct word boot_words[] = { { 0, "minimal" }, { 1, "full" }, { 0, NULL } };
static const struct word frame_kind_words[] = { { 1, "untyped" }, { 2, "typed" }, { 3, "link" }, { 0, NULL } };
static const struct word slot_kind_words[] = { { 0, "none" }, { 1, "untyped" }, { 2, "typed" }, { 3, "link" },
					       { 4, "node" }, { 5, "boot" }, { 0, NULL } };
static const struct word usage_words[] = { { 0, "Unused" }, { 1, "Reserved" }, { 2, "Frame" }, { 3, "PageTable" },
					   { 4, "Meta" }, { 5, "Kernel" }, { 6, "MMIO" }, { 0, NULL } };
static const struct word boot_usage_words[] = { { 1, "Reserved" }, { 5, "Kernel" }, { 4, "Meta" }, { 6, "MMIO" },
						{ 0, NULL } };
static const struct word cache_words[] = { { 0, "uc" }, { 1, "wc" }, { 2, "wp" }, { 3, "wt" }, { 4, "wb" },
					   { 0, NULL } };
static const struct word cache_keep_words[] = { { 0, "uc" }, { 1, "wc" }, { 2, "wp" }, { 3, "wt" }, { 4, "wb" },
						{ 5, "keep" }, { 0, NULL } };
static const struct word global_words[] = { { 0, "keep" }, { 1, "set" }, { 2, "clear" }, { 0, NULL } };
static const struct word flush_kind_words[] = { { 0, "range" }, { 1, "all" }, { 0, NULL } };
static const struct word access_words[] = { { 0, "r" }, { 1, "w" }, { 2, "x" }, { 0, NULL } };
static const struct word mode_words[] = { { 0, "user" }, { 1, "kernel" }, { 0, NULL } };
static const struct word hit_words[] = { { 0, "tlb" }, { 1, "walk" }, { 0, NULL } };
/* clang-format on */

struct type_row {
	const struct word *words; /* NULL: not enumerated */
	bool is_list;
	uint8_t arity;
};

static const struct type_row types[KVMS_TYPES] = {
	[KVMS_BOOL] = { bool_words, false, 0 },
	[KVMS_ARCH] = { arch_words, false, 0 },
	[KVMS_BOOT] = { boot_words, false, 0 },
	[KVMS_FRAME_KIND] = { frame_kind_words, false, 0 },
	[KVMS_SLOT_KIND] = { slot_kind_words, false, 0 },
	[KVMS_USAGE] = { usage_words, false, 0 },
	[KVMS_BOOT_USAGE] = { boot_usage_words, false, 0 },
	[KVMS_CACHE] = { cache_words, false, 0 },
	[KVMS_CACHE_KEEP] = { cache_keep_words, false, 0 },
	[KVMS_FLUSH_KIND] = { flush_kind_words, false, 0 },
	[KVMS_ACCESS] = { access_words, false, 0 },
	[KVMS_MODE] = { mode_words, false, 0 },
	[KVMS_HIT] = { hit_words, false, 0 },
	[KVMS_GLOBAL] = { global_words, false, 0 },
	[KVMS_BYTES] = { NULL, true, 0 },
	[KVMS_IDS] = { NULL, true, 1 },
	[KVMS_CPUS] = { NULL, true, 1 },
	[KVMS_PADDRS] = { NULL, true, 1 },
	[KVMS_RANGE] = { NULL, true, 2 },
	[KVMS_RANGES] = { NULL, true, 2 },
	[KVMS_VMALLOC] = { NULL, true, 2 },
	[KVMS_LEVELS] = { NULL, true, 4 },
	[KVMS_MAPPINGS] = { NULL, true, 2 },
	[KVMS_REVERSE] = { NULL, true, 4 },
	[KVMS_AREAS] = { NULL, true, 3 },
	[KVMS_STALE] = { NULL, true, 4 },
	[KVMS_LAWS] = { NULL, true, 1 },
};

bool
kvms_prop_valid(uint64_t prop)
{
	uint64_t flags = prop & 0xff, privileged = prop >> 8 & 0xff, cache = prop >> KVMS_PROP_CACHE_SHIFT;

	return (flags & ~UINT64_C(0x9f)) == 0 && privileged <= 3 && cache <= 4;
}

unsigned
kvms_type_arity(enum kvms_type type)
{
	return (unsigned)type < KVMS_TYPES ? types[type].arity : 0;
}

bool
kvms_type_is_list(enum kvms_type type)
{
	return (unsigned)type < KVMS_TYPES && types[type].is_list;
}

const char *
kvms_word(enum kvms_type type, uint64_t value)
{
	const struct word *w = (unsigned)type < KVMS_TYPES ? types[type].words : NULL;

	for (; w != NULL && w->text != NULL; w++)
		if (w->value == value)
			return w->text;
	return NULL;
}

const char *
kvms_word_at(enum kvms_type type, unsigned index, uint64_t *value)
{
	const struct word *w = (unsigned)type < KVMS_TYPES ? types[type].words : NULL;

	if (w == NULL)
		return NULL;
	while (w->text != NULL && index-- > 0)
		w++;
	if (w->text != NULL)
		*value = w->value;
	return w->text;
}

unsigned
kvms_op_max(void)
{
	return COUNT(op_rows) - 1;
}

unsigned
kvms_request_max(void)
{
	return COUNT(request_rows) - 1;
}

static const struct kvms_row *
row_at(const struct kvms_row *rows, unsigned max, unsigned code)
{
	return code <= max && rows[code].name != NULL ? &rows[code] : NULL;
}

static const struct kvms_row *
row_find(const struct kvms_row *rows, unsigned max, const char *name)
{
	for (unsigned code = 0; code <= max; code++)
		if (rows[code].name != NULL && strcmp(rows[code].name, name) == 0)
			return &rows[code];
	return NULL;
}

const struct kvms_row *
kvms_op_row(unsigned code)
{
	return row_at(op_rows, kvms_op_max(), code);
}

const struct kvms_row *
kvms_op_find(const char *name)
{
	return row_find(op_rows, kvms_op_max(), name);
}

const struct kvms_row *
kvms_request_row(unsigned code)
{
	return row_at(request_rows, kvms_request_max(), code);
}

const struct kvms_row *
kvms_request_find(const char *name)
{
	return row_find(request_rows, kvms_request_max(), name);
}

const struct kvms_row *
kvms_store_row(void)
{
	return &store_row;
}

void
kvms_op_init(struct kvms_op *op, const struct kvms_row *row)
{
	memset(op, 0, sizeof *op);
	op->code = row->code;
	for (unsigned i = 0; i < row->args_count; i++)
		op->arg[i] = row->args[i].value;
}

static int
field_index(const struct kvms_field *fields, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(fields[i].name, name) == 0)
			return (int)i;
	return -1;
}

int
kvms_arg_index(const struct kvms_row *row, const char *name)
{
	return field_index(row->args, row->args_count, name);
}

int
kvms_result_index(const struct kvms_row *row, const char *name)
{
	return field_index(row->results, row->results_count, name);
}

const char *
kvms_field_meaning(const struct kvms_row *row, const struct kvms_field *field)
{
	static const struct {
		const char *row, *field, *text;
	} meanings[] = {
#define KVMS_MEANING(row, field, text) { row, field, text },
#include "store/fields.def"
#undef KVMS_MEANING
	};
	const char *found = NULL;

	for (size_t i = 0; i < COUNT(meanings); i++) {
		if (strcmp(meanings[i].field, field->name) != 0)
			continue;
		if (strcmp(meanings[i].row, row->name) == 0)
			return meanings[i].text;
		if (meanings[i].row[0] == '\0')
			found = meanings[i].text;
	}
	return found;
}

/* ---- Outcomes ------------------------------------------------------------ */

static const struct {
	enum kvms_class class;
	const char *name;
	const char *cause;
	const char *detail;
	const char *meaning;
} outcomes[O_COUNT] = {
	[O_ok] = { KVMS_OK, "", NULL, NULL, "done" },
#define KVMS_OUTCOME(class_, symbol, name_, cause_, detail_, meaning_)                                                 \
	[O_##symbol] = { KVMS_##class_, name_, cause_, detail_, meaning_ },
#include "store/outcomes.def"
#undef KVMS_OUTCOME
};

unsigned
kvms_outcome_max(void)
{
	return O_COUNT - 1;
}

const char *
kvms_outcome_name(unsigned name)
{
	return name < O_COUNT ? outcomes[name].name : NULL;
}

enum kvms_class
kvms_outcome_class(unsigned name)
{
	return name < O_COUNT ? outcomes[name].class : KVMS_CLASSES;
}

const char *
kvms_outcome_cause(unsigned name)
{
	return name < O_COUNT ? outcomes[name].cause : NULL;
}

const char *
kvms_outcome_detail(unsigned name)
{
	return name < O_COUNT ? outcomes[name].detail : NULL;
}

const char *
kvms_outcome_meaning(unsigned name)
{
	return name < O_COUNT ? outcomes[name].meaning : NULL;
}

const char *
kvms_class_word(enum kvms_class c)
{
	static const char *const words[KVMS_CLASSES] = { "ok", "pre", "err", "panic", "abort", "block" };

	return (unsigned)c < KVMS_CLASSES ? words[c] : NULL;
}

unsigned
unknown_outcome(enum kvms_kind kind)
{
	static const uint8_t unknown[KVMS_ID_KINDS] = {
		[KVMS_ID_FRAME] = O_unknown_frame,   [KVMS_ID_SEGMENT] = O_unknown_segment,
		[KVMS_ID_UNIQUE] = O_unknown_unique, [KVMS_ID_LIST] = O_unknown_list,
		[KVMS_ID_VM_SPACE] = O_unknown_vm_space, [KVMS_ID_CURSOR] = O_unknown_cursor,
		[KVMS_ID_AREA] = O_unknown_area,     [KVMS_ID_READER] = O_unknown_reader,
		[KVMS_ID_WRITER] = O_unknown_writer, [KVMS_ID_IOMEM] = O_unknown_iomem,
	};

	return unknown[kind];
}

/* The outcome that a missing object behind this argument gives, or O_ok. */
static unsigned
argument_outcome(const struct kvms_field *arg)
{
	if (arg->type == KVMS_CPU)
		return O_unknown_cpu;
	if (arg->type == KVMS_TABLE || arg->type == KVMS_TABLE_ALL)
		return O_unknown_vm_space;
	return arg->type == KVMS_ID || arg->type == KVMS_IDS ? unknown_outcome(arg->kind) : O_ok;
}

unsigned
kvms_row_outcome(const struct kvms_row *row, unsigned k)
{
	bool is_request = kvms_request_row(row->code) == row;

	if (k-- == 0)
		return O_ok;
	for (unsigned i = 0; i < row->args_count; i++) {
		unsigned name = argument_outcome(&row->args[i]);

		if (name != O_ok && k-- == 0)
			return name;
	}
	for (const uint8_t *out = is_request ? request_outs[row->code] : op_outs[row->code]; *out != O_ok; out++)
		if (k-- == 0)
			return *out;
	return UINT_MAX;
}

static uint64_t
list_words(enum kvms_type type, uint64_t count)
{
	return type == KVMS_BYTES ? (count + 7) / 8 : count * kvms_type_arity(type);
}

const uint64_t *
kvms_outcome_list(const struct kvms_outcome *out, const struct kvms_row *row, unsigned i, uint64_t *count)
{
	const uint64_t *at = out->list;

	for (unsigned k = 0; k < i; k++)
		if ((out->present >> k & 1) != 0 && kvms_type_is_list(row->results[k].type))
			at += list_words(row->results[k].type, out->field[k]);
	*count = out->field[i];
	return at;
}

const uint64_t *
kvms_op_list(const struct kvms_op *op, const struct kvms_row *row, unsigned i, uint64_t *count)
{
	const uint64_t *at = op->list;

	for (unsigned k = 0; k < i; k++)
		if (kvms_type_is_list(row->args[k].type))
			at += list_words(row->args[k].type, op->arg[k]);
	*count = op->arg[i];
	return at;
}
