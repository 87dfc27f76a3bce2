/*
 * peer - the servers that a benchmark compares, each a process of its own.
 *
 * They live in one temporary folder, get their sockets and files there, write
 * what they say into NAME.log, and end with the benchmark, however that ends.
 * The folder goes with them.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_PATH 160u

struct peer {
	const char *name;
	pid_t pid; /* 0: not running */
	char socket[PEER_PATH];
	char dir[PEER_PATH]; /* for its files */
};

/* Make the folder inside "parent", which must be on a disk. */
void peer_folder(const char *parent);

/* Name a server and make the folder for its files, empty. */
void peer_init(struct peer *p, const char *name);

/* Start "argv", which ends with NULL.  It need not listen yet: see wire_open(). */
void peer_start(struct peer *p, const char *const argv[]);

/* Start kvmstored at "path" with p's folder as its state directory and settings more, NULL at the end. */
void peer_kvmstored(struct peer *p, const char *path, const char *const more[]);

/* Start redis-server with p's folder; "fsync" of its appendfsync, NULL = it writes no log. */
void peer_redis(struct peer *p, const char *fsync);

/* End it with a signal and wait until it has gone. */
void peer_stop(struct peer *p, int number);

/* Kill it and remove its files: the name is free again. */
void peer_end(struct peer *p);

/* It has ended by itself: end the benchmark with what it said last. */
void peer_check(struct peer *p);

/* The last whole line of its log that has "mark" in it, NULL = none; valid until the next call. */
const char *peer_line(const struct peer *p, const char *mark);

/* Bytes of the file NAME in its folder. */
uint64_t peer_file_size(const struct peer *p, const char *name);

/* All threads of the server, and the benchmark itself, on the first CPU there is, or wherever. */
void peer_place(const struct peer *p, bool one_cpu);

#endif /* BENCH_PEER_H */
