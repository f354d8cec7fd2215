// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests only: who else may be there.
 *
 *   kill=0    watches the mtwatch nodes from inside the kernel, as the 2018 patch does
 *   kill=1    has ftrace give up for good, as a bug of its own does
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>
#include <xen/xenbus.h>

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
	return kill ? kill_ftrace() : register_xenbus_watch(&watch);
}

static void __exit rival_exit(void)
{
	unregister_xenbus_watch(&watch);
}

module_init(rival_init);
module_exit(rival_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A rival of xen_mtwatch, for tests");
