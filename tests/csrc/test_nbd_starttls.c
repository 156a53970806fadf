/* test_nbd_starttls.c: TLS that is wanted is had, or there is no connection; and nothing is said before it. */
#include "nbd_peer.h"
#include "tls_peer.h"

static struct ntx_tls *tls;

/* Open with TLS against script; gives the code, and what the client said in the clear. */
static int open_wanting_tls(struct script *script, struct script *said, struct ntx_error *err)
{
    struct ntx_device *device;
    struct peer peer;

    peer_listen(&peer, script);
    peer.refuses_go = true;
    peer_start(&peer);
    struct ntx_nbd_place place = {.path = peer.path, .tls = tls};
    int result = ntx_open_nbd(&place, 1, "disk", NTX_OPEN_READ, CHECK_TIMEOUT_MS, -1, &device, err);
    CHECK(pthread_join(peer.thread, NULL) == 0);
    CHECK(device == NULL);
    *said = (struct script){0};
    put_bytes(said, peer.received.data, peer.received.length);
    peer_stop(&peer);
    free_script(script);
    return result;
}

/* Greeting flags, STARTTLS, and, where the protocol allows it, a goodbye: the export's name is not in it. */
static void check_no_tls(struct script *script, const char *part)
{
    static const uint8_t expected[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0IHAVEOPT\0\0\0\2\0\0\0\0";
    struct ntx_error err = {0};
    struct script said;

    CHECK(open_wanting_tls(script, &said, &err) < 0);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_CONTAINS(err.text, "nbds+unix:///disk?socket=peer.sock: ");
    CHECK_CONTAINS(err.text, part);
    CHECK(said.length < sizeof expected);
    CHECK_EQ_MEM(said.data, expected, said.length);
    free_script(&said);
}

static struct script greeting(void)
{
    struct script s = {0};

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    return s;
}

static void test_every_answer_but_yes_ends_it(void)
{
    static const struct {
        uint32_t type;
        const char *part;
    } table[] = {
        {NBD_REP_ERR_UNSUP, "the server does not offer it"},
        {NBD_REP_ERR_POLICY, "policy forbids it"},
        {NBD_REP_ERR_INVALID, "refuses it"},
        {NBD_REP_ERR_TLS_REQD, "refuses it"},
        {NBD_REP_ERR_SHUTDOWN, "refuses it"},
        {NBD_REP_INFO, "refuses it"},
        {NBD_REP_META_CONTEXT, "refuses it"},
        {0, "refuses it"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct script s = greeting();
        put_option_reply(&s, NBD_OPT_STARTTLS, table[i].type, NULL, 0);
        check_no_tls(&s, table[i].part);
    }
}

static void test_what_the_server_says_of_it_is_told_in_printable_characters(void)
{
    struct script s = greeting();
    put_option_reply(&s, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "go \x1b[away", 9);

    check_no_tls(&s, "policy forbids it: go ?[away");
}

static void test_answer_that_breaks_the_protocol_ends_it(void)
{
    struct script s = greeting();
    put_option_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    check_no_tls(&s, "a reply to an option that was not sent");

    s = greeting();
    put_option_reply(&s, NBD_OPT_STARTTLS, NBD_REP_ACK, "more", 4);
    check_no_tls(&s, "an acknowledgement with data");

    s = greeting();
    put_fill(&s, 0x55, NBD_OPTION_REPLY_HEADER_SIZE);
    check_no_tls(&s, "wrong magic");
}

/* The classic way down: a server that takes no options cannot be asked. */
static void test_server_without_options_is_refused_before_a_word(void)
{
    struct script s = {0};
    struct script said;
    struct ntx_error err = {0};
    put_greeting(&s, NBD_FLAG_NO_ZEROES);

    CHECK_EQ_INT(open_wanting_tls(&s, &said, &err), -ENOTSUP);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_CONTAINS(err.text, "TLS is required, and cannot be had: the server, or somebody on the way, says that it");
    CHECK(said.length <= 4);
    free_script(&said);
}

static void test_oldstyle_server_is_refused(void)
{
    struct script s = {0};
    struct script said;
    struct ntx_error err = {0};
    put_u64(&s, NBD_INIT_MAGIC);
    put_u64(&s, NBD_OLDSTYLE_MAGIC);
    put_fill(&s, 0, 136);

    CHECK_EQ_INT(open_wanting_tls(&s, &said, &err), -ENOTSUP);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_EQ_U64(said.length, 0);
    free_script(&said);
}

/* As in CVE-2021-3716, the other way round: what somebody puts behind the acknowledgement, before the handshake. */
static void test_bytes_behind_the_acknowledgement_end_it(void)
{
    struct script s = greeting();
    put_option_reply(&s, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
    put_structured_ack(&s);
    put_export_info(&s, 1 << 20, PEER_FLAGS);

    check_no_tls(&s, "more came behind the acknowledgement, in the clear");
}

static void test_plain_client_is_told_which_address_has_tls(void)
{
    struct script s = {0};
    put_haggling(&s, true, false);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_ERR_TLS_REQD, NULL, 0);

    check_refused(&s, NTX_E_NEGOTIATION, -ENOTSUP, "the server requires TLS, and this connection has none (nbds://");
}

int main(void)
{
    struct identity ca = make_identity(NULL, "CA", NULL, 10);
    unsigned before = open_descriptors();

    tls = make_tls(trusting(&ca, "localhost"));
    RUN(test_every_answer_but_yes_ends_it);
    RUN(test_what_the_server_says_of_it_is_told_in_printable_characters);
    RUN(test_answer_that_breaks_the_protocol_ends_it);
    RUN(test_server_without_options_is_refused_before_a_word);
    RUN(test_oldstyle_server_is_refused);
    RUN(test_bytes_behind_the_acknowledgement_end_it);
    RUN(test_plain_client_is_told_which_address_has_tls);
    ntx_tls_free(tls);
    free_identity(&ca);
    CHECK_EQ_U64(open_descriptors(), before);
    return 0;
}
