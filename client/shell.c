/*
 * shell - commands from a prompt, or from standard input, on one store.
 *
 * Each line is a call of kvmctl without its first word.  All work on the store
 * that the shell has opened: a daemon's, over one connection, or one in this
 * process, fresh, from a snapshot, or as a trace leaves it behind a step.
 */
#include "client/commands.h"
#include "client/line.h"
#include "client/progress.h"
#include "client/session.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 4096u

struct shell {
	struct kvmctl *k;
	struct kvmctl_session session;
	enum kvmctl_status status; /* of the first line that went wrong */
	bool quit;

	/* of --trace */
	const char *trace;
	struct kvt_input *in;
	struct kvt_replay replay;
	struct kvt_run *run;
	uint64_t from; /* operations in front of it are left out */
	uint64_t at;   /* operations that have run */
	bool show;     /* tell of them */
	struct kvt_buffer text;
};

/* ---- The trace ------------------------------------------------------------------------- */

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct shell *sh = arg;
	const struct kvmctl_trace_store want = { .trace = sh->trace, .config = config, .base = base };

	return kvmctl_session_open_trace(sh->k, &sh->session, &want, why) == KVMCTL_OK ? sh->session.target : NULL;
}

static bool
on_step(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
	const struct kvms_outcome *out, uint64_t number)
{
	struct shell *sh = arg;

	(void)target;
	if (line->kind != KVT_OP)
		return true;
	sh->at = number;
	if (!sh->show)
		return true;
	kvt_buffer_reset(&sh->text);
	kvt_putf(&sh->text, sh->k->json ? "{\"step\":%" PRIu64 ",\"call\":" : "%" PRIu64 ": ", number);
	if (sh->k->json) {
		kvt_json_op(&sh->text, kvms_op_row(op->code), op);
		kvt_puts(&sh->text, ",\"outcome\":");
		kvt_json_outcome(&sh->text, kvms_op_row(op->code), out);
		kvt_putc(&sh->text, '}');
	} else {
		kvt_print_op(&sh->text, kvms_op_row(op->code), op);
		kvt_puts(&sh->text, " -> ");
		kvt_print_outcome(&sh->text, kvms_op_row(op->code), out);
	}
	puts(kvt_buffer_text(&sh->text));
	return true;
}

/* Begin with the state in front of the first operation. */
static enum kvmctl_status
trace_begin(struct shell *sh)
{
	char error[1024];

	kvt_run_end(&sh->run);
	kvt_input_close(&sh->in);
	kvmctl_session_close(&sh->session);
	sh->in = kvt_input_open(sh->trace, error, sizeof error);
	if (sh->in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	sh->replay = (struct kvt_replay){ .arg = sh, .open = open_store, .step = on_step, .keep_going = true };
	sh->replay.report = stderr;
	sh->replay.has_to = true;
	sh->replay.from = sh->from;
	sh->replay.skip = sh->from > 1 && sh->k->option[OPTION_embedded][0] != '\0';
	sh->at = sh->replay.skip ? sh->from - 1 : 0;
	sh->run = kvt_run_begin(&sh->replay, sh->in, sh->trace);
	if (sh->run != NULL)
		return KVMCTL_OK;
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

/* Go on behind operation "to". */
static enum kvmctl_status
trace_go(struct shell *sh, uint64_t to, bool show)
{
	enum kvt_result result;

	sh->replay.to = to;
	sh->show = show;
	result = kvt_run(sh->run);
	sh->show = false;
	if (result == KVT_PASSED || result == KVT_DIVERGED)
		return KVMCTL_OK;
	return result == KVT_SYNTAX && kvt_input_error(sh->in)[0] != '\0' ? KVMCTL_UNREADABLE
									  : (enum kvmctl_status)result;
}

static enum kvmctl_status
open_trace(struct shell *sh)
{
	uint64_t to;
	enum kvmctl_status status = kvmctl_option_number(sh->k, OPTION_to, UINT64_MAX, &to);

	sh->trace = sh->k->argv[0];
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(sh->k, OPTION_from, 0, &sh->from);
	if (status == KVMCTL_OK)
		status = trace_begin(sh);
	if (status == KVMCTL_OK)
		status = trace_go(sh, to, false);
	if (status == KVMCTL_OK && to != UINT64_MAX && sh->at < to && !sh->k->quiet)
		kvmctl_complain("the trace ends with operation %" PRIu64, sh->at);
	return status;
}

/* step [N], back [N]: the words behind them. */
static enum kvmctl_status
move(struct shell *sh, int argc, char **argv, bool back)
{
	uint64_t count = 1, before = sh->at;
	enum kvmctl_status status;

	if (sh->trace == NULL) {
		kvmctl_complain("\"%s\" moves in a trace: kvmctl -e shell --trace FILE", argv[0]);
		return KVMCTL_USAGE;
	}
	if (argc > 2 || (argc == 2 && !kvt_parse_u64(argv[1], strlen(argv[1]), &count))) {
		kvmctl_complain("%s [N]: by so many operations", argv[0]);
		return KVMCTL_USAGE;
	}
	if (!back) {
		status = trace_go(sh, count > UINT64_MAX - before ? UINT64_MAX : before + count, true);
		if (status == KVMCTL_OK && sh->at == before && count > 0)
			kvmctl_complain("the trace ends with operation %" PRIu64, sh->at);
		return status;
	}
	status = trace_begin(sh);
	if (status == KVMCTL_OK)
		status = trace_go(sh, count > before ? 0 : before - count, false);
	if (status == KVMCTL_OK)
		printf(sh->k->json ? "{\"step\":%" PRIu64 "}\n" : "behind operation %" PRIu64 "\n", sh->at);
	return status;
}

static void
where_text(const struct shell *sh, uint64_t digest)
{
	if (sh->trace != NULL)
		printf("%s, behind operation %" PRIu64 "\n", sh->trace, sh->at);
	else if (sh->session.connection != NULL)
		printf("store %s of the daemon at %s\n", kvmctl_store_name(sh->k),
		       kvmctl_socket(sh->session.connection));
	else
		printf("a store in this process%s%s\n", sh->k->option[OPTION_embedded][0] != '\0' ? ", from " : "",
		       sh->k->option[OPTION_embedded]);
	printf("digest=0x%016" PRIx64 "\n", digest);
}

static void
json_member(struct kvt_buffer *b, const char *name, const char *value)
{
	kvt_putf(b, "\"%s\":", name);
	kvt_json_string(b, value, strlen(value));
	kvt_putc(b, ',');
}

static void
where_json(struct shell *sh, uint64_t digest)
{
	struct kvt_buffer *b = &sh->text;

	kvt_buffer_reset(b);
	kvt_putc(b, '{');
	if (sh->trace != NULL) {
		json_member(b, "trace", sh->trace);
		kvt_putf(b, "\"step\":%" PRIu64 ",", sh->at);
	} else if (sh->session.connection != NULL) {
		json_member(b, "store", kvmctl_store_name(sh->k));
		json_member(b, "socket", kvmctl_socket(sh->session.connection));
	} else if (sh->k->option[OPTION_embedded][0] != '\0') {
		json_member(b, "snapshot", sh->k->option[OPTION_embedded]);
	}
	kvt_putf(b, "\"digest\":\"0x%016" PRIx64 "\"}", digest);
	puts(kvt_buffer_text(b));
}

static enum kvmctl_status
where(struct shell *sh)
{
	uint64_t digest;

	enum kvt_status status = sh->session.target->digest(sh->session.target, &digest);
	if (status != KVT_DONE)
		return kvmctl_complain_target(&sh->session, status);
	if (sh->k->json)
		where_json(sh, digest);
	else
		where_text(sh, digest);
	return KVMCTL_OK;
}

/* ---- Words ------------------------------------------------------------------------------ */

/*
 * Split a line into words, in place: blanks separate, ' and " keep together, a
 * backslash takes the next byte as it is, a # that begins a word begins a comment.
 * => gives how many; -1: a quote is open, or there are too many
 */
static int
split(char *line, char **word)
{
	char *to = line;
	int count = 0;

	while (*line != '\0') {
		char quote = '\0';

		line += strspn(line, " \t\r");
		if (*line == '\0' || *line == '#')
			break;
		if (count == (int)WORDS_MAX)
			return -1;
		word[count++] = to;
		for (; *line != '\0' && (quote != '\0' || strchr(" \t\r", *line) == NULL); line++) {
			if (quote == '\0' && (*line == '\'' || *line == '"'))
				quote = *line;
			else if (quote != '\0' && *line == quote)
				quote = '\0';
			else if (*line == '\\' && quote != '\'' && line[1] != '\0')
				*to++ = *++line;
			else
				*to++ = *line;
		}
		if (quote != '\0')
			return -1;
		line += *line != '\0';
		*to++ = '\0';
	}
	word[count] = NULL;
	return count;
}

/* ---- Lines ------------------------------------------------------------------------------- */

/* Which store a line works on that does not say so itself. */
static void
inherit(const struct shell *sh, struct kvmctl *call)
{
	static const enum kvmctl_option where_from[] = { OPTION_store, OPTION_connect, OPTION_embedded,
							 OPTION_state_dir };
	bool own = false;

	for (size_t i = 0; i < sizeof where_from / sizeof where_from[0]; i++)
		own = own || call->option[where_from[i]] != NULL;
	call->json = call->json || sh->k->json;
	call->quiet = call->quiet || sh->k->quiet;
	if (own)
		return;
	call->shell = (struct kvmctl_session *)(uintptr_t)&sh->session;
	for (size_t i = 0; i < 3; i++)
		call->option[where_from[i]] = sh->k->option[where_from[i]];
}

static enum kvmctl_status
call_command(struct shell *sh, int argc, char **argv)
{
	struct kvmctl call;
	enum kvmctl_status status = kvmctl_options_parse(&call, argc, argv);

	if (status == KVMCTL_OK) {
		inherit(sh, &call);
		status = kvmctl_call(&call);
	}
	free(call.argv);
	return status;
}

/* argv[1] is the first word of the line. */
static enum kvmctl_status
run_words(struct shell *sh, int argc, char **argv)
{
	const char *word = argv[1];

	if (strcmp(word, "quit") == 0 || strcmp(word, "exit") == 0) {
		sh->quit = true;
		return KVMCTL_OK;
	}
	if (strcmp(word, "shell") == 0) {
		kvmctl_complain("this is the shell; \"quit\" ends it");
		return KVMCTL_USAGE;
	}
	if (strcmp(word, "step") == 0 || strcmp(word, "back") == 0)
		return move(sh, argc - 1, argv + 1, word[0] == 'b');
	if (strcmp(word, "where") == 0)
		return where(sh);
	return call_command(sh, argc, argv);
}

static enum kvmctl_status
run_line(struct shell *sh, char *line, bool too_long)
{
	static char name[] = "kvmctl";
	static char *word[WORDS_MAX + 2];
	int count;

	if (too_long) {
		kvmctl_complain("a line of more than 1 MiB");
		return KVMCTL_USAGE;
	}
	word[0] = name;
	count = split(line, word + 1);
	if (count < 0) {
		kvmctl_complain("a quote that is not closed, or more than %u words", WORDS_MAX);
		return KVMCTL_USAGE;
	}
	return count > 0 ? run_words(sh, count + 1, word) : KVMCTL_OK;
}

static void
run_lines(struct shell *sh)
{
	bool too_long, interactive = isatty(STDIN_FILENO);
	char prompt[64];
	char *line = NULL;

	while (!sh->quit) {
		enum kvmctl_status status;

		if (sh->trace != NULL)
			snprintf(prompt, sizeof prompt, "kvmctl:%" PRIu64 "> ", sh->at);
		else
			strcpy(prompt, "kvmctl> ");
		line = kvmctl_line_read(prompt, &too_long);
		if (line == NULL)
			break;
		status = run_line(sh, line, too_long);
		free(line);
		if (!interactive && (sh->status == KVMCTL_OK || status == KVMCTL_BROKEN))
			sh->status = status != KVMCTL_OK ? status : sh->status;
		if (!kvmctl_flush() || (status != KVMCTL_OK && sh->k->option[OPTION_strict] != NULL))
			break;
		/* there is nothing to go on with */
		if (sh->session.target == NULL || (status == KVMCTL_CONNECTION && sh->session.connection == NULL))
			break;
	}
	if (line == NULL && interactive)
		putchar('\n');
}

enum kvmctl_status
kvmctl_shell(struct kvmctl *k)
{
	struct shell sh = { .k = k };
	enum kvmctl_status status;

	if (k->option[OPTION_trace] != NULL && k->option[OPTION_embedded] == NULL) {
		kvmctl_complain("--trace goes with --embedded: the trace runs in a store of this process");
		return KVMCTL_USAGE;
	}
	/* --trace has no argument of its own, as in "log": the file is the command's word */
	if ((k->option[OPTION_trace] != NULL) != (k->argc == 1)) {
		kvmctl_complain(k->argc == 1 ? "a file goes with --trace" : "--trace needs a file");
		return KVMCTL_USAGE;
	}
	if ((k->option[OPTION_to] != NULL || k->option[OPTION_from] != NULL) && k->option[OPTION_trace] == NULL) {
		kvmctl_complain("--from and --to go with --trace FILE");
		return KVMCTL_USAGE;
	}
	status = k->option[OPTION_trace] != NULL ? open_trace(&sh) : kvmctl_session_open(k, &sh.session);
	if (status == KVMCTL_OK) {
		kvmctl_line_begin(&sh.session);
		run_lines(&sh);
		kvmctl_line_end();
		status = sh.status;
	}
	kvt_run_end(&sh.run);
	kvt_input_close(&sh.in);
	kvmctl_session_close(&sh.session);
	kvt_buffer_free(&sh.text);
	return status;
}
