/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tasks that take turns, by a seed.
 *
 * One task runs at a time, as a coroutine. It can lose its turn at a point(), of which there is one
 * in every lock, atomic access, wake-up and so on. Who is next is drawn from the seed, so a run is
 * repeated by its seed alone. Time is counted, not waited for: when everybody sleeps it jumps to the
 * next timer, and it may jump before that.
 */
#ifndef MODEL_SCHED_H
#define MODEL_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC 1000000000ull
#define FOREVER UINT64_MAX

struct task_struct {
	int pid;
	char name[40];
	bool started, dead;
	const void *prepared;	/* about to sleep for it */
	const void *channel;	/* asleep until wake(channel) or the deadline; NULL: not asleep */
	uint64_t deadline;
	const void *spins_on;	/* waits for a spin lock: on a CPU all the same */
	uint64_t stolen;	/* until then its CPU does something else, though it is awake */
	unsigned long sleeps;	/* how often it has given up its CPU of its own will */
	int spinlocks, rcu_depth;
	unsigned long rcu_since;
	uint64_t priority;
	char at[48];		/* for people: what it is in */
	unsigned long event;	/* xenwatch: the event that it is at */
	void *registering;	/* the driver's watch that it is about to register (xenbus.c) */
	struct coroutine *co;
};

struct timer {
	uint64_t when;
	void (*fn)(struct timer *timer);
	struct timer *next;
	bool pending;
};

/* What a seed decides once for the whole run. */
struct knobs {
	bool by_priority;	/* else uniformly at random */
	unsigned int switch_1_in;
	unsigned int hurry_1_in;	/* time jumps though somebody could run; 0: never */
	unsigned int steal_1_in;	/* somebody loses his CPU for a long time; 0: never */
	unsigned int window_1_in;	/* the same at a window() */
	unsigned int late_1_in;		/* the same for who registers a driver's watch; see below */
	unsigned int fail_alloc_1_in, fail_store_1_in, fail_ftrace_1_in;	/* 0: never */
	unsigned int fail_watch_1_in, fail_thread_1_in;
	bool slow_watches;	/* xenstored takes seconds to (un)register one */
	unsigned int directory_max;	/* bytes of a reply of xenstored */
	unsigned int long_callback_1_in;
	/* These are set by hand only, as is late_1_in: watches are stopped then, too. */
	unsigned int administrators;
	unsigned int cycles;	/* of loading and unloading, each as soon as it can be; a minute for each */
	unsigned int slow_boot;	/* drivers come some seconds after xenstored */
	unsigned int toggling;	/* while the module comes or goes that is all that toolstacks do */
	bool replacing;		/* hardly anything else than that happens */
	bool stuck;		/* xenwatch will be, and nothing else goes wrong */
	bool rescued;		/* and the module comes only then */
	bool crossed;		/* some devices are those of one domain and for another */
	unsigned int at_once;	/* max_active */
	bool unknown_domains;	/* any may be gone, and be there again, when the module comes */
};

extern struct knobs knobs;
extern bool calm;		/* nothing fails, nobody is slow */
extern uint64_t now;		/* ns */
extern unsigned long hurries;	/* so often time went on though somebody could run */
extern uint64_t stolen_until;	/* until then somebody has, or had, lost his CPU */
extern struct task_struct *running;
extern unsigned long seed;
extern bool verbose;
extern char gave_up_cpu;	/* for hb_acquire(): what anybody did before he slept */

void sched_hush(void);		/* once, before there are any processes */
void sched_init(unsigned long with_seed);
_Noreturn void sched_run(void);	/* the tasks; one of them ends the process */

struct task_struct *task_new(void (*fn)(void *arg), void *arg, const char *name);
void task_start(struct task_struct *task);
_Noreturn void task_exit(void);
void tasks_each(void (*fn)(struct task_struct *task, void *data), void *data);

void point(void);				/* somebody else may run here */
void window(void);				/* the same, of a few instructions that matter */
void lose_cpu(unsigned int ms);			/* for up to so long, by chance */
void stretch(void);				/* now and then for up to five seconds: mutants.py */
void prepare(const void *channel);		/* wake(channel) counts from here on */
bool sleep_on(const void *channel, uint64_t ns);	/* false: the time was up */
bool schedule_prepared(uint64_t ns);
void finish_wait(void);
void wake(const void *channel);
void wake_quietly(const void *channel);	/* no point(): from a timer */
void spin_until_free(const void *lock);		/* the caller looks again */
void lock_is_free(const void *lock);
void sleep_ns(uint64_t ns);
void need_sleepable(const char *what);

void timer_set(struct timer *timer, uint64_t when);
bool timer_cancel(struct timer *timer);		/* true: it was pending */

unsigned int draw(unsigned int below);		/* 0 .. below-1 */
bool one_in(unsigned int n);			/* false for 0 */
bool chance(unsigned int n);			/* the same, but never when calm */

void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define expect(ok, ...) do { if (!(ok)) fail(__VA_ARGS__); } while (0)

/* What orders memory between tasks, for TSan, which does not see this file's switching. */
void hb_release(const void *what);
void hb_acquire(const void *what);

#endif
