/* SPDX-License-Identifier: GPL-2.0-only */
/* Has xenwatch come this far? */
#ifndef MTW_PROBE_H
#define MTW_PROBE_H

#include <linux/types.h>

u64 mtw_probe_ticket(void);
bool mtw_probe_passed(u64 ticket);
s64 mtw_probe_age(void);
s64 mtw_probe_store_age(void);
void mtw_probe_look(void);
void mtw_probe_soon(void);
void mtw_probe_start(void);
void mtw_probe_stop(void);

#endif
