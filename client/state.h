/*
 * state - the whole state of the store that a call names, in this process.
 */
#ifndef KVMCTL_STATE_H
#define KVMCTL_STATE_H

#include "client/session.h"

/*
 * Make the state that the options of the call name: of a store in this process
 * (--embedded), or, from a state directory, behind --step, which is the last
 * one unless given.  The directory is --state-dir's or the daemon's, which is
 * asked to write first what it holds.
 *
 * => name: gets the name of the store, unless it is NULL
 * => gives *s, which the caller owns
 * => fails having said why
 */
#define KVMCTL_STORE_NAME 256u
enum kvmctl_status kvmctl_state_get(struct kvmctl *k, struct kvms **s, char name[KVMCTL_STORE_NAME]);

/*
 * Open a session on the store that the options name: with --step or
 * --state-dir on that state, else as kvmctl_session_open().
 */
enum kvmctl_status kvmctl_state_open(struct kvmctl *k, struct kvmctl_session *s);

/* The table that --table names: "kernel" (0, also without the option) or the id of an address space. */
enum kvmctl_status kvmctl_state_table(const struct kvmctl *k, uint64_t *table);

#endif /* KVMCTL_STATE_H */
