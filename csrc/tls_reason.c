/* tls_reason.c: see tls_reason.h. */
#include "tls_reason.h"

#include "nbd_text.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>

#define NAMES_SIZE 96u

static void put(char reason[NTX_TLS_REASON_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(char reason[NTX_TLS_REASON_SIZE], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, NTX_TLS_REASON_SIZE, format, arguments);
    va_end(arguments);
}

/* ------------------------------------------------------------------------------------------- certificates */

static void add_name(char names[NAMES_SIZE], const void *data, size_t length)
{
    size_t used = strlen(names);

    if (used > 0 && used + 2 < NAMES_SIZE) {
        strcpy(names + used, ", ");
        used += 2;
    }
    ntx_nbd_printable(names + used, NAMES_SIZE - used, data, length);
}

static void add_address(char names[NAMES_SIZE], const ASN1_OCTET_STRING *address)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(address);
    int length = ASN1_STRING_length(address), used = 0;
    char text[48];

    for (int i = 0; length == 4 && i < 4; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, i == 0 ? "%u" : ".%u", bytes[i]);
    for (int i = 0; length == 16 && i < 16; i += 2)
        used += snprintf(text + used, sizeof text - (size_t)used, i == 0 ? "%x" : ":%x", bytes[i] << 8 | bytes[i + 1]);
    if (used > 0)
        add_name(names, text, (size_t)used);
}

/* The names that a certificate is for, as many as there is room for. */
static void names_of(const X509 *certificate, char names[NAMES_SIZE])
{
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);

    names[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
        if (name->type == GEN_DNS)
            add_name(names, ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName));
        else if (name->type == GEN_IPADD)
            add_address(names, name->d.iPAddress);
    }
    GENERAL_NAMES_free(all);
}

static void put_wrong_host(const struct ntx_tls *tls, const X509 *certificate, char reason[NTX_TLS_REASON_SIZE])
{
    char names[NAMES_SIZE], host[NAMES_SIZE];

    names_of(certificate, names);
    ntx_nbd_printable(host, sizeof host, tls->host, strlen(tls->host));
    if (names[0] == '\0')
        put(reason, "the server's certificate is not for %s: it names no host at all (subjectAltName)", host);
    else
        put(reason, "the server's certificate is not for %s, but for %s", host, names);
}

/* YYYY-MM-DD of one of its two times. */
static void day_of(const ASN1_TIME *moment, char day[16])
{
    struct tm tm;

    if (ASN1_TIME_to_tm(moment, &tm) != 1 || strftime(day, 16, "%Y-%m-%d", &tm) == 0)
        strcpy(day, "?");
}

void ntx_tls_reason_of_certificate(const struct ntx_tls *tls, X509_STORE_CTX *store, char reason[NTX_TLS_REASON_SIZE])
{
    const X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    const char *whose = X509_STORE_CTX_get_error_depth(store) == 0 ? "the server's certificate" : "a CA's certificate";
    int error = X509_STORE_CTX_get_error(store);
    char day[16] = "?";

    if (tls->has_psk) {
        put(reason, "the server shows a certificate instead of taking the pre-shared key");
        return;
    }
    switch (certificate == NULL ? X509_V_ERR_UNSPECIFIED : error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        day_of(X509_get0_notAfter(certificate), day);
        put(reason, "%s expired on %s", whose, day);
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        day_of(X509_get0_notBefore(certificate), day);
        put(reason, "%s is valid only from %s on: look at this machine's clock", whose, day);
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        put_wrong_host(tls, certificate, reason);
        return;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        put(reason, "the server's certificate is self-signed, and not one that was given as a CA");
        return;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        put(reason, "no CA that was given has signed the server's certificate");
        return;
    default:
        put(reason, "%s is refused: %s", whose, X509_verify_cert_error_string(error));
    }
}

/* --------------------------------------------------------------------------------------------- failures */

/* RFC 8446 section 6: what the server says of us, or NULL. */
static const char *meaning_of_alert(const struct ntx_tls *tls, bool is_handshake, int alert)
{
    switch (alert) {
    case SSL3_AD_BAD_CERTIFICATE:
    case SSL3_AD_UNSUPPORTED_CERTIFICATE:
    case SSL3_AD_CERTIFICATE_REVOKED:
    case SSL3_AD_CERTIFICATE_EXPIRED:
    case SSL3_AD_CERTIFICATE_UNKNOWN:
        return tls->has_certificate ? "the server does not accept our certificate"
                                    : "the server wants a client certificate, and none was given";
    case SSL_AD_CERTIFICATE_REQUIRED:
    case SSL3_AD_NO_CERTIFICATE:
        return "the server wants a client certificate, and none was given";
    case SSL_AD_UNKNOWN_CA:
        return "no CA that the server knows has signed our certificate";
    case SSL_AD_ACCESS_DENIED:
        return "the server does not let us in";
    case SSL_AD_PROTOCOL_VERSION:
        return "the server offers no TLS from version 1.2 on";
    case SSL_AD_UNKNOWN_PSK_IDENTITY:
        return "the server does not know the user of the pre-shared key";
    default:
        if (tls->has_psk && is_handshake)
            return "the server does not accept the pre-shared key of this user";
        return alert == SSL_AD_HANDSHAKE_FAILURE ? "the server and we have no cipher or kind of key in common" : NULL;
    }
}

int ntx_tls_reason_of_failure(const struct ntx_tls *tls, bool is_handshake, char reason[NTX_TLS_REASON_SIZE])
{
    unsigned long error = ERR_peek_last_error();
    int code = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const char *text = ERR_reason_error_string(error);

    ERR_clear_error();
    if (!is_handshake &&
        (code == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC || code == SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC)) {
        put(reason, "a record was changed on the way");
        return -EBADMSG;
    }
    if (code > SSL_AD_REASON_OFFSET) {
        int alert = code - SSL_AD_REASON_OFFSET;
        const char *meaning = meaning_of_alert(tls, is_handshake, alert);
        put(reason, "%s (alert %d: %s)", meaning == NULL ? "the server refuses" : meaning, alert,
            SSL_alert_desc_string_long(alert));
    } else if (code == SSL_R_UNSUPPORTED_PROTOCOL) {
        put(reason, "the server offers no TLS from version 1.2 on");
    } else if (code == SSL_R_WRONG_VERSION_NUMBER || code == SSL_R_PACKET_LENGTH_TOO_LONG ||
               code == SSL_R_ENCRYPTED_LENGTH_TOO_LONG) {
        put(reason, "what the server sends is not TLS");
    } else {
        put(reason, "%s", text == NULL ? "unknown" : text);
    }
    return -EKEYREJECTED;
}
