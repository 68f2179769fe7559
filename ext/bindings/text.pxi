# str, bytes and scalars <-> the core's views and values.

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

Scalar = float | int | bool | str


# The str keeps its UTF-8 form: the view is valid as long as the str is referenced.
cdef inline string_view view_of_str(str text) except *:
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return string_view(data, <size_t>size)


cdef inline string string_of_str(str text) except *:
    cdef string_view view = view_of_str(text)
    return string(view.data(), view.size())


cdef inline string_view view_of_bytes(bytes data) noexcept:
    return string_view(PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))


cdef inline bytes bytes_of_string(const string& text):
    return PyBytes_FromStringAndSize(text.data(), <Py_ssize_t>text.size())


# "replace": text of a message that was refused need not be UTF-8.
cdef inline str str_of_view(string_view text):
    if text.size() == 0:
        return ""
    return PyUnicode_DecodeUTF8(text.data(), <Py_ssize_t>text.size(), "replace")


cdef inline str str_of_string(const string& text):
    return PyUnicode_DecodeUTF8(text.data(), <Py_ssize_t>text.size(), "replace")


# A Value of exactly the scalar's own type; None is null. Text stays in the str. *overflow is set where an int is past int64.
cdef Value value_of_scalar(object scalar, cbool* overflow) except *:
    cdef int out_of_range = 0
    cdef long long number
    if scalar is None:
        return Value()
    if isinstance(scalar, bool):
        return value_of_bool(scalar is True)
    if isinstance(scalar, int):
        number = PyLong_AsLongLongAndOverflow(scalar, &out_of_range)
        overflow[0] = out_of_range != 0
        return value_of_int64(number)
    if isinstance(scalar, float):
        return value_of_float64(scalar)
    if isinstance(scalar, str):
        return value_of_text(view_of_str(scalar))
    raise TypeError(f"expected float, int, bool or str, not {type(scalar).__name__}")


# The same where only one type will do: `what` names the place in the error.
cdef Value typed_value(object scalar, Dtype dtype, str what) except *:
    cdef cbool overflow = False
    cdef Value value = value_of_scalar(scalar, &overflow)
    if overflow:
        raise _core_error(Code.kIntegerOverflow, f"{what}: an int past 64 bits")
    if not value.is_null() and value.dtype != dtype:
        expected = dtype_name(dtype).decode()
        raise _core_error(Code.kWrongType, f"{what}: expected {expected}, not {type(scalar).__name__}")
    return value


cdef object scalar_of_value(const Value& value):
    if value.dtype == Dtype.kFloat64:
        return value.float64
    if value.dtype == Dtype.kInt64:
        return value.int64
    if value.dtype == Dtype.kBool:
        return bool(value.boolean)
    if value.dtype == Dtype.kString:
        return str_of_view(value.string_())
    return None
