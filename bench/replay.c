/* The recording of a Linux kernel: imported, replayed as text, and without the text. */
#include "bench/bench.h"
#include "trace/import_ftrace.h"
#include "trace/replay.h"
#include "trace/target.h"
#include "trace/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1e9
#define MILLISECOND 1e6

/* A trace in memory. */
struct text {
	char *at;
	size_t size;
};

static double
import(const char *recording, struct text *trace)
{
	struct kvt_import in = { .path = recording };
	struct kvt_import_report report;
	FILE *out = open_memstream(&trace->at, &trace->size);
	uint64_t start = bench_now();
	char error[1024];

	if (out == NULL || kvt_import_ftrace(&in, out, &report, error, sizeof error) != 0)
		bench_die("%s", out == NULL ? "no memory" : error);
	kvt_import_report_free(&report);
	if (fclose(out) != 0)
		bench_die("no memory for the imported trace");
	return (double)(bench_now() - start) / SECOND;
}

/* ---- As kvmctl replays it -------------------------------------------------------- */

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *s = kvms_new(config, why);
	struct kvt_target *t = s != NULL ? kvt_target_embedded(s, true) : NULL;

	(void)base;
	*(struct kvt_target **)arg = t;
	return t;
}

/* Thousand operations a second, reading and comparing of the text included. */
static double
replay_text(const struct text *trace)
{
	struct kvt_target *target = NULL;
	struct kvt_replay r = { .arg = &target, .open = open_store, .report = stderr };
	char error[1024];
	struct kvt_input *in = kvt_input_memory("recording", trace->at, trace->size, error, sizeof error);

	if (in == NULL)
		bench_die("%s", error);
	if (kvt_replay(&r, in, "recording") != KVT_PASSED)
		bench_die("the recording does not replay");
	kvt_input_close(&in);
	kvt_target_close(&target);
	return (double)r.statistics.ops * MILLISECOND / (double)r.statistics.nanoseconds;
}

/* ---- The model alone ----------------------------------------------------------------- */

/* All operations of the trace, parsed. */
struct script {
	struct kvms_op config;
	struct kvms_op *op;
	size_t count, capacity;
};

/* The lists of an operation, which lie one behind the other, in memory of their own. */
static uint64_t *
words_copy(const struct kvms_op *op, const struct kvms_row *row)
{
	size_t words = 0;
	uint64_t *copy;

	for (unsigned i = 0; i < row->args_count; i++)
		words += (size_t)op->arg[i] * kvms_type_arity(row->args[i].type);
	if (words == 0)
		return NULL;
	copy = malloc(words * sizeof *copy);
	if (copy == NULL)
		bench_die("no memory");
	return memcpy(copy, op->list, words * sizeof *copy);
}

static void
script_add(struct script *script, const struct kvt_line *line)
{
	struct kvms_op op = line->op;

	op.list = words_copy(&op, line->row);
	if (line->kind == KVT_STORE) {
		script->config = op;
		return;
	}
	if (script->count == script->capacity) {
		script->capacity = script->capacity == 0 ? 4096 : 2 * script->capacity;
		script->op = realloc(script->op, script->capacity * sizeof *script->op);
		if (script->op == NULL)
			bench_die("no memory");
	}
	script->op[script->count++] = op;
}

/* An imported trace names ids as a fresh store gives them, so they need no translation. */
static struct script
script_read(const struct text *trace)
{
	struct script script = { .op = NULL };
	struct kvt_parser *parser = kvt_parser_new("recording");
	struct kvt_line line;

	if (parser == NULL)
		bench_die("no memory");
	kvms_op_init(&script.config, kvms_store_row());
	for (const char *at = trace->at, *end = trace->at + trace->size; at < end;) {
		size_t size = strcspn(at, "\n");

		if (!kvt_parse(parser, at, size, &line))
			bench_die("%s", kvt_parser_error(parser));
		if (line.kind == KVT_STORE || line.kind == KVT_OP)
			script_add(&script, &line);
		at += size + 1;
	}
	kvt_parser_free(&parser);
	return script;
}

static void
script_free(struct script *script)
{
	for (size_t i = 0; i < script->count; i++)
		free((void *)script->op[i].list);
	free((void *)script->config.list);
	free(script->op);
}

static double
replay_script(const struct script *script, enum kvms_check check)
{
	struct kvms_refusal why;
	struct kvms *s = kvms_new(&script->config, &why);
	uint64_t start = bench_now(), taken;

	if (s == NULL)
		bench_die("no store: %s", why.text);
	kvms_set_check(s, check, 1);
	for (size_t i = 0; i < script->count; i++)
		bench_apply(s, &script->op[i], 0);
	taken = bench_now() - start;
	kvms_free(&s);
	return (double)script->count * MILLISECOND / (double)taken;
}

/* What replaying a recording costs, measured in turn. */
struct replays {
	struct bench_figure imports, text, off, touched;
	size_t operations, trace_size;
};

static void
measure(const char *recording, unsigned rounds, struct replays *r)
{
	struct text trace = { NULL, 0 };
	struct script script;

	bench_add(&r->imports, import(recording, &trace));
	script = script_read(&trace);
	for (unsigned i = 0; i < rounds; i++) {
		bench_add(&r->text, replay_text(&trace));
		bench_add(&r->off, replay_script(&script, KVMS_CHECK_OFF));
		bench_add(&r->touched, replay_script(&script, KVMS_CHECK_TOUCHED));
	}
	r->operations = script.count;
	r->trace_size = trace.size;
	script_free(&script);
	free(trace.at);
}

void
bench_replay(const char *recording)
{
	struct replays r = { .operations = 0 };

	bench_heading("a recording of a Linux kernel", "laws off", "touched laws");
	measure(recording, BENCH_ROUNDS, &r);
	bench_row("replay, parsed before, 1000 operations/s", &r.off, &r.touched);
	bench_row("replay, text parsed and compared", NULL, &r.text);
	bench_row("import of the recording, s", &r.imports, NULL);
	bench_note("(%zu operations, a trace of %zu MiB; the import ran once)", r.operations, r.trace_size >> 20);
}

void
bench_recording(const char *recording, unsigned rounds)
{
	struct replays r = { .operations = 0 };

	measure(recording, rounds, &r);
	printf("\n### A recording of a Linux kernel\n\n%zu operations, 1000 a second.\n\n"
	       "| | laws off | touched laws |\n|---|---|---|\n",
	       r.operations);
	printf("| replay, parsed before | %s | %s |\n", bench_cell(&r.off), bench_cell(&r.touched));
	printf("| replay, text parsed and compared | | %s |\n", bench_cell(&r.text));
}
