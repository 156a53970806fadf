/* test_nbd_text.c: what peers and users say cannot break a message, and errors keep their meaning. */
#include "check.h"
#include "nbd_proto.h"
#include "nbd_text.h"

#include <errno.h>

static void test_control_characters_and_escapes_become_question_marks(void)
{
    char text[32];
    const char hostile[] = "a\n\x1b[31m\x7f\xe2\x80\xae\0z";

    ntx_nbd_printable(text, sizeof text, hostile, sizeof hostile - 1);

    CHECK_EQ_STR(text, "a??[31m?????z");
}

static void test_texts_are_cut_and_terminated(void)
{
    char text[4] = "xxx";

    ntx_nbd_printable(text, sizeof text, "abcdefgh", 8);
    CHECK_EQ_STR(text, "abc");

    ntx_nbd_printable(text, sizeof text, "", 0);
    CHECK_EQ_STR(text, "");
}

static void test_uris_name_the_export_and_the_place(void)
{
    char text[128];

    ntx_nbd_uri_unix(text, sizeof text, "nbd+unix", "/run/a b.sock", "vm/disk 0?\n");
    CHECK_EQ_STR(text, "nbd+unix:///vm/disk%200%3F%0A?socket=/run/a%20b.sock");

    ntx_nbd_uri_tcp(text, sizeof text, "nbd", "cvm.example", "10809", "disk");
    CHECK_EQ_STR(text, "nbd://cvm.example:10809/disk");

    ntx_nbd_uri_tcp(text, sizeof text, "nbd", "::1", "10809", "");
    CHECK_EQ_STR(text, "nbd://[::1]:10809/");
}

static void test_long_uris_are_cut_between_characters(void)
{
    char text[20];

    ntx_nbd_uri_unix(text, sizeof text, "nbd+unix", "/run/x", "abcd    ");

    CHECK_EQ_STR(text, "nbd+unix:///abcd%20");
}

static void test_errors_of_the_protocol_keep_their_meaning_and_others_are_einval(void)
{
    static const struct {
        uint32_t error;
        int code;
    } table[] = {{1, -EPERM},      {5, -EIO},      {12, -ENOMEM},     {22, -EINVAL},         {28, -ENOSPC},
                 {75, -EOVERFLOW}, {95, -ENOTSUP}, {108, -ESHUTDOWN}, {0xffffffff, -EINVAL}, {2, -EINVAL}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CHECK_EQ_INT(ntx_nbd_errno(table[i].error), table[i].code);
}

int main(void)
{
    RUN(test_control_characters_and_escapes_become_question_marks);
    RUN(test_texts_are_cut_and_terminated);
    RUN(test_uris_name_the_export_and_the_place);
    RUN(test_long_uris_are_cut_between_characters);
    RUN(test_errors_of_the_protocol_keep_their_meaning_and_others_are_einval);
    return 0;
}
