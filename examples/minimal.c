/*
 * minimal - the model inside a program of your own.
 *
 *   cc minimal.c $(pkg-config --cflags --libs libkvmstore) && ./a.out
 *
 * Claims a frame, asks who counts in it, and shows that a refused operation
 * leaves the store as it was.
 */
#include <kvmstore.h>

#include <inttypes.h>
#include <stdio.h>

/* Value of the result "name", which the outcome must have. */
static uint64_t
result(const struct kvms_row *row, const struct kvms_outcome *out, const char *name)
{
	int i = kvms_result_index(row, name);

	return i < 0 ? UINT64_MAX : out->field[i];
}

static void
set(struct kvms_op *op, const struct kvms_row *row, const char *name, uint64_t value)
{
	int i = kvms_arg_index(row, name);

	if (i >= 0)
		op->arg[i] = value;
}

int
main(void)
{
	struct kvms_refusal why;
	struct kvms *s = kvms_new(NULL, &why);

	if (s == NULL) {
		fprintf(stderr, "no store: %s\n", why.text);
		return 1;
	}

	/* frame_alloc, with every argument at its default */
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	const struct kvms_row *row = kvms_op_find("frame_alloc");

	kvms_op_init(&op, row);
	if (kvms_apply(s, &op, &out) != KVMS_DONE || kvms_outcome_class(out.name) != KVMS_OK)
		return 1;

	uint64_t paddr = result(row, &out, "paddr");

	printf("frame %" PRIu64 " is at 0x%" PRIx64 "\n", result(row, &out, "frame"), paddr);

	/* the same frame again: the model refuses, as the kernel would */
	uint64_t before = kvms_digest(s);

	row = kvms_op_find("frame_from_unused");
	kvms_op_init(&op, row);
	set(&op, row, "paddr", paddr);
	if (kvms_apply(s, &op, &out) != KVMS_DONE)
		return 1;
	printf("claimed again: %s %s, store %s\n", kvms_class_word(kvms_outcome_class(out.name)),
	       kvms_outcome_name(out.name), kvms_digest(s) == before ? "unchanged" : "changed");

	/* look at its metadata slot */
	row = kvms_request_find("frame");
	kvms_op_init(&op, row);
	set(&op, row, "paddr", paddr);
	if (kvms_inspect(s, &op, &out) != KVMS_DONE)
		return 1;
	printf("rc %" PRIu64 ", handles %" PRIu64 "\n", result(row, &out, "rc"), result(row, &out, "h"));

	/* every law, on the whole store */
	struct kvms_findings findings;
	bool sound = kvms_check_all(s, &findings);

	printf("laws: %s\n", sound ? "all hold" : "broken");
	kvms_outcome_free(&out);
	kvms_free(&s);
	return sound ? 0 : 1;
}
