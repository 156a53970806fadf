/*
 * device_file_open.c: opening a regular file or a block device, asking what it can, opening it once more.
 *
 * Everything after the first open goes through /proc/self/fd, so that it is the same file even when its path was
 * renamed, unlinked or replaced meanwhile.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECT, statx() */
#endif
#include "bytes.h"
#include "device_file.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MIN_DIRECT_UNIT 4096u /* a page: see the top of device_file.c */

static int access_flags(enum ntx_open_mode mode)
{
    return (mode == NTX_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
}

/* The descriptor, or a negative errno.  -ESTALE: where there is no /proc, and the path leads elsewhere by now. */
static int open_again(int fd, const char *path, int flags)
{
    char link[32];
    struct stat first, again;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int other = open(link, flags);
    if (other < 0 && errno == ENOENT)
        other = open(path, flags);
    if (other < 0)
        return -errno;
    if (fstat(fd, &first) < 0 || fstat(other, &again) < 0 || first.st_dev != again.st_dev ||
        first.st_ino != again.st_ino) {
        close(other);
        return -ESTALE;
    }
    return other;
}

/* ------------------------------------------------------------------------------------ what the file is */

static bool is_rotational(const struct stat *identity)
{
    /* The second is for partitions, whose queue is that of the whole disk. */
    static const char *const formats[] = {"/sys/dev/block/%u:%u/queue/rotational",
                                          "/sys/dev/block/%u:%u/../queue/rotational"};
    char path[64], answer = '0';

    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        snprintf(path, sizeof path, formats[i], major(identity->st_rdev), minor(identity->st_rdev));
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (read(fd, &answer, 1) != 1)
            answer = '0';
        close(fd);
        return answer == '1';
    }
    return false;
}

/* Multiples that O_DIRECT wants here; 0: it cannot be used. */
static uint32_t direct_unit(const struct ntx_file *file)
{
    uint32_t unit = MIN_DIRECT_UNIT;

    if (file->is_block) {
        int sector = 0;
        if (ioctl(file->fd, BLKSSZGET, &sector) == 0 && sector > 0)
            unit = (uint32_t)ntx_max64(unit, (uint64_t)sector);
    } else {
#ifdef STATX_DIOALIGN
        struct statx more;
        if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &more) == 0 && (more.stx_mask & STATX_DIOALIGN) != 0) {
            if (more.stx_dio_offset_align == 0)
                return 0;
            unit = (uint32_t)ntx_max64(unit, ntx_max64(more.stx_dio_offset_align, more.stx_dio_mem_align));
        }
#endif
    }
    return ntx_is_power_of_two(unit) && unit <= NTX_BLOCK_SIZE ? unit : 0;
}

static int find_size(struct ntx_file *file)
{
    if (file->is_block)
        return ioctl(file->fd, BLKGETSIZE64, &file->device.info.size) == 0 ? 0 : -errno;
    file->device.info.size = (uint64_t)file->identity.st_size;
    return 0;
}

static void describe(struct ntx_file *file, enum ntx_open_mode mode)
{
    struct ntx_device_info *info = &file->device.info;
    uint64_t preferred = file->is_block ? 0 : (uint64_t)file->identity.st_blksize;

    info->min_block = 1;
    info->preferred_block = ntx_is_power_of_two(preferred) && preferred <= NTX_MAX_REQUEST_SIZE
                                ? (uint32_t)ntx_max64(preferred, MIN_DIRECT_UNIT)
                                : MIN_DIRECT_UNIT;
    info->max_payload = NTX_MAX_REQUEST_SIZE;
    info->connection_bytes = sizeof(struct ntx_file) + NTX_RING_BYTES;
    info->flags = NTX_DEVICE_CAN_MULTI_CONN;
    info->flags |= mode == NTX_OPEN_WRITE ? NTX_DEVICE_CAN_ZERO | NTX_DEVICE_CAN_FLUSH : NTX_DEVICE_READ_ONLY;
    info->flags |= file->is_block ? NTX_DEVICE_BLOCK : NTX_DEVICE_CAN_MAP;
    if (file->is_block && is_rotational(&file->identity))
        info->flags |= NTX_DEVICE_ROTATIONAL;
    memcpy(info->kind, "file", sizeof "file");
}

/* ---------------------------------------------------------------------------------- open, clone, close */

static void close_file(struct ntx_device *device)
{
    struct ntx_file *file = (struct ntx_file *)device;

    /* A write that ends later would meet what another device has put there by then. */
    if (file->ring != NULL && file->mode == NTX_OPEN_WRITE)
        ntx_ring_drain(file->ring);
    ntx_ring_free(file->ring);
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file);
}

static int clone_file(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err);

static const struct ntx_device_ops FILE_OPS = {
    .submit = ntx_file_submit, .advance = ntx_file_advance, .clone = clone_file, .close = close_file};

static struct ntx_file *new_file(const char *path)
{
    struct ntx_file *file = calloc(1, sizeof *file);

    if (file == NULL)
        return NULL;
    file->device.ops = &FILE_OPS;
    file->device.fd = -1;
    file->fd = -1;
    file->direct_fd = -1;
    file->path = strdup(path);
    if (file->path == NULL) {
        free(file);
        return NULL;
    }
    snprintf(file->device.info.name, sizeof file->device.info.name, "%s", path);
    return file;
}

/* Look at file->fd and fill in all the rest. */
static int examine(struct ntx_file *file, enum ntx_open_mode mode, bool direct, struct ntx_error *err)
{
    int code = fstat(file->fd, &file->identity) == 0 ? 0 : -errno;

    if (code == 0 && !S_ISREG(file->identity.st_mode) && !S_ISBLK(file->identity.st_mode))
        return ntx_error_set(err, NTX_E_DEVICE, -EINVAL,
                             "%s: open failed: it is neither a regular file nor a block device", file->path);
    file->is_block = S_ISBLK(file->identity.st_mode);
    file->mode = mode;
    file->wants_direct = direct;
    if (code == 0)
        code = find_size(file);
    if (code != 0)
        return ntx_error_errno(err, NTX_E_DEVICE, code, "%s: open failed: asking for its size", file->path);

    describe(file, mode);
    if (mode == NTX_OPEN_READ)
        posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    uint32_t unit = direct_unit(file);
    file->direct_unit = unit != 0 ? unit : MIN_DIRECT_UNIT;
    if (direct && unit != 0)
        file->direct_fd = open_again(file->fd, file->path, access_flags(mode) | O_DIRECT);
    if (file->direct_fd >= 0)
        file->device.info.flags |= NTX_DEVICE_DIRECT;
    else
        file->direct_fd = -1;
    if (file->direct_fd >= 0)
        file->ring = ntx_ring_new();
    if (file->direct_fd >= 0 && mode == NTX_OPEN_WRITE)
        file->device.info.preferred_block = (uint32_t)ntx_max64(file->device.info.preferred_block, NTX_RING_WRITE);
    if (file->ring != NULL) {
        file->device.fd = ntx_ring_fd(file->ring);
        file->device.events = POLLIN;
    }
    return 0;
}

/* Refuse to write to a block device that is mounted or part of something (LVM, RAID): the kernel knows who holds it,
 * and O_EXCL asks.  Held until the last clone is closed, too.  One that is read-only opens all the same on some
 * kernels, and fails at the first write. */
static int claim(struct ntx_file *file, struct ntx_error *err)
{
    int read_only = 0;

    if (ioctl(file->fd, BLKROGET, &read_only) == 0 && read_only != 0)
        return ntx_error_set(err, NTX_E_DEVICE, -EROFS, "%s: open for writing failed: the device is read-only",
                             file->path);
    int fd = open_again(file->fd, file->path, access_flags(NTX_OPEN_WRITE) | O_EXCL);
    if (fd < 0)
        return ntx_error_errno(err, NTX_E_DEVICE, fd, "%s: open for writing failed: it is mounted or in use",
                               file->path);
    close(file->fd);
    file->fd = fd;
    return 0;
}

int ntx_open_file(const char *path, enum ntx_open_mode mode, bool direct, struct ntx_device **device,
                  struct ntx_error *err)
{
    struct ntx_file *file = new_file(path);
    int code;

    *device = NULL;
    if (file == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", path);
    /* Non-blocking, so that a FIFO without a peer is refused below instead of waited for. */
    file->fd = open(path, access_flags(mode) | O_NONBLOCK);
    if (file->fd < 0) {
        code = ntx_error_errno(err, NTX_E_DEVICE, -errno, "%s: open%s failed", path,
                               mode == NTX_OPEN_WRITE ? " for writing" : "");
        goto fail;
    }
    code = examine(file, mode, direct, err);
    if (code == 0 && file->is_block && mode == NTX_OPEN_WRITE)
        code = claim(file, err);
    if (code != 0)
        goto fail;
    fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_NONBLOCK);
    *device = &file->device;
    return 0;
fail:
    close_file(&file->device);
    return code;
}

/* For a clone: its own open file, so that each reads ahead for itself.  Not where claim() made the first one the only
 * holder: BLKZEROOUT of any other open file ends with EBUSY then. */
static int another_fd(const struct ntx_file *file)
{
    if (!file->is_block || file->mode != NTX_OPEN_WRITE)
        return open_again(file->fd, file->path, access_flags(file->mode));
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 ? fd : -errno;
}

static int clone_file(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    const struct ntx_file *file = (const struct ntx_file *)device;
    struct ntx_file *again = new_file(file->path);
    int code;

    (void)stop_fd; /* files are not waited for */
    *other = NULL;
    if (again == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", file->path);
    again->fd = another_fd(file);
    if (again->fd < 0) {
        code = ntx_error_errno(err, NTX_E_DEVICE, again->fd, "%s: open once more failed", file->path);
        goto fail;
    }
    code = examine(again, file->mode, file->wants_direct, err);
    if (code != 0)
        goto fail;
    if (again->device.info.size != device->info.size) {
        code = ntx_error_set(err, NTX_E_DEVICE, -ESTALE,
                             "%s: open once more failed: its size changed from %" PRIu64 " to %" PRIu64 " bytes",
                             file->path, device->info.size, again->device.info.size);
        goto fail;
    }
    *other = &again->device;
    return 0;
fail:
    close_file(&again->device);
    return code;
}
