/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxl.h and _libxl_types.h, LIBXL_API_VERSION 0x041400: what xlmt calls of them. */

typedef struct libxl__ctx libxl_ctx;
typedef uint32_t libxl_domid;
typedef struct { uint8_t uuid[16]; ...; } libxl_uuid;

#define LIBXL_VERSION ...
#define INVALID_DOMID ...
#define ERROR_NOT_READY ...
#define ERROR_BUFFERFULL ...
#define ERROR_ABORTED ...
#define ERROR_DOMAIN_NOTFOUND ...
#define ERROR_INVAL ...

const char *libxl_error_to_string(int rc);
const char *libxl_shutdown_reason_to_string(int reason);
const char *libxl_domain_type_to_string(int type);

int libxl_ctx_alloc(libxl_ctx **pctx, int version, unsigned flags, xentoollog_logger *lg);
int libxl_ctx_free(libxl_ctx *ctx);

typedef struct {
    int xen_version_major;
    int xen_version_minor;
    char *commandline;
    ...;
} libxl_version_info;
const libxl_version_info *libxl_get_version_info(libxl_ctx *ctx);

/* Asynchronous operations; xlmt only asks for events. */
typedef struct { ...; } libxl_asyncop_how;
typedef struct { ...; } libxl_asyncprogress_how;
void xlmt_ask_for_events(libxl_asyncop_how *completion_r, libxl_asyncprogress_how *progress_r,
                         uint64_t for_user);
int libxl_ao_abort(libxl_ctx *ctx, const libxl_asyncop_how *how);

/* Domains */
typedef struct {
    libxl_uuid uuid;
    libxl_domid domid;
    bool running;
    bool blocked;
    bool paused;
    bool shutdown;
    bool dying;
    bool never_stop;
    int shutdown_reason;
    uint64_t cpu_time;
    uint64_t current_memkb;
    ...;
} libxl_dominfo;
void libxl_dominfo_init(libxl_dominfo *p);
void libxl_dominfo_dispose(libxl_dominfo *p);
libxl_dominfo *libxl_list_domain(libxl_ctx *ctx, int *nb_domain_out);
void libxl_dominfo_list_free(libxl_dominfo *list, int nb);
int libxl_domain_info(libxl_ctx *ctx, libxl_dominfo *info_r, uint32_t domid);

/* A domain's configuration, in and out as JSON. */
typedef struct { ...; } libxl_domain_create_info;
typedef struct {
    libxl_domain_create_info c_info;
    ...;
} libxl_domain_config;
void libxl_domain_config_init(libxl_domain_config *p);
void libxl_domain_config_dispose(libxl_domain_config *p);
int libxl_domain_config_from_json(libxl_ctx *ctx, libxl_domain_config *p, const char *s);
char *libxl_domain_config_to_json(libxl_ctx *ctx, libxl_domain_config *p);
int libxl_retrieve_domain_configuration(libxl_ctx *ctx, uint32_t domid,
                                        libxl_domain_config *d_config,
                                        const libxl_asyncop_how *ao_how);

/* A domain's life */
int libxl_domain_create_new(libxl_ctx *ctx, libxl_domain_config *d_config, uint32_t *domid,
                            const libxl_asyncop_how *ao_how,
                            const libxl_asyncprogress_how *aop_console_how);
int libxl_domain_soft_reset(libxl_ctx *ctx, libxl_domain_config *d_config, uint32_t domid,
                            const libxl_asyncop_how *ao_how,
                            const libxl_asyncprogress_how *aop_console_how);
int libxl_domain_unpause(libxl_ctx *ctx, uint32_t domid, const libxl_asyncop_how *ao_how);
int libxl_domain_destroy(libxl_ctx *ctx, uint32_t domid, const libxl_asyncop_how *ao_how);
int libxl_domain_core_dump(libxl_ctx *ctx, uint32_t domid, const char *filename,
                           const libxl_asyncop_how *ao_how);
int libxl_domain_preserve(libxl_ctx *ctx, uint32_t domid, libxl_domain_create_info *info,
                          const char *name_suffix, libxl_uuid new_uuid);

/* Disks */
#define LIBXL_DISK_FORMAT_EMPTY ...
typedef struct {
    char *pdev_path;
    char *vdev;
    int format;
    int removable;
    int is_cdrom;
    ...;
} libxl_device_disk;
void libxl_device_disk_init(libxl_device_disk *p);
int libxl_cdrom_insert(libxl_ctx *ctx, uint32_t domid, libxl_device_disk *disk,
                       const libxl_asyncop_how *ao_how);

/* Files kept with a domain */
int libxl_userdata_store(libxl_ctx *ctx, uint32_t domid, const char *userdata_userid,
                         const uint8_t *data, int datalen);
int libxl_userdata_retrieve(libxl_ctx *ctx, uint32_t domid, const char *userdata_userid,
                            uint8_t **data_r, int *datalen_r);
int libxl_userdata_unlink(libxl_ctx *ctx, uint32_t domid, const char *userdata_userid);

/* Memory */
int libxl_domain_need_memory(libxl_ctx *ctx, libxl_domain_config *config,
                             uint32_t domid_for_logging, uint64_t *need_memkb);
int libxl_get_free_memory(libxl_ctx *ctx, uint64_t *memkb);
int libxl_set_memory_target(libxl_ctx *ctx, uint32_t domid, int64_t target_memkb, int relative,
                            int enforce);
int libxl_wait_for_memory_target(libxl_ctx *ctx, uint32_t domid, int wait_secs);

/* These two replace the calling process, which should be a child. */
int libxl_primary_console_exec(libxl_ctx *ctx, uint32_t domid_vm, int notify_fd);
int libxl_vncviewer_exec(libxl_ctx *ctx, uint32_t domid, int autopass);

void free(void *p);
