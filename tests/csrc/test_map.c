/* test_map.c: how ntx_map() asks a device that answers range by range, of which one may be as large as NBD permits. */
#include "bytes.h"
#include "check.h"
#include "device.h"
#include "error.h"

#include <errno.h>
#include <poll.h>

#define TIMEOUT_MS 10000u

struct stub {
    struct ntx_device base;
    uint64_t asked[64]; /* lengths */
    unsigned count;
    uint64_t longest; /* a longer range is refused with code; 0: all are */
    int code;
    uint64_t shortest; /* of an answer, which may go on behind what was asked */
    int delay_ms;
};

static int stub_submit(struct ntx_device *base, struct ntx_io *io, struct ntx_error *err)
{
    struct stub *stub = (struct stub *)base;
    (void)err;
    poll(NULL, 0, stub->delay_ms);
    CHECK(stub->count < 64);
    CHECK_EQ_U64(io->offset, io->map->end);
    stub->asked[stub->count++] = io->length;
    if (io->length > stub->longest) {
        ntx_device_complete_failed(base, io, NTX_E_REPLY, stub->code, "too long");
    } else {
        ntx_extents_append(io->map, ntx_max64(io->length, stub->shortest), NTX_EXTENT_ZERO);
        ntx_device_complete(base, io, 0);
    }
    return 0;
}

static const struct ntx_device_ops stub_ops = {.submit = stub_submit};

static struct stub new_stub(uint64_t size)
{
    return (struct stub){
        .base = {.ops = &stub_ops, .info = {.size = size, .min_block = 1, .flags = NTX_DEVICE_CAN_MAP, .name = "stub"}},
        .longest = UINT64_MAX,
        .code = -EINVAL,
    };
}

/* The one extent from 0 on that comes back. */
static uint64_t map(struct stub *stub)
{
    struct ntx_extent extents[4];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(&stub->base, 0, stub->base.info.size, TIMEOUT_MS, extents, 4, &count, &err), err);
    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, 0);
    CHECK_EQ_U64(extents[0].flags, NTX_EXTENT_ZERO);
    return extents[0].length;
}

static void test_more_is_asked_at_once_as_long_as_it_is_answered(void)
{
    static const uint64_t expected[] = {1, 2, 4, 4, 4, 4, 1};
    struct stub stub = new_stub(20 * NTX_GIB);

    CHECK_EQ_U64(map(&stub), 20 * NTX_GIB);

    CHECK_EQ_INT(stub.count, 7);
    for (unsigned i = 0; i < stub.count; i++)
        CHECK_EQ_U64(stub.asked[i], expected[i] * NTX_GIB);
}

static void test_an_answer_that_goes_on_behind_the_question_is_taken_whole(void)
{
    struct stub stub = new_stub(90 * NTX_GIB);
    stub.shortest = 30 * NTX_GIB;

    CHECK_EQ_U64(map(&stub), 90 * NTX_GIB);

    CHECK_EQ_INT(stub.count, 3);
}

static void test_a_length_that_is_refused_is_halved_and_not_tried_again(void)
{
    static const int codes[] = {-EINVAL, -EOVERFLOW};
    for (int i = 0; i < 2; i++) {
        struct stub stub = new_stub(2 * NTX_GIB);
        stub.longest = 256 * NTX_MIB;
        stub.code = codes[i];

        CHECK_EQ_U64(map(&stub), 2 * NTX_GIB);

        CHECK_EQ_INT(stub.count, 2 + 8);
    }
}

static void test_a_device_that_refuses_every_length_has_failed(void)
{
    struct stub stub = new_stub(NTX_GIB);
    struct ntx_extent extents[4];
    struct ntx_error err;
    size_t count;
    stub.longest = 0;

    CHECK_EQ_INT(ntx_map(&stub.base, 0, NTX_GIB, TIMEOUT_MS, extents, 4, &count, &err), -EINVAL);

    CHECK_CONTAINS(err.text, "stub: map failed: offset 0 length 65536");
}

static void test_other_failures_are_not_tried_again(void)
{
    struct stub stub = new_stub(NTX_GIB);
    struct ntx_extent extents[4];
    struct ntx_error err;
    size_t count;
    stub.longest = 0;
    stub.code = -EIO;

    CHECK_EQ_INT(ntx_map(&stub.base, 0, NTX_GIB, TIMEOUT_MS, extents, 4, &count, &err), -EIO);

    CHECK_EQ_INT(stub.count, 1);
}

static void test_what_takes_long_comes_back_in_parts(void)
{
    struct stub stub = new_stub(1000 * NTX_GIB);
    stub.delay_ms = 60;

    uint64_t mapped = map(&stub);

    /* One answer if the machine is slow, and never what comes after more than two. */
    CHECK(stub.count == 1 || stub.count == 2);
    CHECK_EQ_U64(mapped, stub.count == 1 ? NTX_GIB : 3 * NTX_GIB);
}

static void test_a_device_that_works_at_once_is_asked_once(void)
{
    struct stub stub = new_stub(1ull << 62);
    stub.base.fd = -1;

    CHECK_EQ_U64(map(&stub), 1ull << 62);

    CHECK_EQ_INT(stub.count, 1);
}

int main(void)
{
    RUN(test_more_is_asked_at_once_as_long_as_it_is_answered);
    RUN(test_an_answer_that_goes_on_behind_the_question_is_taken_whole);
    RUN(test_a_length_that_is_refused_is_halved_and_not_tried_again);
    RUN(test_a_device_that_refuses_every_length_has_failed);
    RUN(test_other_failures_are_not_tried_again);
    RUN(test_what_takes_long_comes_back_in_parts);
    RUN(test_a_device_that_works_at_once_is_asked_once);
    return 0;
}
