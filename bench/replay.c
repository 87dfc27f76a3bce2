/*
 * replay - how fast traces are replayed: the bundled recording of a Linux
 * kernel, and a generated mix of all operations.
 *
 *   replay RECORDING KVMCTL KVMSTORED FOLDER
 *
 * RECORDING is the folder of the recording; files go into a temporary folder in
 * FOLDER.  Prints Markdown; bench/run calls it.  With BENCH_QUICK=1 in the
 * environment it only shows that everything works.
 */
#include "bench/bench.h"
#include "bench/wire.h"
#include "trace/gen.h"
#include "trace/import_ftrace.h"
#include "trace/script.h"
#include "trace/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1e9
#define MILLISECOND 1e6
#define SEED 5u
#define DAEMON_ROUNDS 3u /* they are slow */

/* A trace in memory. */
struct text {
	char *at;
	size_t size;
};

/* ---- The model alone ----------------------------------------------------------------- */

/* All operations of a trace, parsed. */
struct script {
	struct kvms_op config;
	struct {
		struct kvms_op op;
		enum kvms_class class; /* of its outcome */
	} *at;
	size_t count, capacity;
};

/* The lists of an operation, which lie one behind the other, in memory of their own. */
static uint64_t *
words_copy(const struct kvms_op *op, const struct kvms_row *row)
{
	const size_t words = kvt_payload_words(row, op);
	uint64_t *copy;

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
		script->at = realloc(script->at, script->capacity * sizeof *script->at);
		if (script->at == NULL)
			bench_die("no memory");
	}
	script->at[script->count].op = op;
	script->at[script->count++].class = line->class;
}

/* These traces name ids as a fresh store gives them, so they need no translation. */
static struct script
script_read(const struct text *trace)
{
	struct script script = { .at = NULL };
	struct kvt_parser *parser = kvt_parser_new("trace");
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
		free((void *)script->at[i].op.list);
	free((void *)script->config.list);
	free(script->at);
}

static double
replay_script(const struct script *script, enum kvms_check check)
{
	struct kvms_refusal why;
	struct kvms *s = kvms_new(&script->config, &why);
	struct kvms_outcome out = { .name = 0 };
	uint64_t start = bench_now(), taken;

	if (s == NULL)
		bench_die("no store: %s", why.text);
	kvms_set_check(s, check, 1);
	for (size_t i = 0; i < script->count; i++)
		if (kvms_apply(s, &script->at[i].op, &out) != KVMS_DONE ||
		    kvms_outcome_class(out.name) != script->at[i].class)
			bench_die("operation %zu ended otherwise than recorded", i + 1);
	taken = bench_now() - start;
	kvms_outcome_free(&out);
	kvms_free(&s);
	return (double)script->count * MILLISECOND / (double)taken;
}

/* ---- kvmctl --------------------------------------------------------------------------------- */

static const char *kvmctl;
static struct peer daemon_peer; /* its folder has our files too */

/* Run kvmctl with these words, NULL at the end; what it says, on both channels, valid until the next call. */
static const char *
said(const char *first, ...)
{
	static char text[65536];
	const char *argv[16] = { kvmctl, first };
	unsigned n = 2;
	size_t have = 0;
	va_list words;
	int ends[2], status;
	pid_t child;

	va_start(words, first);
	while (n < 15 && (argv[n] = va_arg(words, const char *)) != NULL)
		n++;
	va_end(words);
	fflush(stdout);
	if (pipe(ends) != 0 || (child = fork()) < 0)
		bench_die("no process: %s", strerror(errno));
	if (child == 0) {
		if (dup2(ends[1], 1) >= 0 && dup2(ends[1], 2) >= 0)
			execv(kvmctl, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(ends[1]);
	for (ssize_t got; (got = read(ends[0], text + have, sizeof text - 1 - have)) > 0;)
		have += (size_t)got;
	text[have] = '\0';
	close(ends[0]);
	if (waitpid(child, &status, 0) != child || status != 0)
		bench_die("kvmctl %s %s ended with status %d: %s", argv[1], argv[2], WEXITSTATUS(status), text);
	return text;
}

/* The number behind "mark". */
static double
number(const char *text, const char *mark)
{
	const char *at = strstr(text, mark);

	if (at == NULL)
		bench_die("kvmctl did not say %s, but %s", mark, text);
	return strtod(at + strlen(mark), NULL);
}

/* ---- A trace and the ways to replay it -------------------------------------------------------- */

enum { PARSED_OFF, PARSED, TEXT, BINARY, DAEMON_TEXT, DAEMON_BINARY, WAYS };

static const struct {
	const char *what, *plot;
} ways[WAYS] = {
	[PARSED_OFF] = { "in this process, parsed before, laws off", "parsed, laws off" },
	[PARSED] = { "in this process, parsed before", "parsed" },
	[TEXT] = { "`kvmctl -e replay`, text", "text" },
	[BINARY] = { "`kvmctl -e replay`, binary", "binary" },
	[DAEMON_TEXT] = { "`kvmctl replay` through the daemon, text", "daemon, text" },
	[DAEMON_BINARY] = { "`kvmctl replay` through the daemon, binary", "daemon, binary" },
};

struct trace {
	const char *name;
	char text[2 * PEER_PATH], binary[2 * PEER_PATH];
	struct script script;
	double text_size, binary_size; /* MiB */
	double lines;
	struct bench_figure make, convert, pack; /* s, s, s */
	struct bench_figure way[WAYS];
};

static double
size_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		bench_die("%s: %s", path, strerror(errno));
	return (double)st.st_size / 1048576;
}

static void
trace_keep(struct trace *t, const char *file, struct text *trace)
{
	FILE *out;
	const char *answer;
	uint64_t start;

	snprintf(t->text, sizeof t->text, "%s/%s.kvt", daemon_peer.dir, file);
	snprintf(t->binary, sizeof t->binary, "%s/%s.kvtb", daemon_peer.dir, file);
	out = fopen(t->text, "we");
	if (out == NULL || fwrite(trace->at, 1, trace->size, out) != trace->size || fclose(out) != 0)
		bench_die("%s: %s", t->text, strerror(errno));
	start = bench_now();
	said("trace", "convert", t->text, t->binary, NULL);
	bench_add(&t->pack, (double)(bench_now() - start) / SECOND);
	start = bench_now();
	answer = said("--json", "trace", "convert", t->text, "/dev/null", NULL);
	bench_add(&t->convert, (double)(bench_now() - start) / SECOND);
	t->lines = number(answer, "\"lines\":");
	t->text_size = size_of(t->text);
	t->binary_size = size_of(t->binary);
	t->script = script_read(trace);
	free(trace->at);
}

static void
recording_make(struct trace *t, const char *recording)
{
	struct kvt_import in = { .path = recording };
	struct kvt_import_report report;
	struct text trace = { .at = NULL };
	FILE *out = open_memstream(&trace.at, &trace.size);
	uint64_t start = bench_now();
	char error[1024];

	if (out == NULL || kvt_import_ftrace(&in, out, &report, error, sizeof error) != 0)
		bench_die("%s", out == NULL ? "no memory" : error);
	kvt_import_report_free(&report);
	if (fclose(out) != 0)
		bench_die("no memory");
	bench_add(&t->make, (double)(bench_now() - start) / SECOND);
	trace_keep(t, "recording", &trace);
}

/* Every kind of operation, a quarter of them refused; digests are asked for at the end only. */
static void
mix_make(struct trace *t, uint64_t steps)
{
	struct kvt_gen gen = { .seed = SEED, .steps = steps, .digest_every = steps };
	struct text trace = { .at = NULL };
	FILE *out = open_memstream(&trace.at, &trace.size);
	uint64_t start = bench_now();
	char error[1024] = "no memory";

	if (out == NULL || kvt_gen(&gen, out, error, sizeof error) != 0 || fclose(out) != 0)
		bench_die("%s", error);
	bench_add(&t->make, (double)(bench_now() - start) / SECOND);
	trace_keep(t, "mix", &trace);
}

/* Thousand operations a second, as kvmctl counts them: from the first line on. */
static double
replay_file(const char *path, bool embedded)
{
	const char *answer = embedded ? said("--embedded", "--json", "replay", path, NULL) :
					said("--connect", daemon_peer.socket, "--json", "replay", path, NULL);

	return number(answer, "\"ops\":") * MILLISECOND / number(answer, "\"nanoseconds\":");
}

static void
trace_round(struct trace *t, unsigned round)
{
	bench_add(&t->way[PARSED_OFF], replay_script(&t->script, KVMS_CHECK_OFF));
	bench_add(&t->way[PARSED], replay_script(&t->script, KVMS_CHECK_TOUCHED));
	bench_add(&t->way[TEXT], replay_file(t->text, true));
	bench_add(&t->way[BINARY], replay_file(t->binary, true));
	if (round >= DAEMON_ROUNDS)
		return;
	bench_add(&t->way[DAEMON_TEXT], replay_file(t->text, false));
	bench_add(&t->way[DAEMON_BINARY], replay_file(t->binary, false));
}

/* ---- What else is done with traces --------------------------------------------------------------- */

/* The last frame_alloc of the mix is said to have failed; gives the seconds that a shrink takes. */
static double
shrink(const struct trace *mix)
{
	char bad[2 * PEER_PATH], small[2 * PEER_PATH];
	char *text = NULL, *last = NULL;
	size_t size = (size_t)(mix->text_size * 1048576);
	FILE *in = fopen(mix->text, "re"), *out;
	uint64_t start;

	snprintf(bad, sizeof bad, "%s/bad.kvt", daemon_peer.dir);
	snprintf(small, sizeof small, "%s/small.kvt", daemon_peer.dir);
	text = calloc(1, size + 1);
	if (in == NULL || text == NULL || fread(text, 1, size, in) != size)
		bench_die("cannot read %s", mix->text);
	fclose(in);
	for (char *at = text; (at = strstr(at, "\nframe_alloc ")) != NULL; at++)
		if (memcmp(at + strcspn(at + 1, ">"), "-> ok ", 6) == 0)
			last = at + strcspn(at + 1, ">") + 3;
	out = fopen(bad, "we");
	if (last == NULL || out == NULL)
		bench_die("nothing to shrink in %s", mix->text);
	fwrite(text, 1, (size_t)(last - text), out);
	fputs("panic out_of_frames", out);
	fputs(last + strcspn(last, "\n"), out);
	free(text);
	if (fclose(out) != 0)
		bench_die("%s: %s", bad, strerror(errno));
	start = bench_now();
	said("trace", "shrink", bad, "--while-diverges", "-o", small, NULL);
	return (double)(bench_now() - start) / SECOND;
}

static double
adopt(const char *recording)
{
	char image[2 * PEER_PATH];

	snprintf(image, sizeof image, "%s/ptpages.1.bin.xz", recording);
	return number(said("adopt", image, "--verbose", NULL), "adopted in ");
}

/* ---- All of it ------------------------------------------------------------------------------------- */

static void
traces_print(const struct trace *t)
{
	printf("### Replay\n\n"
	       "1000 operations a second, laws checked about what each step touched unless they are off.\n\n"
	       "| | %s, %zu operations | %s, %zu operations |\n|---|---|---|\n",
	       t[0].name, t[0].script.count, t[1].name, t[1].script.count);
	for (unsigned w = 0; w < WAYS; w++)
		printf("| %s | %s | %s |\n", ways[w].what, bench_cell(&t[0].way[w]), bench_cell(&t[1].way[w]));
	printf("\n### Making and keeping\n\n| | %s | %s |\n|---|---|---|\n", t[0].name, t[1].name);
	printf("| imported, generated, s | %s | %s |\n", bench_cell(&t[0].make), bench_cell(&t[1].make));
	printf("| text, MiB | %.2f | %.2f |\n", t[0].text_size, t[1].text_size);
	printf("| binary, MiB | %.2f | %.2f |\n", t[0].binary_size, t[1].binary_size);
	printf("| `kvmctl trace convert`, text to binary, s | %s | %s |\n", bench_cell(&t[0].pack),
	       bench_cell(&t[1].pack));
	printf("| ... text to text, s | %s | %s |\n", bench_cell(&t[0].convert), bench_cell(&t[1].convert));
	printf("| ... 1000 lines a second | %.0f | %.0f |\n", t[0].lines / bench_median(&t[0].convert) / 1e3,
	       t[1].lines / bench_median(&t[1].convert) / 1e3);
	fflush(stdout);
}

static void
traces_plot(const struct trace *t)
{
	for (unsigned i = 0; i < 2; i++) {
		FILE *data = bench_data(i == 0 ? "replay-recording" : "replay-mix");

		for (unsigned w = 0; w < WAYS; w++)
			bench_point(data, ways[w].plot, &t[i].way[w]);
		bench_data_end(data);
	}
}

int
main(int argc, char **argv)
{
	static struct trace t[2] = { { .name = "recording" }, { .name = "mix" } };
	struct bench_figure shrinks = { .rounds = 0 }, adopts = { .rounds = 0 };
	unsigned rounds;
	bool quick;

	if (argc != 5) {
		fprintf(stderr, "Usage: replay RECORDING KVMCTL KVMSTORED FOLDER\n");
		return 2;
	}
	quick = bench_quick();
	rounds = quick ? 1 : 5;
	kvmctl = argv[2];
	bench_pin();
	peer_folder(argv[4]);
	peer_init(&daemon_peer, "kvmstored");
	peer_start(&daemon_peer,
		   (const char *const[]){ argv[3], "--listen", daemon_peer.socket, "--log-level", "warning", NULL });
	for (unsigned round = 0; round < (quick ? 1 : 3); round++) {
		if (round > 0) {
			script_free(&t[0].script);
			script_free(&t[1].script);
		}
		recording_make(&t[0], argv[1]);
		mix_make(&t[1], quick ? 5000 : 100000);
	}
	for (unsigned round = 0; round < rounds; round++) {
		trace_round(&t[0], quick ? DAEMON_ROUNDS : round);
		trace_round(&t[1], round);
		bench_add(&adopts, adopt(argv[1]));
		if (round < 3)
			bench_add(&shrinks, shrink(&t[1]));
	}
	printf("Medians of %u rounds, through the daemon and of all below %u (least .. largest), in turn.\n\n", rounds,
	       DAEMON_ROUNDS);
	traces_print(t);
	printf("\n| | |\n|---|---|\n| shrinking the mix, its last `frame_alloc` made to fail, s | %s |\n"
	       "| adopting an image of a kernel's page tables, ms | %s |\n",
	       bench_cell(&shrinks), bench_cell(&adopts));
	traces_plot(t);
	script_free(&t[0].script);
	script_free(&t[1].script);
	peer_stop(&daemon_peer, SIGTERM);
	return 0;
}
