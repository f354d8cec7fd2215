// SPDX-License-Identifier: GPL-2.0-only
/*
 * A domain's thread and its queue.
 *
 * All of a domain's callbacks run in one place at a time.  It has a thread from an event on: what
 * xenwatch was given before that is worked off first (the ticket), and what comes meanwhile
 * waits.  The thread runs them one by one, each when its turn has come, see turn.c.  It goes when
 * nothing is queued and nothing runs, decided under the queue's lock: what comes afterwards may go
 * anywhere.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/hashtable.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "adopt.h"
#include "domain.h"
#include "main.h"
#include "mtwatch.h"
#include "node.h"
#include "path.h"
#include "probe.h"
#include "rescan.h"
#include "run.h"
#include "trace.h"
#include "turn.h"
#include "watch.h"

#define MAX_DEPTH	1024	/* more than that at once: look at all devices again */

/**
 * struct mtw_dom - a domain with a thread, or about to get one
 * @hnode: in the table, by @domid; RCU, its writers hold mtw_dom_lock
 * @domid: the domain; MTW_USERS for all watches of user space
 * @kref: its own until it is @dead, and one for each pending @start
 * @rcu: freed by this
 * @run: the thread; run.lock protects all that follows
 * @events: what it has to do, oldest first
 * @rescan: an event could not be kept: look at all of the domain's backends again
 * @seen: the devices that it had events of; its thread's own
 * @by_node: has a node in xenstore; else it ends when there was nothing to do for a while
 * @leaving: ends when there is nothing to do
 * @dead: takes no more events; nothing is queued and nothing runs
 * @ticket: the probe that xenwatch has to pass before the thread may begin; 0: none
 * @wake: the thread sleeps here
 * @turn: to run one thing of what it has to do
 * @start: makes the thread
 * @queued: events that were queued
 * @done: callbacks that have ended
 * @merged: events that were pending already
 * @flushed: events whose watch was unregistered before their turn
 * @rescans: events that could not be kept
 * @max_depth: the longest queue so far
 * @max_wait: the longest time that an event waited so far, ns
 */
struct mtw_dom {
	struct hlist_node hnode;
	unsigned int domid;
	struct kref kref;
	struct rcu_head rcu;
	struct mtw_run run;
	struct list_head events;
	bool rescan;
	struct list_head seen;
	bool by_node;
	bool leaving;
	bool dead;
	u64 ticket;
	wait_queue_head_t wake;
	struct mtw_turn turn;
	struct delayed_work start;
	unsigned long queued;
	unsigned long done;
	unsigned long merged;
	unsigned long flushed;
	unsigned long rescans;
	unsigned int max_depth;
	s64 max_wait;
};

static DEFINE_SPINLOCK(mtw_dom_lock);	/* the table's writers and all these */
static DEFINE_HASHTABLE(table, 10);
static DECLARE_BITMAP(passed, MTW_PLACES);	/* xenwatch may have events of these */
static DECLARE_BITMAP(older, MTW_PLACES);	/* and of these, from before the latest answer */
static bool all_passed;				/* it may of any: nobody knows yet */
static bool open_;				/* threads may be made */
static unsigned int live;			/* guests with one that is not dead */
static bool refused;				/* somebody with a node got none: max_threads */
static atomic_t count = ATOMIC_INIT(0);		/* domains, until they are freed */
static atomic_long_t n_passed = ATOMIC_LONG_INIT(0);

static void mtw_dom_start_fn(struct work_struct *work);

static void mtw_dom_release(struct kref *kref)
{
	struct mtw_dom *d = container_of(kref, struct mtw_dom, kref);

	mtw_seen_free(&d->seen);
	kfree_rcu(d, rcu);
	if (atomic_dec_and_test(&count))
		wake_up_all(&mtw_changed);
}

static void mtw_dom_put(struct mtw_dom *d)
{
	kref_put(&d->kref, mtw_dom_release);
}

/* In an RCU section, or with mtw_dom_lock held. */
static struct mtw_dom *mtw_dom_find(unsigned int domid)
{
	struct mtw_dom *d;

	hash_for_each_possible_rcu(table, d, hnode, domid, lockdep_is_held(&mtw_dom_lock)) {
		/* Who finds it dead takes another lock, but sees @queued as this one left it. */
		if (d->domid == domid && !smp_load_acquire(&d->dead))
			return d;
	}
	return NULL;
}

static struct mtw_dom *mtw_dom_get(unsigned int domid)
{
	struct mtw_dom *d;

	rcu_read_lock();
	d = mtw_dom_find(domid);
	if (d && !kref_get_unless_zero(&d->kref))
		d = NULL;
	rcu_read_unlock();
	return d;
}

/* Callers are in an RCU section or have a reference. */
static void mtw_dom_kick(struct mtw_dom *d, unsigned long delay)
{
	if (kref_get_unless_zero(&d->kref) && !queue_delayed_work(mtw_wq, &d->start, delay))
		mtw_dom_put(d);
}

static bool mtw_dom_is_marked(unsigned int domid)
{
	lockdep_assert_held(&mtw_dom_lock);
	return test_bit(domid, passed) || test_bit(domid, older);
}

/* The mark is for two answers of xenwatch: see mtw_dom_age_marks(). */
static void mtw_dom_mark(unsigned int domid)
{
	lockdep_assert_held(&mtw_dom_lock);
	if (test_bit(domid, passed))
		return;
	set_bit(domid, passed);
	mtw_probe_soon();
}

/* Of user space's watches that are ours xenwatch has nothing from before, as none is adopted. */
static bool mtw_dom_waits(unsigned int domid)
{
	lockdep_assert_held(&mtw_dom_lock);
	return (all_passed && domid != MTW_USERS) || mtw_dom_is_marked(domid);
}

/* Is it one of those that max_threads is about? */
static bool mtw_dom_is_guest(unsigned int domid)
{
	return domid && domid != MTW_USERS;
}

/* Events are taken from now on. */
static struct mtw_dom *mtw_dom_make(unsigned int domid, bool by_node)
{
	struct mtw_dom *d;

	lockdep_assert_held(&mtw_dom_lock);
	if (!open_ || (mtw_adopt_partial() && mtw_dom_waits(domid)))
		return NULL;
	if (mtw_dom_is_guest(domid) && live >= READ_ONCE(mtw_max_threads)) {
		refused = refused || by_node;
		pr_warn_ratelimited("domain %u gets no thread: there are max_threads (%u) already\n",
				    domid, live);
		return NULL;
	}
	d = kzalloc(sizeof(*d), GFP_ATOMIC | __GFP_NOWARN);
	if (!d)
		return NULL;
	__module_get(THIS_MODULE);	/* its thread's; being on holds another */
	atomic_inc(&count);
	live += mtw_dom_is_guest(domid);
	d->domid = domid;
	d->by_node = by_node;
	kref_init(&d->kref);
	mtw_run_init(&d->run);
	INIT_LIST_HEAD(&d->events);
	INIT_LIST_HEAD(&d->seen);
	init_waitqueue_head(&d->wake);
	mtw_turn_init(&d->turn);
	INIT_DELAYED_WORK(&d->start, mtw_dom_start_fn);
	if (mtw_dom_waits(domid))
		d->ticket = mtw_probe_ticket();
	hash_add_rcu(table, &d->hnode, domid);
	mtw_dom_kick(d, 0);
	return d;
}

/* @d is dead: nobody finds it any more. */
static void mtw_dom_bury(struct mtw_dom *d)
{
	bool more;

	spin_lock(&mtw_dom_lock);
	hash_del_rcu(&d->hnode);
	live -= mtw_dom_is_guest(d->domid);
	more = refused && open_;
	refused = false;
	spin_unlock(&mtw_dom_lock);
	if (more)
		mtw_node_ask_all(HZ);
	mtw_dom_put(d);		/* last: whoever switches off waits for this */
}

static bool mtw_dom_idle(const struct mtw_dom *d)
{
	lockdep_assert_held(&d->run.lock);
	return list_empty(&d->events) && !d->rescan;
}

/* ------------------------------------------------------------------- the queue */

static void mtw_dom_append(struct mtw_dom *d, struct mtw_event *event)
{
	lockdep_assert_held(&d->run.lock);
	mtw_watch_get(event->watch);
	event->queued_at = ktime_get();
	list_add_tail(&event->list, &d->events);
	d->queued++;
	if (++d->run.depth > d->max_depth)
		d->max_depth = d->run.depth;
}

/* An event with a path of its own.  false: it cannot be kept. */
static bool mtw_dom_queue_path(struct mtw_dom *d, struct mtw_watch *watch, const char *path,
			       size_t len)
{
	struct mtw_event *event = NULL;
	char *copy;

	lockdep_assert_held(&d->run.lock);
	if (d->run.depth < MAX_DEPTH)
		event = kmalloc(sizeof(*event) + len + 1, GFP_ATOMIC | __GFP_NOWARN);
	if (!event)
		return false;
	copy = (char *)(event + 1);
	memcpy(copy, path, len);
	copy[len] = '\0';
	event->watch = watch;
	event->path = copy;
	mtw_dom_append(d, event);
	return true;
}

/* The watch of all backends: one event for each device. */
static void mtw_dom_queue_device(struct mtw_dom *d, struct mtw_watch *watch, const char *path)
{
	int len = mtw_device_len(path);
	struct mtw_event *event;

	lockdep_assert_held(&d->run.lock);
	list_for_each_entry(event, &d->events, list)
		if (event->watch == watch && !strncmp(event->path, path, len) &&
		    !event->path[len]) {
			d->merged++;
			return;
		}
	if (!mtw_dom_queue_path(d, watch, path, len)) {
		WRITE_ONCE(d->rescan, true);
		d->rescans++;
	}
}

/* "Look again", at what the watch is on. */
static void mtw_dom_queue_once(struct mtw_dom *d, struct mtw_watch *watch)
{
	lockdep_assert_held(&d->run.lock);
	if (watch->queued) {
		d->merged++;
		return;
	}
	watch->queued = true;
	mtw_dom_append(d, &watch->event);
}

static bool mtw_dom_queue(struct mtw_dom *d, struct mtw_watch *watch, const char *path)
{
	spin_lock(&d->run.lock);
	if (d->dead) {
		spin_unlock(&d->run.lock);
		return false;
	}
	if (watch->global)
		mtw_dom_queue_device(d, watch, path);
	else if (!mtw_watch_is_users(watch) || !mtw_dom_queue_path(d, watch, path, strlen(path)))
		mtw_dom_queue_once(d, watch);
	spin_unlock(&d->run.lock);
	wake_up(&d->wake);
	return true;
}

/* The event's reference to its watch is the caller's now. */
static void mtw_dom_remove(struct mtw_dom *d, struct mtw_event *event)
{
	lockdep_assert_held(&d->run.lock);
	list_del(&event->list);
	d->run.depth--;
	if (event == &event->watch->event)
		event->watch->queued = false;
}

static void mtw_event_free(struct mtw_event *event)
{
	struct mtw_watch *watch = event->watch;

	if (event != &watch->event)
		kfree(event);
	mtw_watch_put(watch);
}

/* What is queued for a watch: a device's has one event and no other. */
static struct mtw_event *mtw_dom_event_of(struct mtw_dom *d, struct mtw_watch *watch)
{
	struct mtw_event *event;

	lockdep_assert_held(&d->run.lock);
	if (watch->queued)
		return &watch->event;
	if (watch->global || mtw_watch_is_users(watch))
		list_for_each_entry(event, &d->events, list)
			if (event->watch == watch)
				return event;
	return NULL;
}

/* A domain without a thread: it gets one, or it is noted that xenwatch has events of it. */
static struct mtw_dom *mtw_dom_for_event(unsigned int domid)
{
	struct mtw_dom *d;

	spin_lock(&mtw_dom_lock);
	d = mtw_dom_find(domid);
	if (!d && (READ_ONCE(mtw_mode) & MTW_AUTO))
		d = mtw_dom_make(domid, false);
	if (!d) {
		mtw_dom_mark(domid);
		atomic_long_inc(&n_passed);
	}
	spin_unlock(&mtw_dom_lock);
	return d;
}

/**
 * mtw_dom_take() - queue an event for its domain's thread; the xenbus thread, watches_lock held
 * @watch: whose event
 * @domid: the domain
 * @path: what has changed
 *
 * Return: whether it was; else it is xenwatch's.
 */
bool mtw_dom_take(struct mtw_watch *watch, unsigned int domid, const char *path)
{
	struct mtw_dom *d;

	rcu_read_lock();
	do {
		d = mtw_dom_find(domid) ?: mtw_dom_for_event(domid);
	} while (d && !mtw_dom_queue(d, watch, path));	/* it has died meanwhile */
	rcu_read_unlock();
	trace_mtwatch_queue(domid, path, d);
	return d;
}

/**
 * mtw_dom_take_back() - whose is an event that xenwatch was given before the module came?
 * @watch: whose event
 * @domid: the domain
 * @path: what has changed
 *
 * xenwatch has come to it now.  The domain may be one that nobody knew of: it was gone, and there
 * is another one of its domid, with a thread that does not wait for xenwatch.  So the thread gets
 * the event: late, but it says no more than to look again.  Otherwise xenwatch goes on, and a
 * thread that is made from here on waits for it, as that is noted under the lock that it is made
 * under.
 *
 * Return: whether the thread has it; else xenwatch may go on, and no thread runs meanwhile.
 */
bool mtw_dom_take_back(struct mtw_watch *watch, unsigned int domid, const char *path)
{
	struct mtw_dom *d;

	rcu_read_lock();
	do {
		spin_lock(&mtw_dom_lock);
		d = mtw_dom_find(domid);
		if (d && d->ticket && !READ_ONCE(d->run.task))
			d = NULL;	/* its probe comes after this */
		if (!d)
			mtw_dom_mark(domid);
		spin_unlock(&mtw_dom_lock);
	} while (d && !mtw_dom_queue(d, watch, path));	/* it has died meanwhile */
	rcu_read_unlock();
	return d;
}

/**
 * mtw_dom_flush() - drop what is queued for a watch, wait for what its domain is in
 * @watch: for which nothing is queued any more
 */
void mtw_dom_flush(struct mtw_watch *watch)
{
	struct mtw_dom *d = mtw_dom_get(watch->domid);
	struct mtw_event *event;

	if (!d)
		return;
	spin_lock(&d->run.lock);
	while ((event = mtw_dom_event_of(d, watch))) {
		mtw_dom_remove(d, event);
		d->flushed++;
		mtw_event_free(event);		/* the caller has another reference */
	}
	spin_unlock(&d->run.lock);
	mtw_run_wait(&d->run, watch->domid);
	mtw_dom_put(d);
}

/* ------------------------------------------------------------------ the thread */

static bool mtw_dom_has_work(struct mtw_dom *d)
{
	return !list_empty_careful(&d->events) || READ_ONCE(d->rescan);
}

static bool mtw_dom_wanted(struct mtw_dom *d)
{
	return mtw_dom_has_work(d) || READ_ONCE(d->leaving);
}

static long mtw_dom_patience(struct mtw_dom *d)
{
	unsigned long secs = READ_ONCE(mtw_idle_secs);

	return READ_ONCE(d->by_node) ? MAX_SCHEDULE_TIMEOUT : max(min(secs, 86400UL) * HZ, 1UL);
}

/* The events of user space are for many programs, and ask xenstored nothing. */
static void mtw_dom_take_turn(struct mtw_dom *d)
{
	if (d->domid != MTW_USERS)
		mtw_turn_take(&d->turn);
}

/* Memory is short. */
static void mtw_dom_pause(struct mtw_dom *d)
{
	mtw_turn_end(&d->turn);
	schedule_timeout_interruptible(HZ);
}

static void mtw_dom_rescan(struct mtw_dom *d)
{
	if (!mtw_rescan(d->domid, &d->seen))
		return;
	spin_lock(&d->run.lock);
	WRITE_ONCE(d->rescan, true);	/* again */
	spin_unlock(&d->run.lock);
	mtw_dom_pause(d);
}

static void mtw_dom_call(struct mtw_dom *d, struct mtw_event *event)
{
	while (event->watch->global && mtw_seen(&d->seen, event->path)) {
		mtw_dom_pause(d);
		mtw_dom_take_turn(d);
	}
	mtw_watch_call(event->watch, event->path);
}

/* The thread's turn has come: one thing to do, unless that is gone meanwhile. */
static void mtw_dom_work(struct mtw_dom *d)
{
	struct mtw_event *event = NULL;

	spin_lock(&d->run.lock);
	if (d->rescan) {
		WRITE_ONCE(d->rescan, false);
		mtw_run_begin(&d->run, READ_ONCE(mtw_backends), d->domid, "backend");
	} else if (!list_empty(&d->events)) {
		event = list_first_entry(&d->events, struct mtw_event, list);
		mtw_dom_remove(d, event);
		d->max_wait = max(d->max_wait,
				  ktime_to_ns(ktime_sub(ktime_get(), event->queued_at)));
		mtw_run_begin(&d->run, event->watch, d->domid, event->path);
	} else {
		spin_unlock(&d->run.lock);
		return;
	}
	spin_unlock(&d->run.lock);

	if (event)
		mtw_dom_call(d, event);
	else
		mtw_dom_rescan(d);
	mtw_run_end(&d->run);
	spin_lock(&d->run.lock);
	d->done++;
	spin_unlock(&d->run.lock);
	if (event)
		mtw_event_free(event);
}

/* false: there is nothing left to do, and the domain takes no more. */
static bool mtw_dom_step(struct mtw_dom *d)
{
	bool dead;
	long left;

	left = wait_event_interruptible_timeout(d->wake, mtw_dom_wanted(d), mtw_dom_patience(d));
	if (mtw_dom_has_work(d)) {
		/* Before an event is taken: until then it can be merged, and dropped. */
		mtw_dom_take_turn(d);
		mtw_dom_work(d);
		mtw_turn_end(&d->turn);
		return true;
	}
	spin_lock(&d->run.lock);
	dead = mtw_dom_idle(d) && (d->leaving || (!d->by_node && !left));
	smp_store_release(&d->dead, dead);	/* with @queued, for the lookup */
	spin_unlock(&d->run.lock);
	return !dead;
}

static int mtw_dom_thread(void *arg)
{
	struct mtw_dom *d = arg;

	while (mtw_dom_step(d))
		;
	cancel_delayed_work_sync(&d->run.overdue);
	mtw_dom_bury(d);
	module_put_and_kthread_exit(0);
	return 0;
}

/* Makes the thread when xenwatch has come far enough; lets a domain without one go. */
static void mtw_dom_start(struct mtw_dom *d)
{
	struct task_struct *task;
	char name[MTW_THREAD_LEN];
	bool over;
	u64 ticket = READ_ONCE(d->ticket);

	spin_lock(&d->run.lock);
	over = d->dead || d->run.task;
	if (!over && d->leaving && mtw_dom_idle(d)) {
		smp_store_release(&d->dead, true);	/* with @queued, for the lookup */
		spin_unlock(&d->run.lock);
		mtw_dom_bury(d);
		module_put(THIS_MODULE);	/* the workqueue's end waits for this work */
		return;
	}
	spin_unlock(&d->run.lock);
	if (over || (ticket && !mtw_probe_passed(ticket)))
		return;				/* the probe kicks again */
	mtw_thread_name(name, d->domid);
	task = kthread_create(mtw_dom_thread, d, "%s", name);
	if (IS_ERR(task)) {
		pr_warn_ratelimited("%s cannot be made (%ld): it is tried again in a second\n",
				    name, PTR_ERR(task));
		mtw_dom_kick(d, HZ);
		return;
	}
	spin_lock(&mtw_dom_lock);
	if (ticket) {
		clear_bit(d->domid, passed);
		clear_bit(d->domid, older);
	}
	spin_unlock(&mtw_dom_lock);
	spin_lock(&d->run.lock);
	WRITE_ONCE(d->run.task, task);
	d->run.pid = task_pid_nr(task);
	spin_unlock(&d->run.lock);
	wake_up_process(task);
}

static void mtw_dom_start_fn(struct work_struct *work)
{
	struct mtw_dom *d = container_of(work, struct mtw_dom, start.work);

	mtw_dom_start(d);
	mtw_dom_put(d);
}

/* ------------------------------------------------------------ nodes, on and off */

/**
 * mtw_dom_node() - a domain has a node, or may have one: it has a thread, if nodes count; anywhere
 * @domid: the domain
 *
 * Return: false when it should have a thread and could not get one: ask again.
 */
bool mtw_dom_node(unsigned int domid)
{
	bool ok, others = false;
	struct mtw_dom *d;

	spin_lock(&mtw_dom_lock);
	/* Under the lock: mtw_dom_each_by_node() comes after the mode has changed. */
	if (!(READ_ONCE(mtw_mode) & MTW_BY_NODE)) {
		spin_unlock(&mtw_dom_lock);
		return true;
	}
	d = mtw_dom_find(domid);
	if (d) {
		spin_lock(&d->run.lock);
		if (!d->dead) {
			WRITE_ONCE(d->by_node, true);
			WRITE_ONCE(d->leaving, !open_);
		}
		ok = !d->dead;
		spin_unlock(&d->run.lock);
		if (!ok)
			d = NULL;
	}
	if (!d) {
		swap(others, refused);
		d = mtw_dom_make(domid, true);
	}
	ok = d || !open_ || mtw_adopt_partial() || refused;
	refused |= others;
	spin_unlock(&mtw_dom_lock);
	return ok;
}

static void mtw_dom_leave(struct mtw_dom *d)
{
	bool started;

	spin_lock(&d->run.lock);
	WRITE_ONCE(d->leaving, true);
	started = d->run.task;
	spin_unlock(&d->run.lock);
	wake_up(&d->wake);
	if (!started)
		mtw_dom_kick(d, 0);
}

/**
 * mtw_dom_node_gone() - a domain has no node: it leaves
 * @domid: the domain
 * @to_ask: a bit that is set here again says that this is old news
 */
void mtw_dom_node_gone(unsigned int domid, const unsigned long *to_ask)
{
	struct mtw_dom *d;

	rcu_read_lock();
	spin_lock(&mtw_dom_lock);
	d = test_bit(domid, to_ask) ? NULL : mtw_dom_find(domid);
	if (d && READ_ONCE(d->by_node))
		mtw_dom_leave(d);
	spin_unlock(&mtw_dom_lock);
	rcu_read_unlock();
}

/**
 * mtw_dom_mark_passed() - xenwatch may have events of this domain; watches_lock may be held
 * @domid: the domain
 */
void mtw_dom_mark_passed(unsigned int domid)
{
	spin_lock(&mtw_dom_lock);
	if (!mtw_dom_find(domid))
		mtw_dom_mark(domid);
	spin_unlock(&mtw_dom_lock);
}

/* Whose mark is gone has not to wait for xenwatch any more. */
static void mtw_dom_let_begin(void)
{
	struct mtw_dom *d;
	int bucket;

	lockdep_assert_held(&mtw_dom_lock);
	hash_for_each_rcu(table, bucket, d, hnode)
		if (!mtw_dom_waits(d->domid))
			WRITE_ONCE(d->ticket, 0);
}

/* The highest domid in a bitmap, or a higher one. */
static unsigned int mtw_dom_highest(const unsigned long *domids, unsigned int floor)
{
	unsigned long last = find_last_bit(domids, MTW_DOMIDS);

	return last < MTW_DOMIDS && last > floor ? last : floor;
}

/**
 * mtw_dom_mark_passed_up_to() - xenwatch may have events of all these domains
 * @top: the highest one; or a higher one that is marked already
 */
void mtw_dom_mark_passed_up_to(unsigned int top)
{
	rcu_read_lock();
	spin_lock(&mtw_dom_lock);
	top = mtw_dom_highest(older, mtw_dom_highest(passed, top));
	bitmap_set(passed, 0, top + 1);
	mtw_probe_soon();
	WRITE_ONCE(all_passed, false);
	mtw_dom_let_begin();
	spin_unlock(&mtw_dom_lock);
	rcu_read_unlock();
	mtw_dom_kick_new();
}

/**
 * mtw_dom_age_marks() - xenwatch has come to a probe; called before there may be another one
 *
 * What is older than that probe it has worked off.  A mark may be younger: it goes when xenwatch
 * comes to the next probe, which is sent after this.  While some devices' watches are not ours
 * nobody notes their events, and no mark goes.
 */
void mtw_dom_age_marks(void)
{
	rcu_read_lock();
	spin_lock(&mtw_dom_lock);
	if (!mtw_adopt_partial()) {
		bitmap_copy(older, passed, MTW_PLACES);
		bitmap_zero(passed, MTW_PLACES);
		if (!bitmap_empty(older, MTW_PLACES))
			mtw_probe_soon();
		mtw_dom_let_begin();
	}
	spin_unlock(&mtw_dom_lock);
	rcu_read_unlock();
}

/**
 * mtw_dom_mark_all_passed() - xenwatch may have events of any domain
 *
 * Until mtw_dom_mark_passed_up_to() says which.
 */
void mtw_dom_mark_all_passed(void)
{
	spin_lock(&mtw_dom_lock);
	WRITE_ONCE(all_passed, true);
	spin_unlock(&mtw_dom_lock);
}

bool mtw_dom_is_passed(unsigned int domid)
{
	bool yes;

	spin_lock(&mtw_dom_lock);
	yes = mtw_dom_waits(domid);
	spin_unlock(&mtw_dom_lock);
	return yes;
}

void mtw_dom_each_by_node(unsigned long *domids)
{
	struct mtw_dom *d;
	int bucket;

	rcu_read_lock();
	spin_lock(&mtw_dom_lock);
	hash_for_each_rcu(table, bucket, d, hnode)
		if (READ_ONCE(d->by_node))
			set_bit(d->domid, domids);
	spin_unlock(&mtw_dom_lock);
	rcu_read_unlock();
}

/**
 * mtw_dom_open() - allow new threads, or not
 * @open: which; and those that were about to leave stay, unless their node turns out to be gone
 */
void mtw_dom_open(bool open)
{
	struct mtw_dom *d;
	int bucket;

	rcu_read_lock();
	spin_lock(&mtw_dom_lock);
	WRITE_ONCE(open_, open);
	hash_for_each_rcu(table, bucket, d, hnode) {
		spin_lock(&d->run.lock);
		WRITE_ONCE(d->leaving, d->leaving && !open);
		spin_unlock(&d->run.lock);
	}
	spin_unlock(&mtw_dom_lock);
	rcu_read_unlock();
}

/**
 * mtw_dom_is_open() - may new threads be made?
 *
 * Return: whether they may.
 */
bool mtw_dom_is_open(void)
{
	return READ_ONCE(open_);
}

/** mtw_dom_leave_all() - all domains leave as soon as they have nothing to do */
void mtw_dom_leave_all(void)
{
	struct mtw_dom *d;
	int bucket;

	rcu_read_lock();
	hash_for_each_rcu(table, bucket, d, hnode)
		mtw_dom_leave(d);
	rcu_read_unlock();
}

/** mtw_dom_kick_new() - xenwatch has come further: who waited for that may begin */
void mtw_dom_kick_new(void)
{
	struct mtw_dom *d;
	int bucket;

	rcu_read_lock();
	hash_for_each_rcu(table, bucket, d, hnode)
		if (!READ_ONCE(d->run.task))
			mtw_dom_kick(d, 0);
	rcu_read_unlock();
}

/**
 * mtw_dom_count() - domains that have a thread, wait for one, or are just leaving
 *
 * Return: how many; mtw_changed is woken when there are none any more.
 */
unsigned int mtw_dom_count(void)
{
	return atomic_read_acquire(&count);	/* with all that their threads have done */
}

long mtw_dom_n_passed(void)
{
	return atomic_long_read(&n_passed);
}

static void mtw_dom_show(struct seq_file *m, struct mtw_dom *d)
{
	spin_lock(&d->run.lock);
	if (!d->dead) {
		if (d->domid == MTW_USERS)
			seq_puts(m, "users");
		else
			seq_printf(m, "domain domid=%u", d->domid);
		if (d->run.task)
			seq_printf(m, " pid=%d", d->run.pid);
		else
			seq_puts(m, " pid=-");
		seq_printf(m, " state=%s by=%s depth=%u max_depth=%u queued=%lu done=%lu merged=%lu flushed=%lu rescans=%lu wait_ms=%lld",
			   !d->run.task ? "new" : d->leaving ? "draining" : "up",
			   d->by_node ? "node" : "auto", d->run.depth, d->max_depth, d->queued,
			   d->done, d->merged, d->flushed, d->rescans,
			   d->max_wait / NSEC_PER_MSEC);
		mtw_run_show_longest(m, &d->run);
		mtw_run_show(m, &d->run);
		seq_putc(m, '\n');
	}
	spin_unlock(&d->run.lock);
}

void mtw_dom_show_all(struct seq_file *m)
{
	struct mtw_dom *d;
	int bucket;

	rcu_read_lock();
	hash_for_each_rcu(table, bucket, d, hnode)
		mtw_dom_show(m, d);
	rcu_read_unlock();
}
