"""Makes one file of an ONNX model that keeps tensors in files beside it: `python -m assay.models.inline_onnx MODEL > one.onnx`.

Exporters write such files (PyTorch's newer one by default), and a bundle has no place for them. Taken are plain files in the very
directory of the model, under the name that the model gives: no path, no link, nothing that is cut off. Everything else is refused
with what to do. On success stdout is the model's new bytes; a refusal is status 3 and one JSON object {"reason", "mend"}.

Runs as a child process with the limits of inspect_onnx.py: these are foreign bytes. Nothing of the model is executed here.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assay.models.inspect_onnx import CONSTANT_BYTES_MAX, MESSAGES_MAX, limit_process, printable

if TYPE_CHECKING:
    from google.protobuf.message import Message

REFUSED: Final = 3
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_MEND_ONE_FILE = "save it as one file where it was exported: onnx.save(onnx.load({path!r}), 'one.onnx')"


class InlineError(Exception):
    """A tensor's data cannot be taken. `mend` says what to do."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend


def main(path: Path) -> int:
    model_bytes = path.read_bytes()
    limit_process(len(model_bytes) + _bytes_beside(path))
    try:
        sys.stdout.buffer.write(inline(model_bytes, path))
    except InlineError as error:
        sys.stdout.write(json.dumps({"reason": error.reason, "mend": error.mend}))
        return REFUSED
    return 0


def inline(model_bytes: bytes, path: Path) -> bytes:
    """The model with every tensor's data in it. `path`: where it lies. Raises InlineError."""
    import onnx  # here, not above: after the limits

    model = onnx.ModelProto.FromString(model_bytes)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    files = _FilesBeside(directory, path)
    try:
        for tensor in _external_tensors(model):
            tensor.raw_data = files.read(tensor)
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
    finally:
        files.close()
    return bytes(model.SerializeToString())


# --- implementation ---


class _FilesBeside:
    """The plain files in one directory, opened once each by the bare name that a model gives, through the directory's handle."""

    def __init__(self, directory: int, path: Path) -> None:
        self._directory = directory
        self._path = path
        self._handles: dict[str, int] = {}
        self._bytes_taken = 0

    def close(self) -> None:
        for handle in (*self._handles.values(), self._directory):
            os.close(handle)

    def read(self, tensor: Any) -> bytes:
        """The bytes of one tensor. Raises InlineError."""
        name = printable(tensor.name) or "without a name"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if len(entries) != len(tensor.external_data) or not entries.keys() <= _KEYS or not location:
            raise self._refusal(f"tensor {name} says in another way than ONNX's where its data are")
        offset, length = self._number(entries, "offset", name), self._number(entries, "length", name)
        handle = self._open(location, name)
        size = os.fstat(handle).st_size
        start = offset or 0
        count = size - start if length is None else length
        if start > size or count > size - start:
            raise InlineError(
                f"{printable(location)} is cut off: tensor {name} wants {count} bytes at {start}, it has {size}",
                "copy the file again from where the model was exported",
            )
        self._bytes_taken += count
        if self._bytes_taken > CONSTANT_BYTES_MAX:
            raise InlineError(
                f"the tensors have more than {CONSTANT_BYTES_MAX} bytes", "quantise the model: docs/bundles.md, Limits"
            )
        return _read_all(handle, count, start)

    def _number(self, entries: dict[str, str], key: str, name: str) -> int | None:
        text = entries.get(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise self._refusal(f"tensor {name}: its {key} is not a number of bytes")
        return int(text)

    def _open(self, location: str, name: str) -> int:
        if location not in self._handles:
            self._handles[location] = self._open_plain(location, name)
        return self._handles[location]

    def _open_plain(self, location: str, name: str) -> int:
        shown = printable(location)
        word, copy = shlex.quote(shown), shlex.quote(f"{shown}.copy")
        if "/" in location or "\\" in location or "\0" in location or location in (".", ".."):
            raise self._refusal(f"tensor {name} keeps its data in {shown}: only a file in the model's own directory is taken")
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(location, flags, dir_fd=self._directory)
        except FileNotFoundError:
            raise InlineError(
                f"tensor {name} keeps its data in {shown}, and there is no such file beside the model",
                f"copy {shown} into {self._path.parent} from where the model was exported",
            ) from None
        except OSError as error:
            raise InlineError(
                f"{shown} is a symbolic link or cannot be opened ({error.strerror})",
                f'put the file itself beside the model: cp --remove-destination "$(readlink -f {word})" {word}',
            ) from None
        state = os.fstat(handle)
        if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
            return handle
        os.close(handle)
        if not stat.S_ISREG(state.st_mode):
            raise self._refusal(f"{shown} is not a plain file")
        raise InlineError(
            f"{shown} has {state.st_nlink} names (hard links): what is in it may change under another name",
            f"make a copy of its own: cp {word} {copy} && mv {copy} {word}",
        )

    def _refusal(self, reason: str) -> InlineError:
        return InlineError(reason, _MEND_ONE_FILE.format(path=str(self._path)))


def _read_all(handle: int, count: int, offset: int) -> bytes:
    parts = []
    while count > 0:
        part = os.pread(handle, min(count, 1 << 30), offset)
        if not part:
            raise InlineError("a file of tensors became shorter while it was read", "pack again when nobody writes it")
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return b"".join(parts)


def _external_tensors(model: Message) -> list[Any]:
    """Every tensor that keeps its data elsewhere, wherever in the model it hides. No recursion; as far as MESSAGES_MAX."""
    import onnx

    found, stack, count = [], [model], 0
    while stack:
        message = stack.pop()
        count += 1
        if count > MESSAGES_MAX:
            raise InlineError(f"more than {MESSAGES_MAX} parts", "simplify the model: docs/bundles.md, Limits")
        if isinstance(message, onnx.TensorProto):
            if message.data_location == message.EXTERNAL or message.external_data:
                found.append(message)
            continue
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                stack.extend(value if field.is_repeated else (value,))
    return found


def _bytes_beside(path: Path) -> int:
    """The most that files of tensors may add, for the limit on memory."""
    with os.scandir(path.parent) as entries:
        sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file(follow_symlinks=False)]
    return min(sum(sizes), CONSTANT_BYTES_MAX)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
