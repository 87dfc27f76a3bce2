/*
 * The real daemon on a temporary socket: what clients of all sorts may do to
 * it and to each other, and how it starts and ends.
 *
 * $KVMSTORED names the program.  Every wait is bounded; a daemon started here
 * dies with the test.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/connection.h"

#define WAIT_MS 30000 /* for anything that must happen; machines differ */

static char directory[] = "/tmp/kvmstored-e2e-XXXXXX";
static char socket_path[128];
static char state_path[128];
static char log_path[128];
static struct kvmctl_failure why;

/* ---- The daemon ------------------------------------------------------------------- */

static void
nap(unsigned ms)
{
	const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* Start a daemon with these arguments, its log appended to the log file, with "limit" on "resource" unless 0. */
static pid_t
spawn(int resource, rlim_t limit, const char *const *arguments)
{
	const char *program = getenv("KVMSTORED") != NULL ? getenv("KVMSTORED") : "./kvmstored";
	const char *argv[32] = { program };
	pid_t pid, parent = getpid();

	for (unsigned i = 0; arguments[i] != NULL; i++)
		argv[i + 1] = arguments[i];
	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || log < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0)
			_exit(126);
		if (limit > 0)
			setrlimit((__rlimit_resource_t)resource, &(struct rlimit){ limit, limit });
		execv(program, (char *const *)argv);
		_exit(127);
	}
	return pid;
}

/* The exit status; 128 + number if a signal ended it. */
static int
wait_end(pid_t pid)
{
	int status;

	for (unsigned waited = 0; waited < WAIT_MS; waited += 5) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		cr_assert(ended == 0 || ended == pid);
		if (ended == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		nap(5);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_assert(false, "the daemon does not end");
	return -1;
}

static int
stop(pid_t pid)
{
	kill(pid, SIGTERM);
	return wait_end(pid);
}

static int
raw_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0);
	strcpy(address.sun_path, socket_path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
wait_listening(pid_t pid)
{
	for (unsigned waited = 0; waited < WAIT_MS; waited += 5) {
		int fd = raw_connect(), status;

		if (fd >= 0) {
			close(fd);
			return;
		}
		cr_assert(waitpid(pid, &status, WNOHANG) == 0, "the daemon does not start");
		nap(5);
	}
	cr_assert(false, "the daemon does not listen");
}

/* A daemon that answers, started with more arguments behind the usual ones. */
static pid_t
start(const char *first, ...)
{
	const char *arguments[32] = { "--listen", socket_path };
	unsigned count = 2;
	va_list more;
	pid_t pid;

	va_start(more, first);
	for (const char *a = first; a != NULL; a = va_arg(more, const char *))
		arguments[count++] = a;
	va_end(more);
	pid = spawn(0, 0, arguments);
	wait_listening(pid);
	return pid;
}

/* True if the log has the words. */
static bool
logged(const char *words)
{
	static char text[1 << 20];
	FILE *file = fopen(log_path, "r");
	size_t size;

	cr_assert(file != NULL);
	size = fread(text, 1, sizeof text - 1, file);
	text[size] = '\0';
	fclose(file);
	return strstr(text, words) != NULL;
}

static void
setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	cr_assert(mkdtemp(directory) != NULL);
	snprintf(socket_path, sizeof socket_path, "%s/s", directory);
	snprintf(state_path, sizeof state_path, "%s/state", directory);
	snprintf(log_path, sizeof log_path, "%s/log", directory);
}

static void
teardown(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	cr_assert(system(command) == 0);
}

TestSuite(daemon, .init = setup, .fini = teardown, .timeout = 100);

/* ---- Clients -------------------------------------------------------------------------- */

static struct kvmctl_connection *
connect_to(const char *store)
{
	struct kvmctl_connection *c = kvmctl_connect(socket_path, store, "test", &why);

	cr_assert(c != NULL, "%s", why.text);
	return c;
}

/* The daemon serves others still. */
static void
assert_alive(void)
{
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvmp_request r = { .type = KVMP_STATUS };
	struct kvmp_response response;

	cr_assert(kvmctl_request(c, &r, &response, &why), "%s", why.text);
	kvmctl_disconnect(&c);
}

static uint64_t
alloc_frame(struct kvmctl_connection *c)
{
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	uint64_t step;

	kvms_op_init(&op, kvms_op_find("frame_alloc"));
	cr_assert(kvmctl_apply(c, &op, false, &out, &step, &why), "%s", why.text);
	cr_assert(out.name == 0);
	kvms_outcome_free(&out);
	return step;
}

static uint64_t
digest_of(struct kvmctl_connection *c)
{
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	uint64_t digest;

	kvms_op_init(&op, kvms_request_find("digest"));
	cr_assert(kvmctl_inspect(c, &op, &out, &why), "%s", why.text);
	digest = out.field[0];
	kvms_outcome_free(&out);
	cr_assert(digest != 0);
	return digest;
}

static struct kvmp_codec *codec;

/* A request as bytes, behind what is in the buffer. */
static void
append(struct kvmp_buffer *b, const struct kvmp_request *r)
{
	if (codec == NULL)
		codec = kvmp_codec_new(0);
	cr_assert(kvmp_request_encode(codec, r, b) == KVMP_ENCODED);
}

static void
append_hello(struct kvmp_buffer *b)
{
	append(b, &(struct kvmp_request){
		      .id = 1, .type = KVMP_HELLO, .hello = { KVMP_VERSION, "default", "raw", NULL, 0 } });
}

static void
append_peek(struct kvmp_buffer *b, uint64_t id)
{
	struct kvmp_request r = { .id = id, .type = KVMP_INSPECT };

	kvms_op_init(&r.op, kvms_request_find("census"));
	append(b, &r);
}

static void
send_all(int fd, const void *data, size_t size)
{
	for (const uint8_t *at = data; size > 0;) {
		ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

		cr_assert(n > 0, "%s", strerror(errno));
		at += n;
		size -= (size_t)n;
	}
}

/* Read once, with a bound on waiting: bytes, 0 at the end. */
static size_t
receive(int fd, void *to, size_t size)
{
	struct pollfd p = { fd, POLLIN, 0 };
	ssize_t n;

	cr_assert(poll(&p, 1, WAIT_MS) == 1, "no answer");
	n = recv(fd, to, size, 0);
	cr_assert(n >= 0 || errno == ECONNRESET, "%s", strerror(errno));
	return n > 0 ? (size_t)n : 0;
}

/* The next response; false at the end.  It leads into "b" until the next call. */
static bool
next_response(int fd, struct kvmp_buffer *b, struct kvmp_response *r)
{
	static size_t taken;
	struct kvmp_refusal refusal;
	size_t size;

	kvmp_buffer_take(b, taken < kvmp_buffer_size(b) ? taken : kvmp_buffer_size(b));
	taken = 0;
	while (kvmp_frame_next(b->data + b->start, kvmp_buffer_size(b), KVMP_RESPONSE_MAX, &size) ==
	       KVMP_FRAME_PARTIAL) {
		uint8_t *place = kvmp_buffer_reserve(b, 65536);
		size_t n = receive(fd, place, 65536);

		if (n == 0)
			return false;
		kvmp_buffer_added(b, n);
	}
	if (codec == NULL)
		codec = kvmp_codec_new(0);
	cr_assert(kvmp_response_decode(codec, b->data + b->start + KVMP_FRAME_HEADER, size, r, &refusal), "%s",
		  refusal.text);
	taken = KVMP_FRAME_HEADER + size;
	return true;
}

/* The daemon says this, and ends the connection. */
static void
assert_closed_with(int fd, enum kvmp_error_code code)
{
	struct kvmp_buffer b = { 0 };
	struct kvmp_response r;

	cr_assert(next_response(fd, &b, &r));
	cr_assert(r.type == KVMP_R_ERROR && r.error.code == code && r.error.closing, "%d", r.type);
	cr_assert(!next_response(fd, &b, &r));
	kvmp_buffer_free(&b);
	close(fd);
}

/* ---- Hostile clients --------------------------------------------------------------------- */

Test(daemon, garbage_is_answered_with_an_error_and_closed)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *other = connect_to(NULL);
	int fd = raw_connect();

	send_all(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	assert_closed_with(fd, KVMP_ERROR_MALFORMED);
	fd = raw_connect();
	send_all(fd, "\x05\0\0\0\xff\xff\xff\xff\xff", 9);
	assert_closed_with(fd, KVMP_ERROR_MALFORMED);
	cr_assert(alloc_frame(other) == 1);
	kvmctl_disconnect(&other);
	cr_assert(stop(pid) == 0);
	cr_assert(logged("warning: connection 3: closed: a frame of "));
}

Test(daemon, empty_and_oversize_frames_are_refused)
{
	pid_t pid = start(NULL);
	int fd = raw_connect();

	send_all(fd, "\0\0\0\0", 4);
	assert_closed_with(fd, KVMP_ERROR_MALFORMED);
	fd = raw_connect();
	send_all(fd, "\x01\0\x80\0", 4); /* 8 MiB and one byte */
	assert_closed_with(fd, KVMP_ERROR_MALFORMED);
	assert_alive();
	cr_assert(stop(pid) == 0);
}

Test(daemon, half_a_frame_then_silence_is_closed)
{
	pid_t pid = start("--idle-timeout", "1", NULL);
	struct kvmctl_connection *quiet = connect_to(NULL);
	int header = raw_connect(), body = raw_connect();

	send_all(header, "\x10\0", 2);
	send_all(body, "\x10\0\0\0abc", 7);
	assert_closed_with(header, KVMP_ERROR_TIMEOUT);
	assert_closed_with(body, KVMP_ERROR_TIMEOUT);
	cr_assert(alloc_frame(quiet) == 1); /* silence between requests is fine */
	kvmctl_disconnect(&quiet);
	cr_assert(stop(pid) == 0);
	cr_assert(logged("half a request"));
}

Test(daemon, disconnect_in_the_middle_of_a_request_harms_nobody)
{
	pid_t pid = start("--log-level", "debug", NULL);
	struct kvmctl_connection *other = connect_to(NULL);
	struct kvmp_buffer b = { 0 };

	append_hello(&b);
	append_peek(&b, 2);
	for (size_t n = 1; n < kvmp_buffer_size(&b); n++) {
		int fd = raw_connect();

		send_all(fd, b.data + b.start, n);
		close(fd);
		cr_assert(alloc_frame(other) == n);
	}
	kvmp_buffer_free(&b);
	kvmctl_disconnect(&other);
	cr_assert(stop(pid) == 0);
	cr_assert(logged("ended in the middle of a request"));
}

/* Resident memory of a process, in KiB. */
static unsigned long
resident(pid_t pid)
{
	char path[64], line[256];
	unsigned long kib = 0;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
	file = fopen(path, "r");
	cr_assert(file != NULL);
	while (fgets(line, sizeof line, file) != NULL)
		if (sscanf(line, "VmRSS: %lu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

Test(daemon, client_that_never_reads_is_not_read)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *other = connect_to(NULL);
	struct kvmp_buffer requests = { 0 }, answers = { 0 };
	unsigned long before = resident(pid);
	struct kvmp_response r;
	uint64_t sent = 1, received = 0;
	int fd = raw_connect();

	append_hello(&requests);
	send_all(fd, requests.data + requests.start, kvmp_buffer_size(&requests));
	/* send until the socket is full for a while */
	for (size_t left = 0; sent < 2000000;) {
		struct pollfd p = { fd, POLLOUT, 0 };
		ssize_t n;

		if (left == 0) {
			kvmp_buffer_take(&requests, kvmp_buffer_size(&requests));
			append_peek(&requests, ++sent);
			left = kvmp_buffer_size(&requests);
		}
		if (poll(&p, 1, 500) == 0)
			break;
		n = send(fd, requests.data + requests.end - left, left, MSG_NOSIGNAL | MSG_DONTWAIT);
		cr_assert(n > 0 || errno == EAGAIN);
		left -= n > 0 ? (size_t)n : 0;
		if (left > 0 && n < 0)
			continue;
	}
	cr_assert(sent < 2000000, "the daemon reads without end");
	cr_assert(resident(pid) < before + 64 * 1024, "%lu KiB", resident(pid) - before);
	cr_assert(alloc_frame(other) == 1);
	/* now read: every request but the one cut off is answered, in order */
	while (received + 1 < sent) {
		cr_assert(next_response(fd, &answers, &r), "after %llu", (unsigned long long)received);
		received++;
		cr_assert(r.id == received && r.type == (received == 1 ? KVMP_R_HELLO : KVMP_R_OUTCOME));
	}
	close(fd);
	kvmctl_disconnect(&other);
	kvmp_buffer_free(&requests);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

/* The daemon may not have noticed yet that an earlier connection is gone. */
static struct kvmctl_connection *
connect_when_room(void)
{
	struct kvmctl_connection *c = NULL;

	for (unsigned waited = 0; waited < WAIT_MS && c == NULL; waited += 5) {
		c = kvmctl_connect(socket_path, NULL, "test", &why);
		if (c == NULL)
			nap(5);
	}
	cr_assert(c != NULL, "%s", why.text);
	return c;
}

Test(daemon, one_connection_too_many_is_turned_away)
{
	pid_t pid = start("--max-connections", "2", NULL);
	struct kvmctl_connection *a, *b;

	a = connect_when_room();
	b = connect_when_room();
	cr_assert(kvmctl_connect(socket_path, NULL, NULL, &why) == NULL);
	cr_assert(strstr(why.text, "too many connections") != NULL, "%s", why.text);
	kvmctl_disconnect(&b);
	b = connect_when_room();
	cr_assert(alloc_frame(a) == 1 && alloc_frame(b) == 2);
	kvmctl_disconnect(&a);
	kvmctl_disconnect(&b);
	cr_assert(stop(pid) == 0);
}

/* ---- Busy clients --------------------------------------------------------------------------- */

Test(daemon, thousand_requests_in_one_write_are_answered_in_order)
{
	pid_t pid = start(NULL);
	struct kvmp_buffer requests = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	append_hello(&requests);
	for (uint64_t id = 2; id <= 1001; id++)
		append_peek(&requests, id);
	send_all(fd, requests.data + requests.start, kvmp_buffer_size(&requests));
	shutdown(fd, SHUT_WR); /* what was sent before is answered still */
	for (uint64_t id = 1; id <= 1001; id++) {
		cr_assert(next_response(fd, &answers, &r));
		cr_assert(r.id == id);
	}
	cr_assert(!next_response(fd, &answers, &r));
	close(fd);
	kvmp_buffer_free(&requests);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, request_byte_by_byte_is_answered)
{
	pid_t pid = start(NULL);
	struct kvmp_buffer requests = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	append_hello(&requests);
	append_peek(&requests, 2);
	while (kvmp_buffer_size(&requests) > 0) {
		send_all(fd, requests.data + requests.start, 1);
		kvmp_buffer_take(&requests, 1);
		nap(1);
	}
	cr_assert(next_response(fd, &answers, &r) && r.type == KVMP_R_HELLO);
	cr_assert(next_response(fd, &answers, &r) && r.type == KVMP_R_OUTCOME && r.id == 2);
	close(fd);
	kvmp_buffer_free(&requests);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, pipelined_operations_through_the_client)
{
	enum { MANY = 20000 };
	pid_t pid = start(NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	uint64_t step;

	kvms_op_init(&op, kvms_op_find("frame_alloc"));
	for (unsigned i = 0; i < MANY; i++)
		cr_assert(kvmctl_send_op(c, &op, false, &why), "%s", why.text);
	cr_assert(kvmctl_pending(c) == MANY);
	for (unsigned i = 1; i <= MANY; i++) {
		cr_assert(kvmctl_receive(c, &out, &step, &why), "%s", why.text);
		cr_assert(out.name == 0 && out.field[0] == i && step == i);
	}
	cr_assert(kvmctl_pending(c) == 0);
	kvms_outcome_free(&out);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

Test(daemon, fifty_connections_take_turns)
{
	enum { CLIENTS = 50, ROUNDS = 20 };
	pid_t pid = start(NULL);
	struct kvmctl_connection *c[CLIENTS];
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	uint64_t step, highest = 0;

	for (unsigned i = 0; i < CLIENTS; i++)
		c[i] = connect_to(NULL);
	kvms_op_init(&op, kvms_op_find("frame_alloc"));
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < CLIENTS; i++)
			cr_assert(kvmctl_send_op(c[i], &op, false, &why), "%s", why.text);
		for (unsigned i = CLIENTS; i-- > 0;) {
			cr_assert(kvmctl_receive(c[i], &out, &step, &why), "%s", why.text);
			highest = step > highest ? step : highest;
		}
	}
	cr_assert(highest == CLIENTS * ROUNDS);
	for (unsigned i = 0; i < CLIENTS; i++)
		kvmctl_disconnect(&c[i]);
	kvms_outcome_free(&out);
	cr_assert(stop(pid) == 0);
}

Test(daemon, large_requests_and_answers)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	size_t count = KVMP_TRANSLATE_MAX + 1000;
	uint64_t *va = calloc(count, sizeof *va), *paddr = calloc(count, sizeof *paddr);
	uint8_t *found = calloc(count, 1);
	struct kvmp_request r = { .type = KVMP_TRANSLATE_MANY };
	struct kvmp_response response;

	cr_assert(va != NULL && paddr != NULL && found != NULL);
	for (size_t i = 0; i < count; i++)
		va[i] = i * 4096;
	cr_assert(kvmctl_translate(c, 0, va, count, found, paddr, &why), "%s", why.text);
	cr_assert(found[0] == 0 && found[count - 1] == 0);
	r.translate.va = va;
	r.translate.count = count;
	cr_assert(!kvmctl_request(c, &r, &response, &why));
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_INVALID, "%s", why.text);
	cr_assert(alloc_frame(c) == 1);
	kvmctl_disconnect(&c);
	free(va);
	free(paddr);
	free(found);
	cr_assert(stop(pid) == 0);
}

/* ---- The end --------------------------------------------------------------------------------- */

Test(daemon, sigterm_and_sigint_end_it_cleanly)
{
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = start(NULL);
		struct kvmctl_connection *idle = connect_to(NULL);

		cr_assert(stat(socket_path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
		kill(pid, i == 0 ? SIGTERM : SIGINT);
		cr_assert(wait_end(pid) == 0);
		cr_assert(lstat(socket_path, &st) != 0 && errno == ENOENT);
		kvmctl_disconnect(&idle);
	}
}

Test(daemon, what_was_received_before_sigterm_is_carried_out)
{
	enum { MANY = 3000 };
	pid_t pid = start("--state-dir", state_path, NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	append_hello(&b);
	for (unsigned i = 0; i < MANY; i++) {
		struct kvmp_request alloc = { .id = i + 2, .type = KVMP_OP };

		kvms_op_init(&alloc.op, kvms_op_find("frame_alloc"));
		append(&b, &alloc);
	}
	append_peek(&b, MANY + 2);
	/* stopped, it cannot have read any of it before the signal is there */
	kill(pid, SIGSTOP);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b) - 1);
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
	for (unsigned i = 0; i <= MANY; i++) {
		cr_assert(next_response(fd, &answers, &r), "after %u", i);
		cr_assert(r.id == i + 1 && r.type != KVMP_R_ERROR);
	}
	cr_assert(!next_response(fd, &answers, &r)); /* the last was cut short */
	cr_assert(wait_end(pid) == 0);
	kvmctl_disconnect(&c);
	close(fd);
	pid = start("--state-dir", state_path, NULL);
	c = connect_to(NULL);
	cr_assert(alloc_frame(c) == MANY + 1);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
	cr_assert(logged("saved store \"default\": step 3000"));
	cr_assert(logged("loaded store \"default\": step 3000"));
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
}

Test(daemon, client_that_does_not_take_its_answers_does_not_hold_up_the_end)
{
	pid_t pid = start("--drain-timeout", "1", NULL);
	struct kvmp_buffer b = { 0 };
	int fd = raw_connect();

	append_hello(&b);
	for (unsigned i = 2; i < 5000; i++)
		append_peek(&b, i);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	nap(100);
	cr_assert(stop(pid) == 0);
	cr_assert(logged("1 connections did not take all their answers"));
	close(fd);
	kvmp_buffer_free(&b);
}

Test(daemon, second_signal_ends_the_waiting)
{
	pid_t pid = start("--drain-timeout", "3600", "--idle-timeout", "3600", NULL);
	struct kvmp_buffer b = { 0 };
	int fd = raw_connect();

	append_hello(&b);
	for (unsigned i = 2; i < 5000; i++)
		append_peek(&b, i);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	nap(100);
	kill(pid, SIGTERM);
	for (unsigned waited = 0; waited < WAIT_MS && !logged("SIGTERM: finishing"); waited += 5)
		nap(5);
	cr_assert(waitpid(pid, NULL, WNOHANG) == 0);
	cr_assert(stop(pid) == 0);
	close(fd);
	kvmp_buffer_free(&b);
}

/* ---- The beginning --------------------------------------------------------------------------- */

static int
run(const char *first, ...)
{
	const char *arguments[32] = { NULL };
	unsigned count = 0;
	va_list more;

	va_start(more, first);
	for (const char *a = first; a != NULL; a = va_arg(more, const char *))
		arguments[count++] = a;
	va_end(more);
	return wait_end(spawn(0, 0, arguments));
}

Test(daemon, socket_of_a_live_daemon_is_left_alone)
{
	pid_t pid = start(NULL);

	cr_assert(run("--listen", socket_path, NULL) == 1);
	cr_assert(logged("another kvmstored listens on"));
	assert_alive();
	cr_assert(stop(pid) == 0);
}

static int
raw_listen(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, socket_path);
	cr_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 5) == 0);
	return fd;
}

Test(daemon, socket_of_another_program_is_left_alone)
{
	int fd = raw_listen();
	struct stat st;

	cr_assert(run("--listen", socket_path, NULL) == 1);
	cr_assert(logged("is in use"));
	cr_assert(lstat(socket_path, &st) == 0);
	close(fd);
}

Test(daemon, stale_socket_is_replaced)
{
	pid_t pid;

	close(raw_listen());
	pid = start(NULL);
	assert_alive();
	kill(pid, SIGKILL);
	cr_assert(wait_end(pid) == 128 + SIGKILL);
	pid = start(NULL);
	assert_alive();
	cr_assert(stop(pid) == 0);
	cr_assert(logged("which nobody listens on"));
}

Test(daemon, file_that_is_no_socket_is_left_alone)
{
	FILE *file = fopen(socket_path, "w");
	struct stat st;

	fputs("precious", file);
	fclose(file);
	cr_assert(run("--listen", socket_path, NULL) == 1);
	cr_assert(logged("is not a socket"));
	cr_assert(stat(socket_path, &st) == 0 && st.st_size == 8);
}

Test(daemon, impossible_socket_path_is_explained)
{
	char path[300];

	snprintf(path, sizeof path, "%s/no/such/s", directory);
	cr_assert(run("--listen", path, NULL) == 1);
	cr_assert(logged("its directory must exist"));
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	cr_assert(run("--listen", path, NULL) == 1);
	cr_assert(logged("at most 107 bytes"));
}

Test(daemon, state_directory_in_use_is_refused)
{
	pid_t pid = start("--state-dir", state_path, NULL);
	char other[140];

	snprintf(other, sizeof other, "%s2", socket_path);
	cr_assert(run("--listen", other, "--state-dir", state_path, NULL) == 1);
	cr_assert(logged("is in use by another kvmstored"));
	assert_alive();
	cr_assert(stop(pid) == 0);
}

Test(daemon, state_directory_that_cannot_be_is_refused)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof path, "%s/file", directory);
	file = fopen(path, "w");
	fclose(file);
	cr_assert(run("--listen", socket_path, "--state-dir", path, NULL) == 1);
	cr_assert(logged("is not a directory"));
	snprintf(path, sizeof path, "%s/file/below", directory);
	cr_assert(run("--listen", socket_path, "--state-dir", path, NULL) == 1);
	cr_assert(logged("cannot make the state directory"));
}

Test(daemon, foreign_database_is_refused_and_kept)
{
	static const char words[] = "this is a letter to a friend, and no database at all";
	char path[160], back[100] = "";
	FILE *file;

	cr_assert(mkdir(state_path, 0700) == 0);
	snprintf(path, sizeof path, "%s/kvmstore.db", state_path);
	file = fopen(path, "w");
	fputs(words, file);
	fclose(file);
	cr_assert(run("--listen", socket_path, "--state-dir", state_path, NULL) == 1);
	cr_assert(logged("cannot be used"));
	file = fopen(path, "r");
	cr_assert(fgets(back, sizeof back, file) != NULL);
	fclose(file);
	cr_assert_str_eq(back, words);
}

Test(daemon, killed_daemon_goes_back_to_its_last_snapshot)
{
	pid_t pid = start("--state-dir", state_path, NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvmp_request r = { .type = KVMP_SNAPSHOT_SAVE };
	struct kvmp_response response;
	uint64_t digest;

	alloc_frame(c);
	alloc_frame(c);
	digest = digest_of(c);
	cr_assert(kvmctl_request(c, &r, &response, &why), "%s", why.text);
	cr_assert(response.store.saved && response.store.saved_step == 2);
	alloc_frame(c);
	kill(pid, SIGKILL);
	cr_assert(wait_end(pid) == 128 + SIGKILL);
	cr_assert(!kvmctl_request(c, &r, &response, &why));
	cr_assert(why.kind == KVMCTL_LOST);
	kvmctl_disconnect(&c);
	pid = start("--state-dir", state_path, NULL);
	c = connect_to(NULL);
	cr_assert(digest_of(c) == digest);
	cr_assert(alloc_frame(c) == 3);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

Test(daemon, full_disk_is_told_and_nothing_is_lost)
{
	/* no file of this daemon can grow beyond 160 KiB */
	const char *const arguments[] = { "--listen", socket_path, "--state-dir", state_path, NULL };
	pid_t pid = start("--state-dir", state_path, NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvmp_request r = { .type = KVMP_SNAPSHOT_SAVE };
	struct kvmp_response response;
	struct kvms_outcome out = { 0 };
	struct kvms_op op;

	alloc_frame(c);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
	pid = spawn(RLIMIT_FSIZE, 160 * 1024, arguments);
	wait_listening(pid);
	c = connect_to(NULL);
	kvms_op_init(&op, kvms_op_find("frame_alloc"));
	for (unsigned i = 0; i < 20000; i++)
		cr_assert(kvmctl_send_op(c, &op, false, &why));
	for (unsigned i = 0; i < 20000; i++) /* until the journal finds the disk full */
		cr_assert(kvmctl_receive(c, &out, NULL, &why) ||
			  (why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_STATE), "%s", why.text);
	kvms_outcome_free(&out);
	cr_assert(!kvmctl_request(c, &r, &response, &why));
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_STATE, "%s", why.text);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 1);
	cr_assert(logged("not saved"));
	pid = start("--state-dir", state_path, NULL);
	c = connect_to(NULL);
	/* what was there before; of what came, as much as had found room */
	cr_assert(alloc_frame(c) >= 2);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

#ifndef __SANITIZE_ADDRESS__ /* which reserves more than any limit */
Test(daemon, store_that_the_machine_has_no_room_for_is_refused)
{
	const char *const arguments[] = { "--listen", socket_path, NULL };
	pid_t pid = spawn(RLIMIT_AS, UINT64_C(4) << 30, arguments);
	struct kvmp_request r = { .type = KVMP_STORE_CREATE };
	struct kvmp_response response;
	struct kvmctl_connection *c;

	wait_listening(pid);
	c = connect_to(NULL);
	r.store.name = "huge";
	kvms_op_init(&r.store.config, kvms_store_row());
	r.store.config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = UINT64_C(1) << 36;
	cr_assert(!kvmctl_request(c, &r, &response, &why));
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_STORE_REFUSED, "%s", why.text);
	cr_assert(strstr(why.text, "address space") != NULL, "%s", why.text);
	cr_assert(alloc_frame(c) == 1);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}
#endif

/* ---- The client ---------------------------------------------------------------------------------- */

Test(daemon, client_without_a_daemon_says_what_to_do)
{
	cr_assert(kvmctl_connect(socket_path, NULL, NULL, &why) == NULL);
	cr_assert(why.kind == KVMCTL_LOST);
	cr_assert(strstr(why.text, "kvmstored --listen") != NULL && strstr(why.text, "--embedded") != NULL, "%s",
		  why.text);
	cr_assert(kvmctl_connect("", NULL, NULL, &why) == NULL);
}

Test(daemon, client_finds_the_socket_by_the_variable)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *c;
	char path[108];

	setenv("KVMSTORE_SOCKET", socket_path, 1);
	cr_assert(kvmctl_default_socket(path, sizeof path));
	cr_assert_str_eq(path, socket_path);
	c = kvmctl_connect(NULL, NULL, NULL, &why);
	cr_assert(c != NULL, "%s", why.text);
	cr_assert_str_eq(kvmctl_socket(c), socket_path);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

/* What listens there is something else. */
static void
impostor(const char *words, size_t size)
{
	int listener = raw_listen();
	pid_t pid = fork();
	int status;

	cr_assert(pid >= 0);
	if (pid == 0) {
		char request[100];
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || recv(fd, request, sizeof request, 0) < 0 || send(fd, words, size, MSG_NOSIGNAL) < 0)
			_exit(1);
		_exit(0);
	}
	cr_assert(kvmctl_connect(socket_path, NULL, NULL, &why) == NULL);
	cr_assert(why.kind == KVMCTL_LOST);
	waitpid(pid, &status, 0);
	close(listener);
	unlink(socket_path);
}

Test(daemon, client_is_not_fooled_by_other_programs)
{
	impostor("HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	cr_assert(strstr(why.text, "is not kvmstored") != NULL, "%s", why.text);
	impostor("\x03\0\0\0abc", 7);
	cr_assert(strstr(why.text, "cannot be understood") != NULL, "%s", why.text);
	impostor("\x03\0", 2);
	cr_assert(strstr(why.text, "closed the connection") != NULL, "%s", why.text);
}

Test(daemon, refusals_leave_the_connection_in_use)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	struct kvmp_request r = { .type = KVMP_STORE_SELECT };
	struct kvmp_response response;

	cr_assert(kvmctl_connect(socket_path, "nowhere", NULL, &why) == NULL);
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_UNKNOWN_STORE);
	r.store.name = "nowhere";
	cr_assert(!kvmctl_request(c, &r, &response, &why));
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_UNKNOWN_STORE);
	cr_assert(alloc_frame(c) == 1);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

static bool
count_run(void *arg, const struct kvms_extent *run)
{
	uint64_t *leaves = arg;

	*leaves += run->leaves;
	return true;
}

Test(daemon, extents_come_in_parts)
{
	/* more runs than fit one answer: every second page of an area */
	enum { PAGES = 2 * (KVMP_RUNS_MAX + 100) };
	pid_t pid = start("--check", "off", NULL);
	struct kvmctl_connection *c = connect_to(NULL);
	const struct kvms_row *into = kvms_op_find("kvirt_map_untracked_into");
	struct kvms_outcome out = { 0 };
	uint64_t start_va, leaves = 0;
	struct kvms_op op;

	kvms_op_init(&op, kvms_op_find("kvirt_reserve"));
	op.arg[0] = (uint64_t)PAGES * 4096;
	cr_assert(kvmctl_apply(c, &op, false, &out, NULL, &why) && out.name == 0, "%s", why.text);
	start_va = out.field[1];
	kvms_op_init(&op, into);
	op.arg[kvms_arg_index(into, "area")] = 1;
	op.arg[kvms_arg_index(into, "prop")] = 0x40003;
	for (unsigned i = 0; i < PAGES; i += 2) {
		op.arg[kvms_arg_index(into, "va")] = start_va + i * 4096ull;
		op.arg[kvms_arg_index(into, "paddr_start")] = 0x100000000ull;
		op.arg[kvms_arg_index(into, "paddr_end")] = 0x100001000ull;
		cr_assert(kvmctl_send_op(c, &op, false, &why), "%s", why.text);
	}
	for (unsigned i = 0; i < PAGES; i += 2)
		cr_assert(kvmctl_receive(c, &out, NULL, &why) && out.name == 0, "%s", why.text);
	cr_assert(kvmctl_extents(c, 0, 0, UINT64_MAX, count_run, &leaves, &why), "%s", why.text);
	cr_assert(leaves == PAGES / 2, "%llu", (unsigned long long)leaves);
	kvms_outcome_free(&out);
	kvmctl_disconnect(&c);
	cr_assert(stop(pid) == 0);
}

/* ---- Cursors, and waiting for them ------------------------------------------------------------------ */

/* Open [start, start + pages) of space 1: the outcome's name, 0 = ok, and the cursor or the holder. */
static void
send_open(struct kvmctl_connection *c, uint64_t start, uint64_t pages, uint32_t wait_ms, bool detached)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_op_find("cursor_open_mut"));
	op.arg[0] = 1;
	op.arg[1] = start;
	op.arg[2] = start + pages * 4096;
	cr_assert(kvmctl_send_open(c, &op, wait_ms, detached, &why), "%s", why.text);
}

/* The answer to it: the cursor, or 0 = block with its holder in *holder. */
static uint64_t
receive_open(struct kvmctl_connection *c, uint64_t *holder)
{
	struct kvms_outcome out = { 0 };
	uint64_t cursor;

	cr_assert(kvmctl_receive(c, &out, NULL, &why), "%s", why.text);
	cr_assert(out.name == 0 || strcmp(kvms_outcome_name(out.name), "cursor_locked") == 0, "%s",
		  kvms_outcome_name(out.name));
	if (holder != NULL)
		*holder = out.detail;
	cursor = out.name == 0 ? out.field[0] : 0;
	kvms_outcome_free(&out);
	return cursor;
}

static uint64_t
open_now(struct kvmctl_connection *c, uint64_t start)
{
	send_open(c, start, 1, 0, false);
	return receive_open(c, NULL);
}

static void
apply_op(struct kvmctl_connection *c, const char *name, uint64_t arg)
{
	struct kvms_outcome out = { 0 };
	struct kvms_op op;

	kvms_op_init(&op, kvms_op_find(name));
	op.arg[0] = arg;
	cr_assert(kvmctl_apply(c, &op, false, &out, NULL, &why) && out.name == 0, "%s: %s", name, why.text);
	kvms_outcome_free(&out);
}

static struct kvmp_status
status_of(struct kvmctl_connection *c)
{
	struct kvmp_request r = { .type = KVMP_STATUS };
	struct kvmp_response response;

	cr_assert(kvmctl_request(c, &r, &response, &why), "%s", why.text);
	return response.status;
}

/* Until so many opens wait. */
static void
wait_waiting(struct kvmctl_connection *c, uint64_t count)
{
	for (unsigned waited = 0; waited < WAIT_MS; waited += 2) {
		if (status_of(c).waiting == count)
			return;
		nap(2);
	}
	cr_assert(false, "%llu wait", (unsigned long long)status_of(c).waiting);
}

/* Until the store has taken so many steps. */
static void
wait_step(struct kvmctl_connection *c, uint64_t step)
{
	for (unsigned waited = 0; waited < WAIT_MS; waited += 2) {
		if (status_of(c).store->step >= step)
			break;
		nap(2);
	}
	cr_assert(status_of(c).store->step == step, "step %llu", (unsigned long long)status_of(c).store->step);
}

static unsigned long
ms_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
}

Test(daemon, cursors_are_dropped_with_their_connection)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *a = connect_to(NULL), *b = connect_to(NULL);
	uint64_t digest;

	apply_op(b, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1 && open_now(b, 0x200000) == 2 && open_now(a, 0x400000) == 3);
	send_open(a, 0x600000, 1, 0, true);
	cr_assert(receive_open(a, NULL) == 4);
	kvmctl_disconnect(&a);
	wait_step(b, 7); /* a space, four cursors, two drops */
	digest = digest_of(b);
	kvmctl_disconnect(&b);
	cr_assert(stop(pid) == 0);

	/* the same by hand */
	pid = start(NULL);
	a = connect_to(NULL);
	apply_op(a, "vm_space_new", 0);
	for (unsigned i = 0; i < 4; i++)
		cr_assert(open_now(a, i * 0x200000ull) == i + 1);
	apply_op(a, "cursor_drop", 1);
	apply_op(a, "cursor_drop", 3);
	cr_assert(digest_of(a) == digest);
	kvmctl_disconnect(&a);
	cr_assert(stop(pid) == 0);
}

/* A process of its own that opens a cursor, and then waits for another open or does nothing; to be killed. */
static pid_t
holder_spawn(struct kvmctl_connection *observer, uint64_t start_va, uint64_t wait_va)
{
	uint64_t waiting = status_of(observer).waiting, steps = status_of(observer).store->step;
	pid_t pid, parent = getpid();

	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		struct kvmctl_connection *c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		c = connect_to(NULL);
		if (open_now(c, start_va) != 0 && wait_va != 0) {
			send_open(c, wait_va, 1, 60000, false);
			receive_open(c, NULL);
		}
		for (;;)
			pause();
	}
	if (wait_va != 0)
		wait_waiting(observer, waiting + 1);
	else
		wait_step(observer, steps + 1);
	return pid;
}

static void
murder(pid_t pid)
{
	kill(pid, SIGKILL);
	cr_assert(wait_end(pid) == 128 + SIGKILL);
}

/* Requests as bytes: an open that waits, and more behind it. */
static void
append_open(struct kvmp_buffer *b, uint64_t id, uint64_t start, uint32_t wait_ms)
{
	struct kvmp_request r = { .id = id, .type = KVMP_OP, .wait_ms = wait_ms };

	kvms_op_init(&r.op, kvms_op_find("cursor_open"));
	r.op.arg[0] = 1;
	r.op.arg[1] = start;
	r.op.arg[2] = start + 4096;
	append(b, &r);
}

Test(daemon, waiter_gets_what_a_killed_client_held)
{
	pid_t pid = start(NULL), holder;
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	apply_op(a, "vm_space_new", 0);
	holder = holder_spawn(a, 0, 0);
	append_hello(&b);
	append_open(&b, 2, 0, 60000);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	wait_waiting(a, 1);
	murder(holder);
	cr_assert(next_response(fd, &answers, &r) && r.id == 1);
	cr_assert(next_response(fd, &answers, &r) && r.id == 2);
	cr_assert(r.answer.outcome.name == 0 && r.answer.outcome.field[0] == 2);
	cr_assert(status_of(a).store->step == 4 && status_of(a).waiting == 0); /* a space, an open, its drop, an open */
	close(fd);
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, killed_waiter_is_forgotten)
{
	pid_t pid = start(NULL), waiter;
	struct kvmctl_connection *a = connect_to(NULL), *b = connect_to(NULL);

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	waiter = holder_spawn(b, 0x200000, 0x1000);
	murder(waiter);
	wait_waiting(b, 0);
	wait_step(b, 4); /* its own cursor went with it, and it never opened another */
	apply_op(a, "cursor_drop", 1);
	cr_assert(open_now(b, 0x200000) == 3);
	kvmctl_disconnect(&a);
	kvmctl_disconnect(&b);
	cr_assert(stop(pid) == 0);
}

Test(daemon, requests_behind_a_waiting_one_are_answered_in_order)
{
	enum { BEHIND = 10000 };
	pid_t pid = start(NULL);
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1 && open_now(a, 0x200000) == 2);
	append_hello(&b);
	append_open(&b, 2, 0, 60000);
	append_peek(&b, 3);
	append_open(&b, 4, 0x200000, 60000);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	kvmp_buffer_take(&b, kvmp_buffer_size(&b));
	cr_assert(next_response(fd, &answers, &r) && r.id == 1);
	wait_waiting(a, 1);
	for (unsigned i = 0; i < 100; i++)
		alloc_frame(a);        /* others go on */
	apply_op(a, "cursor_drop", 2); /* not what it waits for first */
	cr_assert(status_of(a).waiting == 1);
	apply_op(a, "cursor_drop", 1);
	cr_assert(next_response(fd, &answers, &r) && r.id == 2 && r.type == KVMP_R_OUTCOME);
	cr_assert(r.answer.outcome.name == 0 && r.answer.outcome.field[0] == 3);
	cr_assert(next_response(fd, &answers, &r) && r.id == 3);
	cr_assert(next_response(fd, &answers, &r) && r.id == 4 && r.answer.outcome.name == 0);
	/* far more behind one than the daemon takes at once, and no more to come */
	cr_assert(open_now(a, 0x400000) == 5);
	append_open(&b, 5, 0x400000, 60000);
	for (uint64_t id = 6; id < BEHIND; id++)
		append_peek(&b, id);
	send_all(fd, b.data + b.start, 100000);
	wait_waiting(a, 1);
	apply_op(a, "cursor_drop", 5);
	send_all(fd, b.data + b.start + 100000, kvmp_buffer_size(&b) - 100000);
	shutdown(fd, SHUT_WR);
	for (uint64_t id = 5; id < BEHIND; id++) {
		cr_assert(next_response(fd, &answers, &r), "after %llu", (unsigned long long)id);
		cr_assert(r.id == id && r.type == KVMP_R_OUTCOME && r.answer.outcome.name == 0);
	}
	cr_assert(!next_response(fd, &answers, &r));
	close(fd);
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, three_waiters_are_served_in_order)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd[3];

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	append_hello(&b);
	append_open(&b, 2, 0, 60000);
	for (unsigned i = 0; i < 3; i++) {
		fd[i] = raw_connect();
		send_all(fd[i], b.data + b.start, kvmp_buffer_size(&b));
		cr_assert(next_response(fd[i], &answers, &r) && r.type == KVMP_R_HELLO);
		wait_waiting(a, i + 1);
	}
	apply_op(a, "cursor_drop", 1);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(next_response(fd[i], &answers, &r) && r.id == 2);
		cr_assert(r.answer.outcome.name == 0 && r.answer.outcome.field[0] == i + 2);
		wait_waiting(a, 2 - i);
		close(fd[i]); /* which lets the next one in */
	}
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, wait_ends_when_its_time_is_over)
{
	pid_t pid = start("--max-wait", "2", "--max-waiting", "1", NULL);
	struct kvmctl_connection *a = connect_to(NULL), *b = connect_to(NULL);
	unsigned long before = ms_now(), after;
	uint64_t holder;

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	send_open(b, 0, 1, 300, false);
	cr_assert(receive_open(b, &holder) == 0 && holder == 1);
	after = ms_now();
	cr_assert(after - before >= 300 && after - before < 20000, "%lu ms", after - before);
	cr_assert(status_of(a).store->step == 3 && status_of(a).waiting == 0); /* that block was a step */
	send_open(b, 0, 1, 2001, false);
	cr_assert(!kvmctl_receive(b, &(struct kvms_outcome){ 0 }, NULL, &why));
	cr_assert(why.kind == KVMCTL_REFUSED && why.code == KVMP_ERROR_LIMIT, "%s", why.text);
	cr_assert(alloc_frame(b) == 4);
	kvmctl_disconnect(&a);
	kvmctl_disconnect(&b);
	cr_assert(stop(pid) == 0);
}

/* An answer that is no step waits for no journal, though there was a step of somebody else since it was asked for. */
Test(daemon, answer_without_a_step_does_not_wait_for_the_journal)
{
	pid_t pid = start("--state-dir", state_path, "--durability", "full", NULL);
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_request wide = { .id = 2, .type = KVMP_OP, .wait_ms = 60000 };
	struct kvmp_buffer b = { 0 }, c = { 0 }, answers = { 0 };
	struct kvmp_response r;
	unsigned long before;
	int first = raw_connect(), second = raw_connect();

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	kvms_op_init(&wide.op, kvms_op_find("cursor_open"));
	wide.op.arg[0] = 1;
	wide.op.arg[2] = 0x40000000;
	append_hello(&b);
	append(&b, &wide); /* waits for the first cursor */
	send_all(first, b.data + b.start, kvmp_buffer_size(&b));
	wait_waiting(a, 1);
	before = ms_now();
	append_hello(&c);
	append_open(&c, 2, 0x800000, 300); /* is free, but behind the wide one */
	send_all(second, c.data + c.start, kvmp_buffer_size(&c));
	wait_waiting(a, 2);
	alloc_frame(a);
	cr_assert(next_response(second, &answers, &r) && r.id == 1);
	cr_assert(next_response(second, &answers, &r) && r.id == 2);
	cr_assert(r.answer.held_back && !r.answer.has_step);
	cr_assert(ms_now() - before >= 300 && ms_now() - before < 5000, "%lu ms", ms_now() - before);
	close(first);
	close(second);
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&c);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, client_that_has_sent_all_and_goes_is_noticed_while_it_waits)
{
	pid_t pid = start("--log-level", "debug", NULL);
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	append_hello(&b);
	append_open(&b, 2, 0, 60000);
	append_peek(&b, 3);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	cr_assert(next_response(fd, &answers, &r));
	wait_waiting(a, 1);
	shutdown(fd, SHUT_WR);
	nap(50);
	cr_assert(status_of(a).waiting == 1); /* it still wants its answer */
	close(fd);
	wait_waiting(a, 0);
	cr_assert(logged("gone while it waited"));
	/* and one that stays gets it */
	fd = raw_connect();
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	shutdown(fd, SHUT_WR);
	cr_assert(next_response(fd, &answers, &r) && r.id == 1);
	wait_waiting(a, 1);
	apply_op(a, "cursor_drop", 1);
	cr_assert(next_response(fd, &answers, &r) && r.id == 2 && r.answer.outcome.name == 0);
	cr_assert(next_response(fd, &answers, &r) && r.id == 3);
	cr_assert(!next_response(fd, &answers, &r));
	close(fd);
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, wait_cycles_are_answered_at_once)
{
	pid_t pid = start(NULL);
	struct kvmctl_connection *a = connect_to(NULL), *b = connect_to(NULL);
	struct kvmp_buffer raw = { 0 }, answers = { 0 };
	const struct kvmctl_block *block;
	struct kvmp_response r;
	uint64_t holder;
	int fd = raw_connect();

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	send_open(a, 0, 1, 60000, false);
	cr_assert(receive_open(a, &holder) == 0 && holder == 1);
	block = kvmctl_last_block(a);
	cr_assert(block->count == 1 && block->cursors[0] == 1 && !block->held_back);
	/* another holds 2 and waits for 1 */
	append_hello(&raw);
	append_open(&raw, 2, 0x200000, 0);
	append_open(&raw, 3, 0, 60000);
	send_all(fd, raw.data + raw.start, kvmp_buffer_size(&raw));
	wait_waiting(b, 1);
	send_open(a, 0x200000, 1, 60000, false);
	cr_assert(receive_open(a, &holder) == 0 && holder == 2);
	block = kvmctl_last_block(a);
	cr_assert(block->count == 2 && block->cursors[0] == 2 && block->cursors[1] == 1);
	cr_assert(logged("over the cursors 2, 1"));
	kvmctl_disconnect(&a);
	for (unsigned i = 1; i <= 3; i++)
		cr_assert(next_response(fd, &answers, &r) && r.id == i);
	cr_assert(r.answer.outcome.name == 0);
	close(fd);
	kvmctl_disconnect(&b);
	kvmp_buffer_free(&raw);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}

Test(daemon, end_answers_who_waits_and_drops_cursors_before_it_saves)
{
	pid_t pid = start("--state-dir", state_path, NULL);
	struct kvmctl_connection *a = connect_to(NULL);
	struct kvmp_buffer b = { 0 }, answers = { 0 };
	struct kvmp_response r;
	int fd = raw_connect();

	apply_op(a, "vm_space_new", 0);
	cr_assert(open_now(a, 0) == 1);
	send_open(a, 0x200000, 1, 0, true);
	cr_assert(receive_open(a, NULL) == 2);
	append_hello(&b);
	append_open(&b, 2, 0, 60000);
	append_peek(&b, 3);
	append_open(&b, 4, 0x200000, 60000);
	send_all(fd, b.data + b.start, kvmp_buffer_size(&b));
	wait_waiting(a, 1);
	kill(pid, SIGTERM);
	for (unsigned i = 1; i <= 4; i++) {
		cr_assert(next_response(fd, &answers, &r), "after %u", i);
		cr_assert(r.id == i && r.type != KVMP_R_ERROR);
		cr_assert(i % 2 == 1 || strcmp(kvms_outcome_name(r.answer.outcome.name), "cursor_locked") == 0);
	}
	cr_assert(!next_response(fd, &answers, &r));
	cr_assert(wait_end(pid) == 0);
	close(fd);
	kvmctl_disconnect(&a);
	pid = start("--state-dir", state_path, NULL);
	a = connect_to(NULL);
	wait_step(a, 6); /* a space, two cursors, two blocks, one drop */
	cr_assert(open_now(a, 0) == 3);
	cr_assert(open_now(a, 0x200000) == 0); /* the detached one is there still */
	apply_op(a, "cursor_drop", 2);
	cr_assert(open_now(a, 0x200000) == 4);
	kvmctl_disconnect(&a);
	kvmp_buffer_free(&b);
	kvmp_buffer_free(&answers);
	cr_assert(stop(pid) == 0);
}
