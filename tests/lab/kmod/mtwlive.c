// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests only: a live patch of a function that xen_mtwatch hooks. While it is there, the kernel
 * registers no watch.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <xen/xenbus.h>

static int refuse(struct xenbus_watch *watch)
{
	return -EAGAIN;
}

static struct klp_func functions[] = {
	{ .old_name = "register_xenbus_watch", .new_func = refuse },
	{}
};

static struct klp_object objects[] = {
	{ .funcs = functions }, /* of the kernel itself */
	{}
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init live_init(void)
{
	return klp_enable_patch(&patch);
}

/* Only once the patch was disabled may this go. */
static void __exit live_exit(void)
{
}

module_init(live_init);
module_exit(live_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("A live patch, for tests");
