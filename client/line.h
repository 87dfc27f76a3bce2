/*
 * line - lines from a person, with editing, history and completion where
 * libedit is there and standard input is a terminal; else as they come.
 */
#ifndef KVMCTL_LINE_H
#define KVMCTL_LINE_H

#include "client/complete.h"

#include <stdbool.h>

#define KVMCTL_LINE_MAX 1048576u /* bytes; what is longer is refused */

/* Begin; "session" is where completion looks up ids. */
void kvmctl_line_begin(struct kvmctl_session *session);

/*
 * The next line, without its end.
 *
 * => prompt: shown on a terminal only
 * => gives text that the caller frees; NULL at the end
 * => *too_long: it was cut, and is no line
 */
char *kvmctl_line_read(const char *prompt, bool *too_long);

/* Keep the history: in the file $KVMCTL_HISTORY, or ~/.kvmctl_history. */
void kvmctl_line_end(void);

#endif /* KVMCTL_LINE_H */
