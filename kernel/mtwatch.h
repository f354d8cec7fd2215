/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xen_mtwatch - a xenwatch thread of its own for every domain.
 *
 * An event's way (what the stock kernel does is in brackets):
 *
 *   [xenbus thread: xs_watch_msg(), watches_lock held]
 *     -> will_handle() of a shadow watch        watch.c
 *        -> the domain's queue and thread       domain.c
 *           -> its turn                         turn.c
 *           -> the driver's callback
 *        -> or, for a domain without a thread:
 *           [xenwatch] -> the shadow's callback -> the driver's callback
 *
 * Locks, outermost first; each may be taken with those above it held:
 *
 *   mtw_state_lock     mutex  main.c    whether the module is on
 *   mtw_watch.giving   mutex  watch.c   returning a watch to the kernel | unregistering it
 *   watches_lock       stock            held around every will_handle()
 *   mtw_watch.lock     spin   watch.c   the end of a watch | an event of it
 *   mtw_dom_lock       spin   domain.c  the table of domains, who has events in xenwatch
 *   mtw_run.lock       spin   run.c     a domain's queue and state, what its thread is in
 *
 *   mtw_table_lock     spin   watch.c   a leaf: the table of watches
 *   mtw_reap_lock      spin   reap.c    a leaf: what waits to be unregistered
 *   mtw_probe_lock     spin   probe.c   a leaf: the probe and its tickets
 *   mtw_turn_lock      spin   turn.c    a leaf: whose turn it is
 *
 * All of them are taken in process context only.
 */
#ifndef MTWATCH_H
#define MTWATCH_H

#include <xen/interface/xen.h>

#define MTW_VERSION	"0.1"
#define MTW_NODE	"mtwatch"
#define MTW_DOMIDS	DOMID_FIRST_RESERVED	/* domids are below this */
#define MTW_USERS	MTW_DOMIDS		/* in place of one: watches of /dev/xen/xenbus */
#define MTW_PLACES	(MTW_DOMIDS + 1)	/* who may have a thread is below this */
#define MTW_NONE	MTW_PLACES		/* no domid, or one of each event's own */
#define MTW_PATH_LEN	96			/* of a path kept for statistics */
#define MTW_NAME_LEN	64			/* of a callback's name kept for statistics */
#define MTW_THREAD_LEN	24			/* of a thread's name */

#endif
