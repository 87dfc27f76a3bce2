/* Text of traces: lexical forms, lines, every syntax error, canonical printing. */
#include "trace/input.h"
#include "trace/text.h"
#include "trace/value.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parse a whole trace; the error, or "" if there is none.  The caller frees it. */
static char *
error_of(const char *text, size_t size)
{
	struct kvt_parser *p = kvt_parser_new("t.kvt");
	const char *at = text, *end = text + size;
	struct kvt_line line;
	bool good = true;
	char *error;

	while (good && at < end) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		const char *line_end = lf != NULL ? lf : end;

		good = kvt_parse(p, at, (size_t)(line_end - at), &line);
		at = line_end + 1;
	}
	if (good)
		good = kvt_parse_end(p);
	error = strdup(good ? "" : kvt_parser_error(p));
	kvt_parser_free(&p);
	return error;
}

static void
expect_error(const char *text, size_t size, const char *expected)
{
	char *error = error_of(text, size);

	cr_expect_str_eq(error, expected, "%.*s\n  expected %s\n  got      %s", (int)size, text, expected, error);
	free(error);
}

/* The error of one line behind a header. */
static void
expect_line_error(const char *line, const char *expected)
{
	char text[4096], full[1024];

	snprintf(text, sizeof text, "kvmtrace 1\n%s\n", line);
	snprintf(full, sizeof full, "%s%s", *expected != '\0' ? "t.kvt:2:" : "", expected);
	expect_error(text, strlen(text), full);
}

/* One op or request line as it is printed. */
static void
expect_printed(const char *line, const char *expected)
{
	struct kvt_parser *p = kvt_parser_new("t.kvt");
	struct kvt_buffer b = { 0 };
	struct kvt_line l;

	cr_assert(kvt_parse(p, "kvmtrace 1", 10, &l));
	if (kvt_parse(p, line, strlen(line), &l))
		kvt_print_line(&b, &l, NULL);
	else
		kvt_puts(&b, kvt_parser_error(p));
	cr_expect_str_eq(kvt_buffer_text(&b), expected, "%s\n  expected %s\n  got      %s", line, expected,
			 kvt_buffer_text(&b));
	kvt_buffer_free(&b);
	kvt_parser_free(&p);
}

/* ---- Lexical forms ------------------------------------------------------------------- */

Test(value, every_type_reads_what_it_accepts_and_prints_it_canonically)
{
	static const struct {
		enum kvms_type type;
		const char *text, *canonical;
	} cases[] = {
		{ KVMS_DEC, "0", "0" },
		{ KVMS_DEC, "0x1F", "31" },
		{ KVMS_DEC, "0XfF", "255" },
		{ KVMS_DEC, "007", "7" },
		{ KVMS_HEX, "10", "0xa" },
		{ KVMS_HEX, "0x0000", "0x0" },
		{ KVMS_HEX, "18446744073709551615", "0xffffffffffffffff" },
		{ KVMS_HEX, "0xFFFFFFFFFFFFFFFF", "0xffffffffffffffff" },
		{ KVMS_HEX, "0x00000000000000000000001", "0x1" },
		{ KVMS_DIGEST, "0x1", "0x0000000000000001" },
		{ KVMS_BOOL, "true", "true" },
		{ KVMS_BOOL, "false", "false" },
		{ KVMS_ID, "0x10", "16" },
		{ KVMS_TABLE, "kernel", "kernel" },
		{ KVMS_TABLE, "12", "12" },
		{ KVMS_TABLE_ALL, "all", "all" },
		{ KVMS_FLAGS, "-", "-" },
		{ KVMS_FLAGS, "daxwr", "rwxad" },
		{ KVMS_PROP, "wr:wb", "rw:wb" },
		{ KVMS_PROP, "-:uc", "-:uc" },
		{ KVMS_PROP, "rwxad:wt+avail2+global+user", "rwxad:wt+user+global+avail2" },
		{ KVMS_RC, "unused", "unused" },
		{ KVMS_RC, "unique", "unique" },
		{ KVMS_RC, "0x3", "3" },
		{ KVMS_ARCH, "x86_64_la57", "x86_64_la57" },
		{ KVMS_USAGE, "MMIO", "MMIO" },
		{ KVMS_CACHE_KEEP, "keep", "keep" },
		{ KVMS_BYTES, "-", "-" },
		{ KVMS_BYTES, "00ff10", "00ff10" },
		{ KVMS_BYTES, "000102030405060708090a", "000102030405060708090a" },
		{ KVMS_IDS, "[]", "[]" },
		{ KVMS_IDS, "[1,0x2,3]", "[1,2,3]" },
		{ KVMS_PADDRS, "[4096]", "[0x1000]" },
		{ KVMS_RANGE, "4096..0x3000", "0x1000..0x3000" },
		{ KVMS_RANGES, "[]", "[]" },
		{ KVMS_RANGES, "[0..1,2..3]", "[0x0..0x1,0x2..0x3]" },
		{ KVMS_VMALLOC, "[1..2]", "0x1..0x2" },
		{ KVMS_VMALLOC, "1..2", "0x1..0x2" },
		{ KVMS_VMALLOC, "[1..2,3..4]", "[0x1..0x2,0x3..0x4]" },
		{ KVMS_LEVELS, "[4:0x1000:511:0x2007]", "[4:0x1000:511:0x2007]" },
		{ KVMS_MAPPINGS, "[kernel:0x1000,3:0x2000]", "[kernel:0x1000,3:0x2000]" },
		{ KVMS_REVERSE, "[kernel:0x1000:1:tracked,1:0x0:2:untracked]",
		  "[kernel:0x1000:1:tracked,1:0x0:2:untracked]" },
		{ KVMS_AREAS, "[7:0x1000..0x3000]", "[7:0x1000..0x3000]" },
		{ KVMS_STALE, "[0:2:0x1000:0x2000]", "[0:2:0x1000:0x2000]" },
		{ KVMS_LAWS, "ok", "ok" },
		{ KVMS_LAWS, "[slot.rc_legal]", "[slot.rc_legal]" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct kvt_words list = { 0 };
		struct kvt_buffer b = { 0 };
		uint64_t value = 0;
		unsigned fault = kvt_value_parse(cases[i].type, cases[i].text, strlen(cases[i].text), &value, &list);

		cr_expect_eq(fault, KVT_FAULT_NONE, "%s", cases[i].text);
		kvt_print_value(&b, cases[i].type, value, list.at);
		cr_expect_str_eq(kvt_buffer_text(&b), cases[i].canonical);
		kvt_buffer_free(&b);
		kvt_words_free(&list);
	}
}

Test(value, what_no_type_accepts_is_named_by_the_form_it_should_have)
{
	static const char u64[] = "u64 (decimal or 0x hex)";
	static const char flags[] = "flags (letters of rwxad, each once, or '-')";
	static const char bytes[] = "bytes (even number of lowercase hex digits, or -)";
	static const struct {
		enum kvms_type type;
		const char *text, *form;
	} cases[] = {
		{ KVMS_HEX, "", u64 },
		{ KVMS_HEX, "0x", u64 },
		{ KVMS_HEX, "-1", u64 },
		{ KVMS_HEX, "+1", u64 },
		{ KVMS_HEX, "1_000", u64 },
		{ KVMS_HEX, "ff", u64 },
		{ KVMS_HEX, "0xg", u64 },
		{ KVMS_HEX, "18446744073709551616", u64 },
		{ KVMS_HEX, "0x10000000000000000", u64 },
		{ KVMS_ID, "one", u64 },
		{ KVMS_TABLE, "user", u64 },
		{ KVMS_TABLE, "all", u64 },
		{ KVMS_BOOL, "True", "true|false" },
		{ KVMS_BOOL, "1", "true|false" },
		{ KVMS_CACHE_KEEP, "wbb", "uc|wc|wp|wt|wb|keep" },
		{ KVMS_FRAME_KIND, "none", "untyped|typed|link" },
		{ KVMS_ARCH, "x86", "x86_64|x86_64_la57|riscv64_sv39|riscv64_sv48|loongarch64" },
		{ KVMS_FLAGS, "", flags },
		{ KVMS_FLAGS, "rr", flags },
		{ KVMS_FLAGS, "rz", flags },
		{ KVMS_FLAGS, "r-", flags },
		{ KVMS_PROP, "rw", "property FLAGS:CACHE[+user][+global][+avail2]" },
		{ KVMS_PROP, "rr:wb", flags },
		{ KVMS_PROP, ":wb", flags },
		{ KVMS_PROP, "rw:", "uc|wc|wp|wt|wb" },
		{ KVMS_PROP, "rw:keep", "uc|wc|wp|wt|wb" },
		{ KVMS_PROP, "rw:wb+", "+user, +global or +avail2" },
		{ KVMS_PROP, "rw:wb+user+user", "+user, +global or +avail2" },
		{ KVMS_PROP, "rw:wb+avail1", "+user, +global or +avail2" },
		{ KVMS_BYTES, "", bytes },
		{ KVMS_BYTES, "abc", bytes },
		{ KVMS_BYTES, "AB", bytes },
		{ KVMS_BYTES, "--", bytes },
		{ KVMS_IDS, "", "id list [1,2,3]" },
		{ KVMS_IDS, "1", "id list [1,2,3]" },
		{ KVMS_IDS, "[1,2", "id list [1,2,3]" },
		{ KVMS_IDS, "[", "id list [1,2,3]" },
		{ KVMS_IDS, "]", "id list [1,2,3]" },
		{ KVMS_IDS, "[1,]", u64 },
		{ KVMS_IDS, "[,]", u64 },
		{ KVMS_IDS, "[1,x]", u64 },
		{ KVMS_RANGE, "1", "range START..END" },
		{ KVMS_RANGE, "1..", u64 },
		{ KVMS_RANGE, "x..2", u64 },
		{ KVMS_RANGES, "1..2", "range list [a..b,c..d]" },
		{ KVMS_RANGES, "[1]", "range START..END" },
		{ KVMS_RANGES, "[1..2,3..z]", u64 },
		{ KVMS_VMALLOC, "1", "range START..END" },
		{ KVMS_VMALLOC, "[1..2", "range list [a..b,c..d]" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct kvt_words list = { 0 };
		struct kvt_buffer b = { 0 };
		uint64_t value = 0;
		unsigned fault = kvt_value_parse(cases[i].type, cases[i].text, strlen(cases[i].text), &value, &list);

		kvt_fault_print(&b, fault);
		cr_expect_str_eq(kvt_buffer_text(&b), cases[i].form, "%s: expected %s, got %s", cases[i].text,
				 cases[i].form, kvt_buffer_text(&b));
		kvt_buffer_free(&b);
		kvt_words_free(&list);
	}
}

Test(value, at_most_65536_bytes)
{
	static char digits[2 * KVT_BYTES_MAX + 3];
	struct kvt_words list = { 0 };
	uint64_t value = 0;

	memset(digits, 'a', sizeof digits);
	cr_expect_eq(kvt_value_parse(KVMS_BYTES, digits, 2 * KVT_BYTES_MAX, &value, &list), KVT_FAULT_NONE);
	cr_expect_eq(value, KVT_BYTES_MAX);
	cr_expect_eq(kvt_value_parse(KVMS_BYTES, digits, 2 * KVT_BYTES_MAX + 2, &value, &list), KVT_FAULT_BYTES_MAX);
	kvt_words_free(&list);
}

Test(value, a_table_of_id_zero_is_not_the_kernel)
{
	struct kvt_words list = { 0 };
	uint64_t value = 0;

	cr_expect_eq(kvt_value_parse(KVMS_TABLE, "0", 1, &value, &list), KVT_FAULT_NONE);
	cr_expect_neq(value, 0);
	kvt_words_free(&list);
}

Test(value, json_has_strings_for_hex_and_numbers_for_decimals)
{
	static const uint64_t ranges[] = { 0x1000, 0x2000, 0x3000, 0x4000 };
	static const uint64_t levels[] = { 4, 0x7ffff000, 511, 0x8000000000000007 };
	static const struct {
		enum kvms_type type;
		uint64_t value;
		const uint64_t *list;
		const char *json;
	} cases[] = {
		{ KVMS_DEC, 7, NULL, "7" },
		{ KVMS_DEC, UINT64_C(9007199254740991), NULL, "9007199254740991" },
		{ KVMS_DEC, UINT64_C(9007199254740992), NULL, "\"9007199254740992\"" },
		{ KVMS_HEX, 7, NULL, "\"0x7\"" },
		{ KVMS_DIGEST, 7, NULL, "\"0x0000000000000007\"" },
		{ KVMS_BOOL, 1, NULL, "true" },
		{ KVMS_TABLE, 0, NULL, "\"kernel\"" },
		{ KVMS_TABLE, 3, NULL, "3" },
		{ KVMS_TABLE_ALL, UINT64_MAX, NULL, "\"all\"" },
		{ KVMS_RC, KVMS_RC_UNIQUE, NULL, "\"unique\"" },
		{ KVMS_RC, 2, NULL, "2" },
		{ KVMS_PROP, 0x40003, NULL, "\"rw:wb\"" },
		{ KVMS_RANGES, 2, ranges,
		  "[{\"start\":\"0x1000\",\"end\":\"0x2000\"},{\"start\":\"0x3000\",\"end\":\"0x4000\"}]" },
		{ KVMS_RANGE, 1, ranges, "{\"start\":\"0x1000\",\"end\":\"0x2000\"}" },
		{ KVMS_IDS, 2, levels, "[4,2147479552]" },
		{ KVMS_LEVELS, 1, levels,
		  "[{\"level\":4,\"node\":\"0x7ffff000\",\"index\":511,\"word\":\"0x8000000000000007\"}]" },
		{ KVMS_LAWS, 0, NULL, "[]" },
		{ KVMS_BYTES, 0, NULL, "\"-\"" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct kvt_buffer b = { 0 };

		kvt_json_value(&b, cases[i].type, cases[i].value, cases[i].list);
		cr_expect_str_eq(kvt_buffer_text(&b), cases[i].json, "%s", cases[i].json);
		kvt_buffer_free(&b);
	}
}

/* ---- Syntax errors ----------------------------------------------------------------------- */

Test(error, a_trace_begins_with_its_header)
{
	static const char *const cases[][2] = {
		{ "", "t.kvt:1:1: expected 'kvmtrace 1', found end of file" },
		{ "\n  \n# a\n", "t.kvt:1:1: expected 'kvmtrace 1', found end of file" },
		{ "kvmtrace 2\n", "t.kvt:1:1: expected 'kvmtrace 1', found 'kvmtrace 2'" },
		{ "\n# a\nframe_drop frame=1\n", "t.kvt:3:1: expected 'kvmtrace 1', found 'frame_drop frame=1'" },
		{ "kvmtrace 1 x\n", "t.kvt:1:1: expected 'kvmtrace 1', found 'kvmtrace 1 x'" },
		{ "kvmtrace\n", "t.kvt:1:1: expected 'kvmtrace 1', found 'kvmtrace'" },
		{ "kvmtrace 1 # and a comment\n", "" },
		{ " kvmtrace\t1", "" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_error(cases[i][0], strlen(cases[i][0]), cases[i][1]);
}

Test(error, every_line_is_judged_from_left_to_right)
{
	static const char *const cases[][2] = {
		{ "frame_dorp frame=1", "1: expected operation name, found 'frame_dorp'" },
		{ "-> ok", "1: expected operation name, found '->'" },
		{ "frame=1", "1: expected operation name, found 'frame=1'" },
		{ "  frame_drop foo=1", "14: expected argument of frame_drop, found 'foo'" },
		{ "frame_drop =1", "12: expected argument of frame_drop, found ''" },
		{ "frame_drop frame=1 frame=2", "20: expected each argument once, found 'frame'" },
		{ "frame_drop frame=1 frame=x", "20: expected each argument once, found 'frame'" },
		{ "frame_drop frame", "12: expected key=value, found 'frame'" },
		{ "frame_drop frame=one", "18: expected u64 (decimal or 0x hex), found 'one'" },
		{ "frame_drop frame=", "18: expected u64 (decimal or 0x hex), found ''" },
		{ "frame_drop", "11: expected argument frame, found end of line" },
		{ "frame_drop  # c", "16: expected argument frame, found end of line" },
		{ "frame_drop -> ok last=true", "27: expected argument frame, found end of line" },
		{ "kvirt_map_frames prop=rw:wb", "28: expected argument area_size, found end of line" },
		{ "kvirt_map_frames prop=rw:wb area_size=0", "40: expected argument frames, found end of line" },
		{ "kvirt_map_frames frames=[1,2 prop=rw:wb", "25: expected id list [1,2,3], found '[1,2'" },
		{ "kvirt_map_frames frames=[1,b]", "25: expected u64 (decimal or 0x hex), found '[1,b]'" },
		{ "kvirt_map_frames prop=rw",
		  "23: expected property FLAGS:CACHE[+user][+global][+avail2], found 'rw'" },
		{ "kvirt_map_frames prop=rr:wb",
		  "23: expected flags (letters of rwxad, each once, or '-'), found 'rr:wb'" },
		{ "kvirt_map_frames prop=rw:xx", "23: expected uc|wc|wp|wt|wb, found 'rw:xx'" },
		{ "kvirt_map_frames prop=rw:wb+kernel",
		  "23: expected +user, +global or +avail2, found 'rw:wb+kernel'" },
		{ "kvirt_protect_range set=rrw",
		  "25: expected flags (letters of rwxad, each once, or '-'), found 'rrw'" },
		{ "kvirt_protect_range cache=kept", "27: expected uc|wc|wp|wt|wb|keep, found 'kept'" },
		{ "frame_alloc zeroed=yes", "20: expected true|false, found 'yes'" },
		{ "frame_alloc kind=node", "18: expected untyped|typed|link, found 'node'" },
		{ "frame_alloc ->", "15: expected ok|pre|err|panic|abort|block, found end of line" },
		{ "frame_alloc -> OK", "16: expected ok|pre|err|panic|abort|block, found 'OK'" },
		{ "frame_alloc -> ok=1", "16: expected ok|pre|err|panic|abort|block, found 'ok=1'" },
		{ "frame_alloc -> ok frame=x", "25: expected u64 (decimal or 0x hex), found 'x'" },
		{ "frame_alloc -> ok frame=1 frame=1", "27: expected each key once, found 'frame'" },
		{ "frame_alloc -> ok foo=1 bar=2 foo=1", "31: expected each key once, found 'foo'" },
		{ "frame_alloc -> err NoMemory again", "29: expected key=value, found 'again'" },
		{ "frame_alloc -> ok frame=1 -> ok", "27: expected key=value, found '->'" },
		{ "frame_alloc -> ok ->", "19: expected key=value, found '->'" },
		{ "frame_alloc zeroed=false#", "20: expected true|false, found 'false#'" },
		{ "frame_alloc @note", "13: expected key=value, found '@note'" },
		{ "frame_alloc @=1", "13: expected key=value, found '@=1'" },
		{ "frame_alloc @src=\"a b", "13: expected closing \", found end of line" },
		{ "frame_alloc @src=\"a b\\\"", "13: expected closing \", found end of line" },
		{ "frame_alloc @src=\"a\"b", "18: expected closing \", found '\"a\"b'" },
		{ "frame_alloc \x1b[1m=1", "13: expected argument of frame_alloc, found '\\x1b[1m'" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_line_error(cases[i][0], cases[i][1]);
}

Test(error, store_gap_and_base_lines_are_judged_too)
{
	static const char *const cases[][2] = {
		{ "store\nstore", "3:1: expected store line before the first operation, found 'store'" },
		{ "frame_alloc\nstore", "3:1: expected store line before the first operation, found 'store'" },
		{ "expect inv=ok\nstore", "3:1: expected store line before the first operation, found 'store'" },
		{ "base digest=0", "2:1: expected store line before the first operation, found 'base'" },
		{ "store\n# c\n\nbase digest=0\nframe_alloc", "" },
		{ "store\ngap\nbase digest=0", "4:1: expected store line before the first operation, found 'base'" },
		{ "store\nbase digest=0\nbase digest=0",
		  "4:1: expected store line before the first operation, found 'base'" },
		{ "gap\nstore\nframe_alloc", "" },
		{ "store foo=1", "2:7: expected store key, found 'foo'" },
		{ "store @t=1", "2:7: expected store key, found '@t'" },
		{ "store ncpu", "2:7: expected key=value, found 'ncpu'" },
		{ "store ncpu=1 ncpu=2", "2:14: expected each key once, found 'ncpu'" },
		{ "store ncpu=x", "2:12: expected u64 (decimal or 0x hex), found 'x'" },
		{ "store boot=half", "2:12: expected minimal|full, found 'half'" },
		{ "store kernel=1", "2:14: expected range START..END, found '1'" },
		{ "store kernel=1..x", "2:14: expected u64 (decimal or 0x hex), found '1..x'" },
		{ "store reserve=1..2", "2:15: expected range list [a..b,c..d], found '1..2'" },
		{ "store reserve=[1..2,3]", "2:15: expected range START..END, found '[1..2,3]'" },
		{ "store vmalloc=[1..2", "2:15: expected range list [a..b,c..d], found '[1..2'" },
		{ "store vmalloc=12", "2:15: expected range START..END, found '12'" },
		{ "gap ops", "2:5: expected key=value, found 'ops'" },
		{ "gap n=1", "2:5: expected argument of gap, found 'n'" },
		{ "gap ops=1 ops=2", "2:11: expected each argument once, found 'ops'" },
		{ "gap ops=-", "2:9: expected u64 (decimal or 0x hex), found '-'" },
		{ "gap ops=3 @src=\"lost events\" # c", "" },
		{ "store\nbase", "3:5: expected argument digest, found end of line" },
		{ "store\nbase digest=z", "3:13: expected u64 (decimal or 0x hex), found 'z'" },
		{ "store\nbase digest=1 @t=1", "3:15: expected argument of base, found '@t'" },
		{ "store\nbase digest=1 digest=1", "3:15: expected each argument once, found 'digest'" },
		{ "store\nbase digest=1 snapshot=\"a", "3:15: expected closing \", found end of line" },
		{ "store\nbase digest=1 snapshot=a", "3:24: expected closing \", found 'a'" },
	};
	char text[512], full[512];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		snprintf(text, sizeof text, "kvmtrace 1\n%s", cases[i][0]);
		snprintf(full, sizeof full, "%s%s", cases[i][1][0] != '\0' ? "t.kvt:" : "", cases[i][1]);
		expect_error(text, strlen(text), full);
	}
}

Test(error, expect_lines_are_judged_too)
{
	static const char *const cases[][2] = {
		{ "expect", "7: expected request or key=value, found end of line" },
		{ "expect   ", "10: expected request or key=value, found end of line" },
		{ "expect digset=1", "8: expected digest|inv|nodes|free_va|areas, found 'digset'" },
		{ "expect digest=1 inv=ok", "17: expected end of line, found 'inv=ok'" },
		{ "expect digest=1 ->", "17: expected end of line, found '->'" },
		{ "expect digest=1 @t=1", "17: expected end of line, found '@t=1'" },
		{ "expect farme paddr=0", "8: expected request name, found 'farme'" },
		{ "expect -> rc=1", "8: expected request name, found '->'" },
		{ "expect frame rc=1", "18: expected argument paddr, found end of line" },
		{ "expect frame paddr=0 paddr=0", "22: expected each key once, found 'paddr'" },
		{ "expect frame paddr=0 rc=1 rc=1", "27: expected each key once, found 'rc'" },
		{ "expect frame paddr=x", "20: expected u64 (decimal or 0x hex), found 'x'" },
		{ "expect frame paddr=0 rc", "22: expected key=value, found 'rc'" },
		{ "expect frame paddr=0 -> rc=1 -> h=1", "30: expected key=value, found '->'" },
		{ "expect frame paddr=0 @t=1", "22: expected key=value, found '@t=1'" },
		{ "expect frame paddr=0 -> @t=1", "25: expected key=value, found '@t=1'" },
		{ "expect translate table=user va=0", "24: expected u64 (decimal or 0x hex), found 'user'" },
		{ "expect digest=0x12 # c", "" },
		{ "expect areas=[]", "" },
		{ "expect areas", "" },
		{ "expect census frames=1 areas=0", "" },
		{ "expect frame paddr=0x1000 rc=unused foo=1", "" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_line_error(cases[i][0], cases[i][1]);
}

Test(error, bytes_are_judged_before_words)
{
	static const struct {
		const char *text;
		size_t size;
		const char *error;
	} cases[] = {
		{ "kvmtrace 1\r\n", 12, "t.kvt:1:11: expected LF line end, found '\\x0d'" },
		{ "kvmtrace 1\n# \xff\n", 15, "t.kvt:2:3: expected valid UTF-8, found '\\xff'" },
		{ "kvmtrace 1\n# \0\n", 15, "t.kvt:2:3: expected valid UTF-8, found '\\x00'" },
		{ "kvmtrace 1\n# \xc3\x28\n", 16, "t.kvt:2:3: expected valid UTF-8, found '\\xc3'" },
		{ "kvmtrace 1\n# \xc0\xaf\n", 16, "t.kvt:2:3: expected valid UTF-8, found '\\xc0'" },
		{ "kvmtrace 1\n# \xed\xa0\x80\n", 17, "t.kvt:2:3: expected valid UTF-8, found '\\xed'" },
		{ "kvmtrace 1\n# \xf4\x90\x80\x80\n", 18, "t.kvt:2:3: expected valid UTF-8, found '\\xf4'" },
		{ "kvmtrace 1\n# a\xe2\x82", 16, "t.kvt:2:4: expected valid UTF-8, found '\\xe2'" },
		{ "kvmtrace 1\n# \xe2\x82\xac \xf0\x9f\x98\x80 \xc3\xa9\n", 25, "" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_error(cases[i].text, cases[i].size, cases[i].error);
}

Test(error, a_line_may_have_1_MiB)
{
	size_t size = 11 + KVT_LINE_MAX;
	char *text = malloc(size + 2);

	memset(text, 'x', size + 2);
	memcpy(text, "kvmtrace 1\n#", 12);
	expect_error(text, size, "");
	text[size] = '\n';
	expect_error(text, size + 1, "");
	text[size] = 'x';
	expect_error(text, size + 1, "t.kvt:2:1048577: expected line of at most 1 MiB, found end of limit");
	text[size + 1] = '\xff';
	expect_error(text, size + 2, "t.kvt:2:1048577: expected line of at most 1 MiB, found end of limit");
	free(text);
}

Test(error, a_text_of_its_own_is_named_as_the_caller_says)
{
	struct kvt_parser *p = kvt_parser_new("<exec>");
	struct kvt_line line;

	cr_expect_not(kvt_parse_op(p, "frame_drop frame=x", 18, &line));
	cr_expect_str_eq(kvt_parser_error(p), "<exec>:1:18: expected u64 (decimal or 0x hex), found 'x'");
	cr_expect_not(kvt_parse_op(p, "frame_alloc\nrcu", 15, &line));
	cr_expect_str_eq(kvt_parser_error(p), "<exec>:1:12: expected end of line, found '\\x0a'");
	cr_expect_not(kvt_parse_request(p, "frame paddr=0 rc=1", 18, &line));
	cr_expect_str_eq(kvt_parser_error(p), "<exec>:1:15: expected argument of frame, found 'rc'");
	cr_expect_not(kvt_parse_request(p, "frmae", 5, &line));
	cr_expect_str_eq(kvt_parser_error(p), "<exec>:1:1: expected request name, found 'frmae'");
	cr_expect_not(kvt_parse_store(p, "cpus=1", 6, &line));
	cr_expect_str_eq(kvt_parser_error(p), "<exec>:1:1: expected store key, found 'cpus'");
	cr_expect(kvt_parse_op(p, " # nothing", 10, &line));
	cr_expect_eq(line.kind, KVT_BLANK);
	cr_expect(kvt_parse_store(p, "ncpu=4", 6, &line));
	cr_expect_eq(line.kind, KVT_STORE);
	cr_expect_eq(line.op.arg[kvms_arg_index(line.row, "ncpu")], 4);
	cr_expect(kvt_parse_request(p, "walk va=0x1000", 14, &line));
	cr_expect_str_eq(line.row->name, "walk");
	kvt_parser_free(&p);
}

/* ---- Canonical printing ------------------------------------------------------------------------- */

Test(print, a_line_is_printed_canonically)
{
	static const char *const cases[][2] = {
		{ "", "" },
		{ "  # a comment ", "# a comment " },
		{ "frame_alloc", "frame_alloc zeroed=true kind=untyped meta=0x0" },
		{ "frame_alloc meta=16 zeroed=false # c", "frame_alloc zeroed=false kind=untyped meta=0x10 # c" },
		{ "frame_alloc -> ok paddr=4096 frame=0x2",
		  "frame_alloc zeroed=true kind=untyped meta=0x0 -> ok frame=2 paddr=0x1000" },
		{ "frame_alloc @b=2 -> @c=\"x \\\" y\" ok @d=4",
		  "frame_alloc zeroed=true kind=untyped meta=0x0 @b=2 -> ok @c=\"x \\\" y\" @d=4" },
		{ "frame_drop @t=1 frame=0x1 @cpu=0 -> pre unknown_frame foo=bar",
		  "frame_drop frame=1 @t=1 @cpu=0 -> pre unknown_frame foo=bar" },
		{ "kvirt_map_frames prop=wr:wb frames=[1,0x2] area_size=8192",
		  "kvirt_map_frames area_size=0x2000 map_offset=0x0 frames=[1,2] prop=rw:wb" },
		{ "expect digest=7", "expect digest=0x0000000000000007" },
		{ "expect inv=ok", "expect inv=ok" },
		{ "expect free_va=[4096..8192]", "expect free_va=[0x1000..0x2000]" },
		{ "expect frame h=1 paddr=4096 rc=2", "expect frame paddr=0x1000 -> rc=2 h=1" },
		{ "expect translate va=0x1000 -> found=false",
		  "expect translate table=kernel va=0x1000 -> found=false" },
		{ "expect nodes table=kernel", "expect nodes table=kernel" },
		{ "expect nodes=7", "expect nodes=7" },
		{ "gap", "gap" },
		{ "gap @src=\"x\" ops=0x10 # c", "gap ops=16 @src=\"x\" # c" },
		{ "store ncpu=2 reserve=[0..4096] vmalloc=[1..2]",
		  "store arch=x86_64 max_paddr=0x80000000 rc_max=0x7fffffffffffffff ncpu=2 vmalloc=0x1..0x2 "
		  "boot=minimal "
		  "reserve=[0x0..0x1000] mmio=[]" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_printed(cases[i][0], cases[i][1]);
}

Test(print, lists_of_a_store_line_may_come_in_any_order)
{
	expect_printed("store mmio=[1..2,3..4] kernel=5..6 reserve=[7..8] vmalloc=[9..10,11..12]",
		       "store arch=x86_64 max_paddr=0x80000000 rc_max=0x7fffffffffffffff ncpu=1 "
		       "vmalloc=[0x9..0xa,0xb..0xc] boot=minimal kernel=0x5..0x6 reserve=[0x7..0x8] "
		       "mmio=[0x1..0x2,0x3..0x4]");
}

/* A value that its type has, to fill in arguments. */
static void
put_some_value(struct kvt_buffer *b, enum kvms_type type)
{
	static const struct {
		enum kvms_type type;
		const char *text;
	} values[] = { { KVMS_DEC, "7" },
		       { KVMS_HEX, "0x1000" },
		       { KVMS_ID, "3" },
		       { KVMS_CPU, "0" },
		       { KVMS_TABLE, "kernel" },
		       { KVMS_TABLE_ALL, "all" },
		       { KVMS_FLAGS, "rx" },
		       { KVMS_PROP, "rw:wb" },
		       { KVMS_BYTES, "00ff" },
		       { KVMS_IDS, "[1,2]" },
		       { KVMS_RC, "2" },
		       { KVMS_PADDRS, "[0x0]" },
		       { KVMS_DIGEST, "0x0000000000000001" } };
	uint64_t value;

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		if (values[i].type == type) {
			kvt_puts(b, values[i].text);
			return;
		}
	if (kvms_type_is_list(type))
		kvt_puts(b, type == KVMS_LAWS ? "ok" : "[]");
	else
		kvt_puts(b, kvms_word_at(type, 0, &value));
}

static void
put_fields(struct kvt_buffer *b, const struct kvms_field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		kvt_putf(b, " %s=", fields[i].name);
		put_some_value(b, fields[i].type);
	}
}

Test(print, every_row_round_trips)
{
	for (unsigned kind = 0; kind < 2; kind++) {
		unsigned max = kind == 0 ? kvms_op_max() : kvms_request_max();

		for (unsigned code = 1; code <= max; code++) {
			const struct kvms_row *row = kind == 0 ? kvms_op_row(code) : kvms_request_row(code);
			struct kvt_buffer b = { 0 };

			if (row == NULL)
				continue;
			kvt_putf(&b, "%s%s", kind == 0 ? "" : "expect ", row->name);
			put_fields(&b, row->args, row->args_count);
			kvt_puts(&b, kind == 0 ? " -> ok" : row->results_count > 0 ? " ->" : "");
			put_fields(&b, row->results, row->results_count);
			expect_printed(kvt_buffer_text(&b), kvt_buffer_text(&b));
			kvt_buffer_free(&b);
		}
	}
}

Test(print, every_outcome_round_trips)
{
	for (unsigned name = 1; name <= kvms_outcome_max(); name++) {
		struct kvms_outcome out = { .name = name, .detail = 5 };
		struct kvt_buffer b = { 0 };
		struct kvt_line line;
		struct kvt_parser *p = kvt_parser_new("t");

		kvt_puts(&b, "frame_alloc zeroed=true kind=untyped meta=0x0 -> ");
		kvt_print_outcome(&b, kvms_op_find("frame_alloc"), &out);
		cr_assert(kvt_parse_op(p, b.at, b.size, &line), "%s", kvt_parser_error(p));
		cr_expect(kvt_outcome_holds(&line, &out));
		for (size_t i = 0; i < line.fields_count; i++)
			cr_expect(kvt_field_holds(line.row, &out, &line.fields[i]), "%s", b.at);
		out.name = name % kvms_outcome_max() + 1;
		/* causes share a name; they differ in a field */
		if (strcmp(kvms_outcome_name(name), kvms_outcome_name(out.name)) != 0)
			cr_expect_not(kvt_outcome_holds(&line, &out));
		kvt_parser_free(&p);
		kvt_buffer_free(&b);
	}
}

Test(print, json_of_an_operation_and_its_outcome)
{
	const struct kvms_row *row = kvms_op_find("kvirt_map_frames");
	struct kvt_parser *p = kvt_parser_new("t");
	struct kvms_outcome out = { 0 };
	struct kvt_buffer b = { 0 };
	struct kvt_line line;
	static const char text[] = "kvirt_map_frames area_size=0x2000 frames=[1,2] prop=rw:wb";

	cr_assert(kvt_parse_op(p, text, strlen(text), &line));
	kvt_json_op(&b, line.row, &line.op);
	cr_expect_str_eq(kvt_buffer_text(&b), "{\"op\":\"kvirt_map_frames\",\"args\":{\"area_size\":\"0x2000\","
					      "\"map_offset\":\"0x0\",\"frames\":[1,2],\"prop\":\"rw:wb\"}}");
	out.present = 0xf;
	out.field[0] = 1;
	out.field[1] = UINT64_C(0xffffdfffffffe000);
	kvt_buffer_reset(&b);
	kvt_json_outcome(&b, row, &out);
	cr_expect_str_eq(kvt_buffer_text(&b),
			 "{\"class\":\"ok\",\"result\":{\"area\":1,\"start\":\"0xffffdfffffffe000\","
			 "\"end\":\"0x0\",\"nodes_allocated\":0}}");
	kvt_buffer_free(&b);
	kvt_parser_free(&p);
}

/* ---- Whole files ----------------------------------------------------------------------------------- */

/* Print every line; printing what was printed changes nothing. */
static void
round_trip_file(const char *path)
{
	char error[512];
	struct kvt_input *in = kvt_input_open(path, error, sizeof error);
	struct kvt_parser *p = kvt_parser_new(path), *again = kvt_parser_new(path);
	struct kvt_buffer one = { 0 }, two = { 0 };
	struct kvt_line line;
	ssize_t size;
	char *text;

	cr_assert_not_null(in, "%s", error);
	while ((size = kvt_input_line(in, &text)) >= 0) {
		cr_assert(kvt_parse(p, text, (size_t)size, &line), "%s", kvt_parser_error(p));
		kvt_buffer_reset(&one);
		kvt_print_line(&one, &line, NULL);
		cr_assert(kvt_parse(again, kvt_buffer_text(&one), one.size, &line), "%s: %s", kvt_parser_error(again),
			  kvt_buffer_text(&one));
		kvt_buffer_reset(&two);
		kvt_print_line(&two, &line, NULL);
		cr_assert_str_eq(kvt_buffer_text(&one), kvt_buffer_text(&two));
	}
	cr_assert_eq(size, -1, "%s", kvt_input_error(in));
	kvt_buffer_free(&one);
	kvt_buffer_free(&two);
	kvt_parser_free(&p);
	kvt_parser_free(&again);
	kvt_input_close(&in);
}

Test(print, bundled_traces_round_trip)
{
	const char *top = getenv("top_srcdir");
	char pattern[4096];
	glob_t found;

	snprintf(pattern, sizeof pattern, "%s/tests/traces/*.kvt*", top != NULL ? top : ".");
	glob(pattern, 0, NULL, &found);
	snprintf(pattern, sizeof pattern, "%s/tests/traces/*/*.kvt*", top != NULL ? top : ".");
	glob(pattern, GLOB_APPEND, NULL, &found);
	if (found.gl_pathc == 0)
		cr_skip_test("no traces");
	for (size_t i = 0; i < found.gl_pathc; i++)
		round_trip_file(found.gl_pathv[i]);
	globfree(&found);
}

Test(parse, a_list_of_100000_ids_is_one_pass)
{
	struct kvt_parser *p = kvt_parser_new("t");
	struct kvt_buffer b = { 0 }, printed = { 0 };
	struct kvt_line line;

	kvt_puts(&b, "kvirt_map_frames area_size=0x1000 map_offset=0x0 frames=[");
	for (unsigned i = 1; i <= 100000; i++)
		kvt_putf(&b, "%u%s", i, i < 100000 ? "," : "] prop=rw:wb");
	cr_assert(kvt_parse_op(p, b.at, b.size, &line), "%s", kvt_parser_error(p));
	cr_expect_eq(line.op.arg[2], 100000);
	cr_expect_eq(line.op.list[99999], 100000);
	kvt_print_line(&printed, &line, NULL);
	cr_expect_str_eq(printed.at, b.at);
	kvt_buffer_free(&b);
	kvt_buffer_free(&printed);
	kvt_parser_free(&p);
}

Test(parse, a_line_full_of_unknown_fields_is_one_pass)
{
	struct kvt_parser *p = kvt_parser_new("t");
	struct kvt_buffer b = { 0 };
	struct kvt_line line;

	kvt_puts(&b, "frame_drop frame=1 -> ok");
	for (unsigned i = 0; i < 100000; i++)
		kvt_putf(&b, " f%u=1", i);
	cr_assert(kvt_parse_op(p, b.at, b.size, &line), "%s", kvt_parser_error(p));
	cr_expect_eq(line.fields_count, 100000);
	kvt_puts(&b, " f5=1");
	cr_expect_not(kvt_parse_op(p, b.at, b.size, &line));
	kvt_buffer_free(&b);
	kvt_parser_free(&p);
}

Test(parse, a_string_loses_quotes_and_backslashes)
{
	static const char *const cases[][2] = {
		{ "\"a b\"", "a b" }, { "\"a\\\"b\\\\c\"", "a\"b\\c" }, { "\"\"", "" }, { "\"a\\nb\"", "a\\nb" }
	};
	struct kvt_buffer b = { 0 };

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct kvt_span span = { cases[i][0], strlen(cases[i][0]) };

		kvt_unquote(&b, span);
		cr_expect_str_eq(kvt_buffer_text(&b), cases[i][1]);
	}
	kvt_buffer_free(&b);
}

/* Lines with bytes changed, dropped and doubled: an answer or an error, never a crash. */
Test(parse, damaged_lines_do_no_harm)
{
	static const char *const lines[] = {
		("kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1,3] prop=rw:wb+user @t=1200 "
		 "@src=\"driver_init\" -> ok area=1 start=0xffffdfffffffc000 end=0xffffe00000000000 nodes_allocated=2"),
		"expect walk table=kernel va=0x1000 -> levels=[4:0x7ffff000:0:0x0]",
		"expect who_holds paddr=0x0 -> frames=[5] mappings=[1:0x1000]",
		"expect free_va=[0xffffc00000400000..0xffffdfffffffb000]",
		"frame_alloc -> block cursor_locked holder=1",
		"gap ops=3 @x=\"a \\\" b\" # c",
	};
	struct kvt_parser *p = kvt_parser_new("t");
	struct kvt_buffer b = { 0 };
	uint64_t random = 1;
	char text[512];

	for (unsigned round = 0; round < 200000; round++) {
		const char *from = lines[round % (sizeof lines / sizeof lines[0])];
		size_t size = strlen(from);
		struct kvt_line line;
		char *copy;

		memcpy(text, from, size);
		for (unsigned change = 0; change < 1 + round % 4; change++) {
			static const char alphabet[] = " =[],.:-+@\"\\#x0189afrw\t\r\n\0\xff\xc3\xa9";
			size_t at;

			random = random * 6364136223846793005u + 1442695040888963407u;
			at = (random >> 33) % size;
			if (random >> 61 == 0)
				size = at + 1;
			else if (random >> 61 == 1)
				memmove(text + at, text + at + 1, --size - at);
			else
				text[at] = alphabet[(random >> 20) % (sizeof alphabet - 1)];
			size += size == 0;
		}
		copy = malloc(size); /* exactly as large, so that a sanitizer sees one byte too many */
		memcpy(copy, text, size);
		if (kvt_parse_op(p, copy, size, &line)) {
			kvt_buffer_reset(&b);
			kvt_print_line(&b, &line, NULL);
		}
		free(copy);
	}
	kvt_buffer_free(&b);
	kvt_parser_free(&p);
}

/* ---- Input ------------------------------------------------------------------------------------------- */

static void
expect_lines(const void *bytes, size_t size, const char *expected)
{
	char error[512];
	struct kvt_input *in = kvt_input_memory("m", bytes, size, error, sizeof error);
	struct kvt_buffer b = { 0 };
	ssize_t n;
	char *line;

	if (in == NULL) {
		cr_expect_str_eq(error, expected);
		return;
	}
	while ((n = kvt_input_line(in, &line)) >= 0)
		kvt_putf(&b, "%zd:%.3s|", n, line);
	kvt_puts(&b, kvt_input_error(in));
	cr_expect_str_eq(kvt_buffer_text(&b), expected);
	kvt_buffer_free(&b);
	kvt_input_close(&in);
}

Test(input, lines_end_at_lf_or_at_the_end)
{
	expect_lines("", 0, "");
	expect_lines("\n", 1, "0:|");
	expect_lines("a\nbc\n", 5, "1:a|2:bc|");
	expect_lines("a\n\nbc", 5, "1:a|0:|2:bc|");
}

Test(input, a_line_too_long_comes_cut_and_the_next_one_whole)
{
	for (size_t more = 0; more < 3; more++) {
		size_t size = KVT_LINE_MAX + more;
		char *text = malloc(size + 5);

		memset(text, 'x', size);
		memcpy(text + size, "\nyy\n", 5);
		expect_lines(text, size + 4, more == 0 ? "1048576:xxx|2:yy|" : "1048577:xxx|2:yy|");
		expect_lines(text, size, more == 0 ? "1048576:xxx|" : "1048577:xxx|");
		free(text);
	}
}

Test(input, xz_is_told_from_its_first_bytes_and_damage_is_found)
{
	static const char text[] = "kvmtrace 1\nframe_alloc\n";
	uint8_t packed[512];
	char expected[128];
	size_t size = 0;

	cr_assert_eq(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, (const uint8_t *)text, strlen(text), packed,
					     &size, sizeof packed),
		     LZMA_OK);
	expect_lines(packed, size, "10:kvm|11:fra|");
	snprintf(expected, sizeof expected, "m: the .xz data is cut off at byte %zu, after line 2", size - 8);
	expect_lines(packed, size - 8, expected);
	expect_lines(packed, 6, "m: the .xz data is cut off at byte 6, after line 0");
	for (size_t i = 6; i < size; i++) {
		char error[512];
		struct kvt_input *in;

		packed[i] ^= 0x10;
		in = kvt_input_memory("m", packed, size, error, sizeof error);
		cr_expect_null(in, "damage at byte %zu was not found", i);
		cr_expect(strncmp(error, "m: ", 3) == 0);
		kvt_input_close(&in);
		packed[i] ^= 0x10;
	}
}

Test(input, what_cannot_be_opened_is_named)
{
	char error[512];

	cr_expect_null(kvt_input_open("/nonexistent/x.kvt", error, sizeof error));
	cr_expect_str_eq(error, "/nonexistent/x.kvt: No such file or directory");
}
