#include "client/predicate.h"

#include "client/commands.h"

#include "trace/text.h"
#include "trace/value.h"

#include <stdlib.h>
#include <string.h>

enum relation { EQUAL, DIFFERENT, LESS, AT_MOST, MORE, AT_LEAST };

/* Longer ones before those they begin with. */
static const struct {
	const char *text;
	enum relation relation;
} relations[] = {
	{ "!=", DIFFERENT }, { "<=", AT_MOST }, { ">=", AT_LEAST }, { "<", LESS }, { ">", MORE }, { "=", EQUAL },
};

#define COMPARISONS_MAX 16u

/* field OP value */
struct comparison {
	unsigned field; /* in the row's results */
	enum relation relation;
	bool of_length; /* a list against a number */
	uint64_t value; /* scalar; of a list its count */
	size_t list, list_words;
};

struct kvmctl_predicate {
	const char *text;
	const struct kvms_row *row;
	struct kvt_parser *parser; /* holds the request's lists */
	struct kvt_buffer request; /* its text */
	struct kvms_op op;
	struct kvms_outcome out;
	struct comparison at[COMPARISONS_MAX];
	unsigned count;
	struct kvt_words words; /* of the lists compared with */
};

/* ---- Reading ----------------------------------------------------------------------------- */

/* A piece of the text. */
struct word {
	const char *at;
	size_t size;
};

/* Say what is wrong at a place, and point there. */
static enum kvmctl_status
wrong(const struct kvmctl_predicate *p, const char *at, const char *expected)
{
	size_t column = (size_t)(at - p->text);

	kvmctl_complain("predicate, column %zu: expected %s", column + 1, expected);
	if (strlen(p->text) <= 200)
		fprintf(stderr, "  %s\n  %*s^\n", p->text, (int)column, "");
	return KVMCTL_USAGE;
}

static bool
next_word(const char **text, struct word *word)
{
	*text += strspn(*text, " \t\n");
	*word = (struct word){ *text, strcspn(*text, " \t\n") };
	*text += word->size;
	return word->size > 0;
}

/* The relation in a word, and how long the name before it is; false: none. */
static bool
split(const struct word *word, size_t *name, size_t *relation)
{
	for (*name = 0; *name < word->size; ++*name)
		for (*relation = 0; *relation < sizeof relations / sizeof relations[0]; ++*relation) {
			size_t size = strlen(relations[*relation].text);

			if (*name + size <= word->size &&
			    memcmp(word->at + *name, relations[*relation].text, size) == 0)
				return true;
		}
	return false;
}

static int
field_find(const struct kvms_field *fields, unsigned count, const char *name, size_t size)
{
	for (unsigned i = 0; i < count; i++)
		if (strlen(fields[i].name) == size && memcmp(fields[i].name, name, size) == 0)
			return (int)i;
	return -1;
}

/* May values of the type be ordered? */
static bool
is_ordered(enum kvms_type type)
{
	return type == KVMS_DEC || type == KVMS_HEX || type == KVMS_ID || type == KVMS_CPU || type == KVMS_RC ||
	       kvms_type_is_list(type);
}

/* "argument va", "rc, usage, ..." */
static enum kvmctl_status
wrong_field(const struct kvmctl_predicate *p, const char *at)
{
	struct kvt_buffer b = { 0 };

	kvt_putf(&b, "a field of %s: ", p->row->name);
	for (unsigned i = 0; i < p->row->results_count; i++)
		kvt_putf(&b, "%s%s", i > 0 ? ", " : "", p->row->results[i].name);
	enum kvmctl_status status = wrong(p, at, kvt_buffer_text(&b));
	kvt_buffer_free(&b);
	return status;
}

static enum kvmctl_status
read_value(struct kvmctl_predicate *p, struct comparison *c, const char *text, size_t size)
{
	enum kvms_type type = p->row->results[c->field].type;
	struct kvt_buffer form = { 0 };
	enum kvmctl_status status;
	unsigned fault;

	c->list = p->words.size;
	if (kvms_type_is_list(type) && kvt_parse_u64(text, size, &c->value)) {
		c->of_length = true;
		return KVMCTL_OK;
	}
	if (kvms_type_is_list(type) && c->relation > DIFFERENT)
		return wrong(p, text, "a number: the length of the list");
	fault = kvt_value_parse(type, text, size, &c->value, &p->words);
	c->list_words = p->words.size - c->list;
	if (fault == KVT_FAULT_NONE)
		return KVMCTL_OK;
	kvt_fault_print(&form, fault);
	status = wrong(p, text, kvt_buffer_text(&form));
	kvt_buffer_free(&form);
	return status;
}

/* One word behind the request's name: an argument, kept for the request's text, or a comparison. */
static enum kvmctl_status
read_word(struct kvmctl_predicate *p, const struct word *word, bool behind_arrow)
{
	struct comparison *c = &p->at[p->count];
	size_t name, relation;

	if (!split(word, &name, &relation) || name == 0)
		return wrong(p, word->at,
			     "argument=value, or a comparison: field = != < <= > or >= value, without blanks");
	c->relation = relations[relation].relation;
	if (!behind_arrow && c->relation == EQUAL &&
	    field_find(p->row->args, p->row->args_count, word->at, name) >= 0) {
		kvt_putc(&p->request, ' ');
		kvt_put(&p->request, word->at, word->size);
		return KVMCTL_OK;
	}
	int field = field_find(p->row->results, p->row->results_count, word->at, name);
	if (field < 0)
		return wrong_field(p, word->at);
	if (p->count == COMPARISONS_MAX - 1)
		return wrong(p, word->at, "fewer comparisons");
	c->field = (unsigned)field;
	if (c->relation > DIFFERENT && !is_ordered(p->row->results[field].type))
		return wrong(p, word->at + name, "= or !=, this field has no order");
	p->count++;
	name += strlen(relations[relation].text);
	return read_value(p, c, word->at + name, word->size - name);
}

static enum kvmctl_status
read_words(struct kvmctl_predicate *p)
{
	const char *text = p->text;
	bool is_request = false, behind_arrow = false;
	struct word word;
	char name[64];

	if (!next_word(&text, &word) || word.size >= sizeof name)
		return wrong(p, word.at, "the name of a request, \"kvmctl help requests\" lists them");
	memcpy(name, word.at, word.size);
	name[word.size] = '\0';
	p->row = kvmctl_row_find(name, &is_request);
	if (p->row == NULL || !is_request)
		return wrong(p, word.at, "the name of a request, \"kvmctl help requests\" lists them");
	kvt_puts(&p->request, p->row->name);
	while (next_word(&text, &word)) {
		if (word.size == 2 && memcmp(word.at, "->", 2) == 0 && !behind_arrow) {
			behind_arrow = true;
			continue;
		}
		enum kvmctl_status status = read_word(p, &word, behind_arrow);

		if (status != KVMCTL_OK)
			return status;
	}
	return p->count > 0 ? KVMCTL_OK : wrong(p, word.at, "a comparison, such as rc>2 or found=true");
}

/* The request itself, out of its name and arguments. */
static enum kvmctl_status
read_request(struct kvmctl_predicate *p)
{
	struct kvt_line line;

	p->parser = kvt_parser_new("predicate");
	if (p->parser == NULL || p->request.failed || p->words.failed) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	if (!kvt_parse_request(p->parser, kvt_buffer_text(&p->request), p->request.size, &line)) {
		const char *error = strstr(kvt_parser_error(p->parser), ": ");

		kvmctl_complain("predicate: %s", error != NULL ? error + 2 : kvt_parser_error(p->parser));
		fprintf(stderr, "  \"kvmctl help %s\" explains its arguments\n", p->row->name);
		return KVMCTL_USAGE;
	}
	p->op = line.op;
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_predicate_new(const char *text, struct kvmctl_predicate **out)
{
	struct kvmctl_predicate *p = calloc(1, sizeof *p);

	*out = NULL;
	if (p == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	p->text = text;
	enum kvmctl_status status = read_words(p);
	if (status == KVMCTL_OK)
		status = read_request(p);
	if (status == KVMCTL_OK)
		*out = p;
	else
		kvmctl_predicate_free(&p);
	return status;
}

void
kvmctl_predicate_free(struct kvmctl_predicate **p)
{
	struct kvmctl_predicate *predicate = *p;

	*p = NULL;
	if (predicate == NULL)
		return;
	kvt_parser_free(&predicate->parser);
	kvt_buffer_free(&predicate->request);
	kvt_words_free(&predicate->words);
	kvms_outcome_free(&predicate->out);
	free(predicate);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static bool
related(enum relation relation, uint64_t a, uint64_t b)
{
	switch (relation) {
	case EQUAL:
		return a == b;
	case DIFFERENT:
		return a != b;
	case LESS:
		return a < b;
	case AT_MOST:
		return a <= b;
	case MORE:
		return a > b;
	case AT_LEAST:
		break;
	}
	return a >= b;
}

static bool
is_count(uint64_t rc)
{
	return rc != KVMS_RC_UNUSED && rc != KVMS_RC_UNIQUE;
}

static bool
comparison_holds(const struct kvmctl_predicate *p, const struct comparison *c)
{
	enum kvms_type type = p->row->results[c->field].type;
	uint64_t have = p->out.field[c->field], count;

	if (p->out.name != 0 || (p->out.present >> c->field & 1) == 0)
		return false;
	if (type == KVMS_RC && c->relation > DIFFERENT && !(is_count(have) && is_count(c->value)))
		return false;
	if (!kvms_type_is_list(type) || c->of_length)
		return related(c->relation, have, c->value);
	const uint64_t *list = kvms_outcome_list(&p->out, p->row, c->field, &count);
	bool same = have == c->value &&
		    (c->list_words == 0 || memcmp(list, p->words.at + c->list, c->list_words * sizeof *list) == 0);
	return same == (c->relation == EQUAL);
}

bool
kvmctl_predicate_holds(struct kvmctl_predicate *p, struct kvms *s, bool *nomem)
{
	*nomem = kvms_inspect(s, &p->op, &p->out) != KVMS_DONE;
	for (unsigned i = 0; i < p->count && !*nomem; i++)
		if (!comparison_holds(p, &p->at[i]))
			return false;
	return !*nomem;
}

const struct kvms_row *
kvmctl_predicate_row(const struct kvmctl_predicate *p)
{
	return p->row;
}

const struct kvms_op *
kvmctl_predicate_request(const struct kvmctl_predicate *p)
{
	return &p->op;
}

const struct kvms_outcome *
kvmctl_predicate_answer(const struct kvmctl_predicate *p)
{
	return &p->out;
}
