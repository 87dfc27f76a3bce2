#include "client/guard.h"

#include "client/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void
drop(const char *socket, const char *store)
{
	struct kvmp_request request = { .type = KVMP_STORE_DROP };
	struct kvmp_response response;
	struct kvmctl_failure why;
	struct kvmctl_connection *c = kvmctl_connect(socket, NULL, "kvmctl guard", &why);

	request.store.name = store;
	if (c != NULL)
		(void)kvmctl_request(c, &request, &response, &why);
	kvmctl_disconnect(&c);
}

/* Keep nothing of the parent open: whoever reads its output must see the end of it. */
static void
let_go(int fd)
{
	int nothing = open("/dev/null", O_RDWR);

	for (int i = 0; i < 3 && nothing >= 0; i++)
		dup2(nothing, i);
	dup2(fd, 3);
	close_range(4, ~0u, 0);
}

static void
guard(int fd, const char *socket, const char *store)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
	char byte;
	ssize_t n;

	/* signals from the terminal reach the whole group; the parent's end is what counts */
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	let_go(fd);
	do
		n = read(3, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		drop(socket, store);
}

int
kvmctl_guard_start(struct kvmctl_guard *g, const char *socket, const char *store)
{
	int ends[2];

	*g = (struct kvmctl_guard){ .fd = -1 };
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	g->pid = fork();
	if (g->pid == 0) {
		close(ends[1]);
		guard(ends[0], socket, store);
		_exit(0);
	}
	close(ends[0]);
	g->fd = ends[1];
	if (g->pid > 0)
		return 0;
	close(g->fd);
	g->pid = 0;
	return -1;
}

void
kvmctl_guard_end(struct kvmctl_guard *g)
{
	if (g->pid == 0)
		return;
	/* a byte: all is done; should it not arrive, the guard drops what is not there */
	(void)!write(g->fd, "", 1);
	close(g->fd);
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	g->pid = 0;
}
