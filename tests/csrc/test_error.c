/* test_error.c: messages keep their cause, their bounds and their one line. */
#include "check.h"
#include "error.h"

#include <errno.h>

static void test_set_fills_every_field_and_returns_the_code(void)
{
    struct ntx_error err = {.offset = 7, .length = 8};

    int code = ntx_error_set(&err, NTX_E_OPTIONS, -EINVAL, "request size %u is not a multiple of 64 KiB", 5u);

    CHECK_EQ_INT(code, -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_EQ_INT(err.code, -EINVAL);
    CHECK_EQ_U64(err.offset, 0);
    CHECK_EQ_U64(err.length, 0);
    CHECK_EQ_STR(err.text, "request size 5 is not a multiple of 64 KiB");
}

static void test_errno_puts_the_cause_behind(void)
{
    struct ntx_error err;

    int code = ntx_error_errno(&err, NTX_E_DEVICE, -ENOSPC, "%s: write failed", "/disk");

    CHECK_EQ_INT(code, -ENOSPC);
    CHECK_EQ_STR(err.text, "/disk: write failed: No space left on device");
}

static void test_a_long_subject_does_not_push_out_the_cause(void)
{
    char subject[2 * NTX_ERROR_TEXT];
    struct ntx_error err;
    memset(subject, 'x', sizeof subject);
    subject[sizeof subject - 1] = '\0';

    ntx_error_errno(&err, NTX_E_DEVICE, -EIO, "%s", subject);

    CHECK_EQ_U64(strlen(err.text), NTX_ERROR_TEXT - 1);
    CHECK_CONTAINS(err.text, "x: Input/output error");
}

static void test_a_long_text_is_cut(void)
{
    struct ntx_error err;

    ntx_error_set(&err, NTX_E_SYSTEM, -ENOMEM, "%0700d", 1);

    CHECK_EQ_U64(strlen(err.text), NTX_ERROR_TEXT - 1);
}

static void test_a_message_is_one_line_whatever_the_name_holds(void)
{
    struct ntx_error err;

    ntx_error_set(&err, NTX_E_DEVICE, -EIO, "%s: read failed", "a\nb\r\x1b[31m\x7f");

    CHECK_EQ_STR(err.text, "a?b??[31m?: read failed");
}

static void test_an_error_may_be_part_of_its_own_new_text(void)
{
    struct ntx_error err;
    ntx_error_set(&err, NTX_E_DEVICE, -EIO, "inner");

    ntx_error_set(&err, NTX_E_SOURCE, err.code, "outer: %s", err.text);

    CHECK_EQ_STR(err.text, "outer: inner");
}

static void test_at_adds_the_place_and_returns_the_code(void)
{
    struct ntx_error err;
    ntx_error_set(&err, NTX_E_SOURCE, -EIO, "read failed");

    int code = ntx_error_at(&err, 4096, 512);

    CHECK_EQ_INT(code, -EIO);
    CHECK_EQ_U64(err.offset, 4096);
    CHECK_EQ_U64(err.length, 512);
}

static void test_errno_text_takes_both_signs_and_unknown_numbers(void)
{
    char text[64];

    CHECK_EQ_STR(ntx_errno_text(-ENOENT, text, sizeof text), "No such file or directory");
    CHECK_EQ_STR(ntx_errno_text(ENOENT, text, sizeof text), "No such file or directory");
    CHECK_CONTAINS(ntx_errno_text(-99999, text, sizeof text), "99999");
}

int main(void)
{
    RUN(test_set_fills_every_field_and_returns_the_code);
    RUN(test_errno_puts_the_cause_behind);
    RUN(test_a_long_subject_does_not_push_out_the_cause);
    RUN(test_a_long_text_is_cut);
    RUN(test_a_message_is_one_line_whatever_the_name_holds);
    RUN(test_an_error_may_be_part_of_its_own_new_text);
    RUN(test_at_adds_the_place_and_returns_the_code);
    RUN(test_errno_text_takes_both_signs_and_unknown_numbers);
    return 0;
}
