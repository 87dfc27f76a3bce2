#include "persist/tables.h"
#include "persist/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a word of a record is written in a column. */
enum column_type {
	NUMBER,   /* INTEGER with the same 64 bits */
	OPTIONAL, /* the same, or NULL for ABSENT */
	BOOL,     /* 0 or 1 */
	COUNT_RC, /* a number, 'unused' or 'unique' */
	USAGE,    /* words of the model ... */
	KIND,
	CACHE,
	HANDLE, /* ... and of this file */
	COUNTER,
	FLAGS, /* letters */
	BYTES, /* the rest of the record: words in memory order */
	WORDS, /* the rest of the record: words in hex */
	LIST   /* the rest of the record: words as a JSON array, null for ABSENT; NULL if there are none */
};

struct column {
	const char *name;
	enum column_type type;
};

#define COLUMNS_MAX 13u

static const struct table_row {
	const char *name;
	const char *order;
	struct column columns[COLUMNS_MAX]; /* ends with a name of NULL */
} tables[TABLES] = {
	[TABLE_FRAME] = { "frame",
			  "paddr",
			  { { "paddr", NUMBER },
			    { "pages", NUMBER },
			    { "rc", COUNT_RC },
			    { "usage", USAGE },
			    { "kind", KIND },
			    { "meta", NUMBER },
			    { "in_list", NUMBER } } },
	[TABLE_HANDLE] = { "handle",
			   "kind, id",
			   { { "kind", HANDLE }, { "id", NUMBER }, { "start", NUMBER }, { "end", NUMBER } } },
	[TABLE_AREA] = { "area",
			 "id",
			 { { "id", NUMBER }, { "start", NUMBER }, { "end", NUMBER }, { "refs", NUMBER } } },
	[TABLE_MAPPING] = { "mapping",
			    "vm_space, va",
			    { { "vm_space", NUMBER },
			      { "va", NUMBER },
			      { "paddr", NUMBER },
			      { "leaves", NUMBER },
			      { "level", NUMBER },
			      { "flags", FLAGS },
			      { "cache", CACHE },
			      { "user", BOOL },
			      { "global", BOOL },
			      { "avail2", BOOL },
			      { "tracked", BOOL },
			      { "pages", LIST } } },
	[TABLE_NODE] = { "node",
			 "paddr",
			 { { "paddr", NUMBER },
			   { "level", NUMBER },
			   { "nr_children", NUMBER },
			   { "stray", BOOL },
			   { "lock", NUMBER },
			   { "vm_space", OPTIONAL },
			   { "va", OPTIONAL } } },
	[TABLE_MEMORY] = { "memory", "paddr", { { "paddr", NUMBER }, { "bytes", BYTES } } },
	[TABLE_FREE_VA] = { "free_va", "start", { { "start", NUMBER }, { "end", NUMBER } } },
	[TABLE_FREE_MMIO] = { "free_mmio",
			      "io_window, start",
			      { { "io_window", NUMBER }, { "start", NUMBER }, { "end", NUMBER } } },
	[TABLE_CPU] = { "cpu",
			"cpu",
			{ { "cpu", NUMBER },
			  { "vm_space", NUMBER },
			  { "ipi", BOOL },
			  { "flush_all", BOOL },
			  { "queue", WORDS } } },
	[TABLE_CURRENT_CPU] = { "current_cpu", "cpu", { { "cpu", NUMBER } } },
	[TABLE_NEXT_ID] = { "next_id", "kind", { { "kind", COUNTER }, { "next", NUMBER } } },
	[TABLE_ELEMENT] = { "element",
			    "tag, position",
			    { { "tag", NUMBER }, { "position", NUMBER }, { "words", WORDS } } },
};

/* ---- Words of columns that are not numbers ------------------------------------------ */

static const char *const handle_words[] = { [5] = "frame", [6] = "segment", [7] = "unique" };
static const char *const counter_words[] = {
	[KVMS_ID_FRAME] = "frame", [KVMS_ID_SEGMENT] = "segment",   [KVMS_ID_UNIQUE] = "unique",
	[KVMS_ID_LIST] = "list",   [KVMS_ID_VM_SPACE] = "vm_space", [KVMS_ID_CURSOR] = "cursor",
	[KVMS_ID_AREA] = "area",   [KVMS_ID_READER] = "reader",     [KVMS_ID_WRITER] = "writer",
	[KVMS_ID_IOMEM] = "iomem", [KVMS_ID_LIST_TAG] = "list_tag"
};
static const char letters[] = "rwxad";
static const uint64_t letter_bits[] = { KVMS_PROP_R, KVMS_PROP_W, KVMS_PROP_X, KVMS_PROP_A, KVMS_PROP_D };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The text of a word column, in static storage or in "space"; NULL = there is none. */
static const char *
word_text(enum column_type type, uint64_t value, char space[8])
{
	size_t n = 0;

	switch ((unsigned)type) {
	case USAGE:
		return kvms_word(KVMS_USAGE, value);
	case KIND:
		return kvms_word(KVMS_SLOT_KIND, value);
	case CACHE:
		return kvms_word(KVMS_CACHE, value);
	case HANDLE:
		return value < COUNT(handle_words) ? handle_words[value] : NULL;
	case COUNTER:
		return value < COUNT(counter_words) ? counter_words[value] : NULL;
	case FLAGS:
		for (unsigned i = 0; i < COUNT(letter_bits); i++)
			if ((value & letter_bits[i]) != 0)
				space[n++] = letters[i];
		if (n == 0)
			space[n++] = '-';
		space[n] = '\0';
		return space;
	default:
		return NULL;
	}
}

/* The word of a text; false = no text of that type. */
static bool
text_word(enum column_type type, const char *text, uint64_t *value)
{
	static const uint64_t limit = 32; /* above every word and every sum of flag bits */
	char space[8];

	for (*value = 0; *value < limit; (*value)++) {
		const char *each = word_text(type, *value, space);
		if (each != NULL && strcmp(each, text) == 0)
			return true;
	}
	return false;
}

/* ---- Writing ---------------------------------------------------------------------------- */

/* Words in hex, one blank between; sqlite3_free() it, NULL = no memory. */
static char *
words_print(const uint64_t *word, size_t count)
{
	sqlite3_str *out = sqlite3_str_new(NULL);

	for (size_t i = 0; i < count; i++)
		sqlite3_str_appendf(out, "%s0x%llx", i > 0 ? " " : "", (unsigned long long)word[i]);
	if (count == 0 && sqlite3_str_errcode(out) == SQLITE_OK) {
		sqlite3_free(sqlite3_str_finish(out));
		return sqlite3_mprintf("");
	}
	return sqlite3_str_finish(out);
}

/* Memory order of the machine that is modelled: little-endian. */
static unsigned char *
bytes_print(const uint64_t *word, size_t count)
{
	unsigned char *bytes = sqlite3_malloc64(8 * count + 1);

	for (size_t i = 0; bytes != NULL && i < 8 * count; i++)
		bytes[i] = (unsigned char)(word[i / 8] >> 8 * (i % 8));
	return bytes;
}

/* The decimal digits of a number; gives the place behind them. */
static char *
decimal(char *to, uint64_t number)
{
	char digits[20];
	unsigned n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	while (n > 0)
		*to++ = digits[--n];
	return to;
}

/* "[12,null,7]" */
static char *
list_print(const uint64_t *word, size_t count)
{
	char *text = sqlite3_malloc64(21 * count + 3), *to = text;

	if (text == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		*to++ = i == 0 ? '[' : ',';
		to = word[i] == ABSENT ? (char *)memcpy(to, "null", 4) + 4 : decimal(to, word[i]);
	}
	memcpy(to, "]", 2);
	return text;
}

static int
bind_rest(sqlite3_stmt *statement, int at, enum column_type type, const uint64_t *word, size_t count)
{
	if (type == LIST && count == 0)
		return sqlite3_bind_null(statement, at);
	if (type == WORDS || type == LIST) {
		char *text = type == WORDS ? words_print(word, count) : list_print(word, count);
		return text == NULL ? SQLITE_NOMEM : sqlite3_bind_text(statement, at, text, -1, sqlite3_free);
	}
	unsigned char *bytes = bytes_print(word, count);
	return bytes == NULL ? SQLITE_NOMEM : sqlite3_bind_blob64(statement, at, bytes, 8 * count, sqlite3_free);
}

static int
bind_word(sqlite3_stmt *statement, int at, enum column_type type, uint64_t value)
{
	char space[8];
	const char *text = word_text(type, value, space);

	if (type == COUNT_RC && value == KVMS_RC_UNUSED)
		text = "unused";
	if (type == COUNT_RC && value == KVMS_RC_UNIQUE)
		text = "unique";
	if (text != NULL)
		return sqlite3_bind_text(statement, at, text, -1, text == space ? SQLITE_TRANSIENT : SQLITE_STATIC);
	if (type == OPTIONAL && value == ABSENT)
		return sqlite3_bind_null(statement, at);
	return sqlite3_bind_int64(statement, at, (int64_t)value);
}

/* Bind the columns of one record; the snapshot's id is parameter 1 already. */
static int
bind_record(sqlite3_stmt *statement, const struct column *column, const uint64_t *record, size_t width)
{
	int code = SQLITE_OK;

	for (unsigned i = 0; column[i].name != NULL && code == SQLITE_OK; i++) {
		if (column[i].type >= BYTES)
			code = bind_rest(statement, (int)i + 2, column[i].type, record + i, width - i);
		else
			code = bind_word(statement, (int)i + 2, column[i].type, record[i]);
	}
	return code;
}

/* "a, b, c" of a table's columns, or as many "?"; sqlite3_free() it, NULL = no memory. */
static char *
column_names(const struct persist *db, const struct table_row *table, bool marks)
{
	sqlite3_str *out = sqlite3_str_new(NULL);

	for (unsigned i = 0; table->columns[i].name != NULL; i++) {
		/* an older file, for reading only, has no such column */
		bool there = table->columns[i].type != LIST || db->version >= PERSIST_FORMAT_LISTS;

		sqlite3_str_appendf(out, "%s%s", i > 0 ? ", " : "", marks ? "?" : there ? table->columns[i].name : "NULL");
	}
	return sqlite3_str_finish(out);
}

static enum persist_status
table_write(struct persist *db, int64_t id, const struct table_row *table, const struct rows *rows,
	    const struct report *r)
{
	sqlite3_stmt *statement = NULL;
	const uint64_t *record;
	size_t at = 0, width;
	char *names = column_names(db, table, false), *marks = column_names(db, table, true);

	enum persist_status status =
	    names == NULL || marks == NULL
		? persist_db_status(db, SQLITE_NOMEM, r)
		: persist_db_prepare(db, &statement, r, "INSERT INTO %s(snapshot, %s) VALUES(?, %s)", table->name,
				     names, marks);
	sqlite3_free(names);
	sqlite3_free(marks);
	if (status == PERSIST_OK)
		(void)sqlite3_bind_int64(statement, 1, id);
	while (status == PERSIST_OK && (record = persist_rows_at(rows, &at, &width)) != NULL) {
		int code = bind_record(statement, table->columns, record, width);
		status = code == SQLITE_OK ? persist_db_run(db, statement, r) : persist_db_status(db, code, r);
		if (status == PERSIST_OK)
			status = persist_db_wrote(db, 1 + (unsigned)width / 16, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

enum persist_status
persist_tables_write(struct persist *db, int64_t id, const struct persist_image *image, const struct report *r)
{
	enum persist_status status = PERSIST_OK;

	for (unsigned t = 0; t < TABLES && status == PERSIST_OK; t++)
		status = table_write(db, id, &tables[t], &image->rows[t], r);
	return status;
}

/* ---- Reading ------------------------------------------------------------------------------ */

/*
 * What a column gave: a word of the record, or that it is not what we write.
 * The text must be whole: a NUL inside it would hide the rest.
 */
enum read { READ, STRANGE, READ_NOMEM };

static const char *
column_string(sqlite3_stmt *statement, int at)
{
	if (sqlite3_column_type(statement, at) != SQLITE_TEXT)
		return NULL;
	const char *text = (const char *)sqlite3_column_text(statement, at);
	return text != NULL && strlen(text) == (size_t)sqlite3_column_bytes(statement, at) ? text : NULL;
}

static enum read
read_words(struct rows *rows, const char *text)
{
	char *end;

	while (*text != '\0') {
		if (strncmp(text, "0x", 2) != 0 || strspn(text + 2, "0123456789abcdef") - 1 > 15)
			return STRANGE;
		if (!persist_rows_extend(rows, strtoull(text + 2, &end, 16)))
			return READ_NOMEM;
		text = *end == ' ' && end[1] != '\0' ? end + 1 : end;
		if (text == end && *end != '\0')
			return STRANGE;
	}
	return READ;
}

/* A value of a list behind "at"; NULL = there is none of ours. */
static const char *
read_value(const char *at, uint64_t *word)
{
	const char *from = at;

	if (strncmp(at, "null", 4) == 0) {
		*word = ABSENT;
		return at + 4;
	}
	for (*word = 0; *at >= '0' && *at <= '9' && at - from < 19; at++)
		*word = *word * 10 + (uint64_t)(*at - '0');
	return at == from || (*from == '0' && at - from > 1) ? NULL : at;
}

static enum read
read_list(struct rows *rows, const char *text)
{
	uint64_t word;

	if (*text != '[')
		return STRANGE;
	do {
		text = read_value(text + 1, &word);
		if (text == NULL || (*text != ',' && *text != ']'))
			return STRANGE;
		if (!persist_rows_extend(rows, word))
			return READ_NOMEM;
	} while (*text == ',');
	return text[1] == '\0' ? READ : STRANGE;
}

static enum read
read_bytes(struct rows *rows, sqlite3_stmt *statement, int at)
{
	const unsigned char *bytes = sqlite3_column_blob(statement, at);
	size_t count = (size_t)sqlite3_column_bytes(statement, at);

	if (sqlite3_column_type(statement, at) != SQLITE_BLOB || count == 0 || count % 8 != 0 || bytes == NULL)
		return STRANGE;
	for (size_t i = 0; i < count; i += 8) {
		uint64_t word = 0;
		for (unsigned k = 0; k < 8; k++)
			word |= (uint64_t)bytes[i + k] << 8 * k;
		if (!persist_rows_extend(rows, word))
			return READ_NOMEM;
	}
	return READ;
}

static enum read
read_number(sqlite3_stmt *statement, int at, enum column_type type, uint64_t *value)
{
	int found = sqlite3_column_type(statement, at);

	*value = (uint64_t)sqlite3_column_int64(statement, at);
	if (type == OPTIONAL && found == SQLITE_NULL)
		*value = ABSENT;
	else if (found != SQLITE_INTEGER)
		return STRANGE;
	return type == BOOL && *value > 1 ? STRANGE : READ;
}

/* One column into the newest record. */
static enum read
read_column(struct rows *rows, sqlite3_stmt *statement, int at, enum column_type type)
{
	const char *text = column_string(statement, at);
	uint64_t value = 0;
	enum read read = READ;

	if (type == LIST && sqlite3_column_type(statement, at) == SQLITE_NULL)
		return READ;
	if (type == WORDS || type == LIST)
		return text == NULL ? STRANGE : type == WORDS ? read_words(rows, text) : read_list(rows, text);
	if (type == BYTES)
		return read_bytes(rows, statement, at);
	if (type == NUMBER || type == OPTIONAL || type == BOOL || (type == COUNT_RC && text == NULL))
		read = read_number(statement, at, type, &value);
	else if (text == NULL)
		read = STRANGE;
	else if (type == COUNT_RC && (strcmp(text, "unused") == 0 || strcmp(text, "unique") == 0))
		value = text[2] == 'u' ? KVMS_RC_UNUSED : KVMS_RC_UNIQUE;
	else if (type == COUNT_RC || !text_word(type, text, &value))
		read = STRANGE;
	if (read != READ)
		return read;
	return persist_rows_extend(rows, value) ? READ : READ_NOMEM;
}

/* The row that the statement is at, as a new record. */
static enum persist_status
read_row(struct persist *db, sqlite3_stmt *statement, const struct table_row *table, struct rows *rows,
	 const struct report *r)
{
	enum read read = persist_rows_add(rows, 0) != NULL ? READ : READ_NOMEM;
	unsigned i = 0;

	for (; table->columns[i].name != NULL && read == READ; i++)
		read = read_column(rows, statement, (int)i, table->columns[i].type);
	if (read == STRANGE)
		return persist_db_damaged(db, r, "table %s, column %s holds a value that kvmstore does not write",
					  table->name, table->columns[i - 1].name);
	return read == READ ? PERSIST_OK : persist_db_status(db, SQLITE_NOMEM, r);
}

static enum persist_status
table_read(struct persist *db, int64_t id, const struct table_row *table, struct rows *rows, const struct report *r)
{
	sqlite3_stmt *statement = NULL;
	bool row;
	char *names = column_names(db, table, false);

	enum persist_status status =
	    names == NULL ? persist_db_status(db, SQLITE_NOMEM, r)
			  : persist_db_prepare(db, &statement, r, "SELECT %s FROM %s WHERE snapshot = ? ORDER BY %s",
					       names, table->name, table->order);
	sqlite3_free(names);
	if (status == PERSIST_OK)
		(void)sqlite3_bind_int64(statement, 1, id);
	while (status == PERSIST_OK) {
		status = persist_db_step(db, statement, &row, r);
		if (status != PERSIST_OK || !row)
			break;
		status = read_row(db, statement, table, rows, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

enum persist_status
persist_tables_read(struct persist *db, int64_t id, struct persist_image *image, const struct report *r)
{
	enum persist_status status = PERSIST_OK;

	for (unsigned t = 0; t < TABLES && status == PERSIST_OK; t++)
		if (t != TABLE_MAPPING || !image->foreign) /* for readers; they follow from memory */
			status = table_read(db, id, &tables[t], &image->rows[t], r);
	return status;
}

/* ---- Dropping ------------------------------------------------------------------------------- */

static enum persist_status
rows_drop(struct persist *db, int64_t id, const char *table, const struct report *r)
{
	sqlite3_stmt *statement;

	enum persist_status status = persist_db_prepare(db, &statement, r, "DELETE FROM %s WHERE snapshot = ?", table);
	if (status == PERSIST_OK) {
		(void)sqlite3_bind_int64(statement, 1, id);
		status = persist_db_run(db, statement, r);
	}
	(void)sqlite3_finalize(statement);
	return status;
}

enum persist_status
persist_tables_drop(struct persist *db, int64_t id, const struct report *r)
{
	enum persist_status status = rows_drop(db, id, "configuration", r);

	for (unsigned t = 0; t < TABLES && status == PERSIST_OK; t++) {
		status = rows_drop(db, id, tables[t].name, r);
		if (status == PERSIST_OK)
			status = persist_db_wrote(db, (unsigned)sqlite3_changes(db->sql), r);
	}
	return status;
}
