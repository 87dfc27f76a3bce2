/*
 * complete - how the last word of a line may go on: commands, operations,
 * options, arguments, words and ids.
 */
#ifndef KVMCTL_COMPLETE_H
#define KVMCTL_COMPLETE_H

#include "client/session.h"

/* A way to go on: the whole word.  "open": more belongs to it, no blank behind. */
typedef void kvmctl_complete_use(void *arg, const char *word, bool open);

/*
 * Give every way in which the word that begins at "start" of "line" may go on.
 * In key=value the word is the value alone, and so is what is given.
 *
 * => s: where live ids are looked up, NULL: nowhere
 */
void kvmctl_complete(struct kvmctl_session *s, const char *line, size_t start, kvmctl_complete_use *use, void *arg);

#endif /* KVMCTL_COMPLETE_H */
