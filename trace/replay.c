#include "trace/replay.h"

#include "trace/bind.h"
#include "trace/reader.h"
#include "trace/report.h"
#include "trace/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STATE_SHOWN 20u /* divergences that are told with the state around them */
#define CLOCK_LINES 256u
#define PROGRESS_NANOSECONDS UINT64_C(100000000)

/* A run under way. */
struct kvt_run {
	struct kvt_replay *r;
	const char *source;
	struct kvt_input *in;
	struct kvt_reader *reader;
	struct kvt_bindings bindings;
	struct kvms_outcome out;
	struct kvt_stale *stale;
	struct kvt_words ids;   /* lists of the op with actual ids */
	struct kvt_buffer text; /* what is printed or reported next */
	struct kvt_buffer held; /* printed lines behind a store line that is not printed yet */
	struct kvt_buffer comment;
	struct kvt_buffer tail; /* comment of the store line, snapshot of a base line */
	struct kvms_op config;  /* of the store line */
	struct kvt_words config_lists;
	uint64_t store_line;     /* 0 = none so far */
	uint64_t number;         /* of the last operation in the trace */
	uint64_t started, shown; /* nanoseconds */
	struct kvt_line line;    /* the one at hand */
	bool waiting;            /* it was read, and lies behind the last operation that was to run */
	bool diverged;
	int output_error; /* errno of a write that failed */
};

/* Whether the trace goes on, and if not, why. */
enum step { GO_ON, STOP_SYNTAX, STOP_LOST, STOP_DIVERGED, STOP_BROKEN, STOP_UNREADABLE, STOP_ASKED, STOP_BEHIND };

uint64_t
kvt_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- Telling ---------------------------------------------------------------------- */

static void
flush_report(struct kvt_run *run)
{
	fwrite(kvt_buffer_text(&run->text), 1, run->text.size, run->r->report);
	kvt_buffer_reset(&run->text);
}

static void
report_place(struct kvt_run *run, uint64_t line)
{
	kvt_buffer_reset(&run->text);
	kvt_putf(&run->text, "%s:%" PRIu64 ": ", run->source, line);
}

/* The op as recorded, and below it with the actual ids where others stand for the recorded ones. */
static void
report_op(struct kvt_run *run, const struct kvt_line *line, const struct kvms_op *op)
{
	const char *word = line->kind == KVT_EXPECT ? "expect " : "";
	struct kvt_buffer recorded = { 0 }, actual = { 0 };

	kvt_print_op(&recorded, line->row, &line->op);
	kvt_print_op(&actual, line->row, op);
	kvt_putf(&run->text, "  %s%s\n", word, kvt_buffer_text(&recorded));
	if (strcmp(kvt_buffer_text(&recorded), kvt_buffer_text(&actual)) != 0)
		kvt_putf(&run->text, "  that is, with the store's ids: %s%s\n", word, kvt_buffer_text(&actual));
	kvt_buffer_free(&recorded);
	kvt_buffer_free(&actual);
}

static enum step
diverge(struct kvt_run *run, const struct kvt_line *line, const struct kvms_op *op)
{
	struct kvt_statistics *s = &run->r->statistics;

	run->diverged = true;
	if (s->divergences++ == 0)
		s->divergence_line = line->number;
	if (run->r->untold)
		return GO_ON;
	report_place(run, line->number);
	kvt_puts(&run->text, line->kind == KVT_OP ? "the outcome differs" : "the answer differs");
	if (s->gap_line != 0)
		kvt_putf(&run->text, ", after the gap at line %" PRIu64, s->gap_line);
	kvt_putc(&run->text, '\n');
	report_op(run, line, op);
	kvt_puts(&run->text, "  expected: ");
	kvt_print_recorded(&run->text, line);
	kvt_puts(&run->text, "\n  actual:   ");
	kvt_print_outcome(&run->text, line->row, &run->out);
	kvt_putc(&run->text, '\n');
	if (s->divergences <= STATE_SHOWN) {
		kvt_report_fields(&run->text, line, &run->out, &run->bindings);
		kvt_report_state(&run->text, run->r->target, line->row, op, &run->out);
	}
	if (run->r->diverged != NULL) {
		struct kvt_divergence d = { line, op, &run->out, run->number, run->r->target };

		run->r->diverged(run->r->arg, &d, &run->text);
	}
	flush_report(run);
	return run->r->keep_going || run->r->print != NULL ? GO_ON : STOP_DIVERGED;
}

/* The target did not do what it was asked to. */
static enum step
report_failure(struct kvt_run *run, const struct kvt_line *line, const struct kvms_op *op, enum kvt_status status)
{
	static const char *const words[] = {
		[KVT_BROKEN] = "a law of the model broke: this is a defect of the model, not of the trace",
		[KVT_LOST] = "the store does not answer",
		[KVT_READ_ONLY] = "the store takes no writes",
		[KVT_NOMEM] = "no memory left",
		[KVT_INVALID] = "an argument is outside its type",
	};
	const char *error = run->r->target->error(run->r->target);

	report_place(run, line->number);
	kvt_puts(&run->text, words[status]);
	kvt_putc(&run->text, '\n');
	if (op != NULL)
		report_op(run, line, op);
	while (error != NULL && *error != '\0') {
		size_t size = strcspn(error, "\n");

		kvt_puts(&run->text, "  ");
		kvt_put(&run->text, error, size);
		kvt_putc(&run->text, '\n');
		error += size + (error[size] == '\n');
	}
	flush_report(run);
	return status == KVT_BROKEN ? STOP_BROKEN : status == KVT_INVALID ? STOP_SYNTAX : STOP_LOST;
}

static enum step
report_sentence(struct kvt_run *run, const char *sentence, enum step step)
{
	fprintf(run->r->report, "%s\n", sentence);
	return step;
}

static enum step
no_memory(struct kvt_run *run)
{
	return report_sentence(run, "no memory left", STOP_LOST);
}

static void
report_since(struct kvt_buffer *b, struct kvt_place since)
{
	if (since.line == 0)
		kvt_puts(b, "before the trace");
	else
		kvt_putf(b, "line %" PRIu64 " (step %" PRIu64 ")", since.line, since.step);
}

/* A CPU may still reach what is somebody else's by now.  A warning: the kernel does this too. */
static void
report_stale(void *arg, const struct kvt_stale_warning *w)
{
	struct kvt_run *run = arg;
	struct kvt_buffer b = { 0 };

	run->r->statistics.stale++;
	if (run->r->untold)
		return;
	kvt_putf(&b, "%s:%" PRIu64 ": warning: %s while a TLB still has the entry from before\n", run->source,
		 w->reused.line, w->is_frame ? "a frame is used again" : "a range is mapped again");
	kvt_putf(&b, "  CPU %" PRIu64 ", va 0x%" PRIx64 ", paddr 0x%" PRIx64 ": stale since ", w->cpu, w->va, w->paddr);
	report_since(&b, w->stale);
	kvt_putf(&b, ", %s at line %" PRIu64 " (step %" PRIu64 "), not flushed between\n",
		 w->is_frame ? "its frame in use again" : "mapped again", w->reused.line, w->reused.step);
	fwrite(kvt_buffer_text(&b), 1, b.size, run->r->report);
	kvt_buffer_free(&b);
	if (run->r->stale != NULL)
		run->r->stale(run->r->arg, w);
}

/* ---- Printing, when the trace is run -------------------------------------------------- */

/* Write what is in the text buffer. */
static void
put_out(struct kvt_run *run)
{
	if (fwrite(kvt_buffer_text(&run->text), 1, run->text.size, run->r->print) != run->text.size &&
	    run->output_error == 0)
		run->output_error = errno;
}

/* Write what is in the text buffer as a line; behind a store line that waits for its store, keep it. */
static void
print_line(struct kvt_run *run)
{
	kvt_putc(&run->text, '\n');
	if (run->store_line != 0 && run->r->target == NULL)
		kvt_put(&run->held, kvt_buffer_text(&run->text), run->text.size);
	else
		put_out(run);
	kvt_buffer_reset(&run->text);
}

static void
print_store(struct kvt_run *run)
{
	const struct kvms_op *config = &run->config;

	if (run->r->print == NULL)
		return;
	(void)run->r->target->config(run->r->target, &config);
	kvt_buffer_reset(&run->text);
	kvt_print_store(&run->text, config);
	if (run->tail.size > 0) {
		kvt_putc(&run->text, ' ');
		kvt_put(&run->text, kvt_buffer_text(&run->tail), run->tail.size);
	}
	kvt_putc(&run->text, '\n');
	kvt_put(&run->text, kvt_buffer_text(&run->held), run->held.size);
	put_out(run);
	kvt_buffer_reset(&run->text);
	kvt_buffer_reset(&run->held);
}

/* ---- The store ---------------------------------------------------------------------------- */

/* Keep the store line's configuration: the parser's memory is reused. */
static enum step
keep_config(struct kvt_run *run, const struct kvt_line *line)
{
	size_t words = kvt_payload_words(line->row, &line->op);
	uint64_t *to;

	run->config = line->op;
	run->config.list = NULL;
	run->store_line = line->number;
	kvt_buffer_reset(&run->tail);
	kvt_put(&run->tail, line->comment.at, line->comment.size);
	if (words == 0)
		return GO_ON;
	to = kvt_words_add(&run->config_lists, words);
	if (to == NULL)
		return no_memory(run);
	memcpy(to, line->op.list, words * sizeof *to);
	run->config.list = to;
	return GO_ON;
}

/* Make sure there is a store to run against. */
static enum step
open_store(struct kvt_run *run, uint64_t line, const struct kvt_base *base)
{
	struct kvms_refusal why = { .key = -1, .text = "" };

	if (run->r->target != NULL)
		return GO_ON;
	if (run->store_line != 0)
		line = run->store_line;
	run->r->target = run->r->open(run->r->arg, &run->config, base, &why);
	if (run->r->target != NULL) {
		kvt_stale_begin(run->stale, run->r->target);
		print_store(run);
		return GO_ON;
	}
	run->r->refusal = why;
	if (why.key >= 0 && why.key < (int)kvms_store_row()->args_count) {
		fprintf(run->r->report, "%s:%" PRIu64 ":1: %s out of limits\n", run->source, line,
			kvms_store_row()->args[why.key].name);
		return STOP_SYNTAX;
	}
	fprintf(run->r->report, "%s:%" PRIu64 ": no store: %s\n", run->source, line, why.text);
	return STOP_UNREADABLE;
}

/* The state named by a base line, whose digest must be the line's. */
static enum step
run_base(struct kvt_run *run, const struct kvt_line *line)
{
	struct kvt_base base = { .digest = line->digest };
	enum kvt_status status;
	enum step step;
	uint64_t digest;

	if (line->snapshot.at != NULL) {
		kvt_unquote(&run->comment, line->snapshot);
		base.snapshot = kvt_buffer_text(&run->comment);
	}
	step = open_store(run, line->number, &base);
	if (step != GO_ON)
		return step;
	status = run->r->target->digest(run->r->target, &digest);
	if (status != KVT_DONE)
		return report_failure(run, line, NULL, status);
	if (digest == line->digest)
		return GO_ON;
	run->diverged = true;
	if (run->r->statistics.divergences++ == 0)
		run->r->statistics.divergence_line = line->number;
	if (run->r->untold)
		return GO_ON;
	fprintf(run->r->report,
		"%s:%" PRIu64 ": the state to start from differs\n  expected: digest=0x%016" PRIx64
		"\n  actual:   digest=0x%016" PRIx64 "\n",
		run->source, line->number, line->digest, digest);
	return run->r->keep_going || run->r->print != NULL ? GO_ON : STOP_DIVERGED;
}

/* ---- Ops and requests -------------------------------------------------------------------------- */

static bool
fields_hold(const struct kvt_run *run, const struct kvt_line *line)
{
	for (size_t i = 0; i < line->fields_count; i++) {
		struct kvt_field f = kvt_translated(line, &line->fields[i], &run->bindings);

		if (!kvt_field_holds(line->row, &run->out, &f))
			return false;
	}
	return true;
}

static enum step
run_op(struct kvt_run *run, const struct kvt_line *line)
{
	struct kvt_statistics *s = &run->r->statistics;
	struct kvms_op op = line->op;
	struct kvt_place place;
	enum kvt_status status;
	bool more = true;
	enum step step = GO_ON;

	run->number++;
	place = (struct kvt_place){ line->number, run->number };
	if (run->r->has_to && run->number > run->r->to)
		return STOP_BEHIND;
	if (run->r->skip && run->number < run->r->from) {
		run->number = kvt_reader_skip(run->reader, run->number, run->r->from - 1);
		return GO_ON;
	}
	if (!kvt_translate(&run->bindings, line->row, &op, &run->ids))
		return no_memory(run);
	status = run->r->target->apply(run->r->target, &op, &run->out);
	if (status != KVT_DONE)
		return report_failure(run, line, &op, status);
	s->ops++;
	s->outcomes[kvms_outcome_class(run->out.name)]++;
	if (run->r->step != NULL)
		more = run->r->step(run->r->arg, run->r->target, line, &op, &run->out, run->number);
	if (run->out.name == 0)
		kvt_stale_step(run->stale, run->r->target, &op, &run->out, place, report_stale, run);
	if (run->r->print != NULL) {
		struct kvt_line actual = *line;

		actual.op = op;
		kvt_print_line(&run->text, &actual, &run->out);
		print_line(run);
	} else if (line->recorded && run->number >= run->r->from && (!kvt_outcome_holds(line, &run->out) || !fields_hold(run, line))) {
		step = diverge(run, line, &op);
	}
	if (!kvt_bind_created(&run->bindings, line, &run->out))
		return no_memory(run);
	return step == GO_ON && !more ? STOP_ASKED : step;
}

static enum step
run_expect(struct kvt_run *run, const struct kvt_line *line)
{
	struct kvms_op op = line->op;
	enum kvt_status status;
	enum step step = GO_ON;

	if (run->number + 1 < run->r->from)
		return GO_ON;
	run->r->statistics.expects++;
	if (!kvt_translate(&run->bindings, line->row, &op, &run->ids))
		return no_memory(run);
	status = run->r->target->inspect(run->r->target, &op, &run->out);
	if (status != KVT_DONE)
		return report_failure(run, line, &op, status);
	if (run->r->print != NULL) {
		struct kvt_line actual = *line;

		actual.op = op;
		kvt_print_line(&run->text, &actual, NULL);
		print_line(run);
	}
	if (run->out.name != 0 || !fields_hold(run, line))
		step = diverge(run, line, &op);
	if (run->r->step != NULL && !run->r->step(run->r->arg, run->r->target, line, &op, &run->out, run->number))
		return STOP_ASKED;
	return step;
}

/* ---- Lines ------------------------------------------------------------------------------------------ */

/* A line that is a comment alone, or nothing. */
static enum step
run_comment(struct kvt_run *run, const struct kvt_line *line)
{
	if (line->comment.at == NULL || run->r->comment == NULL)
		return GO_ON;
	kvt_buffer_reset(&run->comment);
	kvt_put(&run->comment, line->comment.at, line->comment.size);
	/* What is done there, a comparison perhaps, is not the time that the operations take. */
	uint64_t before = kvt_now();
	bool go_on = run->r->comment(run->r->arg, kvt_buffer_text(&run->comment), line->number, run->r->target);
	run->started += kvt_now() - before;
	return go_on ? GO_ON : STOP_ASKED;
}

/* Print a line that is kept as it is.  A store line is printed when there is a store. */
static void
keep_line(struct kvt_run *run, const struct kvt_line *line)
{
	if (run->r->print == NULL || line->kind == KVT_STORE)
		return;
	kvt_buffer_reset(&run->text);
	kvt_print_line(&run->text, line, NULL);
	print_line(run);
}

static enum step
run_line(struct kvt_run *run, const struct kvt_line *line)
{
	enum step step;

	if (line->kind == KVT_OP || line->kind == KVT_EXPECT) {
		kvt_buffer_reset(&run->text);
		return line->kind == KVT_OP ? run_op(run, line) : run_expect(run, line);
	}
	step = line->kind == KVT_BASE ? run_base(run, line) : GO_ON;
	if (step != GO_ON)
		return step;
	keep_line(run, line);
	if (line->kind == KVT_STORE)
		return keep_config(run, line);
	if (line->kind == KVT_GAP) {
		run->r->statistics.gaps++;
		run->r->statistics.gap_line = line->number;
	}
	return line->kind == KVT_BLANK ? run_comment(run, line) : GO_ON;
}

/* A line, after the store that it or a line before it asks for. */
static enum step
run_next(struct kvt_run *run, const struct kvt_line *line)
{
	enum step step = GO_ON;

	run->r->statistics.lines++;
	if (line->kind == KVT_OP || line->kind == KVT_EXPECT || line->kind == KVT_GAP)
		step = open_store(run, line->number, NULL);
	return step == GO_ON ? run_line(run, line) : step;
}

static void
update_statistics(struct kvt_run *run)
{
	struct kvt_statistics *s = &run->r->statistics;

	s->nanoseconds = kvt_now() - run->started;
	kvt_input_progress(run->in, &s->bytes_done, &s->bytes_total);
}

static void
show_progress(struct kvt_run *run)
{
	if (run->r->progress == NULL || run->r->statistics.lines % CLOCK_LINES != 0)
		return;
	update_statistics(run);
	if (run->r->statistics.nanoseconds - run->shown < PROGRESS_NANOSECONDS)
		return;
	run->shown = run->r->statistics.nanoseconds;
	run->r->progress(run->r->arg, &run->r->statistics);
}

/* All lines, then what only the end can tell. */
static enum step
run_lines(struct kvt_run *run)
{
	enum step step = GO_ON;
	enum kvt_read read = KVT_READ_LINE;

	while (step == GO_ON &&
	       (run->waiting || (read = kvt_reader_next(run->reader, &run->line)) == KVT_READ_LINE)) {
		run->waiting = false;
		step = run_next(run, &run->line);
		show_progress(run);
	}
	if (step == STOP_BEHIND) {
		/* it has not run: the next call begins with it */
		run->waiting = true;
		run->number--;
		run->r->statistics.lines--;
	}
	if (step != GO_ON)
		return step;
	if (read == KVT_READ_END)
		return open_store(run, kvt_input_lines(run->in), NULL);
	/* the store that a line before the wrong one asked for has its say first */
	if (read == KVT_READ_SYNTAX && run->store_line != 0)
		step = open_store(run, run->store_line, NULL);
	return step == GO_ON ? report_sentence(run, kvt_reader_error(run->reader), STOP_SYNTAX) : step;
}

static enum kvt_result
result_of(struct kvt_run *run, enum step step)
{
	static const enum kvt_result results[] = {
		[GO_ON] = KVT_PASSED,           [STOP_SYNTAX] = KVT_SYNTAX,     [STOP_LOST] = KVT_DISCONNECTED,
		[STOP_DIVERGED] = KVT_DIVERGED, [STOP_BROKEN] = KVT_LAW_BROKEN, [STOP_UNREADABLE] = KVT_UNREADABLE,
		[STOP_ASKED] = KVT_PASSED,      [STOP_BEHIND] = KVT_PASSED,
	};

	run->r->statistics.stopped = step == STOP_ASKED;
	if (results[step] == KVT_PASSED && run->diverged)
		return KVT_DIVERGED;
	return results[step];
}

struct kvt_run *
kvt_run_begin(struct kvt_replay *r, struct kvt_input *in, const char *source)
{
	struct kvt_run *run = calloc(1, sizeof *run);

	r->target = NULL;
	memset(&r->refusal, 0, sizeof r->refusal);
	r->refusal.key = -1;
	memset(&r->statistics, 0, sizeof r->statistics);
	if (run == NULL)
		return NULL;
	run->r = r;
	run->source = source;
	run->in = in;
	kvms_op_init(&run->config, kvms_store_row());
	run->started = kvt_now();
	run->reader = kvt_reader_new(in, source);
	run->stale = kvt_stale_new();
	if (run->reader == NULL || run->stale == NULL)
		kvt_run_end(&run);
	return run;
}

enum kvt_result
kvt_run(struct kvt_run *run)
{
	return result_of(run, run_lines(run));
}

void
kvt_run_end(struct kvt_run **end)
{
	struct kvt_run *run = *end;

	*end = NULL;
	if (run == NULL)
		return;
	kvt_reader_free(&run->reader);
	kvt_bindings_free(&run->bindings);
	kvms_outcome_free(&run->out);
	kvt_stale_free(&run->stale);
	kvt_words_free(&run->ids);
	kvt_words_free(&run->config_lists);
	kvt_buffer_free(&run->text);
	kvt_buffer_free(&run->held);
	kvt_buffer_free(&run->comment);
	kvt_buffer_free(&run->tail);
	free(run);
}

enum kvt_result
kvt_replay(struct kvt_replay *r, struct kvt_input *in, const char *source)
{
	struct kvt_run *run = kvt_run_begin(r, in, source);
	enum kvt_result result;

	if (run == NULL) {
		fputs("no memory left\n", r->report);
		return KVT_DISCONNECTED;
	}
	result = kvt_run(run);
	if (kvt_stale_overflowed(run->stale))
		fprintf(r->report, "%s: warning: too many stale TLB entries; not all of them were watched\n", source);
	if (r->print != NULL && fflush(r->print) != 0 && run->output_error == 0)
		run->output_error = errno;
	if (run->output_error != 0) {
		fprintf(r->report, "%s: cannot write the output: %s\n", source, strerror(run->output_error));
		result = KVT_SYNTAX;
	}
	update_statistics(run);
	if (r->progress != NULL)
		r->progress(r->arg, &r->statistics);
	kvt_run_end(&run);
	return result;
}

/* ---- Statistics ------------------------------------------------------------------------------------------- */

static uint64_t
rate(const struct kvt_statistics *s)
{
	uint64_t microseconds = s->nanoseconds / 1000;

	return microseconds > 0 ? (uint64_t)((double)s->ops * 1e6 / (double)microseconds) : 0;
}

void
kvt_print_statistics(struct kvt_buffer *b, const struct kvt_statistics *s)
{
	kvt_putf(b, "lines        %" PRIu64 "\n", s->lines);
	kvt_putf(b, "operations   %" PRIu64, s->ops);
	kvt_putf(b, " in %" PRIu64 ".%03" PRIu64 " s", s->nanoseconds / 1000000000, s->nanoseconds / 1000000 % 1000);
	kvt_putf(b, ", %" PRIu64 "/s\n", rate(s));
	kvt_puts(b, "outcomes    ");
	for (unsigned c = 0; c < KVMS_CLASSES; c++)
		if (c == KVMS_OK || s->outcomes[c] > 0)
			kvt_putf(b, " %s %" PRIu64, kvms_class_word((enum kvms_class)c), s->outcomes[c]);
	kvt_putf(b, "\nexpectations %" PRIu64 "\n", s->expects);
	if (s->gaps > 0)
		kvt_putf(b, "gaps         %" PRIu64 ", the last at line %" PRIu64 "\n", s->gaps, s->gap_line);
	kvt_putf(b, "divergences  %" PRIu64 "\n", s->divergences);
	if (s->stale > 0)
		kvt_putf(b, "stale tlb    %" PRIu64 "\n", s->stale);
}

void
kvt_json_statistics(struct kvt_buffer *b, const struct kvt_statistics *s)
{
	kvt_putf(b, "{\"lines\":%" PRIu64 ",\"ops\":%" PRIu64 ",\"outcomes\":{", s->lines, s->ops);
	for (unsigned c = 0; c < KVMS_CLASSES; c++)
		kvt_putf(b, "%s\"%s\":%" PRIu64, c > 0 ? "," : "", kvms_class_word((enum kvms_class)c), s->outcomes[c]);
	kvt_putf(b, "},\"expects\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"divergences\":%" PRIu64 ",\"stale\":%" PRIu64,
		 s->expects, s->gaps, s->divergences, s->stale);
	kvt_putf(b, ",\"nanoseconds\":%" PRIu64 ",\"ops_per_second\":%" PRIu64 "}", s->nanoseconds, rate(s));
}
