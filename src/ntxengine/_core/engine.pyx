# cython: boundscheck=False, wraparound=False
"""The jobs of the C core: convert, drop the GIL, call, translate the error.  No policy here."""

cimport cython

from libc.stdint cimport uint64_t
from libc.string cimport memset

cimport ntxengine._core.ntx as ntx
from ntxengine._core.device cimport Device, raise_error
from ntxengine._core.limiter cimport Limiter
from ntxengine._core.ntx cimport extent_row

import numpy as np

from ntxengine._core import kernels

# The enumerators of ntx.h: what Python has for one is found by its name, never by its place.
PACE_REASONS = {
    ntx.NTX_PACE_PINNED: "PINNED", ntx.NTX_PACE_BEGAN: "BEGAN", ntx.NTX_PACE_NO_GAIN: "NO_GAIN", ntx.NTX_PACE_LATE: "LATE",
    ntx.NTX_PACE_RAISED: "RAISED", ntx.NTX_PACE_LOWERED: "LOWERED", ntx.NTX_PACE_TRIED: "TRIED"
}


cdef void set_limits(ntx.ntx_limits *to, limits):
    to.connections = limits.connections
    to.in_flight = limits.in_flight
    to.first_connections = limits.first_connections
    to.first_requests = limits.first_requests
    to.depth = limits.depth
    to.request_size = limits.request_size
    to.max_buffer_bytes = limits.max_buffer_bytes
    to.timeout_ms = limits.timeout_ms
    to.flush_timeout_ms = limits.flush_timeout_ms


def memory_of(Device source not None, Device target not None, limits not None, *, uint64_t disk_size, uint64_t bytes_expected):
    """Return the bytes of memory that a Job of these takes at most, its devices with it."""
    cdef ntx.ntx_job_options options
    cdef ntx.ntx_error err
    cdef uint64_t taken = 0
    source.info()
    target.info()
    memset(&options, 0, sizeof(options))
    set_limits(&options.limits, limits)
    options.disk_size = disk_size
    options.bytes_expected = bytes_expected
    if ntx.ntx_job_memory(source.device, target.device, &options, &taken, &err) < 0:
        raise_error(&err)
    return taken


# The threads use the devices and the limiter until __dealloc__ has freed the job: the garbage collector may not take them away before.
@cython.no_gc_clear
@cython.final
cdef class Job:
    """One device copied to another by C threads.  Completion is told by `fileno()`."""

    cdef ntx.ntx_job *job
    cdef Device source, target
    cdef Limiter limiter
    cdef object keep  # whoever owns the descriptors of the manifests

    def __cinit__(self, Device source not None, Device target not None, limits not None, *, uint64_t disk_size,
                  bint target_is_zero, bint reads_all=False, uint64_t bytes_expected,
                  bint makes_checkpoints=False, int digest_fd, uint64_t digest_offset, bint digests_are_zero,
                  int reference_fd, uint64_t reference_offset, uint64_t reference_blocks,
                  Limiter limiter=None, object keep=None):
        cdef ntx.ntx_job_options options
        cdef ntx.ntx_error err
        cdef int rc
        self.job = NULL
        source.info()
        target.info()
        if source.borrowed or target.borrowed or source is target:
            raise ValueError("a device can serve one job at a time")
        memset(&options, 0, sizeof(options))  # also the fields that nobody here knows yet
        set_limits(&options.limits, limits)
        options.limiter = NULL if limiter is None else limiter.limiter
        options.disk_size = disk_size
        options.target_is_zero = target_is_zero
        options.reads_all = reads_all
        options.bytes_expected = bytes_expected
        options.makes_checkpoints = makes_checkpoints
        options.digest_fd = digest_fd
        options.digest_offset = digest_offset
        options.digests_are_zero = digests_are_zero
        options.reference_fd = reference_fd
        options.reference_offset = reference_offset
        options.reference_blocks = reference_blocks
        with nogil:
            rc = ntx.ntx_job_new(source.device, target.device, &options, &self.job, &err)
        if rc < 0:
            raise_error(&err)
        self.source = source
        self.target = target
        self.limiter = limiter
        self.keep = keep
        source.borrowed += 1
        target.borrowed += 1

    def __dealloc__(self):
        if self.job != NULL:
            with nogil:
                ntx.ntx_job_free(self.job)
            self.source.borrowed -= 1
            self.target.borrowed -= 1

    cdef ntx.ntx_job *opened(self) except NULL:
        if self.job == NULL:
            raise ValueError("the job is closed")
        return self.job

    def start(self):
        cdef ntx.ntx_job *job = self.opened()
        cdef ntx.ntx_error err
        cdef int rc
        with nogil:
            rc = ntx.ntx_job_start(job, &err)
        if rc < 0:
            raise_error(&err)

    def feed(self, extents):
        """Hand over extents (dtype EXTENT); return how many were taken."""
        cdef ntx.ntx_job *job = self.opened()
        if len(extents) == 0:
            return 0
        cdef const extent_row[::1] rows = np.ascontiguousarray(extents, dtype=kernels.EXTENT)
        cdef ntx.ntx_error err
        cdef size_t taken = 0
        cdef int rc
        with nogil:
            rc = ntx.ntx_job_feed(job, <const ntx.ntx_extent *>&rows[0], rows.shape[0], &taken, &err)
        if rc < 0:
            raise_error(&err)
        return taken

    def feed_end(self):
        ntx.ntx_job_feed_end(self.opened())

    def fileno(self):
        return ntx.ntx_job_fd(self.opened())

    def progress(self):
        """Return the counters so far, as a dict of struct ntx_job_progress."""
        cdef ntx.ntx_job_progress progress
        ntx.ntx_job_get_progress(self.opened(), &progress)
        return progress

    def refusal(self):
        """Return why the first of the connections that could not be had was refused, None if there are none."""
        cdef ntx.ntx_error first
        if ntx.ntx_job_refused(self.opened(), &first) == 0:
            return None
        return (<const char *>first.text).decode("utf-8", "replace")

    def checkpoint(self):
        """Ask for a checkpoint: `fileno()` tells when `stored_to` and `checkpoints` of the progress have grown.

        Return whether it was asked for: not while another is under way, or where the target could not keep it.
        """
        cdef ntx.ntx_job *job = self.opened()
        cdef ntx.bool_t is_asked
        with nogil:
            is_asked = ntx.ntx_job_checkpoint(job)
        return bool(is_asked)

    def cancel(self):
        cdef ntx.ntx_job *job = self.opened()
        with nogil:
            ntx.ntx_job_cancel(job)

    def join(self):
        """Wait for the threads and raise the first error of the job."""
        cdef ntx.ntx_job *job = self.opened()
        cdef ntx.ntx_error err
        cdef int rc
        with nogil:
            rc = ntx.ntx_job_join(job, &err)
        if rc < 0:
            raise_error(&err)

    def close(self):
        """Free the job, so that its devices can be used again.  A running one is cancelled and waited for."""
        cdef ntx.ntx_job *job = self.job
        self.job = NULL
        if job != NULL:
            with nogil:
                ntx.ntx_job_free(job)
            self.source.borrowed -= 1
            self.target.borrowed -= 1
        self.keep = None
