/*
 * shrink - the shortest trace that still fails, and the commands that are
 * asked whether it does.
 */
#include "client/commands.h"
#include "client/output.h"

#include "trace/replay.h"
#include "trace/shrink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHOWN_EVERY UINT64_C(100000000) /* nanoseconds */

struct shrinking {
	struct kvmctl *k;
	struct kvt_buffer ask, record; /* commands for the shell */
	char path[512];                /* of the file with the trace to try, "" = none */
	uint64_t shown;
	bool drawn;
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int signal)
{
	interrupted = signal;
}

/* ---- Commands --------------------------------------------------------------------- */

/* The path as the shell reads it back. */
static void
put_quoted(struct kvt_buffer *b, const char *path)
{
	kvt_putc(b, '\'');
	for (; *path != '\0'; path++)
		if (*path == '\'')
			kvt_puts(b, "'\\''");
		else
			kvt_putc(b, *path);
	kvt_putc(b, '\'');
}

/* The command with the path for each {}, or behind it. */
static void
put_command(struct kvt_buffer *b, const char *command, const char *path)
{
	bool named = false;

	for (; *command != '\0'; command++) {
		if (command[0] != '{' || command[1] != '}') {
			kvt_putc(b, *command);
			continue;
		}
		put_quoted(b, path);
		named = true;
		command++;
	}
	if (!named) {
		kvt_putc(b, ' ');
		put_quoted(b, path);
	}
}

static bool
write_try(struct shrinking *s, const char *text, size_t size)
{
	FILE *file = fopen(s->path, "w");
	bool good = file != NULL && fwrite(text, 1, size, file) == size;

	if (file != NULL && fclose(file) != 0)
		good = false;
	if (!good)
		kvmctl_complain("%s: %s", s->path, strerror(errno));
	return good;
}

/* Start a command, without a terminal's noise.  "out" = where its output goes, -1 = nowhere.  -1: it cannot be started.
 */
static pid_t
start(const char *command, int out)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)(uintptr_t)command, NULL };
	posix_spawn_file_actions_t actions;
	pid_t child = -1;
	int error;

	fflush(NULL);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&actions, out, 1);
	else
		posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	error = posix_spawn(&child, "/bin/sh", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error == 0)
		return child;
	kvmctl_complain("cannot start a process: %s", strerror(error));
	return -1;
}

/* Wait for it: its status as waitpid() gives it, or -1. */
static int
finish(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static enum kvt_asked
ask(void *arg, const char *text, size_t size)
{
	struct shrinking *s = arg;
	pid_t child;
	int status;

	if (!write_try(s, text, size))
		return KVT_ASKED_FAILED;
	child = start(kvt_buffer_text(&s->ask), -1);
	if (child < 0)
		return KVT_ASKED_FAILED;
	status = finish(child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
		kvmctl_complain("the shell cannot run: %s", kvt_buffer_text(&s->ask));
		return KVT_ASKED_FAILED;
	}
	return status == 0 ? KVT_ASKED_YES : KVT_ASKED_NO;
}

static void
read_all(int fd, struct kvt_buffer *to)
{
	char bytes[65536];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof bytes)) != 0) {
		if (n > 0)
			kvt_put(to, bytes, (size_t)n);
		else if (errno != EINTR)
			return;
	}
}

static bool
record(void *arg, const char *text, size_t size, struct kvt_buffer *recorded)
{
	struct shrinking *s = arg;
	pid_t child;
	int pipes[2], status;

	if (!write_try(s, text, size))
		return false;
	if (pipe(pipes) != 0) {
		kvmctl_complain("no pipe: %s", strerror(errno));
		return false;
	}
	(void)fcntl(pipes[0], F_SETFD, FD_CLOEXEC);
	(void)fcntl(pipes[1], F_SETFD, FD_CLOEXEC);
	child = start(kvt_buffer_text(&s->record), pipes[1]);
	close(pipes[1]);
	if (child >= 0)
		read_all(pipes[0], recorded);
	close(pipes[0]);
	status = child >= 0 ? finish(child) : -1;
	if (child >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 127) {
		kvmctl_complain("the shell cannot run: %s", kvt_buffer_text(&s->record));
		return false;
	}
	return child >= 0;
}

/* ---- Progress ------------------------------------------------------------------------ */

static void
show(void *arg, const struct kvt_shrink_progress *p)
{
	struct shrinking *s = arg;
	uint64_t now = kvt_now();

	if (now - s->shown < SHOWN_EVERY)
		return;
	s->shown = now;
	s->drawn = true;
	fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " steps, %" PRIu64 " tries ", p->steps, p->steps_before, p->tries);
	fflush(stderr);
}

static void
clear(struct shrinking *s)
{
	if (s->drawn)
		fprintf(stderr, "\r%*s\r", 78, "");
	s->drawn = false;
}

/* ---- The command ------------------------------------------------------------------------ */

static enum kvmctl_status
check_options(const struct kvmctl *k)
{
	bool diverges = k->option[OPTION_while_diverges] != NULL, breaks = k->option[OPTION_while_law_breaks] != NULL;

	if (!diverges && !breaks && k->option[OPTION_while] == NULL) {
		kvmctl_complain("say what failing means: --while-diverges, --while-law-breaks or --while CMD");
		return KVMCTL_USAGE;
	}
	if (diverges && breaks) {
		kvmctl_complain(
		    "an operation that breaks a law has no outcome: --while-diverges or --while-law-breaks");
		return KVMCTL_USAGE;
	}
	if (k->option[OPTION_recorder] != NULL && !diverges) {
		kvmctl_complain("--recorder goes with --while-diverges");
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}

/* A file for the traces to try, and the commands that read it. */
static bool
make_commands(struct shrinking *s)
{
	const char *folder = getenv("TMPDIR");
	int fd, size;

	if (s->k->option[OPTION_while] == NULL && s->k->option[OPTION_recorder] == NULL)
		return true;
	size = snprintf(s->path, sizeof s->path, "%s/kvmctl-shrink-XXXXXX.kvt",
			folder != NULL && folder[0] != '\0' ? folder : "/tmp");
	fd = size < (int)sizeof s->path ? mkstemps(s->path, 4) : -1;
	if (fd < 0) {
		kvmctl_complain("%s: %s", s->path, strerror(errno));
		s->path[0] = '\0';
		return false;
	}
	close(fd);
	if (s->k->option[OPTION_while] != NULL)
		put_command(&s->ask, s->k->option[OPTION_while], s->path);
	if (s->k->option[OPTION_recorder] != NULL)
		put_command(&s->record, s->k->option[OPTION_recorder], s->path);
	return !s->ask.failed && !s->record.failed;
}

static enum kvmctl_status
write_output(const struct kvmctl *k, const char *text, size_t size)
{
	struct kvmctl_output o;
	enum kvmctl_status status = kvmctl_output_open(&o, k->option[OPTION_output]);

	if (status != KVMCTL_OK)
		return status;
	(void)fwrite(text, 1, size, o.file); /* the end tells */
	return kvmctl_output_close(&o, true);
}

static void
tell(const struct kvmctl *k, const struct kvt_shrink *shrink)
{
	if (k->json)
		fprintf(stderr,
			"{\"steps_before\":%" PRIu64 ",\"steps\":%" PRIu64 ",\"tries\":%" PRIu64
			",\"interrupted\":%s}\n",
			shrink->done.steps_before, shrink->done.steps, shrink->done.tries,
			interrupted != 0 ? "true" : "false");
	else if (!k->quiet)
		fprintf(stderr, "%" PRIu64 " of %" PRIu64 " steps are left after %" PRIu64 " tries: %s\n",
			shrink->done.steps, shrink->done.steps_before, shrink->done.tries, shrink->failure);
	if (shrink->while_diverges && shrink->record == NULL && !k->json && !k->quiet)
		fprintf(stderr, "what made the kernel go wrong may be among what was taken out; --recorder finds it\n");
	if (interrupted != 0 && !k->json)
		kvmctl_complain("interrupted: what is written fails, but a shorter one may do so too");
}

static enum kvmctl_status
run(struct shrinking *s, struct kvt_shrink *shrink, struct kvt_input *in)
{
	enum kvmctl_status status = KVMCTL_UNREADABLE;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	enum kvt_shrunk result = out != NULL ? kvt_shrink(shrink, in, out) : KVT_SHRINK_FAILED;

	clear(s);
	if (out == NULL || fclose(out) != 0)
		result = KVT_SHRINK_FAILED;
	if (result == KVT_SHRUNK) {
		status = write_output(s->k, text, size);
		if (status == KVMCTL_OK)
			tell(s->k, shrink);
	} else if (result == KVT_SHRINK_PASSES) {
		kvmctl_complain("%s does not fail", s->k->argv[0]);
		status = KVMCTL_NOT_OK;
	} else if (result == KVT_SHRINK_WRONG) {
		status = KVMCTL_USAGE;
	}
	free(text);
	return status;
}

/* SIGINT and SIGTERM ask for an end; the calls they interrupt are not taken up again. */
static void
watch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	interrupted = 0;
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

enum kvmctl_status
kvmctl_trace_shrink(struct kvmctl *k)
{
	struct shrinking s = { .k = k };
	struct kvt_shrink shrink = {
		.arg = &s,
		.while_diverges = k->option[OPTION_while_diverges] != NULL,
		.while_law_breaks = k->option[OPTION_while_law_breaks] != NULL,
		.ask = k->option[OPTION_while] != NULL ? ask : NULL,
		.record = k->option[OPTION_recorder] != NULL ? record : NULL,
		.progress = !k->quiet && !k->json && isatty(STDERR_FILENO) ? show : NULL,
		.stop = &interrupted,
		.check = k->option[OPTION_check] != NULL || k->option[OPTION_while_law_breaks] != NULL ? k->check
												       : KVMS_CHECK_OFF,
		.check_every = k->check_every,
		.report = stderr,
	};
	enum kvmctl_status status = check_options(k);
	struct kvt_input *in = NULL;
	char error[1024];

	if (status != KVMCTL_OK)
		return status;
	in = kvt_input_open(k->argv[0], error, sizeof error);
	if (in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	watch_signals();
	status = make_commands(&s) ? run(&s, &shrink, in) : KVMCTL_UNREADABLE;
	if (s.path[0] != '\0')
		unlink(s.path);
	kvt_input_close(&in);
	kvt_buffer_free(&s.ask);
	kvt_buffer_free(&s.record);
	return status;
}
