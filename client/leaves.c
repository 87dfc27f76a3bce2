#include "client/leaves.h"

#include "trace/text.h"

#include <stdlib.h>
#include <string.h>

uint64_t
kvmctl_leaf_size(unsigned level)
{
	return (uint64_t)KVMS_PAGE_SIZE << (9 * (level - 1));
}

void
kvmctl_leaves_free(struct kvmctl_leaves *l)
{
	free(l->at);
	memset(l, 0, sizeof *l);
}

/* ---- Gathering ------------------------------------------------------------------------ */

static bool
add(void *arg, const struct kvms_extent *run)
{
	struct kvmctl_leaves *l = arg;

	if (l->count == l->capacity) {
		size_t capacity = l->capacity == 0 ? 16 : 2 * l->capacity;
		struct kvms_extent *at = realloc(l->at, capacity * sizeof *at);

		if (at == NULL) {
			l->failed = true;
			return false;
		}
		l->at = at;
		l->capacity = capacity;
	}
	l->at[l->count++] = *run;
	return true;
}

void
kvmctl_leaves_add(struct kvmctl_leaves *l, const struct kvms_extent *run)
{
	(void)add(l, run);
}

void
kvmctl_leaves_table(struct kvmctl_leaves *l, struct kvms *s, uint64_t table)
{
	if (!kvms_extents(s, table, add, l))
		l->failed = true;
}

/* Ask a request whose arguments are table and va: a field's value by name, and the whole answer. */
static bool
ask(struct kvms *s, const char *name, uint64_t table, uint64_t va, struct kvms_outcome *out)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find(name));
	op.arg[0] = table;
	op.arg[1] = va;
	return kvms_inspect(s, &op, out) == KVMS_DONE;
}

/* Result fields of "translate". */
enum { FOUND, PADDR, START, END, LEVEL, PROP, TRACKED };

/* The last address of the entry at which the walk to "va" ends without a leaf. */
static uint64_t
hole_last(const struct kvms_outcome *walk, uint64_t va)
{
	const uint64_t *levels = walk->list;
	uint64_t count = walk->field[0];

	if (count == 0)
		return va | (KVMS_PAGE_SIZE - 1);
	return va | (kvmctl_leaf_size((unsigned)levels[4 * (count - 1)]) - 1);
}

/* Make the last run longer by a leaf that continues it, or add one. */
static void
extend(struct kvmctl_leaves *l, const struct kvms_extent *leaf)
{
	struct kvms_extent *run = l->count > 0 ? &l->at[l->count - 1] : NULL;

	if (run != NULL && run->table == leaf->table && run->level == leaf->level && run->prop == leaf->prop &&
	    run->tracked == leaf->tracked && run->va + run->leaves * kvmctl_leaf_size(run->level) == leaf->va &&
	    run->paddr + run->leaves * kvmctl_leaf_size(run->level) == leaf->paddr)
		run->leaves++;
	else
		(void)add(l, leaf);
}

void
kvmctl_leaves_range(struct kvmctl_leaves *l, struct kvms *s, uint64_t table, uint64_t first, uint64_t last)
{
	struct kvms_outcome out = { .name = 0 };

	for (uint64_t va = first, end; va <= last && !l->failed; va = end + 1) {
		if (!ask(s, "translate", table, va, &out)) {
			l->failed = true;
			break;
		}
		if (out.name == 0 && out.field[FOUND] != 0) {
			end = out.field[END] - 1;
			extend(l, &(struct kvms_extent){ .table = table,
							 .va = out.field[START],
							 .paddr = out.field[PADDR] - (va - out.field[START]),
							 .leaves = 1,
							 .level = (unsigned)out.field[LEVEL],
							 .prop = out.field[PROP],
							 .tracked = out.field[TRACKED] != 0 });
		} else {
			l->failed = !ask(s, "walk", table, va, &out);
			end = l->failed ? va : hole_last(&out, va);
		}
		if (end == UINT64_MAX)
			break;
	}
	kvms_outcome_free(&out);
}

/* ---- Comparing -------------------------------------------------------------------------- */

static uint64_t
run_last(const struct kvms_extent *run)
{
	return run->va + run->leaves * kvmctl_leaf_size(run->level) - 1;
}

static bool
same_table_first(const struct kvms_extent *a, const struct kvms_extent *b)
{
	return a->table != b->table ? a->table < b->table : a->va < b->va;
}

/* A list, and how far it has been read: addresses of the run at hand below "from" are done with. */
struct side {
	const struct kvmctl_leaves *l;
	size_t at;
	uint64_t from;
};

static const struct kvms_extent *
side_run(const struct side *s)
{
	return s->at < s->l->count ? &s->l->at[s->at] : NULL;
}

static uint64_t
side_start(const struct side *s)
{
	const struct kvms_extent *run = side_run(s);

	return s->from > run->va ? s->from : run->va;
}

/* All up to "last" is done with. */
static void
side_done(struct side *s, uint64_t last)
{
	if (last >= run_last(side_run(s))) {
		s->at++;
		s->from = 0;
	} else {
		s->from = last + 1;
	}
}

static struct kvmctl_reach
reach_of(const struct kvms_extent *run, uint64_t start)
{
	return (struct kvmctl_reach){
		.paddr = run->paddr + (start - run->va), .prop = run->prop, .level = run->level, .tracked = run->tracked
	};
}

/* Does "b" go on as "a" does, "distance" bytes further? */
static bool
reach_goes_on(const struct kvmctl_reach *a, const struct kvmctl_reach *b, uint64_t distance)
{
	return a->paddr + distance == b->paddr && a->prop == b->prop && a->level == b->level &&
	       a->tracked == b->tracked;
}

struct compare {
	struct side before, after;
	struct kvmctl_piece held; /* may become longer */
	bool holding;
	kvmctl_piece_visitor *visit;
	void *arg;
};

static void
flush(struct compare *c)
{
	if (c->holding)
		c->visit(c->arg, &c->held);
	c->holding = false;
}

static void
differ(struct compare *c, const struct kvmctl_piece *piece)
{
	struct kvmctl_piece *h = &c->held;
	uint64_t distance = piece->start - h->start;

	if (c->holding && h->table == piece->table && h->last + 1 == piece->start && h->is_before == piece->is_before &&
	    h->is_after == piece->is_after && (!h->is_before || reach_goes_on(&h->before, &piece->before, distance)) &&
	    (!h->is_after || reach_goes_on(&h->after, &piece->after, distance))) {
		h->last = piece->last;
		return;
	}
	flush(c);
	*h = *piece;
	c->holding = true;
}

/* The next piece in which neither side's run ends or begins. */
static void
compare_next(struct compare *c)
{
	const struct kvms_extent *a = side_run(&c->before), *b = side_run(&c->after);
	uint64_t from_a = a != NULL ? side_start(&c->before) : 0, from_b = b != NULL ? side_start(&c->after) : 0;
	struct kvmctl_piece p;

	if (a != NULL && b != NULL && a->table != b->table) { /* the lower table alone */
		if (same_table_first(a, b))
			b = NULL;
		else
			a = NULL;
	}
	p = (struct kvmctl_piece){ .table = a != NULL ? a->table : b->table,
				   .start = a == NULL || (b != NULL && from_b < from_a) ? from_b : from_a };
	p.is_before = a != NULL && from_a == p.start;
	p.is_after = b != NULL && from_b == p.start;
	p.last = UINT64_MAX;
	if (a != NULL)
		p.last = p.is_before ? run_last(a) : from_a - 1;
	if (b != NULL && (p.is_after ? run_last(b) : from_b - 1) < p.last)
		p.last = p.is_after ? run_last(b) : from_b - 1;
	if (p.is_before)
		p.before = reach_of(a, p.start);
	if (p.is_after)
		p.after = reach_of(b, p.start);
	if (!p.is_before || !p.is_after || !reach_goes_on(&p.before, &p.after, 0))
		differ(c, &p);
	if (p.is_before)
		side_done(&c->before, p.last);
	if (p.is_after)
		side_done(&c->after, p.last);
}

void
kvmctl_leaves_compare(const struct kvmctl_leaves *before, const struct kvmctl_leaves *after,
		      kvmctl_piece_visitor *visit, void *arg)
{
	struct compare c = { .before = { .l = before }, .after = { .l = after }, .visit = visit, .arg = arg };

	while (side_run(&c.before) != NULL || side_run(&c.after) != NULL)
		compare_next(&c);
	flush(&c);
}

/* ---- Text ---------------------------------------------------------------------------------- */

void
kvmctl_put_reach(struct kvt_buffer *b, const struct kvmctl_reach *reach)
{
	static const char *const sizes[] = { "4K", "2M", "1G", "512G", "256T" };

	kvt_put_hex(b, reach->paddr);
	kvt_putc(b, ' ');
	kvt_print_value(b, KVMS_PROP, reach->prop, NULL);
	if (reach->level > 1 && reach->level <= 5)
		kvt_putf(b, " %s", sizes[reach->level - 1]);
	if (!reach->tracked)
		kvt_puts(b, " untracked");
}

void
kvmctl_json_reach(struct kvt_buffer *b, const struct kvmctl_reach *reach)
{
	kvt_puts(b, "{\"paddr\":");
	kvt_json_value(b, KVMS_HEX, reach->paddr, NULL);
	kvt_puts(b, ",\"prop\":");
	kvt_json_value(b, KVMS_PROP, reach->prop, NULL);
	kvt_putf(b, ",\"level\":%u,\"tracked\":%s}", reach->level, reach->tracked ? "true" : "false");
}
