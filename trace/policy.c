#include "trace/policy.h"

#include "trace/bind.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[KVT_POLICIES] = {
	[KVT_FIRST_FIT_TOP] = "first-fit-top",
	[KVT_FIRST_FIT_BOTTOM] = "first-fit-bottom",
	[KVT_BEST_FIT] = "best-fit",
	[KVT_BEST_FIT_TOP] = "best-fit-top",
	[KVT_WORST_FIT] = "worst-fit",
	[KVT_NEXT_FIT] = "next-fit",
	[KVT_HIGHEST] = "highest",
};

const char *
kvt_policy_name(enum kvt_policy_kind kind)
{
	return names[kind];
}

const char *
kvt_policy_short_name(enum kvt_policy_kind kind)
{
	static const char *const words[KVT_POLICIES] = { "ff-top", "ff-bottom", "best",   "best-top",
							 "worst",  "next",      "highest" };

	return words[kind];
}

bool
kvt_policy_find(const char *name, size_t size, enum kvt_policy_kind *kind)
{
	for (unsigned i = 0; i < KVT_POLICIES; i++) {
		if (strlen(names[i]) != size || memcmp(names[i], name, size) != 0)
			continue;
		*kind = (enum kvt_policy_kind)i;
		return true;
	}
	*kind = KVT_FIRST_FIT_BOTTOM;
	return size == strlen("lowest") && memcmp(name, "lowest", size) == 0;
}

/* ---- Free blocks: a treap by address, and one by size ------------------------------ */

struct node {
	uint64_t start, end;
	uint64_t longest; /* block in the sub-tree */
	uint32_t count;   /* blocks in the sub-tree */
	uint32_t left, right;
	uint32_t priority;
};

/* Nodes by number, 0 = none.  Free ones hang together by "left". */
struct tree {
	bool by_size; /* else by address */
	struct node *at;
	uint32_t root, used, capacity, spare;
};

static uint64_t
length(const struct node *n)
{
	return n->end - n->start;
}

static bool
before(const struct tree *t, uint64_t start, uint64_t end, const struct node *n)
{
	if (t->by_size && end - start != length(n))
		return end - start < length(n);
	return start < n->start;
}

static void
renew(struct tree *t, uint32_t i)
{
	struct node *n = &t->at[i];
	const struct node *l = &t->at[n->left], *r = &t->at[n->right];

	n->count = 1 + l->count + r->count;
	n->longest = length(n);
	n->longest = l->longest > n->longest ? l->longest : n->longest;
	n->longest = r->longest > n->longest ? r->longest : n->longest;
}

/* Cut a sub-tree in two at a block that is not there: what comes before it, and what comes behind. */
static void
cut(struct tree *t, uint32_t i, uint64_t start, uint64_t end, uint32_t *low, uint32_t *high)
{
	if (i == 0) {
		*low = *high = 0;
	} else if (!before(t, start, end, &t->at[i])) {
		cut(t, t->at[i].right, start, end, &t->at[i].right, high);
		*low = i;
		renew(t, i);
	} else {
		cut(t, t->at[i].left, start, end, low, &t->at[i].left);
		*high = i;
		renew(t, i);
	}
}

static uint32_t
join(struct tree *t, uint32_t low, uint32_t high)
{
	if (low == 0 || high == 0)
		return low | high;
	if (t->at[low].priority > t->at[high].priority) {
		t->at[low].right = join(t, t->at[low].right, high);
		renew(t, low);
		return low;
	}
	t->at[high].left = join(t, low, t->at[high].left);
	renew(t, high);
	return high;
}

static bool
tree_reserve(struct tree *t)
{
	uint32_t capacity = t->capacity > 0 ? 2 * t->capacity : 64;
	struct node *at;

	if (t->spare != 0 || t->used + 1 < t->capacity)
		return true;
	at = realloc(t->at, capacity * sizeof *at);
	if (at == NULL)
		return false;
	if (t->at == NULL)
		memset(&at[0], 0, sizeof at[0]); /* what "none" refers to */
	t->at = at;
	t->capacity = capacity;
	return true;
}

/* => needs: tree_reserve() */
static void
tree_insert(struct tree *t, uint64_t start, uint64_t end)
{
	uint32_t i = t->spare, low, high;
	uint64_t x = start * 0x9E3779B97F4A7C15u;

	if (i != 0)
		t->spare = t->at[i].left;
	else
		i = ++t->used;
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	t->at[i] = (struct node){ .start = start, .end = end, .priority = (uint32_t)(x >> 32) };
	cut(t, t->root, start, end, &low, &high);
	renew(t, i);
	t->root = join(t, join(t, low, i), high);
}

/* Take the block out of a sub-tree: gives the sub-tree without it. */
static uint32_t
without(struct tree *t, uint32_t i, uint64_t start, uint64_t end)
{
	struct node *n = &t->at[i];

	if (n->start == start && n->end == end) {
		uint32_t rest = join(t, n->left, n->right);

		n->left = t->spare;
		t->spare = i;
		return rest;
	}
	if (before(t, start, end, n))
		n->left = without(t, n->left, start, end);
	else
		n->right = without(t, n->right, start, end);
	renew(t, i);
	return i;
}

/* => needs: the block is there */
static void
tree_remove(struct tree *t, uint64_t start, uint64_t end)
{
	t->root = without(t, t->root, start, end);
}

/* ---- A policy ------------------------------------------------------------------------- */

struct kvt_policy {
	enum kvt_policy_kind kind;
	uint64_t start, end;
	struct tree by_address, by_size; /* the same blocks */
	uint64_t free_bytes;
	uint64_t rover;             /* next-fit: where the last allocation ended */
	struct kvt_bindings starts; /* area -> where it lies here */
	struct kvt_bindings sizes;  /* area -> its size, with SIZE_MARK */
	struct kvt_policy_figures figures;
};

/* So that no size is equal to an id, which bindings could not hold. */
#define SIZE_MARK (UINT64_C(1) << 63)

static bool
has_sizes(const struct kvt_policy *p)
{
	return p->kind == KVT_BEST_FIT || p->kind == KVT_BEST_FIT_TOP || p->kind == KVT_WORST_FIT;
}

static bool
block_add(struct kvt_policy *p, uint64_t start, uint64_t end)
{
	if (!tree_reserve(&p->by_address) || (has_sizes(p) && !tree_reserve(&p->by_size)))
		return false;
	tree_insert(&p->by_address, start, end);
	if (has_sizes(p))
		tree_insert(&p->by_size, start, end);
	p->free_bytes += end - start;
	return true;
}

static void
block_remove(struct kvt_policy *p, uint64_t start, uint64_t end)
{
	tree_remove(&p->by_address, start, end);
	if (has_sizes(p))
		tree_remove(&p->by_size, start, end);
	p->free_bytes -= end - start;
}

struct kvt_policy *
kvt_policy_new(enum kvt_policy_kind kind, uint64_t start, uint64_t end)
{
	struct kvt_policy *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->kind = kind;
	p->start = p->rover = start;
	p->end = end;
	p->by_size.by_size = true;
	if (!block_add(p, start, end))
		kvt_policy_free(&p);
	return p;
}

void
kvt_policy_free(struct kvt_policy **policy)
{
	struct kvt_policy *p = *policy;

	*policy = NULL;
	if (p == NULL)
		return;
	free(p->by_address.at);
	free(p->by_size.at);
	kvt_bindings_free(&p->starts);
	kvt_bindings_free(&p->sizes);
	free(p);
}

/* ---- Searches: the block's number, 0 = none; *looked counts the nodes -------------------- */

/* The lowest that fits, or the highest. */
static uint32_t
outer_fit(const struct tree *t, bool lowest, uint64_t size, uint64_t *looked)
{
	uint32_t i = t->root;

	while (i != 0) {
		const struct node *n = &t->at[i];
		uint32_t outer = lowest ? n->left : n->right;

		++*looked;
		if (n->longest < size)
			return 0;
		if (outer != 0 && t->at[outer].longest >= size)
			i = outer;
		else if (length(n) >= size)
			return i;
		else
			i = lowest ? n->right : n->left;
	}
	return 0;
}

/* The lowest that fits among those that start at "from" or above. */
static uint32_t
fit_from(const struct tree *t, uint32_t i, uint64_t from, uint64_t size, uint64_t *looked)
{
	const struct node *n = &t->at[i];
	uint32_t found = 0;

	if (i == 0 || n->longest < size)
		return 0;
	++*looked;
	if (n->start >= from) {
		found = fit_from(t, n->left, from, size, looked);
		if (found == 0 && length(n) >= size)
			found = i;
	}
	return found != 0 ? found : fit_from(t, n->right, from, size, looked);
}

/* In the tree by size: the smallest that fits, of equals the lowest. */
static uint32_t
smallest_fit(const struct tree *t, uint64_t size, uint64_t *looked)
{
	uint32_t found = 0;

	for (uint32_t i = t->root; i != 0;) {
		++*looked;
		if (length(&t->at[i]) >= size) {
			found = i;
			i = t->at[i].left;
		} else {
			i = t->at[i].right;
		}
	}
	return found;
}

/* The block of the greatest start <= addr. */
static uint32_t
below(const struct tree *t, uint64_t addr)
{
	uint32_t found = 0;

	for (uint32_t i = t->root; i != 0;) {
		if (t->at[i].start <= addr) {
			found = i;
			i = t->at[i].right;
		} else {
			i = t->at[i].left;
		}
	}
	return found;
}

/* Blocks that start below addr. */
static uint64_t
rank(const struct tree *t, uint64_t addr)
{
	uint64_t below_it = 0;

	for (uint32_t i = t->root; i != 0;) {
		if (t->at[i].start < addr) {
			below_it += 1 + t->at[t->at[i].left].count;
			i = t->at[i].right;
		} else {
			i = t->at[i].left;
		}
	}
	return below_it;
}

/* Where next-fit begins to look. */
static uint64_t
rover(const struct kvt_policy *p)
{
	uint32_t i = below(&p->by_address, p->rover);

	return i != 0 && p->by_address.at[i].end > p->rover ? p->by_address.at[i].start : p->rover;
}

/* A block for "size" bytes; what the search costs is counted. */
static bool
search(struct kvt_policy *p, uint64_t size, struct node *block)
{
	const struct tree *t = &p->by_address;
	uint64_t blocks = t->at[t->root].count, scanned = blocks, looked = 0, from = rover(p);
	uint32_t found = 0;

	switch (p->kind) {
	case KVT_FIRST_FIT_TOP:
	case KVT_FIRST_FIT_BOTTOM:
		found = outer_fit(t, true, size, &looked);
		scanned = found != 0 ? rank(t, t->at[found].start) + 1 : blocks;
		break;
	case KVT_HIGHEST:
		found = outer_fit(t, false, size, &looked);
		scanned = found != 0 ? blocks - rank(t, t->at[found].start) : blocks;
		break;
	case KVT_NEXT_FIT:
		found = fit_from(t, t->root, from, size, &looked);
		if (found == 0)
			found = outer_fit(t, true, size, &looked);
		if (found != 0)
			scanned = (rank(t, t->at[found].start) + blocks - rank(t, from)) % blocks + 1;
		break;
	case KVT_BEST_FIT:
	case KVT_BEST_FIT_TOP:
		t = &p->by_size;
		found = smallest_fit(t, size, &looked);
		break;
	case KVT_WORST_FIT:
		t = &p->by_size;
		/* of the largest the lowest */
		found = smallest_fit(t, t->at[t->root].longest, &looked);
		if (found != 0 && length(&t->at[found]) < size)
			found = 0;
		break;
	case KVT_POLICIES:
		break;
	}
	p->figures.searches++;
	p->figures.scanned += scanned;
	p->figures.looked += looked;
	if (scanned > p->figures.scanned_most)
		p->figures.scanned_most = scanned;
	if (looked > p->figures.looked_most)
		p->figures.looked_most = looked;
	if (found != 0)
		*block = t->at[found];
	return found != 0;
}

struct kvt_policy_now
kvt_policy_now(const struct kvt_policy *p)
{
	const struct tree *t = &p->by_address;
	struct kvt_policy_now now = { .free_va = { t->at[t->root].count, p->free_bytes, t->at[t->root].longest } };
	uint64_t low = p->start, high = p->end;
	uint32_t i;

	if (now.free_va.bytes == p->end - p->start)
		return now;
	i = below(t, p->start);
	if (i != 0)
		low = t->at[i].end;
	i = below(t, p->end);
	if (i != 0 && t->at[i].end == p->end)
		high = t->at[i].start;
	now.span = high - low;
	now.used = p->end - p->start - p->free_bytes;
	return now;
}

unsigned
kvt_policy_waste(const struct kvt_policy_now *now)
{
	return now->span > 0 ? (unsigned)(1000.0 * (double)(now->span - now->used) / (double)now->span + 0.5) : 0;
}

const struct kvt_policy_figures *
kvt_policy_figures(const struct kvt_policy *p)
{
	return &p->figures;
}

static void
note(struct kvt_policy *p)
{
	struct kvt_policy_now now = kvt_policy_now(p);
	struct kvt_policy_figures *f = &p->figures;
	unsigned fragmentation = kvt_fragmentation(&now.free_va), waste = kvt_policy_waste(&now);

	f->changes++;
	f->waste_sum += waste;
	if (waste > f->waste_most)
		f->waste_most = waste;
	if (fragmentation > f->fragmentation_most)
		f->fragmentation_most = fragmentation;
	if (now.span > f->span_most)
		f->span_most = now.span;
	if (now.free_va.blocks > f->blocks_most)
		f->blocks_most = now.free_va.blocks;
}

/* ---- Areas -------------------------------------------------------------------------------- */

static bool
remember(struct kvt_policy *p, uint64_t area, uint64_t start, uint64_t size)
{
	return kvt_bind(&p->starts, KVMS_ID_AREA, area, start) &&
	       kvt_bind(&p->sizes, KVMS_ID_AREA, area, size | SIZE_MARK);
}

/* True if the area lies here: where, and its size; it is forgotten. */
static bool
forget(struct kvt_policy *p, uint64_t area, uint64_t *start, uint64_t *size)
{
	*start = kvt_bound(&p->starts, KVMS_ID_AREA, area);
	*size = kvt_bound(&p->sizes, KVMS_ID_AREA, area) & ~SIZE_MARK;
	if (*start == area)
		return false;
	(void)kvt_bind(&p->starts, KVMS_ID_AREA, area, area);
	(void)kvt_bind(&p->sizes, KVMS_ID_AREA, area, area);
	return true;
}

/* Take [start, start + size) out of the block. */
static bool
carve(struct kvt_policy *p, const struct node *block, uint64_t start, uint64_t size)
{
	block_remove(p, block->start, block->end);
	return (block->start == start || block_add(p, block->start, start)) &&
	       (block->end == start + size || block_add(p, start + size, block->end));
}

static bool
is_top(enum kvt_policy_kind kind)
{
	return kind == KVT_FIRST_FIT_TOP || kind == KVT_BEST_FIT_TOP || kind == KVT_HIGHEST;
}

bool
kvt_policy_alloc(struct kvt_policy *p, uint64_t area, uint64_t start, uint64_t size, bool fixed)
{
	const struct tree *t = &p->by_address;
	struct node block;
	uint64_t here = start;
	bool fits;

	if (fixed) {
		uint32_t i = below(t, start);

		fits = i != 0 && t->at[i].end >= start && t->at[i].end - start >= size;
		block = t->at[i];
	} else {
		fits = search(p, size, &block);
		here = !fits ? 0 : is_top(p->kind) ? block.end - size : block.start;
	}
	if (!fits) {
		p->figures.failed++;
		return true;
	}
	p->figures.allocated++;
	p->figures.moved += here != start;
	if (!carve(p, &block, here, size))
		return false;
	p->rover = here + size;
	note(p);
	return remember(p, area, here, size);
}

void
kvt_policy_refused(struct kvt_policy *p, uint64_t size)
{
	struct node block;

	p->figures.rescued += search(p, size, &block);
}

bool
kvt_policy_split(struct kvt_policy *p, uint64_t area, uint64_t left, uint64_t right, uint64_t offset)
{
	uint64_t start, size;

	if (!forget(p, area, &start, &size))
		return true;
	return remember(p, left, start, offset) && remember(p, right, start + offset, size - offset);
}

bool
kvt_policy_end(struct kvt_policy *p, uint64_t area)
{
	const struct tree *t = &p->by_address;
	uint64_t start, end, size;
	uint32_t i;

	if (!forget(p, area, &start, &size))
		return true;
	end = start + size;
	i = below(t, end);
	if (i != 0 && t->at[i].start == end) {
		end = t->at[i].end;
		block_remove(p, t->at[i].start, end);
	}
	i = below(t, start);
	if (i != 0 && t->at[i].end == start) {
		uint64_t from = t->at[i].start;

		block_remove(p, from, start);
		start = from;
	}
	if (!block_add(p, start, end))
		return false;
	note(p);
	return true;
}

/* ---- A trace under several of them ------------------------------------------------------------- */

static bool
is_inside(const struct kvt_policies *p, const struct kvt_life *life)
{
	return life->kind == KVMS_ID_AREA && life->start < life->end && life->start >= p->start && life->end <= p->end;
}

/* The trace is cutting an area in two: one ends and two are born, and nothing is allocated. */
static bool
is_split(const struct kvt_step *step)
{
	const struct kvms_row *row = step->line->row;

	return row->args_count > 0 && row->args[0].kind == KVMS_ID_AREA && kvms_result_index(row, "left") >= 0;
}

static void
place(struct kvt_policies *p, const struct kvt_life *life, bool fixed)
{
	for (unsigned i = 0; i < p->count; i++)
		if (!kvt_policy_alloc(p->policy[i], life->id, life->start, life->end - life->start, fixed))
			p->failed = true;
}

static void
was_there(void *arg, const struct kvt_life *life)
{
	struct kvt_policies *p = arg;

	if (is_inside(p, life))
		place(p, life, true);
}

static void
born(void *arg, const struct kvt_life *life)
{
	struct kvt_policies *p = arg;

	if (life->kind != KVMS_ID_AREA || is_split(&p->step))
		return;
	if (!is_inside(p, life)) {
		p->outside++;
		return;
	}
	p->asked++;
	p->placed += life->is_placed;
	place(p, life, life->is_placed && p->fixed);
}

static void
ended(void *arg, const struct kvt_life *life)
{
	struct kvt_policies *p = arg;

	if (life->kind != KVMS_ID_AREA || is_split(&p->step))
		return;
	for (unsigned i = 0; i < p->count; i++)
		if (!kvt_policy_end(p->policy[i], life->id))
			p->failed = true;
}

static void
split(struct kvt_policies *p)
{
	const struct kvms_row *row = p->step.line->row;
	const uint64_t *field = p->step.out->field;
	uint64_t left = field[kvms_result_index(row, "left")], right = field[kvms_result_index(row, "right")];

	for (unsigned i = 0; i < p->count; i++)
		if (!kvt_policy_split(p->policy[i], p->step.op->arg[0], left, right,
				      p->step.op->arg[kvms_arg_index(row, "offset")]))
			p->failed = true;
}

/* Did the operation fail for want of addresses, and how many bytes did it want? */
static bool
was_refused(const struct kvt_step *step, uint64_t *size)
{
	const char *name = kvms_outcome_name(step->out->name);
	const struct kvms_row *row = step->line->row;
	int i = kvms_arg_index(row, "area_size");

	if (strcmp(name, "va_exhausted") != 0 && strcmp(name, "RangeAllocError") != 0)
		return false;
	if (i < 0) { /* a device's range */
		uint64_t first = step->op->arg[kvms_arg_index(row, "start")] / KVMS_PAGE_SIZE;

		*size = ((step->op->arg[kvms_arg_index(row, "end")] - 1) / KVMS_PAGE_SIZE - first + 1) * KVMS_PAGE_SIZE;
		return true;
	}
	*size = step->op->arg[i];
	return kvms_arg_index(row, "start") < 0; /* else its very address was asked for */
}

static void
sample(struct kvt_policies *p)
{
	size_t count = p->samples_count, kept = 0;
	struct kvt_policy_now now[KVT_POLICIES];

	for (unsigned i = 0; i < p->count; i++)
		now[i] = kvt_policy_now(p->policy[i]);
	if (p->sampled != NULL) {
		p->sampled(p->arg, p->step.number, now);
		return;
	}
	if (count == p->samples_capacity) {
		size_t capacity = count > 0 ? 2 * count : KVT_SAMPLES;
		uint64_t *steps = realloc(p->samples_step, capacity * sizeof *steps);
		struct kvt_policy_now *samples;

		if (steps != NULL)
			p->samples_step = steps;
		samples = steps != NULL ? realloc(p->samples, capacity * p->count * sizeof *samples) : NULL;
		if (samples == NULL) {
			p->failed = true;
			return;
		}
		p->samples = samples;
		p->samples_capacity = capacity;
	}
	p->samples_step[count] = p->step.number;
	memcpy(&p->samples[count * p->count], now, p->count * sizeof *now);
	p->samples_count++;
	if (p->every > 0 || p->samples_count < KVT_SAMPLES)
		return;
	p->stride *= 2;
	for (size_t i = 0; i < p->samples_count; i++) {
		if (p->samples_step[i] % p->stride != 0)
			continue;
		p->samples_step[kept] = p->samples_step[i];
		memmove(&p->samples[kept++ * p->count], &p->samples[i * p->count], p->count * sizeof *now);
	}
	p->samples_count = kept;
}

bool
kvt_policies_begin(struct kvt_policies *p)
{
	const struct kvms_op *config;
	const uint64_t *first;
	uint64_t count;

	if (p->target->config(p->target, &config) != KVT_DONE)
		return false;
	first = kvms_op_list(config, kvms_store_row(), (unsigned)kvms_arg_index(kvms_store_row(), "vmalloc"), &count);
	p->start = first[0];
	p->end = first[1];
	p->stride = p->every > 0 ? p->every : 1;
	for (unsigned i = 0; i < p->count; i++) {
		p->policy[i] = kvt_policy_new(p->kind[i], p->start, p->end);
		if (p->policy[i] == NULL)
			return false;
	}
	p->lives = kvt_lives_new();
	return p->lives != NULL && kvt_lives_begin(p->lives, p->target) && kvt_lives_visit(p->lives, was_there, p) &&
	       !p->failed;
}

void
kvt_policies_step(struct kvt_policies *p, const struct kvt_line *line, const struct kvms_op *op,
		  const struct kvms_outcome *out)
{
	uint64_t size;

	if (line->kind != KVT_OP)
		return;
	kvt_step_read(&p->step, line, op, out);
	if (out->name != 0 && was_refused(&p->step, &size)) {
		p->refused++;
		for (unsigned i = 0; i < p->count; i++)
			kvt_policy_refused(p->policy[i], size);
	}
	if (!kvt_lives_step(p->lives, p->target, &p->step, born, ended, p))
		p->failed = true;
	if (out->name == 0 && is_split(&p->step))
		split(p);
	if (p->step.number % p->stride == 0)
		sample(p);
}

void
kvt_policies_end(struct kvt_policies *p)
{
	if (p->step.number % p->stride != 0 || p->step.number == 0)
		sample(p);
}

void
kvt_policies_free(struct kvt_policies *p)
{
	for (unsigned i = 0; i < p->count; i++)
		kvt_policy_free(&p->policy[i]);
	kvt_lives_free(&p->lives);
	free(p->samples_step);
	free(p->samples);
}
