/*
 * output - where the result of a command goes: --output, or standard output.
 *
 * What becomes longer with time is written to its place at once; what must be
 * there completely or not at all is an outfile (client/outfile.h).
 */
#ifndef KVMCTL_OUTPUT_H
#define KVMCTL_OUTPUT_H

#include "client/kvmctl.h"

#include <stdbool.h>
#include <stdio.h>

struct kvmctl_output {
	const char *path; /* NULL: standard output */
	FILE *file;
	bool is_new; /* there was no such file before */
};

/* What was in the file stays until something is written: a call that fails early destroys nothing. */
enum kvmctl_status kvmctl_output_open(struct kvmctl_output *o, const char *path);

/* End the output; "written": all of it is there. */
enum kvmctl_status kvmctl_output_close(struct kvmctl_output *o, bool written);

#endif /* KVMCTL_OUTPUT_H */
