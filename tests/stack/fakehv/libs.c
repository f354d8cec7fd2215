/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The libraries between libxenctrl and the kernel's /dev/xen, and the few
 * libc calls by which a xenstore daemon reaches for what is not there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xencall.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "fakehv.h"

#define PAGE 4096
#define VIRQ_PORT 1

struct xencall_handle { int unused; };
struct xenforeignmemory_handle { int unused; };
struct xenforeignmemory_resource_handle { void *addr; size_t pages; };
struct xendevicemodel_handle { int unused; };
struct xengntdev_handle { int unused; };
struct xenevtchn_handle { int fd; };

static void *map_pages(size_t n)
{
	void *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* libxencall */

static xencall_handle call_handle;

xencall_handle *xencall_open(struct xentoollog_logger *, unsigned)
{
	return &call_handle;
}

int xencall_close(xencall_handle *) { return 0; }
int xencall_fd(xencall_handle *) { return -1; }
int xencall_buffers_never_fault(xencall_handle *) { return 1; }

int xencall0(xencall_handle *, unsigned int op)
{
	return hypercall(op, 0, 0);
}

int xencall1(xencall_handle *, unsigned int op, uint64_t a1)
{
	return hypercall(op, a1, 0);
}

int xencall2(xencall_handle *, unsigned int op, uint64_t a1, uint64_t a2)
{
	return hypercall(op, a1, a2);
}

long xencall2L(xencall_handle *, unsigned int op, uint64_t a1, uint64_t a2)
{
	return hypercall(op, a1, a2);
}

int xencall3(xencall_handle *, unsigned int op, uint64_t a1, uint64_t a2, uint64_t)
{
	return hypercall(op, a1, a2);
}

int xencall4(xencall_handle *, unsigned int op, uint64_t a1, uint64_t a2, uint64_t, uint64_t)
{
	return hypercall(op, a1, a2);
}

int xencall5(xencall_handle *, unsigned int op, uint64_t a1, uint64_t a2,
	     uint64_t, uint64_t, uint64_t)
{
	return hypercall(op, a1, a2);
}

void *xencall_alloc_buffer_pages(xencall_handle *, size_t n)
{
	return map_pages(n);
}

void xencall_free_buffer_pages(xencall_handle *, void *p, size_t n)
{
	if (p)
		munmap(p, n * PAGE);
}

void *xencall_alloc_buffer(xencall_handle *, size_t size)
{
	return calloc(1, size);
}

void xencall_free_buffer(xencall_handle *, void *p)
{
	free(p);
}

/* libxenforeignmemory: every guest page is a fresh page of zeroes. */

static xenforeignmemory_handle memory_handle;

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *, unsigned)
{
	return &memory_handle;
}

int xenforeignmemory_close(xenforeignmemory_handle *) { return 0; }

void *xenforeignmemory_map2(xenforeignmemory_handle *, uint32_t, void *, int, int,
			    size_t n, const xen_pfn_t *, int *err)
{
	if (err)
		memset(err, 0, n * sizeof(*err));
	return map_pages(n);
}

void *xenforeignmemory_map(xenforeignmemory_handle *h, uint32_t dom, int prot, size_t n,
			   const xen_pfn_t *frames, int *err)
{
	return xenforeignmemory_map2(h, dom, NULL, prot, 0, n, frames, err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *, void *p, size_t n)
{
	return munmap(p, n * PAGE);
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(
	xenforeignmemory_handle *, domid_t, unsigned int, unsigned int, unsigned long,
	unsigned long n, void **addr, int, int)
{
	xenforeignmemory_resource_handle *res = malloc(sizeof(*res));

	if (!res)
		return NULL;
	res->pages = n;
	res->addr = *addr = map_pages(n);
	return res;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *,
				    xenforeignmemory_resource_handle *res)
{
	if (res) {
		munmap(res->addr, res->pages * PAGE);
		free(res);
	}
	return 0;
}

/* libxendevicemodel and libxengnttab */

static xendevicemodel_handle model_handle;

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *, unsigned)
{
	return &model_handle;
}

int xendevicemodel_close(xendevicemodel_handle *) { return 0; }

static struct xengntdev_handle grant_handle;

xengnttab_handle *xengnttab_open(struct xentoollog_logger *, unsigned)
{
	return &grant_handle;
}

int xengnttab_close(xengnttab_handle *) { return 0; }
int xengnttab_set_max_grants(xengnttab_handle *, uint32_t) { return 0; }

void *xengnttab_map_grant_ref(xengnttab_handle *, uint32_t, uint32_t, int)
{
	return map_pages(1);
}

int xengnttab_unmap(xengnttab_handle *, void *p, uint32_t n)
{
	return munmap(p, (size_t)n * PAGE);
}

/* libxenevtchn: the daemon's only event is the FIFO; a toolstack never gets one. */

static int virq_open(void)
{
	char path[512];

	state_path(path, sizeof(path), "virq");
	if (mkfifo(path, 0600) && errno != EEXIST)
		return -1;
	/* Read and write: no EOF between two interrupts. */
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static xenevtchn_handle *evtchn_handle(int fd)
{
	xenevtchn_handle *h = fd < 0 ? NULL : malloc(sizeof(*h));

	if (h)
		h->fd = fd;
	return h;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *, unsigned int)
{
	return evtchn_handle(in_xenstored() ? virq_open() : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *, int fd, unsigned)
{
	return evtchn_handle(fd);
}

int xenevtchn_close(xenevtchn_handle *h)
{
	if (h) {
		close(h->fd);
		free(h);
	}
	return 0;
}

int xenevtchn_fd(xenevtchn_handle *h) { return h->fd; }
int xenevtchn_notify(xenevtchn_handle *, evtchn_port_t) { return 0; }
int xenevtchn_unbind(xenevtchn_handle *, evtchn_port_t) { return 0; }
int xenevtchn_unmask(xenevtchn_handle *, evtchn_port_t) { return 0; }

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *, unsigned int)
{
	return VIRQ_PORT;
}

static xenevtchn_port_or_error_t next_port(void)
{
	static int port = VIRQ_PORT;

	return ++port;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *, uint32_t)
{
	return next_port();
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *, uint32_t, evtchn_port_t)
{
	return next_port();
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
	char many[512];

	/* Interrupts that came together are one interrupt. */
	return read(h->fd, many, sizeof(many)) > 0 ? VIRQ_PORT : -1;
}

/* libc, for the daemon: dom0's ring and port come from a /proc/xen that is not there. */

static int memfd_with(const char *text, size_t size)
{
	int fd = memfd_create("fakehv", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size) || pwrite(fd, text, strlen(text), 0) < 0)
		return -1;
	return fd;
}

static int proc_xen(const char *path)
{
	if (!strcmp(path, "/proc/xen/xsd_port"))
		return memfd_with("2\n", 2);
	if (!strcmp(path, "/proc/xen/xsd_kva"))
		return memfd_with("", PAGE);
	return -1;
}

typedef int open_fn(const char *, int, ...);

static int open_as(const char *symbol, const char *path, int flags, mode_t mode)
{
	open_fn *real = (open_fn *)dlsym(RTLD_NEXT, symbol);

	if (in_xenstored() && !strncmp(path, "/proc/xen/", strlen("/proc/xen/")))
		return proc_xen(path);
	return real ? real(path, flags, mode) : fail(ENOSYS);
}

#define OPEN(name)							\
	int name(const char *path, int flags, ...)			\
	{								\
		mode_t mode;						\
		va_list args;						\
									\
		va_start(args, flags);					\
		mode = va_arg(args, mode_t);	/* garbage without O_CREAT: open ignores it */ \
		va_end(args);						\
		return open_as(#name, path, flags, mode);		\
	}

OPEN(open)
OPEN(open64)

/* Raising limits needs a capability that a container's root may lack. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return in_xenstored() ? 0 : prlimit(0, resource, limit, NULL);
}
