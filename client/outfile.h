/*
 * outfile - a file that is there completely or not at all.
 *
 * What is written goes to a file beside the one that is meant, which takes its
 * name when it is complete and on the disk.  Until then, and after a failure,
 * what was there stays as it was.  A process that dies half-way leaves a file
 * PATH.new-* behind.
 */
#ifndef KVMCTL_OUTFILE_H
#define KVMCTL_OUTFILE_H

#include "client/kvmctl.h"

#include <stdio.h>

/* Zero-initialise before first use. */
struct kvmctl_outfile {
	FILE *file; /* to write to */
	char *path; /* as it was meant, a link followed; NULL: standard output */
	char *beside;
	bool replace;
};

/*
 * Is there something at "path" that must not be overwritten?  Then says so.
 *
 * => force: overwrite a file; anything else that has the name is refused all the same
 */
enum kvmctl_status kvmctl_outfile_check(const char *path, bool force);

/*
 * Is there a database at "path", or one that the name is a part of (its log)?
 * Then says that it is left alone: it may be the only copy of a store, and only
 * what is a database too may replace it.
 */
enum kvmctl_status kvmctl_outfile_spare(const char *path);

/* Is "path" the file that the call reads as "from"?  Then says so: what is read would be gone. */
enum kvmctl_status kvmctl_outfile_apart(const char *path, const char *from);

/*
 * Begin a file.
 *
 * => path: "-" is standard output
 * => fails having said why; there is nothing to end then
 */
enum kvmctl_status kvmctl_outfile_open(struct kvmctl_outfile *o, const char *path, bool force);

/*
 * End the file: with "complete" it takes its name, without it is gone.
 *
 * => fails having said why, with nothing left behind
 */
enum kvmctl_status kvmctl_outfile_close(struct kvmctl_outfile *o, bool complete);

#endif /* KVMCTL_OUTFILE_H */
