/*
 * fuzz_stream.h: a stream whose peer says what the fuzzer made up, in parts of a length that it made up too.
 *
 * It takes everything that is sent, and ends after the last byte.
 */
#ifndef FUZZ_STREAM_H
#define FUZZ_STREAM_H

#include "bytes.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

/* Whatever must hold, whatever the server says. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

#define FUZZ_NAME "disk" /* of the export: not for everybody to read */

struct fuzz_stream {
    struct ntx_stream stream;
    const uint8_t *data;
    size_t left;
    size_t part; /* most bytes of one call; at least 1 */
    bool has_said_name;
};

static inline ssize_t fuzz_sendv(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer)
{
    struct fuzz_stream *fuzz = (struct fuzz_stream *)stream;
    ssize_t total = 0;

    (void)may_refer;
    for (unsigned i = 0; i < count; i++) {
        total += (ssize_t)vectors[i].iov_len;
        if (memmem(vectors[i].iov_base, vectors[i].iov_len, FUZZ_NAME, sizeof FUZZ_NAME - 1) != NULL)
            fuzz->has_said_name = true;
    }
    return total;
}

static inline ssize_t fuzz_recvv(struct ntx_stream *stream, struct iovec *vectors, unsigned count)
{
    struct fuzz_stream *fuzz = (struct fuzz_stream *)stream;
    size_t total = 0;

    for (unsigned i = 0; i < count && total < fuzz->part; i++) {
        size_t length = ntx_min64(ntx_min64(vectors[i].iov_len, fuzz->part - total), fuzz->left);
        if (length == 0)
            continue;
        memcpy(vectors[i].iov_base, fuzz->data, length);
        fuzz->data += length;
        fuzz->left -= length;
        total += length;
    }
    return (ssize_t)total;
}

static inline bool fuzz_pending(const struct ntx_stream *stream)
{
    return ((const struct fuzz_stream *)stream)->left > 0;
}

static inline short fuzz_wants(const struct ntx_stream *stream, short events)
{
    (void)stream;
    return events;
}

static inline const char *fuzz_reason(const struct ntx_stream *stream)
{
    (void)stream;
    return "";
}

static inline void fuzz_close(struct ntx_stream *stream)
{
    (void)stream;
}

static inline void fuzz_stream_init(struct fuzz_stream *fuzz, const uint8_t *data, size_t size, size_t part)
{
    static const struct ntx_stream_ops ops = {.sendv = fuzz_sendv,
                                              .recvv = fuzz_recvv,
                                              .pending = fuzz_pending,
                                              .wants = fuzz_wants,
                                              .reason = fuzz_reason,
                                              .close = fuzz_close};

    *fuzz = (struct fuzz_stream){.stream = {.ops = &ops, .fd = -1}, .data = data, .left = size, .part = part};
}

#endif
