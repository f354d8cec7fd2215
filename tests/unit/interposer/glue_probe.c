/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cdefs/glue.h as the generated extension includes it, with C in Python's place.
 *
 * glue_probe FILE KEY: the setting's value and what libxlutil complains of, one line each, behind
 * what the loggers were told.
 */
#include "glue.h"

#include <inttypes.h>

static void xlmt_libxl_says(int level, int errnoval, const char *context, const char *message)
{
	printf("%s %d <%s> <%s>\n", xtl_level_to_string(level), errnoval, context, message);
}

static void xlmt_interposer_says(unsigned int domid, const char *line)
{
	printf("%u <%s>\n", domid, line);
}

static void xlmt_creation_begins(unsigned int domid)
{
	printf("%u begins\n", domid);
}

xlmt_interposer_log_fn *xlmt_interposer_log;
xlmt_interposer_creates_fn *xlmt_interposer_creates;

static void tell_loggers(void)
{
	xtl_log(xlmt_logger(), XTL_ERROR, 2, "libxl", "no %s %d", "disk", 7);
	xtl_log(xlmt_logger(), XTL_DEBUG, -1, NULL, "%s", "plain");
	xtl_progress(xlmt_logger(), "libxl", "nobody listens", 1, 2);
	xlmt_interposer_says_to_python();
	xlmt_interposer_log(5, "line");
	xlmt_interposer_creates(6);
}

static void survive(void)
{
	void (*volatile unused)(libxl_ctx *ctx) = xlmt_survive_disasters;    /* needs a context */

	(void)unused;
	xlmt_disaster(NULL, LIBXL_EVENT_TYPE_DOMAIN_DEATH, "the connection broke", 5);
	printf("%u\n", xlmt_disasters());
}

static void ask_for_events(void)
{
	libxl_asyncop_how how;
	libxl_asyncprogress_how progress;

	memset(&how, 0xAA, sizeof(how));
	memset(&progress, 0xAA, sizeof(progress));
	xlmt_ask_for_events(&how, &progress, UINT64_MAX - 1);
	printf("%d %" PRIu64 " %d %" PRIu64 "\n", !how.callback, how.u.for_event,
	       !progress.callback, progress.for_event);
}

static void event_rc(void)
{
	libxl_event event = { .type = LIBXL_EVENT_TYPE_OPERATION_COMPLETE };

	event.u.operation_complete.rc = ERROR_ABORTED;
	printf("%d\n", xlmt_event_rc(&event) == ERROR_ABORTED);
}

int main(int argc, char **argv)
{
	char *problem = NULL, *value;

	if (argc != 3)
		return 2;
	tell_loggers();
	survive();
	ask_for_events();
	event_rc();
	printf("%d\n", strstr(xlmt_libxl_file(), "/libxenlight.so") != NULL);
	value = xlmt_conf_string(argv[1], argv[2], &problem);
	printf("%s\n%s\n", value ? value : "(none)", problem ? problem : "(none)");
	free(value);
	free(problem);
	return 0;
}
