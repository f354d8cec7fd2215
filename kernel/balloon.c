// SPDX-License-Identifier: GPL-2.0-only
/*
 * memory/target: how much memory this domain is to have.
 *
 * A toolstack that makes room for a new guest writes it and waits.  The balloon driver's watch is
 * xenwatch's, and stays so.  But when xenwatch is stuck no guest could be created, so the target is
 * set from here as well, when an event comes.
 *
 * Two who do that do not harm each other: setting it takes no lock, and sysfs does it next to
 * xenwatch in any kernel.  Each reads the node after its event.  So the last that each has set is
 * the last value there was, in whichever order they do it.  In dom0 that is the target itself, to
 * which the balloon driver adds nothing.
 */
#include <linux/mm.h>
#include <linux/workqueue.h>
#include <xen/balloon.h>

#include "balloon.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"

#if IS_ENABLED(CONFIG_XEN_BALLOON)
static bool watching;
static bool begun;	/* the event that every new watch gets has come; the xenbus thread's */

static void mtw_balloon_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(set_work, mtw_balloon_fn);

static void mtw_balloon_fn(struct work_struct *work)
{
	unsigned long long kib;
	int n = xenbus_scanf(XBT_NIL, "memory", "target", "%llu", &kib);

	if (n == 1)
		balloon_set_new_target(kib >> (PAGE_SHIFT - 10));
	else if (n == -ENOMEM)
		queue_delayed_work(mtw_wq, &set_work, HZ);
}

/* What was there when the module came is xenwatch's, or has been overruled by sysfs. */
static bool mtw_balloon_will_handle(struct xenbus_watch *watch, const char *path,
				    const char *token)
{
	if (begun)
		mod_delayed_work(mtw_wq, &set_work, 0);
	begun = true;
	return false;		/* nothing for xenwatch */
}

static void mtw_balloon_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static struct xenbus_watch target_watch = {
	.node = "memory/target",
	.will_handle = mtw_balloon_will_handle,
	.callback = mtw_balloon_callback,
};

/**
 * mtw_balloon_start() - follow the target
 *
 * Return: 0, or what xenstored says.
 */
int mtw_balloon_start(void)
{
	int err;

	begun = false;
	err = mtw_stock_register(&target_watch);
	watching = !err;
	return err;
}

/** mtw_balloon_stop() - not any more; waits for xenwatch */
void mtw_balloon_stop(void)
{
	if (watching)
		mtw_stock_unregister(&target_watch);
	watching = false;
	cancel_delayed_work_sync(&set_work);
}
#else
int mtw_balloon_start(void)
{
	return 0;
}

void mtw_balloon_stop(void)
{
}
#endif
