#include "client/complete.h"

#include "client/commands.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

#define IDS_MAX 200u /* ids given of a kind */

struct completing {
	struct kvmctl_session *session;
	const char *line;
	size_t start;
	const char *word; /* what is there of it */
	kvmctl_complete_use *use;
	void *arg;
	unsigned ids;
	unsigned tag;
};

static void
try(const struct completing *c, const char *word, bool open)
{
	if (strncmp(word, c->word, strlen(c->word)) == 0)
		c->use(c->arg, word, open);
}

/* The beginning of the line: names of commands, operations and requests, as the user writes them. */
static void
complete_first(struct completing *c)
{
	static const char *const own[] = { "quit", "exit", "step", "back", "where" };
	const struct kvmctl_command *command;
	char name[80];
	bool dashes = strchr(c->word, '-') != NULL;

	for (unsigned i = 0; (command = kvmctl_command_row(i)) != NULL; i++) {
		size_t size = strcspn(command->name, " ");
		bool again = i > 0 && strncmp(kvmctl_command_row(i - 1)->name, command->name, size) == 0 &&
			     kvmctl_command_row(i - 1)->name[size] == ' ';

		snprintf(name, sizeof name, "%.*s", (int)size, command->name);
		if (!again)
			try(c, name, false);
	}
	for (unsigned round = 0; round < 2; round++) {
		unsigned max = round == 0 ? kvms_op_max() : kvms_request_max();

		for (unsigned code = 1; code <= max; code++) {
			const struct kvms_row *row = round == 0 ? kvms_op_row(code) : kvms_request_row(code);

			if (row == NULL)
				continue;
			snprintf(name, sizeof name, "%s", row->name);
			for (char *at = name; dashes && *at != '\0'; at++)
				*at = *at == '_' ? '-' : *at;
			try(c, name, false);
		}
	}
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		try(c, own[i], false);
}

/* Second words of the commands that begin with the line's first word. */
static void
complete_second(struct completing *c, const char *first, size_t size)
{
	const struct kvmctl_command *command;

	for (unsigned i = 0; (command = kvmctl_command_row(i)) != NULL; i++)
		if (strncmp(command->name, first, size) == 0 && command->name[size] == ' ')
			try(c, command->name + size + 1, false);
}

static void
complete_options(struct completing *c, const struct kvmctl_command *command, const struct kvms_row *row,
		 bool is_request)
{
	kvmctl_options taken = command != NULL ? command->options : row != NULL ? kvmctl_row_options(is_request) : 0;
	char name[80];

	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct kvmctl_option_row *option = kvmctl_option_row(i);

		if (!option->global && (taken >> i & 1) == 0)
			continue;
		snprintf(name, sizeof name, "--%s", option->name);
		try(c, name, false);
	}
}

/* ---- Arguments ------------------------------------------------------------------------ */

static void
give_id(struct completing *c, uint64_t id)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, id);
	if (c->ids < IDS_MAX && strncmp(text, c->word, strlen(c->word)) == 0) {
		c->ids++;
		try(c, text, false);
	}
}

static bool
visit_id(void *arg, const uint64_t *words, unsigned count)
{
	struct completing *c = arg;

	if (words[0] == c->tag && count >= 2)
		give_id(c, words[1]);
	return words[0] <= c->tag && c->ids < IDS_MAX;
}

/* Ids of areas, which a daemon tells. */
static void
ask_areas(struct completing *c)
{
	const struct kvms_row *row = kvms_request_find("areas");
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;
	uint64_t count;

	kvms_op_init(&op, row);
	if (c->session->target->inspect(c->session->target, &op, &out) == KVT_DONE && out.name == 0) {
		const uint64_t *area = kvms_outcome_list(&out, row, 0, &count);

		for (uint64_t i = 0; i < count; i++)
			give_id(c, area[3 * i]);
	}
	kvms_outcome_free(&out);
}

/* Live ids of a kind: of a store in this process all kinds, of a daemon's areas. */
static void
complete_ids(struct completing *c, enum kvms_kind kind)
{
	/* the tag of the state elements whose keys are ids of the kind */
	static const unsigned tags[] = {
		[KVMS_ID_FRAME] = 5,     [KVMS_ID_SEGMENT] = 6, [KVMS_ID_UNIQUE] = 7, [KVMS_ID_LIST] = 8,
		[KVMS_ID_VM_SPACE] = 10, [KVMS_ID_CURSOR] = 12, [KVMS_ID_AREA] = 14,  [KVMS_ID_READER] = 16,
		[KVMS_ID_WRITER] = 17,   [KVMS_ID_IOMEM] = 18,
	};
	struct kvms *s = c->session != NULL && c->session->target != NULL ? kvt_target_store(c->session->target) : NULL;

	c->tag = (size_t)kind < sizeof tags / sizeof tags[0] ? tags[kind] : 0;
	if (s != NULL && c->tag != 0)
		(void)kvms_visit(s, visit_id, c);
	else if (kind == KVMS_ID_AREA && c->session != NULL && c->session->target != NULL)
		ask_areas(c);
}

static void
complete_value(struct completing *c, const struct kvms_field *arg)
{
	const char *word;
	uint64_t value;

	switch ((int)arg->type) {
	case KVMS_ID:
		complete_ids(c, arg->kind);
		return;
	case KVMS_TABLE_ALL:
		try(c, "all", false);
		/* fall through */
	case KVMS_TABLE:
		try(c, "kernel", false);
		complete_ids(c, KVMS_ID_VM_SPACE);
		return;
	case KVMS_BOOL:
		try(c, "false", false);
		try(c, "true", false);
		return;
	case KVMS_PROP:
		try(c, "rw:wb", false);
		try(c, "r:wb", false);
		try(c, "rwx:wb+user", false);
		return;
	default:
		for (unsigned i = 0; (word = kvms_word_at(arg->type, i, &value)) != NULL; i++)
			try(c, word, false);
	}
}

/* Is "NAME=" on the line already? */
static bool
is_given(const char *line, const char *name)
{
	size_t size = strlen(name);

	for (const char *at = line; (at = strstr(at, name)) != NULL; at += size)
		if (at > line && (at[-1] == ' ' || at[-1] == '\t') && at[size] == '=')
			return true;
	return false;
}

static void
complete_argument(struct completing *c, const struct kvms_row *row)
{
	size_t name = c->start;
	char key[80];

	/* behind NAME= ? */
	if (c->start > 0 && c->line[c->start - 1] == '=') {
		for (name = c->start - 1; name > 0 && c->line[name - 1] != ' ' && c->line[name - 1] != '\t'; name--)
			;
		for (unsigned i = 0; i < row->args_count; i++)
			if (strlen(row->args[i].name) == c->start - 1 - name &&
			    strncmp(row->args[i].name, c->line + name, c->start - 1 - name) == 0)
				complete_value(c, &row->args[i]);
		return;
	}
	for (unsigned i = 0; i < row->args_count; i++) {
		if (is_given(c->line, row->args[i].name))
			continue;
		snprintf(key, sizeof key, "%s=", row->args[i].name);
		try(c, key, true);
	}
}

/* ---- Lines ------------------------------------------------------------------------------ */

/* The row that a word of some length names. */
static const struct kvms_row *
find_row(const char *word, size_t size, bool *is_request)
{
	char name[80];

	snprintf(name, sizeof name, "%.*s", (int)(size < 79 ? size : 79), word);
	return kvmctl_row_find(name, is_request);
}

static const struct kvmctl_command *
find_command(const char *line, size_t size)
{
	char words[2][80];
	char *list[3] = { words[0], words[1], NULL };
	size_t first = strcspn(line, " \t"), second, skip;
	int count = 1, used;

	if (first > size || first > 79)
		return NULL;
	snprintf(words[0], sizeof words[0], "%.*s", (int)first, line);
	skip = first + strspn(line + first, " \t");
	second = strcspn(line + skip, " \t");
	if (skip + second <= size && second > 0 && second < 80) {
		snprintf(words[1], sizeof words[1], "%.*s", (int)second, line + skip);
		count = 2;
	}
	return kvmctl_command_find(count, list, &used);
}

void
kvmctl_complete(struct kvmctl_session *s, const char *line, size_t start, kvmctl_complete_use *use, void *arg)
{
	struct completing c = { .session = s, .start = start, .use = use, .arg = arg };
	size_t indent = strspn(line, " \t"), first, second;
	const struct kvmctl_command *command;
	const struct kvms_row *row;
	bool is_request = false;

	line += indent < start ? indent : start;
	c.start -= indent < start ? indent : start;
	c.line = line;
	c.word = line + c.start;
	first = strcspn(line, " \t");
	if (c.start == 0) {
		complete_first(&c);
		return;
	}
	row = find_row(line, first, &is_request);
	command = row == NULL ? find_command(line, c.start) : NULL;
	second = first + strspn(line + first, " \t");
	if (c.word[0] == '-') {
		complete_options(&c, command, row, is_request);
	} else if (row != NULL) {
		complete_argument(&c, row);
	} else if (c.start == second) {
		complete_second(&c, line, first);
		if (strncmp(line, "help", first) == 0)
			complete_first(&c);
		/* exec, dry-run: an operation comes in quotes or not at all */
	}
}
