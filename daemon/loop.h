/*
 * loop - the event loop: accepts, signals, and the end.
 *
 *	serving --SIGTERM, SIGINT--> draining --all answered, or time up--> ended
 *
 * Draining: the socket file is gone, what was sent before is carried out and
 * answered, half a request is not.
 */
#ifndef KVMD_LOOP_H
#define KVMD_LOOP_H

#include "daemon/listen.h"
#include "daemon/options.h"
#include "daemon/serve.h"

/*
 * Serve until told to end.
 *
 * => gives true when it ended as told, with the listener closed
 * => fails with false, having logged why
 */
bool kvmd_loop_run(struct kvmd_server *server, struct kvmd_listener *listener, const struct kvmd_options *options);

#endif /* KVMD_LOOP_H */
