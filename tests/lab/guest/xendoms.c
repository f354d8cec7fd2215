/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypervisor's own list of domains, one "domid flags" per line: asked by hypercall alone, so
 * that a test has a witness which neither libxl nor xenstored can colour.
 * Flags as `xl list` shows them: running, blocked, paused, shutdown, dying; '-' when not.
 */
#include <stdio.h>
#include <xenctrl.h>

static void show(const xc_domaininfo_t *d)
{
	printf("%u %c%c%c%c%c\n", d->domain,
	       d->flags & XEN_DOMINF_running ? 'r' : '-',
	       d->flags & XEN_DOMINF_blocked ? 'b' : '-',
	       d->flags & XEN_DOMINF_paused ? 'p' : '-',
	       d->flags & XEN_DOMINF_shutdown ? 's' : '-',
	       d->flags & XEN_DOMINF_dying ? 'd' : '-');
}

int main(void)
{
	static xc_domaininfo_t list[1024];
	xc_interface *xch = xc_interface_open(NULL, NULL, 0);
	int count, i;

	if (!xch)
		return 1;
	count = xc_domain_getinfolist(xch, 0, 1024, list);
	for (i = 0; i < count; i++)
		show(&list[i]);
	xc_interface_close(xch);
	return count > 0 ? 0 : 1; /* without domain 0 it is no list */
}
