// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parameters, and the way on and off.
 *
 *   off -> waiting (xenstore) -> starting -> on -> draining -> leaving -> off
 *                                             ^       |
 *                                             +-------+  enabled=1
 *
 * From "starting" to "leaving" the module holds a reference to itself: rmmod says EBUSY at once,
 * and the module's exit has nothing to wait for.  All that can take long is done by work items.
 *
 * When xenstored restarts, or the domain that it runs in: a live update keeps the kernel's watches
 * and answers, late.  Otherwise the new one knows no watch of the kernel's.  Linux registers them
 * again after a suspend only, which a dom0 has not, and the module does not either, as that of all
 * backends is the kernel's own.  So no event comes any more, to a thread or to xenwatch, before
 * dom0 is rebooted.  A request that was open then is never answered, and neither is any other if
 * the ring is gone together with xenstored's domain: who asks waits, the module's work items
 * included, and so it cannot be unloaded.  It says so (see mtw_probe_store_age()) and changes
 * nothing on its own: the threads and their queues stay.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <xen/xen.h>

#include "adopt.h"
#include "balloon.h"
#include "domain.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "node.h"
#include "probe.h"
#include "reap.h"
#include "run.h"
#include "stat.h"
#include "turn.h"
#include "watch.h"

#define PATIENCE	(15 * HZ)	/* of whoever switches it on */
#define LONGEST_PAUSE	300		/* seconds from one try to the next */

enum mtw_state { OFF, WAITING, STARTING, ON, DRAINING, LEAVING };
static const char * const state_names[] = {
	"off", "waiting", "starting", "on", "draining", "leaving",
};

static const char no_answer[] = "xenstored or xenwatch does not answer";

static DEFINE_MUTEX(mtw_state_lock);	/* the state and enabled; held for moments only */
static enum mtw_state state = OFF;
static bool enabled = true;
static bool xenstore_up;
static bool ready;		/* mtw_init() has come this far */
static int on_err;		/* why it is not on */
static unsigned int askers;	/* who waits for that; without any it is tried again */
static unsigned int pause_secs = 1;	/* before that */
static bool stuck;		/* ftrace has not given the functions back: "leaving" for good */
static DECLARE_COMPLETION(on_done);

unsigned int mtw_mode = MTW_BY_NODE | MTW_AUTO;
unsigned int mtw_warn_secs = 30;
unsigned int mtw_idle_secs = 60;
unsigned int mtw_max_threads = 4096;
unsigned int mtw_max_active;
struct workqueue_struct *mtw_wq;
DECLARE_WAIT_QUEUE_HEAD(mtw_changed);

static void mtw_on_fn(struct work_struct *work);
static void mtw_off_fn(struct work_struct *work);
static void mtw_start_draining(void);
static DECLARE_DELAYED_WORK(on_work, mtw_on_fn);
static DECLARE_WORK(off_work, mtw_off_fn);

const char *mtw_state_name(void)
{
	return state_names[READ_ONCE(state)];
}

const char *mtw_mode_name(void)
{
	static const char * const names[] = { "none", "node", "auto", "both" };

	return names[READ_ONCE(mtw_mode) & 3];
}

static void mtw_set_state(enum mtw_state to)
{
	mutex_lock(&mtw_state_lock);
	WRITE_ONCE(state, to);
	mutex_unlock(&mtw_state_lock);
}

/**
 * mtw_is_told() - something is to be tried again in a second: say so now, or only each minute?
 * @tries: so often it has failed, this time included; the caller begins anew once it succeeds
 *
 * Return: whether to say it now.
 */
bool mtw_is_told(unsigned int *tries)
{
	return !((*tries)++ % 60);
}

static void mtw_insist(int (*step)(void), const char *what)
{
	unsigned int tries = 0;
	int err;

	while ((err = step())) {
		if (mtw_is_told(&tries))
			pr_warn("cannot %s (%d): it is tried again every second\n", what, err);
		msleep(MSEC_PER_SEC);
	}
}

/*
 * Gives everything back.  Switched off, this begins when xenwatch has just answered; if it stalls
 * meanwhile, this takes as long as the stall.
 */
static void mtw_leave(void)
{
	mtw_set_state(LEAVING);
	mtw_watch_open(false);
	mtw_adopt_stop();
	mtw_balloon_stop();
	mtw_node_stop();
	mtw_insist(mtw_watch_return_all, "give watches back");
	mtw_insist(mtw_adopt_return, "give back the watches that are older than the module");
	mtw_watch_let_go();
	mtw_watch_forget_adopted();
	mtw_probe_stop();
	stuck = mtw_unhook();
	/* Not before: until then somebody may be in here who has yet to hand a watch over. */
	wait_event(mtw_changed, mtw_reaped());
	if (!stuck)		/* until then xenwatch may begin an adopted watch's callback */
		cancel_delayed_work_sync(&mtw_xenwatch.overdue);
}

static int mtw_go_on(void)
{
	int err;

	err = mtw_hook();
	if (err) {
		pr_err("refused by ftrace (%d): %s\n", err, mtw_hook_refusal(err));
		stuck = err == -ENODEV;
		return err;
	}
	mtw_watch_open(true);
	mtw_probe_start();
	err = mtw_adopt_global();
	if (!err) {
		mtw_adopt_known();
		mtw_watch_known();
		mtw_dom_open(true);
		err = mtw_node_start() ?: mtw_balloon_start();
	}
	if (err) {
		mtw_dom_open(false);
		mtw_dom_leave_all();
		wait_event(mtw_changed, !mtw_dom_count());
		mtw_leave();
		return err;
	}
	mtw_probe_ticket();
	mtw_adopt_devices();
	pr_info("on, mode %s\n", mtw_mode_name());
	return 0;
}

/*
 * It could not be switched on, and that is nobody's result: xenstored came when the module had been
 * loaded long ago.  What was missing, memory or a function that a live patch has, may be there by
 * then.
 */
static void mtw_try_again(int err)
{
	lockdep_assert_held(&mtw_state_lock);
	pr_err("cannot start (%d): next try in %u s\n", err, pause_secs);
	reinit_completion(&on_done);	/* nobody waits for it */
	WRITE_ONCE(state, WAITING);
	queue_delayed_work(mtw_wq, &on_work, pause_secs * HZ);
	pause_secs = min(2 * pause_secs, (unsigned int)LONGEST_PAUSE);
}

/* What has come of it: it is on; or somebody waits and is told why not; or it is tried again. */
static void mtw_has_tried(int err)
{
	lockdep_assert_held(&mtw_state_lock);
	if (err && !stuck && !askers) {
		mtw_try_again(err);
		return;
	}
	WRITE_ONCE(state, stuck ? LEAVING : err ? OFF : ON);
	on_err = err;
	pause_secs = 1;
	complete_all(&on_done);
	if (state == ON && !enabled)
		mtw_start_draining();
}

/* Under the lock: whoever switches on next finds its own result, and no older one. */
static void mtw_on_fn(struct work_struct *work)
{
	bool go;
	int err;

	mutex_lock(&mtw_state_lock);
	if (state != WAITING) {			/* it was queued twice */
		mutex_unlock(&mtw_state_lock);
		return;
	}
	go = enabled && try_module_get(THIS_MODULE);
	WRITE_ONCE(state, go ? STARTING : OFF);
	if (!go) {
		on_err = 0;
		complete_all(&on_done);
	}
	mutex_unlock(&mtw_state_lock);
	if (!go)
		return;
	err = mtw_go_on();
	mutex_lock(&mtw_state_lock);
	mtw_has_tried(err);
	if (err && !stuck)
		module_put(THIS_MODULE);	/* its exit waits for this work */
	mutex_unlock(&mtw_state_lock);
}

/* Waits until it can be given back, or somebody wants it on again. */
static bool mtw_drained(void)
{
	u64 ticket = mtw_probe_ticket();
	bool over = false, yes = false;

	while (!over) {
		wait_event_timeout(mtw_changed,
				   READ_ONCE(state) != DRAINING ||
				   (!mtw_dom_count() && mtw_probe_passed(ticket)), HZ);
		mutex_lock(&mtw_state_lock);
		yes = state == DRAINING && !mtw_dom_count() && mtw_probe_passed(ticket);
		over = yes || state != DRAINING;
		if (yes)
			WRITE_ONCE(state, LEAVING);
		mutex_unlock(&mtw_state_lock);
	}
	return yes;
}

static void mtw_off_fn(struct work_struct *work)
{
	if (!mtw_drained())
		return;
	mtw_leave();
	if (stuck)
		return;
	pr_info("off\n");
	module_put(THIS_MODULE);		/* the workqueue's end waits for this work */
	mtw_set_state(OFF);				/* now that it can be unloaded */
}

/* The result, for somebody who has counted himself among the askers. */
static int mtw_wait_for_on(void)
{
	bool done = wait_for_completion_timeout(&on_done, PATIENCE);
	int err = 0;

	mutex_lock(&mtw_state_lock);
	askers--;
	done = done || state == OFF;	/* just now */
	if (done)
		err = on_err;
	mutex_unlock(&mtw_state_lock);
	if (!done)
		pr_warn("%s: still starting\n", no_answer);
	return err;
}

static int mtw_switch_on(void)
{
	bool wait;
	int err = 0;

	mutex_lock(&mtw_state_lock);
	if (!READ_ONCE(ready)) {
		mutex_unlock(&mtw_state_lock);
		return -ENODEV;
	}
	if (state != LEAVING)
		WRITE_ONCE(enabled, true);
	switch (state) {
	case OFF:
		reinit_completion(&on_done);
		WRITE_ONCE(state, WAITING);
		fallthrough;
	case WAITING:			/* perhaps for the next try */
		if (READ_ONCE(xenstore_up))
			mod_delayed_work(mtw_wq, &on_work, 0);
		break;
	case DRAINING:
		mtw_dom_open(true);
		WRITE_ONCE(state, ON);
		wake_up_all(&mtw_changed);
		mtw_node_ask_all(0);
		break;
	case LEAVING:
		err = -EBUSY;
		break;
	default:
		break;
	}
	wait = !err && READ_ONCE(xenstore_up);
	askers += wait;
	mutex_unlock(&mtw_state_lock);
	return wait ? mtw_wait_for_on() : err;
}

static void mtw_start_draining(void)
{
	lockdep_assert_held(&mtw_state_lock);
	WRITE_ONCE(state, DRAINING);
	mtw_dom_open(false);
	mtw_dom_leave_all();
	queue_work(mtw_wq, &off_work);
}

static void mtw_switch_off(void)
{
	mutex_lock(&mtw_state_lock);
	WRITE_ONCE(enabled, false);
	if (state == ON)
		mtw_start_draining();
	else if (state == WAITING && READ_ONCE(ready) && READ_ONCE(xenstore_up))
		mod_delayed_work(mtw_wq, &on_work, 0);	/* which was to be the next try */
	mutex_unlock(&mtw_state_lock);
}

/* ------------------------------------------------------------------ parameters */

static int mtw_enabled_set(const char *val, const struct kernel_param *kp)
{
	bool on;
	int err = kstrtobool(val, &on);
	bool early;

	if (err)
		return err;
	mutex_lock(&mtw_state_lock);
	early = !mtw_wq;
	if (early)
		WRITE_ONCE(enabled, on);
	mutex_unlock(&mtw_state_lock);
	if (early)
		return 0;
	if (on)
		err = mtw_switch_on();
	else
		mtw_switch_off();
	return err;
}

/* Who has a thread has changed.  While it is starting, the nodes may have been listed before. */
static void mtw_ask_anew(void)
{
	enum mtw_state now;

	/* pairs with mtw_init(): what nodes need is there */
	if (!smp_load_acquire(&ready))
		return;
	now = READ_ONCE(state);
	if (now == STARTING || now == ON)
		mtw_node_ask_all(0);
}

static int mtw_mode_set(const char *val, const struct kernel_param *kp)
{
	static const char * const names[] = { "node", "auto", "both", NULL };
	static const unsigned int modes[] = { MTW_BY_NODE, MTW_AUTO, MTW_BY_NODE | MTW_AUTO };
	int i = __sysfs_match_string(names, -1, val);

	if (i < 0)
		return i;
	WRITE_ONCE(mtw_mode, modes[i]);
	mtw_ask_anew();
	return 0;
}

static int mtw_mode_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", mtw_mode_name());
}

/* Only when the module is loaded: it has no file in sysfs. */
static int mtw_domids_set(const char *val, const struct kernel_param *kp)
{
	return bitmap_parselist(val, mtw_node_hints, MTW_DOMIDS);
}

/* Who was refused gets its thread now. */
static int mtw_max_threads_set(const char *val, const struct kernel_param *kp)
{
	int err = param_set_uint(val, kp);

	if (!err)
		mtw_ask_anew();
	return err;
}

static const struct kernel_param_ops enabled_ops = {
	.set = mtw_enabled_set,
	.get = param_get_bool,
};

static const struct kernel_param_ops domids_ops = { .set = mtw_domids_set };
static const struct kernel_param_ops max_threads_ops = {
	.set = mtw_max_threads_set,
	.get = param_get_uint,
};

static const struct kernel_param_ops mode_ops = { .set = mtw_mode_set, .get = mtw_mode_get };

module_param_cb(enabled, &enabled_ops, &enabled, 0644);
MODULE_PARM_DESC(enabled, "0: give everything back, so that the module can be unloaded");
module_param_cb(mode, &mode_ops, NULL, 0644);
MODULE_PARM_DESC(mode, "who gets a thread: node (has a node in xenstore), auto (at its first event), both");
module_param_named(warn_secs, mtw_warn_secs, uint, 0644);
MODULE_PARM_DESC(warn_secs, "warn about a callback that takes longer; 0: never");
module_param_named(idle_secs, mtw_idle_secs, uint, 0644);
MODULE_PARM_DESC(idle_secs, "a thread without a node ends after being idle for so long");
module_param_cb(domids, &domids_ops, NULL, 0);
MODULE_PARM_DESC(domids, "domids that have nodes, such as 1-3,7: so that their threads are there at once");
module_param_cb(max_threads, &max_threads_ops, &mtw_max_threads, 0644);
MODULE_PARM_DESC(max_threads, "more domains than that are left to xenwatch");
module_param_named(max_active, mtw_max_active, uint, 0644);
MODULE_PARM_DESC(max_active, "so many callbacks at once, but for those that take long; 0: as many as processors, at least 2");

/* --------------------------------------------------------------- load and unload */

static int mtw_xenstore_is_up(struct notifier_block *nb, unsigned long event, void *data)
{
	WRITE_ONCE(xenstore_up, true);
	queue_delayed_work(mtw_wq, &on_work, 0);
	return NOTIFY_DONE;
}

static struct notifier_block xenstore_nb = { .notifier_call = mtw_xenstore_is_up };

static void mtw_put_away(void)
{
	mutex_lock(&mtw_state_lock);
	WRITE_ONCE(ready, false);	/* the parameters are there for some time yet */
	mutex_unlock(&mtw_state_lock);
	unregister_xenstore_notifier(&xenstore_nb);
	cancel_delayed_work_sync(&on_work);
	mtw_stat_exit();
	mtw_node_stop();		/* a scan may be waiting for its time */
	mtw_turn_stop();
	destroy_workqueue(mtw_wq);
	rcu_barrier();
}

static int __init mtw_init(void)
{
	struct workqueue_struct *wq;
	int err = 0;

	if (!xen_domain() || !xen_initial_domain()) {
		pr_err("refused: this is for dom0, and not for a guest or a driver domain\n");
		return -ENODEV;
	}
	wq = alloc_workqueue(KBUILD_MODNAME, WQ_UNBOUND, 0);
	if (!wq)
		return -ENOMEM;
	mutex_lock(&mtw_state_lock);		/* the parameters are there already */
	mtw_wq = wq;
	mutex_unlock(&mtw_state_lock);
	mtw_run_init(&mtw_xenwatch);
	mtw_node_init();
	mutex_lock(&mtw_state_lock);
	WRITE_ONCE(state, WAITING);
	askers++;
	mutex_unlock(&mtw_state_lock);
	register_xenstore_notifier(&xenstore_nb);
	smp_store_release(&ready, true);	/* what is above is there for the parameters */
	if (!READ_ONCE(enabled) || !READ_ONCE(xenstore_up)) {
		pr_info("loaded, %s\n", READ_ONCE(enabled) ? "waits for xenstore" : "off");
		mutex_lock(&mtw_state_lock);
		askers--;
		if (state == OFF && on_err)	/* xenstored has come just now */
			mtw_try_again(on_err);
		mutex_unlock(&mtw_state_lock);
		mtw_stat_init();
		return 0;
	}
	err = mtw_wait_for_on();
	mutex_lock(&mtw_state_lock);
	if (state != OFF)
		err = 0;		/* on; or stuck; or somebody switches it on again */
	else if (err)
		WRITE_ONCE(ready, false);	/* and nobody does any more */
	mutex_unlock(&mtw_state_lock);
	/* Only now: who has the status open keeps a module that is loaded, not one that fails. */
	if (err)
		mtw_put_away();
	else
		mtw_stat_init();
	return err;
}

static void __exit mtw_exit(void)
{
	mtw_put_away();
}

module_init(mtw_init);
module_exit(mtw_exit);
MODULE_LICENSE("GPL");
MODULE_VERSION(MTW_VERSION);
MODULE_AUTHOR("xlmt contributors");
MODULE_DESCRIPTION("A xenwatch thread of its own for every domain");
