/*
 * exec - operations and requests from the command line or standard input.
 */
#include "client/atomic.h"
#include "client/commands.h"
#include "client/session.h"
#include "client/show.h"

#include "trace/input.h"
#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct exec {
	struct kvmctl *k;
	struct kvmctl_session session;
	struct kvt_parser *parser;
	struct kvms_outcome out;
	struct kvt_buffer text; /* a text with its name as the tables have it */
	enum kvmctl_status (*open)(struct kvmctl *k, struct kvmctl_session *session, void *arg);
	void *arg;
	struct kvmctl_atomic together; /* with --atomic: what has been parsed */
	bool atomic;
	bool dry_run;
	bool only_requests; /* the store is a state of the past */
	bool only_parse; /* look for mistakes, run nothing */
	bool stop;       /* nothing more is to run */
	bool opens;      /* a cursor is opened, or what standard input says is not known yet */
	enum kvmctl_status worst;
	uint64_t line; /* of standard input; 0 = an argument */
};

/* ---- Mistakes in the text -------------------------------------------------------- */

/* The first word of a text. */
static void
first_word(const char *text, size_t size, char word[64])
{
	size_t begin = 0, length = 0;

	while (begin < size && (text[begin] == ' ' || text[begin] == '\t'))
		begin++;
	while (begin + length < size && length < 63 && text[begin + length] != ' ' && text[begin + length] != '\t')
		length++;
	memcpy(word, text + begin, length);
	word[length] = '\0';
}

/* Show the text with a mark under "column", counted from 1, if that fits a line. */
static void
point_at(const char *text, size_t size, unsigned long column)
{
	if (size > 200 || column == 0 || column > size + 1)
		return;
	fputs("  ", stderr);
	for (size_t i = 0; i < size; i++)
		fputc((unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i], stderr);
	fprintf(stderr, "\n  %*s^\n", (int)column - 1, "");
}

/* What was perhaps meant by "found 'TEXT'" at the end of a parser's message, and where to read more. */
static void
advise(const struct exec *x, const char *message, const struct kvms_row *row)
{
	const char *found = strstr(message, ", found '");
	struct kvmctl_guess guess = { 0 };
	bool is_key = strstr(message, "argument of") != NULL, lacks_value = strstr(message, "key=value") != NULL;
	char word[64];

	if (found != NULL && strlen(found) > 10) {
		snprintf(word, sizeof word, "%.*s", (int)strcspn(found + 9, "'"), found + 9);
		guess.word = word;
		if (row == NULL)
			kvmctl_guess_rows(&guess);
		for (unsigned i = 0; row != NULL && (is_key || lacks_value) && i < row->args_count; i++)
			kvmctl_guess_try(&guess, row->args[i].name);
	}
	if (guess.best != NULL)
		fprintf(stderr, "  did you mean '%s%s'?\n", guess.best, lacks_value ? "=..." : "");
	else if (row != NULL)
		fprintf(stderr, "  \"kvmctl help %s\" explains its arguments\n", row->name);
	else if (x->only_requests)
		fputs("  \"kvmctl help requests\" lists the questions\n", stderr);
	else
		fputs("  \"kvmctl help ops\" lists the operations; for a whole trace: kvmctl run FILE\n", stderr);
}

static enum kvmctl_status
complain_syntax(const struct exec *x, const char *text, size_t size)
{
	/* "SOURCE:1:COLUMN: MESSAGE"; the source has no colon */
	const char *error = kvt_parser_error(x->parser), *at = strchr(error, ':');
	const struct kvms_row *row;
	unsigned long column = 0;
	bool is_request;
	char word[64];
	char *end = NULL;

	if (at != NULL && strncmp(at, ":1:", 3) == 0) {
		column = strtoul(at + 3, &end, 10);
		error = end[0] == ':' && end[1] == ' ' ? end + 2 : error;
	}
	if (x->line > 0)
		kvmctl_complain("standard input, line %" PRIu64 ": %s", x->line, error);
	else
		kvmctl_complain("%s", error);
	point_at(text, size, column);
	first_word(text, size, word);
	row = kvmctl_row_find(word, &is_request);
	advise(x, error, row);
	return KVMCTL_USAGE;
}

/* ---- One text --------------------------------------------------------------------- */

static void
note(struct exec *x, enum kvmctl_status status)
{
	if (status == KVMCTL_BROKEN || x->worst == KVMCTL_OK)
		x->worst = status;
	if (status == KVMCTL_NOT_OK && x->k->option[OPTION_strict] != NULL)
		x->stop = true;
}

/* Did a full check find something? */
static bool
laws_broke(const struct kvms_row *row, const struct kvms_outcome *out)
{
	for (unsigned i = 0; i < row->results_count; i++)
		if (row->results[i].type == KVMS_LAWS && (out->present >> i & 1) != 0 && out->field[i] > 0)
			return true;
	return false;
}

/* A cursor that ends with this call is of no use: say so. */
static void
cursor_note(const struct exec *x, const struct kvt_line *line)
{
	const struct kvmctl *k = x->k;

	if (k->command == NULL && k->shell == NULL && !k->quiet && k->option[OPTION_detached] == NULL && x->session.connection != NULL &&
	    kvmctl_row_opens(line->row) && x->out.name == 0)
		kvmctl_complain("cursor %" PRIu64
				" is dropped now, with the connection of this call; --detached keeps it",
				x->out.field[0]);
}

static enum kvt_status
apply(struct exec *x, const struct kvt_line *line)
{
	struct kvt_target *target = x->session.target;

	if (x->session.connection != NULL && kvmctl_row_opens(line->row))
		return kvmctl_session_open_cursor(x->k, &x->session, &line->op, &x->out);
	return target->apply(target, &line->op, &x->out);
}

/* Apply or ask what has been parsed, and print the answer. */
static enum kvmctl_status
answer(struct exec *x, const struct kvt_line *line, bool is_request)
{
	struct kvt_target *target = x->session.target;
	enum kvt_status status;

	if (is_request)
		status = target->inspect(target, &line->op, &x->out);
	else if (x->dry_run)
		status = kvmctl_session_dry_run(&x->session, &line->op, &x->out);
	else
		status = apply(x, line);
	if (status != KVT_DONE) {
		x->stop = true;
		return kvmctl_complain_target(&x->session, status);
	}
	kvmctl_show_outcome(x->k, line->row, is_request, &line->op, &x->out);
	if (!is_request && !x->dry_run)
		cursor_note(x, line);
	if (x->out.name != 0)
		note(x, KVMCTL_NOT_OK);
	else if (is_request && laws_broke(line->row, &x->out))
		note(x, KVMCTL_BROKEN);
	return KVMCTL_OK;
}

/* The text with its first word as the tables have it: '-' is as good as '_'. */
static const char *
canonical(struct exec *x, const char *text, size_t size, bool *is_request)
{
	const struct kvms_row *row;
	char word[64];

	*is_request = false;
	first_word(text, size, word);
	row = kvmctl_row_find(word, is_request);
	*is_request = row != NULL && *is_request && !x->dry_run;
	if (row == NULL || strcmp(row->name, word) == 0)
		return text;
	kvt_buffer_reset(&x->text);
	kvt_put(&x->text, text, size);
	if (x->text.failed)
		return text;
	memcpy(x->text.at + strspn(x->text.at, " \t"), row->name, strlen(row->name));
	return x->text.at;
}

static bool
is_operation(const char *text, size_t size)
{
	char word[64];

	first_word(text, size, word);
	return kvms_op_find(word) != NULL;
}

/* Keep an operation for the end, when all of them happen together. */
static enum kvmctl_status
gather(struct exec *x, const struct kvt_line *line, bool is_request)
{
	if (is_request) {
		kvmctl_complain("'%s' is a request: with --atomic there are operations only", line->row->name);
		return KVMCTL_USAGE;
	}
	return kvmctl_atomic_add(&x->together, line);
}

/* Parse a text of one operation or request, and run it unless only mistakes are looked for. */
static enum kvmctl_status
run_text(struct exec *x, const char *text, size_t size)
{
	struct kvt_line line;
	bool is_request;

	text = canonical(x, text, size, &is_request);
	if (x->only_requests && !is_request && is_operation(text, size)) {
		kvmctl_complain("'%.*s' is an operation: a state of the past can be asked, not changed",
				(int)strcspn(text, " \t"), text);
		fputs("  \"kvmctl help requests\" lists the questions\n", stderr);
		return KVMCTL_USAGE;
	}
	is_request |= x->only_requests;
	if (!(is_request ? kvt_parse_request : kvt_parse_op)(x->parser, text, size, &line))
		return complain_syntax(x, text, size);
	if (line.kind == KVT_BLANK)
		return KVMCTL_OK;
	if (line.recorded) {
		kvmctl_complain("an outcome behind -> is not compared here: leave it out, or use \"kvmctl replay\"");
		return KVMCTL_USAGE;
	}
	x->opens |= !is_request && kvmctl_row_opens(line.row);
	if (x->atomic)
		return gather(x, &line, is_request);
	if (x->only_parse)
		return KVMCTL_OK;
	return answer(x, &line, is_request);
}

/* A text of one line or several. */
static enum kvmctl_status
run_lines(struct exec *x, const char *text)
{
	enum kvmctl_status status;

	for (;;) {
		size_t size = strcspn(text, "\n");

		status = run_text(x, text, size);
		if (status != KVMCTL_OK || x->stop || !kvmctl_flush() || text[size] == '\0')
			return status;
		text += size + 1;
	}
}

static enum kvmctl_status
run_stdin(struct exec *x)
{
	enum kvmctl_status status = KVMCTL_OK;
	char error[1024], *text;
	ssize_t size;
	struct kvt_input *in = kvt_input_open("-", error, sizeof error);

	if (in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	while (status == KVMCTL_OK && !x->stop && kvmctl_flush() && (size = kvt_input_line(in, &text)) >= 0) {
		x->line = kvt_input_lines(in);
		status = run_text(x, text, (size_t)size);
	}
	x->line = 0;
	if (status == KVMCTL_OK && kvt_input_error(in)[0] != '\0') {
		kvmctl_complain("%s", kvt_input_error(in));
		status = KVMCTL_UNREADABLE;
	}
	kvt_input_close(&in);
	return status;
}

/* ---- Commands ------------------------------------------------------------------------ */

static enum kvmctl_status
run_words(struct exec *x)
{
	enum kvmctl_status status = KVMCTL_OK;

	for (int i = 0; i < x->k->argc && status == KVMCTL_OK && !x->stop; i++) {
		if (strcmp(x->k->argv[i], "-") != 0)
			status = run_lines(x, x->k->argv[i]);
		else if (!x->only_parse || x->atomic)
			status = run_stdin(x);
		else
			x->opens = true;
	}
	return status;
}

/* All that was gathered, or nothing. */
static enum kvmctl_status
run_together(struct exec *x)
{
	enum kvmctl_status status = kvmctl_atomic_run(x->k, &x->session, &x->together);

	if (status != KVMCTL_NOT_OK)
		return status;
	note(x, status);
	return KVMCTL_OK;
}

/* --wait and --detached say something about the opens of cursors in a daemon. */
static enum kvmctl_status
open_options_fit(const struct exec *x)
{
	const struct kvmctl *k = x->k;
	const char *option = k->option[OPTION_detached] != NULL ? "detached" : "wait";

	if (k->option[OPTION_detached] == NULL && k->option[OPTION_wait] == NULL)
		return KVMCTL_OK;
	if (k->option[OPTION_embedded] != NULL)
		kvmctl_complain("--%s goes with a daemon: with --embedded nobody else is there", option);
	else if (!x->opens)
		kvmctl_complain("--%s goes with cursor_open and cursor_open_mut only", option);
	else
		return KVMCTL_OK;
	return KVMCTL_USAGE;
}

static enum kvmctl_status
open_now(struct kvmctl *k, struct kvmctl_session *session, void *arg)
{
	(void)arg;
	return kvmctl_session_open(k, session);
}

/* Everything from the words to the exit status. */
static enum kvmctl_status
run_all(struct exec *x)
{
	enum kvmctl_status status;

	if (x->open == NULL)
		x->open = open_now;
	if (x->k->option[OPTION_keep] != NULL && x->k->option[OPTION_embedded] == NULL && x->open == open_now) {
		kvmctl_complain(
		    "--keep goes with --embedded here; a daemon's store is kept anyway (\"kvmctl snapshot save\")");
		return KVMCTL_USAGE;
	}
	x->parser = kvt_parser_new("op");
	if (x->parser == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	x->only_parse = true;
	status = run_words(x);
	x->only_parse = false;
	if (status == KVMCTL_OK)
		status = open_options_fit(x);
	if (status == KVMCTL_OK)
		status = x->open(x->k, &x->session, x->arg);
	if (status == KVMCTL_OK) {
		status = x->atomic ? run_together(x) : run_words(x);
		if (status == KVMCTL_OK && x->k->option[OPTION_keep] != NULL) {
			status = kvmctl_session_save(x->k, &x->session, x->k->option[OPTION_keep]);
			if (status != KVMCTL_OK)
				kvmctl_complain("%s", x->session.error);
		}
	}
	kvmctl_session_close(&x->session);
	kvmctl_atomic_free(&x->together);
	kvms_outcome_free(&x->out);
	kvt_buffer_free(&x->text);
	kvt_parser_free(&x->parser);
	return status != KVMCTL_OK ? status : x->worst;
}

enum kvmctl_status
kvmctl_exec(struct kvmctl *k)
{
	struct exec x = { .k = k, .atomic = k->option[OPTION_atomic] != NULL };

	return run_all(&x);
}

enum kvmctl_status
kvmctl_exec_dry(struct kvmctl *k)
{
	struct exec x = { .k = k, .dry_run = true };

	return run_all(&x);
}

enum kvmctl_status
kvmctl_exec_requests(struct kvmctl *k,
		     enum kvmctl_status (*open)(struct kvmctl *k, struct kvmctl_session *session, void *arg), void *arg)
{
	struct exec x = { .k = k, .open = open, .arg = arg, .only_requests = true };

	return run_all(&x);
}

/* The words of the call as one text, the row's name first; NULL: no memory. */
static char *
joined(const struct kvmctl *k)
{
	struct kvt_buffer b = { 0 };

	kvt_puts(&b, k->row->name);
	for (int i = 0; i < k->argc; i++) {
		kvt_putc(&b, ' ');
		kvt_puts(&b, k->argv[i]);
	}
	if (b.failed)
		kvt_buffer_free(&b);
	return b.at;
}

enum kvmctl_status
kvmctl_exec_row(struct kvmctl *k)
{
	char *text = joined(k);
	struct kvmctl one = *k;
	enum kvmctl_status status;

	if (text == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	one.argc = 1;
	one.argv = &text;
	status = kvmctl_exec(&one);
	free(text);
	return status;
}
