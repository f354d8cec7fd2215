/* SPDX-License-Identifier: GPL-2.0-only */
/* memory/target */
#ifndef MTW_BALLOON_H
#define MTW_BALLOON_H

int mtw_balloon_start(void);
void mtw_balloon_stop(void);

#endif
