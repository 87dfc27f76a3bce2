/*
 * kvmctl - the command line client: one call is one command.
 *
 * Every command is a row in client/commands.c; every operation and inspection
 * request of the model's tables is a command too.  Results go to standard
 * output, everything else to standard error.
 *
 * Law: whatever the words of the call are, it ends with one of the statuses
 * below, and a store in a daemon that a call made for its own use goes with it,
 * even if the call is killed.
 */
#ifndef KVMCTL_H
#define KVMCTL_H

#include "store/kvmstore.h"

#include <stdio.h>

/* Exit status.  The texts of "kvmctl help" say the same. */
enum kvmctl_status {
	KVMCTL_OK,
	KVMCTL_NOT_OK,     /* an operation did not end ok */
	KVMCTL_USAGE,      /* the call, or the text of an operation or trace, is wrong */
	KVMCTL_CONNECTION, /* no daemon, or it refused */
	KVMCTL_DIVERGED,   /* a replay or comparison found a difference */
	KVMCTL_BROKEN,     /* a law of the model broke */
	KVMCTL_UNREADABLE  /* a file cannot be read or written: snapshot, trace, recording, output */
};

/* Options, by the symbols of client/options.def. */
enum kvmctl_option {
#define GLOBAL_OPTION(symbol, name, letter, argument, metavar, help) OPTION_##symbol,
#define OPTION(symbol, name, letter, argument, metavar, help) OPTION_##symbol,
#include "client/options.def"
#undef GLOBAL_OPTION
#undef OPTION
	OPTION_COUNT
};

struct kvmctl_command;
struct kvmctl_session;

/* One call: what was asked. */
struct kvmctl {
	/* options as given: NULL = not given, "" = given without an argument */
	const char *option[OPTION_COUNT];
	enum kvms_check check; /* of --check; KVMS_CHECK_TOUCHED if not given */
	uint64_t check_every;
	uint32_t wait_ms; /* of --wait; 0 if not given */
	bool json;
	bool quiet;
	/* the command: a row of commands.c, or an operation or request by name */
	const struct kvmctl_command *command;
	const struct kvms_row *row;
	bool is_request;
	/* words behind the command */
	int argc;
	char **argv;
	/* the shell that the call is a line of, or NULL: the store to work on */
	struct kvmctl_session *shell;
};

/* Carry out a call whose options and words have been read; takes the command's name off the words. */
enum kvmctl_status kvmctl_call(struct kvmctl *k);

/* The program: parse the call, run its command.  Gives the exit status. */
int kvmctl_main(int argc, char **argv);

/*
 * Read the options and words of a call into *k.
 *
 * => gives KVMCTL_OK: k->option, k->argc and k->argv (words of the command
 *    included) are set; the caller frees k->argv
 * => fails with KVMCTL_USAGE, having said why
 */
enum kvmctl_status kvmctl_options_parse(struct kvmctl *k, int argc, char **argv);

/* One row of client/options.def. */
struct kvmctl_option_row {
	const char *name;
	char letter;
	int argument; /* no_argument, ... */
	const char *metavar;
	const char *help;
	bool global;
};
const struct kvmctl_option_row *kvmctl_option_row(enum kvmctl_option number);

/*
 * The number given as option "number", or "fallback" if it was not given.
 * => fails with KVMCTL_USAGE, having said why
 */
enum kvmctl_status kvmctl_option_number(const struct kvmctl *k, enum kvmctl_option number, uint64_t fallback,
					uint64_t *value);

/* Print "kvmctl: " and a message on standard error.  Flushes standard output first, so that they stay in order. */
void kvmctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Send off what was printed.  False once standard output takes no more: time to stop. */
bool kvmctl_flush(void);

/* A word as it may stand in a message: cut short, without control characters.  "buffer" is returned. */
#define KVMCTL_SHOWN 80
const char *kvmctl_shown(char buffer[KVMCTL_SHOWN], const char *word);

/* ---- Guessing what a word was meant to be ---------------------------------- */

/* Zero-initialise but for "word". */
struct kvmctl_guess {
	const char *word;
	const char *best; /* closest candidate that is close enough, or NULL */
	unsigned distance;
};

/* Look at one candidate, which must live as long as the guess. */
void kvmctl_guess_try(struct kvmctl_guess *guess, const char *candidate);

/* Look at the names of all commands; of all operations and requests. */
void kvmctl_guess_commands(struct kvmctl_guess *guess);
void kvmctl_guess_rows(struct kvmctl_guess *guess);

#endif /* KVMCTL_H */
