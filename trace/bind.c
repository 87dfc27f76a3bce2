#include "trace/bind.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* The first place of a key.  The seed keeps a hostile trace from choosing collisions. */
static size_t
home(const struct kvt_bindings *b, uint32_t kind, uint64_t recorded)
{
	uint64_t x = (recorded ^ b->seed) + (uint64_t)kind * 0x9E3779B97F4A7C15u;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	x = (x ^ x >> 27) * 0x94D049BB133111EBu;
	return (size_t)(x ^ x >> 31) & (b->capacity - 1);
}

/* The place of a key: its own, or the free one where it belongs. */
static size_t
place(const struct kvt_bindings *b, uint32_t kind, uint64_t recorded)
{
	size_t i = home(b, kind, recorded);

	while (b->at[i].kind != 0 && (b->at[i].kind != kind || b->at[i].recorded != recorded))
		i = (i + 1) & (b->capacity - 1);
	return i;
}

static bool
grow(struct kvt_bindings *b)
{
	struct kvt_bindings bigger = { .capacity = b->capacity != 0 ? b->capacity * 2 : 64, .count = b->count };

	if (b->count < b->capacity / 2)
		return true;
	bigger.at = calloc(bigger.capacity, sizeof *bigger.at);
	if (bigger.at == NULL)
		return false;
	bigger.seed = b->seed;
	if (bigger.seed == 0 && getrandom(&bigger.seed, sizeof bigger.seed, GRND_NONBLOCK) < 0)
		bigger.seed = (uint64_t)(uintptr_t)bigger.at;
	for (size_t i = 0; i < b->capacity; i++)
		if (b->at[i].kind != 0)
			bigger.at[place(&bigger, b->at[i].kind, b->at[i].recorded)] = b->at[i];
	free(b->at);
	*b = bigger;
	return true;
}

/* Free a place, and move up what a search could no longer reach past it. */
static void
erase(struct kvt_bindings *b, size_t hole)
{
	size_t mask = b->capacity - 1;

	for (size_t i = (hole + 1) & mask; b->at[i].kind != 0; i = (i + 1) & mask) {
		size_t from = home(b, b->at[i].kind, b->at[i].recorded);

		if (((i - from) & mask) < ((i - hole) & mask))
			continue;
		b->at[hole] = b->at[i];
		hole = i;
	}
	memset(&b->at[hole], 0, sizeof b->at[hole]);
	b->count--;
}

bool
kvt_bind(struct kvt_bindings *b, enum kvms_kind kind, uint64_t recorded, uint64_t actual)
{
	size_t i;

	if (recorded == actual) {
		if (b->count > 0 && b->at[i = place(b, (uint32_t)kind, recorded)].kind != 0)
			erase(b, i);
		return true;
	}
	if (!grow(b))
		return false;
	i = place(b, (uint32_t)kind, recorded);
	b->count += b->at[i].kind == 0;
	b->at[i].kind = (uint32_t)kind;
	b->at[i].recorded = recorded;
	b->at[i].actual = actual;
	return true;
}

uint64_t
kvt_bound(const struct kvt_bindings *b, enum kvms_kind kind, uint64_t recorded)
{
	const struct kvt_binding *at;

	if (b->count == 0)
		return recorded;
	at = &b->at[place(b, (uint32_t)kind, recorded)];
	return at->kind != 0 ? at->actual : recorded;
}

static bool
is_table_id(enum kvms_type type, uint64_t value)
{
	return (type == KVMS_TABLE || type == KVMS_TABLE_ALL) && value != 0 && value != UINT64_MAX;
}

/* Lists of ids with the actual ones, in a copy. */
static bool
translate_lists(const struct kvt_bindings *b, const struct kvms_row *row, struct kvms_op *op, struct kvt_words *lists)
{
	size_t words = 0;
	uint64_t *at;

	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			words += kvt_list_words(row->args[i].type, op->arg[i]);
	lists->size = 0;
	at = kvt_words_add(lists, words);
	if (at == NULL)
		return false;
	if (words > 0)
		memcpy(at, op->list, words * sizeof *at);
	op->list = at;
	for (unsigned i = 0; i < row->args_count; i++) {
		if (row->args[i].type == KVMS_IDS)
			for (uint64_t k = 0; k < op->arg[i]; k++)
				at[k] = kvt_bound(b, row->args[i].kind, at[k]);
		if (kvms_type_is_list(row->args[i].type))
			at += kvt_list_words(row->args[i].type, op->arg[i]);
	}
	return true;
}

bool
kvt_translate(const struct kvt_bindings *b, const struct kvms_row *row, struct kvms_op *op, struct kvt_words *lists)
{
	bool has_lists = false;

	if (b->count == 0)
		return true;
	for (unsigned i = 0; i < row->args_count; i++) {
		if (row->args[i].type == KVMS_ID)
			op->arg[i] = kvt_bound(b, row->args[i].kind, op->arg[i]);
		else if (is_table_id(row->args[i].type, op->arg[i]))
			op->arg[i] = kvt_bound(b, KVMS_ID_VM_SPACE, op->arg[i]);
		has_lists = has_lists || row->args[i].type == KVMS_IDS;
	}
	return !has_lists || translate_lists(b, row, op, lists);
}

bool
kvt_bind_created(struct kvt_bindings *b, const struct kvt_line *line, const struct kvms_outcome *out)
{
	if (!line->recorded || line->class != KVMS_OK || out->name != 0)
		return true;
	for (size_t i = 0; i < line->fields_count; i++) {
		const struct kvt_field *f = &line->fields[i];

		if (f->index < 0 || !line->row->results[f->index].created || (out->present >> f->index & 1) == 0)
			continue;
		if (!kvt_bind(b, f->id, f->value, out->field[f->index]))
			return false;
	}
	return true;
}

void
kvt_bindings_free(struct kvt_bindings *b)
{
	free(b->at);
	memset(b, 0, sizeof *b);
}
