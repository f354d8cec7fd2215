/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the interposer does to the first xs_rm() of a transaction. */
#include "interposer_cases.h"

/* --- creation ------------------------------------------------------------------------------ */

CASE(creation_writes_the_node_first)
{
	check(xs_transaction_start(H) == 1);
	check(xs_rm(H, 1, HOME));
	requests_are("h1 t1 start\n" PROTECTED("1") "h1 t1 rm " HOME "\n");
	check(!times_said);
}

CASE(creation_is_seen_behind_other_transactions)
{
	xs_transaction_start(H);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 2, HOME);
	requests_are(PROTECTED("2") "h1 t2 rm " HOME "\n");
}

CASE(creation_reports_the_real_result_and_errno)
{
	xs_transaction_start(H);
	stub_fail("rm", 1, HOME, EACCES);
	errno = 0;
	check(!xs_rm(H, 1, HOME));
	check(errno == EACCES);
}

CASE(second_rm_of_a_transaction_is_no_creation)
{
	xs_transaction_start(H);
	xs_rm(H, 1, HOME);
	stub_forget();
	xs_rm(H, 1, HOME);
	xs_rm(H, 1, "/local/domain/6");
	requests_are("h1 t1 rm " HOME "\nh1 t1 rm /local/domain/6\n");
}

CASE(climbing_from_a_device_is_no_creation)
{
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, HOME "/device/vif/0");
	xs_rm(H, 1, HOME "/device/vif");
	xs_rm(H, 1, HOME "/device");
	xs_rm(H, 1, HOME);
	requests_are("h1 t1 rm " HOME "/device/vif/0\nh1 t1 rm " HOME "/device/vif\n"
		     "h1 t1 rm " HOME "/device\nh1 t1 rm " HOME "\n");
}

CASE(another_handle_is_no_creation)
{
	xs_transaction_start(H);
	stub_forget();
	xs_rm(STUB_HANDLE(2), 1, HOME);
	requests_are("h2 t1 rm " HOME "\n");
}

CASE(another_transaction_is_no_creation)
{
	xs_transaction_start(H);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, HOME);
	requests_are("h1 t1 rm " HOME "\n");
}

static void *rm_home(void *unused)
{
	(void)unused;
	xs_rm(H, 1, HOME);
	return NULL;
}

CASE(another_threads_transaction_is_no_creation)
{
	pthread_t thread;

	xs_transaction_start(H);
	stub_forget();
	check(!pthread_create(&thread, NULL, rm_home, NULL));
	check(!pthread_join(thread, NULL));
	requests_are("h1 t1 rm " HOME "\n");
	stub_forget();
	xs_rm(H, 1, HOME);       /* and it took nothing from the thread that started it */
	requests_are(PROTECTED("1") "h1 t1 rm " HOME "\n");
}

CASE(outside_any_transaction_is_no_creation)
{
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, XBT_NULL, HOME);
	requests_are("h1 t0 rm " HOME "\n");
}

CASE(a_request_outside_does_not_use_up_the_transaction)
{
	xs_transaction_start(H);
	xs_rm(H, XBT_NULL, "/vm/x");
	stub_forget();
	xs_rm(H, 1, HOME);
	requests_are(PROTECTED("1") "h1 t1 rm " HOME "\n");
}

CASE(a_transaction_that_did_not_start_is_no_creation)
{
	stub_next_transaction(0);
	errno = 0;
	check(xs_transaction_start(H) == XBT_NULL);
	check(errno == ENOSPC);
	xs_rm(H, XBT_NULL, HOME);
	requests_are("h1 t0 start\nh1 t0 rm " HOME "\n");
}

CASE(a_failed_start_forgets_the_transaction_before)
{
	xs_transaction_start(H);
	stub_next_transaction(0);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, HOME);
	requests_are("h1 t1 rm " HOME "\n");
}

CASE(every_attempt_after_eagain_writes_the_node_again)
{
	xs_transaction_start(H);
	xs_rm(H, 1, HOME);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 2, HOME);
	requests_are(PROTECTED("2") "h1 t2 rm " HOME "\n");
}

/* --- paths --------------------------------------------------------------------------------- */

static void creates(const char *path, const char *domid)
{
	char expected[1024];

	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, path);
	snprintf(expected, sizeof(expected),
		 "h1 t1 rm " MTWATCH "/%s\nh1 t1 mkdir " MTWATCH "/%s\nh1 t1 perms " MTWATCH "/%s n0\n"
		 "h1 t1 rm %s\n", domid, domid, domid, path);
	requests_are(expected);
}

static void passes_through(const char *path)
{
	char expected[1024];

	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, path);
	xs_rm(H, XBT_NULL, path);
	snprintf(expected, sizeof(expected), "h1 t1 rm %s\nh1 t0 rm %s\n", path, path);
	requests_are(expected);
	check(!times_said && !sysfs.bus.times_opened);
}

CASE(path_of_the_first_domid) { creates("/local/domain/1", "1"); }
CASE(path_of_the_last_domid) { creates("/local/domain/32751", "32751"); }
CASE(path_of_domain_0) { passes_through("/local/domain/0"); }
CASE(path_of_a_reserved_domid) { passes_through("/local/domain/32752"); }
CASE(path_with_a_leading_zero) { passes_through("/local/domain/05"); }
CASE(path_with_a_huge_number) { passes_through("/local/domain/99999999999999999999"); }
CASE(path_with_a_number_that_wraps) { passes_through("/local/domain/4294967301"); }
CASE(path_with_a_sign) { passes_through("/local/domain/+5"); }
CASE(path_with_a_minus) { passes_through("/local/domain/-5"); }
CASE(path_with_a_space) { passes_through("/local/domain/ 5"); }
CASE(path_in_hexadecimal) { passes_through("/local/domain/0x5"); }
CASE(path_with_a_trailing_slash) { passes_through("/local/domain/5/"); }
CASE(path_with_letters) { passes_through("/local/domain/5a"); }
CASE(path_below_the_domain) { passes_through("/local/domain/5/device"); }
CASE(path_without_a_domid) { passes_through("/local/domain/"); }
CASE(path_of_all_domains) { passes_through("/local/domain"); }
CASE(path_that_is_empty) { passes_through(""); }
CASE(path_that_is_relative) { passes_through("local/domain/5"); }
CASE(path_elsewhere) { passes_through("/vm/local/domain/5"); }
CASE(path_of_hvmloader_of_domain_0) { passes_through("/local/domain/0/hvmloader"); }
CASE(path_of_hvmloader_with_a_leading_zero) { passes_through("/local/domain/05/hvmloader"); }
CASE(path_of_hvmloader_of_a_reserved_domid) { passes_through("/local/domain/32752/hvmloader"); }
CASE(path_below_hvmloader) { passes_through("/local/domain/5/hvmloader/bios"); }
CASE(path_like_hvmloader) { passes_through("/local/domain/5/hvmloader2"); }
CASE(path_of_hvmloader_deeper) { passes_through("/local/domain/5/x/hvmloader"); }

/* --- creation when our own part fails ------------------------------------------------------- */

CASE(missing_parent_is_made_outside_the_transaction)
{
	stub_fail("rm", 1, NODE, ENOENT);
	xs_transaction_start(H);
	stub_forget();
	check(xs_rm(H, 1, HOME));
	requests_are("h1 t1 rm " NODE "\n"
		     "h1 t0 mkdir " MTWATCH "\nh1 t0 perms " MTWATCH " n0\n"
		     "h1 t1 mkdir " NODE "\nh1 t1 perms " NODE " n0\n"
		     "h1 t1 rm " HOME "\n");
	check(!times_said);
}

CASE(parent_is_not_touched_after_another_error)
{
	stub_fail("rm", 1, NODE, EIO);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, HOME);
	requests_are(PROTECTED("1") "h1 t1 rm " HOME "\n");
}

CASE(parent_that_cannot_be_made_does_not_stop_the_node)
{
	stub_fail("rm", 1, NODE, ENOENT);
	stub_fail("mkdir", 0, MTWATCH, EACCES);
	xs_transaction_start(H);
	stub_forget();
	check(xs_rm(H, 1, HOME));
	requests_are("h1 t1 rm " NODE "\nh1 t0 mkdir " MTWATCH "\n"
		     "h1 t1 mkdir " NODE "\nh1 t1 perms " NODE " n0\n"
		     "h1 t1 rm " HOME "\n");
}

CASE(failed_mkdir_leaves_the_creation_alone_and_is_said)
{
	stub_fail("mkdir", 1, NODE, ENOSPC);
	xs_transaction_start(H);
	stub_forget();
	check(xs_rm(H, 1, HOME));
	requests_are("h1 t1 rm " NODE "\nh1 t1 mkdir " NODE "\nh1 t1 rm " HOME "\n");
	check(times_said == 1 && says("5: cannot write " NODE ": No space left on device"));
	check(says("xlmt repair 5") == 1);
}

CASE(failed_permissions_leave_the_creation_alone_and_are_said)
{
	stub_fail("perms", 1, NODE, EPERM);
	xs_transaction_start(H);
	stub_forget();
	check(xs_rm(H, 1, HOME));
	requests_are(PROTECTED("1") "h1 t1 rm " HOME "\n");
	check(times_said == 1 && says("5: cannot write " NODE ": Operation not permitted"));
}

CASE(our_failure_does_not_replace_the_real_errno)
{
	stub_fail("mkdir", 1, NODE, ENOSPC);
	stub_fail("rm", 1, HOME, EACCES);
	xs_transaction_start(H);
	errno = 0;
	check(!xs_rm(H, 1, HOME));
	check(errno == EACCES && times_said == 1);
}

static void attempt_200_times(const char *home)
{
	for (int i = 0; i < 200; i++)
		xs_rm(H, xs_transaction_start(H), home);
}

CASE(a_failure_is_said_once_over_200_eagain_and_again_for_another_domain)
{
	stub_fail("mkdir", ANY_TRANSACTION, NODE, ENOSPC);
	stub_fail("perms", ANY_TRANSACTION, MTWATCH "/6", ENOSPC);
	attempt_200_times(HOME);
	check(times_said == 1);
	attempt_200_times("/local/domain/6");
	check(times_said == 2 && says("6: cannot write") == 1);
}

CASE(another_failure_of_the_same_domain_is_said)
{
	stub_fail("mkdir", ANY_TRANSACTION, NODE, ENOSPC);
	xs_rm(H, xs_transaction_start(H), HOME);
	stub_fail("mkdir", ANY_TRANSACTION, NODE, EACCES);
	xs_rm(H, xs_transaction_start(H), HOME);
	check(times_said == 2 && says("Permission denied") == 1);
}

CASE(the_same_removal_by_a_program_without_libxl_is_no_creation)
{
	xs_transaction_t t = xs_transaction_start(H);

	arming = XLMT_INTERPOSER_NO_LIBXL;
	check(xs_rm(H, t, HOME));
	check(!says(NODE) && !strstr(stub_record(), NODE));
}
