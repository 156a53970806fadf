# cython: boundscheck=False, wraparound=False
"""The devices of the C core: convert, drop the GIL, call, translate the error.  No policy here."""

cimport cython

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cimport ntxengine._core.ntx as ntx
from ntxengine._core.ntx cimport extent_row
from ntxengine._core.tls cimport Tls

import numpy as np

from ntxengine._core import kernels
from ntxengine.errors import from_core

BLOCK_SIZE = ntx.NTX_BLOCK_SIZE
DIGEST_SIZE = ntx.NTX_DIGEST_SIZE
MAX_REQUEST_SIZE = ntx.NTX_MAX_REQUEST_SIZE
MAX_CONNECTIONS = ntx.NTX_MAX_CONNECTIONS
MAX_IN_FLIGHT = ntx.NTX_MAX_IN_FLIGHT

# The enumerators of ntx.h: what Python has for one is found by its name, never by its place.
ERROR_CLASSES = {
    ntx.NTX_E_NONE: "NONE", ntx.NTX_E_OPTIONS: "OPTIONS", ntx.NTX_E_SYSTEM: "SYSTEM", ntx.NTX_E_DEVICE: "DEVICE",
    ntx.NTX_E_SOURCE: "SOURCE", ntx.NTX_E_TARGET: "TARGET", ntx.NTX_E_NEGOTIATION: "NEGOTIATION",
    ntx.NTX_E_PROTOCOL: "PROTOCOL", ntx.NTX_E_REPLY: "REPLY", ntx.NTX_E_TIMEOUT: "TIMEOUT", ntx.NTX_E_CANCELLED: "CANCELLED"
}


cdef int raise_error(const ntx.ntx_error *err) except -1:
    text = (<const char *>err.text).decode("utf-8", "replace")
    raise from_core(ERROR_CLASSES[err.error_class], err.code, err.offset, err.length, text)


cdef int _set_place(ntx.ntx_nbd_place *to, place) except -1:
    memset(to, 0, sizeof(to[0]))
    if isinstance(place, bytes):
        to.path = <bytes>place
    elif len(place) == 2:
        to.path, to.name = <bytes?>place[0], <bytes?>place[1]
    else:
        to.address, to.port, to.host = <bytes?>place[0], place[1], <bytes?>place[2]
    return 0


@cython.final
cdef class Device:
    """One opened connection to something that holds bytes.  Opening and closing may block: use a thread."""

    def __cinit__(self):
        self.device = NULL
        self.borrowed = 0

    def __dealloc__(self):
        ntx.ntx_close(self.device)

    @staticmethod
    def open_file(bytes path, *, bint write=False, bint direct=False):
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef const char *c_path = path
        cdef ntx.ntx_open_mode mode = ntx.NTX_OPEN_WRITE if write else ntx.NTX_OPEN_READ
        cdef int rc
        with nogil:
            rc = ntx.ntx_open_file(c_path, mode, direct, &self.device, &err)
        if rc < 0:
            raise_error(&err)
        self.path = path
        return self

    @staticmethod
    def open_nbd(places, bytes export_name, *, bint write=False, unsigned timeout_ms, int stop_fd=-1, Tls tls=None):
        """Connect to the first place; each further connection of a job takes the next one.

        A place is the path of a unix socket, (that, what messages call the export), or (numeric address, port, what
        messages call the host).  With `tls` nothing goes there but through it.
        """
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef ntx.ntx_nbd_place c_places[ntx.NTX_MAX_CONNECTIONS]
        cdef const char *c_name = export_name
        cdef ntx.ntx_open_mode mode = ntx.NTX_OPEN_WRITE if write else ntx.NTX_OPEN_READ
        cdef tuple kept = tuple(places)  # holds the bytes that c_places points into
        cdef size_t count = min(len(kept), ntx.NTX_MAX_CONNECTIONS + 1), i
        cdef int rc
        for i in range(min(count, ntx.NTX_MAX_CONNECTIONS)):
            _set_place(&c_places[i], kept[i])
            c_places[i].tls = NULL if tls is None else tls.tls
        with nogil:
            rc = ntx.ntx_open_nbd(c_places, count, c_name, mode, timeout_ms, stop_fd, &self.device, &err)
        if rc < 0:
            raise_error(&err)
        return self

    @staticmethod
    def open_null(uint64_t size):
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        if ntx.ntx_open_null(size, &self.device, &err) < 0:
            raise_error(&err)
        return self

    @staticmethod
    def open_pattern(uint64_t size):
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        if ntx.ntx_open_pattern(size, &self.device, &err) < 0:
            raise_error(&err)
        return self

    @staticmethod
    def open_pipe(int fd, bytes name, *, bint write=False, uint64_t size, bint may_end=False):
        """Open what a descriptor stands for, to be read or written in order; the descriptor stays the caller's.

        `may_end`: `size` is a bound, and where it ends is known at the end of a job.
        """
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef ntx.ntx_open_mode mode = ntx.NTX_OPEN_WRITE if write else ntx.NTX_OPEN_READ
        if ntx.ntx_open_pipe(fd, mode, name, size, may_end, &self.device, &err) < 0:
            raise_error(&err)
        return self

    @staticmethod
    def open_mapped(bytes name, uint64_t size, fds, extents):
        """Open a disk made of pieces of files; their descriptors are duplicated."""
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef const char *c_name = name
        cdef const int[::1] numbers = np.array(fds, dtype=np.intc)
        cdef const uint8_t[::1] rows = np.ascontiguousarray(extents, dtype=kernels.MAPPED_EXTENT).view(np.uint8)
        cdef size_t count = rows.shape[0] // sizeof(ntx.ntx_mapped_extent)
        cdef const void *first = &rows[0] if count else NULL
        cdef const int *first_fd = &numbers[0] if numbers.shape[0] else NULL
        cdef int rc
        with nogil:
            rc = ntx.ntx_open_mapped(c_name, size, first_fd, numbers.shape[0], <const ntx.ntx_mapped_extent *>first,
                                     count, &self.device, &err)
        if rc < 0:
            raise_error(&err)
        return self

    @staticmethod
    def open_qcow2(bytes path, bytes map_path, uint64_t size, *, bytes backing_name=None, int zstd_level=0,
                   again_from=None):
        """Write an image into an empty file; `again_from`: go on with one of which so many bytes are believed."""
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef ntx.ntx_qcow2_options options
        cdef int rc
        memset(&options, 0, sizeof(options))
        options.path = path
        options.map_path = map_path
        options.size = size
        options.backing_name = NULL if backing_name is None else <const char *>backing_name
        options.zstd_level = zstd_level
        if again_from is not None:
            options.is_opened_again = True
            options.stored_to = again_from
        with nogil:
            rc = ntx.ntx_open_qcow2(&options, &self.device, &err)
        if rc < 0:
            raise_error(&err)
        self.path = path
        return self

    @staticmethod
    def open_qcow2_chain(bytes name, fds):
        """Open the disk in a chain of images, the nearest first; their descriptors are duplicated."""
        cdef Device self = Device.__new__(Device)
        cdef ntx.ntx_error err
        cdef const char *c_name = name
        cdef const int[::1] numbers = np.array(fds, dtype=np.intc)
        cdef const int *first = &numbers[0] if numbers.shape[0] else NULL
        cdef int rc
        with nogil:
            rc = ntx.ntx_open_qcow2_chain(c_name, first, numbers.shape[0], &self.device, &err)
        if rc < 0:
            raise_error(&err)
        return self

    cdef const ntx.ntx_device_info *info(self) except NULL:
        if self.device == NULL:
            raise ValueError("the device is closed")
        return ntx.ntx_device_info_of(self.device)

    cdef bint has(self, uint32_t flag) except -1:
        return self.info().flags & flag != 0

    @property
    def size(self):
        return self.info().size

    @property
    def min_block(self):
        return self.info().min_block

    @property
    def preferred_block(self):
        return self.info().preferred_block

    @property
    def finish_bytes(self):
        """Bytes of memory that `finish` takes while it runs, at most."""
        return self.info().finish_bytes

    @property
    def max_payload(self):
        return self.info().max_payload

    @property
    def kind(self):
        return (<const char *>self.info().kind).decode()

    @property
    def name(self):
        return (<const char *>self.info().name).decode("utf-8", "replace")

    @property
    def is_read_only(self):
        return self.has(ntx.NTX_DEVICE_READ_ONLY)

    @property
    def can_zero(self):
        return self.has(ntx.NTX_DEVICE_CAN_ZERO)

    @property
    def can_flush(self):
        return self.has(ntx.NTX_DEVICE_CAN_FLUSH)

    @property
    def can_multi_conn(self):
        return self.has(ntx.NTX_DEVICE_CAN_MULTI_CONN)

    @property
    def can_map(self):
        return self.has(ntx.NTX_DEVICE_CAN_MAP)

    @property
    def is_rotational(self):
        return self.has(ntx.NTX_DEVICE_ROTATIONAL)

    @property
    def has_structured_replies(self):
        return self.has(ntx.NTX_DEVICE_STRUCTURED)

    @property
    def is_direct(self):
        return self.has(ntx.NTX_DEVICE_DIRECT)

    @property
    def is_block_device(self):
        return self.has(ntx.NTX_DEVICE_BLOCK)

    @property
    def is_tcp(self):
        return self.has(ntx.NTX_DEVICE_TCP)

    @property
    def discards(self):
        return self.has(ntx.NTX_DEVICE_DISCARDS)

    def map(self, uint64_t offset, uint64_t length, *, size_t capacity=4096, unsigned timeout_ms=60000):
        """Return extents from `offset` on; they may cover less than `length`.  Blocks: use a thread."""
        self.info()
        if self.borrowed:
            raise ValueError("the device is in use")
        extents = np.empty(capacity, dtype=kernels.EXTENT)
        cdef extent_row[::1] rows = extents
        cdef ntx.ntx_error err
        cdef size_t count = 0
        cdef int rc
        self.borrowed += 1
        with nogil:
            rc = ntx.ntx_map(self.device, offset, length, timeout_ms, <ntx.ntx_extent *>&rows[0], capacity, &count,
                             &err)
        self.borrowed -= 1
        if rc < 0:
            raise_error(&err)
        return extents[:count].copy()

    def map_images(self, uint64_t offset, uint64_t length, *, size_t capacity=4096):
        """Return in which images of a chain it is (MAPPED_EXTENT), from `offset` on; as map().  Blocks: use a thread."""
        self.info()
        if self.borrowed:
            raise ValueError("the device is in use")
        extents = np.empty(capacity, dtype=kernels.MAPPED_EXTENT)
        cdef uint8_t[::1] rows = extents.view(np.uint8)
        cdef ntx.ntx_error err
        cdef size_t count = 0
        cdef int rc
        self.borrowed += 1
        with nogil:
            rc = ntx.ntx_map_images(self.device, offset, length, <ntx.ntx_mapped_extent *>&rows[0], capacity, &count,
                                    &err)
        self.borrowed -= 1
        if rc < 0:
            raise_error(&err)
        return extents[:count].copy()

    def share_clusters(self, Device chain not None):
        """Let what is copied from `chain` be shared with its images, where this is one and the file system can."""
        self.info()
        chain.info()
        if self.borrowed:
            raise ValueError("the device is in use")
        ntx.ntx_share_clusters(self.device, chain.device)

    def interrupt(self):
        """End a map() that another thread waits in; a connection is of no use any more then."""
        self.info()
        ntx.ntx_interrupt(self.device)

    def finish(self):
        """Write what can only be written at the end, such as the tables of an image.  Blocks: use a thread."""
        cdef ntx.ntx_error err
        cdef int rc
        self.info()
        if self.borrowed:
            raise ValueError("the device is in use")
        self.borrowed += 1
        with nogil:
            rc = ntx.ntx_finish(self.device, &err)
        self.borrowed -= 1
        if rc < 0:
            raise_error(&err)

    def close(self):
        """Close.  A second time is allowed; while a job or another thread uses it is not."""
        cdef ntx.ntx_device *device = self.device
        if self.borrowed:
            raise ValueError("the device is in use")
        self.device = NULL
        with nogil:
            ntx.ntx_close(device)

    def __repr__(self):
        return "<Device closed>" if self.device == NULL else f"<Device {self.kind} {self.name}>"
