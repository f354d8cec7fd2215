/* SPDX-License-Identifier: GPL-2.0-only */
/* Looking at all devices of a domain when an event could not be kept. */
#ifndef MTW_RESCAN_H
#define MTW_RESCAN_H

#include <linux/list.h>

int mtw_seen(struct list_head *seen, const char *path);
void mtw_seen_free(struct list_head *seen);
int mtw_rescan(unsigned int domid, struct list_head *seen);

#endif
