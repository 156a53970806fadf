/* fuzz_handshake.c: whatever a server says before the transmission phase.  The first byte is the length of the parts.
 */
#include "clock.h"
#include "error.h"
#include "fuzz_stream.h"
#include "nbd_handshake.h"
#include "nbd_proto.h"

#define WANTS_TLS 128u

static void check_text(const char *text)
{
    MUST(*text != '\0');
    for (; *text != '\0'; text++)
        MUST(*text >= 0x20 && *text < 0x7f);
}

static void check_export(const struct ntx_nbd_export *export)
{
    MUST(export->size <= NTX_MAX_DEVICE_SIZE);
    MUST(ntx_is_power_of_two(export->min_block) && export->min_block <= NBD_MAX_MIN_BLOCK);
    MUST(export->size % export->min_block == 0);
    MUST(ntx_is_power_of_two(export->preferred_block) && export->preferred_block >= export->min_block);
    MUST(export->max_payload >= export->min_block && export->max_payload <= NTX_MAX_REQUEST_SIZE);
    MUST(export->max_payload % export->min_block == 0);
    MUST(export->is_structured || !export->has_allocation);
}

static struct ntx_tls *tls(void)
{
    static const uint8_t key[32] = {1};
    static struct ntx_tls *made;
    struct ntx_error err;
    struct ntx_tls_options options = {.psk = key, .psk_size = sizeof key, .psk_user = "alice"};

    if (made == NULL)
        MUST(ntx_tls_new(&options, &made, &err) == 0);
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_stream fuzz;
    struct ntx_stream *stream = &fuzz.stream;
    struct ntx_nbd_export export;
    struct ntx_error err = {0};
    struct ntx_until until = {UINT64_MAX, -1};

    if (size == 0)
        return 0;
    bool wants_tls = data[0] >= WANTS_TLS;
    fuzz_stream_init(&fuzz, data + 1, size - 1, 1u + data[0] % WANTS_TLS);
    int result = ntx_nbd_handshake(&stream, wants_tls ? tls() : NULL, "nbd://fuzz", FUZZ_NAME, &until, &export, &err);
    MUST(stream == &fuzz.stream); /* nobody here knows the key */
    if (wants_tls)
        MUST(result != 0 && !fuzz.has_said_name);
    if (result == 0) {
        check_export(&export);
        return 0;
    }
    MUST(result == err.code && result < 0);
    MUST(err.class == NTX_E_NEGOTIATION || err.class == NTX_E_PROTOCOL || err.class == NTX_E_DEVICE);
    check_text(err.text);
    return 0;
}
