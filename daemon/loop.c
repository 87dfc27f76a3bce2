#include "daemon/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/session.h"

#define ACCEPTS 64u        /* connections taken at one go, so that others get their turn */
#define ACCEPT_PAUSE_S 1   /* when the machine has no room for one more */
#define OWN_DESCRIPTORS 64 /* beside those of connections */

struct loop {
	struct event_base *base;
	struct kvmd_server *server;
	struct kvmd_listener *listener;
	const struct kvmd_options *options;
	struct kvmd_sessions sessions;
	struct event *accept;
	struct event *accept_again; /* ends a pause */
	struct event *terminate;
	struct event *interrupt;
	struct event *deadline; /* of draining */
	struct event *writer;   /* the journal has come on; NULL if there is none */
	struct event *tasks;    /* a worker has done its part */
};

/* ---- Connections ------------------------------------------------------------------- */

/* One connection too many: it gets an Error in answer to whatever it will ask. */
static void
turn_away(struct loop *loop, int fd)
{
	struct kvmp_buffer out = { 0 };
	struct kvmp_response response;

	kvmd_log_limited(KVMD_WARNING, "turned a connection away: there are %u (--max-connections)",
			 loop->sessions.count);
	kvmd_error(&response, 0, KVMP_ERROR_LIMIT, "too many connections (--max-connections)", true);
	if (kvmp_response_encode(loop->server->codec, &response, &out) == KVMP_ENCODED &&
	    send(fd, out.data + out.start, kvmp_buffer_size(&out), MSG_NOSIGNAL) < 0)
		kvmd_log(KVMD_DEBUG, "it did not hear why: %s", strerror(errno));
	kvmp_buffer_free(&out);
	close(fd);
}

static void
on_accept(evutil_socket_t listener, short what, void *arg)
{
	const struct timeval pause = { ACCEPT_PAUSE_S, 0 };
	struct loop *loop = arg;

	(void)what;
	for (unsigned i = 0; i < ACCEPTS; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			if (loop->sessions.count >= loop->options->max_connections)
				turn_away(loop, fd);
			else if (!kvmd_session_begin(&loop->sessions, fd))
				kvmd_log_limited(KVMD_ERROR, "no memory left for a connection");
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			kvmd_log_limited(KVMD_WARNING, "cannot accept connections for now: %s", strerror(errno));
			event_del(loop->accept);
			event_add(loop->accept_again, &pause);
			return;
		}
	}
}

static void
on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd, (void)what;
	event_add(loop->accept, NULL);
}

/* ---- The journal -------------------------------------------------------------------------- */

static void
on_writer(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd, (void)what;
	kvmd_state_heard(&loop->server->state);
	kvmd_tasks_run(loop->server);
	kvmd_sessions_written(&loop->sessions);
}

static void
on_tasks(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd, (void)what;
	kvmd_tasks_run(loop->server);
}

/* Turn by turn: what one turn has done goes to the journal before the next one waits. */
static bool
loop_turn(struct loop *loop)
{
	do {
		if (event_base_loop(loop->base, EVLOOP_ONCE) != 0)
			return false;
		kvmd_state_flush(&loop->server->state, &loop->server->stores);
		loop->server->stepped = false; /* or an answer would wait for a flush that has been */
	} while (!event_base_got_break(loop->base));
	return true;
}

/* ---- The end ---------------------------------------------------------------------------- */

static void
on_gone(void *arg)
{
	struct loop *loop = arg;

	if (loop->sessions.draining && loop->sessions.count == 0)
		event_base_loopbreak(loop->base);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd, (void)what;
	event_base_loopbreak(loop->base);
}

/* First time: drain.  Second time: do not wait for clients any longer. */
static void
on_end(evutil_socket_t number, short what, void *arg)
{
	struct loop *loop = arg;
	const struct timeval timeout = { (time_t)loop->options->drain_timeout, 0 };

	(void)what;
	if (loop->sessions.draining) {
		event_base_loopbreak(loop->base);
		return;
	}
	kvmd_log(KVMD_INFO, "%s: finishing, %u connections", number == SIGINT ? "SIGINT" : "SIGTERM",
		 loop->sessions.count);
	event_del(loop->accept);
	event_del(loop->accept_again);
	kvmd_listener_close(loop->listener);
	kvmd_sessions_drain(&loop->sessions);
	if (loop->sessions.count == 0)
		event_base_loopbreak(loop->base);
	else
		event_add(loop->deadline, &timeout);
}

/* ---- Run ----------------------------------------------------------------------------------- */

/* Room for as many descriptors as connections are allowed. */
static void
descriptors_raise(unsigned connections)
{
	struct rlimit limit;
	rlim_t wanted = (rlim_t)connections + OWN_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted ? limit.rlim_max : wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
		kvmd_log(KVMD_WARNING, "the limit of open files allows fewer than %u connections", connections);
}

/*
 * Signals are ignored unless an event takes them; so one that comes after the
 * loop cannot end the process while it saves.
 */
static void
signals_ignore(void)
{
	static const int numbers[] = { SIGHUP, SIGTERM, SIGINT };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		sigaction(numbers[i], &ignore, NULL);
}

static bool
loop_open(struct loop *loop)
{
	struct event_config *config = event_config_new();

	if (config != NULL && event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
		loop->base = event_base_new_with_config(config);
	if (config != NULL)
		event_config_free(config);
	if (loop->base == NULL)
		return false;
	loop->accept = event_new(loop->base, loop->listener->fd, EV_READ | EV_PERSIST, on_accept, loop);
	loop->accept_again = event_new(loop->base, -1, 0, on_accept_again, loop);
	loop->deadline = event_new(loop->base, -1, 0, on_deadline, loop);
	if (kvmd_state_fd(&loop->server->state) >= 0) {
		loop->writer = event_new(loop->base, kvmd_state_fd(&loop->server->state), EV_READ | EV_PERSIST,
					 on_writer, loop);
		if (loop->writer == NULL || event_add(loop->writer, NULL) != 0)
			return false;
	}
	loop->tasks = event_new(loop->base, loop->server->tasks.event, EV_READ | EV_PERSIST, on_tasks, loop);
	if (loop->tasks == NULL || event_add(loop->tasks, NULL) != 0)
		return false;
	loop->terminate = evsignal_new(loop->base, SIGTERM, on_end, loop);
	loop->interrupt = evsignal_new(loop->base, SIGINT, on_end, loop);
	return loop->accept != NULL && loop->accept_again != NULL && loop->deadline != NULL &&
	       loop->terminate != NULL && loop->interrupt != NULL && event_add(loop->accept, NULL) == 0 &&
	       event_add(loop->terminate, NULL) == 0 && event_add(loop->interrupt, NULL) == 0;
}

static void
loop_close(struct loop *loop)
{
	struct event *events[] = { loop->accept, loop->accept_again, loop->deadline, loop->terminate, loop->interrupt,
				   loop->writer, loop->tasks };

	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
		if (events[i] != NULL)
			event_free(events[i]);
	if (loop->base != NULL)
		event_base_free(loop->base);
	libevent_global_shutdown();
}

bool
kvmd_loop_run(struct kvmd_server *server, struct kvmd_listener *listener, const struct kvmd_options *options)
{
	struct loop loop = { .server = server, .listener = listener, .options = options };
	bool done;

	signals_ignore();
	descriptors_raise(options->max_connections);
	done = loop_open(&loop);
	if (done) {
		unsigned unsent;

		kvmd_sessions_init(&loop.sessions, loop.base, server, options->idle_timeout);
		loop.sessions.gone = on_gone;
		loop.sessions.arg = &loop;
		done = kvmd_listener_start(listener) && loop_turn(&loop);
		unsent = kvmd_sessions_end(&loop.sessions);
		if (unsent > 0)
			kvmd_log(KVMD_WARNING, "%u connections did not take all their answers", unsent);
	} else {
		kvmd_log(KVMD_ERROR, "cannot make the event loop: no memory left, or too many open files");
	}
	kvmd_listener_close(listener);
	loop_close(&loop);
	return done;
}
