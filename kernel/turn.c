// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many callbacks run at once.
 *
 * They contend for rtnl and for the one ring to xenstored: when many domains change the states of
 * their devices all the time, and all callbacks run at once, each takes so long that toolstacks,
 * which wait ten seconds for a device, give up.  So threads have turns, in the order in which they
 * ask.
 *
 * What is stuck must keep nobody waiting.  So a callback that takes longer than a moment is not
 * counted any more; and however many are stuck before it, as when the storage of many guests has
 * just gone, none waits for longer than two seconds.
 */
#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "main.h"
#include "turn.h"

#define MOMENT	100	/* ms */
#define LONGEST	2000	/* ms */

static DEFINE_SPINLOCK(mtw_turn_lock);	/* all turns and these */
static LIST_HEAD(waiting);		/* oldest first */
static LIST_HEAD(counted);		/* oldest first */
static unsigned int n_waiting, n_counted;

static void mtw_turn_deal_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(deal_work, mtw_turn_deal_fn);

static unsigned int mtw_turn_limit(void)
{
	return READ_ONCE(mtw_max_active) ?: max(num_online_cpus(), 2U);
}

static struct mtw_turn *mtw_turn_first(struct list_head *turns)
{
	return list_first_entry_or_null(turns, struct mtw_turn, list);
}

/* Of its moment, in ms. */
static unsigned int mtw_turn_left(const struct mtw_turn *turn)
{
	s64 ms = MOMENT - ktime_ms_delta(ktime_get(), turn->since);

	return ms > 0 ? ms : 0;
}

static void mtw_turn_uncount(struct mtw_turn *turn)
{
	lockdep_assert_held(&mtw_turn_lock);
	list_del_init(&turn->list);
	n_counted--;
}

static void mtw_turn_give(struct mtw_turn *turn)
{
	lockdep_assert_held(&mtw_turn_lock);
	list_move_tail(&turn->list, &counted);
	n_waiting--;
	n_counted++;
	turn->since = ktime_get();
	WRITE_ONCE(turn->given, true);
	wake_up(&turn->wake);
}

/* Whose moment is over is not counted any more; whose turn it is may go on. */
static void mtw_turn_deal(void)
{
	struct mtw_turn *turn;

	lockdep_assert_held(&mtw_turn_lock);
	while ((turn = mtw_turn_first(&counted)) && !mtw_turn_left(turn))
		mtw_turn_uncount(turn);
	while (n_counted < mtw_turn_limit() && (turn = mtw_turn_first(&waiting)))
		mtw_turn_give(turn);
	if (n_waiting) {
		turn = mtw_turn_first(&counted);	/* the limit is one at least */
		queue_delayed_work(mtw_wq, &deal_work, msecs_to_jiffies(mtw_turn_left(turn)) + 1);
	}
}

static void mtw_turn_deal_fn(struct work_struct *work)
{
	spin_lock(&mtw_turn_lock);
	mtw_turn_deal();
	spin_unlock(&mtw_turn_lock);
}

void mtw_turn_init(struct mtw_turn *turn)
{
	INIT_LIST_HEAD(&turn->list);
	turn->given = false;
	init_waitqueue_head(&turn->wake);
}

/**
 * mtw_turn_take() - wait until a callback may run
 * @turn: the caller's, who has none
 */
void mtw_turn_take(struct mtw_turn *turn)
{
	spin_lock(&mtw_turn_lock);
	list_add_tail(&turn->list, &waiting);
	n_waiting++;
	mtw_turn_deal();
	spin_unlock(&mtw_turn_lock);
	wait_event_interruptible_timeout(turn->wake, READ_ONCE(turn->given),
					 msecs_to_jiffies(LONGEST));
	spin_lock(&mtw_turn_lock);
	if (!turn->given) {
		list_del_init(&turn->list);
		n_waiting--;
	}
	spin_unlock(&mtw_turn_lock);
}

/**
 * mtw_turn_end() - the callback has ended, or sleeps, or there was none to run
 * @turn: the caller's; it may be over already
 */
void mtw_turn_end(struct mtw_turn *turn)
{
	spin_lock(&mtw_turn_lock);
	if (!list_empty(&turn->list))
		mtw_turn_uncount(turn);
	WRITE_ONCE(turn->given, false);
	mtw_turn_deal();
	spin_unlock(&mtw_turn_lock);
}

/**
 * mtw_turn_waiting() - threads that wait for their turn
 *
 * Return: how many.
 */
unsigned int mtw_turn_waiting(void)
{
	unsigned int n;

	spin_lock(&mtw_turn_lock);
	n = n_waiting;
	spin_unlock(&mtw_turn_lock);
	return n;
}

/** mtw_turn_stop() - there are no threads any more */
void mtw_turn_stop(void)
{
	cancel_delayed_work_sync(&deal_work);
}
