/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM xen_mtwatch

#if !defined(MTW_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MTW_TRACE_H

#include <linux/tracepoint.h>

#include "compat.h"

/* An event comes: to a thread, or (taken=0) to xenwatch. */
TRACE_EVENT(mtwatch_queue,
	TP_PROTO(unsigned int domid, const char *path, bool taken),
	TP_ARGS(domid, path, taken),
	TP_STRUCT__entry(
		__field(unsigned int, domid)
		__string(path, path)
		__field(bool, taken)
	),
	TP_fast_assign(
		__entry->domid = domid;
		mtw_assign_str(path, path);
		__entry->taken = taken;
	),
	TP_printk("domid=%u path=%s taken=%d", __entry->domid, __get_str(path), __entry->taken)
);

TRACE_EVENT(mtwatch_begin,
	TP_PROTO(unsigned int domid, const char *path, void *callback),
	TP_ARGS(domid, path, callback),
	TP_STRUCT__entry(
		__field(unsigned int, domid)
		__string(path, path)
		__field(void *, callback)
	),
	TP_fast_assign(
		__entry->domid = domid;
		mtw_assign_str(path, path);
		__entry->callback = callback;
	),
	TP_printk("domid=%u path=%s callback=%ps", __entry->domid, __get_str(path),
		  __entry->callback)
);

TRACE_EVENT(mtwatch_end,
	TP_PROTO(unsigned int domid, const char *path, void *callback, s64 ns),
	TP_ARGS(domid, path, callback, ns),
	TP_STRUCT__entry(
		__field(unsigned int, domid)
		__string(path, path)
		__field(void *, callback)
		__field(s64, ns)
	),
	TP_fast_assign(
		__entry->domid = domid;
		mtw_assign_str(path, path);
		__entry->callback = callback;
		__entry->ns = ns;
	),
	TP_printk("domid=%u path=%s callback=%ps ns=%lld", __entry->domid, __get_str(path),
		  __entry->callback, __entry->ns)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
