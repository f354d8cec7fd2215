// SPDX-License-Identifier: GPL-2.0-only
/* A driver's own data, which nothing protects but that its callbacks run one at a time; for TSan. */
#include "plain.h"

void plain_write(long *data)
{
	++*data;
}
