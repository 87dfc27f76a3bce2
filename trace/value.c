#include "trace/value.h"

#include "trace/text.h"

#include <stdlib.h>
#include <string.h>

/* ---- Words that grow -------------------------------------------------------- */

uint64_t *
kvt_words_add(struct kvt_words *w, size_t more)
{
	size_t capacity = w->capacity != 0 ? w->capacity : 64;

	if (w->failed || more > SIZE_MAX / 32 - w->size) {
		w->failed = true;
		return NULL;
	}
	if (w->at == NULL || w->capacity < w->size + more) {
		uint64_t *at;

		while (capacity < w->size + more)
			capacity *= 2;
		at = realloc(w->at, capacity * sizeof *at);
		if (at == NULL) {
			w->failed = true;
			return NULL;
		}
		w->at = at;
		w->capacity = capacity;
	}
	w->size += more;
	return w->at + w->size - more;
}

void
kvt_words_free(struct kvt_words *w)
{
	free(w->at);
	memset(w, 0, sizeof *w);
}

size_t
kvt_list_words(enum kvms_type type, uint64_t count)
{
	return (size_t)(type == KVMS_BYTES ? (count + 7) / 8 : count * kvms_type_arity(type));
}

size_t
kvt_payload_words(const struct kvms_row *row, const struct kvms_op *op)
{
	size_t words = 0;

	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			words += kvt_list_words(row->args[i].type, op->arg[i]);
	return words;
}

/* ---- How an element of a list is written --------------------------------------- */

/* A word of its own, known to lists alone: tracked or untracked. */
#define PART_TRACKED KVMS_TYPES

struct part {
	const char *before; /* what separates it from the part before */
	const char *name;   /* in JSON */
	unsigned type;
};

struct shape {
	unsigned parts;
	struct part part[4];
};

static const struct shape shapes[KVMS_TYPES] = {
	[KVMS_IDS] = { 1, { { "", "", KVMS_DEC } } },
	[KVMS_CPUS] = { 1, { { "", "", KVMS_DEC } } },
	[KVMS_PADDRS] = { 1, { { "", "", KVMS_HEX } } },
	[KVMS_LAWS] = { 1, { { "", "", KVMS_LAWS } } },
	[KVMS_RANGE] = { 2, { { "", "start", KVMS_HEX }, { "..", "end", KVMS_HEX } } },
	[KVMS_RANGES] = { 2, { { "", "start", KVMS_HEX }, { "..", "end", KVMS_HEX } } },
	[KVMS_VMALLOC] = { 2, { { "", "start", KVMS_HEX }, { "..", "end", KVMS_HEX } } },
	[KVMS_LEVELS] = { 4,
			  { { "", "level", KVMS_DEC },
			    { ":", "node", KVMS_HEX },
			    { ":", "index", KVMS_DEC },
			    { ":", "word", KVMS_HEX } } },
	[KVMS_MAPPINGS] = { 2, { { "", "table", KVMS_TABLE }, { ":", "va", KVMS_HEX } } },
	[KVMS_REVERSE] = { 4,
			   { { "", "table", KVMS_TABLE },
			     { ":", "va", KVMS_HEX },
			     { ":", "level", KVMS_DEC },
			     { ":", "tracked", PART_TRACKED } } },
	[KVMS_AREAS] = { 3, { { "", "area", KVMS_DEC }, { ":", "start", KVMS_HEX }, { "..", "end", KVMS_HEX } } },
	[KVMS_STALE] = { 4,
			 { { "", "cpu", KVMS_DEC },
			   { ":", "table", KVMS_TABLE },
			   { ":", "va", KVMS_HEX },
			   { ":", "paddr", KVMS_HEX } } },
};

/* ---- Parsing -------------------------------------------------------------------- */

static bool
is_text(const char *text, size_t size, const char *word)
{
	return strlen(word) == size && memcmp(text, word, size) == 0;
}

bool
kvt_parse_u64(const char *text, size_t size, uint64_t *value)
{
	uint64_t v = 0;

	if (size > 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
		for (size_t i = 2; i < size; i++) {
			unsigned char c = (unsigned char)text[i], low = c | 0x20;
			unsigned digit = c >= '0' && c <= '9' ? c - 48u : low >= 'a' && low <= 'f' ? low - 87u : 16;

			if (digit == 16 || v >> 60 != 0)
				return false;
			v = v << 4 | digit;
		}
	} else {
		for (size_t i = 0; i < size; i++) {
			unsigned digit = (unsigned char)text[i] - (unsigned)'0';

			if (digit > 9 || v > (UINT64_MAX - digit) / 10)
				return false;
			v = v * 10 + digit;
		}
	}
	*value = v;
	return size > 0;
}

static unsigned
parse_u64(const char *text, size_t size, uint64_t *value)
{
	return kvt_parse_u64(text, size, value) ? KVT_FAULT_NONE : KVT_FAULT_U64;
}

static unsigned
parse_word(enum kvms_type type, const char *text, size_t size, uint64_t *value)
{
	const char *word;

	for (unsigned i = 0; (word = kvms_word_at(type, i, value)) != NULL; i++)
		if (is_text(text, size, word))
			return KVT_FAULT_NONE;
	return KVT_FAULT_WORD + (unsigned)type;
}

/*
 * A table: its word, or a vm_space id.  Two ids would be read as words: they
 * become one that no space ever has.
 */
static unsigned
parse_table(enum kvms_type type, const char *text, size_t size, uint64_t *value)
{
	if (is_text(text, size, "kernel")) {
		*value = 0;
		return KVT_FAULT_NONE;
	}
	if (type == KVMS_TABLE_ALL && is_text(text, size, "all")) {
		*value = UINT64_MAX;
		return KVT_FAULT_NONE;
	}
	if (!kvt_parse_u64(text, size, value))
		return KVT_FAULT_U64;
	if (*value == 0 || *value == UINT64_MAX)
		*value = UINT64_MAX - 1;
	return KVT_FAULT_NONE;
}

static const char flag_letters[] = "rwxad";

static unsigned
parse_flags(const char *text, size_t size, uint64_t *value)
{
	uint64_t flags = 0;

	if (is_text(text, size, "-"))
		size = 0;
	else if (size == 0)
		return KVT_FAULT_FLAGS;
	for (size_t i = 0; i < size; i++) {
		const char *letter = memchr(flag_letters, text[i], sizeof flag_letters - 1);

		if (letter == NULL || (flags >> (letter - flag_letters) & 1) != 0)
			return KVT_FAULT_FLAGS;
		flags |= UINT64_C(1) << (letter - flag_letters);
	}
	*value = flags;
	return KVT_FAULT_NONE;
}

static const struct suffix {
	const char *word;
	uint64_t bit;
} suffixes[] = { { "+user", KVMS_PROP_USER }, { "+global", KVMS_PROP_GLOBAL }, { "+avail2", KVMS_PROP_AVAIL2 } };

#define SUFFIXES (sizeof suffixes / sizeof suffixes[0])

static unsigned
parse_prop(const char *text, size_t size, uint64_t *value)
{
	const char *end = text + size, *colon = memchr(text, ':', size), *plus;
	uint64_t prop = 0, cache = 0;
	unsigned fault;

	if (colon == NULL)
		return KVT_FAULT_PROP;
	fault = parse_flags(text, (size_t)(colon - text), &prop);
	if (fault != KVT_FAULT_NONE)
		return fault;
	colon++;
	plus = memchr(colon, '+', (size_t)(end - colon));
	if (plus == NULL)
		plus = end;
	fault = parse_word(KVMS_CACHE, colon, (size_t)(plus - colon), &cache);
	if (fault != KVT_FAULT_NONE)
		return fault;
	while (plus < end) {
		const char *next = memchr(plus + 1, '+', (size_t)(end - plus - 1));
		size_t i = 0;

		if (next == NULL)
			next = end;
		while (i < SUFFIXES && !is_text(plus, (size_t)(next - plus), suffixes[i].word))
			i++;
		if (i == SUFFIXES || (prop & suffixes[i].bit) != 0)
			return KVT_FAULT_SUFFIX;
		prop |= suffixes[i].bit;
		plus = next;
	}
	*value = prop | cache << KVMS_PROP_CACHE_SHIFT;
	return KVT_FAULT_NONE;
}

static unsigned
parse_rc(const char *text, size_t size, uint64_t *value)
{
	if (is_text(text, size, "unused"))
		*value = KVMS_RC_UNUSED;
	else if (is_text(text, size, "unique"))
		*value = KVMS_RC_UNIQUE;
	else
		return parse_u64(text, size, value);
	return KVT_FAULT_NONE;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static unsigned
parse_bytes(const char *text, size_t size, uint64_t *value, struct kvt_words *list)
{
	uint64_t *words;
	uint8_t *bytes;

	if (is_text(text, size, "-")) {
		*value = 0;
		return KVT_FAULT_NONE;
	}
	if (size == 0 || size % 2 != 0)
		return KVT_FAULT_BYTES;
	for (size_t i = 0; i < size; i++)
		if (hex_digit(text[i]) < 0)
			return KVT_FAULT_BYTES;
	if (size / 2 > KVT_BYTES_MAX)
		return KVT_FAULT_BYTES_MAX;
	words = kvt_words_add(list, kvt_list_words(KVMS_BYTES, size / 2));
	if (words == NULL)
		return KVT_FAULT_BYTES;
	words[(size / 2 - 1) / 8] = 0; /* the unused end of the last word */
	bytes = (uint8_t *)words;
	for (size_t i = 0; i < size; i += 2)
		bytes[i / 2] = (uint8_t)(hex_digit(text[i]) << 4 | hex_digit(text[i + 1]));
	*value = size / 2;
	return KVT_FAULT_NONE;
}

static unsigned
parse_law(const char *text, size_t size, uint64_t *value)
{
	for (unsigned law = 0; law < kvms_law_max(); law++)
		if (kvms_law_name(law) != NULL && is_text(text, size, kvms_law_name(law))) {
			*value = law;
			return KVT_FAULT_NONE;
		}
	return KVT_FAULT_IDS;
}

static unsigned
parse_part(unsigned type, const char *text, size_t size, uint64_t *value)
{
	if (type == KVMS_LAWS)
		return parse_law(text, size, value);
	if (type == KVMS_TABLE)
		return parse_table(KVMS_TABLE, text, size, value);
	if (type == PART_TRACKED) {
		*value = is_text(text, size, "tracked");
		return *value != 0 || is_text(text, size, "untracked") ? KVT_FAULT_NONE : KVT_FAULT_IDS;
	}
	return parse_u64(text, size, value);
}

/* Where the separator of the next part begins, or the end. */
static const char *
find_separator(const char *text, const char *end, const char *separator)
{
	const char *at;

	if (separator == NULL)
		return end;
	at = memmem(text, (size_t)(end - text), separator, strlen(separator));
	return at != NULL ? at : end;
}

/* One element of a list.  A missing separator is a fault of the whole element, anything else one of a part. */
static unsigned
parse_element(const struct shape *shape, const char *text, size_t size, struct kvt_words *list)
{
	const char *end = text + size;
	uint64_t *words = kvt_words_add(list, shape->parts);

	if (words == NULL)
		return KVT_FAULT_IDS;
	for (unsigned i = 0; i < shape->parts; i++) {
		const char *separator = i + 1 < shape->parts ? shape->part[i + 1].before : NULL;
		const char *part_end = find_separator(text, end, separator);
		unsigned fault;

		if (separator != NULL && part_end == end)
			return shape->part[i + 1].before[0] == '.' ? KVT_FAULT_RANGE : KVT_FAULT_IDS;
		fault = parse_part(shape->part[i].type, text, (size_t)(part_end - text), &words[i]);
		if (fault != KVT_FAULT_NONE)
			return fault;
		text = separator != NULL ? part_end + strlen(separator) : end;
	}
	return KVT_FAULT_NONE;
}

static unsigned
parse_list(enum kvms_type type, const char *text, size_t size, uint64_t *value, struct kvt_words *list)
{
	const char *end = text + size;
	unsigned fault = type == KVMS_RANGES || type == KVMS_VMALLOC ? KVT_FAULT_RANGES : KVT_FAULT_IDS;
	uint64_t count = 0;

	if (size < 2 || text[0] != '[' || end[-1] != ']')
		return fault;
	text++;
	end--;
	while (text < end || count > 0) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *element_end = comma != NULL ? comma : end;

		fault = parse_element(&shapes[type], text, (size_t)(element_end - text), list);
		if (fault != KVT_FAULT_NONE)
			return fault;
		count++;
		if (comma == NULL)
			break;
		text = comma + 1;
	}
	*value = count;
	return KVT_FAULT_NONE;
}

/* One range or a list of them.  An empty list would stand for the default: it becomes the empty range, which no store
 * takes. */
static unsigned
parse_vmalloc(const char *text, size_t size, uint64_t *value, struct kvt_words *list)
{
	if (is_text(text, size, "[]")) {
		text = "0..0";
		size = 4;
	}
	if (size > 0 && text[0] == '[')
		return parse_list(KVMS_VMALLOC, text, size, value, list);
	*value = 1;
	return parse_element(&shapes[KVMS_RANGE], text, size, list);
}

unsigned
kvt_value_parse(enum kvms_type type, const char *text, size_t size, uint64_t *value, struct kvt_words *list)
{
	uint64_t unused;

	if (type == KVMS_BYTES)
		return parse_bytes(text, size, value, list);
	if (type == KVMS_VMALLOC)
		return parse_vmalloc(text, size, value, list);
	if (type == KVMS_RANGE) {
		*value = 1;
		return parse_element(&shapes[KVMS_RANGE], text, size, list);
	}
	if (type == KVMS_LAWS && is_text(text, size, "ok")) {
		*value = 0;
		return KVT_FAULT_NONE;
	}
	if (kvms_type_is_list(type))
		return parse_list(type, text, size, value, list);
	if (type == KVMS_TABLE || type == KVMS_TABLE_ALL)
		return parse_table(type, text, size, value);
	if (type == KVMS_FLAGS)
		return parse_flags(text, size, value);
	if (type == KVMS_PROP)
		return parse_prop(text, size, value);
	if (type == KVMS_RC)
		return parse_rc(text, size, value);
	if (kvms_word_at(type, 0, &unused) != NULL)
		return parse_word(type, text, size, value);
	return parse_u64(text, size, value);
}

void
kvt_words_print(struct kvt_buffer *b, enum kvms_type type)
{
	const char *word;
	uint64_t value;

	for (unsigned i = 0; (word = kvms_word_at(type, i, &value)) != NULL; i++) {
		if (i > 0)
			kvt_putc(b, '|');
		kvt_puts(b, word);
	}
}

void
kvt_fault_print(struct kvt_buffer *b, unsigned fault)
{
	static const char *const forms[KVT_FAULT_WORD] = {
		[KVT_FAULT_U64] = "u64 (decimal or 0x hex)",
		[KVT_FAULT_IDS] = "id list [1,2,3]",
		[KVT_FAULT_RANGE] = "range START..END",
		[KVT_FAULT_RANGES] = "range list [a..b,c..d]",
		[KVT_FAULT_FLAGS] = "flags (letters of rwxad, each once, or '-')",
		[KVT_FAULT_PROP] = "property FLAGS:CACHE[+user][+global][+avail2]",
		[KVT_FAULT_SUFFIX] = "+user, +global or +avail2",
		[KVT_FAULT_BYTES] = "bytes (even number of lowercase hex digits, or -)",
		[KVT_FAULT_BYTES_MAX] = "at most 65536 bytes",
	};

	if (fault >= KVT_FAULT_WORD)
		kvt_words_print(b, (enum kvms_type)(fault - KVT_FAULT_WORD));
	else if (forms[fault] != NULL)
		kvt_puts(b, forms[fault]);
}

/* ---- Printing ----------------------------------------------------------------------- */

static void
print_flags(struct kvt_buffer *b, uint64_t flags)
{
	size_t size = b->size;

	for (unsigned i = 0; i < sizeof flag_letters - 1; i++)
		if ((flags >> i & 1) != 0)
			kvt_putc(b, flag_letters[i]);
	if (b->size == size)
		kvt_putc(b, '-');
}

static void
print_prop(struct kvt_buffer *b, uint64_t prop)
{
	print_flags(b, prop & 0x1f);
	kvt_putc(b, ':');
	kvt_print_value(b, KVMS_CACHE, prop >> KVMS_PROP_CACHE_SHIFT, NULL);
	for (size_t i = 0; i < SUFFIXES; i++)
		if ((prop & suffixes[i].bit) != 0)
			kvt_puts(b, suffixes[i].word);
}

static void
print_bytes(struct kvt_buffer *b, uint64_t count, const uint64_t *list)
{
	const uint8_t *bytes = (const uint8_t *)list;

	if (count == 0)
		kvt_putc(b, '-');
	for (uint64_t i = 0; i < count; i++) {
		char digits[2] = { "0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15] };

		kvt_put(b, digits, 2);
	}
}

static void
print_part(struct kvt_buffer *b, unsigned type, uint64_t value)
{
	const char *name;

	if (type == PART_TRACKED)
		kvt_puts(b, value != 0 ? "tracked" : "untracked");
	else if (type == KVMS_LAWS)
		kvt_puts(b, value < kvms_law_max() && (name = kvms_law_name((unsigned)value)) != NULL ? name : "?");
	else
		kvt_print_value(b, (enum kvms_type)type, value, NULL);
}

static void
print_list(struct kvt_buffer *b, enum kvms_type type, uint64_t count, const uint64_t *list)
{
	const struct shape *shape = &shapes[type];
	bool brackets = type != KVMS_RANGE && !(type == KVMS_VMALLOC && count == 1);

	if (type == KVMS_LAWS && count == 0) {
		kvt_puts(b, "ok");
		return;
	}
	if (brackets)
		kvt_putc(b, '[');
	for (uint64_t i = 0; i < count; i++) {
		if (i > 0)
			kvt_putc(b, ',');
		for (unsigned k = 0; k < shape->parts; k++) {
			kvt_puts(b, shape->part[k].before);
			print_part(b, shape->part[k].type, *list++);
		}
	}
	if (brackets)
		kvt_putc(b, ']');
}

static void
print_digest(struct kvt_buffer *b, uint64_t value)
{
	char digits[16];

	for (unsigned i = 0; i < 16; i++)
		digits[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
	kvt_puts(b, "0x");
	kvt_put(b, digits, sizeof digits);
}

void
kvt_print_value(struct kvt_buffer *b, enum kvms_type type, uint64_t value, const uint64_t *list)
{
	const char *word;

	if (type == KVMS_BYTES)
		print_bytes(b, value, list);
	else if (kvms_type_is_list(type))
		print_list(b, type, value, list);
	else if (type == KVMS_HEX)
		kvt_put_hex(b, value);
	else if (type == KVMS_DIGEST)
		print_digest(b, value);
	else if (type == KVMS_FLAGS)
		print_flags(b, value);
	else if (type == KVMS_PROP)
		print_prop(b, value);
	else if ((type == KVMS_TABLE || type == KVMS_TABLE_ALL) && value == 0)
		kvt_puts(b, "kernel");
	else if (type == KVMS_TABLE_ALL && value == UINT64_MAX)
		kvt_puts(b, "all");
	else if (type == KVMS_RC && value == KVMS_RC_UNUSED)
		kvt_puts(b, "unused");
	else if (type == KVMS_RC && value == KVMS_RC_UNIQUE)
		kvt_puts(b, "unique");
	else if ((word = kvms_word(type, value)) != NULL)
		kvt_puts(b, word);
	else
		kvt_put_dec(b, value);
}

/* ---- JSON ------------------------------------------------------------------------------ */

#define JSON_INTEGER_MAX ((UINT64_C(1) << 53) - 1)

void
kvt_json_string(struct kvt_buffer *b, const char *text, size_t size)
{
	kvt_putc(b, '"');
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			kvt_putc(b, '\\');
		if (c < 0x20 || c == 0x7f)
			kvt_putf(b, "\\u%04x", c);
		else
			kvt_putc(b, (char)c);
	}
	kvt_putc(b, '"');
}

static void
json_part(struct kvt_buffer *b, unsigned type, uint64_t value)
{
	if (type == PART_TRACKED) {
		kvt_puts(b, value != 0 ? "true" : "false");
	} else if (type == KVMS_LAWS) {
		kvt_putc(b, '"');
		print_part(b, type, value);
		kvt_putc(b, '"');
	} else {
		kvt_json_value(b, (enum kvms_type)type, value, NULL);
	}
}

static void
json_element(struct kvt_buffer *b, const struct shape *shape, const uint64_t *words)
{
	if (shape->parts == 1) {
		json_part(b, shape->part[0].type, words[0]);
		return;
	}
	for (unsigned k = 0; k < shape->parts; k++) {
		kvt_puts(b, k == 0 ? "{\"" : ",\"");
		kvt_puts(b, shape->part[k].name);
		kvt_puts(b, "\":");
		json_part(b, shape->part[k].type, words[k]);
	}
	kvt_putc(b, '}');
}

static void
json_list(struct kvt_buffer *b, enum kvms_type type, uint64_t count, const uint64_t *list)
{
	const struct shape *shape = &shapes[type];

	if (type == KVMS_RANGE && count == 1) {
		json_element(b, shape, list);
		return;
	}
	kvt_putc(b, '[');
	for (uint64_t i = 0; i < count; i++) {
		if (i > 0)
			kvt_putc(b, ',');
		json_element(b, shape, list + i * shape->parts);
	}
	kvt_putc(b, ']');
}

/* Is the canonical text of this scalar a plain decimal number? */
static bool
is_decimal(enum kvms_type type, uint64_t value)
{
	switch ((int)type) {
	case KVMS_HEX:
	case KVMS_DIGEST:
	case KVMS_FLAGS:
	case KVMS_PROP:
		return false;
	case KVMS_TABLE:
	case KVMS_TABLE_ALL:
		return value != 0 && value <= JSON_INTEGER_MAX;
	default:
		return value <= JSON_INTEGER_MAX && kvms_word(type, value) == NULL;
	}
}

void
kvt_json_value(struct kvt_buffer *b, enum kvms_type type, uint64_t value, const uint64_t *list)
{
	bool quotes;

	if (kvms_type_is_list(type) && type != KVMS_BYTES) {
		json_list(b, type, value, list);
		return;
	}
	quotes = type == KVMS_BYTES || (type != KVMS_BOOL && !is_decimal(type, value));
	if (quotes)
		kvt_putc(b, '"');
	kvt_print_value(b, type, value, list);
	if (quotes)
		kvt_putc(b, '"');
}
