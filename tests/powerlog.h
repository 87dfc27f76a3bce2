/*
 * powerlog - what a process wrote into one directory, and when it was told
 * that it is on the disk.
 *
 * tests/powerloss.c, loaded before the C library, appends records to a file;
 * the test appends its own between them.  From any beginning of that file
 * follows what the disk must hold if the power fails there: what was forced to
 * it, and of the rest whatever it likes.
 */
#ifndef TESTS_POWERLOG_H
#define TESTS_POWERLOG_H

#include <stdint.h>

#define POWERLOG_DIR "KVMS_POWER_DIR" /* the directory, as the process names it */
#define POWERLOG_FILE "KVMS_POWER_LOG"

enum powerlog_type {
	POWERLOG_MADE = 1,  /* name, inode: a new file */
	POWERLOG_WRITE,     /* inode, offset, bytes */
	POWERLOG_TRUNCATE,  /* inode, offset = the new size */
	POWERLOG_SYNC,      /* inode: all that was written before is on the disk */
	POWERLOG_SYNC_DIR,  /* so are the names */
	POWERLOG_RENAME,    /* name, bytes = the new name */
	POWERLOG_UNLINK,    /* name */
	POWERLOG_ANSWERED   /* by the test: offset = the step */
};

/* A record; the name and the bytes follow it. */
struct powerlog {
	uint32_t type;
	uint32_t name_size;
	uint64_t inode;
	uint64_t offset;
	uint64_t size; /* of the bytes */
};

#endif /* TESTS_POWERLOG_H */
