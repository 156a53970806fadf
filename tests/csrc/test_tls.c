/* test_tls.c: whom a client trusts, who is refused, and with which words. */
#include "tls_peer.h"

static struct identity ca, other_ca, server, client;

/* The handshake succeeds, and so does a byte. */
static void check_trust(struct tls_peer *peer, struct ntx_tls *tls)
{
    struct ntx_stream *stream = tls_peer_open(peer, tls);
    struct ntx_until until = soon();
    char byte;

    CHECK_EQ_INT(ntx_stream_recv_all(stream, &byte, 1, &until, NULL), -ECONNRESET); /* the peer says goodbye */
    CHECK(peer->is_accepted);
    tls_peer_end(peer, stream);
    ntx_tls_free(tls);
}

/* --------------------------------------------------------------------------------------------- the server */

static void test_server_of_the_named_ca_is_trusted_by_name_and_by_address(void)
{
    check_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&ca, "localhost")));
    check_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&ca, "127.0.0.1")));
}

static void test_both_versions_that_are_safe_are_spoken(void)
{
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.identity = &server, .min_version = versions[i], .max_version = versions[i]};
        check_trust(&peer, make_tls(trusting(&ca, "localhost")));
    }
}

static void test_older_versions_are_refused(void)
{
    struct tls_peer peer = {.identity = &server, .min_version = TLS1_VERSION, .max_version = TLS1_1_VERSION};

    check_no_trust(&peer, make_tls(trusting(&ca, "localhost")), "the server offers no TLS from version 1.2 on");
}

static void test_server_of_another_ca_is_refused(void)
{
    check_no_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&other_ca, "localhost")),
                   "no CA that was given has signed the server's certificate");
}

static void test_certificate_for_another_host_is_refused_and_says_whose_it_is(void)
{
    check_no_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&ca, "other.example")),
                   "the server's certificate is not for other.example, but for localhost, 127.0.0.1");
    check_no_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&ca, "127.0.0.2")),
                   "is not for 127.0.0.2, but for localhost, 127.0.0.1");
    check_no_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&ca, "localhost.example")), "is not for");
}

/* CVE-2024-7383 and before: a common name is what somebody is called. */
static void test_common_name_is_no_host_name(void)
{
    struct identity named = make_identity(&ca, "localhost", "email:a@b.example", 10);

    check_no_trust(&(struct tls_peer){.identity = &named}, make_tls(trusting(&ca, "localhost")),
                   "it names no host at all");
    free_identity(&named);
}

static void test_names_in_a_certificate_are_made_printable(void)
{
    struct identity odd = make_identity(&ca, "odd", "DNS:a\x1b[31mb", 10);

    check_no_trust(&(struct tls_peer){.identity = &odd}, make_tls(trusting(&ca, "localhost")), "for a?[31mb");
    free_identity(&odd);
}

static void test_expired_certificate_says_since_when(void)
{
    struct identity old = make_identity(&ca, "old", "DNS:localhost", -1);

    check_no_trust(&(struct tls_peer){.identity = &old}, make_tls(trusting(&ca, "localhost")),
                   "the server's certificate expired on 20");
    free_identity(&old);
}

static void test_self_signed_certificate_is_trusted_only_when_it_is_given(void)
{
    struct identity alone = make_identity(NULL, "alone", "DNS:localhost", 10);

    check_no_trust(&(struct tls_peer){.identity = &alone}, make_tls(trusting(&ca, "localhost")), "self-signed");
    check_trust(&(struct tls_peer){.identity = &alone}, make_tls(trusting(&alone, "localhost")));
    free_identity(&alone);
}

/* Whoever names it need not have the root that signed it. */
static void test_intermediate_that_is_named_is_trusted_alone(void)
{
    struct identity between = make_identity(&ca, "between", NULL, 10);
    struct identity below = make_identity(&between, "below", "DNS:localhost", 10);

    check_trust(&(struct tls_peer){.identity = &below}, make_tls(trusting(&between, "localhost")));
    check_no_trust(&(struct tls_peer){.identity = &below}, make_tls(trusting(&ca, "localhost")),
                   "no CA that was given");
    check_no_trust(&(struct tls_peer){.identity = &server}, make_tls(trusting(&between, "localhost")),
                   "no CA that was given");
    free_identity(&below);
    free_identity(&between);
}

/* ---------------------------------------------------------------------------------------------- the client */

static struct ntx_tls *showing(const struct identity *identity)
{
    struct ntx_tls_options options = trusting(&ca, "localhost");

    options.certificate = pem_of("client.pem", identity->certificate_pem);
    options.key = pem_of("client.key", identity->key_pem);
    return make_tls(options);
}

static void test_client_certificate_is_shown(void)
{
    check_trust(&(struct tls_peer){.identity = &server, .client_ca = &ca}, showing(&client));
}

/* With TLS 1.3 the client is done before the server has looked: the refusal comes with the first answer. */
static void test_server_that_does_not_trust_us_says_why(void)
{
    struct ntx_tls *clients[] = {make_tls(trusting(&ca, "localhost")), showing(&client)};
    const struct identity *trusted[] = {&ca, &other_ca};
    const char *parts[] = {"wants a client certificate, and none was given", "no CA that the server knows"};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.identity = &server, .client_ca = trusted[i]};
        struct ntx_stream *stream = tls_peer_open(&peer, clients[i]);
        struct ntx_until until = soon();
        char byte;

        CHECK_EQ_INT(ntx_stream_recv_all(stream, &byte, 1, &until, NULL), -EKEYREJECTED);

        CHECK_CONTAINS(ntx_stream_why(stream).text, parts[i]);
        tls_peer_end(&peer, stream);
        ntx_tls_free(clients[i]);
    }
}

static void test_older_server_that_does_not_trust_us_says_why(void)
{
    struct tls_peer peer = {.identity = &server, .client_ca = &ca, .max_version = TLS1_2_VERSION};

    check_no_trust(&peer, make_tls(trusting(&ca, "localhost")), "no");
}

/* ----------------------------------------------------------------------------------------- pre-shared keys */

static void test_key_that_both_have_is_enough(void)
{
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.min_version = versions[i], .max_version = versions[i]};
        check_trust(&peer, make_tls(with_psk("alice", PEER_PSK)));
    }
}

static void test_key_or_user_that_differs_is_refused(void)
{
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.min_version = versions[i], .max_version = versions[i]};
        check_no_trust(&peer, make_tls(with_psk("alice", "fedcba9876543210")), "");
        check_no_trust(&peer, make_tls(with_psk("bob", PEER_PSK)), "");
    }
}

static void test_certificate_is_not_taken_for_a_key(void)
{
    int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < 2; i++) {
        struct tls_peer peer = {.identity = &server, .min_version = versions[i], .max_version = versions[i]};
        check_no_trust(&peer, make_tls(with_psk("alice", PEER_PSK)), "");
    }
}

/* ----------------------------------------------------------------------------------------------- arguments */

static void check_options(struct ntx_tls_options options, const char *part)
{
    struct ntx_tls *tls;
    struct ntx_error err = {0};

    CHECK_EQ_INT(ntx_tls_new(&options, &tls, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_CONTAINS(err.text, part);
    CHECK(tls == NULL);
}

/* To OpenSSL an empty name is any, and a dot in front is all below. */
static void test_host_name_that_would_let_any_in_is_refused(void)
{
    check_options(trusting(&ca, ""), "a host name has");
    check_options(trusting(&ca, NULL), "a host name has");
    check_options(trusting(&ca, ".example"), "no dot in front");
}

static void test_files_that_hold_something_else_are_named(void)
{
    struct ntx_tls_options options = trusting(&ca, "localhost");
    options.ca = pem_of("ca.pem", "nothing\n");
    check_options(options, "ca.pem: holds no certificate");
    options.ca = pem_of("ca.pem", "");
    check_options(options, "ca.pem: holds no certificate");
    options.ca = pem_of("ca.pem", server.key_pem);
    check_options(options, "ca.pem: holds no certificate");

    options = trusting(&ca, "localhost");
    options.certificate = pem_of("c.pem", client.key_pem);
    options.key = pem_of("k.pem", client.key_pem);
    check_options(options, "c.pem: holds no certificate");
    options.certificate = pem_of("c.pem", client.certificate_pem);
    options.key = pem_of("k.pem", client.certificate_pem);
    check_options(options, "k.pem: holds no private key");
    options.key = pem_of("k.pem", server.key_pem);
    check_options(options, "k.pem: the key in it is not that of the certificate");
}

static void test_damaged_certificate_behind_a_good_one_is_refused(void)
{
    char text[9000];
    struct ntx_tls_options options = trusting(&ca, "localhost");

    snprintf(text, sizeof text, "%s%s", ca.certificate_pem, server.certificate_pem);
    memset(text + strlen(ca.certificate_pem) + 100, '!', 20);
    options.ca = pem_of("ca.pem", text);

    check_options(options, "ca.pem: a certificate in it is damaged");
    options.ca = pem_of("ca.pem", ca.certificate_pem);
    options.certificate = pem_of("c.pem", text);
    options.key = pem_of("k.pem", ca.key_pem);
    check_options(options, "c.pem: a certificate of the chain in it is damaged");
}

static void test_expired_certificate_of_ours_is_not_shown(void)
{
    struct identity old = make_identity(&ca, "old", "DNS:client", -1);
    struct ntx_tls_options options = trusting(&ca, "localhost");

    options.certificate = pem_of("c.pem", old.certificate_pem);
    options.key = pem_of("k.pem", old.key_pem);

    check_options(options, "c.pem: the certificate in it has expired");
    free_identity(&old);
}

static void test_passphrase_is_not_asked_for(void)
{
    struct ntx_tls_options options = trusting(&ca, "localhost");
    BIO *bio = BIO_new(BIO_s_mem());
    char text[4096];

    PEM_write_bio_PrivateKey(bio, client.key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
    read_pem(bio, text, sizeof text);
    options.certificate = pem_of("c.pem", client.certificate_pem);
    options.key = pem_of("k.pem", text);

    check_options(options, "k.pem: the key in it has a passphrase");
}

static void test_key_that_can_be_tried_out_is_refused(void)
{
    check_options(with_psk("alice", "0123456789abcde"), "has 16 to 64 bytes, this one 15");
    check_options(with_psk("", PEER_PSK), "user");
}

int main(void)
{
    ca = make_identity(NULL, "CA", NULL, 10);
    other_ca = make_identity(NULL, "other CA", NULL, 10);
    server = make_identity(&ca, "server", "DNS:localhost,IP:127.0.0.1", 10);
    client = make_identity(&ca, "client", "DNS:client", 10);

    RUN(test_server_of_the_named_ca_is_trusted_by_name_and_by_address);
    RUN(test_both_versions_that_are_safe_are_spoken);
    RUN(test_older_versions_are_refused);
    RUN(test_server_of_another_ca_is_refused);
    RUN(test_certificate_for_another_host_is_refused_and_says_whose_it_is);
    RUN(test_common_name_is_no_host_name);
    RUN(test_names_in_a_certificate_are_made_printable);
    RUN(test_expired_certificate_says_since_when);
    RUN(test_self_signed_certificate_is_trusted_only_when_it_is_given);
    RUN(test_intermediate_that_is_named_is_trusted_alone);
    RUN(test_client_certificate_is_shown);
    RUN(test_server_that_does_not_trust_us_says_why);
    RUN(test_older_server_that_does_not_trust_us_says_why);
    RUN(test_key_that_both_have_is_enough);
    RUN(test_key_or_user_that_differs_is_refused);
    RUN(test_certificate_is_not_taken_for_a_key);
    RUN(test_host_name_that_would_let_any_in_is_refused);
    RUN(test_files_that_hold_something_else_are_named);
    RUN(test_damaged_certificate_behind_a_good_one_is_refused);
    RUN(test_expired_certificate_of_ours_is_not_shown);
    RUN(test_passphrase_is_not_asked_for);
    RUN(test_key_that_can_be_tried_out_is_refused);
    free_identity(&ca);
    free_identity(&other_ca);
    free_identity(&server);
    free_identity(&client);
    return 0;
}
