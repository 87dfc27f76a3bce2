#include "client/kvmctl.h"

#include "proto/address.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct kvmctl_option_row rows[OPTION_COUNT] = {
#define GLOBAL_OPTION(symbol, name, letter, argument, metavar, help)                                                   \
	[OPTION_##symbol] = { name, letter, argument, metavar, help, true },
#define OPTION(symbol, name, letter, argument, metavar, help)                                                          \
	[OPTION_##symbol] = { name, letter, argument, metavar, help, false },
#include "client/options.def"
#undef GLOBAL_OPTION
#undef OPTION
};

/* getopt_long() answers with these for long options; letters stand for themselves. */
#define LONG_BASE 256

const struct kvmctl_option_row *
kvmctl_option_row(enum kvmctl_option number)
{
	return &rows[number];
}

/* The table in the forms getopt_long() takes. */
struct tables {
	struct option options[OPTION_COUNT + 1];
	char letters[2 * OPTION_COUNT + 3];
};

static void
tables_fill(struct tables *t)
{
	char *p = t->letters;

	memset(t, 0, sizeof *t);
	*p++ = '-'; /* words come in order, whatever the environment says */
	*p++ = ':'; /* a missing argument is told apart from an unknown option */
	for (int i = 0; i < OPTION_COUNT; i++) {
		t->options[i] = (struct option){ rows[i].name, rows[i].argument, NULL, LONG_BASE + i };
		if (rows[i].letter == 0)
			continue;
		*p++ = rows[i].letter;
		/* what may follow a long name may not follow a letter: -ej is -e -j */
		if (rows[i].argument == required_argument)
			*p++ = ':';
	}
}

static int
number_of(int answer)
{
	if (answer >= LONG_BASE)
		return answer - LONG_BASE;
	for (int i = 0; i < OPTION_COUNT; i++)
		if (rows[i].letter != 0 && rows[i].letter == answer)
			return i;
	return -1;
}

static void
complain_unknown(const char *token)
{
	char shown[KVMCTL_SHOWN], word[64];
	struct kvmctl_guess guess = { .word = word };
	size_t length = strcspn(token + 2, "=");
	unsigned starts = 0;

	kvmctl_shown(shown, token);
	snprintf(word, sizeof word, "%.*s", length < 60 ? (int)length : 60, token + 2);
	for (int i = 0; i < OPTION_COUNT; i++) {
		starts += strncmp(rows[i].name, token + 2, length) == 0;
		kvmctl_guess_try(&guess, rows[i].name);
	}
	if (starts > 1)
		kvmctl_complain("option '%s' is ambiguous; spell it out (kvmctl --help lists them)", shown);
	else if (guess.best != NULL)
		kvmctl_complain("unknown option '%s'; did you mean --%s?", shown, guess.best);
	else
		kvmctl_complain("unknown option '%s'; kvmctl --help lists them", shown);
}

/* Say what is wrong with an option; "token" is the word it stands in. */
static void
complain(int answer, const char *token)
{
	int number = number_of(optopt);

	if (answer == ':')
		kvmctl_complain("option --%s needs an argument: --%s %s", rows[number].name, rows[number].name,
				rows[number].metavar);
	else if (number >= 0)
		kvmctl_complain("option --%s takes no argument", rows[number].name);
	else if (strncmp(token, "--", 2) == 0)
		complain_unknown(token);
	else if (optopt > ' ' && optopt < 0x7f)
		kvmctl_complain(
		    "unknown option '-%c'; kvmctl --help lists them (a word that begins with '-' goes behind --)",
		    optopt);
	else
		kvmctl_complain("unknown option; kvmctl --help lists them");
}

static enum kvmctl_status
check_parse(struct kvmctl *k, const char *text)
{
	char shown[KVMCTL_SHOWN];

	k->check = KVMS_CHECK_TOUCHED;
	k->check_every = 1;
	if (text == NULL || strcmp(text, "touched") == 0)
		return KVMCTL_OK;
	if (strcmp(text, "off") == 0) {
		k->check = KVMS_CHECK_OFF;
		return KVMCTL_OK;
	}
	if (strncmp(text, "full", 4) == 0 && (text[4] == '\0' || text[4] == '=')) {
		char *end = NULL;

		k->check = KVMS_CHECK_FULL;
		if (text[4] == '\0')
			return KVMCTL_OK;
		errno = 0;
		k->check_every = strtoull(text + 5, &end, 10);
		if (text[5] >= '0' && text[5] <= '9' && *end == '\0' && errno == 0 && k->check_every > 0)
			return KVMCTL_OK;
	}
	kvmctl_complain("--check '%s': expected off, touched, full or full=N with N at least 1",
			kvmctl_shown(shown, text));
	return KVMCTL_USAGE;
}

static enum kvmctl_status
wait_parse(struct kvmctl *k)
{
	enum kvmctl_status status;
	uint64_t ms;

	status = kvmctl_option_number(k, OPTION_wait, 0, &ms);
	if (status != KVMCTL_OK)
		return status;
	k->wait_ms = (uint32_t)ms;
	if (ms <= UINT32_MAX)
		return KVMCTL_OK;
	kvmctl_complain("--wait: at most %" PRIu32 " milliseconds can be asked for", UINT32_MAX);
	return KVMCTL_USAGE;
}

enum kvmctl_status
kvmctl_options_parse(struct kvmctl *k, int argc, char **argv)
{
	struct tables t;
	int answer;

	tables_fill(&t);
	memset(k, 0, sizeof *k);
	k->argv = calloc((size_t)argc + 1, sizeof *k->argv);
	if (k->argv == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_USAGE;
	}
	opterr = 0;
	optind = 0; /* a shell reads many calls */
	for (;;) {
		int at = optind == 0 ? 1 : optind;

		answer = getopt_long(argc, argv, t.letters, t.options, NULL);
		if (answer == -1)
			break;
		if (answer == 1) {
			k->argv[k->argc++] = optarg;
			continue;
		}
		if (answer == '?' || answer == ':') {
			complain(answer, argv[at]);
			return KVMCTL_USAGE;
		}
		k->option[number_of(answer)] = optarg != NULL ? optarg : "";
	}
	while (optind < argc)
		k->argv[k->argc++] = argv[optind++];
	k->json = k->option[OPTION_json] != NULL;
	k->quiet = k->option[OPTION_quiet] != NULL;
	if (wait_parse(k) != KVMCTL_OK)
		return KVMCTL_USAGE;
	return check_parse(k, k->option[OPTION_check]);
}

enum kvmctl_status
kvmctl_option_number(const struct kvmctl *k, enum kvmctl_option number, uint64_t fallback, uint64_t *value)
{
	const char *text = k->option[number];
	char shown[KVMCTL_SHOWN];
	char *end = NULL;
	bool hex;

	*value = fallback;
	if (text == NULL)
		return KVMCTL_OK;
	hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	errno = 0;
	*value = strtoull(text, &end, hex ? 16 : 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && end > text + (hex ? 2 : 0) && errno == 0)
		return KVMCTL_OK;
	kvmctl_complain("--%s '%s': expected a number (decimal, or 0x and hex digits)", rows[number].name,
			kvmctl_shown(shown, text));
	return KVMCTL_USAGE;
}
