/* Binary traces: nothing is lost, nothing is believed, and every step can be entered. */
#include "proto/item.h"
#include "proto/kvmtrace.pb-c.h"
#include "trace/binary.h"
#include "trace/reader.h"

#include <criterion/criterion.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* One line of everything, in canonical form. */
static const char everything[] =
    "# before the header\n"
    "\n"
    "kvmtrace 1 # the header's\n"
    "store arch=riscv64_sv48 max_paddr=0x40000000 rc_max=0x7fffffffffffffff ncpu=4 "
    "vmalloc=[0xffff900000000000..0xffff900000010000,0xffffa00000000000..0xffffa00000010000] boot=minimal "
    "reserve=[0x1000..0x2000,0x4000..0x5000] mmio=[0x3000..0x4000] # its own\n"
    "base digest=0x00000000000000ff snapshot=\"a \\\"b\\\" \\\\ \xc3\xa9.db\"\n"
    "frame_alloc kind=untyped meta=0x0 @cpu=3 @t=1200 @src=\"driver init\" @odd=a\"b -> ok frame=1 paddr=0x0 @took=5 # "
    "c\n"
    "frame_alloc kind=untyped meta=0x0\n"
    "frame_drop frame=18446744073709551615 -> pre unknown_frame\n"
    "frame_drop frame=1 -> ok\n"
    "frame_drop frame=1 -> ok last=true\n"
    "frame_drop frame=1 -> ok never_heard=of it=\"is this\"\n"
    "frame_drop frame=1 -> err NoSuchName_at_all\n"
    "frame_drop frame=1 -> err Name-with-dashes\n"
    "frame_drop frame=1 -> err AccessDenied cause=UserRange\n"
    "frame_drop frame=1 -> err AccessDenied cause=\"User Range\"\n"
    "frame_drop frame=1 -> ok last=perhaps\n"
    "cursor_open_mut vm_space=1 start=0x0 end=0x1000 -> block cursor_locked holder=7\n"
    "cursor_open_mut vm_space=1 start=0x0 end=0x1000 -> block holder=7\n"
    "cursor_open_mut vm_space=1 start=0x0 end=0x1000 -> block\n"
    "kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1,2,3] prop=rwx:wb+user+global -> ok area=1\n"
    "kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[] prop=-:uc -> ok area=1\n"
    "writer_write_bytes writer=1 bytes=00ff10 -> ok copied=0x3\n"
    "writer_write_bytes writer=1 bytes=-\n"
    "access cpu=63 va=0x0 access=x mode=user\n"
    "access cpu=18446744073709551615 va=0x0 access=w mode=kernel\n"
    "gap\n"
    "gap ops=0 @why=\"lost\"\n"
    "gap ops=18446744073709551615 # many\n"
    "expect digest=0x0123456789abcdef\n"
    "expect inv=ok\n"
    "expect inv=[slot.rc_legal]\n"
    "expect nodes=257\n"
    "expect areas=[]\n"
    "expect areas=[1:0x1000..0x2000]\n"
    "expect free_va=[0xffffc00000000000..0xffffe00000000000]\n"
    "expect frame paddr=0x1000 -> rc=unique usage=Frame h=1 odd=1\n"
    "expect frame paddr=0x1000 -> rc=unused kind=none meta=0xff in_list=0\n"
    "expect nodes table=1 -> nodes=3\n"
    "expect translate table=kernel va=0x1000\n"
    "expect translate table=3 va=0x1000 -> found=true prop=r:wb tracked=false\n"
    "expect who_holds paddr=0x0 -> frames=[] mappings=[kernel:0x1000,2:0x3000] queues=[]\n"
    "expect walk table=kernel va=0x0 -> levels=[4:0x7ffff000:0:0x0]\n"
    "  # indented comments lose their blanks\n"
    "#\n"
    "\n";

struct bytes {
	char *at;
	size_t size;
};

/* Copy a trace, of either form, to one; NULL and the error if it cannot be read. */
static char *
convert(struct bytes from, bool binary, struct bytes *to)
{
	static char error[1024];
	struct kvt_input *in = kvt_input_memory("t", from.at, from.size, error, sizeof error);
	struct kvt_binary_writer *w = NULL;
	struct kvt_buffer text = { 0 };
	struct kvt_reader *reader;
	struct kvt_line line;
	enum kvt_read read;
	FILE *file;

	*to = (struct bytes){ NULL, 0 };
	if (in == NULL)
		return error;
	file = open_memstream(&to->at, &to->size);
	cr_assert(file != NULL);
	if (binary)
		w = kvt_binary_writer_new(file);
	cr_assert(!binary || w != NULL);
	reader = kvt_reader_new(in, "t");
	cr_assert(reader != NULL);
	while ((read = kvt_reader_next(reader, &line)) == KVT_READ_LINE) {
		if (binary) {
			cr_assert(kvt_binary_put(w, &line));
			continue;
		}
		kvt_print_line(&text, &line, NULL);
		kvt_putc(&text, '\n');
	}
	error[0] = '\0';
	if (read != KVT_READ_END)
		snprintf(error, sizeof error, "%s", kvt_reader_error(reader));
	fwrite(kvt_buffer_text(&text), 1, text.size, file);
	cr_assert(kvt_binary_writer_end(&w, true));
	fclose(file);
	kvt_buffer_free(&text);
	kvt_reader_free(&reader);
	kvt_input_close(&in);
	return error;
}

static struct bytes
converted(struct bytes from, bool binary)
{
	struct bytes to;
	char *error = convert(from, binary, &to);

	cr_assert_str_empty(error, "%s", error);
	return to;
}

static struct bytes
text_of(const char *text)
{
	return (struct bytes){ (char *)(uintptr_t)text, strlen(text) };
}

/* A binary trace of "ops" operations, with many lines between them. */
static struct bytes
long_trace(unsigned ops, size_t flush_every)
{
	struct kvt_parser *p = kvt_parser_new("t");
	struct bytes to;
	FILE *file = open_memstream(&to.at, &to.size);
	struct kvt_binary_writer *w = kvt_binary_writer_new(file);
	struct kvt_line line;
	char text[200];

	cr_assert(kvt_parse(p, "kvmtrace 1", 10, &line) && kvt_binary_put(w, &line));
	for (unsigned i = 1; i <= ops; i++) {
		snprintf(text, sizeof text, "frame_drop frame=%u -> pre unknown_frame", i);
		cr_assert(kvt_parse(p, text, strlen(text), &line) && kvt_binary_put(w, &line));
		snprintf(text, sizeof text, "# behind %u", i);
		cr_assert(kvt_parse(p, text, strlen(text), &line) && kvt_binary_put(w, &line));
		if (i % flush_every == 0)
			cr_assert(kvt_binary_flush(w));
	}
	cr_assert(kvt_binary_writer_end(&w, true));
	fclose(file);
	kvt_parser_free(&p);
	return to;
}

Test(binary, a_trace_keeps_every_line_both_ways)
{
	struct bytes binary = converted(text_of(everything), true), text = converted(binary, false), again;
	struct bytes canonical = converted(text_of(everything), false);

	cr_assert_eq(text.size, canonical.size);
	cr_assert_str_eq(text.at, canonical.at);
	again = converted(text, true);
	cr_assert(again.size == binary.size && memcmp(again.at, binary.at, binary.size) == 0,
		  "text made of the binary form makes another binary form");
	free(binary.at);
	free(text.at);
	free(again.at);
	free(canonical.at);
}

Test(binary, a_reader_of_lines_gets_the_canonical_text)
{
	struct bytes binary = converted(text_of(everything), true), canonical = converted(text_of(everything), false);
	struct kvt_buffer b = { 0 };
	char error[200], *line;
	struct kvt_input *in = kvt_input_memory("t", binary.at, binary.size, error, sizeof error);
	ssize_t size;

	cr_assert(in != NULL);
	while ((size = kvt_input_line(in, &line)) >= 0) {
		kvt_put(&b, line, (size_t)size);
		kvt_putc(&b, '\n');
	}
	cr_assert_eq(size, -1);
	cr_expect_str_eq(kvt_buffer_text(&b), canonical.at);
	kvt_input_close(&in);
	kvt_buffer_free(&b);
	free(binary.at);
	free(canonical.at);
}

/* Every message in the content, through protobuf-c and back. */
Test(binary, a_message_is_what_a_protobuf_library_writes)
{
	struct bytes binary = converted(text_of(everything), true);
	static uint8_t content[1 << 20], packed[1 << 20];
	size_t size, frame = ZSTD_findFrameCompressedSize(binary.at + KVT_BINARY_HEAD, binary.size - KVT_BINARY_HEAD);
	unsigned messages = 0, texts = 0;

	cr_assert(!ZSTD_isError(frame));
	size = ZSTD_decompress(content, sizeof content, binary.at + KVT_BINARY_HEAD, frame);
	cr_assert(!ZSTD_isError(size));
	for (size_t at = 0; at < size; messages++) {
		size_t length = content[at++];
		Kvmstore__TraceItem *item;

		if (length > 0x7f)
			length = (length & 0x7f) | (size_t)content[at++] << 7;
		item = kvmstore__trace_item__unpack(NULL, length, content + at);
		cr_assert(item != NULL, "message %u cannot be unpacked", messages);
		cr_expect_eq(item->base.n_unknown_fields, 0);
		cr_expect_eq(kvmstore__trace_item__pack(item, packed), length, "message %u", messages);
		cr_expect_eq(memcmp(packed, content + at, length), 0, "message %u", messages);
		texts += item->item_case == KVMSTORE__TRACE_ITEM__ITEM_TEXT;
		kvmstore__trace_item__free_unpacked(item, NULL);
		at += length;
	}
	cr_expect_eq(messages, 45, "%u messages", messages);
	cr_expect_eq(texts, 7, "%u lines went as text", texts);
	free(binary.at);
}

/* Where reading of a trace of 1000 operations begins that enters in front of operation "ops" + 1, and what comes first.
 */
static void
expect_entry(struct bytes trace, uint64_t ops, uint64_t want, const char *first)
{
	char error[200];
	struct kvt_input *in = kvt_input_memory("t", trace.at, trace.size, error, sizeof error);
	struct kvt_reader *r = kvt_reader_new(in, "t");
	struct kvt_buffer b = { 0 };
	struct kvt_line line;
	uint64_t before, seen;

	do
		cr_assert_eq(kvt_reader_next(r, &line), KVT_READ_LINE);
	while (line.kind != KVT_OP);
	before = seen = kvt_reader_skip(r, 1, ops);
	cr_expect_eq(before, want, "entered behind %u, not %u", (unsigned)before, (unsigned)want);
	while (seen <= ops) {
		cr_assert_eq(kvt_reader_next(r, &line), KVT_READ_LINE, "%s", kvt_reader_error(r));
		seen += line.kind == KVT_OP;
	}
	kvt_print_line(&b, &line, NULL);
	cr_expect_str_eq(kvt_buffer_text(&b), first);
	cr_expect_eq(line.number, 2 * (ops + 1), "line %u", (unsigned)line.number);
	while (kvt_reader_next(r, &line) == KVT_READ_LINE)
		;
	cr_expect_str_eq(kvt_reader_error(r), "", "to the end: %s", kvt_reader_error(r));
	kvt_buffer_free(&b);
	kvt_reader_free(&r);
	kvt_input_close(&in);
}

Test(binary, any_step_is_entered_by_the_index)
{
	struct bytes trace = long_trace(1000, 100);

	/* a frame ends behind the comment that follows operation 100, 200, ... */
	expect_entry(trace, 1, 1, "frame_drop frame=2 -> pre unknown_frame");
	expect_entry(trace, 99, 1, "frame_drop frame=100 -> pre unknown_frame");
	expect_entry(trace, 555, 500, "frame_drop frame=556 -> pre unknown_frame");
	expect_entry(trace, 600, 600, "frame_drop frame=601 -> pre unknown_frame");
	expect_entry(trace, 999, 900, "frame_drop frame=1000 -> pre unknown_frame");
	free(trace.at);
}

static char told[1024];

static void
tell(const char *sentence)
{
	snprintf(told, sizeof told, "%s", sentence);
}

/* Cut at every length: what is read are whole frames, in order, and it is said. */
Test(binary, a_cut_trace_is_read_up_to_its_last_whole_frame)
{
	struct bytes trace = long_trace(20, 5);
	size_t ends[6], count = 0, at = KVT_BINARY_HEAD;

	while (count < 4) {
		at += ZSTD_findFrameCompressedSize(trace.at + at, trace.size - at);
		ends[count++] = at;
	}
	kvt_input_tell(tell);
	for (size_t size = KVT_BINARY_HEAD; size < trace.size; size++) {
		struct bytes text = { NULL, 0 }, cut = { malloc(size), size };
		unsigned whole = 0, lines = 0;
		char want[100], *error;

		memcpy(cut.at, trace.at, size);
		told[0] = '\0';
		error = convert(cut, false, &text);
		while (whole < count && ends[whole] <= size)
			whole++;
		if (whole == 0) {
			cr_expect_str_eq(error, "t:1:1: expected 'kvmtrace 1', found end of file");
		} else {
			cr_expect_str_empty(error, "cut at %zu: %s", size, error);
		}
		snprintf(want, sizeof want, "t: cut off at byte %zu", size);
		cr_expect_eq(strncmp(told, want, strlen(want)), 0, "cut at %zu: '%s'", size, told);
		for (size_t i = 0; i < text.size; i++)
			lines += text.at[i] == '\n';
		cr_expect_eq(lines, whole == 0 ? 0 : 1 + 10 * whole, "cut at %zu: %u lines", size, lines);
		free(cut.at);
		free(text.at);
	}
	for (size_t size = 1; size < KVT_BINARY_HEAD; size++) {
		struct bytes text, cut = { malloc(size), size };

		memcpy(cut.at, trace.at, size);
		cr_expect_str_not_empty(convert(cut, false, &text));
		free(cut.at);
		free(text.at);
	}
	free(trace.at);
}

/* Any one byte changed: an error that names a byte, or another trace; never a crash. */
Test(binary, a_changed_byte_is_found)
{
	struct bytes trace = long_trace(20, 5), text = converted(trace, false);
	unsigned unfound = 0;

	for (size_t i = 0; i < trace.size; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct bytes result;
			char *error;

			trace.at[i] ^= (char)(1 << bit);
			told[0] = '\0';
			kvt_input_tell(tell);
			error = convert(trace, false, &result);
			if (error[0] == '\0' && told[0] == '\0')
				unfound += result.size != text.size || memcmp(result.at, text.at, text.size) != 0;
			else if (error[0] != '\0')
				cr_expect(strstr(error, "byte ") != NULL || strstr(error, "expected") != NULL,
					  "byte %zu bit %u: %s", i, bit, error);
			trace.at[i] ^= (char)(1 << bit);
			free(result.at);
		}
	}
	cr_expect_eq(unfound, 0, "%u changed bytes gave another trace without a word", unfound);
	free(trace.at);
	free(text.at);
}

/* Any one byte changed, and entered in the middle: what comes is the operation that was asked for, or an error. */
Test(binary, a_changed_byte_leads_to_no_other_step)
{
	struct bytes trace = long_trace(20, 5);
	unsigned entered = 0;

	for (size_t i = KVT_BINARY_HEAD; i < trace.size; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			char error[300];
			struct kvt_input *in;
			struct kvt_reader *r;
			struct kvt_line line = { .kind = KVT_BLANK };
			enum kvt_read read;
			uint64_t seen;

			trace.at[i] ^= (char)(1 << bit);
			in = kvt_input_memory("t", trace.at, trace.size, error, sizeof error);
			cr_assert(in != NULL);
			r = kvt_reader_new(in, "t");
			while ((read = kvt_reader_next(r, &line)) == KVT_READ_LINE && line.kind != KVT_OP)
				;
			seen = read == KVT_READ_LINE ? kvt_reader_skip(r, 1, 12) : 0;
			while (read == KVT_READ_LINE && seen <= 12) {
				read = kvt_reader_next(r, &line);
				seen += read == KVT_READ_LINE && line.kind == KVT_OP;
			}
			if (read == KVT_READ_LINE) {
				cr_expect_eq(line.op.arg[0], 13, "byte %zu bit %u: operation %u", i, bit,
					     (unsigned)line.op.arg[0]);
				entered++;
			}
			while (read == KVT_READ_LINE)
				read = kvt_reader_next(r, &line);
			kvt_reader_free(&r);
			kvt_input_close(&in);
			trace.at[i] ^= (char)(1 << bit);
		}
	}
	cr_expect_gt(entered, 0);
	free(trace.at);
}

/* A binary trace whose one frame has this content. */
static struct bytes
framed(const void *content, size_t size, unsigned version)
{
	struct bytes b = { calloc(1, ZSTD_compressBound(size) + 64), KVT_BINARY_HEAD };

	memcpy(b.at, "\x50\x2a\x4d\x18\x08\0\0\0kvtb\0\0\0\0", KVT_BINARY_HEAD);
	b.at[12] = (char)version;
	b.size += ZSTD_compress(b.at + b.size, ZSTD_compressBound(size), content, size, 3);
	return b;
}

static void
expect_refused(struct bytes trace, const char *want)
{
	struct bytes text;
	char *error = convert(trace, false, &text);

	cr_expect(strstr(error, want) != NULL, "wanted '%s', got '%s'", want, error);
	free(trace.at);
	free(text.at);
}

/* The content of a trace of the lines in "text". */
static size_t
content_of(const char *text, uint8_t content[4096])
{
	struct bytes binary = converted(text_of(text), true);
	size_t size =
	    ZSTD_decompress(content, 4096, binary.at + KVT_BINARY_HEAD,
			    ZSTD_findFrameCompressedSize(binary.at + KVT_BINARY_HEAD, binary.size - KVT_BINARY_HEAD));

	cr_assert(!ZSTD_isError(size));
	free(binary.at);
	return size;
}

Test(binary, any_message_is_read_or_refused)
{
	uint8_t content[4096];
	char whole[sizeof everything];
	size_t size;
	unsigned refused = 0;

	memcpy(whole, everything, sizeof everything);
	size = content_of(whole, content);
	for (size_t i = 0; i < size; i++) {
		for (unsigned change = 0; change < 3; change++) {
			static const uint8_t changes[3] = { 0x01, 0x80, 0xff };
			struct bytes trace, text, again, back;
			char *error;

			content[i] ^= changes[change];
			trace = framed(content, size, 1);
			error = convert(trace, false, &text);
			if (error[0] != '\0') {
				cr_expect_eq(strncmp(error, "t:", 2), 0, "%s", error);
				refused++;
			} else {
				/* what was accepted is a trace: its text makes the same text again */
				again = converted(text, true);
				back = converted(again, false);
				cr_expect(back.size == text.size && memcmp(back.at, text.at, text.size) == 0,
					  "byte %zu change %u", i, change);
				free(again.at);
				free(back.at);
			}
			free(trace.at);
			free(text.at);
			content[i] ^= changes[change];
		}
	}
	cr_expect(refused > size, "%u of %zu refused", refused, 3 * size);
}

Test(binary, what_is_not_a_trace_is_refused_with_its_place)
{
	static const char bomb[64 << 20];
	uint8_t content[4096];
	size_t size = content_of("kvmtrace 1\nframe_drop frame=1\n", content);
	struct bytes twice = framed(content, size, 1), again = framed(content, size, 1);

	expect_refused(framed(content, size, 2), "byte 12: a binary trace of version 2; this program reads version 1");
	expect_refused(framed(bomb, sizeof bomb, 1), "byte 16: the content of the frame is larger than 8 MiB");
	expect_refused(framed(bomb, 100, 1),
		       "byte 16: line 1, in the frame's content at byte 1, is no line of a trace");
	expect_refused(framed(content, size - 1, 1),
		       "byte 16: line 2, in the frame's content at byte 4, is no message");
	expect_refused(framed(content + 3, size - 3, 1), "t:1:1: expected 'kvmtrace 1'");
	/* two traces in one file */
	twice.at = realloc(twice.at, twice.size + again.size);
	memcpy(twice.at + twice.size, again.at, again.size);
	twice.size += again.size;
	free(again.at);
	expect_refused(twice, "another trace begins here");
	/* zstd, but not ours */
	twice = framed(content, size, 1);
	memmove(twice.at, twice.at + KVT_BINARY_HEAD, twice.size -= KVT_BINARY_HEAD);
	expect_refused(twice, "zstd data that is no binary trace");
	twice = framed(content, size, 1);
	twice.at[8] = 'x';
	expect_refused(twice, "zstd data that is no binary trace");
	/* text behind a binary trace */
	twice = framed(content, size, 1);
	memcpy(twice.at + twice.size, "frame_alloc\n", 12);
	twice.size += 12;
	expect_refused(twice, "no frame begins here");
}

Test(binary, an_index_that_lies_is_found)
{
	struct bytes trace = long_trace(20, 5);
	uint8_t *end = (uint8_t *)trace.at + trace.size;
	size_t size = (size_t)end[-8];
	uint32_t crc;

	/* one operation more in the second frame than there is; the checksum is right again */
	end[-12 - 3]++;
	crc = lzma_crc32(end - 12 - size, size, 0);
	memcpy(end - 12, &crc, 4);
	expect_refused((struct bytes){ memcpy(malloc(trace.size), trace.at, trace.size), trace.size },
		       "the index does not fit the trace");
	free(trace.at);
}

Test(binary, lines_that_a_message_cannot_say_come_through)
{
	/* a comment as long as a line may be, and a list of many ids */
	size_t size = KVT_LINE_MAX;
	char *text = malloc(2 * size + 100), *at = text;
	struct bytes binary, back;

	at += sprintf(at, "kvmtrace 1\n");
	memset(at, '#', size);
	at += size;
	at += sprintf(at, "\nkvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1");
	for (unsigned i = 0; i < 300000; i++)
		at += sprintf(at, ",1");
	at += sprintf(at, "] prop=rw:wb\n");
	binary = converted(text_of(text), true);
	back = converted(binary, false);
	cr_expect_str_eq(back.at, text);
	free(binary.at);
	free(back.at);
	free(text);
}
