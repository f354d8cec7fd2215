/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads and queues. */
#ifndef MTW_DOMAIN_H
#define MTW_DOMAIN_H

#include <linux/types.h>

struct mtw_watch;
struct seq_file;

bool mtw_dom_take(struct mtw_watch *watch, unsigned int domid, const char *path);
bool mtw_dom_take_back(struct mtw_watch *watch, unsigned int domid, const char *path);
void mtw_dom_flush(struct mtw_watch *watch);
bool mtw_dom_node(unsigned int domid);
void mtw_dom_node_gone(unsigned int domid, const unsigned long *to_ask);
void mtw_dom_mark_passed(unsigned int domid);
void mtw_dom_mark_passed_up_to(unsigned int top);
void mtw_dom_mark_all_passed(void);
void mtw_dom_age_marks(void);
bool mtw_dom_is_passed(unsigned int domid);
void mtw_dom_each_by_node(unsigned long *domids);
void mtw_dom_open(bool open);
bool mtw_dom_is_open(void);
void mtw_dom_leave_all(void);
void mtw_dom_kick_new(void);
unsigned int mtw_dom_count(void);
long mtw_dom_n_passed(void);
void mtw_dom_show_all(struct seq_file *m);

#endif
