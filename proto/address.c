#include "proto/address.h"

#include "proto/message.h"

#include <stdio.h>
#include <string.h>

bool
kvmp_socket_path(const struct kvmp_surroundings *here, char *path, size_t size)
{
	int length = -1;

	if (here->variable != NULL && here->variable[0] != '\0')
		length = snprintf(path, size, "%s", here->variable);
	else if (here->root)
		length = snprintf(path, size, "%s", KVMP_SOCKET_ROOT);
	else if (here->runtime_dir != NULL && here->runtime_dir[0] != '\0')
		length = snprintf(path, size, "%s/kvmstored.sock", here->runtime_dir);
	return length >= 0 && (size_t)length < size;
}

bool
kvmp_store_name_valid(const char *name)
{
	size_t length = strlen(name);

	return length >= 1 && length <= KVMP_STORE_NAME_MAX && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}
