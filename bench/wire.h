/*
 * wire - a client that does as little as it can, the same for every server.
 *
 * Requests are gathered, sent with one write, and their answers counted off as
 * they come.  With kvmstored an answer is decoded and must say ok; with a
 * server that speaks RESP it must be +OK.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "bench/peer.h"
#include "proto/message.h"

#define WIRE_DEPTH_MAX 1024u

enum wire_kind { WIRE_KVMSTORED, WIRE_RESP, WIRE_MEMCACHED };

struct wire {
	struct peer *peer;
	int fd;
	bool resp;
	struct kvmp_codec *codec; /* kvmstored */
	struct kvmp_buffer in, out;
	unsigned sent, answered;         /* of the batch under way */
	uint64_t result[WIRE_DEPTH_MAX]; /* first result of each answer, with kvmstored */
	uint64_t second;                 /* second result of the last */
};

/*
 * Connect, waiting while the server starts and loads; "store" is for kvmstored.
 * With memcached nothing is said; "fd" is there to be used.
 */
void wire_open(struct wire *w, struct peer *p, enum wire_kind kind, const char *store);
void wire_close(struct wire *w);

/* Gather a request. */
void wire_op(struct wire *w, const struct kvms_op *op);
void wire_set(struct wire *w, uint64_t key, size_t value_size);

/* Send what was gathered. */
void wire_send(struct wire *w);

/* Read once; true: all answers are there, and the next batch may be gathered. */
bool wire_take(struct wire *w);

/* Both, to the end. */
void wire_batch(struct wire *w);

/* A command of RESP without arguments that have blanks; its answer as text, valid until the next. */
const char *wire_command(struct wire *w, const char *command);

#endif /* BENCH_WIRE_H */
