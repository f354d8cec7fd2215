/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the interposer does behind the last request of a teardown. */
#include "interposer_cases.h"

/* --- teardown ------------------------------------------------------------------------------- */

#define LAST HOME "/hvmloader"
#define KEPT "h1 t0 rm " LAST "\n"
#define REMOVED KEPT "h1 t0 rm " NODE "\n"

CASE(teardown_removes_the_node_after_the_last_request)
{
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(REMOVED);
	check(!times_said && !sleeper.sleeps);
	check(sysfs.bus.times_opened == 1 && sysfs.top.times_opened == 1);
}

CASE(teardown_reports_the_real_result_and_errno)
{
	stub_fail("rm", 0, LAST, ENOENT);
	stub_fail("rm", 0, NODE, EIO);
	errno = 0;
	check(!xs_rm(H, XBT_NULL, LAST));
	check(errno == ENOENT);
	requests_are(REMOVED);
}

CASE(teardown_reports_the_real_errno_after_a_wait)
{
	sysfs.bus.devices[0] = "vif-5-0";
	stub_fail("rm", 0, LAST, ENOENT);
	check(!xs_rm(H, XBT_NULL, LAST));
	check(errno == ENOENT && times_said == 1);
}

CASE(hvmloader_inside_a_transaction_is_no_teardown)
{
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, LAST);
	requests_are("h1 t1 rm " LAST "\n");
	check(!sysfs.bus.times_opened && !sysfs.top.times_opened);
}

CASE(a_node_that_is_gone_already_is_fine)
{
	stub_fail("rm", 0, NODE, ENOENT);
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(REMOVED);
	check(!times_said);
}

CASE(a_node_that_cannot_be_removed_is_said)
{
	stub_fail("rm", 0, NODE, EACCES);
	check(xs_rm(H, XBT_NULL, LAST));
	check(times_said == 1 && says("5: cannot remove " NODE ": Permission denied") == 1);
	check(says("xlmt reconcile") == 1);
}

CASE(a_held_device_keeps_the_node_after_a_bounded_wait)
{
	sysfs.bus.devices[0] = "vbd-5-51712";
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(KEPT);
	check(times_said == 1 && says("5: keeping " NODE) == 1 && says("vbd-5-51712") == 1);
	check(sleeper.slept_ms >= 1000 && sleeper.slept_ms <= 3000);
	check(sleeper.sleeps <= 60 && sleeper.longest_ms <= 200);
}

CASE(a_device_that_goes_during_the_wait_does_not_keep_the_node)
{
	sysfs.bus.devices[0] = "vif-5-0";
	sysfs.gone_after_ms = 700;
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(REMOVED);
	check(!times_said && sleeper.slept_ms >= 700 && sleeper.slept_ms <= 1000);
}

CASE(the_usual_few_milliseconds_are_not_rounded_up)
{
	sysfs.bus.devices[0] = "vif-5-0";
	sysfs.gone_after_ms = 5;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(REMOVED);
	check(sleeper.slept_ms < 20);
}

CASE(a_device_that_goes_at_the_very_end_does_not_keep_the_node)
{
	sysfs.bus.devices[0] = "vif-5-0";
	sysfs.gone_after_ms = LET_GO_MS;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(REMOVED);
	check(!times_said);
}

CASE(a_held_device_is_found_behind_those_of_others)
{
	sysfs.bus.devices[0] = "vif-4-0";
	sysfs.bus.devices[1] = "vbd-6-51712";
	sysfs.bus.devices[2] = "vif-5-1";
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(says("vif-5-1") == 1);
}

CASE(a_device_that_is_off_its_bus_keeps_the_node)
{
	sysfs.bus.devices[0] = "vif-4-0";
	sysfs.top.devices[0] = "pci0000:00";
	sysfs.top.devices[1] = "vbd-5-51712";
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(KEPT);
	check(times_said == 1 && says("vbd-5-51712") == 1);
}

CASE(a_device_without_any_bus_keeps_the_node)
{
	sysfs.bus.open_errno = ENOENT;
	sysfs.top.devices[0] = "vbd-5-51712";
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1 && says("vbd-5-51712") == 1);
}

CASE(without_the_bus_the_node_goes)
{
	sysfs.bus.open_errno = ENOENT;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(REMOVED);
	check(!times_said && !sleeper.sleeps);
}

CASE(without_sysfs_the_node_stays)
{
	sysfs.bus.open_errno = ENOENT;
	sysfs.unmounted = 1;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1);
}

CASE(the_same_removal_by_a_program_without_libxl_is_no_teardown)
{
	arming = XLMT_INTERPOSER_NO_LIBXL;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(!times_said);
}

CASE(an_unreadable_bus_keeps_the_node)
{
	sysfs.bus.open_errno = EACCES;
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(KEPT);
	check(times_said == 1 && says("5: keeping " NODE ": cannot read") == 1);
	check(says("Permission denied") == 1 && !sleeper.sleeps);
}

CASE(unreadable_devices_keep_the_node)
{
	sysfs.top.open_errno = EACCES;
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(KEPT);
	check(times_said == 1 && says("5: keeping " NODE ": cannot read") == 1);
	check(says("Permission denied") == 1 && !sleeper.sleeps);
}

CASE(without_any_devices_directory_the_node_stays)
{
	sysfs.top.open_errno = ENOENT;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1);
}

CASE(devices_that_end_in_an_error_keep_the_node)
{
	sysfs.top.read_errno = EIO;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1 && says("Input/output error") == 1);
}

CASE(a_directory_that_ends_in_an_error_keeps_the_node)
{
	sysfs.bus.read_errno = EIO;
	check(xs_rm(H, XBT_NULL, LAST));
	requests_are(KEPT);
	check(times_said == 1 && says("Input/output error") == 1);
}

CASE(a_bus_that_becomes_unreadable_during_the_wait_keeps_the_node)
{
	sysfs.bus.devices[0] = "vif-5-0";
	sysfs.gone_after_ms = 100;
	sysfs.bus.read_errno = EIO;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1 && says("Input/output error") == 1);
}

CASE(a_creation_after_a_teardown_writes_the_node)
{
	xs_rm(H, XBT_NULL, LAST);
	xs_transaction_start(H);
	stub_forget();
	xs_rm(H, 1, HOME);
	requests_are(PROTECTED("1") "h1 t1 rm " HOME "\n");
}

/* --- whose device ---------------------------------------------------------------------------- */

#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X200 X50 X50 X50 X50

static void is_held(const char *device)
{
	sysfs.bus.devices[0] = device;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(KEPT);
	check(times_said == 1);
}

static void is_not_held(const char *device)
{
	sysfs.bus.devices[0] = device;
	xs_rm(H, XBT_NULL, LAST);
	requests_are(REMOVED);
	check(!times_said && !sleeper.sleeps);
}

CASE(device_of_the_domain) { is_held("vif-5-0"); }
CASE(device_of_the_domain_with_a_long_number) { is_held("vbd-5-51712"); }
CASE(device_of_a_type_with_a_dash) { is_held("a-b-5-0"); }
CASE(device_without_a_type) { is_held("-5-0"); }
CASE(device_with_a_name_of_200_characters) { is_held(X200 "-5-0"); }
CASE(device_with_a_number_of_200_characters) { is_held("vif-5-" X200); }
CASE(device_of_domain_15) { is_not_held("vif-15-0"); }
CASE(device_of_domain_50) { is_not_held("vif-50-0"); }
CASE(device_5_of_another_domain) { is_not_held("vif-4-5"); }
CASE(device_with_one_dash) { is_not_held("x-5"); }
CASE(device_with_only_a_dash_before) { is_not_held("-5"); }
CASE(device_without_a_dash) { is_not_held("vif5"); }
CASE(device_of_only_dashes) { is_not_held("---"); }
CASE(device_with_letters_for_a_domid) { is_not_held("vif-5a-0"); }
CASE(device_of_200_characters_of_another_domain) { is_not_held(X200 "-6-0"); }
