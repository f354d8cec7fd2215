// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests only: watches whose callbacks do what a test says.
 *
 * Commands go to /sys/kernel/debug/mtwtest/control, one for each write:
 *
 *   watch <node>          register a watch
 *   unwatch <node>        unregister it, as a driver would, from this task
 *   hold <node>           its next callback stays (in state D) until "free"
 *   free <node>           or all of them: free *
 *   sleep <ms>            every callback takes so long
 *   drop <node> <other>   its next callback unregisters <other>, if that is still registered
 *
 * /sys/kernel/debug/mtwtest/log has a line for each callback, when it began:
 *   <nanoseconds, monotonic> <task> <domid> <node>
 * and "CONCURRENT" in front when another one of the same domid was running.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <xen/xenbus.h>

#define DOMIDS	4096
#define LINES	65536

struct test_watch {
	struct list_head list;
	struct xenbus_watch watch;
	unsigned int domid;
	bool registered;
	bool hold;
	struct test_watch *drop;
	char node[];
};

struct line {
	u64 ns;
	bool concurrent;
	unsigned int domid;
	char comm[TASK_COMM_LEN];
	char node[64];
};

static DEFINE_MUTEX(lock);		/* the list; not held by callbacks */
static LIST_HEAD(watches);
static atomic_t running[DOMIDS];
static struct line *lines;
static atomic_t n_lines;
static unsigned int sleep_ms;
static DECLARE_WAIT_QUEUE_HEAD(freed);
static struct dentry *dir;

static void callback(struct xenbus_watch *xw, const char *path, const char *token)
{
	struct test_watch *w = container_of(xw, struct test_watch, watch);
	unsigned int domid = w->domid;
	bool concurrent = atomic_inc_return(&running[domid]) > 1;
	int n = atomic_inc_return(&n_lines) - 1;
	struct test_watch *drop = w->drop;

	if (n < LINES) {
		struct line *line = &lines[n];

		line->concurrent = concurrent;
		line->domid = domid;
		get_task_comm(line->comm, current);
		strscpy(line->node, w->node, sizeof(line->node));
		smp_store_release(&line->ns, ktime_get_ns());	/* the line is whole */
	}
	if (sleep_ms)
		msleep(sleep_ms);
	if (READ_ONCE(w->hold))
		wait_event(freed, !READ_ONCE(w->hold));
	if (drop) {
		/* As drivers do: without a lock, since callbacks of a device are one at a time. */
		w->drop = NULL;
		if (drop->registered) {
			msleep(20);
			unregister_xenbus_watch(&drop->watch);
			drop->registered = false;
		}
	}
	atomic_dec(&running[domid]);
}

static struct test_watch *find(const char *node)
{
	struct test_watch *w;

	list_for_each_entry(w, &watches, list)
		if (!strcmp(w->node, node))
			return w;
	return NULL;
}

static int add(const char *node)
{
	struct test_watch *w;
	char type[32];
	int err;

	if (find(node))
		return -EEXIST;
	w = kzalloc(sizeof(*w) + strlen(node) + 1, GFP_KERNEL);
	if (!w)
		return -ENOMEM;
	strcpy(w->node, node);
	if ((sscanf(node, "backend/%31[^/]/%u/", type, &w->domid) != 2 &&
	     sscanf(node, "/local/domain/%u/", &w->domid) != 1) || w->domid >= DOMIDS) {
		kfree(w);
		return -EINVAL;
	}
	w->watch.node = w->node;
	w->watch.callback = callback;
	list_add(&w->list, &watches);
	err = register_xenbus_watch(&w->watch);
	if (err) {
		list_del(&w->list);
		kfree(w);
		return err;
	}
	w->registered = true;
	return 0;
}

static void remove(struct test_watch *w)
{
	list_del(&w->list);
	mutex_unlock(&lock);		/* this may wait for a callback that a test still frees */
	if (w->registered)
		unregister_xenbus_watch(&w->watch);
	kfree(w);
	mutex_lock(&lock);
}

static void free_all(void)
{
	struct test_watch *w;

	list_for_each_entry(w, &watches, list)
		WRITE_ONCE(w->hold, false);
	wake_up_all(&freed);
}

static int command(char *verb, char *node, char *other)
{
	struct test_watch *w;

	if (!strcmp(verb, "sleep"))
		return kstrtouint(node, 0, &sleep_ms);
	if (!strcmp(verb, "watch"))
		return add(node);
	if (!strcmp(verb, "free") && !strcmp(node, "*")) {
		free_all();
		return 0;
	}
	w = find(node);
	if (!w)
		return -ENOENT;
	if (!strcmp(verb, "unwatch")) {
		remove(w);
	} else if (!strcmp(verb, "hold")) {
		WRITE_ONCE(w->hold, true);
	} else if (!strcmp(verb, "free")) {
		WRITE_ONCE(w->hold, false);
		wake_up_all(&freed);
	} else if (!strcmp(verb, "drop") && other) {
		w->drop = find(other);
	} else {
		return -EINVAL;
	}
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *user, size_t size, loff_t *pos)
{
	char *text, *rest, *verb, *node;
	int err;

	text = memdup_user_nul(user, min_t(size_t, size, 512));
	if (IS_ERR(text))
		return PTR_ERR(text);
	rest = strim(text);
	verb = strsep(&rest, " ");
	node = strsep(&rest, " ");
	mutex_lock(&lock);
	err = node ? command(verb, node, rest) : -EINVAL;
	mutex_unlock(&lock);
	kfree(text);
	return err ?: size;
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.write = control_write,
};

static int log_show(struct seq_file *m, void *unused)
{
	int i, n = min(atomic_read(&n_lines), LINES);

	for (i = 0; i < n; i++) {
		u64 ns = smp_load_acquire(&lines[i].ns);	/* 0: not whole yet */

		if (ns)
			seq_printf(m, "%s%llu %s %u %s\n", lines[i].concurrent ? "CONCURRENT " : "",
				   ns, lines[i].comm, lines[i].domid, lines[i].node);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(log);

static int __init test_init(void)
{
	lines = kvcalloc(LINES, sizeof(*lines), GFP_KERNEL);
	if (!lines)
		return -ENOMEM;
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("control", 0200, dir, NULL, &control_fops);
	debugfs_create_file("log", 0400, dir, NULL, &log_fops);
	return 0;
}

static void __exit test_exit(void)
{
	struct test_watch *w, *next;

	debugfs_remove_recursive(dir);
	mutex_lock(&lock);
	free_all();
	list_for_each_entry_safe(w, next, &watches, list)
		remove(w);
	mutex_unlock(&lock);
	kvfree(lines);
}

module_init(test_init);
module_exit(test_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Watches for tests");
