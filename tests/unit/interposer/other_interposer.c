/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Somebody else's interposer, which swallows what it catches: xs_rm(), and with CATCH_BOTH
 * xs_transaction_start(), too.
 */
#include <xenstore.h>

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	(void)h, (void)t, (void)path;
	return true;
}

#ifdef CATCH_BOTH
xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
	(void)h;
	return 1;
}
#endif
