/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xen_mtwatch - a xenwatch thread of its own for every domain.
 *
 * An event's way (what the stock kernel does is in brackets):
 *
 *   [xenbus thread: xs_watch_msg(), watches_lock held]
 *     -> will_handle() of a shadow watch        watch.c
 *        -> the domain's queue and thread       domain.c
 *           -> the driver's callback
 *        -> or, for a domain without a thread:
 *           [xenwatch] -> the shadow's callback -> the driver's callback
 *
 * Locks, outermost first; each may be taken with those above it held:
 *
 *   lock               mutex  main.c    whether the module is on
 *   mtw_watch.giving   mutex  watch.c   returning a watch to the kernel | unregistering it
 *   watches_lock       stock            held around every will_handle()
 *   mtw_watch.lock     spin   watch.c   the end of a watch | an event of it
 *   mtw_lock           spin   domain.c  the table of domains, who has events in xenwatch
 *   mtw_run.lock       spin   run.c     a domain's queue and state, what its thread is in
 *
 *   the table's lock (watch.c), the reaper's (reap.c) and the probe's (probe.c) are leaves.
 *
 * All of them are taken in process context only.
 */
#ifndef MTWATCH_H
#define MTWATCH_H

#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/interface/xen.h>
#include <xen/xenbus.h>

struct seq_file;

#define MTW_VERSION	"0.1"
#define MTW_NODE	"mtwatch"
#define MTW_DOMIDS	DOMID_FIRST_RESERVED	/* domids are below this */
#define MTW_PATH_LEN	96			/* of a path kept for statistics */
#define MTW_NAME_LEN	64			/* of a callback's name kept for statistics */

/**
 * struct mtw_reap - a watch of the module's own, to be unregistered without waiting for it
 * @list: on the reaper's list
 * @watch: what to unregister; this may wait for xenwatch for as long as that is stalled
 * @release: frees what contains this, afterwards
 * @domid: among whose it counts, as a domain's are limited; or 0
 */
struct mtw_reap {
	struct list_head list;
	struct xenbus_watch *watch;
	void (*release)(struct mtw_reap *reap);
	unsigned int domid;
};

/**
 * struct mtw_event - an event on a domain's queue
 * @list: on mtw_dom.events; mtw_run.lock
 * @watch: whose event this is; holds a reference
 * @queued_at: when it was queued
 * @path: what the callback is told has changed; belongs to the event, or is @watch's node
 */
struct mtw_event {
	struct list_head list;
	struct mtw_watch *watch;
	ktime_t queued_at;
	const char *path;
};

/**
 * struct mtw_watch - a driver's watch whose events are the module's
 * @hnode: in the table, by @orig; RCU, its writers hold the table's lock
 * @orig: the driver's watch; not valid any more when @dead or @returned
 * @callback: the driver's function
 * @shadow: what is registered with the kernel in its place (not for @adopted)
 * @adopted: @orig was registered before the module came and is on the kernel's list itself,
 *	with the module's functions
 * @will_handle: what an adopted watch had before
 * @domid: whose device's watch this is; 0 for the watch of all backends, whose events tell it
 * @giving: held while @orig is registered with the kernel again, and over setting @dead
 * @lock: whoever sets @dead or @returned under it knows that no event is queued afterwards
 * @dead: the driver has unregistered it
 * @returned: the kernel has @orig again
 * @queued: @event is on a queue; mtw_run.lock of the domain
 * @event: the only event of a watch with a @domid: "look again", pending once
 * @kref: the table's (or the reaper's, after it), and one for each event
 * @rcu: freed by this
 * @reap: @shadow's way out
 * @token: what a callback gets as its token
 * @node: a copy of the driver's, which may be freed before ours is let go
 */
struct mtw_watch {
	struct hlist_node hnode;
	struct xenbus_watch *orig;
	void (*callback)(struct xenbus_watch *watch, const char *path, const char *token);
	struct xenbus_watch shadow;
	bool adopted;
	bool (*will_handle)(struct xenbus_watch *watch, const char *path, const char *token);
	unsigned int domid;
	struct mutex giving;	/* registering with the kernel again | @dead */
	spinlock_t lock;	/* @dead, @returned | an event */
	bool dead;
	bool returned;
	bool queued;
	struct mtw_event event;
	struct kref kref;
	struct rcu_head rcu;
	struct mtw_reap reap;
	char token[sizeof(long) * 2 + 1];
	char node[];
};

/**
 * struct mtw_run - somebody who runs callbacks, one after the other, and what it is in
 * @lock: protects all of this, and the rest of a domain
 * @task: the thread; xenwatch: whoever ran the last callback
 * @pid: its pid, for people
 * @watch: whose callback is running, or NULL
 * @domid: for which domain
 * @path: for which path
 * @callback: the function
 * @since: from when on
 * @warn_secs: how long that may be
 * @seq: callbacks that have ended
 * @idle: woken when a callback ends
 * @overdue: warns, once for each callback
 * @depth: events that wait; xenwatch: always 0, its queue is the kernel's own
 * @longest: the longest callback so far
 * @longest_name: which function that was
 * @longest_path: for which path
 */
struct mtw_run {
	spinlock_t lock;	/* all of this, and the rest of a domain */
	struct task_struct *task;
	pid_t pid;
	struct mtw_watch *watch;
	unsigned int domid;
	const char *path;
	void *callback;
	ktime_t since;
	unsigned int warn_secs;
	unsigned long seq;
	wait_queue_head_t idle;
	struct delayed_work overdue;
	unsigned int depth;
	s64 longest;
	char longest_name[MTW_NAME_LEN];
	char longest_path[MTW_PATH_LEN];
};

/**
 * struct mtw_dom - a domain with a thread, or about to get one
 * @hnode: in the table, by @domid; RCU, its writers hold mtw_lock
 * @domid: the domain; never 0
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
	struct delayed_work start;
	unsigned long queued;
	unsigned long done;
	unsigned long merged;
	unsigned long flushed;
	unsigned long rescans;
	unsigned int max_depth;
	s64 max_wait;
};

/* main.c: parameters, and the way on and off */
#define MTW_BY_NODE	BIT(0)
#define MTW_AUTO	BIT(1)

extern unsigned int mtw_mode;			/* MTW_BY_NODE | MTW_AUTO */
extern unsigned int mtw_warn_secs;
extern unsigned int mtw_idle_secs;
extern unsigned int mtw_max_threads;
extern struct workqueue_struct *mtw_wq;
extern wait_queue_head_t mtw_changed;		/* the last domain is gone, a probe is back, … */
const char *mtw_state_name(void);
const char *mtw_mode_name(void);

/* hook.c: the kernel's two functions */
int mtw_hook(void);
int mtw_unhook(void);
void mtw_come_in(void);
void mtw_go_out(void);
int mtw_stock_register(struct xenbus_watch *watch);
void mtw_stock_unregister(struct xenbus_watch *watch);

/* watch.c: the drivers' watches and their shadows */
extern struct mtw_watch *mtw_backends;		/* the watch of all backends, once adopted */
int mtw_watch_register(struct xenbus_watch *watch);
void mtw_watch_unregister(struct xenbus_watch *watch);
bool mtw_watch_eligible(const struct xenbus_watch *watch, unsigned int *domid);
int mtw_watch_adopt(struct xenbus_watch *watch, unsigned int domid);
int mtw_watch_each(unsigned int domid, int (*see)(const char *node, void *data), void *data);
void mtw_watch_call(struct mtw_watch *watch, const char *path);
void mtw_watch_get(struct mtw_watch *watch);
void mtw_watch_put(struct mtw_watch *watch);
void mtw_watch_open(bool open);
void mtw_watch_known(void);
int mtw_watch_return_all(void);
void mtw_watch_restore_adopted(void);
void mtw_watch_forget_adopted(void);

/* path.c: what a path says */
unsigned int mtw_parse_domid(const char *s, const char **end);
unsigned int mtw_domid_of(const char *path);
unsigned int mtw_backend_domid(const char *path);
int mtw_device_len(const char *path);
bool mtw_symbol_is(const void *address, const char *name);

/* reap.c: unregistering without waiting */
void mtw_reap(struct mtw_reap *reap, unsigned int domid);
void mtw_reap_now(struct mtw_reap *reap);
bool mtw_reaped(void);

/* adopt.c: watches that were there before the module */
int mtw_adopt_global(void);
void mtw_adopt_known(void);
void mtw_adopt_devices(void);
void mtw_adopt_stop(void);
int mtw_adopt_return(void);
bool mtw_adopt_partial(void);
bool mtw_adopt_settled(void);
unsigned int mtw_adopted(void);

/* run.c: what runs, for how long */
extern struct mtw_run mtw_xenwatch;
void mtw_run_init(struct mtw_run *run);
void mtw_run_begin(struct mtw_run *run, struct mtw_watch *watch, unsigned int domid,
		   const char *path);
void mtw_run_end(struct mtw_run *run);
bool mtw_run_tells(struct mtw_run *run, s64 ms);
void mtw_run_uevent(unsigned int domid, const char *name, const char *path, s64 ms);
void mtw_run_wait(struct mtw_run *run, unsigned int domid);
void mtw_run_show(struct seq_file *m, struct mtw_run *run);
void mtw_run_show_longest(struct seq_file *m, struct mtw_run *run);

/* probe.c: has xenwatch come this far? */
u64 mtw_probe_ticket(void);
bool mtw_probe_passed(u64 ticket);
s64 mtw_probe_age(void);
s64 mtw_probe_store_age(void);
void mtw_probe_look(void);
void mtw_probe_start(void);
void mtw_probe_stop(void);

/* domain.c: threads and queues */
extern spinlock_t mtw_lock;
bool mtw_dom_take(struct mtw_watch *watch, unsigned int domid, const char *path);
void mtw_dom_flush(struct mtw_watch *watch);
bool mtw_dom_node(unsigned int domid);
void mtw_dom_node_gone(unsigned int domid, const unsigned long *to_ask);
void mtw_dom_mark_passed(unsigned int domid);
void mtw_dom_mark_passed_up_to(unsigned int top);
bool mtw_dom_is_passed(unsigned int domid);
void mtw_dom_each_by_node(unsigned long *domids);
void mtw_dom_open(bool open);
void mtw_dom_leave_all(void);
void mtw_dom_kick_new(void);
unsigned int mtw_dom_count(void);
long mtw_dom_n_passed(void);
void mtw_dom_show_all(struct seq_file *m);

/* rescan.c: looking at a domain's backends when an event could not be kept */
int mtw_seen(struct list_head *seen, const char *path);
void mtw_seen_free(struct list_head *seen);
int mtw_rescan(unsigned int domid, struct list_head *seen);

/* node.c: /local/domain/0/mtwatch/<domid> */
int mtw_node_exists(const char *dir, const char *name);
int mtw_node_start(void);
void mtw_node_stop(void);
void mtw_node_ask_all(unsigned long delay);

/* stat.c: debugfs */
void mtw_stat_init(void);
void mtw_stat_exit(void);

#endif
