// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host in which everything happens at once: toolstacks, guests, an administrator who unbinds
 * devices, somebody who loads and unloads the module; all by one seed. See README.md.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "drivers.h"
#include "users.h"
#include "xenbus.h"

#undef snprintf

#define LONGEST (3000 * NSEC)		/* that anything may take once nothing fails any more */

static const char *library;		/* NULL: the control run */
static int actors;			/* that are at work yet */
static bool quiet_time;			/* they are to end */
static int busy_domains;		/* most happens to the first ones */

const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
	return "detect_leaks=0:abort_on_error=0:exitcode=1:detect_stack_use_after_return=0";
}

const char *__tsan_default_options(void)
{
	return "exitcode=1:halt_on_error=1:ignore_interceptors_accesses=1:report_signal_unsafe=0:"
	       "report_thread_leaks=0:history_size=3";
}

const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:print_stacktrace=1:exitcode=1";
}

/* ------------------------------------------------------------------- who is there */

static bool on_its_way;			/* the module: to be on, or to be gone */
static int haste;			/* so often nobody waits meanwhile */

static void pause_a_while(void)
{
	if (on_its_way && haste) {
		haste--;
		point();
		return;
	}
	if (one_in(3))
		sleep_ns(draw(1000) * 1000000ull);
	else if (one_in(10))
		sleep_ns(draw(90) * NSEC);
	else
		point();
}

static void actor_ends(void)
{
	if (!--actors)
		wake(&actors);
}

static void write_below(int type, int domid, int devid, const char *name, int value)
{
	char path[PATH];

	device_path(path, type, domid, devid);
	strcat(strcat(path, "/"), name);
	store_write(path, value);
}

static void set_node(int domid, bool there)
{
	char path[PATH];

	snprintf(path, PATH, "mtwatch/%d", domid);
	if (there)
		store_write(path, 0);
	else
		store_remove(path);
}

/* Its guest is created and destroyed over and over, as is another. */
static void node_flaps(int domid)
{
	int other = 1 + draw(DOMS - 1);

	for (int i = draw(30); i; i--)
		set_node(one_in(2) ? domid : other, one_in(2));
}

static void guest_toggles(int type, int domid, int devid)
{
	char path[PATH];

	front_path(path, type, domid, devid);
	store_write(path, draw(6));
}

static void device_comes(int type, int domid, int devid)
{
	write_below(type, domid, devid, "frontend", domid);
	guest_toggles(type, domid, devid);
	write_below(type, domid, devid, "hotplug-status", one_in(2));
}

static void device_goes(int type, int domid, int devid)
{
	char path[PATH];

	if (!toolstack_may_remove(type, domid, devid))
		return;
	device_path(path, type, domid, devid);
	store_remove(path);
}

/* One after the other, and their directory when it is empty, as libxl does it. */
static void devices_go(int type, int domid)
{
	char path[PATH];

	for (int v = 0; v < DEVS; v++)
		device_goes(type, domid, v);
	device_path(path, type, domid, 0);
	*strrchr(path, '/') = '\0';
	if (store_has(path) && toolstack_may_remove(type, domid, -1) && !store_has_below(path))
		store_remove(path);
	snprintf(path, PATH, "/local/domain/%d", domid);
	/* Else the kernel knows of domains up to the last. */
	if (domid && one_in(2) && (domid != DOMS - 1 || knobs.unknown_domains))
		store_remove(path);
}

static bool is_replaced;		/* by one of the toolstacks */
static bool is_gone;			/* a domain, so that nothing tells of it any more */

/* The last one goes, and is there again: if somebody loads the module meanwhile, it does not know. */
static void domain_is_replaced(void)
{
	int domid = DOMS - 1;
	char path[PATH];

	for (int t = 0; t < TYPES; t++)
		devices_go(t, domid);
	/* Once more, of which xenwatch has not seen anything yet when it is busy. */
	if (one_in(2))
		device_comes(0, domid, 0);
	devices_go(0, domid);
	set_node(domid, false);
	snprintf(path, PATH, "/local/domain/%d", domid);
	store_remove(path);
	is_gone = true;
	if (one_in(2))
		sleep_ns(draw(one_in(2) ? 1000 : 60000) * 1000000ull);
	else
		pause_a_while();
	is_gone = false;
	for (int i = 0; i < 4; i++)
		device_comes(draw(TYPES), domid, draw(DEVS));
}

static void toolstack(void *unused)
{
	int domid = 1 + draw(busy_domains);

	(void)unused;
	while (!quiet_time) {
		int type = draw(TYPES), devid = draw(DEVS);

		if (knobs.replacing && !is_replaced) {
			is_replaced = true;
			domain_is_replaced();
			sleep_ns(draw(60) * NSEC);
			is_replaced = false;
			continue;
		}
		if (knobs.toggling && on_its_way) {
			guest_toggles(type, domid, devid);
			sleep_ns(draw(1000) * 1000000ull);
			continue;
		}
		if (one_in(4))
			domid = one_in(6) ? 0 : 1 + draw(one_in(4) ? DOMS - 1 : busy_domains);
		switch (draw(10)) {
		case 0:
			set_node(domid, true);
			device_comes(type, domid, devid);
			break;
		case 1:
		case 2:
			device_comes(type, domid, devid);
			break;
		case 3:
			device_goes(type, domid, devid);
			break;
		case 4:
			devices_go(type, domid);
			set_node(domid, false);
			break;
		case 5:
			if (one_in(4))
				node_flaps(domid);
			else
				set_node(domid, one_in(2));
			break;
		case 6:
			write_below(type, domid, devid, "hotplug-status", one_in(2));
			break;
		case 7:
			devices_go(type, domid);	/* and are there again at once */
			device_comes(type, domid, devid);
			break;
		case 8:
			if (one_in(2))
				front_toggles(devid);
			else
				target_is_set();
			break;
		default:
			if (knobs.unknown_domains && one_in(2))
				domain_is_replaced();
			else
				guest_toggles(type, domid, devid);
		}
		pause_a_while();
	}
	actor_ends();
}

/* What takes long is taken away. */
static void unbind_all(int domid)
{
	for (int t = 0; t < TYPES; t++)
		for (int v = 0; v < DEVS; v++)
			unbind(t, domid, v, !one_in(3));
}

static void administrator(void *unused)
{
	(void)unused;
	while (!quiet_time) {
		int domid = domain_at_work();

		if (domid && one_in(2))
			unbind_all(domid);
		else
			unbind(draw(TYPES), one_in(6) ? 0 : 1 + draw(busy_domains), draw(DEVS),
			       !one_in(3));
		pause_a_while();
	}
	actor_ends();
}

static void user(void *unused)
{
	(void)unused;
	while (!quiet_time) {
		user_lives();
		pause_a_while();
	}
	actor_ends();
}

/* The administrator of xenstore's own domain. */
static void resumer(void *unused)
{
	bool late = knobs.late_1_in, often = knobs.window_1_in && knobs.window_1_in < 5;
	unsigned int longest = often && !late ? 3000 : 20000;

	(void)unused;
	while (!quiet_time) {
		watches_are_stopped_for(draw(one_in(3) ? longest : 100) * 1000000ull);
		sleep_ns(draw(often || late ? 3 : 100) * NSEC);
	}
	actor_ends();
}

static struct seq_file status;

static const char *state(void)
{
	static char word[20];
	const char *found;

	if (!module_status(&status) || !(found = strstr(status.text, "state=")))
		return "none";
	sscanf(found + 6, "%19s", word);
	return word;
}

static void reader(void *unused)
{
	struct seq_file *m = malloc(sizeof(*m));

	(void)unused;
	while (!quiet_time) {
		module_status(m);
		pause_a_while();
	}
	free(m);
	actor_ends();
}

/* Nodes count, so that all are asked about; and do not, before they were. */
static void mind_changes(void)
{
	module_set("mode", "auto");
	sleep_ns(draw(2) * NSEC);
	module_set("mode", "both");
	for (int i = draw(1 << draw(14)); i; i--)
		point();
	module_set("mode", one_in(3) ? "node" : "auto");
}

static bool was_told;			/* somebody has set enabled, and knows what came of it */

static void settings(void *unused)
{
	static const char * const modes[] = { "node", "auto", "both" };
	static const char * const numbers[] = { "0", "1", "2", "30", "4096" };

	(void)unused;
	while (!quiet_time) {
		switch (draw(5)) {
		case 0:
			if (one_in(2))
				mind_changes();
			else
				module_set("mode", modes[draw(3)]);
			break;
		case 1:
			module_set("warn_secs", numbers[draw(4)]);
			break;
		case 2:
			module_set("idle_secs", numbers[draw(4)]);
			break;
		case 3:
			module_set("max_threads", numbers[1 + draw(4)]);
			break;
		default:
			if (one_in(3)) {
				was_told = true;
				module_set("enabled", one_in(2) ? "1" : "0");
			}
		}
		pause_a_while();
	}
	actor_ends();
}

static unsigned int loads, loads_then;

static bool is_on(void)
{
	return loads == loads_then && !strcmp(state(), "on");
}

/* The module is on, and xenwatch has answered twice: nothing of before is in its queue. */
static void wait_until_all_is_forgotten(void)
{
	for (int seconds = 0; seconds < 6 && !quiet_time; seconds++) {
		if (!is_on() || !strstr(status.text, "partial=0") || !xenbus_is_quiet()) {
			loads_then = loads;
			seconds = -1;
		}
		sleep_ns(NSEC);
	}
}

static void load_at_last(void)
{
	uint64_t began = now;
	int err;

	loads_then = ++loads;
	expect(module_load(library, &err), "the module cannot be loaded: %d", err);
	while (!is_on()) {
		expect(now - began < 300 * NSEC, "xenwatch is stuck, and the module is not on");
		sleep_ns(NSEC / 10);
	}
}

static void sticker(void *unused)
{
	(void)unused;
	if (knobs.rescued) {
		pause_a_while();
		xenwatch_is_stuck_before(load_at_last, is_on);
	} else {
		wait_until_all_is_forgotten();
		if (!quiet_time)
			xenwatch_is_stuck(is_on);
	}
	actor_ends();
}

static void unload(void)
{
	uint64_t until = FOREVER;

	while (!module_remove()) {
		if (calm && until == FOREVER)
			until = now + LONGEST;
		expect(now < until, "unloading does not end: state %s", state());
		module_set("enabled", "0");
		sleep_ns(NSEC / (1 + draw(100)));
	}
}

static void loader(void *unused)
{
	int err, drawn = 1 + draw(4), cycles = knobs.cycles ? (int)knobs.cycles : drawn;
	bool loaded;

	(void)unused;
	while (cycles--) {
		for (int i = 2000; knobs.unknown_domains && !is_gone && !quiet_time && i; i--)
			point();
		loads++;
		on_its_way = true;
		loaded = module_load(library, &err);
		on_its_way = false;
		if (!loaded) {
			expect(err != -EINVAL, "the module does not find its way");
			pause_a_while();
			continue;
		}
		for (int i = draw(30); i && !knobs.cycles; i--)
			pause_a_while();
		if (!cycles && one_in(2))
			break;
		on_its_way = true;
		unload();
		on_its_way = false;
		pause_a_while();
	}
	actor_ends();
}

static void start(void (*fn)(void *unused), const char *name)
{
	actors++;
	task_start(task_new(fn, NULL, name));
}

/* ------------------------------------------------------------------- when all is quiet */

static void not_the_modules(struct xenbus_watch *watch)
{
	expect(!module_text(watch) && !module_text(watch->callback) && !module_text(watch->will_handle),
	       "a watch on %s is left with the module's functions", watch->node);
}

static void see_nothing(struct xenbus_watch *watch)
{
	(void)watch;
}

static void settle(const char *when)
{
	uint64_t until = now + LONGEST;

	calm = true;
	do
		sleep_ns(2 * NSEC);
	while (now < until && (unfinished() || wrong_device() || !xenbus_is_quiet() ||
	       users_unfinished() || kernel_watches(see_nothing) != store_watches()));
	expect(!unfinished(), "%s: an event of %s is lost", when, unfinished());
	expect(!users_unfinished(), "%s: an event of %s is lost", when, users_unfinished());
	expect(!wrong_device(), "%s: %s is not as the store has it", when, wrong_device());
	expect(xenbus_is_quiet(), "%s: there is no rest", when);
	expect(kernel_watches(see_nothing) == store_watches(), "%s: %u watches, in xenstored %u", when,
	       kernel_watches(see_nothing), store_watches());
}

/* Everything is looked at again: whatever watch was dropped is missed now. */
static void poke(void)
{
	for (int t = 0; t < TYPES; t++)
		for (int d = 0; d < DOMS; d++)
			for (int v = 0; v < DEVS; v++)
				if (one_in(2))
					device_comes(t, d, v);
				else
					device_goes(t, d, v);
}

/* Memory was short when xenstored came, or a live patch was there: nobody was told of that. */
static void check_on(void)
{
	expect(module_status(&status), "a module that is loaded has no status");
	expect(was_told || strstr(status.text, "state=on "), "the module is loaded and not on:\n%s",
	       status.text);
}

static void check_threads(void)
{
	char path[PATH], line[40], *found;
	unsigned int nodes = 0, threads = 0, most = module_uint("max_threads");

	if (!module_status(&status) || !strstr(status.text, "state=on") ||
	    !strstr(status.text, "partial=0"))
		return;
	if (strstr(status.text, "mode=auto")) {
		expect(!strstr(status.text, " by=node"), "no node counts:\n%s", status.text);
		return;
	}
	for (int d = 1; d < DOMS; d++) {
		snprintf(path, PATH, "mtwatch/%d", d);
		snprintf(line, sizeof(line), "\ndomain domid=%d ", d);
		found = strstr(status.text, line);
		found = found ? strstr(found, " by=") : NULL;
		found = found && !strncmp(found, " by=node", 8) ? found : NULL;
		expect(store_has(path) || !found, "domain %d has no node and a thread:\n%s", d,
		       status.text);
		nodes += store_has(path);
		threads += found != NULL;
	}
	expect(threads >= nodes || threads >= most, "%u domains have a node, and %u a thread:\n%s",
	       nodes, threads, status.text);
}

/* What is asked about a node, and what is true by then, differ; and nothing comes after it. */
static void nodes_at_last(void)
{
	calm = false;
	if (one_in(2))
		node_flaps(1 + draw(DOMS - 1));
	else
		mind_changes();
	calm = true;
	sleep_ns(400 * NSEC);
	check_threads();
}

static void director(void *unused)
{
	bool late = one_in(4);

	(void)unused;
	xenbus_init(!late);
	if (library && !knobs.rescued)
		start(loader, "loader");
	if (library) {
		start(reader, "reader");
		if (one_in(2) && !knobs.stuck)
			start(settings, "settings");
	}
	if (late) {
		sleep_ns(draw(30) * NSEC);
		store_comes_up();
	}
	if (knobs.slow_boot)
		sleep_ns(draw(4000) * 1000000ull);
	drivers_init();
	users_init();
	if (!knobs.unknown_domains)
		guest_toggles(0, DOMS - 1, 0);
	for (int i = 1 + draw(3); i; i--)
		start(toolstack, "toolstack");
	for (unsigned int i = draw(3), n = knobs.administrators ?: i; n; n--)
		start(administrator, "administrator");
	for (int i = draw(3); i; i--)
		start(user, "user");
	if ((one_in(4) || knobs.late_1_in) && !knobs.stuck)
		start(resumer, "resumer");
	if (knobs.stuck && library)
		start(sticker, "sticker");
	sleep_ns(draw(1000) * NSEC / (1 + draw(50)) + knobs.cycles * 60 * NSEC);
	for (int i = draw(4000); i; i--)
		point();
	quiet_time = true;
	calm = one_in(2);
	while (actors)
		sleep_on(&actors, FOREVER);
	settle("first");
	poke();
	settle("then");
	if (module_is_loaded()) {
		sleep_ns(400 * NSEC);		/* that is the longest pause between two tries */
		check_on();
		check_threads();
		nodes_at_last();
		calm = one_in(2);
		poke();
		unload();
		settle("unloaded");
		poke();
		settle("at last");
	}
	kernel_watches(not_the_modules);
	if (verbose)
		fprintf(stderr, "seed %lu: ok at %.1f s\n", seed, now / 1e9);
	_exit(0);
}

static void draw_knobs(void)
{
	static const unsigned int switches[] = { 1, 2, 4, 16, 64 };
	static const unsigned int rates[] = { 0, 0, 300, 30 };
	static const unsigned int steals[] = { 0, 0, 200, 2000, 20000 };

	busy_domains = 1 + draw(DOMS - 1);
	knobs.by_priority = one_in(2);
	knobs.switch_1_in = switches[draw(5)];
	knobs.hurry_1_in = one_in(2) ? 20 + draw(1000) : 0;
	knobs.steal_1_in = steals[draw(5)];
	knobs.window_1_in = one_in(2) ? 1 + draw(10) : 0;
	knobs.fail_alloc_1_in = rates[draw(4)];
	knobs.fail_store_1_in = rates[draw(4)];
	knobs.fail_ftrace_1_in = one_in(4) ? 4 : 0;
	knobs.fail_watch_1_in = one_in(8) ? 3 : 0;
	knobs.fail_thread_1_in = one_in(4) ? 3 : 0;
	knobs.directory_max = one_in(3) ? 8 : 4096;	/* 8: too little for the domids, not for the types */
	knobs.long_callback_1_in = one_in(2) ? 1 + draw(20) : 0;
	knobs.unknown_domains = one_in(4);
	if (knobs.unknown_domains)
		knobs.long_callback_1_in = 1 + draw(4);
	knobs.crossed = one_in(4);
	knobs.slow_watches = one_in(6);
	if (knobs.slow_watches)
		knobs.long_callback_1_in = 2;
	knobs.at_once = seed / 8 % 4;
	haste = one_in(2) ? draw(2000) : 0;
	if (haste || knobs.slow_watches)
		busy_domains = 1 + draw(2);
	knobs.stuck = one_in(8);
	knobs.rescued = knobs.stuck && seed % 2;
	knobs.replacing = knobs.unknown_domains && !knobs.stuck && seed % 4 == 3;
	if (knobs.replacing) {
		busy_domains = 2;
		knobs.long_callback_1_in = 2;
		knobs.hurry_1_in = knobs.fail_alloc_1_in = knobs.fail_store_1_in = 0;
	}
	if (!knobs.stuck)
		return;
	knobs.hurry_1_in = knobs.steal_1_in = knobs.window_1_in = knobs.long_callback_1_in = 0;
	knobs.fail_alloc_1_in = knobs.fail_store_1_in = knobs.fail_ftrace_1_in = 0;
	knobs.fail_watch_1_in = 0;
	knobs.slow_watches = false;
	knobs.unknown_domains = false;
}

static struct { const char *name; unsigned int *knob; int value; } by_hand[] = {
	{ "administrators", &knobs.administrators, -1 },
	{ "busy_domains", (unsigned int *)&busy_domains, -1 },
	{ "cycles", &knobs.cycles, -1 },
	{ "haste", (unsigned int *)&haste, -1 },
	{ "hurry_1_in", &knobs.hurry_1_in, -1 },
	{ "late_1_in", &knobs.late_1_in, -1 },
	{ "long_callback_1_in", &knobs.long_callback_1_in, -1 },
	{ "slow_boot", &knobs.slow_boot, -1 },
	{ "steal_1_in", &knobs.steal_1_in, -1 },
	{ "toggling", &knobs.toggling, -1 },
	{ "window_1_in", &knobs.window_1_in, -1 },
};

/* NAME=VALUE, in place of what the seed says; but a run with a stuck xenwatch stays as it is. */
static bool set_by_hand(const char *text)
{
	char *end;

	for (size_t i = 0; i < ARRAY_SIZE(by_hand); i++) {
		size_t n = strlen(by_hand[i].name);

		if (strncmp(text, by_hand[i].name, n) || text[n] != '=')
			continue;
		by_hand[i].value = strtol(text + n + 1, &end, 10);
		return end != text + n + 1 && !*end && by_hand[i].value >= 0;
	}
	return false;
}

static void turn_by_hand(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(by_hand); i++)
		if (by_hand[i].value >= 0 && !knobs.stuck)
			*by_hand[i].knob = by_hand[i].value;
}

/* ------------------------------------------------------------------- many seeds */

static _Noreturn void run(unsigned long with_seed)
{
	alarm(300);
	sched_init(with_seed);
	draw_knobs();
	turn_by_hand();
	kernel_init();
	task_start(task_new(director, NULL, "director"));
	sched_run();
}

static bool one(unsigned long with_seed)
{
	int status_of;
	pid_t pid = fork();

	if (!pid)
		run(with_seed);
	waitpid(pid, &status_of, 0);
	if (WIFEXITED(status_of) && !WEXITSTATUS(status_of))
		return true;
	if (WIFSIGNALED(status_of))
		fprintf(stderr, "FAIL seed %lu: %s\n", with_seed, strsignal(WTERMSIG(status_of)));
	return false;
}

int main(int argc, char **argv)
{
	unsigned long first = 1, n = 0, failed = 0, at, most = 1;
	time_t until = 0;
	int option;

	while ((option = getopt(argc, argv, "m:s:n:t:f:k:v")) != -1) {
		if (option == 'k' && !set_by_hand(optarg))
			option = '?';
		switch (option) {
		case 'm': library = optarg; break;
		case 's': first = strtoul(optarg, NULL, 0); break;
		case 'n': n = strtoul(optarg, NULL, 0); break;
		case 't': until = time(NULL) + atol(optarg); break;
		case 'f': most = strtoul(optarg, NULL, 0); break;
		case 'k': break;
		case 'v': verbose = true; break;
		default:
			fprintf(stderr, "usage: %s [-m MODULE] [-s SEED] [-n SEEDS | -t SECONDS] [-f FAILURES] "
				"[-k KNOB=VALUE]... [-v]\n",
				argv[0]);
			return 2;
		}
	}
	sched_hush();
	if (!n && !until)
		run(first);
	for (at = first; (!n || at < first + n) && (!until || time(NULL) < until) && failed < most; at++)
		if (!one(at)) {
			failed++;
			printf("to see it again: %s%s%s -s %lu", argv[0], library ? " -m " : "",
			       library ?: "", at);
			for (size_t i = 0; i < ARRAY_SIZE(by_hand); i++)
				if (by_hand[i].value >= 0)
					printf(" -k %s=%d", by_hand[i].name, by_hand[i].value);
			printf("\n");
			fflush(stdout);
		}
	printf("%lu runs, %lu failed\n", at - first, failed);
	return failed ? 1 : 0;
}
