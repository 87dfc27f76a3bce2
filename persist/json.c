#include "persist/json.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "trace/text.h"

struct persist_json {
	sqlite3 *sql;
	sqlite3_stmt *extract;
};

void
persist_json_close(struct persist_json **j)
{
	if (*j == NULL)
		return;
	(void)sqlite3_finalize((*j)->extract);
	(void)sqlite3_close((*j)->sql);
	free(*j);
	*j = NULL;
}

/* Is the text JSON?  It stays bound to the statement that takes values out of it. */
static bool
prepare(struct persist_json *j, const char *text, size_t size)
{
	sqlite3_stmt *valid = NULL;
	bool is_json;

	if (size > INT_MAX || sqlite3_open(":memory:", &j->sql) != SQLITE_OK)
		return false;
	if (sqlite3_prepare_v2(j->sql, "SELECT json_valid(?)", -1, &valid, NULL) != SQLITE_OK)
		return false;
	(void)sqlite3_bind_text(valid, 1, text, (int)size, SQLITE_STATIC);
	is_json = sqlite3_step(valid) == SQLITE_ROW && sqlite3_column_int(valid, 0) == 1;
	(void)sqlite3_finalize(valid);
	return is_json &&
	       sqlite3_prepare_v2(j->sql, "SELECT json_extract(?1, ?2)", -1, &j->extract, NULL) == SQLITE_OK &&
	       sqlite3_bind_text(j->extract, 1, text, (int)size, SQLITE_TRANSIENT) == SQLITE_OK;
}

struct persist_json *
persist_json_open(const char *text, size_t size)
{
	struct persist_json *j = calloc(1, sizeof *j);

	if (j != NULL && !prepare(j, text, size))
		persist_json_close(&j);
	return j;
}

bool
persist_json_text(struct persist_json *j, const char *path, char *to, size_t size)
{
	const unsigned char *text = NULL;
	bool fits = false;

	(void)sqlite3_bind_text(j->extract, 2, path, -1, SQLITE_STATIC);
	if (sqlite3_step(j->extract) == SQLITE_ROW && sqlite3_column_type(j->extract, 0) != SQLITE_NULL)
		text = sqlite3_column_text(j->extract, 0);
	if (text != NULL && strlen((const char *)text) < size) {
		memcpy(to, text, strlen((const char *)text) + 1);
		fits = true;
	}
	(void)sqlite3_reset(j->extract);
	return fits;
}

bool
persist_json_number(struct persist_json *j, const char *path, uint64_t *value)
{
	char text[64];

	return persist_json_text(j, path, text, sizeof text) && kvt_parse_u64(text, strlen(text), value);
}
