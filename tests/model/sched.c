// SPDX-License-Identifier: GPL-2.0-only
/* See sched.h. This is not instrumented for TSan: it must not order what the kernel would not. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "sched.h"

#define STACK (256 * 1024)
#define MAX_TASKS 512
#define MAX_STEPS 6000000ul	/* of a run; one takes some ten thousand */
#define NOTES 256

#ifdef MODEL_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned int flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned int flags);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define NO_SYNC 1u
#endif
#ifdef __SANITIZE_ADDRESS__
static int hushed;
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

struct coroutine {
	ucontext_t context;
	void *stack;
	void *fiber;
	void *fake_stack;
	void (*fn)(void *arg);
	void *arg;
};

struct knobs knobs;
bool calm, verbose;
char gave_up_cpu;
uint64_t now;
unsigned long hurries;
uint64_t stolen_until;
unsigned long seed;
struct task_struct *running;

static struct task_struct *tasks[MAX_TASKS];
static int n_tasks;
static int last_pid;
static struct timer *timers;
static uint64_t state[2];
static unsigned long steps;
static struct coroutine base;		/* whoever called sched_run(), and never goes on */
static struct task_struct *corpse;	/* has exited; its stack is free once somebody else runs */
static void *spare_stacks[MAX_TASKS];
static int n_spare;
static char notes[NOTES][200];
static unsigned long n_notes;

/* ------------------------------------------------------------------- chance */

static uint64_t next_random(void)		/* xorshift128+ */
{
	uint64_t a = state[0], b = state[1];

	state[0] = b;
	a ^= a << 23;
	state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
	return state[1] + b;
}

unsigned int draw(unsigned int below)
{
	return below ? next_random() % below : 0;
}

bool one_in(unsigned int n)
{
	return n && !draw(n);
}

bool chance(unsigned int n)
{
	return !calm && one_in(n);
}

/* ------------------------------------------------------------------- telling */

void note(const char *fmt, ...)
{
	char *to = notes[n_notes++ % NOTES];
	int n = snprintf(to, sizeof(notes[0]), "%10.6f %-18.18s ", now / 1e9,
			 running ? running->name : "-");
	va_list args;

	va_start(args, fmt);
	vsnprintf(to + n, sizeof(notes[0]) - n, fmt, args);
	va_end(args);
	if (verbose)
		fprintf(stderr, "%s\n", to);
}

_Noreturn void fail(const char *fmt, ...)
{
	unsigned long i;
	va_list args;

	fprintf(stderr, "\n");
	for (i = n_notes > NOTES ? n_notes - NOTES : 0; !verbose && i < n_notes; i++)
		fprintf(stderr, "%s\n", notes[i % NOTES]);
	fprintf(stderr, "\ntasks:\n");
	for (i = 0; i < (unsigned long)n_tasks; i++)
		fprintf(stderr, "  %3d %-20s %s %s\n", tasks[i]->pid, tasks[i]->name,
			tasks[i]->channel ? "sleeps" : tasks[i]->spins_on ? "spins" : "runs",
			tasks[i]->at);
	fprintf(stderr, "\nFAIL seed %lu in %s: ", seed, running ? running->name : "-");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	_exit(1);
}

/* ------------------------------------------------------------------- order */

void hb_release(const void *what)
{
#ifdef MODEL_TSAN
	__tsan_release((void *)what);
#else
	(void)what;
#endif
}

void hb_acquire(const void *what)
{
#ifdef MODEL_TSAN
	__tsan_acquire((void *)what);
#else
	(void)what;
#endif
}

/* ------------------------------------------------------------------- coroutines */

static void begin_switch(struct coroutine *from, const struct coroutine *to, bool dies)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(dies ? NULL : &from->fake_stack, to->stack,
				       to->stack ? STACK : 0);
#endif
#ifdef MODEL_TSAN
	__tsan_switch_to_fiber(to->fiber, NO_SYNC);
#endif
	(void)from;
	(void)to;
	(void)dies;
}

static void bury(void)
{
	if (!corpse)
		return;
#ifdef MODEL_TSAN
	__tsan_destroy_fiber(corpse->co->fiber);
	munmap(corpse->co->stack, STACK);	/* so that TSan forgets who used it */
#else
	spare_stacks[n_spare++] = corpse->co->stack;
#endif
	free(corpse->co);
	free(corpse);
	corpse = NULL;
}

static void end_switch(struct coroutine *self)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
#endif
	(void)self;
	bury();
}

static void entry(void)
{
	struct coroutine *co = running->co;

	end_switch(co);
	hb_acquire(running);
	co->fn(co->arg);
	task_exit();
}

static void *stack_new(void)
{
	void *stack;

	if (n_spare) {
		stack = spare_stacks[--n_spare];
#ifdef __SANITIZE_ADDRESS__
		__asan_unpoison_memory_region(stack, STACK);
#endif
		return stack;
	}
	stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	expect(stack != MAP_FAILED, "no memory for a stack");
	return stack;
}

struct task_struct *task_new(void (*fn)(void *arg), void *arg, const char *name)
{
	struct task_struct *task = calloc(1, sizeof(*task));
	struct coroutine *co = calloc(1, sizeof(*co));

	expect(n_tasks < MAX_TASKS, "too many tasks");
	task->pid = ++last_pid;
	snprintf(task->name, sizeof(task->name), "%s", name);
	task->priority = next_random() >> 1;
	task->co = co;
	co->fn = fn;
	co->arg = arg;
	co->stack = stack_new();
#ifdef MODEL_TSAN
	co->fiber = __tsan_create_fiber(0);
#endif
	getcontext(&co->context);
	co->context.uc_stack.ss_sp = co->stack;
	co->context.uc_stack.ss_size = STACK;
	makecontext(&co->context, entry, 0);
	tasks[n_tasks++] = task;
	return task;
}

void task_start(struct task_struct *task)
{
	hb_release(task);
	task->started = true;
	point();
}

void tasks_each(void (*fn)(struct task_struct *task, void *data), void *data)
{
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->started)
			fn(tasks[i], data);
}

/* ------------------------------------------------------------------- time */

void timer_set(struct timer *timer, uint64_t when)
{
	struct timer **p = &timers;

	timer_cancel(timer);
	timer->when = when;
	timer->pending = true;
	while (*p && (*p)->when <= when)
		p = &(*p)->next;
	timer->next = *p;
	*p = timer;
}

bool timer_cancel(struct timer *timer)
{
	struct timer **p;

	for (p = &timers; *p; p = &(*p)->next)
		if (*p == timer) {
			*p = timer->next;
			timer->pending = false;
			return true;
		}
	return false;
}

static uint64_t next_event(void)
{
	uint64_t next = timers ? timers->when : FOREVER;

	for (int i = 0; i < n_tasks; i++) {
		if (tasks[i]->channel && tasks[i]->deadline < next)
			next = tasks[i]->deadline;
		if (tasks[i]->stolen > now && tasks[i]->stolen < next)
			next = tasks[i]->stolen;
	}
	return next;
}

static void fire(void)
{
	while (timers && timers->when <= now) {
		struct timer *timer = timers;

		timers = timer->next;
		timer->pending = false;
		timer->fn(timer);
	}
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->channel && tasks[i]->deadline <= now)
			tasks[i]->channel = NULL;
}

/* ------------------------------------------------------------------- turns */

static bool can_run(const struct task_struct *task)
{
	return task->started && !task->dead && !task->channel && !task->spins_on &&
	       task->stolen <= now;
}

static struct task_struct *pick(void)
{
	struct task_struct *found[MAX_TASKS], *best = NULL;
	int n = 0;

	for (int i = 0; i < n_tasks; i++)
		if (can_run(tasks[i])) {
			found[n++] = tasks[i];
			if (!best || tasks[i]->priority > best->priority)
				best = tasks[i];
		}
	return knobs.by_priority || !n ? best : found[draw(n)];
}

static struct task_struct *next_task(void)
{
	struct task_struct *task;

	if (chance(knobs.hurry_1_in) && next_event() != FOREVER) {
		hurries++;
		now = next_event() > now ? next_event() : now;
		fire();
	}
	while (!(task = pick())) {
		expect(next_event() != FOREVER, "deadlock: nobody can ever run again");
		now = next_event() > now ? next_event() : now;
		fire();
	}
	return task;
}

static void switch_to(struct task_struct *to, bool dies)
{
	struct task_struct *self = running;

	if (to == self)
		return;
	running = to;
	begin_switch(self->co, to->co, dies);
	swapcontext(&self->co->context, &to->co->context);
	end_switch(self->co);
}

static void turn(void)
{
	expect(++steps < MAX_STEPS, "there is no end to this");
	now += 1000;
	if (timers && timers->when <= now)
		fire();
	switch_to(next_task(), false);
}

/* The hypervisor has its CPU do something else: it is awake, holds its locks and does nothing. */
void lose_cpu(unsigned int ms)
{
	hurries++;
	running->stolen = now + 1000000ull * draw(ms);
	if (running->stolen > stolen_until)
		stolen_until = running->stolen;
	turn();
}

void point(void)
{
	if (!running)
		return;
	if (chance(knobs.steal_1_in)) {
		lose_cpu(one_in(4) ? 5000 : 50);
		return;
	}
	if (!one_in(knobs.switch_1_in)) {
		++steps;
		return;
	}
	if (knobs.by_priority && one_in(8))
		running->priority = one_in(4) ? next_random() >> 1 : next_random() >> 34;
	turn();
}

void window(void)
{
	if (chance(knobs.window_1_in))
		lose_cpu(one_in(4) ? 5000 : 50);
	else
		point();
}

void stretch(void)
{
	if (chance(2))
		lose_cpu(5000);
	else
		point();
}

_Noreturn void task_exit(void)
{
	struct task_struct *self = running, *to;
	int i;

	expect(!self->spinlocks && !self->rcu_depth, "exits with a lock");
	hb_release(&gave_up_cpu);
	self->dead = true;
	self->sleeps++;
	for (i = 0; tasks[i] != self; i++)
		;
	for (n_tasks--; i < n_tasks; i++)
		tasks[i] = tasks[i + 1];
	to = next_task();
	corpse = self;
	switch_to(to, true);
	abort();
}

void need_sleepable(const char *what)
{
	snprintf(running->at, sizeof(running->at), "%s", what);
	expect(!running->spinlocks, "%s with a spin lock held", what);
	expect(!running->rcu_depth, "%s in an RCU section", what);
}

void prepare(const void *channel)
{
	running->prepared = channel;
	point();
}

bool schedule_prepared(uint64_t ns)
{
	bool in_time = true;
	const void *channel = running->prepared;
	uint64_t until = ns == FOREVER ? FOREVER : now + ns;

	hb_release(&gave_up_cpu);
	running->sleeps++;
	running->prepared = NULL;
	if (channel) {
		running->channel = channel;
		running->deadline = until;
		turn();
		in_time = until == FOREVER || now < until;
	} else {
		point();
	}
	return in_time;
}

void finish_wait(void)
{
	running->prepared = NULL;
}

bool sleep_on(const void *channel, uint64_t ns)
{
	running->prepared = channel;
	return schedule_prepared(ns);
}

void sleep_ns(uint64_t ns)
{
	sleep_on(&now, ns);
}

void wake_quietly(const void *channel)
{
	for (int i = 0; i < n_tasks; i++) {
		if (tasks[i]->channel == channel)
			tasks[i]->channel = NULL;
		if (tasks[i]->prepared == channel)
			tasks[i]->prepared = NULL;
	}
}

void wake(const void *channel)
{
	wake_quietly(channel);
	point();
}

void spin_until_free(const void *lock)
{
	running->spins_on = lock;
	turn();
}

void lock_is_free(const void *lock)
{
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->spins_on == lock)
			tasks[i]->spins_on = NULL;
}

/* ASan says once in a process that it does not fully know swapcontext(); it is told of each. */
void sched_hush(void)
{
#ifdef __SANITIZE_ADDRESS__
	int err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
	ucontext_t here;

	dup2(null, STDERR_FILENO);
	getcontext(&here);
	here.uc_stack.ss_sp = NULL;
	here.uc_stack.ss_size = 0;
	if (!hushed++)
		swapcontext(&base.context, &here);
	dup2(err, STDERR_FILENO);
	close(err);
	close(null);
#endif
}

void sched_init(unsigned long with_seed)
{
	seed = with_seed;
	state[0] = with_seed * 0x9e3779b97f4a7c15ull + 1;
	state[1] = ~with_seed * 0xbf58476d1ce4e5b9ull + 7;
	for (int i = 0; i < 20; i++)
		next_random();
	now = NSEC;
#ifdef MODEL_TSAN
	base.fiber = __tsan_get_current_fiber();
#endif
}

_Noreturn void sched_run(void)
{
	running = next_task();
	begin_switch(&base, running->co, false);
	swapcontext(&base.context, &running->co->context);
	abort();
}
