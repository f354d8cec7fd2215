// SPDX-License-Identifier: GPL-2.0-only
/*
 * An event of the watch of all backends could not be kept, or there were too many: look at every
 * device that the domain has or may have had, as if each had an event.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "mtwatch.h"
#include "path.h"
#include "rescan.h"
#include "watch.h"

/**
 * struct mtw_device - a device to look at
 * @list: on the list of those found
 * @path: backend/<type>/<domid>/<devid>, or device/<type>/<devid>
 */
struct mtw_device {
	struct list_head list;
	char path[];
};

static int mtw_rescan_add(struct list_head *found, const char *path, size_t len, gfp_t gfp)
{
	struct mtw_device *device;

	list_for_each_entry(device, found, list)
		if (!strncmp(device->path, path, len) && !device->path[len])
			return 0;
	device = kmalloc(sizeof(*device) + len + 1, gfp);
	if (!device)
		return -ENOMEM;
	memcpy(device->path, path, len);
	device->path[len] = '\0';
	list_add_tail(&device->list, found);
	return 0;
}

int mtw_seen(struct list_head *seen, const char *path)
{
	return mtw_rescan_add(seen, path, strlen(path), GFP_KERNEL);
}

void mtw_seen_free(struct list_head *seen)
{
	struct mtw_device *device, *next;

	list_for_each_entry_safe(device, next, seen, list)
		kfree(device);
}

/* backend/<type>/<domid>: when it is gone, so is every device below. */
static int mtw_rescan_add_parent(struct list_head *found, const char *path)
{
	const char *s, *last = path;
	int slashes = 0;

	for (s = path; *s; s++)
		if (*s == '/') {
			slashes++;
			last = s;
		}
	return slashes == 3 ? mtw_rescan_add(found, path, last - path, GFP_KERNEL) : 0;
}

static int mtw_rescan_add_seen(struct list_head *found, const struct list_head *seen)
{
	struct mtw_device *device;
	int err = 0;

	list_for_each_entry(device, seen, list)
		err = err ?: mtw_rescan_add(found, device->path, strlen(device->path), GFP_KERNEL);
	list_for_each_entry(device, found, list)
		err = err ?: mtw_rescan_add_parent(found, device->path);
	return err;
}

/* -E2BIG would be there the next time, too: what else tells of devices has to do. */
static int mtw_rescan_list_err(unsigned int domid, const char *dir, int err)
{
	if (err == -E2BIG)
		pr_warn_ratelimited("domain %u: %s has more than xenstored lists, devices without a driver may be missed\n",
				    domid, dir);
	return err == -ENOENT || err == -E2BIG ? 0 : err;
}

/* @dir is freed. */
static int mtw_rescan_add_dir(struct list_head *found, char *dir, unsigned int domid)
{
	char **devids, *path;
	unsigned int i, n = 0;
	int err = 0;

	if (!dir)
		return -ENOMEM;
	devids = xenbus_directory(XBT_NIL, dir, "", &n);
	if (IS_ERR(devids)) {
		err = mtw_rescan_list_err(domid, dir, PTR_ERR(devids));
		devids = NULL;
	}
	for (i = 0; i < n && !err; i++) {
		path = kasprintf(GFP_KERNEL, "%s/%s", dir, devids[i]);
		err = path ? mtw_rescan_add(found, path, strlen(path), GFP_KERNEL) : -ENOMEM;
		kfree(path);
	}
	kfree(devids);
	kfree(dir);
	return err;
}

/* What xenstore has. */
static int mtw_rescan_add_stored(struct list_head *found, const char *root, unsigned int domid)
{
	unsigned int i, n = 0;
	char **types;
	int err = 0;

	types = xenbus_directory(XBT_NIL, root, "", &n);
	if (IS_ERR(types))
		return mtw_rescan_list_err(domid, root, PTR_ERR(types));
	for (i = 0; i < n && !err; i++)
		err = mtw_rescan_add_dir(found, *root == 'b' ?
			kasprintf(GFP_KERNEL, "backend/%s/%u", types[i], domid) :
			kasprintf(GFP_KERNEL, "device/%s", types[i]), domid);
	kfree(types);
	return err;
}

/*
 * What the drivers have and xenstore may have no more, by what they watch:
 * backend/<type>/<domid>/<devid>/... or /local/domain/<domid>/device/<type>/<devid>/state
 */
static int mtw_rescan_add_watched(const char *node, void *found)
{
	unsigned int domid = mtw_domid_of(node);
	const char *type, *devid, *end;
	gfp_t gfp = GFP_ATOMIC | __GFP_NOWARN;
	char *path;
	int err;

	if (*node != '/')
		return mtw_rescan_add(found, node, mtw_device_len(node), gfp);
	type = strstr(node, "/device/") + strlen("/device/");
	devid = strchr(type, '/');
	end = devid ? strchr(devid + 1, '/') : NULL;
	if (!end)
		return 0;
	path = kasprintf(gfp, "backend/%.*s/%u%.*s", (int)(devid - type), type, domid,
			 (int)(end - devid), devid);
	err = path ? mtw_rescan_add(found, path, strlen(path), gfp) : -ENOMEM;
	kfree(path);
	return err;
}

/**
 * mtw_rescan() - call the callback of the watch of all backends for each device of a domain; of
 *	this domain that of the devices that it uses itself, too
 * @domid: the domain; its thread calls this
 * @seen: the devices that it had events of
 *
 * Return: 0, or an error when it has to be done again.
 */
int mtw_rescan(unsigned int domid, struct list_head *seen)
{
	struct mtw_watch *backends = READ_ONCE(mtw_backends);
	struct mtw_watch *frontends = READ_ONCE(mtw_frontends);
	struct mtw_device *device, *next;
	LIST_HEAD(found);
	int err;

	err = mtw_rescan_add_stored(&found, "backend", domid);
	if (!err && !domid && frontends)
		err = mtw_rescan_add_stored(&found, "device", domid);
	if (!err)
		err = mtw_watch_each(domid, mtw_rescan_add_watched, &found);
	if (!err)
		err = mtw_rescan_add_seen(&found, seen);
	list_for_each_entry_safe(device, next, &found, list) {
		/* One without a driver watches nothing: it has to be remembered, too. */
		err = err ?: mtw_seen(seen, device->path);
		if (!err)
			mtw_watch_call(*device->path == 'b' ? backends : frontends, device->path);
		kfree(device);
	}
	return err;
}
