/*
 * call - from the words of the call to a command, and back to an exit status.
 */
#include "client/commands.h"
#include "client/outfile.h"
#include "client/progress.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void
kvmctl_complain(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	kvmctl_progress_clear();
	fputs("kvmctl: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

const char *
kvmctl_shown(char buffer[KVMCTL_SHOWN], const char *word)
{
	size_t i;

	for (i = 0; word[i] != '\0' && i < KVMCTL_SHOWN - 4; i++)
		buffer[i] = (unsigned char)word[i] < ' ' || word[i] == 0x7f ? '?' : word[i];
	strcpy(buffer + i, word[i] != '\0' ? "..." : "");
	return buffer;
}

/* The options given must be those of the command: true, or say which is not. */
static bool
options_fit(const struct kvmctl *k)
{
	kvmctl_options taken = k->command != NULL ? k->command->options : kvmctl_row_options(k->is_request);
	const char *name = k->command != NULL ? k->command->name : k->row->name;

	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct kvmctl_option_row *row = kvmctl_option_row(i);

		if (k->option[i] == NULL || row->global || (taken >> i & 1) != 0)
			continue;
		kvmctl_complain("--%s is not an option of \"%s\"; \"kvmctl help %s\" lists those it takes", row->name,
				name, name);
		return false;
	}
	if (k->option[OPTION_embedded] != NULL && k->option[OPTION_connect] != NULL) {
		kvmctl_complain("--embedded works without a daemon, --connect with one: give one of them");
		return false;
	}
	if (k->option[OPTION_embedded] != NULL && k->option[OPTION_embedded][0] == '\0' &&
	    k->option[OPTION_store] != NULL && k->option[OPTION_keep] == NULL) {
		kvmctl_complain(
		    "--embedded without a snapshot works on a fresh store, which has no name: leave --store out");
		return false;
	}
	return true;
}

/* May this output be written?  Not in the place of a database, and not over what the call reads. */
static enum kvmctl_status
output_fits(const struct kvmctl *k, const char *path)
{
	static const enum kvmctl_option inputs[] = { OPTION_listing, OPTION_mappings, OPTION_mappings_before };
	enum kvmctl_status status = kvmctl_outfile_spare(path);

	for (int i = 0; status == KVMCTL_OK && i < k->argc; i++)
		status = kvmctl_outfile_apart(path, k->argv[i]);
	for (size_t i = 0; status == KVMCTL_OK && i < sizeof inputs / sizeof inputs[0]; i++)
		if (k->option[inputs[i]] != NULL)
			status = kvmctl_outfile_apart(path, k->option[inputs[i]]);
	return status;
}

/* All of them but that of "adopt", which is a database and looks after itself. */
static enum kvmctl_status
outputs_fit(const struct kvmctl *k)
{
	static const enum kvmctl_option outputs[] = { OPTION_output, OPTION_junit, OPTION_coverage };
	enum kvmctl_status status = KVMCTL_OK;

	if (k->command != NULL && k->command->run == kvmctl_adopt)
		return KVMCTL_OK;
	for (size_t i = 0; status == KVMCTL_OK && i < sizeof outputs / sizeof outputs[0]; i++)
		if (k->option[outputs[i]] != NULL)
			status = output_fits(k, k->option[outputs[i]]);
	if (k->option[OPTION_junit] != NULL && k->option[OPTION_coverage] != NULL &&
	    strcmp(k->option[OPTION_junit], k->option[OPTION_coverage]) == 0) {
		kvmctl_complain("--junit and --coverage write to one file, %s: give two", k->option[OPTION_junit]);
		return KVMCTL_USAGE;
	}
	return status;
}

static bool
words_fit(const struct kvmctl *k)
{
	const struct kvmctl_command *c = k->command;
	char shown[KVMCTL_SHOWN];

	if (c == NULL || (k->argc >= c->words_min && k->argc <= c->words_max))
		return true;
	if (k->argc < c->words_min)
		kvmctl_complain("\"%s\" needs more: kvmctl %s %s", c->name, c->name, c->synopsis);
	else
		kvmctl_complain("\"%s\" does not take '%s': kvmctl %s%s%s", c->name,
				kvmctl_shown(shown, k->argv[c->words_max]), c->name, c->synopsis[0] != '\0' ? " " : "",
				c->synopsis);
	return false;
}

/* Find the command in the words and take its name off them: true, or say what is wrong. */
static bool
find(struct kvmctl *k)
{
	int used = 1;

	k->command = kvmctl_command_find(k->argc, k->argv, &used);
	if (k->command == NULL)
		k->row = kvmctl_row_find(k->argv[0], &k->is_request);
	if (k->command == NULL && k->row == NULL) {
		kvmctl_command_unknown(k->argc, k->argv);
		return false;
	}
	k->argc -= used;
	memmove(k->argv, k->argv + used, ((size_t)k->argc + 1) * sizeof *k->argv);
	return true;
}

enum kvmctl_status
kvmctl_call(struct kvmctl *k)
{
	if (k->option[OPTION_version] != NULL)
		return kvmctl_version_show(k);
	if (k->argc == 0 && k->option[OPTION_help] != NULL) {
		kvmctl_help_overview(stdout);
		return KVMCTL_OK;
	}
	if (k->argc == 0) {
		fputs("usage: kvmctl [OPTION]... COMMAND [ARGUMENT]...\n\"kvmctl --help\" explains\n", stderr);
		return KVMCTL_USAGE;
	}
	if (!find(k))
		return KVMCTL_USAGE;
	if (k->option[OPTION_help] != NULL) {
		if (k->command != NULL)
			kvmctl_help_command(k->command, stdout);
		else
			kvmctl_help_row(k->row, k->is_request, stdout);
		return KVMCTL_OK;
	}
	if (!options_fit(k) || !words_fit(k))
		return KVMCTL_USAGE;
	enum kvmctl_status status = outputs_fit(k);
	if (status != KVMCTL_OK)
		return status;
	return k->command != NULL ? k->command->run(k) : kvmctl_exec_row(k);
}

/* errno of the first write to standard output that failed. */
static int output_error;

bool
kvmctl_flush(void)
{
	errno = 0;
	if ((fflush(stdout) != 0 || ferror(stdout)) && output_error == 0)
		output_error = errno != 0 ? errno : EIO;
	return output_error == 0;
}

/* What was printed must have arrived.  A reader that went away wanted no more: that is no failure. */
static enum kvmctl_status
finish(enum kvmctl_status status)
{
	/* a command that writes much says so itself */
	if (kvmctl_flush() || output_error == EPIPE || status == KVMCTL_UNREADABLE)
		return status;
	kvmctl_complain("cannot write to standard output: %s", strerror(output_error));
	return status == KVMCTL_OK ? KVMCTL_UNREADABLE : status;
}

/* Something that a reader of a file should know. */
static void
warn(const char *sentence)
{
	kvmctl_complain("warning: %s", sentence);
}

int
kvmctl_main(int argc, char **argv)
{
	struct kvmctl k;
	enum kvmctl_status status;

	kvt_input_tell(warn);
	status = kvmctl_options_parse(&k, argc, argv);
	if (status == KVMCTL_OK)
		status = finish(kvmctl_call(&k));
	free(k.argv);
	return (int)status;
}
