/*
 * gate - a small fixed program whose instructions are counted.
 *
 *   gate TRACE
 *
 * Runs each hot path a fixed number of times, each in a function of its own
 * whose name begins with "path_".  tests/instructions.sh runs it under callgrind, which counts
 * the instructions between the beginning and the end of each of them, and compares the
 * counts with bench/instructions.  TRACE is replayed, with touched laws.
 */
#include "bench/bench.h"
#include "proto/message.h"
#include "trace/replay.h"
#include "trace/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMES 200u
#define PATH __attribute__((noinline)) static void

static struct kvms *s;
static uint64_t va; /* of area 1, which has 2 * TIMES pages */

/* ---- Paths, each TIMES times ------------------------------------------------------------------- */

PATH
path_translate(void)
{
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op request;

	kvms_op_init(&request, kvms_request_find("translate"));
	for (unsigned i = 0; i < TIMES; i++) {
		request.arg[1] = va + i * PAGE;
		kvms_inspect(s, &request, &out);
	}
	kvms_outcome_free(&out);
}

PATH
path_translate_many(void)
{
	uint64_t at[64], paddr[64];
	uint8_t found[64];

	for (unsigned i = 0; i < 64; i++)
		at[i] = va + i * 37 % TIMES * PAGE;
	for (unsigned i = 0; i < TIMES; i++)
		kvms_translate(s, 0, at, 64, found, paddr);
}

PATH
path_map(void)
{
	struct kvms_op map = bench_op("kvirt_map_untracked_into");

	map.arg[bench_argument("kvirt_map_untracked_into", "area")] = 1;
	map.arg[bench_argument("kvirt_map_untracked_into", "paddr_start")] = PAGE;
	map.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = UINT64_C(2) * PAGE;
	map.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	for (unsigned i = 0; i < TIMES; i++) {
		map.arg[1] = va + (TIMES + i) * PAGE;
		bench_apply(s, &map, 0);
	}
}

PATH
path_protect(void)
{
	struct kvms_op protect = bench_op("kvirt_protect_range");

	protect.arg[0] = 1;
	protect.arg[bench_argument("kvirt_protect_range", "clear")] = KVMS_PROP_W;
	for (unsigned i = 0; i < TIMES; i++) {
		protect.arg[1] = va + (TIMES + i) * PAGE;
		protect.arg[2] = protect.arg[1] + PAGE;
		bench_apply(s, &protect, 0);
	}
}

PATH
path_unmap(void)
{
	struct kvms_op unmap = bench_op("kvirt_unmap_range");

	unmap.arg[0] = 1;
	for (unsigned i = 0; i < TIMES; i++) {
		unmap.arg[1] = va + (TIMES + i) * PAGE;
		unmap.arg[2] = unmap.arg[1] + PAGE;
		bench_apply(s, &unmap, 0);
	}
}

/* frame_alloc, kvirt_map_frames of a page, kvirt_drop. */
PATH
path_area_of_a_frame(void)
{
	struct kvms_op alloc = bench_op("frame_alloc"), map = bench_op("kvirt_map_frames"), drop = bench_op("kvirt_drop");
	uint64_t frame;

	map.arg[bench_argument("kvirt_map_frames", "area_size")] = PAGE;
	map.arg[bench_argument("kvirt_map_frames", "frames")] = 1;
	map.arg[bench_argument("kvirt_map_frames", "prop")] = PROP_RW;
	map.list = &frame;
	for (unsigned i = 0; i < TIMES; i++) {
		frame = bench_apply(s, &alloc, 0);
		drop.arg[0] = bench_apply(s, &map, 0);
		bench_apply(s, &drop, 0);
	}
}

PATH
path_area(void)
{
	struct kvms_op reserve = bench_op("kvirt_reserve"), unreserve = bench_op("kvirt_unreserve");

	reserve.arg[0] = PAGE;
	for (unsigned i = 0; i < TIMES; i++) {
		unreserve.arg[0] = bench_apply(s, &reserve, 0);
		bench_apply(s, &unreserve, 0);
	}
}

/* A translate as a client writes it, a daemon reads it, answers, and the client reads the answer. */
PATH
path_codec(void)
{
	const struct kvms_row *row = kvms_request_find("translate");
	struct kvmp_codec *codec = kvmp_codec_new(0);
	struct kvmp_request in = { .id = 1, .type = KVMP_INSPECT }, request;
	struct kvmp_response out = { .id = 1, .type = KVMP_R_OUTCOME }, response;
	struct kvmp_buffer bytes = { 0 };
	struct kvmp_refusal why;

	kvms_op_init(&in.op, row);
	in.op.arg[1] = va;
	out.answer.row = row;
	out.answer.inspect = true;
	if (codec == NULL || kvms_inspect(s, &in.op, &out.answer.outcome) != KVMS_DONE)
		bench_die("no memory");
	for (unsigned i = 0; i < TIMES; i++) {
		bytes.start = bytes.end = 0;
		if (kvmp_request_encode(codec, &in, &bytes) != KVMP_ENCODED ||
		    !kvmp_request_decode(codec, bytes.data + KVMP_FRAME_HEADER, bytes.end - KVMP_FRAME_HEADER, &request, &why))
			bench_die("a request does not travel");
		bytes.start = bytes.end = 0;
		if (kvmp_response_encode(codec, &out, &bytes) != KVMP_ENCODED ||
		    !kvmp_response_decode(codec, bytes.data + KVMP_FRAME_HEADER, bytes.end - KVMP_FRAME_HEADER, &response,
					  &why))
			bench_die("an answer does not travel");
	}
	kvms_outcome_free(&out.answer.outcome);
	kvmp_buffer_free(&bytes);
	kvmp_codec_free(&codec);
}

/* ---- A piece of a recording ----------------------------------------------------------------------- */

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *store = kvms_new(config, why);
	struct kvt_target *t = store != NULL ? kvt_target_embedded(store, true) : NULL;

	(void)base;
	*(struct kvt_target **)arg = t;
	return t;
}

PATH
path_replay(struct kvt_input *in)
{
	struct kvt_target *target = NULL;
	struct kvt_replay r = { .arg = &target, .open = open_store, .report = stderr };

	if (kvt_replay(&r, in, "trace") != KVT_PASSED)
		bench_die("the recording does not replay");
	kvt_target_close(&target);
}

static void
replay(const char *trace)
{
	char error[1024];
	struct kvt_input *in = kvt_input_open(trace, error, sizeof error);

	if (in == NULL)
		bench_die("%s", error);
	path_replay(in);
	kvt_input_close(&in);
}

/* ---- All of them -------------------------------------------------------------------------------------- */

int
main(int argc, char **argv)
{
	struct kvms_op reserve = bench_op("kvirt_reserve"), map = bench_op("kvirt_map_untracked_into");

	if (argc != 2) {
		fprintf(stderr, "Usage: gate TRACE\n");
		return 2;
	}
	s = bench_store(UINT64_C(1) << 30);
	reserve.arg[0] = UINT64_C(2) * TIMES * PAGE;
	va = bench_apply(s, &reserve, bench_result("kvirt_reserve", "start"));
	map.arg[0] = 1;
	map.arg[1] = va;
	map.arg[bench_argument("kvirt_map_untracked_into", "paddr_end")] = UINT64_C(1) * TIMES * PAGE;
	map.arg[bench_argument("kvirt_map_untracked_into", "prop")] = PROP_RW;
	map.arg[bench_argument("kvirt_map_untracked_into", "max_level")] = 1;
	bench_apply(s, &map, 0);
	path_translate();
	path_translate_many();
	path_map();
	path_protect();
	path_unmap();
	path_area_of_a_frame();
	path_area();
	path_codec();
	kvms_free(&s);
	replay(argv[1]);
	return 0;
}
