/* SPDX-License-Identifier: GPL-2.0-only */
/* Parameters, and what all others need to know of the state. */
#ifndef MTW_MAIN_H
#define MTW_MAIN_H

#include <linux/bits.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define MTW_BY_NODE	BIT(0)
#define MTW_AUTO	BIT(1)

extern unsigned int mtw_mode;			/* MTW_BY_NODE | MTW_AUTO */
extern unsigned int mtw_warn_secs;
extern unsigned int mtw_idle_secs;
extern unsigned int mtw_max_threads;
extern unsigned int mtw_max_active;
extern struct workqueue_struct *mtw_wq;
extern wait_queue_head_t mtw_changed;		/* the last domain is gone, a probe is back, … */
bool mtw_is_told(unsigned int *tries);
const char *mtw_state_name(void);
const char *mtw_mode_name(void);

#endif
