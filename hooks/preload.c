/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only the preload library does: keep out of grandchildren.
 *
 * LD_PRELOAD is inherited by everything that the program starts: qemu, hotplug scripts, ssh. In
 * the program that uses libxl we take ourselves out of the variable as soon as we are loaded. In
 * one that does not (a shell on the way to xl), the variable has to stay.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "interposer.h"

/* The path by which this library was loaded: exactly as it stands in LD_PRELOAD. */
static const char *own_path(void)
{
	Dl_info self;

	return dladdr((void *)xlmt_interposer_arming, &self) ? self.dli_fname : NULL;
}

/* Set LD_PRELOAD to what is in `list`, by the separators that ld.so(8) knows, but for `path`. */
static void preload_all_but(const char *path, char *list)
{
	size_t room = strlen(list) + 1;
	char *rest = calloc(1, room), *state = NULL;

	if (!rest)
		return;
	for (char *entry = strtok_r(list, ": ", &state); entry; entry = strtok_r(NULL, ": ", &state)) {
		if (!strcmp(entry, path))
			continue;
		if (*rest)
			strcat(rest, ":");
		strcat(rest, entry);
	}
	if (*rest)
		setenv("LD_PRELOAD", rest, 1);
	else
		unsetenv("LD_PRELOAD");
	free(rest);
}

__attribute__((constructor))
static void keep_out_of_grandchildren(void)
{
	const char *preload = getenv("LD_PRELOAD"), *self = own_path();
	char *list;

	if (!preload || !self || xlmt_interposer_arming() == XLMT_INTERPOSER_NO_LIBXL)
		return;
	list = strdup(preload);
	if (list)
		preload_all_but(self, list);
	free(list);
}
