# The black box of this process: ext/core/base/black_box.h.

BLACK_BOX = {
    "format": kFormat,
    "file_bytes": kFileBytes,
    "slots": kBlackBoxSlots,
    "errors": kBlackBoxErrors,
}


def open_black_box(file: int, *, assay: str, build: str, python: str) -> None:
    """Starts to record; the box owns `file` from here on, if this does not raise."""
    cdef BlackBoxIdentity identity
    if black_box_is_open():
        raise ValueError("the black box is open")
    identity.assay = view_of_str(assay)
    identity.build = view_of_str(build)
    identity.python = view_of_str(python)
    check_status(black_box_open(file, identity))


def complete_black_box(runtime: str) -> None:
    """What is known only later: ONNX Runtime's version, and the libraries that are loaded by now."""
    black_box_name_runtime(view_of_str(runtime))
    check_status(black_box_read_modules())


def close_black_box() -> None:
    """Says that this process ends as it should. Idempotent."""
    black_box_close()
