// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has xenwatch come this far?  A watch event goes through its queue, and what was in there before
 * has been worked off when it arrives.  Nobody waits for that: it may never be.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/sched.h>

#include "mtwatch.h"

static DEFINE_SPINLOCK(lock);	/* all of these */
static u64 wanted, sent, passed;	/* tickets */
static bool in_flight;
static bool taken;		/* by xenstored, while in flight: now xenwatch is to answer */
static bool stopped = true;
static ktime_t since;		/* whoever is to answer has been */

static void back(struct xenbus_watch *watch, const char *path, const char *token);
static void send_fn(struct work_struct *work);
static void overdue_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(send_work, send_fn);
static DECLARE_DELAYED_WORK(overdue, overdue_fn);

/*
 * Nobody writes to this node: there is the one event that every new watch gets.  Each time another
 * node: a watch that xenstored was not told the end of, for want of memory, would give no event.
 */
static char node[sizeof(MTW_NODE "-probe/18446744073709551615")];
static struct xenbus_watch probe = {
	.node = node,
	.callback = back,
};

static void back(struct xenbus_watch *watch, const char *path, const char *token)
{
	bool more;

	mtw_stock_unregister(watch);		/* this is xenwatch: it does not wait for itself */
	spin_lock(&mtw_xenwatch.lock);
	mtw_xenwatch.pid = task_pid_nr(current);
	spin_unlock(&mtw_xenwatch.lock);
	spin_lock(&lock);
	passed = sent;
	in_flight = false;
	cancel_delayed_work(&overdue);		/* under the lock, as the next probe has its own */
	more = wanted > passed && !stopped;
	spin_unlock(&lock);
	if (more)
		mod_delayed_work(mtw_wq, &send_work, 0);
	mtw_dom_kick_new();
	wake_up_all(&mtw_changed);
}

/* Whoever is to answer now has warn_secs for it.  Called with the lock held. */
static void begin(void)
{
	unsigned int secs = READ_ONCE(mtw_warn_secs);

	since = ktime_get();
	if (secs)
		mod_delayed_work(mtw_wq, &overdue, (unsigned long)secs * HZ);
}

static void send_fn(struct work_struct *work)
{
	int err;

	spin_lock(&lock);
	if (in_flight || stopped || wanted <= passed) {
		spin_unlock(&lock);
		return;
	}
	in_flight = true;
	taken = false;
	sent = wanted;
	snprintf(node, sizeof(node), MTW_NODE "-probe/%llu", sent);
	begin();
	spin_unlock(&lock);

	err = mtw_stock_register(&probe);	/* waits for xenstored, not for xenwatch */

	spin_lock(&lock);
	if (err) {
		in_flight = false;
		wanted = sent + 1;	/* the same number may be half registered */
		mod_delayed_work(mtw_wq, &send_work, HZ);
	} else if (in_flight) {		/* no answer yet */
		taken = true;
		begin();
	}
	spin_unlock(&lock);
}

static void overdue_fn(struct work_struct *work)
{
	unsigned int secs = READ_ONCE(mtw_warn_secs);
	s64 ms = mtw_probe_store_age();

	if (!secs)
		return;
	/* If the answer has just come, these are the ages of the next probe. */
	if (ms >= MSEC_PER_SEC / 2) {
		pr_warn("xenstored has not answered for %lld s\n", ms / MSEC_PER_SEC);
		return;
	}
	ms = mtw_probe_age();
	if (ms < MSEC_PER_SEC / 2)
		return;
	if (mtw_run_tells(&mtw_xenwatch, ms / 2)) {
		mod_delayed_work(mtw_wq, &overdue, (unsigned long)secs * HZ);
		return;
	}
	pr_warn("xenwatch has not answered for %lld s: every domain without a thread waits\n",
		ms / MSEC_PER_SEC);
	mtw_run_uevent(0, "-", "-", ms);
}

/**
 * mtw_probe_ticket() - a ticket for what is in xenwatch's queue now; does not sleep
 *
 * Return: the ticket.
 */
u64 mtw_probe_ticket(void)
{
	u64 ticket;

	spin_lock(&lock);
	ticket = sent + 1;
	wanted = ticket;
	spin_unlock(&lock);
	mod_delayed_work(mtw_wq, &send_work, 0);
	return ticket;
}

/**
 * mtw_probe_passed() - has all of that been worked off?
 * @ticket: from mtw_probe_ticket()
 *
 * Return: whether it has; mtw_changed is woken and mtw_dom_kick_new() called when it changes.
 */
bool mtw_probe_passed(u64 ticket)
{
	bool done;

	spin_lock(&lock);
	done = passed >= ticket;
	spin_unlock(&lock);
	return done;
}

static s64 age_if(bool by_xenwatch)
{
	s64 age;

	spin_lock(&lock);
	age = in_flight && taken == by_xenwatch ? ktime_ms_delta(ktime_get(), since) : -1;
	spin_unlock(&lock);
	return age;
}

/**
 * mtw_probe_age() - for how long has xenwatch not answered?
 *
 * Return: milliseconds, or -1 when it owes no answer.
 */
s64 mtw_probe_age(void)
{
	return age_if(true);
}

/**
 * mtw_probe_store_age() - for how long has xenstored not taken a probe?
 *
 * Return: milliseconds, or -1 when it owes no answer.
 */
s64 mtw_probe_store_age(void)
{
	return age_if(false);
}

static bool idle(void)
{
	bool yes;

	spin_lock(&lock);
	yes = !in_flight;
	spin_unlock(&lock);
	return yes;
}

/**
 * mtw_probe_look() - see whether xenwatch answers, at most once a second
 *
 * For those who read the status: the answer is in what they read next.
 */
void mtw_probe_look(void)
{
	bool due;

	spin_lock(&lock);
	due = !in_flight && !stopped && ktime_ms_delta(ktime_get(), since) > MSEC_PER_SEC;
	spin_unlock(&lock);
	if (due)
		mtw_probe_ticket();
}

/** mtw_probe_start() - allow probes */
void mtw_probe_start(void)
{
	spin_lock(&lock);
	stopped = false;
	spin_unlock(&lock);
}

/** mtw_probe_stop() - no more probes; waits for the one that is under way */
void mtw_probe_stop(void)
{
	spin_lock(&lock);
	stopped = true;
	spin_unlock(&lock);
	cancel_delayed_work_sync(&send_work);
	wait_event(mtw_changed, idle());
	cancel_delayed_work_sync(&send_work);
	cancel_delayed_work_sync(&overdue);
}
