#include "daemon/lock.h"

#include <sys/file.h>
#include <unistd.h>

bool
kvmd_lock(int fd)
{
	for (unsigned ms = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; ms++) {
		if (ms == KVMD_LOCK_MS)
			return false;
		usleep(1000);
	}
	return true;
}
