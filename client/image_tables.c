#include "client/image_tables.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "persist/json.h"
#include "trace/buffer.h"
#include "trace/text.h"

#define JSON_MAX (UINT64_C(16) << 20)

static const struct {
	const char *name;
	enum kvms_machine machine;
	unsigned levels; /* 0: the name does not say */
} machines[] = {
	{ "x86_64", KVMS_MACHINE_X86_64, 0 },           { "x86_64_la57", KVMS_MACHINE_X86_64, 5 },
	{ "riscv64", KVMS_MACHINE_RISCV64, 0 },         { "riscv64_sv39", KVMS_MACHINE_RISCV64, 3 },
	{ "riscv64_sv48", KVMS_MACHINE_RISCV64, 4 },    { "riscv64_sv57", KVMS_MACHINE_RISCV64, 5 },
	{ "loongarch64", KVMS_MACHINE_LOONGARCH64, 4 },
};

uint64_t
kvmctl_cr3_root(uint64_t cr3)
{
	return cr3 & UINT64_C(0x000ffffffffff000);
}

void
kvmctl_image_root(struct kvmctl_image *image, uint64_t root, bool once)
{
	for (size_t i = 0; once && i < image->roots_count; i++)
		if (image->roots[i] == root)
			return;
	if (image->roots_count < KVMCTL_IMAGE_ROOTS)
		image->roots[image->roots_count++] = root;
}

/* ---- Words of options ------------------------------------------------------------------- */

/* Numbers with commas between them, each turned into a root.  False: not numbers. */
static bool
roots_parse(struct kvmctl_image *image, const char *text, uint64_t (*root_of)(uint64_t))
{
	image->roots_count = 0;
	for (;;) {
		size_t length = strcspn(text, ",");
		uint64_t number;

		if (!kvt_parse_u64(text, length, &number))
			return false;
		kvmctl_image_root(image, root_of != NULL ? root_of(number) : number, false);
		if (text[length] == '\0')
			return true;
		text += length + 1;
	}
}

/* satp: mode, address space, page number of the root. */
static uint64_t
satp_root(uint64_t satp)
{
	return (satp & ((UINT64_C(1) << 44) - 1)) * KVMS_PAGE_SIZE;
}

static unsigned
satp_levels(uint64_t satp)
{
	uint64_t mode = satp >> 60;

	return mode >= 8 && mode <= 10 ? (unsigned)mode - 5 : 0;
}

static void
machine_set(struct kvmctl_image *image, enum kvms_machine machine, unsigned levels)
{
	image->machine = machine;
	image->has_machine = true;
	if (levels != 0)
		image->levels = levels;
}

static bool
machine_parse(struct kvmctl_image *image, const char *word)
{
	for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
		if (strcmp(machines[i].name, word) != 0)
			continue;
		machine_set(image, machines[i].machine, machines[i].levels);
		return true;
	}
	return false;
}

static enum kvmctl_status
complain(const struct kvmctl *k, enum kvmctl_option option, const char *expected)
{
	char shown[KVMCTL_SHOWN];

	kvmctl_complain("--%s '%s': expected %s", kvmctl_option_row(option)->name,
			kvmctl_shown(shown, k->option[option]), expected);
	return KVMCTL_USAGE;
}

/* Roots that options give: a register, or the address itself. */
static enum kvmctl_status
options_roots(struct kvmctl *k, struct kvmctl_image *image)
{
	static const char numbers[] = "a number (decimal, or 0x and hex digits), or several with commas between them";
	const char *cr3 = k->option[OPTION_cr3], *satp = k->option[OPTION_satp], *root = k->option[OPTION_root];
	uint64_t first;

	if ((cr3 != NULL) + (satp != NULL) + (root != NULL) > 1) {
		kvmctl_complain("--cr3, --satp and --root say the same thing: give one of them");
		return KVMCTL_USAGE;
	}
	if (cr3 != NULL) {
		machine_set(image, KVMS_MACHINE_X86_64, 0);
		return roots_parse(image, cr3, kvmctl_cr3_root) ? KVMCTL_OK : complain(k, OPTION_cr3, numbers);
	}
	if (root != NULL)
		return roots_parse(image, root, NULL) ? KVMCTL_OK : complain(k, OPTION_root, numbers);
	if (satp == NULL)
		return KVMCTL_OK;
	if (!roots_parse(image, satp, satp_root) || !kvt_parse_u64(satp, strcspn(satp, ","), &first))
		return complain(k, OPTION_satp, numbers);
	if (satp_levels(first) == 0)
		return complain(k, OPTION_satp, "a mode of 8, 9 or 10 (Sv39, Sv48, Sv57) in the highest 4 bits");
	machine_set(image, KVMS_MACHINE_RISCV64, satp_levels(first));
	return KVMCTL_OK;
}

static enum kvmctl_status
options_read(struct kvmctl *k, struct kvmctl_image *image)
{
	uint64_t levels = 0, memory = 0, pat = 0, base = 0;
	enum kvmctl_status status = options_roots(k, image);

	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_levels, image->levels, &levels);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_memory, 0, &memory);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_pat, image->pat, &pat);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_base, image->base, &base);
	if (status != KVMCTL_OK)
		return status;
	if (k->option[OPTION_arch] != NULL && !machine_parse(image, k->option[OPTION_arch]))
		return complain(
		    k, OPTION_arch,
		    "x86_64, x86_64_la57, riscv64, riscv64_sv39, riscv64_sv48, riscv64_sv57 or loongarch64");
	if (k->option[OPTION_levels] != NULL && (levels < 3 || levels > 5))
		return complain(k, OPTION_levels, "3, 4 or 5");
	if (k->option[OPTION_levels] != NULL)
		image->levels = (unsigned)levels;
	if (base % KVMS_PAGE_SIZE != 0 || base > UINT64_MAX - image->size)
		return complain(k, OPTION_base, "the address of a page");
	if (image->format == KVMCTL_RAW && base + image->size > image->max_paddr)
		image->max_paddr = base + image->size;
	if (memory > image->max_paddr)
		image->max_paddr = memory;
	image->pat = pat;
	image->base = base;
	return KVMCTL_OK;
}

/* ---- The text beside the file --------------------------------------------------------------- */

/* A whole small file, or NULL. */
static char *
file_text(const char *path, size_t *size)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	long length = -1;

	if (f != NULL && fseek(f, 0, SEEK_END) == 0)
		length = ftell(f);
	if (length > 0 && (uint64_t)length <= JSON_MAX && fseek(f, 0, SEEK_SET) == 0)
		text = malloc((size_t)length);
	if (text != NULL) {
		*size = fread(text, 1, (size_t)length, f);
		if (*size != (size_t)length) {
			free(text);
			text = NULL;
		}
	}
	if (f != NULL)
		fclose(f);
	return text;
}

/* FILE.json, with and without .xz and .bin at the end of FILE; NULL: there is none. */
static char *
beside(const char *path, struct kvt_buffer *name, size_t *size)
{
	static const char *const ends[] = { "", ".xz", ".bin" };
	size_t length = strlen(path);
	char *text = NULL;

	for (size_t i = 0; i < sizeof ends / sizeof ends[0] && text == NULL; i++) {
		size_t end = strlen(ends[i]);

		if (length > end && memcmp(path + length - end, ends[i], end) == 0)
			length -= end;
		kvt_buffer_reset(name);
		kvt_put(name, path, length);
		kvt_puts(name, ".json");
		text = name->failed ? NULL : file_text(kvt_buffer_text(name), size);
	}
	return text;
}

/* Roots at PREFIX[0]SUFFIX, PREFIX[1]SUFFIX, ... */
static void
json_roots(struct persist_json *j, struct kvmctl_image *image, const char *prefix, const char *suffix,
	   uint64_t (*root_of)(uint64_t))
{
	char path[64];
	uint64_t number;

	for (unsigned i = 0; i < KVMCTL_IMAGE_ROOTS; i++) {
		snprintf(path, sizeof path, "%s[%u]%s", prefix, i, suffix);
		if (!persist_json_number(j, path, &number))
			return;
		kvmctl_image_root(image, root_of != NULL ? root_of(number) : number, true);
	}
}

/* Registers and roots: what says most comes first. */
static void
json_tables(struct persist_json *j, struct kvmctl_image *image)
{
	uint64_t number;
	bool has_cr3 = persist_json_number(j, "$.cpus[0].cr3", &number);

	if (has_cr3 && !image->has_machine)
		machine_set(image, KVMS_MACHINE_X86_64, 0);
	if (persist_json_number(j, "$.satp", &number) && satp_levels(number) != 0) {
		machine_set(image, KVMS_MACHINE_RISCV64, satp_levels(number));
		kvmctl_image_root(image, satp_root(number), true);
	}
	json_roots(j, image, "$.tables", ".root", NULL);
	if (image->roots_count == 0 && persist_json_number(j, "$.root", &number))
		kvmctl_image_root(image, number, true);
	if (image->roots_count == 0)
		json_roots(j, image, "$.cpus", ".cr3", kvmctl_cr3_root);
}

static void
json_values(struct persist_json *j, struct kvmctl_image *image)
{
	uint64_t number, base = 0;
	char word[32];

	if (persist_json_text(j, "$.arch", word, sizeof word))
		(void)machine_parse(image, word);
	json_tables(j, image);
	if (persist_json_number(j, "$.levels", &number) || persist_json_number(j, "$.cpus[0].levels", &number))
		image->levels = number <= 5 ? (unsigned)number : image->levels;
	(void)persist_json_number(j, "$.pat", &image->pat);
	if (persist_json_number(j, "$.ram_base", &base) && base % KVMS_PAGE_SIZE == 0)
		image->base = base;
	if (!persist_json_number(j, "$.max_paddr", &number)) {
		if (!persist_json_number(j, "$.ram_bytes", &number) || number > UINT64_MAX - base)
			return;
		number += base;
	}
	if (number > image->max_paddr)
		image->max_paddr = number;
}

static enum kvmctl_status
json_read(struct kvmctl_image *image)
{
	struct kvt_buffer name = { 0 };
	size_t size = 0;
	char *text = beside(image->path, &name, &size);
	struct persist_json *j = text != NULL ? persist_json_open(text, size) : NULL;
	enum kvmctl_status status = KVMCTL_OK;

	if (text != NULL && j == NULL) {
		kvmctl_complain("%s: not JSON, or no memory for it", kvt_buffer_text(&name));
		status = KVMCTL_UNREADABLE;
	} else if (j != NULL) {
		json_values(j, image);
	}
	persist_json_close(&j);
	free(text);
	kvt_buffer_free(&name);
	return status;
}

bool
kvmctl_image_may_be_raw(struct kvmctl *k, const struct kvmctl_image *image)
{
	struct kvt_buffer name = { 0 };
	char form[16] = "";
	size_t size = 0;
	char *text = beside(image->path, &name, &size);
	struct persist_json *j = text != NULL ? persist_json_open(text, size) : NULL;
	bool given = k->option[OPTION_cr3] != NULL || k->option[OPTION_satp] != NULL || k->option[OPTION_root] != NULL;

	if (j != NULL)
		(void)persist_json_text(j, "$.format", form, sizeof form);
	persist_json_close(&j);
	free(text);
	kvt_buffer_free(&name);
	if (strcmp(form, "raw") == 0 || (given && form[0] == '\0'))
		return true;
	kvmctl_complain("%s: neither PTPAGES1 nor an ELF core; if it is memory as it is, say where its tables are: "
			"--cr3, --satp or --root",
			image->path);
	return false;
}

/* ---- All ------------------------------------------------------------------------------------ */

enum kvmctl_status
kvmctl_image_tables(struct kvmctl *k, struct kvmctl_image *image)
{
	enum kvmctl_status status = json_read(image);

	if (status == KVMCTL_OK)
		status = options_read(k, image);
	if (status != KVMCTL_OK)
		return status;
	if (image->roots_count == 0) {
		kvmctl_complain("%s: where do its tables begin? give --cr3, --satp or --root", image->path);
		return KVMCTL_USAGE;
	}
	if (!image->has_machine) {
		kvmctl_complain("%s: of what machine are its tables? give --arch", image->path);
		return KVMCTL_USAGE;
	}
	if (image->levels == 0 && image->machine != KVMS_MACHINE_RISCV64)
		image->levels = 4;
	if (image->levels == 0) {
		kvmctl_complain("%s: how many levels do its tables have? give --levels or --satp", image->path);
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}
