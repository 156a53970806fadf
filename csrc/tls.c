/* tls.c: see tls.h.  Files come as their contents: whoever read them has checked who else can. */
#include "tls.h"

#include "error.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "OpenSSL 3 is needed"
#endif

/* The fastest first, where a server lets us choose.  With a PSK only what goes with its hash, SHA-256. */
#define SUITES_X509 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_PSK "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_X509 "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK"
#define CIPHERS_PSK "kECDHEPSK+CHACHA20:kDHEPSK+AESGCM:kDHEPSK+CHACHA20"

#define SECURITY_LEVEL 2 /* keys of 112 bits of strength at least (RSA 2048), no SHA-1 signatures */

static int no_memory(struct ntx_error *err)
{
    return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "TLS: no memory");
}

static int bad_file(struct ntx_error *err, const struct ntx_pem *file, const char *what)
{
    ERR_clear_error();
    return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: %s", file->name, what);
}

static BIO *open_pem(const struct ntx_pem *file)
{
    return file->size <= INT32_MAX ? BIO_new_mem_buf(file->data, (int)file->size) : NULL;
}

/* ------------------------------------------------------------------------------------------------- X.509 */

static int trust(struct ntx_tls *tls, const struct ntx_pem *file, struct ntx_error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(tls->context);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls->context);
    BIO *bio = open_pem(file);
    unsigned count = 0;
    X509 *certificate;

    if (bio == NULL)
        return no_memory(err);
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        count += X509_STORE_add_cert(store, certificate) == 1;
        X509_free(certificate);
    }
    bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    if (count == 0 || !is_end)
        return bad_file(err, file, count == 0 ? "holds no certificate in PEM" : "a certificate in it is damaged");
    ERR_clear_error();
    /* Who names an intermediate CA, or the server's own certificate, need not have the root above it. */
    if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        return no_memory(err);
    return 0;
}

/* What a certificate of the server has to be for.  A name only as subjectAltName: a common name is no host name. */
static int expect_host(struct ntx_tls *tls, const char *host, struct ntx_error *err)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls->context);
    size_t length = host == NULL ? 0 : strlen(host);

    /* To OpenSSL an empty name means that any will do, and one with a dot in front that all below it will. */
    if (length == 0 || length > NTX_TLS_MAX_HOST || host[0] == '.')
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "TLS: a host name has 1 to %u bytes and no dot in front",
                             NTX_TLS_MAX_HOST);
    memcpy(tls->host, host, length + 1);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    tls->is_address = X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    if (!tls->is_address && X509_VERIFY_PARAM_set1_host(param, host, length) != 1)
        return no_memory(err);
    ERR_clear_error();
    return 0;
}

static int use_certificate(struct ntx_tls *tls, const struct ntx_pem *file, struct ntx_error *err)
{
    BIO *bio = open_pem(file);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    const char *why = "holds no certificate in PEM";
    bool is_good = certificate != NULL;

    if (is_good && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
        is_good = false;
        why = "the certificate in it has expired";
    } else if (is_good && SSL_CTX_use_certificate(tls->context, certificate) != 1) {
        is_good = false;
        why = "the certificate in it cannot be used: its key is too short, or unknown";
    }
    X509_free(certificate);
    while (is_good && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        if (SSL_CTX_add0_chain_cert(tls->context, certificate) != 1) {
            X509_free(certificate);
            is_good = false;
            why = "a certificate of the chain in it cannot be used";
        }
    if (is_good && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        is_good = false;
        why = "a certificate of the chain in it is damaged";
    }
    BIO_free(bio);
    if (!is_good)
        return bad_file(err, file, why);
    ERR_clear_error();
    tls->has_certificate = true;
    return 0;
}

/* Never asks anybody: the default would, on the terminal. */
static int has_no_passphrase(char *buffer, int size, int is_writing, void *was_asked)
{
    (void)buffer, (void)size, (void)is_writing;
    *(bool *)was_asked = true;
    return -1;
}

static int use_key(struct ntx_tls *tls, const struct ntx_pem *file, struct ntx_error *err)
{
    bool was_asked = false;
    BIO *bio = open_pem(file);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, has_no_passphrase, &was_asked);
    const char *why = NULL;

    BIO_free(bio);
    if (key == NULL)
        why = was_asked ? "the key in it has a passphrase: remove it from a copy for this use (openssl pkey)"
                        : "holds no private key in PEM";
    else if (SSL_CTX_use_PrivateKey(tls->context, key) != 1 || SSL_CTX_check_private_key(tls->context) != 1)
        why = "the key in it is not that of the certificate";
    EVP_PKEY_free(key);
    if (why != NULL)
        return bad_file(err, file, why);
    ERR_clear_error();
    return 0;
}

static int use_x509(struct ntx_tls *tls, const struct ntx_tls_options *options, struct ntx_error *err)
{
    int result = expect_host(tls, options->host_name, err);

    if (result == 0)
        result = trust(tls, &options->ca, err);
    if (result == 0 && options->certificate.data != NULL)
        result = use_certificate(tls, &options->certificate, err);
    if (result == 0 && options->certificate.data != NULL)
        result = use_key(tls, &options->key, err);
    return result;
}

/* --------------------------------------------------------------------------------------------------- PSK */

static unsigned tell_psk(SSL *ssl, const char *hint, char *user, unsigned user_size, unsigned char *psk,
                         unsigned psk_size)
{
    const struct ntx_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    (void)hint; /* what a server says to people about which identity it wants */
    if (strlen(tls->user) >= user_size || tls->psk_size > psk_size)
        return 0;
    strcpy(user, tls->user);
    memcpy(psk, tls->psk, tls->psk_size);
    return (unsigned)tls->psk_size;
}

static int use_psk(struct ntx_tls *tls, const struct ntx_tls_options *options, struct ntx_error *err)
{
    size_t length = options->psk_user == NULL ? 0 : strlen(options->psk_user);

    if (length == 0 || length > NTX_TLS_MAX_USER)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "TLS: the user of a pre-shared key has 1 to %u bytes",
                             NTX_TLS_MAX_USER);
    if (options->psk_size < NTX_TLS_MIN_PSK || options->psk_size > NTX_TLS_MAX_PSK)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "TLS: a pre-shared key has %u to %u bytes, this one %zu",
                             NTX_TLS_MIN_PSK, NTX_TLS_MAX_PSK, options->psk_size);
    memcpy(tls->user, options->psk_user, length + 1);
    memcpy(tls->psk, options->psk, options->psk_size);
    tls->psk_size = options->psk_size;
    tls->has_psk = true;
    SSL_CTX_set_psk_client_callback(tls->context, tell_psk);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- both */

static int restrict_protocol(struct ntx_tls *tls, bool has_psk, struct ntx_error *err)
{
    SSL_CTX *context = tls->context;

    if (SSL_CTX_get_security_level(context) < SECURITY_LEVEL)
        SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, NTX_TLS_READ_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL); /* with a PSK nothing is trusted, so no certificate will do */
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, has_psk ? SUITES_PSK : SUITES_X509) != 1 ||
        SSL_CTX_set_cipher_list(context, has_psk ? CIPHERS_PSK : CIPHERS_X509) != 1)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOTSUP, "TLS: this machine's OpenSSL permits no safe cipher");
    return 0;
}

int ntx_tls_new(const struct ntx_tls_options *options, struct ntx_tls **tls, struct ntx_error *err)
{
    struct ntx_tls *made = calloc(1, sizeof *made);
    bool has_psk = options->psk != NULL;

    *tls = NULL;
    if (made == NULL)
        return no_memory(err);
    made->users = 1;
    made->records_per_key = NTX_TLS_RECORDS_PER_KEY;
    made->context = SSL_CTX_new(TLS_client_method());
    if (made->context == NULL) {
        ntx_tls_free(made);
        return no_memory(err);
    }
    SSL_CTX_set_app_data(made->context, made);
    int result = restrict_protocol(made, has_psk, err);
    if (result == 0)
        result = has_psk ? use_psk(made, options, err) : use_x509(made, options, err);
    if (result != 0) {
        ntx_tls_free(made);
        return result;
    }
    *tls = made;
    return 0;
}

struct ntx_tls *ntx_tls_share(struct ntx_tls *tls)
{
    if (tls != NULL)
        atomic_fetch_add_explicit(&tls->users, 1, memory_order_relaxed);
    return tls;
}

void ntx_tls_free(struct ntx_tls *tls)
{
    if (tls == NULL || atomic_fetch_sub_explicit(&tls->users, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(tls->context);
    OPENSSL_cleanse(tls->psk, sizeof tls->psk);
    free(tls);
}
