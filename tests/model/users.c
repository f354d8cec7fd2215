// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches of no guest. User space, by /dev/xen/xenbus, is told each path, in order: here each event
 * has a number, which its path ends in. The balloon driver's target is what was written last. And
 * there is one in which xenwatch can be stuck.
 */
#include "drivers.h"
#include "users.h"
#include "xenbus.h"

#undef snprintf

#define WAITING 400			/* events that nobody was told of yet */
#define MANY 900			/* and of the module there are others */
#define STUCK (1200 * NSEC)
#define AT_ONCE (300 * NSEC)		/* with an xenstored that is busy with others */

struct user {
	struct xenbus_watch watch;
	struct mutex reply_mutex;
	struct task_struct *busy;
	bool native;			/* the kernel has its watch itself, perhaps next to the shadow */
	bool closing;
	int expected[WAITING], n;	/* the oldest first */
	int last, covered;		/* told; with a path of all that is below */
	struct user *next;
};

static struct user *users;
static int waiting;			/* of all users; those that have closed included */
static bool was_full;			/* so many may have waited that a path was not kept */
static unsigned long target_pages;
static int last_number;

/* user/<who>/<number>; 0: the watch's own node */
static int number_of(const char *path)
{
	int who, number;

	return sscanf(path, "user/%d/%d", &who, &number) == 2 ? number : 0;
}

/* ------------------------------------------------------------------- user space */

void users_expect(struct xenbus_watch *watch, struct xenbus_watch *owner, const char *path)
{
	struct user *user;

	if (!owner || owner->callback != watch_fired)
		return;
	user = container_of(owner, struct user, watch);
	if (watch == owner)
		user->native = true;
	else if (user->native)
		return;			/* its shadow's may come as well, and need not */
	expect(user->n < WAITING, "too many events of %s", owner->node);
	user->expected[user->n++] = number_of(path);
	was_full = was_full || ++waiting > MANY;
}

static void was_told(struct user *user)
{
	memmove(user->expected, user->expected + 1, --user->n * sizeof(int));
	waiting--;
}

static void check_told(struct user *user, int number)
{
	if (!number && (knobs.fail_alloc_1_in || was_full)) {
		/* A path could not be kept, or it is the first event as well: look at all of it. */
		for (; user->n; was_told(user))
			user->covered = max(user->covered, user->expected[0]);
	} else if (user->n && user->expected[0] == number) {
		was_told(user);
	} else {
		expect(number <= user->covered || (user->native && number == user->last),
		       "%s: user space is told of %d, and not of %d", user->watch.node, number,
		       user->n ? user->expected[0] : -1);
	}
	user->last = number ?: user->last;
}

void watch_fired(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct user *user = container_of(watch, struct user, watch);

	(void)token;
	note("%s: told of %s", watch->node, path);
	expect(!user->busy, "user space is told in two places, in %s, too", user->busy->name);
	user->busy = running;
	mutex_lock(&user->reply_mutex);
	if (!user->closing)
		check_told(user, number_of(path));
	if (chance(knobs.long_callback_1_in))
		sleep_ns(draw(100) * NSEC / (1 + draw(100)));
	mutex_unlock(&user->reply_mutex);
	point();
	user->busy = NULL;
}

static struct user *user_opens(int who)
{
	struct user *user = calloc(1, sizeof(*user));
	char node[PATH];

	snprintf(node, PATH, one_in(3) ? "user" : "user/%d", who);
	user->watch.node = strdup(node);
	user->watch.callback = watch_fired;
	user->reply_mutex.class = "reply_mutex";
	running->registering = &user->watch;
	user->next = users;
	users = user;
	if (!register_xenbus_watch(&user->watch)) {
		running->registering = NULL;
		return user;
	}
	running->registering = NULL;
	return NULL;
}

static void user_closes(struct user *user)
{
	struct user **p = &users;

	user->closing = true;
	xenbus_disown(&user->watch);
	unregister_xenbus_watch(&user->watch);
	expect(!user->busy, "unregister returns while user space is told in %s", user->busy->name);
	while (*p != user)
		p = &(*p)->next;
	*p = user->next;
	free((char *)user->watch.node);
	free(user);
}

static void users_write(int who)
{
	char path[PATH];

	snprintf(path, PATH, "user/%d/%d", who, ++last_number);
	store_write(path, last_number);
}

void user_lives(void)
{
	int who = draw(3);
	struct user *user = user_opens(who);

	for (int i = draw(8); i; i--) {
		users_write(one_in(4) ? (int)draw(3) : who);
		if (user && one_in(4)) {
			mutex_lock(&user->reply_mutex);		/* it reads what there is */
			sleep_ns(draw(1000) * 10000000ull);
			mutex_unlock(&user->reply_mutex);
		}
		if (one_in(2))
			sleep_ns(draw(1000) * 1000000ull);
	}
	if (user && !one_in(8))
		user_closes(user);
}

const char *users_unfinished(void)
{
	for (struct user *user = users; user; user = user->next)
		if (user->n)
			return user->watch.node;
	return target_pages != (unsigned long)max(store_value("memory/target"), 0) >> 2 ?
	       "memory/target" : NULL;
}

/* ------------------------------------------------------------------- the kernel's own */

void balloon_set_new_target(unsigned long pages)
{
	target_pages = pages;
	point();
}

/* As watch_target() in dom0. */
static void target_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	int kib;

	(void)watch, (void)path, (void)token;
	expect(is_xenwatch(), "the balloon driver's watch is served elsewhere");
	kib = xenbus_read_value("memory/target");
	point();
	if (kib >= 0)
		balloon_set_new_target(kib >> 2);
}

void target_is_set(void)
{
	store_write("memory/target", 4 * (1 + draw(100000)));
}

static bool held;

static void control_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	(void)watch, (void)path, (void)token;
	expect(is_xenwatch(), "a watch that the module does not know is served elsewhere");
	if (!held)
		return;
	held = false;
	sleep_ns(STUCK);
}

static struct xenbus_watch target_watch = { .node = "memory/target", .callback = target_changed };
static struct xenbus_watch control_watch = { .node = "control/held", .callback = control_changed };

static void register_one(struct xenbus_watch *watch)
{
	while (register_xenbus_watch(watch))
		sleep_ns(NSEC);
}

void users_init(void)
{
	register_one(&control_watch);
	register_one(&target_watch);
}

/* ------------------------------------------------------------------- xenwatch is stuck */

static bool target_is_met(void)
{
	return target_pages == (unsigned long)store_value("memory/target") >> 2;
}

static struct user *stuck_user;

static bool user_is_told(void)
{
	return !stuck_user->n;
}

static bool nobody_waits(void)
{
	static struct seq_file m;

	return !module_status(&m) || !strstr(m.text, " state=new ");
}

static void all_have_events(void)
{
	char path[PATH];

	front_toggles(0);
	for (int d = 1; d < DOMS; d++) {
		snprintf(path, PATH, "mtwatch/%d", d);
		store_write(path, 0);
	}
}

static void check_in_time(bool (*done)(void), bool (*is_on)(void), const char *what)
{
	uint64_t began = now;

	while (!done() && is_on()) {
		expect(now - began < AT_ONCE, "xenwatch is stuck, the module is on, and %s", what);
		sleep_ns(NSEC);
	}
}

static void xenwatch_stops(void)
{
	held = true;
	store_write("control/held", 1);
	while (held)
		sleep_ns(NSEC);
}

static void check_users(bool (*is_on)(void))
{
	uint64_t began = now;

	stuck_user = user_opens(0);
	expect(stuck_user, "user space cannot watch");
	users_write(0);
	users_write(0);
	check_in_time(user_is_told, is_on, "user space is not told");
	users_write(0);
	user_closes(stuck_user);
	expect(!is_on() || now - began < STUCK / 2,
	       "xenwatch is stuck, and user space waits for it");
}

static bool newcomer_has_thread(void)
{
	static struct seq_file m;
	char *line;

	if (!module_status(&m))
		return true;
	line = strstr(m.text, "\ndomain domid=7 ");
	return line && strncmp(line, "\ndomain domid=7 pid=- ", 22);
}

/* There is room for all guests, with one that nobody knows yet. What is no guest takes none. */
static void check_newcomer(bool (*is_on)(void))
{
	char most[4];

	snprintf(most, sizeof(most), "%d", DOMS);
	module_set("max_threads", most);
	all_have_events();
	sleep_ns(5 * NSEC);		/* they come */
	store_write("mtwatch/7", 0);
	check_in_time(newcomer_has_thread, is_on, "a new domain waits for it");
	store_remove("mtwatch/7");
	module_set("max_threads", "4096");
}

static void check_warning(bool (*is_on)(void), unsigned int warnings)
{
	static struct seq_file m;

	sleep_ns(2 * NSEC);
	module_status(&m);		/* which asks whether xenwatch answers, once a second */
	sleep_ns(100 * NSEC);
	expect(!is_on() || warned_of_silence() > warnings, "nobody says that xenwatch is stuck");
}

void xenwatch_is_stuck(bool (*is_on)(void))
{
	unsigned int warnings = warned_of_silence();

	xenwatch_stops();
	target_is_set();
	check_in_time(target_is_met, is_on, "the target is not met");
	check_users(is_on);
	check_newcomer(is_on);
	check_in_time(nobody_waits, is_on, "a domain waits for it");
	check_warning(is_on, warnings);
}

void xenwatch_is_stuck_before(void (*load)(void), bool (*is_on)(void))
{
	unsigned int warnings = warned_of_silence();

	xenwatch_stops();
	load();
	check_users(is_on);
	target_is_set();
	check_in_time(target_is_met, is_on, "the target is not met");
	sleep_ns(200 * NSEC);		/* by then the highest domid is found */
	check_newcomer(is_on);
	check_warning(is_on, warnings);
}
