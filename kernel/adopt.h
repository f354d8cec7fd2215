/* SPDX-License-Identifier: GPL-2.0-only */
/* Watches that were there before the module. */
#ifndef MTW_ADOPT_H
#define MTW_ADOPT_H

#include <linux/types.h>

int mtw_adopt_global(void);
void mtw_adopt_known(void);
void mtw_adopt_devices(void);
void mtw_adopt_stop(void);
int mtw_adopt_return(void);
bool mtw_adopt_partial(void);
bool mtw_adopt_settled(void);
unsigned int mtw_adopted(void);

#endif
