#include "trace/plain.h"

#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(0x1000)
#define HUGE UINT64_C(0x200000)
#define GIANT UINT64_C(0x40000000)
#define TOP UINT64_C(0x8000000000)
#define STEPS_MAX 1000u /* a longer script is left as it is */
#define LOWER_MAX 48u   /* changes of one number */
#define IDS_TRIED 16u

/* ---- Changes --------------------------------------------------------------------------- */

/* p->edit becomes a copy of the script, with another operation for one step (NULL: the same). */
static bool
edit(struct kvt_plain *p, size_t step, const struct kvms_op *op)
{
	kvt_script_reset(&p->edit);
	if (p->drop_capacity < p->now->count) {
		unsigned char *drop = realloc(p->drop, p->now->count);

		p->failed = p->failed || drop == NULL;
		if (drop == NULL)
			return false;
		p->drop = drop;
		p->drop_capacity = p->now->count;
	}
	if (p->now->count > 0)
		memset(p->drop, 0, p->now->count);
	p->failed = p->failed || !kvt_script_configure(&p->edit, &p->now->config);
	for (size_t i = 0; i < p->now->count && !p->failed; i++) {
		struct kvt_step changed = p->now->at[i];
		const uint64_t *list = kvt_script_op(p->now, i).list;

		if (op != NULL && i == step) {
			changed.op = *op;
			list = op->list;
		}
		p->failed = !kvt_script_add(&p->edit, &changed, list);
	}
	return !p->failed;
}

static bool
agreed(struct kvt_plain *p)
{
	return !p->failed && p->try(p->arg, &p->edit, p->drop);
}

static bool
try_op(struct kvt_plain *p, size_t step, const struct kvms_op *op)
{
	return edit(p, step, op) && agreed(p);
}

static bool
try_value(struct kvt_plain *p, size_t step, unsigned arg, uint64_t value)
{
	struct kvms_op op = kvt_script_op(p->now, step);

	if (op.arg[arg] == value)
		return false;
	op.arg[arg] = value;
	return try_op(p, step, &op);
}

/* ---- What steps name and make ----------------------------------------------------------- */

/* Is it that id, in an argument of that kind? */
static bool
names(const struct kvms_field *arg, uint64_t value, enum kvms_kind kind, uint64_t id)
{
	if (value != id)
		return false;
	return (arg->type == KVMS_ID && arg->kind == kind) ||
	       (kvt_is_space_id(arg->type, value) && kind == KVMS_ID_VM_SPACE);
}

static bool
made(const struct kvt_step *step, enum kvms_kind kind, uint64_t id)
{
	unsigned n = 0;

	for (unsigned r = 0; r < step->row->results_count && n < KVT_CREATED_MAX; r++)
		if (step->row->results[r].created && step->created[n++] == id && step->row->results[r].kind == kind)
			return true;
	return false;
}

/* Where the area begins that a step names; 0 = it names none, or nobody told. */
static uint64_t
area_start(const struct kvt_plain *p, size_t step)
{
	const struct kvt_step *at = &p->now->at[step];

	if (at->row->args_count == 0 || at->row->args[0].type != KVMS_ID || at->row->args[0].kind != KVMS_ID_AREA)
		return 0;
	for (size_t i = 0; i < step; i++)
		if (made(&p->now->at[i], KVMS_ID_AREA, at->op.arg[0]))
			return p->now->at[i].start;
	return 0;
}

/* ---- Numbers and words ----------------------------------------------------------------------- */

/* The first smaller one of some plain values that is agreed to. */
static bool
lower_once(struct kvt_plain *p, size_t step, unsigned arg)
{
	const struct kvms_op *op = &p->now->at[step].op;
	uint64_t v = op->arg[arg], before = arg > 0 ? op->arg[arg - 1] : 0;
	const uint64_t values[] = {
		0, 1, 2, 4, PAGE, before + PAGE, v & ~(TOP - 1), v & ~(GIANT - 1), v & ~(HUGE - 1), v & ~(PAGE - 1)
	};

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		if (values[i] < v && try_value(p, step, arg, values[i]))
			return true;
	return false;
}

/* Halve the way down to a number, in pages if there are any. */
static bool
lower_by_halves(struct kvt_plain *p, size_t step, unsigned arg)
{
	uint64_t unit = p->now->at[step].op.arg[arg] >= PAGE ? PAGE : 1;
	uint64_t start = area_start(p, step), low = p->now->at[step].op.arg[arg] > start ? start : 0;
	bool any = false;

	for (unsigned i = 0; i < LOWER_MAX; i++) {
		uint64_t v = p->now->at[step].op.arg[arg], middle = (low + (v - low) / 2) & ~(unit - 1);

		if ((v - low) >> 47 != 0 || middle <= low)
			return any;
		if (try_value(p, step, arg, middle))
			any = true;
		else
			low = middle;
	}
	return any;
}

static bool
lower(struct kvt_plain *p, size_t step, unsigned arg)
{
	const struct kvms_field *f = &p->now->at[step].row->args[arg];
	bool any = false;

	if (f->has_default && p->now->at[step].op.arg[arg] == f->value)
		return false;
	if (f->has_default && try_value(p, step, arg, f->value))
		return true;
	for (unsigned i = 0; i < 4 && lower_once(p, step, arg); i++)
		any = true;
	any |= lower_by_halves(p, step, arg);
	return any;
}

/* The default, or the first word of the type. */
static bool
plain_word(struct kvt_plain *p, size_t step, unsigned arg)
{
	const struct kvms_field *f = &p->now->at[step].row->args[arg];
	uint64_t value = f->value;

	if (!f->has_default && kvms_word_at(f->type, 0, &value) == NULL)
		value = 0;
	return try_value(p, step, arg, value);
}

static unsigned
bits(uint64_t value)
{
	unsigned n = 0;

	for (; value != 0; value &= value - 1)
		n++;
	return n;
}

/* How far a property is from the usual one. */
static unsigned
oddness(uint64_t prop)
{
	const uint64_t usual = KVMS_PROP_R | KVMS_PROP_W, cache = prop >> KVMS_PROP_CACHE_SHIFT;

	return bits((prop & 0xffff) ^ usual) + (cache != 4 ? 32 : 0);
}

static bool
plain_prop(struct kvt_plain *p, size_t step, unsigned arg)
{
	const uint64_t wb = UINT64_C(4) << KVMS_PROP_CACHE_SHIFT;
	bool any = false;

	for (unsigned bit = 0; bit < 17; bit++) {
		uint64_t v = p->now->at[step].op.arg[arg];
		uint64_t plain = bit == 0    ? KVMS_PROP_R | KVMS_PROP_W | wb
				 : bit == 16 ? (v & 0xffff) | wb
					     : v ^ UINT64_C(1) << (bit - 1);

		if (kvms_prop_valid(plain) && oddness(plain) < oddness(v))
			any |= try_value(p, step, arg, plain);
	}
	return any;
}

static bool
fewer_flags(struct kvt_plain *p, size_t step, unsigned arg)
{
	bool any = false;

	for (unsigned bit = 0; bit < 5; bit++) {
		uint64_t v = p->now->at[step].op.arg[arg];

		if ((v >> bit & 1) != 0 && v != p->now->at[step].row->args[arg].value)
			any |= try_value(p, step, arg, v & ~(UINT64_C(1) << bit));
	}
	return any;
}

/* ---- Ids and lists --------------------------------------------------------------------------------- */

/* Something of the same kind that was made earlier: then what made the other may go. */
static bool
earlier_id(struct kvt_plain *p, size_t step, unsigned arg)
{
	uint64_t id = p->now->at[step].op.arg[arg];

	for (uint64_t other = 0; other < id && other < IDS_TRIED; other++)
		if (try_value(p, step, arg, other))
			return true;
	return false;
}

/* The operation with the list argument cut to the elements [from, from + count), or without that element. */
static bool
try_list(struct kvt_plain *p, size_t step, unsigned arg, uint64_t keep, uint64_t without)
{
	const struct kvms_row *row = p->now->at[step].row;
	struct kvms_op op = kvt_script_op(p->now, step);
	const uint64_t *from = op.list;

	p->list.size = 0;
	for (unsigned i = 0; i < row->args_count && !p->failed; i++) {
		enum kvms_type type = row->args[i].type;
		size_t words, count;
		uint64_t *to;

		if (!kvms_type_is_list(type))
			continue;
		words = kvt_list_words(type, op.arg[i]);
		count = i == arg ? kvt_list_words(type, keep) : words;
		to = kvt_words_add(&p->list, count + 1);
		p->failed = to == NULL;
		for (size_t k = 0; to != NULL && k < count; k++)
			to[k] = from[k + (i == arg && type != KVMS_BYTES && k >= without)];
		p->list.size--;
		from += words;
	}
	op.arg[arg] = keep;
	op.list = p->list.at;
	return !p->failed && try_op(p, step, &op);
}

static bool
shorter_list(struct kvt_plain *p, size_t step, unsigned arg)
{
	bool is_bytes = p->now->at[step].row->args[arg].type == KVMS_BYTES, any = false;
	uint64_t count = p->now->at[step].op.arg[arg];

	if (count > 1 && try_list(p, step, arg, 1, UINT64_MAX))
		return true;
	if (count > 2 && try_list(p, step, arg, count / 2, UINT64_MAX))
		return true;
	if (is_bytes)
		return count > 0 && try_list(p, step, arg, count - 1, UINT64_MAX);
	for (uint64_t k = count; k-- > 0 && k < 64;)
		any |= k < p->now->at[step].op.arg[arg] && try_list(p, step, arg, p->now->at[step].op.arg[arg] - 1, k);
	return any;
}

static bool
plainer_argument(struct kvt_plain *p, size_t step, unsigned arg)
{
	const struct kvms_field *f = &p->now->at[step].row->args[arg];

	switch ((int)f->type) {
	case KVMS_HEX:
	case KVMS_DEC:
	case KVMS_CPU:
		return lower(p, step, arg);
	case KVMS_ID:
	case KVMS_TABLE:
	case KVMS_TABLE_ALL:
		return earlier_id(p, step, arg);
	case KVMS_PROP:
		return plain_prop(p, step, arg);
	case KVMS_FLAGS:
		return fewer_flags(p, step, arg);
	case KVMS_IDS:
	case KVMS_BYTES:
		return shorter_list(p, step, arg);
	default:
		return plain_word(p, step, arg);
	}
}

/* ---- Addresses that slide together ---------------------------------------------------------------------- */

static int
by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* All addresses of one sort, ascending. */
static bool
find_values(struct kvt_plain *p, enum kvt_space space)
{
	p->values_count = 0;
	for (size_t i = 0; i < p->now->count; i++) {
		const struct kvt_step *step = &p->now->at[i];

		for (unsigned a = 0; a < step->row->args_count; a++) {
			if (kvt_space_of(step->row, &step->row->args[a]) != space)
				continue;
			if (p->values_count == p->values_capacity) {
				size_t capacity = p->values_capacity != 0 ? p->values_capacity * 2 : 64;
				uint64_t *values = realloc(p->values, capacity * sizeof *values);

				p->failed = p->failed || values == NULL;
				if (values == NULL)
					return false;
				p->values = values;
				p->values_capacity = capacity;
			}
			p->values[p->values_count++] = step->op.arg[a];
		}
	}
	if (p->values_count > 0)
		qsort(p->values, p->values_count, sizeof *p->values, by_value);
	return p->values_count > 0;
}

/* Move every address of a sort in [first, last] down by a distance. */
static bool
try_slide(struct kvt_plain *p, enum kvt_space space, uint64_t first, uint64_t last, uint64_t distance)
{
	if (!edit(p, 0, NULL))
		return false;
	for (size_t i = 0; i < p->edit.count; i++) {
		struct kvt_step *step = &p->edit.at[i];

		for (unsigned a = 0; a < step->row->args_count; a++)
			if (kvt_space_of(step->row, &step->row->args[a]) == space && step->op.arg[a] >= first &&
			    step->op.arg[a] <= last)
				step->op.arg[a] -= distance;
	}
	return agreed(p);
}

/* Where a group of addresses may begin at best: that of its part of the address space. */
static uint64_t
floor_of(const struct kvt_plain *p, enum kvt_space space, uint64_t address)
{
	const struct kvms_row *row = kvms_store_row();
	uint64_t count;
	const uint64_t *range = kvms_op_list(&p->now->config, row, (unsigned)kvms_arg_index(row, "vmalloc"), &count);
	uint64_t start = count > 0 ? range[0] : UINT64_C(0xffffc00000000000);

	if (space == KVT_SPACE_PHYSICAL || address >> 63 == 0)
		return 0;
	return address >= start ? start : address & ~(TOP * 512 - 1);
}

static bool
slide_group(struct kvt_plain *p, enum kvt_space space, uint64_t first, uint64_t last, const uint64_t *before)
{
	static const uint64_t sizes[] = { PAGE, HUGE, GIANT, TOP };
	uint64_t floor = floor_of(p, space, first);

	if (before != NULL && first - *before > PAGE && try_slide(p, space, first, last, first - *before - PAGE))
		return true;                       /* right behind the group before */
	for (size_t i = 0; i < p->now->count; i++) /* or at the start of an area */
		if (p->now->at[i].start != 0 && p->now->at[i].start < first &&
		    try_slide(p, space, first, last, first - p->now->at[i].start))
			return true;
	for (unsigned more = 0; more < 2; more++)
		for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
			uint64_t to = floor + (first & (sizes[i] - 1)) + more * sizes[i];

			if (to < first && try_slide(p, space, first, last, first - to))
				return true;
		}
	return false;
}

/* Groups are what lies no further apart than "gap". */
static bool
slide(struct kvt_plain *p, enum kvt_space space, uint64_t gap)
{
	bool any = false;
	size_t start = 0;

	if (!find_values(p, space))
		return false;
	for (size_t i = 1; i <= p->values_count; i++) {
		if (i < p->values_count && p->values[i] - p->values[i - 1] <= gap)
			continue;
		if (slide_group(p, space, p->values[start], p->values[i - 1],
				start > 0 ? &p->values[start - 1] : NULL)) {
			any = true; /* the values have changed */
			if (!find_values(p, space) || p->failed)
				return any;
			i = 0;
		}
		start = i;
	}
	return any;
}

/* ---- Sizes that shrink together ------------------------------------------------------------------------------ */

#define SQUEEZES_MAX 128u
#define SQUEEZED_MAX (UINT64_C(1) << 24) /* bytes: above are addresses, which slide */

/* A number that may be a size or an offset in bytes, as such; 0 = it is none. */
static uint64_t
size_of(const struct kvms_field *arg, uint64_t value)
{
	bool is_pages = arg->type == KVMS_DEC && strcmp(arg->name, "pages") == 0;

	if (arg->type != KVMS_HEX && !is_pages)
		return 0;
	return value < SQUEEZED_MAX ? value * (is_pages ? PAGE : 1) : 0;
}

/* Take a page from every size or offset of at least so many bytes. */
static bool
try_squeeze(struct kvt_plain *p, uint64_t from)
{
	if (!edit(p, 0, NULL))
		return false;
	for (size_t i = 0; i < p->edit.count; i++) {
		struct kvt_step *step = &p->edit.at[i];

		for (unsigned a = 0; a < step->row->args_count; a++)
			if (size_of(&step->row->args[a], step->op.arg[a]) >= from)
				step->op.arg[a] -= step->row->args[a].type == KVMS_DEC ? 1 : PAGE;
	}
	return agreed(p);
}

/* The smallest size in the script that is larger than "above", in whole pages; 0 = there is none. */
static uint64_t
next_size(const struct kvt_plain *p, uint64_t above)
{
	uint64_t least = 0;

	for (size_t i = 0; i < p->now->count; i++) {
		const struct kvt_step *step = &p->now->at[i];

		for (unsigned a = 0; a < step->row->args_count; a++) {
			uint64_t size = size_of(&step->row->args[a], step->op.arg[a]);

			if (size % PAGE == 0 && size > above && (least == 0 || size < least))
				least = size;
		}
	}
	return least;
}

static bool
squeeze(struct kvt_plain *p)
{
	uint64_t size = PAGE;
	bool any = false;

	for (unsigned i = 0; i < SQUEEZES_MAX && !p->failed; i++) {
		uint64_t next = next_size(p, size);

		if (next == 0)
			break;
		if (try_squeeze(p, next))
			any = true;
		else
			size = next;
	}
	return any;
}

/* ---- Steps that another can stand in for ------------------------------------------------------------------- */

#define STRUCTURE_MAX 64u /* steps */

/* Leave out a step that moved something to "to", and let an earlier one begin there. */
static bool
begin_there(struct kvt_plain *p, size_t step, uint64_t to)
{
	for (size_t i = step; i-- > 0;) {
		const struct kvms_row *row = p->now->at[i].row;

		for (unsigned a = 0; a < row->args_count; a++) {
			struct kvms_op op = kvt_script_op(p->now, i);

			if (kvt_space_of(row, &row->args[a]) != KVT_SPACE_VIRTUAL || op.arg[a] == to)
				continue;
			op.arg[a] = to;
			if (!edit(p, i, &op))
				return false;
			p->drop[step] = 1;
			if (agreed(p))
				return true;
		}
	}
	return false;
}

static bool
fewer_moves(struct kvt_plain *p)
{
	bool any = false;

	for (size_t i = p->now->count; i-- > 1 && !p->failed;)
		if (i < p->now->count - 1 && p->now->at[i].moved_to != 0)
			any |= begin_there(p, i, p->now->at[i].moved_to);
	return any;
}

/* The step that opened another cursor makes this one jump to where that one began. */
static void
jump_instead(struct kvt_step *step, uint64_t cursor)
{
	int start = kvms_arg_index(step->row, "start");
	uint64_t va = start >= 0 ? step->op.arg[start] : 0;

	step->row = kvms_op_find("cursor_jump");
	kvms_op_init(&step->op, step->row);
	step->op.arg[0] = cursor;
	step->op.arg[1] = va;
	step->line = NULL;
	memset(step->created, 0, sizeof step->created);
}

enum stand_in {
	AS_IT_IS,
	NOT_ENDED, /* what was last done to it before does not happen: it may have been its end */
	AND_JUMPS  /* the same, and then it jumps: a cursor */
};

/* Let "one" stand in for "other" of its kind, which is not made. */
static bool
stand_in(struct kvt_plain *p, enum kvms_kind kind, uint64_t one, uint64_t other, enum stand_in how)
{
	size_t last = SIZE_MAX, maker = SIZE_MAX;

	if (!edit(p, 0, NULL))
		return false;
	for (size_t i = 0; i < p->edit.count; i++) {
		struct kvt_step *step = &p->edit.at[i];

		if (made(step, kind, other))
			maker = i;
		for (unsigned a = 0; a < step->row->args_count; a++) {
			if (names(&step->row->args[a], step->op.arg[a], kind, one) && maker == SIZE_MAX)
				last = i;
			if (names(&step->row->args[a], step->op.arg[a], kind, other))
				step->op.arg[a] = one;
		}
	}
	if (maker == SIZE_MAX || (how != AS_IT_IS && last == SIZE_MAX) || (how == AND_JUMPS && kind != KVMS_ID_CURSOR))
		return false;
	if (how == AND_JUMPS)
		jump_instead(&p->edit.at[maker], one);
	else
		p->drop[maker] = 1;
	if (how != AS_IT_IS)
		p->drop[last] = 1;
	return agreed(p);
}

/* Can the step be left out, with what it was about in the place of what it made?  A split, a clone. */
static bool
can_unmake(const struct kvt_plain *p, size_t step)
{
	const struct kvms_row *row = p->now->at[step].row;
	bool same = false;

	if (row->args_count == 0 || row->args[0].type != KVMS_ID)
		return false;
	for (unsigned r = 0; r < row->results_count; r++)
		same = same || (row->results[r].created && row->results[r].kind == row->args[0].kind);
	return same;
}

/* Do that in p->edit, to a step and all behind it. */
static void
unmake(struct kvt_plain *p, size_t step)
{
	const struct kvt_step maker = p->edit.at[step];
	enum kvms_kind kind = maker.row->args[0].kind;

	for (size_t i = step + 1; i < p->edit.count; i++) {
		struct kvt_step *later = &p->edit.at[i];

		for (unsigned a = 0; a < later->row->args_count; a++)
			for (unsigned n = 0; n < KVT_CREATED_MAX; n++)
				if (maker.created[n] != 0 &&
				    names(&later->row->args[a], later->op.arg[a], kind, maker.created[n]))
					later->op.arg[a] = maker.op.arg[0];
	}
	p->drop[step] = 1;
}

/* Without one such step, or two: cuts often matter in pairs. */
static bool
fewer_cuts(struct kvt_plain *p)
{
	bool any = false;

	for (size_t a = 0; a < p->now->count; a++)
		for (size_t b = a; b < p->now->count && !p->failed && can_unmake(p, a); b++) {
			if (!can_unmake(p, b) || !edit(p, 0, NULL))
				continue;
			unmake(p, a);
			if (b != a)
				unmake(p, b);
			any |= agreed(p);
			if (a >= p->now->count)
				return any;
		}
	return any;
}

/* The largest id of a kind that the script makes. */
static uint64_t
largest(const struct kvt_plain *p, enum kvms_kind kind)
{
	uint64_t id = 0;

	for (size_t i = 0; i < p->now->count; i++) {
		const struct kvms_row *row = p->now->at[i].row;
		unsigned n = 0;

		for (unsigned r = 0; r < row->results_count && n < KVT_CREATED_MAX; r++) {
			if (!row->results[r].created)
				continue;
			if (row->results[r].kind == kind && p->now->at[i].created[n] > id)
				id = p->now->at[i].created[n];
			n++;
		}
	}
	return id;
}

static bool
fewer_objects(struct kvt_plain *p)
{
	bool any = false;

	for (unsigned kind = 1; kind < KVMS_ID_KINDS; kind++)
		for (uint64_t other = largest(p, (enum kvms_kind)kind); other > 1 && !p->failed; other--)
			for (uint64_t one = 1; one < other; one++)
				if (stand_in(p, (enum kvms_kind)kind, one, other, AS_IT_IS) ||
				    stand_in(p, (enum kvms_kind)kind, one, other, NOT_ENDED) ||
				    stand_in(p, (enum kvms_kind)kind, one, other, AND_JUMPS)) {
					any = true;
					break;
				}
	return any;
}

/* ---- The configuration ------------------------------------------------------------------------------------- */

static bool
try_config(struct kvt_plain *p, const struct kvms_op *config)
{
	if (!edit(p, 0, NULL))
		return false;
	p->failed = !kvt_script_configure(&p->edit, config);
	return agreed(p);
}

/* Would a trace say the same of both? */
static bool
same_config(struct kvt_plain *p, const struct kvms_op *x, const struct kvms_op *y)
{
	struct kvt_buffer a = { 0 }, b = { 0 };
	bool same;

	kvt_print_store(&a, x);
	kvt_print_store(&b, y);
	p->failed = p->failed || a.failed || b.failed;
	same = strcmp(kvt_buffer_text(&a), kvt_buffer_text(&b)) == 0;
	kvt_buffer_free(&a);
	kvt_buffer_free(&b);
	return same;
}

/* Try a key's default; of CPUs, two are nearly as good as one. */
static bool
plainer_key(struct kvt_plain *p, unsigned key, uint64_t usual)
{
	struct kvms_op config = p->now->config;

	config.arg[key] = usual;
	if (try_config(p, &config))
		return true;
	if (strcmp(kvms_store_row()->args[key].name, "ncpu") != 0 || p->now->config.arg[key] <= 2)
		return false;
	config.arg[key] = 2;
	return try_config(p, &config);
}

static bool
plainer_config(struct kvt_plain *p)
{
	const struct kvms_row *row = kvms_store_row();
	struct kvms_op usual;
	bool any = false;

	kvms_op_init(&usual, row);
	if (same_config(p, &p->now->config, &usual))
		return false;
	if (try_config(p, &usual))
		return true;
	for (unsigned i = 0; i < row->args_count && !p->failed; i++)
		if (!kvms_type_is_list(row->args[i].type) && p->now->config.arg[i] != usual.arg[i])
			any |= plainer_key(p, i, usual.arg[i]);
	return any;
}

/* ---- All ------------------------------------------------------------------------------------------------------ */

/* What the kernel was asked stays, where it cannot be asked again. */
static bool
may_change(const struct kvt_plain *p, size_t step)
{
	return step < p->now->count && !(p->keep_recorded && p->now->at[step].differs);
}

bool
kvt_plainer(struct kvt_plain *p)
{
	static const uint64_t gaps[] = { TOP, GIANT, 2 * HUGE, PAGE };
	bool any = false;

	if (p->now->count > STEPS_MAX)
		return false;
	any |= plainer_config(p);
	for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++) {
		any |= slide(p, KVT_SPACE_VIRTUAL, gaps[i]);
		any |= slide(p, KVT_SPACE_PHYSICAL, gaps[i]);
	}
	for (size_t i = p->now->count; i-- > 0;)
		for (unsigned a = 0; may_change(p, i) && a < p->now->at[i].row->args_count; a++)
			any |= plainer_argument(p, i, a);
	any |= squeeze(p);
	if (p->now->count <= STRUCTURE_MAX) {
		any |= fewer_moves(p);
		any |= fewer_objects(p);
		any |= fewer_cuts(p);
	}
	return any;
}

void
kvt_plain_free(struct kvt_plain *p)
{
	kvt_script_free(&p->edit);
	kvt_words_free(&p->list);
	free(p->drop);
	p->drop = NULL;
	free(p->values);
	p->values = NULL;
}
