// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading the module, its parameters, its file in debugfs, ftrace; and text. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include "kernel.h"

#undef snprintf

/* ------------------------------------------------------------------- text */

/* "name" or, with the size, "name+0x0/0x<size> [module]"; an address that is none's: "unknown" */
static void symbol(char *to, size_t size, const void *address, bool with_size)
{
	const ElfW(Sym) *sym = NULL;
	Dl_info info;

	if (!dladdr1(address, &info, (void **)&sym, RTLD_DL_SYMENT) || !info.dli_sname)
		snprintf(to, size, "unknown");	/* no address: they differ from run to run */
	else if (with_size)
		snprintf(to, size, "%s+0x%lx/0x%lx [xen_mtwatch]", info.dli_sname,
			 (long)((const char *)address - (const char *)info.dli_saddr),
			 sym ? (unsigned long)sym->st_size : 0ul);
	else
		snprintf(to, size, "%s", info.dli_sname);
}

int model_vsnprintf(char *to, size_t size, const char *fmt, va_list args)
{
	char out[8192], spec[16], sym[256];
	size_t n = 0, len;

	while (*fmt && n < sizeof(out) - 300) {
		if (*fmt != '%') {
			out[n++] = *fmt++;
			continue;
		}
		len = strcspn(fmt + 1, "diuxXspc%") + 2;
		expect(len < sizeof(spec), "a conversion like '%s'", fmt);
		memcpy(spec, fmt, len);
		spec[len] = '\0';
		fmt += len;
		if (spec[len - 1] == 'p' && (*fmt == 's' || *fmt == 'S')) {
			symbol(sym, sizeof(sym), va_arg(args, void *), *fmt++ == 'S');
			n += snprintf(out + n, sizeof(out) - n, "%s", sym);
		} else if (strstr(spec, ".*s")) {
			int most = va_arg(args, int);

			n += snprintf(out + n, sizeof(out) - n, "%.*s", most, va_arg(args, char *));
		} else if (spec[len - 1] == 's') {
			n += snprintf(out + n, sizeof(out) - n, spec, va_arg(args, char *));
		} else if (spec[len - 1] == 'p' || strchr(spec, 'l')) {
			n += snprintf(out + n, sizeof(out) - n, spec, va_arg(args, long));
		} else if (spec[len - 1] == '%') {
			out[n++] = '%';
		} else {
			n += snprintf(out + n, sizeof(out) - n, spec, va_arg(args, int));
		}
	}
	out[n] = '\0';
	if (size)
		snprintf(to, size, "%s", out);
	return n;
}

int model_snprintf(char *to, size_t size, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = model_vsnprintf(to, size, fmt, args);
	va_end(args);
	return n;
}

char *kasprintf(gfp_t gfp, const char *fmt, ...)
{
	char text[4096], *p;
	va_list args;

	va_start(args, fmt);
	model_vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	p = kmalloc(strlen(text) + 1, gfp);
	return p ? strcpy(p, text) : NULL;
}

void model_printk(const char *level, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	model_vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	text[strcspn(text, "\n")] = '\0';
	note("%s: %s", level, text);
	warning_is_printed(text);
}

void seq_printf(struct seq_file *m, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	m->n += model_vsnprintf(m->text + m->n, sizeof(m->text) - m->n, fmt, args);
	va_end(args);
}

void strscpy(char *to, const char *from, size_t size)
{
	snprintf(to, size, "%s", from);
}

int kstrtobool(const char *s, bool *res)
{
	*res = *s == '1';
	return *s == '0' || *s == '1' ? 0 : -EINVAL;
}

int __sysfs_match_string(const char * const *array, size_t n, const char *s)
{
	for (size_t i = 0; i < n && array[i]; i++)
		if (!strcmp(array[i], s))
			return i;
	return -EINVAL;
}

/* By order of appearance, as addresses differ from run to run. */
unsigned int model_hash(unsigned long key)
{
	static struct { unsigned long key; unsigned int id; } seen[1 << 16];
	static unsigned int last;
	unsigned int i = key * 0x9e3779b97f4a7c15ull >> 48;

	if (key < 0x10000)
		return key;
	while (seen[i].key && seen[i].key != key)
		i = (i + 1) % ARRAY_SIZE(seen);
	if (!seen[i].key) {
		seen[i].key = key;
		seen[i].id = ++last;
		expect(last < ARRAY_SIZE(seen) / 2, "too many addresses");
	}
	return seen[i].id;
}

/* ------------------------------------------------------------------- the module's life */

static void *library;
static struct module *module;
static int refs;
static bool going, running_init;
static struct mutex param_lock = { .class = "param_lock" };
static int in_sysfs, in_debugfs;
static const struct file_operations *status_file;

bool try_module_get(struct module *m)
{
	point();
	expect(m == module, "a reference to a module that is not there");
	if (going)
		return false;
	refs++;
	return true;
}

void __module_get(struct module *m)
{
	point();
	expect(m == module, "a reference to a module that is not there");
	expect(refs > 0 || running_init, "a reference is taken where there is none");
	refs++;
}

void module_put(struct module *m)
{
	point();
	expect(m == module && refs > 0, "a module's reference that is none");
	refs--;
	wake(&refs);
}

_Noreturn void module_put_and_kthread_exit_(struct module *m)
{
	module_put(m);
	task_exit();
}

bool module_is_loaded(void)
{
	return module && !running_init;
}

bool module_text(const void *address)
{
	return module && within_module((unsigned long)address, module);
}

static void find_range(struct module *m)
{
	struct link_map *map = NULL;
	const ElfW(Ehdr) *header;
	const ElfW(Phdr) *segment;

	dlinfo(library, RTLD_DI_LINKMAP, &map);
	header = (const void *)map->l_addr;
	segment = (const void *)(map->l_addr + header->e_phoff);
	m->start = map->l_addr;
	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD)
			m->size = segment[i].p_vaddr + segment[i].p_memsz;
}

/* Nothing comes to where the module was: who still goes there is seen. */
static void take_away(void)
{
	unsigned long start = module->start, size = (module->size + 4095) & ~4095ul;

	in_sysfs |= 1 << 30;		/* no more of these */
	while (in_sysfs & ~(1 << 30) || in_debugfs)
		sleep_on(&in_sysfs, FOREVER);
	expect(!status_file, "its file in debugfs is left");
	synchronize_rcu();
	module = NULL;
	dlclose(library);
	expect(mmap((void *)start, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == (void *)start, "the module is still mapped");
	expect(!module_allocations(), "%u allocations are left behind", module_allocations());
	in_sysfs = 0;
}

int bitmap_parselist(const char *text, unsigned long *map, int bits)
{
	int first, last, n;

	for (; sscanf(text, "%d%n-%d%n", &first, &n, &last, &n) >= 1; text += n + (text[n] == ',')) {
		if (text[n] == ',' || !text[n])
			last = strchr(text, '-') && strchr(text, '-') < text + n ? last : first;
		if (last < first || last >= bits)
			return -EINVAL;
		bitmap_set(map, first, last - first + 1);
	}
	return 0;
}

/* Somebody who loads it may know the nodes, or think so. */
static void hint(void)
{
	static const char * const lists[] = { "1-3", "2", "4,1-2", "0-5" };
	struct kernel_param *domids = dlsym(library, "model_param_domids");

	if (one_in(2))
		expect(!domids->ops->set(lists[draw(4)], domids), "a list of domids is refused");
}

static void most_at_once(void)
{
	struct kernel_param *max_active = dlsym(library, "model_param_max_active");

	*(unsigned int *)max_active->arg = knobs.at_once;
}

bool module_load(const char *path, int *err)
{
	int (*init)(void);

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		fail("dlopen: %s", dlerror());
	module = dlsym(library, "__this_module");
	init = dlsym(library, "model_module_init");
	find_range(module);
	refs = 1;
	going = false;
	running_init = true;
	hint();
	most_at_once();
	note("insmod");
	*err = init();
	note("insmod: %d", *err);
	running_init = false;
	refs--;
	if (!*err)
		return true;
	going = true;
	while (refs)
		sleep_on(&refs, FOREVER);
	take_away();
	return false;
}

bool module_remove(void)
{
	void (*exit)(void) = dlsym(library, "model_module_exit");
	unsigned long before = hurries;
	uint64_t began = now;

	point();
	if (refs)
		return false;
	going = true;
	note("rmmod");
	exit();
	/* It may ask xenstored once, but has not to wait for what xenwatch is in. */
	expect(hurries != before || now - began < 30 * NSEC, "rmmod takes %llu s",
	       (unsigned long long)((now - began) / NSEC));
	take_away();
	note("rmmod: done");
	return true;
}

/* ------------------------------------------------------------------- parameters */

const struct kernel_param_ops param_ops_uint = { .set = param_set_uint, .get = param_get_uint };

int param_set_uint(const char *val, const struct kernel_param *kp)
{
	/* The kernel does this without a thought of who reads. */
	__atomic_store_n((unsigned int *)kp->arg, (unsigned int)atoi(val), __ATOMIC_RELAXED);
	return 0;
}

int param_get_uint(char *buffer, const struct kernel_param *kp)
{
	return snprintf(buffer, 4096, "%u\n", *(unsigned int *)kp->arg);
}

int param_get_bool(char *buffer, const struct kernel_param *kp)
{
	return snprintf(buffer, 4096, "%c\n", *(bool *)kp->arg ? 'Y' : 'N');
}

unsigned int module_uint(const char *name)
{
	char symbol_name[64];
	struct kernel_param *kp;

	snprintf(symbol_name, sizeof(symbol_name), "model_param_%s", name);
	kp = dlsym(library, symbol_name);
	expect(kp, "there is no parameter %s", name);
	return *(unsigned int *)kp->arg;
}

int module_set(const char *name, const char *value)
{
	char symbol_name[64], buffer[4096];
	struct kernel_param *kp;
	int err;

	point();
	if (!module || in_sysfs & 1 << 30)
		return -ENOENT;
	in_sysfs++;
	snprintf(symbol_name, sizeof(symbol_name), "model_param_%s", name);
	kp = dlsym(library, symbol_name);
	expect(kp, "there is no parameter %s", name);
	mutex_lock(&param_lock);
	err = kp->ops->set(value, kp);
	if (!strcmp(name, "warn_secs"))
		warn_secs_are_set();
	kp->ops->get(buffer, kp);
	mutex_unlock(&param_lock);
	note("%s=%s: %d", name, value, err);
	in_sysfs--;
	wake(&in_sysfs);
	return err;
}

/* ------------------------------------------------------------------- debugfs */

struct dentry *debugfs_create_dir(const char *name, struct dentry *parent)
{
	(void)name, (void)parent;
	return NULL;
}

struct dentry *debugfs_create_file(const char *name, int mode, struct dentry *parent, void *data,
				   const struct file_operations *fops)
{
	(void)name, (void)mode, (void)parent, (void)data;
	point();
	hb_release(&status_file);
	status_file = fops;
	return NULL;
}

void debugfs_remove_recursive(struct dentry *dir)
{
	(void)dir;
	need_sleepable("debugfs_remove");
	status_file = NULL;
	while (in_debugfs)
		sleep_on(&in_sysfs, FOREVER);
	hb_acquire(&in_debugfs);
}

bool module_status(struct seq_file *m)
{
	point();
	m->n = 0;
	m->text[0] = '\0';
	if (!status_file)
		return false;
	in_debugfs++;			/* whoever removes it waits from here on */
	if (try_module_get(module)) {
		hb_acquire(&status_file);
		status_file->show(m, NULL);
		module_put(module);
		hb_release(&in_debugfs);
	}
	in_debugfs--;
	wake(&in_sysfs);
	return m->n;
}

/* ------------------------------------------------------------------- ftrace */

static struct ftrace_ops *ftrace;
static unsigned long filter[2];

int ftrace_set_filter_ips(struct ftrace_ops *ops, unsigned long *ips, unsigned int n, int remove,
			  int reset)
{
	(void)ops, (void)reset;
	need_sleepable("ftrace_set_filter_ips");
	if (!remove && chance(knobs.fail_ftrace_1_in))
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++)
		filter[i] = remove ? 0 : ips[i];
	return 0;
}

int register_ftrace_function(struct ftrace_ops *ops)
{
	need_sleepable("register_ftrace_function");
	point();
	if (chance(knobs.fail_ftrace_1_in))
		return -EBUSY;
	expect(!ftrace, "a second user of one function");
	hb_release(&ftrace);
	ftrace = ops;
	return 0;
}

int unregister_ftrace_function(struct ftrace_ops *ops)
{
	need_sleepable("unregister_ftrace_function");
	point();
	expect(ftrace == ops, "not its functions");
	ftrace = NULL;
	/* With preemption the kernel waits for those who are on their way; without, nobody is. */
	return 0;
}

/* Where a call leads; the caller goes there, and can be preempted on the way. */
unsigned long module_redirect(unsigned long function, unsigned long caller)
{
	struct ftrace_regs regs = { .ip = function };

	point();
	hb_acquire(&ftrace);
	if (ftrace && (filter[0] == function || filter[1] == function))
		ftrace->func(function, caller, ftrace, &regs);
	window();
	return regs.ip;
}
