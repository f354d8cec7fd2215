/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MODEL_PLAIN_H
#define MODEL_PLAIN_H

void plain_write(long *data);

#endif
