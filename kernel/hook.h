/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's two functions, and the way to them. */
#ifndef MTW_HOOK_H
#define MTW_HOOK_H

#include <xen/xenbus.h>

int mtw_hook(void);
const char *mtw_hook_refusal(int err);
int mtw_unhook(void);
void mtw_come_in(void);
void mtw_go_out(void);
int mtw_stock_register(struct xenbus_watch *watch);
void mtw_stock_unregister(struct xenbus_watch *watch);

#endif
