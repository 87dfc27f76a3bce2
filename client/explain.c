#include "client/explain.h"

#include "client/session.h"
#include "client/watch.h"
#include "trace/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LAST 3u       /* steps shown of each object */
#define TRIES_MAX 64u /* dry runs */
#define SHOWN 4u      /* of their outcomes */
#define IDS_NEAR 4u   /* live ids tried in place of one */
#define BUDGET UINT64_C(60000000000)

/* A step that touched something. */
struct touch {
	uint64_t line, step;
	struct kvt_buffer text;
};

/* One object that the operation names. */
struct object {
	struct kvmctl_watch watch;
	uint64_t key;
	bool is;    /* there is such an object */
	bool began; /* the watch did */
	struct touch last[LAST];
	uint64_t touches;
};

struct explaining {
	struct kvmctl *k;
	const char *path;
	const struct kvt_divergence *d;
	struct kvmctl_session session;
	struct object object[KVMCTL_WATCHED];
	struct kvt_buffer *text;
};

static const char *const object_names[KVMCTL_WATCHED] = {
	[KVMCTL_FRAME] = "frame", [KVMCTL_AREA] = "area", [KVMCTL_VA] = "va"
};

/* ---- Which objects ------------------------------------------------------------------- */

struct handle {
	uint64_t id, paddr;
	bool found;
};

static bool
find_handle(void *arg, const uint64_t *words, unsigned count)
{
	struct handle *h = arg;

	if (words[0] > 5)
		return false;
	if (words[0] == 5 && count >= 3 && words[1] == h->id) {
		h->found = true;
		h->paddr = words[2];
		return false;
	}
	return true;
}

static void
set_object(struct explaining *x, enum kvmctl_watched kind, uint64_t key)
{
	if (x->object[kind].is)
		return;
	x->object[kind].is = true;
	x->object[kind].key = key;
}

static bool
is_named(const struct kvms_field *field, const char *name)
{
	return strcmp(field->name, name) == 0;
}

/* What the operation names; "s" is NULL if the store is in a daemon, where a handle is not looked up. */
static void
find_objects(struct explaining *x, struct kvms *s)
{
	const struct kvms_row *row = x->d->line->row;

	for (unsigned i = 0; i < row->args_count; i++) {
		const struct kvms_field *arg = &row->args[i];
		uint64_t value = x->d->op->arg[i];

		if (arg->type == KVMS_ID && arg->kind == KVMS_ID_AREA) {
			set_object(x, KVMCTL_AREA, value);
		} else if (arg->type == KVMS_ID && arg->kind == KVMS_ID_FRAME) {
			struct handle h = { .id = value };

			if (s != NULL)
				(void)kvms_visit(s, find_handle, &h);
			if (h.found)
				set_object(x, KVMCTL_FRAME, h.paddr);
		} else if (arg->type == KVMS_HEX && strncmp(arg->name, "paddr", 5) == 0) {
			set_object(x, KVMCTL_FRAME, value);
		} else if (arg->type == KVMS_HEX && (is_named(arg, "va") || is_named(arg, "start"))) {
			set_object(x, KVMCTL_VA, value);
		}
	}
}

/* ---- The second replay ------------------------------------------------------------------ */

static void
begin_watches(struct explaining *x, struct kvms *s)
{
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		if (x->object[i].is)
			x->object[i].began = kvmctl_watch_begin(&x->object[i].watch, i, x->object[i].key, s);
}

static struct kvt_target *
open_again(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct explaining *x = arg;
	const struct kvmctl_trace_store want = { .trace = x->path, .config = config, .base = base };
	struct kvmctl plain = *x->k;

	if (plain.option[OPTION_embedded] == NULL)
		plain.option[OPTION_embedded] = "";
	plain.option[OPTION_check] = NULL;
	if (kvmctl_session_open_trace(&plain, &x->session, &want, why) != KVMCTL_OK)
		return NULL;
	kvms_set_check(kvt_target_store(x->session.target), KVMS_CHECK_OFF, 0);
	begin_watches(x, kvt_target_store(x->session.target));
	return x->session.target;
}

static void
note_touch(struct object *o, const struct kvms_op *op, const struct kvms_outcome *out, struct kvt_place place)
{
	const struct kvms_row *row = kvms_op_row(op->code);
	struct touch *t = &o->last[o->touches++ % LAST];

	t->line = place.line;
	t->step = place.step;
	kvt_buffer_reset(&t->text);
	kvt_print_op(&t->text, row, op);
	kvt_puts(&t->text, " -> ");
	kvt_print_outcome(&t->text, row, out);
}

static bool
on_step(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
	const struct kvms_outcome *out, uint64_t number)
{
	struct explaining *x = arg;
	struct kvt_place place = { line->number, number };
	struct persist_step step = {
		.number = number,
		.restored = PERSIST_NO_STEP,
		.op = op,
		.out = (struct kvms_outcome *)(uintptr_t)out, /* which is only looked at */
	};

	if (line->kind != KVT_OP)
		return true;
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		if (x->object[i].began && kvmctl_watch_step(&x->object[i].watch, kvt_target_store(target), &step))
			note_touch(&x->object[i], op, out, place);
	return true;
}

/* The state in front of the step.  False: it cannot be made again. */
static bool
replay_again(struct explaining *x)
{
	struct kvt_replay run = {
		.arg = x,
		.open = open_again,
		.step = on_step,
		.keep_going = true,
		.has_to = true,
		.to = x->d->line->kind == KVT_OP ? x->d->step - 1 : x->d->step,
		.from = x->k->option[OPTION_embedded] != NULL && x->k->option[OPTION_embedded][0] != '\0' &&
				x->k->option[OPTION_from] != NULL
			    ? strtoull(x->k->option[OPTION_from], NULL, 0)
			    : 0,
	};
	char error[1024];
	struct kvt_input *in = kvt_input_open(x->path, error, sizeof error);
	enum kvt_result result;

	if (in == NULL)
		return false;
	run.skip = run.from > 0;
	run.report = fopen("/dev/null", "w");
	if (run.report == NULL) {
		kvt_input_close(&in);
		return false;
	}
	result = kvt_replay(&run, in, x->path);
	fclose(run.report);
	kvt_input_close(&in);
	return (result == KVT_PASSED || result == KVT_DIVERGED) && run.target != NULL;
}

/* ---- What was told of it ------------------------------------------------------------------ */

/* The outcome of this class and name, or 0. */
static unsigned
find_outcome(const struct kvt_line *line)
{
	for (unsigned i = 1; i <= kvms_outcome_max(); i++) {
		const char *name = kvms_outcome_name(i);

		if (line->name.at != NULL && kvms_outcome_class(i) == line->class && strlen(name) == line->name.size &&
		    memcmp(name, line->name.at, line->name.size) == 0)
			return i;
	}
	return 0;
}

static void
tell_clause(struct explaining *x)
{
	const struct kvms_outcome *out = x->d->out;
	unsigned recorded = x->d->line->kind == KVT_OP ? find_outcome(x->d->line) : 0;

	if (out->name != 0)
		kvt_putf(x->text, "  decided by %s %s: %s\n", kvms_class_word(kvms_outcome_class(out->name)),
			 kvms_outcome_name(out->name), kvms_outcome_meaning(out->name));
	else if (x->d->line->kind == KVT_OP && x->d->line->class != KVMS_OK)
		kvt_puts(x->text, "  no clause of the operation stood in its way\n");
	if (recorded != 0 && recorded != out->name)
		kvt_putf(x->text, "  recorded was %s %s: %s\n", kvms_class_word(kvms_outcome_class(recorded)),
			 kvms_outcome_name(recorded), kvms_outcome_meaning(recorded));
}

static void
tell_touches(struct explaining *x)
{
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++) {
		const struct object *o = &x->object[i];
		uint64_t first = o->touches > LAST ? o->touches - LAST : 0;

		if (!o->began)
			continue;
		kvt_putf(x->text, i == KVMCTL_AREA ? "  %s %" PRIu64 : "  %s 0x%" PRIx64, object_names[i], o->key);
		if (o->touches == 0) {
			kvt_puts(x->text, ": no step touched it before\n");
			continue;
		}
		kvt_putf(x->text, ": touched by %" PRIu64 " step%s before, last by\n", o->touches,
			 o->touches == 1 ? "" : "s");
		for (uint64_t t = first; t < o->touches; t++) {
			const struct touch *touch = &o->last[t % LAST];

			kvt_putf(x->text, "    line %" PRIu64 ", step %" PRIu64 ": ", touch->line, touch->step);
			kvt_put(x->text, kvt_buffer_text(&touch->text),
				touch->text.size < 300 ? touch->text.size : 300);
			kvt_putc(x->text, '\n');
		}
	}
}

/* ---- What else would have been ---------------------------------------------------------------- */

struct trying {
	struct explaining *x;
	struct kvms *s;
	struct kvms_op op;
	struct kvms_outcome out;
	unsigned tries, shown;
	bool as_recorded; /* this round shows outcomes as recorded, else others that are ok */
	uint64_t tried[TRIES_MAX]; /* values of the argument at hand */
	unsigned tried_count;
};

/* Class, name and fields as recorded?  Ids are left aside: they would be others anyway. */
static bool
is_as_recorded(const struct kvt_line *line, const struct kvms_outcome *out)
{
	if (!line->recorded || !kvt_outcome_holds(line, out))
		return false;
	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].id == KVMS_ID_NONE && !kvt_field_holds(line->row, out, &line->fields[i]))
			return false;
	return true;
}

static void
try_value(struct trying *t, unsigned i, uint64_t value)
{
	const struct kvt_line *line = t->x->d->line;
	const struct kvms_field *arg = &line->row->args[i];
	uint64_t given = t->x->d->op->arg[i];
	bool fits;

	if (value == given || t->tries == TRIES_MAX || t->shown == SHOWN)
		return;
	for (unsigned k = 0; k < t->tried_count; k++)
		if (t->tried[k] == value)
			return;
	t->tried[t->tried_count++] = value;
	t->tries++;
	t->op.arg[i] = value;
	if (kvms_dry_run(t->s, &t->op, &t->out) == KVMS_DONE) {
		fits = is_as_recorded(line, &t->out);
		if (fits == t->as_recorded && (fits || t->out.name == 0)) {
			if (t->shown++ == 0)
				kvt_puts(t->x->text, t->as_recorded ? "  it would have been as recorded with\n"
								    : "  it would have been ok with\n");
			kvt_putf(t->x->text, "    %s=", arg->name);
			kvt_print_value(t->x->text, arg->type, value, NULL);
			kvt_puts(t->x->text, " in place of ");
			kvt_print_value(t->x->text, arg->type, given, NULL);
			kvt_puts(t->x->text, ": ");
			kvt_print_outcome(t->x->text, line->row, &t->out);
			kvt_putc(t->x->text, '\n');
		}
	}
	t->op.arg[i] = given;
}

/* Live ids of a kind nearest to one. */
struct near {
	unsigned tag;
	uint64_t id;
	uint64_t at[IDS_NEAR];
	unsigned count;
};

static uint64_t
distance(uint64_t a, uint64_t b)
{
	return a < b ? b - a : a - b;
}

static bool
gather_near(void *arg, const uint64_t *words, unsigned count)
{
	struct near *n = arg;
	uint64_t id = count >= 2 ? words[1] : 0;
	unsigned place;

	if (words[0] > n->tag)
		return false;
	if (words[0] != n->tag || id == n->id)
		return true;
	for (place = n->count; place > 0 && distance(n->at[place - 1], n->id) > distance(id, n->id); place--)
		if (place < IDS_NEAR)
			n->at[place] = n->at[place - 1];
	if (place < IDS_NEAR)
		n->at[place] = id;
	n->count += n->count < IDS_NEAR;
	return true;
}

/* Tags of the digest's elements that have ids of a kind as keys. */
static unsigned
tag_of(enum kvms_kind kind)
{
	static const unsigned tags[] = {
		[KVMS_ID_FRAME] = 5,     [KVMS_ID_SEGMENT] = 6, [KVMS_ID_UNIQUE] = 7, [KVMS_ID_LIST] = 8,
		[KVMS_ID_VM_SPACE] = 10, [KVMS_ID_CURSOR] = 12, [KVMS_ID_AREA] = 14,  [KVMS_ID_READER] = 16,
		[KVMS_ID_WRITER] = 17,   [KVMS_ID_IOMEM] = 18,
	};

	return (size_t)kind < sizeof tags / sizeof tags[0] ? tags[kind] : 0;
}

/* The area nearest to an address. */
struct near_area {
	uint64_t va, start, end;
	bool found;
};

static uint64_t
distance_of(uint64_t va, uint64_t start, uint64_t end)
{
	return va < start ? start - va : va >= end ? va - end : 0;
}

static bool
gather_area(void *arg, const uint64_t *words, unsigned count)
{
	struct near_area *n = arg;

	if (words[0] > 14)
		return false;
	if (words[0] != 14 || count < 4 ||
	    (n->found && distance_of(n->va, words[2], words[3]) >= distance_of(n->va, n->start, n->end)))
		return true;
	n->found = true;
	n->start = words[2];
	n->end = words[3];
	return true;
}

/* Beginning, middle and end of the area nearest to a kernel address. */
static void
try_area(struct trying *t, unsigned i, uint64_t va)
{
	struct near_area n = { .va = va };

	(void)kvms_visit(t->s, gather_area, &n);
	if (!n.found || n.end - n.start < KVMS_PAGE_SIZE)
		return;
	try_value(t, i, n.start);
	try_value(t, i, (n.start + (n.end - n.start) / 2) & ~(uint64_t)(KVMS_PAGE_SIZE - 1));
	try_value(t, i, n.end - KVMS_PAGE_SIZE);
	try_value(t, i, n.end);
}

static void
try_argument(struct trying *t, unsigned i)
{
	static const uint64_t steps[] = { 0x1000, 0x200000 };
	const struct kvms_field *arg = &t->x->d->line->row->args[i];
	uint64_t value = t->x->d->op->arg[i], word;
	bool is_id = arg->type == KVMS_ID || arg->type == KVMS_TABLE;

	t->tried_count = 0;
	if (is_id) {
		struct near n = { tag_of(arg->type == KVMS_ID ? arg->kind : KVMS_ID_VM_SPACE), value, { 0 }, 0 };

		if (n.tag != 0)
			(void)kvms_visit(t->s, gather_near, &n);
		for (unsigned k = 0; k < n.count; k++)
			try_value(t, i, n.at[k]);
		if (arg->type == KVMS_TABLE)
			try_value(t, i, 0);
	} else if (arg->type == KVMS_HEX && !is_named(arg, "meta")) {
		for (unsigned k = 0; k < sizeof steps / sizeof steps[0]; k++) {
			try_value(t, i, value & ~(steps[k] - 1));
			if (value + steps[k] > value)
				try_value(t, i, (value + steps[k]) & ~(steps[k] - 1));
			if (value >= steps[k])
				try_value(t, i, value - steps[k]);
		}
		if (value >> 63 != 0)
			try_area(t, i, value);
	} else {
		for (unsigned k = 0; kvms_word_at(arg->type, k, &word) != NULL && k < 8; k++)
			try_value(t, i, word);
		if (arg->type == KVMS_BOOL)
			try_value(t, i, !value);
	}
}

static void
tell_others(struct explaining *x)
{
	struct trying t = { .x = x, .s = kvt_target_store(x->session.target), .op = *x->d->op };
	/* where the outcome is ok, only some of its fields are not as recorded: another ok says nothing */
	bool is_ok = x->d->out->name == 0;

	if (x->d->line->kind != KVT_OP)
		return;
	for (int round = 0; round < (is_ok ? 1 : 2); round++) {
		t.as_recorded = round == 0;
		t.tries = t.shown = 0;
		for (unsigned i = 0; i < x->d->line->row->args_count; i++)
			try_argument(&t, i);
		if (t.shown > 0)
			break;
	}
	if (t.shown == 0 && x->d->line->row->args_count > 0)
		kvt_putf(x->text, "  nothing near these arguments would have been as recorded%s\n", is_ok ? "" : ", or ok");
	kvms_outcome_free(&t.out);
}

/* A word of a command line, in quotes where it needs them. */
static void
put_word(struct kvt_buffer *b, const char *word)
{
	if (word[0] != '\0' && word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
						 "_-+=./:,@%")] == '\0') {
		kvt_puts(b, word);
		return;
	}
	kvt_putc(b, '\'');
	for (; *word != '\0'; word++) {
		if (*word == '\'')
			kvt_puts(b, "'\\'");
		kvt_putc(b, *word);
	}
	kvt_putc(b, '\'');
}

static void
tell_command(struct explaining *x)
{
	const char *embedded = x->k->option[OPTION_embedded];
	uint64_t step = x->d->line->kind == KVT_OP ? x->d->step - 1 : x->d->step;

	/* what was in a daemon's store before, the trace does not say */
	if (strcmp(x->path, "-") == 0 || (embedded == NULL && x->k->option[OPTION_store] != NULL))
		return;
	kvt_puts(x->text, "  the state in front of it: kvmctl ");
	if (embedded != NULL && embedded[0] != '\0') {
		kvt_puts(x->text, "--embedded=");
		put_word(x->text, embedded);
	} else {
		kvt_puts(x->text, "-e");
	}
	kvt_puts(x->text, " shell --trace ");
	put_word(x->text, x->path);
	if (embedded != NULL && embedded[0] != '\0' && x->k->option[OPTION_from] != NULL)
		kvt_putf(x->text, " --from %" PRIu64, (uint64_t)strtoull(x->k->option[OPTION_from], NULL, 0));
	kvt_putf(x->text, " --to %" PRIu64 "\n", step);
}

void
kvmctl_explain(struct kvmctl *k, const char *path, const struct kvt_divergence *d, uint64_t budget,
	       struct kvt_buffer *text)
{
	struct explaining x = { .k = k, .path = path, .d = d, .text = text };
	struct kvms *s = kvt_target_store(d->target);

	tell_clause(&x);
	/* a daemon's store that was there before is not made again by the trace */
	if (strcmp(path, "-") != 0 && budget < BUDGET &&
	    (k->option[OPTION_embedded] != NULL || k->option[OPTION_store] == NULL)) {
		find_objects(&x, s);
		if (replay_again(&x)) {
			tell_others(&x);
			tell_touches(&x);
		}
	}
	tell_command(&x);
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++) {
		if (x.object[i].is)
			kvmctl_watch_end(&x.object[i].watch);
		for (unsigned t = 0; t < LAST; t++)
			kvt_buffer_free(&x.object[i].last[t].text);
	}
	kvmctl_session_close(&x.session);
}
