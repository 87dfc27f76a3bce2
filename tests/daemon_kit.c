#include "tests/daemon_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "persist/journal.h"
#include "trace/text.h"

#define WAIT_MS 60000 /* for anything that must happen; machines differ */

char dk_dir[64], dk_state[96], dk_socket[96], dk_log[96];
struct dk_surroundings dk_surroundings;

static struct kvmctl_failure failure;

void
dk_enter(void)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(dk_dir, sizeof dk_dir, "/tmp/kvmstored-faults-XXXXXX");
	cr_assert_not_null(mkdtemp(dk_dir));
	snprintf(dk_state, sizeof dk_state, "%s/state", dk_dir);
	snprintf(dk_socket, sizeof dk_socket, "%s/s", dk_dir);
	snprintf(dk_log, sizeof dk_log, "%s/log", dk_dir);
}

void
dk_leave(void)
{
	dk_run("rm -rf '%s'", dk_dir);
}

void
dk_run(const char *format, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof command, format, ap);
	va_end(ap);
	cr_assert_eq(system(command), 0, "%s", command);
}

uint64_t
dk_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- The daemon --------------------------------------------------------------------- */

/* In the child, between fork and exec. */
static void
surround(void)
{
	const struct dk_surroundings *s = &dk_surroundings;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (s->file_bytes > 0)
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){ s->file_bytes, RLIM_INFINITY });
	if (s->preload != NULL) {
		char options[512];
		const char *old = getenv("ASAN_OPTIONS");

		/* a sanitizer's library need not come first for this one */
		snprintf(options, sizeof options, "%s%sverify_asan_link_order=0", old != NULL ? old : "",
			 old != NULL ? ":" : "");
		setenv("ASAN_OPTIONS", options, 1);
		setenv("LD_PRELOAD", s->preload, 1);
	}
	if (s->user != 0 && setuid(s->user) != 0)
		_exit(125);
}

static pid_t
spawn(const char *first, va_list more)
{
	const char *program = getenv("KVMSTORED") != NULL ? getenv("KVMSTORED") : "./kvmstored";
	const char *argv[32] = { program, "--listen", dk_socket, "--state-dir", dk_state };
	pid_t pid, parent = getpid();
	unsigned count = 5;

	for (const char *a = first; a != NULL; a = va_arg(more, const char *))
		argv[count++] = a;
	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		int log = open(dk_log, O_WRONLY | O_CREAT | O_APPEND, 0666);

		if (log < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0)
			_exit(126);
		surround();
		if (getppid() != parent)
			_exit(126);
		execv(program, (char *const *)argv);
		_exit(127);
	}
	return pid;
}

pid_t
dk_spawn(const char *first, ...)
{
	va_list more;

	va_start(more, first);
	pid_t pid = spawn(first, more);
	va_end(more);
	return pid;
}

static bool
listening(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0);
	strcpy(address.sun_path, dk_socket);
	bool there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
	close(fd);
	return there;
}

static bool
has_ended(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid != 0;
}

bool
dk_wait_listening(pid_t pid)
{
	for (uint64_t end = dk_now() + WAIT_MS; dk_now() < end; usleep(1000)) {
		if (listening())
			return true;
		if (has_ended(pid))
			return false;
	}
	cr_assert(false, "the daemon does not listen");
	return false;
}

static void
log_show(void)
{
	char command[160];

	snprintf(command, sizeof command, "tail -n 20 '%s' >&2", dk_log);
	if (system(command) != 0)
		fprintf(stderr, "(no log)\n");
}

pid_t
dk_start(const char *first, ...)
{
	va_list more;

	va_start(more, first);
	pid_t pid = spawn(first, more);
	va_end(more);
	if (!dk_wait_listening(pid)) {
		log_show();
		cr_assert(false, "the daemon does not start");
	}
	return pid;
}

int
dk_wait_end(pid_t pid)
{
	int status;

	for (uint64_t end = dk_now() + WAIT_MS; dk_now() < end; usleep(1000)) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		cr_assert(ended == 0 || ended == pid);
		if (ended == 0)
			continue;
		/* a child that takes a picture ends with it, but a moment later, and has its descriptors */
		while (WIFSIGNALED(status) && listening() && dk_now() < end)
			usleep(1000);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_assert(false, "the daemon does not end");
	return -1;
}

int
dk_start_fails(const char *first, ...)
{
	va_list more;

	dk_log_clear();
	va_start(more, first);
	pid_t pid = spawn(first, more);
	va_end(more);
	if (dk_wait_listening(pid)) {
		dk_kill(pid);
		return 0;
	}
	return dk_wait_end(pid);
}

int
dk_stop(pid_t pid)
{
	kill(pid, SIGTERM);
	return dk_wait_end(pid);
}

void
dk_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	cr_assert_eq(dk_wait_end(pid), 128 + SIGKILL);
}

struct kill {
	pid_t pid;
	unsigned us;
};

static void *
kill_later(void *arg)
{
	struct kill *k = arg;

	usleep(k->us);
	kill(k->pid, SIGKILL); /* nobody has waited for it yet: the number is still its */
	free(k);
	return NULL;
}

void
dk_kill_soon(pid_t pid, unsigned us)
{
	struct kill *k = malloc(sizeof *k);
	pthread_attr_t attr;
	pthread_t thread;

	*k = (struct kill){ pid, us };
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	cr_assert_eq(pthread_create(&thread, &attr, kill_later, k), 0);
	pthread_attr_destroy(&attr);
}

bool
dk_logged(const char *words)
{
	static char text[1 << 20];
	FILE *file = fopen(dk_log, "r");
	size_t size;

	if (file == NULL)
		return false;
	size = fread(text, 1, sizeof text - 1, file);
	text[size] = '\0';
	fclose(file);
	return strstr(text, words) != NULL;
}

void
dk_log_clear(void)
{
	cr_assert(truncate(dk_log, 0) == 0 || errno == ENOENT);
}

uint64_t
dk_state_bytes(void)
{
	uint64_t sum = 0;
	struct dirent *e;
	DIR *dir = opendir(dk_state);

	cr_assert_not_null(dir);
	while ((e = readdir(dir)) != NULL) {
		uint64_t h = UINT64_C(0xcbf29ce484222325);
		char path[400];
		struct stat st;
		FILE *file;

		/* locks say nothing; the index of the log is made again from it whenever it is opened */
		if (e->d_name[0] == '.' || strstr(e->d_name, ".lock") != NULL || strstr(e->d_name, "-shm") != NULL)
			continue;
		snprintf(path, sizeof path, "%s/%s", dk_state, e->d_name);
		if (stat(path, &st) != 0 || st.st_size == 0)
			continue; /* an empty log is none */
		for (const char *p = e->d_name; *p != '\0'; p++)
			h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
		file = fopen(path, "r");
		if (file != NULL) {
			for (int c; (c = getc(file)) != EOF;)
				h = (h ^ (unsigned char)c) * UINT64_C(0x100000001b3);
			fclose(file);
		}
		sum += h;
	}
	closedir(dir);
	return sum;
}

/* ---- Clients ------------------------------------------------------------------------- */

struct kvmctl_connection *
dk_connect(const char *store)
{
	struct kvmctl_connection *c = kvmctl_connect(dk_socket, store, "faults", &failure);

	cr_assert_not_null(c, "%s", failure.text);
	return c;
}

const struct kvmp_response *
dk_request(struct kvmctl_connection *c, struct kvmp_request request)
{
	static struct kvmp_response response;

	cr_assert(kvmctl_request(c, &request, &response, &failure), "%s", failure.text);
	return &response;
}

const char *
dk_refused(struct kvmctl_connection *c, struct kvmp_request request)
{
	struct kvmp_response response;

	cr_assert(!kvmctl_request(c, &request, &response, &failure), "it was carried out");
	cr_assert_eq(failure.kind, KVMCTL_REFUSED, "%s", failure.text);
	return failure.text;
}

const char *
dk_step(struct kvmctl_connection *c, const char *format, ...)
{
	static struct kvt_buffer text;
	struct kvms_outcome out = { 0 };
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	struct kvms_op op = kit_op("%s", line);
	kvt_buffer_reset(&text);
	if (kvmctl_apply(c, &op, false, &out, NULL, &failure))
		kvt_print_outcome(&text, kvms_op_row(op.code), &out);
	else
		kvt_putf(&text, "refused: %s", failure.text);
	kvms_outcome_free(&out);
	return kvt_buffer_text(&text);
}

void
dk_where(struct kvmctl_connection *c, uint64_t *step, uint64_t *digest)
{
	const struct kvmp_response *r = dk_request(c, (struct kvmp_request){ .type = KVMP_STATUS });

	cr_assert_not_null(r->status.store);
	*step = r->status.store->step;
	*digest = r->status.store->digest;
}

uint64_t
dk_digest(struct kvmctl_connection *c)
{
	uint64_t step, digest;

	dk_where(c, &step, &digest);
	return digest;
}

/* ---- Load ------------------------------------------------------------------------------ */

static void
room(struct dk_load *load)
{
	if (load->drawn + 2 < load->capacity)
		return;
	load->capacity = load->capacity * 2 + 4096;
	load->at = realloc(load->at, load->capacity * sizeof *load->at);
	load->digest = realloc(load->digest, load->capacity * sizeof *load->digest);
	load->when = realloc(load->when, load->capacity * sizeof *load->when);
	cr_assert(load->at != NULL && load->digest != NULL && load->when != NULL);
}

void
dk_load_begin(struct dk_load *load, const char *store, unsigned world, uint64_t seed)
{
	struct kvmp_request create = { .type = KVMP_STORE_CREATE };

	memset(load, 0, sizeof *load);
	load->store = store;
	kit_walk_init(&load->walk, NULL, world, seed);
	kvms_set_check(load->walk.s, KVMS_CHECK_OFF, 1);
	room(load);
	load->digest[0] = kvms_digest(load->walk.s);
	create.store.name = store;
	create.store.config = *kvms_config(load->walk.s);
	load->c = dk_connect(NULL);
	dk_request(load->c, create);
	kvmctl_disconnect(&load->c);
	load->c = dk_connect(store);
}

void
dk_load_end(struct dk_load *load)
{
	kvmctl_disconnect(&load->c);
	persist_bytes_free(&load->records);
	free(load->at);
	free(load->digest);
	free(load->when);
	kvms_free(&load->walk.s);
}

void
dk_load_resume(struct dk_load *load, uint64_t least)
{
	uint64_t step, digest;

	kvmctl_disconnect(&load->c);
	load->c = dk_connect(load->store);
	dk_where(load->c, &step, &digest);
	cr_assert_geq(step, least, "store \"%s\" is at step %" PRIu64 ", and was told to be at %" PRIu64, load->store,
		      step, least);
	cr_assert_leq(step, load->sent, "store \"%s\" is at step %" PRIu64 ", and only %" PRIu64 " were sent", load->store,
		      step, load->sent);
	cr_assert_eq(digest, load->digest[step], "store \"%s\", step %" PRIu64 ": another digest", load->store, step);
	for (uint64_t i = load->answered + 1; i <= step; i++)
		load->when[i] = dk_now(); /* there without an answer */
	load->sent = load->answered = step;
}

/* True if the operation goes into a message: the model takes more bytes than the protocol. */
static bool
sendable(const struct kvms_op *op)
{
	const struct kvms_row *row = kvms_op_row(op->code);

	for (unsigned i = 0; i < row->args_count; i++)
		if (row->args[i].type == KVMS_BYTES && op->arg[i] > KVMP_BYTES_MAX)
			return false;
	return true;
}

/* Draw one more step and foretell what comes of it. */
static void
draw(struct dk_load *load)
{
	static struct kvms_outcome out;

	while (!kit_walk_draw(&load->walk) || !sendable(&load->walk.op))
		;
	cr_assert_eq(kvms_apply(load->walk.s, &load->walk.op, &out), KVMS_DONE);
	room(load);
	load->at[load->drawn++] = load->records.size;
	persist_record_encode(&load->records, 0, 0, &load->walk.op, &out);
	cr_assert(!load->records.failed);
	load->digest[load->drawn] = kvms_digest(load->walk.s);
}

static void
record(const struct dk_load *load, uint64_t step, struct persist_record *record)
{
	size_t used, at = load->at[step - 1];

	cr_assert_eq(persist_record_decode(load->records.at + at, load->records.size - at, record, &used),
		     PERSIST_DECODED);
}

/* What the daemon answered to the next step is what was foretold. */
static void
compare(const struct dk_load *load, const struct kvms_outcome *out, uint64_t step)
{
	static struct persist_record want;
	static struct bytes a, b;

	record(load, load->answered, &want);
	persist_bytes_reset(&a);
	persist_bytes_reset(&b);
	persist_outcome_encode(&a, want.op.code, &want.out);
	persist_outcome_encode(&b, want.op.code, out);
	cr_assert_eq(step, load->answered);
	cr_assert(a.size == b.size && memcmp(a.at, b.at, a.size) == 0, "store \"%s\", step %" PRIu64 ", %s: %s, not %s",
		  load->store, step, kvms_op_row(want.op.code)->name, kit_outcome(out->name),
		  kit_outcome(want.out.name));
}

/* Send one more; cursors stay when the connection ends, so that nothing happens by itself. */
static bool
send_next(struct dk_load *load)
{
	static struct persist_record next;

	if (load->sent == load->drawn)
		draw(load);
	record(load, load->sent + 1, &next);
	const char *name = kvms_op_row(next.op.code)->name;
	bool done = strncmp(name, "cursor_open", 11) == 0
			? kvmctl_send_open(load->c, &next.op, 0, true, &failure)
			: kvmctl_send_op(load->c, &next.op, false, &failure);
	/* some of it may have gone out in either case */
	load->sent++;
	return done;
}

static bool
take(struct dk_load *load)
{
	static struct kvms_outcome out;
	uint64_t step;

	if (!kvmctl_receive(load->c, &out, &step, &failure)) {
		load->refused = failure.kind == KVMCTL_REFUSED;
		snprintf(load->why, sizeof load->why, "%s", failure.text);
		return false;
	}
	load->answered++;
	load->when[load->answered] = dk_now();
	compare(load, &out, step);
	return true;
}

bool
dk_load_turn(struct dk_load *load, unsigned window)
{
	while (load->sent - load->answered < window)
		if (!send_next(load))
			return false;
	return take(load);
}

bool
dk_load_finish(struct dk_load *load)
{
	while (load->answered < load->sent)
		if (!take(load))
			return false;
	return true;
}

void
dk_load_check_history(const struct dk_load *load, unsigned samples)
{
	struct kit_random r = { load->answered };
	char why[PERSIST_WHY];
	struct persist *db;

	cr_assert_eq(persist_open(dk_state, PERSIST_READ_ONLY, &db, why, sizeof why), PERSIST_OK, "%s", why);
	for (unsigned i = 0; i < samples; i++) {
		uint64_t step = i == 0 ? load->answered : kit_below(&r, load->answered + 1);
		struct kvms *s;

		cr_assert_eq(persist_rebuild(db, load->store, step, NULL, NULL, &s, NULL, why, sizeof why), PERSIST_OK,
			     "%s", why);
		cr_assert_eq(kvms_digest(s), load->digest[step], "store \"%s\", step %" PRIu64, load->store, step);
		kvms_free(&s);
	}
	persist_close(&db);
}
