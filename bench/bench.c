/* What the benchmarks share: clock, figures, table, stores. */
#include "bench/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t
bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- Figures ------------------------------------------------------------------- */

/* The rounds stay in order, least first. */
void
bench_add(struct bench_figure *f, double value)
{
	unsigned i = f->rounds;

	if (f->rounds == BENCH_ROUNDS)
		bench_die("a figure of more than %u rounds", BENCH_ROUNDS);
	for (; i > 0 && f->round[i - 1] > value; i--)
		f->round[i] = f->round[i - 1];
	f->round[i] = value;
	f->rounds++;
}

double
bench_median(const struct bench_figure *f)
{
	return f->round[f->rounds / 2];
}

void
bench_time(struct bench_figure *f, void (*once)(void *), void *arg, unsigned count, double unit)
{
	uint64_t start = bench_now();

	for (unsigned i = 0; i < count; i++)
		once(arg);
	bench_add(f, (double)(bench_now() - start) / count / unit);
}

/* ---- The table ------------------------------------------------------------------ */

/* Three digits that say something, and thousands set apart. */
static const char *
number(char text[32], double value)
{
	char digits[32];
	int length = snprintf(digits, sizeof digits, "%.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
	char *to = text;

	if (value < 1000)
		return strcpy(text, digits);
	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = '\0';
	return text;
}

static void
cell(const struct bench_figure *f, int width)
{
	char range[80], median[32], least[32], largest[32];

	snprintf(range, sizeof range, "(%s .. %s)", number(least, f->round[0]),
		 number(largest, f->round[f->rounds - 1]));
	printf("  %9s %-*s", number(median, bench_median(f)), width, range);
}

void
bench_heading(const char *subject, const char *left, const char *right)
{
	printf("\n%s", subject);
	if (left[0] != '\0')
		printf("%*s%*s", 53 - (int)strlen(subject), left, 28, right);
	putchar('\n');
}

void
bench_row(const char *what, const struct bench_figure *left, const struct bench_figure *right)
{
	printf("  %-40s", what);
	if (left == NULL)
		printf("%28s", "");
	else
		cell(left, right != NULL ? 16 : 0);
	if (right != NULL)
		cell(right, 0);
	putchar('\n');
	fflush(stdout);
}

void
bench_note(const char *format, ...)
{
	va_list arguments;

	printf("  ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
}

void
bench_die(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fprintf(stderr, "bench: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

/* ---- Cells of Markdown ----------------------------------------------------------------- */

static const char *
short_number(char text[40], double value)
{
	snprintf(text, 40, "%.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
	return text;
}

const char *
bench_cell(const struct bench_figure *f)
{
	static char cells[16][128];
	static unsigned turn;
	char *cell = cells[turn++ % 16], median[40], least[40], most[40];

	if (f->rounds == 1)
		snprintf(cell, sizeof cells[0], "%s", short_number(median, bench_median(f)));
	else
		snprintf(cell, sizeof cells[0], "%s (%s .. %s)", short_number(median, bench_median(f)),
			 short_number(least, f->round[0]), short_number(most, f->round[f->rounds - 1]));
	return cell;
}

const char *
bench_ratio(const struct bench_figure *above, const struct bench_figure *below)
{
	static char cells[4][40];
	static unsigned turn;

	return short_number(cells[turn++ % 4], bench_median(above) / bench_median(below));
}

/* ---- Stores ---------------------------------------------------------------------- */

struct kvms *
bench_store(uint64_t max_paddr)
{
	struct kvms_refusal why;
	struct kvms_op config;
	struct kvms *s;

	kvms_op_init(&config, kvms_store_row());
	if (max_paddr != 0)
		config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = max_paddr;
	s = kvms_new(&config, &why);
	if (s == NULL)
		bench_die("no store: %s", why.text);
	return s;
}

static const struct kvms_row *
row_of(const char *name)
{
	const struct kvms_row *row = kvms_op_find(name);

	if (row == NULL)
		bench_die("no operation %s", name);
	return row;
}

struct kvms_op
bench_op(const char *name)
{
	struct kvms_op op;

	kvms_op_init(&op, row_of(name));
	return op;
}

unsigned
bench_argument(const char *op, const char *name)
{
	int i = kvms_arg_index(row_of(op), name);

	if (i < 0)
		bench_die("no argument %s of %s", name, op);
	return (unsigned)i;
}

unsigned
bench_result(const char *op, const char *name)
{
	int i = kvms_result_index(row_of(op), name);

	if (i < 0)
		bench_die("no result %s of %s", name, op);
	return (unsigned)i;
}

uint64_t
bench_apply(struct kvms *s, const struct kvms_op *op, unsigned result)
{
	static struct kvms_outcome out;
	enum kvms_status status = kvms_apply(s, op, &out);

	if (status != KVMS_DONE || kvms_outcome_class(out.name) != KVMS_OK)
		bench_die("%s: status %d, outcome %s", kvms_op_row(op->code)->name, (int)status,
			  kvms_outcome_name(out.name));
	return out.field[result];
}
