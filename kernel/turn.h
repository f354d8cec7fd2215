/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MTW_TURN_H
#define MTW_TURN_H

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/wait.h>

/**
 * struct mtw_turn - a thread's turn to run one callback
 * @list: among those that wait for theirs, or have it and are counted
 * @given: it has come
 * @since: when it came
 * @wake: the thread sleeps here
 */
struct mtw_turn {
	struct list_head list;
	bool given;
	ktime_t since;
	wait_queue_head_t wake;
};

void mtw_turn_init(struct mtw_turn *turn);
void mtw_turn_take(struct mtw_turn *turn);
void mtw_turn_end(struct mtw_turn *turn);
unsigned int mtw_turn_waiting(void);
void mtw_turn_stop(void);

#endif
