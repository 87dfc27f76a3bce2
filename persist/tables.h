/*
 * tables - the records of an image as rows of the tables, and back.
 */
#ifndef PERSIST_TABLES_H
#define PERSIST_TABLES_H

#include "persist/image.h"

/* Write all records of "image" as rows of snapshot "id".  Needs an open transaction. */
enum persist_status persist_tables_write(struct persist *db, int64_t id, const struct persist_image *image,
					 const struct report *r);

/*
 * Read the rows of snapshot "id" into the records of a fresh image.
 *
 * => fails with PERSIST_REFUSED if a value is not one that we write
 */
enum persist_status persist_tables_read(struct persist *db, int64_t id, struct persist_image *image,
					const struct report *r);

/* Delete the rows of snapshot "id", its configuration too. */
enum persist_status persist_tables_drop(struct persist *db, int64_t id, const struct report *r);

#endif /* PERSIST_TABLES_H */
