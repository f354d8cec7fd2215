/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interposer that keeps the mtwatch contract inside libxl's own xenstore traffic.
 *
 * It is built twice from one source: into xlmt's libxl extension, and as a library to preload
 * into any other program that uses libxl (xl, libvirtd, ...). interposer.c tells how it works.
 */
#ifndef XLMT_INTERPOSER_H
#define XLMT_INTERPOSER_H

/*
 * Where the interposer says what went wrong or what it left behind: one line, without a newline.
 * Never NULL; the default writes to stderr. Called on the thread that called libxl.
 */
typedef void xlmt_interposer_log_fn(unsigned int domid, const char *line);
extern xlmt_interposer_log_fn *xlmt_interposer_log;

/*
 * Told of the domid at the beginning of each creation, before anything of it is in xenstore; NULL
 * when nobody wants to know. Called on the thread that called libxl.
 */
typedef void xlmt_interposer_creates_fn(unsigned int domid);
extern xlmt_interposer_creates_fn *xlmt_interposer_creates;

enum xlmt_interposer_arming {
	XLMT_INTERPOSER_ARMED,        /* libxl's calls come to an interposer, and go on */
	XLMT_INTERPOSER_BYPASSED,     /* they go straight to libxenstore, or elsewhere */
	XLMT_INTERPOSER_NO_LIBXL,     /* there is no libxenlight in this process */
	XLMT_INTERPOSER_UNREADABLE,   /* its relocations are not as we know them */
	XLMT_INTERPOSER_DEAD_END,     /* the interposer does not find the functions behind it */
};

/*
 * Look where libxenlight's own GOT entries lead. An interposer that the dynamic linker did not
 * bind is silent: nothing fails, and no node is written. So ask before the first creation.
 */
enum xlmt_interposer_arming xlmt_interposer_arming(void);

/* What an interposer says for itself: armed, or a dead end, at which every creation would fail. */
enum xlmt_interposer_arming xlmt_interposer_behind(void);

#endif
