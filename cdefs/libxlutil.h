/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxlutil.h, by way of glue.c: it reports its errors to a FILE. */

char *xlmt_conf_string(const char *path, const char *key, char **problem_r);
