#include "store/config.h"

#include <stdlib.h>
#include <string.h>

#define KERNEL_IMAGE_START UINT64_C(0x8000000)
#define KERNEL_IMAGE_END UINT64_C(0x9000000)

void
config_refuse(struct kvms_refusal *why, int key, const char *text)
{
	why->key = key;
	strncpy(why->text, text, sizeof why->text - 1);
	why->text[sizeof why->text - 1] = '\0';
}

const uint64_t *
config_ranges(const struct kvms *s, enum config_list_key key, uint64_t *count)
{
	return kvms_op_list(&s->config, kvms_store_row(), (unsigned)key, count);
}

/* Copy lists into the store's own payload; a list left out gets its default. */
static bool
lists_copy(struct kvms *s, const struct kvms_op *config, struct kvms_refusal *why)
{
	const struct kvms_row *row = kvms_store_row();
	const uint64_t defaults[CONFIG_KEYS][2] = {
		[CONFIG_vmalloc] = { s->paging.vmalloc_start, s->paging.vmalloc_end },
		[CONFIG_kernel] = { KERNEL_IMAGE_START, KERNEL_IMAGE_END },
	};
	size_t words = 0;
	uint64_t count;
	uint64_t *to;

	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			words += 2 * ((size_t)config->arg[i] + 1);
	to = s->config_list = malloc(words * sizeof *to);
	if (to == NULL) {
		config_refuse(why, -1, "the machine has no memory left");
		return false;
	}
	s->config.list = to;
	for (unsigned i = 0; i < row->args_count; i++) {
		if (!kvms_type_is_list(row->args[i].type))
			continue;
		const uint64_t *from = kvms_op_list(config, row, i, &count);

		if (count == 0 && defaults[i][1] != 0) {
			from = defaults[i];
			s->config.arg[i] = count = 1;
		}
		if (count > 0)
			memcpy(to, from, 2 * (size_t)count * sizeof *to);
		to += 2 * count;
	}
	return true;
}

/* The digest's element 1: tag, key, then the fields of the configuration. */
static bool
element_build(struct kvms *s, struct kvms_refusal *why)
{
	uint64_t *words = malloc((9 + 2 * (size_t)s->vmalloc_count) * sizeof *words);
	const uint64_t fixed[9] = { 1,	     0,	      s->config.arg[CONFIG_arch], s->max_paddr,
				    s->rc_max, s->ncpu, s->vmalloc[0].start,	    s->vmalloc[0].end,
				    s->config.arg[CONFIG_boot] };
	unsigned count = 9;

	if (words == NULL) {
		config_refuse(why, -1, "the machine has no memory left");
		return false;
	}
	memcpy(words, fixed, sizeof fixed);
	for (uint64_t i = 1; i < s->vmalloc_count; i++) {
		words[count++] = s->vmalloc[i].start;
		words[count++] = s->vmalloc[i].end;
	}
	s->config_element = words;
	s->config_element_count = count;
	return true;
}

static bool
range_ok(uint64_t start, uint64_t end)
{
	return start % PAGE == 0 && end % PAGE == 0 && start < end;
}

static bool
overlap(uint64_t start, uint64_t end, uint64_t other_start, uint64_t other_end)
{
	return start < other_end && other_start < end;
}

/* Bytes of frame metadata, whole pages: 64 for each frame. */
uint64_t
config_metadata_size(const struct kvms *s)
{
	return (s->slots_count * 64 + PAGE - 1) / PAGE * PAGE;
}

/* True if a range meets the kernel image's map, as much of it as there are addresses for. */
static bool
meets_image(const struct kvms *s, uint64_t start, uint64_t end)
{
	uint64_t count, base = s->paging.code_base;
	const uint64_t *kernel = config_ranges(s, CONFIG_LIST_kernel, &count);

	if (!s->paging.linear_in_table || kernel[0] >= kernel[1] || kernel[0] > UINT64_MAX - base)
		return false;
	return base + kernel[0] < end && (kernel[1] > UINT64_MAX - base || start < base + kernel[1]);
}

/* True if a range meets what boot maps in the kernel half. */
static bool
meets_boot_maps(const struct kvms *s, uint64_t start, uint64_t end)
{
	uint64_t metadata = s->paging.vmalloc_end;

	if (overlap(start, end, s->linear_base, s->linear_base + s->max_paddr))
		return true;
	if (s->config.arg[CONFIG_boot] == 0)
		return false;
	return overlap(start, end, metadata, metadata + config_metadata_size(s)) || meets_image(s, start, end);
}

/* Ascending, not touching each other, inside the kernel half, clear of what boot maps. */
static bool
vmalloc_ok(const struct kvms *s)
{
	uint64_t count, end = 0;
	const uint64_t *at = config_ranges(s, CONFIG_LIST_vmalloc, &count);

	for (uint64_t i = 0; i < count; i++, at += 2) {
		if (!range_ok(at[0], at[1]) || at[0] < s->paging.kernel_base || at[1] > KERNEL_END_VADDR)
			return false;
		if ((i > 0 && at[0] <= end) || meets_boot_maps(s, at[0], at[1]))
			return false;
		end = at[1];
	}
	return count >= 1;
}

static int
range_compare(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return left[0] < right[0] ? -1 : left[0] > right[0];
}

/*
 * The ranges of "key": page-aligned, non-empty, below max_paddr, disjoint from
 * each other and from those of the keys before it, which are known to be good.
 */
static bool
frames_ok(struct kvms *s, enum config_list_key key)
{
	static const enum config_list_key keys[] = { CONFIG_LIST_kernel, CONFIG_LIST_reserve, CONFIG_LIST_mmio };
	uint64_t count, all = 0;
	const uint64_t *at = config_ranges(s, key, &count);
	uint64_t *sorted;
	bool ok = true;

	for (uint64_t i = 0; i < count; i++)
		if (!range_ok(at[2 * i], at[2 * i + 1]) || at[2 * i + 1] > s->max_paddr)
			return false;
	for (unsigned k = 0; k < 3 && keys[k] <= key; k++)
		all += s->config.arg[keys[k]];
	sorted = malloc(((size_t)all * 2 + 1) * sizeof *sorted);
	if (sorted == NULL)
		out_of_memory(s);
	all = 0;
	for (unsigned k = 0; k < 3 && keys[k] <= key; k++) {
		if (keys[k] == CONFIG_LIST_kernel && s->config.arg[CONFIG_boot] == 0)
			continue; /* not used */
		at = config_ranges(s, keys[k], &count);
		if (count > 0)
			memcpy(sorted + 2 * all, at, (size_t)count * 2 * sizeof *sorted);
		all += count;
	}
	if (all > 0)
		qsort(sorted, (size_t)all, 2 * sizeof *sorted, range_compare);
	for (uint64_t i = 1; i < all; i++)
		if (sorted[2 * i] < sorted[2 * i - 1])
			ok = false;
	free(sorted);
	return ok;
}

/* The first key, in table order, that breaks a limit; -1 if none does. */
static int
first_broken(struct kvms *s)
{
	uint64_t most = UINT64_C(1) << (s->paging.width == 39 ? 37 : 46);

	if (s->max_paddr % PAGE != 0 || s->max_paddr < 0x200000 || s->max_paddr > most)
		return CONFIG_max_paddr;
	if (s->rc_max < 1 || s->rc_max > INT64_MAX)
		return CONFIG_rc_max;
	if (s->ncpu < 1 || s->ncpu > 64)
		return CONFIG_ncpu;
	if (!vmalloc_ok(s))
		return CONFIG_vmalloc;
	if (s->config.arg[CONFIG_boot] != 0 && !frames_ok(s, CONFIG_LIST_kernel))
		return CONFIG_kernel;
	if (!frames_ok(s, CONFIG_LIST_reserve))
		return CONFIG_reserve;
	if (!frames_ok(s, CONFIG_LIST_mmio))
		return CONFIG_mmio;
	return -1;
}

static bool
config_adopt(struct kvms *s, const struct kvms_op *config, const struct paging *paging, struct kvms_refusal *why)
{
	const char *flaw;
	int broken;

	if (paging == NULL)
		paging = paging_of((enum arch)config->arg[CONFIG_arch]);
	if (paging == NULL || config->arg[CONFIG_boot] > 1) {
		config_refuse(why, paging == NULL ? CONFIG_arch : CONFIG_boot, "out of limits");
		return false;
	}
	flaw = paging_flaw(paging);
	if (flaw != NULL) {
		config_refuse(why, CONFIG_arch, flaw);
		return false;
	}
	s->paging = *paging;
	s->config = *config;
	s->config.code = 0;
	s->max_paddr = config->arg[CONFIG_max_paddr];
	s->slots_count = s->max_paddr / PAGE;
	s->rc_max = config->arg[CONFIG_rc_max];
	s->ncpu = config->arg[CONFIG_ncpu];
	s->linear_base = paging->linear_base;
	s->mmio_end = UINT64_C(1) << (paging->format == PTE_LOONGARCH ? 48 : 52);
	if (!lists_copy(s, config, why))
		return false;
	s->vmalloc = (const struct kvms_range *)config_ranges(s, CONFIG_LIST_vmalloc, &s->vmalloc_count);
	broken = first_broken(s);
	if (broken >= 0) {
		config_refuse(why, broken, "out of limits");
		return false;
	}
	return element_build(s, why);
}

bool
config_read(struct kvms *s, const struct kvms_op *config, const struct paging *paging, struct kvms_refusal *why)
{
	struct kvms_op defaults;

	if (config == NULL) {
		kvms_op_init(&defaults, kvms_store_row());
		config = &defaults;
	}
	return config_adopt(s, config, paging, why);
}
