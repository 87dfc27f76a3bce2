#include "client/gaps.h"
#include "client/commands.h"
#include "client/describe.h"
#include "client/show.h"

#include "trace/text.h"

#include <string.h>
#include <strings.h>

static bool
holds(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (; *text != '\0'; text++)
		if (strncasecmp(text, word, length) == 0)
			return true;
	return length == 0;
}

bool
kvmctl_gap_holds(const struct kvmctl_gap *gap, const char *word)
{
	return holds(gap->section, word) || holds(gap->subject, word) || holds(gap->specification, word) ||
	       holds(gap->kernel, word) || holds(gap->model, word);
}

static void
json_field(struct kvt_buffer *b, char before, const char *name, const char *text)
{
	kvt_putf(b, "%c\"%s\":", before, name);
	kvt_json_string(b, text, strlen(text));
}

static void
print_json(const struct kvmctl_gap *gap)
{
	struct kvt_buffer b = { 0 };

	json_field(&b, '{', "section", gap->section);
	json_field(&b, ',', "subject", gap->subject);
	json_field(&b, ',', "specification", gap->specification);
	json_field(&b, ',', "kernel", gap->kernel);
	json_field(&b, ',', "model", gap->model);
	kvt_putc(&b, '}');
	kvmctl_show_line(&b);
	kvt_buffer_free(&b);
}

static const char *
said(const char *text)
{
	return strcmp(text, "-") == 0 ? "(nothing)" : text;
}

/* "section" is printed where it changes. */
static void
print_text(const struct kvmctl_gap *gap, const char **section)
{
	if (*section == NULL || strcmp(*section, gap->section) != 0)
		printf("%s%s\n", *section == NULL ? "" : "\n", gap->section);
	*section = gap->section;
	fputc('\n', stdout);
	kvmctl_wrap(stdout, 0, 2, gap->subject);
	kvmctl_entry(stdout, "specification", 17, said(gap->specification));
	kvmctl_entry(stdout, "kernel", 17, said(gap->kernel));
	kvmctl_entry(stdout, "model", 17, gap->model);
}

enum kvmctl_status
kvmctl_gaps(struct kvmctl *k)
{
	const char *section = NULL;
	bool found = false;

	for (const struct kvmctl_gap *gap = kvmctl_gap_rows; gap->section != NULL; gap++) {
		int word = 0;

		while (word < k->argc && kvmctl_gap_holds(gap, k->argv[word]))
			word++;
		if (word < k->argc)
			continue;
		found = true;
		if (k->json)
			print_json(gap);
		else
			print_text(gap, &section);
	}
	if (found)
		return KVMCTL_OK;
	kvmctl_complain("no entry speaks of that; \"kvmctl gaps\" lists all");
	return KVMCTL_USAGE;
}
