// SPDX-License-Identifier: GPL-2.0-only
/* What a xenstore path says about a domain; pure. */
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "mtwatch.h"
#include "path.h"

/**
 * mtw_parse_domid() - read a domid as xenstore has it: decimal, without leading zeros
 * @s: the text
 * @end: set to what follows it
 *
 * Return: the domid, or MTW_NONE when there is none, or none that a domain can have.
 */
unsigned int mtw_parse_domid(const char *s, const char **end)
{
	unsigned int domid = 0;

	*end = s;
	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return MTW_NONE;
	while (*s >= '0' && *s <= '9') {
		domid = domid * 10 + (*s++ - '0');
		if (domid >= MTW_DOMIDS)
			return MTW_NONE;
	}
	*end = s;
	return domid;
}

/**
 * mtw_backend_domid() - whose backend is this?
 * @path: as the watch of all backends has it: backend/<type>/<domid>[/...]
 *
 * Return: the domid, MTW_NONE for any other path.
 */
unsigned int mtw_backend_domid(const char *path)
{
	const char *domid, *end;
	unsigned int found;

	if (strncmp(path, "backend/", 8))
		return MTW_NONE;
	domid = strchr(path + 8, '/');
	if (!domid)
		return MTW_NONE;
	found = mtw_parse_domid(domid + 1, &end);
	return *end == '\0' || *end == '/' ? found : MTW_NONE;
}

/**
 * mtw_domid_of() - which domain's backend device watches this?
 * @path: backend/<type>/<domid>/... or /local/domain/<domid>/device/...
 *
 * Return: the domid, MTW_NONE for any other path.
 */
unsigned int mtw_domid_of(const char *path)
{
	const char *end;
	unsigned int domid;

	if (strncmp(path, "/local/domain/", 14))
		return mtw_backend_domid(path);
	domid = mtw_parse_domid(path + 14, &end);
	return strncmp(end, "/device/", 8) ? MTW_NONE : domid;
}

/**
 * mtw_device_len() - how much of a path names the device
 * @path: backend/<type>/<domid>/<devid>/... or device/<type>/<devid>/...
 *
 * What is below a device does not matter to the callback: it asks whether the device is there.
 * So that all events of a device are one.
 *
 * Return: the length up to <devid>, or of all when it is shorter.
 */
int mtw_device_len(const char *path)
{
	int i, slashes = 0, most = strncmp(path, "device/", 7) ? 4 : 3;

	for (i = 0; path[i]; i++)
		if (path[i] == '/' && ++slashes == most)
			break;
	return i;
}

/**
 * mtw_symbol_is() - is this address the start of that symbol?
 * @address: of a function or a variable
 * @name: the symbol; a compiler's suffix (.llvm.123, .cfi) does not matter
 *
 * Return: whether it is.
 */
bool mtw_symbol_is(const void *address, const char *name)
{
	char symbol[KSYM_SYMBOL_LEN];
	size_t len = strlen(name);

	snprintf(symbol, sizeof(symbol), "%ps", address);
	return !strncmp(symbol, name, len) && (!symbol[len] || symbol[len] == '.');
}
