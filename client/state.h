/*
 * state - the whole state of the store that a call names, in this process.
 */
#ifndef KVMCTL_STATE_H
#define KVMCTL_STATE_H

#include "client/kvmctl.h"

/*
 * Make the state that the options of the call name: of a store in this process
 * (--embedded), or, from a state directory, behind --step, which is the last
 * one unless given.  The directory is --state-dir's or the daemon's, which is
 * asked to write first what it holds.
 *
 * => gives *s, which the caller owns
 * => fails having said why
 */
enum kvmctl_status kvmctl_state_get(struct kvmctl *k, struct kvms **s);

#endif /* KVMCTL_STATE_H */
