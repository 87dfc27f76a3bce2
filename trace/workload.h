/*
 * workload - what kernels and their programs do to memory, as operations:
 * stacks that come and go, drivers, DMA rings, forks, page faults, unmaps.
 *
 * A workload is a set of plans: a few operations in order, with numbers drawn
 * for them and ids of what they made.  Several clients follow plans of their
 * own by turns, each on its CPU, over the same objects: so they get into each
 * other's way.  A client that is told to wait tries again; a plan of which any
 * other step is refused ends there.
 *
 * Law: the operations are a function of the seed and the outcomes.
 */
#ifndef KVT_WORKLOAD_H
#define KVT_WORKLOAD_H

#include "store/kvmstore.h"

#include <stdbool.h>
#include <stdint.h>

struct kvt_workload; /* opaque */

/* Is there a workload of that name? */
bool kvt_workload_exists(const char *name);

/* A line of a plan that makes no operation, for a test to find; NULL if there is none. */
const char *kvt_workload_wrong(struct kvms *s);

/*
 * => clients: 1 .. KVT_CLIENTS_MAX
 * => fails with NULL: no memory
 */
#define KVT_CLIENTS_MAX 16u
struct kvt_workload *kvt_workload_new(const char *name, uint64_t seed, unsigned clients, struct kvms *s);
void kvt_workload_free(struct kvt_workload **w);

/*
 * The next operation, and the client it comes from.  It belongs to the workload until the next call.
 * NULL: no memory, or no plan can go on as things are.
 */
const struct kvms_op *kvt_workload_next(struct kvt_workload *w, unsigned *client);

/* Follow another workload from the next plan on, over the same objects. */
void kvt_workload_turn_to(struct kvt_workload *w, const char *name);

/* Somebody else has made this CPU the current one; or the workload, as its answer said. */
void kvt_workload_cpu(struct kvt_workload *w, uint64_t cpu);

/* What the store said to it. */
void kvt_workload_answer(struct kvt_workload *w, const struct kvms_outcome *out);

#endif /* KVT_WORKLOAD_H */
