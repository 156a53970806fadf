/*
 * ntx.h: the contract of the ntxengine core, all that a caller ever needs to read.
 *
 *   device   one opened connection to something that holds bytes: a file, a block device, an NBD export, ...
 *   job      one device copied to another by threads, digested on the way:
 *
 *            extents --feed--> plan --ranges-> worker 1..N --> target
 *                                              (one thread, one connection to each end, its own buffers)
 *
 * Conventions: offsets and lengths are bytes.  int functions return 0 or a negative errno and then fill
 * struct ntx_error (which may not be NULL).  The core never prints, logs, exits, calls back or keeps globals.
 */
#ifndef NTX_H
#define NTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NTX_KIB 1024u
#define NTX_MIB (1024u * 1024u)
#define NTX_GIB (1024ull * 1024u * 1024u)

/* The unit of digest, zero test and work alignment.  qcow2's default cluster, and the largest minimum block
 * that an NBD server may demand, so that an aligned block can always be written alone. */
#define NTX_BLOCK_SIZE (64u * NTX_KIB)
#define NTX_DIGEST_SIZE 16u

#define NTX_MAX_REQUEST_SIZE (32u * NTX_MIB) /* NBD's payload limit where a server states none */
#define NTX_MAX_CONNECTIONS 64u              /* threads of one job; qemu-nbd itself stops at 100 */
#define NTX_MAX_IN_FLIGHT 64u                /* requests per connection */
#define NTX_MAX_DEVICE_SIZE (INT64_MAX)      /* off_t; a server that states more is refused */

/* ------------------------------------------------------------------------------------------------ errors */

enum ntx_error_class {
    NTX_E_NONE = 0,
    NTX_E_OPTIONS,     /* the caller's arguments */
    NTX_E_SYSTEM,      /* this machine: memory, threads, descriptors */
    NTX_E_DEVICE,      /* a file, block device or connection failed; the job turns it into one of the next two */
    NTX_E_SOURCE,      /* the source failed at .offset */
    NTX_E_TARGET,      /* the target failed at .offset */
    NTX_E_NEGOTIATION, /* this NBD server cannot do what is needed; asking again will not help */
    NTX_E_PROTOCOL,    /* the NBD server broke the protocol; the connection must be dropped */
    NTX_E_REPLY,       /* the NBD server refused one request at .offset; the connection is still usable */
    NTX_E_TIMEOUT,     /* nothing came back within the time limit */
    NTX_E_CANCELLED,   /* ntx_job_cancel(), or a stop descriptor */
};

#define NTX_ERROR_TEXT 512

struct ntx_error {
    enum ntx_error_class class;
    int code;        /* negative errno, never 0 when class is not NTX_E_NONE */
    uint64_t offset; /* where on the device; 0 with length 0 when it is not about a place */
    uint64_t length;
    char text[NTX_ERROR_TEXT]; /* subject, action, numbers, cause; UTF-8 not guaranteed, NUL-terminated */
};

/* ----------------------------------------------------------------------------------------------- extents */

#define NTX_EXTENT_ZERO 1ull /* zero at the target, whatever the source holds; without it: data, to be read */

struct ntx_extent {
    uint64_t offset;
    uint64_t length;
    uint64_t flags;
};

/*
 * Read the array that json begins with, [{"offset": 0, "length": 512, "type": "zero"}, ...], as extents: the fast way
 * for the plain case.  A text with anything unusual in it (an escape, nesting, a negative number or one of 20 digits,
 * a missing key, what is not ASCII) is not judged but left to a real parser; what is accepted means the same there.
 * Ownership: json need not end in NUL.
 * Units:     an extent is zero where the string at kind_key is zero_kind, else data; other keys are skipped.
 *            Order, overlap and bounds are not looked at.
 * Threads:   pure.
 * Errors:    true with *count set, and *end, where the array ends in json; false when a real parser must look, also at
 *            more than capacity extents.
 */
bool ntx_extents_from_json(const char *json, size_t size, const char *kind_key, const char *zero_kind,
                           struct ntx_extent *extents, size_t capacity, size_t *count, size_t *end);

/* ----------------------------------------------------------------------------------------------- kernels */

/*
 * Tell whether every byte of data is zero.
 * Units:   length in bytes; 0 gives true.
 * Threads: pure.
 */
bool ntx_is_zero(const void *data, size_t length);

/*
 * XXH3-128 (seed 0) of data in canonical (big-endian) form, with one exception: a digest of data that is all
 * zero is stored as 16 zero bytes, whatever its length, so that the digests of a sparse disk are sparse too.
 * The caller tests for zero first; this function does not.
 * Threads: pure.
 */
void ntx_digest(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE]);

/*
 * Name of the digest kernel that run-time dispatch chose: "scalar", "sse2", "avx2", "avx512", or "build default".
 */
const char *ntx_digest_kernel(void);

/* What the core found on this machine, and chose. */
struct ntx_about {
    const char *zero_kernel, *zero_reason; /* behind ntx_is_zero(), and why */
    const char *digest_kernel, *digest_reason;
    unsigned xxhash_version;              /* of the library that is loaded; 801 is 0.8.1 */
    bool has_sse2, has_avx2, has_avx512f; /* of those that a kernel may ask for; false on other architectures */
    bool can_send_by_reference;           /* memory to a unix socket without copying it; otherwise it is copied */
    bool can_read_in_flight;              /* several reads of a block device at once; otherwise one a thread */
};

/*
 * Fill about.  Tries out what only trying can tell: opens, and closes, a pipe and two sockets.
 * Threads: any.
 */
void ntx_about(struct ntx_about *about);

/* ----------------------------------------------------------------------------------------------- devices */

struct ntx_device;

#define NTX_DEVICE_READ_ONLY (1u << 0)
#define NTX_DEVICE_CAN_ZERO (1u << 1)       /* zeroes without a payload; otherwise zeros are written out */
#define NTX_DEVICE_CAN_FLUSH (1u << 2)      /* otherwise the job ends without one, and says so */
#define NTX_DEVICE_CAN_MULTI_CONN (1u << 3) /* several connections see each other's writes (NBD multi-conn; files) */
#define NTX_DEVICE_CAN_MAP (1u << 4)        /* can tell data from zero without reading */
#define NTX_DEVICE_ROTATIONAL (1u << 5)
#define NTX_DEVICE_STRUCTURED (1u << 6)  /* NBD structured replies are in use */
#define NTX_DEVICE_DIRECT (1u << 7)      /* the page cache is bypassed (O_DIRECT) */
#define NTX_DEVICE_BLOCK (1u << 8)       /* a block device */
#define NTX_DEVICE_DISCARDS (1u << 9)    /* null: nothing is stored */
#define NTX_DEVICE_TCP (1u << 10)        /* reached over TCP */
#define NTX_DEVICE_SHORT_TAIL (1u << 11) /* size need not be a multiple of min_block: its last block may be shorter */
#define NTX_DEVICE_IN_ORDER (1u << 12)   /* written from its beginning on, without a gap: only with all extents */

struct ntx_device_info {
    uint64_t size;             /* bytes */
    uint32_t min_block;        /* offset and length of every request must be multiples (power of two, <= 64 KiB); with
                                * NTX_DEVICE_SHORT_TAIL one that ends at size need not */
    uint32_t preferred_block;  /* bytes of a request that costs least for what it does; power of two */
    uint32_t max_payload;      /* largest READ or WRITE, a multiple of min_block */
    uint32_t held_bytes;       /* of .connection_bytes what counts with the buffers: it is as much as one of them */
    uint32_t connection_bytes; /* memory that each connection to it takes at most */
    uint64_t shared_bytes;     /* memory that all of them share: tables */
    uint64_t finish_bytes;     /* memory that ntx_finish() takes while it runs, at most */
    uint32_t flags;            /* NTX_DEVICE_* */
    char kind[16];             /* "file", "nbd", "null", "pattern", "mapped", "chain", "qcow2", "pipe" */
    char name[256];            /* for messages: a path, or an NBD URI; may be cut, never holds a secret */
};

enum ntx_open_mode { NTX_OPEN_READ, NTX_OPEN_WRITE };

/*
 * Open a regular file or a block device.
 * Ownership: the caller closes *device.
 * Units:     mode NTX_OPEN_WRITE opens for reading and writing and neither creates nor truncates.
 *            direct asks for O_DIRECT; where the file system has none, buffered I/O is used and the flag is not set.
 * Errors:    0, or -errno of open/stat, -EINVAL (neither file nor block device).
 */
int ntx_open_file(const char *path, enum ntx_open_mode mode, bool direct, struct ntx_device **device,
                  struct ntx_error *err);

/* The contents of a file in PEM, and what messages call it. */
struct ntx_pem {
    const char *name;
    const void *data;
    size_t size;
};

#define NTX_TLS_MIN_PSK 16u /* bytes of a pre-shared key: less can be tried out */

/* How to know an NBD server by TLS, and it us: by certificates, or by a key that both have. */
struct ntx_tls_options {
    const char *host_name;      /* what the server's certificate must be for: a DNS name or an address */
    struct ntx_pem ca;          /* who may have signed it */
    struct ntx_pem certificate; /* ours, and the chain behind it; .data NULL: none */
    struct ntx_pem key;         /* its */
    const char *psk_user;       /* the pre-shared key's */
    const void *psk;            /* NULL: certificates */
    size_t psk_size;
};

struct ntx_tls;

/*
 * Make ready for TLS connections.
 * Ownership: everything is copied; the caller frees *tls, at any time: devices keep what they need of it.
 * Units:     bytes.
 * Threads:   any; *tls may be used by several at once.
 * Errors:    0, or -EINVAL (OPTIONS: what is wrong with which file or name), -ENOMEM, -ENOTSUP (SYSTEM).
 */
int ntx_tls_new(const struct ntx_tls_options *options, struct ntx_tls **tls, struct ntx_error *err);

/* Free.  NULL is allowed. */
void ntx_tls_free(struct ntx_tls *tls);

/* Where an NBD server listens.  No names are looked up: that takes as long as it takes, and is the caller's. */
struct ntx_nbd_place {
    const char *path;    /* of a unix socket; NULL: TCP */
    const char *address; /* TCP: numeric, IPv4 or IPv6, the latter with %scope where it needs one */
    uint16_t port;       /* TCP */
    const char *host;    /* TCP: what messages call it, NULL: the address */
    const char *name;    /* what messages call the export there, such as the way to it; NULL: its URI */
    struct ntx_tls *tls; /* NULL: plain; else nothing is asked and nothing sent but through TLS */
};

/*
 * Connect to an NBD export at places[0] and negotiate it.  The next connection, when a job makes more of the device,
 * goes to the next place, and behind the last to the first again: a tunnel gives each a place of its own.
 * Ownership: places and the strings are copied; stop_fd is borrowed for the call; the caller closes *device.
 * Units:     count 1..NTX_MAX_CONNECTIONS; timeout_ms for all of it.
 * Threads:   blocks for at most timeout_ms, and not once stop_fd (-1: none) is readable.
 * Errors:    0, or -ECONNREFUSED... (class DEVICE), -ETIMEDOUT (TIMEOUT), -ECANCELED (CANCELLED: stop_fd),
 *            -ENOTSUP/-ENOENT/... (NEGOTIATION; -EKEYREJECTED: TLS, one end does not trust the other), -EPROTO
 * (PROTOCOL), -EROFS (NEGOTIATION: mode is WRITE and the export is read-only), -EINVAL, -ENAMETOOLONG (OPTIONS).
 */
int ntx_open_nbd(const struct ntx_nbd_place *places, size_t count, const char *export_name, enum ntx_open_mode mode,
                 unsigned timeout_ms, int stop_fd, struct ntx_device **device, struct ntx_error *err);

/*
 * A target that drops what it is given, or a source whose every 8 bytes hold their own offset (big-endian).
 * Units:   size in bytes, at most NTX_MAX_DEVICE_SIZE.
 * Errors:  0, or -EINVAL, -ENOMEM.
 */
int ntx_open_null(uint64_t size, struct ntx_device **device, struct ntx_error *err);
int ntx_open_pattern(uint64_t size, struct ntx_device **device, struct ntx_error *err);

/*
 * Write what can only be written at the end, such as the tables of an image, and make it safe.  Blocks.
 * Threads:  not while a job uses the device.  A second time, and of a device that has no such thing, it does nothing.
 * Errors:   0, or -errno: what was written is no image then.
 */
int ntx_finish(struct ntx_device *device, struct ntx_error *err);

/* An extent of a disk, and where its bytes are. */
struct ntx_mapped_extent {
    uint64_t offset; /* on the disk */
    uint64_t length;
    uint64_t place; /* of its first byte in the file; not looked at when it is zero */
    uint32_t file;  /* index of the file; likewise */
    uint32_t flags; /* NTX_EXTENT_ZERO, or 0 */
};

#define NTX_MAX_MAPPED_EXTENTS (16u * NTX_MIB) /* 512 MiB of table: no caller has a use for more */

/*
 * A disk for reading that is made of pieces of files, such as an image whose clusters somebody has looked up.
 * Ownership: everything is copied and every descriptor duplicated; the caller closes *device.
 * Units:     fds are of regular files, open for reading; extents cover [0, size) in ascending order without gaps;
 *            data must lie inside its file.
 * Errors:    0, or -EINVAL (OPTIONS: an extent, err->offset says which, or a size; DEVICE: no regular file), -ENOMEM,
 *            -errno of fcntl/fstat.  A file that is cut off later: -EIO of the read, with the place on the disk.
 */
int ntx_open_mapped(const char *name, uint64_t size, const int *fds, size_t fd_count,
                    const struct ntx_mapped_extent *extents, size_t count, struct ntx_device **device,
                    struct ntx_error *err);

/*
 * A pipe, a socket or a file that somebody else has opened, read or written in order from where it stands.  One
 * connection; what it waits for has no time limit, but ends with a job that is cancelled.
 * Ownership: fd is duplicated, or opened anew; the caller closes *device.  name is for messages, and copied.
 * Units:     size in bytes.  NTX_OPEN_READ: how many will come, and no more; fewer are an error, unless may_end: then
 *            size is a bound, and the device's size what came once that is known, at the end of a job.  Nothing at all
 *            is an error.  NTX_OPEN_WRITE: a bound, and may_end is not looked at.
 * Threads:   one at a time; SIGPIPE has to be blocked or ignored.
 * Errors:    0, or -EINVAL, -ENOMEM, -errno of fstat/fcntl.  While it is used: -ENODATA (it ended), -EFBIG (it did
 * not), -EPIPE (its reader is gone).
 */
int ntx_open_pipe(int fd, enum ntx_open_mode mode, const char *name, uint64_t size, bool may_end,
                  struct ntx_device **device, struct ntx_error *err);

/* What the device is.  Never fails; valid until ntx_close(). */
const struct ntx_device_info *ntx_device_info(const struct ntx_device *device);

/*
 * Append to extents what [offset, offset+length) holds: contiguous, ascending, clipped, neighbours merged.
 * Blocks for as many answers as there are in a tenth of a second, and at least for one; timeout_ms is for each.  A
 * device that cannot tell gives one data extent.
 * Units:    at most capacity extents are stored; *count says how many, and they may cover less than length.
 * Threads:  not while a job uses the device.
 * Errors:   0, or -errno with the place; -EINVAL when the range is empty or past the end.
 */
int ntx_map(struct ntx_device *device, uint64_t offset, uint64_t length, unsigned timeout_ms,
            struct ntx_extent *extents, size_t capacity, size_t *count, struct ntx_error *err);

/* End an ntx_map() that another thread waits in, with an error: the connection is of no use any more.  Nothing for a
 * device that is no connection. */
void ntx_interrupt(struct ntx_device *device);

/* Close and free.  NULL is allowed.  Never while a job uses the device. */
void ntx_close(struct ntx_device *device);

/* ------------------------------------------------------------------------------------------ rate limits */

/* How many bytes per second may be read by all jobs that share it, and how much processor time the process may take. */
struct ntx_limiter;

/*
 * Make one.
 * Units:   bytes per second; 0: no limit for the time being.
 * Errors:  0, or -ENOMEM.
 */
int ntx_limiter_new(uint64_t rate_bytes_per_s, struct ntx_limiter **limiter, struct ntx_error *err);

/* Change the rate, at any time, from any thread.  Jobs that run notice within a tenth of a second. */
void ntx_limiter_set_rate(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s);

/* Limit the processor time: of all threads of this process, and of others, such as its servers, as it is told.
 * Units:   millionths of one processor; 0: no limit, as at first.
 * At any time, from any thread: begins anew, what was taken before does not count. */
void ntx_limiter_set_cpu_share(struct ntx_limiter *limiter, uint64_t share_ppm);

/* Tell what others have taken so far, in ns: never less than before. */
void ntx_limiter_tell_others_cpu(struct ntx_limiter *limiter, uint64_t taken_ns);

/* Free, after the last job that has it.  NULL is allowed. */
void ntx_limiter_free(struct ntx_limiter *limiter);

/* ------------------------------------------------------------------------------------------------- jobs */

struct ntx_job;

/* How much is asked for at once, and how long is waited.  All of it is the caller's decision; the job keeps to it. */
struct ntx_limits {
    unsigned connections;       /* threads at most, 1..NTX_MAX_CONNECTIONS; one when an end permits only one */
    unsigned in_flight;         /* requests per connection at most, 1..NTX_MAX_IN_FLIGHT */
    unsigned first_connections; /* to begin with; 0 = all of them, always */
    unsigned first_requests;    /* of all connections to begin with; 0 = as many as may be, always */
    unsigned depth;             /* requests of one connection before another is used; 0 = in_flight */
    uint32_t request_size;      /* multiple of NTX_BLOCK_SIZE, at most NTX_MAX_REQUEST_SIZE */
    uint64_t max_buffer_bytes;  /* bound on all buffers in use, and what connections hold: there are fewer to keep it */
    unsigned timeout_ms;        /* longest wait for any one answer of either end, but for the closing flush: */
    unsigned flush_timeout_ms;  /* that lasts as long as the target writes back what it holds; 0 = no limit */
};

struct ntx_job_options {
    struct ntx_limits limits;
    struct ntx_limiter *limiter; /* borrowed until ntx_job_free(); NULL = none */
    uint64_t disk_size;          /* bytes of the source that are the disk; 0 = all.  A device may be padded behind it */
    bool target_is_zero;         /* zeros need not be written */
    bool reads_all;              /* what the source itself says is zero is read all the same */
    uint64_t bytes_expected;     /* sum of the extents to come; sizes the work ranges.  0 = unknown */
    bool makes_checkpoints;      /* work ranges are small, so that little of what is stored lies above .stored_to */

    /* Digests of every block touched are written to digest_fd at digest_offset + 16 * block.  -1: not kept. */
    int digest_fd;
    uint64_t digest_offset;
    bool digests_are_zero; /* the file is fresh: digests of zero blocks need not be written */

    /* Blocks whose digest equals the one at reference_fd are not sent.  -1: all are sent.
     * Blocks from reference_blocks on have no reference and are sent. */
    int reference_fd;
    uint64_t reference_offset;
    uint64_t reference_blocks;
};

/* How the number of requests in flight came about. */
enum ntx_pace_why {
    NTX_PACE_PINNED,  /* it was asked for, or there was no choice */
    NTX_PACE_BEGAN,   /* as it began: nothing else was tried */
    NTX_PACE_NO_GAIN, /* as it began: more was tried and was not faster */
    NTX_PACE_LATE,    /* more, because the first answer was late; not compared with less */
    NTX_PACE_RAISED,  /* more was faster */
    NTX_PACE_LOWERED, /* less was as fast */
    NTX_PACE_TRIED,   /* another number was being tried */
};

struct ntx_job_progress {
    uint64_t bytes_done;      /* of the extents fed: finished, in whichever way */
    uint64_t bytes_read;      /* from the source */
    uint64_t bytes_sent;      /* payload written to the target */
    uint64_t bytes_stored;    /* what the target keeps for it: less where it compresses or has the same already */
    uint64_t bytes_zeroed;    /* zeroed on the target */
    uint64_t bytes_skipped;   /* zero, and the target is known to be zero */
    uint64_t bytes_unchanged; /* equal to the reference digest */
    uint64_t requests;        /* completed by the target */
    uint64_t retries;         /* asked again in another way: zeroing that the target refused */
    uint64_t source_ns;       /* worker time waiting for or reading the source, ... */
    uint64_t digest_ns;       /* ... testing for zero and digesting, */
    uint64_t target_ns;       /* ... sending to or waiting for the target, */
    uint64_t packing_ns;      /* ... compressing, and looking whether what came out is what went in, */
    uint64_t limit_ns;        /* ... held by the rate limit */
    uint64_t cpu_ns;          /* processor time of the threads that have ended */
    unsigned connections;     /* in use now */
    unsigned refused;         /* connections that could not be had: see ntx_job_refused() */
    unsigned in_flight;       /* requests per connection now */
    enum ntx_pace_why why;    /* of both */
    uint64_t stored_to;   /* all that was fed below it is stored: the target confirmed a flush after it was answered,
                           * and its digests are written, if not synced.  Multiple of NTX_BLOCK_SIZE, or the size.
                           * As of the last checkpoint, and of the closing flush, also after an error */
    unsigned checkpoints; /* made so far */
    uint64_t flush_ns;    /* their flushes, but for the closing one */
    bool wants_extents;   /* the job has room for more extents */
    bool flushing;        /* waiting for the closing flush; at the end: its limit is what ended the job */
    bool finished;        /* every thread is about to end: join will not block for long */
    bool flushed;         /* the target confirmed a flush after the last write */
};

/*
 * Tell how much memory the job of ntx_job_new() would take at most, with what its devices take already, from the
 * sizes of what is allocated.  Of options, .limits, .disk_size and .bytes_expected are looked at.
 * Units:     bytes of this process: not what the kernel keeps for sockets, pipes and files, nor extents of the feeder.
 * LIMIT:     extents shorter than 512 bytes are more than is counted with; nobody makes them.
 * Threads:   pure, but not while a job uses the devices.
 * Errors:    as ntx_job_new().
 */
int ntx_job_memory(const struct ntx_device *source, const struct ntx_device *target,
                   const struct ntx_job_options *options, uint64_t *bytes, struct ntx_error *err);

/*
 * Make a job.  Nothing runs yet.
 * Ownership: source and target are borrowed until ntx_job_free(); digest_fd and reference_fd likewise.
 *            Worker 1 uses the two devices themselves, the others connect to the same places again.
 * Errors:    0, or -EINVAL (OPTIONS: what, and the bounds), -EROFS, -ENOSPC (target smaller than the source),
 *            -ENOTSUP (an end's block sizes do not fit the other's size), -ENOTCONN (an end was lost in an earlier
 *            job: open it again), -ENOMEM, -EMFILE.
 */
int ntx_job_new(struct ntx_device *source, struct ntx_device *target, const struct ntx_job_options *options,
                struct ntx_job **job, struct ntx_error *err);

/*
 * Start the threads.  Returns at once; then feed, and wait for ntx_job_fd() to become readable.
 * Errors:   0, or -EALREADY, -EAGAIN (no thread).
 */
int ntx_job_start(struct ntx_job *job, struct ntx_error *err);

/*
 * Hand over extents to copy.  Never blocks; takes as many as there is room for.
 * Ownership: extents are copied.
 * Units:     bytes; ascending and not overlapping, also from call to call; within the source's size.
 * Threads:   any one at a time.
 * Errors:    0 with *taken set, or -EINVAL (err->offset says which extent), -EPIPE after ntx_job_feed_end().
 */
int ntx_job_feed(struct ntx_job *job, const struct ntx_extent *extents, size_t count, size_t *taken,
                 struct ntx_error *err);
void ntx_job_feed_end(struct ntx_job *job);

/*
 * Ask for a checkpoint: the threads send what they hold back, the first of them flushes, and .stored_to and
 * .checkpoints of the progress grow; unless that thread comes to its end before, for then the closing flush is near.
 * Returns at once; false where that will not happen: one is under way, no thread is at work, or the target cannot
 * flush. Threads: any, any time.
 */
bool ntx_job_checkpoint(struct ntx_job *job);

/* A descriptor that polls readable when .wants_extents or .finished turned true, or .checkpoints grew.  Reading it is
 * the caller's business (an eventfd, non-blocking: 8 bytes).  Valid until ntx_job_free(). */
int ntx_job_fd(const struct ntx_job *job);

/* Counters so far.  Cheap, any thread, any time. */
void ntx_job_progress(const struct ntx_job *job, struct ntx_job_progress *progress);

/*
 * Tell how many connections the job wanted and could not have, and in *first why the first of them could not.  The job
 * goes on with those it has.
 * Units:    connections; *first is of class NTX_E_NONE while there are none.
 * Threads:  any, any time.
 */
unsigned ntx_job_refused(const struct ntx_job *job, struct ntx_error *first);

/* Ask the workers to stop.  Returns at once; the job still finishes through ntx_job_fd(), within a second if no call
 * into the kernel blocks for longer.  A closing flush is not begun any more, or no longer waited for. */
void ntx_job_cancel(struct ntx_job *job);

/*
 * Wait for every thread and return the first error of the job.  May be called once.
 * Errors: 0, or whatever happened first.
 */
int ntx_job_join(struct ntx_job *job, struct ntx_error *err);

/* Free.  A running job is cancelled and joined first.  NULL is allowed. */
void ntx_job_free(struct ntx_job *job);

#endif
