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

/*
 * A first fit as upstream does it: free blocks by address, looked at from the
 * lowest on; one that fits is carved from its top, a freed one joins its neighbours.
 */
struct blocks {
	struct block {
		uint64_t start, end;
	} *at;
	size_t count, capacity;
};

uint64_t blocks_alloc(struct blocks *b, uint64_t size);
void blocks_free(struct blocks *b, uint64_t start, uint64_t end);

#endif /* BENCH_TABLES_H */
