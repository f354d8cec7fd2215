/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxl_utils.h */

char *libxl_domid_to_name(libxl_ctx *ctx, uint32_t domid);
int libxl_name_to_domid(libxl_ctx *ctx, const char *name, uint32_t *domid);
