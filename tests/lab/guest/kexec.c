/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kexec KERNEL INITRD WORDS: start another kernel with these words as its command line.
 * busybox has no kexec, with which a guest asks for a soft reset. */
#include <err.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static int opened(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "usage: kexec KERNEL INITRD WORDS");
	int kernel = opened(argv[1]), initrd = opened(argv[2]);
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], 0UL))
		err(1, "kexec_file_load");
	reboot((int)LINUX_REBOOT_CMD_KEXEC);
	err(1, "reboot");
}
