"""Generate broker/v1 from proto/: Python code, type stubs, and a descriptor set for other languages.

Usage: python tools/generate_proto.py [--check]
`--check` generates into a scratch folder and fails when what is committed differs.
"""

import filecmp
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "broker" / "v1"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
DESCRIPTOR_SET = "descriptor_set.binpb"


def main() -> int:
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where protoc finds its plugins
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = generate(Path(scratch))
        if "--check" in sys.argv[1:]:
            return check(made)
        for old in OUT.glob("*_pb2*"):
            old.unlink()
        for path in made.iterdir():
            shutil.copy(path, OUT / path.name)
    print(f"generated {len(list(OUT.glob('*_pb2.py')))} modules into broker/v1")
    return 0


def generate(scratch: Path) -> Path:
    """Run protoc in a scratch folder; returns the folder that holds what belongs into broker/v1."""
    protos = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").rglob("*.proto"))
    dependencies = scratch / "dependencies.binpb"
    dependencies.write_bytes(dependency_set().SerializeToString())
    out = scratch / "out"
    out.mkdir()
    run(
        f"--descriptor_set_in={dependencies}",
        f"--proto_path={ROOT / 'proto'}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        "buf/validate/validate.proto",
        *protos,
    )
    services = [p for p in protos if p.endswith("_service.proto")]
    run(f"--descriptor_set_in={dependencies}", f"--proto_path={ROOT / 'proto'}", f"--grpc_python_out={out}", *services)
    image = out / "broker" / "v1" / DESCRIPTOR_SET
    run(
        f"--descriptor_set_in={dependencies}",
        f"--proto_path={ROOT / 'proto'}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={image}",
        *protos,
    )
    made = out / "broker" / "v1"
    adopt_validate(out, made)
    return made


def dependency_set() -> descriptor_pb2.FileDescriptorSet:
    """The well-known types, google.rpc.Status and protovalidate's rules, which their packages carry."""
    from google.protobuf import any_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
    from google.rpc import status_pb2

    files = descriptor_pb2.FileDescriptorSet()
    modules = (descriptor_pb2, any_pb2, duration_pb2, timestamp_pb2, field_mask_pb2, status_pb2)
    for module in modules:
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return files


def adopt_validate(out: Path, made: Path) -> None:
    """Move buf/validate beside ours, so that no second top-level package is needed."""
    for suffix in ("py", "pyi"):
        text = (out / "buf" / "validate" / f"validate_pb2.{suffix}").read_text()
        (made / f"buf_validate_pb2.{suffix}").write_text(text)
    for path in made.glob("*.py*"):
        text = path.read_text()
        text = text.replace("from buf.validate import validate_pb2", "from broker.v1 import buf_validate_pb2")
        text = re.sub(
            r"^(\s*)import buf\.validate\.validate_pb2\n",
            r"\1import broker.v1.buf_validate_pb2\n",
            text,
            flags=re.MULTILINE,
        )
        path.write_text(text)


def run(*arguments: str) -> None:
    status = protoc.main(["protoc", *arguments])
    if status:
        raise SystemExit(f"protoc failed with {status}")


def check(made: Path) -> int:
    names = {p.name for p in made.iterdir()} | {p.name for p in OUT.glob("*_pb2*")}
    stale = sorted(
        n
        for n in names
        if not (OUT / n).exists() or not (made / n).exists() or not filecmp.cmp(OUT / n, made / n, shallow=False)
    )
    if stale:
        print("broker/v1 is not what proto/ gives; run `make proto`. Stale: " + ", ".join(stale), file=sys.stderr)
        return 1
    print("broker/v1 is fresh")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
