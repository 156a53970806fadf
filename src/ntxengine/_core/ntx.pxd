"""Everything of csrc/ntx.h that Python needs, declared once."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "ntx.h" nogil:
    ctypedef bint bool_t "bool"

    enum: NTX_BLOCK_SIZE
    enum: NTX_DIGEST_SIZE
    enum: NTX_MAX_REQUEST_SIZE
    enum: NTX_MAX_CONNECTIONS
    enum: NTX_MAX_IN_FLIGHT
    enum: NTX_TLS_MIN_PSK
    enum: NTX_EXTENT_ZERO
    enum: NTX_DEVICE_READ_ONLY
    enum: NTX_DEVICE_CAN_ZERO
    enum: NTX_DEVICE_CAN_FLUSH
    enum: NTX_DEVICE_CAN_MULTI_CONN
    enum: NTX_DEVICE_CAN_MAP
    enum: NTX_DEVICE_ROTATIONAL
    enum: NTX_DEVICE_STRUCTURED
    enum: NTX_DEVICE_DIRECT
    enum: NTX_DEVICE_BLOCK
    enum: NTX_DEVICE_DISCARDS
    enum: NTX_DEVICE_TCP
    enum: NTX_DEVICE_SHORT_TAIL
    enum: NTX_DEVICE_IN_ORDER

    enum ntx_error_class:
        NTX_E_NONE
        NTX_E_OPTIONS
        NTX_E_SYSTEM
        NTX_E_DEVICE
        NTX_E_SOURCE
        NTX_E_TARGET
        NTX_E_NEGOTIATION
        NTX_E_PROTOCOL
        NTX_E_REPLY
        NTX_E_TIMEOUT
        NTX_E_CANCELLED

    struct ntx_error:
        ntx_error_class error_class "class"
        int code
        uint64_t offset
        uint64_t length
        char text[512]

    struct ntx_extent:
        uint64_t offset
        uint64_t length
        uint64_t flags

    struct ntx_mapped_extent:
        uint64_t offset
        uint64_t length
        uint64_t place
        uint32_t file
        uint32_t flags

    struct ntx_device_info:
        uint64_t size
        uint32_t min_block
        uint32_t preferred_block
        uint32_t max_payload
        uint32_t held_bytes
        uint32_t connection_bytes
        uint64_t shared_bytes
        uint64_t finish_bytes
        uint32_t flags
        char kind[16]
        char name[256]

    struct ntx_device:
        pass

    enum ntx_open_mode:
        NTX_OPEN_READ
        NTX_OPEN_WRITE

    struct ntx_limits:
        unsigned connections
        unsigned in_flight
        unsigned first_connections
        unsigned first_requests
        unsigned depth
        uint32_t request_size
        uint64_t max_buffer_bytes
        unsigned timeout_ms
        unsigned flush_timeout_ms

    struct ntx_limiter:
        pass

    int ntx_limiter_new(uint64_t rate_bytes_per_s, ntx_limiter **limiter, ntx_error *err)
    void ntx_limiter_set_rate(ntx_limiter *limiter, uint64_t rate_bytes_per_s)
    void ntx_limiter_set_cpu_share(ntx_limiter *limiter, uint64_t share_ppm)
    void ntx_limiter_tell_others_cpu(ntx_limiter *limiter, uint64_t taken_ns)
    void ntx_limiter_free(ntx_limiter *limiter)

    struct ntx_job_options:
        ntx_limits limits
        ntx_limiter *limiter
        uint64_t disk_size
        bool_t target_is_zero
        bool_t reads_all
        uint64_t bytes_expected
        bool_t makes_checkpoints
        int digest_fd
        uint64_t digest_offset
        bool_t digests_are_zero
        int reference_fd
        uint64_t reference_offset
        uint64_t reference_blocks

    enum ntx_pace_why:
        NTX_PACE_PINNED
        NTX_PACE_BEGAN
        NTX_PACE_NO_GAIN
        NTX_PACE_LATE
        NTX_PACE_RAISED
        NTX_PACE_LOWERED
        NTX_PACE_TRIED

    struct ntx_job_progress:
        uint64_t bytes_done
        uint64_t bytes_read
        uint64_t bytes_sent
        uint64_t bytes_stored
        uint64_t bytes_zeroed
        uint64_t bytes_skipped
        uint64_t bytes_unchanged
        uint64_t requests
        uint64_t retries
        uint64_t source_ns
        uint64_t digest_ns
        uint64_t target_ns
        uint64_t packing_ns
        uint64_t limit_ns
        uint64_t cpu_ns
        unsigned connections
        unsigned refused
        unsigned in_flight
        ntx_pace_why why
        uint64_t stored_to
        unsigned checkpoints
        uint64_t flush_ns
        bool_t wants_extents
        bool_t flushing
        bool_t finished
        bool_t flushed

    struct ntx_job:
        pass

    bint ntx_extents_from_json(const char *json, size_t size, const char *kind_key, const char *zero_kind,
                               ntx_extent *extents, size_t capacity, size_t *count, size_t *end)
    bint ntx_is_zero(const void *data, size_t length)
    void ntx_digest(const void *data, size_t length, uint8_t *digest)
    const char *ntx_digest_kernel()

    struct ntx_about:
        const char *zero_kernel
        const char *zero_reason
        const char *digest_kernel
        const char *digest_reason
        unsigned xxhash_version
        bool_t has_sse2
        bool_t has_avx2
        bool_t has_avx512f
        bool_t can_send_by_reference
        bool_t can_read_in_flight

    void ntx_get_about "ntx_about"(ntx_about *about)

    int ntx_open_file(const char *path, ntx_open_mode mode, bool_t direct, ntx_device **device, ntx_error *err)
    struct ntx_pem:
        const char *name
        const void *data
        size_t size

    struct ntx_tls_options:
        const char *host_name
        ntx_pem ca
        ntx_pem certificate
        ntx_pem key
        const char *psk_user
        const void *psk
        size_t psk_size

    struct ntx_tls:
        pass

    int ntx_tls_new(const ntx_tls_options *options, ntx_tls **tls, ntx_error *err)
    void ntx_tls_free(ntx_tls *tls)

    struct ntx_nbd_place:
        const char *path
        const char *address
        uint16_t port
        const char *host
        const char *name
        ntx_tls *tls

    int ntx_open_nbd(const ntx_nbd_place *places, size_t count, const char *export_name, ntx_open_mode mode,
                     unsigned timeout_ms, int stop_fd, ntx_device **device, ntx_error *err)
    int ntx_open_null(uint64_t size, ntx_device **device, ntx_error *err)
    int ntx_open_pattern(uint64_t size, ntx_device **device, ntx_error *err)
    int ntx_finish(ntx_device *device, ntx_error *err)
    int ntx_open_pipe(int fd, ntx_open_mode mode, const char *name, uint64_t size, bool_t may_end, ntx_device **device,
                      ntx_error *err)
    int ntx_open_mapped(const char *name, uint64_t size, const int *fds, size_t fd_count,
                        const ntx_mapped_extent *extents, size_t count, ntx_device **device, ntx_error *err)
    const ntx_device_info *ntx_device_info_of "ntx_device_info"(const ntx_device *device)
    int ntx_map(ntx_device *device, uint64_t offset, uint64_t length, unsigned timeout_ms, ntx_extent *extents,
                size_t capacity, size_t *count, ntx_error *err)
    void ntx_interrupt(ntx_device *device)
    void ntx_close(ntx_device *device)

    int ntx_job_memory(const ntx_device *source, const ntx_device *target, const ntx_job_options *options,
                       uint64_t *bytes, ntx_error *err)
    int ntx_job_new(ntx_device *source, ntx_device *target, const ntx_job_options *options, ntx_job **job,
                    ntx_error *err)
    int ntx_job_start(ntx_job *job, ntx_error *err)
    int ntx_job_feed(ntx_job *job, const ntx_extent *extents, size_t count, size_t *taken, ntx_error *err)
    void ntx_job_feed_end(ntx_job *job)
    int ntx_job_fd(const ntx_job *job)
    void ntx_job_get_progress "ntx_job_progress"(const ntx_job *job, ntx_job_progress *progress)
    unsigned ntx_job_refused(const ntx_job *job, ntx_error *first)
    bool_t ntx_job_checkpoint(ntx_job *job)
    void ntx_job_cancel(ntx_job *job)
    int ntx_job_join(ntx_job *job, ntx_error *err)
    void ntx_job_free(ntx_job *job)


# The same layout as kernels.EXTENT and struct ntx_extent.
cdef packed struct extent_row:
    uint64_t offset
    uint64_t length
    uint64_t flags


cdef extern from "ntx_image.h" nogil:
    enum: NTX_EXTENT_ABSENT

    struct ntx_qcow2_options:
        const char *path
        const char *map_path
        uint64_t size
        const char *backing_name
        int zstd_level
        bool_t is_opened_again
        uint64_t stored_to

    int ntx_open_qcow2_chain(const char *name, const int *fds, size_t count, ntx_device **device, ntx_error *err)
    int ntx_map_images(ntx_device *device, uint64_t offset, uint64_t length, ntx_mapped_extent *extents,
                       size_t capacity, size_t *count, ntx_error *err)
    void ntx_share_clusters(ntx_device *image, ntx_device *chain)
    int ntx_open_qcow2(const ntx_qcow2_options *options, ntx_device **device, ntx_error *err)
