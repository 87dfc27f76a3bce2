#include "client/source.h"

#include "client/state.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

enum kvmctl_status
kvmctl_source_open(struct kvmctl *k, struct kvmctl_source *source)
{
	enum kvmctl_status status;

	if (k->option[OPTION_embedded] == NULL) {
		status = kvmctl_state_get(k, &source->owned, NULL);
		source->s = source->owned;
		return status;
	}
	if (k->option[OPTION_step] != NULL || k->option[OPTION_state_dir] != NULL) {
		kvmctl_complain("--%s asks a history: leave --embedded out",
				k->option[OPTION_step] != NULL ? "step" : "state-dir");
		return KVMCTL_USAGE;
	}
	status = kvmctl_session_open(k, &source->session);
	if (status == KVMCTL_OK)
		source->s = kvt_target_store(source->session.target);
	return status;
}

void
kvmctl_source_close(struct kvmctl_source *source)
{
	kvmctl_session_close(&source->session);
	kvms_free(&source->owned);
	source->s = NULL;
}

enum kvmctl_status
kvmctl_source_table(const struct kvmctl *k, const struct kvmctl_source *source, uint64_t fallback, bool may_be_all,
		    uint64_t *table)
{
	const char *word = k->option[OPTION_table];
	char shown[KVMCTL_SHOWN];
	uint64_t root;

	*table = fallback;
	if (word == NULL)
		return KVMCTL_OK;
	if (may_be_all && strcmp(word, "all") == 0) {
		*table = KVMS_ALL_TABLES;
		return KVMCTL_OK;
	}
	*table = 0;
	if (strcmp(word, "kernel") != 0 && (!kvt_parse_u64(word, strlen(word), table) || *table == 0)) {
		kvmctl_complain("--table '%s': expected kernel%s or the id of an address space",
				kvmctl_shown(shown, word), may_be_all ? ", all" : "");
		return KVMCTL_USAGE;
	}
	if (kvms_root(source->s, *table, &root))
		return KVMCTL_OK;
	kvmctl_complain("--table %" PRIu64 ": the store has no such address space", *table);
	return KVMCTL_USAGE;
}
