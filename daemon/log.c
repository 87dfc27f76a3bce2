#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINES_A_SECOND 20u

static enum kvmd_level threshold = KVMD_INFO;

static const struct {
	enum kvmd_level level;
	const char *word;
} levels[] = {
	{ KVMD_ERROR, "error" },
	{ KVMD_WARNING, "warning" },
	{ KVMD_INFO, "info" },
	{ KVMD_DEBUG, "debug" },
};

#define LEVELS (sizeof levels / sizeof levels[0])

void
kvmd_log_level(enum kvmd_level level)
{
	threshold = level;
}

bool
kvmd_log_level_read(const char *word, enum kvmd_level *level)
{
	for (size_t i = 0; i < LEVELS; i++)
		if (strcmp(levels[i].word, word) == 0) {
			*level = levels[i].level;
			return true;
		}
	return false;
}

static const char *
level_word(enum kvmd_level level)
{
	for (size_t i = 0; i < LEVELS; i++)
		if (levels[i].level == level)
			return levels[i].word;
	return "";
}

/* JOURNAL_STREAM names the device and inode of the journal's socket. */
static bool
is_journal(void)
{
	static int known = -1;
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (known < 0)
		known = stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
			fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
	return known == 1;
}

static size_t
prefix(char *line, size_t size, enum kvmd_level level)
{
	time_t now = time(NULL);
	struct tm utc;
	int n;

	if (is_journal()) {
		n = snprintf(line, size, "<%d>", (int)level);
	} else {
		gmtime_r(&now, &utc);
		n = snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02dZ kvmstored: %s%s", utc.tm_year + 1900,
			     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
			     level == KVMD_INFO ? "" : level_word(level), level == KVMD_INFO ? "" : ": ");
	}
	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

static void put(enum kvmd_level level, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

static void
put(enum kvmd_level level, const char *format, va_list arguments)
{
	char line[2048];
	size_t length = prefix(line, sizeof line, level);
	int n = vsnprintf(line + length, sizeof line - length - 1, format, arguments);

	if (n > 0)
		length += (size_t)n < sizeof line - length - 1 ? (size_t)n : sizeof line - length - 2;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = ' ';
	line[length++] = '\n';
	/* nobody is there to be told that this failed */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}

void
kvmd_log(enum kvmd_level level, const char *format, ...)
{
	va_list arguments;

	if (level > threshold)
		return;
	va_start(arguments, format);
	put(level, format, arguments);
	va_end(arguments);
}

void
kvmd_log_limited(enum kvmd_level level, const char *format, ...)
{
	static time_t second;
	static unsigned lines, dropped;
	time_t now = time(NULL);
	va_list arguments;

	if (level > threshold)
		return;
	if (now != second) {
		if (dropped > 0)
			kvmd_log(KVMD_WARNING, "%u lines about clients were left out", dropped);
		second = now;
		lines = dropped = 0;
	}
	if (lines >= LINES_A_SECOND) {
		dropped++;
		return;
	}
	lines++;
	va_start(arguments, format);
	put(level, format, arguments);
	va_end(arguments);
}
