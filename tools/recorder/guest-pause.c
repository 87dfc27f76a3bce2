/*
 * guest-pause - hold the recorded machine still while its memory is dumped.
 *
 *	guest-pause NUMBER FOLDER
 *
 * Runs inside the guest.  Takes the kernel's listings, marks the trace, tells
 * the host over the second serial port and spins until the host answers.  All
 * of that happens at real-time priority on the only CPU, so nothing else runs
 * between the listing and the dump: both show the same instant.  The listings
 * are written to FOLDER/snap-NUMBER afterwards.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define LISTING_MAX (1 << 20)

static const char *const listings[] = { "vmallocinfo", "iomem", "modules", "meminfo" };
#define LISTINGS (sizeof listings / sizeof listings[0])

static char text[LISTINGS][LISTING_MAX];
static size_t length[LISTINGS];
static int trace = -1;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
mark(const char *name, const char *when, const char *number)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%s%s-%s\n", name, number, when);

	if (write(trace, line, (size_t)n) != n)
		die("trace_marker");
}

static void
take(size_t i)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "/proc/%s", listings[i]);
	fd = open(path, O_RDONLY);
	length[i] = 0;
	if (fd < 0)
		die(path);
	while ((got = read(fd, text[i] + length[i], LISTING_MAX - length[i])) > 0)
		length[i] += (size_t)got;
	close(fd);
}

static void
keep(const char *folder, const char *number, size_t i)
{
	char path[256];
	int fd;

	snprintf(path, sizeof path, "%s/snap-%s", folder, number);
	mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/snap-%s/%s", folder, number, listings[i]);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text[i], length[i]) != (ssize_t)length[i])
		die(path);
	close(fd);
}

/* The second serial port, without echo and line editing. */
static int
port_open(void)
{
	int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_NONBLOCK);
	struct termios t;

	if (port < 0 || tcgetattr(port, &t) != 0)
		die("/dev/ttyS1");
	cfmakeraw(&t);
	tcsetattr(port, TCSANOW, &t);
	return port;
}

int
main(int argc, char **argv)
{
	struct sched_param first = { .sched_priority = 99 };
	char line[64], answer = 0;
	int port, n;

	if (argc != 3)
		return 2;
	mlockall(MCL_CURRENT | MCL_FUTURE);
	trace = open("/sys/kernel/tracing/trace_marker", O_WRONLY);
	if (trace < 0)
		die("trace_marker");
	port = port_open();
	for (size_t i = 0; i < LISTINGS; i++)
		take(i); /* once for nothing: what reading allocates is there now */
	usleep(500000);
	if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
		die("sched_setscheduler");
	mark("SYNC", "begin", argv[1]);
	for (size_t i = 0; i < LISTINGS; i++)
		take(i);
	mark("DUMP", "before", argv[1]);
	n = snprintf(line, sizeof line, "SYNC %s\n", argv[1]);
	if (write(port, line, (size_t)n) != n)
		die("/dev/ttyS1");
	while (read(port, &answer, 1) != 1 || answer != 'g')
		;
	mark("DUMP", "after", argv[1]);
	first.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &first);
	mark("SYNC", "end", argv[1]);
	for (size_t i = 0; i < LISTINGS; i++)
		keep(argv[2], argv[1], i);
	return 0;
}
