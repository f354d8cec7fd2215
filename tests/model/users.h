/* SPDX-License-Identifier: GPL-2.0-only */
/* Watches of no guest: user space's, by /dev/xen/xenbus; the balloon driver's; and others. */
#ifndef MODEL_USERS_H
#define MODEL_USERS_H

#include <stdbool.h>

struct xenbus_watch;

void users_init(void);			/* the kernel's own watches */
void users_expect(struct xenbus_watch *watch, struct xenbus_watch *owner, const char *path);
void user_lives(void);			/* opens the device, watches, is told, closes it */
void target_is_set(void);		/* to another value */
const char *users_unfinished(void);	/* what is not told yet, or NULL */

/*
 * While xenwatch is stuck all of this works at once, and every domain has its thread, if the module
 * is on and was on for so long that it has forgotten what xenwatch had been given before.
 */
void xenwatch_is_stuck(bool (*is_on)(void));

/* The same, and it is loaded only then: of what was there before, nothing has to work. */
void xenwatch_is_stuck_before(void (*load)(void), bool (*is_on)(void));

/* watch_fired() of /dev/xen/xenbus: known by its name */
void watch_fired(struct xenbus_watch *watch, const char *path, const char *token);

#endif
