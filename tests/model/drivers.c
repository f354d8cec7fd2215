// SPDX-License-Identifier: GPL-2.0-only
/*
 * Backend drivers as netback is: a watch on the other end's state for as long as a device is bound,
 * and one more, on hotplug-status, that its own callback, another's or the removal takes back. That
 * these never run at the same time is what the driver relies on, and nothing else protects it. And
 * frontends of domain 0's own.
 *
 * Every callback begins and ends here, where the invariants are checked.
 */
#include "drivers.h"
#include "plain.h"
#include "xenbus.h"

#include <unistd.h>

#undef snprintf

static const char * const types[TYPES] = { "vif", "vbd" };

/* ------------------------------------------------------------------- invariants */

/* What of a domid runs now. */
static struct place {
	struct task_struct *task;
	unsigned long seq;
	const char *what;
	bool backend;
	bool older;		/* has begun when the module did not have the watch of all backends */
	uint64_t began;
} places[DOMS];

/* An event that has come and whose callback has not begun since. */
struct debt {
	struct xenbus_watch *watch;	/* a driver's; NULL for the watch of all backends */
	int domid;
	bool native;			/* xenwatch has the watch itself: its shadow does not count */
	bool moves;			/* what its shadow had is dropped: an event of its own comes */
	unsigned long first, last;	/* the oldest such event, 0: none; and the latest ever */
	unsigned long maybe;		/* the oldest that may be queued still, though a callback has begun */
	char what[PATH];
};

static struct debt debts[256];
#define FRONTS TYPES		/* instead of a type: device/vif/<devid> */
static struct debt backend_debts[TYPES + 1][DOMS][DEVS + 1];	/* the last: of the directory */
static unsigned long last_event, last_place;
static void backend_changed(struct xenbus_watch *watch, const char *path, const char *token);
static struct xenbus_watch backend_watch, *device_watch;
static bool order_is_loose;		/* events could not be kept, or came before the module */

static void see_whether_order_is_loose(void)
{
	order_is_loose = model_alloc_failed() || order_is_loose || knobs.unknown_domains;
}

static struct debt *debt_of(const struct xenbus_watch *watch)
{
	for (int i = 0; i < (int)ARRAY_SIZE(debts); i++)
		if (debts[i].watch == watch)
			return &debts[i];
	return NULL;
}

static bool parse(const char *path, int *type, int *domid, int *devid)
{
	char name[8] = "";
	int n = sscanf(path, "backend/%7[a-z]/%d/%d", name, domid, devid);

	if (sscanf(path, "device/vif/%d", devid) == 1) {
		*type = FRONTS;
		*domid = 0;
		return *devid < DEVS;
	}
	for (*type = 0; *type < TYPES && strcmp(name, types[*type]); ++*type)
		;
	if (n < 3)
		*devid = DEVS;
	return n >= 2 && *type < TYPES && *domid >= 0 && *domid < DOMS && *devid <= DEVS;
}

static bool is_of_all(const struct xenbus_watch *watch)
{
	return watch && (watch == &backend_watch || watch == device_watch);
}

unsigned long expect_event(struct xenbus_watch *watch, struct xenbus_watch *owner, const char *path)
{
	struct debt *debt;
	int type, domid, devid;

	if (is_of_all(owner))
		debt = parse(path, &type, &domid, &devid) ? &backend_debts[type][domid][devid] : NULL;
	else
		debt = owner ? debt_of(owner) : NULL;
	if (!debt || (debt->native && watch != owner))
		return 0;
	if (!debt->native && watch == owner && !is_of_all(owner)) {
		debt->moves = false;
		debt->native = true;	/* it is registered itself now: this event says it all */
		debt->first = 0;
	}
	debt->last = ++last_event;
	if (!debt->first) {
		debt->first = last_event;
		snprintf(debt->what, sizeof(debt->what), "%s", path);
	}
	note("event %lu: %s", last_event, path);
	return last_event;
}

void watch_moves(const struct xenbus_watch *watch, bool moves)
{
	struct debt *debt = debt_of(watch);

	if (debt)
		debt->moves = moves;
}

static void check_order_of(const struct debt *debt, const struct debt *other, unsigned long event)
{
	if (!other->first || other == debt || other->domid != debt->domid || other->first > event)
		return;
	if (other->moves)
		return;
	if (order_is_loose && (!other->watch || !debt->watch))
		return;
	fail("domain %d: event %lu of %s is answered before the older %lu of %s", debt->domid, event,
	     debt->what, other->first, other->what);
}

static void check_order(struct debt *debt)
{
	/* xenwatch knows which event it is; a thread has one event of a watch at a time, or two. */
	unsigned long event = running->event ?: debt->maybe ?: debt->first;

	see_whether_order_is_loose();
	if (!event)
		return;
	for (int i = 0; i < (int)ARRAY_SIZE(debts); i++)
		if (debts[i].watch)
			check_order_of(debt, &debts[i], event);
	for (int t = 0; t <= TYPES; t++)
		for (int v = 0; v <= DEVS; v++)
			check_order_of(debt, &backend_debts[t][debt->domid][v], event);
}

/*
 * A thread has its turn, from which on it counts, a little before its callback: where nobody loses
 * his CPU, some microseconds.  Who has waited for two seconds has none and is not told from others,
 * but whom he waited for is not counted by then.
 */
static void check_turns(void)
{
	unsigned int at_once = 0, most = knobs.at_once ?: 2;

	see_whether_order_is_loose();
	if (knobs.hurry_1_in || knobs.steal_1_in || knobs.window_1_in || order_is_loose)
		return;
	for (int domid = 0; domid < DOMS; domid++)
		at_once += places[domid].task && places[domid].began + NSEC / 11 > now &&
			   !strncmp(places[domid].task->name, "xen-mtwatch-", 12);
	expect(at_once <= most, "%u callbacks at once, of at most %u", at_once, most);
}

static bool is_native(void)
{
	return backend_watch.callback == backend_changed;
}

static void callback_begin(int domid, struct debt *debt, const char *what)
{
	struct place *place = &places[domid];
	unsigned long event;

	/* The one thing that nobody can know: what xenwatch is in for a domain that is gone. */
	if (place->task && place->older && knobs.unknown_domains)
		_exit(0);
	note("domain %d: %s begins, event %lu", domid, what,
	     running->event ?: debt ? debt->maybe ?: debt->first : 0);
	expect(!place->task, "domain %d is in two places: %s here, %s in %s", domid, what, place->what,
	       place->task->name);
	place->task = running;
	place->seq = ++last_place;
	place->what = what;
	place->backend = debt && !debt->watch;
	place->older = is_native();
	place->began = now;
	check_turns();
	if (debt) {
		debt->domid = domid;
		check_order(debt);
		event = running->event ?: debt->maybe ?: debt->first;
		debt->maybe = debt->last > event ? event + 1 : 0;
		debt->first = 0;
	}
	if (chance(knobs.long_callback_1_in))
		sleep_ns(draw(100) * NSEC / (1 + draw(100)));
}

static void callback_end(int domid)
{
	note("domain %d: %s ends", domid, places[domid].what);
	point();
	places[domid].task = NULL;
	places[domid].backend = false;
}

const char *unfinished(void)
{
	for (int i = 0; i < (int)ARRAY_SIZE(debts); i++)
		if (debts[i].watch && debts[i].first)
			return debts[i].what;
	/* One that could not be kept is found again if it matters: see wrong_device(). */
	see_whether_order_is_loose();
	for (int i = 0; !order_is_loose && i < (TYPES + 1) * DOMS * (DEVS + 1); i++)
		if ((&backend_debts[0][0][0])[i].first)
			return (&backend_debts[0][0][0])[i].what;
	return NULL;
}

/* ------------------------------------------------------------------- what drivers call */

static int driver_register(struct xenbus_watch *watch, int domid)
{
	struct debt *debt = debt_of(NULL);
	int err;

	*debt = (struct debt){ .watch = watch, .domid = domid };
	note("domain %d: register %s", domid, watch->node);
	running->registering = watch;
	err = register_xenbus_watch(watch);
	running->registering = NULL;
	if (err)
		debt->watch = NULL;
	note("domain %d: registered %s: %d", domid, watch->node, err);
	return err;
}

/* Upon return no callback of the domain is running that was when this began. */
static void driver_unregister(struct xenbus_watch *watch, int domid)
{
	struct place before = places[domid];
	struct debt *debt = debt_of(watch);

	if (debt)
		debt->watch = NULL;
	xenbus_disown(watch);
	note("domain %d: unregister %s", domid, watch->node);
	unregister_xenbus_watch(watch);
	note("domain %d: unregistered", domid);
	if (before.older && knobs.unknown_domains)
		return;
	expect(!before.task || before.task == running || places[domid].seq != before.seq ||
	       !places[domid].task,
	       "domain %d: unregister returns while %s is running in %s", domid, before.what,
	       before.task->name);
}

/* ------------------------------------------------------------------- devices */

struct device {
	int type, domid, devid;
	bool bound, leaving;
	int maker;		/* the task that has made it */
	struct xenbus_device xenbus;
	struct xenbus_watch hotplug;
	bool have_hotplug;
	long data;		/* the driver's own */
};

static struct device *devices[TYPES][DOMS][DEVS];
static bool claimed[TYPES][DOMS][DEVS];		/* by somebody outside: not to be removed meanwhile */

void device_path(char *path, int type, int domid, int devid)
{
	snprintf(path, PATH, "backend/%s/%d/%d", types[type], domid, devid);
}

void front_path(char *path, int type, int domid, int devid)
{
	if (knobs.crossed && type == 1 && devid == 1)
		domid = domid % (DOMS - 1) + 1;
	snprintf(path, PATH, "/local/domain/%d/device/%s/%d/state", domid, types[type], devid);
}

static void unregister_hotplug(struct device *dev)
{
	if (!dev->have_hotplug)
		return;
	driver_unregister(&dev->hotplug, dev->domid);
	free((char *)dev->hotplug.node);
	dev->have_hotplug = false;
}

static void hotplug_status_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct device *dev = container_of(watch, struct device, hotplug);
	int domid = dev->domid;

	(void)path, (void)token;
	callback_begin(domid, debt_of(watch), "hotplug_status_changed");
	plain_write(&dev->data);
	if (!dev->leaving && xenbus_read_value(dev->hotplug.node) == 1)
		unregister_hotplug(dev);
	plain_write(&dev->data);
	callback_end(domid);
}

static void connect(struct device *dev)
{
	char path[PATH + 16];

	if (dev->have_hotplug)
		return;
	device_path(path, dev->type, dev->domid, dev->devid);
	strcat(path, "/hotplug-status");
	dev->hotplug.node = strdup(path);
	dev->hotplug.callback = hotplug_status_changed;
	if (driver_register(&dev->hotplug, dev->domid))
		free((char *)dev->hotplug.node);
	else
		dev->have_hotplug = true;
}

/* The module knows this function by its name, and by it whose device a watch is of. */
void frontend_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct device *dev = container_of(watch, struct device, xenbus.otherend_watch);
	int domid = dev->domid, state;

	(void)path, (void)token;
	callback_begin(domid, debt_of(watch), "frontend_changed");
	plain_write(&dev->data);
	state = dev->leaving ? 0 : xenbus_read_value(dev->xenbus.otherend_watch.node);
	if (state % 3 == 1)
		connect(dev);
	else if (state % 3 == 2)
		unregister_hotplug(dev);
	plain_write(&dev->data);
	callback_end(domid);
}

static bool otherend_will_handle(struct xenbus_watch *watch, const char *path, const char *token)
{
	(void)path, (void)token;
	return !watch->nr_pending;
}

static void probe(struct device *dev)
{
	char path[PATH];

	front_path(path, dev->type, dev->domid, dev->devid);
	dev->xenbus.otherend_watch = (struct xenbus_watch){
		.node = strdup(path),
		.callback = frontend_changed,
		.will_handle = one_in(2) ? otherend_will_handle : NULL,
	};
	plain_write(&dev->data);
	dev->bound = !driver_register(&dev->xenbus.otherend_watch, dev->domid);
	if (!dev->bound)
		free((char *)dev->xenbus.otherend_watch.node);
}

/*
 * A callback that begins from here on leaves the hotplug watch alone, and one that has begun has
 * ended when the first watch is unregistered, whichever that is a callback of.
 */
static void remove_driver(struct device *dev)
{
	dev->leaving = true;
	driver_unregister(&dev->xenbus.otherend_watch, dev->domid);
	free((char *)dev->xenbus.otherend_watch.node);
	unregister_hotplug(dev);
	plain_write(&dev->data);
	dev->bound = dev->leaving = false;
}

static void device_new(int type, int domid, int devid)
{
	struct device *dev = calloc(1, sizeof(*dev));
	char path[PATH];

	hb_acquire(&claimed[type][domid][devid]);	/* the device's lock */
	expect(!devices[type][domid][devid], "a device is made twice");
	dev->type = type;
	dev->domid = domid;
	dev->devid = devid;
	dev->maker = running->pid;
	device_path(path, type, domid, devid);
	dev->xenbus.nodename = strdup(path);
	devices[type][domid][devid] = dev;
	probe(dev);
	hb_release(&claimed[type][domid][devid]);
}

static void device_gone(int type, int domid, int devid)
{
	struct device *dev = devices[type][domid][devid];

	if (!dev)
		return;
	expect(!claimed[type][domid][devid], "the model removes what somebody has claimed");
	hb_acquire(&claimed[type][domid][devid]);
	devices[type][domid][devid] = NULL;
	if (dev->bound)
		remove_driver(dev);
	free((char *)dev->xenbus.nodename);
	free(dev);
}

/* As xenbus_dev_changed() */
static void backend_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	char dir[PATH];
	int type, domid, devid;

	(void)watch, (void)token;
	if (!parse(path, &type, &domid, &devid))
		return;
	callback_begin(domid, &backend_debts[type][domid][devid], path);
	if (devid < DEVS) {
		device_path(dir, type, domid, devid);
		if (xenbus_read_value(dir) < 0)
			device_gone(type, domid, devid);
		else if (!devices[type][domid][devid])
			device_new(type, domid, devid);
	} else if (xenbus_read_value(path) < 0) {
		for (int v = 0; v < DEVS; v++)
			device_gone(type, domid, v);
	}
	callback_end(domid);
}

static struct xenbus_watch backend_watch = { .node = "backend", .callback = backend_changed };

/* ------------------------------------------------------------------- frontends */

struct front {
	struct xenbus_device xenbus;
	bool bound;
	long data;
};

static struct front *fronts[DEVS];

/* The kernel has these functions by names that others have, too; the module knows them by both. */
void front_changed(struct xenbus_watch *watch, const char *path, const char *token)
	__asm__("backend_changed.of_a_frontend");
void fronts_changed(struct xenbus_watch *watch, const char *path, const char *token)
	__asm__("frontend_changed.of_all");

void front_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct front *front = container_of(watch, struct front, xenbus.otherend_watch);

	(void)path, (void)token;
	callback_begin(0, debt_of(watch), "backend_changed");
	plain_write(&front->data);
	xenbus_read_value(watch->node);
	plain_write(&front->data);
	callback_end(0);
}

static void front_new(int devid)
{
	struct front *front = calloc(1, sizeof(*front));
	char path[PATH];

	snprintf(path, PATH, "device/vif/%d", devid);
	front->xenbus.nodename = strdup(path);
	snprintf(path, PATH, "/local/domain/0/backend/vif/0/%d/state", devid);
	front->xenbus.otherend_watch = (struct xenbus_watch){
		.node = strdup(path),
		.callback = front_changed,
	};
	plain_write(&front->data);
	fronts[devid] = front;
	front->bound = !driver_register(&front->xenbus.otherend_watch, 0);
}

static void front_gone(int devid)
{
	struct front *front = fronts[devid];

	fronts[devid] = NULL;
	if (front->bound)
		driver_unregister(&front->xenbus.otherend_watch, 0);
	plain_write(&front->data);
	free((char *)front->xenbus.otherend_watch.node);
	free((char *)front->xenbus.nodename);
	free(front);
}

void fronts_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	char dir[PATH];
	int type, domid, devid;

	(void)watch, (void)token;
	if (!parse(path, &type, &domid, &devid))
		return;
	callback_begin(0, &backend_debts[type][0][devid], path);
	snprintf(dir, PATH, "device/vif/%d", devid);
	if (xenbus_read_value(dir) < 0) {
		if (fronts[devid])
			front_gone(devid);
	} else if (!fronts[devid]) {
		front_new(devid);
	}
	callback_end(0);
}

/*
 * A watch that could not be registered is its owner's again, who may free it.  Linux has this one in
 * static memory, so that the module need not wait for who registers it when the module comes.
 */
static void register_device_watch(void)
{
	static struct xenbus_watch linux_has = { .node = "device", .callback = fronts_changed };
	int err;

	do {
		device_watch = &linux_has;
		if (knobs.slow_boot) {
			device_watch = malloc(sizeof(*device_watch));
			*device_watch = linux_has;
		}
		err = register_xenbus_watch(device_watch);
		if (err && knobs.slow_boot)
			free(device_watch);
		if (err) {
			device_watch = NULL;
			sleep_ns(NSEC);
		}
	} while (err);
}

void drivers_init(void)
{
	for (int t = 0; t <= TYPES; t++)
		for (int d = 0; d < DOMS; d++)
			for (int v = 0; v <= DEVS; v++)
				backend_debts[t][d][v].domid = d;
	register_device_watch();
	while (register_xenbus_watch(&backend_watch))
		sleep_ns(NSEC);
}

void front_toggles(int devid)
{
	char path[PATH];

	snprintf(path, PATH, "device/vif/%d/state", devid);
	if (one_in(3))
		store_write(path, draw(6));
	*strrchr(path, '/') = '\0';
	if (one_in(3))
		store_remove(path);
	snprintf(path, PATH, "/local/domain/0/backend/vif/0/%d/state", devid);
	store_write(path, draw(6));
}

/* ------------------------------------------------------------------- from outside */

bool toolstack_may_remove(int type, int domid, int devid)
{
	for (int v = 0; v < DEVS; v++)
		if ((devid == v || devid < 0) && claimed[type][domid][v])
			return false;
	return true;
}

/* Of which a device's callback runs; 0: of none. */
int domain_at_work(void)
{
	int first = draw(DOMS);

	for (int i = 0; i < DOMS; i++) {
		int domid = (first + i) % DOMS;

		if (places[domid].task && !places[domid].backend)
			return domid;
	}
	return 0;
}

/*
 * By sysfs. Not while the device may be removed, as these take the same lock, and in the stock
 * kernel each would wait for the other.
 */
void unbind(int type, int domid, int devid, bool bind_again)
{
	struct device *dev = devices[type][domid][devid];
	char path[PATH];

	device_path(path, type, domid, devid);
	if (!dev || claimed[type][domid][devid] || !store_has(path) || places[domid].backend)
		return;
	claimed[type][domid][devid] = true;
	hb_acquire(&claimed[type][domid][devid]);
	note("domain %d: unbind", domid);
	if (dev->bound)
		remove_driver(dev);
	point();
	if (bind_again)
		probe(dev);
	hb_release(&claimed[type][domid][devid]);
	claimed[type][domid][devid] = false;
}

const char *wrong_device(void)
{
	static char path[PATH];

	for (int v = 0; v < DEVS; v++) {
		snprintf(path, PATH, "device/vif/%d", v);
		if (store_has(path) != (fronts[v] != NULL) &&
		    !(order_is_loose && fronts[v] && !fronts[v]->bound))
			return path;
	}
	for (int t = 0; t < TYPES; t++)
		for (int d = 0; d < DOMS; d++)
			for (int v = 0; v < DEVS; v++) {
				device_path(path, t, d, v);
				/*
				 * Known and left alone: a device older than its domain's thread,
				 * without a driver, whose removal could not be kept for want of
				 * memory.
				 */
				if (order_is_loose && devices[t][d][v] && !devices[t][d][v]->bound &&
				    devices[t][d][v]->maker != latest_thread_of(d))
					continue;
				if (store_has(path) != (devices[t][d][v] != NULL))
					return path;
			}
	return NULL;
}
