// SPDX-License-Identifier: GPL-2.0-only
/* Who is in which callback, since when; a warning when that takes too long. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "main.h"
#include "mtwatch.h"
#include "run.h"
#include "trace.h"
#include "watch.h"

/* xenwatch itself, while it runs a callback of a watch that is the module's. */
struct mtw_run mtw_xenwatch;

/* A function's name without its module, which "%ps" appends after a blank. */
static void mtw_name_of(char *name, size_t size, const void *callback)
{
	snprintf(name, size, "%ps", callback);
	name[strcspn(name, " ")] = '\0';
}

/**
 * mtw_thread_name() - what a thread is called
 * @name: where to
 * @domid: whose it is; or MTW_USERS
 */
void mtw_thread_name(char name[MTW_THREAD_LEN], unsigned int domid)
{
	if (domid == MTW_USERS)
		strscpy(name, "xen-mtwatch-users", MTW_THREAD_LEN);
	else
		snprintf(name, MTW_THREAD_LEN, "xen-mtwatch-%u", domid);
}

static void mtw_run_name(char name[MTW_THREAD_LEN], const struct mtw_run *run, unsigned int domid)
{
	if (run == &mtw_xenwatch)
		strscpy(name, "xenwatch", MTW_THREAD_LEN);
	else
		mtw_thread_name(name, domid);
}

/**
 * mtw_run_uevent() - tell user space what takes long
 * @thread: who is in it
 * @domid: for which domain; one that is none: "-"
 * @name: the callback's name; "-": whatever xenwatch does that the module does not know
 * @path: for which path
 * @ms: for how long by now
 */
void mtw_run_uevent(const char *thread, unsigned int domid, const char *name, const char *path,
		    s64 ms)
{
	char *env[6] = { };
	unsigned int i;

	env[0] = domid < MTW_DOMIDS ? kasprintf(GFP_KERNEL, "MTWATCH_DOMID=%u", domid) :
				      kasprintf(GFP_KERNEL, "MTWATCH_DOMID=-");
	env[1] = kasprintf(GFP_KERNEL, "MTWATCH_CALLBACK=%s", name);
	env[2] = kasprintf(GFP_KERNEL, "MTWATCH_PATH=%s", path);
	env[3] = kasprintf(GFP_KERNEL, "MTWATCH_AGE_MS=%lld", ms);
	env[4] = kasprintf(GFP_KERNEL, "MTWATCH_THREAD=%s", thread);
	if (env[0] && env[1] && env[2] && env[3] && env[4])
		kobject_uevent_env(&THIS_MODULE->mkobj.kobj, KOBJ_CHANGE, env);
	for (i = 0; i < ARRAY_SIZE(env); i++)
		kfree(env[i]);
}

/**
 * mtw_time_left() - how much of its time does something have left?
 * @since: when it began
 * @secs: its time
 *
 * A timer may be early by a jiffy, as jiffies are rounded: what it is for may not be due yet.
 *
 * Return: jiffies, after which it has certainly none; 0: none.
 */
unsigned long mtw_time_left(ktime_t since, unsigned int secs)
{
	s64 ms = (s64)secs * MSEC_PER_SEC - ktime_ms_delta(ktime_get(), since);

	return ms > 0 ? (unsigned long)ms * HZ / MSEC_PER_SEC + 2 : 0;
}

/*
 * Is it to be warned about now?  If that is too early, the work comes again: unless that has been
 * arranged already, by the callback that runs now for itself, which is then not the one that this
 * work was for.
 */
static bool mtw_run_is_overdue(struct mtw_run *run)
{
	unsigned long left;

	lockdep_assert_held(&run->lock);
	if (!run->watch || run->warned || !run->warn_secs || !READ_ONCE(mtw_warn_secs))
		return false;
	left = mtw_time_left(run->since, run->warn_secs);
	if (left)
		queue_delayed_work(mtw_wq, &run->overdue, left);
	run->warned = !left;
	return run->warned;
}

static void mtw_run_overdue_fn(struct work_struct *work)
{
	struct mtw_run *run = container_of(work, struct mtw_run, overdue.work);
	char name[MTW_NAME_LEN], path[MTW_PATH_LEN], thread[MTW_THREAD_LEN];
	unsigned int domid, depth;
	pid_t pid;
	s64 ms;

	spin_lock(&run->lock);
	if (!mtw_run_is_overdue(run)) {
		spin_unlock(&run->lock);
		return;
	}
	ms = ktime_ms_delta(ktime_get(), run->since);
	strscpy(path, run->path, sizeof(path));
	mtw_name_of(name, sizeof(name), run->callback);
	domid = run->domid;
	pid = run->pid;
	depth = run->depth;
	spin_unlock(&run->lock);

	mtw_run_name(thread, run, domid);
	if (run == &mtw_xenwatch && domid >= MTW_DOMIDS)
		pr_warn("xenwatch (pid %d) has been in %s for %lld s, on %s; every domain without a thread waits\n",
			pid, name, ms / MSEC_PER_SEC, path);
	else if (run == &mtw_xenwatch)
		pr_warn("xenwatch (pid %d) has been in %s for %lld s, of domain %u, on %s; every domain without a thread waits\n",
			pid, name, ms / MSEC_PER_SEC, domid, path);
	else if (domid == MTW_USERS)
		pr_warn("%s (pid %d) has been in %s for %lld s, on %s; %u more events for /dev/xen/xenbus wait, domains do not\n",
			thread, pid, name, ms / MSEC_PER_SEC, path, depth);
	else
		pr_warn("%s (pid %d) has been in %s for %lld s, on %s; %u more events of domain %u wait, other domains do not\n",
			thread, pid, name, ms / MSEC_PER_SEC, path, depth, domid);
	mtw_run_uevent(thread, domid, name, path, ms);
}

void mtw_run_init(struct mtw_run *run)
{
	memset(run, 0, sizeof(*run));
	spin_lock_init(&run->lock);
	init_waitqueue_head(&run->idle);
	INIT_DELAYED_WORK(&run->overdue, mtw_run_overdue_fn);
}

/**
 * mtw_run_begin() - a callback begins; called with @run->lock held, by the task that runs it
 * @run: who
 * @watch: whose callback
 * @domid: for which domain
 * @path: for which path; stays until mtw_run_end()
 */
void mtw_run_begin(struct mtw_run *run, struct mtw_watch *watch, unsigned int domid,
		   const char *path)
{
	lockdep_assert_held(&run->lock);
	WRITE_ONCE(run->task, current);
	run->pid = task_pid_nr(current);
	run->watch = watch;
	run->domid = domid;
	run->path = path;
	run->callback = watch->callback;
	run->since = ktime_get();
	run->warn_secs = READ_ONCE(mtw_warn_secs);
	run->warned = false;
	if (run->warn_secs)
		mod_delayed_work(mtw_wq, &run->overdue, (unsigned long)run->warn_secs * HZ);
	trace_mtwatch_begin(domid, path, run->callback);
}

/**
 * mtw_run_end() - the callback has ended; its watch may not be there any more
 * @run: who
 */
void mtw_run_end(struct mtw_run *run)
{
	s64 ns;

	spin_lock(&run->lock);
	cancel_delayed_work(&run->overdue);	/* under the lock, under which it may come again */
	ns = ktime_to_ns(ktime_sub(ktime_get(), run->since));
	trace_mtwatch_end(run->domid, run->path, run->callback, ns);
	if (ns > run->longest) {
		run->longest = ns;
		mtw_name_of(run->longest_name, sizeof(run->longest_name), run->callback);
		strscpy(run->longest_path, run->path, sizeof(run->longest_path));
	}
	run->watch = NULL;
	run->path = NULL;
	run->callback = NULL;
	smp_store_release(&run->seq, run->seq + 1);	/* with all that the callback has done */
	spin_unlock(&run->lock);
	wake_up_all(&run->idle);
}

/**
 * mtw_run_tells() - is it a callback that takes long, which has or will have its own warning?
 * @run: who
 * @ms: what is long
 *
 * Return: whether it is.
 */
bool mtw_run_tells(struct mtw_run *run, s64 ms)
{
	bool tells;

	spin_lock(&run->lock);
	tells = run->watch && run->warn_secs && ktime_ms_delta(ktime_get(), run->since) >= ms;
	spin_unlock(&run->lock);
	return tells;
}

static bool mtw_run_ended(struct mtw_run *run, unsigned long seq)
{
	/* pairs with mtw_run_end(): what the callback has done is done */
	return smp_load_acquire(&run->seq) != seq;
}

/**
 * mtw_run_wait() - wait for the callback that runs now, unless it is the caller's own
 * @run: who
 * @domid: only for a callback of this domain
 *
 * Whichever watch the callback is for: the kernel, too, waits for any, and drivers that are being
 * unbound or unloaded rely on it.
 */
void mtw_run_wait(struct mtw_run *run, unsigned int domid)
{
	unsigned long seq;
	bool wait;

	spin_lock(&run->lock);
	wait = run->watch && run->domid == domid && run->task != current;
	seq = run->seq;
	spin_unlock(&run->lock);
	if (wait)
		wait_event(run->idle, mtw_run_ended(run, seq));
}

/**
 * mtw_run_show() - the part of a line of the status that says what runs now; @run->lock held
 * @m: where to
 * @run: who
 */
void mtw_run_show(struct seq_file *m, struct mtw_run *run)
{
	char name[MTW_NAME_LEN];

	lockdep_assert_held(&run->lock);
	if (!run->watch) {
		seq_puts(m, " callback=- path=- age_ms=-");
		return;
	}
	mtw_name_of(name, sizeof(name), run->callback);
	seq_printf(m, " callback=%s path=%s age_ms=%lld", name, run->path,
		   ktime_ms_delta(ktime_get(), run->since));
}

/**
 * mtw_run_show_longest() - the part that says what took longest; @run->lock held
 * @m: where to
 * @run: who
 */
void mtw_run_show_longest(struct seq_file *m, struct mtw_run *run)
{
	bool any = run->longest_path[0];

	lockdep_assert_held(&run->lock);
	seq_printf(m, " longest_ms=%lld longest_callback=%s longest_path=%s",
		   run->longest / NSEC_PER_MSEC, any ? run->longest_name : "-",
		   any ? run->longest_path : "-");
}
