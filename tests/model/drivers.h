/* SPDX-License-Identifier: GPL-2.0-only */
/* Backend drivers, and what has to hold of the calls that they get. */
#ifndef MODEL_DRIVERS_H
#define MODEL_DRIVERS_H

#include <stdbool.h>

struct xenbus_watch;

#define TYPES 2
#define DOMS 6			/* domids 0 .. DOMS-1; 0 has devices of its own at both ends */
#define DEVS 2

void drivers_init(void);		/* the watches of all devices; once xenstored is there */
void device_path(char *path, int type, int domid, int devid);
void front_path(char *path, int type, int domid, int devid);
void frontend_changed(struct xenbus_watch *watch, const char *path, const char *token);
bool toolstack_may_remove(int type, int domid, int devid);	/* devid -1: all */
int domain_at_work(void);
void unbind(int type, int domid, int devid, bool bind_again);
void front_toggles(int devid);		/* a frontend of domain 0's: comes, goes, its backend does something */
const char *unfinished(void);		/* an event that is not answered yet, or NULL */
const char *wrong_device(void);		/* that the store has and no driver, or the other way; or NULL */

#endif
