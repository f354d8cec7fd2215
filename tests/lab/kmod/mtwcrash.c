// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests only: the thread xenbus crashes at the next reply of xenstored that the kernel waits
 * for. That is one to us, so that this module is never through with its init.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <xen/xenbus.h>

static int crash(struct kprobe *probe, struct pt_regs *regs)
{
	BUG_ON(!strcmp(current->comm, "xenbus"));
	return 0;
}

/* What that thread calls when it has a reply. */
static struct kprobe probe = { .symbol_name = "xs_wake_up", .pre_handler = crash };

static int __init crash_init(void)
{
	int err = register_kprobe(&probe);

	if (err)
		return err;
	xenbus_exists(XBT_NIL, "", "domid");
	unregister_kprobe(&probe);
	return -ECANCELED;
}

module_init(crash_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Crashes xenbus, for tests");
