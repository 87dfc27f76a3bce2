/*
 * config - a store's configuration: reading it and holding it to its limits.
 */
#ifndef KVMS_CONFIG_H
#define KVMS_CONFIG_H

#include "store/int.h"

/* Keys whose value is a list. */
enum config_list_key {
	CONFIG_LIST_vmalloc = CONFIG_vmalloc,
	CONFIG_LIST_kernel = CONFIG_kernel,
	CONFIG_LIST_reserve = CONFIG_reserve,
	CONFIG_LIST_mmio = CONFIG_mmio,
};

/* Say why; key -1 = no key is at fault. */
void config_refuse(struct kvms_refusal *why, int key, const char *text);

/*
 * Copy a configuration into the store, with the defaults of its layout for
 * keys left out, and check every limit in table order.
 *
 * => paging: constants that stand in for those of the key arch; NULL = those
 * => fails with false and *why
 */
bool config_read(struct kvms *s, const struct kvms_op *config, const struct paging *paging, struct kvms_refusal *why);

/* The ranges of a list key: start, end, start, end ... */
const uint64_t *config_ranges(const struct kvms *s, enum config_list_key key, uint64_t *count);

/* Bytes of frame metadata that boot=full maps, whole pages. */
uint64_t config_metadata_size(const struct kvms *s);

#endif /* KVMS_CONFIG_H */
