// SPDX-License-Identifier: GPL-2.0-only
/* /sys/kernel/debug/xen_mtwatch/status; its format is in xen_mtwatch(4). */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "adopt.h"
#include "domain.h"
#include "main.h"
#include "mtwatch.h"
#include "probe.h"
#include "run.h"
#include "stat.h"
#include "turn.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#define STATUS_FORMAT	1

static struct dentry *dir;

static void mtw_show_age(struct seq_file *m, const char *key, s64 ms)
{
	if (ms >= 0)
		seq_printf(m, " %s=%lld", key, ms);
	else
		seq_printf(m, " %s=-", key);
}

static void mtw_show_xenwatch(struct seq_file *m)
{
	struct mtw_run *run = &mtw_xenwatch;
	s64 age = mtw_probe_age();

	spin_lock(&run->lock);
	seq_puts(m, "xenwatch");
	if (run->pid)
		seq_printf(m, " pid=%d", run->pid);
	else
		seq_puts(m, " pid=-");
	mtw_show_age(m, "probe_ms", age);
	if (run->watch && run->domid < MTW_DOMIDS)
		seq_printf(m, " domid=%u", run->domid);
	else
		seq_puts(m, " domid=-");
	mtw_run_show(m, run);
	seq_printf(m, " events=%lu", run->seq);
	mtw_run_show_longest(m, run);
	seq_putc(m, '\n');
	spin_unlock(&run->lock);
}

static int mtw_status_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "xen_mtwatch %d\n", STATUS_FORMAT);
	seq_printf(m, "module version=%s state=%s mode=%s threads=%u max_threads=%u max_active=%u waiting=%u idle_secs=%u warn_secs=%u adopted=%u partial=%d passed=%ld",
		   MTW_VERSION, mtw_state_name(), mtw_mode_name(), mtw_dom_count(),
		   READ_ONCE(mtw_max_threads), READ_ONCE(mtw_max_active), mtw_turn_waiting(),
		   READ_ONCE(mtw_idle_secs),
		   READ_ONCE(mtw_warn_secs), mtw_adopted(),
		   mtw_adopt_partial(), mtw_dom_n_passed());
	mtw_show_age(m, "store_ms", mtw_probe_store_age());
	seq_putc(m, '\n');
	mtw_show_xenwatch(m);
	mtw_dom_show_all(m);
	mtw_probe_look();
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mtw_status);

void mtw_stat_init(void)
{
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("status", 0400, dir, NULL, &mtw_status_fops);
}

void mtw_stat_exit(void)
{
	debugfs_remove_recursive(dir);
}
