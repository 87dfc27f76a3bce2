/*
 * row - values of a row, and the checksum over them.
 *
 * SQLite notices a page that makes no sense, but not a digit that changed.  A
 * row whose values nothing else protects ends with a seal over all of them.
 */
#ifndef PERSIST_ROW_H
#define PERSIST_ROW_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Seals: begin with PERSIST_SEAL, add each value, print 16 hex digits ---- */

#define PERSIST_SEAL UINT64_C(0xcbf29ce484222325)

uint64_t persist_seal_text(uint64_t h, const char *text);
uint64_t persist_seal_number(uint64_t h, uint64_t number);
uint64_t persist_seal_bytes(uint64_t h, const void *bytes, size_t size);

/* ---- Columns; false = not what we write -------------------------------------- */

/* A text of less than "size" bytes. */
bool persist_column_copy(sqlite3_stmt *statement, int at, char *to, size_t size);

bool persist_column_number(sqlite3_stmt *statement, int at, uint64_t *number);

/* Exactly 16 hex digits. */
bool persist_digest_read(const char *text, uint64_t *digest);

#endif /* PERSIST_ROW_H */
