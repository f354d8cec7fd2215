/* SPDX-License-Identifier: GPL-2.0-only */
/* debugfs */
#ifndef MTW_STAT_H
#define MTW_STAT_H

void mtw_stat_init(void);
void mtw_stat_exit(void);

#endif
