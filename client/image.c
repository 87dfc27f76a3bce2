#include "client/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/image_tables.h"

#define PAGE KVMS_PAGE_SIZE
#define RECORD (8 + PAGE) /* of PTPAGES1: an address and a page */
#define HEADER 16u
#define ADDRESS_MAX (UINT64_C(1) << 46)
#define DECODED_MAX (UINT64_C(1) << 30)
#define DECODER_MEMORY (UINT64_C(256) << 20)

static const struct {
	const char *name, *text;
} flaws[KVMCTL_IMAGE_FLAWS] = {
	[KVMCTL_IMAGE_TRUNCATED] = { "truncated", "the file ends inside a page, after so many bytes of it" },
	[KVMCTL_IMAGE_COUNT] = { "count", "the file says it has this many pages, and has another number" },
	[KVMCTL_IMAGE_ADDRESS] = { "address", "not the address of a page below 0x400000000000" },
	[KVMCTL_IMAGE_DUPLICATE] = { "duplicate", "this page is there a second time; the first counts" },
	[KVMCTL_IMAGE_ORDER] = { "order", "this page comes after one with a higher address" },
	[KVMCTL_IMAGE_SEGMENT] = { "segment", "a segment at this physical address lies outside the file" },
};

const char *
kvmctl_image_flaw_name(enum kvmctl_image_flaw flaw)
{
	return flaws[flaw].name;
}

const char *
kvmctl_image_flaw_text(enum kvmctl_image_flaw flaw)
{
	return flaws[flaw].text;
}

static void
note(struct kvmctl_image *image, enum kvmctl_image_flaw flaw, uint64_t offset, uint64_t value)
{
	image->flaws++;
	if (image->count[flaw]++ >= KVMCTL_IMAGE_PLACES)
		return;
	image->place[image->places].flaw = flaw;
	image->place[image->places].offset = offset;
	image->place[image->places++].value = value;
}

static uint64_t
number_at(const unsigned char *at)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < 8; i++)
		number |= (uint64_t)at[i] << 8 * i;
	return number;
}

static enum kvmctl_status
fail(const struct kvmctl_image *image, const char *text)
{
	kvmctl_complain("%s: %s", image->path, text);
	return KVMCTL_UNREADABLE;
}

/* ---- Bytes --------------------------------------------------------------------------- */

static enum kvmctl_status
map(struct kvmctl_image *image)
{
	enum kvmctl_status status = KVMCTL_OK;
	struct stat st;
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0)
		status = fail(image, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		status = fail(image, "not a file that can be mapped: copy it into one");
	else if (st.st_size == 0)
		status = fail(image, "the file is empty");
	if (status == KVMCTL_OK) {
		image->mapped_size = (size_t)st.st_size;
		image->mapped = mmap(NULL, image->mapped_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (image->mapped == MAP_FAILED) {
			image->mapped = NULL;
			status = fail(image, strerror(errno));
		}
	}
	if (fd >= 0)
		close(fd);
	image->at = image->mapped;
	image->size = image->mapped_size;
	return status;
}

static const char *
decoder_text(lzma_ret ret)
{
	switch ((int)ret) {
	case LZMA_MEM_ERROR:
		return "no memory to decode the .xz data";
	case LZMA_MEMLIMIT_ERROR:
		return "decoding the .xz data would take more than 256 MiB of memory";
	case LZMA_BUF_ERROR:
		return "the .xz data is cut off";
	case LZMA_OK:
		return "decodes to more than 1 GiB: decode it into a file first";
	default:
		return "the .xz data is damaged";
	}
}

static bool
decoded_grow(struct kvmctl_image *image, lzma_stream *stream)
{
	size_t done = image->size, size = done == 0 ? 1 << 20 : 2 * done;
	unsigned char *decoded;

	if (size > DECODED_MAX || (decoded = realloc(image->decoded, size)) == NULL)
		return false;
	image->decoded = decoded;
	image->size = size;
	stream->next_out = decoded + done;
	stream->avail_out = size - done;
	return true;
}

static enum kvmctl_status
decode(struct kvmctl_image *image)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	lzma_ret ret = lzma_stream_decoder(&stream, DECODER_MEMORY, LZMA_CONCATENATED);

	stream.next_in = image->mapped;
	stream.avail_in = image->mapped_size;
	image->size = 0;
	while (ret == LZMA_OK) {
		if (stream.avail_out == 0 && !decoded_grow(image, &stream))
			break;
		ret = lzma_code(&stream, LZMA_FINISH);
	}
	image->size -= stream.avail_out;
	image->at = image->decoded;
	lzma_end(&stream);
	return ret == LZMA_STREAM_END ? KVMCTL_OK : fail(image, decoder_text(ret));
}

static bool
is_xz(const unsigned char *at, size_t size)
{
	static const unsigned char magic[6] = { 0xfd, '7', 'z', 'X', 'Z', 0 };

	return size >= sizeof magic && memcmp(at, magic, sizeof magic) == 0;
}

/* ---- PTPAGES1 ------------------------------------------------------------------------- */

struct record {
	uint64_t paddr;
	size_t offset; /* of the page's bytes */
};

static int
record_compare(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	if (x->paddr != y->paddr)
		return x->paddr < y->paddr ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The records whose addresses can be: how many. */
static size_t
records_read(struct kvmctl_image *image, struct record *records, size_t whole)
{
	uint64_t highest = 0;
	size_t count = 0;

	for (size_t i = 0; i < whole; i++) {
		size_t offset = HEADER + i * RECORD;
		uint64_t paddr = number_at(image->at + offset);

		if (paddr % PAGE != 0 || paddr >= ADDRESS_MAX) {
			note(image, KVMCTL_IMAGE_ADDRESS, offset, paddr);
			continue;
		}
		if (paddr < highest)
			note(image, KVMCTL_IMAGE_ORDER, offset, paddr);
		highest = paddr > highest ? paddr : highest;
		records[count++] = (struct record){ paddr, offset + 8 };
	}
	return count;
}

static void
records_keep(struct kvmctl_image *image, const struct record *records, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && records[i].paddr == records[i - 1].paddr) {
			note(image, KVMCTL_IMAGE_DUPLICATE, records[i].offset - 8, records[i].paddr);
			continue;
		}
		image->pages[image->pages_count] = records[i].paddr;
		image->offsets[image->pages_count++] = records[i].offset;
	}
}

static enum kvmctl_status
read_ptpages(struct kvmctl_image *image)
{
	struct record *records;
	size_t whole, count;

	if (image->size < HEADER)
		return fail(image, "the file ends inside its header of 16 bytes");
	whole = (image->size - HEADER) / RECORD;
	if ((image->size - HEADER) % RECORD != 0)
		note(image, KVMCTL_IMAGE_TRUNCATED, HEADER + whole * RECORD, (image->size - HEADER) % RECORD);
	if (number_at(image->at + 8) != whole)
		note(image, KVMCTL_IMAGE_COUNT, 8, number_at(image->at + 8));
	records = malloc((whole + 1) * sizeof *records);
	image->pages = malloc((whole + 1) * sizeof *image->pages);
	image->offsets = malloc((whole + 1) * sizeof *image->offsets);
	if (records == NULL || image->pages == NULL || image->offsets == NULL) {
		free(records);
		return fail(image, "no memory");
	}
	count = records_read(image, records, whole);
	qsort(records, count, sizeof *records, record_compare);
	records_keep(image, records, count);
	free(records);
	if (image->pages_count > 0)
		image->max_paddr = image->pages[image->pages_count - 1] + PAGE;
	return KVMCTL_OK;
}

/* ---- ELF -------------------------------------------------------------------------------- */

/* What a virtual machine's CPU had in its registers, in a note of its own kind: offsets. */
#define QEMU_STATE_SIZE 432u
#define QEMU_STATE_CR3 416u
#define QEMU_STATE_CR4 424u
#define CR4_LA57 (UINT64_C(1) << 12)

static void
elf_cpu(struct kvmctl_image *image, const unsigned char *state)
{
	kvmctl_image_root(image, kvmctl_cr3_root(number_at(state + QEMU_STATE_CR3)), true);
	if (image->levels == 0)
		image->levels = (number_at(state + QEMU_STATE_CR4) & CR4_LA57) != 0 ? 5 : 4;
}

/* The notes of a segment that lies inside the file. */
static void
elf_notes(struct kvmctl_image *image, const unsigned char *at, size_t size)
{
	while (size >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		size_t name, whole;

		memcpy(&n, at, sizeof n);
		name = ((size_t)n.n_namesz + 3) / 4 * 4;
		whole = sizeof n + name + ((size_t)n.n_descsz + 3) / 4 * 4;
		if (whole > size)
			return;
		if (image->has_machine && image->machine == KVMS_MACHINE_X86_64 && n.n_namesz == 5 &&
		    memcmp(at + sizeof n, "QEMU", 5) == 0 && n.n_descsz >= QEMU_STATE_SIZE)
			elf_cpu(image, at + sizeof n + name);
		at += whole;
		size -= whole;
	}
}

static void
elf_load(struct kvmctl_image *image, const Elf64_Phdr *p, size_t header)
{
	uint64_t size = p->p_filesz;

	if (size == 0)
		return;
	if (p->p_offset >= image->size || size > image->size - p->p_offset) {
		note(image, KVMCTL_IMAGE_SEGMENT, header, p->p_paddr);
		size = p->p_offset < image->size ? image->size - p->p_offset : 0;
	}
	if (p->p_paddr >= ADDRESS_MAX || size > ADDRESS_MAX - p->p_paddr) {
		note(image, KVMCTL_IMAGE_ADDRESS, header, p->p_paddr);
		return;
	}
	if (size == 0)
		return;
	image->segments[image->segments_count++] = (struct kvmctl_segment){ p->p_paddr, size, (size_t)p->p_offset };
	if (p->p_paddr + size > image->max_paddr)
		image->max_paddr = p->p_paddr + size;
}

/* How many program headers there are: more than 65534 stand in the first section header. */
static size_t
elf_headers(const struct kvmctl_image *image, const Elf64_Ehdr *e)
{
	Elf64_Shdr section;

	if (e->e_phnum != PN_XNUM)
		return e->e_phnum;
	if (e->e_shoff > image->size || image->size - e->e_shoff < sizeof section)
		return 0;
	memcpy(&section, image->at + e->e_shoff, sizeof section);
	return section.sh_info;
}

static enum kvmctl_status
read_elf(struct kvmctl_image *image)
{
	Elf64_Ehdr e;
	Elf64_Phdr p;
	size_t count;

	if (image->size < sizeof e)
		return fail(image, "the file ends inside its ELF header");
	memcpy(&e, image->at, sizeof e);
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB || e.e_type != ET_CORE)
		return fail(image, "not a 64-bit little-endian ELF core");
	image->has_machine = e.e_machine == EM_X86_64 || e.e_machine == EM_RISCV || e.e_machine == 258;
	image->machine = e.e_machine == EM_X86_64  ? KVMS_MACHINE_X86_64
			 : e.e_machine == EM_RISCV ? KVMS_MACHINE_RISCV64
						   : KVMS_MACHINE_LOONGARCH64;
	count = elf_headers(image, &e);
	if (e.e_phentsize < sizeof p || e.e_phoff > image->size || count > (image->size - e.e_phoff) / e.e_phentsize)
		return fail(image, "its program headers lie outside the file");
	image->segments = calloc(count + 1, sizeof *image->segments);
	if (image->segments == NULL)
		return fail(image, "no memory");
	for (size_t i = 0; i < count; i++) {
		size_t header = (size_t)e.e_phoff + i * e.e_phentsize;

		memcpy(&p, image->at + header, sizeof p);
		if (p.p_type == PT_LOAD)
			elf_load(image, &p, header);
		else if (p.p_type == PT_NOTE && p.p_offset < image->size && p.p_filesz <= image->size - p.p_offset)
			elf_notes(image, image->at + p.p_offset, (size_t)p.p_filesz);
	}
	return image->segments_count > 0 ? KVMCTL_OK : fail(image, "no segment of it holds memory");
}

/* ---- Pages -------------------------------------------------------------------------------- */

static int
paddr_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Where a page's bytes begin, and how many of them there are; 0: none. */
static size_t
find(const struct kvmctl_image *image, uint64_t paddr, size_t *offset)
{
	const uint64_t *page;

	if (image->format == KVMCTL_PTPAGES) {
		page = bsearch(&paddr, image->pages, image->pages_count, sizeof *image->pages, paddr_compare);
		*offset = page != NULL ? image->offsets[page - image->pages] : 0;
		return page != NULL ? PAGE : 0;
	}
	if (image->format == KVMCTL_RAW) {
		*offset = (size_t)(paddr - image->base);
		if (paddr < image->base || *offset >= image->size)
			return 0;
		return image->size - *offset < PAGE ? image->size - *offset : PAGE;
	}
	for (size_t i = 0; i < image->segments_count; i++) {
		const struct kvmctl_segment *s = &image->segments[i];

		if (paddr < s->paddr || paddr - s->paddr >= s->size)
			continue;
		*offset = s->offset + (size_t)(paddr - s->paddr);
		return s->size - (paddr - s->paddr) < PAGE ? (size_t)(s->size - (paddr - s->paddr)) : PAGE;
	}
	return 0;
}

static const void *
page_of(void *arg, uint64_t paddr)
{
	struct kvmctl_image *image = arg;
	size_t offset, size = find(image, paddr, &offset);

	if (size == PAGE || size == 0)
		return size == PAGE ? image->at + offset : NULL;
	memset(image->page, 0, PAGE);
	memcpy(image->page, image->at + offset, size);
	return image->page;
}

uint64_t
kvmctl_image_offset(const struct kvmctl_image *image, uint64_t paddr)
{
	uint64_t in_page = paddr % PAGE;
	size_t offset, size = find(image, paddr - in_page, &offset);

	return in_page < size ? offset + in_page : UINT64_MAX;
}

/* ---- All ------------------------------------------------------------------------------------ */

static enum kvmctl_status
read_form(struct kvmctl *k, struct kvmctl_image *image)
{
	if (image->size >= 8 && memcmp(image->at, "PTPAGES1", 8) == 0) {
		image->format = KVMCTL_PTPAGES;
		return read_ptpages(image);
	}
	if (image->size >= 7 && memcmp(image->at, "PTPAGES", 7) == 0)
		return fail(image, "begins with PTPAGES, but is not of version 1");
	if (image->size >= SELFMAG && memcmp(image->at, ELFMAG, SELFMAG) == 0) {
		image->format = KVMCTL_ELF;
		return read_elf(image);
	}
	image->format = KVMCTL_RAW;
	return kvmctl_image_may_be_raw(k, image) ? KVMCTL_OK : KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_image_open(struct kvmctl *k, const char *path, struct kvmctl_image *image)
{
	enum kvmctl_status status;

	image->path = path;
	status = map(image);
	if (status == KVMCTL_OK && is_xz(image->at, image->size))
		status = decode(image);
	if (status == KVMCTL_OK)
		status = read_form(k, image);
	if (status == KVMCTL_OK)
		status = kvmctl_image_tables(k, image);
	if (status != KVMCTL_OK)
		kvmctl_image_close(image);
	return status;
}

void
kvmctl_image_close(struct kvmctl_image *image)
{
	if (image->mapped != NULL)
		munmap(image->mapped, image->mapped_size);
	free(image->decoded);
	free(image->pages);
	free(image->offsets);
	free(image->segments);
	memset(image, 0, sizeof *image);
}

bool
kvmctl_image_is(const char *path)
{
	unsigned char first[8];
	FILE *f = fopen(path, "re");
	bool is =
	    f != NULL && fread(first, 1, sizeof first, f) == sizeof first &&
	    (memcmp(first, "PTPAGES1", 8) == 0 || memcmp(first, ELFMAG, SELFMAG) == 0 || is_xz(first, sizeof first));

	if (f != NULL)
		fclose(f);
	return is;
}

struct kvms *
kvmctl_image_adopt(struct kvmctl_image *image)
{
	struct kvms_refusal why;
	struct kvms *s;
	const struct kvms_image given = {
		.machine = image->machine,
		.levels = image->levels,
		.max_paddr = image->max_paddr,
		.pat = image->pat,
		.roots = image->roots,
		.roots_count = image->roots_count,
		.pages = image->pages,
		.pages_count = image->pages_count,
		.page = page_of,
		.arg = image,
	};

	s = kvms_adopt(&given, &why);
	if (s == NULL && why.key >= 0)
		kvmctl_complain("%s: %s %s", image->path, kvms_store_row()->args[why.key].name, why.text);
	else if (s == NULL)
		kvmctl_complain("%s: %s", image->path, why.text);
	return s;
}
