"""The binding of the rate limit that jobs share."""

cimport cython

from libc.stdint cimport uint64_t

cimport ntxengine._core.ntx as ntx


@cython.final
cdef class Limiter:
    """How many bytes per second all jobs that have it may read together; 0: as many as they can."""

    def __cinit__(self, uint64_t rate_bytes_per_s):
        cdef ntx.ntx_error err
        self.limiter = NULL
        if ntx.ntx_limiter_new(rate_bytes_per_s, &self.limiter, &err) < 0:
            raise MemoryError()

    def __dealloc__(self):
        ntx.ntx_limiter_free(self.limiter)

    def set_rate(self, uint64_t rate_bytes_per_s):
        """Change the rate, also while jobs run."""
        ntx.ntx_limiter_set_rate(self.limiter, rate_bytes_per_s)
