/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libxenctrl asks of Xen. An operation not known here succeeds and does nothing. */
#define _GNU_SOURCE
#define __XEN_TOOLS__ 1
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/version.h>

#include "fakehv.h"

#define SHUTDOWN_BITS (XEN_DOMINF_shutdown | (XEN_DOMINF_shutdownmask << XEN_DOMINF_shutdownshift))
#define MEMORY_OP_MASK 0x3f	/* above it: where a continued operation goes on */
#define RELINQUISH_STEPS 6000	/* of 10 ms: a minute */

static void fill_info(const struct dom *dom, xen_domctl_getdomaininfo_t *info)
{
	memset(info, 0, sizeof(*info));
	info->domain = dom->id;
	info->flags = dom->flags;
	info->ssidref = dom->ssid;
	info->nr_online_vcpus = dom->vcpus;
	info->max_vcpu_id = dom->vcpus ? dom->vcpus - 1 : XEN_INVALID_MAX_VCPU_ID;
	info->tot_pages = 1024;
	info->max_pages = 65536;
	memcpy(info->handle, dom->handle, sizeof(info->handle));
}

static int createdomain(struct xen_domctl *op)
{
	const struct xen_domctl_createdomain *config = &op->u.createdomain;
	struct dom dom = {
		.flags = XEN_DOMINF_paused,
		.ssid = config->ssidref,
		.vcpus = config->max_vcpus,
	};

	if (fault("create"))
		return fail(ENOMEM);
	if (config->flags & XEN_DOMCTL_CDF_hvm)
		dom.flags |= XEN_DOMINF_hvm_guest;
	if (op->domain && op->domain < DOMID_FIRST_RESERVED)
		dom.id = op->domain;
	memcpy(dom.handle, config->handle, sizeof(dom.handle));
	if (dom_create(&dom))
		return -1;
	op->domain = dom.id;
	return 0;
}

/* A big guest's memory takes long to give back; until then Xen lists it as alive. */
static void relinquish(void)
{
	const struct timespec step = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < RELINQUISH_STEPS && fault("relinquish"); i++)
		nanosleep(&step, NULL);
}

static int destroydomain(unsigned int id)
{
	char own[32];
	int r;

	snprintf(own, sizeof(own), "zombie-%u", id);
	relinquish();
	if (fault("zombie") || fault(own))
		r = dom_flags(id, XEN_DOMINF_dying, XEN_DOMINF_running);
	else
		r = dom_remove(id);
	virq_raise();
	return r;
}

static int getdomaininfo(struct xen_domctl *op)
{
	struct dom dom;

	if (fault("info"))
		return fail(EPERM);
	if (dom_load(op->domain, &dom))
		return fail(ESRCH);
	fill_info(&dom, &op->u.getdomaininfo);
	return 0;
}

/* libxl sets what it got when it makes a domain anew, and checks the range. */
static int scheduler_op(struct xen_domctl_scheduler_op *op)
{
	if (op->cmd == XEN_DOMCTL_SCHEDOP_getinfo) {
		op->u.credit2.weight = 256;
		op->u.credit2.cap = 0;
	}
	return 0;
}

static int domctl(struct xen_domctl *op)
{
	struct dom dom;

	if (op->interface_version != XEN_DOMCTL_INTERFACE_VERSION)
		return fail(EACCES);
	if (op->cmd == XEN_DOMCTL_createdomain)
		return createdomain(op);
	if (op->domain == DOMID_SELF)
		op->domain = 0;
	/* Before the domain is looked for: since 4.18 that is how libxl learns that one is gone. */
	if (op->cmd == XEN_DOMCTL_getdomaininfo)
		return getdomaininfo(op);
	if (dom_load(op->domain, &dom))
		return fail(ESRCH);
	switch (op->cmd) {
	case XEN_DOMCTL_destroydomain:
		return destroydomain(op->domain);
	case XEN_DOMCTL_pausedomain:
		return dom_flags(op->domain, XEN_DOMINF_paused, 0);
	case XEN_DOMCTL_unpausedomain:
		return dom_flags(op->domain, 0, XEN_DOMINF_paused);
	case XEN_DOMCTL_resumedomain:
	case XEN_DOMCTL_soft_reset:
		return dom_flags(op->domain, 0, SHUTDOWN_BITS);
	case XEN_DOMCTL_max_vcpus:
		return dom_vcpus(op->domain, op->u.max_vcpus.max);
	case XEN_DOMCTL_scheduler_op:
		return scheduler_op(&op->u.scheduler_op);
	default:
		return 0;
	}
}

static void physinfo(struct xen_sysctl_physinfo *info)
{
	memset(info, 0, sizeof(*info));
	info->threads_per_core = 1;
	info->cores_per_socket = 2;
	info->nr_cpus = 2;
	info->max_cpu_id = 1;
	info->nr_nodes = 1;
	info->cpu_khz = 2000000;
	info->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hvm |
			     XEN_SYSCTL_PHYSCAP_hap | XEN_SYSCTL_PHYSCAP_shadow |
			     XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2;
	info->total_pages = 1 << 30;
	info->free_pages = 1 << 29;
	info->max_mfn = 1 << 30;
}

static int getdomaininfolist(struct xen_sysctl_getdomaininfolist *list)
{
	unsigned int max = list->max_domains < DOMID_FIRST_RESERVED ?
			   list->max_domains : DOMID_FIRST_RESERVED;
	struct dom *doms;
	int n;

	/* A list of one is how libxl_domain_info() asks for a domain. */
	if (fault(list->max_domains == 1 ? "info" : "list"))
		return fail(EPERM);
	doms = calloc(max ? max : 1, sizeof(*doms));
	if (!doms)
		return fail(ENOMEM);
	n = max ? dom_list(list->first_domain, max, doms) : 0;
	for (int i = 0; i < n; i++)
		fill_info(&doms[i], &list->buffer.p[i]);
	free(doms);
	list->num_domains = n < 0 ? 0 : n;
	return n < 0 ? -1 : 0;
}

static int cpupool_op(struct xen_sysctl_cpupool_op *op)
{
	if (op->op != XEN_SYSCTL_CPUPOOL_OP_INFO)
		return 0;
	if (op->cpupool_id && op->cpupool_id != XEN_SYSCTL_CPUPOOL_PAR_ANY)
		return fail(ENOENT);
	op->cpupool_id = 0;
	op->sched_id = XEN_SCHEDULER_CREDIT2;
	op->n_dom = 1;
	if (op->cpumap.bitmap.p)
		*op->cpumap.bitmap.p = 3;
	return 0;
}

static void cputopoinfo(struct xen_sysctl_cputopoinfo *topo)
{
	if (topo->cputopo.p)
		memset(topo->cputopo.p, 0, topo->num_cpus * sizeof(*topo->cputopo.p));
	else
		topo->num_cpus = 2;
}

static void numainfo(struct xen_sysctl_numainfo *numa)
{
	numa->num_nodes = 1;
	if (numa->meminfo.p) {
		numa->meminfo.p->memsize = UINT64_C(4) << 40;
		numa->meminfo.p->memfree = UINT64_C(2) << 40;
	}
	if (numa->distance.p)
		*numa->distance.p = 10;
}

static int sysctl(struct xen_sysctl *op)
{
	if (op->interface_version != XEN_SYSCTL_INTERFACE_VERSION)
		return fail(EACCES);
	switch (op->cmd) {
	case XEN_SYSCTL_getdomaininfolist:
		return getdomaininfolist(&op->u.getdomaininfolist);
	case XEN_SYSCTL_physinfo:
		physinfo(&op->u.physinfo);
		return 0;
	case XEN_SYSCTL_cpupool_op:
		return cpupool_op(&op->u.cpupool_op);
	case XEN_SYSCTL_sched_id:
		op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;
		return 0;
	case XEN_SYSCTL_cputopoinfo:
		cputopoinfo(&op->u.cputopoinfo);
		return 0;
	case XEN_SYSCTL_numainfo:
		numainfo(&op->u.numainfo);
		return 0;
	default:
		return 0;
	}
}

/*
 * The toolstack's own, told by the compiler: libvirtd clears the environment.
 * Another one: FAKEHV_XEN_VERSION=4.99
 */
static int running_version(void)
{
	const char *wanted = getenv("FAKEHV_XEN_VERSION");
	unsigned int major = XEN_MAJOR, minor = XEN_MINOR;

	if (wanted && sscanf(wanted, "%u.%u", &major, &minor) != 2)
		abort();
	return (int)(major << 16 | minor);
}

#ifdef XENVER_capabilities2
/* Since 4.18: without a buffer the question is how long the text is. */
static int varbuf(xen_varbuf_t *buf, const char *text)
{
	size_t length = strlen(text);

	if (!buf)
		return length;
	if (buf->len < length)
		return fail(ENOBUFS);
	memcpy(buf->buf, text, length);
	return length;
}
#endif

#define EXTRAVERSION ".0-fake"
#define CHANGESET "fake"
#define CAPABILITIES "xen-3.0-x86_64 hvm-3.0-x86_64 "
#define COMMANDLINE "dom0_mem=1024M"	/* given, so that xl leaves ballooning alone */

static int version(unsigned int cmd, void *arg)
{
	switch (cmd) {
#ifdef XENVER_capabilities2
	case XENVER_extraversion2:
		return varbuf(arg, EXTRAVERSION);
	case XENVER_capabilities2:
		return varbuf(arg, CAPABILITIES);
	case XENVER_commandline2:
		return varbuf(arg, COMMANDLINE);
	case XENVER_changeset2:
		return varbuf(arg, CHANGESET);
#endif
	case XENVER_version:
		return running_version();
	case XENVER_pagesize:
		return 4096;
	case XENVER_extraversion:
		strcpy(arg, EXTRAVERSION);
		return 0;
	case XENVER_capabilities:
		strcpy(arg, CAPABILITIES);
		return 0;
	case XENVER_commandline:
		strcpy(arg, COMMANDLINE);
		return 0;
	case XENVER_changeset:
		strcpy(arg, CHANGESET);
		return 0;
	case XENVER_get_features:
		((struct xen_feature_info *)arg)->submap = 0;
		return 0;
	default:
		return 0;
	}
}

static int event_channel_op(unsigned int cmd, void *arg)
{
	static unsigned int next_port = 10;

	if (cmd == EVTCHNOP_alloc_unbound)
		((struct evtchn_alloc_unbound *)arg)->port = next_port++;
	return 0;
}

static int sched_op(unsigned int cmd, void *arg)
{
	const struct sched_remote_shutdown *op = arg;
	int r;

	if (cmd != SCHEDOP_remote_shutdown)
		return 0;
	r = dom_flags(op->domain_id,
		      XEN_DOMINF_shutdown | op->reason << XEN_DOMINF_shutdownshift,
		      XEN_DOMINF_running);
	virq_raise();
	return r ? fail(ESRCH) : 0;
}

static long memory_op(unsigned int cmd, void *arg)
{
	if ((cmd & MEMORY_OP_MASK) == XENMEM_populate_physmap)
		return ((struct xen_memory_reservation *)arg)->nr_extents;
	return 0;
}

long hypercall(unsigned int op, uint64_t a1, uint64_t a2)
{
	void *p1 = (void *)(uintptr_t)a1, *p2 = (void *)(uintptr_t)a2;

	switch (op) {
	case __HYPERVISOR_domctl:
		return domctl(p1);
	case __HYPERVISOR_sysctl:
		return sysctl(p1);
	case __HYPERVISOR_xen_version:
		return version(a1, p2);
	case __HYPERVISOR_event_channel_op:
		return event_channel_op(a1, p2);
	case __HYPERVISOR_sched_op:
		return sched_op(a1, p2);
	case __HYPERVISOR_memory_op:
		return memory_op(a1, p2);
	case __HYPERVISOR_xsm_op:
		return fail(ENOSYS);	/* no FLASK here */
	default:
		return 0;
	}
}
