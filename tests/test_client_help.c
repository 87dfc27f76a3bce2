/*
 * What help says comes from tables: each has an entry for each row, and no
 * entry is for nothing.
 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/describe.h"
#include "client/gaps.h"
#include "store/kvmstore.h"

static const struct {
	const char *row, *field, *text;
} meanings[] = {
#define KVMS_MEANING(row, field, text) { row, field, text },
#include "store/fields.def"
#undef KVMS_MEANING
};

#define MEANINGS (sizeof meanings / sizeof meanings[0])

/* Every row there is: operations, requests, the store line; NULL past the end. */
static const struct kvms_row *
row_at(unsigned index)
{
	if (index == 0)
		return kvms_store_row();
	for (unsigned code = 1; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL && --index == 0)
			return kvms_op_row(code);
	for (unsigned code = 1; code <= kvms_request_max(); code++)
		if (kvms_request_row(code) != NULL && --index == 0)
			return kvms_request_row(code);
	return NULL;
}

static bool
row_has(const struct kvms_row *row, const char *field)
{
	return kvms_arg_index(row, field) >= 0 || kvms_result_index(row, field) >= 0;
}

static void
means_something(const struct kvms_row *row, const struct kvms_field *f)
{
	bool named_by_type = f->type == KVMS_ID || f->type == KVMS_IDS || f->type == KVMS_CPU || f->type == KVMS_TABLE;

	cr_expect(named_by_type || kvms_field_meaning(row, f) != NULL, "%s: nobody says what %s means", row->name,
		  f->name);
}

Test(help, every_field_has_a_meaning)
{
	const struct kvms_row *row;

	for (unsigned i = 0; (row = row_at(i)) != NULL; i++) {
		for (unsigned k = 0; k < row->args_count; k++)
			means_something(row, &row->args[k]);
		for (unsigned k = 0; k < row->results_count; k++)
			means_something(row, &row->results[k]);
	}
}

/* Does a row with that field exist that has no line of its own? */
static bool
general_is_used(const char *field)
{
	const struct kvms_row *row;

	for (unsigned i = 0; (row = row_at(i)) != NULL; i++) {
		bool own = false;

		for (size_t k = 0; k < MEANINGS; k++)
			own |= strcmp(meanings[k].row, row->name) == 0 && strcmp(meanings[k].field, field) == 0;
		if (!own && row_has(row, field))
			return true;
	}
	return false;
}

Test(help, every_meaning_is_of_a_field)
{
	for (size_t i = 0; i < MEANINGS; i++) {
		const struct kvms_row *row;
		bool used = false;

		if (meanings[i].row[0] == '\0')
			used = general_is_used(meanings[i].field);
		else
			for (unsigned k = 0; (row = row_at(k)) != NULL; k++)
				used |= strcmp(row->name, meanings[i].row) == 0 && row_has(row, meanings[i].field);
		cr_expect(used, "store/fields.def: no row uses \"%s\" \"%s\"", meanings[i].row, meanings[i].field);
		for (size_t k = 0; k < i; k++)
			cr_expect(strcmp(meanings[i].row, meanings[k].row) != 0 ||
				      strcmp(meanings[i].field, meanings[k].field) != 0,
				  "store/fields.def: \"%s\" \"%s\" twice", meanings[i].row, meanings[i].field);
	}
}

Test(help, every_row_has_a_summary_and_an_effect_in_sentences)
{
	const struct kvms_row *row;

	for (unsigned i = 1; (row = row_at(i)) != NULL; i++) {
		size_t length = strlen(row->effect);

		cr_expect(row->summary[0] != '\0' && row->summary[strlen(row->summary) - 1] != '.', "%s: summary",
			  row->name);
		cr_expect(length > 0 && row->effect[length - 1] == '.', "%s: effect", row->name);
	}
}

Test(help, an_operation_without_a_partner_upstream_is_a_gap)
{
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);
		bool spoken_of = false;

		if (row == NULL || row->mirrors[0] != '\0')
			continue;
		for (const struct kvmctl_gap *gap = kvmctl_gap_rows; gap->section != NULL; gap++)
			spoken_of |= kvmctl_gap_holds(gap, row->name);
		cr_expect(spoken_of, "docs/gaps.md does not say why there is %s", row->name);
	}
}

Test(help, a_gap_names_outcomes_and_operations_that_exist)
{
	/* `panic NAME`, `err NAME`, ...: the name is that of an outcome */
	for (const struct kvmctl_gap *gap = kvmctl_gap_rows; gap->section != NULL; gap++)
		for (const char *at = gap->model; (at = strchr(at, '`')) != NULL; at = strchr(at, '`') + 1) {
			char class[16], name[64];
			bool known = false;

			at++;
			cr_assert(strchr(at, '`') != NULL, "%s: a backquote is open", gap->subject);
			if (sscanf(at, "%15[a-z] %63[A-Za-z_]", class, name) != 2 || strcmp(name, "NAME") == 0)
				continue;
			for (int c = KVMS_PRE; c < KVMS_CLASSES; c++)
				known |= strcmp(class, kvms_class_word(c)) == 0;
			if (!known)
				continue;
			known = false;
			for (unsigned o = 1; o <= kvms_outcome_max(); o++)
				known |= strcmp(name, kvms_outcome_name(o)) == 0 &&
					 strcmp(class, kvms_class_word(kvms_outcome_class(o))) == 0;
			cr_expect(known, "docs/gaps.md: no outcome %s %s", class, name);
		}
}

Test(help, every_command_and_every_option_has_a_name_of_its_own)
{
	for (unsigned i = 0; kvmctl_command_row(i) != NULL; i++)
		for (unsigned k = 0; k < i; k++)
			cr_assert_str_neq(kvmctl_command_row(i)->name, kvmctl_command_row(k)->name);
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		for (unsigned k = 0; k < i; k++) {
			const struct kvmctl_option_row *one = kvmctl_option_row(i), *other = kvmctl_option_row(k);

			cr_assert_str_neq(one->name, other->name);
			cr_assert(one->letter == 0 || one->letter != other->letter, "-%c", one->letter);
		}
}

Test(help, requests_tell_how_they_refuse)
{
	const struct kvms_row *frame = kvms_request_find("frame"), *walk = kvms_request_find("walk");
	const struct kvms_row *areas = kvms_request_find("areas");

	cr_expect_str_eq(kvms_outcome_name(kvms_row_outcome(frame, 1)), "bad_paddr");
	cr_expect_str_eq(kvms_outcome_name(kvms_row_outcome(walk, 1)), "unknown_vm_space");
	cr_expect_eq(kvms_row_outcome(frame, 2), UINT_MAX);
	cr_expect_eq(kvms_row_outcome(walk, 2), UINT_MAX);
	cr_expect_eq(kvms_row_outcome(areas, 1), UINT_MAX);
}

Test(help, columns_are_kept_and_backquotes_left_out)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	kvmctl_entry(out, "name", 10, "one `two` three");
	kvmctl_entry(out, "a_long_name", 10, "text");
	fclose(out);
	cr_expect_str_eq(text, "  name    one two three\n  a_long_name\n          text\n");
	free(text);
}

/* Options that nobody takes, and paragraphs that help would cut short. */
Test(help, commands_and_options_are_whole)
{
	const struct kvmctl_command *c;
	kvmctl_options taken = kvmctl_row_options(false) | kvmctl_row_options(true);

	for (unsigned i = 0; (c = kvmctl_command_row(i)) != NULL; i++) {
		taken |= c->options;
		for (const char *at = c->details; *at != '\0'; at += strcspn(at, "\n") + 1)
			cr_expect_lt(strcspn(at, "\n"), 1023, "%s: a paragraph is too long", c->name);
	}
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		cr_expect(kvmctl_option_row(i)->global || (taken >> i & 1) != 0, "no command takes --%s",
			  kvmctl_option_row(i)->name);
}

Test(help, a_command_has_one_row)
{
	const struct kvmctl_command *a, *b;

	for (unsigned i = 0; (a = kvmctl_command_row(i)) != NULL; i++)
		for (unsigned k = 0; k < i && (b = kvmctl_command_row(k)) != NULL; k++)
			cr_expect_str_neq(a->name, b->name);
}
