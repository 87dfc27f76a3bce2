/*
 * plain - a script with smaller and plainer arguments, as long as somebody
 * agrees to each.
 *
 * Configuration keys become defaults; addresses that lie close together slide
 * down together; numbers become smaller, lists shorter, words and properties
 * the usual ones, ids those of something made earlier.  A step that only moved
 * a cursor goes, if another one can begin where it led; and of two objects one
 * goes, if the other can stand in for it.  Each change makes something smaller
 * in one fixed order, so it ends.
 */
#ifndef KVT_PLAIN_H
#define KVT_PLAIN_H

#include "trace/script.h"

#include <stdbool.h>
#include <stdint.h>

/* Zero-initialise, fill in the first part; kvt_plain_free() ends it. */
struct kvt_plain {
	const struct kvt_script *now; /* what there is; try() changes it, if it agrees */
	bool keep_recorded; /* arguments of steps whose recorded outcome differs stay, but for addresses that slide */
	void *arg;
	/* drop: steps of "script" to leave out, by index */
	bool (*try)(void *arg, const struct kvt_script *script, const unsigned char *drop);

	bool failed; /* no memory */
	struct kvt_script edit;
	unsigned char *drop;
	size_t drop_capacity;
	struct kvt_words list;
	uint64_t *values; /* addresses in the script, ascending */
	size_t values_count, values_capacity;
};

/* Try every change once.  True: somebody agreed to one. */
bool kvt_plainer(struct kvt_plain *p);
void kvt_plain_free(struct kvt_plain *p);

#endif /* KVT_PLAIN_H */
