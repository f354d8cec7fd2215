// SPDX-License-Identifier: GPL-2.0-only
/*
 * register_xenbus_watch() and unregister_xenbus_watch() lead here, for all callers but
 * mtw_stock_register() and mtw_stock_unregister().
 *
 * Those two are known by the address they are returned to.  So nothing here is traced (a tracer
 * may put its own in that place), and neither may end in a jump to what it calls.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/rcupdate.h>

#include "compat.h"
#include "hook.h"
#include "mtwatch.h"
#include "watch.h"

/**
 * struct mtw_code - a function's code
 * @start: its address
 * @size: in bytes
 */
struct mtw_code {
	unsigned long start;
	unsigned long size;
};

static struct mtw_code stock_register, stock_unregister;
static bool gave_up;			/* ftrace, after a bug of its own */
static atomic_t inside = ATOMIC_INIT(0);	/* tasks that were led here and are not back */

noinline int mtw_stock_register(struct xenbus_watch *watch)
{
	int err = register_xenbus_watch(watch);

	barrier();		/* no tail call */
	return err;
}

noinline void mtw_stock_unregister(struct xenbus_watch *watch)
{
	unregister_xenbus_watch(watch);
	barrier();		/* no tail call */
}

/** mtw_come_in() - the caller is in this module; whoever unhooks waits for it to go out */
void mtw_come_in(void)
{
	atomic_inc(&inside);
}

/** mtw_go_out() - it returns to the kernel now */
void mtw_go_out(void)
{
	atomic_dec_return_release(&inside);
}

static noinline int mtw_hooked_register(struct xenbus_watch *watch)
{
	int err;

	mtw_come_in();
	err = mtw_watch_register(watch);
	mtw_go_out();
	return err;
}

static noinline void mtw_hooked_unregister(struct xenbus_watch *watch)
{
	mtw_come_in();
	mtw_watch_unregister(watch);
	mtw_go_out();
}

static bool mtw_returns_to(const struct mtw_code *code, unsigned long address)
{
	return address - code->start <= code->size;
}

static bool mtw_is_entry(unsigned long ip, const void *function)
{
	/* The call of ftrace is at the function's start, or after an endbr. */
	return ip - (unsigned long)function < 16;
}

static void notrace mtw_redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				 struct ftrace_regs *fregs)
{
	if (mtw_returns_to(&stock_register, parent_ip) ||
	    mtw_returns_to(&stock_unregister, parent_ip))
		return;
	if (mtw_is_entry(ip, register_xenbus_watch))
		mtw_set_ip(fregs, (unsigned long)mtw_hooked_register);
	else if (mtw_is_entry(ip, unregister_xenbus_watch))
		mtw_set_ip(fregs, (unsigned long)mtw_hooked_unregister);
}

/*
 * One ops for both functions: nothing to undo when the second is refused.
 * Not FL_RECURSION: the core could then skip the hook, and a watch of ours would reach the
 * kernel's function, which does not know it.
 */
static struct ftrace_ops ops = {
	.func = mtw_redirect,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT,
};

/* Not ftrace_free_filter(): before 6.15 it leaves a pointer to what it has freed. */
static int mtw_set_filter(int remove)
{
	unsigned long functions[] = {
		(unsigned long)register_xenbus_watch,
		(unsigned long)unregister_xenbus_watch,
	};
	int err = ftrace_set_filter_ips(&ops, functions, ARRAY_SIZE(functions), remove, 0);

	gave_up = err == -ENODEV;	/* long ago: nothing leads here */
	return gave_up ? -EBUSY : err;
}

/* Where a function of ours ends is what kallsyms says: "name+0x0/0x<size> [module]". */
static int mtw_find_code(struct mtw_code *code, const void *function)
{
	char symbol[KSYM_SYMBOL_LEN];
	const char *size;

	snprintf(symbol, sizeof(symbol), "%pS", function);
	size = strstr(symbol, "+0x0/0x");
	code->start = (unsigned long)function;
	return size && sscanf(size, "+0x0/0x%lx", &code->size) == 1 ? 0 : -EINVAL;
}

/**
 * mtw_hook() - lead the two functions here
 *
 * Return: 0; -EBUSY when ftrace is off or somebody else (a live patch) has one of them; -ENODEV
 * when ftrace has given up halfway just now, and one may lead here; or what else ftrace says.
 */
int mtw_hook(void)
{
	int err;

	err = mtw_find_code(&stock_register, mtw_stock_register) ?:
	      mtw_find_code(&stock_unregister, mtw_stock_unregister) ?:
	      mtw_set_filter(0);
	if (err)
		return err;
	err = register_ftrace_function(&ops);
	if (err && err != -ENODEV)
		mtw_set_filter(1);
	return err;
}

/**
 * mtw_hook_refusal() - what an error of mtw_hook() means
 * @err: the error
 *
 * Return: for people.
 */
const char *mtw_hook_refusal(int err)
{
	if (gave_up || err == -ENODEV)
		return "it has given up after a bug of its own, which only a reboot mends";
	if (err == -EBUSY)
		return "it is off, or a live patch has the same functions";
	if (err == -ENOMEM)
		return "memory is short";
	return "this kernel's functions are not where they are expected";
}

/**
 * mtw_unhook() - lead them back; afterwards nobody is in this module's functions any more
 *
 * Can take long: a netback queue that waits for its packets spins in its kthread on some
 * kernels, and RCU-tasks waits for that. So wait first, and only then where ftrace's own lock
 * is held.
 *
 * Return: 0, or an error when ftrace has given up (after a bug of its own) and the functions
 * still lead here.
 */
int mtw_unhook(void)
{
	int err;

	synchronize_rcu_tasks();
	err = unregister_ftrace_function(&ops);
	if (err) {
		pr_err("ftrace does not give the functions back (%d): the module stays\n", err);
		return err;
	}
	mtw_set_filter(1);
	synchronize_rcu_tasks();	/* who was led here has come in, … */
	while (atomic_read_acquire(&inside))	/* … and has gone … */
		msleep(20);
	synchronize_rcu_tasks();	/* … the last step, too */
	return 0;
}
