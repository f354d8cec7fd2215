/* SPDX-License-Identifier: GPL-2.0-only */
/* /local/domain/0/mtwatch/<domid> */
#ifndef MTW_NODE_H
#define MTW_NODE_H

extern unsigned long mtw_node_hints[];	/* domids that may have nodes; set before all begins */
int mtw_node_exists(const char *dir, const char *name);
int mtw_node_start(void);
void mtw_node_stop(void);
void mtw_node_init(void);
void mtw_node_hinted(void);
void mtw_node_ask_all(unsigned long delay);

#endif
