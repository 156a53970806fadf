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

    def set_cpu_share(self, uint64_t share_ppm):
        """Limit the processor time of this process and of what it is told of, in millionths of one processor; 0: not."""
        ntx.ntx_limiter_set_cpu_share(self.limiter, share_ppm)

    def tell_others_cpu(self, uint64_t taken_ns):
        """Tell what processes that work for this one have taken so far, in ns: never less than before."""
        ntx.ntx_limiter_tell_others_cpu(self.limiter, taken_ns)
