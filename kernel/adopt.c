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

#include "mtwatch.h"

/**
 * struct look - one look at all of the kernel's watches
 * @watch: ours, registered for this
 * @reap: its way out
 * @see: called once with each watch but ours, until it returns an error
 * @err: what came of it
 * @looked: it was called
 * @done: for whoever asked
 */
struct look {
	struct xenbus_watch watch;
	struct mtw_reap reap;
	int (*see)(struct xenbus_watch *watch);
	int err;
	bool looked;
	struct completion done;
};

static bool partial = true;	/* the devices' watches are not ours yet */
static unsigned int adopted;

static void work_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(work, work_fn);

/* The list's head is the one element which is no watch. */
static struct list_head *head_of(struct list_head *own)
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

static bool look_will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct look *look = container_of(watch, struct look, watch);
	struct xenbus_watch *other;
	struct list_head *head;

	if (look->looked)
		return false;
	look->looked = true;
	head = head_of(&watch->list);
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

static void look_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static void look_release(struct mtw_reap *reap)
{
	kfree(container_of(reap, struct look, reap));
}

/* Waits for xenstored, not for xenwatch. */
static int look_at_all(int (*see)(struct xenbus_watch *watch))
{
	struct look *look = kzalloc(sizeof(*look), GFP_KERNEL);
	int err;

	if (!look)
		return -ENOMEM;
	look->watch.node = MTW_NODE;
	look->watch.will_handle = look_will_handle;
	look->watch.callback = look_callback;
	look->reap.watch = &look->watch;
	look->reap.release = look_release;
	look->see = see;
	init_completion(&look->done);
	err = mtw_stock_register(&look->watch);
	if (err) {
		kfree(look);
		return err;
	}
	wait_for_completion(&look->done);
	err = look->err;
	mtw_reap(&look->reap, 0);
	return err;
}

/* The 2018 patch, built in and on, watches the nodes itself. */
static bool is_rival(const struct xenbus_watch *watch)
{
	return watch->node && !strcmp(watch->node, MTW_NODE) && watch->callback &&
	       !within_module((unsigned long)watch->callback, THIS_MODULE) &&
	       !mtw_symbol_is(watch->callback, "watch_fired");
}

static int see_global(struct xenbus_watch *watch)
{
	unsigned int domid;
	int err;

	if (is_rival(watch)) {
		pr_err("refused: this kernel has threads for domains already (%ps watches %s)\n",
		       watch->callback, MTW_NODE);
		return -EBUSY;	/* not EEXIST: modprobe takes that for success */
	}
	if (!mtw_watch_eligible(watch, &domid))
		return 0;
	if (domid) {
		mtw_dom_mark_passed(domid);	/* xenwatch may have events of it */
		return 0;
	}
	err = mtw_watch_adopt(watch, 0);
	if (!err)
		adopted++;
	return err;
}

static int see_device(struct xenbus_watch *watch)
{
	unsigned int domid;
	int err;

	if (!mtw_watch_eligible(watch, &domid) || !domid)
		return 0;
	mtw_dom_mark_passed(domid);
	err = mtw_watch_adopt(watch, domid);
	if (!err)
		adopted++;
	return err;
}

static int see_nothing(struct xenbus_watch *watch)
{
	mtw_watch_restore_adopted();
	return 1;		/* once is enough */
}

/**
 * mtw_adopt_global() - take the watch of all backends
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
	adopted = 0;
	for (tries = 0; tries < 50; tries++) {
		err = look_at_all(see_global);
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
static int mark_each(const char *type)
{
	unsigned int domid;
	char node[80];
	int there;

	for (domid = 1; domid < MTW_DOMIDS; domid++) {
		snprintf(node, sizeof(node), "%s/%u", type, domid);
		there = mtw_node_exists("backend", node);
		if (there < 0)
			return there;
		if (there)
			mtw_dom_mark_passed(domid);
	}
	return 0;
}

static int mark_type(const char *type)
{
	unsigned int i, domid, n = 0;
	const char *end;
	char **domids;

	domids = xenbus_directory(XBT_NIL, "backend", type, &n);
	if (domids == ERR_PTR(-E2BIG))
		return mark_each(type);
	if (IS_ERR(domids))
		return PTR_ERR(domids) == -ENOENT ? 0 : PTR_ERR(domids);
	for (i = 0; i < n; i++) {
		domid = mtw_parse_domid(domids[i], &end);
		if (domid)
			mtw_dom_mark_passed(domid);
	}
	kfree(domids);
	return 0;
}

/**
 * mtw_adopt_known() - xenwatch may be at devices that watch nothing yet
 *
 * So every domain that has a backend in xenstore when this begins waits for xenwatch before it
 * gets a thread.  Later ones are noted by their events, which are ours already.
 */
void mtw_adopt_known(void)
{
	unsigned int i, n = 0;
	char **types;
	int err = 0;

	types = xenbus_directory(XBT_NIL, "backend", "", &n);
	if (IS_ERR(types)) {
		err = PTR_ERR(types) == -ENOENT ? 0 : PTR_ERR(types);
	} else {
		for (i = 0; i < n && !err; i++)
			err = mark_type(types[i]);
		kfree(types);
	}
	if (err)
		mtw_dom_mark_all_passed();
}

/*
 * A device's watch may be taken only when nobody is in (un)register_xenbus_watch() who entered it
 * before it was hooked; that can last (see mtw_unhook()), so nobody waits for it.
 *
 * Who registers one sleeps for xenstored's answer and counts as gone meanwhile, but takes its watch
 * off the list again if that is an error.  Answers come in the order of the questions: when ours is
 * there it is awake, and does not sleep again.
 */
static void work_fn(struct work_struct *unused)
{
	int err;

	synchronize_rcu_tasks();
	xenbus_exists(XBT_NIL, MTW_NODE, "");
	synchronize_rcu_tasks();
	err = look_at_all(see_device);
	if (err) {
		queue_delayed_work(mtw_wq, &work, HZ);
		return;
	}
	WRITE_ONCE(partial, false);
	pr_info("has the watches of all devices; %u are older than the module\n", adopted - 1);
	mtw_node_ask_all(0);
}

/** mtw_adopt_devices() - take the watches of all devices, some time */
void mtw_adopt_devices(void)
{
	queue_delayed_work(mtw_wq, &work, 0);
}

/** mtw_adopt_stop() - not any more; waits */
void mtw_adopt_stop(void)
{
	cancel_delayed_work_sync(&work);
}

/**
 * mtw_adopt_return() - give all of them back
 *
 * Return: 0, or why they could not be reached.
 */
int mtw_adopt_return(void)
{
	int err = adopted ? look_at_all(see_nothing) : 0;

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
 * mtw_adopted() - for the status
 *
 * Return: the number of watches that were there before the module.
 */
unsigned int mtw_adopted(void)
{
	return READ_ONCE(adopted);
}
