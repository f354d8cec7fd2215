/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hook that keeps the mtwatch contract inside libxl's own xenstore traffic.
 *
 * It is built twice from one source: into xlmt's libxl extension, and as a library to preload
 * into any other program that uses libxl (xl, libvirtd, ...). mtwatch.c tells how it works.
 */
#ifndef XLMT_MTWATCH_H
#define XLMT_MTWATCH_H

/*
 * Where the hook says what went wrong or what it left behind: one line, without a newline.
 * Never NULL; the default writes to stderr. Called on the thread that called libxl.
 */
typedef void xlmt_mtwatch_log_fn(unsigned int domid, const char *line);
extern xlmt_mtwatch_log_fn *xlmt_mtwatch_log;

enum xlmt_mtwatch_arming {
	XLMT_MTWATCH_ARMED,        /* libxenlight's calls come to a hook, and go on to libxenstore */
	XLMT_MTWATCH_BYPASSED,     /* they go straight to libxenstore, or elsewhere */
	XLMT_MTWATCH_NO_LIBXL,     /* there is no libxenlight in this process */
	XLMT_MTWATCH_UNREADABLE,   /* its relocations are not as we know them */
	XLMT_MTWATCH_DEAD_END,     /* the hook does not find the functions behind it */
};

/*
 * Look where libxenlight's own GOT entries lead. A hook that the dynamic linker did not bind is
 * silent: nothing fails, and no node is written. So ask before the first creation.
 */
enum xlmt_mtwatch_arming xlmt_mtwatch_arming(void);

/* What a hook says for itself: armed, or a dead end, at which every creation would fail. */
enum xlmt_mtwatch_arming xlmt_mtwatch_behind(void);

#endif
