#include "trace/shrink.h"

#include "trace/plain.h"
#include "trace/script.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOADED_MAX ((size_t)4 << 30) /* bytes of a trace in memory */
#define PAIRS_MAX 40u                /* steps, for trying all pairs */
#define HARD_MIN 2000u               /* steps left, for trying without all operations of a sort, and without objects */
#define ROUNDS 8u

/* What a step gives is not what was recorded. */
struct difference {
	bool by_outcome; /* class or name */
	int field;       /* else the first field: its index, or KVT_FIELD_* */
};

/* What it is that fails; see shrink.h. */
struct signature {
	bool set;
	const struct kvms_row *row;
	bool is_request;
	struct difference how;
	enum kvms_class class; /* recorded */
	char name[64];         /* recorded, "" = not given */
	struct kvms_outcome model;
	uint64_t fields; /* results in which they differ, as bits */
	unsigned law;
};

struct shrink {
	struct kvt_shrink *k;
	struct kvt_script now;     /* the shortest that fails */
	struct kvt_trial run, other; /* of candidates; of what a recorder gave */
	struct signature sig;
	struct kvmp_arena arena, recorded[2]; /* lines of the trace; of the recorder: those of "now", and the next */
	unsigned char *drop, *must;
	struct kvt_buffer text, answer;
	uint64_t *tried; /* sums over candidates that do not fail; a power of two, 0 = free place */
	size_t tried_count, tried_capacity;
	bool last_fails; /* it is the last step that fails */
	bool failed;
};

/* ---- Telling ----------------------------------------------------------------------- */

static void
lose_memory(struct shrink *s)
{
	if (!s->failed)
		fprintf(s->k->report, "no memory left\n");
	s->failed = true;
}

static bool
stopped(const struct shrink *s)
{
	return s->failed || (s->k->stop != NULL && *s->k->stop != 0);
}

static const char *
field_name(const struct signature *sig)
{
	if (sig->how.field >= 0)
		return sig->row->results[sig->how.field].name;
	return sig->how.field == KVT_FIELD_CAUSE ? "cause" : "a field that the model does not have";
}

static void
name_failure(struct shrink *s)
{
	const struct signature *sig = &s->sig;
	char *to = s->k->failure;
	size_t size = sizeof s->k->failure;

	if (s->k->while_law_breaks)
		snprintf(to, size, "%s breaks %s", sig->row->name,
			 sig->law < kvms_law_max() ? kvms_law_name(sig->law) : "what the model promises of a step");
	else if (!s->k->while_diverges)
		snprintf(to, size, "the command says so");
	else if (sig->how.by_outcome)
		snprintf(to, size, "%s: recorded %s%s%s, the model says %s%s%s", sig->row->name,
			 kvms_class_word(sig->class), sig->name[0] != '\0' ? " " : "", sig->name,
			 kvms_class_word(kvms_outcome_class(sig->model.name)), sig->model.name != 0 ? " " : "",
			 kvms_outcome_name(sig->model.name));
	else
		snprintf(to, size, "%s: %s differs", sig->row->name, field_name(sig));
}

/* ---- Differences ---------------------------------------------------------------------- */

/* A recorded field with the ids of the run. */
static struct kvt_field
actual_field(const struct kvt_ids *ids, const struct kvt_line *line, const struct kvt_field *field)
{
	struct kvt_field f = *field;
	bool created = f.index >= 0 && line->row->results[f.index].created;

	if (line->kind == KVT_OP && f.id != KVMS_ID_NONE && f.typed && !created)
		(void)kvt_ids_get(ids, f.id, &f.value);
	return f;
}

/* Is there a difference between a recorded outcome and the model's?  Which, and in which fields. */
static bool
find_difference(const struct kvt_ids *ids, const struct kvt_line *line, const struct kvms_outcome *out,
		struct difference *d, uint64_t *fields)
{
	bool found = false;

	*fields = 0;
	for (size_t i = 0; line->kind == KVT_EXPECT && out->name != 0 && i < line->fields_count; i++)
		if (line->fields[i].index >= 0)
			*fields |= UINT64_C(1) << line->fields[i].index; /* a request refused: all that was expected */
	d->by_outcome = line->kind == KVT_OP ? line->recorded && !kvt_outcome_holds(line, out) : out->name != 0;
	if (d->by_outcome || (line->kind == KVT_OP && !line->recorded))
		return d->by_outcome;
	for (size_t i = 0; i < line->fields_count; i++) {
		struct kvt_field f = actual_field(ids, line, &line->fields[i]);

		if (kvt_field_holds(line->row, out, &f))
			continue;
		if (!found)
			d->field = f.index;
		found = true;
		if (f.index >= 0)
			*fields |= UINT64_C(1) << f.index;
	}
	return found;
}

static bool
copy_outcome(struct kvms_outcome *to, const struct kvms_outcome *from)
{
	uint64_t *list = malloc((from->list_count + 1) * sizeof *list);

	if (list == NULL)
		return false;
	if (from->list_count > 0)
		memcpy(list, from->list, from->list_count * sizeof *list);
	kvms_outcome_free(to);
	*to = *from;
	to->list = list;
	to->list_capacity = from->list_count + 1;
	return true;
}

static void
recorded_name(const struct kvt_line *line, char name[64])
{
	size_t size = line->name.at != NULL ? line->name.size : 0;

	snprintf(name, 64, "%.*s", (int)(size < 63 ? size : 63), size > 0 ? line->name.at : "");
}

/* Is this difference the one looked for?  The first ever seen is. */
static bool
same_difference(struct shrink *s, const struct kvt_step *step, const struct kvms_outcome *out,
		const struct difference *d, uint64_t fields)
{
	const struct kvt_line *line = step->line;
	struct signature *sig = &s->sig;
	char name[64];

	recorded_name(line, name);
	if (!sig->set) {
		sig->set = true;
		sig->row = step->row;
		sig->is_request = step->is_request;
		sig->how = *d;
		sig->class = line->class;
		memcpy(sig->name, name, sizeof name);
		sig->fields = fields;
		if (!copy_outcome(&sig->model, out))
			lose_memory(s);
		return true;
	}
	if (sig->row != step->row || sig->is_request != step->is_request || sig->how.by_outcome != d->by_outcome)
		return false;
	if (d->by_outcome)
		return sig->class == line->class && strcmp(sig->name, name) == 0 && sig->model.name == out->name;
	return sig->how.field == d->field;
}

/* One field of two outcomes of an operation.  Ids are of different runs: they only have to be there. */
static bool
same_field(const struct kvms_row *row, const struct kvms_outcome *a, const struct kvms_outcome *b, unsigned i)
{
	enum kvms_type type = row->results[i].type;
	uint64_t count_a, count_b;
	const uint64_t *list_a, *list_b;

	if ((a->present >> i & 1) != (b->present >> i & 1))
		return false;
	if ((a->present >> i & 1) == 0 || type == KVMS_ID)
		return true;
	if (a->field[i] != b->field[i])
		return false;
	if (!kvms_type_is_list(type))
		return true;
	list_a = kvms_outcome_list(a, row, i, &count_a);
	list_b = kvms_outcome_list(b, row, i, &count_b);
	return count_a == 0 || memcmp(list_a, list_b, kvt_list_words(type, count_a) * sizeof *list_a) == 0;
}

/* Without a recorder: does the model still say what it said of the step that failed? */
static bool
model_says_the_same(const struct shrink *s, const struct kvms_outcome *out)
{
	const struct signature *sig = &s->sig;

	if (out->name != sig->model.name)
		return false;
	for (unsigned i = 0; i < sig->row->results_count; i++)
		if ((sig->fields >> i & 1) != 0 && !same_field(sig->row, &sig->model, out, i))
			return false;
	return sig->how.by_outcome || sig->how.field != KVT_FIELD_DETAIL || out->detail == sig->model.detail;
}

/* ---- Does a candidate fail? --------------------------------------------------------------- */

struct comparing {
	struct shrink *s;
	bool to_the_first; /* a difference ends it */
	bool differs;
	struct difference how; /* the first */
	uint64_t fields;
};

static bool
compare_step(void *arg, struct kvt_trial *r, const struct kvt_step *step, struct kvt_step *now)
{
	struct comparing *c = arg;
	struct difference d;
	uint64_t fields;

	now->differs = step->line != NULL && find_difference(&r->ids, step->line, &r->out, &d, &fields);
	now->fields = now->differs ? fields : 0;
	if (!now->differs || c->differs)
		return true;
	c->differs = true;
	c->how = d;
	c->fields = fields;
	return !c->to_the_first;
}

/* What the steps of a script made, as far as their lines tell. */
static void
take_created(struct kvt_script *script)
{
	for (size_t i = 0; i < script->count; i++) {
		const struct kvt_line *line = script->at[i].line;
		unsigned n = 0;

		if (script->at[i].is_request || !line->recorded || line->class != KVMS_OK)
			continue;
		for (unsigned r = 0; r < line->row->results_count && n < KVT_CREATED_MAX; r++) {
			if (!line->row->results[r].created)
				continue;
			for (size_t f = 0; f < line->fields_count; f++)
				if (line->fields[f].index == (int)r)
					script->at[i].created[n] = line->fields[f].value;
			n++;
		}
	}
}

/* Run a trace as it was read, and find where it differs from what was recorded. */
static enum kvt_end
run_recorded(struct kvt_trial *r, struct kvt_script *script, struct comparing *c)
{
	take_created(script);
	r->check = c->s->k->check;
	r->check_every = c->s->k->check_every;
	r->lenient = true;
	r->arg = c;
	r->each = compare_step;
	return kvt_script_run(r, script);
}

/* Print the candidate into s->text. */
static bool
print_candidate(struct shrink *s, const char *comment)
{
	kvt_buffer_reset(&s->text);
	if (kvt_script_print(&s->text, &s->run.ran, comment, s->k->check, s->k->check_every))
		return true;
	lose_memory(s);
	return false;
}

/* What the recorder makes of the candidate, as a script. */
static bool
ask_recorder(struct shrink *s, struct kvt_script *script)
{
	char error[256];
	struct kvt_input *in;
	FILE *report;
	bool good;

	for (size_t i = 0; i < s->run.ran.count; i++)
		s->run.ran.at[i].differs = false;
	if (!print_candidate(s, NULL))
		return false;
	kvt_buffer_reset(&s->answer);
	if (!s->k->record(s->k->arg, kvt_buffer_text(&s->text), s->text.size, &s->answer)) {
		s->failed = s->failed || !stopped(s);
		return false;
	}
	kvmp_arena_reset(&s->recorded[1]);
	/* once it has given a trace, one that it cannot give is no reason to end */
	report = s->sig.set ? NULL : s->k->report;
	in = kvt_input_memory("recorder", kvt_buffer_text(&s->answer), s->answer.size, error, sizeof error);
	good = in != NULL && kvt_script_load(script, &s->recorded[1], in, report);
	if (in == NULL && report != NULL)
		fprintf(report, "%s\n", error);
	s->failed = s->failed || (!good && report != NULL);
	kvt_input_close(&in);
	return good;
}

/* The candidate ends with the step that differs from the recorder's, which keeps what the recorder said. */
static bool
cut_at_difference(struct shrink *s, const struct kvt_script *recorded, size_t at, uint64_t fields)
{
	struct kvt_script *ran = &s->run.ran;

	if (at >= ran->count || ran->at[at].row != recorded->at[at].row)
		return false;
	ran->count = at + 1;
	ran->at[at].line = recorded->at[at].line;
	ran->at[at].differs = true;
	ran->at[at].fields = fields;
	return true;
}

static bool
recorder_differs(struct shrink *s)
{
	struct comparing c = { .s = s, .to_the_first = true };
	struct kvt_script script = { 0 };
	bool differs = false;

	if (ask_recorder(s, &script) && run_recorded(&s->other, &script, &c) == KVT_END_ENOUGH)
		differs = same_difference(s, &script.at[s->other.last], &s->other.out, &c.how, c.fields) &&
			  cut_at_difference(s, &script, s->other.last, c.fields);
	kvt_script_free(&script);
	return differs;
}

static bool
law_breaks(struct shrink *s, enum kvt_end end)
{
	const struct kvt_step *step = end == KVT_END_BROKEN ? &s->run.ran.at[s->run.ran.count - 1] : NULL;

	if (step == NULL)
		return false;
	if (s->sig.set)
		return s->sig.row == step->row && s->sig.law == s->run.law;
	s->sig.set = true;
	s->sig.row = step->row;
	s->sig.law = s->run.law;
	return true;
}

static bool
asked_says_so(struct shrink *s)
{
	enum kvt_asked asked = KVT_ASKED_FAILED;

	if (print_candidate(s, NULL))
		asked = s->k->ask(s->k->arg, kvt_buffer_text(&s->text), s->text.size);
	if (asked == KVT_ASKED_FAILED && !stopped(s))
		s->failed = true;
	return asked == KVT_ASKED_YES && !stopped(s);
}

static uint64_t
mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
	return sum ^ sum >> 29;
}

/* One number for a script without some steps. */
static uint64_t
sum_of(const struct kvt_script *script, const unsigned char *drop)
{
	uint64_t sum = 1;
	size_t words = kvt_payload_words(kvms_store_row(), &script->config);

	for (unsigned i = 0; i < KVMS_ARGS_MAX; i++)
		sum = mix(sum, script->config.arg[i]);
	for (size_t i = 0; i < words; i++)
		sum = mix(sum, script->config.list[i]);
	for (size_t i = 0; i < script->count; i++) {
		const struct kvms_op op = kvt_script_op(script, i);

		if (drop != NULL && drop[i] != 0)
			continue;
		sum = mix(sum, op.code * 2 + script->at[i].is_request);
		for (unsigned a = 0; a < script->at[i].row->args_count; a++)
			sum = mix(sum, op.arg[a]);
		words = kvt_payload_words(script->at[i].row, &op);
		for (size_t w = 0; w < words; w++)
			sum = mix(sum, op.list[w]);
		for (unsigned n = 0; n < KVT_CREATED_MAX; n++)
			sum = mix(sum, script->at[i].created[n]);
	}
	return sum != 0 ? sum : 1;
}

static size_t
tried_place(const struct shrink *s, uint64_t sum)
{
	size_t i = (size_t)(sum >> 20) & (s->tried_capacity - 1);

	while (s->tried[i] != 0 && s->tried[i] != sum)
		i = (i + 1) & (s->tried_capacity - 1);
	return i;
}

/* Has it been tried already?  If not, it counts as tried from here on. */
static bool
tried_before(struct shrink *s, uint64_t sum)
{
	if (s->tried_count * 2 >= s->tried_capacity) {
		struct shrink bigger = { .tried_capacity = s->tried_capacity != 0 ? s->tried_capacity * 2 : 1024 };

		bigger.tried = calloc(bigger.tried_capacity, sizeof *bigger.tried);
		if (bigger.tried == NULL)
			return false; /* then it is tried again */
		for (size_t i = 0; i < s->tried_capacity; i++)
			if (s->tried[i] != 0)
				bigger.tried[tried_place(&bigger, s->tried[i])] = s->tried[i];
		free(s->tried);
		s->tried = bigger.tried;
		s->tried_capacity = bigger.tried_capacity;
	}
	size_t at = tried_place(s, sum);
	if (s->tried[at] != 0)
		return true;
	s->tried[at] = sum;
	s->tried_count++;
	return false;
}

/* Run a script without what "drop" names.  True: it fails, and s->run.ran is the steps that are left. */
static bool
fails(struct shrink *s, const struct kvt_script *script, const unsigned char *drop)
{
	bool wants_last = s->k->while_diverges && s->k->record == NULL;
	enum kvt_end end;

	if (stopped(s) || tried_before(s, sum_of(script, drop)))
		return false;
	s->run.drop = drop;
	s->run.must = drop == s->drop && s->last_fails ? s->must : NULL;
	end = kvt_script_run(&s->run, script);
	s->k->done.tries++;
	if (s->k->progress != NULL)
		s->k->progress(s->k->arg, &s->k->done);
	if (end == KVT_END_NOMEM)
		lose_memory(s);
	if (end == KVT_END_NOMEM || end == KVT_END_LOST)
		return false;
	if (s->k->while_law_breaks ? !law_breaks(s, end) : end == KVT_END_BROKEN && s->k->while_diverges)
		return false;
	if (wants_last &&
	    (s->run.ran.count == 0 || s->run.last + 1 != script->count || !model_says_the_same(s, &s->run.out)))
		return false;
	if (s->k->while_diverges && s->k->record != NULL && !recorder_differs(s))
		return false;
	return s->k->ask == NULL || asked_says_so(s);
}

/* The candidate that has just failed is the shortest from here on. */
static void
accept(struct shrink *s)
{
	struct kvt_script swap = s->now;
	struct kvmp_arena arena = s->recorded[0];

	s->now = s->run.ran;
	s->run.ran = swap;
	s->recorded[0] = s->recorded[1];
	s->recorded[1] = arena;
	s->k->done.steps = s->now.count;
}

/* ---- Taking steps out --------------------------------------------------------------------------- */

struct makers {
	size_t *at[KVMS_ID_KINDS]; /* index + 1 of the step that made an id */
	uint64_t count[KVMS_ID_KINDS];
};

static void
makers_free(struct makers *m)
{
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		free(m->at[kind]);
}

/* Call for each id that a step made. */
static void
each_created(const struct kvt_step *step, size_t index, struct makers *m)
{
	unsigned n = 0;

	for (unsigned r = 0; r < step->row->results_count && n < KVT_CREATED_MAX; r++) {
		const struct kvms_field *f = &step->row->results[r];
		uint64_t id = f->created ? step->created[n] : 0;

		n += f->created;
		if (id == 0)
			continue;
		if (m->at[f->kind] != NULL)
			m->at[f->kind][id] = index + 1;
		else if (id >= m->count[f->kind])
			m->count[f->kind] = id + 1;
	}
}

static bool
makers_find(struct makers *m, const struct kvt_script *script)
{
	memset(m, 0, sizeof *m);
	for (size_t i = 0; i < script->count; i++)
		each_created(&script->at[i], i, m);
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++) {
		m->at[kind] = calloc(m->count[kind] + 1, sizeof *m->at[kind]);
		if (m->at[kind] == NULL)
			return false;
	}
	for (size_t i = 0; i < script->count; i++)
		each_created(&script->at[i], i, m);
	return true;
}

static void
must_have(struct shrink *s, const struct makers *m, enum kvms_kind kind, uint64_t id, size_t before)
{
	if (id < m->count[kind] && m->at[kind][id] != 0 && m->at[kind][id] - 1 < before)
		s->must[m->at[kind][id] - 1] = 1;
}

/* Mark the last step, the steps that made what it names, and so on: without them it cannot be. */
static bool
find_must(struct shrink *s)
{
	struct makers m;
	bool good = makers_find(&m, &s->now);

	if (s->now.count > 0) {
		memset(s->must, 0, s->now.count);
		s->must[s->now.count - 1] = 1;
	}
	for (size_t i = s->now.count; good && i-- > 0;) {
		const struct kvt_step *step = &s->now.at[i];

		if (s->must[i] == 0)
			continue;
		for (unsigned a = 0; a < step->row->args_count; a++) {
			const struct kvms_field *arg = &step->row->args[a];

			if (arg->type == KVMS_ID)
				must_have(s, &m, arg->kind, step->op.arg[a], i);
			else if (kvt_is_space_id(arg->type, step->op.arg[a]))
				must_have(s, &m, KVMS_ID_VM_SPACE, step->op.arg[a], i);
		}
	}
	makers_free(&m);
	if (!good)
		lose_memory(s);
	return good;
}

/* Try without the steps in s->drop. */
static bool
try_dropped(struct shrink *s)
{
	bool any = false;

	for (size_t i = 0; i < s->now.count; i++) {
		if (s->last_fails && s->must[i] != 0)
			s->drop[i] = 0;
		any = any || s->drop[i] != 0;
	}
	if (!any || !fails(s, &s->now, s->drop))
		return false;
	accept(s);
	return !s->last_fails || find_must(s);
}

static bool
try_without(struct shrink *s, size_t start, size_t end)
{
	memset(s->drop, 0, s->now.count);
	memset(s->drop + start, 1, end - start);
	return try_dropped(s);
}

/* Try without each chunk of so many steps, from the end on: what names things goes before what makes them. */
static bool
reduce_by(struct shrink *s, size_t chunk)
{
	bool any = false;

	for (size_t end = s->now.count, start; end > 0 && !stopped(s); end = start) {
		start = end > chunk ? end - chunk : 0;
		any |= try_without(s, start, end); /* what is gone lies behind "start" */
		if (start > s->now.count)
			start = s->now.count;
	}
	return any;
}

static bool
reduce_pairs(struct shrink *s)
{
	bool any = false;

	for (size_t b = s->now.count; b-- > 1 && !stopped(s);) {
		for (size_t a = b; a-- > 0 && b < s->now.count;) {
			memset(s->drop, 0, s->now.count);
			s->drop[a] = s->drop[b] = 1;
			any |= try_dropped(s);
		}
	}
	return any;
}

/* The shortest beginning that fails, if a longer one always fails too; otherwise one that fails. */
static void
cut_end(struct shrink *s)
{
	size_t low = 0, high = s->now.count;

	while (low + 1 < high && !stopped(s)) {
		size_t middle = low + (high - low) / 2;

		if (middle < s->now.count && try_without(s, middle, s->now.count))
			high = middle < s->now.count ? middle : s->now.count;
		else
			low = middle;
	}
}

/* What was refused has changed nothing; and whole sorts of operations often have nothing to do with it. */
static void
reduce_by_sorts(struct shrink *s)
{
	for (size_t i = 0; i < s->now.count; i++)
		s->drop[i] = !s->now.at[i].was_ok;
	(void)try_dropped(s);
	for (unsigned code = 1; code <= kvms_op_max() && !stopped(s); code++) {
		if (kvms_op_row(code) == NULL)
			continue;
		for (size_t i = 0; i < s->now.count; i++)
			s->drop[i] = s->now.at[i].row == kvms_op_row(code);
		(void)try_dropped(s);
	}
}

/*
 * Try without each chunk of so many objects, from the end on: without what made
 * them, and so without all that names them.  That leaves no object behind whose
 * end has gone, as a chunk of steps does.
 */
static bool
reduce_objects_by(struct shrink *s, size_t chunk)
{
	bool any = false;

	for (size_t end = s->now.count; end > 0 && !stopped(s);) {
		size_t start = end, objects = 0;

		memset(s->drop, 0, s->now.count);
		for (; start > 0 && objects < chunk; start--)
			if (s->now.at[start - 1].created[0] != 0) {
				s->drop[start - 1] = 1;
				objects++;
			}
		any |= objects > 0 && try_dropped(s); /* what is gone lies behind "start" */
		end = start < s->now.count ? start : s->now.count;
	}
	return any;
}

static void
reduce(struct shrink *s)
{
	size_t chunk = 1;

	if (s->last_fails && !find_must(s))
		return;
	if (s->last_fails)
		(void)try_without(s, 0, s->now.count); /* that is, without all that need not be there */
	else
		cut_end(s);
	while (chunk < s->now.count / 2)
		chunk *= 2;
	for (size_t coarse = chunk; coarse > chunk / 32 && coarse > 1; coarse /= 2)
		(void)reduce_by(s, coarse);
	if (s->now.count > HARD_MIN) {
		reduce_by_sorts(s);
		for (size_t objects = chunk; objects > 0 && s->now.count > HARD_MIN; objects /= 2)
			(void)reduce_objects_by(s, objects);
	}
	for (chunk = chunk < s->now.count ? chunk : s->now.count; chunk > 1; chunk /= 2)
		(void)reduce_by(s, chunk);
	do
		while (reduce_by(s, 1))
			;
	while (s->now.count <= PAIRS_MAX && reduce_pairs(s));
}

/* ---- Making it plain -------------------------------------------------------------------------------- */

static bool
try_plainer(void *arg, const struct kvt_script *script, const unsigned char *drop)
{
	struct shrink *s = arg;
	bool agreed;

	s->run.keep_ok = true; /* small and plain, but not senseless */
	agreed = fails(s, script, drop);
	s->run.keep_ok = false;
	if (agreed)
		accept(s);
	return agreed;
}

/* Steps and arguments by turns, until neither can be made smaller. */
static void
search(struct shrink *s)
{
	struct kvt_plain plain = {
		.now = &s->now,
		.keep_recorded = s->k->record == NULL,
		.arg = s,
		.try = try_plainer,
	};

	reduce(s);
	for (unsigned round = 0; round < ROUNDS && !stopped(s) && kvt_plainer(&plain); round++)
		reduce(s);
	if (plain.failed)
		lose_memory(s);
	kvt_plain_free(&plain);
}

/* ---- The whole ------------------------------------------------------------------------------------------ */

/* Run the trace as it is: s->now is its steps with the ids of this run.  True: it may be one that fails. */
static bool
begin(struct shrink *s, struct kvt_script *trace)
{
	struct comparing c = { .s = s, .to_the_first = s->k->while_diverges && s->k->record == NULL };
	enum kvt_end end = run_recorded(&s->run, trace, &c);

	s->run.each = NULL;
	s->run.lenient = false;
	if (end == KVT_END_NOMEM) {
		fprintf(s->k->report, "the store of the trace cannot be made\n");
		s->failed = true;
		return false;
	}
	s->last_fails = s->k->while_law_breaks || s->k->while_diverges;
	if (c.to_the_first &&
	    (end != KVT_END_ENOUGH || !same_difference(s, &trace->at[s->run.last], &s->run.out, &c.how, c.fields)))
		return false;
	if (s->k->while_law_breaks && !law_breaks(s, end))
		return false;
	accept(s);
	s->k->done.steps_before = trace->count;
	s->drop = calloc(s->now.count + 1, 1);
	s->must = calloc(s->now.count + 1, 1);
	if (s->drop == NULL || s->must == NULL)
		lose_memory(s);
	return !s->failed;
}

/* The condition of the first run may need more than the model: others are asked. */
static bool
fails_at_all(struct shrink *s)
{
	if (s->k->record == NULL && s->k->ask == NULL)
		return true;
	if (!fails(s, &s->now, NULL))
		return false;
	accept(s);
	return true;
}

static bool
write_result(struct shrink *s, FILE *out)
{
	char comment[400];

	name_failure(s);
	snprintf(comment, sizeof comment, "%" PRIu64 " of %" PRIu64 " steps: %s", s->k->done.steps,
		 s->k->done.steps_before, s->k->failure);
	s->run.drop = NULL;
	s->run.must = NULL;
	kvt_buffer_reset(&s->text);
	if (!kvt_script_print(&s->text, &s->now, comment, s->k->check, s->k->check_every)) {
		lose_memory(s);
		return false;
	}
	return fwrite(kvt_buffer_text(&s->text), 1, s->text.size, out) == s->text.size && fflush(out) == 0;
}

static enum kvt_shrunk
shrink(struct shrink *s, struct kvt_script *trace, FILE *out)
{
	if (!begin(s, trace) || !fails_at_all(s))
		return s->failed ? KVT_SHRINK_FAILED : KVT_SHRINK_PASSES;
	search(s);
	if (s->failed)
		return KVT_SHRINK_FAILED;
	return write_result(s, out) ? KVT_SHRUNK : KVT_SHRINK_FAILED;
}

enum kvt_shrunk
kvt_shrink(struct kvt_shrink *k, struct kvt_input *in, FILE *out)
{
	struct shrink s = { .k = k };
	struct kvt_script trace = { 0 };
	enum kvt_shrunk result = KVT_SHRINK_WRONG;

	memset(&k->done, 0, sizeof k->done);
	kvmp_arena_init(&s.arena, LOADED_MAX);
	kvmp_arena_init(&s.recorded[0], LOADED_MAX);
	kvmp_arena_init(&s.recorded[1], LOADED_MAX);
	if (kvt_script_load(&trace, &s.arena, in, k->report))
		result = shrink(&s, &trace, out);
	kvt_script_free(&trace);
	kvt_script_free(&s.now);
	kvt_trial_free(&s.run);
	kvt_trial_free(&s.other);
	kvms_outcome_free(&s.sig.model);
	kvmp_arena_free(&s.arena);
	kvmp_arena_free(&s.recorded[0]);
	kvmp_arena_free(&s.recorded[1]);
	kvt_buffer_free(&s.text);
	kvt_buffer_free(&s.answer);
	free(s.tried);
	free(s.drop);
	free(s.must);
	return result;
}
