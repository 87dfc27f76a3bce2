/*
 * scale - the parts of the figures of size, as Markdown on stdout.
 *
 * Each store is measured in a process of its own, which begins with none of the
 * memory of the one before.
 */
#ifndef BENCH_SCALE_H
#define BENCH_SCALE_H

#include "bench/bench.h"

#include <stdbool.h>

/* Run part(arg) in a process of its own.  What it leaves behind must be in memory from scale_shared(). */
void scale_apart(void (*part)(void *), void *arg);

/* Zeroed memory that such processes share with this one; it is never freed. */
void *scale_shared(size_t size);

/* "1,000,000"; one of a few buffers in turn. */
const char *scale_count(uint64_t n);

/* A store whose pages are mapped into areas of SCALE_AREA of them, to a frame each that the mapping holds. */
#define SCALE_AREA 512u

struct scale_store {
	struct kvms *s;
	uint64_t pages;
	uint64_t *area, *start; /* of each area: its id, its first address */
};

struct scale_store scale_store_make(uint64_t pages);

/* Host memory of this process, and what it is made of, in bytes. */
struct scale_room {
	double all, tables, metadata, rest;
};

/* As it is now, less what it was before; "s" is the store in it, NULL: none. */
struct scale_room scale_room(const struct kvms *s, const struct scale_room *before);

void scale_mappings(const struct bench_run *c);
void scale_areas(const struct bench_run *c);
void scale_memory(const struct bench_run *c);
/* Its files go into "folder". */
void scale_empty(const struct bench_run *c, const char *folder);

#endif /* BENCH_SCALE_H */
