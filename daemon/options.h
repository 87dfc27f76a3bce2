/*
 * options - what the command line and the configuration file say.
 */
#ifndef KVMD_OPTIONS_H
#define KVMD_OPTIONS_H

#include <limits.h>

#include "daemon/log.h"
#include "persist/writer.h"
#include "store/kvmstore.h"

struct kvmd_options {
	char listen[PATH_MAX];    /* "" = no default and none given */
	char state_dir[PATH_MAX]; /* "" = none */
	enum kvms_check check;
	uint64_t check_every;
	enum kvmd_level log_level;
	unsigned idle_timeout;  /* seconds, at least 1 */
	unsigned drain_timeout; /* seconds */
	unsigned max_connections;
	unsigned max_stores;
	unsigned keep_snapshots;
	enum persist_durability durability;
	unsigned sync_interval;  /* milliseconds */
	uint64_t snapshot_every; /* steps; 0 = not for their number */
	uint64_t snapshot_bytes; /* of the journal; 0 = not for them */
	unsigned max_wait;    /* seconds */
	unsigned max_waiting; /* opens on one store */
};

enum kvmd_parsed {
	KVMD_GO,   /* start */
	KVMD_DONE, /* --help or --version: it has been printed */
	KVMD_WRONG /* the reason has been printed to standard error */
};

/*
 * Read the command line, and the file that --config names.  The command line
 * wins over the file, the file over the defaults.
 */
enum kvmd_parsed kvmd_options_read(int argc, char **argv, struct kvmd_options *o);

#endif /* KVMD_OPTIONS_H */
