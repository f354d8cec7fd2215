/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxenguest's steps of putting an image into a guest's memory, answered
 * "done": any file is a kernel, and creation goes on as in real life.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include <xenctrl.h>
#include <xenguest.h>

#include "fakehv.h"

#define STEP(name, ...) \
	int name(__VA_ARGS__) { return 0; }

STEP(xc_dom_kernel_file, struct xc_dom_image *, const char *)
STEP(xc_dom_kernel_mem, struct xc_dom_image *, const void *, size_t)
STEP(xc_dom_module_file, struct xc_dom_image *, const char *, const char *)
STEP(xc_dom_module_mem, struct xc_dom_image *, const void *, size_t, const char *)
STEP(xc_dom_devicetree_file, struct xc_dom_image *, const char *)
STEP(xc_dom_boot_xen_init, struct xc_dom_image *, xc_interface *, uint32_t)
STEP(xc_dom_rambase_init, struct xc_dom_image *, uint64_t)
STEP(xc_dom_mem_init, struct xc_dom_image *, unsigned int)
STEP(xc_dom_build_image, struct xc_dom_image *)
STEP(xc_dom_gnttab_init, struct xc_dom_image *)
STEP(xc_cpuid_apply_policy, xc_interface *, uint32_t, bool, const uint32_t *, unsigned int,
     bool, bool, bool, const struct xc_xend_cpuid *, const struct xc_msr *)

/* libxl asks these hooks how big a page is when it builds ACPI tables. */
int xc_dom_parse_image(struct xc_dom_image *dom)
{
	static struct xc_dom_arch hooks = { .page_shift = 12 };

	dom->arch_hooks = &hooks;
	return 0;
}

/*
 * A PV guest's rings need machine frames that are numbers: oxenstored refuses
 * to introduce a domain whose ring is at INVALID_MFN, and an introduction that
 * failed means no @introduceDomain and no @releaseDomain.
 */
int xc_dom_boot_mem_init(struct xc_dom_image *dom)
{
	static xen_pfn_t frames[] = { 0x1000, 0x1001 };

	dom->pv_p2m = frames;
	dom->total_pages = sizeof(frames) / sizeof(frames[0]);
	dom->xenstore_pfn = 0;
	dom->console_pfn = 1;
	return 0;
}

int xc_dom_boot_image(struct xc_dom_image *)
{
	return fault("builder") ? fail(fault("memory") ? ENOMEM : EINVAL) : 0;
}
