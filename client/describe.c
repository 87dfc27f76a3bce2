/*
 * describe - words about rows and fields; text in columns.
 */
#include "client/describe.h"

#include "trace/text.h"

#include <string.h>

#define WIDTH 79

/* ---- Columns -------------------------------------------------------------------------- */

/* Print one word, without backquotes. */
static void
put_word(FILE *out, const char *word, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (word[i] != '`')
			fputc(word[i], out);
}

/* How wide a word is. */
static unsigned
word_width(const char *word, size_t length)
{
	unsigned width = 0;

	for (size_t i = 0; i < length; i++)
		width += word[i] != '`';
	return width;
}

void
kvmctl_wrap(FILE *out, unsigned at, unsigned indent, const char *text)
{
	bool first = true;

	while (*text != '\0') {
		size_t length = strcspn(text, " ");
		unsigned width = word_width(text, length);

		if (!first && at + 1 + width > WIDTH) {
			fprintf(out, "\n%*s", (int)indent, "");
			at = indent;
		} else if (!first) {
			fputc(' ', out);
			at++;
		}
		put_word(out, text, length);
		at += width;
		text += length;
		text += strspn(text, " ");
		first = false;
	}
	fputc('\n', out);
}

void
kvmctl_entry(FILE *out, const char *name, unsigned width, const char *text)
{
	unsigned at = (unsigned)strlen(name) + 2;

	fprintf(out, "  %s", name);
	if (at + 2 > width) {
		fputc('\n', out);
		at = 0;
	}
	fprintf(out, "%*s", (int)(width - at), "");
	kvmctl_wrap(out, width, width, text);
}

/* ---- Types ------------------------------------------------------------------------------ */

/* How a value of each type is written. */
static const char *const type_texts[KVMS_TYPES] = {
	[KVMS_DEC] = "number",
	[KVMS_HEX] = "number, hex",
	[KVMS_DIGEST] = "16 hex digits",
	[KVMS_CPU] = "number of a simulated CPU, from 0",
	[KVMS_TABLE] = "kernel, or the id of a vm_space",
	[KVMS_TABLE_ALL] = "all, kernel, or the id of a vm_space",
	[KVMS_FLAGS] = "letters of rwxad, - = none",
	[KVMS_PROP] = "FLAGS:CACHE[+user][+global][+avail2], e.g. rw:wb",
	[KVMS_RC] = "number, unused or unique",
	[KVMS_BYTES] = "hex digits in memory order, - = none",
	[KVMS_CPUS] = "list of CPUs [0,1,...]",
	[KVMS_PADDRS] = "list of physical addresses [0x1000,...]",
	[KVMS_RANGE] = "START..END",
	[KVMS_RANGES] = "[START..END,...]",
	[KVMS_VMALLOC] = "START..END or [START..END,...]",
	[KVMS_LEVELS] = "list of LEVEL:NODE:INDEX:WORD from the root down",
	[KVMS_MAPPINGS] = "list of TABLE:VA",
	[KVMS_REVERSE] = "list of TABLE:VA:LEVEL:tracked|untracked",
	[KVMS_AREAS] = "list of ID:START..END",
	[KVMS_STALE] = "list of CPU:TABLE:VA:PADDR",
	[KVMS_LAWS] = "ok, or the laws that are broken",
};

const char *
kvmctl_type_text(enum kvms_type type)
{
	return (unsigned)type < KVMS_TYPES ? type_texts[type] : NULL;
}

static const char *
kind_name(enum kvms_kind kind)
{
	static const char *const names[KVMS_ID_KINDS] = {
		[KVMS_ID_FRAME] = "frame", [KVMS_ID_SEGMENT] = "segment",   [KVMS_ID_UNIQUE] = "unique frame",
		[KVMS_ID_LIST] = "list",   [KVMS_ID_VM_SPACE] = "vm_space", [KVMS_ID_CURSOR] = "cursor",
		[KVMS_ID_AREA] = "area",   [KVMS_ID_READER] = "reader",     [KVMS_ID_WRITER] = "writer",
		[KVMS_ID_IOMEM] = "iomem",
	};

	return (unsigned)kind < KVMS_ID_KINDS && names[kind] != NULL ? names[kind] : "object";
}

void
kvmctl_describe_type(struct kvt_buffer *b, const struct kvms_field *f)
{
	const char *word;
	uint64_t value;

	if (f->type == KVMS_ID)
		kvt_putf(b, "id of a%s %s",
			 f->created                                      ? " new"
			 : strchr("aiou", kind_name(f->kind)[0]) != NULL ? "n"
									 : "",
			 kind_name(f->kind));
	else if (f->type == KVMS_IDS)
		kvt_putf(b, "list of %s ids [1,2,...]", kind_name(f->kind));
	else if (kvms_word_at(f->type, 0, &value) != NULL)
		for (unsigned i = 0; (word = kvms_word_at(f->type, i, &value)) != NULL; i++)
			kvt_putf(b, "%s%s", i > 0 ? "|" : "", word);
	else
		kvt_puts(b, type_texts[f->type] != NULL ? type_texts[f->type] : "value");
}

void
kvmctl_describe_default(struct kvt_buffer *b, const struct kvms_field *f)
{
	if (f->type == KVMS_VMALLOC)
		kvt_puts(b, "the architecture's");
	else
		kvt_print_value(b, f->type, f->value, NULL);
}
