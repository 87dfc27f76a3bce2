/*
 * elements - everything a state is made of, sorted, so that two states can be
 * compared.
 *
 * An element is a tag, key words and field words, as the digest defines them
 * (kvms_visit()), with these differences: of page-table nodes there is also
 * where they hang; slots of page-table nodes and words of their pages are left
 * out, since nodes and leaves tell the same; of other memory there is one
 * element for each page that is not zero: its number and a sum over its words.
 */
#ifndef KVMCTL_ELEMENTS_H
#define KVMCTL_ELEMENTS_H

#include "store/kvmstore.h"
#include "trace/value.h"

/* One sort of element. */
struct kvmctl_element_kind {
	unsigned tag;
	const char *name; /* of the list of them in JSON, and with blanks for people */
	unsigned keys;    /* of the fields, the first are the key */
	unsigned pages;   /* the key counts pages: neighbours that change alike become one range */
	unsigned alike;   /* of the fields, so many must be the same in neighbours */
	bool has_rest;    /* further words follow, as many as there are */
	struct {
		const char *name; /* "": not worth telling */
		enum kvms_type type;
	} field[10];
	unsigned fields;
};

/* The rows, in the order in which people want to read them; NULL past the end. */
const struct kvmctl_element_kind *kvmctl_element_kind(unsigned index);

/* The elements of a state.  Zero-initialise; kvmctl_elements_free() ends them. */
struct kvmctl_elements {
	struct kvt_words words; /* of each element: how many words, then tag, keys, fields */
	size_t *at;             /* where each begins, sorted by tag and key */
	size_t count, capacity;
	bool failed; /* no memory */
};

void kvmctl_elements_gather(struct kvmctl_elements *e, struct kvms *s);
void kvmctl_elements_free(struct kvmctl_elements *e);

/*
 * An element that is in one state only, or in both with other fields.
 *
 * => before, after: words behind the tag; NULL: not there
 * => pages: so many neighbours changed alike, with keys that rise by one
 */
struct kvmctl_element_change {
	const struct kvmctl_element_kind *kind;
	const uint64_t *before, *after;
	size_t before_words, after_words;
	uint64_t pages;
};

typedef void kvmctl_element_visitor(void *arg, const struct kvmctl_element_change *change);

/* Visit what differs in elements of one kind, by key. */
void kvmctl_elements_compare(const struct kvmctl_elements *before, const struct kvmctl_elements *after,
			     const struct kvmctl_element_kind *kind, kvmctl_element_visitor *visit, void *arg);

#endif /* KVMCTL_ELEMENTS_H */
