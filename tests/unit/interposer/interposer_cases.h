/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hooks/interposer.c, the file itself, on a record of xenstore requests and a faked kernel; what
 * the cases check it with, and the program that runs them.
 *
 * Each CASE is run in a process of its own: PROGRAM NAME. It ends with 0, or says what it saw and
 * ends with 1. Without a name the program lists them, and ends with 2.
 */
#ifndef MTWATCH_CASES_H
#define MTWATCH_CASES_H

#include "surroundings.h"

#include "interposer.c"

#include <pthread.h>

#include "stub_xenstore.h"

/* What armed.c finds in the program around the interposer. */
static enum xlmt_interposer_arming arming = XLMT_INTERPOSER_ARMED;

enum xlmt_interposer_arming xlmt_interposer_arming(void)
{
	return arming;
}

#define H STUB_HANDLE(1)
#define HOME "/local/domain/5"
#define NODE "/local/domain/0/mtwatch/5"
#define PROTECTED(t)                 \
	"h1 t" t " rm " NODE "\n"    \
	"h1 t" t " mkdir " NODE "\n" \
	"h1 t" t " perms " NODE " n0\n"
#define CASES_MAX 100

static struct {
	const char *name;
	void (*run)(void);
} cases[CASES_MAX];
static int case_count;

#define CASE(function)                                                  \
	static void function(void);                                     \
	__attribute__((constructor)) static void add_##function(void)   \
	{                                                               \
		cases[case_count].name = #function;                     \
		cases[case_count++].run = function;                     \
	}                                                               \
	static void function(void)

/* --- what was said, and checks ------------------------------------------------------------- */

static char said[4096];
static int times_said;

static void listen(unsigned int domid, const char *line)
{
	size_t used = strlen(said);

	times_said++;
	snprintf(said + used, sizeof(said) - used, "%u: %s\n", domid, line);
	errno = ENOTTY;          /* a logger may do anything to errno */
}

#define check(truth) check_that(truth, #truth, __LINE__)

static void check_that(bool truth, const char *what, int line)
{
	if (truth)
		return;
	fprintf(stderr, "line %d: not so: %s\nrequests:\n%ssaid (%d):\n%s", line, what,
		stub_record(), times_said, said);
	exit(1);
}

#define requests_are(expected) requests_are_at(expected, __LINE__)

static void requests_are_at(const char *expected, int line)
{
	if (!strcmp(stub_record(), expected))
		return;
	fprintf(stderr, "line %d: expected:\n%sbut saw:\n%ssaid:\n%s", line, expected,
		stub_record(), said);
	exit(1);
}

static int says(const char *text)
{
	int count = 0;

	for (const char *at = said; (at = strstr(at, text)); at++)
		count++;
	return count;
}

/* --- one of them ----------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	xlmt_interposer_log = listen;
	for (int i = 0; argc == 2 && i < case_count; i++) {
		if (strcmp(cases[i].name, argv[1]))
			continue;
		cases[i].run();
		check(!sysfs.open_now);
		return 0;
	}
	for (int i = 0; i < case_count; i++)
		puts(cases[i].name);
	return 2;
}

#endif
