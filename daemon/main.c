/* kvmstored; everything is in daemon.c and below, where tests reach it. */
#include "daemon/daemon.h"

int
main(int argc, char **argv)
{
	return kvmd_main(argc, argv);
}
