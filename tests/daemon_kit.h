/*
 * daemon_kit - a real kvmstored with a state directory, and random operations
 * whose every answer is foretold.
 *
 * $KVMSTORED names the program.  A daemon started here dies with the test.
 * Every function that can fail asserts; every wait is bounded.
 */
#ifndef TESTS_DAEMON_KIT_H
#define TESTS_DAEMON_KIT_H

#include "tests/store_kit.h"

#include <sys/types.h>

#include "client/connection.h"
#include "persist/record.h"

/* Paths of the test at hand: a directory of its own, and what lies in it. */
extern char dk_dir[64], dk_state[96], dk_socket[96], dk_log[96];

/* Make and remove that directory; fixtures of a suite. */
void dk_enter(void);
void dk_leave(void);

/* ---- The daemon ------------------------------------------------------------------- */

/* What is set in the daemon between fork and exec; zeros = nothing. */
struct dk_surroundings {
	const char *preload;       /* a library */
	unsigned long file_bytes;  /* RLIMIT_FSIZE */
	unsigned user;             /* becomes this user */
};

extern struct dk_surroundings dk_surroundings;

/* Start a daemon on the state directory with these arguments more, NULL at the end, and do not wait for it. */
pid_t dk_spawn(const char *first, ...);

/* The same, and it listens. */
pid_t dk_start(const char *first, ...);

/* Wait until it listens; false: it has ended. */
bool dk_wait_listening(pid_t pid);

/* The exit status; 128 + number if a signal ended it. */
int dk_wait_end(pid_t pid);

/* End it as its users do; gives the exit status. */
int dk_stop(pid_t pid);

void dk_kill(pid_t pid);

/* Kill it "us" microseconds from now, from the side. */
void dk_kill_soon(pid_t pid, unsigned us);

/* It does not start: gives its exit status; dk_logged() knows what it said. */
int dk_start_fails(const char *first, ...);

/* True if the log has the words, since dk_log_clear(). */
bool dk_logged(const char *words);
void dk_log_clear(void);

/* Run a shell command, which must succeed. */
void dk_run(const char *format, ...) KIT_PRINTF(1, 2);

/* All bytes of the files in the state directory, but for the lock, in one number. */
uint64_t dk_state_bytes(void);

/* Milliseconds of a clock that only goes on. */
uint64_t dk_now(void);

/* ---- Clients ----------------------------------------------------------------------- */

struct kvmctl_connection *dk_connect(const char *store);

/* A request that must be carried out; the answer is valid until the next call. */
const struct kvmp_response *dk_request(struct kvmctl_connection *c, struct kvmp_request request);

/* A request that must be refused; the sentence is valid until the next call. */
const char *dk_refused(struct kvmctl_connection *c, struct kvmp_request request);

/* An operation from its text, and what came of it as a trace prints it; or "refused: SENTENCE". */
const char *dk_step(struct kvmctl_connection *c, const char *format, ...) KIT_PRINTF(2, 3);

/* Where the connection's store is. */
void dk_where(struct kvmctl_connection *c, uint64_t *step, uint64_t *digest);
uint64_t dk_digest(struct kvmctl_connection *c);

/* ---- Load ----------------------------------------------------------------------------- */

/*
 * Random operations on one store.  "walk" is where the store is when all that
 * was drawn has happened; it foretells each answer and the digest behind it.
 */
struct dk_load {
	const char *store;
	struct kit_walk walk;
	struct kvmctl_connection *c;
	struct bytes records; /* one for each step drawn */
	size_t *at;           /* where the record of step i + 1 begins */
	uint64_t *digest;     /* behind step i */
	uint64_t *when;       /* the answer to step i came; milliseconds */
	uint64_t drawn, sent, answered;
	size_t capacity;
	bool refused; /* the daemon refused a step; it did not happen */
	char why[1024];
};

/* A new store on the daemon, and its load. */
void dk_load_begin(struct dk_load *load, const char *store, unsigned world, uint64_t seed);
void dk_load_end(struct dk_load *load);

/*
 * Connect again, after a new start: the store must be at a step from "least"
 * to the last that was sent, with the digest that belongs to it.  The load
 * goes on from there.
 */
void dk_load_resume(struct dk_load *load, uint64_t least);

/*
 * Send until "window" requests are under way, and take one answer, which must
 * be the one foretold.  False: the daemon is gone, or it refused (see "refused").
 */
bool dk_load_turn(struct dk_load *load, unsigned window);

/* Take all answers that are under way. */
bool dk_load_finish(struct dk_load *load);

/* What is known of the past holds in the journal on the disk; no daemon may run. */
void dk_load_check_history(const struct dk_load *load, unsigned samples);

#endif /* TESTS_DAEMON_KIT_H */
