// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has xenwatch come this far?  A watch event goes through its queue, and what was in there before
 * has been worked off when it arrives.  Nobody waits for that: it may never be.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/sched.h>

#include "domain.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "probe.h"
#include "run.h"

static DEFINE_SPINLOCK(mtw_probe_lock);	/* all of these */
static u64 wanted, sent, passed;	/* tickets */
static bool in_flight;
static bool taken;		/* by xenstored, while in flight: now xenwatch is to answer */
static bool stopped = true;
static ktime_t since;		/* whoever is to answer has been */
static unsigned int warn_secs;	/* how long that may be */
static bool warned;		/* it was longer, and that has been told */

static void mtw_probe_back(struct xenbus_watch *watch, const char *path, const char *token);
static void mtw_probe_send_fn(struct work_struct *work);
static void mtw_probe_soon_fn(struct work_struct *work);
static void mtw_probe_overdue_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(soon_work, mtw_probe_soon_fn);
static DECLARE_DELAYED_WORK(send_work, mtw_probe_send_fn);
static DECLARE_DELAYED_WORK(overdue, mtw_probe_overdue_fn);

/*
 * Nobody writes to this node: there is the one event that every new watch gets.  Each time another
 * node: a watch that xenstored was not told the end of, for want of memory, would give no event.
 */
static char node[sizeof(MTW_NODE "-probe/18446744073709551615")];
static struct xenbus_watch probe = {
	.node = node,
	.callback = mtw_probe_back,
};

static void mtw_probe_back(struct xenbus_watch *watch, const char *path, const char *token)
{
	bool more;

	mtw_stock_unregister(watch);		/* this is xenwatch: it does not wait for itself */
	spin_lock(&mtw_xenwatch.lock);
	mtw_xenwatch.pid = task_pid_nr(current);
	spin_unlock(&mtw_xenwatch.lock);
	mtw_dom_age_marks();
	spin_lock(&mtw_probe_lock);
	passed = sent;
	in_flight = false;
	cancel_delayed_work(&overdue);		/* under the lock, as the next probe has its own */
	more = wanted > passed && !stopped;
	spin_unlock(&mtw_probe_lock);
	if (more)
		mod_delayed_work(mtw_wq, &send_work, 0);
	mtw_dom_kick_new();
	wake_up_all(&mtw_changed);
}

/* Whoever is to answer now has warn_secs for it. */
static void mtw_probe_begin(void)
{
	lockdep_assert_held(&mtw_probe_lock);
	since = ktime_get();
	warn_secs = READ_ONCE(mtw_warn_secs);
	warned = false;
	if (warn_secs)
		mod_delayed_work(mtw_wq, &overdue, (unsigned long)warn_secs * HZ);
}

static void mtw_probe_send_fn(struct work_struct *work)
{
	static unsigned int tries;	/* in a row that failed */
	int err;

	spin_lock(&mtw_probe_lock);
	if (in_flight || stopped || wanted <= passed) {
		spin_unlock(&mtw_probe_lock);
		return;
	}
	in_flight = true;
	taken = false;
	sent = wanted;
	snprintf(node, sizeof(node), MTW_NODE "-probe/%llu", sent);
	mtw_probe_begin();
	spin_unlock(&mtw_probe_lock);

	err = mtw_stock_register(&probe);	/* waits for xenstored, not for xenwatch */

	spin_lock(&mtw_probe_lock);
	if (err) {
		if (mtw_is_told(&tries))
			pr_warn("cannot ask whether xenwatch answers (%d): it is tried again every second\n",
				err);
		in_flight = false;
		wanted = sent + 1;	/* the same number may be half registered */
		mod_delayed_work(mtw_wq, &send_work, HZ);
	} else {
		tries = 0;
		if (in_flight) {	/* no answer yet */
			taken = true;
			mtw_probe_begin();
		}
	}
	spin_unlock(&mtw_probe_lock);
}

/* Is it to be warned about now?  If that is too early, or needless (yet), the work comes again. */
static bool mtw_probe_is_overdue(bool needless)
{
	unsigned long left;

	lockdep_assert_held(&mtw_probe_lock);
	if (!in_flight || warned || !warn_secs || !READ_ONCE(mtw_warn_secs))
		return false;
	left = needless ? (unsigned long)warn_secs * HZ : mtw_time_left(since, warn_secs);
	if (left)
		queue_delayed_work(mtw_wq, &overdue, left);
	warned = !left;
	return warned;
}

static void mtw_probe_overdue_fn(struct work_struct *work)
{
	s64 ms = mtw_probe_age();
	bool needless = ms >= 0 && mtw_run_tells(&mtw_xenwatch, ms / 2);
	bool overdue_now, by_xenwatch;

	spin_lock(&mtw_probe_lock);
	overdue_now = mtw_probe_is_overdue(needless);
	by_xenwatch = taken;
	ms = ktime_ms_delta(ktime_get(), since);
	spin_unlock(&mtw_probe_lock);
	if (!overdue_now)
		return;
	if (!by_xenwatch) {
		pr_warn("xenstored has not answered for %lld s\n", ms / MSEC_PER_SEC);
		return;
	}
	pr_warn("xenwatch has not answered for %lld s: every domain without a thread waits\n",
		ms / MSEC_PER_SEC);
	mtw_run_uevent("xenwatch", MTW_NONE, "-", "-", ms);
}

/**
 * mtw_probe_ticket() - a ticket for what is in xenwatch's queue now; does not sleep
 *
 * Return: the ticket.
 */
u64 mtw_probe_ticket(void)
{
	u64 ticket;

	spin_lock(&mtw_probe_lock);
	ticket = sent + 1;
	wanted = ticket;
	spin_unlock(&mtw_probe_lock);
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

	spin_lock(&mtw_probe_lock);
	done = passed >= ticket;
	spin_unlock(&mtw_probe_lock);
	return done;
}

static s64 mtw_probe_age_if(bool by_xenwatch)
{
	s64 age;

	spin_lock(&mtw_probe_lock);
	age = in_flight && taken == by_xenwatch ? ktime_ms_delta(ktime_get(), since) : -1;
	spin_unlock(&mtw_probe_lock);
	return age;
}

/**
 * mtw_probe_age() - for how long has xenwatch not answered?
 *
 * Return: milliseconds, or -1 when it owes no answer.
 */
s64 mtw_probe_age(void)
{
	return mtw_probe_age_if(true);
}

/**
 * mtw_probe_store_age() - for how long has xenstored not taken a probe?
 *
 * Return: milliseconds, or -1 when it owes no answer.
 */
s64 mtw_probe_store_age(void)
{
	return mtw_probe_age_if(false);
}

static bool mtw_probe_idle(void)
{
	bool yes;

	spin_lock(&mtw_probe_lock);
	yes = !in_flight;
	spin_unlock(&mtw_probe_lock);
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

	spin_lock(&mtw_probe_lock);
	due = !in_flight && !stopped && ktime_ms_delta(ktime_get(), since) > MSEC_PER_SEC;
	spin_unlock(&mtw_probe_lock);
	if (due)
		mtw_probe_ticket();
}

static void mtw_probe_soon_fn(struct work_struct *work)
{
	mtw_probe_ticket();
}

/** mtw_probe_soon() - see whether xenwatch answers, a second from now; does not sleep */
void mtw_probe_soon(void)
{
	spin_lock(&mtw_probe_lock);
	if (!stopped)
		queue_delayed_work(mtw_wq, &soon_work, HZ);
	spin_unlock(&mtw_probe_lock);
}

/** mtw_probe_start() - allow probes */
void mtw_probe_start(void)
{
	spin_lock(&mtw_probe_lock);
	stopped = false;
	spin_unlock(&mtw_probe_lock);
}

/** mtw_probe_stop() - no more probes; waits for the one that is under way */
void mtw_probe_stop(void)
{
	spin_lock(&mtw_probe_lock);
	stopped = true;
	spin_unlock(&mtw_probe_lock);
	cancel_delayed_work_sync(&soon_work);
	cancel_delayed_work_sync(&send_work);
	wait_event(mtw_changed, mtw_probe_idle());
	cancel_delayed_work_sync(&send_work);
	cancel_delayed_work_sync(&overdue);
}
