// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches that were there before the module.
 *
 * The kernel's list of them and its lock have no name that a module could use.  But a watch of
 * ours is an element of that list, and its will_handle() is called with the lock held.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "adopt.h"
#include "domain.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "node.h"
#include "path.h"
#include "probe.h"
#include "reap.h"
#include "watch.h"

/**
 * struct mtw_look - one look at all of the kernel's watches
 * @watch: ours, registered for this
 * @reap: its way out
 * @see: called once with each watch but ours, until it returns an error
 * @err: what came of it
 * @looked: it was called
 * @done: for whoever asked
 */
struct mtw_look {
	struct xenbus_watch watch;
	struct mtw_reap reap;
	int (*see)(struct xenbus_watch *watch);
	int err;
	bool looked;
	struct completion done;
};

static bool partial = true;	/* the devices' watches are not ours yet */
static u64 since_all;		/* the probe that xenwatch gets after that; see @partial */
static unsigned int adopted;
static unsigned int globals;	/* of these: of all backends, of this domain's devices */
static bool stopped;		/* nobody wants to know the highest domid any more */

static void mtw_adopt_fn(struct work_struct *work);
static void mtw_known_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(adopt_work, mtw_adopt_fn);
static DECLARE_DELAYED_WORK(known_work, mtw_known_fn);

/* The list's head is the one element which is no watch. */
static struct list_head *mtw_find_head(struct list_head *own)
{
	struct list_head *p, *head = NULL;

	for (p = own->next; p != own; p = p->next) {
		if (!mtw_symbol_is(p, "watches"))
			continue;
		if (head)
			return NULL;
		head = p;
	}
	return head;
}

static bool mtw_look_will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct mtw_look *look = container_of(watch, struct mtw_look, watch);
	struct xenbus_watch *other;
	struct list_head *head;

	if (look->looked)
		return false;
	look->looked = true;
	head = mtw_find_head(&watch->list);
	if (!head)
		look->err = -ENODEV;
	else
		list_for_each_entry(other, head, list) {
			if (other == watch)
				continue;
			look->err = look->see(other);
			if (look->err)
				break;
		}
	complete(&look->done);
	return false;
}

static void mtw_look_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static void mtw_look_release(struct mtw_reap *reap)
{
	kfree(container_of(reap, struct mtw_look, reap));
}

/* Waits for xenstored, not for xenwatch. */
static int mtw_look_at_all(int (*see)(struct xenbus_watch *watch))
{
	struct mtw_look *look = kzalloc(sizeof(*look), GFP_KERNEL);
	int err;

	if (!look)
		return -ENOMEM;
	look->watch.node = MTW_NODE;
	look->watch.will_handle = mtw_look_will_handle;
	look->watch.callback = mtw_look_callback;
	look->reap.watch = &look->watch;
	look->reap.release = mtw_look_release;
	look->see = see;
	init_completion(&look->done);
	err = mtw_stock_register(&look->watch);
	if (err) {
		kfree(look);
		return err;
	}
	wait_for_completion(&look->done);
	err = look->err;
	mtw_reap(&look->reap, MTW_NONE);
	return err;
}

/* The 2018 patch, built in and on, watches the nodes itself. */
static bool mtw_is_rival(const struct xenbus_watch *watch)
{
	return watch->node && !strcmp(watch->node, MTW_NODE) && watch->callback &&
	       !within_module((unsigned long)watch->callback, THIS_MODULE) &&
	       !mtw_symbol_is(watch->callback, "watch_fired");
}

static int mtw_see_nothing(struct xenbus_watch *watch)
{
	return 0;
}

static int mtw_see_global(struct xenbus_watch *watch)
{
	unsigned int domid;
	int err;

	if (mtw_is_rival(watch)) {
		pr_err("refused: this kernel has threads for domains already (%ps watches %s)\n",
		       watch->callback, MTW_NODE);
		return -EBUSY;	/* not EEXIST: modprobe takes that for success */
	}
	if (!mtw_watch_eligible(watch, &domid) || domid == MTW_USERS)
		return 0;
	if (!mtw_watch_is_global(watch)) {
		mtw_dom_mark_passed(domid);	/* xenwatch may have events of it */
		return 0;
	}
	err = mtw_watch_adopt(watch, domid);
	if (!err) {
		globals++;
		WRITE_ONCE(adopted, adopted + 1);
	}
	return err;
}

static int mtw_see_device(struct xenbus_watch *watch)
{
	unsigned int domid;
	int err;

	if (!mtw_watch_eligible(watch, &domid) || mtw_watch_is_global(watch) || domid == MTW_USERS)
		return 0;
	mtw_dom_mark_passed(domid);
	err = mtw_watch_adopt(watch, domid);
	if (!err)
		WRITE_ONCE(adopted, adopted + 1);
	return err;
}

static int mtw_see_restore(struct xenbus_watch *watch)
{
	mtw_watch_restore_adopted();
	return 1;		/* once is enough */
}

/**
 * mtw_adopt_global() - take the watch of all backends, and that of all devices of this domain
 *
 * New devices are ours from now on.
 *
 * Return: 0; -EBUSY next to the 2018 patch; -ENODEV when this is no kernel that we know;
 * -ENOMEM, or what xenstored says.
 */
int mtw_adopt_global(void)
{
	int err, tries;

	WRITE_ONCE(partial, true);
	WRITE_ONCE(adopted, 0);
	globals = 0;
	for (tries = 0; tries < 50; tries++) {
		err = mtw_look_at_all(mtw_see_global);
		if (err || READ_ONCE(mtw_backends))
			break;
		msleep(100);		/* xenstore has come up just now, and that watch will */
	}
	if (err == -ENODEV || (!err && !READ_ONCE(mtw_backends))) {
		pr_err("refused: the kernel's watches are not where they are expected\n");
		return -ENODEV;
	}
	return err;
}

/* A reply of xenstored has 4096 bytes at most, and the kernel has no other way. */
static int mtw_ask_downwards(const char *dir, unsigned int floor)
{
	unsigned int domid;
	char name[12];
	int there;

	for (domid = MTW_DOMIDS - 1; domid > floor; domid--) {
		if (READ_ONCE(stopped))
			return -EINTR;
		snprintf(name, sizeof(name), "%u", domid);
		there = mtw_node_exists(dir, name);
		if (there)
			return there < 0 ? there : domid;
	}
	return floor;
}

/**
 * mtw_highest_in() - the highest domid that has a node
 * @dir: below which node
 * @floor: what is returned at least
 * @may_ask: ask for each when there are too many to be listed, which can take a minute
 *
 * Return: the domid; -E2BIG when that would have been needed, or what else xenstored says.
 */
static int mtw_highest_in(const char *dir, unsigned int floor, bool may_ask)
{
	unsigned int i, domid, top = floor, n = 0;
	const char *end;
	char **domids;

	domids = xenbus_directory(XBT_NIL, dir, "", &n);
	if (domids == ERR_PTR(-E2BIG) && may_ask)
		return mtw_ask_downwards(dir, floor);
	if (IS_ERR(domids))
		return PTR_ERR(domids) == -ENOENT ? floor : PTR_ERR(domids);
	for (i = 0; i < n; i++) {
		domid = mtw_parse_domid(domids[i], &end);
		if (domid < MTW_DOMIDS)
			top = max(top, domid);
	}
	kfree(domids);
	return top;
}

static int mtw_highest_backend(unsigned int floor, bool may_ask)
{
	unsigned int i, n = 0;
	int top = floor;
	char dir[80];
	char **types;

	types = xenbus_directory(XBT_NIL, "backend", "", &n);
	if (IS_ERR(types))
		return PTR_ERR(types) == -ENOENT ? floor : PTR_ERR(types);
	for (i = 0; i < n && top >= 0; i++) {
		snprintf(dir, sizeof(dir), "backend/%s", types[i]);
		top = mtw_highest_in(dir, top, may_ask);
	}
	kfree(types);
	return top;
}

static int mtw_highest(bool may_ask)
{
	int top = mtw_highest_in("/local/domain", 0, may_ask);

	if (top >= 0)
		top = mtw_highest_in(MTW_NODE, top, may_ask);
	if (top >= 0)
		top = mtw_highest_backend(top, may_ask);
	return top;
}

static void mtw_known_fn(struct work_struct *unused)
{
	static unsigned int tries;	/* in a row that failed */
	int top = mtw_highest(true);

	if (top < 0 && READ_ONCE(stopped))
		return;
	if (top < 0) {
		if (mtw_is_told(&tries))
			pr_warn("cannot find the highest domid (%d): it is tried again every second\n",
				top);
		queue_delayed_work(mtw_wq, &known_work, HZ);
		return;
	}
	tries = 0;
	mtw_dom_mark_passed_up_to(top);
	mtw_node_ask_all(0);		/* for those that got no thread meanwhile */
}

/**
 * mtw_adopt_known() - xenwatch may have events of domains that watch nothing (any more)
 *
 * What it has in its queue nobody can see, and what it is in neither.  A domain that has a backend
 * may be among that, and so may one that has none any more.  Domids are given in ascending order:
 * so every domain up to the highest that is known of waits for xenwatch before it gets a thread,
 * and new ones do not have to, which saves a host whose xenwatch is stuck.  Later events are ours
 * already, and noted.
 *
 * A domid above that, of a domain that is gone and whose domid was given again, is not among them.
 * Events of it that are in the queue are found when xenwatch comes to them: mtw_dom_take_back().
 *
 * With so many domains that xenstored cannot list them, all wait for xenwatch until the highest is
 * found: that takes a minute, and nobody waits for it.
 */
void mtw_adopt_known(void)
{
	int top;

	WRITE_ONCE(stopped, false);
	mtw_dom_mark_all_passed();
	top = mtw_highest(false);
	if (top < 0)
		queue_delayed_work(mtw_wq, &known_work, 0);
	else
		mtw_dom_mark_passed_up_to(top);
}

/*
 * A device's watch may be taken only when nobody is in (un)register_xenbus_watch() who entered it
 * before it was hooked, and will put it onto the list or take it off.  That can last (see
 * mtw_unhook()), so nobody waits for it.
 *
 * RCU-tasks waits for those who are awake, but they may sleep, and count as gone meanwhile:
 *
 * - for xs_watch_rwsem, which they take before they touch the list.  It has a writer when somebody
 *   sets xenstore's domain up, and it is fair: once a look of ours has it they have it, too.
 * - for xenstored's answer, after which a watch is taken off again if that is an error.  Answers
 *   come in the order of the questions: when ours is there they are awake.
 * - for xenwatch, which comes after all that.
 *
 * The lock of the list is a spin lock, for which nobody sleeps.  Not so with PREEMPT_RT; and
 * without preemption an RCU grace period does not wait for who gives way where he might sleep.
 * There it is a matter of time only: he would have to be kept from the CPU during all of this.
 */
static int mtw_wait_for_old_callers(void)
{
	int err;

	synchronize_rcu_tasks();
	err = mtw_look_at_all(mtw_see_nothing);
	if (err)
		return err;
	synchronize_rcu_tasks();
	xenbus_exists(XBT_NIL, MTW_NODE, "");
	synchronize_rcu_tasks();
	return 0;
}

static void mtw_adopt_fn(struct work_struct *unused)
{
	static unsigned int tries;	/* in a row that failed */
	int err;

	err = mtw_wait_for_old_callers() ?: mtw_look_at_all(mtw_see_device);
	if (err) {
		if (mtw_is_told(&tries))
			pr_warn("cannot take the watches of older devices (%d): it is tried again every second\n",
				err);
		queue_delayed_work(mtw_wq, &adopt_work, HZ);
		return;
	}
	tries = 0;
	since_all = mtw_probe_ticket();
	smp_store_release(&partial, false);	/* with @since_all */
	pr_info("has the watches of all devices; %u are older than the module\n",
		adopted - globals);
	mtw_node_hinted();
	mtw_node_ask_all(0);
}

/** mtw_adopt_devices() - take the watches of all devices, some time */
void mtw_adopt_devices(void)
{
	queue_delayed_work(mtw_wq, &adopt_work, 0);
}

/** mtw_adopt_stop() - not any more; waits */
void mtw_adopt_stop(void)
{
	WRITE_ONCE(stopped, true);
	cancel_delayed_work_sync(&known_work);
	cancel_delayed_work_sync(&adopt_work);
}

/**
 * mtw_adopt_return() - give all of them back
 *
 * Return: 0, or why they could not be reached.
 */
int mtw_adopt_return(void)
{
	int err = adopted ? mtw_look_at_all(mtw_see_restore) : 0;

	if (!err)		/* none is on the list any more, so nobody reads them */
		mtw_watch_restore_adopted();
	return err == 1 ? 0 : err;
}

/**
 * mtw_adopt_partial() - are there watches of devices that are not ours?
 *
 * Return: whether; a domain that has some gets no thread meanwhile.
 */
bool mtw_adopt_partial(void)
{
	return READ_ONCE(partial);
}

/**
 * mtw_adopt_settled() - has xenwatch left every callback that the module does not know of?
 *
 * Return: whether; until then it may be in one of a watch that was there before the module.
 */
bool mtw_adopt_settled(void)
{
	/* pairs with mtw_adopt_fn(), which has set @since_all before */
	return !smp_load_acquire(&partial) && mtw_probe_passed(since_all);
}

unsigned int mtw_adopted(void)
{
	return READ_ONCE(adopted);
}
