/*
 * tables - what could keep addresses instead of page tables: each maps a page
 * number to an address.
 */
#ifndef BENCH_TABLES_H
#define BENCH_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
	const char *name;
	void *(*make)(void);
	void (*put)(void *t, uint64_t page, uint64_t value);
	bool (*get)(void *t, uint64_t page, uint64_t *value);
	void (*drop)(void *t, uint64_t page);
	void (*end)(void *t);
};

/* Those that this program was built with; the last has no name. */
extern const struct table bench_tables[];

#endif /* BENCH_TABLES_H */
