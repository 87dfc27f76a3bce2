/*
 * json - values out of a JSON text, by SQLite's paths: "$.cpus[0].cr3".
 */
#ifndef PERSIST_JSON_H
#define PERSIST_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct persist_json; /* opaque */

/*
 * => gives an object the caller ends with persist_json_close()
 * => fails with NULL if it is no JSON, or there is no memory
 */
struct persist_json *persist_json_open(const char *text, size_t size);
void persist_json_close(struct persist_json **j);

/* A string; false if there is none at the path, or it has no room with its NUL. */
bool persist_json_text(struct persist_json *j, const char *path, char *to, size_t size);

/* A number, or a string that is one (decimal, or 0x and hex digits). */
bool persist_json_number(struct persist_json *j, const char *path, uint64_t *value);

#endif /* PERSIST_JSON_H */
