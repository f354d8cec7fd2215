/* SPDX-License-Identifier: GPL-2.0-only */
/* What runs, for how long. */
#ifndef MTW_RUN_H
#define MTW_RUN_H

#include <linux/ktime.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "mtwatch.h"

struct mtw_watch;
struct seq_file;
struct task_struct;

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
 * @warned: it was longer, and that has been told
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
	bool warned;
	unsigned long seq;
	wait_queue_head_t idle;
	struct delayed_work overdue;
	unsigned int depth;
	s64 longest;
	char longest_name[MTW_NAME_LEN];
	char longest_path[MTW_PATH_LEN];
};

extern struct mtw_run mtw_xenwatch;
void mtw_thread_name(char name[MTW_THREAD_LEN], unsigned int domid);
unsigned long mtw_time_left(ktime_t since, unsigned int secs);
void mtw_run_init(struct mtw_run *run);
void mtw_run_begin(struct mtw_run *run, struct mtw_watch *watch, unsigned int domid,
		   const char *path);
void mtw_run_end(struct mtw_run *run);
bool mtw_run_tells(struct mtw_run *run, s64 ms);
void mtw_run_uevent(const char *thread, unsigned int domid, const char *name, const char *path,
		    s64 ms);
void mtw_run_wait(struct mtw_run *run, unsigned int domid);
void mtw_run_show(struct seq_file *m, struct mtw_run *run);
void mtw_run_show_longest(struct seq_file *m, struct mtw_run *run);

#endif
