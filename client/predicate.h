/*
 * predicate - a question to a state that is answered with yes or no.
 *
 *	REQUEST [argument=value ...] field OP value ...
 *
 * OP is one of  =  !=  <  <=  >  >=  and stands without blanks; every
 * comparison must hold.  A word with = whose name is an argument of the request
 * is that argument; behind a word -> every word is a comparison, as on the
 * expect line of a trace.
 *
 *	what is compared       =  !=            <  <=  >  >=
 *	number, address        by value         by value
 *	reference count        count or word    only if it is a count
 *	list                   as a whole, or its length if the value is a number: length
 *	anything else          by value         (not allowed)
 *
 * A field that an answer does not have meets no comparison, != neither: the
 * predicate does not hold there.
 */
#ifndef KVMCTL_PREDICATE_H
#define KVMCTL_PREDICATE_H

#include "client/kvmctl.h"

struct kvmctl_predicate; /* opaque */

/*
 * Read a predicate.
 *
 * => gives *p, ended by kvmctl_predicate_free()
 * => fails with a status, having said what is wrong and where
 */
enum kvmctl_status kvmctl_predicate_new(const char *text, struct kvmctl_predicate **p);
void kvmctl_predicate_free(struct kvmctl_predicate **p);

/* Does it hold in the state "s"?  *nomem is set if that could not be found out. */
bool kvmctl_predicate_holds(struct kvmctl_predicate *p, struct kvms *s, bool *nomem);

/* What the state answered when it was asked last: the request's row and its outcome. */
const struct kvms_row *kvmctl_predicate_row(const struct kvmctl_predicate *p);
const struct kvms_op *kvmctl_predicate_request(const struct kvmctl_predicate *p);
const struct kvms_outcome *kvmctl_predicate_answer(const struct kvmctl_predicate *p);

#endif /* KVMCTL_PREDICATE_H */
