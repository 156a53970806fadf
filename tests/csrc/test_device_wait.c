/* test_device_wait.c: ntx_device_do() and ntx_map() on a device that answers later, wrongly, or never. */
#include "check_device.h"
#include "error.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

/* Answers each request after as many advance() calls as its answer says; what it polls is one end of a pipe. */
struct slow_device {
    struct ntx_device device;
    struct ntx_io *io;
    unsigned advances_left;
    int submit_code, advance_code, result;
    bool answers_nothing; /* a MAP completes with an empty list */
    int wake_up[2];
};

static int slow_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct slow_device *slow = (struct slow_device *)device;

    if (slow->submit_code != 0)
        return ntx_error_set(err, NTX_E_DEVICE, slow->submit_code, "submit failed");
    slow->io = io;
    return 0;
}

static int slow_advance(struct ntx_device *device, struct ntx_error *err)
{
    struct slow_device *slow = (struct slow_device *)device;

    if (slow->advance_code != 0)
        return ntx_error_set(err, NTX_E_PROTOCOL, slow->advance_code, "advance failed");
    if (slow->advances_left-- > 1)
        return 0;
    if (slow->io->op == NTX_OP_MAP && !slow->answers_nothing)
        ntx_extents_append(slow->io->map, 4096, NTX_EXTENT_ZERO); /* less than was asked for */
    if (slow->result != 0)
        ntx_device_complete_failed(device, slow->io, NTX_E_REPLY, slow->result, "because");
    else
        ntx_device_complete(device, slow->io, 0);
    return 0;
}

static void slow_close(struct ntx_device *device)
{
    struct slow_device *slow = (struct slow_device *)device;

    close(slow->wake_up[0]);
    close(slow->wake_up[1]);
}

static const struct ntx_device_ops SLOW_OPS = {.submit = slow_submit, .advance = slow_advance, .close = slow_close};

/* advances 0: nothing ever becomes readable. */
static void open_slow(struct slow_device *slow, unsigned advances)
{
    *slow = (struct slow_device){.advances_left = advances};
    CHECK(pipe(slow->wake_up) == 0);
    if (advances != 0)
        CHECK(write(slow->wake_up[1], "x", 1) == 1);
    slow->device.ops = &SLOW_OPS;
    slow->device.fd = slow->wake_up[0];
    slow->device.events = POLLIN;
    slow->device.info = (struct ntx_device_info){.size = 1 << 20,
                                                 .min_block = 512,
                                                 .preferred_block = 4096,
                                                 .max_payload = 65536,
                                                 .flags = NTX_DEVICE_CAN_MAP,
                                                 .name = "slow"};
}

static void test_it_waits_until_the_answer_is_there(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 3);

    CHECK_OK(do_io(&slow.device, NTX_OP_READ, 0, 512, NULL, &err), err);

    CHECK_EQ_U64(slow.advances_left, 0);
    CHECK_EQ_U64(slow.device.in_flight, 0);
    ntx_close(&slow.device);
}

static void test_no_answer_is_a_time_out_with_its_place(void)
{
    struct slow_device slow;
    struct ntx_error err;
    struct ntx_io io = {.op = NTX_OP_READ, .offset = 1024, .length = 512};
    open_slow(&slow, 0);

    CHECK_EQ_INT(ntx_device_do(&slow.device, &io, 20, &err), -ETIMEDOUT);

    CHECK_EQ_INT(err.class, NTX_E_TIMEOUT);
    CHECK_EQ_U64(err.offset, 1024);
    CHECK_EQ_STR(err.text, "slow: read failed: offset 1024 length 512: no answer within 20 ms");
    ntx_close(&slow.device);
}

static void test_after_a_time_out_nothing_more_is_sent(void)
{
    struct slow_device slow;
    struct ntx_error err;
    struct ntx_io late = {.op = NTX_OP_READ, .length = 512}, next = late;
    open_slow(&slow, 0);
    CHECK_EQ_INT(ntx_device_do(&slow.device, &late, 0, &err), -ETIMEDOUT);

    CHECK_EQ_INT(ntx_device_submit(&slow.device, &next, &err), -ENOTCONN);

    CHECK(slow.io == &late);
    CHECK_CONTAINS(err.text, "slow: read failed: the connection was lost before");
    ntx_close(&slow.device);
}

static void test_a_lost_connection_is_the_error(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 1);
    slow.advance_code = -EPROTO;

    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_READ, 0, 512, NULL, &err), -EPROTO);

    CHECK_EQ_INT(err.class, NTX_E_PROTOCOL);
    CHECK_EQ_STR(err.text, "advance failed");
    ntx_close(&slow.device);
}

static void test_a_request_that_could_not_start_is_not_in_flight(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 1);
    slow.submit_code = -EPIPE;

    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_READ, 0, 512, NULL, &err), -EPIPE);

    CHECK_EQ_U64(slow.device.in_flight, 0);
    ntx_close(&slow.device);
}

static void test_a_failed_request_leaves_the_device_usable(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 1);
    slow.result = -ENOSPC;

    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_WRITE, 512, 512, NULL, &err), -ENOSPC);
    CHECK_EQ_INT(err.class, NTX_E_REPLY);
    CHECK_EQ_STR(err.text, "slow: write failed: offset 512 length 512: because");
    slow.result = 0;
    slow.advances_left = 1;

    CHECK_OK(do_io(&slow.device, NTX_OP_WRITE, 512, 512, NULL, &err), err);
    ntx_close(&slow.device);
}

static void test_requests_off_the_minimum_block_are_refused(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 1);

    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_READ, 0, 513, NULL, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "minimum block");
    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_ZERO, 511, 512, NULL, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK(slow.io == NULL);
    ntx_close(&slow.device);
}

static void test_a_map_goes_on_where_an_answer_ends_and_no_answer_is_data(void)
{
    struct slow_device slow;
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;
    open_slow(&slow, 2);

    CHECK_OK(ntx_map(&slow.device, 4096, 8192, CHECK_TIMEOUT_MS, extents, 2, &count, &err), err);
    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, 4096);
    CHECK_EQ_U64(extents[0].length, 8192);
    CHECK_EQ_U64(extents[0].flags, NTX_EXTENT_ZERO);
    slow.advances_left = 1;
    slow.answers_nothing = true;

    CHECK_OK(ntx_map(&slow.device, 4096, 8192, CHECK_TIMEOUT_MS, extents, 2, &count, &err), err);
    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].length, 8192);
    CHECK_EQ_U64(extents[0].flags, 0);
    ntx_close(&slow.device);
}

static void test_bytes_that_never_become_an_answer_are_a_time_out(void)
{
    struct slow_device slow;
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;
    open_slow(&slow, UINT_MAX);

    CHECK_EQ_INT(ntx_map(&slow.device, 0, 4096, 20, extents, 2, &count, &err), -ETIMEDOUT);

    CHECK_EQ_INT(err.class, NTX_E_TIMEOUT);
    ntx_close(&slow.device);
}

static void test_a_device_that_neither_answers_nor_waits_is_an_error(void)
{
    struct slow_device slow;
    struct ntx_error err;
    open_slow(&slow, 1);
    slow.device.fd = -1;

    CHECK_EQ_INT(do_io(&slow.device, NTX_OP_FLUSH, 0, 0, NULL, &err), -EIO);

    CHECK_CONTAINS(err.text, "slow: flush failed: ");
    ntx_close(&slow.device);
}

int main(void)
{
    RUN(test_it_waits_until_the_answer_is_there);
    RUN(test_no_answer_is_a_time_out_with_its_place);
    RUN(test_after_a_time_out_nothing_more_is_sent);
    RUN(test_a_lost_connection_is_the_error);
    RUN(test_a_request_that_could_not_start_is_not_in_flight);
    RUN(test_a_failed_request_leaves_the_device_usable);
    RUN(test_requests_off_the_minimum_block_are_refused);
    RUN(test_a_map_goes_on_where_an_answer_ends_and_no_answer_is_data);
    RUN(test_bytes_that_never_become_an_answer_are_a_time_out);
    RUN(test_a_device_that_neither_answers_nor_waits_is_an_error);
    return 0;
}
