/*
 * The disk is full, or a file may grow no further: writes are refused with the
 * reason, reads go on, and when there is room again so do writes, without a
 * new start.  Nothing that was answered is lost.
 */
#include "tests/daemon_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(disk, .init = dk_enter, .fini = dk_leave, .timeout = 300);

static struct dk_load load;

/* ---- Who looks on -------------------------------------------------------------------------- */

/*
 * While our own connection waits for its answer: wait until the daemon says
 * that it takes no writes; it refuses one, answers questions, and goes on once
 * "mend" has been run.
 */
static const char onlooker[] = "set -u\n"
			       "ctl() { timeout 20 \"${KVMCTL:-./kvmctl}\" --connect \"$SOCKET\" \"$@\" 2>&1; }\n"
			       "fail() { echo \"onlooker: $*\" >&2; kill -KILL $DAEMON; exit 1; }\n"
			       "n=0\n"
			       "until ctl status | grep -q 'no store takes writes'; do\n"
			       "	n=$((n + 1)); [ $n -lt 200 ] || fail 'writing does not fail'\n"
			       "	sleep 0.1\n"
			       "done\n"
			       "before=$(ctl digest) || fail \"no answer: $before\"\n"
			       "said=$(ctl exec frame_alloc) && fail \"a write was taken: $said\"\n"
			       "echo \"$said\" | grep -q \"$REASON\" || fail \"no clear reason: $said\"\n"
			       "[ \"$(ctl digest)\" = \"$before\" ] || fail 'a refused write changed the store'\n"
			       "ctl census > /dev/null || fail 'questions are not answered'\n"
			       "said=$(ctl store create new) && fail \"a store was made: $said\"\n"
			       "eval \"$MEND\"\n"
			       "n=0\n"
			       "until said=$(ctl exec frame_alloc); do\n"
			       "	n=$((n + 1)); [ $n -lt 200 ] || fail \"writes do not go on: $said\"\n"
			       "	sleep 0.1\n"
			       "done\n";

static pid_t
look_on(pid_t daemon, const char *reason, const char *mend)
{
	char number[24];
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(number, sizeof number, "%ld", (long)daemon);
	setenv("SOCKET", dk_socket, 1);
	setenv("DAEMON", number, 1);
	setenv("REASON", reason, 1);
	setenv("MEND", mend, 1);
	execl("/bin/sh", "sh", "-c", onlooker, (char *)NULL);
	_exit(127);
}

/* Steps until "pid" has ended well; those that are refused meanwhile did not happen. */
static unsigned
run_beside(pid_t pid, unsigned window)
{
	unsigned refused = 0;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (dk_load_turn(&load, window))
			continue;
		cr_assert(load.refused, "%s", load.why);
		cr_assert_not_null(strstr(load.why, "takes no writes for now, and nothing changed"), "%s", load.why);
		/* all that was sent behind it came too late as well */
		uint64_t answered = load.answered;
		while (kvmctl_pending(load.c) > 0) {
			refused++;
			cr_assert(!dk_load_finish(&load), "a step was taken behind one that was refused");
			cr_assert(load.refused);
		}
		cr_assert_eq(load.answered, answered);
		usleep(20000);
		dk_load_resume(&load, answered);
		cr_assert_eq(load.answered, answered);
	}
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the onlooker: %d", status);
	return refused;
}

static void
steps(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cr_assert(dk_load_turn(&load, 20), "%s", load.why);
	cr_assert(dk_load_finish(&load), "%s", load.why);
}

/* ---- A small disk ---------------------------------------------------------------------------- */

#define DISK_OPTIONS "size=6m"

/* A file system of our own for the state directory, seen by this test only.  False: not allowed to. */
static bool
small_disk(void)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return false;
	cr_assert_eq(mkdir(dk_state, 0700), 0);
	return mount("kvmstore-test", dk_state, "tmpfs", 0, DISK_OPTIONS) == 0;
}

/* Fill all of it but "left" bytes. */
static void
fill(size_t left)
{
	static char block[4096];
	char path[128];

	snprintf(path, sizeof path, "%s/filler", dk_state);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	cr_assert_geq(fd, 0);
	while (write(fd, block, sizeof block) > 0)
		;
	cr_assert_eq(errno, ENOSPC);
	off_t size = lseek(fd, 0, SEEK_END);
	cr_assert_eq(ftruncate(fd, size > (off_t)left ? size - (off_t)left : 0), 0);
	close(fd);
}

static char unfill[128];

/* End before the file system goes. */
static void
disk_end(void)
{
	dk_load_end(&load);
	cr_assert_eq(umount2(dk_state, MNT_DETACH), 0);
}

Test(disk, that_is_full_stops_writes_until_there_is_room)
{
	struct kit_random rnd = { 9 };
	unsigned refused = 0;

	if (!small_disk())
		cr_skip_test("may not mount a file system here");
	snprintf(unfill, sizeof unfill, "rm '%s/filler'", dk_state);
	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "200", NULL);
	dk_load_begin(&load, "s", 0, 41);
	for (uint64_t round = 0, rounds = kit_scaled(10) + 2; round < rounds; round++) {
		steps(100 + (unsigned)kit_below(&rnd, 200));
		fill(round % 2 == 0 ? 0 : kit_below(&rnd, 200000)); /* the journal still fits, a snapshot does not */
		refused += run_beside(look_on(pid, "disk is full", unfill), 1u << kit_below(&rnd, 7));
		steps(30);
		if (round % 3 == 2) { /* and all of it is there */
			dk_kill(pid);
			pid = dk_start("--durability", "full", "--snapshot-every", "200", NULL);
			dk_load_resume(&load, load.answered);
		}
	}
	cr_expect(dk_logged("no store takes writes until this is mended"));
	cr_expect(dk_logged("the journal is written again; stores take writes"));
	cr_expect(!dk_logged("created store \"new\""));
	cr_log_info("%u steps refused", refused);
	kvmctl_disconnect(&load.c);
	cr_assert_eq(dk_stop(pid), 0);
	dk_load_check_history(&load, 20);
	disk_end();
}

/* Killed, told to end, and started while the disk is full: what was answered is there once it is not. */
Test(disk, that_is_full_at_the_end_and_at_the_start_loses_nothing)
{
	if (!small_disk())
		cr_skip_test("may not mount a file system here");
	snprintf(unfill, sizeof unfill, "rm '%s/filler'", dk_state);
	pid_t pid = dk_start("--durability", "full", NULL);
	dk_load_begin(&load, "s", 1, 43);
	for (unsigned round = 0; round < 4; round++) {
		steps(200);
		fill(0);
		/* until an answer does not come any more */
		dk_kill_soon(pid, 1500000);
		if (round % 2 == 0) {
			while (dk_load_turn(&load, 5))
				;
			dk_wait_end(pid);
		} else {
			kvmctl_disconnect(&load.c);
			kill(pid, SIGTERM); /* nothing waits to be written but the snapshot */
			int status = dk_wait_end(pid);
			cr_expect(status == 1 || status == 128 + SIGKILL, "status %d", status);
			cr_expect(status != 1 || dk_logged("not saved"));
		}
		/* it may start or not, but then says why */
		pid = dk_spawn("--durability", "full", NULL);
		if (dk_wait_listening(pid)) {
			struct kvmctl_connection *c = dk_connect("s");
			uint64_t step, digest;

			dk_where(c, &step, &digest);
			cr_expect_geq(step, load.answered);
			cr_expect_eq(digest, load.digest[step]);
			kvmctl_disconnect(&c);
			dk_kill(pid);
		} else {
			cr_expect_eq(dk_wait_end(pid), 1);
			cr_expect(dk_logged("cannot be used"));
			cr_expect(dk_logged("the disk is full"));
		}
		dk_run("%s", unfill);
		pid = dk_start("--durability", "full", NULL);
		dk_load_resume(&load, load.answered);
	}
	steps(10);
	kvmctl_disconnect(&load.c);
	cr_assert_eq(dk_stop(pid), 0);
	dk_load_check_history(&load, 20);
	disk_end();
}

/* ---- A file that may grow no further ----------------------------------------------------------- */

Test(disk, file_that_may_not_grow_stops_writes_until_it_may)
{
	char mend[64];

	dk_surroundings.file_bytes = 400000;
	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "0", NULL);
	dk_surroundings.file_bytes = 0;
	dk_load_begin(&load, "s", 0, 42);
	snprintf(mend, sizeof mend, "prlimit --pid %ld --fsize=unlimited", (long)pid);
	if (system("prlimit --version > /dev/null 2>&1") != 0)
		cr_skip_test("there is no prlimit");
	run_beside(look_on(pid, "input/output error", mend), 3);
	steps(50);
	dk_kill(pid);
	pid = dk_start("--durability", "full", NULL);
	dk_load_resume(&load, load.answered);
	kvmctl_disconnect(&load.c);
	cr_assert_eq(dk_stop(pid), 0);
	dk_load_check_history(&load, 20);
	dk_load_end(&load);
}
