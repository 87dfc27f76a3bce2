#include "trace/coverage.h"

#include <limits.h>
#include <string.h>
#include <sys/mman.h>

bool
kvt_coverage_init(struct kvt_coverage *c)
{
	size_t cells, requests = (size_t)kvms_request_max() + 1;
	void *at;

	memset(c, 0, sizeof *c);
	c->ops = kvms_op_max() + 1;
	c->outcomes = kvms_outcome_max() + 1;
	cells = (size_t)c->ops * c->outcomes;
	c->size = cells * sizeof *c->cell + (requests + KVT_LAW_WORDS) * sizeof(uint64_t);
	at = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return false;
	c->cell = at;
	c->requests = (uint64_t *)(c->cell + cells);
	c->checked = c->requests + requests;
	return true;
}

void
kvt_coverage_free(struct kvt_coverage *c)
{
	if (c->cell != NULL)
		munmap(c->cell, c->size);
	memset(c, 0, sizeof *c);
}

const struct kvt_cell *
kvt_coverage_cell(const struct kvt_coverage *c, unsigned code, unsigned name)
{
	return &c->cell[(size_t)code * c->outcomes + name];
}

static void
join(uint64_t laws[KVT_LAW_WORDS], const uint64_t more[KVT_LAW_WORDS])
{
	for (unsigned i = 0; i < KVT_LAW_WORDS; i++)
		if ((more[i] & ~laws[i]) != 0)
			__atomic_fetch_or(&laws[i], more[i], __ATOMIC_RELAXED);
}

void
kvt_coverage_step(struct kvt_coverage *c, const struct kvms_op *op, const struct kvms_outcome *out,
		  const uint64_t laws[KVT_LAW_WORDS])
{
	struct kvt_cell *cell = &c->cell[(size_t)op->code * c->outcomes + out->name];

	__atomic_fetch_add(&cell->count, 1, __ATOMIC_RELAXED);
	if (laws != NULL)
		join(cell->laws, laws);
}

void
kvt_coverage_expect(struct kvt_coverage *c, const struct kvms_op *request, const uint64_t laws[KVT_LAW_WORDS])
{
	__atomic_fetch_add(&c->requests[request->code], 1, __ATOMIC_RELAXED);
	if (laws != NULL)
		join(c->checked, laws);
}

void
kvt_coverage_laws(const struct kvt_coverage *c, unsigned code, uint64_t laws[KVT_LAW_WORDS])
{
	memset(laws, 0, KVT_LAW_WORDS * sizeof *laws);
	for (unsigned name = 0; name < c->outcomes; name++)
		join(laws, kvt_coverage_cell(c, code, name)->laws);
}

struct kvt_covered
kvt_coverage_sum(const struct kvt_coverage *c)
{
	struct kvt_covered sum = { .laws = kvms_law_max() };
	uint64_t laws[KVT_LAW_WORDS] = { 0 };

	for (unsigned code = 1; code < c->ops; code++) {
		const struct kvms_row *row = kvms_op_row(code);
		uint64_t steps = 0, of_op[KVT_LAW_WORDS];

		if (row == NULL)
			continue;
		for (unsigned k = 0, name; (name = kvms_row_outcome(row, k)) != UINT_MAX; k++) {
			uint64_t count = kvt_coverage_cell(c, code, name)->count;

			sum.cells++;
			sum.cells_reached += count > 0;
			steps += count;
		}
		sum.steps += steps;
		sum.ops++;
		sum.ops_reached += steps > 0;
		sum.ok++;
		sum.ok_reached += kvt_coverage_cell(c, code, 0)->count > 0;
		kvt_coverage_laws(c, code, of_op);
		join(laws, of_op);
	}
	for (unsigned law = 0; law < sum.laws; law++) {
		sum.laws_tested += kvt_law_in(laws, law);
		sum.laws_checked += kvt_law_in(laws, law) || kvt_law_in(c->checked, law);
	}
	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		sum.requests += kvms_request_row(code) != NULL;
		sum.requests_reached += c->requests[code] > 0;
	}
	return sum;
}
