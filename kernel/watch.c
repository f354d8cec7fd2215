// SPDX-License-Identifier: GPL-2.0-only
/*
 * The drivers' watches.
 *
 * What a backend driver registers is replaced by a shadow: a watch of ours on the same node.  The
 * driver's own is not on the kernel's list, so that unregistering it waits for its domain only,
 * and not for xenwatch (see reap.c).  Watches from before the module are on the list already; their
 * functions are replaced ("adopted").
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "adopt.h"
#include "domain.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "path.h"
#include "probe.h"
#include "reap.h"
#include "run.h"
#include "watch.h"

static DEFINE_SPINLOCK(mtw_table_lock);	/* the table's writers; open */
static DEFINE_HASHTABLE(table, 10);
static bool open_;			/* new watches get a shadow */
static bool known_;			/* whose domains xenwatch may have events of */

struct mtw_watch *mtw_backends;
struct mtw_watch *mtw_frontends;

static void mtw_shadow_callback(struct xenbus_watch *shadow, const char *path, const char *token);
static bool mtw_shadow_will_handle(struct xenbus_watch *shadow, const char *path,
				   const char *token);
static bool mtw_adopted_will_handle(struct xenbus_watch *watch, const char *path,
				    const char *token);
static void mtw_adopted_callback(struct xenbus_watch *watch, const char *path, const char *token);
static void mtw_shadow_release(struct mtw_reap *reap);

/* Of a device that this domain uses, and another one or itself has the backend of. */
static bool mtw_watch_is_frontends(const struct xenbus_watch *watch)
{
	const char *last = strrchr(watch->node, '/');

	return *watch->node == '/' && !strcmp(last, "/state") &&
	       mtw_symbol_is(watch->callback, "backend_changed");
}

/*
 * Which device is it the other end's watch of?  Its node is the guest's, who need not be the one
 * that the device's directory names.  All watches of a device belong to one thread.
 */
static const char *mtw_watch_device(const struct xenbus_watch *watch)
{
	if (!mtw_watch_is_frontends(watch) &&
	    (*watch->node != '/' || !mtw_symbol_is(watch->callback, "frontend_changed")))
		return NULL;
	return container_of(watch, struct xenbus_device, otherend_watch)->nodename;
}

/**
 * mtw_watch_is_global() - is this the watch of all backends, or of all devices of this domain?
 * @watch: an eligible one
 *
 * Return: whether it is.
 */
bool mtw_watch_is_global(const struct xenbus_watch *watch)
{
	return !strcmp(watch->node, "backend") || !strcmp(watch->node, "device");
}

/*
 * Whose thread is it for?  The devices that this domain uses are domain 0's, as the backends that
 * it has for itself are: but only together with the watch by which they come and go.
 */
static unsigned int mtw_watch_place(const struct xenbus_watch *watch)
{
	if (mtw_symbol_is(watch->callback, "watch_fired"))
		return MTW_USERS;
	if (!strcmp(watch->node, "device"))
		return mtw_symbol_is(watch->callback, "frontend_changed") ? 0 : MTW_NONE;
	if (mtw_watch_is_frontends(watch))
		return READ_ONCE(mtw_frontends) ? 0 : MTW_NONE;
	return mtw_domid_of(mtw_watch_device(watch) ?: watch->node);
}

/**
 * mtw_watch_eligible() - is this a watch of a device, of all backends, or of user space?
 * @watch: any watch
 * @domid: set to the device's domain; MTW_NONE for the watch of all backends; MTW_USERS for one of
 *	user space, of /dev/xen/xenbus, which is only taken when it is registered
 *
 * All others are left to xenwatch: no guest needs them, and none is known to be safe in two places
 * at once, as it would be when xenwatch is stuck in it.
 *
 * Return: whether it is, and is not ours already.
 */
bool mtw_watch_eligible(const struct xenbus_watch *watch, unsigned int *domid)
{
	if (!watch->node || !watch->callback || watch->will_handle == mtw_adopted_will_handle ||
	    within_module((unsigned long)watch->callback, THIS_MODULE))
		return false;
	*domid = mtw_watch_place(watch);
	return *domid != MTW_NONE || !strcmp(watch->node, "backend");
}

static void mtw_watch_release(struct kref *kref)
{
	struct mtw_watch *mw = container_of(kref, struct mtw_watch, kref);

	kfree_rcu(mw, rcu);
}

void mtw_watch_get(struct mtw_watch *mw)
{
	kref_get(&mw->kref);
}

void mtw_watch_put(struct mtw_watch *mw)
{
	kref_put(&mw->kref, mtw_watch_release);
}

static struct mtw_watch *mtw_watch_new(struct xenbus_watch *orig, unsigned int domid, gfp_t gfp)
{
	const char *device = mtw_watch_device(orig) ?: orig->node;
	size_t size = strlen(orig->node) + 1, device_size = strlen(device) + 1;
	struct mtw_watch *mw = kzalloc(sizeof(*mw) + size + device_size, gfp);

	if (!mw)
		return NULL;
	memcpy(mw->node, orig->node, size);
	mw->device = memcpy(mw->node + size, device, device_size);
	snprintf(mw->token, sizeof(mw->token), "%lX", (long)orig);
	mw->orig = orig;
	mw->callback = orig->callback;
	mw->domid = domid;
	mw->global = domid != MTW_USERS && mtw_watch_is_global(orig);
	mutex_init(&mw->giving);
	spin_lock_init(&mw->lock);
	kref_init(&mw->kref);
	mw->event.watch = mw;
	mw->event.path = mw->node;
	mw->shadow.node = mw->node;
	mw->shadow.will_handle = mtw_shadow_will_handle;
	mw->shadow.callback = mtw_shadow_callback;
	mw->reap.watch = &mw->shadow;
	mw->reap.release = mtw_shadow_release;
	return mw;
}

/* In an RCU section, or with mtw_table_lock held. */
static struct mtw_watch *mtw_watch_find(const struct xenbus_watch *orig)
{
	struct mtw_watch *mw;

	hash_for_each_possible_rcu(table, mw, hnode, (unsigned long)orig,
				   lockdep_is_held(&mtw_table_lock))
		if (mw->orig == orig)
			return mw;
	return NULL;
}

static struct mtw_watch *mtw_watch_find_get(const struct xenbus_watch *orig)
{
	struct mtw_watch *mw;

	rcu_read_lock();
	mw = mtw_watch_find(orig);
	if (mw && !kref_get_unless_zero(&mw->kref))
		mw = NULL;
	rcu_read_unlock();
	return mw;
}

static bool mtw_watch_insert(struct mtw_watch *mw)
{
	bool ok;

	spin_lock(&mtw_table_lock);
	ok = open_;
	if (ok)
		hash_add_rcu(table, &mw->hnode, (unsigned long)mw->orig);
	spin_unlock(&mtw_table_lock);
	return ok;
}

/* Whoever gets true has the table's reference now. */
static bool mtw_watch_take_out(struct mtw_watch *mw)
{
	bool was;

	spin_lock(&mtw_table_lock);
	was = !hlist_unhashed(&mw->hnode);
	if (was) {
		hlist_del_init_rcu(&mw->hnode);
		if (mw == READ_ONCE(mtw_backends))
			WRITE_ONCE(mtw_backends, NULL);
		if (mw == READ_ONCE(mtw_frontends))
			WRITE_ONCE(mtw_frontends, NULL);
	}
	spin_unlock(&mtw_table_lock);
	return was;
}

/* Upon return no event is queued any more: dropped, not given to xenwatch. */
static void mtw_watch_end(struct mtw_watch *mw, bool *how)
{
	spin_lock(&mw->lock);
	*how = true;
	spin_unlock(&mw->lock);
}

/* ------------------------------------------------------------------- events */

static unsigned int mtw_watch_domid(const struct mtw_watch *mw, const char *path)
{
	return mw->domid != MTW_NONE ? mw->domid : mtw_backend_domid(path);
}

/* The xenbus thread, watches_lock held.  true: nothing for xenwatch. */
static bool mtw_watch_take(struct mtw_watch *mw, const char *path)
{
	unsigned int domid = mtw_watch_domid(mw, path);
	bool taken;

	spin_lock(&mw->lock);
	taken = mw->dead || mw->returned || (domid != MTW_NONE && mtw_dom_take(mw, domid, path));
	spin_unlock(&mw->lock);
	return taken;
}

static bool mtw_shadow_will_handle(struct xenbus_watch *shadow, const char *path, const char *token)
{
	struct mtw_watch *mw = container_of(shadow, struct mtw_watch, shadow);

	/*
	 * One pending event says it all, and a guest must not make more (XSA-349).  The drivers'
	 * own will_handle(), which is not asked, says just that in all of Linux: it is
	 * frontend_will_handle().  User space is told of each path.
	 */
	return !mtw_watch_take(mw, path) && (mtw_watch_is_users(mw) || !shadow->nr_pending);
}

static bool mtw_adopted_will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct mtw_watch *mw;
	bool taken;

	/* @watch is on the kernel's list: it is in the table while this is its function. */
	rcu_read_lock();
	mw = mtw_watch_find(watch);
	taken = mw && mtw_watch_take(mw, path);
	rcu_read_unlock();
	if (taken)
		return false;
	return !mw || !mw->will_handle || mw->will_handle(watch, path, token);
}

void mtw_watch_call(struct mtw_watch *mw, const char *path)
{
	mw->callback(mw->orig, path, mw->token);
}

static void mtw_xenwatch_begin(struct mtw_watch *mw, const char *path)
{
	spin_lock(&mtw_xenwatch.lock);
	mtw_run_begin(&mtw_xenwatch, mw, mtw_watch_domid(mw, path), path);
	spin_unlock(&mtw_xenwatch.lock);
}

/* Ends with a reference, as the callback may unregister the watch right here. */
static void mtw_xenwatch_call(struct mtw_watch *mw, const char *path)
{
	mtw_watch_call(mw, path);
	mtw_run_end(&mtw_xenwatch);
	mtw_watch_put(mw);
}

/*
 * xenwatch: an event of a domain without a thread.  What came before user space's watch was given
 * back is older than all that the kernel has of that.
 */
static void mtw_shadow_callback(struct xenbus_watch *shadow, const char *path, const char *token)
{
	struct mtw_watch *mw = container_of(shadow, struct mtw_watch, shadow);
	bool alive;

	spin_lock(&mw->lock);
	alive = !mw->dead && (!mw->returned || mtw_watch_is_users(mw));
	if (alive) {
		mtw_watch_get(mw);
		mtw_xenwatch_begin(mw, path);
	}
	spin_unlock(&mw->lock);
	if (alive)
		mtw_xenwatch_call(mw, path);
}

/* An event from before the module, of a domain that has a thread by now. */
static bool mtw_watch_take_back(struct mtw_watch *mw, const char *path)
{
	unsigned int domid = mtw_watch_domid(mw, path);
	bool taken;

	spin_lock(&mw->lock);
	taken = !mw->dead && !mw->returned && domid != MTW_NONE &&
		mtw_dom_take_back(mw, domid, path);
	spin_unlock(&mw->lock);
	return taken;
}

/* The same.  Until this returns, unregistering @watch waits for xenwatch. */
static void mtw_adopted_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
	void (*callback)(struct xenbus_watch *watch, const char *path, const char *token);
	struct mtw_watch *mw;

	mtw_come_in();
	spin_lock(&mtw_table_lock);
	mw = mtw_watch_find(watch);
	if (mw)
		mtw_watch_get(mw);
	callback = watch->callback;	/* the driver's again, if it has just been given back */
	spin_unlock(&mtw_table_lock);
	if (mw && mtw_watch_take_back(mw, path)) {
		mtw_watch_put(mw);
	} else if (mw) {
		mtw_xenwatch_begin(mw, path);
		mtw_xenwatch_call(mw, path);
	} else {
		callback(watch, path, token);
	}
	mtw_go_out();
}

static void mtw_shadow_release(struct mtw_reap *reap)
{
	mtw_watch_put(container_of(reap, struct mtw_watch, reap));
}

/* ------------------------------------------------ what drivers call, via hook.c */

static void mtw_watch_restore(struct mtw_watch *mw)
{
	lockdep_assert_held(&mtw_table_lock);
	WRITE_ONCE(mw->orig->will_handle, mw->will_handle);
	WRITE_ONCE(mw->orig->callback, mw->callback);
}

/* An adopted watch that is off the kernel's list. */
static void mtw_watch_forget(struct mtw_watch *mw)
{
	spin_lock(&mtw_table_lock);
	mtw_watch_restore(mw);
	spin_unlock(&mtw_table_lock);
	mtw_watch_end(mw, &mw->dead);
	if (mtw_watch_take_out(mw))
		mtw_watch_put(mw);
	mtw_dom_flush(mw);
	mtw_watch_put(mw);
}

/* While the kernel asks xenstored, the watch is on its list and may be adopted. */
static int mtw_watch_pass_on(struct xenbus_watch *watch)
{
	int err = mtw_stock_register(watch);
	struct mtw_watch *mw = err ? mtw_watch_find_get(watch) : NULL;

	if (mw)
		mtw_watch_forget(mw);
	return err;
}

/**
 * mtw_watch_register() - in place of register_xenbus_watch()
 * @watch: a driver's, user space's or anybody's
 *
 * User space's is taken when there may be threads: else xenwatch would have its first event, and
 * all of user space would wait for that.
 *
 * Return: what the kernel says, or -ENOMEM.
 */
int mtw_watch_register(struct xenbus_watch *watch)
{
	struct mtw_watch *mw;
	unsigned int domid;
	int err;

	if (!READ_ONCE(open_) || !mtw_watch_eligible(watch, &domid) ||
	    (domid == MTW_USERS ? !mtw_dom_is_open() : mtw_watch_is_global(watch)))
		return mtw_watch_pass_on(watch);
	mw = mtw_watch_new(watch, domid, GFP_NOIO | __GFP_HIGH);
	if (!mw)
		return -ENOMEM;
	INIT_LIST_HEAD(&watch->list);
	watch->nr_pending = 0;
	mutex_lock(&mw->giving);
	if (!mtw_watch_insert(mw)) {
		mutex_unlock(&mw->giving);
		mtw_watch_put(mw);
		return mtw_watch_pass_on(watch);
	}
	mtw_watch_get(mw);		/* whoever unregisters it may be faster than our unlock */
	err = mtw_stock_register(&mw->shadow);
	if (err) {
		mtw_watch_end(mw, &mw->dead);
		mtw_watch_take_out(mw);
	}
	mutex_unlock(&mw->giving);
	if (err) {
		mtw_dom_flush(mw);
		mtw_watch_put(mw);
	}
	mtw_watch_put(mw);
	return err;
}

/*
 * May xenwatch be in a callback of this domain that is not in mtw_xenwatch?  Of a watch that has
 * been given back already, or of one that was not ours when the callback began.
 */
static bool mtw_unknown_callback(unsigned int domid)
{
	bool whole;

	spin_lock(&mtw_table_lock);
	whole = open_ && known_;
	spin_unlock(&mtw_table_lock);
	return !whole || (mtw_dom_is_passed(domid) && !mtw_adopt_settled());
}

/* What unregister_xenbus_watch() has its caller wait for, of this domain. */
static void mtw_leave_domain(struct mtw_watch *mw)
{
	mtw_dom_flush(mw);
	mtw_run_wait(&mtw_xenwatch, mw->domid);
	if (mtw_unknown_callback(mw->domid))
		mtw_reap_now(&mw->reap);	/* waits for any callback of xenwatch */
	else
		mtw_reap(&mw->reap, mw->domid);
}

/**
 * mtw_watch_unregister() - in place of unregister_xenbus_watch()
 * @watch: a driver's, user space's or anybody's
 *
 * Upon return no callback of @watch will run, and none of its domain is running, but for the one
 * that calls this.
 */
void mtw_watch_unregister(struct xenbus_watch *watch)
{
	struct mtw_watch *mw = mtw_watch_find_get(watch);
	bool ours, twice, native;

	if (!mw || mw->adopted) {
		mtw_stock_unregister(watch);
		mw = mw ?: mtw_watch_find_get(watch);	/* it may just have been adopted */
		if (mw)
			mtw_watch_forget(mw);
		return;
	}
	mutex_lock(&mw->giving);
	twice = mw->dead;
	native = mw->returned;
	mtw_watch_end(mw, &mw->dead);
	ours = mtw_watch_take_out(mw);
	mutex_unlock(&mw->giving);
	if (native) {			/* the kernel has it again */
		mtw_stock_unregister(watch);
		if (ours)
			mtw_reap(&mw->reap, MTW_NONE);
	} else if (ours) {
		mtw_leave_domain(mw);
	} else {
		WARN_ONCE(twice, "watch on %s unregistered twice\n", mw->node);
	}
	mtw_watch_put(mw);
}

/* ------------------------------------------------------------- coming and going */

/**
 * mtw_watch_open() - give new watches a shadow, or leave them to the kernel
 * @open: which
 */
void mtw_watch_open(bool open)
{
	spin_lock(&mtw_table_lock);
	WRITE_ONCE(open_, open);
	known_ = false;
	spin_unlock(&mtw_table_lock);
}

/** mtw_watch_known() - the domains whose events xenwatch may have are marked from now on */
void mtw_watch_known(void)
{
	spin_lock(&mtw_table_lock);
	known_ = true;
	spin_unlock(&mtw_table_lock);
}

/**
 * mtw_watch_adopt() - take a watch that is on the kernel's list; watches_lock held
 * @watch: an eligible one
 * @domid: what mtw_watch_eligible() said
 *
 * Return: 0, or -ENOMEM.
 */
int mtw_watch_adopt(struct xenbus_watch *watch, unsigned int domid)
{
	struct mtw_watch *mw = mtw_watch_new(watch, domid, GFP_ATOMIC | __GFP_NOWARN);

	if (!mw)
		return -ENOMEM;
	mw->adopted = true;
	mw->will_handle = watch->will_handle;
	if (!mtw_watch_insert(mw)) {
		mtw_watch_put(mw);
		return -EBUSY;
	}
	WRITE_ONCE(watch->callback, mtw_adopted_callback);
	WRITE_ONCE(watch->will_handle, mtw_adopted_will_handle);
	if (domid == MTW_NONE)
		WRITE_ONCE(mtw_backends, mw);
	else if (mw->global)
		WRITE_ONCE(mtw_frontends, mw);
	return 0;
}

/**
 * mtw_watch_restore_adopted() - give adopted watches back; watches_lock held
 *
 * Under that lock, as the kernel reads the pointer twice: is it there, and what is it.
 */
void mtw_watch_restore_adopted(void)
{
	struct mtw_watch *mw;
	int bucket;

	spin_lock(&mtw_table_lock);
	hash_for_each(table, bucket, mw, hnode)
		if (mw->adopted)
			mtw_watch_restore(mw);
	spin_unlock(&mtw_table_lock);
}

static struct mtw_watch *mtw_watch_any(bool adopted, bool back)
{
	struct mtw_watch *mw;
	int bucket;

	spin_lock(&mtw_table_lock);
	hash_for_each(table, bucket, mw, hnode)
		if (mw->adopted == adopted && mw->back == back) {
			kref_get(&mw->kref);
			spin_unlock(&mtw_table_lock);
			return mw;
		}
	spin_unlock(&mtw_table_lock);
	return NULL;
}

/** mtw_watch_forget_adopted() - after mtw_watch_restore_adopted(): they are not ours any more */
void mtw_watch_forget_adopted(void)
{
	struct mtw_watch *mw;

	while ((mw = mtw_watch_any(true, false))) {
		if (mtw_watch_take_out(mw))
			mtw_watch_put(mw);
		mtw_watch_put(mw);
	}
}

/*
 * The driver's watch goes onto the kernel's list, the shadow off it.  No thread has events of its
 * domain any more, so both are xenwatch's while they are both there.  What the shadow still has
 * there is dropped: the new watch gets an event of its own, after all that has happened so far.
 * But user space has to be told the paths: there the shadow stays until xenwatch has come by.
 */
static void mtw_watch_part(struct mtw_watch *mw)
{
	if (mtw_watch_is_users(mw)) {
		spin_lock(&mtw_table_lock);
		mw->back = true;
		spin_unlock(&mtw_table_lock);
	} else if (mtw_watch_take_out(mw)) {
		mtw_reap(&mw->reap, MTW_NONE);
	}
}

static int mtw_watch_give_back(struct mtw_watch *mw)
{
	int err = 0;

	mutex_lock(&mw->giving);
	if (!mw->dead && !mw->returned) {
		err = mtw_stock_register(mw->orig);
		if (!err) {
			mtw_watch_end(mw, &mw->returned);
			mtw_watch_part(mw);
		}
	}
	mutex_unlock(&mw->giving);
	return err;
}

/**
 * mtw_watch_return_all() - give all watches with a shadow back; new ones are not made any more
 *
 * Return: 0, or the error of the first one that the kernel did not take.
 */
int mtw_watch_return_all(void)
{
	struct mtw_watch *mw;
	int err = 0;

	while (!err && (mw = mtw_watch_any(false, false))) {
		err = mtw_watch_give_back(mw);
		mtw_watch_put(mw);
	}
	return err;
}

/** mtw_watch_let_go() - after mtw_watch_return_all(): have xenwatch come by, where that matters */
void mtw_watch_let_go(void)
{
	struct mtw_watch *mw = mtw_watch_any(false, true);
	u64 ticket;

	if (!mw)
		return;
	mtw_watch_put(mw);
	ticket = mtw_probe_ticket();
	wait_event(mtw_changed, mtw_probe_passed(ticket));
	while ((mw = mtw_watch_any(false, true))) {
		if (mtw_watch_take_out(mw))
			mtw_reap(&mw->reap, MTW_NONE);
		mtw_watch_put(mw);
	}
}

/**
 * mtw_watch_domids() - all domains that have devices
 * @domids: a bitmap to add them to
 */
void mtw_watch_domids(unsigned long *domids)
{
	struct mtw_watch *mw;
	int bucket;

	rcu_read_lock();
	hash_for_each_rcu(table, bucket, mw, hnode)
		if (mw->domid < MTW_DOMIDS)
			set_bit(mw->domid, domids);
	rcu_read_unlock();
}

/**
 * mtw_watch_each() - all nodes that a domain's devices watch, or the devices' own
 * @domid: the domain
 * @see: called with each; must not sleep
 * @data: for @see
 *
 * Return: the first result of @see that is not 0, or 0.
 */
int mtw_watch_each(unsigned int domid, int (*see)(const char *node, void *data), void *data)
{
	struct mtw_watch *mw;
	int bucket, err = 0;

	rcu_read_lock();
	hash_for_each_rcu(table, bucket, mw, hnode) {
		if (mw->domid != domid || mw->global)
			continue;
		err = see(mw->device, data);
		if (err)
			break;
	}
	rcu_read_unlock();
	return err;
}
