// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unregistering a watch waits for whatever xenwatch is in, which may be a stall.  Nobody but this
 * one work item does.
 */
#include <linux/atomic.h>
#include <linux/workqueue.h>

#include "mtwatch.h"

static DEFINE_SPINLOCK(lock);		/* the list */
static LIST_HEAD(list);
static atomic_t pending = ATOMIC_INIT(0);	/* on the list, or being unregistered */

static struct mtw_reap *next(void)
{
	struct mtw_reap *reap;

	spin_lock(&lock);
	reap = list_first_entry_or_null(&list, struct mtw_reap, list);
	if (reap)
		list_del(&reap->list);
	spin_unlock(&lock);
	return reap;
}

static void work_fn(struct work_struct *work)
{
	struct mtw_reap *reap;

	while ((reap = next())) {
		mtw_stock_unregister(reap->watch);
		reap->release(reap);
		if (atomic_dec_and_test(&pending))
			wake_up_all(&mtw_changed);
	}
}

static DECLARE_WORK(work, work_fn);

/**
 * mtw_reap() - have a registered watch of the module's own unregistered and released, some time
 * @reap: the watch and its release()
 */
void mtw_reap(struct mtw_reap *reap)
{
	atomic_inc(&pending);
	spin_lock(&lock);
	list_add_tail(&reap->list, &list);
	spin_unlock(&lock);
	queue_work(mtw_wq, &work);
}

/**
 * mtw_reaped() - is that done for all of them?
 *
 * Return: whether it is; mtw_changed is woken when it becomes true.
 */
bool mtw_reaped(void)
{
	return !atomic_read(&pending);
}
