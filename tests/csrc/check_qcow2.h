/* check_qcow2.h: an image that is written, and what is in its file, for tests of device_qcow2.c. */
#ifndef NTX_CHECK_QCOW2_H
#define NTX_CHECK_QCOW2_H

#include "check_device.h"
#include "ntx_image.h"

#include "bytes.h"
#include "qcow2_format.h"

#include <errno.h>
#include <sys/stat.h>

#define BLOCK NTX_BLOCK_SIZE
#define SIZE (20ull * BLOCK)
#define L1_OFFSET 40
#define L1_ENTRIES 36
#define COUNTS_OFFSET 48

static inline struct ntx_qcow2_options options_of(uint64_t size)
{
    return (struct ntx_qcow2_options){.path = "image", .map_path = "map", .size = size};
}

static inline struct ntx_device *make(const struct ntx_qcow2_options *options)
{
    struct ntx_device *device;
    struct ntx_error err;

    unlink("image");
    unlink("map");
    close(open("image", O_CREAT | O_WRONLY | O_EXCL, 0600));
    CHECK_OK(ntx_open_qcow2(options, &device, &err), err);
    return device;
}

static inline struct ntx_device *open_again(const struct ntx_qcow2_options *first, uint64_t stored_to)
{
    struct ntx_qcow2_options options = *first;
    struct ntx_device *device;
    struct ntx_error err;

    options.is_opened_again = true;
    options.stored_to = stored_to;
    CHECK_OK(ntx_open_qcow2(&options, &device, &err), err);
    return device;
}

static inline int refusal_of(const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    struct ntx_device *device;
    int code = ntx_open_qcow2(options, &device, err);

    CHECK(device == NULL);
    return code;
}

static inline uint8_t *block_of(uint8_t value)
{
    static _Alignas(4096) uint8_t block[4 * BLOCK];

    memset(block, value, sizeof block);
    return block;
}

static inline void write_block(struct ntx_device *device, uint64_t block, uint8_t value)
{
    struct ntx_error err;

    CHECK_OK(do_io(device, NTX_OP_WRITE, block * BLOCK, BLOCK, block_of(value), &err), err);
}

static inline void flush(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
}

static inline void finish(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(ntx_finish(device, &err), err);
}

static inline uint64_t image_size(void)
{
    struct stat status;

    CHECK(stat("image", &status) == 0);
    return (uint64_t)status.st_size;
}

static inline void read_image(uint64_t offset, void *data, size_t length)
{
    int fd = open("image", O_RDONLY);

    CHECK_EQ_INT(pread(fd, data, length, (off_t)offset), length);
    close(fd);
}

static inline uint64_t number_at(uint64_t offset)
{
    uint8_t number[8];

    read_image(offset, number, sizeof number);
    return ntx_get64(number);
}

static inline bool is_image(void)
{
    uint8_t first[4];

    if (image_size() < sizeof first)
        return false;
    read_image(0, first, sizeof first);
    return ntx_qcow2_has_magic(first);
}

/* The L2 entry of a block of a whole image. */
static inline uint64_t entry_of(uint64_t block)
{
    uint64_t l2 = number_at(number_at(L1_OFFSET) + 8 * (block / NTX_QCOW2_ENTRIES)) & NTX_QCOW2_OFFSET;

    return l2 == 0 ? 0 : number_at(l2 + 8 * (block % NTX_QCOW2_ENTRIES));
}

static inline uint16_t count_of(uint64_t cluster)
{
    uint64_t counts = number_at(number_at(COUNTS_OFFSET));
    uint8_t count[2];

    read_image(counts + 2 * cluster, count, sizeof count);
    return ntx_get16(count);
}

static inline void check_block(uint64_t block, uint8_t value)
{
    uint8_t data[BLOCK];

    read_image(entry_of(block) & NTX_QCOW2_OFFSET, data, sizeof data);
    CHECK_EQ_MEM(data, block_of(value), BLOCK);
}

/* Damage the map: the entry of a block becomes another. */
static inline void put_entry(uint64_t block, uint64_t entry)
{
    uint8_t bytes[8];
    int fd = open("map", O_WRONLY);

    ntx_put64(bytes, entry);
    CHECK_EQ_INT(pwrite(fd, bytes, sizeof bytes, (off_t)(BLOCK + 8 * block)), sizeof bytes);
    close(fd);
}

#endif
