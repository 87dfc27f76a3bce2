/*
 * listing - what a real system says of its mappings, as text: read and printed.
 *
 * A form is one sort of listing.  All become the same: items, each a range of
 * addresses with what the form tells of it.
 *
 *   form         one line is                        tells
 *   qemu-tlb     "info tlb": a leaf                 frame, size, w x u g, a d, cache
 *   qemu-mem     "info mem": a range                x86: w u; riscv: frame, r w x u g, a d
 *   vmallocinfo  /proc/vmallocinfo: an area         nothing else
 *   maps         /proc/PID/maps: a range            r w x
 *   pagemap      a page, as kvmctl(1) documents it  frame
 *   leaves       va,pa,size,entry,flags: a leaf     frame, size, r w x u g, a d, x86: cache
 *   ptdump       the kernel's own; printed only
 *
 * Law: what was printed reads back to the same items.
 */
#ifndef KVT_LISTING_H
#define KVT_LISTING_H

#include "trace/input.h"
#include "trace/target.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum kvt_form { KVT_QEMU_TLB, KVT_QEMU_MEM, KVT_VMALLOCINFO, KVT_MAPS, KVT_PAGEMAP, KVT_LEAVES, KVT_PTDUMP, KVT_FORMS };

/* Its name, or NULL past the end; the form of a name, or KVT_FORMS. */
const char *kvt_form_name(enum kvt_form form);
enum kvt_form kvt_form_find(const char *name);

/* What may be told of an item beside its addresses: a set of 1 << KVT_ASPECT_*. */
enum kvt_aspect {
	KVT_ASPECT_FRAME,
	KVT_ASPECT_SIZE, /* of a leaf */
	KVT_ASPECT_READ,
	KVT_ASPECT_WRITE,
	KVT_ASPECT_EXECUTE,
	KVT_ASPECT_USER,
	KVT_ASPECT_GLOBAL,
	KVT_ASPECT_ACCESSED,
	KVT_ASPECT_DIRTY,
	KVT_ASPECT_CACHE,
	KVT_ASPECTS
};

const char *kvt_aspect_name(enum kvt_aspect aspect);
/* The set that names joined by commas stand for; false if one is none, with *bad at it. */
bool kvt_aspects_parse(const char *text, unsigned *set, const char **bad);
/* Those that are compared unless something else is said. */
#define KVT_ASPECTS_USUAL                                                                                              \
	(~(1u << KVT_ASPECT_ACCESSED | 1u << KVT_ASPECT_DIRTY | 1u << KVT_ASPECT_CACHE) & ((1u << KVT_ASPECTS) - 1))

/* Addresses [start, last]: a leaf, several alike, or an area. */
struct kvt_item {
	uint64_t start, last;
	uint64_t paddr; /* of start; the others follow */
	uint64_t prop;  /* KVMS_PROP_* */
	uint64_t size;  /* of a leaf; 0: not known */
	uint64_t id;    /* store: of the area; listing: number of the line */
	bool unsure;    /* the size may be another one */
	bool tracked;   /* store */
};

/* Items by address, none over another.  Zero-initialise; kvt_items_free() ends them. */
struct kvt_items {
	struct kvt_item *at;
	size_t count, capacity;
	unsigned told;     /* set of aspects */
	uint64_t unpurged; /* lines of areas that are freed already */
	bool failed;       /* no memory */
};

void kvt_items_free(struct kvt_items *l);
void kvt_items_add(struct kvt_items *l, const struct kvt_item *item);

/*
 * Read a listing.
 *
 * => fails with false and a sentence in "error", with file, line and column:
 *    no line of the form, items over each other, no memory
 */
bool kvt_listing_read(struct kvt_items *l, enum kvt_form form, struct kvt_input *in, char *error, size_t error_size);

/* Is a page property present to the hardware?  On x86 an entry without r is not. */
bool kvt_is_present(const struct kvms_op *config, uint64_t prop);

/*
 * The leaves of a table that lie in [first, last] in part or whole, as runs,
 * cut at first and last; those that are not present to the hardware left out.
 */
enum kvt_status kvt_items_of_table(struct kvt_items *l, struct kvt_target *t, uint64_t table, uint64_t first,
				   uint64_t last);

/* The areas of a store by address. */
enum kvt_status kvt_items_of_areas(struct kvt_items *l, struct kvt_target *t);

/*
 * Print a table of a store, or its areas, in a form.
 *
 * => fails with a status; KVT_INVALID: the form has no way to tell it, or there
 *    is no such table; "error" has the words in that case, else the target has
 */
enum kvt_status kvt_listing_print(enum kvt_form form, struct kvt_target *t, uint64_t table, FILE *out, char *error,
				  size_t error_size);

#endif /* KVT_LISTING_H */
