#include "client/kvmctl.h"

int
main(int argc, char **argv)
{
	return kvmctl_main(argc, argv);
}
