#include "daemon/daemon.h"

#include <signal.h>

#include "daemon/loop.h"

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

static bool
run(const struct kvmd_options *options, struct kvmd_listener *listener)
{
	struct kvmd_server server;
	bool done;

	if (!kvmd_server_begin(&server, options))
		return false;
	kvmd_log(KVMD_INFO, "kvmstored %s listens on %s; stores: %zu; state: %s", kvms_version(), listener->path,
		 server.stores.count, options->state_dir[0] == '\0' ? "none is kept" : options->state_dir);
	done = kvmd_loop_run(&server, listener, options);
	kvmd_server_rest(&server);
	done = kvmd_state_save_all(&server.state, &server.stores) && done;
	done = kvmd_state_close(&server.state) && done;
	kvmd_log(KVMD_INFO, done ? "ended" : "ended, but not all is well: see above");
	kvmd_server_end(&server);
	return done;
}

int
kvmd_main(int argc, char **argv)
{
	struct kvmd_listener listener;
	struct kvmd_options options;
	bool done;

	switch (kvmd_options_read(argc, argv, &options)) {
	case KVMD_DONE:
		return STATUS_DONE;
	case KVMD_WRONG:
		return STATUS_USAGE;
	case KVMD_GO:
		break;
	}
	kvmd_log_level(options.log_level);
	signal(SIGPIPE, SIG_IGN); /* a client that is gone is an error of write() */
	signal(SIGXFSZ, SIG_IGN); /* so is a file at its limit */
	if (!kvmd_listener_open(&listener, options.listen))
		return STATUS_FAILED;
	done = run(&options, &listener);
	kvmd_listener_close(&listener);
	return done ? STATUS_DONE : STATUS_FAILED;
}
