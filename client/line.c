#include "client/line.h"

#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

static struct {
	struct kvmctl_session *session;
	bool terminal;
	bool edits;
#ifdef HAVE_LIBEDIT
	char history[4096];
	char **found; /* what completion found */
	size_t found_count, found_capacity, given;
	bool open;
#endif
} self;

/* ---- Plain ----------------------------------------------------------------------- */

static char *
read_plain(bool *too_long)
{
	size_t size = 0, capacity = 256;
	char *text = malloc(capacity);
	int c;

	while (text != NULL && (c = getchar()) != EOF && c != '\n') {
		if (size == KVMCTL_LINE_MAX) {
			*too_long = true;
			continue;
		}
		if (size + 1 == capacity) {
			char *more = realloc(text, capacity *= 2);

			if (more == NULL) {
				free(text);
				return NULL;
			}
			text = more;
		}
		text[size++] = (char)c;
	}
	if (text == NULL || (c == EOF && size == 0 && !*too_long)) {
		free(text);
		return NULL;
	}
	text[size] = '\0';
	return text;
}

/* ---- Edited ------------------------------------------------------------------------ */

#ifdef HAVE_LIBEDIT

static void
found_free(void)
{
	for (size_t i = self.given; i < self.found_count; i++)
		free(self.found[i]);
	free(self.found);
	self.found = NULL;
	self.found_count = self.found_capacity = self.given = 0;
}

static void
keep_found(void *arg, const char *word, bool open)
{
	(void)arg;
	if (self.found_count == self.found_capacity) {
		size_t capacity = 2 * self.found_capacity + 32;
		char **found = realloc(self.found, capacity * sizeof *found);

		if (found == NULL)
			return;
		self.found = found;
		self.found_capacity = capacity;
	}
	self.found[self.found_count] = strdup(word);
	self.found_count += self.found[self.found_count] != NULL;
	self.open |= open;
}

/* libedit takes them one by one, and frees them. */
static char *
give_found(const char *word, int state)
{
	(void)word;
	(void)state;
	return self.given < self.found_count ? self.found[self.given++] : NULL;
}

static char **
complete(const char *word, int start, int end)
{
	char *line = strndup(rl_line_buffer, (size_t)(end > 0 ? end : 0));
	char **matches = NULL;

	(void)word;
	found_free();
	self.open = false;
	if (line != NULL && start >= 0 && start <= end)
		kvmctl_complete(self.session, line, (size_t)start, keep_found, NULL);
	free(line);
	rl_completion_append_character = self.open ? '\0' : ' ';
	if (self.found_count > 0)
		matches = rl_completion_matches(word, give_found);
	return matches; /* NULL: names of files */
}

static void
edit_begin(void)
{
	static char breaks[] = " \t\n=";
	const char *file = getenv("KVMCTL_HISTORY"), *home = getenv("HOME");

	rl_readline_name = "kvmctl";
	rl_basic_word_break_characters = breaks;
	rl_completer_word_break_characters = breaks;
	rl_attempted_completion_function = complete;
	using_history();
	stifle_history(1000);
	if (file != NULL && file[0] != '\0')
		snprintf(self.history, sizeof self.history, "%s", file);
	else if (file == NULL && home != NULL && home[0] != '\0')
		snprintf(self.history, sizeof self.history, "%s/.kvmctl_history", home);
	if (self.history[0] != '\0')
		(void)read_history(self.history); /* there may be none yet */
}

static char *
read_edited(const char *prompt, bool *too_long)
{
	/* at the prompt an interrupt must not leave the terminal as the editor has it */
	void (*interrupted)(int) = signal(SIGINT, SIG_IGN);
	char *text = readline(prompt);

	signal(SIGINT, interrupted);
	if (text == NULL)
		return NULL;
	*too_long = strlen(text) > KVMCTL_LINE_MAX;
	if (text[strspn(text, " \t")] != '\0')
		add_history(text);
	return text;
}

#endif

/* ---- Both ----------------------------------------------------------------------------- */

void
kvmctl_line_begin(struct kvmctl_session *session)
{
	self.session = session;
	self.terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	self.edits = false;
#ifdef HAVE_LIBEDIT
	self.edits = self.terminal;
	if (self.edits)
		edit_begin();
#endif
}

char *
kvmctl_line_read(const char *prompt, bool *too_long)
{
	*too_long = false;
#ifdef HAVE_LIBEDIT
	if (self.edits)
		return read_edited(prompt, too_long);
#endif
	if (self.terminal) {
		fputs(prompt, stdout);
		fflush(stdout);
	}
	return read_plain(too_long);
}

void
kvmctl_line_end(void)
{
#ifdef HAVE_LIBEDIT
	if (self.edits && self.history[0] != '\0' && write_history(self.history) != 0)
		kvmctl_complain("%s: the history was not saved", self.history);
	found_free();
#endif
}
