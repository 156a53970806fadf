/*
 * qcow2_sample.h: images made by hand, a cluster at a time, so that each number in them can be a wrong one.
 *
 *   cluster   0: header   1: L1   2: the L2 table of the first 512 MiB   3...: what the test puts there
 */
#ifndef NTX_QCOW2_SAMPLE_H
#define NTX_QCOW2_SAMPLE_H

#include "bytes.h"
#include "check_device.h"
#include "ntx_image.h"
#include "qcow2_format.h"

#include <zstd.h>

#define CLUSTER ((uint64_t)NTX_QCOW2_CLUSTER)
#define SAMPLE_L1 CLUSTER
#define SAMPLE_L2 (2 * CLUSTER)
#define SAMPLE_FIRST 3u
#define SAMPLE_CLUSTERS 16u

struct sample {
    uint64_t length;
    uint8_t bytes[SAMPLE_CLUSTERS * CLUSTER];
};

/* An image of a disk of so many bytes, of which nothing is there. */
static inline struct sample *new_image(uint64_t size, bool is_zstd)
{
    struct sample *image = calloc(1, sizeof *image);
    struct ntx_qcow2_header header = {.size = size,
                                      .is_zstd = is_zstd,
                                      .l1_offset = SAMPLE_L1,
                                      .l1_entries = (uint32_t)((size + NTX_QCOW2_L2_BYTES - 1) / NTX_QCOW2_L2_BYTES),
                                      .counts_offset = CLUSTER,
                                      .counts_clusters = 1};

    CHECK(image != NULL && ntx_qcow2_put_header(&header, image->bytes) == 0);
    image->length = SAMPLE_FIRST * CLUSTER;
    ntx_put64(image->bytes + SAMPLE_L1, SAMPLE_L2 | NTX_QCOW2_COPIED);
    return image;
}

static inline void put_entry(struct sample *image, unsigned cluster, uint64_t entry)
{
    ntx_put64(image->bytes + SAMPLE_L2 + cluster * 8, entry);
}

/* Put a cluster of this byte behind what is there, as cluster of the disk. */
static inline uint64_t put_data(struct sample *image, unsigned cluster, int value)
{
    uint64_t place = ntx_round_up(image->length, CLUSTER);

    CHECK(place + CLUSTER <= sizeof image->bytes);
    memset(image->bytes + place, value, CLUSTER);
    image->length = place + CLUSTER;
    put_entry(image, cluster, place | NTX_QCOW2_COPIED);
    return place;
}

/* Put a frame behind what is there, as it is. */
static inline uint64_t put_frame(struct sample *image, unsigned cluster, const void *frame, size_t length)
{
    uint64_t place = image->length;

    CHECK(place + length <= sizeof image->bytes);
    memcpy(image->bytes + place, frame, length);
    image->length += length;
    put_entry(image, cluster, ntx_qcow2_compressed_entry(place, (uint32_t)length));
    return place;
}

/* The same of `size` bytes of this value, which are not all alike. */
static inline uint64_t put_packed(struct sample *image, unsigned cluster, int value, size_t size)
{
    static uint8_t plain[2 * NTX_QCOW2_CLUSTER], frame[3 * NTX_QCOW2_CLUSTER];

    memset(plain, value, size);
    for (size_t i = 0; i < size; i += 997)
        plain[i] = sample_byte(i);
    size_t length = ZSTD_compress(frame, sizeof frame, plain, size, 1);
    CHECK(!ZSTD_isError(length));
    return put_frame(image, cluster, frame, length);
}

/* What that is when it is unpacked. */
static inline void fill_packed(uint8_t *cluster, int value)
{
    memset(cluster, value, CLUSTER);
    for (size_t i = 0; i < CLUSTER; i += 997)
        cluster[i] = sample_byte(i);
}

/* Write images to image-0, image-1, ..., and open them, nearest first. */
static inline int try_images(struct sample *const *images, size_t count, struct ntx_device **device,
                             struct ntx_error *err)
{
    int fds[8] = {-1};
    char path[32];

    CHECK(count <= 8);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "image-%zu", i);
        put_file(path, images[i]->bytes, images[i]->length);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fds[i] >= 0);
    }
    int code = ntx_open_qcow2_chain("disk", fds, count, device, err);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    return code;
}

static inline struct ntx_device *open_images(struct sample *const *images, size_t count)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_OK(try_images(images, count, &device, &err), err);
    return device;
}

#endif
