"""The exceptions of assay. Each also is the builtin one that a caller would expect.

AssayError
+-- ConfigError (ValueError)         the configuration is wrong: key, value's type, what was expected
+-- FeatureSetError (ValueError)     a feature set is wrong: path in the file, what was expected
+-- BundleError (ValueError)         a bundle is damaged or refused: file, reason, what to do
+-- StoreError (RuntimeError)        a store cannot be opened, read or written
|   +-- RecordError                  a record of a remote store cannot be trusted
+-- InputError (ValueError)          a file of events, attributes or rows is wrong
|   +-- RejectedError                an event was rejected where none may be
+-- KafkaError (RuntimeError)        Kafka said no for good; what passes is waited for
+-- ScoreError                       a client got no score: its own tree stands in client/errors.py
+-- CoreError (RuntimeError)         the native core said no: `reason` and `grpc_code` by its table of codes
"""

from __future__ import annotations


class AssayError(Exception):
    """Anything that assay itself reports. The text is for people and never holds a secret or a value of a transaction."""


class ConfigError(AssayError, ValueError):
    pass


class FeatureSetError(AssayError, ValueError):
    pass


class BundleError(AssayError, ValueError):
    pass


class StoreError(AssayError, RuntimeError):
    pass


class StoreFullError(StoreError):
    """The store, or what this process may hold of it, has no room for so much at once."""


class RecordError(StoreError):
    """`reason`: which check the record failed (docs/errors.md)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_damage(self) -> bool:
        """False: the record is well, and made by a newer assay than this one."""
        return self.reason != "RECORD_VERSION"


class InputError(AssayError, ValueError):
    pass


class CoreError(AssayError, RuntimeError):
    """Raised by assay._core. `reason` is the public name (docs/errors.md), `offset` the first bad byte where bytes were wrong."""

    def __init__(self, code: int, reason: str, grpc_code: int, message: str, offset: int = 0) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.grpc_code = grpc_code
        self.message = message
        self.offset = offset


class KafkaError(AssayError, RuntimeError):
    pass


class RejectedError(InputError):
    pass
