/* test_stream_connect.c: a kind of address that this machine has no sockets for.  socket() below takes the place of
 * libc's in this program. */
#include "check.h"
#include "clock.h"
#include "stream_connect.h"

#include <errno.h>
#include <sys/socket.h>

static int refusal;

int socket(int family, int type, int protocol)
{
    (void)family;
    (void)type;
    (void)protocol;
    errno = refusal;
    return -1;
}

static void check_refused(int code, enum ntx_error_class class)
{
    struct ntx_nbd_place place = {.address = "::1", .port = 10809};
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), 1000), -1};
    struct ntx_stream *stream;
    struct ntx_error err;
    refusal = code;

    CHECK_EQ_INT(ntx_stream_connect(&place, "there", &until, &stream, &err), -code);

    CHECK_EQ_INT(err.class, class);
    CHECK_CONTAINS(err.text, "there: ");
}

/* Another address of the same name may do: it is the place that cannot be reached. */
static void test_an_address_without_sockets_is_a_place_where_nobody_is(void)
{
    check_refused(EAFNOSUPPORT, NTX_E_DEVICE);
}

static void test_no_descriptors_are_the_machines_matter(void)
{
    check_refused(EMFILE, NTX_E_SYSTEM);
}

int main(void)
{
    RUN(test_an_address_without_sockets_is_a_place_where_nobody_is);
    RUN(test_no_descriptors_are_the_machines_matter);
    return 0;
}
