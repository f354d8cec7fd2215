/* SPDX-License-Identifier: GPL-2.0-only */
/* Unregistering watches without waiting for it. */
#ifndef MTW_REAP_H
#define MTW_REAP_H

#include <linux/list.h>
#include <linux/types.h>
#include <xen/xenbus.h>

/**
 * struct mtw_reap - a watch of the module's own, to be unregistered without waiting for it
 * @list: on the reaper's list
 * @watch: what to unregister; this may wait for xenwatch for as long as that is stalled
 * @release: frees what contains this, afterwards
 * @domid: among whose it counts, as a domain's are limited; or 0
 */
struct mtw_reap {
	struct list_head list;
	struct xenbus_watch *watch;
	void (*release)(struct mtw_reap *reap);
	unsigned int domid;
};

void mtw_reap(struct mtw_reap *reap, unsigned int domid);
void mtw_reap_now(struct mtw_reap *reap);
bool mtw_reaped(void);

#endif
