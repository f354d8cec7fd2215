// SPDX-License-Identifier: GPL-2.0-only
/*
 * xenstored, the kernel's side of it, and xenwatch.
 *
 *   a driver -> request -> [xenstored] -> ring: answers and events, in order -> [xenbus] -> the
 *   driver's wait, or xs_watch_msg() -> watch_events -> [xenwatch] -> callback
 *
 * Locks and their order are those of drivers/xen/xenbus/xenbus_xs.c. Left out: what suspend and
 * resume do but for their lock, and transactions.
 */
#include "drivers.h"
#include "users.h"
#include "xenbus.h"

#undef snprintf

enum type { DIRECTORY, READ, WATCH, UNWATCH };

struct request {
	enum type type;
	char path[PATH];
	unsigned long token;
	int err;
	int value;
	char names[8192];
	unsigned int n_names, n_bytes;
	bool done;
	struct request *next;
};

struct message {		/* on the ring: an answer or an event */
	struct request *request;
	char path[PATH];
	unsigned long token;
	struct message *next;
};

/* ------------------------------------------------------------------- the store */

struct node {
	char path[PATH];
	int value;
	struct node *next;
};

struct store_watch {
	char path[PATH];
	unsigned long token;
	struct store_watch *next;
};

static bool up;
static struct node *nodes;
static struct store_watch *store_list;
static struct request *requests;
static struct message *ring;
static bool xenbus_busy, xenwatch_busy;

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

static void put_on_ring(struct request *request, const char *path, unsigned long token)
{
	struct message *message = calloc(1, sizeof(*message)), **end = &ring;

	message->request = request;
	snprintf(message->path, PATH, "%s", path ?: "");
	message->token = token;
	while (*end)
		end = &(*end)->next;
	*end = message;
	wake_quietly(&ring);
}

static void store_fire(const char *path, bool removed)
{
	for (struct store_watch *w = store_list; w; w = w->next) {
		if (below(path, w->path))
			put_on_ring(NULL, path, w->token);
		else if (removed && below(w->path, path))
			put_on_ring(NULL, w->path, w->token);
	}
}

static struct node *find_node(const char *path)
{
	struct node *node = nodes;

	while (node && strcmp(node->path, path))
		node = node->next;
	return node;
}

bool store_has_below(const char *path)
{
	for (struct node *node = nodes; node; node = node->next)
		if (below(node->path, path) && strcmp(node->path, path))
			return true;
	return false;
}

bool store_has(const char *path)
{
	for (struct node *node = nodes; node; node = node->next)
		if (below(node->path, path))
			return true;
	return false;
}

int store_value(const char *path)
{
	struct node *node = find_node(path);

	return node ? node->value : store_has(path) ? 0 : -1;
}

static struct node *make_node(const char *path)
{
	struct node *node = calloc(1, sizeof(*node));

	snprintf(node->path, PATH, "%s", path);
	node->next = nodes;
	return nodes = node;
}

/* Directories are nodes, which stay when they are empty. */
static void make_parents(const char *path)
{
	char parent[PATH];

	for (size_t i = 1; path[i]; i++)
		if (path[i] == '/') {
			snprintf(parent, PATH, "%.*s", (int)i, path);
			if (!find_node(parent))
				make_node(parent);
		}
}

void store_write(const char *path, int value)
{
	struct node *node = find_node(path);

	if (!node) {
		make_parents(path);
		node = make_node(path);
	}
	node->value = value;
	note("store: %s=%d", path, value);
	store_fire(path, false);
	point();
}

void store_remove(const char *path)
{
	struct node **p = &nodes, *node;
	bool any = false;

	while ((node = *p)) {
		if (below(node->path, path)) {
			any = true;
			*p = node->next;
			free(node);
		} else {
			p = &node->next;
		}
	}
	note("store: rm %s%s", path, any ? "" : ": not there");
	if (any)
		store_fire(path, true);
	point();
}

static void store_directory(struct request *r)
{
	size_t n = strlen(r->path);

	for (struct node *node = nodes; node; node = node->next) {
		const char *name = node->path + n + 1, *p;
		size_t len;

		if (!below(node->path, r->path) || !node->path[n])
			continue;
		len = strcspn(name, "/");
		for (p = r->names; *p; p += strlen(p) + 1)
			if (strlen(p) == len && !strncmp(p, name, len))
				break;
		if (*p)
			continue;
		memcpy(r->names + r->n_bytes, name, len);
		r->n_bytes += len + 1;
		r->n_names++;
		expect(r->n_bytes < sizeof(r->names) - PATH, "a directory too big for the model");
	}
	if (!store_has(r->path))
		r->err = -ENOENT;
	else if (r->n_bytes > knobs.directory_max)
		r->err = -E2BIG;
}

static void store_watch(struct request *r)
{
	struct store_watch *w, **end = &store_list;

	for (; *end; end = &(*end)->next)
		if ((*end)->token == r->token && !strcmp((*end)->path, r->path)) {
			r->err = -EEXIST;
			return;
		}
	w = calloc(1, sizeof(*w));
	snprintf(w->path, PATH, "%s", r->path);
	w->token = r->token;
	*end = w;
}

static void store_unwatch(struct request *r)
{
	struct store_watch **p = &store_list, *w;

	while ((w = *p) && (w->token != r->token || strcmp(w->path, r->path)))
		p = &w->next;
	expect(w, "xenstored knows no watch on %s", r->path);
	*p = w->next;
	free(w);
}

static void store_serve(struct request *r)
{
	/* That of all backends the kernel registers once, at boot. */
	if (strcmp(r->path, "backend") &&
	    ((r->type != UNWATCH && chance(knobs.fail_store_1_in)) ||
	     (r->type == WATCH && chance(knobs.fail_watch_1_in))))
		r->err = -ENOMEM;
	else if (r->type == DIRECTORY)
		store_directory(r);
	else if (r->type == READ)
		r->err = (r->value = store_value(r->path)) < 0 ? -ENOENT : 0;
	else if (r->type == WATCH)
		store_watch(r);
	else
		store_unwatch(r);
	put_on_ring(r, NULL, 0);
	if (r->type == WATCH && !r->err)
		put_on_ring(NULL, r->path, r->token);
}

static void xenstored(void *unused)
{
	(void)unused;
	for (;;) {
		if (!up || !requests) {
			sleep_on(&requests, FOREVER);
			continue;
		}
		if (chance(300))
			sleep_ns(draw(20) * NSEC);	/* it is busy with others */
		else if (knobs.slow_watches && !calm &&
			 (requests->type == WATCH || requests->type == UNWATCH))
			sleep_ns(draw(4000) * 1000000ull);
		else if (knobs.rescued && requests->type == DIRECTORY)
			sleep_ns(NSEC / 5);		/* who asks for all domids is busy for long */
		store_serve(requests);
		requests = requests->next;
		point();
	}
}

unsigned int store_watches(void)
{
	unsigned int n = 0;

	for (struct store_watch *w = store_list; w; w = w->next)
		n++;
	return n;
}

/* ------------------------------------------------------------------- asking it */

static int ask(struct request *r, enum type type, const char *path, unsigned long token)
{
	struct request **end = &requests;

	need_sleepable("a request to xenstored");
	memset(r, 0, sizeof(*r));
	r->type = type;
	r->token = token;
	snprintf(r->path, PATH, "%s", path);
	point();
	while (*end)
		end = &(*end)->next;
	*end = r;
	wake(&requests);
	while (!r->done)
		sleep_on(r, FOREVER);
	return r->err;
}

char **xenbus_directory(struct xenbus_transaction t, const char *dir, const char *node,
			unsigned int *n)
{
	struct request *r = malloc(sizeof(*r));
	char path[PATH], **names, *p;
	int err;

	(void)t;
	snprintf(path, PATH, "%s%s%s", dir, *node ? "/" : "", node);
	err = ask(r, DIRECTORY, path, 0);
	window();
	names = err ? ERR_PTR(err) :
	       kmalloc(r->n_names * sizeof(char *) + r->n_bytes + 1, GFP_NOIO) ?: ERR_PTR(-ENOMEM);
	if (!IS_ERR(names)) {
		*n = r->n_names;
		p = memcpy(names + *n, r->names, r->n_bytes);
		for (unsigned int i = 0; i < *n; i++, p += strlen(p) + 1)
			names[i] = p;
	}
	free(r);
	return names;
}

int xenbus_exists(struct xenbus_transaction t, const char *dir, const char *node)
{
	unsigned int n;
	char **names = xenbus_directory(t, dir, node, &n);

	if (IS_ERR(names))
		return 0;
	kfree(names);
	return 1;
}

int xenbus_read_value(const char *path)
{
	struct request *r = malloc(sizeof(*r));
	int value;

	do
		value = ask(r, READ, path, 0) ?: r->value;
	while (value == -ENOMEM);
	free(r);
	return value;
}

int xenbus_scanf(struct xenbus_transaction t, const char *dir, const char *node, const char *fmt, ...)
{
	struct request *r = malloc(sizeof(*r));
	char path[PATH];
	va_list args;
	int err;

	(void)t;
	expect(!strcmp(fmt, "%llu"), "a format like '%s'", fmt);
	snprintf(path, PATH, "%s/%s", dir, node);
	err = ask(r, READ, path, 0);
	if (!err) {
		va_start(args, fmt);
		*va_arg(args, unsigned long long *) = r->value;
		va_end(args);
	}
	free(r);
	return err ?: 1;
}

/* ------------------------------------------------------------------- watches */

struct event {
	struct xenbus_watch *handle;
	unsigned long number;
	char path[PATH], token[20];
	struct event *next;
};

struct list_head watches = LIST_HEAD_INIT(watches);	/* the module knows it by this name */
static spinlock_t watches_lock = { .class = "watches_lock" };
static struct event *watch_events;
static spinlock_t watch_events_lock = { .class = "watch_events_lock" };
static struct rw_semaphore xs_watch_rwsem = { .class = "xs_watch_rwsem" };
static struct mutex xenwatch_mutex = { .class = "xenwatch_mutex" };
static struct task_struct *xenwatch_task;
static struct { struct xenbus_watch *watch, *owner; } owners[1024];	/* of a shadow: the driver's */
static int coming;			/* callers that are about to put a watch onto the list */

static int owner_of(const struct xenbus_watch *watch)
{
	for (int i = 0; i < (int)ARRAY_SIZE(owners); i++)
		if (owners[i].watch == watch)
			return i;
	fail("too many watches");
}

void xenbus_disown(const struct xenbus_watch *owner)
{
	for (int i = 0; i < (int)ARRAY_SIZE(owners); i++)
		if (owners[i].owner == owner && owners[i].watch != owner)
			owners[i].owner = NULL;
}

static bool is_registered(const struct xenbus_watch *watch)
{
	struct xenbus_watch *other;

	list_for_each_entry(other, &watches, list)
		if (other == watch)
			return true;
	return false;
}

static void may_be_late(const struct xenbus_watch *watch)
{
	if (running->registering == watch && chance(knobs.late_1_in))
		lose_cpu(5000);
}

noinline static int stock_register(struct xenbus_watch *watch)
{
	struct request *r = malloc(sizeof(*r));
	int err, i;

	watch->nr_pending = 0;
	coming++;
	may_be_late(watch);
	window();
	down_read(&xs_watch_rwsem);
	may_be_late(watch);
	window();
	spin_lock(&watches_lock);
	coming--;
	expect(!is_registered(watch), "BUG: a watch on %s is registered twice", watch->node);
	list_add(&watch->list, &watches);
	i = owner_of(NULL);
	owners[i].watch = watch;
	owners[i].owner = running->registering ?: watch;
	spin_unlock(&watches_lock);
	if (!running->registering)
		watch_moves(watch, true);
	err = strcmp(watch->node, "backend") && chance(knobs.fail_alloc_1_in) ? -ENOMEM :
	      ask(r, WATCH, watch->node, (unsigned long)watch);
	free(r);
	if (err) {
		window();
		spin_lock(&watches_lock);
		list_del(&watch->list);
		owners[owner_of(watch)].watch = NULL;
		spin_unlock(&watches_lock);
		watch_moves(watch, false);
	}
	up_read(&xs_watch_rwsem);
	return err;
}

static void stock_unregister(struct xenbus_watch *watch);

void lurk(void)
{
	for (int ms = 0; ms < 5000 && !coming; ms++)
		sleep_ns(NSEC / 1000);
}

int fails_late(struct xenbus_watch *watch)
{
	if (strcmp(watch->node, "device") || knobs.stuck || !chance(4))
		return 0;
	stretch();
	stock_unregister(watch);
	return -ENOMEM;
}

static void cancel_events(struct xenbus_watch *watch)
{
	struct event **p = &watch_events, *event;

	while ((event = *p)) {
		if (event->handle == watch) {
			*p = event->next;
			free(event);
		} else {
			p = &event->next;
		}
	}
	watch->nr_pending = 0;
}

noinline static void stock_unregister(struct xenbus_watch *watch)
{
	struct request *r = malloc(sizeof(*r));

	window();
	down_read(&xs_watch_rwsem);
	window();
	spin_lock(&watches_lock);
	expect(is_registered(watch), "BUG: a watch is unregistered that is not there");
	list_del(&watch->list);
	owners[owner_of(watch)].watch = NULL;
	spin_unlock(&watches_lock);
	ask(r, UNWATCH, watch->node, (unsigned long)watch);
	free(r);
	up_read(&xs_watch_rwsem);
	if (running != xenwatch_task)
		mutex_lock(&xenwatch_mutex);
	spin_lock(&watch_events_lock);
	if (watch->nr_pending)
		cancel_events(watch);
	spin_unlock(&watch_events_lock);
	if (running != xenwatch_task)
		mutex_unlock(&xenwatch_mutex);
}

/* These are what callers call, and where ftrace leads them elsewhere. */
noinline int register_xenbus_watch(struct xenbus_watch *watch)
{
	unsigned long to = module_redirect((unsigned long)register_xenbus_watch,
					   (unsigned long)__builtin_return_address(0));

	if (to == (unsigned long)register_xenbus_watch)
		return stock_register(watch);
	return ((int (*)(struct xenbus_watch *))to)(watch);
}

noinline void unregister_xenbus_watch(struct xenbus_watch *watch)
{
	unsigned long to = module_redirect((unsigned long)unregister_xenbus_watch,
					   (unsigned long)__builtin_return_address(0));

	if (to == (unsigned long)unregister_xenbus_watch)
		stock_unregister(watch);
	else
		((void (*)(struct xenbus_watch *))to)(watch);
}

/* A guest that writes without end must not fill the queue: XSA-349. */
static void check_queue(const struct xenbus_watch *watch)
{
	const struct xenbus_watch *owner = owners[owner_of(watch)].owner;

	if (owner && owner != watch && owner->callback == frontend_changed)
		expect(watch->nr_pending == 1, "xenwatch has %u events of %s", watch->nr_pending,
		       watch->node);
}

static void xs_watch_msg(const char *path, unsigned long token)
{
	struct xenbus_watch *watch = (void *)token;
	unsigned long number;
	char text[20];

	snprintf(text, sizeof(text), "%lX", token);
	spin_lock(&watches_lock);
	if (is_registered(watch)) {
		number = expect_event(watch, owners[owner_of(watch)].owner, path);
		users_expect(watch, owners[owner_of(watch)].owner, path);
		if (!watch->will_handle || watch->will_handle(watch, path, text)) {
			struct event *event = calloc(1, sizeof(*event)), **end = &watch_events;

			event->handle = watch;
			event->number = number;
			snprintf(event->path, PATH, "%s", path);
			snprintf(event->token, sizeof(event->token), "%s", text);
			spin_lock(&watch_events_lock);
			while (*end)
				end = &(*end)->next;
			*end = event;
			watch->nr_pending++;
			check_queue(watch);
			wake_quietly(&watch_events);
			spin_unlock(&watch_events_lock);
		}
	}
	spin_unlock(&watches_lock);
}

static void xenbus_thread(void *unused)
{
	(void)unused;
	for (;;) {
		struct message *message = ring;

		if (!message) {
			xenbus_busy = false;
			sleep_on(&ring, FOREVER);
			continue;
		}
		xenbus_busy = true;
		ring = message->next;
		if (message->request) {
			message->request->done = true;
			wake(message->request);
		} else {
			xs_watch_msg(message->path, message->token);
		}
		free(message);
		point();
	}
}

static void xenwatch(void *unused)
{
	(void)unused;
	for (;;) {
		struct event *event;

		xenwatch_busy = false;
		prepare(&watch_events);
		if (!watch_events) {
			schedule_prepared(FOREVER);
			continue;
		}
		finish_wait();
		xenwatch_busy = true;
		mutex_lock(&xenwatch_mutex);
		spin_lock(&watch_events_lock);
		event = watch_events;
		if (event) {
			watch_events = event->next;
			event->handle->nr_pending--;
		}
		spin_unlock(&watch_events_lock);
		if (event) {
			running->event = event->number;
			event->handle->callback(event->handle, event->path, event->token);
			running->event = 0;
			free(event);
		}
		mutex_unlock(&xenwatch_mutex);
	}
}

bool is_xenwatch(void)
{
	return running == xenwatch_task;
}

/* Somebody sets xenstore's domain up: this excludes whoever (un)registers a watch. */
void watches_are_stopped_for(uint64_t ns)
{
	down_write(&xs_watch_rwsem);
	sleep_ns(ns);
	up_write(&xs_watch_rwsem);
}

bool xenbus_is_quiet(void)
{
	return !requests && !ring && !watch_events && !xenbus_busy && !xenwatch_busy;
}

unsigned int kernel_watches(void (*see)(struct xenbus_watch *watch))
{
	struct xenbus_watch *watch;
	unsigned int n = 0;

	list_for_each_entry(watch, &watches, list) {
		see(watch);
		n++;
	}
	return n;
}

/* ------------------------------------------------------------------- its coming */

static struct mutex notifiers_lock = { .class = "notifiers_lock" };
static struct notifier_block *notifiers;

int register_xenstore_notifier(struct notifier_block *nb)
{
	struct notifier_block **end = &notifiers;

	mutex_lock(&notifiers_lock);
	nb->next = NULL;
	while (*end)
		end = &(*end)->next;
	*end = nb;
	mutex_unlock(&notifiers_lock);
	if (up)
		nb->notifier_call(nb, 0, NULL);
	return 0;
}

void unregister_xenstore_notifier(struct notifier_block *nb)
{
	struct notifier_block **p = &notifiers;

	mutex_lock(&notifiers_lock);
	while (*p && *p != nb)
		p = &(*p)->next;
	if (*p)
		*p = nb->next;
	mutex_unlock(&notifiers_lock);
}

bool store_is_up(void)
{
	return up;
}

void store_comes_up(void)
{
	up = true;
	wake(&requests);
	mutex_lock(&notifiers_lock);
	for (struct notifier_block *nb = notifiers; nb; nb = nb->next)
		nb->notifier_call(nb, 0, NULL);
	mutex_unlock(&notifiers_lock);
}

void xenbus_init(bool store_is_up_now)
{
	up = store_is_up_now;
	task_start(task_new(xenstored, NULL, "xenstored"));
	task_start(task_new(xenbus_thread, NULL, "xenbus"));
	xenwatch_task = task_new(xenwatch, NULL, "xenwatch");
	task_start(xenwatch_task);
}
