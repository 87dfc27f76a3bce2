#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/address.h"
#include "proto/message.h"

/* ---- Settings ---------------------------------------------------------------- */

/* Each reads one value; false: "expected" says what it may be. */
typedef bool setter(struct kvmd_options *o, const char *value, const char **expected);

/* A decimal number within limits. */
static bool
number_read(const char *value, uint64_t least, uint64_t most, uint64_t *out)
{
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return false;
	errno = 0;
	*out = strtoull(value, &end, 10);
	return errno == 0 && *end == '\0' && *out >= least && *out <= most;
}

static bool
unsigned_read(const char *value, unsigned least, unsigned most, unsigned *out)
{
	uint64_t number;

	if (!number_read(value, least, most, &number))
		return false;
	*out = (unsigned)number;
	return true;
}

static bool
path_read(const char *value, char path[PATH_MAX])
{
	size_t length = strlen(value);

	if (length == 0 || length >= PATH_MAX)
		return false;
	memcpy(path, value, length + 1);
	return true;
}

static bool
set_listen(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a path";
	return path_read(value, o->listen);
}

static bool
set_state_dir(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a path";
	return path_read(value, o->state_dir);
}

static bool
set_check(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "off, touched, full or full=N";
	o->check_every = 1;
	if (strcmp(value, "off") == 0)
		o->check = KVMS_CHECK_OFF;
	else if (strcmp(value, "touched") == 0)
		o->check = KVMS_CHECK_TOUCHED;
	else if (strcmp(value, "full") == 0)
		o->check = KVMS_CHECK_FULL;
	else if (strncmp(value, "full=", 5) == 0 && number_read(value + 5, 1, UINT64_MAX, &o->check_every))
		o->check = KVMS_CHECK_FULL;
	else
		return false;
	return true;
}

static bool
set_log_level(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "error, warning, info or debug";
	return kvmd_log_level_read(value, &o->log_level);
}

static bool
set_idle_timeout(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "seconds, 1 to 86400";
	return unsigned_read(value, 1, 86400, &o->idle_timeout);
}

static bool
set_drain_timeout(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "seconds, 0 to 3600";
	return unsigned_read(value, 0, 3600, &o->drain_timeout);
}

static bool
set_max_connections(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a number, 1 to 65536";
	return unsigned_read(value, 1, 65536, &o->max_connections);
}

static bool
set_max_stores(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a number, 1 to 4096";
	return unsigned_read(value, 1, 4096, &o->max_stores);
}

static bool
set_keep_snapshots(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a number, 1 to 1000";
	return unsigned_read(value, 1, 1000, &o->keep_snapshots);
}

static bool
set_durability(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "full, relaxed or off";
	if (strcmp(value, "full") == 0)
		o->durability = PERSIST_DURABILITY_FULL;
	else if (strcmp(value, "relaxed") == 0)
		o->durability = PERSIST_DURABILITY_RELAXED;
	else if (strcmp(value, "off") == 0)
		o->durability = PERSIST_DURABILITY_OFF;
	else
		return false;
	return true;
}

static bool
set_sync_interval(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "milliseconds, 1 to 60000";
	return unsigned_read(value, 1, 60000, &o->sync_interval);
}

static bool
set_snapshot_every(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a number of operations";
	return number_read(value, 0, UINT64_MAX, &o->snapshot_every);
}

static bool
set_snapshot_bytes(struct kvmd_options *o, const char *value, const char **expected)
{
	static const char units[] = "KMG";
	size_t length = strlen(value);
	const char *unit = length > 0 ? strchr(units, value[length - 1]) : NULL;
	unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
	char number[32];

	*expected = "a number of bytes, or one with K, M or G behind it";
	if (length >= sizeof number)
		return false;
	memcpy(number, value, length + 1);
	if (unit != NULL)
		number[length - 1] = '\0';
	if (!number_read(number, 0, UINT64_MAX >> shift, &o->snapshot_bytes))
		return false;
	o->snapshot_bytes <<= shift;
	return true;
}

static bool
set_max_wait(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "seconds, 0 to 86400";
	return unsigned_read(value, 0, 86400, &o->max_wait);
}

static bool
set_max_waiting(struct kvmd_options *o, const char *value, const char **expected)
{
	*expected = "a number, 0 to 65536";
	return unsigned_read(value, 0, 65536, &o->max_waiting);
}

static const struct setting {
	char letter;
	const char *name;
	setter *set;
	const char *metavar;
	const char *help;
} settings[] = {
#define KVMD_SETTING(letter, name, symbol, metavar, help) { letter, name, set_##symbol, metavar, help },
#include "daemon/options.def"
#undef KVMD_SETTING
};

#define SETTINGS (sizeof settings / sizeof settings[0])

static void
defaults(struct kvmd_options *o)
{
	const struct kvmp_surroundings here = { getenv(KVMP_SOCKET_VARIABLE), getenv("XDG_RUNTIME_DIR"),
						geteuid() == 0 };

	*o = (struct kvmd_options){
		.check = KVMS_CHECK_TOUCHED,
		.check_every = 1,
		.log_level = KVMD_INFO,
		.idle_timeout = 30,
		.drain_timeout = 5,
		.max_connections = 1024,
		.max_stores = 64,
		.keep_snapshots = 2,
		.durability = PERSIST_DURABILITY_RELAXED,
		.sync_interval = 50,
		.snapshot_every = 1000000,
		.snapshot_bytes = UINT64_C(256) << 20,
		.max_wait = 300,
		.max_waiting = 64,
	};
	if (!kvmp_socket_path(&here, o->listen, sizeof o->listen))
		o->listen[0] = '\0';
}

/* ---- The configuration file ------------------------------------------------------ */

/* Reading one file: where it stands and what was wrong first. */
struct config {
	FILE *file;
	const char *path;
	struct kvmd_options *options;
	bool given[SETTINGS];
	int line;
	int wrong_line; /* 0: nothing */
	char wrong[512];
};

static int
complain(struct config *c, const char *name, const char *text, const char *value)
{
	if (c->wrong_line == 0) {
		c->wrong_line = c->line;
		snprintf(c->wrong, sizeof c->wrong, "%.40s: %s, found '%.80s'", name, text, value);
		for (char *at = c->wrong; *at != '\0'; at++)
			if (*at < ' ' || *at > '~')
				*at = '?'; /* it may be no text at all */
	}
	return 0;
}

/* As fgets(), counting lines, and taking none that would come in pieces. */
static char *
config_line(char *text, int size, void *config)
{
	struct config *c = config;

	if (fgets(text, size, c->file) == NULL)
		return NULL;
	c->line++;
	if (strchr(text, '\n') == NULL && !feof(c->file)) {
		complain(c, "line", "expected a shorter one", text);
		return NULL;
	}
	return text;
}

static int
config_setting(void *config, const char *section, const char *name, const char *value)
{
	struct config *c = config;
	const char *expected;
	char text[128];
	size_t i = 0;

	if (section[0] != '\0')
		return complain(c, name, "expected no [section] above it", section);
	while (i < SETTINGS && strcmp(settings[i].name, name) != 0)
		i++;
	if (i == SETTINGS)
		return complain(c, "setting", "expected a name that kvmstored --help lists", name);
	if (c->given[i])
		return complain(c, name, "expected it once", value);
	c->given[i] = true;
	if (settings[i].set(c->options, value, &expected))
		return 1;
	snprintf(text, sizeof text, "expected %s", expected);
	return complain(c, name, text, value);
}

static bool
config_read(const char *path, struct kvmd_options *o)
{
	struct config c = { .file = fopen(path, "re"), .path = path, .options = o };
	int line;

	if (c.file == NULL) {
		fprintf(stderr, "kvmstored: cannot read %s: %s\n", path, strerror(errno));
		return false;
	}
	line = ini_parse_stream(config_line, &c, config_setting, &c);
	if (ferror(c.file) && c.wrong_line == 0)
		fprintf(stderr, "kvmstored: cannot read %s: %s\n", path, strerror(errno));
	else if (c.wrong_line != 0)
		fprintf(stderr, "%s:%d: %s\n", path, c.wrong_line, c.wrong);
	else if (line != 0)
		fprintf(stderr, "%s:%d: expected name = value\n", path, line);
	line |= c.wrong_line | ferror(c.file);
	fclose(c.file);
	return line == 0;
}

/* ---- The command line ---------------------------------------------------------------- */

enum { OPTION_CONFIG = 256, OPTION_HELP, OPTION_VERSION, OPTION_FIRST };

static void
help_line(char letter, const char *name, const char *metavar, const char *text)
{
	char option[64];
	int width = 26;

	if (letter != 0)
		snprintf(option, sizeof option, "  -%c, --%s %s", letter, name, metavar);
	else
		snprintf(option, sizeof option, "      --%s %s", name, metavar);
	if (strlen(option) >= (size_t)width)
		printf("%s\n%*s", option, width, "");
	else
		printf("%-*s", width, option);
	for (const char *at = text; *at != '\0'; at++) {
		putchar(*at);
		if (*at == '\n')
			printf("%*s", width, "");
	}
	putchar('\n');
}

static void
help(void)
{
	printf("Usage: kvmstored [OPTION]...\n"
	       "Serve stores, executable models of a kernel's virtual memory, over a socket.\n"
	       "kvmctl is the client.  kvmstored stays in the foreground and logs to standard\n"
	       "error; SIGTERM or SIGINT makes it finish what it was sent, save all stores\n"
	       "and end.\n\n");
	help_line('c', "config", "FILE", "read settings from FILE; what the command line says\ncomes first");
	for (size_t i = 0; i < SETTINGS; i++)
		help_line(settings[i].letter, settings[i].name, settings[i].metavar, settings[i].help);
	help_line('h', "help", "", "print this");
	help_line('V', "version", "", "print the version");
	printf("\nIn FILE a setting is a line name = value, with the names above; a line that\n"
	       "begins with # or ; is a comment.\n\n"
	       "Exit status: 0 ended as told, 1 could not start or could not save, 2 the\n"
	       "command line or FILE is wrong.\n");
}

/* Long and short forms for getopt_long(). */
static void
forms(struct option longs[SETTINGS + 4], char shorts[2 * SETTINGS + 8])
{
	static const struct option fixed[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
	};
	char *at = stpcpy(shorts, ":c:hV");

	memcpy(longs, fixed, sizeof fixed);
	for (size_t i = 0; i < SETTINGS; i++) {
		longs[3 + i] = (struct option){ settings[i].name, required_argument, NULL, OPTION_FIRST + (int)i };
		if (settings[i].letter != 0) {
			*at++ = settings[i].letter;
			*at++ = ':';
		}
	}
	longs[3 + SETTINGS] = (struct option){ NULL, 0, NULL, 0 };
	*at = '\0';
}

/* The setting behind what getopt_long() gave, or NULL. */
static const struct setting *
setting_of(int given)
{
	if (given >= OPTION_FIRST)
		return &settings[given - OPTION_FIRST];
	for (size_t i = 0; i < SETTINGS; i++)
		if (settings[i].letter == given)
			return &settings[i];
	return NULL;
}

static enum kvmd_parsed wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static enum kvmd_parsed
wrong(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "kvmstored: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nTry `kvmstored --help`.\n");
	return KVMD_WRONG;
}

enum kvmd_parsed
kvmd_options_read(int argc, char **argv, struct kvmd_options *o)
{
	struct option longs[SETTINGS + 4];
	char shorts[2 * SETTINGS + 8];
	const char *value[SETTINGS] = { NULL }, *config = NULL, *expected;
	int given;

	forms(longs, shorts);
	opterr = 0;
	optind = 0; /* start afresh, whoever used it before */
	while ((given = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (given == 'h') {
			help();
			return KVMD_DONE;
		}
		if (given == 'V') {
			printf("kvmstored %s, protocol %u\n", kvms_version(), KVMP_VERSION);
			return KVMD_DONE;
		}
		if (given == ':')
			return wrong("%s needs a value", argv[optind - 1]);
		if (given == '?')
			return wrong("unknown option %s", argv[optind - 1]);
		if (given == 'c')
			config = optarg;
		else
			value[setting_of(given) - settings] = optarg;
	}
	if (optind < argc)
		return wrong("what is \"%s\"? It takes options only", argv[optind]);
	defaults(o);
	if (config != NULL && !config_read(config, o))
		return KVMD_WRONG;
	for (size_t i = 0; i < SETTINGS; i++)
		if (value[i] != NULL && !settings[i].set(o, value[i], &expected))
			return wrong("--%s: expected %s, found '%s'", settings[i].name, expected, value[i]);
	return KVMD_GO;
}
