/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains as files. Writers hold a lock and rename; readers need neither. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <xen/xen.h>

#include "fakehv.h"

#define LINE_MAX_LEN 256

int fail(int err)
{
	errno = err;
	return -1;
}

void state_path(char *buf, size_t size, const char *fmt, ...)
{
	const char *dir = getenv("FAKEXEN_DIR");
	va_list args;
	int n = snprintf(buf, size, "%s/", dir ? dir : "/run/fakexen");

	if (n < 0 || (size_t)n >= size)
		abort();
	va_start(args, fmt);
	vsnprintf(buf + n, size - n, fmt, args);
	va_end(args);
}

bool in_xenstored(void)
{
	return getenv("FAKEHV_XENSTORED") != NULL;
}

bool fault(const char *name)
{
	char path[512];

	if (in_xenstored())
		return false;
	state_path(path, sizeof(path), "faults/%s", name);
	return access(path, F_OK) == 0;
}

void virq_raise(void)
{
	char path[512];
	int fd;

	state_path(path, sizeof(path), "virq");
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;	/* no daemon is listening: nobody to tell */
	if (write(fd, "x", 1) != 1) {
		/* The FIFO is full, so an interrupt is pending anyway. */
	}
	close(fd);
}

/* A crashed holder's lock goes with it; nobody holds it across a wait. */
static int lock(void)
{
	char path[512];
	int fd;

	state_path(path, sizeof(path), "lock");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX)) {
		close(fd);
		return -1;
	}
	return fd;
}

static const char *field(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? at + strlen(key) : "0";
}

static void parse(const char *line, struct dom *dom)
{
	const char *hex = field(line, "handle=");

	dom->flags = strtoul(field(line, "flags="), NULL, 16);
	dom->ssid = strtoul(field(line, "ssid="), NULL, 10);
	dom->vcpus = strtoul(field(line, "vcpus="), NULL, 10);
	for (size_t i = 0; i < sizeof(dom->handle) && strlen(hex) >= 2; i++, hex += 2) {
		char pair[3] = { hex[0], hex[1], '\0' };

		dom->handle[i] = strtoul(pair, NULL, 16);
	}
}

static int load_at(int dirfd, const char *name, struct dom *dom)
{
	char line[LINE_MAX_LEN];
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n < 0)
		return -1;
	line[n] = '\0';
	memset(dom, 0, sizeof(*dom));
	dom->id = strtoul(strrchr(name, '/') ? strrchr(name, '/') + 1 : name, NULL, 10);
	parse(line, dom);
	return 0;
}

int dom_load(unsigned int id, struct dom *dom)
{
	char path[512];

	state_path(path, sizeof(path), "doms/%u", id);
	return load_at(AT_FDCWD, path, dom);
}

static int dom_store(const struct dom *dom)
{
	char path[512], temp[512], line[LINE_MAX_LEN];
	int n = snprintf(line, sizeof(line), "flags=%#x ssid=%u vcpus=%u handle=",
			 dom->flags, dom->ssid, dom->vcpus);
	int fd;

	for (size_t i = 0; i < sizeof(dom->handle); i++)
		n += snprintf(line + n, sizeof(line) - n, "%02x", dom->handle[i]);
	line[n++] = '\n';
	state_path(path, sizeof(path), "doms/%u", dom->id);
	state_path(temp, sizeof(temp), "doms/.new");	/* we hold the lock: one is enough */
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (write(fd, line, n) != n) {
		close(fd);
		return -1;
	}
	close(fd);
	return rename(temp, path);
}

static bool taken(unsigned int id)
{
	char path[512];

	state_path(path, sizeof(path), "doms/%u", id);
	return access(path, F_OK) == 0;
}

static unsigned int rover_load(void)
{
	char path[512], text[16] = "";
	unsigned int rover;
	int fd;

	state_path(path, sizeof(path), "rover");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	rover = strtoul(text, NULL, 10);
	return rover < DOMID_FIRST_RESERVED ? rover : 0;
}

static void rover_store(unsigned int rover)
{
	char path[512];
	FILE *f;

	state_path(path, sizeof(path), "rover");
	f = fopen(path, "we");
	if (!f)
		return;
	fprintf(f, "%u\n", rover);
	fclose(f);
}

/* Ascending from the last one given out, wrapping, skipping those in use. */
static int choose_id(unsigned int *id_r)
{
	unsigned int rover = rover_load();

	for (unsigned int tries = 1; tries < DOMID_FIRST_RESERVED; tries++) {
		if (++rover >= DOMID_FIRST_RESERVED)
			rover = 1;
		if (!taken(rover)) {
			rover_store(rover);
			*id_r = rover;
			return 0;
		}
	}
	return fail(ENOMEM);
}

int dom_create(struct dom *dom)
{
	int fd = lock();
	int r;

	if (fd < 0)
		return -1;
	if (dom->id)
		r = taken(dom->id) ? fail(EEXIST) : 0;
	else
		r = choose_id(&dom->id);
	if (!r)
		r = dom_store(dom);
	close(fd);
	return r;
}

int dom_flags(unsigned int id, unsigned int set, unsigned int clear)
{
	struct dom dom;
	int fd = lock();
	int r;

	if (fd < 0)
		return -1;
	r = dom_load(id, &dom);
	if (!r) {
		dom.flags = (dom.flags & ~clear) | set;
		r = dom_store(&dom);
	}
	close(fd);
	return r;
}

int dom_vcpus(unsigned int id, unsigned int vcpus)
{
	struct dom dom;
	int fd = lock();
	int r;

	if (fd < 0)
		return -1;
	r = dom_load(id, &dom);
	if (!r) {
		dom.vcpus = vcpus;
		r = dom_store(&dom);
	}
	close(fd);
	return r;
}

int dom_remove(unsigned int id)
{
	char path[512];
	int fd = lock();
	int r;

	if (fd < 0)
		return -1;
	state_path(path, sizeof(path), "doms/%u", id);
	r = unlink(path);
	close(fd);
	return r;
}

/* Marks the ids that have a file: sorting by counting. */
static void scan(DIR *dir, bool *present)
{
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		char *end;
		unsigned long id = strtoul(entry->d_name, &end, 10);

		if (end != entry->d_name && !*end && id < DOMID_FIRST_RESERVED)
			present[id] = true;
	}
}

int dom_list(unsigned int first, unsigned int max, struct dom *doms)
{
	bool present[DOMID_FIRST_RESERVED] = { false };
	char name[512];
	unsigned int n = 0;
	DIR *dir;

	/* libxl and oxenstored ask after one domain this way: no scan for that. */
	if (max == 1 && !dom_load(first, doms))
		return 1;
	state_path(name, sizeof(name), "doms");
	dir = opendir(name);
	if (!dir)
		return -1;
	scan(dir, present);
	for (unsigned int id = first; id < DOMID_FIRST_RESERVED && n < max; id++) {
		if (!present[id])
			continue;
		snprintf(name, sizeof(name), "%u", id);
		if (!load_at(dirfd(dir), name, &doms[n]))
			n++;
	}
	closedir(dir);
	return n;
}
