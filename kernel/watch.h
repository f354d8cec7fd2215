/* SPDX-License-Identifier: GPL-2.0-only */
/* The drivers' watches and their shadows. */
#ifndef MTW_WATCH_H
#define MTW_WATCH_H

#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <xen/xenbus.h>

#include "mtwatch.h"
#include "reap.h"

struct mtw_watch;

/**
 * struct mtw_event - an event on a domain's queue
 * @list: on mtw_dom.events; mtw_run.lock
 * @watch: whose event this is; holds a reference
 * @queued_at: when it was queued
 * @path: what the callback is told has changed; belongs to the event, or, for the one that is a
 *	part of @watch, is its node
 */
struct mtw_event {
	struct list_head list;
	struct mtw_watch *watch;
	ktime_t queued_at;
	const char *path;
};

/**
 * struct mtw_watch - a driver's watch whose events are the module's
 * @hnode: in the table, by @orig; RCU, its writers hold mtw_table_lock
 * @orig: the driver's watch; not valid any more when @dead or @returned
 * @callback: the driver's function
 * @shadow: what is registered with the kernel in its place (not for @adopted)
 * @adopted: @orig was registered before the module came and is on the kernel's list itself,
 *	with the module's functions
 * @will_handle: what an adopted watch had before
 * @domid: whose device's watch this is; MTW_NONE for the watch of all backends, whose events tell
 *	it; MTW_USERS for one of user space
 * @global: of all backends, or of all devices that this domain uses: an event for each device
 * @back: it is user space's and waits for xenwatch to come by, after @returned; mtw_table_lock
 * @giving: held while @orig is registered with the kernel again, and over setting @dead
 * @lock: whoever sets @dead or @returned under it knows that no event is queued afterwards
 * @dead: the driver has unregistered it
 * @returned: the kernel has @orig again
 * @queued: @event is on a queue; mtw_run.lock of the domain
 * @event: the only event of a device's watch: "look again", pending once
 * @kref: the table's (or the reaper's, after it), and one for each event
 * @rcu: freed by this
 * @reap: @shadow's way out
 * @token: what a callback gets as its token
 * @device: the node of the device whose it is, for the other end's watch; else @node
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
	bool global;
	bool back;
	struct mutex giving;	/* registering with the kernel again | @dead */
	spinlock_t lock;	/* @dead, @returned | an event */
	bool dead;
	bool returned;
	bool queued;
	struct mtw_event event;
	struct kref kref;
	struct rcu_head rcu;
	struct mtw_reap reap;
	const char *device;
	char token[sizeof(long) * 2 + 1];
	char node[];
};

extern struct mtw_watch *mtw_backends;		/* the watch of all backends, once adopted */
extern struct mtw_watch *mtw_frontends;		/* the same of all devices that this domain uses */
static inline bool mtw_watch_is_users(const struct mtw_watch *watch)
{
	return watch->domid == MTW_USERS;
}

int mtw_watch_register(struct xenbus_watch *watch);
void mtw_watch_unregister(struct xenbus_watch *watch);
bool mtw_watch_eligible(const struct xenbus_watch *watch, unsigned int *domid);
bool mtw_watch_is_global(const struct xenbus_watch *watch);
int mtw_watch_adopt(struct xenbus_watch *watch, unsigned int domid);
int mtw_watch_each(unsigned int domid, int (*see)(const char *node, void *data), void *data);
void mtw_watch_domids(unsigned long *domids);
void mtw_watch_call(struct mtw_watch *watch, const char *path);
void mtw_watch_get(struct mtw_watch *watch);
void mtw_watch_put(struct mtw_watch *watch);
void mtw_watch_open(bool open);
void mtw_watch_known(void);
int mtw_watch_return_all(void);
void mtw_watch_let_go(void);
void mtw_watch_restore_adopted(void);
void mtw_watch_forget_adopted(void);

#endif
