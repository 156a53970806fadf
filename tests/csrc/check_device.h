/* check_device.h: requests and files in one line, for tests of devices. */
#ifndef NTX_CHECK_DEVICE_H
#define NTX_CHECK_DEVICE_H

#include "check.h"
#include "device.h"

#include <fcntl.h>
#include <unistd.h>

#define CHECK_TIMEOUT_MS 10000u

static inline int do_io(struct ntx_device *device, enum ntx_op op, uint64_t offset, uint64_t length, void *data,
                        struct ntx_error *err)
{
    struct ntx_io io = {.op = op, .offset = offset, .length = length, .data = data};

    return ntx_device_do(device, &io, CHECK_TIMEOUT_MS, err);
}

static inline struct ntx_device *open_file(const char *path, enum ntx_open_mode mode, bool direct)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_OK(ntx_open_file(path, mode, direct, &device, &err), err);
    return device;
}

static inline void check_device_holds(struct ntx_device *device, uint64_t offset, const void *expected, size_t length)
{
    struct ntx_error err;
    uint8_t *got = malloc(length);

    memset(got, 0xee, length);
    CHECK_OK(do_io(device, NTX_OP_READ, offset, length, got, &err), err);
    CHECK_EQ_MEM(got, expected, length);
    free(got);
}

/* Bytes that are never zero and differ from block to block. */
static inline uint8_t sample_byte(uint64_t offset)
{
    return (uint8_t)(1 + (offset * 7 + offset / 251 + offset / 4096) % 255);
}

static inline uint8_t *new_sample(size_t length)
{
    uint8_t *sample = malloc(length != 0 ? length : 1);

    for (size_t i = 0; i < length; i++)
        sample[i] = sample_byte(i);
    return sample;
}

static inline void put_file(const char *path, const void *data, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0);
    CHECK(write(fd, data, length) == (ssize_t)length);
    CHECK(close(fd) == 0);
}

/* An NBD export with one place, on a unix socket or at a numeric address. */
static inline int open_unix(const char *path, const char *export_name, enum ntx_open_mode mode, unsigned timeout_ms,
                            struct ntx_device **device, struct ntx_error *err)
{
    struct ntx_nbd_place place = {.path = path};

    return ntx_open_nbd(&place, 1, export_name, mode, timeout_ms, -1, device, err);
}

static inline int open_tcp(const char *address, int port, const char *export_name, enum ntx_open_mode mode,
                           unsigned timeout_ms, struct ntx_device **device, struct ntx_error *err)
{
    struct ntx_nbd_place place = {.address = address, .port = (uint16_t)port};

    return ntx_open_nbd(&place, 1, export_name, mode, timeout_ms, -1, device, err);
}

#endif
