/*
 * session - one connection: bytes in, requests served in order, bytes out.
 *
 *	open     --Error with "closing", end of input--> finishing
 *	         --lost----------------------------------> gone
 *	finishing --all output sent, or lost-------------> gone
 *
 *	state      reads                        serves
 *	open       unless paused or waiting     every whole frame, unless paused or waiting
 *	finishing  no                           no
 *
 * Waiting: the open of a cursor waits its turn (daemon/waits.h).  What comes
 * behind it stays where it is, in the buffer or the socket, until it is
 * answered.  A client that goes meanwhile is noticed, though nothing is read.
 *
 * Back-pressure: above OUTPUT_HIGH bytes of output a session is paused until the
 * client has taken most of it.  So a client that never reads
 * costs a bounded amount of memory and no time.
 *
 * Answers wait in the output until the journal is as far as they say: those at
 * its end, in two lots.  A lot is complete when it is handed to the writer,
 * and what comes after goes into the second; when the first is written, the
 * second takes its place.
 */
#ifndef KVMD_SESSION_H
#define KVMD_SESSION_H

#include <event2/event.h>
#include <sys/queue.h>

#include "daemon/serve.h"

struct kvmd_session;

TAILQ_HEAD(kvmd_session_list, kvmd_session);

/* What all sessions share. */
struct kvmd_sessions {
	struct event_base *base;
	struct kvmd_server *server;
	struct kvmd_session_list list;
	unsigned count;
	bool draining;
	uint64_t serial;       /* sessions begun so far; a session's name in the log */
	unsigned idle_timeout; /* seconds */
	/* Lent to the session that reads or writes: one at rest holds no memory. */
	struct kvmp_buffer spare_in;
	struct kvmp_buffer spare_out;
	void (*gone)(void *arg); /* called after a session has ended */
	void *arg;
};

void kvmd_sessions_init(struct kvmd_sessions *s, struct event_base *base, struct kvmd_server *server,
			unsigned idle_timeout);

/*
 * Begin a session on a connected non-blocking socket.
 * => owns: the descriptor, also after failure
 * => fails with false: no memory
 */
bool kvmd_session_begin(struct kvmd_sessions *s, int fd);

/* The journal has come on: send the answers that waited for it. */
void kvmd_sessions_written(struct kvmd_sessions *s);

/* Let every session take what was sent so far, answer it, and end.  What waits is answered first, as it stands. */
void kvmd_sessions_drain(struct kvmd_sessions *s);

/* End every session at once; gives how many had answers left to send. */
unsigned kvmd_sessions_end(struct kvmd_sessions *s);

#endif /* KVMD_SESSION_H */
