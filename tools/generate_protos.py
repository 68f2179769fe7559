"""Generates server/assay/v1 and server/assay/inference from proto/: Python messages, their stubs, gRPC classes and one
FileDescriptorSet.

    python tools/generate_protos.py [OUT]        (OUT: default server/; `make proto` runs it)

The generator is pinned to the oldest grpcio that assay supports: generated code refuses an older runtime than its generator,
so a newer generator would raise the floors of pyproject.toml without saying so.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distribution, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = tuple(f"assay/v1/{name}.proto" for name in ("scoring", "feature", "drift", "operations", "audit", "model"))
# A foreign contract (proto/inference): its package is `inference`, but its code must not take that name among Python's top-level
# modules, so it is compiled as if it lay under assay/.
OPEN_INFERENCE = "assay/inference/open_inference.proto"
# Nobody imports it, and every error carries it in google.rpc.Status.details: clients in other languages decode it from the set.
DETAILS = "google/rpc/error_details.proto"
TOOLS_VERSION = "1.82.3"


def include_dirs() -> list[Path]:
    """Where protoc looks: ours, protobuf's own and googleapis' (google/rpc)."""
    import grpc_tools

    own = Path(grpc_tools.__file__).parent / "_proto"
    return [ROOT / "proto", own, Path(str(distribution("googleapis-common-protos").locate_file("")))]


def include_arguments() -> list[str]:
    return [f"-Iassay/inference={ROOT / 'proto' / 'inference'}", *(f"-I{directory}" for directory in include_dirs())]


def generate(out: Path) -> list[Path]:
    """Writes the generated files under `out`/assay/v1 and `out`/assay/inference and returns them."""
    from grpc_tools import protoc

    found = version("grpcio-tools")
    if found != TOOLS_VERSION:
        raise SystemExit(
            f"grpcio-tools {found} is installed, {TOOLS_VERSION} is wanted: pip install grpcio-tools=={TOOLS_VERSION}"
        )
    package = out / "assay" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    descriptor_set = package / "assay.binpb"
    code = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    # Comments travel with the descriptors: grpcurl -protoset shows them.
    descriptors = [f"--descriptor_set_out={descriptor_set}", "--include_imports", "--include_source_info"]
    protos = [*PROTOS, OPEN_INFERENCE]
    for arguments in ([*code, *protos], [*descriptors, *protos, DETAILS]):
        if protoc.main(["protoc", *include_arguments(), *arguments]) != 0:
            raise SystemExit("protoc failed")
    packages = {package: "proto/assay/v1", out / "assay" / "inference": "proto/inference"}
    for folder, source in packages.items():
        (folder / "__init__.py").write_text(f'"""Generated from {source} by tools/generate_protos.py. Do not edit."""\n')
        for stub in folder.glob("*.pyi"):
            # Trailing blanks and the like would fight with the linter for ever.
            stub.write_text(re.sub(r"[ \t]+$", "", stub.read_text(), flags=re.MULTILINE))
    return sorted(path for folder in packages for path in folder.iterdir() if path.is_file())


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "server"):
        print(path)
