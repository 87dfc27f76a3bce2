/*
 * help - texts made from the tables: commands, options, operations, requests,
 * outcomes, laws.  Everything fits 80 columns.
 */
#include "client/commands.h"
#include "client/describe.h"
#include "client/session.h"

#include "trace/text.h"

#include <limits.h>
#include <string.h>

/* ---- Options and commands ----------------------------------------------------------- */

static void
option_entry(FILE *out, unsigned number)
{
	const struct kvmctl_option_row *row = kvmctl_option_row(number);
	char name[80], letter[8] = "    ";

	if (row->letter != 0)
		snprintf(letter, sizeof letter, "-%c, ", row->letter);
	if (row->argument == 2)
		snprintf(name, sizeof name, "%s--%s[=%s]", letter, row->name, row->metavar);
	else
		snprintf(name, sizeof name, "%s--%s%s%s", letter, row->name, row->argument != 0 ? " " : "",
			 row->metavar);
	kvmctl_entry(out, name, 28, row->help);
}

static void
global_options(FILE *out)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (kvmctl_option_row(i)->global)
			option_entry(out, i);
}

static void
all_options(FILE *out)
{
	fputs("Options of every command, before or after its name:\n", out);
	global_options(out);
	fputs("\nOptions of some commands:\n", out);
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (!kvmctl_option_row(i)->global)
			option_entry(out, i);
}

static void
exit_statuses(FILE *out)
{
	fputs("Exit status:\n"
	      "  0  ok\n"
	      "  1  an operation was not ok (\"run\": only with --strict); nothing was found;\n"
	      "     \"trace coverage\" reached less than --fail-under, \"trace gen\" not all of\n"
	      "     --until-covered; the trace for \"trace shrink\" does not fail\n"
	      "  2  the call is wrong, or the text of an operation or trace\n"
	      "  3  no connection, or the daemon refused\n"
	      "  4  a replay or a comparison found a difference\n"
	      "  5  a law of the model is broken\n"
	      "  6  a file cannot be read or written: snapshot, trace, recording, image,\n"
	      "     output; or a past state cannot be made\n",
	      out);
}

void
kvmctl_help_overview(FILE *out)
{
	const struct kvmctl_command *c;

	fputs("kvmctl - drive and question a kvmstore, in a daemon or in this process\n\n"
	      "usage: kvmctl [OPTION]... COMMAND [ARGUMENT]...\n\n"
	      "Commands:\n",
	      out);
	kvmctl_entry(out, "OP [key=value ...]", 28, "one operation, e.g. frame-alloc meta=7");
	kvmctl_entry(out, "REQUEST [key=value ...]", 28, "one question, e.g. who-holds paddr=0x1000");
	for (unsigned i = 0; (c = kvmctl_command_row(i)) != NULL; i++) {
		char name[80];

		snprintf(name, sizeof name, "%s%s%s", c->name, c->synopsis[0] != '\0' ? " " : "", c->synopsis);
		kvmctl_entry(out, name, 28, c->summary);
	}
	fputs("\n\"kvmctl help COMMAND\", \"kvmctl help OP\" explain one; \"kvmctl help ops\" and\n"
	      "\"kvmctl help requests\" list what there is.\n\nOptions:\n",
	      out);
	global_options(out);
	fputc('\n', out);
	exit_statuses(out);
}

/* Paragraphs of a command; those that begin with a tab are examples. */
static void
details(FILE *out, const char *text)
{
	char paragraph[1024];
	bool example = false;

	while (*text != '\0') {
		size_t length = strcspn(text, "\n");

		snprintf(paragraph, sizeof paragraph, "%.*s", (int)length, text);
		if (!example)
			fputc('\n', out);
		example = paragraph[0] == '\t';
		if (example)
			fprintf(out, "  %s\n", paragraph + 1);
		else
			kvmctl_wrap(out, 0, 0, paragraph);
		text += length + (text[length] != '\0');
	}
}

static void arguments(FILE *out, const struct kvms_row *row);

void
kvmctl_help_command(const struct kvmctl_command *command, FILE *out)
{
	char usage[256];

	fprintf(out, "kvmctl %s - ", command->name);
	kvmctl_wrap(out, (unsigned)strlen(command->name) + 10, 2, command->summary);
	snprintf(usage, sizeof usage, "usage: kvmctl %s%s%s%s", command->name,
		 command->options != 0 ? " [OPTION]..." : "", command->synopsis[0] != '\0' ? " " : "",
		 command->synopsis);
	fputc('\n', out);
	kvmctl_wrap(out, 0, 7, usage);
	details(out, command->details);
	if (command->run == kvmctl_store_create)
		arguments(out, kvms_store_row());
	if (command->options != 0) {
		fputs("\nOptions:\n", out);
		for (unsigned i = 0; i < OPTION_COUNT; i++)
			if ((command->options >> i & 1) != 0)
				option_entry(out, i);
	}
	fputs("\n\"kvmctl help options\" lists the options that every command takes.\n", out);
}

/* ---- Operations and requests --------------------------------------------------------- */

static void
field_entry(FILE *out, const struct kvms_row *row, const struct kvms_field *f, bool is_argument)
{
	struct kvt_buffer b = { 0 };
	const char *meaning = kvms_field_meaning(row, f);

	if (meaning != NULL)
		kvt_puts(&b, meaning);
	if (meaning == NULL || (f->type != KVMS_DEC && f->type != KVMS_HEX)) {
		kvt_puts(&b, meaning != NULL ? "; " : "");
		kvmctl_describe_type(&b, f);
	} else if (f->type == KVMS_HEX && !is_argument)
		kvt_puts(&b, "; hex");
	if (f->has_default && f->type != KVMS_RANGE) {
		kvt_puts(&b, "; default ");
		kvmctl_describe_default(&b, f);
	}
	kvmctl_entry(out, f->name, 20, kvt_buffer_text(&b));
	kvt_buffer_free(&b);
}

static void
arguments(FILE *out, const struct kvms_row *row)
{
	for (unsigned i = 0; i < row->args_count; i++)
		field_entry(out, row, &row->args[i], true);
}

static void
outcome_entry(FILE *out, unsigned name)
{
	char shown[64];

	snprintf(shown, sizeof shown, "%-5s  %s%s%s", kvms_class_word(kvms_outcome_class(name)),
		 kvms_outcome_name(name), kvms_outcome_cause(name) != NULL ? " cause=" : "",
		 kvms_outcome_cause(name) != NULL ? kvms_outcome_cause(name) : "");
	kvmctl_entry(out, shown, 36, kvms_outcome_meaning(name));
}

static void
usage_row(FILE *out, const struct kvms_row *row)
{
	struct kvt_buffer b = { 0 };

	kvt_puts(&b, row->name);
	for (size_t i = 0; i < b.size; i++)
		if (b.at[i] == '_')
			b.at[i] = '-';
	for (unsigned i = 0; i < row->args_count; i++) {
		const struct kvms_field *f = &row->args[i];

		kvt_putf(&b, f->has_default ? " [%s=...]" : " %s=...", f->name);
	}
	fputs("\nusage: kvmctl ", out);
	kvmctl_wrap(out, 14, 16, kvt_buffer_text(&b));
	kvt_buffer_free(&b);
}

void
kvmctl_help_row(const struct kvms_row *row, bool is_request, FILE *out)
{
	fprintf(out, "%s - ", row->name);
	kvmctl_wrap(out, (unsigned)strlen(row->name) + 3, 2, row->summary);
	usage_row(out, row);
	fputc('\n', out);
	kvmctl_wrap(out, 0, 0, row->effect);
	if (row->args_count > 0)
		fputs("\nArguments:\n", out);
	arguments(out, row);
	if (row->results_count > 0)
		fputs("\nResults, as far as they apply:\n", out);
	for (unsigned i = 0; i < row->results_count; i++)
		field_entry(out, row, &row->results[i], false);
	fputs(is_request ? "\nOutcomes of this request, which changes nothing:\n"
			 : "\nOutcomes (anything but ok leaves the store as it was):\n",
	      out);
	for (unsigned k = 0, name; (name = kvms_row_outcome(row, k)) != UINT_MAX; k++)
		outcome_entry(out, name);
	if (is_request)
		return;
	if (kvmctl_row_opens(row)) {
		fputs("\nIn a daemon the cursor ends with the call that opens it.  Options:\n", out);
		option_entry(out, OPTION_detached);
		option_entry(out, OPTION_wait);
	}
	if (row->mirrors[0] != '\0')
		fprintf(out, "\nUpstream: %s\n", row->mirrors);
	else
		fputs("\nUpstream has no such operation; \"kvmctl gaps\" says why it is here.\n", out);
}

/* ---- Topics ------------------------------------------------------------------------------ */

static void
list_rows(FILE *out, bool requests)
{
	unsigned max = requests ? kvms_request_max() : kvms_op_max();

	fputs(requests ? "Requests: questions that change nothing.\n" : "Operations.\n", out);
	for (unsigned code = 1; code <= max; code++) {
		const struct kvms_row *row = requests ? kvms_request_row(code) : kvms_op_row(code);

		if (row != NULL)
			kvmctl_entry(out, row->name, 34, row->summary);
	}
	fprintf(out, "\n\"kvmctl help %s\" explains one.\n", requests ? "REQUEST" : "OP");
}

static void
list_outcomes(FILE *out)
{
	fputs("Outcomes.  Anything but ok leaves the store as it was.\n"
	      "  ok     done\n"
	      "  pre    the caller broke the operation's precondition\n"
	      "  err    an error value of the real interface\n"
	      "  panic  the real kernel would panic\n"
	      "  abort  the real kernel would halt\n"
	      "  block  a cursor would have to wait\n\n",
	      out);
	for (unsigned name = 1; name <= kvms_outcome_max(); name++)
		outcome_entry(out, name);
}

static void
list_laws(FILE *out)
{
	fputs("Laws: what holds in every state.  \"kvmctl check\" tries them all.\n", out);
	for (unsigned law = 0; law < kvms_law_max(); law++)
		kvmctl_entry(out, kvms_law_name(law), 30, kvms_law_text(law));
}

static void
list_types(FILE *out)
{
	static const enum kvms_type shown[] = {
		KVMS_TABLE, KVMS_FLAGS, KVMS_PROP, KVMS_BYTES, KVMS_RANGE, KVMS_RANGES
	};
	static const char *const names[] = { "table", "flags", "property", "bytes", "range", "ranges" };

	fputs("How values are written:\n", out);
	kvmctl_entry(out, "number, address", 20, "decimal, or 0x and hex digits");
	kvmctl_entry(out, "id", 20, "number of an object; each kind counts from 1 and uses no number twice");
	kvmctl_entry(out, "list", 20, "[1,2,3] without blanks, [] if empty");
	for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
		kvmctl_entry(out, names[i], 20, kvmctl_type_text(shown[i]));
	fputs("\nFlags: r read, w write, x execute, a accessed, d dirty.\n"
	      "Cache: uc uncached, wc write-combining, wp write-protected, wt write-through,\n"
	      "wb write-back.\n",
	      out);
}

static void
options_topic(FILE *out)
{
	all_options(out);
	fputc('\n', out);
	exit_statuses(out);
}

static void
ops_topic(FILE *out)
{
	list_rows(out, false);
}

static void
requests_topic(FILE *out)
{
	list_rows(out, true);
}

static const struct {
	const char *name;
	void (*print)(FILE *out);
} topics[] = {
	{ "ops", ops_topic },  { "requests", requests_topic }, { "outcomes", list_outcomes },
	{ "laws", list_laws }, { "types", list_types },        { "options", options_topic },
};

/* Operations and requests whose names begin with the word. */
static bool
help_prefix(const char *word)
{
	size_t length = strlen(word);
	bool found = false;

	for (unsigned i = 0; length >= 3 && i < kvms_op_max() + kvms_request_max(); i++) {
		const struct kvms_row *row =
		    i < kvms_op_max() ? kvms_op_row(i + 1) : kvms_request_row(i + 1 - kvms_op_max());

		if (row == NULL || strncmp(row->name, word, length) != 0)
			continue;
		kvmctl_entry(stdout, row->name, 34, row->summary);
		found = true;
	}
	return found;
}

/* Outcomes of that name, causes and all, and the operations that can give them. */
static bool
help_outcome(const char *word)
{
	bool found = false;

	for (unsigned name = 1; name <= kvms_outcome_max(); name++) {
		if (strcmp(kvms_outcome_name(name), word) != 0)
			continue;
		outcome_entry(stdout, name);
		found = true;
		for (unsigned code = 1; code <= kvms_op_max(); code++) {
			const struct kvms_row *row = kvms_op_row(code);

			for (unsigned k = 0, each; row != NULL && (each = kvms_row_outcome(row, k)) != UINT_MAX; k++)
				if (each == name)
					printf("    %s\n", row->name);
		}
	}
	return found;
}

static bool
help_law(const char *word)
{
	for (unsigned law = 0; law < kvms_law_max(); law++) {
		if (strcmp(kvms_law_name(law), word) != 0)
			continue;
		kvmctl_entry(stdout, word, (unsigned)strlen(word) + 4, kvms_law_text(law));
		return true;
	}
	return false;
}

/* All commands whose first word it is. */
static bool
help_group(const char *word)
{
	const struct kvmctl_command *c;
	size_t length = strlen(word);
	bool found = false;

	for (unsigned i = 0; (c = kvmctl_command_row(i)) != NULL; i++) {
		if (strncmp(c->name, word, length) != 0 || c->name[length] != ' ')
			continue;
		fputs(found ? "\n" : "", stdout);
		kvmctl_help_command(c, stdout);
		found = true;
	}
	return found;
}

static bool
help_topic(int words, char *const *word)
{
	const struct kvmctl_command *command;
	const struct kvms_row *row;
	bool is_request;
	int used;

	command = kvmctl_command_find(words, word, &used);
	if (command != NULL && used == words) {
		kvmctl_help_command(command, stdout);
		return true;
	}
	if (words > 1)
		return false;
	row = kvmctl_row_find(word[0], &is_request);
	if (row != NULL) {
		kvmctl_help_row(row, is_request, stdout);
		return true;
	}
	for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
		if (strcmp(topics[i].name, word[0]) != 0)
			continue;
		topics[i].print(stdout);
		return true;
	}
	return word[0][0] != '\0' &&
	       (help_group(word[0]) || help_outcome(word[0]) || help_law(word[0]) || help_prefix(word[0]));
}

static void
complain_topic(const char *word)
{
	struct kvmctl_guess guess = { .word = word };
	char shown[KVMCTL_SHOWN];

	kvmctl_guess_commands(&guess);
	kvmctl_guess_rows(&guess);
	for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
		kvmctl_guess_try(&guess, topics[i].name);
	for (unsigned name = 1; name <= kvms_outcome_max(); name++)
		kvmctl_guess_try(&guess, kvms_outcome_name(name));
	for (unsigned law = 0; law < kvms_law_max(); law++)
		kvmctl_guess_try(&guess, kvms_law_name(law));
	if (guess.best != NULL)
		kvmctl_complain("no help on '%s'; did you mean '%s'?", kvmctl_shown(shown, word), guess.best);
	else
		kvmctl_complain("no help on '%s'; \"kvmctl help\" says what there is", kvmctl_shown(shown, word));
}

enum kvmctl_status
kvmctl_help(struct kvmctl *k)
{
	if (k->option[OPTION_markdown] != NULL) {
		kvmctl_manual(stdout);
		return KVMCTL_OK;
	}
	if (k->argc == 0) {
		kvmctl_help_overview(stdout);
		return KVMCTL_OK;
	}
	if (help_topic(k->argc, k->argv))
		return KVMCTL_OK;
	complain_topic(k->argv[k->argc - 1]);
	return KVMCTL_USAGE;
}

enum kvmctl_status
kvmctl_version_show(struct kvmctl *k)
{
	printf(k->json ? "{\"version\":\"%s\"}\n" : "kvmctl (kvmstore) %s\n", kvms_version());
	return KVMCTL_OK;
}
