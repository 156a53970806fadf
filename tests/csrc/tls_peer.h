/*
 * tls_peer.h: certificates made on the spot, and a TLS server in a thread, at the other end of a socket pair.
 *
 *   CA --signs--> server certificate (localhost, 127.0.0.1)
 *      --signs--> client certificate
 */
#ifndef TLS_PEER_H
#define TLS_PEER_H

#include "check.h"
#include "clock.h"
#include "stream_plain.h"
#include "stream_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define TLS_TIMEOUT_MS 20000u

/* ------------------------------------------------------------------------------------------ certificates */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    char certificate_pem[4096], key_pem[4096];
};

static inline void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CHECK(extension != NULL);
    CHECK(X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static inline void read_pem(BIO *bio, char *to, size_t size)
{
    int length = BIO_read(bio, to, (int)size - 1);

    CHECK(length > 0);
    to[length] = '\0';
    BIO_free(bio);
}

/* names: of a server or client, as OpenSSL's configuration writes them; NULL: a CA.  issuer NULL: signed by itself.
 * days: from now, until it expires. */
static inline struct identity make_identity(const struct identity *issuer, const char *name, const char *names,
                                            int days)
{
    struct identity made = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
    X509 *certificate = made.certificate;
    X509_NAME *subject = X509_get_subject_name(certificate);

    CHECK(made.key != NULL && certificate != NULL);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1 + (long)strlen(name));
    X509_gmtime_adj(X509_getm_notBefore(certificate), -10 * 24 * 3600L);
    X509_gmtime_adj(X509_getm_notAfter(certificate), days * 24 * 3600L);
    X509_set_pubkey(certificate, made.key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer == NULL ? subject : X509_get_subject_name(issuer->certificate));
    add_extension(certificate, certificate, NID_basic_constraints, names == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (names != NULL)
        add_extension(certificate, certificate, NID_subject_alt_name, names);
    CHECK(X509_sign(certificate, issuer == NULL ? made.key : issuer->key, EVP_sha256()) > 0);

    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    read_pem(bio, made.certificate_pem, sizeof made.certificate_pem);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, made.key, NULL, NULL, 0, NULL, NULL);
    read_pem(bio, made.key_pem, sizeof made.key_pem);
    return made;
}

static inline void free_identity(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

static inline struct ntx_pem pem_of(const char *name, const char *text)
{
    return (struct ntx_pem){.name = name, .data = text, .size = strlen(text)};
}

static inline struct ntx_tls_options trusting(const struct identity *ca, const char *host)
{
    return (struct ntx_tls_options){.host_name = host, .ca = pem_of("ca.pem", ca->certificate_pem)};
}

static inline struct ntx_tls_options with_psk(const char *user, const char *key)
{
    return (struct ntx_tls_options){.psk_user = user, .psk = key, .psk_size = strlen(key)};
}

static inline struct ntx_tls *make_tls(struct ntx_tls_options options)
{
    struct ntx_tls *tls;
    struct ntx_error err;

    CHECK_OK(ntx_tls_new(&options, &tls, &err), err);
    return tls;
}

/* -------------------------------------------------------------------------------------------- the server */

#define PEER_PSK "0123456789abcdef0123456789abcdef"

struct tls_peer {
    int fd, client_fd;
    const struct identity *identity;      /* NULL: a pre-shared key */
    const struct identity *client_ca;     /* NULL: it asks for no certificate */
    int min_version, max_version;         /* 0: whatever there is */
    void (*serve)(struct tls_peer *peer); /* after the handshake; NULL: say goodbye */
    SSL *ssl;
    bool is_accepted;
    pthread_t thread;
};

static inline unsigned peer_find_psk(SSL *ssl, const char *user, unsigned char *psk, unsigned size)
{
    (void)ssl;
    CHECK(size >= strlen(PEER_PSK));
    if (strcmp(user, "alice") != 0)
        return 0;
    memcpy(psk, PEER_PSK, strlen(PEER_PSK));
    return (unsigned)strlen(PEER_PSK);
}

static inline SSL_CTX *peer_context(const struct tls_peer *peer)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    CHECK(context != NULL);
    SSL_CTX_set_security_level(context, 0); /* what a careless server would take */
    CHECK(SSL_CTX_set_min_proto_version(context, peer->min_version) == 1);
    CHECK(SSL_CTX_set_max_proto_version(context, peer->max_version) == 1);
    CHECK(SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0") == 1);
    if (peer->identity == NULL) {
        SSL_CTX_set_psk_server_callback(context, peer_find_psk);
        SSL_CTX_set_dh_auto(context, 1);
        return context;
    }
    CHECK(SSL_CTX_use_certificate(context, peer->identity->certificate) == 1);
    CHECK(SSL_CTX_use_PrivateKey(context, peer->identity->key) == 1);
    if (peer->client_ca != NULL) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), peer->client_ca->certificate);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return context;
}

static inline void *peer_thread(void *argument)
{
    struct tls_peer *peer = argument;
    SSL_CTX *context = peer_context(peer);

    peer->ssl = SSL_new(context);
    SSL_set_fd(peer->ssl, peer->fd);
    peer->is_accepted = SSL_accept(peer->ssl) == 1;
    if (peer->is_accepted && peer->serve != NULL)
        peer->serve(peer);
    if (peer->is_accepted && peer->serve == NULL)
        SSL_shutdown(peer->ssl);
    shutdown(peer->fd, SHUT_RDWR);
    SSL_free(peer->ssl);
    SSL_CTX_free(context);
    ERR_clear_error();
    return NULL;
}

/* Both ends of a new connection; the server's runs. */
static inline void tls_peer_begin(struct tls_peer *peer)
{
    int ends[2];

    signal(SIGPIPE, SIG_IGN); /* the server's, which is OpenSSL's own */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    peer->fd = ends[0];
    peer->client_fd = ends[1];
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    CHECK(pthread_create(&peer->thread, NULL, peer_thread, peer) == 0);
}

static inline struct ntx_until soon(void)
{
    return (struct ntx_until){ntx_deadline_ns(ntx_now_ns(), TLS_TIMEOUT_MS), -1};
}

static inline int tls_peer_connect(struct tls_peer *peer, struct ntx_tls *tls, struct ntx_stream **stream,
                                   struct ntx_error *err)
{
    struct ntx_until until = soon();

    tls_peer_begin(peer);
    *stream = ntx_stream_plain_new(peer->client_fd);
    return ntx_stream_tls_start(stream, tls, "nbds://server/disk", &until, err);
}

static inline struct ntx_stream *tls_peer_open(struct tls_peer *peer, struct ntx_tls *tls)
{
    struct ntx_stream *stream;
    struct ntx_error err;

    CHECK_OK(tls_peer_connect(peer, tls, &stream, &err), err);
    return stream;
}

static inline void tls_peer_end(struct tls_peer *peer, struct ntx_stream *stream)
{
    ntx_stream_close(stream);
    CHECK(pthread_join(peer->thread, NULL) == 0);
    close(peer->fd);
}

/* The handshake fails, and the message has part. */
static inline void check_no_trust(struct tls_peer *peer, struct ntx_tls *tls, const char *part)
{
    struct ntx_stream *stream;
    struct ntx_error err = {0};

    CHECK_EQ_INT(tls_peer_connect(peer, tls, &stream, &err), -EKEYREJECTED);
    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    CHECK_CONTAINS(err.text, "nbds://server/disk: TLS handshake failed: ");
    CHECK_CONTAINS(err.text, part);
    tls_peer_end(peer, stream);
    ntx_tls_free(tls);
}

#endif
