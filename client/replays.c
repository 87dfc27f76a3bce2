#include "client/replays.h"

#include "client/output.h"

#include "trace/buffer.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 256u
#define AHEAD_MAX 300       /* replays started whose files are open */
#define TOLD_MAX (1u << 20) /* bytes of what a replay has to say */

/* ---- Memory that processes share ------------------------------------------------------- */

static void *
shared_new(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return at != MAP_FAILED ? at : NULL;
}

/* ---- Processes --------------------------------------------------------------------------------- */

/* What a process leaves in shared memory. */
struct result {
	bool is_there; /* it came to its end */
	enum kvmctl_status status;
	struct kvt_statistics run;
};

struct job {
	pid_t pid; /* 0: not started, or over */
	bool over;
	FILE *out, *err; /* what it says */
};

struct jobs {
	struct kvmctl *k;
	kvmctl_replay_one *replay;
	struct kvt_coverage *coverage;
	struct result *result; /* of each file */
	struct job *job;
	int told; /* files told of */
	struct kvt_statistics sum;
	unsigned passed;
	FILE *junit;
	struct kvt_buffer text;
};

/* In the new process: never comes back. */
static void
be_child(struct jobs *all, int i)
{
	struct kvmctl one = *all->k;
	enum kvmctl_status status = KVMCTL_UNREADABLE;

	if (dup2(fileno(all->job[i].out), STDOUT_FILENO) >= 0 && dup2(fileno(all->job[i].err), STDERR_FILENO) >= 0) {
		one.argc = 1;
		one.argv = &all->k->argv[i];
		status = all->replay(&one, all->k->argv[i], all->coverage, &all->result[i].run);
		fflush(NULL);
		all->result[i].status = status;
		all->result[i].is_there = true;
	}
	_exit((int)status);
}

static bool
start(struct jobs *all, int i)
{
	struct job *job = &all->job[i];

	job->out = tmpfile();
	job->err = tmpfile();
	fflush(NULL);
	job->pid = job->out != NULL && job->err != NULL ? fork() : -1;
	if (job->pid == 0)
		be_child(all, i);
	if (job->pid > 0)
		return true;
	kvmctl_complain("cannot start a process: %s", strerror(errno));
	job->pid = 0;
	job->over = true;
	all->result[i].is_there = true;
	all->result[i].status = KVMCTL_UNREADABLE;
	return false;
}

/* Wait for one that runs. */
static void
wait_for_one(struct jobs *all)
{
	int how;
	pid_t pid;

	do
		pid = waitpid(-1, &how, 0);
	while (pid < 0 && errno == EINTR);
	for (int i = 0; i < all->k->argc; i++) {
		if (all->job[i].over || all->job[i].pid == 0 || (all->job[i].pid != pid && pid > 0))
			continue;
		all->job[i].over = true;
		if (all->result[i].is_there)
			continue;
		all->result[i].status = KVMCTL_UNREADABLE;
		if (all->job[i].err != NULL)
			fprintf(all->job[i].err, "the replay was killed%s\n",
				pid > 0 && WIFSIGNALED(how) ? " by a signal" : "");
	}
}

/* ---- Telling --------------------------------------------------------------------------------------- */

/* What was said to a file, its end if it is much. */
static const char *
said(struct kvt_buffer *b, FILE *file)
{
	char piece[4096];
	size_t n;

	kvt_buffer_reset(b);
	if (file == NULL)
		return "";
	rewind(file);
	while (b->size < TOLD_MAX && (n = fread(piece, 1, sizeof piece, file)) > 0)
		kvt_put(b, piece, n);
	return kvt_buffer_text(b);
}

static void
put_xml(FILE *to, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '<')
			fputs("&lt;", to);
		else if (c == '>')
			fputs("&gt;", to);
		else if (c == '&')
			fputs("&amp;", to);
		else if (c == '"')
			fputs("&quot;", to);
		else if ((c < 0x20 && c != '\n' && c != '\t') || c >= 0x7f)
			fputc('?', to);
		else
			fputc(c, to);
	}
}

static const char *
verdict_of(enum kvmctl_status status)
{
	static const char *const words[] = { "passed",   "failed",      "syntax error", "no connection",
					     "diverged", "broke a law", "unreadable" };

	return words[status];
}

/* JUnit tells what a test has found from what kept it from finding anything. */
static bool
is_failure(enum kvmctl_status status)
{
	return status == KVMCTL_DIVERGED || status == KVMCTL_BROKEN || status == KVMCTL_NOT_OK;
}

static void
tell_junit(struct jobs *all, int i, const char *text)
{
	const struct result *r = &all->result[i];
	const char *kind = is_failure(r->status) ? "failure" : "error";

	fputs("    <testcase classname=\"replay\" name=\"", all->junit);
	put_xml(all->junit, all->k->argv[i]);
	fprintf(all->junit, "\" time=\"%.3f\"", (double)r->run.nanoseconds / 1e9);
	if (r->status == KVMCTL_OK) {
		fputs("/>\n", all->junit);
		return;
	}
	fprintf(all->junit, ">\n      <%s message=\"%s\">", kind, verdict_of(r->status));
	put_xml(all->junit, text);
	fprintf(all->junit, "</%s>\n    </testcase>\n", kind);
}

static void
tell_rate(const struct kvt_statistics *run)
{
	double seconds = (double)run->nanoseconds / 1e9;

	printf("%" PRIu64 " ops in %.2f s", run->ops, seconds);
	if (run->ops > 0 && run->nanoseconds > 0)
		printf(", %.0f a second", (double)run->ops / seconds);
	putchar('\n');
}

static void
tell(struct jobs *all, int i)
{
	const struct result *r = &all->result[i];
	const char *text;

	all->passed += r->status == KVMCTL_OK;
	all->sum.ops += r->run.ops;
	if (all->k->json) {
		fputs(said(&all->text, all->job[i].out), stdout);
	} else if (!all->k->quiet || r->status != KVMCTL_OK) {
		printf("%s: %s, ", all->k->argv[i], verdict_of(r->status));
		tell_rate(&r->run);
	}
	fflush(stdout);
	text = said(&all->text, all->job[i].err);
	fputs(text, stderr);
	tell_junit(all, i, text);
	if (all->job[i].out != NULL)
		fclose(all->job[i].out);
	if (all->job[i].err != NULL)
		fclose(all->job[i].err);
}

static enum kvmctl_status
summary(const struct jobs *all)
{
	enum kvmctl_status status = KVMCTL_OK;

	if (!all->k->json && !all->k->quiet) {
		printf("%u of %d traces passed, ", all->passed, all->k->argc);
		tell_rate(&all->sum);
	}
	for (int i = 0; i < all->k->argc; i++)
		if (status == KVMCTL_OK || all->result[i].status == KVMCTL_BROKEN)
			status = all->result[i].status;
	return status;
}

/* ---- All -------------------------------------------------------------------------------------------- */

static enum kvmctl_status
run_jobs(struct jobs *all, unsigned at_once)
{
	uint64_t began = kvt_now();
	unsigned running = 0;
	int next = 0;

	while (all->told < all->k->argc) {
		if (next < all->k->argc && running < at_once && next - all->told < AHEAD_MAX) {
			running += start(all, next++);
			continue;
		}
		if (!all->job[all->told].over) {
			wait_for_one(all);
			running = 0;
			for (int i = 0; i < next; i++)
				running += !all->job[i].over;
			continue;
		}
		tell(all, all->told++);
	}
	all->sum.nanoseconds = kvt_now() - began;
	return summary(all);
}

/* The file of --junit, whose first lines say what only the end knows: it is made of two parts. */
static void
write_junit(struct jobs *all, FILE *to)
{
	unsigned failures = 0, errors = 0;
	char piece[4096];
	size_t n;

	for (int i = 0; i < all->k->argc; i++) {
		enum kvmctl_status status = all->result[i].status;

		failures += is_failure(status);
		errors += status != KVMCTL_OK && !is_failure(status);
	}
	fprintf(to,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"kvmctl replay\" "
		"tests=\"%d\" failures=\"%u\" errors=\"%u\" time=\"%.3f\">\n",
		all->k->argc, failures, errors, (double)all->sum.nanoseconds / 1e9);
	rewind(all->junit);
	while ((n = fread(piece, 1, sizeof piece, all->junit)) > 0)
		fwrite(piece, 1, n, to);
	fputs("  </testsuite>\n</testsuites>\n", to);
}

static enum kvmctl_status
replay_all(struct jobs *all)
{
	const char *junit = all->k->option[OPTION_junit];
	enum kvmctl_status status, written = KVMCTL_OK;
	struct kvmctl_output out;
	uint64_t at_once;

	status = kvmctl_option_number(all->k, OPTION_jobs, 1, &at_once);
	if (status == KVMCTL_OK && junit != NULL)
		status = kvmctl_output_open(&out, junit);
	if (status != KVMCTL_OK)
		return status;
	status = run_jobs(all, at_once == 0 ? 1 : at_once > JOBS_MAX ? JOBS_MAX : (unsigned)at_once);
	if (junit != NULL) {
		write_junit(all, out.file);
		written = kvmctl_output_close(&out, true);
	}
	return status != KVMCTL_OK ? status : written;
}

enum kvmctl_status
kvmctl_replay_all(struct kvmctl *k, kvmctl_replay_one *replay, struct kvt_coverage *coverage,
		  struct kvt_statistics *run)
{
	struct jobs all = { .k = k, .replay = replay, .coverage = coverage };
	size_t size = (size_t)k->argc * sizeof *all.result;
	enum kvmctl_status status;

	all.result = shared_new(size);
	all.job = calloc((size_t)k->argc, sizeof *all.job);
	all.junit = tmpfile();
	if (all.result == NULL || all.job == NULL || all.junit == NULL) {
		kvmctl_complain("no memory");
		status = KVMCTL_UNREADABLE;
	} else {
		status = replay_all(&all);
	}
	*run = all.sum;
	if (all.junit != NULL)
		fclose(all.junit);
	if (all.result != NULL)
		munmap(all.result, size);
	kvt_buffer_free(&all.text);
	free(all.job);
	return status;
}
