/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stub_xenstore.h"

#define FAILURES 8

static char record[1 << 20];
static size_t used;
static xs_transaction_t next_transaction = 1;
static struct {
	const char *request, *path;
	xs_transaction_t t;
	int errnoval;
} failures[FAILURES];

const char *stub_record(void)
{
	return record;
}

void stub_forget(void)
{
	used = 0;
	record[0] = '\0';
}

void stub_next_transaction(xs_transaction_t t)
{
	next_transaction = t;
}

void stub_fail(const char *request, xs_transaction_t t, const char *path, int errnoval)
{
	int i = 0;

	while (failures[i].request && (strcmp(failures[i].request, request) ||
				       strcmp(failures[i].path, path) || failures[i].t != t))
		if (++i == FAILURES)
			abort();
	failures[i].request = request;
	failures[i].path = path;
	failures[i].t = t;
	failures[i].errnoval = errnoval;
}

static bool answer(const char *request, xs_transaction_t t, const char *path)
{
	errno = STUB_ERRNO_AFTER_SUCCESS;
	for (int i = 0; i < FAILURES && failures[i].request; i++) {
		if (strcmp(failures[i].request, request) || strcmp(failures[i].path, path))
			continue;
		if (failures[i].t != t && failures[i].t != ANY_TRANSACTION)
			continue;
		if (failures[i].errnoval) {
			errno = failures[i].errnoval;
			return false;
		}
	}
	return true;
}

__attribute__((format(printf, 3, 4)))
static void note(struct xs_handle *h, xs_transaction_t t, const char *format, ...)
{
	va_list args;

	used += snprintf(record + used, sizeof(record) - used, "h%zu t%u ",
			 (size_t)(uintptr_t)h, t);
	va_start(args, format);
	used += vsnprintf(record + used, sizeof(record) - used, format, args);
	va_end(args);
	used += snprintf(record + used, sizeof(record) - used, "\n");
	if (used >= sizeof(record))
		abort();
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
	xs_transaction_t t = next_transaction;

	if (next_transaction)
		next_transaction++;
	else
		errno = ENOSPC;
	note(h, t, "start");
	return t;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	note(h, t, "rm %s", path);
	return answer("rm", t, path);
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	note(h, t, "mkdir %s", path);
	return answer("mkdir", t, path);
}

static char letter(unsigned int perms)
{
	return "nrwb"[perms & (XS_PERM_READ | XS_PERM_WRITE)];
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path,
			struct xs_permissions *perms, unsigned int num_perms)
{
	if (num_perms == 1)
		note(h, t, "perms %s %c%u", path, letter(perms[0].perms), perms[0].id);
	else
		note(h, t, "perms %s of %u", path, num_perms);
	return answer("perms", t, path);
}
