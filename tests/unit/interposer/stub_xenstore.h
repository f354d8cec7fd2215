/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A libxenstore that keeps a record instead of a store. It is a shared object of its own, so that
 * the interposer finds it the way it finds the real one: as the next definition.
 *
 * The record has one line per request, in order: "h<handle> t<transaction> <request> <path>", and
 * for permissions what they are, as xenstore-ls -p would say it: "n0".
 */
#ifndef STUB_XENSTORE_H
#define STUB_XENSTORE_H

#include <stddef.h>
#include <xenstore.h>

#define STUB_HANDLE(n) ((struct xs_handle *)(n))
#define ANY_TRANSACTION ((xs_transaction_t)-1)

/* All requests so far; "" when there was none. */
const char *stub_record(void);
void stub_forget(void);

/* Answer this request for this path with errno from now on; 0: succeed again. */
void stub_fail(const char *request, xs_transaction_t t, const char *path, int errnoval);

/* What the next xs_transaction_start() answers; it counts on from there unless it is 0. */
void stub_next_transaction(xs_transaction_t t);

/* A successful request may leave anything in errno: this one does. */
#define STUB_ERRNO_AFTER_SUCCESS 125

#endif
