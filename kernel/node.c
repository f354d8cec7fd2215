// SPDX-License-Identifier: GPL-2.0-only
/*
 * /local/domain/0/mtwatch/<domid>: the toolstack's wish for a thread.
 *
 * The event of a new node comes before those of the domain's devices, and the domain is made right
 * then.  Whether the node is there, or is still there, is asked afterwards.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "domain.h"
#include "hook.h"
#include "main.h"
#include "mtwatch.h"
#include "node.h"
#include "path.h"
#include "run.h"
#include "watch.h"

#define ASKERS	8
#define LONGEST_SECS	10	/* that newer lists keep an asker from the end of one */
#define APART		128	/* domids are a block, of which one is asked about first */
#define BLOCKS		DIV_ROUND_UP(MTW_DOMIDS, APART)

/*
 * Who asks about nodes: each about domids of its own, so that about any of them there is one answer
 * at a time; and several, as most of what a request takes is the way to xenstored and back.
 */
struct mtw_asker {
	struct delayed_work work;
	unsigned int list;			/* that it is at */
	bool again;				/* somebody has to be asked about again */
	bool kept;				/* by newer ones from the end of one */
	ktime_t since;				/* then */
	DECLARE_BITMAP(first, MTW_DOMIDS);	/* who has devices */
};

static struct mtw_asker askers[ASKERS];
static DECLARE_BITMAP(to_ask, MTW_DOMIDS);	/* bits are set before the domain is told */
static DECLARE_BITMAP(found, BLOCKS + 1);	/* blocks that have a node */
static unsigned int lists;			/* so many were made */
static bool watching;

unsigned long mtw_node_hints[BITS_TO_LONGS(MTW_DOMIDS)];

static void mtw_node_list_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(list_work, mtw_node_list_fn);

/* Domid 0 has a thread for its own devices without one. */
static bool mtw_node_may_be_of(unsigned int domid)
{
	return domid && domid < MTW_DOMIDS;
}

static bool mtw_node_will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	const char *end;
	unsigned int domid;

	if (strncmp(path, MTW_NODE "/", sizeof(MTW_NODE))) {
		mtw_node_ask_all(0);	/* all of them are gone, or this is the first event */
		return false;
	}
	domid = mtw_parse_domid(path + sizeof(MTW_NODE), &end);
	if (!mtw_node_may_be_of(domid) || *end)
		return false;
	set_bit(domid, to_ask);
	mtw_dom_node(domid);
	mod_delayed_work(mtw_wq, &askers[domid % ASKERS].work, 0);
	return false;		/* nothing for xenwatch */
}

static void mtw_node_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static struct xenbus_watch node_watch = {
	.node = MTW_NODE,
	.will_handle = mtw_node_will_handle,
	.callback = mtw_node_callback,
};

/* 0: every node that is there, and every domain that had one, is to be asked about. */
static int mtw_node_list(void)
{
	unsigned int i, domid, n = 0;
	const char *end;
	char **nodes;

	mtw_dom_each_by_node(to_ask);
	if (!(READ_ONCE(mtw_mode) & MTW_BY_NODE))
		return 0;
	nodes = xenbus_directory(XBT_NIL, MTW_NODE, "", &n);
	if (nodes == ERR_PTR(-E2BIG)) {
		/* A reply has 4096 bytes at most, the kernel has no other way: ask for each. */
		for (i = 0; i < BLOCKS; i++)
			clear_bit(i, found);
		for (domid = 1; domid < MTW_DOMIDS; domid++)
			set_bit(domid, to_ask);
		return 0;
	}
	if (IS_ERR(nodes))
		return PTR_ERR(nodes) == -ENOENT ? 0 : PTR_ERR(nodes);
	for (i = 0; i < n; i++) {
		domid = mtw_parse_domid(nodes[i], &end);
		if (mtw_node_may_be_of(domid) && !*end)
			set_bit(domid, to_ask);
	}
	kfree(nodes);
	return 0;
}

/**
 * mtw_node_exists() - ask xenstored
 * @dir: below which node
 * @name: for which one
 *
 * Return: 0 or 1: it is not there, it is. An error says neither.
 */
int mtw_node_exists(const char *dir, const char *name)
{
	unsigned int n;
	char **below = xenbus_directory(XBT_NIL, dir, name, &n);

	if (below == ERR_PTR(-ENOENT))
		return 0;
	if (IS_ERR(below))
		return below == ERR_PTR(-E2BIG) ? 1 : PTR_ERR(below);
	kfree(below);
	return 1;
}

static int mtw_node_ask(unsigned int domid)
{
	char name[12];

	if (!(READ_ONCE(mtw_mode) & MTW_BY_NODE))
		return 0;
	snprintf(name, sizeof(name), "%u", domid);
	return mtw_node_exists(MTW_NODE, name);
}

static void mtw_node_ask_if_due(struct mtw_asker *asker, unsigned int domid)
{
	int answer;

	if (!READ_ONCE(watching) || !test_bit(domid, to_ask))
		return;
	clear_bit(domid, to_ask);
	answer = mtw_node_ask(domid);
	if (answer < 0 || (answer && !mtw_dom_node(domid))) {
		set_bit(domid, to_ask);
		asker->again = true;
	}
	if (answer > 0)
		set_bit(domid / APART, found);
	if (!answer)
		mtw_dom_node_gone(domid, to_ask);
}

/*
 * There is a newer list, so that the first ones are due again.  But not for ever: as long as lists
 * come faster than all can be asked about, the last ones have their turn, too.
 */
static bool mtw_node_begins_anew(struct mtw_asker *asker)
{
	if (READ_ONCE(lists) == asker->list)
		return false;
	if (!asker->kept) {
		asker->kept = true;
		asker->since = ktime_get();
	}
	return mtw_time_left(asker->since, LONGEST_SECS);
}

/* Of those from @domid on and below @end. */
static void mtw_node_ask_those(struct mtw_asker *asker, const unsigned long *domids,
			       unsigned long domid, unsigned long end)
{
	for_each_set_bit_from(domid, domids, end) {
		if (mtw_node_begins_anew(asker))
			break;
		if (domid % ASKERS == asker - askers)
			mtw_node_ask_if_due(asker, domid);
	}
}

/* Of those in a block, if it or one beside it has a node. */
static void mtw_node_ask_block(struct mtw_asker *asker, unsigned int block)
{
	unsigned long from = block * APART;

	if (test_bit(block, found) || test_bit(block + 1, found) ||
	    (block && test_bit(block - 1, found)))
		mtw_node_ask_those(asker, to_ask, from,
				   min_t(unsigned long, from + APART, MTW_DOMIDS));
}

/*
 * Domids are given one after the other, so there are more where one is.  All of them take a minute;
 * those of a thousand guests that came one soon after the other are found in seconds: by one of
 * each block, and then from block to block.
 */
static void mtw_node_ask_around(struct mtw_asker *asker)
{
	unsigned int block;
	unsigned long one;

	for (block = 0; block < BLOCKS; block++) {
		one = block * APART + block % ASKERS;
		mtw_node_ask_those(asker, to_ask, one, one + 1);
	}
	for (block = BLOCKS; block--;)
		mtw_node_ask_block(asker, block);
	for (block = 0; block < BLOCKS; block++)
		mtw_node_ask_block(asker, block);
}

static void mtw_node_ask_fn(struct work_struct *work)
{
	struct mtw_asker *asker = container_of(work, struct mtw_asker, work.work);

	/* pairs with mtw_node_list_fn(): the bits are set */
	asker->list = smp_load_acquire(&lists);
	asker->again = false;
	/* Who has devices most likely has a node, and needs its thread most. */
	bitmap_zero(asker->first, MTW_DOMIDS);
	mtw_watch_domids(asker->first);
	mtw_node_ask_those(asker, asker->first, 0, MTW_DOMIDS);
	mtw_node_ask_around(asker);
	mtw_node_ask_those(asker, to_ask, 0, MTW_DOMIDS);
	asker->kept = mtw_node_begins_anew(asker);	/* it was queued by the newer list */
	if (asker->again && READ_ONCE(watching))
		queue_delayed_work(mtw_wq, &asker->work, HZ);
}

static void mtw_node_list_fn(struct work_struct *work)
{
	static unsigned int tries;	/* in a row that failed */
	unsigned int i;
	int err;

	err = mtw_node_list();
	if (err) {
		if (mtw_is_told(&tries))
			pr_warn("cannot list the nodes (%d): it is tried again every second\n",
				err);
		if (READ_ONCE(watching))
			queue_delayed_work(mtw_wq, &list_work, HZ);
	} else {
		tries = 0;
		/* Who is amid an older one, which may take a minute, begins anew. */
		smp_store_release(&lists, lists + 1);
	}
	for (i = 0; i < ASKERS; i++)
		mod_delayed_work(mtw_wq, &askers[i].work, 0);
}

/**
 * mtw_node_ask_all() - look at all nodes, some time
 * @delay: jiffies from now
 */
void mtw_node_ask_all(unsigned long delay)
{
	if (delay)
		queue_delayed_work(mtw_wq, &list_work, delay);
	else
		mod_delayed_work(mtw_wq, &list_work, 0);
}

/**
 * mtw_node_hinted() - have the threads there that the parameter domids asks for
 *
 * Whoever loads the module may know the nodes, which with many of them may take a minute to find
 * out from here.  It is a hint: each domain is asked about afterwards, as if its node had just
 * come.
 */
void mtw_node_hinted(void)
{
	unsigned long domid;

	for_each_set_bit(domid, mtw_node_hints, MTW_DOMIDS) {
		clear_bit(domid, mtw_node_hints);
		if (!domid)
			continue;
		set_bit(domid, to_ask);
		mtw_dom_node(domid);
	}
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
	bool was = READ_ONCE(watching);
	unsigned int i;

	WRITE_ONCE(watching, false);
	if (was)
		mtw_stock_unregister(&node_watch);
	cancel_delayed_work_sync(&list_work);
	for (i = 0; i < ASKERS; i++) {
		cancel_delayed_work_sync(&askers[i].work);
		if (was)
			askers[i].kept = false;
	}
}

/** mtw_node_init() - once, before all others here */
void mtw_node_init(void)
{
	unsigned int i;

	for (i = 0; i < ASKERS; i++)
		INIT_DELAYED_WORK(&askers[i].work, mtw_node_ask_fn);
}
