#include "trace/strace.h"

#include "trace/buffer.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SHOWN 160u
#define NONE SIZE_MAX

/* ---- Numbers of processes ------------------------------------------------------------- */

static size_t
pids_slot(const struct pids *p, uint64_t pid)
{
	size_t i = (size_t)(pid * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (p->capacity - 1);

	while (p->at[i].value != 0 && p->at[i].pid != pid)
		i = (i + 1) & (p->capacity - 1);
	return i;
}

static bool
pids_grow(struct pids *p)
{
	struct pids old = *p;

	p->capacity = old.capacity == 0 ? 64 : 2 * old.capacity;
	p->at = calloc(p->capacity, sizeof *p->at);
	if (p->at == NULL) {
		*p = old;
		return false;
	}
	for (size_t i = 0; i < old.capacity; i++)
		if (old.at[i].value != 0)
			p->at[pids_slot(p, old.at[i].pid)] = old.at[i];
	free(old.at);
	return true;
}

size_t *
pids_at(struct pids *p, uint64_t pid, size_t fallback)
{
	if (2 * (p->count + 1) > p->capacity && !pids_grow(p))
		return NULL;
	struct pids_entry *entry = &p->at[pids_slot(p, pid)];

	if (entry->value == 0) {
		*entry = (struct pids_entry){ pid, fallback };
		p->count++;
	}
	return &entry->value;
}

void
pids_free(struct pids *p)
{
	free(p->at);
	memset(p, 0, sizeof *p);
}

/* ---- Reports -------------------------------------------------------------------------------- */

void
strace_anomaly(struct kvt_strace_report *r, enum kvt_strace_anomaly_kind kind, uint64_t line, uint64_t start,
	       uint64_t end)
{
	r->anomalies_count[kind]++;
	if (r->anomalies_kept < KVT_STRACE_ANOMALIES_KEPT)
		r->anomalies[r->anomalies_kept++] = (struct kvt_strace_anomaly){ kind, line, start, end };
}

/* ---- A call's words ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	enum strace_sys sys;
	unsigned flags; /* it implies */
} names[] = {
	{ "mmap", STRACE_MMAP, 0 },
	{ "mmap2", STRACE_MMAP, 0 },
	{ "munmap", STRACE_MUNMAP, 0 },
	{ "mprotect", STRACE_MPROTECT, 0 },
	{ "pkey_mprotect", STRACE_MPROTECT, 0 },
	{ "mremap", STRACE_MREMAP, 0 },
	{ "brk", STRACE_BRK, 0 },
	{ "madvise", STRACE_MADVISE, 0 },
	{ "clone", STRACE_CLONE, 0 },
	{ "clone3", STRACE_CLONE, 0 },
	{ "fork", STRACE_CLONE, 0 },
	{ "vfork", STRACE_CLONE, STRACE_VM },
	{ "execve", STRACE_EXECVE, 0 },
	{ "execveat", STRACE_EXECVE, 0 },
	{ "exit", STRACE_EXIT, 0 },
	{ "exit_group", STRACE_EXIT, 0 },
};

/* Words of flags, and the bits of their numbers. */
struct word {
	const char *name;
	uint64_t number;
	unsigned flag;
};

static const struct word prot_words[] = { { "PROT_READ", 1, STRACE_READ },
					  { "PROT_WRITE", 2, STRACE_WRITE },
					  { "PROT_EXEC", 4, STRACE_EXEC },
					  { NULL, 0, 0 } };
static const struct word mmap_words[] = {
	{ "MAP_SHARED", 1, STRACE_SHARED },
	{ "MAP_SHARED_VALIDATE", 0, STRACE_SHARED },
	{ "MAP_FIXED", 0x10, STRACE_FIXED },
	{ "MAP_ANONYMOUS", 0x20, STRACE_ANONYMOUS },
	{ "MAP_FIXED_NOREPLACE", 0x100000, STRACE_FIXED | STRACE_NOREPLACE },
	{ NULL, 0, 0 },
};
static const struct word mremap_words[] = { { "MREMAP_FIXED", 2, STRACE_FIXED },
					    { "MREMAP_DONTUNMAP", 4, STRACE_DONTUNMAP },
					    { NULL, 0, 0 } };
static const struct word clone_words[] = { { "CLONE_VM", 0x100, STRACE_VM }, { NULL, 0, 0 } };

/* A number, decimal, hex or octal; NULL is 0. */
static bool
number(const char *text, size_t size, uint64_t *value)
{
	char digits[32], *end;

	if (size == 4 && memcmp(text, "NULL", 4) == 0) {
		*value = 0;
		return true;
	}
	if (size == 0 || size >= sizeof digits || !isdigit((unsigned char)text[0]))
		return false;
	memcpy(digits, text, size);
	digits[size] = '\0';
	*value = strtoull(digits, &end, 0);
	return *end == '\0' && !(*value == UINT64_MAX && size < 18);
}

/* "A|B|0x10": the flags of the words that are known. */
static unsigned
flags_of(const char *text, size_t size, const struct word *words)
{
	unsigned flags = 0;
	uint64_t value;

	for (size_t at = 0, length; at < size; at += length + 1) {
		length = strcspn(text + at, "|,)} ");
		if (length > size - at)
			length = size - at;
		if (number(text + at, length, &value)) {
			for (const struct word *w = words; w->name != NULL; w++)
				flags |= (value & w->number) != 0 ? w->flag : 0;
			continue;
		}
		for (const struct word *w = words; w->name != NULL; w++)
			if (strlen(w->name) == length && memcmp(w->name, text + at, length) == 0)
				flags |= w->flag;
	}
	return flags;
}

#define ARGS_MAX 8u

struct args {
	struct {
		const char *at;
		size_t size;
	} arg[ARGS_MAX];
	unsigned count;
	const char *behind; /* the closing parenthesis; NULL: there is none */
};

/* Split "ARG, ARG, ...) = ..." at the commas of its own level. */
static void
args_split(struct args *a, const char *text)
{
	unsigned depth = 0;
	const char *first = text;

	*a = (struct args){ .count = 0 };
	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '"') {
			for (p++; *p != '\0' && *p != '"'; p++)
				if (*p == '\\' && p[1] != '\0')
					p++;
			if (*p == '\0')
				return;
			continue;
		}
		bool closes = depth == 0 && *p == ')';

		if (closes || (depth == 0 && *p == ',')) {
			while (*first == ' ')
				first++;
			if (a->count < ARGS_MAX && p > first) {
				a->arg[a->count].at = first;
				a->arg[a->count++].size = (size_t)(p - first);
			}
			first = p + 1;
		}
		if (closes) {
			a->behind = p + 1;
			return;
		}
		if (strchr("([{", *p) != NULL)
			depth++;
		else if (strchr(")]}", *p) != NULL && depth > 0)
			depth--;
	}
}

static bool
arg_number(const struct args *a, unsigned i, uint64_t *value)
{
	return i < a->count && number(a->arg[i].at, a->arg[i].size, value);
}

static unsigned
arg_flags(const struct args *a, unsigned i, const struct word *words)
{
	return i < a->count ? flags_of(a->arg[i].at, a->arg[i].size, words) : 0;
}

/* " = RESULT": false: not so. */
static bool
result_parse(struct strace_call *c, const char *text)
{
	while (*text == ' ')
		text++;
	if (*text++ != '=')
		return false;
	while (*text == ' ')
		text++;
	c->done = true;
	c->failed = *text == '-' || *text == '?';
	if (c->failed)
		return true;
	return number(text, strcspn(text, " \t\r<("), &c->result);
}

static bool
clone_flags(struct strace_call *c, const char *text)
{
	const char *flags = strstr(text, "flags=");

	if (flags != NULL)
		c->flags |= flags_of(flags + 6, strcspn(flags + 6, ",)}"), clone_words);
	return true;
}

/* The arguments that matter. */
static bool
args_parse(struct strace_call *c, const struct args *a, const char *text)
{
	switch (c->sys) {
	case STRACE_MMAP:
		c->prot = arg_flags(a, 2, prot_words);
		c->flags |= arg_flags(a, 3, mmap_words);
		return a->count >= 4 && arg_number(a, 1, &c->arg[1]);
	case STRACE_MUNMAP:
		return arg_number(a, 0, &c->arg[0]) && arg_number(a, 1, &c->arg[1]);
	case STRACE_MPROTECT:
		c->prot = arg_flags(a, 2, prot_words);
		return a->count >= 3 && arg_number(a, 0, &c->arg[0]) && arg_number(a, 1, &c->arg[1]);
	case STRACE_MREMAP:
		c->flags |= arg_flags(a, 3, mremap_words);
		return a->count >= 4 && arg_number(a, 0, &c->arg[0]) && arg_number(a, 1, &c->arg[1]) &&
		       arg_number(a, 2, &c->arg[2]);
	case STRACE_BRK:
		return arg_number(a, 0, &c->arg[0]);
	case STRACE_MADVISE:
		if (a->count >= 3 && (strncmp(a->arg[2].at, "MADV_DONTNEED", a->arg[2].size) == 0 ||
				      (a->arg[2].size == 1 && a->arg[2].at[0] == '4') ||
				      (a->arg[2].size == 3 && strncmp(a->arg[2].at, "0x4", 3) == 0)))
			c->flags |= STRACE_DONTNEED;
		return a->count >= 3 && arg_number(a, 0, &c->arg[0]) && arg_number(a, 1, &c->arg[1]);
	case STRACE_CLONE:
		return clone_flags(c, text);
	case STRACE_EXECVE:
	case STRACE_EXIT:
	case STRACE_OTHER:
		break;
	}
	return true;
}

/* ---- Lines ---------------------------------------------------------------------------------------- */

struct reading {
	struct strace *s;
	struct kvt_input *in;
	struct pids pending; /* call of each process that was interrupted, + 2; 1: none */
	struct kvt_buffer text;
	char *error;
	size_t error_size;
	uint64_t last_time;
	bool no_memory;
};

static void
add_step(struct reading *r, enum strace_event event, size_t call, uint64_t pid, uint64_t other)
{
	struct strace *s = r->s;

	if (s->steps_count == s->steps_capacity) {
		size_t capacity = s->steps_capacity == 0 ? 1024 : 2 * s->steps_capacity;
		struct strace_step *at = realloc(s->steps, capacity * sizeof *at);

		if (at == NULL) {
			r->no_memory = true;
			return;
		}
		s->steps = at;
		s->steps_capacity = capacity;
	}
	s->steps[s->steps_count++] = (struct strace_step){ event, call, kvt_input_lines(r->in), pid, other };
}

/* A new call, its text being all of the line from its name on. */
static size_t
add_call(struct reading *r, uint64_t pid, const char *text, size_t name_size)
{
	struct strace *s = r->s;

	if (s->calls_count == s->calls_capacity) {
		size_t capacity = s->calls_capacity == 0 ? 1024 : 2 * s->calls_capacity;
		struct strace_call *at = realloc(s->calls, capacity * sizeof *at);

		if (at == NULL) {
			r->no_memory = true;
			return NONE;
		}
		s->calls = at;
		s->calls_capacity = capacity;
	}
	struct strace_call *c = &s->calls[s->calls_count];

	*c = (struct strace_call){ .sys = STRACE_OTHER, .pid = pid, .line = kvt_input_lines(r->in) };
	c->text = strdup(text);
	if (c->text == NULL) {
		r->no_memory = true;
		return NONE;
	}
	snprintf(c->name, sizeof c->name, "%.*s", (int)name_size, text);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(names[i].name, c->name) != 0)
			continue;
		c->sys = names[i].sys;
		c->flags = names[i].flags;
	}
	s->report->calls++;
	return s->calls_count++;
}

static void
text_cut(struct strace_call *c)
{
	if (strlen(c->text) > TEXT_SHOWN) {
		strcpy(c->text + TEXT_SHOWN - 3, "...");
		char *shorter = realloc(c->text, TEXT_SHOWN + 1);

		c->text = shorter != NULL ? shorter : c->text;
	}
	for (char *p = c->text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = '?';
}

/* The whole text of a call is there: false: it is none. */
static bool
call_end(struct reading *r, struct strace_call *c)
{
	struct args a;

	c->end_line = kvt_input_lines(r->in);
	args_split(&a, c->text + strcspn(c->text, "(") + 1);
	bool fine = a.behind != NULL && result_parse(c, a.behind) && args_parse(c, &a, c->text);
	text_cut(c);
	return fine;
}

static bool
damage(struct reading *r, const char *what)
{
	snprintf(r->error, r->error_size, "%s:%" PRIu64 ": %s", kvt_input_name(r->in), kvt_input_lines(r->in), what);
	return false;
}

static void
unparsed(struct reading *r)
{
	struct kvt_strace_report *report = r->s->report;

	if (report->unparsed++ == 0)
		report->unparsed_first_line = kvt_input_lines(r->in);
}

/* A call that is not understood is counted, and as if it were of no interest. */
static void
call_strange(struct reading *r, struct strace_call *c)
{
	c->sys = STRACE_OTHER;
	c->done = true;
	c->failed = true;
	unparsed(r);
}

/* "<... NAME resumed>REST" */
static void
line_resumed(struct reading *r, uint64_t pid, const char *text)
{
	size_t *pending = pids_at(&r->pending, pid, 1);
	const char *name = text + 5, *rest = strstr(text, " resumed>");
	struct strace_call *c;

	if (pending == NULL) {
		r->no_memory = true;
		return;
	}
	if (rest == NULL) {
		unparsed(r);
		return;
	}
	c = *pending > 1 ? &r->s->calls[*pending - 2] : NULL;
	if (c == NULL || strlen(c->name) != (size_t)(rest - name) || strncmp(c->name, name, strlen(c->name)) != 0) {
		strace_anomaly(r->s->report, KVT_STRACE_RESUMED_NOTHING, kvt_input_lines(r->in), 0, 0);
		r->s->report->other_lines++;
		return;
	}
	kvt_buffer_reset(&r->text);
	kvt_puts(&r->text, c->text);
	kvt_puts(&r->text, rest + strlen(" resumed>"));
	free(c->text);
	c->text = strdup(kvt_buffer_text(&r->text));
	if (c->text == NULL) {
		r->no_memory = true;
		return;
	}
	if (!call_end(r, c))
		call_strange(r, c);
	add_step(r, STRACE_END, *pending - 2, pid, 0);
	*pending = 1;
}

/* "NAME(ARGS) = RESULT" or "NAME(ARGS <unfinished ...>" */
static void
line_call(struct reading *r, uint64_t pid, char *text, size_t name_size)
{
	char *unfinished = strstr(text, " <unfinished ...>");
	size_t *pending = pids_at(&r->pending, pid, 1), call;

	if (pending == NULL) {
		r->no_memory = true;
		return;
	}
	if (*pending > 1) /* it goes on with another: the first has no end */
		*pending = 1;
	if (unfinished != NULL)
		*unfinished = '\0';
	call = add_call(r, pid, text, name_size);
	if (call == NONE)
		return;
	if (unfinished != NULL) {
		*pending = call + 2;
		add_step(r, STRACE_BEGIN, call, pid, 0);
		return;
	}
	if (!call_end(r, &r->s->calls[call]))
		call_strange(r, &r->s->calls[call]);
	add_step(r, STRACE_WHOLE, call, pid, 0);
}

/* "+++ exited with 0 +++", "+++ killed by SIGSEGV +++", "+++ superseded by execve in pid 12 +++" */
static void
line_end(struct reading *r, uint64_t pid, const char *text)
{
	const char *other = strstr(text, "superseded by execve in pid ");
	size_t *pending = pids_at(&r->pending, pid, 1), *theirs;

	r->s->report->ends++;
	if (pending == NULL) {
		r->no_memory = true;
		return;
	}
	*pending = 1;
	if (other == NULL) {
		add_step(r, STRACE_GONE, 0, pid, 0);
		return;
	}
	uint64_t thread = strtoull(other + strlen("superseded by execve in pid "), NULL, 10);
	theirs = pids_at(&r->pending, thread, 1);
	pending = pids_at(&r->pending, pid, 1); /* the table may have moved */
	if (theirs == NULL || pending == NULL) {
		r->no_memory = true;
		return;
	}
	if (pending != theirs) {
		*pending = *theirs; /* its execve is resumed under this number */
		*theirs = 1;
	}
	if (*pending > 1)
		r->s->calls[*pending - 2].pid = pid;
	add_step(r, STRACE_SUPERSEDED, 0, pid, thread);
}

/*
 * A time: "12.345" (seconds) or "12:34:56.7", as microseconds; *of_day: it
 * begins anew at midnight.  Gives the first byte behind it, or NULL: it is none.
 */
static const char *
time_parse(const char *text, uint64_t *time, bool *of_day)
{
	uint64_t seconds = 0, part = 0, micro = 0, scale = 100000;
	bool is_time = false;
	const char *p = text;

	for (*of_day = false; isdigit((unsigned char)*p) || *p == ':'; p++) {
		if (*p == ':') {
			seconds = (seconds + part) * 60;
			part = 0;
			*of_day = is_time = true;
		} else if (part < UINT64_C(1) << 40) {
			part = part * 10 + (uint64_t)(*p - '0');
		}
	}
	if (*p == '.') {
		is_time = true;
		for (p++; isdigit((unsigned char)*p); p++, scale /= 10)
			micro += (uint64_t)(*p - '0') * scale;
	}
	if (!is_time || p == text || (*p != ' ' && *p != '\0'))
		return NULL;
	*time = (seconds % (UINT64_C(1) << 40) + part) * 1000000 + micro;
	return p;
}

static void
time_check(struct reading *r, uint64_t time, bool of_day)
{
	const uint64_t absolute = UINT64_C(1000000) * 1000000, half_a_day = UINT64_C(43200) * 1000000;

	/* small ones are relative to the line before; and a day may end */
	if ((of_day || time >= absolute) && time < r->last_time && !(of_day && r->last_time - time > half_a_day))
		strace_anomaly(r->s->report, KVT_STRACE_TIME_BACKWARDS, kvt_input_lines(r->in), 0, 0);
	r->last_time = time;
}

/* "[pid  12] ", "12 ", times: what stands before a call. */
static char *
prefix(struct reading *r, char *p, uint64_t *pid)
{
	const char *behind;
	uint64_t time;
	bool of_day;
	char *end;

	*pid = 0;
	for (;;) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (strncmp(p, "[pid ", 5) == 0 && strchr(p, ']') != NULL) {
			*pid = strtoull(p + 5, NULL, 10);
			p = strchr(p, ']') + 1;
		} else if ((behind = time_parse(p, &time, &of_day)) != NULL) {
			time_check(r, time, of_day);
			p += behind - p;
		} else if (isdigit((unsigned char)*p)) {
			*pid = strtoull(p, &end, 10);
			if (*end != ' ')
				return p;
			p = end;
		} else {
			return p;
		}
	}
}

static void
line_read(struct reading *r, char *line)
{
	uint64_t pid;
	char *text = prefix(r, line, &pid);
	size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");

	if (strncmp(text, "<... ", 5) == 0) {
		line_resumed(r, pid, text);
	} else if (strncmp(text, "+++ ", 4) == 0) {
		line_end(r, pid, text);
	} else if (strncmp(text, "--- ", 4) == 0) {
		r->s->report->signals++;
	} else if (*text == '\0' || strncmp(text, "strace: ", 8) == 0) {
		r->s->report->other_lines++;
	} else if (name > 0 && text[name] == '(') {
		line_call(r, pid, text, name);
	} else {
		unparsed(r);
	}
}

bool
strace_read(struct strace *s, struct kvt_input *in, char *error, size_t error_size)
{
	struct reading r = { .s = s, .in = in, .error = error, .error_size = error_size };
	ssize_t size;
	char *line;
	bool fine = true;

	while (fine && (size = kvt_input_line(in, &line)) >= 0) {
		if (size > KVT_LINE_MAX)
			fine = damage(&r, "a line of more than 1 MiB");
		else if (strlen(line) != (size_t)size)
			unparsed(&r); /* with a NUL inside */
		else
			line_read(&r, line);
		if (r.no_memory)
			fine = damage(&r, "no memory");
	}
	s->report->lines = kvt_input_lines(in);
	if (fine && kvt_input_error(in)[0] != '\0') {
		snprintf(error, error_size, "%s", kvt_input_error(in));
		fine = false;
	}
	if (fine && s->calls_count == 0) {
		snprintf(error, error_size, "%s: no call in it: not the text of strace", kvt_input_name(in));
		fine = false;
	}
	kvt_buffer_free(&r.text);
	pids_free(&r.pending);
	return fine;
}

void
strace_free(struct strace *s)
{
	for (size_t i = 0; i < s->calls_count; i++)
		free(s->calls[i].text);
	free(s->calls);
	free(s->steps);
	memset(s, 0, sizeof *s);
}
