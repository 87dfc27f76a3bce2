#include "bench/peer.h"
#include "bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PEERS_MAX 32u
#define ARGS_MAX 32u
#define TMPFS 0x01021994
#define RAMFS 0x858458f6

static struct {
	char path[64];
	struct peer *peers[PEERS_MAX];
	unsigned count;
} folder;

/* ---- The folder ------------------------------------------------------------------ */

static int
entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static void
folder_remove(void)
{
	for (unsigned i = 0; i < folder.count; i++)
		peer_stop(folder.peers[i], SIGKILL);
	if (folder.path[0] != '\0')
		nftw(folder.path, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
	folder.path[0] = '\0';
}

static void
on_signal(int number)
{
	(void)number;
	exit(1); /* the benchmark waits for answers or sleeps: nothing is half done */
}

void
peer_folder(const char *parent)
{
	char *real = realpath(parent, NULL); /* a server may change its folder */
	struct statfs fs;

	if (real == NULL || statfs(real, &fs) != 0)
		bench_die("%s: %s", parent, strerror(errno));
	if (fs.f_type == TMPFS || fs.f_type == RAMFS)
		bench_die("%s is memory, not a disk; name a folder on one with BENCH_DIR", parent);
	if (snprintf(folder.path, sizeof folder.path, "%s/kvmstore-bench-XXXXXX", real) >= (int)sizeof folder.path)
		bench_die("%s: too long for the path of a socket; name a shorter folder with BENCH_DIR", parent);
	if (mkdtemp(folder.path) == NULL)
		bench_die("no temporary folder in %s: %s", parent, strerror(errno));
	free(real);
	atexit(folder_remove);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
}

/* ---- One server --------------------------------------------------------------------- */

void
peer_init(struct peer *p, const char *name)
{
	if (folder.count == PEERS_MAX)
		bench_die("more than %u servers", PEERS_MAX);
	*p = (struct peer){ .name = name };
	snprintf(p->socket, sizeof p->socket, "%s/%s.sock", folder.path, name);
	snprintf(p->dir, sizeof p->dir, "%s/%s", folder.path, name);
	if (mkdir(p->dir, 0700) != 0)
		bench_die("%s: %s", p->dir, strerror(errno));
	folder.peers[folder.count++] = p;
}

static _Noreturn void
become(const struct peer *p, const char *const argv[], pid_t parent)
{
	char *copy[ARGS_MAX + 1] = { NULL };
	char log[PEER_PATH + 8];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive the benchmark */
	if (getppid() != parent)
		_exit(1);
	snprintf(log, sizeof log, "%s.log", p->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(1);
	for (unsigned i = 0; i < ARGS_MAX && argv[i] != NULL; i++)
		copy[i] = strdup(argv[i]);
	execvp(copy[0], copy);
	fprintf(stderr, "cannot start %s: %s\n", copy[0], strerror(errno));
	_exit(1);
}

void
peer_start(struct peer *p, const char *const argv[])
{
	pid_t parent = getpid();

	fflush(stdout);
	p->pid = fork();
	if (p->pid == 0)
		become(p, argv, parent);
	if (p->pid < 0) {
		p->pid = 0;
		bench_die("no process: %s", strerror(errno));
	}
}

void
peer_kvmstored(struct peer *p, const char *path, const char *const more[])
{
	const char *argv[ARGS_MAX + 1] = { path, "--listen", p->socket, "--state-dir", p->dir };
	unsigned n = 5;

	while (*more != NULL && n < ARGS_MAX)
		argv[n++] = *more++;
	peer_start(p, argv);
}

void
peer_redis(struct peer *p, const char *fsync)
{
	const char *const argv[] = { "redis-server", "--port", "0", "--unixsocket", p->socket, "--dir", p->dir, "--save", "",
				     "--appendonly", fsync != NULL ? "yes" : "no", "--appendfsync",
				     fsync != NULL ? fsync : "no", "--auto-aof-rewrite-percentage", "0", "--daemonize", "no",
				     NULL };

	peer_start(p, argv);
}

void
peer_stop(struct peer *p, int number)
{
	if (p->pid == 0)
		return;
	kill(p->pid, number);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	p->pid = 0;
}

void
peer_end(struct peer *p)
{
	char log[PEER_PATH + 8];

	peer_stop(p, SIGKILL);
	snprintf(log, sizeof log, "%s.log", p->dir);
	unlink(log);
	nftw(p->dir, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
	for (unsigned i = 0; i < folder.count; i++)
		if (folder.peers[i] == p)
			folder.peers[i] = folder.peers[--folder.count];
}

void
peer_check(struct peer *p)
{
	const char *line;

	if (p->pid == 0 || waitpid(p->pid, NULL, WNOHANG) == 0)
		return;
	p->pid = 0;
	line = peer_line(p, "");
	bench_die("%s has ended: %s", p->name, line != NULL ? line : "it said nothing");
}

const char *
peer_line(const struct peer *p, const char *mark)
{
	static char found[512];
	char path[PEER_PATH + 8], line[512];
	bool any = false;
	FILE *log;

	snprintf(path, sizeof path, "%s.log", p->dir);
	log = fopen(path, "re");
	if (log == NULL)
		return NULL;
	while (fgets(line, sizeof line, log) != NULL)
		if (strstr(line, mark) != NULL && strchr(line, '\n') != NULL) {
			line[strcspn(line, "\n")] = '\0';
			strcpy(found, line);
			any = true;
		}
	fclose(log);
	return any ? found : NULL;
}

uint64_t
peer_file_size(const struct peer *p, const char *name)
{
	char path[2 * PEER_PATH];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", p->dir, name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ---- CPUs ------------------------------------------------------------------------------ */

void
peer_place(const struct peer *p, bool one_cpu)
{
	static cpu_set_t all;
	cpu_set_t one;
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof all, &all) != 0)
		bench_die("cannot tell the CPUs: %s", strerror(errno));
	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof one, one_cpu ? &one : &all) != 0)
		bench_die("cannot choose CPUs: %s", strerror(errno));
	snprintf(path, sizeof path, "/proc/%ld/task", (long)p->pid);
	tasks = opendir(path);
	if (tasks == NULL)
		bench_die("%s: %s", path, strerror(errno));
	while ((entry = readdir(tasks)) != NULL)
		if (entry->d_name[0] != '.')
			sched_setaffinity((pid_t)atol(entry->d_name), sizeof one, one_cpu ? &one : &all);
	closedir(tasks);
}
