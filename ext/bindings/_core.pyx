# distutils: language = c++
"""assay._core: the native core. The contract stands in _core.pyi.

This file is a table of contents. The parts convert, check and own; they decide nothing.

Rules of the border:
- A `str` or `bytes` is read by C++ only while its Python object is referenced by the running call.
- Objects are made whole in __cinit__, or by the module itself (_FACTORY): there is no half-made one.
- C++ objects that outlive a call are held by shared_ptr here; raw pointers name their owner.
- The GIL is released wherever C++ may block or works long, and kept for microseconds of work.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from cython.operator cimport dereference
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.memory cimport make_shared, make_unique, shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.string_view cimport string_view
from libcpp.utility cimport move
from libcpp.vector cimport vector
from posix.types cimport pid_t
from posix.unistd cimport getpid

from core cimport *

from collections import namedtuple as _namedtuple
from threading import Lock as _Lock

from assay.errors import CoreError as _CoreError

# Given to __cinit__ of classes that only the module makes. Python code cannot reach it.
cdef object _FACTORY = object()

include "text.pxi"     # str, bytes and scalars <-> the core's views and values
include "memory.pxi"   # NumPy arrays lent to C++
include "errors.pxi"   # CODE_TABLE, check_status, Refusal
include "tables.pxi"   # LIMITS, BUILD and the numbers of the enums
include "policy.pxi"   # POLICY_TABLE, check_access
include "plan.pxi"     # PlanBuilder, FeaturePlan, the decoders
include "store.pxi"    # EmbeddedStore
include "reader.pxi"   # FeatureReader
include "events.pxi"   # EventWriter, EventLog
include "resp.pxi"     # exchange
include "runtime.pxi"  # OrtRuntime, OrtModel, PuppetModel
include "explain.pxi"  # TreeExplainer
include "black_box.pxi"  # open_black_box
include "telemetry.pxi"  # Histogram, EngineMetrics, CallRecord
include "audit.pxi"    # AuditLog, AuditSegment
include "infer.pxi"    # the tensors of ModelInfer
include "explained.pxi"  # ExplainedModel
include "engine.pxi"   # ManualClock, CompletionQueue, Engine
include "transport.pxi"  # NativeTransport
include "load.pxi"     # LoadRun
