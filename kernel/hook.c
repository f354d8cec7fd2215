// SPDX-License-Identifier: GPL-2.0-only
/*
 * register_xenbus_watch() and unregister_xenbus_watch() lead here, for all callers but this
 * module itself: it gets the kernel's own functions by their names.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "compat.h"
#include "mtwatch.h"

static atomic_t inside = ATOMIC_INIT(0);	/* tasks that were led here and are not back */

static noinline int hooked_register(struct xenbus_watch *watch)
{
	int err;

	atomic_inc(&inside);
	err = mtw_watch_register(watch);
	atomic_dec(&inside);
	return err;
}

static noinline void hooked_unregister(struct xenbus_watch *watch)
{
	atomic_inc(&inside);
	mtw_watch_unregister(watch);
	atomic_dec(&inside);
}

static bool starts(unsigned long ip, const void *function)
{
	/* The call of ftrace is at the function's start, or after an endbr. */
	return ip - (unsigned long)function < 16;
}

static void notrace redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	if (within_module(parent_ip, THIS_MODULE))
		return;
	if (starts(ip, register_xenbus_watch))
		mtw_set_ip(fregs, (unsigned long)hooked_register);
	else if (starts(ip, unregister_xenbus_watch))
		mtw_set_ip(fregs, (unsigned long)hooked_unregister);
}

/*
 * One ops for both functions: there is no moment at which only one of them is led here, and
 * nothing to undo when the second is refused.
 * Not FL_RECURSION: the core could then skip the hook, and a watch of ours would reach the
 * kernel's function, which does not know it.
 */
static struct ftrace_ops ops = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT,
};

/**
 * mtw_hook() - lead the two functions here
 *
 * Return: 0, or -EBUSY when ftrace is off or somebody else (a live patch) has one of them, or
 * what else ftrace says.
 */
int mtw_hook(void)
{
	unsigned long functions[] = {
		(unsigned long)register_xenbus_watch,
		(unsigned long)unregister_xenbus_watch,
	};
	int err;

	err = ftrace_set_filter_ips(&ops, functions, ARRAY_SIZE(functions), 0, 1);
	if (!err)
		err = register_ftrace_function(&ops);
	if (err)
		ftrace_free_filter(&ops);
	return err;
}

/**
 * mtw_unhook() - lead them back; afterwards nobody is in this module's functions any more
 *
 * Can take long: a netback queue that waits for its packets spins in its kthread on some
 * kernels, and RCU-tasks waits for that. So wait first, and only then where ftrace's own lock
 * is held.
 */
void mtw_unhook(void)
{
	synchronize_rcu_tasks();
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
	synchronize_rcu_tasks();	/* who was led here has come in, … */
	while (atomic_read(&inside))	/* … and has gone … */
		msleep(20);
	synchronize_rcu_tasks();	/* … the last step, too */
}
