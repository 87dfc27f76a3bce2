#include "persist/row.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRIME UINT64_C(0x100000001b3)

/* FNV-1a, the end of the text included. */
uint64_t
persist_seal_text(uint64_t h, const char *text)
{
	do {
		h = (h ^ (unsigned char)*text) * PRIME;
	} while (*text++ != '\0');
	return h;
}

uint64_t
persist_seal_number(uint64_t h, uint64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRIu64, number);
	return persist_seal_text(h, text);
}

/* Eight bytes at a time, little-endian, the last ones filled up with zeros; then the size. */
uint64_t
persist_seal_bytes(uint64_t h, const void *bytes, size_t size)
{
	const unsigned char *at = bytes;

	for (size_t left = size; left > 0;) {
		size_t n = left < 8 ? left : 8;
		uint64_t word = 0;

		for (size_t i = 0; i < n; i++)
			word |= (uint64_t)at[i] << 8 * i;
		h = (h ^ word) * PRIME;
		h ^= h >> 32;
		at += n;
		left -= n;
	}
	return persist_seal_number(h, size);
}

bool
persist_column_copy(sqlite3_stmt *statement, int at, char *to, size_t size)
{
	if (sqlite3_column_type(statement, at) != SQLITE_TEXT)
		return false;
	const char *text = (const char *)sqlite3_column_text(statement, at);
	if (text == NULL || strlen(text) != (size_t)sqlite3_column_bytes(statement, at) || strlen(text) >= size)
		return false;
	memcpy(to, text, strlen(text) + 1);
	return true;
}

bool
persist_column_number(sqlite3_stmt *statement, int at, uint64_t *number)
{
	*number = (uint64_t)sqlite3_column_int64(statement, at);
	return sqlite3_column_type(statement, at) == SQLITE_INTEGER;
}

bool
persist_digest_read(const char *text, uint64_t *digest)
{
	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return false;
	*digest = strtoull(text, NULL, 16);
	return true;
}
