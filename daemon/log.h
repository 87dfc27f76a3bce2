/*
 * log - lines on standard error.
 *
 * Under a service manager's journal each line begins with <N>, its priority;
 * elsewhere with the time.  A line is one write, so lines never mix.
 */
#ifndef KVMD_LOG_H
#define KVMD_LOG_H

#include <stdbool.h>

/* Syslog's numbers. */
enum kvmd_level { KVMD_ERROR = 3, KVMD_WARNING = 4, KVMD_INFO = 6, KVMD_DEBUG = 7 };

/* Print lines of "level" and graver ones from here on.  KVMD_INFO unless told. */
void kvmd_log_level(enum kvmd_level level);

/* Read a level's word: error, warning, info, debug. */
bool kvmd_log_level_read(const char *word, enum kvmd_level *level);

/* One line; its text is one sentence without a full stop.  Control characters become spaces. */
void kvmd_log(enum kvmd_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * The same for what a client can cause at will: at most 20 lines a second, and
 * then one that says how many were left out.
 */
void kvmd_log_limited(enum kvmd_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* KVMD_LOG_H */
