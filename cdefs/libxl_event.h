/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxl_event.h: libxl's event loop, driven by ours. */

struct pollfd { int fd; short events; short revents; ...; };
struct timeval { long tv_sec; long tv_usec; ...; };

#define LIBXL_EVENT_TYPE_OPERATION_COMPLETE ...
#define LIBXL_EVENT_TYPE_DOMAIN_CREATE_CONSOLE_AVAILABLE ...

typedef struct {
    libxl_domid domid;
    uint64_t for_user;
    int type;
    ...;
} libxl_event;
int xlmt_event_rc(const libxl_event *event);
int libxl_event_check(libxl_ctx *ctx, libxl_event **event_r, uint64_t typemask,
                      int (*predicate)(const libxl_event *, void *), void *predicate_user);
void xlmt_survive_disasters(libxl_ctx *ctx);
unsigned int xlmt_disasters(void);
void libxl_event_free(libxl_ctx *ctx, libxl_event *event);

int libxl_osevent_beforepoll(libxl_ctx *ctx, int *nfds_io, struct pollfd *fds, int *timeout_upd,
                             struct timeval now);
void libxl_osevent_afterpoll(libxl_ctx *ctx, int nfds, const struct pollfd *fds,
                             struct timeval now);

#define libxl_sigchld_owner_libxl_always_selective_reap ...
typedef struct { int chldowner; ...; } libxl_childproc_hooks;
void libxl_childproc_setmode(libxl_ctx *ctx, const libxl_childproc_hooks *hooks, void *user);
void libxl_postfork_child_noexec(libxl_ctx *ctx);
