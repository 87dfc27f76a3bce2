/*
 * image - a store's state as rows of numbers, independent of the store.
 *
 * It is what lies between the model, which speaks of elements, nodes and
 * extents, and the tables of a file.  One record is one row of a table: the
 * columns in the order of the table, as unsigned words.
 *
 * Law: every element of the state is in exactly one record, or follows from
 * the configuration, from node and mapping records.
 */
#ifndef PERSIST_IMAGE_H
#define PERSIST_IMAGE_H

#include "persist/db.h"

enum table {
	TABLE_FRAME,   /* paddr, pages, rc, usage, kind, meta, in_list */
	TABLE_HANDLE,  /* tag (5 frame, 6 segment, 7 unique), id, start, end */
	TABLE_AREA,    /* id, start, end, refs */
	/*
	 * vm_space, va, paddr, leaves, level, flags, cache, user, global, avail2, tracked;
	 * then nothing: paddr rises with va.  Or a list, for each place from va on the page
	 * number of its leaf, or ABSENT; paddr and leaves are then those of the list.
	 */
	TABLE_MAPPING,
	TABLE_NODE, /* paddr, level, nr_children, stray, lock, vm_space, va; the last two ABSENT if it hangs nowhere */
	TABLE_MEMORY,      /* paddr, then words up to the end of the page at most */
	TABLE_FREE_VA,     /* start, end */
	TABLE_FREE_MMIO,   /* window, start, end */
	TABLE_CPU,         /* cpu, vm_space, ipi, flush_all, then the queue */
	TABLE_CURRENT_CPU, /* cpu */
	TABLE_NEXT_ID,     /* kind, next */
	TABLE_ELEMENT,     /* tag, position, then the words after the tag */
	TABLES
};

#define MAPPING_WORDS 11u /* of a record of TABLE_MAPPING before the list */
#define MAPPING_LIST 512u /* most places in a list */

#define ABSENT UINT64_MAX /* a column that is NULL */

/* Records of one table, one behind the other, each after its number of words. */
struct rows {
	uint64_t *word;
	size_t used, capacity;
	size_t last; /* where the newest record begins */
	size_t count;
};

struct persist_image {
	struct kvms_op config;
	uint64_t *config_list;
	struct rows rows[TABLES];
	uint64_t step, digest;
	uint64_t elements; /* recorded: a run of frames counts its pages, memory its words that are not zero */
	uint64_t leaves;   /* in TABLE_MAPPING */
	bool foreign;      /* of an adopted image: TABLE_MAPPING is for readers, leaves follow from TABLE_MEMORY */
};

/* A new record of "width" words; NULL = no memory. */
uint64_t *persist_rows_add(struct rows *rows, size_t width);

/* Append a word to the newest record; false = no memory. */
bool persist_rows_extend(struct rows *rows, uint64_t word);

/* For (at = 0; (record = persist_rows_at(rows, &at, &width)) != NULL;): visit the records. */
const uint64_t *persist_rows_at(const struct rows *rows, size_t *at, size_t *width);

/* An image without records, of the default configuration; NULL = no memory. */
struct persist_image *persist_image_new(void);

/*
 * Make a store of the image.
 *
 * => gives *s, ended by kvms_free()
 * => fails with PERSIST_REFUSED (the records are no state, or not the one
 *    whose digest is in the image) and a sentence without the file's name, or
 *    PERSIST_FAILED
 */
enum persist_status persist_image_build(const struct persist_image *image, struct kvms **s, const struct report *r);

#endif /* PERSIST_IMAGE_H */
