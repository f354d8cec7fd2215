/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What cffi cannot express. Included at the top of the generated extension; the functions that
 * are "Python" in the declarations are defined further down in there.
 */
#ifndef _GNU_SOURCE    /* Python's own headers define it, too */
#define _GNU_SOURCE
#endif
#define LIBXL_API_VERSION 0x041400
#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <libxl.h>
#include <libxl_event.h>
#include <libxl_utils.h>
#include <libxlutil.h>
#include <xentoollog.h>

#include "interposer.h"

static void xlmt_libxl_says(int level, int errnoval, const char *context, const char *message);
static void xlmt_interposer_says(unsigned int domid, const char *line);
static void xlmt_creation_begins(unsigned int domid);

/* --- a logger whose messages end up in Python ---------------------------------------------- */

static pid_t xlmt_python;

static void xlmt_vmessage(xentoollog_logger *logger, xentoollog_level level, int errnoval,
			  const char *context, const char *format, va_list args)
{
	char *message;

	(void)logger;
	/*
	 * libxl logs in children it forks, too. There the interpreter is a copy, with a lock that
	 * a thread of the parent may have held: never wait for it.
	 */
	if (getpid() != xlmt_python) {
		vfprintf(stderr, format, args);
		fputc('\n', stderr);
		return;
	}
	if (vasprintf(&message, format, args) < 0)
		return;
	xlmt_libxl_says(level, errnoval, context ? context : "", message);
	free(message);
}

static xentoollog_logger *xlmt_logger(void)
{
	static xentoollog_logger logger = { .vmessage = xlmt_vmessage };

	xlmt_python = getpid();
	return &logger;
}

static void xlmt_interposer_says_to_python(void)
{
	xlmt_interposer_log = xlmt_interposer_says;
	xlmt_interposer_creates = xlmt_creation_begins;
}

/* --- what libxl would end the process for -------------------------------------------------- */

static unsigned int xlmt_disaster_count;

static void xlmt_disaster(void *user, libxl_event_type type, const char *msg, int errnoval)
{
	(void)user, (void)type, (void)msg, (void)errnoval;    /* libxl has logged it */
	xlmt_disaster_count++;
}

/* Without this libxl exits, with status -1, when its connection to xenstored breaks. */
static void xlmt_survive_disasters(libxl_ctx *ctx)
{
	static const libxl_event_hooks hooks = { .disaster = xlmt_disaster };

	libxl_event_register_callbacks(ctx, &hooks, NULL);
}

static unsigned int xlmt_disasters(void)
{
	return xlmt_disaster_count;
}

static const char *xlmt_libxl_file(void)
{
	Dl_info libxl;

	return dladdr((void *)libxl_ctx_alloc, &libxl) ? libxl.dli_fname : "";
}

/* --- unnamed unions, which cffi's API mode cannot look into ---------------------------------- */

static void xlmt_ask_for_events(libxl_asyncop_how *completion_r,
				libxl_asyncprogress_how *progress_r, uint64_t for_user)
{
	*completion_r = (libxl_asyncop_how){ .u.for_event = for_user };
	*progress_r = (libxl_asyncprogress_how){ .for_event = for_user };
}

/* The result that an OPERATION_COMPLETE event tells. */
static int xlmt_event_rc(const libxl_event *event)
{
	return event->u.operation_complete.rc;
}

/* --- one setting of a file in xl's syntax --------------------------------------------------- */

/* Its value, or NULL when it is not set; *problem_r is what libxlutil complains of, or "". */
static char *xlmt_conf_string(const char *path, const char *key, char **problem_r)
{
	const char *value;
	char *copy = NULL;
	size_t size;
	FILE *report = open_memstream(problem_r, &size);
	XLU_Config *conf = report ? xlu_cfg_init(report, path) : NULL;

	if (conf && !xlu_cfg_readfile(conf, path) && !xlu_cfg_get_string(conf, key, &value, 1))
		copy = strdup(value);
	if (conf)
		xlu_cfg_destroy(conf);
	if (report)
		fclose(report);
	return copy;
}
