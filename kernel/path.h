/* SPDX-License-Identifier: GPL-2.0-only */
/* What a path says. */
#ifndef MTW_PATH_H
#define MTW_PATH_H

#include <linux/types.h>

unsigned int mtw_parse_domid(const char *s, const char **end);
unsigned int mtw_domid_of(const char *path);
unsigned int mtw_backend_domid(const char *path);
int mtw_device_len(const char *path);
bool mtw_symbol_is(const void *address, const char *name);

#endif
