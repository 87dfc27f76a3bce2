#include "trace/text.h"

#include "trace/input.h"
#include "trace/value.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* One token; the key is what stands before the first =. */
struct token {
	const char *at;
	size_t size;
	bool has_key;
	struct kvt_span key;
	struct kvt_span value;
};

/* Names to codes: open addressing, linear probing. */
#define NAMES_SIZE 1024u
struct names {
	unsigned code[NAMES_SIZE];
};

struct kvt_parser {
	char *source;
	struct names ops, requests;

	/* what the trace has had */
	uint64_t line;
	bool header_seen;
	bool store_seen;
	bool started; /* an op or expect line */
	enum kvt_kind last;

	/* the text being parsed */
	const char *text;
	const char *at;
	const char *end;
	struct kvt_span comment;

	/* the line being built */
	struct kvt_words arg_words;   /* lists in the order written */
	struct kvt_words field_words; /* the same of recorded fields */
	struct kvt_words ordered;     /* argument lists in the row's order */
	size_t list_offset[KVMS_ARGS_MAX];
	struct kvt_field *fields;
	size_t fields_count, fields_capacity;
	struct kvt_annotation *annotations;
	size_t annotations_count, annotations_capacity;
	uint64_t fields_seen; /* of the row */
	uint32_t *strange;    /* hash set of the other fields: index + 1 */
	size_t strange_count, strange_capacity;

	struct kvt_buffer what;
	struct kvt_buffer error;
};

/* ---- Errors -------------------------------------------------------------------- */

/* A piece of text in a message: control bytes must not reach a terminal as they are. */
static void
print_found(struct kvt_buffer *b, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			kvt_putf(b, "\\x%02x", c);
		else
			kvt_putc(b, (char)c);
	}
}

/* Always false, so that it can end a parse. */
static bool
fail_place(struct kvt_parser *p, size_t column, const char *what)
{
	kvt_buffer_reset(&p->error);
	kvt_puts(&p->error, p->source);
	kvt_putf(&p->error, ":%" PRIu64 ":%zu: expected ", p->line, column);
	kvt_puts(&p->error, what);
	kvt_puts(&p->error, ", found ");
	return false;
}

static bool
fail_text(struct kvt_parser *p, const char *what, const char *at, const char *text, size_t size)
{
	fail_place(p, (size_t)(at - p->text) + 1, what);
	kvt_putc(&p->error, '\'');
	print_found(&p->error, text, size);
	kvt_putc(&p->error, '\'');
	return false;
}

static bool
fail_token(struct kvt_parser *p, const char *what, const struct token *t)
{
	return fail_text(p, what, t->at, t->at, t->size);
}

static bool
fail_key(struct kvt_parser *p, const char *what, const struct token *t)
{
	return fail_text(p, what, t->at, t->key.at, t->key.size);
}

static bool
fail_missing(struct kvt_parser *p, const char *what)
{
	fail_place(p, (size_t)(p->end - p->text) + 1, what);
	kvt_puts(&p->error, "end of line");
	return false;
}

static bool
fail_memory(struct kvt_parser *p)
{
	kvt_buffer_reset(&p->error);
	kvt_puts(&p->error, p->source);
	kvt_putf(&p->error, ":%" PRIu64 ": no memory", p->line);
	return false;
}

/* "argument of OP", "argument NAME" */
static const char *
what_two(struct kvt_parser *p, const char *first, const char *second)
{
	kvt_buffer_reset(&p->what);
	kvt_puts(&p->what, first);
	kvt_puts(&p->what, second);
	return kvt_buffer_text(&p->what);
}

static bool
fail_value(struct kvt_parser *p, unsigned fault, const struct token *t)
{
	if (p->arg_words.failed || p->field_words.failed)
		return fail_memory(p);
	kvt_buffer_reset(&p->what);
	kvt_fault_print(&p->what, fault);
	return fail_text(p, kvt_buffer_text(&p->what), t->value.at, t->value.at, t->value.size);
}

static const char *
what_class(struct kvt_parser *p)
{
	kvt_buffer_reset(&p->what);
	for (unsigned c = 0; c < KVMS_CLASSES; c++) {
		if (c > 0)
			kvt_putc(&p->what, '|');
		kvt_puts(&p->what, kvms_class_word((enum kvms_class)c));
	}
	return kvt_buffer_text(&p->what);
}

const char *
kvt_parser_error(const struct kvt_parser *p)
{
	return kvt_buffer_text(&p->error);
}

/* ---- Names -------------------------------------------------------------------------- */

static unsigned
hash_name(const char *name, size_t size, unsigned seed)
{
	unsigned h = 2166136261u ^ seed;

	for (size_t i = 0; i < size; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h ^ h >> 15;
}

/* "name" ends with a NUL, "text" need not.  Most names differ in their first byte. */
static bool
same_text(const char *name, const char *text, size_t size)
{
	if (size == 0 || name[0] != text[0])
		return size == 0 && name[0] == '\0';
	return strncmp(name, text, size) == 0 && name[size] == '\0';
}

static void
names_fill(struct names *names, unsigned max, const struct kvms_row *(*row)(unsigned code))
{
	for (unsigned code = 1; code <= max; code++) {
		const struct kvms_row *r = row(code);
		unsigned h;

		if (r == NULL)
			continue;
		h = hash_name(r->name, strlen(r->name), 0);
		while (names->code[h % NAMES_SIZE] != 0)
			h++;
		names->code[h % NAMES_SIZE] = code;
	}
}

static const struct kvms_row *
names_find(const struct names *names, const struct kvms_row *(*row)(unsigned code), const char *text, size_t size)
{
	unsigned code;

	for (unsigned h = hash_name(text, size, 0); (code = names->code[h % NAMES_SIZE]) != 0; h++)
		if (same_text(row(code)->name, text, size))
			return row(code);
	return NULL;
}

/* Index of a name among fields, or -1.  "hint" is looked at first: lines mostly follow the row's order. */
static int
find_field(const struct kvms_field *fields, unsigned count, unsigned hint, const struct kvt_span *key)
{
	if (hint < count && same_text(fields[hint].name, key->at, key->size))
		return (int)hint;
	for (unsigned i = 0; i < count; i++)
		if (same_text(fields[i].name, key->at, key->size))
			return (int)i;
	return -1;
}

/* ---- The parser's life ------------------------------------------------------------------ */

struct kvt_parser *
kvt_parser_new(const char *source)
{
	struct kvt_parser *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->source = strdup(source);
	if (p->source == NULL) {
		free(p);
		return NULL;
	}
	names_fill(&p->ops, kvms_op_max(), kvms_op_row);
	names_fill(&p->requests, kvms_request_max(), kvms_request_row);
	return p;
}

void
kvt_parser_free(struct kvt_parser **pp)
{
	struct kvt_parser *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	kvt_words_free(&p->arg_words);
	kvt_words_free(&p->field_words);
	kvt_words_free(&p->ordered);
	kvt_buffer_free(&p->what);
	kvt_buffer_free(&p->error);
	free(p->strange);
	free(p->fields);
	free(p->annotations);
	free(p->source);
	free(p);
}

/* ---- Bytes --------------------------------------------------------------------------------- */

/* Bytes of the well-formed character at "s", 0 if it is none. */
static size_t
utf8_size(const unsigned char *s, size_t left)
{
	unsigned char c = s[0];
	size_t size = c < 0x80                ? 1
		      : c >= 0xc2 && c < 0xe0 ? 2
		      : c >= 0xe0 && c < 0xf0 ? 3
		      : c >= 0xf0 && c < 0xf5 ? 4
					      : 0;

	if (size > left)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] >= 0xa0) || (c == 0xf0 && s[1] < 0x90) ||
	    (c == 0xf4 && s[1] >= 0x90))
		return 0;
	return size;
}

/* Are the next eight bytes all from ' ' to 0x7f?  Looked at in one go, as nearly all of a trace is. */
static bool
eight_fit(const unsigned char *s)
{
	uint64_t word;

	memcpy(&word, s, sizeof word);
	/* no byte has its top bit, and none borrows when ' ' is taken from it */
	return ((word | (word - UINT64_C(0x2020202020202020))) & UINT64_C(0x8080808080808080)) == 0;
}

/* The first byte below "limit" that cannot stand in a line, and what should; "limit" or more: there is none. */
static size_t
find_misfit(const unsigned char *s, size_t size, size_t limit, const char **what)
{
	for (size_t i = 0; i < limit;) {
		size_t step = 1;

		if (limit - i >= 8 && eight_fit(s + i)) {
			i += 8;
			continue;
		}
		*what = "valid UTF-8";
		if (s[i] >= ' ' && s[i] < 0x80) {
			i++;
			continue;
		}
		if (s[i] == '\r')
			*what = "LF line end";
		else if (s[i] == '\n')
			*what = "end of line";
		else if (s[i] != '\0' && (step = utf8_size(s + i, size - i)) != 0) {
			i += step;
			continue;
		}
		return i;
	}
	return limit;
}

bool
kvt_text_fits(const char *text, size_t size)
{
	const char *what;

	return find_misfit((const unsigned char *)text, size, size, &what) == size;
}

/* No line end of another system, no bad encoding, not too long. */
static bool
check_bytes(struct kvt_parser *p, const char *text, size_t size)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t limit = size < KVT_LINE_MAX ? size : KVT_LINE_MAX, i;
	const char *what = NULL;

	i = find_misfit(s, size, limit, &what);
	if (i < limit) {
		fail_place(p, i + 1, what);
		kvt_putf(&p->error, "'\\x%02x'", s[i]);
		return false;
	}
	if (size > KVT_LINE_MAX) {
		fail_place(p, (size_t)KVT_LINE_MAX + 1, "line of at most 1 MiB");
		kvt_puts(&p->error, "end of limit");
		return false;
	}
	return true;
}

/* ---- Tokens ------------------------------------------------------------------------------------ */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Behind the closing quote of the string that begins at "at", or NULL. */
static const char *
string_end(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '"')
			return at + 1;
		if (*at == '\\' && at + 1 < end)
			at++;
	}
	return NULL;
}

enum token_status { TOKEN_NONE, TOKEN_READ, TOKEN_FAILED };

/* The next token; a comment ends the line and is remembered. */
static enum token_status
next_token(struct kvt_parser *p, struct token *t)
{
	const char *at = p->at, *start;

	while (at < p->end && is_blank(*at))
		at++;
	p->at = at;
	if (at == p->end)
		return TOKEN_NONE;
	if (*at == '#') {
		p->comment.at = at;
		p->comment.size = (size_t)(p->end - at);
		p->at = p->end;
		return TOKEN_NONE;
	}
	memset(t, 0, sizeof *t);
	t->at = start = at;
	while (at < p->end && !is_blank(*at) && *at != '=')
		at++;
	if (at < p->end && *at == '=') {
		t->has_key = true;
		t->key.at = start;
		t->key.size = (size_t)(at - start);
		t->value.at = ++at;
		if (at < p->end && *at == '"') {
			at = string_end(at, p->end);
			if (at == NULL) {
				fail_place(p, (size_t)(start - p->text) + 1, "closing \"");
				kvt_puts(&p->error, "end of line");
				return TOKEN_FAILED;
			}
		}
		while (at < p->end && !is_blank(*at))
			at++;
		t->value.size = (size_t)(at - t->value.at);
	}
	t->size = (size_t)(at - start);
	p->at = at;
	return TOKEN_READ;
}

static bool
token_is(const struct token *t, const char *word)
{
	return same_text(word, t->at, t->size);
}

/* ---- Annotations ----------------------------------------------------------------------------------- */

static bool
grow(void **at, size_t *capacity, size_t count, size_t size)
{
	size_t more = *capacity != 0 ? *capacity * 2 : 16;
	void *grown;

	if (count < *capacity)
		return true;
	grown = realloc(*at, more * size);
	if (grown == NULL)
		return false;
	*at = grown;
	*capacity = more;
	return true;
}

static bool
add_annotation(struct kvt_parser *p, const struct token *t, bool is_result)
{
	void *at = p->annotations;
	struct kvt_annotation *a;

	if (!t->has_key || t->key.size < 2)
		return fail_token(p, "key=value", t);
	if (t->value.size > 0 && t->value.at[0] == '"' &&
	    string_end(t->value.at, p->end) != t->value.at + t->value.size)
		return fail_text(p, "closing \"", t->value.at, t->value.at, t->value.size);
	if (!grow(&at, &p->annotations_capacity, p->annotations_count, sizeof *a))
		return fail_memory(p);
	p->annotations = at;
	a = &p->annotations[p->annotations_count++];
	a->name.at = t->key.at + 1;
	a->name.size = t->key.size - 1;
	a->value = t->value;
	a->is_result = is_result;
	return true;
}

/* ---- Arguments ----------------------------------------------------------------------------------------- */

static bool
add_argument(struct kvt_parser *p, struct kvt_line *line, int index, const struct token *t, const char *again)
{
	const struct kvms_field *arg = &line->row->args[index];
	size_t offset = p->arg_words.size;
	unsigned fault;

	if ((line->given >> index & 1) != 0)
		return fail_key(p, again, t);
	fault = kvt_value_parse(arg->type, t->value.at, t->value.size, &line->op.arg[index], &p->arg_words);
	if (fault != KVT_FAULT_NONE || p->arg_words.failed)
		return fail_value(p, fault, t);
	p->list_offset[index] = offset;
	line->given |= UINT64_C(1) << index;
	return true;
}

/* The argument the line is expected to name next. */
static unsigned
next_hint(uint64_t given)
{
	unsigned hint = 0;

	while ((given >> hint & 1) != 0)
		hint++;
	return hint;
}

/* "key=value" of a row's argument. */
static bool
parse_argument(struct kvt_parser *p, struct kvt_line *line, const struct token *t)
{
	int index;

	if (!t->has_key)
		return fail_token(p, "key=value", t);
	index = find_field(line->row->args, line->row->args_count, next_hint(line->given), &t->key);
	if (index < 0)
		return fail_key(p, what_two(p, "argument of ", line->row->name), t);
	return add_argument(p, line, index, t, "each argument once");
}

static bool
check_missing(struct kvt_parser *p, const struct kvt_line *line)
{
	for (unsigned i = 0; i < line->row->args_count; i++)
		if ((line->given >> i & 1) == 0 && !line->row->args[i].has_default)
			return fail_missing(p, what_two(p, "argument ", line->row->args[i].name));
	return true;
}

/* Bring the lists into the row's order, where a payload has them. */
static bool
order_lists(struct kvt_parser *p, struct kvt_line *line)
{
	size_t expected = 0;
	bool in_order = true;

	for (unsigned i = 0; i < line->row->args_count; i++) {
		enum kvms_type type = line->row->args[i].type;

		if (!kvms_type_is_list(type) || (line->given >> i & 1) == 0)
			continue;
		in_order = in_order && p->list_offset[i] == expected;
		expected += kvt_list_words(type, line->op.arg[i]);
	}
	line->op.list = p->arg_words.at;
	if (in_order)
		return true;
	p->ordered.size = 0;
	for (unsigned i = 0; i < line->row->args_count; i++) {
		enum kvms_type type = line->row->args[i].type;
		size_t words = kvt_list_words(type, line->op.arg[i]);
		uint64_t *to;

		if (!kvms_type_is_list(type) || (line->given >> i & 1) == 0 || words == 0)
			continue;
		to = kvt_words_add(&p->ordered, words);
		if (to == NULL)
			return fail_memory(p);
		memcpy(to, p->arg_words.at + p->list_offset[i], words * sizeof *to);
	}
	line->op.list = p->ordered.at;
	return true;
}

/* ---- Recorded fields --------------------------------------------------------------------------------------- */

enum kvms_kind
kvt_detail_kind(const char *detail)
{
	return detail != NULL && strcmp(detail, "holder") == 0 ? KVMS_ID_CURSOR : KVMS_ID_NONE;
}

/* The number of an outcome whose detail is called so, or 0. */
static unsigned
detail_outcome(const struct kvt_span *key)
{
	for (unsigned name = 1; name <= kvms_outcome_max(); name++) {
		const char *detail = kvms_outcome_detail(name);

		if (detail != NULL && same_text(detail, key->at, key->size))
			return name;
	}
	return 0;
}

static bool
same_span(const struct kvt_span *a, const struct kvt_span *b)
{
	return a->size == b->size && memcmp(a->at, b->at, a->size) == 0;
}

/* Where a name is, or belongs, in the set of fields that are none of the row's. */
static uint32_t *
strange_slot(struct kvt_parser *p, const struct kvt_span *name)
{
	size_t mask = p->strange_capacity - 1;
	size_t i = hash_name(name->at, name->size, (unsigned)((uintptr_t)p >> 4)) & mask;

	while (p->strange[i] != 0 && !same_span(&p->fields[p->strange[i] - 1].name, name))
		i = (i + 1) & mask;
	return &p->strange[i];
}

/* Keep the set at most half full. */
static bool
strange_grow(struct kvt_parser *p)
{
	size_t capacity = p->strange_capacity != 0 ? p->strange_capacity * 2 : 16;

	if (p->strange_count < p->strange_capacity / 2)
		return true;
	free(p->strange);
	p->strange = calloc(capacity, sizeof *p->strange);
	if (p->strange == NULL) {
		p->strange_capacity = p->strange_count = 0;
		return false;
	}
	p->strange_capacity = capacity;
	for (size_t i = 0; i < p->fields_count; i++)
		if (p->fields[i].index < 0)
			*strange_slot(p, &p->fields[i].name) = (uint32_t)i + 1;
	return true;
}

/* Has this field been on the line?  If not, the field about to be added is it. */
static bool
field_again(struct kvt_parser *p, const struct kvt_field *f, bool *again)
{
	uint32_t *slot;

	if (f->index >= 0) {
		*again = (p->fields_seen >> f->index & 1) != 0;
		p->fields_seen |= UINT64_C(1) << f->index;
		return true;
	}
	if (!strange_grow(p))
		return false;
	slot = strange_slot(p, &f->name);
	*again = *slot != 0;
	if (!*again) {
		*slot = (uint32_t)p->fields_count + 1;
		p->strange_count++;
	}
	return true;
}

/* Which field of an outcome a key means. */
static void
find_result(const struct kvt_line *line, struct kvt_field *f)
{
	bool is_failure = line->kind == KVT_OP && line->class != KVMS_OK;
	unsigned name;

	f->type = KVMS_TYPES;
	if (is_failure && same_text("cause", f->name.at, f->name.size)) {
		f->index = KVT_FIELD_CAUSE;
	} else if (is_failure && (name = detail_outcome(&f->name)) != 0) {
		f->index = KVT_FIELD_DETAIL;
		f->id = kvt_detail_kind(kvms_outcome_detail(name));
		f->type = f->id != KVMS_ID_NONE ? KVMS_ID : KVMS_DEC;
	} else {
		f->index = find_field(line->row->results, line->row->results_count, UINT_MAX, &f->name);
		if (f->index < 0) {
			f->index = KVT_FIELD_UNKNOWN;
			return;
		}
		f->type = line->row->results[f->index].type;
		if (f->type == KVMS_ID)
			f->id = line->row->results[f->index].kind;
	}
}

/*
 * Record a result field.  Its value is compared as text if it is none of its
 * type; ids of an op alone must be numbers, because they are looked up.
 */
static bool
add_field(struct kvt_parser *p, const struct kvt_line *line, const struct token *t)
{
	size_t words = p->field_words.size;
	struct kvt_field f = { .name = t->key, .text = t->value };
	void *at = p->fields;
	bool again;

	if (!t->has_key)
		return fail_token(p, "key=value", t);
	find_result(line, &f);
	if (!field_again(p, &f, &again))
		return fail_memory(p);
	if (again)
		return fail_key(p, "each key once", t);
	if (f.type != KVMS_TYPES) {
		unsigned fault = kvt_value_parse(f.type, f.text.at, f.text.size, &f.value, &p->field_words);

		if (p->field_words.failed || (fault != KVT_FAULT_NONE && f.id != KVMS_ID_NONE && line->kind == KVT_OP))
			return fail_value(p, fault, t);
		f.typed = fault == KVT_FAULT_NONE;
		if (!f.typed)
			p->field_words.size = words;
	}
	if (!grow(&at, &p->fields_capacity, p->fields_count, sizeof f))
		return fail_memory(p);
	p->fields = at;
	p->fields[p->fields_count++] = f;
	return true;
}

/* Once all fields are in, their lists no longer move. */
static void
place_field_lists(struct kvt_parser *p, struct kvt_line *line)
{
	const uint64_t *at = p->field_words.at;

	for (size_t i = 0; i < p->fields_count; i++) {
		struct kvt_field *f = &p->fields[i];

		if (!f->typed || !kvms_type_is_list(f->type))
			continue;
		f->list = at;
		at += kvt_list_words(f->type, f->value);
	}
	line->fields = p->fields;
	line->fields_count = p->fields_count;
}

/* ---- Lines -------------------------------------------------------------------------------------------------- */

/* Where an op line is. */
enum place { IN_ARGUMENTS, BEFORE_CLASS, BEFORE_NAME, IN_FIELDS };

static bool
parse_class(struct kvt_parser *p, struct kvt_line *line, const struct token *t)
{
	for (unsigned c = 0; c < KVMS_CLASSES; c++)
		if (token_is(t, kvms_class_word((enum kvms_class)c))) {
			line->recorded = true;
			line->class = (enum kvms_class)c;
			return true;
		}
	return fail_token(p, what_class(p), t);
}

static bool
parse_op_token(struct kvt_parser *p, struct kvt_line *line, const struct token *t, enum place *place)
{
	if (t->at[0] == '@')
		return add_annotation(p, t, *place != IN_ARGUMENTS);
	if (*place == IN_ARGUMENTS) {
		if (!token_is(t, "->"))
			return parse_argument(p, line, t);
		*place = BEFORE_CLASS;
		return true;
	}
	if (*place == BEFORE_CLASS) {
		*place = BEFORE_NAME;
		return parse_class(p, line, t);
	}
	if (*place == BEFORE_NAME && !t->has_key && !token_is(t, "->")) {
		*place = IN_FIELDS;
		line->name.at = t->at;
		line->name.size = t->size;
		return true;
	}
	*place = IN_FIELDS;
	return add_field(p, line, t);
}

static bool
parse_op_line(struct kvt_parser *p, struct kvt_line *line, const struct token *word)
{
	enum place place = IN_ARGUMENTS;
	enum token_status status;
	struct token t;

	line->kind = KVT_OP;
	line->row = names_find(&p->ops, kvms_op_row, word->at, word->size);
	if (line->row == NULL)
		return fail_token(p, "operation name", word);
	kvms_op_init(&line->op, line->row);
	while ((status = next_token(p, &t)) == TOKEN_READ)
		if (!parse_op_token(p, line, &t, &place))
			return false;
	if (status == TOKEN_FAILED)
		return false;
	if (place == BEFORE_CLASS)
		return fail_missing(p, what_class(p));
	return check_missing(p, line) && order_lists(p, line);
}

/* digest=..., inv=... and so on: requests without arguments that have one field of their own name. */
static const struct {
	const char *key;
	const char *request;
} short_forms[] = {
	{ "digest", "digest" }, { "inv", "check" }, { "nodes", "nodes" }, { "free_va", "free_va" }, { "areas", "areas" }
};

static bool
parse_short(struct kvt_parser *p, struct kvt_line *line, const struct token *t)
{
	struct token more;
	enum token_status status;

	for (size_t i = 0; i < sizeof short_forms / sizeof short_forms[0]; i++) {
		if (!same_text(short_forms[i].key, t->key.at, t->key.size))
			continue;
		line->row = kvms_request_find(short_forms[i].request);
		kvms_op_init(&line->op, line->row);
		line->is_short = true;
		if (!add_field(p, line, t))
			return false;
		status = next_token(p, &more);
		return status == TOKEN_READ ? fail_token(p, "end of line", &more) : status == TOKEN_NONE;
	}
	return fail_key(p, "digest|inv|nodes|free_va|areas", t);
}

static bool
parse_expect_token(struct kvt_parser *p, struct kvt_line *line, const struct token *t, bool *arrow)
{
	int index = -1;

	if (token_is(t, "->") && !*arrow) {
		*arrow = true;
		return true;
	}
	if (!t->has_key || t->at[0] == '@')
		return fail_token(p, "key=value", t);
	if (!*arrow)
		index = find_field(line->row->args, line->row->args_count, next_hint(line->given), &t->key);
	return index >= 0 ? add_argument(p, line, index, t, "each key once") : add_field(p, line, t);
}

static bool
parse_expect(struct kvt_parser *p, struct kvt_line *line)
{
	enum token_status status;
	bool arrow = false;
	struct token t;

	line->kind = KVT_EXPECT;
	status = next_token(p, &t);
	if (status == TOKEN_NONE)
		return fail_missing(p, "request or key=value");
	if (status == TOKEN_FAILED)
		return false;
	if (t.has_key)
		return parse_short(p, line, &t);
	line->row = names_find(&p->requests, kvms_request_row, t.at, t.size);
	if (line->row == NULL)
		return fail_token(p, "request name", &t);
	kvms_op_init(&line->op, line->row);
	while ((status = next_token(p, &t)) == TOKEN_READ)
		if (!parse_expect_token(p, line, &t, &arrow))
			return false;
	return status == TOKEN_NONE && check_missing(p, line) && order_lists(p, line);
}

static bool
parse_store_keys(struct kvt_parser *p, struct kvt_line *line)
{
	enum token_status status;
	struct token t;

	line->kind = KVT_STORE;
	line->row = kvms_store_row();
	kvms_op_init(&line->op, line->row);
	while ((status = next_token(p, &t)) == TOKEN_READ) {
		int index;

		if (!t.has_key)
			return fail_token(p, "key=value", &t);
		index = find_field(line->row->args, line->row->args_count, next_hint(line->given), &t.key);
		if (index < 0)
			return fail_key(p, "store key", &t);
		if (!add_argument(p, line, index, &t, "each key once"))
			return false;
	}
	return status == TOKEN_NONE && order_lists(p, line);
}

static bool
parse_number(struct kvt_parser *p, const struct token *t, uint64_t *value)
{
	return kvt_parse_u64(t->value.at, t->value.size, value) || fail_value(p, KVT_FAULT_U64, t);
}

static bool
parse_gap(struct kvt_parser *p, struct kvt_line *line)
{
	enum token_status status;
	struct token t;

	line->kind = KVT_GAP;
	while ((status = next_token(p, &t)) == TOKEN_READ) {
		if (t.at[0] == '@') {
			if (!add_annotation(p, &t, false))
				return false;
			continue;
		}
		if (!t.has_key)
			return fail_token(p, "key=value", &t);
		if (!same_text("ops", t.key.at, t.key.size))
			return fail_key(p, "argument of gap", &t);
		if (line->has_ops)
			return fail_key(p, "each argument once", &t);
		line->has_ops = true;
		if (!parse_number(p, &t, &line->ops))
			return false;
	}
	return status == TOKEN_NONE;
}

static bool
parse_base_token(struct kvt_parser *p, struct kvt_line *line, const struct token *t)
{
	bool is_digest = same_text("digest", t->key.at, t->key.size);
	bool is_snapshot = same_text("snapshot", t->key.at, t->key.size);

	if (!t->has_key)
		return fail_token(p, "key=value", t);
	if (!is_digest && !is_snapshot)
		return fail_key(p, "argument of base", t);
	if ((line->given >> is_snapshot & 1) != 0)
		return fail_key(p, "each argument once", t);
	line->given |= UINT64_C(1) << is_snapshot;
	if (is_digest)
		return parse_number(p, t, &line->digest);
	if (t->value.size == 0 || t->value.at[0] != '"' ||
	    string_end(t->value.at, p->end) != t->value.at + t->value.size)
		return fail_text(p, "closing \"", t->value.at, t->value.at, t->value.size);
	line->snapshot = t->value;
	return true;
}

static bool
parse_base(struct kvt_parser *p, struct kvt_line *line)
{
	enum token_status status;
	struct token t;

	line->kind = KVT_BASE;
	while ((status = next_token(p, &t)) == TOKEN_READ)
		if (!parse_base_token(p, line, &t))
			return false;
	if (status == TOKEN_FAILED)
		return false;
	return (line->given & 1) != 0 || fail_missing(p, "argument digest");
}

/* ---- The trace as a whole ----------------------------------------------------------------------------------- */

static void
begin(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line)
{
	memset(line, 0, sizeof *line);
	memset(&p->comment, 0, sizeof p->comment);
	line->number = p->line;
	p->text = p->at = text;
	p->end = text + size;
	p->arg_words.size = p->field_words.size = 0;
	p->arg_words.failed = p->field_words.failed = p->ordered.failed = false;
	p->fields_count = p->annotations_count = 0;
	p->fields_seen = 0;
	if (p->strange_count > 0)
		memset(p->strange, 0, p->strange_capacity * sizeof *p->strange);
	p->strange_count = 0;
}

static bool
finish(struct kvt_parser *p, struct kvt_line *line, bool parsed)
{
	if (!parsed)
		return false;
	place_field_lists(p, line);
	line->annotations = p->annotations;
	line->annotations_count = p->annotations_count;
	line->comment = p->comment;
	return true;
}

/* The first line that says anything. */
static bool
parse_header(struct kvt_parser *p, struct kvt_line *line, const struct token *first)
{
	struct token second, third;

	line->kind = KVT_HEADER;
	if (token_is(first, "kvmtrace") && next_token(p, &second) == TOKEN_READ && token_is(&second, "1") &&
	    next_token(p, &third) == TOKEN_NONE) {
		p->header_seen = true;
		return true;
	}
	return fail_text(p, "'kvmtrace 1'", p->text, p->text, (size_t)(p->end - p->text));
}

static bool
parse_trace_line(struct kvt_parser *p, struct kvt_line *line, const struct token *first)
{
	static const char late[] = "store line before the first operation";

	if (!p->header_seen)
		return parse_header(p, line, first);
	if (token_is(first, "store")) {
		if (p->store_seen || p->started)
			return fail_token(p, late, first);
		p->store_seen = true;
		return parse_store_keys(p, line);
	}
	if (token_is(first, "base"))
		return p->last == KVT_STORE ? parse_base(p, line) : fail_token(p, late, first);
	if (token_is(first, "gap"))
		return parse_gap(p, line);
	p->started = true;
	return token_is(first, "expect") ? parse_expect(p, line) : parse_op_line(p, line, first);
}

bool
kvt_parse(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line)
{
	enum token_status status;
	struct token first;
	bool parsed;

	p->line++;
	begin(p, text, size, line);
	if (!check_bytes(p, text, size))
		return false;
	status = next_token(p, &first);
	if (status == TOKEN_FAILED)
		return false;
	if (status == TOKEN_NONE)
		return finish(p, line, true);
	parsed = parse_trace_line(p, line, &first);
	p->last = line->kind;
	return finish(p, line, parsed);
}

/* The words of parse_trace_line(), where there is no text to point at. */
static bool
misplaced(struct kvt_parser *p, const char *what, const char *found)
{
	fail_place(p, 1, what);
	kvt_putf(&p->error, "'%s'", found);
	return false;
}

bool
kvt_parse_given(struct kvt_parser *p, struct kvt_line *line)
{
	static const char late[] = "store line before the first operation";

	line->number = ++p->line;
	if (line->kind == KVT_BLANK)
		return true;
	if (!p->header_seen && line->kind != KVT_HEADER)
		return misplaced(p, "'kvmtrace 1'", "another line");
	if (line->kind == KVT_HEADER && p->header_seen)
		return misplaced(p, "operation name", "kvmtrace");
	if (line->kind == KVT_STORE && (p->store_seen || p->started))
		return misplaced(p, late, "store");
	if (line->kind == KVT_BASE && p->last != KVT_STORE)
		return misplaced(p, late, "base");
	p->header_seen = true;
	p->store_seen = p->store_seen || line->kind == KVT_STORE;
	p->started = p->started || line->kind == KVT_OP || line->kind == KVT_EXPECT;
	p->last = line->kind;
	return true;
}

void
kvt_parser_move(struct kvt_parser *p, uint64_t lines)
{
	p->line = lines;
}

bool
kvt_parse_end(struct kvt_parser *p)
{
	if (p->header_seen)
		return true;
	p->line = 1;
	fail_place(p, 1, "'kvmtrace 1'");
	kvt_puts(&p->error, "end of file");
	return false;
}

/* ---- Texts that stand alone ------------------------------------------------------------------------------------ */

static bool
parse_request_line(struct kvt_parser *p, struct kvt_line *line, const struct token *word)
{
	enum token_status status;
	struct token t;

	line->kind = KVT_EXPECT;
	line->row = names_find(&p->requests, kvms_request_row, word->at, word->size);
	if (line->row == NULL)
		return fail_token(p, "request name", word);
	kvms_op_init(&line->op, line->row);
	while ((status = next_token(p, &t)) == TOKEN_READ)
		if (!parse_argument(p, line, &t))
			return false;
	return status == TOKEN_NONE && check_missing(p, line) && order_lists(p, line);
}

/* The first token decides whether there is anything; a store has none of its own. */
static bool
parse_alone(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line, enum kvt_kind kind)
{
	uint64_t number = p->line;
	bool parsed = false;
	struct token first;
	enum token_status status;

	p->line = 1;
	begin(p, text, size, line);
	if (check_bytes(p, text, size)) {
		status = kind == KVT_STORE ? TOKEN_READ : next_token(p, &first);
		if (status == TOKEN_NONE)
			parsed = true;
		else if (status == TOKEN_READ && kind == KVT_STORE)
			parsed = parse_store_keys(p, line);
		else if (status == TOKEN_READ && kind == KVT_OP)
			parsed = parse_op_line(p, line, &first);
		else if (status == TOKEN_READ)
			parsed = parse_request_line(p, line, &first);
	}
	p->line = number;
	return finish(p, line, parsed);
}

bool
kvt_parse_op(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line)
{
	return parse_alone(p, text, size, line, KVT_OP);
}

bool
kvt_parse_request(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line)
{
	return parse_alone(p, text, size, line, KVT_EXPECT);
}

bool
kvt_parse_store(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line)
{
	return parse_alone(p, text, size, line, KVT_STORE);
}

void
kvt_unquote(struct kvt_buffer *b, struct kvt_span value)
{
	bool quoted = value.size >= 2 && value.at[0] == '"';
	size_t i = quoted ? 1 : 0, end = quoted ? value.size - 1 : value.size;

	kvt_buffer_reset(b);
	for (; i < end; i++) {
		if (quoted && value.at[i] == '\\' && i + 1 < end && (value.at[i + 1] == '"' || value.at[i + 1] == '\\'))
			i++;
		kvt_putc(b, value.at[i]);
	}
}
