// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unregistering a watch waits for whatever xenwatch is in, which may be a stall.  This work item
 * does that for all; only who has far too many of them waits as well.
 */
#include <linux/atomic.h>
#include <linux/workqueue.h>

#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "reap.h"

/*
 * So many watches of a domain may wait for xenwatch here.  A guest can have its backends drop and
 * take watches without end, each of which stays with the kernel and with xenstored until then.
 */
#define PER_DOMAIN	200

static DEFINE_SPINLOCK(mtw_reap_lock);		/* these two */
static LIST_HEAD(list);
static u8 waiting[MTW_DOMIDS];		/* on the list, of each domain */
static atomic_t pending = ATOMIC_INIT(0);	/* on the list, or being unregistered */

static struct mtw_reap *mtw_reap_next(void)
{
	struct mtw_reap *reap;

	spin_lock(&mtw_reap_lock);
	reap = list_first_entry_or_null(&list, struct mtw_reap, list);
	if (reap) {
		list_del(&reap->list);
		if (reap->domid < MTW_DOMIDS)
			waiting[reap->domid]--;
	}
	spin_unlock(&mtw_reap_lock);
	return reap;
}

static void mtw_reap_finish(struct mtw_reap *reap)
{
	mtw_stock_unregister(reap->watch);
	reap->release(reap);
	if (atomic_dec_and_test(&pending))
		wake_up_all(&mtw_changed);
}

static void mtw_reap_fn(struct work_struct *work)
{
	struct mtw_reap *reap;

	while ((reap = mtw_reap_next()))
		mtw_reap_finish(reap);
}

static DECLARE_WORK(reap_work, mtw_reap_fn);

/**
 * mtw_reap() - have a registered watch of the module's own unregistered and released, some time
 * @reap: the watch and its release()
 * @domid: of whose many such watches the caller waits for the rest, as without the module; or
 *	MTW_NONE
 */
void mtw_reap(struct mtw_reap *reap, unsigned int domid)
{
	bool full;

	atomic_inc(&pending);
	reap->domid = domid;
	spin_lock(&mtw_reap_lock);
	full = domid < MTW_DOMIDS && waiting[domid] >= PER_DOMAIN;
	if (!full) {
		list_add_tail(&reap->list, &list);
		if (domid < MTW_DOMIDS)
			waiting[domid]++;
	}
	spin_unlock(&mtw_reap_lock);
	if (full)
		mtw_reap_finish(reap);
	else
		queue_work(mtw_wq, &reap_work);
}

/**
 * mtw_reap_now() - the same at once, with the wait for xenwatch
 * @reap: the watch and its release()
 */
void mtw_reap_now(struct mtw_reap *reap)
{
	atomic_inc(&pending);
	mtw_reap_finish(reap);
}

/**
 * mtw_reaped() - is that done for all of them?
 *
 * Return: whether it is; mtw_changed is woken when it becomes true.
 */
bool mtw_reaped(void)
{
	return !atomic_read_acquire(&pending);
}
