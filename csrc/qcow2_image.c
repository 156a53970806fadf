/* qcow2_image.c: see qcow2_image.h.  What makes it an image is in qcow2_finish.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_CLOEXEC, O_NOFOLLOW, fallocate() */
#endif
#include "qcow2_image.h"

#include "bytes.h"
#include "error.h"
#include "file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much room is made at once: an eighth of what there is, so that a file that is never finished wastes no more. */
#define LEAST_ROOM (4u * NTX_MIB)
#define MOST_ROOM (64u * NTX_MIB)

#define MAX_SIZE ((uint64_t)NTX_QCOW2_MAX_L1 * NTX_QCOW2_L2_BYTES)

struct ntx_qcow2_image *ntx_qcow2_image_share(struct ntx_qcow2_image *image)
{
    atomic_fetch_add_explicit(&image->users, 1, memory_order_relaxed);
    return image;
}

void ntx_qcow2_image_release(struct ntx_qcow2_image *image)
{
    if (image == NULL || atomic_fetch_sub_explicit(&image->users, 1, memory_order_acq_rel) != 1)
        return;
    ntx_qcow2_chain_release(image->shared);
    ntx_qcow2_map_close(&image->map);
    if (image->fd >= 0)
        close(image->fd);
    free(image->backing_name);
    free(image->path);
    free(image);
}

static struct ntx_qcow2_image *new_image(const struct ntx_qcow2_options *options)
{
    struct ntx_qcow2_image *image = calloc(1, sizeof *image);

    if (image == NULL)
        return NULL;
    atomic_store(&image->users, 1);
    image->fd = image->map.fd = -1;
    image->size = options->size;
    image->zstd_level = options->zstd_level;
    atomic_store(&image->end, NTX_QCOW2_CLUSTER); /* behind the header */
    image->path = strdup(options->path);
    image->backing_name = strdup(options->backing_name != NULL ? options->backing_name : "");
    if (image->path != NULL && image->backing_name != NULL)
        return image;
    ntx_qcow2_image_release(image);
    return NULL;
}

void ntx_qcow2_image_make_room(struct ntx_qcow2_image *image, uint64_t from, uint64_t to)
{
    uint64_t room = atomic_load_explicit(&image->room, memory_order_relaxed);
    uint64_t most = ntx_round_up(image->size, NTX_QCOW2_CLUSTER) + NTX_QCOW2_CLUSTER; /* unless it is written twice */
    uint64_t ahead = ntx_min64(ntx_max64(to / 8, LEAST_ROOM), MOST_ROOM);
    uint64_t wanted = ntx_round_up(ntx_min64(to + ahead, ntx_max64(most, to)), NTX_QCOW2_CLUSTER);

    /* One thread does it; the others do not wait. */
    if (to <= room || !atomic_compare_exchange_strong(&image->room, &room, wanted))
        return;
    if (fallocate(image->fd, 0, (off_t)from, (off_t)(wanted - from)) < 0)
        atomic_store(&image->room, UINT64_MAX);
}

/* ------------------------------------------------------------------------------------------------ the file */

static int check_options(const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    bool is_aligned = options->stored_to % NTX_BLOCK_SIZE == 0 || options->stored_to >= options->size;

    if (options->size > MAX_SIZE)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: an image of %" PRIu64 " bytes cannot be made",
                             options->path, options->size);
    if (options->zstd_level < 0 || options->zstd_level > NTX_MAX_ZSTD_LEVEL)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: zstd level %d: 1 to %d, or 0 for none", options->path,
                             options->zstd_level, NTX_MAX_ZSTD_LEVEL);
    if (!is_aligned)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: %" PRIu64 " is no end of a block", options->path,
                             options->stored_to);
    return 0;
}

static int open_file(struct ntx_qcow2_image *image, const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    struct stat status;

    image->fd = open(image->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (image->fd < 0 || fstat(image->fd, &status) < 0)
        return ntx_error_errno(err, NTX_E_DEVICE, -errno, "%s: opening the image failed", image->path);
    if (!S_ISREG(status.st_mode))
        return ntx_error_set(err, NTX_E_DEVICE, -EINVAL, "%s: opening the image failed: it is not a regular file",
                             image->path);
    if (!options->is_opened_again && status.st_size != 0)
        return ntx_error_errno(err, NTX_E_DEVICE, -EEXIST, "%s: making the image failed", image->path);
    return 0;
}

static int map_failed(const struct ntx_qcow2_options *options, int code, struct ntx_error *err)
{
    const char *action = options->is_opened_again ? "opening" : "making";

    if (code == -EBUSY)
        return ntx_error_set(err, NTX_E_DEVICE, code, "%s: another process writes to this image", options->path);
    if (code == -ESTALE)
        return ntx_error_set(err, NTX_E_DEVICE, code, "%s: is not the map of image %s, or is damaged",
                             options->map_path, options->path);
    return ntx_error_errno(err, NTX_E_DEVICE, code, "%s: %s the map of the image failed", options->map_path, action);
}

/* -------------------------------------------------------------------------------------------- opened again */

int ntx_qcow2_check_entry(uint64_t entry, uint64_t end, uint64_t *last)
{
    uint64_t offset = entry & NTX_QCOW2_OFFSET;
    uint32_t length = NTX_QCOW2_CLUSTER;

    *last = 0;
    if (entry == 0 || entry == NTX_QCOW2_ZERO)
        return 0;
    if ((entry & NTX_QCOW2_COMPRESSED) != 0) {
        if ((entry & NTX_QCOW2_COPIED) != 0)
            return -EBADMSG;
        offset = ntx_qcow2_compressed_place(entry, &length);
        if (length > NTX_QCOW2_CLUSTER) /* no frame that we write is */
            return -EBADMSG;
    } else if (entry != (offset | NTX_QCOW2_COPIED) || offset % NTX_QCOW2_CLUSTER != 0) {
        return -EBADMSG;
    }
    if (offset < NTX_QCOW2_CLUSTER || offset > end || length > end - offset)
        return -EBADMSG;
    *last = ntx_round_up(offset + length, NTX_QCOW2_CLUSTER);
    return 0;
}

/* Check the first count entries of a page. */
static int check_page(struct ntx_qcow2_image *image, const uint8_t *table, uint64_t page, uint64_t count,
                      uint64_t file_end, struct ntx_error *err)
{
    uint64_t end = atomic_load(&image->end), last;

    for (unsigned i = 0; i < count; i++) {
        uint64_t entry = ntx_get64(table + 8 * i);
        if (ntx_qcow2_check_entry(entry, file_end, &last) != 0)
            return ntx_error_set(err, NTX_E_DEVICE, -EBADMSG,
                                 "%s: the map of this image is damaged: cluster %" PRIu64 " is %#" PRIx64, image->path,
                                 page * NTX_QCOW2_ENTRIES + i, entry);
        end = ntx_max64(end, last);
    }
    atomic_store(&image->end, end);
    return 0;
}

/* Find the end of what the map refers to for the first `kept` clusters of the disk. */
static int find_end(struct ntx_qcow2_image *image, uint64_t kept, uint64_t file_end, struct ntx_error *err)
{
    uint8_t *table = malloc(NTX_QCOW2_CLUSTER);
    int code = table != NULL ? 0 : ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory", image->path);

    for (uint64_t page = 0; code == 0; page++) {
        code = ntx_qcow2_map_next(&image->map, page, &page, table);
        if (code != 0)
            ntx_error_errno(err, NTX_E_DEVICE, code, "%s: reading the map of the image failed", image->path);
        else if (page * NTX_QCOW2_ENTRIES >= kept)
            break;
        else
            code = check_page(image, table, page, ntx_min64(kept - page * NTX_QCOW2_ENTRIES, NTX_QCOW2_ENTRIES),
                              file_end, err);
    }
    free(table);
    return code;
}

/* From here on it is no image, until it is finished again. */
static int remove_header(struct ntx_qcow2_image *image)
{
    static const uint8_t nothing[8];
    uint64_t at = 0;
    int code = ntx_write_at(image->fd, nothing, sizeof nothing, &at);

    return code != 0 ? code : ntx_sync_file(image->fd, 0, NULL);
}

/* Keep what lies below stored_to, and drop all else: only once it is known that what is kept can be. */
static int open_again(struct ntx_qcow2_image *image, const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    uint64_t kept = ntx_min64(ntx_qcow2_clusters(options->stored_to), image->map.clusters);
    off_t file_end = lseek(image->fd, 0, SEEK_END);
    int code = file_end < 0
                   ? ntx_error_errno(err, NTX_E_DEVICE, -errno, "%s: opening the image again failed", image->path)
                   : find_end(image, kept, (uint64_t)file_end, err);

    if (code != 0)
        return code;
    code = file_end > 0 ? remove_header(image) : 0;
    if (code == 0)
        code = ntx_qcow2_map_forget(&image->map, kept, image->map.clusters - kept);
    if (code == 0 && (uint64_t)file_end > atomic_load(&image->end) &&
        ftruncate(image->fd, (off_t)atomic_load(&image->end)) < 0)
        code = -errno;
    if (code != 0)
        ntx_error_errno(err, NTX_E_DEVICE, code, "%s: opening the image again failed", image->path);
    return code;
}

/* The file is an image already. */
static bool has_header(struct ntx_qcow2_image *image)
{
    uint8_t first[4];
    uint64_t at = 0;

    return ntx_read_at(image->fd, first, sizeof first, &at) == 0 && ntx_qcow2_has_magic(first);
}

static int open_map(struct ntx_qcow2_image *image, const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    int code;

    if (!options->is_opened_again) {
        code = ntx_qcow2_map_new(&image->map, options->map_path, options->size, image->backing_name);
        if (code != 0 && image->map.fd >= 0)
            unlink(options->map_path);
        return code == 0 ? 0 : map_failed(options, code, err);
    }
    code = ntx_qcow2_map_open(&image->map, options->map_path, options->size, image->backing_name);
    /* Whole, whatever became of its map, if nothing is to be written any more: its header stays. */
    if (code != -EBUSY && (code == -ENOENT || options->stored_to >= options->size))
        image->is_whole = has_header(image);
    if (image->is_whole)
        return 0;
    return code == 0 ? open_again(image, options, err) : map_failed(options, code, err);
}

int ntx_qcow2_image_open(const struct ntx_qcow2_options *options, struct ntx_qcow2_image **result,
                         struct ntx_error *err)
{
    struct ntx_qcow2_image *image;
    int code = check_options(options, err);

    *result = NULL;
    if (code != 0)
        return code;
    if ((image = new_image(options)) == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory", options->path);
    code = open_file(image, options, err);
    if (code == 0)
        code = open_map(image, options, err);
    if (code == 0)
        *result = image;
    else
        ntx_qcow2_image_release(image);
    return code;
}
