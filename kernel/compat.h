/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the kernels that this is for. */
#ifndef MTW_COMPAT_H
#define MTW_COMPAT_H

#include <linux/ftrace.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "xen_mtwatch is for Linux 6.1 and later"
#endif

#if !IS_ENABLED(CONFIG_XEN_DOM0) || !IS_ENABLED(CONFIG_XEN_BACKEND)
#error "this kernel is none for a dom0 (CONFIG_XEN_DOM0, CONFIG_XEN_BACKEND)"
#endif

#if !IS_ENABLED(CONFIG_KALLSYMS_ALL)
#error "xen_mtwatch knows the kernel's list of watches by its symbol (CONFIG_KALLSYMS_ALL)"
#endif

#if !IS_ENABLED(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)
#error "xen_mtwatch leads two functions elsewhere (CONFIG_DYNAMIC_FTRACE_WITH_ARGS)"
#endif

/* Without preemption an RCU grace period says it, and that is what the kernel takes then. */
#if IS_ENABLED(CONFIG_PREEMPTION) && !IS_ENABLED(CONFIG_TASKS_RCU)
#error "xen_mtwatch has to know when nobody is in a function any more (CONFIG_TASKS_RCU)"
#endif

#if IS_ENABLED(CONFIG_LTO)
#error "xen_mtwatch cannot lead elsewhere what was inlined when the kernel was linked (CONFIG_LTO)"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define mtw_set_ip(fregs, ip)	ftrace_instruction_pointer_set(fregs, ip)
#else
#define mtw_set_ip(fregs, ip)	ftrace_regs_set_instruction_pointer(fregs, ip)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define mtw_assign_str(field, text)	__assign_str(field, text)
#else
#define mtw_assign_str(field, text)	__assign_str(field)
#endif

#endif
