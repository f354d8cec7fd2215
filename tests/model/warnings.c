// SPDX-License-Identifier: GPL-2.0-only
/*
 * A callback that takes longer than warn_secs is told of, once; and so is a xenwatch that does not
 * answer.
 *
 * What the module says is its own affair, when it says it is the scheduler's: so this counts, for
 * everybody who runs callbacks, and demands a warning only where nobody was passed over.
 */
#include "kernel.h"

#undef snprintf

#define SLACK NSEC		/* of whoever warns, in which he needs no more than to have his turn */

struct record {
	int pid;
	uint64_t began;
	unsigned int secs;		/* that a callback may take; 0: for ever */
	unsigned long hurries;
	unsigned int told, told_now;	/* so often there was a warning; in the current callback */
	char path[96];			/* the current callback's */
	unsigned int told_path;		/* so often of this path, in the current callback */
	char untold[4][96];		/* of callbacks that were due and not told of, yet */
	unsigned int n_untold;
	unsigned int due;		/* so many callbacks that have ended took too long, or may have */
	struct record *next;
};

static struct record *records;
static unsigned int silences;
static uint64_t set_at;			/* the parameter; 0: never */

static struct record *record_of(int pid)
{
	struct record *r = records;

	while (r && r->pid != pid)
		r = r->next;
	return r;
}

void warn_secs_are_set(void)
{
	set_at = now;
}

void callback_is_recorded(const char *path)
{
	struct record *r = record_of(running->pid);

	if (!r) {
		r = calloc(1, sizeof(*r));
		r->pid = running->pid;
		r->next = records;
		records = r;
	}
	r->began = now;
	r->secs = module_uint("warn_secs");
	r->hurries = hurries;
	r->told_now = 0;
	r->told_path = 0;
	snprintf(r->path, sizeof(r->path), "%s", path);
}

void callback_is_over(s64 ns)
{
	struct record *r = record_of(running->pid);
	bool sure = !set_at || set_at + SLACK < r->began;	/* of @secs */
	bool due = !sure || (r->secs && ns >= (s64)(r->secs * NSEC));

	r->due += due;
	if (due && !r->told_now)
		strcpy(r->untold[r->n_untold++ % ARRAY_SIZE(r->untold)], r->path);
	expect(r->told <= r->due, "%s: %u warnings, and %u callbacks took too long", running->name,
	       r->told, r->due);
	/* He was not passed over either, between the time that he took and the timer that he set. */
	if (sure && r->secs && r->hurries == hurries && stolen_until < r->began &&
	    r->began < now - ns + SLACK)
		expect(r->told_now || ns < (s64)(r->secs * NSEC + SLACK),
		       "%s: a callback of %lld ms is not warned about", running->name,
		       (long long)(ns / NSEC_PER_MSEC));
}

void warning_is_printed(const char *text)
{
	const char *found = strstr(text, "(pid "), *path;
	unsigned int late = 0;
	struct record *r;
	int pid;

	silences += strstr(text, "xenwatch has not answered") != NULL;
	if (!found || sscanf(found, "(pid %d) has been in", &pid) != 1)
		return;
	r = record_of(pid);
	expect(r, "a warning about pid %d, which has run no callback", pid);
	r->told++;
	r->told_now++;
	expect(r->told <= r->due + 1, "%s: %u warnings, and at most %u callbacks took too long", text,
	       r->told, r->due + 1);
	path = strstr(text, " on ") + 4;
	if (strncmp(path, r->path, strlen(r->path)) || path[strlen(r->path)] != ';')
		return;
	for (size_t i = 0; i < ARRAY_SIZE(r->untold); i++)
		late += !strcmp(r->untold[i], r->path);
	expect(++r->told_path <= 1 + late, "%s: once more, for one callback", text);
}

unsigned int warned_of_silence(void)
{
	return silences;
}
