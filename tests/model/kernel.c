// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's services, see kernel.h. Not instrumented for TSan; hb_*() says what orders what. */
#include "kernel.h"

#undef snprintf

/* ------------------------------------------------------------------- memory */

struct block {
	const void *p;
	struct block *next;
};

static struct block *blocks[1024];
static unsigned int n_blocks;
static bool alloc_failed;

static struct block **block_of(const void *p)
{
	struct block **b = &blocks[(unsigned long)p / 16 % ARRAY_SIZE(blocks)];

	while (*b && (*b)->p != p)
		b = &(*b)->next;
	return b;
}

void *kmalloc(size_t size, gfp_t gfp)
{
	struct block *b;
	void *p;

	if (gfp & GFP_ATOMIC)
		point();
	else
		need_sleepable("kmalloc");
	if (chance(knobs.fail_alloc_1_in)) {
		alloc_failed = true;
		note("an allocation fails");
		return NULL;
	}
	p = malloc(size);
	b = malloc(sizeof(*b));
	b->p = p;
	b->next = NULL;
	*block_of(p) = b;
	n_blocks++;
	return p;
}

void *kzalloc(size_t size, gfp_t gfp)
{
	void *p = kmalloc(size, gfp);

	return p ? memset(p, 0, size) : NULL;
}

static void forget_block(const void *p)
{
	struct block **b = block_of(p), *found = *b;

	expect(found, "%p is freed and was not allocated", p);
	*b = found->next;
	free(found);
	n_blocks--;
}

void kfree(const void *p)
{
	if (!p)
		return;
	forget_block(p);
	free((void *)p);
}

unsigned int module_allocations(void)
{
	return n_blocks;
}

bool memory_is_short(void)
{
	if (!knobs.fail_alloc_1_in || !chance(2))
		return false;
	alloc_failed = true;
	return true;
}

bool model_alloc_failed(void)
{
	return __atomic_exchange_n(&alloc_failed, false, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------- locks */

#define CLASSES 64
static const char *classes[CLASSES];
static bool taken_in[CLASSES][CLASSES];		/* [a][b]: b was taken with a held */
static struct { const void *lock; const char *class; struct task_struct *by; } held[256];
static int n_held;

static int class_of(const char *name)
{
	for (int i = 0; i < CLASSES; i++) {
		if (!classes[i])
			classes[i] = strdup(name);	/* it may be a module's, which goes */
		if (!strcmp(classes[i], name))
			return i;
	}
	fail("too many kinds of locks");
}

static bool leads_to(int a, int b, int depth)
{
	if (taken_in[a][b])
		return true;
	for (int i = 0; depth && i < CLASSES; i++)
		if (taken_in[a][i] && leads_to(i, b, depth - 1))
			return true;
	return false;
}

/* Lockdep in short: no two kinds of locks are ever taken in both orders. */
static void check_order(const char *class)
{
	int to = class_of(class);

	for (int i = 0; i < n_held; i++) {
		int from = class_of(held[i].class);

		if (held[i].by != running || taken_in[from][to])
			continue;
		expect(from != to && !leads_to(to, from, 6), "%s is taken with %s held, and elsewhere the other way round",
		       class, held[i].class);
		taken_in[from][to] = true;
	}
}

static void note_held(const void *lock, const char *class)
{
	expect(n_held < (int)ARRAY_SIZE(held), "too many locks are held");
	held[n_held].lock = lock;
	held[n_held].class = class;
	held[n_held++].by = running;
}

static void note_free(const void *lock)
{
	for (int i = n_held - 1; i >= 0; i--)
		if (held[i].lock == lock) {
			held[i] = held[--n_held];
			return;
		}
	fail("a lock is given back that nobody has");
}

void spin_lock(spinlock_t *lock)
{
	expect(lock->class, "a spin lock that is none");
	expect(lock->owner != running, "%s is taken twice", lock->class);
	check_order(lock->class);
	running->spinlocks++;		/* preemption is off from here on */
	point();
	while (lock->owner)
		spin_until_free(lock);
	lock->owner = running;
	note_held(lock, lock->class);
	hb_acquire(lock);
}

void spin_unlock(spinlock_t *lock)
{
	expect(lock->owner == running, "%s is given back by somebody else", lock->class);
	hb_release(lock);
	lock->owner = NULL;
	note_free(lock);
	lock_is_free(lock);
	running->spinlocks--;
	point();
}

void mutex_lock(struct mutex *lock)
{
	expect(lock->class, "a mutex that is none");
	need_sleepable(lock->class);
	expect(lock->owner != running, "%s is taken twice", lock->class);
	check_order(lock->class);
	point();
	while (lock->owner)
		sleep_on(lock, FOREVER);
	lock->owner = running;
	note_held(lock, lock->class);
	hb_acquire(lock);
}

void mutex_unlock(struct mutex *lock)
{
	expect(lock->owner == running, "%s is given back by somebody else", lock->class);
	hb_release(lock);
	lock->owner = NULL;
	note_free(lock);
	wake(lock);
}

/* It is fair: who comes later waits for whoever is waiting. */
struct waiter {
	bool writes;
	struct waiter *next;
};

static bool may_have(const struct rw_semaphore *sem, const struct waiter *w)
{
	return sem->first == w && !sem->written && !(w->writes && sem->readers);
}

static void down(struct rw_semaphore *sem, bool writes)
{
	struct waiter self = { .writes = writes }, **end = &sem->first;

	need_sleepable(sem->class);
	check_order(sem->class);
	point();
	while (*end)
		end = &(*end)->next;
	*end = &self;
	while (!may_have(sem, &self))
		sleep_on(sem, FOREVER);
	sem->first = self.next;
	sem->written = writes;
	sem->readers += !writes;
	hb_acquire(sem);
	wake(sem);
}

void down_read(struct rw_semaphore *sem)
{
	down(sem, false);
}

void down_write(struct rw_semaphore *sem)
{
	down(sem, true);
}

void up_read(struct rw_semaphore *sem)
{
	expect(sem->readers > 0, "%s is given back by somebody else", sem->class);
	hb_release(sem);
	sem->readers--;
	wake(sem);
}

void up_write(struct rw_semaphore *sem)
{
	expect(sem->written, "%s is given back by somebody else", sem->class);
	hb_release(sem);
	sem->written = false;
	wake(sem);
}

/* ------------------------------------------------------------------- RCU */

struct later {
	void *p;
	unsigned long when;
	struct later *next;
};

static unsigned long rcu_now;
static struct later *laters;

void rcu_read_lock(void)
{
	point();
	if (!running->rcu_depth++)
		running->rcu_since = ++rcu_now;
}

void rcu_read_unlock(void)
{
	expect(running->rcu_depth > 0, "leaves an RCU section and is in none");
	hb_release(&rcu_now);
	running->rcu_depth--;
	point();
}

bool model_in_rcu(void)
{
	return running->rcu_depth;
}

static void oldest_reader(struct task_struct *task, void *data)
{
	unsigned long *oldest = data;

	if (task->rcu_depth && task->rcu_since < *oldest)
		*oldest = task->rcu_since;
}

static bool readers_before(unsigned long when)
{
	unsigned long oldest = ~0ul;

	tasks_each(oldest_reader, &oldest);
	return oldest < when;
}

void synchronize_rcu(void)
{
	unsigned long when = ++rcu_now;

	need_sleepable("synchronize_rcu");
	do
		sleep_ns(draw(1000) * 10000);
	while (readers_before(when));
	hb_acquire(&rcu_now);
}

/* What is freed belongs to nobody any more: it is not the module's from here on. */
void model_kfree_rcu(void *p)
{
	struct later *later = malloc(sizeof(*later)), **end = &laters;

	forget_block(p);
	hb_release(p);
	*later = (struct later){ .p = p, .when = ++rcu_now };
	while (*end)
		end = &(*end)->next;
	*end = later;
	wake(&laters);
}

static void rcu_thread(void *unused)
{
	(void)unused;
	for (;;) {
		struct later *first = laters;

		if (!first) {
			sleep_on(&laters, FOREVER);
		} else if (readers_before(first->when)) {
			sleep_ns(100000);
		} else {
			laters = first->next;
			hb_acquire(&rcu_now);
			hb_acquire(first->p);
			free(first->p);
			free(first);
			point();
		}
	}
}

void rcu_barrier(void)
{
	need_sleepable("rcu_barrier");
	while (laters)
		sleep_ns(100000);
}

/* RCU-tasks: everybody who is on a CPU now gives it up once, of his own will. */
struct holdouts {
	struct { int pid; unsigned long sleeps; } task[512];
	int n;
	bool left;
};

static void hold(struct task_struct *task, void *data)
{
	struct holdouts *h = data;

	if (task == running || task->channel)
		return;
	h->task[h->n].pid = task->pid;
	h->task[h->n++].sleeps = task->sleeps;
}

static void still_held(struct task_struct *task, void *data)
{
	struct holdouts *h = data;

	for (int i = 0; i < h->n; i++)
		if (h->task[i].pid == task->pid && h->task[i].sleeps == task->sleeps &&
		    !task->channel)
			h->left = true;
}

void synchronize_rcu_tasks(void)
{
	struct holdouts h = { };

	need_sleepable("synchronize_rcu_tasks");
	point();
	tasks_each(hold, &h);
	do {
		sleep_ns(draw(1000) * (one_in(4) ? 2000000 : 10000));
		h.left = false;
		tasks_each(still_held, &h);
	} while (h.left);
	hb_acquire(&gave_up_cpu);
}

/* ------------------------------------------------------------------- time, waiting */

/* Ticks come when they come: a time in jiffies ends up to a tick early. */
uint64_t model_ns(long jiffies)
{
	return jiffies <= 0 ? 0 : (uint64_t)jiffies * (NSEC / HZ) - draw(NSEC / HZ);
}

void msleep(unsigned int ms)
{
	need_sleepable("msleep");
	sleep_ns(ms * 1000000ull);
}

long schedule_timeout_interruptible(long jiffies)
{
	need_sleepable("schedule_timeout");
	sleep_ns(model_ns(jiffies));
	return 0;
}

void wake_up(wait_queue_head_t *wq)
{
	/* Kernel code reads and writes the head: it has to be there. */
	*(volatile char *)&wq->unused = 0;
	wake(wq);
}

void init_completion(struct completion *c)
{
	*c = (struct completion){ .lock = { .class = "completion" } };
}

void reinit_completion(struct completion *c)
{
	c->done = 0;
}

void complete(struct completion *c)
{
	spin_lock(&c->lock);
	c->done++;
	wake(&c->wq);
	spin_unlock(&c->lock);
}

void complete_all(struct completion *c)
{
	spin_lock(&c->lock);
	c->done = 1u << 30;
	wake(&c->wq);
	spin_unlock(&c->lock);
}

unsigned long wait_for_completion_timeout(struct completion *c, unsigned long jiffies)
{
	uint64_t until = jiffies == (unsigned long)MAX_SCHEDULE_TIMEOUT ? FOREVER :
			 now + model_ns(jiffies);
	bool done;

	need_sleepable("wait_for_completion");
	for (;;) {
		spin_lock(&c->lock);
		done = c->done;
		if (done && c->done < 1u << 30)
			c->done--;
		prepare(&c->wq);
		spin_unlock(&c->lock);
		if (done || now >= until) {
			finish_wait();
			return done;
		}
		schedule_prepared(until == FOREVER ? FOREVER : until > now ? until - now : 0);
	}
}

void wait_for_completion(struct completion *c)
{
	wait_for_completion_timeout(c, MAX_SCHEDULE_TIMEOUT);
}

/* ------------------------------------------------------------------- work */

#define WORKERS 256

struct workqueue_struct {
	struct work_struct *first;
	bool going;
};

struct worker {
	struct work_struct *work;	/* its address only: it may be freed by its function */
	void (*func)(struct work_struct *work);
	struct workqueue_struct *wq;
};

static struct worker workers[WORKERS];

static struct worker *executing(const struct work_struct *work)
{
	for (int i = 0; i < WORKERS; i++)
		if (workers[i].work == work)
			return &workers[i];
	return NULL;
}

static void worker_thread(void *arg)
{
	struct worker *w = arg;
	struct work_struct *work = w->work;

	hb_acquire(work);
	window();
	w->func(work);
	expect(!running->spinlocks && !running->rcu_depth, "work ends with a lock held");
	hb_release(work);		/* the same item never runs twice at once: its runs are ordered */
	hb_release(w);
	w->work = NULL;
	wake(w);
	wake(&workers);
}

/* Each item gets a thread at once, but not while the same is at work. */
static void start_work(struct workqueue_struct *wq)
{
	struct work_struct **p = &wq->first, *work;
	int i = 0;

	while ((work = *p)) {
		if (executing(work)) {
			p = &work->next;
			continue;
		}
		*p = work->next;
		while (workers[i].work)
			expect(++i < WORKERS, "too much work");
		workers[i] = (struct worker){ .work = work, .func = work->func, .wq = wq };
		work->queued = false;
		work->pending = false;
		task_new(worker_thread, &workers[i], "kworker")->started = true;
	}
}

static void dispatcher(void *arg)
{
	struct workqueue_struct *wq = arg;

	while (!wq->going || wq->first) {
		start_work(wq);
		sleep_on(wq->first ? (void *)&workers : (void *)wq, FOREVER);
	}
	free(wq);
}

struct workqueue_struct *alloc_workqueue(const char *name, int flags, int max_active)
{
	struct workqueue_struct *wq;

	(void)name, (void)flags, (void)max_active;
	if (chance(knobs.fail_alloc_1_in))
		return NULL;
	wq = calloc(1, sizeof(*wq));
	task_start(task_new(dispatcher, wq, "wq"));
	return wq;
}

static bool busy(const struct workqueue_struct *wq)
{
	for (int i = 0; i < WORKERS; i++)
		if (workers[i].work && workers[i].wq == wq)
			return true;
	return wq->first;
}

void destroy_workqueue(struct workqueue_struct *wq)
{
	need_sleepable("destroy_workqueue");
	while (busy(wq))
		sleep_on(&workers, FOREVER);
	for (int i = 0; i < WORKERS; i++)
		hb_acquire(&workers[i]);
	wq->going = true;
	wake(wq);
	wake(&workers);
}

static void enqueue(struct workqueue_struct *wq, struct work_struct *work)
{
	struct work_struct **end = &wq->first;

	expect(!wq->going, "work is queued where there is no queue any more");
	work->wq = wq;
	work->queued = true;
	work->next = NULL;
	while (*end)
		end = &(*end)->next;
	*end = work;
}

bool queue_work(struct workqueue_struct *wq, struct work_struct *work)
{
	point();
	hb_release(work);
	if (work->pending)
		return false;
	work->pending = true;
	enqueue(wq, work);
	wake(wq);
	wake(&workers);
	return true;
}

static void time_is_up(struct timer *timer)
{
	struct delayed_work *w = container_of(timer, struct delayed_work, timer);

	enqueue(w->work.wq, &w->work);
	wake_quietly(w->work.wq);
	wake_quietly(&workers);
}

static void queue_later(struct workqueue_struct *wq, struct delayed_work *w, unsigned long jiffies)
{
	w->work.pending = true;
	w->work.wq = wq;
	if (jiffies) {
		expect(!wq->going, "work is queued where there is no queue any more");
		w->timer.fn = time_is_up;
		timer_set(&w->timer, now + model_ns(jiffies));
		return;
	}
	enqueue(wq, &w->work);
	wake(wq);
	wake(&workers);
}

bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *w, unsigned long jiffies)
{
	point();
	hb_release(&w->work);
	if (w->work.pending)
		return false;
	queue_later(wq, w, jiffies);
	return true;
}

/* true: it was to run some time, and is not any more */
static bool grab(struct work_struct *work, struct timer *timer)
{
	struct work_struct **p;

	if (timer && timer_cancel(timer))
		return true;
	if (!work->queued)
		return false;
	for (p = &work->wq->first; *p != work; p = &(*p)->next)
		;
	*p = work->next;
	work->queued = false;
	return true;
}

bool mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *w, unsigned long jiffies)
{
	bool was;

	point();
	hb_release(&w->work);
	was = grab(&w->work, &w->timer);
	if (w->work.pending && !was)
		return true;		/* somebody is cancelling it */
	queue_later(wq, w, jiffies);
	return was;
}

bool cancel_delayed_work(struct delayed_work *w)
{
	bool was;

	point();
	was = grab(&w->work, &w->timer);
	if (was)
		w->work.pending = false;
	return was;
}

/* Meanwhile it cannot be queued. */
static bool cancel_sync(struct work_struct *work, struct timer *timer)
{
	struct worker *worker;
	bool was;

	need_sleepable("cancel_work_sync");
	point();
	was = grab(work, timer);
	work->pending = true;
	while ((worker = executing(work))) {
		sleep_on(worker, FOREVER);
		hb_acquire(worker);
	}
	hb_acquire(work);	/* that nobody is at it is known under the pool's lock, as is its end */
	work->pending = false;
	return was;
}

bool cancel_delayed_work_sync(struct delayed_work *w)
{
	return cancel_sync(&w->work, &w->timer);
}

bool cancel_work_sync(struct work_struct *work)
{
	return cancel_sync(work, NULL);
}

/* ------------------------------------------------------------------- threads */

struct start {
	int (*fn)(void *arg);
	void *arg;
};

static int latest_threads[DOMID_FIRST_RESERVED];	/* their pids */

static void kthread(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	start.fn(start.arg);
}

struct task_struct *kthread_create(int (*fn)(void *arg), void *arg, const char *fmt, ...)
{
	struct task_struct *task;
	struct start *start;
	unsigned int domid;
	char name[40];
	va_list args;

	need_sleepable("kthread_create");
	if (chance(knobs.fail_alloc_1_in) || chance(knobs.fail_thread_1_in))
		return ERR_PTR(-ENOMEM);
	start = malloc(sizeof(*start));
	*start = (struct start){ .fn = fn, .arg = arg };
	va_start(args, fmt);
	model_vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);
	point();
	task = task_new(kthread, start, name);
	if (sscanf(name, "xen-mtwatch-%u", &domid) == 1 && domid < ARRAY_SIZE(latest_threads))
		latest_threads[domid] = task->pid;
	return task;
}

int latest_thread_of(int domid)
{
	return latest_threads[domid];
}

void wake_up_process(struct task_struct *task)
{
	task_start(task);
}

void kernel_init(void)
{
	task_start(task_new(rcu_thread, NULL, "rcu"));
}
