/*
 * durable - what it costs to keep what was done, beside Redis.
 *
 *   durable KVMSTORED FOLDER [writes | snapshots | journal]
 *
 * The last argument asks for one part; all of them is the default.  FOLDER must
 * be on a disk; all files go into a temporary folder in it.
 * Prints Markdown.  bench/run calls it and says on which machine it ran.
 * With BENCH_QUICK=1 in the environment it only shows that everything works.
 */
#include "bench/durable.h"

#include <stdio.h>
#include <string.h>

int
main(int argc, char **argv)
{
	struct bench_run d = { .quick = false };

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "Usage: durable KVMSTORED FOLDER [writes | snapshots | journal]\n");
		return 2;
	}
	d.quick = bench_quick();
	d.kvmstored = argv[1];
	d.rounds = d.quick ? 1 : 5;
	peer_folder(argv[2]);
	printf("Medians of %u rounds (least .. largest).\n", d.rounds);
	if (argc == 3 || strcmp(argv[3], "writes") == 0)
		durable_writes(&d);
	if (argc == 3 || strcmp(argv[3], "snapshots") == 0)
		durable_snapshots(&d);
	if (argc == 3 || strcmp(argv[3], "journal") == 0)
		durable_journal(&d);
	return 0;
}
