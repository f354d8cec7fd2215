/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program that loads libraries the way it is told, and then tells what became of the interposer:
 *
 *   loader STORE [global=FILE] [local=FILE] [deepbind=FILE] [create] [ask] [env]
 *
 * create: let libxenlight make a domain, and say whether its node was written.
 * ask: say what xlmt_interposer_arming() answers.  env: say what LD_PRELOAD is.
 * STORE is the libxenstore of the test. One line per answer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interposer.h"

#ifndef RTLD_DEEPBIND    /* musl has no such thing */
#define RTLD_DEEPBIND 0
#endif

#define FILES_MAX 8

static void *files[FILES_MAX];
static int file_count;

static void load(const char *file, int flags)
{
	files[file_count] = dlopen(file, RTLD_NOW | flags);
	if (!files[file_count++]) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
}

/* In what was there from the start, or in what was loaded since. */
static void *find(const char *name)
{
	void *symbol = dlsym(RTLD_DEFAULT, name);

	for (int i = 0; !symbol && i < file_count; i++)
		symbol = dlsym(files[i], name);
	if (!symbol) {
		fprintf(stderr, "%s is nowhere\n", name);
		exit(2);
	}
	return symbol;
}

static void ask(void)
{
	static const char *const answers[] = {
		[XLMT_INTERPOSER_ARMED] = "armed",
		[XLMT_INTERPOSER_BYPASSED] = "bypassed",
		[XLMT_INTERPOSER_NO_LIBXL] = "no libxl",
		[XLMT_INTERPOSER_UNREADABLE] = "unreadable",
		[XLMT_INTERPOSER_DEAD_END] = "dead end",
	};
	enum xlmt_interposer_arming (*arming)(void) =
		(enum xlmt_interposer_arming (*)(void))find("xlmt_interposer_arming");

	puts(answers[arming()]);
}

static void create(const char *store_file)
{
	void *store = dlopen(store_file, RTLD_NOW | RTLD_NOLOAD);
	const char *(*record)(void);

	((void (*)(void))find("fake_libxl_create"))();
	record = store ? (const char *(*)(void))dlsym(store, "stub_record") : NULL;
	puts(record && strstr(record(), "mkdir /local/domain/0/mtwatch/5\n") ? "node" : "no node");
}

static void obey(const char *order, const char *store)
{
	const char *file = strchr(order, '=');

	if (!strncmp(order, "global=", 7))
		load(file + 1, RTLD_GLOBAL);
	else if (!strncmp(order, "local=", 6))
		load(file + 1, RTLD_LOCAL);
	else if (!strncmp(order, "deepbind=", 9))
		load(file + 1, RTLD_LOCAL | RTLD_DEEPBIND);
	else if (!strcmp(order, "create"))
		create(store);
	else if (!strcmp(order, "ask"))
		ask();
	else if (!strcmp(order, "env"))
		puts(getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "unset");
	else
		exit(2);
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc && file_count < FILES_MAX; i++)
		obey(argv[i], argv[1]);
	return 0;
}
