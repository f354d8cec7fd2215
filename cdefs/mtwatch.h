/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hooks/mtwatch.h */

#define XLMT_MTWATCH_ARMED ...
#define XLMT_MTWATCH_BYPASSED ...
#define XLMT_MTWATCH_NO_LIBXL ...
#define XLMT_MTWATCH_UNREADABLE ...
int xlmt_mtwatch_arming(void);

void xlmt_hook_says_to_python(void);
extern "Python" void xlmt_hook_says(unsigned int domid, const char *line);

/* The file that libxl was loaded from, which names its version: libxenlight.so.4.17 */
const char *xlmt_libxl_file(void);
