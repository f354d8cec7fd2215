/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the module sees in place of the kernel's headers: as much of them as it uses.
 *
 * Every access that the kernel orders is a point() at which somebody else may run, and orders as
 * much as the kernel promises and no more, so that TSan sees what is missing.
 */
#ifndef MODEL_KERNEL_H
#define MODEL_KERNEL_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched.h"

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef s64 ktime_t;
typedef int pid_t;
typedef unsigned int gfp_t;

#define __init
#define __exit
#define notrace
#define noinline __attribute__((noinline))
#define __printf(a, b) __attribute__((format(printf, a, b)))
#define BIT(n) (1ul << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define min(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ > b_ ? a_ : b_; })
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define max3(a, b, c) max(max(a, b), c)
#define swap(a, b) do { __auto_type a_ = (a); (a) = (b); (b) = a_; } while (0)
#define fallthrough __attribute__((fallthrough))
#define barrier() __asm__ __volatile__("" : : : "memory")

/* the kernel's configuration */
#define IS_ENABLED(option) (option)
#define CONFIG_XEN_DOM0 1
#define CONFIG_XEN_BACKEND 1
#define CONFIG_XEN_BALLOON 1
#define PAGE_SHIFT 12
#define CONFIG_KALLSYMS_ALL 1
#define CONFIG_DYNAMIC_FTRACE_WITH_ARGS 1
#define CONFIG_TASKS_RCU 1
#define CONFIG_PREEMPTION 1
#define CONFIG_LTO 0
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 12, 0)

/* errors in pointers */
#define ERR_PTR(err) ((void *)(long)(err))
#define PTR_ERR(p) ((long)(p))
#define IS_ERR(p) ((unsigned long)(p) >= (unsigned long)-4095)

/* text: %ps and %pS, too */
int model_snprintf(char *to, size_t size, const char *fmt, ...);
int model_vsnprintf(char *to, size_t size, const char *fmt, va_list args);
char *kasprintf(gfp_t gfp, const char *fmt, ...);
void model_printk(const char *level, const char *fmt, ...);
void strscpy(char *to, const char *from, size_t size);
int kstrtobool(const char *s, bool *res);
int __sysfs_match_string(const char * const *array, size_t n, const char *s);
#define snprintf model_snprintf
#define sysfs_emit(buffer, ...) model_snprintf(buffer, 4096, __VA_ARGS__)
#define KSYM_SYMBOL_LEN 512
#ifndef pr_fmt
#define pr_fmt(fmt) fmt
#endif
#define KBUILD_MODNAME "xen_mtwatch"
#define pr_info(fmt, ...) model_printk("info", pr_fmt(fmt), ##__VA_ARGS__)
#define pr_warn(fmt, ...) model_printk("warn", pr_fmt(fmt), ##__VA_ARGS__)
#define pr_warn_ratelimited pr_warn
#define pr_err(fmt, ...) model_printk("err", pr_fmt(fmt), ##__VA_ARGS__)
#define WARN_ONCE(cond, ...) ({ bool warn_ = (cond); if (warn_) fail("WARN: " __VA_ARGS__); warn_; })
#define WARN_ON_ONCE(cond) ({ bool warn_ = (cond); if (warn_) fail("WARN: %s", #cond); warn_; })
#define WARN_ON WARN_ON_ONCE

/* memory */
#define GFP_KERNEL 1u
#define GFP_NOIO 2u
#define GFP_ATOMIC 4u
#define __GFP_HIGH 8u
#define __GFP_NOWARN 16u
void *kmalloc(size_t size, gfp_t gfp);
void *kzalloc(size_t size, gfp_t gfp);
void kfree(const void *p);

/* atomic accesses */
#define READ_ONCE(x) ({ point(); __atomic_load_n(&(x), __ATOMIC_RELAXED); })
#define WRITE_ONCE(x, v) do { point(); __atomic_store_n(&(x), (v), __ATOMIC_RELAXED); } while (0)
#define smp_load_acquire(p) ({ point(); __atomic_load_n(p, __ATOMIC_ACQUIRE); })
#define smp_store_release(p, v) do { point(); __atomic_store_n(p, v, __ATOMIC_RELEASE); } while (0)
#define xchg(p, v) ({ point(); __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); })

typedef struct { int n; } atomic_t;
typedef struct { long n; } atomic_long_t;
#define ATOMIC_INIT(v) { v }
#define ATOMIC_LONG_INIT(v) { v }
#define atomic_read(a) READ_ONCE((a)->n)
#define atomic_read_acquire(a) smp_load_acquire(&(a)->n)
#define atomic_long_read(a) READ_ONCE((a)->n)
#define atomic_inc(a) ({ point(); (void)__atomic_add_fetch(&(a)->n, 1, __ATOMIC_RELAXED); })
#define atomic_long_inc atomic_inc
#define atomic_dec(a) ({ point(); (void)__atomic_sub_fetch(&(a)->n, 1, __ATOMIC_RELAXED); point(); })
#define atomic_dec_return_release(a) \
	({ point(); int n_ = __atomic_sub_fetch(&(a)->n, 1, __ATOMIC_RELEASE); window(); n_; })
#define atomic_dec_and_test(a) ({ point(); !__atomic_sub_fetch(&(a)->n, 1, __ATOMIC_SEQ_CST); })
#define smp_mb__before_atomic() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define smp_mb__after_atomic() __atomic_thread_fence(__ATOMIC_SEQ_CST)

struct kref { int n; };
static inline void kref_init(struct kref *k) { k->n = 1; }
static inline void kref_get(struct kref *k)
{
	point();
	expect(__atomic_fetch_add(&k->n, 1, __ATOMIC_RELAXED) > 0, "a reference to what has none");
}
static inline bool kref_get_unless_zero(struct kref *k)
{
	int n;

	point();
	n = __atomic_load_n(&k->n, __ATOMIC_RELAXED);
	while (n && !__atomic_compare_exchange_n(&k->n, &n, n + 1, true, __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
		;
	return n;
}
static inline int kref_put(struct kref *k, void (*release)(struct kref *k))
{
	int n;

	point();
	n = __atomic_sub_fetch(&k->n, 1, __ATOMIC_ACQ_REL);
	expect(n >= 0, "one reference too many is put");
	if (!n)
		release(k);
	return !n;
}

/* bits */
#define BITS_PER_LONG 64
#define DECLARE_BITMAP(name, bits) unsigned long name[((bits) + 63) / 64]
static inline void set_bit(unsigned long n, unsigned long *map)
{
	point();
	__atomic_fetch_or(map + n / 64, 1ul << n % 64, __ATOMIC_RELAXED);
}
static inline void clear_bit(unsigned long n, unsigned long *map)
{
	point();
	__atomic_fetch_and(map + n / 64, ~(1ul << n % 64), __ATOMIC_RELAXED);
}
static inline bool test_bit(unsigned long n, const unsigned long *map)
{
	point();
	return __atomic_load_n(map + n / 64, __ATOMIC_RELAXED) >> n % 64 & 1;
}
static inline void bitmap_set(unsigned long *map, unsigned int start, unsigned int n)
{
	for (unsigned int i = start; i < start + n; i++)
		__atomic_fetch_or(map + i / 64, 1ul << i % 64, __ATOMIC_RELAXED);
}
int bitmap_parselist(const char *text, unsigned long *map, int bits);
#define BITS_TO_LONGS(bits) (((bits) + 63) / 64)
static inline void bitmap_zero(unsigned long *map, unsigned int bits)
{
	for (unsigned int i = 0; i < BITS_TO_LONGS(bits); i++)
		__atomic_store_n(map + i, 0, __ATOMIC_RELAXED);
}
static inline void bitmap_copy(unsigned long *to, const unsigned long *from, unsigned int bits)
{
	for (unsigned int i = 0; i < BITS_TO_LONGS(bits); i++)
		__atomic_store_n(to + i, __atomic_load_n(from + i, __ATOMIC_RELAXED),
				 __ATOMIC_RELAXED);
}
static inline void bitmap_fill(unsigned long *map, unsigned int bits)
{
	bitmap_set(map, 0, bits);
}
static inline unsigned long find_last_bit(const unsigned long *map, unsigned long bits)
{
	for (unsigned long n = bits; n--;)
		if (__atomic_load_n(map + n / 64, __ATOMIC_RELAXED) >> n % 64 & 1)
			return n;
	return bits;
}
static inline unsigned long find_next_bit(const unsigned long *map, unsigned long bits,
					  unsigned long n)
{
	for (; n < bits; n++) {
		unsigned long word = __atomic_load_n(map + n / 64, __ATOMIC_RELAXED) >> n % 64;

		if (!word)
			n |= 63;
		else if (word & 1)
			return n;
		else
			n += __builtin_ctzl(word) - 1;
	}
	return bits;
}
static inline bool bitmap_empty(const unsigned long *map, unsigned int bits)
{
	return find_next_bit(map, bits, 0) >= bits;
}
#define for_each_set_bit_from(n, map, bits) \
	for ((n) = find_next_bit(map, bits, n); (n) < (bits); (n) = find_next_bit(map, bits, (n) + 1))
#define for_each_set_bit(n, map, bits) \
	for ((n) = find_next_bit(map, bits, 0); (n) < (bits); (n) = find_next_bit(map, bits, (n) + 1))

/* lists */
struct list_head { struct list_head *next, *prev; };
#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)
static inline void INIT_LIST_HEAD(struct list_head *l) { l->next = l->prev = l; }
static inline void list_insert_before(struct list_head *e, struct list_head *next)
{
	e->next = next;
	e->prev = next->prev;
	__atomic_store_n(&e->prev->next, e, __ATOMIC_RELAXED);
	__atomic_store_n(&next->prev, e, __ATOMIC_RELAXED);
}
static inline void list_add_tail(struct list_head *e, struct list_head *head)
{
	list_insert_before(e, head);
}
static inline void list_add(struct list_head *e, struct list_head *head)
{
	list_insert_before(e, head->next);
}
static inline void list_del(struct list_head *e)
{
	expect(e->next && e->prev, "taken off a list that it is not on");
	__atomic_store_n(&e->prev->next, e->next, __ATOMIC_RELEASE);
	__atomic_store_n(&e->next->prev, e->prev, __ATOMIC_RELAXED);
	e->next = e->prev = NULL;
}
static inline void list_del_init(struct list_head *e)
{
	list_del(e);
	INIT_LIST_HEAD(e);
}
static inline void list_move_tail(struct list_head *e, struct list_head *head)
{
	list_del(e);
	list_add_tail(e, head);
}
#define list_empty(head) ((head)->next == (head))
static inline bool list_empty_careful(const struct list_head *head)
{
	struct list_head *next = smp_load_acquire(&head->next);

	return next == head && READ_ONCE(head->prev) == head;
}
#define list_entry container_of
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_first_entry_or_null(head, type, member) \
	(list_empty(head) ? NULL : list_first_entry(head, type, member))
#define list_for_each_entry(p, head, member) \
	for ((p) = list_entry((head)->next, __typeof__(*(p)), member); &(p)->member != (head); \
	     (p) = list_entry((p)->member.next, __typeof__(*(p)), member))
#define list_for_each_entry_safe(p, n, head, member) \
	for ((p) = list_entry((head)->next, __typeof__(*(p)), member), \
	     (n) = list_entry((p)->member.next, __typeof__(*(p)), member); &(p)->member != (head); \
	     (p) = (n), (n) = list_entry((n)->member.next, __typeof__(*(p)), member))

/* hash tables under RCU */
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };
unsigned int model_hash(unsigned long key);	/* the same in every run of a seed */
#define DEFINE_HASHTABLE(name, bits) struct hlist_head name[1 << (bits)]
#define hash_bucket(table, key) (&(table)[model_hash(key) % ARRAY_SIZE(table)])
#define hlist_load(p) ({ point(); __atomic_load_n(&(p), __ATOMIC_ACQUIRE); })
static inline void hlist_add_rcu(struct hlist_node *n, struct hlist_head *head)
{
	n->next = head->first;
	n->pprev = &head->first;
	if (n->next)
		n->next->pprev = &n->next;
	point();
	__atomic_store_n(&head->first, n, __ATOMIC_RELEASE);
}
static inline bool hlist_unhashed(const struct hlist_node *n) { return !n->pprev; }
static inline void hlist_del_init_rcu(struct hlist_node *n)
{
	if (hlist_unhashed(n))
		return;
	__atomic_store_n(n->pprev, n->next, __ATOMIC_RELEASE);
	if (n->next)
		n->next->pprev = n->pprev;
	n->pprev = NULL;
	point();
}
#define hash_add_rcu(table, node, key) hlist_add_rcu(node, hash_bucket(table, key))
#define hash_del_rcu hlist_del_init_rcu
#define hlist_entry_or_null(p, type, member) \
	({ struct hlist_node *p_ = (p); p_ ? container_of(p_, type, member) : NULL; })
#define hlist_for_each(p, head, member) \
	for ((p) = hlist_entry_or_null(hlist_load((head)->first), __typeof__(*(p)), member); (p); \
	     (p) = hlist_entry_or_null(hlist_load((p)->member.next), __typeof__(*(p)), member))
#define hash_for_each_possible_rcu(table, p, member, key, ...) \
	hlist_for_each(p, hash_bucket(table, key), member)
#define hash_for_each_rcu(table, bucket, p, member) \
	for ((bucket) = 0, (p) = NULL; !(p) && (bucket) < (int)ARRAY_SIZE(table); (bucket)++) \
		hlist_for_each(p, &(table)[bucket], member)
#define hash_for_each hash_for_each_rcu

/* locks */
typedef struct { struct task_struct *owner; const char *class; } spinlock_t;
struct mutex { struct task_struct *owner; const char *class; };
#define LOCK_CLASS(name) __FILE__ ": " #name
#define DEFINE_SPINLOCK(name) spinlock_t name = { .class = LOCK_CLASS(name) }
#define DEFINE_MUTEX(name) struct mutex name = { .class = LOCK_CLASS(name) }
#define spin_lock_init(lock) (*(lock) = (spinlock_t){ .class = LOCK_CLASS(lock) })
#define mutex_init(lock) (*(lock) = (struct mutex){ .class = LOCK_CLASS(lock) })
void spin_lock(spinlock_t *lock);
void spin_unlock(spinlock_t *lock);
void mutex_lock(struct mutex *lock);
void mutex_unlock(struct mutex *lock);
struct rw_semaphore { struct waiter *first; int readers; bool written; const char *class; };
void down_read(struct rw_semaphore *sem);
void up_read(struct rw_semaphore *sem);
void down_write(struct rw_semaphore *sem);
void up_write(struct rw_semaphore *sem);
#define lockdep_is_held(lock) ((lock)->owner == running)
#define lockdep_assert_held(lock) expect(lockdep_is_held(lock), "%s is not held", (lock)->class)

/* RCU */
struct rcu_head { char unused; };
void rcu_read_lock(void);
void rcu_read_unlock(void);
bool model_in_rcu(void);
void model_kfree_rcu(void *p);
void synchronize_rcu(void);
void synchronize_rcu_tasks(void);
void rcu_barrier(void);
#define kfree_rcu(p, member) model_kfree_rcu(p)
#define rcu_read_lock_held model_in_rcu

#define num_online_cpus() 1u

/* time */
#define HZ 250
#define MSEC_PER_SEC 1000l
#define msecs_to_jiffies(ms) ((ms) * HZ / MSEC_PER_SEC)
#define NSEC_PER_MSEC 1000000l
#define MAX_SCHEDULE_TIMEOUT INT64_MAX
static inline ktime_t ktime_get(void) { point(); return now; }
#define ktime_sub(a, b) ((a) - (b))
#define ktime_to_ns(t) ((s64)(t))
#define ktime_ms_delta(a, b) (((a) - (b)) / NSEC_PER_MSEC)
uint64_t model_ns(long jiffies);
void msleep(unsigned int ms);
long schedule_timeout_interruptible(long jiffies);

/* waiting */
typedef struct { char unused; } wait_queue_head_t;
#define DECLARE_WAIT_QUEUE_HEAD(name) wait_queue_head_t name
#define init_waitqueue_head(wq) ((wq)->unused = 0)
void wake_up(wait_queue_head_t *wq);
#define wake_up_all wake_up
#define wait_event(wq, condition) do { \
	need_sleepable("wait_event(" #condition ")"); \
	while (!(condition)) { \
		prepare(&(wq)); \
		if (condition) { \
			finish_wait(); \
			break; \
		} \
		schedule_prepared(FOREVER); \
	} } while (0)
#define wait_event_timeout(wq, condition, jiffies) ({ \
	long left_ = (jiffies), met_ = 0; \
	uint64_t until_ = left_ == MAX_SCHEDULE_TIMEOUT ? FOREVER : now + model_ns(left_); \
	need_sleepable("wait_event_timeout(" #condition ")"); \
	while (!(met_ = (condition)) && now < until_) { \
		prepare(&(wq)); \
		met_ = (condition); \
		if (met_) { \
			finish_wait(); \
			break; \
		} \
		schedule_prepared(until_ == FOREVER ? FOREVER : until_ > now ? until_ - now : 0); \
	} \
	met_ ? 1l : 0l; })
#define wait_event_interruptible_timeout wait_event_timeout

struct completion { spinlock_t lock; unsigned int done; wait_queue_head_t wq; };
#define DECLARE_COMPLETION(name) struct completion name = { .lock = { .class = "completion" } }
void init_completion(struct completion *c);
void reinit_completion(struct completion *c);
void complete(struct completion *c);
void complete_all(struct completion *c);
void wait_for_completion(struct completion *c);
unsigned long wait_for_completion_timeout(struct completion *c, unsigned long jiffies);

/* work */
struct work_struct {
	void (*func)(struct work_struct *work);
	bool pending;			/* queued, its time runs, or somebody cancels it */
	bool queued;
	struct workqueue_struct *wq;
	struct work_struct *next;
};
struct delayed_work { struct work_struct work; struct timer timer; };
#define DECLARE_WORK(name, fn) struct work_struct name = { .func = fn }
#define DECLARE_DELAYED_WORK(name, fn) struct delayed_work name = { .work = { .func = fn } }
#define INIT_DELAYED_WORK(w, fn) (*(w) = (struct delayed_work){ .work = { .func = fn } })
#define INIT_WORK(w, fn) (*(w) = (struct work_struct){ .func = fn })
#define WQ_UNBOUND 1
struct workqueue_struct *alloc_workqueue(const char *name, int flags, int max_active);
void destroy_workqueue(struct workqueue_struct *wq);
bool queue_work(struct workqueue_struct *wq, struct work_struct *work);
bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *w, unsigned long jiffies);
bool mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *w, unsigned long jiffies);
bool cancel_delayed_work(struct delayed_work *w);
bool cancel_delayed_work_sync(struct delayed_work *w);
bool cancel_work_sync(struct work_struct *work);

/* threads */
#define current running
#define task_pid_nr(task) ((task)->pid)
struct task_struct *kthread_create(int (*fn)(void *arg), void *arg, const char *fmt, ...);
void wake_up_process(struct task_struct *task);

/* modules */
struct kobject { int unused; };
struct module { struct { struct kobject kobj; } mkobj; unsigned long start, size; };
extern struct module __this_module;	/* of the library that this is compiled into */
#define THIS_MODULE (&__this_module)
bool try_module_get(struct module *m);
void __module_get(struct module *m);
void module_put(struct module *m);
_Noreturn void module_put_and_kthread_exit_(struct module *m);
#define module_put_and_kthread_exit(code) module_put_and_kthread_exit_(THIS_MODULE)
static inline bool within_module(unsigned long address, const struct module *m)
{
	return address - m->start < m->size;
}
#define kobject_uevent_env(kobj, action, env) model_uevent(env)
static inline void model_uevent(char **env) { (void)env; }
#define module_init(fn) \
	struct module __this_module; \
	int model_module_init(void) { return fn(); }
#define module_exit(fn) void model_module_exit(void) { fn(); }
#define MODULE_LICENSE(text) extern int unused_
#define MODULE_VERSION(text) extern int unused_
#define MODULE_AUTHOR(text) extern int unused_
#define MODULE_DESCRIPTION(text) extern int unused_
#define MODULE_PARM_DESC(name, text) extern int unused_

struct kernel_param { const struct kernel_param_ops *ops; void *arg; };
struct kernel_param_ops {
	int (*set)(const char *val, const struct kernel_param *kp);
	int (*get)(char *buffer, const struct kernel_param *kp);
};
extern const struct kernel_param_ops param_ops_uint;
int param_set_uint(const char *val, const struct kernel_param *kp);
int param_get_uint(char *buffer, const struct kernel_param *kp);
int param_get_bool(char *buffer, const struct kernel_param *kp);
#define module_param_cb(name, ops_, arg_, mode) \
	struct kernel_param model_param_##name = { .ops = ops_, .arg = arg_ }
#define module_param_named(name, var, type, mode) \
	struct kernel_param model_param_##name = { .ops = &param_ops_##type, .arg = &(var) }

struct notifier_block {
	int (*notifier_call)(struct notifier_block *nb, unsigned long event, void *data);
	struct notifier_block *next;
};
#define NOTIFY_DONE 0

/* debugfs */
struct seq_file { char text[65536]; size_t n; };
struct dentry;
void seq_printf(struct seq_file *m, const char *fmt, ...);
#define seq_puts(m, s) seq_printf(m, "%s", s)
#define seq_putc(m, c) seq_printf(m, "%c", c)
struct file_operations { int (*show)(struct seq_file *m, void *unused); };
#define DEFINE_SHOW_ATTRIBUTE(name) \
	static const struct file_operations name##_fops = { .show = name##_show }
struct dentry *debugfs_create_dir(const char *name, struct dentry *parent);
struct dentry *debugfs_create_file(const char *name, int mode, struct dentry *parent, void *data,
				   const struct file_operations *fops);
void debugfs_remove_recursive(struct dentry *dir);

/* ftrace, tracepoints */
struct ftrace_regs { unsigned long ip; };
struct ftrace_ops {
	void (*func)(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *fregs);
	unsigned long flags;
};
#define FTRACE_OPS_FL_IPMODIFY 1
#define FTRACE_OPS_FL_PERMANENT 2
#define ftrace_regs_set_instruction_pointer(fregs, address) ((fregs)->ip = (address))
int ftrace_set_filter_ips(struct ftrace_ops *ops, unsigned long *ips, unsigned int n, int remove,
			  int reset);
int register_ftrace_function(struct ftrace_ops *ops);
int unregister_ftrace_function(struct ftrace_ops *ops);
#define TP_PROTO(...) __VA_ARGS__
#define TP_ARGS(...) __VA_ARGS__
#define TRACE_EVENT(name, proto, args, ...) \
	static inline void trace_##name(proto) { model_##name(args); }
#define model_mtwatch_queue(...) ((void)0)
#define model_mtwatch_begin(domid, path, callback) callback_is_recorded(path)
#define model_mtwatch_end(domid, path, callback, ns) callback_is_over(ns)

/* Xen */
#define DOMID_FIRST_RESERVED 64u	/* so that asking for each ends */
#define xen_domain() true
#define xen_initial_domain() true
struct xenbus_watch {
	struct list_head list;
	const char *node;
	unsigned int nr_pending;
	bool (*will_handle)(struct xenbus_watch *watch, const char *path, const char *token);
	void (*callback)(struct xenbus_watch *watch, const char *path, const char *token);
};
struct xenbus_device { const char *nodename; struct xenbus_watch otherend_watch; };
struct xenbus_transaction { u32 id; };
#define XBT_NIL ((struct xenbus_transaction){ 0 })
int register_xenbus_watch(struct xenbus_watch *watch);
void unregister_xenbus_watch(struct xenbus_watch *watch);
int register_xenstore_notifier(struct notifier_block *nb);
void unregister_xenstore_notifier(struct notifier_block *nb);
char **xenbus_directory(struct xenbus_transaction t, const char *dir, const char *node,
			unsigned int *n);
int xenbus_exists(struct xenbus_transaction t, const char *dir, const char *node);
int xenbus_scanf(struct xenbus_transaction t, const char *dir, const char *node, const char *fmt, ...);
void balloon_set_new_target(unsigned long pages);

/* what mutants.py puts into the module, with stretch() of sched.h */
void lurk(void);	/* wait until somebody is about to register a watch, for some seconds */
int fails_late(struct xenbus_watch *watch);	/* it is registered, and that is an error after all */
bool memory_is_short(void);

/* what the rest of the model asks this part */
bool module_load(const char *path, int *err);
bool module_remove(void);			/* false: in use */
bool module_is_loaded(void);
bool module_status(struct seq_file *m);		/* false: there is none */
int module_set(const char *name, const char *value);
unsigned long module_redirect(unsigned long function, unsigned long caller);
unsigned int module_uint(const char *name);	/* a parameter's value */
unsigned int module_allocations(void);
bool module_text(const void *address);
bool model_alloc_failed(void);			/* since it was asked last */
int latest_thread_of(int domid);		/* the pid of the last one that was made; 0: none */
void kernel_init(void);
void warn_secs_are_set(void);
void callback_is_recorded(const char *path);
void callback_is_over(s64 ns);
void warning_is_printed(const char *text);
unsigned int warned_of_silence(void);	/* of xenwatch's, so often */

#endif
