/*
 * Each defect of store/faults.def, planted in the model, is found by random
 * operations: because a law breaks, and because outcomes or digests are not
 * those of the right model.  What is found shrinks to a few operations.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KVMS_FAULTS /* as in the library that this is linked with */
#include "store/int.h"
#include "trace/gen.h"
#include "trace/replay.h"
#include "trace/script.h"
#include "trace/shrink.h"

#define STEPS_MAX 10000u
#define SHRUNK_MAX 12u
#define ASK_EVERY 16u

unsigned kvms_fault;

static const struct planted {
	const char *name, *config, *profile;
	enum kvms_check check;
	const char *text;
} faults[] = {
	{ "none", "", "all", KVMS_CHECK_TOUCHED, "nothing" },
#define KVMS_FAULT(name, config, profile, check, text) { #name, config, profile, KVMS_CHECK_##check, text },
#include "store/faults.def"
#undef KVMS_FAULT
};

/* ---- Searching ------------------------------------------------------------------------- */

/* The same operations on three stores: the right one, the wrong one without laws, the wrong one with them. */
struct hunt {
	unsigned fault;
	struct kvms *right, *wrong, *checked;
	struct kvt_generator *g;
	struct kvms_outcome out, other, answer;
	struct kvt_buffer text;   /* the trace so far, with the right outcomes */
	struct kvt_buffer bare;   /* the same without any: ids are those of whoever runs it */
	size_t differs, breaks;   /* length of the trace in which it shows, 0 = it has not */
	struct kvt_buffer expect; /* the line that shows it, where no outcome does */
	bool crippled;            /* the wrong store has broken off */
};

static struct kvms *
store_new(const struct planted *p)
{
	struct kvt_parser *parser = kvt_parser_new("config");
	struct kvms_refusal why;
	struct kvt_line line;
	struct kvms *s;

	cr_assert(kvt_parse_store(parser, p->config, strlen(p->config), &line));
	s = kvms_new(&line.op, &why);
	cr_assert_not_null(s, "%s", why.text);
	kvt_parser_free(&parser);
	return s;
}

/* KVMS_TEST_SEED: other operations. */
static uint64_t
seed(void)
{
	const char *text = getenv("KVMS_TEST_SEED");

	return text != NULL ? strtoull(text, NULL, 0) : 7;
}

static void
hunt_begin(struct hunt *h, unsigned fault)
{
	*h = (struct hunt){ .fault = fault };
	kvms_fault = 0;
	h->right = store_new(&faults[fault]);
	h->wrong = store_new(&faults[fault]);
	h->checked = store_new(&faults[fault]);
	kvms_set_check(h->right, KVMS_CHECK_OFF, 1);
	kvms_set_check(h->wrong, KVMS_CHECK_OFF, 1);
	kvms_set_check(h->checked, faults[fault].check, 1);
	h->g = kvt_generator_new(seed(), kvt_profile_find(faults[fault].profile), h->right);
	cr_assert_not_null(h->g);
	kvt_puts(&h->text, "kvmtrace 1\n");
	kvt_print_store(&h->text, kvms_config(h->right));
	kvt_putc(&h->text, '\n');
	kvt_puts(&h->bare, kvt_buffer_text(&h->text));
}

static void
hunt_end(struct hunt *h)
{
	kvms_fault = 0;
	kvt_generator_free(&h->g);
	kvms_free(&h->right);
	kvms_free(&h->wrong);
	kvms_free(&h->checked);
	kvms_outcome_free(&h->out);
	kvms_outcome_free(&h->other);
	kvms_outcome_free(&h->answer);
	kvt_buffer_free(&h->expect);
	kvt_buffer_free(&h->text);
	kvt_buffer_free(&h->bare);
}

static bool
same_outcome(const struct kvms_row *row, const struct kvms_outcome *a, const struct kvms_outcome *b)
{
	struct kvt_buffer x = { 0 }, y = { 0 };
	bool same;

	kvt_print_outcome(&x, row, a);
	kvt_print_outcome(&y, row, b);
	same = strcmp(kvt_buffer_text(&x), kvt_buffer_text(&y)) == 0;
	kvt_buffer_free(&x);
	kvt_buffer_free(&y);
	return same;
}

/* Does a request get another answer from the wrong store? */
static void
ask_both(struct hunt *h, const struct kvms_op *request)
{
	const struct kvms_row *row = kvms_request_row(request->code);

	if (kvms_inspect(h->right, request, &h->answer) != KVMS_DONE || h->answer.name != 0 ||
	    kvms_inspect(h->wrong, request, &h->other) != KVMS_DONE || same_outcome(row, &h->answer, &h->other))
		return;
	kvt_puts(&h->expect, "expect ");
	kvt_print_op(&h->expect, row, request);
	kvt_puts(&h->expect, " ->");
	kvt_print_results(&h->expect, row, &h->answer);
	kvt_putc(&h->expect, '\n');
	h->differs = h->text.size;
}

static void
step_wrong(struct hunt *h, const struct kvms_op *op, const struct kvms_row *row)
{
	enum kvms_status status = kvms_apply(h->wrong, op, &h->other);
	struct kvms_op digest = { .code = kvms_request_find("digest")->code };

	h->crippled = status == KVMS_BROKEN;
	if (status != KVMS_DONE)
		return;
	if (!same_outcome(row, &h->out, &h->other)) {
		h->differs = h->text.size;
		return;
	}
	ask_both(h, &digest);
	if (h->differs == 0 && kvms_steps(h->right) % ASK_EVERY == 0)
		ask_both(h, kvt_generator_request(h->g));
}

static void
hunt_step(struct hunt *h)
{
	const struct kvms_op *op;
	const struct kvms_row *row;

	kvms_fault = 0;
	op = kvt_generator_next(h->g);
	row = kvms_op_row(op->code);
	cr_assert_eq(kvms_apply(h->right, op, &h->out), KVMS_DONE);
	kvt_print_op(&h->text, row, op);
	kvt_print_op(&h->bare, row, op);
	kvt_putc(&h->bare, '\n');
	kvt_puts(&h->text, " -> ");
	kvt_print_outcome(&h->text, row, &h->out);
	kvt_putc(&h->text, '\n');
	kvms_fault = h->fault;
	if (h->breaks == 0 && kvms_apply(h->checked, op, &h->other) == KVMS_BROKEN)
		h->breaks = h->bare.size;
	if (h->differs == 0 && !h->crippled)
		step_wrong(h, op, row);
	kvms_fault = 0;
	kvt_generator_answer(h->g, &h->out);
}

/* ---- Shrinking ------------------------------------------------------------------------------ */

/* What the wrong model makes of a trace. */
static bool
record(void *arg, const char *text, size_t size, struct kvt_buffer *recorded)
{
	struct hunt *h = arg;
	struct kvt_script script = { 0 };
	struct kvt_trial run = { .lenient = true };
	struct kvmp_arena arena;
	char error[200];
	struct kvt_input *in = kvt_input_memory("candidate", text, size, error, sizeof error);

	kvmp_arena_init(&arena, (size_t)1 << 30);
	cr_assert(kvt_script_load(&script, &arena, in, stderr));
	kvms_fault = h->fault;
	(void)kvt_script_run(&run, &script);
	cr_assert(kvt_script_print(recorded, &run.ran, NULL, KVMS_CHECK_OFF, 1));
	kvms_fault = 0;
	kvt_input_close(&in);
	kvt_trial_free(&run);
	kvt_script_free(&script);
	kvmp_arena_free(&arena);
	return true;
}

static char *
shrink(struct hunt *h, size_t length, bool breaks)
{
	struct kvt_shrink k = {
		.arg = h,
		.while_diverges = !breaks,
		.while_law_breaks = breaks,
		.record = breaks ? NULL : record,
		.check = breaks ? faults[h->fault].check : KVMS_CHECK_OFF,
		.report = stderr,
	};
	struct kvt_buffer text = { 0 };
	char error[200], *small = NULL;
	struct kvt_input *in;
	size_t size;
	FILE *out = open_memstream(&small, &size);

	kvt_put(&text, breaks ? h->bare.at : h->text.at, length);
	if (!breaks)
		kvt_puts(&text, kvt_buffer_text(&h->expect));
	in = kvt_input_memory("trace", text.at, text.size, error, sizeof error);
	kvms_fault = breaks ? h->fault : 0;
	cr_assert_eq(kvt_shrink(&k, in, out), KVT_SHRUNK, "%s does not shrink", faults[h->fault].name);
	kvms_fault = 0;
	fclose(out);
	kvt_input_close(&in);
	kvt_buffer_free(&text);
	fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " steps, %" PRIu64 " tries: %s\n%s\n", faults[h->fault].name,
		k.done.steps, k.done.steps_before, k.done.tries, k.failure, small);
	cr_expect_leq(k.done.steps, SHRUNK_MAX, "%s: %" PRIu64 " steps are left", faults[h->fault].name, k.done.steps);
	return small;
}

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *s = kvms_new(config, why);

	const struct planted *p = arg;

	(void)base;
	if (s != NULL)
		kvms_set_check(s, p->check, 1);
	return s != NULL ? kvt_target_embedded(s, true) : NULL;
}

/* How a replay of the trace ends on a store with this defect. */
static enum kvt_result
replay(const char *text, unsigned fault)
{
	struct kvt_replay r = { .arg = (void *)(uintptr_t)&faults[fault],
				.open = open_store,
				.report = fopen("/dev/null", "w") };
	char error[200];
	struct kvt_input *in = kvt_input_memory("small", text, strlen(text), error, sizeof error);
	enum kvt_result result;

	kvms_fault = fault;
	result = kvt_replay(&r, in, "small");
	kvms_fault = 0;
	kvt_target_close(&r.target);
	kvt_input_close(&in);
	fclose(r.report);
	return result;
}

/* ---- Each of them ------------------------------------------------------------------------------ */

static void
finds(unsigned fault)
{
	struct hunt h;
	char *small;

	hunt_begin(&h, fault);
	for (unsigned i = 0; i < STEPS_MAX && (h.breaks == 0 || (h.differs == 0 && !h.crippled)); i++)
		hunt_step(&h);
	cr_assert(h.breaks != 0 || h.differs != 0, "nobody has noticed that %s", faults[fault].text);
	if (h.breaks != 0) {
		small = shrink(&h, h.breaks, true);
		cr_expect_eq(replay(small, fault), KVT_LAW_BROKEN);
		cr_expect_neq(replay(small, 0), KVT_LAW_BROKEN);
		free(small);
	}
	if (h.differs != 0) {
		small = shrink(&h, h.differs, false);
		cr_expect_eq(replay(small, 0), KVT_DIVERGED);
		free(small);
	}
	hunt_end(&h);
}

#define KVMS_FAULT(name, config, profile, check, text)                                                                 \
	Test(planted, name##_is_found)                                                                                 \
	{                                                                                                              \
		finds(FAULT_##name);                                                                                   \
	}
#include "store/faults.def"
#undef KVMS_FAULT

Test(planted, nothing_is_found_where_nothing_is_wrong)
{
	struct hunt h;

	hunt_begin(&h, FAULT_NONE);
	for (unsigned i = 0; i < STEPS_MAX / 4; i++)
		hunt_step(&h);
	cr_expect_eq(h.breaks, 0);
	cr_expect_eq(h.differs, 0);
	hunt_end(&h);
}
