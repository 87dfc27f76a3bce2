/*
 * gaps - where specification, kernel and model differ: the entries of
 * docs/gaps.md, which the build turns into client/gaps_rows.c.
 */
#ifndef KVMCTL_GAPS_H
#define KVMCTL_GAPS_H

#include <stdbool.h>

/* One entry.  "-" in "specification" or "kernel": says nothing about it. */
struct kvmctl_gap {
	const char *section; /* "6. Page tables" */
	const char *subject;
	const char *specification;
	const char *kernel;
	const char *model; /* what the model does, and why */
};

/* In the document's order; the last one's section is NULL. */
extern const struct kvmctl_gap kvmctl_gap_rows[];

/* True if the word occurs in the entry, in whatever case. */
bool kvmctl_gap_holds(const struct kvmctl_gap *gap, const char *word);

#endif /* KVMCTL_GAPS_H */
