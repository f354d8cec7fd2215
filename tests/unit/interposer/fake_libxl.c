/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * As much of libxenlight as the interposer is about: an object of that name that starts a
 * creation's transaction. Built with OTHER_LIBXL it has the name and imports something else.
 */
#include <xenstore.h>

#include "stub_xenstore.h"

void fake_libxl_create(void);

void fake_libxl_create(void)
{
#ifdef OTHER_LIBXL
	xs_mkdir(STUB_HANDLE(1), XBT_NULL, "/local/domain/5");
#else
	xs_transaction_t t = xs_transaction_start(STUB_HANDLE(1));

	xs_rm(STUB_HANDLE(1), t, "/local/domain/5");
#endif
}
