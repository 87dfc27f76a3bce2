#include "trace/gen.h"

#include "trace/text.h"
#include "trace/value.h"
#include "trace/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(0x1000)
#define HUGE UINT64_C(0x200000)
#define GIANT UINT64_C(0x40000000)
#define LIVE_MAX 40u /* ids of one kind; above it, operations that end such ids are drawn */
#define STUCK 100u   /* steps without an ok: what is too much cannot be ended, because something else holds it ... */
#define EASED 1000u  /* ... and so for so many steps any operation is drawn */
#define TRIES 24u    /* candidates looked at for one step */
#define PATIENCE 4u  /* of one operation; of one that is rarely ok, PATIENCE_RARE */
#define PATIENCE_RARE 16u
#define OK_PERCENT 75u                /* steps for which an ok is wanted */
#define SPAN_MAX (UINT64_C(64) << 20) /* bytes of physical memory one operation may name */
#define WEIGHT_MAX 64u
#define IDS_DRAWN 5u
#define FOCUS_PERCENT 80u /* steps that a profile keeps to its own operations */
#define SELDOM_PERCENT 10u
#define COVER_PERCENT 60u /* steps towards outcomes that have not come, if those are wanted */
#define PRESSURE_STEPS 1024u
#define PRESSURE_PERCENT 40u
#define MOODS 32u /* what objects have in common, as small numbers */

/* Where a number may come from. */
enum pool {
	POOL_BOUNDARY, /* 0, ends of things, the canonical hole, 2^64-1 */
	POOL_TINY,     /* 0 .. 4 */
	POOL_POWER,    /* 1, 2, 4, 8 */
	POOL_BYTES,    /* some bytes */
	POOL_PAGES,    /* some pages */
	POOL_HUGE,     /* some 2 MiB, and sometimes a few pages more */
	POOL_RAM,      /* a page of memory, mostly a low one */
	POOL_FRAME,    /* the page of a live handle */
	POOL_RAM_END,  /* a high one */
	POOL_DEVICE,   /* beyond memory */
	POOL_MMIO,     /* in the first window of devices */
	POOL_VMALLOC,  /* in the areas' ranges */
	POOL_BOOT,     /* in the kernel half, before them */
	POOL_LINEAR,   /* a live frame, through the direct map */
	POOL_USER,     /* in the user half */
	POOL_CURSOR,   /* where a live cursor works */
	POOL_INSIDE,   /* a page of what an id argument covers */
	POOL_BYTE_INSIDE,
	POOL_EDGE,   /* its start or end */
	POOL_OFFSET, /* a page offset into it */
	POOL_AFTER,  /* some pages behind the number before */
	POOL_AFTER_HUGE,
	POOL_WORD, /* any 64 bits */
	POOLS
};

/*
 * A live id, and the addresses it stands for, as far as fields told them.
 * "born" stands for how it was made, "last" for what it was used for lately:
 * a list that was checked out, a link, a mutable cursor are told apart so.
 */
struct object {
	uint64_t id;
	uint64_t start, end;
	uint8_t born, last;
};

struct objects {
	struct object *at;
	size_t count, capacity;
	uint64_t ended; /* the id that ended last */
};

/* What has been learnt about an operation. */
struct lesson {
	uint8_t weight[KVMS_ARGS_MAX][POOLS];
	uint8_t born[KVMS_ARGS_MAX][MOODS]; /* objects that have served as this argument */
	uint8_t last[KVMS_ARGS_MAX][MOODS];
	bool ends[KVMS_ID_KINDS]; /* it has ended ids of that kind */
	uint32_t *seen;           /* by outcome */
};

struct candidate {
	const struct kvms_row *row;
	struct kvms_op op;
	struct kvt_words list;
	uint8_t pool[KVMS_ARGS_MAX];
	struct object used[KVMS_ARGS_MAX]; /* by id arguments; id 0 = none of the live ones */
	struct object about;               /* what the first id argument covers */
	unsigned name;                     /* of the outcome */
};

struct kvt_generator {
	struct kvms *s;
	uint64_t random;
	struct objects live[KVMS_ID_KINDS];
	const struct kvms_row *probe[KVMS_ID_KINDS]; /* tells whether an id is live */
	struct lesson *lessons;                      /* by code */
	struct candidate now, best;
	struct kvms_outcome out;
	const struct kvms_row **focus; /* the profile's operations */
	unsigned focus_count;
	const struct kvt_profile *profile;
	uint64_t seed;
	struct kvt_workload *workload; /* NULL: the profile is none */
	bool by_workload;              /* the last operation is the workload's */
	struct kvt_generator_options options;
	unsigned client; /* of the last operation */
	uint64_t steps, oks;
	uint64_t last_ok; /* step */
	uint64_t eased;   /* up to this step no kind counts as crowded */
	uint64_t max_paddr, ncpu, half; /* half: first address of the kernel half */
	uint64_t linear;                /* first address of the direct map */
	const uint64_t *ranges;
	uint64_t ranges_count;
};

/* ---- Random numbers ---------------------------------------------------------------- */

static uint64_t
draw(struct kvt_generator *g)
{
	uint64_t x = g->random += 0x9E3779B97F4A7C15u;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	x = (x ^ x >> 27) * 0x94D049BB133111EBu;
	return x ^ x >> 31;
}

static uint64_t
below(struct kvt_generator *g, uint64_t n)
{
	return (draw(g) >> 11) % n;
}

static bool
chance(struct kvt_generator *g, unsigned percent)
{
	return below(g, 100) < percent;
}

/* ---- Live ids ------------------------------------------------------------------------- */

static bool
object_add(struct objects *o, const struct object *object)
{
	if (o->count == o->capacity) {
		size_t capacity = o->capacity != 0 ? o->capacity * 2 : 64;
		struct object *at = realloc(o->at, capacity * sizeof *at);

		if (at == NULL)
			return false;
		o->at = at;
		o->capacity = capacity;
	}
	o->at[o->count++] = *object;
	return true;
}

static struct object *
object_find(struct objects *o, uint64_t id)
{
	for (size_t i = 0; i < o->count; i++)
		if (o->at[i].id == id)
			return &o->at[i];
	return NULL;
}

static void
object_end(struct objects *o, struct object *object)
{
	o->ended = object->id;
	memmove(object, object + 1, (size_t)(o->at + o->count - object - 1) * sizeof *object);
	o->count--;
}

/* An operation whose first argument is an id of "kind": its first refusal tells whether there is such an object. */
static const struct kvms_row *
find_probe(enum kvms_kind kind)
{
	const struct kvms_row *best = NULL;

	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);

		if (row == NULL || row->args_count == 0 || row->args[0].type != KVMS_ID || row->args[0].kind != kind)
			continue;
		if (best == NULL || row->args_count < best->args_count)
			best = row;
	}
	return best;
}

static bool
is_live(struct kvt_generator *g, enum kvms_kind kind, uint64_t id)
{
	const struct kvms_row *row = g->probe[kind];
	struct kvms_op op;

	if (row == NULL)
		return true;
	kvms_op_init(&op, row);
	op.arg[0] = id;
	return kvms_dry_run(g->s, &op, &g->out) != KVMS_DONE || g->out.name != kvms_row_outcome(row, 1);
}

/* ---- Numbers ---------------------------------------------------------------------------- */

static uint64_t
draw_boundary(struct kvt_generator *g)
{
	const uint64_t values[] = { 0,
				    1,
				    PAGE - 1,
				    PAGE,
				    PAGE + 1,
				    HUGE - PAGE,
				    HUGE,
				    HUGE + PAGE,
				    GIANT - PAGE,
				    GIANT,
				    GIANT + PAGE,
				    GIANT * 512,
				    g->max_paddr - PAGE,
				    g->max_paddr,
				    g->max_paddr + PAGE,
				    UINT64_C(1) << 46,
				    UINT64_C(0x7ffffffff000),
				    UINT64_C(0x800000000000),
				    UINT64_C(1) << 63,
				    (UINT64_C(1) << 63) - 1,
				    (UINT64_C(1) << 63) - PAGE,
				    g->half - PAGE,
				    g->half,
				    g->ranges[0] - PAGE,
				    g->ranges[0],
				    g->ranges[1] - PAGE,
				    g->ranges[1],
				    UINT64_C(0xffffffffffff0000),
				    UINT64_MAX - PAGE + 1,
				    UINT64_MAX };

	return values[below(g, sizeof values / sizeof values[0])];
}

static uint64_t
draw_vmalloc(struct kvt_generator *g)
{
	uint64_t range = below(g, g->ranges_count), start = g->ranges[2 * range], end = g->ranges[2 * range + 1];
	uint64_t step = chance(g, 40) ? HUGE : PAGE, offset = below(g, chance(g, 50) ? 12 : 4096) * step;

	if (offset >= end - start)
		offset %= end - start;
	return chance(g, 60) ? start + offset : end - offset;
}

/* A place among live objects of a kind; one that covers nothing gives "otherwise". */
static uint64_t
draw_live(struct kvt_generator *g, enum kvms_kind kind, uint64_t otherwise)
{
	const struct objects *o = &g->live[kind];
	const struct object *object = o->count > 0 ? &o->at[below(g, o->count)] : NULL;

	if (object == NULL || object->end <= object->start)
		return otherwise;
	return object->start + below(g, (object->end - object->start + PAGE - 1) / PAGE) * PAGE;
}

/* Bytes into a page: mostly none, or a multiple of 8. */
static uint64_t
draw_into_page(struct kvt_generator *g)
{
	return chance(g, 40) ? 0 : chance(g, 80) ? below(g, 64) * 8 : below(g, PAGE);
}

/* A size, or one page less, or one more. */
static uint64_t
draw_about(struct kvt_generator *g, uint64_t size)
{
	return chance(g, 80) ? size : chance(g, 50) ? size - PAGE : size + PAGE;
}

/*
 * A number from a pool.  Drawn sizes are small, so that states stay small.
 * One draw an expression: the order of operands is the compiler's choice.
 */
static uint64_t
draw_number(struct kvt_generator *g, enum pool pool, const struct object *about, uint64_t before)
{
	uint64_t size = about->end > about->start ? about->end - about->start : PAGE;
	uint64_t pages = size / PAGE > 0 ? size / PAGE : 1;
	uint64_t more = chance(g, 40) ? below(g, 8) * PAGE : 0;
	uint64_t into;

	switch (pool) {
	case POOL_BOUNDARY:
		return draw_boundary(g);
	case POOL_TINY:
		return below(g, 5);
	case POOL_POWER:
		return UINT64_C(1) << below(g, 4);
	case POOL_BYTES:
		return below(g, 1u << below(g, 14));
	case POOL_PAGES:
		return below(g, 9) * PAGE;
	case POOL_HUGE:
		into = (1 + below(g, 3)) * HUGE + more;
		return draw_about(g, into);
	case POOL_RAM:
		return below(g, chance(g, 50) ? 64 : g->max_paddr / PAGE) * PAGE;
	case POOL_FRAME:
		return draw_live(g,
				 chance(g, 70)   ? KVMS_ID_FRAME
				 : chance(g, 50) ? KVMS_ID_UNIQUE
						 : KVMS_ID_SEGMENT,
				 0);
	case POOL_RAM_END:
		return g->max_paddr - (1 + below(g, 8)) * PAGE;
	case POOL_DEVICE:
		return (UINT64_C(1) << 33) + below(g, 4) * HUGE + more;
	case POOL_MMIO:
		return UINT64_C(0xfec00000) + below(g, 512) * 0x40 + more;
	case POOL_VMALLOC:
		return draw_vmalloc(g);
	case POOL_BOOT:
		return g->half + below(g, 12) * HUGE + more;
	case POOL_LINEAR:
		into = draw_into_page(g);
		return g->linear + draw_live(g, chance(g, 60) ? KVMS_ID_FRAME : KVMS_ID_SEGMENT, PAGE) + into;
	case POOL_CURSOR:
		into = draw_into_page(g);
		return draw_live(g, KVMS_ID_CURSOR, PAGE) + into;
	case POOL_USER:
		return (1 + below(g, 32)) * PAGE + more / PAGE / 3 * HUGE;
	case POOL_INSIDE:
		return about->start + below(g, pages) * PAGE;
	case POOL_BYTE_INSIDE:
		return about->start + below(g, size);
	case POOL_EDGE:
		return chance(g, 40) ? about->start : about->end;
	case POOL_OFFSET:
		return (chance(g, 70) ? below(g, pages + 1) : below(g, pages < 4 ? pages : 4)) * PAGE;
	case POOL_AFTER:
		return before + below(g, 9) * PAGE;
	case POOL_AFTER_HUGE:
		into = (1 + below(g, 3)) * HUGE;
		return before + draw_about(g, into);
	case POOL_WORD:
	case POOLS:
		break;
	}
	return chance(g, 50) ? draw(g) : below(g, 100);
}

/* A pool for an argument: mostly by what has served it, sometimes any. */
static enum pool
draw_pool(struct kvt_generator *g, const uint8_t *weight)
{
	uint64_t total = 0, at;
	unsigned pool = 0;

	if (chance(g, 12))
		return (enum pool)below(g, POOLS);
	for (unsigned i = 0; i < POOLS; i++)
		total += weight[i];
	for (at = below(g, total); at >= weight[pool]; pool++)
		at -= weight[pool];
	return (enum pool)pool;
}

/* ---- Other values --------------------------------------------------------------------------- */

static uint64_t
draw_word(struct kvt_generator *g, enum kvms_type type)
{
	uint64_t value = 0;
	unsigned count = 0;

	while (kvms_word_at(type, count, &value) != NULL)
		count++;
	(void)kvms_word_at(type, (unsigned)below(g, count), &value);
	return value;
}

static uint64_t
draw_prop(struct kvt_generator *g)
{
	uint64_t prop = KVMS_PROP_R, cache;

	if (chance(g, 70))
		prop |= KVMS_PROP_W;
	if (chance(g, 20))
		prop |= KVMS_PROP_X;
	if (chance(g, 10))
		prop = below(g, 32);
	if (chance(g, 20))
		prop |= KVMS_PROP_A | KVMS_PROP_D;
	if (chance(g, 25))
		prop |= KVMS_PROP_USER;
	if (chance(g, 20))
		prop |= KVMS_PROP_GLOBAL;
	if (chance(g, 5))
		prop |= KVMS_PROP_AVAIL2;
	cache = chance(g, 80) ? 4 : draw_word(g, KVMS_CACHE);
	return prop | cache << KVMS_PROP_CACHE_SHIFT;
}

/* Of the objects of a kind: the one that covers what "about" covers, if there is one. */
static const struct object *
find_twin(const struct objects *o, const struct object *about)
{
	for (size_t i = 0; i < o->count; i++)
		if (about->end > about->start && o->at[i].start == about->start && o->at[i].end == about->end)
			return &o->at[i];
	return NULL;
}

/* A live object: of a few the one whose like has served best, sometimes any. */
static const struct object *
draw_object(struct kvt_generator *g, const struct objects *o, const struct lesson *lesson, unsigned arg)
{
	const struct object *best = NULL;
	unsigned best_score = 0, rounds = chance(g, 25) ? 1 : 4;

	for (unsigned i = 0; i < rounds; i++) {
		bool young = chance(g, 40);
		size_t at = young ? o->count - 1 - below(g, o->count < 4 ? o->count : 4) : below(g, o->count);
		const struct object *object = &o->at[at];
		unsigned score = 1u + lesson->born[arg][object->born] + lesson->last[arg][object->last];

		if (score > best_score) {
			best = object;
			best_score = score;
		}
	}
	return best;
}

static uint64_t
draw_id(struct kvt_generator *g, struct candidate *c, unsigned arg)
{
	const struct objects *o = &g->live[c->row->args[arg].kind];
	const struct object *object = NULL;

	c->used[arg].id = 0;
	if (o->count == 0 || chance(g, 3)) {
		const uint64_t strange[] = { 0, UINT64_MAX, o->ended, 1 + below(g, 40), o->ended + 1000 };

		return strange[below(g, sizeof strange / sizeof strange[0])];
	}
	if (c->about.id != 0 && chance(g, 30))
		object = find_twin(o, &c->about);
	if (object == NULL)
		object = draw_object(g, o, &g->lessons[c->row->code], arg);
	c->used[arg] = *object;
	if (c->about.id == 0)
		c->about = *object;
	return object->id;
}

static uint64_t
draw_ids(struct kvt_generator *g, struct candidate *c, unsigned arg)
{
	uint64_t count = below(g, chance(g, 90) ? IDS_DRAWN : 2), drawn = 0;
	struct kvt_words *list = &c->list;
	size_t first = list->size;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t id = draw_id(g, c, arg), *at;
		bool again = false;

		for (size_t k = first; k < list->size; k++)
			again = again || list->at[k] == id;
		if ((again && !chance(g, 3)) || (at = kvt_words_add(list, 1)) == NULL)
			continue;
		*at = id;
		drawn++;
	}
	return drawn;
}

static uint64_t
draw_bytes(struct kvt_generator *g, struct kvt_words *list)
{
	uint64_t count = below(g, chance(g, 80) ? 17 : 200);
	size_t words = kvt_list_words(KVMS_BYTES, count);
	uint64_t *at = kvt_words_add(list, words);

	if (at == NULL)
		return 0;
	memset(at, 0, words * sizeof *at);
	for (uint64_t i = 0; i < count; i++)
		((uint8_t *)at)[i] = (uint8_t)draw(g);
	return count;
}

/* ---- Candidates --------------------------------------------------------------------------------- */

/* A value of a type that is neither an id nor a number. */
static uint64_t
draw_other(struct kvt_generator *g, struct candidate *c, unsigned index)
{
	const struct kvms_field *arg = &c->row->args[index];
	uint64_t value;

	if (arg->has_default && chance(g, 35))
		return arg->value;
	switch ((int)arg->type) {
	case KVMS_IDS:
		return draw_ids(g, c, index);
	case KVMS_BYTES:
		return draw_bytes(g, &c->list);
	case KVMS_FLAGS:
		return chance(g, 50) ? UINT64_C(1) << below(g, 5) : below(g, 32);
	case KVMS_PROP:
		return draw_prop(g);
	case KVMS_CPU:
		return chance(g, 95) ? below(g, g->ncpu) : g->ncpu + below(g, 3);
	case KVMS_TABLE:
	case KVMS_TABLE_ALL:
		value = g->live[KVMS_ID_VM_SPACE].count;
		return value == 0 || chance(g, 40) ? 0 : g->live[KVMS_ID_VM_SPACE].at[below(g, value)].id;
	default:
		return kvms_word_at(arg->type, 0, &value) != NULL ? draw_word(g, arg->type) : 0;
	}
}

static bool
is_number(enum kvms_type type)
{
	return type == KVMS_HEX || type == KVMS_DEC;
}

/* Draw the arguments: ids first, because addresses depend on what they cover. */
static void
draw_arguments(struct kvt_generator *g, struct candidate *c, const struct lesson *lesson)
{
	uint64_t before = 0;

	kvms_op_init(&c->op, c->row);
	memset(&c->about, 0, sizeof c->about);
	memset(c->used, 0, sizeof c->used);
	c->list.size = 0;
	for (unsigned i = 0; i < c->row->args_count; i++)
		if (c->row->args[i].type == KVMS_ID)
			c->op.arg[i] = draw_id(g, c, i);
	for (unsigned i = 0; i < c->row->args_count; i++) {
		const struct kvms_field *arg = &c->row->args[i];

		c->pool[i] = POOLS;
		if (arg->type == KVMS_ID)
			continue;
		if (!is_number(arg->type)) {
			c->op.arg[i] = draw_other(g, c, i);
			continue;
		}
		if (arg->has_default && chance(g, 40)) {
			c->op.arg[i] = arg->value;
			continue;
		}
		c->pool[i] = (uint8_t)draw_pool(g, lesson->weight[i]);
		c->op.arg[i] = draw_number(g, (enum pool)c->pool[i], &c->about, before);
		if (chance(g, 4))
			c->op.arg[i] += 1 + below(g, 2 * PAGE);
		before = c->op.arg[i];
	}
	c->op.list = c->list.at;
}

/* Keep an operation from naming gigabytes of memory at once: that would be slow, and the end of all variety. */
static void
limit_span(struct candidate *c)
{
	int from = kvms_arg_index(c->row, "paddr_start"), to = kvms_arg_index(c->row, "paddr_end");
	int pages = kvms_arg_index(c->row, "pages");

	if (from < 0 && (c->row->args_count == 0 || c->row->args[0].type != KVMS_ID)) {
		from = kvms_arg_index(c->row, "start");
		to = kvms_arg_index(c->row, "end");
	}
	if (from >= 0 && to >= 0 && c->op.arg[to] > c->op.arg[from] && c->op.arg[to] - c->op.arg[from] > SPAN_MAX)
		c->op.arg[to] = c->op.arg[from] + (c->op.arg[to] & (4 * HUGE - 1));
	if (pages >= 0 && c->op.arg[pages] > 64 && c->op.arg[pages] < UINT64_C(1) << 40)
		c->op.arg[pages] %= 64;
}

/* What these take never comes back. */
static const char seldom[] = "boot_reserve";

/* True if a name begins with one of some words with blanks between. */
static bool
begins_with_one_of(const char *name, const char *words)
{
	while (*words != '\0') {
		size_t size = strcspn(words, " ");

		if (strncmp(name, words, size) == 0)
			return true;
		words += size + strspn(words + size, " ");
	}
	return false;
}

/* Does the outcome of an operation take more steps than anybody runs?  docs/gaps.md says why. */
static bool
is_beyond_reach(const struct kvms_row *row, unsigned name)
{
	return strncmp(row->name, "list_", 5) == 0 && strcmp(kvms_outcome_name(name), "list_ids_exhausted") == 0;
}

/* Outcomes of an operation that have not come. */
static unsigned
unmet(const struct kvt_generator *g, const struct kvms_row *row)
{
	unsigned count = 0, name;

	for (unsigned k = 0; (name = kvms_row_outcome(row, k)) != UINT_MAX; k++)
		count += g->lessons[row->code].seen[name] == 0 && !is_beyond_reach(row, name);
	return count;
}

/* One of the operations with outcomes that have not come; NULL if all have. */
static const struct kvms_row *
draw_unmet_row(struct kvt_generator *g)
{
	unsigned max = kvms_op_max(), first = (unsigned)below(g, max);

	for (unsigned i = 0; i < max; i++) {
		const struct kvms_row *row = kvms_op_row(1 + (first + i) % max);

		if (row != NULL && unmet(g, row) > 0)
			return row;
	}
	return NULL;
}

/* Any operation, mostly one of the profile's. */
static const struct kvms_row *
draw_any_row(struct kvt_generator *g)
{
	const struct kvms_row *row;

	if (g->focus_count > 0 && chance(g, FOCUS_PERCENT))
		return g->focus[below(g, g->focus_count)];
	if (g->options.cover && chance(g, COVER_PERCENT) && (row = draw_unmet_row(g)) != NULL)
		return row;
	do
		row = kvms_op_row(1 + (unsigned)below(g, kvms_op_max()));
	while (row == NULL || (begins_with_one_of(row->name, seldom) && !chance(g, SELDOM_PERCENT)));
	return row;
}

/*
 * Where all outcomes are wanted, memory runs out for a while now and then: the
 * name of the workload for such a time, or NULL.
 */
static const char *
pressure(const struct kvt_generator *g)
{
	uint64_t phase = g->steps / PRESSURE_STEPS % 4;

	if (!g->options.cover || g->profile->ops == NULL || phase < 2)
		return NULL;
	return phase == 2 ? "pressure" : "relief";
}

static bool
is_workloads_turn(struct kvt_generator *g)
{
	if (g->workload == NULL)
		return false;
	if (g->profile->ops == NULL)
		return chance(g, FOCUS_PERCENT);
	if (pressure(g) == NULL)
		return false;
	kvt_workload_turn_to(g->workload, pressure(g));
	return chance(g, PRESSURE_PERCENT);
}

/* An operation: one that ends ids if there are too many of a kind, else any. */
static const struct kvms_row *
draw_row(struct kvt_generator *g)
{
	unsigned max = kvms_op_max(), crowded = KVMS_ID_NONE;
	const struct kvms_row *row;

	if (g->steps - g->last_ok > STUCK)
		g->eased = g->steps + EASED;
	for (unsigned kind = 1; kind < KVMS_ID_KINDS; kind++)
		if (g->live[kind].count > LIVE_MAX && pressure(g) == NULL && g->steps >= g->eased)
			crowded = kind;
	for (unsigned tries = 0; crowded != KVMS_ID_NONE && tries < 4 * max; tries++) {
		row = draw_any_row(g);
		if (g->lessons[row->code].ends[crowded])
			return row;
	}
	return draw_any_row(g);
}

/* How many candidates an operation gets: more if it is ok much less often than others. */
static unsigned
patience(const struct kvt_generator *g, const struct kvms_row *row)
{
	uint64_t share = (uint64_t)g->lessons[row->code].seen[0] * kvms_op_max();

	return share < g->oks / 2 ? PATIENCE_RARE : PATIENCE;
}

static void
draw_candidate(struct kvt_generator *g, const struct kvms_row *row)
{
	struct candidate *c = &g->now;

	c->row = row;
	draw_arguments(g, c, &g->lessons[row->code]);
	limit_span(c);
	c->name = UINT_MAX;
	if (kvms_dry_run(g->s, &c->op, &g->out) == KVMS_DONE)
		c->name = g->out.name;
}

/* Is the candidate a better one than the best so far?  Either ok, or an outcome of the operation that is rare. */
static bool
is_better(const struct kvt_generator *g, bool want_ok)
{
	const struct candidate *now = &g->now, *best = &g->best;

	if (now->name == UINT_MAX || best->row == NULL)
		return best->row == NULL;
	if (want_ok || (now->name == 0) != (best->name == 0))
		return (now->name == 0) == want_ok && (best->name == 0) != want_ok;
	return g->lessons[now->row->code].seen[now->name] < g->lessons[best->row->code].seen[best->name];
}

/* The next operation of the workload, as if it had been drawn. */
static bool
take_from_workload(struct kvt_generator *g)
{
	const struct kvms_op *op = kvt_workload_next(g->workload, &g->client);
	struct candidate *c = &g->best;

	if (op == NULL)
		return false;
	c->row = kvms_op_row(op->code);
	c->op = *op;
	memset(c->pool, POOLS, sizeof c->pool);
	memset(c->used, 0, sizeof c->used);
	memset(&c->about, 0, sizeof c->about);
	g->by_workload = true;
	return true;
}

const struct kvms_op *
kvt_generator_next(struct kvt_generator *g)
{
	const struct kvms_row *row = NULL;
	unsigned left = 0;
	bool want_ok;

	g->by_workload = false;
	if (is_workloads_turn(g) && take_from_workload(g))
		return &g->best.op;
	g->client = g->options.clients > 1 ? (unsigned)below(g, g->options.clients) : 0;
	want_ok = chance(g, 100 - (g->options.has_illegal ? g->options.illegal : 100 - OK_PERCENT));
	g->best.row = NULL;
	for (unsigned i = 0; i < TRIES; i++, left--) {
		if (left == 0) {
			row = draw_row(g);
			left = patience(g, row);
		}
		draw_candidate(g, row);
		if (is_better(g, want_ok)) {
			struct candidate swap = g->best;

			g->best = g->now;
			g->now = swap;
		}
		if (want_ok && g->best.name == 0)
			break;
	}
	return &g->best.op;
}

/* ---- Learning ---------------------------------------------------------------------------------------- */

/* A field's value among arguments or results, by name. */
static bool
named_argument(const struct candidate *c, const char *name, uint64_t *value)
{
	int i = kvms_arg_index(c->row, name);

	if (i >= 0)
		*value = c->op.arg[i];
	return i >= 0;
}

static bool
named_result(const struct candidate *c, const struct kvms_outcome *out, const char *name, uint64_t *value)
{
	int i = kvms_result_index(c->row, name);

	if (i < 0 || (out->present >> i & 1) == 0)
		return false;
	*value = out->field[i];
	return true;
}

/* What a new object covers, from what the fields around it tell. */
static void
learn_cover(const struct candidate *c, const struct kvms_outcome *out, const struct kvms_field *field,
	    struct object *object)
{
	bool is_page = field->kind == KVMS_ID_FRAME || field->kind == KVMS_ID_UNIQUE;
	uint64_t start, end, size;

	object->start = c->about.start;
	object->end = c->about.end;
	if (is_page && (named_result(c, out, "paddr", &start) || named_argument(c, "paddr", &start))) {
		object->start = start;
		object->end = start + PAGE;
	} else if (named_result(c, out, "start", &start) && named_result(c, out, "end", &end)) {
		object->start = start;
		object->end = end;
	} else if (named_argument(c, "start", &start) && named_argument(c, "end", &end)) {
		uint64_t base = c->about.id != 0 && field->kind != KVMS_ID_CURSOR ? c->about.start : 0;

		object->start = base + start;
		object->end = base + end;
	} else if (named_argument(c, "va", &start) && named_argument(c, "len", &size)) {
		object->start = start;
		object->end = start + size;
	} else if (strcmp(field->name, "left") == 0 && named_argument(c, "offset", &size)) {
		object->end = object->start + size;
	} else if (strcmp(field->name, "right") == 0 && named_argument(c, "offset", &size)) {
		object->start += size;
	}
}

/* A small number for how an object was made: by which operation, with which words for arguments. */
static uint8_t
birth_of(const struct candidate *c)
{
	uint64_t sum = c->row->code, ignored;

	for (unsigned i = 0; i < c->row->args_count; i++)
		if (kvms_word_at(c->row->args[i].type, 0, &ignored) != NULL)
			sum = sum * 31 + c->op.arg[i] + 1;
	return (uint8_t)((sum ^ sum / MOODS) % MOODS);
}

static void
learn_created(struct kvt_generator *g, const struct kvms_outcome *out)
{
	const struct candidate *c = &g->best;

	for (unsigned i = 0; i < c->row->results_count; i++) {
		const struct kvms_field *field = &c->row->results[i];
		struct object object = { out->field[i], 0, 0, birth_of(c), 0 };

		if (!field->created || (out->present >> i & 1) == 0)
			continue;
		learn_cover(c, out, field, &object);
		(void)object_add(&g->live[field->kind], &object);
	}
}

/* Does an id given to the operation still live? */
static void
learn_ended(struct kvt_generator *g, enum kvms_kind kind, uint64_t id)
{
	struct object *object = object_find(&g->live[kind], id);

	if (object == NULL || is_live(g, kind, id))
		return;
	object_end(&g->live[kind], object);
	g->lessons[g->best.row->code].ends[kind] = true;
}

/* A cursor or handle may have moved, a segment lost its first page: take the new place where it is told. */
static void
learn_moved(struct kvt_generator *g, const struct kvms_outcome *out)
{
	const struct candidate *c = &g->best;
	struct object *object;
	uint64_t paddr;

	if (c->row->args_count == 0 || c->row->args[0].type != KVMS_ID || c->row->args[0].kind != KVMS_ID_SEGMENT)
		return;
	object = object_find(&g->live[KVMS_ID_SEGMENT], c->op.arg[0]);
	if (object != NULL && named_result(c, out, "paddr", &paddr) && paddr == object->start)
		object->start += PAGE;
}

static void
weight_add(uint8_t *weight)
{
	if (*weight < WEIGHT_MAX)
		(*weight)++;
}

/* Which pool and what sort of object has served as an argument. */
static void
learn_served(struct kvt_generator *g, unsigned i)
{
	const struct candidate *c = &g->best;
	struct lesson *lesson = &g->lessons[c->row->code];
	const struct kvms_field *arg = &c->row->args[i];
	struct object *object;

	if (is_number(arg->type) && c->pool[i] < POOLS)
		weight_add(&lesson->weight[i][c->pool[i]]);
	if ((arg->type != KVMS_ID && arg->type != KVMS_IDS) || c->used[i].id == 0)
		return;
	weight_add(&lesson->born[i][c->used[i].born]);
	weight_add(&lesson->last[i][c->used[i].last]);
	object = object_find(&g->live[arg->kind], c->used[i].id);
	if (object != NULL)
		object->last = (uint8_t)((c->row->code ^ c->row->code / MOODS) % MOODS);
}

void
kvt_generator_answer(struct kvt_generator *g, const struct kvms_outcome *out)
{
	const struct candidate *c = &g->best;
	struct lesson *lesson = &g->lessons[c->row->code];

	g->steps++;
	if (out->name <= kvms_outcome_max())
		lesson->seen[out->name]++;
	if (g->workload != NULL && out->name == 0 && strcmp(c->row->name, "cpu_set") == 0)
		kvt_workload_cpu(g->workload, c->op.arg[0]);
	if (g->by_workload)
		kvt_workload_answer(g->workload, out);
	if (out->name != 0)
		return;
	g->oks++;
	g->last_ok = g->steps;
	for (unsigned i = 0; i < c->row->args_count; i++)
		learn_served(g, i);
	learn_created(g, out);
	learn_moved(g, out);
	for (unsigned i = 0; i < c->row->args_count; i++) {
		const struct kvms_field *arg = &c->row->args[i];
		uint64_t count;
		const uint64_t *ids = arg->type == KVMS_IDS ? kvms_op_list(&c->op, c->row, i, &count) : NULL;

		if (arg->type == KVMS_ID)
			learn_ended(g, arg->kind, c->op.arg[i]);
		for (uint64_t k = 0; ids != NULL && k < count; k++)
			learn_ended(g, arg->kind, ids[k]);
	}
}

const struct kvms_op *
kvt_generator_request(struct kvt_generator *g)
{
	struct candidate *c = &g->now;

	do
		c->row = kvms_request_row(1 + (unsigned)below(g, kvms_request_max()));
	while (c->row == NULL);
	for (unsigned kind = 1; kind < KVMS_ID_KINDS; kind++)
		if (g->live[kind].count > 0 && chance(g, 50))
			c->about = g->live[kind].at[below(g, g->live[kind].count)];
	kvms_op_init(&c->op, c->row);
	c->list.size = 0;
	for (unsigned i = 0; i < c->row->args_count; i++) {
		static const enum pool pools[] = { POOL_BOUNDARY, POOL_RAM,  POOL_INSIDE, POOL_INSIDE,
						   POOL_VMALLOC,  POOL_BOOT, POOL_USER,   POOL_BYTE_INSIDE };
		const struct kvms_field *arg = &c->row->args[i];
		enum pool pool = pools[below(g, sizeof pools / sizeof pools[0])];

		if (is_number(arg->type))
			c->op.arg[i] = draw_number(g, pool, &c->about, 0);
		else
			c->op.arg[i] = draw_other(g, c, i);
	}
	c->op.list = c->list.at;
	return &c->op;
}

/*
 * What to begin with, until outcomes have taught better: a field's name means
 * one thing in every row.
 */
static const struct prior {
	const char *name;
	enum pool pool;
	uint8_t weight;
} priors[] = {
	{ "paddr", POOL_RAM, 30 },
	{ "paddr", POOL_RAM_END, 3 },
	{ "paddr", POOL_FRAME, 20 },
	{ "paddr", POOL_MMIO, 3 },
	{ "paddr_start", POOL_DEVICE, 20 },
	{ "paddr_start", POOL_RAM, 10 },
	{ "paddr_end", POOL_AFTER, 30 },
	{ "paddr_end", POOL_AFTER_HUGE, 20 },
	{ "start", POOL_VMALLOC, 15 },
	{ "start", POOL_INSIDE, 30 },
	{ "start", POOL_RAM, 15 },
	{ "start", POOL_BOOT, 10 },
	{ "start", POOL_USER, 10 },
	{ "start", POOL_OFFSET, 5 },
	{ "start", POOL_MMIO, 5 },
	{ "start", POOL_CURSOR, 10 },
	{ "va", POOL_CURSOR, 20 },
	{ "va", POOL_LINEAR, 10 },
	{ "end", POOL_AFTER, 40 },
	{ "end", POOL_AFTER_HUGE, 5 },
	{ "end", POOL_EDGE, 15 },
	{ "va", POOL_INSIDE, 40 },
	{ "va", POOL_BOOT, 10 },
	{ "va", POOL_USER, 10 },
	{ "va", POOL_BYTE_INSIDE, 15 },
	{ "area_size", POOL_PAGES, 40 },
	{ "area_size", POOL_HUGE, 15 },
	{ "map_offset", POOL_PAGES, 20 },
	{ "len", POOL_PAGES, 15 },
	{ "len", POOL_BYTES, 15 },
	{ "offset", POOL_OFFSET, 40 },
	{ "max_level", POOL_TINY, 30 },
	{ "width", POOL_POWER, 40 },
	{ "index", POOL_TINY, 40 },
	{ "pages", POOL_TINY, 40 },
	{ "max", POOL_BYTES, 20 },
	{ "meta", POOL_BYTES, 40 },
	{ "value", POOL_WORD, 20 },
};

static void
start_weights(struct lesson *lesson, const struct kvms_row *row)
{
	memset(lesson->weight, 1, sizeof lesson->weight);
	memset(lesson->born, 0, sizeof lesson->born);
	memset(lesson->last, 0, sizeof lesson->last);
	for (unsigned i = 0; row != NULL && i < row->args_count; i++)
		for (size_t k = 0; k < sizeof priors / sizeof priors[0]; k++)
			if (strcmp(row->args[i].name, priors[k].name) == 0)
				lesson->weight[i][priors[k].pool] = priors[k].weight;
}

/* ---- Profiles ------------------------------------------------------------------------------------------------ */

/*
 * The words name groups of operations, as their names begin.  Each profile has
 * in it what its objects are made of, so that it can live on its own.
 */
static const struct kvt_profile profiles[] = {
	{ "all", "", "every operation alike" },
	{ "frames", "frame_ segment_ unique_", "claims, handles, segments, counts that saturate" },
	{ "lists", "list_ unique_", "lists of frames, and their cursors" },
	{ "kernel", "kvirt_ boot_map boot_protect frame_ segment_alloc",
	  "areas, parts of areas, boot mappings, huge pages" },
	{ "spaces", "vm_space_ cursor_ cpu_set frame_alloc frame_clone",
	  "spaces, and cursors that get in each other's way" },
	{ "tlbs", "flush_ ipi_ tlb_ access cpu_set vm_space_ cursor_ frame_alloc kvirt_flush kvirt_map",
	  "several CPUs: accesses, flushes, what queues keep alive" },
	{ "bytes", "reader_ writer_ io_ segment_ vm_space_ cursor_open_mut cursor_map frame_alloc",
	  "readers and writers over user and kernel memory" },
	{ "devices", "iomem_ cursor_map_iomem cursor_find_iomem cursor_open vm_space_ cursor_unmap kvirt_",
	  "I/O memory in kernel areas and in spaces" },
	{ "stacks", NULL, "kernel stacks, with guard pages, that come and go" },
	{ "drivers", NULL, "device registers and windows, buffers, I/O memory" },
	{ "dma", NULL, "DMA rings: areas and segments that are cut" },
	{ "huge", NULL, "large kernel pages, changed and unmapped in parts" },
	{ "fork", NULL, "spaces whose pages are write-protected and shared" },
	{ "faults", NULL, "page faults: pages mapped, copied on write, protected" },
	{ "munmap", NULL, "unmaps of single pages and of 2 MiB, and what TLBs keep" },
};

const struct kvt_profile *
kvt_profile_at(unsigned index)
{
	return index < sizeof profiles / sizeof profiles[0] ? &profiles[index] : NULL;
}

const struct kvt_profile *
kvt_profile_find(const char *name)
{
	for (unsigned i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
		if (strcmp(profiles[i].name, name) == 0)
			return &profiles[i];
	return NULL;
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

static bool
lessons_new(struct kvt_generator *g)
{
	g->lessons = calloc(kvms_op_max() + 1, sizeof *g->lessons);
	for (unsigned code = 0; g->lessons != NULL && code <= kvms_op_max(); code++) {
		start_weights(&g->lessons[code], kvms_op_row(code));
		g->lessons[code].seen = calloc(kvms_outcome_max() + 1, sizeof *g->lessons[code].seen);
		if (g->lessons[code].seen == NULL)
			return false;
	}
	return g->lessons != NULL;
}

/* First address of the kernel half: the upper half of what the tables translate. */
static uint64_t
kernel_half(const char *arch)
{
	unsigned width = arch == NULL ? 48 : strstr(arch, "la57") != NULL ? 57 : strstr(arch, "sv39") != NULL ? 39 : 48;

	return ~((UINT64_C(1) << (width - 1)) - 1);
}

/* First address of the direct map: where the kernel half begins, or the CPU's own window. */
static uint64_t
direct_map(const char *arch, uint64_t half)
{
	return arch != NULL && strcmp(arch, "loongarch64") == 0 ? UINT64_C(0x9000000000000000) : half;
}

static bool
focus_new(struct kvt_generator *g, const struct kvt_profile *profile)
{
	g->focus = calloc(kvms_op_max(), sizeof *g->focus);
	for (unsigned code = 1; g->focus != NULL && code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL && profile->ops != NULL &&
		    begins_with_one_of(kvms_op_row(code)->name, profile->ops))
			g->focus[g->focus_count++] = kvms_op_row(code);
	return g->focus != NULL;
}

struct kvt_generator *
kvt_generator_new(uint64_t seed, const struct kvt_profile *profile, struct kvms *s)
{
	struct kvt_generator *g = calloc(1, sizeof *g);
	const struct kvms_row *row = kvms_store_row();
	const struct kvms_op *config = kvms_config(s);
	const char *arch;

	if (g == NULL)
		return NULL;
	g->s = s;
	g->random = g->seed = seed;
	g->profile = profile != NULL ? profile : kvt_profile_at(0);
	g->max_paddr = config->arg[kvms_arg_index(row, "max_paddr")];
	g->ncpu = config->arg[kvms_arg_index(row, "ncpu")];
	arch = kvms_word(KVMS_ARCH, config->arg[kvms_arg_index(row, "arch")]);
	g->half = kernel_half(arch);
	g->linear = direct_map(arch, g->half);
	g->ranges = kvms_op_list(config, row, (unsigned)kvms_arg_index(row, "vmalloc"), &g->ranges_count);
	for (unsigned kind = 1; kind < KVMS_ID_KINDS; kind++)
		g->probe[kind] = find_probe((enum kvms_kind)kind);
	if (!lessons_new(g) || !focus_new(g, g->profile) || !kvt_generator_set(g, &g->options))
		kvt_generator_free(&g);
	return g;
}

bool
kvt_generator_set(struct kvt_generator *g, const struct kvt_generator_options *options)
{
	unsigned clients = options->clients > 0 ? options->clients : 1;

	g->options = *options;
	kvt_workload_free(&g->workload);
	if (clients > KVT_CLIENTS_MAX || options->illegal > 100)
		return false;
	if (g->profile->ops != NULL && !options->cover)
		return true;
	g->workload = kvt_workload_new(g->profile->ops == NULL ? g->profile->name : "pressure", g->seed, clients, g->s);
	return g->workload != NULL;
}

unsigned
kvt_generator_client(const struct kvt_generator *g)
{
	return g->client;
}

unsigned
kvt_generator_missing(const struct kvt_generator *g, unsigned *all,
		      void (*missing)(void *arg, const struct kvms_row *row, unsigned name), void *arg)
{
	unsigned count = 0, name;

	*all = 0;
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);

		for (unsigned k = 0; row != NULL && (name = kvms_row_outcome(row, k)) != UINT_MAX; k++) {
			if (is_beyond_reach(row, name))
				continue;
			(*all)++;
			if (g->lessons[code].seen[name] != 0)
				continue;
			count++;
			if (missing != NULL)
				missing(arg, row, name);
		}
	}
	return count;
}

void
kvt_generator_free(struct kvt_generator **gp)
{
	struct kvt_generator *g = *gp;

	*gp = NULL;
	if (g == NULL)
		return;
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		free(g->live[kind].at);
	for (unsigned code = 0; g->lessons != NULL && code <= kvms_op_max(); code++)
		free(g->lessons[code].seen);
	free(g->lessons);
	free(g->focus);
	kvt_workload_free(&g->workload);
	kvt_words_free(&g->now.list);
	kvt_words_free(&g->best.list);
	kvms_outcome_free(&g->out);
	free(g);
}

/* ---- A whole trace --------------------------------------------------------------------------------------------- */

#define COVERED_EVERY 16u

struct writer {
	struct kvms *s;
	FILE *out;
	struct kvt_buffer text;
	struct kvms_outcome outcome;
	int error; /* errno of a write that failed */
	bool has_clients; /* each operation tells whose it is, and on which CPU */
	uint64_t cpu;
};

static void
write_line(struct writer *w)
{
	kvt_putc(&w->text, '\n');
	if (w->text.failed)
		w->error = ENOMEM;
	else if (fwrite(kvt_buffer_text(&w->text), 1, w->text.size, w->out) != w->text.size && w->error == 0)
		w->error = errno;
	kvt_buffer_reset(&w->text);
}

/* "expect" and the answer to a request; nothing if it is not ok. */
static void
write_expect(struct writer *w, const struct kvms_op *request)
{
	const struct kvms_row *row = kvms_request_row(request->code);

	if (kvms_inspect(w->s, request, &w->outcome) != KVMS_DONE || w->outcome.name != 0)
		return;
	kvt_puts(&w->text, "expect ");
	kvt_print_op(&w->text, row, request);
	kvt_puts(&w->text, " ->");
	kvt_print_results(&w->text, row, &w->outcome);
	write_line(w);
}

/* "expect KEY=VALUE" of a request that has one field. */
static void
write_short(struct writer *w, const char *request)
{
	const struct kvms_row *row = kvms_request_find(request);
	struct kvms_op op;

	kvms_op_init(&op, row);
	if (kvms_inspect(w->s, &op, &w->outcome) != KVMS_DONE)
		return;
	kvt_putf(&w->text, "expect %s=", row->results[0].name);
	kvt_print_value(&w->text, row->results[0].type, w->outcome.field[0], w->outcome.list);
	write_line(w);
}

static void
write_digest(struct writer *w, struct kvt_generator *g)
{
	write_short(w, "digest");
	write_short(w, "check");
	if (g != NULL)
		write_expect(w, kvt_generator_request(g));
}

/* One step; false ends the trace. */
static int
write_step(struct writer *w, struct kvt_generator *g, char *error, size_t error_size)
{
	const struct kvms_op *op = kvt_generator_next(g);
	const struct kvms_row *row = kvms_op_row(op->code);
	enum kvms_status status = kvms_apply(w->s, op, &w->outcome);

	kvt_print_op(&w->text, row, op);
	if (w->has_clients)
		kvt_putf(&w->text, " @cpu=%" PRIu64 " @client=%u", w->cpu, kvt_generator_client(g) + 1);
	if (status == KVMS_DONE && w->outcome.name == 0 && strcmp(row->name, "cpu_set") == 0)
		w->cpu = op->arg[0];
	if (status == KVMS_DONE) {
		kvt_puts(&w->text, " -> ");
		kvt_print_outcome(&w->text, row, &w->outcome);
		write_line(w);
		kvt_generator_answer(g, &w->outcome);
		return 0;
	}
	if (status == KVMS_BROKEN) {
		const struct kvms_findings *findings = kvms_broken(w->s);
		const char *law = findings->count > 0 ? kvms_law_name(findings->at[0].law) : NULL;

		snprintf(error, error_size, "law %s broke at step %" PRIu64 ": %.300s", law != NULL ? law : "(none)",
			 kvms_steps(w->s) + 1, kvt_buffer_text(&w->text));
		write_line(w);
		return 5;
	}
	snprintf(error, error_size, "no memory left");
	return 1;
}

static int
write_trace(struct writer *w, struct kvt_generator *g, struct kvt_gen *gen, char *error, size_t error_size)
{
	uint64_t every = gen->digest_every != 0 ? gen->digest_every : 50;
	int result;

	kvt_putf(&w->text, "kvmtrace 1\n# seed=%" PRIu64 " steps=%" PRIu64 " profile=%s\n", gen->seed, gen->steps,
		 (gen->profile != NULL ? gen->profile : kvt_profile_at(0))->name);
	kvt_print_store(&w->text, kvms_config(w->s));
	write_line(w);
	write_short(w, "digest");
	for (uint64_t i = 1; i <= gen->steps && w->error == 0; i++) {
		result = write_step(w, g, error, error_size);
		if (result != 0)
			return result;
		gen->made = i;
		if (i % every == 0)
			write_digest(w, g);
		if (gen->until_covered && i % COVERED_EVERY == 0 &&
		    kvt_generator_missing(g, &gen->cells, NULL, NULL) == 0)
			break;
	}
	gen->cells_missing = kvt_generator_missing(g, &gen->cells, gen->missing, gen->arg);
	write_short(w, "nodes");
	write_short(w, "free_va");
	write_short(w, "areas");
	write_digest(w, NULL);
	if (fflush(w->out) != 0 && w->error == 0)
		w->error = errno;
	if (w->error == 0)
		return 0;
	snprintf(error, error_size, "cannot write the trace: %s", strerror(w->error));
	return 1;
}

int
kvt_gen(struct kvt_gen *gen, FILE *out, char *error, size_t error_size)
{
	struct kvms_refusal why = { .key = -1, .text = "no memory left" };
	struct writer w = { .s = kvms_new(gen->config, &why), .out = out };
	struct kvt_generator *g = w.s != NULL ? kvt_generator_new(gen->seed, gen->profile, w.s) : NULL;
	int result = 1;

	if (w.s == NULL) {
		result = why.key >= 0 ? 2 : 1;
		snprintf(error, error_size, "%s", why.text);
	} else if (g == NULL || !kvt_generator_set(g, &gen->options)) {
		snprintf(error, error_size, "no memory left");
	} else {
		w.has_clients = gen->options.clients > 1;
		result = write_trace(&w, g, gen, error, error_size);
	}
	kvt_generator_free(&g);
	kvms_free(&w.s);
	kvt_buffer_free(&w.text);
	kvms_outcome_free(&w.outcome);
	return result;
}
