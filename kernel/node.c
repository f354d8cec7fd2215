// SPDX-License-Identifier: GPL-2.0-only
/*
 * /local/domain/0/mtwatch/<domid>: the toolstack's wish for a thread.
 *
 * The event of a new node comes before those of the domain's devices, and the domain is made right
 * then.  Whether the node is there is asked afterwards, for all nodes at once.
 */
#include <linux/atomic.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "mtwatch.h"

static atomic_long_t seq = ATOMIC_LONG_INIT(0);		/* events of nodes */
static bool watching;
static bool too_many;		/* for xenstored to list them in one reply */

static void scan_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(scan_work, scan_fn);

static bool will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	const char *end;
	unsigned int domid;
	long now = atomic_long_inc_return(&seq);

	if ((READ_ONCE(mtw_mode) & MTW_BY_NODE) && !strncmp(path, MTW_NODE "/", sizeof(MTW_NODE))) {
		domid = mtw_parse_domid(path + sizeof(MTW_NODE), &end);
		if (domid && !*end)
			mtw_dom_node(domid, now);
	}
	mtw_node_scan(0);
	return false;		/* nothing for xenwatch */
}

static void callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static struct xenbus_watch node_watch = {
	.node = MTW_NODE,
	.will_handle = will_handle,
	.callback = callback,
};

/*
 * A reply has 4096 bytes at most, and the kernel has no other way to list more.  So ask for those
 * that matter: who has a thread, who has events.
 */
static int ask_each(unsigned long *domids)
{
	unsigned long *known = bitmap_zalloc(MTW_DOMIDS, GFP_KERNEL);
	unsigned long domid;
	char name[12];

	if (!known)
		return -ENOMEM;
	mtw_dom_each_known(known);
	__clear_bit(0, known);
	for_each_set_bit(domid, known, MTW_DOMIDS) {
		snprintf(name, sizeof(name), "%lu", domid);
		if (xenbus_exists(XBT_NIL, MTW_NODE, name))
			__set_bit(domid, domids);
	}
	bitmap_free(known);
	return 0;
}

/* 0: @domids are the nodes that are there. */
static int list_nodes(unsigned long *domids)
{
	const char *end;
	unsigned int i, domid, n = 0;
	char **nodes;

	if (!(READ_ONCE(mtw_mode) & MTW_BY_NODE))
		return 0;
	nodes = xenbus_directory(XBT_NIL, MTW_NODE, "", &n);
	WRITE_ONCE(too_many, nodes == ERR_PTR(-E2BIG));
	if (too_many)
		return ask_each(domids);
	if (IS_ERR(nodes))
		return PTR_ERR(nodes) == -ENOENT ? 0 : PTR_ERR(nodes);
	for (i = 0; i < n; i++) {
		domid = mtw_parse_domid(nodes[i], &end);
		if (domid && !*end)
			__set_bit(domid, domids);
	}
	kfree(nodes);
	return 0;
}

static void scan_fn(struct work_struct *work)
{
	unsigned long *domids = bitmap_zalloc(MTW_DOMIDS, GFP_KERNEL);
	long before = atomic_long_read(&seq);
	unsigned long domid;
	bool ok = domids && !list_nodes(domids);

	if (ok) {
		for_each_set_bit(domid, domids, MTW_DOMIDS)
			ok = mtw_dom_node(domid, before) && ok;
		mtw_dom_nodes_are(domids, before);
	}
	bitmap_free(domids);
	if (!ok && READ_ONCE(watching))
		mtw_node_scan(HZ);
}

/**
 * mtw_node_scan() - look at all nodes, some time
 * @delay: jiffies from now
 */
void mtw_node_scan(unsigned long delay)
{
	if (delay)
		queue_delayed_work(mtw_wq, &scan_work, delay);
	else
		mod_delayed_work(mtw_wq, &scan_work, 0);
}

/**
 * mtw_node_passed() - xenwatch was given an event of a domain; watches_lock held
 *
 * When not all nodes could be listed, that domain may have one.
 */
void mtw_node_passed(void)
{
	if (READ_ONCE(too_many))
		mtw_node_scan(HZ);
}

/**
 * mtw_node_start() - follow the nodes
 *
 * Return: 0, or what xenstored says.
 */
int mtw_node_start(void)
{
	int err;

	WRITE_ONCE(watching, true);
	err = mtw_stock_register(&node_watch);
	if (err)
		WRITE_ONCE(watching, false);
	return err;
}

/** mtw_node_stop() - not any more; waits for xenwatch */
void mtw_node_stop(void)
{
	bool was = watching;

	WRITE_ONCE(watching, false);
	if (was)
		mtw_stock_unregister(&node_watch);
	cancel_delayed_work_sync(&scan_work);
}
