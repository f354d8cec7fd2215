/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hypervisor that is a directory.
 *
 * One preload library stands in for libxencall, libxenforeignmemory,
 * libxenevtchn, libxengnttab and libxendevicemodel, and for the entry points
 * of libxenguest that put an image into a guest's memory. It is loaded into
 * libxl programs and into both xenstored; everything above is the real code.
 *
 *   domains.c    a domain is a file, VIRQ_DOM_EXC is a FIFO, a fault is a file
 *   hypercalls.c domctl, sysctl, version, ...: what libxenctrl asks
 *   libs.c       the libraries' handles, buffers, mappings and ports
 *   builder.c    "the image was built"
 *
 * $FAKEXEN_DIR holds doms/<domid>, rover, lock, virq and faults/<name>.
 * $FAKEHV_XENSTORED is set for the xenstore daemon alone.
 *
 * It must not use libxenstore: programs under test put their own xs_*
 * functions in front of that library, in this very process.
 */
#ifndef FAKEHV_H
#define FAKEHV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Programs under test must not meet our names instead of their own. */
#pragma GCC visibility push(hidden)

/* What doms/<domid> says, in one line: flags=0x2 ssid=0 vcpus=1 handle=<32 hex digits> */
struct dom {
	unsigned int id;
	unsigned int flags;	/* XEN_DOMINF_* */
	unsigned int ssid;
	unsigned int vcpus;
	uint8_t handle[16];
};

/* All return 0, or -1 with errno set. */
int dom_load(unsigned int id, struct dom *dom);
/* dom->id 0: choose the next free one, as Xen does. EEXIST, ENOMEM (none free). */
int dom_create(struct dom *dom);
/* Set and clear flags of a domain, atomically against everybody else. */
int dom_flags(unsigned int id, unsigned int set, unsigned int clear);
int dom_vcpus(unsigned int id, unsigned int vcpus);
int dom_remove(unsigned int id);
/* Loads up to @max domains with ids >= @first, ascending; returns how many, or -1. */
int dom_list(unsigned int first, unsigned int max, struct dom *doms);

/* Tell the xenstore daemon that some domain changed its state. */
void virq_raise(void);
/* Is this the xenstore daemon? Faults are for the toolstack, not for it. */
bool in_xenstored(void);
/* Is faults/<name> there? Asked at each use, so that a test can flip it. */
bool fault(const char *name);
/* $FAKEXEN_DIR/<format> */
void state_path(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Sets errno, returns -1. */
int fail(int err);

/* All hypercalls end here. */
long hypercall(unsigned int op, uint64_t a1, uint64_t a2);

#pragma GCC visibility pop

#endif
