/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the interposer sees of the kernel, faked: two directories of devices, and a clock that moves
 * only when somebody sleeps. Include this, then hooks/interposer.c itself.
 */
#ifndef SURROUNDINGS_H
#define SURROUNDINGS_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEVICES_MAX 8
#define FOREVER 1000000000L

static struct {
	long slept_ms, longest_ms;
	int sleeps;
} sleeper;

struct place {
	const char *path;
	const char *devices[DEVICES_MAX];
	int open_errno, read_errno;
	int times_opened, position;
};

static struct {
	struct place bus;                /* of backends */
	struct place top;                /* devices without a parent, on any bus or none */
	long gone_after_ms;              /* of sleep: then there are none */
	int unmounted;                   /* there is not even a /sys/bus */
	int open_now;
	struct dirent entry;
} sysfs = {
	.bus = { .path = "/sys/bus/xen-backend/devices" },
	.top = { .path = "/sys/devices" },
	.gone_after_ms = FOREVER,
};

static DIR *fake_opendir(const char *path)
{
	struct place *place = strcmp(path, sysfs.bus.path) ? &sysfs.top : &sysfs.bus;

	errno = strcmp(path, place->path) ? ENOENT : place->open_errno;
	if (errno)
		return NULL;
	sysfs.open_now++;
	place->times_opened++;
	place->position = 0;
	return (DIR *)place;
}

static int fake_access(const char *path, int mode)
{
	(void)path;
	(void)mode;
	return sysfs.unmounted ? -1 : 0;
}

static const char *name_at(const struct place *place, int position)
{
	static const char *const always[] = { ".", ".." };

	if (position < 2)
		return always[position];
	if (sleeper.slept_ms >= sysfs.gone_after_ms || position - 2 >= DEVICES_MAX)
		return NULL;
	return place->devices[position - 2];
}

static struct dirent *fake_readdir(DIR *directory)
{
	struct place *place = (struct place *)directory;
	const char *name = name_at(place, place->position++);

	if (name) {
		strcpy(sysfs.entry.d_name, name);
		return &sysfs.entry;
	}
	if (place->read_errno)
		errno = place->read_errno;
	return NULL;
}

static int fake_closedir(DIR *directory)
{
	(void)directory;
	sysfs.open_now--;
	errno = EBADF;           /* as any call may, even one that went well */
	return 0;
}

static int fake_clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	now->tv_sec = 4000 + sleeper.slept_ms / 1000;
	now->tv_nsec = sleeper.slept_ms % 1000 * 1000000;
	return 0;
}

static int fake_nanosleep(const struct timespec *wait, struct timespec *left)
{
	long ms = wait->tv_sec * 1000 + wait->tv_nsec / 1000000;

	(void)left;
	if (ms < 1 || wait->tv_nsec >= 1000000000) {
		errno = EINVAL;
		return -1;
	}
	sleeper.sleeps++;
	sleeper.slept_ms += ms;
	if (ms > sleeper.longest_ms)
		sleeper.longest_ms = ms;
	return 0;
}

#define access fake_access
#define opendir fake_opendir
#define readdir fake_readdir
#define closedir fake_closedir
#define clock_gettime fake_clock_gettime
#define nanosleep fake_nanosleep

#endif
