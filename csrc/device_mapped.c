/*
 * device_mapped.c: a virtual disk that is made of pieces of files, for reading.
 *
 *   disk    |--data--|---zero---|-data-|------data------|
 *               |                   |          |
 *   files   image.qcow2         below.qcow2   image.qcow2       each with the place of its bytes
 *
 * Whoever knows the format of an image makes the table; here its bytes are only fetched.  The table is never changed
 * once it is made, and shared by all clones; it goes with the last of them.
 *
 * LIMIT: a blocking call into a file system that hangs cannot be interrupted or timed out, as in device_file.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#endif
#include "bytes.h"
#include "device.h"
#include "error.h"
#include "file_bytes.h"
#include "file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_OWN_FILES 8u  /* a long chain times many threads would use up the descriptors of the process */
#define MAX_FILES 100000u /* more cannot be open at once */

struct table {
    atomic_uint users;
    size_t count, fd_count;
    struct ntx_mapped_extent *extents;
    int *fds; /* the table's own */
};

struct mapped {
    struct ntx_device device;
    struct table *table;
    int *own; /* another descriptor for each file, -1 where there is only the table's; NULL: for none */
};

/* ------------------------------------------------------------------------------------------------- table */

static void release(struct table *table)
{
    if (table == NULL || atomic_fetch_sub_explicit(&table->users, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < table->fd_count; i++)
        close(table->fds[i]);
    free(table->fds);
    free(table->extents);
    free(table);
}

static uint64_t end_of(const struct ntx_mapped_extent *extent)
{
    return extent->offset + extent->length;
}

/* What is wrong with an extent that should begin at offset, or NULL.  sizes are those of the files. */
static const char *fault_of(const struct ntx_mapped_extent *extent, uint64_t offset, uint64_t size,
                            const uint64_t *sizes, size_t file_count)
{
    if (extent->offset != offset)
        return "does not begin where the one before it ends";
    if (extent->length == 0 || extent->length > size - offset)
        return "is empty, or goes past the end";
    if ((extent->flags & ~NTX_EXTENT_ZERO) != 0)
        return "has unknown flags";
    if ((extent->flags & NTX_EXTENT_ZERO) != 0)
        return NULL;
    if (extent->file >= file_count)
        return "is in a file that was not given";
    if (extent->place > sizes[extent->file] || extent->length > sizes[extent->file] - extent->place)
        return "goes past the end of its file";
    return NULL;
}

static int check_extents(const char *name, uint64_t size, const uint64_t *sizes, size_t file_count,
                         const struct ntx_mapped_extent *extents, size_t count, struct ntx_error *err)
{
    uint64_t at = 0;

    for (size_t i = 0; i < count; i++) {
        const char *fault = fault_of(&extents[i], at, size, sizes, file_count);

        if (fault != NULL) {
            ntx_error_set(err, NTX_E_OPTIONS, -EINVAL,
                          "%s: open failed: mapped extent %zu at offset %" PRIu64 " length %" PRIu64 " %s", name, i,
                          extents[i].offset, extents[i].length, fault);
            return ntx_error_at(err, extents[i].offset, extents[i].length);
        }
        at = end_of(&extents[i]);
    }
    if (at != size)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL,
                             "%s: open failed: the mapped extents end at %" PRIu64 ", not at %" PRIu64, name, at, size);
    return 0;
}

/* Keep another descriptor of a file; tell its size. */
static int take_file(struct table *table, const char *name, int fd, uint64_t *size, struct ntx_error *err)
{
    struct stat status;
    int taken = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (taken < 0)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: open failed: duplicating a descriptor", name);
    table->fds[table->fd_count++] = taken;
    if (fstat(taken, &status) < 0)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: open failed", name);
    if (!S_ISREG(status.st_mode))
        return ntx_error_set(err, NTX_E_DEVICE, -EINVAL, "%s: open failed: a file of it is not a regular one", name);
    *size = (uint64_t)status.st_size;
    return 0;
}

static int fill_table(struct table *table, const char *name, uint64_t size, const int *fds, size_t fd_count,
                      const struct ntx_mapped_extent *extents, size_t count, struct ntx_error *err)
{
    uint64_t *sizes = calloc(fd_count + 1, sizeof *sizes);
    int code = 0;

    table->fds = calloc(fd_count + 1, sizeof *table->fds);
    table->extents = calloc(count + 1, sizeof *table->extents);
    if (sizes == NULL || table->fds == NULL || table->extents == NULL)
        code = ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory for %zu extents", name, count);
    for (size_t i = 0; code == 0 && i < fd_count; i++)
        code = take_file(table, name, fds[i], &sizes[i], err);
    /* The copy is checked, not what it was copied from: nobody else can change that any more. */
    if (code == 0 && count > 0)
        memcpy(table->extents, extents, count * sizeof *extents);
    if (code == 0)
        code = check_extents(name, size, sizes, fd_count, table->extents, count, err);
    table->count = count;
    free(sizes);
    return code;
}

/* ----------------------------------------------------------------------------------------------- reading */

/* The extent that holds offset, which is inside the disk. */
static size_t find(const struct table *table, uint64_t offset)
{
    size_t low = 0, high = table->count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (table->extents[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int fd_of(const struct mapped *mapped, uint32_t file)
{
    return mapped->own != NULL && mapped->own[file] >= 0 ? mapped->own[file] : mapped->table->fds[file];
}

static void fail(struct mapped *mapped, struct ntx_io *io, uint32_t file, uint64_t place, int code)
{
    char cause[NTX_FILE_CAUSE];

    code = ntx_file_cause(mapped->table->fds[file], place, code, NULL, cause);
    ntx_device_complete_failed(&mapped->device, io, NTX_E_DEVICE, code, cause);
}

static void do_read(struct mapped *mapped, struct ntx_io *io)
{
    const struct table *table = mapped->table;
    uint64_t offset = io->offset, end = io->offset + io->length;
    uint8_t *data = io->data;

    for (size_t i = find(table, offset); offset < end; i++) {
        const struct ntx_mapped_extent *extent = &table->extents[i];
        uint64_t part = ntx_min64(end, end_of(extent)) - offset;

        if ((extent->flags & NTX_EXTENT_ZERO) != 0) {
            memset(data, 0, part);
        } else {
            uint64_t place = extent->place + (offset - extent->offset);
            int code = ntx_read_at(fd_of(mapped, extent->file), data, part, &place);

            if (code != 0) {
                fail(mapped, io, extent->file, place, code);
                return;
            }
        }
        data += part;
        offset += part;
    }
    ntx_device_complete(&mapped->device, io, 0);
}

/* A list that is full ends the map early; the caller asks again from there. */
static void do_map(struct mapped *mapped, struct ntx_io *io)
{
    const struct table *table = mapped->table;
    struct ntx_extents *map = io->map;
    int code = 0;

    for (size_t i = find(table, map->end); code == 0 && !ntx_extents_is_complete(map); i++)
        code = ntx_extents_append(map, end_of(&table->extents[i]) - map->end, table->extents[i].flags);
    ntx_device_complete(&mapped->device, io, 0);
}

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct mapped *mapped = (struct mapped *)device;

    (void)err; /* no failure of one request makes it unusable */
    if (io->op == NTX_OP_READ)
        do_read(mapped, io);
    else if (io->op == NTX_OP_MAP)
        do_map(mapped, io);
    else
        ntx_device_complete(device, io, 0); /* a flush: writing was refused before */
    return 0;
}

/* ---------------------------------------------------------------------------------- open, clone, close */

static void close_mapped(struct ntx_device *device)
{
    struct mapped *mapped = (struct mapped *)device;

    for (size_t i = 0; mapped->own != NULL && i < mapped->table->fd_count; i++) {
        if (mapped->own[i] >= 0)
            close(mapped->own[i]);
    }
    free(mapped->own);
    release(mapped->table);
    free(mapped);
}

/* Open the files once more, so that the kernel reads ahead for each clone by itself.  Where that fails, the table's
 * descriptors do: they are shared, and every read says its place. */
static void open_own(struct mapped *mapped)
{
    const struct table *table = mapped->table;

    if (table->fd_count > MAX_OWN_FILES)
        return;
    mapped->own = calloc(table->fd_count + 1, sizeof *mapped->own);
    for (size_t i = 0; mapped->own != NULL && i < table->fd_count; i++)
        mapped->own[i] = ntx_file_again(table->fds[i]);
}

static int clone_mapped(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err);

static const struct ntx_device_ops MAPPED_OPS = {.submit = submit, .clone = clone_mapped, .close = close_mapped};

static struct mapped *new_mapped(const struct ntx_device_info *info)
{
    struct mapped *mapped = calloc(1, sizeof *mapped);

    if (mapped == NULL)
        return NULL;
    mapped->device.ops = &MAPPED_OPS;
    mapped->device.fd = -1;
    mapped->device.info = *info;
    return mapped;
}

static int clone_mapped(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    const struct mapped *mapped = (const struct mapped *)device;
    struct mapped *again = new_mapped(&device->info);

    (void)stop_fd; /* files are not waited for */
    *other = NULL;
    if (again == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", device->info.name);
    again->table = mapped->table;
    /* Whoever clones holds the table: it cannot go meanwhile. */
    atomic_fetch_add_explicit(&again->table->users, 1, memory_order_relaxed);
    open_own(again);
    *other = &again->device;
    return 0;
}

static struct ntx_device_info describe(const char *name, uint64_t size)
{
    struct ntx_device_info info = {
        .size = size,
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .connection_bytes = sizeof(struct mapped) + (MAX_OWN_FILES + 1) * sizeof(int),
        .flags = NTX_DEVICE_READ_ONLY | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP,
        .kind = "mapped",
    };

    snprintf(info.name, sizeof info.name, "%s", name);
    return info;
}

int ntx_open_mapped(const char *name, uint64_t size, const int *fds, size_t fd_count,
                    const struct ntx_mapped_extent *extents, size_t count, struct ntx_device **device,
                    struct ntx_error *err)
{
    struct ntx_device_info info = describe(name, size);

    *device = NULL;
    if (size > NTX_MAX_DEVICE_SIZE || fd_count > MAX_FILES || count > NTX_MAX_MAPPED_EXTENTS)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL,
                             "%s: open failed: a size of %" PRIu64 " in %zu files and %zu extents is too large", name,
                             size, fd_count, count);
    struct mapped *mapped = new_mapped(&info);
    struct table *table = calloc(1, sizeof *table);
    if (mapped == NULL || table == NULL) {
        free(mapped);
        free(table);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", name);
    }
    atomic_init(&table->users, 1);
    mapped->table = table;
    mapped->device.info.shared_bytes =
        sizeof *table + (count + 1) * sizeof *table->extents + (fd_count + 1) * sizeof *table->fds;
    int code = fill_table(table, name, size, fds, fd_count, extents, count, err);
    if (code != 0) {
        close_mapped(&mapped->device);
        return code;
    }
    *device = &mapped->device;
    return 0;
}
