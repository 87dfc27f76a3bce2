#include "client/state.h"

#include "client/history.h"

#include "persist/snapshot.h"

#include <string.h>

/* A fresh store, or the one of a snapshot file. */
static enum kvmctl_status
get_embedded(struct kvmctl *k, struct kvms **s, char name[KVMCTL_STORE_NAME])
{
	const char *path = k->option[OPTION_embedded];
	struct persist_snapshot loaded;
	struct kvms_refusal refusal;
	char why[PERSIST_WHY];

	if (k->option[OPTION_step] != NULL || k->option[OPTION_state_dir] != NULL) {
		kvmctl_complain("--embedded has no history: --step and --state-dir do not go with it");
		return KVMCTL_USAGE;
	}
	if (path[0] == '\0') {
		*s = kvms_new(NULL, &refusal);
		if (*s == NULL)
			kvmctl_complain("%s", refusal.text);
	} else if (persist_file_load(path, k->option[OPTION_store], 0, s, &loaded, why, sizeof why) != PERSIST_OK) {
		kvmctl_complain("%s", why);
	} else if (name != NULL) {
		snprintf(name, KVMCTL_STORE_NAME, "%s", loaded.store);
	}
	return *s != NULL ? KVMCTL_OK : KVMCTL_UNREADABLE;
}

/* Without a journal the directory has what snapshots say: let the daemon make one of the store as it is now. */
static enum kvmctl_status
settle_unjournalled(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_STATUS };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;

	enum kvmctl_status status = kvmctl_session_connect(k, &s, kvmctl_store_name(k));
	if (status == KVMCTL_OK)
		status = kvmctl_session_request(&s, &request, &response);
	if (status == KVMCTL_OK && response.status.state_dir != NULL &&
	    strncmp(response.status.durability, "off", 3) == 0) {
		request.type = KVMP_SNAPSHOT_SAVE;
		status = kvmctl_session_request(&s, &request, &response);
	}
	if (status != KVMCTL_OK)
		kvmctl_complain("%s", s.error);
	kvmctl_session_close(&s);
	return status;
}

enum kvmctl_status
kvmctl_state_get(struct kvmctl *k, struct kvms **s, char name[KVMCTL_STORE_NAME])
{
	const char *word = k->option[OPTION_step] != NULL ? k->option[OPTION_step] : "last";
	enum kvmctl_status status = KVMCTL_OK;
	struct kvmctl_history h = { .k = NULL };
	uint64_t step = 0;

	*s = NULL;
	if (name != NULL)
		snprintf(name, KVMCTL_STORE_NAME, "%s", kvmctl_store_name(k));
	if (k->option[OPTION_embedded] != NULL)
		return get_embedded(k, s, name);
	if (k->option[OPTION_step] != NULL)
		status = kvmctl_step_check("--step", word);
	else if (k->option[OPTION_state_dir] == NULL)
		status = settle_unjournalled(k);
	if (status == KVMCTL_OK)
		status = kvmctl_history_open(k, &h);
	if (status == KVMCTL_OK)
		status = kvmctl_history_step(&h, word, &step);
	if (status == KVMCTL_OK)
		status = kvmctl_history_rebuild(&h, step, s);
	kvmctl_history_close(&h);
	return status;
}

enum kvmctl_status
kvmctl_state_open(struct kvmctl *k, struct kvmctl_session *s)
{
	struct kvms *store = NULL;

	if (k->option[OPTION_step] == NULL && k->option[OPTION_state_dir] == NULL)
		return kvmctl_session_open(k, s);
	enum kvmctl_status status = kvmctl_state_get(k, &store, NULL);
	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_session_embed(k, s, store);
	if (status != KVMCTL_OK) {
		kvmctl_complain("%s", s->error);
		kvmctl_session_close(s);
	}
	return status;
}

enum kvmctl_status
kvmctl_state_table(const struct kvmctl *k, uint64_t *table)
{
	const char *word = k->option[OPTION_table];

	*table = 0;
	if (word == NULL || strcmp(word, "kernel") == 0)
		return KVMCTL_OK;
	return kvmctl_option_number(k, OPTION_table, 0, table);
}
