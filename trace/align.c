#include "trace/align.h"

#include "trace/bind.h"
#include "trace/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CREATED_MAX 4u
#define RESYNC 16u      /* operations in common after which reading ahead ends */
#define NONE UINT64_MAX /* the partner of an object that has none */
#define SWEEP_MIN 4096u
#define WINDOW_MIN 64u
#define SAME 0x8000u /* in a cell: these two are the same */

/* An operation of one of the traces, with recorded ids. */
struct entry {
	const struct kvms_row *row;
	struct kvms_op op;
	uint64_t *owned; /* its lists, if they are its own */
	uint64_t line;
	unsigned created_count;
	struct {
		int field;
		enum kvms_kind kind;
		uint64_t id;
	} created[CREATED_MAX]; /* ids that were recorded as made */
};

struct side {
	struct kvt_input *in;
	struct kvt_parser *parser;
	struct kvt_bindings bindings; /* recorded -> of its store */
	struct kvms_op config;
	struct kvt_words config_lists;
	uint64_t store_line;
	uint64_t next[KVMS_ID_KINDS]; /* ids below it have been given in its store */
	struct kvms_op op;            /* the operation at hand, with the store's ids */
	struct kvt_words ids;
	struct kvms_outcome out;
	struct entry ahead[KVT_ALIGN_WINDOW]; /* read, not run: a ring */
	unsigned head, count;
	bool ended;
};

struct aligning {
	struct kvt_align *a;
	struct side side[2];
	struct kvt_bindings partner[2]; /* of an id in the other store; without one the same number */
	size_t sweep_at;
	uint16_t *common; /* [i][j]: operations that what begins at i and at j has in common; SAME */
	unsigned window;  /* so far is looked ahead: more after a try that did not bring them together */
	enum kvt_result result;
	bool differs;
};

static bool
stop(struct aligning *g, enum kvt_result result, const char *sentence)
{
	g->result = result;
	if (sentence != NULL)
		fprintf(g->a->report, "%s\n", sentence);
	return false;
}

static bool
no_memory(struct aligning *g)
{
	return stop(g, KVT_DISCONNECTED, "no memory left");
}

/* ---- Reading ------------------------------------------------------------------------- */

static void
entry_read(struct entry *e, const struct kvt_line *line)
{
	*e = (struct entry){ .row = line->row, .op = line->op, .line = line->number };
	for (size_t i = 0; line->recorded && line->class == KVMS_OK && i < line->fields_count; i++) {
		const struct kvt_field *f = &line->fields[i];

		if (f->index < 0 || !line->row->results[f->index].created || e->created_count == CREATED_MAX)
			continue;
		e->created[e->created_count].field = f->index;
		e->created[e->created_count].kind = f->id;
		e->created[e->created_count++].id = f->value;
	}
}

/* Make the lists the entry's own: the parser's memory is used again. */
static bool
entry_own(struct entry *e)
{
	size_t words = kvt_payload_words(e->row, &e->op);

	if (words == 0 || e->owned != NULL)
		return true;
	e->owned = malloc(words * sizeof *e->owned);
	if (e->owned == NULL)
		return false;
	memcpy(e->owned, e->op.list, words * sizeof *e->owned);
	e->op.list = e->owned;
	return true;
}

static void
entry_free(struct entry *e)
{
	free(e->owned);
	e->owned = NULL;
}

static bool
keep_config(struct aligning *g, struct side *s, const struct kvt_line *line)
{
	size_t words = kvt_payload_words(line->row, &line->op);
	uint64_t *to;

	s->config = line->op;
	s->config.list = NULL;
	s->store_line = line->number;
	if (words == 0)
		return true;
	to = kvt_words_add(&s->config_lists, words);
	if (to == NULL)
		return no_memory(g);
	memcpy(to, line->op.list, words * sizeof *to);
	s->config.list = to;
	return true;
}

static bool
see_next_id(void *arg, const uint64_t *words, unsigned count)
{
	struct side *s = arg;

	if (words[0] == 22 && count >= 3 && words[1] < KVMS_ID_KINDS)
		s->next[words[1]] = words[2];
	return true;
}

/* The store of a side, if it has none yet. */
static bool
open_store(struct aligning *g, unsigned which, uint64_t line, const struct kvt_base *base)
{
	struct side *s = &g->side[which];
	struct kvms_refusal why = { .key = -1, .text = "" };
	const char *name = kvt_input_name(s->in);
	uint64_t digest;

	if (g->a->target[which] != NULL)
		return true;
	if (s->store_line != 0)
		line = s->store_line;
	g->a->target[which] = g->a->open(g->a->arg, which, &s->config, base, &why);
	if (g->a->target[which] == NULL) {
		bool limit = why.key >= 0 && why.key < (int)kvms_store_row()->args_count;

		if (limit)
			fprintf(g->a->report, "%s:%" PRIu64 ":1: %s out of limits\n", name, line,
				kvms_store_row()->args[why.key].name);
		else
			fprintf(g->a->report, "%s:%" PRIu64 ": no store: %s\n", name, line, why.text);
		return stop(g, limit ? KVT_SYNTAX : KVT_UNREADABLE, NULL);
	}
	(void)kvms_visit(kvt_target_store(g->a->target[which]), see_next_id, s);
	if (base == NULL || g->a->target[which]->digest(g->a->target[which], &digest) != KVT_DONE ||
	    digest == base->digest)
		return true;
	fprintf(g->a->report, "%s:%" PRIu64 ": the state to start from has another digest, 0x%016" PRIx64 "\n", name,
		line, digest);
	return stop(g, KVT_UNREADABLE, NULL);
}

static bool
read_base(struct aligning *g, unsigned which, const struct kvt_line *line)
{
	struct kvt_base base = { .digest = line->digest };
	struct kvt_buffer snapshot = { 0 };
	bool opened;

	if (line->snapshot.at != NULL) {
		kvt_unquote(&snapshot, line->snapshot);
		base.snapshot = kvt_buffer_text(&snapshot);
	}
	opened = open_store(g, which, line->number, &base);
	kvt_buffer_free(&snapshot);
	return opened;
}

/* The next operation of a side, its lists still the parser's; s->ended if there is none.  False: stopped. */
static bool
read_op(struct aligning *g, unsigned which, struct entry *e)
{
	struct side *s = &g->side[which];
	struct kvt_line line;
	ssize_t size;
	char *text;

	while (!s->ended && (size = kvt_input_line(s->in, &text)) != -1) {
		if (size < 0)
			return stop(g, KVT_UNREADABLE, kvt_input_error(s->in));
		if (!kvt_parse(s->parser, text, (size_t)size, &line))
			return stop(g, KVT_SYNTAX, kvt_parser_error(s->parser));
		if (line.kind == KVT_STORE && !keep_config(g, s, &line))
			return false;
		if (line.kind == KVT_BASE && !read_base(g, which, &line))
			return false;
		if (line.kind != KVT_OP)
			continue;
		entry_read(e, &line);
		return open_store(g, which, line.number, NULL);
	}
	if (!s->ended && !kvt_parse_end(s->parser))
		return stop(g, KVT_SYNTAX, kvt_parser_error(s->parser));
	s->ended = true;
	return open_store(g, which, kvt_input_lines(s->in), NULL);
}

/* ---- Partners --------------------------------------------------------------------------- */

/* Live ids of a store, each bound to NONE. */
struct living {
	struct kvt_bindings ids;
	bool failed;
};

static bool
see_living(void *arg, const uint64_t *words, unsigned count)
{
	static const enum kvms_kind kinds[19] = {
		[5] = KVMS_ID_FRAME,     [6] = KVMS_ID_SEGMENT, [7] = KVMS_ID_UNIQUE, [8] = KVMS_ID_LIST,
		[10] = KVMS_ID_VM_SPACE, [12] = KVMS_ID_CURSOR, [14] = KVMS_ID_AREA,  [16] = KVMS_ID_READER,
		[17] = KVMS_ID_WRITER,   [18] = KVMS_ID_IOMEM,
	};
	struct living *l = arg;

	(void)count;
	if (words[0] < 19 && kinds[words[0]] != KVMS_ID_NONE && !kvt_bind(&l->ids, kinds[words[0]], words[1], NONE))
		l->failed = true;
	return !l->failed;
}

/* Forget partners that are both gone.  An id that is no object any more then stands for its own number. */
static bool
sweep(struct aligning *g)
{
	struct living living[2] = { 0 };
	bool done = true;

	for (unsigned i = 0; i < 2; i++)
		done = kvms_visit(kvt_target_store(g->a->target[i]), see_living, &living[i]) && done;
	for (unsigned i = 0; done && i < 2; i++) {
		struct kvt_bindings kept = { 0 };

		for (size_t k = 0; k < g->partner[i].capacity; k++) {
			const struct kvt_binding *b = &g->partner[i].at[k];
			enum kvms_kind kind = (enum kvms_kind)b->kind;

			if (b->kind != 0 &&
			    (kvt_bound(&living[i].ids, kind, b->recorded) == NONE ||
			     (b->actual != NONE && kvt_bound(&living[!i].ids, kind, b->actual) == NONE)))
				done = kvt_bind(&kept, kind, b->recorded, b->actual) && done;
		}
		kvt_bindings_free(&g->partner[i]);
		g->partner[i] = kept;
	}
	for (unsigned i = 0; i < 2; i++)
		kvt_bindings_free(&living[i].ids);
	g->sweep_at = 2 * (g->partner[0].count + g->partner[1].count) + SWEEP_MIN;
	return done || no_memory(g);
}

static bool
ids_same(const struct aligning *g, enum kvms_kind kind, uint64_t a, uint64_t b)
{
	bool known_a = a < g->side[0].next[kind], known_b = b < g->side[1].next[kind];

	if (!known_a || !known_b)
		return !known_a && !known_b;
	return kvt_bound(&g->partner[0], kind, a) == b && kvt_bound(&g->partner[1], kind, b) == a;
}

/* The same for ids as the traces record them. */
static bool
recorded_same(const struct aligning *g, enum kvms_kind kind, uint64_t a, uint64_t b)
{
	return ids_same(g, kind, kvt_bound(&g->side[0].bindings, kind, a), kvt_bound(&g->side[1].bindings, kind, b));
}

/* ---- Comparing operations ------------------------------------------------------------------ */

static bool
is_table_id(enum kvms_type type, uint64_t value)
{
	return (type == KVMS_TABLE || type == KVMS_TABLE_ALL) && value != 0 && value != UINT64_MAX;
}

static bool
arg_same(const struct aligning *g, const struct entry *a, const struct entry *b, unsigned i)
{
	const struct kvms_field *f = &a->row->args[i];
	uint64_t x = a->op.arg[i], y = b->op.arg[i], count;
	const uint64_t *p, *q;

	if (f->type == KVMS_ID)
		return recorded_same(g, f->kind, x, y);
	if (is_table_id(f->type, x) && is_table_id(f->type, y))
		return recorded_same(g, KVMS_ID_VM_SPACE, x, y);
	if (x != y)
		return false;
	if (!kvms_type_is_list(f->type))
		return true;
	p = kvms_op_list(&a->op, a->row, i, &count);
	q = kvms_op_list(&b->op, b->row, i, &count);
	if (f->type != KVMS_IDS)
		return kvt_list_words(f->type, x) == 0 || memcmp(p, q, kvt_list_words(f->type, x) * sizeof *p) == 0;
	for (uint64_t k = 0; k < count; k++)
		if (!recorded_same(g, f->kind, p[k], q[k]))
			return false;
	return true;
}

static bool
ops_same(const struct aligning *g, const struct entry *a, const struct entry *b)
{
	if (a->row != b->row)
		return false;
	for (unsigned i = 0; i < a->row->args_count; i++)
		if (!arg_same(g, a, b, i))
			return false;
	return true;
}

/* Result fields that differ, as bits; true in *differs if class, name, detail or any of them does. */
static uint64_t
compare_outcomes(const struct aligning *g, const struct kvms_row *row, bool *differs)
{
	const struct kvms_outcome *a = &g->side[0].out, *b = &g->side[1].out;
	uint64_t fields = a->present ^ b->present;
	const char *detail = kvms_outcome_detail(a->name);

	*differs = a->name != b->name;
	if (*differs)
		return 0;
	if (detail != NULL && kvt_detail_kind(detail) != KVMS_ID_NONE)
		*differs = !ids_same(g, kvt_detail_kind(detail), a->detail, b->detail);
	else if (detail != NULL)
		*differs = a->detail != b->detail;
	for (unsigned i = 0; i < row->results_count; i++) {
		const struct kvms_field *f = &row->results[i];
		uint64_t x = a->field[i], y = b->field[i], count;
		bool same = x == y;

		if ((a->present & b->present & UINT64_C(1) << i) == 0 || f->created)
			continue;
		if (f->type == KVMS_ID)
			same = ids_same(g, f->kind, x, y);
		else if (is_table_id(f->type, x) && is_table_id(f->type, y))
			same = ids_same(g, KVMS_ID_VM_SPACE, x, y);
		else if (same && kvms_type_is_list(f->type) && kvt_list_words(f->type, x) > 0)
			same = memcmp(kvms_outcome_list(a, row, i, &count), kvms_outcome_list(b, row, i, &count),
				      kvt_list_words(f->type, x) * sizeof(uint64_t)) == 0;
		fields |= same ? 0 : UINT64_C(1) << i;
	}
	*differs = *differs || fields != 0;
	return fields;
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Run an operation on its side's store; its ids are known from here on. */
static bool
run_one(struct aligning *g, unsigned which, const struct entry *e)
{
	struct side *s = &g->side[which];
	struct kvt_target *t = g->a->target[which];
	enum kvt_status status;

	s->op = e->op;
	if (!kvt_translate(&s->bindings, e->row, &s->op, &s->ids))
		return no_memory(g);
	status = t->apply(t, &s->op, &s->out);
	if (status != KVT_DONE) {
		fprintf(g->a->report, "%s:%" PRIu64 ": the store does not go on: %s\n", kvt_input_name(s->in), e->line,
			t->error(t));
		return stop(g,
			    status == KVT_BROKEN    ? KVT_LAW_BROKEN
			    : status == KVT_INVALID ? KVT_SYNTAX
						    : KVT_DISCONNECTED,
			    NULL);
	}
	g->a->counts.ops[which]++;
	if (s->out.name != 0)
		return true;
	for (unsigned i = 0; i < e->created_count; i++)
		if ((s->out.present >> e->created[i].field & 1) != 0 &&
		    !kvt_bind(&s->bindings, e->created[i].kind, e->created[i].id, s->out.field[e->created[i].field]))
			return no_memory(g);
	for (unsigned i = 0; i < e->row->results_count; i++) {
		const struct kvms_field *f = &e->row->results[i];

		if (f->created && (s->out.present >> i & 1) != 0 && s->out.field[i] >= s->next[f->kind])
			s->next[f->kind] = s->out.field[i] + 1;
	}
	return true;
}

/* Objects that an operation made: partners of those that the other one made, or of none. */
static bool
pair_created(struct aligning *g, const struct kvms_row *row, bool has_a, bool has_b)
{
	const struct kvms_outcome *out[2] = { &g->side[0].out, &g->side[1].out };
	bool has[2] = { has_a && out[0]->name == 0, has_b && out[1]->name == 0 };

	for (unsigned i = 0; i < row->results_count; i++) {
		const struct kvms_field *f = &row->results[i];
		bool made[2];

		for (unsigned k = 0; k < 2; k++)
			made[k] = f->created && has[k] && (out[k]->present >> i & 1) != 0;
		for (unsigned k = 0; k < 2; k++)
			if (made[k] &&
			    !kvt_bind(&g->partner[k], f->kind, out[k]->field[i], made[!k] ? out[!k]->field[i] : NONE))
				return no_memory(g);
	}
	return g->partner[0].count + g->partner[1].count < g->sweep_at || sweep(g);
}

static bool
tell(struct aligning *g, struct kvt_difference *d, const struct entry *a, const struct entry *b)
{
	const struct entry *e[2] = { a, b };

	g->differs = true;
	for (unsigned i = 0; i < 2; i++) {
		d->has[i] = e[i] != NULL;
		if (e[i] != NULL)
			d->side[i] =
			    (struct kvt_aligned){ e[i]->line, g->a->counts.ops[i], g->side[i].op, &g->side[i].out };
	}
	if (g->a->differs == NULL || g->a->differs(g->a->arg, d))
		return true;
	g->result = KVT_DIVERGED;
	return false;
}

/* An operation of both traces. */
static bool
run_both(struct aligning *g, const struct entry *a, const struct entry *b)
{
	struct kvt_difference d = { .kind = KVT_OUTCOME, .row = a->row };

	for (unsigned i = 0; i < a->row->args_count; i++)
		if (!arg_same(g, a, b, i))
			d.args |= UINT64_C(1) << i;
	if (!run_one(g, 0, a) || !run_one(g, 1, b))
		return false;
	d.results = compare_outcomes(g, a->row, &d.outcomes);
	if (d.args != 0)
		d.kind = KVT_CHANGED;
	g->a->counts.same += d.args == 0;
	g->a->counts.changed += d.args != 0;
	g->a->counts.outcomes += d.outcomes;
	return ((d.args == 0 && !d.outcomes) || tell(g, &d, a, b)) && pair_created(g, a->row, true, true);
}

/* An operation that only one of them has. */
static bool
run_only(struct aligning *g, unsigned which, const struct entry *e)
{
	struct kvt_difference d = { .kind = KVT_ONLY, .row = e->row };

	if (!run_one(g, which, e))
		return false;
	g->a->counts.only[which]++;
	return tell(g, &d, which == 0 ? e : NULL, which == 1 ? e : NULL) &&
	       pair_created(g, e->row, which == 0, which == 1);
}

/* ---- Reading ahead ------------------------------------------------------------------------------ */

static struct entry *
ahead(struct side *s, unsigned i)
{
	return &s->ahead[(s->head + i) % KVT_ALIGN_WINDOW];
}

static void
drop_ahead(struct side *s)
{
	entry_free(ahead(s, 0));
	s->head = (s->head + 1) % KVT_ALIGN_WINDOW;
	s->count--;
}

static bool
push(struct aligning *g, struct side *s, struct entry *e)
{
	if (!entry_own(e))
		return no_memory(g);
	*ahead(s, s->count) = *e;
	s->count++;
	return true;
}

static bool
fill(struct aligning *g, unsigned which)
{
	struct side *s = &g->side[which];
	struct entry e;

	while (s->count < KVT_ALIGN_WINDOW && !s->ended) {
		if (!read_op(g, which, &e))
			return false;
		if (!s->ended && !push(g, s, &e))
			return false;
	}
	return true;
}

static uint16_t *
cell(struct aligning *g, unsigned i, unsigned j)
{
	return &g->common[(size_t)i * (KVT_ALIGN_WINDOW + 1) + j];
}

static void
find_common(struct aligning *g, unsigned a_count, unsigned b_count)
{
	struct side *a = &g->side[0], *b = &g->side[1];

	for (unsigned j = 0; j <= b_count; j++)
		*cell(g, a_count, j) = 0;
	for (unsigned i = a_count; i-- > 0;) {
		*cell(g, i, b_count) = 0;
		for (unsigned j = b_count; j-- > 0;) {
			unsigned down = *cell(g, i + 1, j) & ~SAME, right = *cell(g, i, j + 1) & ~SAME;

			if (ops_same(g, ahead(a, i), ahead(b, j)))
				*cell(g, i, j) = (uint16_t)(((*cell(g, i + 1, j + 1) & ~SAME) + 1) | SAME);
			else
				*cell(g, i, j) = (uint16_t)(down > right ? down : right);
		}
	}
}

/*
 * Operations that the traces do not have in common, between two that they do:
 * where one of them has the same name as one of the other's, it was changed.
 */
static bool
run_hunk(struct aligning *g, unsigned a_count, unsigned b_count)
{
	struct side *a = &g->side[0], *b = &g->side[1];
	bool done = true;

	while (done && a_count > 0) {
		unsigned k = 0;

		while (k < b_count && ahead(b, k)->row != ahead(a, 0)->row)
			k++;
		if (k == b_count) {
			done = run_only(g, 0, ahead(a, 0));
		} else {
			for (; done && k > 0; k--, b_count--) {
				done = run_only(g, 1, ahead(b, 0));
				drop_ahead(b);
			}
			done = done && run_both(g, ahead(a, 0), ahead(b, 0));
			drop_ahead(b);
			b_count--;
		}
		drop_ahead(a);
		a_count--;
	}
	for (; done && b_count > 0; b_count--) {
		done = run_only(g, 1, ahead(b, 0));
		drop_ahead(b);
	}
	return done;
}

/* How the walk through the window goes on. */
enum walk { WALK_A, WALK_B, WALK_BOTH, WALK_END };

static enum walk
walk(struct aligning *g, unsigned i, unsigned j)
{
	unsigned left = *cell(g, i, j) & ~SAME;

	if (left == 0)
		return WALK_END;
	if ((*cell(g, i, j) & SAME) != 0)
		return WALK_BOTH;
	return left == (*cell(g, i + 1, j) & ~SAME) ? WALK_A : WALK_B;
}

/* Both stand at operations that differ: read ahead, and go on to where they are together again. */
static bool
align(struct aligning *g)
{
	struct side *a = &g->side[0], *b = &g->side[1];
	unsigned i = 0, j = 0, from_i = 0, from_j = 0, together = 0, a_count, b_count;
	bool is_all;

	if (g->common == NULL)
		g->common = malloc((size_t)(KVT_ALIGN_WINDOW + 1) * (KVT_ALIGN_WINDOW + 1) * sizeof *g->common);
	if (g->common == NULL)
		return no_memory(g);
	if (!fill(g, 0) || !fill(g, 1))
		return false;
	a_count = a->count < g->window ? a->count : g->window;
	b_count = b->count < g->window ? b->count : g->window;
	is_all = a->ended && b->ended && a_count == a->count && b_count == b->count;
	find_common(g, a_count, b_count);
	/* positions are in the window as it was; what was run has left it */
	while (together < RESYNC) {
		enum walk step = walk(g, i, j);

		i += step == WALK_A;
		j += step == WALK_B;
		if (step == WALK_A || step == WALK_B)
			continue;
		if (step == WALK_END && !is_all && (from_i + from_j > 0 || g->window < KVT_ALIGN_WINDOW))
			break; /* what comes next may belong to these */
		if (step == WALK_END) {
			i = a_count;
			j = b_count;
		}
		if (i != from_i || j != from_j)
			together = 0;
		if (!run_hunk(g, i - from_i, j - from_j))
			return false;
		from_i = i;
		from_j = j;
		if (step == WALK_END)
			break;
		if (!run_both(g, ahead(a, 0), ahead(b, 0)))
			return false;
		drop_ahead(a);
		drop_ahead(b);
		from_i = ++i;
		from_j = ++j;
		together++;
	}
	if (together >= RESYNC)
		g->window = WINDOW_MIN;
	else if (g->window < KVT_ALIGN_WINDOW)
		g->window *= 2;
	return true;
}

/* ---- All of it ------------------------------------------------------------------------------------- */

/* The next operation of a side: read ahead, or read now into "e".  NULL: stopped, or at the end. */
static struct entry *
next(struct aligning *g, unsigned which, struct entry *e)
{
	struct side *s = &g->side[which];

	if (s->count > 0)
		return ahead(s, 0);
	return read_op(g, which, e) && !s->ended ? e : NULL;
}

static void
taken(struct side *s)
{
	if (s->count > 0)
		drop_ahead(s);
}

static bool
compare_configs(struct aligning *g)
{
	const struct kvms_row *row = kvms_store_row();
	const struct kvms_op *config[2];

	for (unsigned i = 0; i < 2; i++)
		if (g->a->target[i]->config(g->a->target[i], &config[i]) != KVT_DONE)
			return no_memory(g);
	for (unsigned i = 0; i < row->args_count; i++) {
		struct kvt_difference d = { .kind = KVT_CONFIG, .row = row, .field = i };
		bool same = config[0]->arg[i] == config[1]->arg[i];
		uint64_t count;

		if (same && kvms_type_is_list(row->args[i].type) &&
		    kvt_list_words(row->args[i].type, config[0]->arg[i]) > 0)
			same = memcmp(kvms_op_list(config[0], row, i, &count), kvms_op_list(config[1], row, i, &count),
				      kvt_list_words(row->args[i].type, config[0]->arg[i]) * sizeof(uint64_t)) == 0;
		if (same)
			continue;
		g->differs = true;
		g->a->counts.config++;
		for (unsigned k = 0; k < 2; k++) {
			d.has[k] = true;
			d.side[k] = (struct kvt_aligned){ .line = g->side[k].store_line, .op = *config[k] };
		}
		if (g->a->differs != NULL && !g->a->differs(g->a->arg, &d))
			return stop(g, KVT_DIVERGED, NULL);
	}
	return true;
}

static bool
run_all(struct aligning *g)
{
	struct entry read[2], *e[2];
	bool first = true;

	for (;;) {
		for (unsigned i = 0; i < 2; i++) {
			e[i] = next(g, i, &read[i]);
			if (e[i] == NULL && !g->side[i].ended)
				return false;
		}
		if (first && !compare_configs(g))
			return false;
		first = false;
		if (e[0] == NULL && e[1] == NULL)
			return true;
		if (e[0] != NULL && e[1] != NULL && ops_same(g, e[0], e[1])) {
			if (!run_both(g, e[0], e[1]))
				return false;
			taken(&g->side[0]);
			taken(&g->side[1]);
			continue;
		}
		for (unsigned i = 0; i < 2; i++)
			if (e[i] == &read[i] && !push(g, &g->side[i], &read[i]))
				return false;
		if (!align(g))
			return false;
	}
}

static void
side_free(struct side *s)
{
	while (s->count > 0)
		drop_ahead(s);
	kvt_parser_free(&s->parser);
	kvt_bindings_free(&s->bindings);
	kvt_words_free(&s->config_lists);
	kvt_words_free(&s->ids);
	kvms_outcome_free(&s->out);
}

enum kvt_result
kvt_align(struct kvt_align *a, struct kvt_input *first, struct kvt_input *second)
{
	struct aligning *g = calloc(1, sizeof *g);
	uint64_t started = kvt_now();
	enum kvt_result result;

	memset(&a->counts, 0, sizeof a->counts);
	a->target[0] = a->target[1] = NULL;
	if (g == NULL) {
		fprintf(a->report, "no memory left\n");
		return KVT_DISCONNECTED;
	}
	g->a = a;
	g->sweep_at = SWEEP_MIN;
	g->window = WINDOW_MIN;
	g->result = KVT_PASSED;
	g->side[0].in = first;
	g->side[1].in = second;
	for (unsigned i = 0; i < 2; i++) {
		g->side[i].parser = kvt_parser_new(kvt_input_name(g->side[i].in));
		kvms_op_init(&g->side[i].config, kvms_store_row());
		if (g->side[i].parser == NULL)
			(void)no_memory(g);
	}
	if (g->result == KVT_PASSED && run_all(g) && g->differs)
		g->result = KVT_DIVERGED;
	for (unsigned i = 0; i < 2; i++) {
		side_free(&g->side[i]);
		kvt_bindings_free(&g->partner[i]);
	}
	free(g->common);
	result = g->result;
	free(g);
	a->counts.nanoseconds = kvt_now() - started;
	return result;
}
