# Memory of NumPy arrays lent to C++: held by a Py_buffer for as long as C++ may touch it.

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer


@cython.final
cdef class _Memory:
    cdef Py_buffer view
    cdef bint _is_held

    def __cinit__(self, owner, bint writable):
        self._is_held = False
        PyObject_GetBuffer(owner, &self.view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        self._is_held = True

    def __dealloc__(self):
        if self._is_held:
            PyBuffer_Release(&self.view)
