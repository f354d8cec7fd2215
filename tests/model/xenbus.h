/* SPDX-License-Identifier: GPL-2.0-only */
/* xenstored, the kernel's side of it, and xenwatch. */
#ifndef MODEL_XENBUS_H
#define MODEL_XENBUS_H

#include "kernel.h"

#define PATH 80

void xenbus_init(bool store_is_up);
void store_comes_up(void);
bool store_is_up(void);

/* What others than the kernel do to the store; at once. */
void store_write(const char *path, int value);
void store_remove(const char *path);
int store_value(const char *path);		/* -1: no such node */
bool store_has(const char *path);
bool store_has_below(const char *path);
unsigned int store_watches(void);		/* that the kernel has there */
unsigned int kernel_watches(void (*see)(struct xenbus_watch *watch));
bool xenbus_is_quiet(void);			/* nothing is on its way */

int xenbus_read_value(const char *path);	/* what a driver does; -1: no such node */

/* drivers.c is told of what must not get lost, and gives it a number. */
unsigned long expect_event(struct xenbus_watch *watch, struct xenbus_watch *owner, const char *path);

void watch_moves(const struct xenbus_watch *watch, bool moves);	/* from its shadow to the list */
void xenbus_disown(const struct xenbus_watch *owner);	/* its shadow's events do not count any more */

bool is_xenwatch(void);				/* is that who runs? */
void watches_are_stopped_for(uint64_t ns);

#endif
