/*
 * bench - how fast the model is, alone and behind its socket.
 *
 *   bench RECORDING KVMSTORED
 *
 * RECORDING is the folder of a recording of a Linux kernel, KVMSTORED the
 * daemon to start.  "make bench" names both.  Prints one table; takes well
 * under a minute; ends the daemon it started and no other.
 */
#include "bench/bench.h"

#include <stdio.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "Usage: bench RECORDING KVMSTORED\n");
		return 2;
	}
	printf("kvmstore %s, %ld CPUs: medians of %u rounds (least .. largest)\n", kvms_version(),
	       sysconf(_SC_NPROCESSORS_ONLN), BENCH_ROUNDS);
	bench_areas();
	bench_whole_store();
	bench_replay(argv[1]);
	bench_socket(argv[2]);
	return 0;
}
