// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests only: who else may be there.
 *
 *   patch=0   watches the mtwatch nodes from inside the kernel, as the 2018 patch does
 *   patch=1   has register_xenbus_watch() led elsewhere, as a live patch does
 *   kill=1    has ftrace give up for good, as a bug of its own does
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <xen/xenbus.h>

static bool patch;
module_param(patch, bool, 0444);
MODULE_PARM_DESC(patch, "be a live patch");
static bool kill;
module_param(kill, bool, 0444);
MODULE_PARM_DESC(kill, "end ftrace, and do not stay");

static void mtwatch_callback(struct xenbus_watch *watch, const char *path, const char *token)
{
}

static struct xenbus_watch watch = {
	.node = "mtwatch",
	.callback = mtwatch_callback,
};

static void notrace leave_it(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
}

static struct ftrace_ops ops = {
	.func = leave_it,
	.flags = FTRACE_OPS_FL_IPMODIFY,
};

static int set_filter(int remove)
{
	return ftrace_set_filter_ip(&ops, (unsigned long)register_xenbus_watch, remove, 0);
}

/* ftrace_kill() is not exported; a kprobe knows where it is. */
static int kill_ftrace(void)
{
	struct kprobe probe = { .symbol_name = "ftrace_kill" };
	int err = register_kprobe(&probe);

	if (err)
		return err;
	unregister_kprobe(&probe);
	((void (*)(void))probe.addr)();
	return -ECANCELED;
}

static int __init rival_init(void)
{
	int err;

	if (kill)
		return kill_ftrace();
	if (!patch)
		return register_xenbus_watch(&watch);
	err = set_filter(0) ?: register_ftrace_function(&ops);
	if (err)
		set_filter(1);
	return err;
}

static void __exit rival_exit(void)
{
	if (patch) {
		unregister_ftrace_function(&ops);
		set_filter(1);
	} else {
		unregister_xenbus_watch(&watch);
	}
}

module_init(rival_init);
module_exit(rival_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A rival of xen_mtwatch, for tests");
