/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keep /local/domain/0/mtwatch/<domid> in step with libxl.
 *
 * What this changes: in a process where libxenlight's calls of xs_transaction_start() and xs_rm()
 * are bound to the definitions below, every domain's node is written by the first requests of the
 * very transaction that creates the domain, and removed right after the last request of its
 * teardown. Everything else passes through untouched.
 *
 * How the two moments are known (libxl 4.10 ... 4.23-unstable, libxl_create.c and
 * libxl_domain.c; run on 4.17 and 4.20):
 *
 *   creation   libxl__domain_make() starts a transaction whose first request is always
 *              xs_rm(t, "/local/domain/<domid>"). "First" matters: the removal of a device also
 *              calls xs_rm() in a transaction, and climbs to parents that became empty.
 *              On EAGAIN libxl starts a new transaction and comes here again.
 *   teardown   devices_destroy_cb() ends with xs_rm(XBT_NULL, "/local/domain/<domid>/hvmloader"),
 *              once, whatever the answer. It also ends a creation that failed.
 *
 * Our own failure is never libxl's: it is logged, and the domain is made or destroyed all the
 * same. `xlmt create` looks at the node afterwards, `xlmt reconcile` at any time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xenstore.h>

#include "interposer.h"

#define DOMAINS "/local/domain/"
#define MTWATCH "/local/domain/0/mtwatch"
#define SYSFS "/sys/bus"
#define BACKENDS SYSFS "/xen-backend/devices"
#define DEVICES "/sys/devices"

#define DOMID_LAST 0x7FEFul         /* the last before Xen's reserved ones */
#define NODE_MAX (sizeof(MTWATCH) + sizeof("/4294967295"))
#define DEVICE_MAX 64

/* How long a teardown may wait for the kernel to let go of the domain's backends. */
#define LET_GO_MS 2000
#define LET_GO_POLL_MS 100

/* The transaction this thread has started and not yet used for an xs_rm(). */
static __thread struct {
	struct xs_handle *h;
	xs_transaction_t t;
} fresh;

/* --- saying what happened ---------------------------------------------------------------- */

static void log_to_stderr(unsigned int domid, const char *line)
{
	fprintf(stderr, "xlmt: domain %u: %s\n", domid, line);
}

xlmt_interposer_log_fn *xlmt_interposer_log = log_to_stderr;
xlmt_interposer_creates_fn *xlmt_interposer_creates;

__attribute__((format(printf, 2, 3)))
static void say(unsigned int domid, const char *format, ...)
{
	static __thread char last[256];
	static __thread unsigned int last_domid;
	char line[sizeof(last)];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);

	/* libxl may come here hundreds of times with the same trouble: EAGAIN. */
	if (domid == last_domid && !strcmp(line, last))
		return;
	strcpy(last, line);
	last_domid = domid;
	xlmt_interposer_log(domid, line);
}

/*
 * Under LD_PRELOAD we are in shells and in xenstore-rm, too, whose removals mean what they say.
 * Asked only for paths of the two moments, so it may take its time.
 */
static bool libxl_is_here(void)
{
	return xlmt_interposer_arming() != XLMT_INTERPOSER_NO_LIBXL;
}

/* --- the functions we stand in front of -------------------------------------------------- */

typedef xs_transaction_t transaction_start_fn(struct xs_handle *h);
typedef bool rm_fn(struct xs_handle *h, xs_transaction_t t, const char *path);

static int find_libxenstore(struct dl_phdr_info *object, size_t size, void *arg)
{
	(void)size;
	if (!strstr(object->dlpi_name, "/libxenstore.so"))
		return 0;
	*(void **)arg = dlopen(object->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
	return 1;
}

/*
 * The next definition after ours. We link libxenstore, so there is one; but musl's RTLD_NEXT sees
 * only what is global, and not what we were dlopen()ed with.
 */
static void *behind(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name), *libxenstore = NULL;

	if (function || !dl_iterate_phdr(find_libxenstore, &libxenstore) || !libxenstore)
		return function;
	function = dlsym(libxenstore, name);
	dlclose(libxenstore);    /* which we hold by being linked to it */
	return function;
}

static void *next(const char *name)
{
	void *function = behind(name);

	if (!function)
		fprintf(stderr, "xlmt: no %s() behind the interposer\n", name);
	return function;
}

enum xlmt_interposer_arming xlmt_interposer_behind(void)
{
	return behind("xs_transaction_start") && behind("xs_rm") ? XLMT_INTERPOSER_ARMED
								  : XLMT_INTERPOSER_DEAD_END;
}

static bool real_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	static rm_fn *real;    /* threads may race to set it: to the same value */

	if (!real)
		real = (rm_fn *)next("xs_rm");
	if (!real) {
		errno = ENOSYS;
		return false;
	}
	return real(h, t, path);
}

/* --- paths and devices ------------------------------------------------------------------- */

/*
 * The domid of a guest's path: DOMAINS, a domid as libxl prints it, and then exactly `rest`.
 * 0 for any other path (and for domain 0, which has no node).
 */
static unsigned int guest_of(const char *path, const char *rest)
{
	const char *digits = path + strlen(DOMAINS);
	unsigned long domid;
	char *end;

	if (strncmp(path, DOMAINS, strlen(DOMAINS)) || *digits < '1' || *digits > '9')
		return 0;
	domid = strtoul(digits, &end, 10);
	if (domid > DOMID_LAST || strcmp(end, rest))
		return 0;
	return domid;
}

static void node_of(unsigned int domid, char node[NODE_MAX])
{
	snprintf(node, NODE_MAX, MTWATCH "/%u", domid);
}

/* Whether a name in sysfs, "<type>-<domid>-<devid>", is a backend device of the domain. */
static bool serves(const char *device, unsigned int domid)
{
	const char *devid = strrchr(device, '-');
	const char *owner = devid ? memrchr(device, '-', devid - device) : NULL;
	char *end;

	return owner && strtoul(owner + 1, &end, 10) == domid && end == devid;
}

/* The first backend device of the domain in a directory, or "". False, with errno: unreadable. */
static bool find_device(const char *directory, unsigned int domid, char device[DEVICE_MAX])
{
	const struct dirent *entry;
	DIR *devices = opendir(directory);
	int saved;

	device[0] = '\0';
	if (!devices)
		return false;
	while (errno = 0, entry = readdir(devices)) {
		if (serves(entry->d_name, domid)) {
			snprintf(device, DEVICE_MAX, "%.*s", DEVICE_MAX - 1, entry->d_name);
			break;
		}
	}
	saved = errno;
	closedir(devices);
	errno = saved;
	return entry || !errno;
}

/*
 * A backend device of the domain that this kernel still holds: its name, "" when there is none,
 * NULL with errno when that cannot be known.
 *
 * Both places count. What stalls a teardown may be the driver's remove(), and before that is
 * called, bus_remove_device() has taken the device off its bus (drivers/base/bus.c). The device
 * itself, which has no parent, is in DEVICES until the end of device_del() (drivers/base/core.c).
 */
static const char *held_device(unsigned int domid, char device[DEVICE_MAX])
{
	/* No such bus: this kernel serves no backends. No sysfs: who knows. */
	if (!find_device(BACKENDS, domid, device) && (errno != ENOENT || access(SYSFS, F_OK)))
		return NULL;
	if (!*device && !find_device(DEVICES, domid, device))
		return NULL;
	return device;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * held_device(), given a bounded moment: libxl does not wait for the very end of the kernel's
 * work, which as a rule is a few milliseconds away when we come here.
 */
static const char *held_device_in_the_end(unsigned int domid, char device[DEVICE_MAX])
{
	long deadline = now_ms() + LET_GO_MS;
	long pause = 1;
	const char *held;

	while ((held = held_device(domid, device)) && *held && now_ms() < deadline) {
		struct timespec wait = { .tv_nsec = pause * 1000000 };

		nanosleep(&wait, NULL);
		pause = pause * 2 < LET_GO_POLL_MS ? pause * 2 : LET_GO_POLL_MS;
	}
	return held;
}

/* --- the contract ------------------------------------------------------------------------ */

static bool hide(struct xs_handle *h, xs_transaction_t t, const char *node)
{
	struct xs_permissions nobody = { .id = 0, .perms = XS_PERM_NONE };

	return xs_set_permissions(h, t, node, &nobody, 1);
}

/*
 * The domain's node, empty and for nobody's eyes, inside the creation's transaction. It is
 * removed first: a leftover of an earlier domain may have contents or other permissions.
 */
static void protect(struct xs_handle *h, xs_transaction_t t, unsigned int domid)
{
	char node[NODE_MAX];

	if (xlmt_interposer_creates)
		xlmt_interposer_creates(domid);
	node_of(domid, node);
	/*
	 * ENOENT means that even the parent is missing: the first domain since boot. Make it
	 * outside the transaction, or this creation changes /local/domain/0 and conflicts with
	 * whatever else is being made. It may cost this transaction one EAGAIN.
	 */
	if (!real_rm(h, t, node) && errno == ENOENT && xs_mkdir(h, XBT_NULL, MTWATCH))
		hide(h, XBT_NULL, MTWATCH);
	if (!xs_mkdir(h, t, node) || !hide(h, t, node))
		say(domid, "cannot write %s: %s; to repair it: xlmt repair %u",
		    node, strerror(errno), domid);
}

/*
 * The end of a teardown. While the kernel holds a backend of the domain, its thread may be
 * blocked in there, and without the node later events of this domid would go to xenwatch and
 * block that. So the node stays then, until `xlmt reconcile` finds the backend gone.
 */
static void release(struct xs_handle *h, unsigned int domid)
{
	char node[NODE_MAX], device[DEVICE_MAX];
	const char *held = held_device_in_the_end(domid, device);

	node_of(domid, node);
	if (!held)
		say(domid, "keeping %s: cannot read " BACKENDS " and " DEVICES ": %s",
		    node, strerror(errno));
	else if (*held)
		say(domid, "keeping %s: the kernel still holds %s; "
		    "once it is released: xlmt reconcile", node, held);
	else if (!real_rm(h, XBT_NULL, node) && errno != ENOENT)
		say(domid, "cannot remove %s: %s; later: xlmt reconcile", node, strerror(errno));
}

/* --- what libxl calls -------------------------------------------------------------------- */

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
	static transaction_start_fn *real;

	if (!real)
		real = (transaction_start_fn *)next("xs_transaction_start");
	fresh.h = h;
	fresh.t = real ? real(h) : XBT_NULL;
	return fresh.t;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	bool first = t != XBT_NULL && h == fresh.h && t == fresh.t;
	unsigned int domid;
	int saved;
	bool ok;

	if (first) {
		fresh.t = XBT_NULL;
		domid = guest_of(path, "");
		if (domid && libxl_is_here())
			protect(h, t, domid);
	}

	ok = real_rm(h, t, path);

	if (t == XBT_NULL && (domid = guest_of(path, "/hvmloader")) && libxl_is_here()) {
		saved = errno;
		release(h, domid);
		errno = saved;
	}
	return ok;
}
