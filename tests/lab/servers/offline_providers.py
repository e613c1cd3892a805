"""Terraform providers without a registry, for checking modules offline.

``read_schema`` rebuilds the schema of chosen types from a ``cdktn-provider-*`` wheel.
``Providers`` serves such schemas to the real terraform over plugin protocol 6 on a unix
socket; ``environment`` gives what terraform must find in its environment to use them.
A plan marks computed values unknown, a data source answers with ``answers`` or placeholders.
An apply is refused (``terraform test`` with ``mock_provider`` never asks for one), unless there
are ``hands`` that make things at a stand-in of the cloud.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, Protocol, Self, TypedDict

import grpc
import msgpack

# ------------------------------------------------------------------ schema


class Attribute(TypedDict):
    type: Any  # terraform's JSON form: "string", ["set", "string"], ["object", {...}]
    required: bool
    optional: bool
    computed: bool
    sensitive: NotRequired[bool]


class Nested(TypedDict):
    nesting: str  # single, list or set
    min_items: int
    max_items: int
    block: Block


class Block(TypedDict):
    attributes: dict[str, Attribute]
    blocks: dict[str, Nested]


class Schema(TypedDict):
    version: str
    provider: Block
    resource: dict[str, Block]
    data: dict[str, Block]
    ephemeral: dict[str, Block]


_KINDS = {
    "TerraformProvider": "provider",
    "TerraformResource": "resource",
    "TerraformDataSource": "data",
    "TerraformEphemeralResource": "ephemeral",
}
_ELEMENTS = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+) \{(.*?)^\}", re.M | re.S)
_FUNCTION = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{(.*?)^\}", re.M | re.S)
_FLAGS = re.compile(
    r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"(?:    _\w+(?: = new (?:\w+\.)?(\w+)\(this, \"[^\"]+\"(?:, (true|false))?.*\))?;\n)?"
    r"(?:    get \w+\(\) \{\n        return (.*);\n)?",
    re.M,
)
_HCL = re.compile(
    r"^ {8,12}(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n"
    r'\s+type: "(\w+)",\n\s+storageClassType: "(\w+)"',
    re.M,
)


def _simple_type(outer: str, storage: str) -> Any:
    """The type of an attribute of simple elements: ("set", "stringList") -> ["set", "string"]."""
    parts = re.findall(r"^[a-z]+|List|Map", storage)
    result: Any = _ELEMENTS[parts[0]]
    for part in parts[1:]:
        result = [part.lower(), result]
    return ["set", result[1]] if outer == "set" else result


def _getter_type(getter: str) -> Any:
    """The type of a read-only attribute, known only from its getter."""
    found = re.search(r"get(\w*?)Attribute\(", getter)
    name = found[1] if found else "Any"
    if name == "List":
        name = "StringList"
    outer = "set" if "tolist(" in getter else ""
    return _simple_type(outer, name[0].lower() + name[1:])


def _as_type(block: Block) -> Any:
    """A block as an object type, for nested attributes."""
    fields = {name: item["type"] for name, item in block["attributes"].items()}
    for name, nested in block["blocks"].items():
        inner = _as_type(nested["block"])
        fields[name] = inner if nested["nesting"] == "single" else [nested["nesting"], inner]
    return ["object", fields]


class _Source:
    """The generated code of one resource: its classes and its functions to HCL."""

    def __init__(self, text: str) -> None:
        self.classes = {m[1]: (m[2], m[3]) for m in _CLASS.finditer(text)}
        self.functions = {m[1].lower(): m[2] for m in _FUNCTION.finditer(text)}
        self._open: list[str] = []

    def struct(self, name: str) -> Block:
        if name in self._open:  # WAF's statements hold themselves: cut there
            return {"attributes": {}, "blocks": {}}
        body = self.classes.get(f"{name}OutputReference", ("", ""))[1]
        self._open.append(name)
        try:
            return self.block(body, self.functions.get(name.lower(), ""))
        finally:
            self._open.pop()

    def block(self, flags: str, hcl: str) -> Block:
        result: Block = {"attributes": {}, "blocks": {}}
        written = {m[1]: m for m in _HCL.finditer(hcl)}
        declared = {m[1]: m for m in _FLAGS.finditer(flags)}
        for name in declared | written:
            flag, form = declared.get(name), written.get(name)
            computed, optional, required = (
                (flag[i] == "true" for i in (2, 3, 4)) if flag else (False, True, False)
            )
            attribute: Attribute = {
                "type": None,
                "required": required,
                "optional": optional,
                "computed": computed,
            }
            if form is None:
                assert flag is not None
                attribute["type"] = self._computed_type(flag)
            elif form[3] == "false":
                attribute["type"] = _simple_type(form[4], form[5])
            else:
                mapper = re.search(
                    r"(?:(list|hash)MapperHcl\()?(?:\(0, )?(?:\w+\.)?(\w+)ToHclTerraform\)?(,"
                    r" true)?",
                    form[2],
                )
                assert mapper is not None, form[0]
                inner = self.struct(mapper[2][0].upper() + mapper[2][1:])
                if mapper[1] and not mapper[3]:  # an attribute of objects, not a block
                    attribute["type"] = [form[4], _as_type(inner)]
                else:
                    single = form[4] == "struct"
                    result["blocks"][name] = {
                        "nesting": "single" if single else form[4],
                        "min_items": int(required and not single),
                        "max_items": int(not mapper[1] and not single),
                        "block": inner,
                    }
                    continue
            result["attributes"][name] = attribute
        return result

    def _computed_type(self, flag: re.Match[str]) -> Any:
        if not flag[5] or flag[5] not in self.classes:
            helper = re.fullmatch(r"(String|Number|Boolean|Any)(Map)(List)?", flag[5] or "")
            return (
                _simple_type("", helper[0][0].lower() + helper[0][1:])
                if helper
                else _getter_type(flag[7] or "")
            )
        base = self.classes[flag[5]][0]
        inner = _as_type(self.struct(re.sub(r"(List|Map|OutputReference)$", "", flag[5])))
        outer = "map" if base == "ComplexMap" else "set" if flag[6] == "true" else "list"
        return [outer, inner]


def read_schema(wheel: Path, types: Collection[str], sensitive: Collection[str] = ()) -> Schema:
    """The schema of ``types`` ("aws_kms_key", "data.aws_region", "ephemeral.x_y").

    A wheel doesn't tell what is sensitive: name that in ``sensitive`` ("type.attribute").
    """
    folders = {"provider": "provider"}
    for name in types:
        kind, _, plain = name.rpartition(".")
        vendor, _, rest = plain.partition("_")
        prefix = f"{kind}-{vendor}-" if kind else ""
        folders[prefix + rest.replace("_", "-")] = name
    parts: dict[str, list[str]] = {}
    wanted = re.compile(r"package/lib/([^/]+)/(?:index|index-structs/structs\d+)\.js")
    with zipfile.ZipFile(wheel) as archive:
        bundle = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        packed = archive.read(bundle)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r|gz") as tree:
        for member in tree:
            path = wanted.fullmatch(member.name)
            file = tree.extractfile(member) if path and path[1] in folders else None
            if path and file:  # large types are cut up into index-structs/*.js
                parts.setdefault(path[1], []).append(file.read().decode())
    schema: Schema = {
        "version": "",
        "provider": {"attributes": {}, "blocks": {}},
        "resource": {},
        "data": {},
        "ephemeral": {},
    }
    for folder, name in folders.items():
        if folder not in parts:
            raise LookupError(f"{wheel.name} has no {name}")
        source = _Source("\n".join(parts[folder]))
        kind, body = next(
            (_KINDS[base], body) for base, body in source.classes.values() if base in _KINDS
        )
        flags, _, hcl = body.partition("synthesizeHclAttributes()")
        block = source.block(flags, hcl)
        if kind == "provider":
            schema["provider"] = block
        else:
            version = re.search(r"providerVersion: '([^']+)'", body)
            schema["version"] = version[1] if version else ""
            type_name = name.rpartition(".")[2]
            found = re.search(r'tfResourceType = "(\w+)"', body)
            assert found is not None, folder
            assert found[1] == type_name, folder
            for attribute in block["attributes"]:
                if f"{name}.{attribute}" in sensitive:
                    block["attributes"][attribute]["sensitive"] = True
            schema[kind][type_name] = block  # type: ignore[literal-required]
    return schema


# ------------------------------------------------------------------ the few bytes of protobuf
# needed


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _encode(*fields: tuple[int, bytes | str | int]) -> bytes:
    """A protobuf message of (field number, value); zero and empty values are left out."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value) if value else b""
        elif value:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _decode(data: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a message, the last of each number."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        size, at = _read_varint(data, at)
        if key & 7 == 2:
            fields[key >> 3] = data[at : at + size]
            at += size
    return fields


# ------------------------------------------------------------------ provider

_UNKNOWN = msgpack.ExtType(0, b"\0")
_NESTING = {"single": 1, "list": 2, "set": 3}


def _static(kind: Any) -> Any:
    """``kind`` without "dynamic", which terraform forbids inside a set."""
    if isinstance(kind, list):
        return [_static(part) for part in kind]
    if isinstance(kind, dict):
        return {name: _static(part) for name, part in kind.items()}
    return "string" if kind == "dynamic" else kind


def _encode_block(block: Block) -> bytes:
    parts: list[tuple[int, bytes]] = []
    for name, item in block["attributes"].items():
        kind = item["type"] if item["type"] == "dynamic" else _static(item["type"])
        flags = (
            (4, item["required"]),
            (5, item["optional"]),
            (6, item["computed"]),
            (7, item.get("sensitive", False)),
        )
        parts.append(
            (2, _encode((1, name), (2, json.dumps(kind)), *flags, (11, name.endswith("_wo"))))
        )
    for name, nested in block["blocks"].items():
        inner = _encode_block(nested["block"])
        limits = (4, nested["min_items"]), (5, nested["max_items"])
        # an empty block must still be there, so it is written even when it has no bytes
        body = _varint(2 << 3 | 2) + _varint(len(inner)) + inner
        parts.append(
            (3, _encode((1, name)) + body + _encode((3, _NESTING[nested["nesting"]]), *limits))
        )
    return _encode(*parts)


def _encode_schema(block: Block) -> bytes:
    inner = _encode_block(block)
    return _varint(2 << 3 | 2) + _varint(len(inner)) + inner


def _placeholder(kind: Any, name: str) -> Any:
    if isinstance(kind, list):
        if kind[0] == "object":
            return {key: _placeholder(part, key) for key, part in kind[1].items()}
        return {} if kind[0] == "map" else []
    empty = "{}" if "json" in name else f"placeholder-{name}"
    return {"string": empty, "number": 0, "bool": False}.get(kind)


def _fill(block: Block, value: dict[str, Any], fill: Callable[[Any, str], Any]) -> dict[str, Any]:
    """``value`` with ``fill(type, name)`` for each computed attribute that isn't set."""
    for name, item in block["attributes"].items():
        if item["computed"] and value.get(name) is None:
            value[name] = fill(item["type"], name)
    for name, nested in block["blocks"].items():
        inner = value.get(name)
        for element in inner if isinstance(inner, list) else [inner]:
            if isinstance(element, dict):
                _fill(nested["block"], element, fill)
    return value


def _read_only_set(block: Block, value: Mapping[str, Any]) -> Iterator[str]:
    for name, item in block["attributes"].items():
        if item["computed"] and not item["optional"] and value.get(name) is not None:
            yield name
    for name, nested in block["blocks"].items():
        inner = value.get(name)
        for element in inner if isinstance(inner, list) else [inner]:
            if isinstance(element, dict):
                yield from _read_only_set(nested["block"], element)


class Maker(Protocol):
    """Makes, changes and removes resources. Each returns the computed attributes that it knows."""

    def create(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]: ...

    def update(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]: ...

    def delete(self, kind: str, values: Mapping[str, Any]) -> None: ...


def _is_unknown(value: Any) -> bool:
    return isinstance(value, msgpack.ExtType)


def _without_unknown(value: Any) -> Any:
    """The value with None for what is not known yet."""
    if isinstance(value, dict):
        return {name: _without_unknown(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_unknown(part) for part in value]
    return None if _is_unknown(value) else value


# What a change of this attribute makes anew: the schemas don't tell.
_REPLACED_BY = {"aws_lambda_layer_version": "source_code_hash"}


class _Provider(grpc.GenericRpcHandler):
    def __init__(
        self, schema: Schema, answers: Mapping[str, Mapping[str, Any]], hands: Maker | None
    ) -> None:
        self._schema = schema
        self._answers = answers
        self._hands = hands
        self._methods: dict[str, Callable[[dict[int, bytes]], bytes]] = {
            "GetProviderSchema": self._get_schema,
            "ValidateResourceConfig": lambda request: self._validate(request, "resource"),
            "ValidateDataResourceConfig": lambda request: self._validate(request, "data"),
            "ValidateEphemeralResourceConfig": lambda request: self._validate(request, "ephemeral"),
            "UpgradeResourceState": lambda request: _encode(
                (1, _encode((2, _decode(request[3])[1])))
            ),
            "ReadResource": lambda request: _encode((1, request[2])),
            "PlanResourceChange": self._plan,
            "ApplyResourceChange": self._apply,
            "ReadDataSource": lambda request: _encode((1, self._read(request, "data"))),
            "OpenEphemeralResource": lambda request: _encode((3, self._read(request, "ephemeral"))),
        }

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        service, _, method = details.method.rpartition("/")
        if service != "/tfplugin6.Provider":
            return None
        # the rest (ConfigureProvider, StopProvider...) is answered by an empty message: no
        # complaint
        answer: Callable[[dict[int, bytes]], bytes] = self._methods.get(method, lambda _: b"")

        def handle(request: bytes, _: grpc.ServicerContext) -> bytes:
            return answer(_decode(request))

        return grpc.unary_unary_rpc_method_handler(handle)

    def _get_schema(self, _: dict[int, bytes]) -> bytes:
        def entries(number: int, blocks: Mapping[str, Block]) -> Iterator[tuple[int, bytes]]:
            for name, block in blocks.items():
                yield number, _encode((1, name), (2, _encode_schema(block)))

        schema = self._schema
        maps = (
            *entries(2, schema["resource"]),
            *entries(3, schema["data"]),
            *entries(8, schema["ephemeral"]),
        )
        return _encode((1, _encode_schema(schema["provider"])), *maps)

    def _validate(self, request: dict[int, bytes], kind: str) -> bytes:
        """Complains of read-only attributes that are set: terraform leaves that to providers."""
        block: Block = self._schema[kind][request[1].decode()]  # type: ignore[literal-required]
        config = msgpack.unpackb(_decode(request[2])[1], strict_map_key=False)
        detail = "Its value comes from the provider."
        return _encode(
            *(
                (1, _encode((1, 1), (2, f"Read-only attribute {name}"), (3, detail)))
                for name in _read_only_set(block, config)
            )
        )

    def _plan(self, request: dict[int, bytes]) -> bytes:
        proposed = msgpack.unpackb(_decode(request[3])[1], strict_map_key=False)
        if proposed is None:  # a destroy
            return _encode((1, request[3]))
        block = self._schema["resource"][request[1].decode()]
        planned = _fill(block, proposed, lambda kind, name: _UNKNOWN)
        for name in block["attributes"]:
            if name.endswith("_wo"):  # write-only: never in a plan
                planned[name] = None
        prior = msgpack.unpackb(_decode(request[2])[1], strict_map_key=False)
        name = _REPLACED_BY.get(request[1].decode(), "")
        is_replaced = bool(prior and name and prior[name] != planned[name])
        path = [(2, _encode((1, _encode((1, name)))))] if is_replaced else []
        return _encode((1, _encode((1, msgpack.packb(planned)))), *path)

    def _apply(self, request: dict[int, bytes]) -> bytes:
        if self._hands is None:
            return _encode((3, _encode((1, 1), (2, "offline provider: no apply"))))
        kind = request[1].decode()
        prior, planned = (
            msgpack.unpackb(_decode(request[number])[1], strict_map_key=False) for number in (2, 3)
        )
        try:
            state = self._changed(self._hands, kind, prior, planned)
        except Exception as exc:
            complaint = _encode((1, 1), (2, f"{kind}: {type(exc).__name__}"), (3, str(exc)))
            return _encode((1, request[2]), (3, complaint))
        return _encode((1, _encode((1, msgpack.packb(state)))))

    def _changed(self, hands: Maker, kind: str, prior: Any, planned: Any) -> Any:
        """Does what the plan says. Returns the new state, None for nothing."""
        if planned is None:
            hands.delete(kind, prior)
            return None
        values = _without_unknown(planned)
        found = hands.create(kind, values) if prior is None else hands.update(kind, values)

        def fill(type_: Any, name: str) -> Any:
            return found[name] if name in found else _placeholder(type_, name)

        return _fill(self._schema["resource"][kind], values, fill)

    def _read(self, request: dict[int, bytes], kind: str) -> bytes:
        name = request[1].decode()
        config = msgpack.unpackb(_decode(request[2])[1], strict_map_key=False)
        config.update(
            {
                key: value
                for key, value in self._answers.get(name, {}).items()
                if config[key] is None
            }
        )
        block: Block = self._schema[kind][name]  # type: ignore[literal-required]
        return _encode((1, msgpack.packb(_fill(block, config, _placeholder))))


class Providers:
    """Serves ``schemas`` (by source address, "hashicorp/aws") until closed."""

    def __init__(
        self,
        schemas: Mapping[str, Schema],
        answers: Mapping[str, Mapping[str, Any]] | None = None,
        hands: Maker | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tf-")
        self._servers: list[grpc.Server] = []
        reattach = {}
        for number, (address, schema) in enumerate(schemas.items()):
            socket = f"{self._folder.name}/{number}.sock"
            server = grpc.server(
                futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)]
            )
            server.add_generic_rpc_handlers((_Provider(schema, answers or {}, hands),))
            server.add_insecure_port(f"unix:{socket}")
            server.start()
            self._servers.append(server)
            reattach[address] = {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": os.getpid(),
                "Test": True,
                "Addr": {"Network": "unix", "String": socket},
            }
        self._reattach = json.dumps(reattach)

    def environment(self, data_dir: Path) -> dict[str, str]:
        return {
            "TF_REATTACH_PROVIDERS": self._reattach,
            "TF_DATA_DIR": str(data_dir),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def close(self) -> None:
        for server in self._servers:
            server.stop(0).wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def used_types(files: Iterable[Path]) -> set[str]:
    """The types that .tf files name, as ``read_schema`` takes them (formatted files: one block head
    a line)."""
    found = set()
    for file in files:
        for kind, name in re.findall(r'^(resource|data|ephemeral) "(\w+)"', file.read_text(), re.M):
            found.add(name if kind == "resource" else f"{kind}.{name}")
    return found


def main(wheels: Path, directories: list[Path], moto: str | None) -> None:
    """Serves the types that the directories use, prints the environment for terraform, and ends
    with its input. `moto`: where what the first directory has is made; None: nowhere."""
    files = [file for directory in directories for file in directory.rglob("*.tf")]
    types = used_types(files)
    schemas = {}
    for vendor in sorted({name.rpartition(".")[2].partition("_")[0] for name in types}):
        (wheel,) = wheels.glob(f"cdktn_provider_{vendor}-*.whl")
        mine = {name for name in types if name.rpartition(".")[2].startswith(f"{vendor}_")}
        schemas[f"hashicorp/{vendor}"] = read_schema(wheel, mine)
    hands, answers = None, dict[str, Mapping[str, Any]](ANSWERS)
    if moto is not None:
        from lab.servers.aws_hands import REGION, Hands  # boto3: a second that others save

        hands, answers["aws_region"] = Hands(moto, directories[0]), {"region": REGION}
    with Providers(schemas, answers, hands) as served:
        print(json.dumps(served.environment(Path("unused"))), flush=True)
        sys.stdin.read()


ANSWERS = {
    "aws_caller_identity": {"account_id": "123456789012"},
    "aws_partition": {"partition": "aws", "dns_suffix": "amazonaws.com"},
    "aws_region": {"region": "eu-central-1"},
}

if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        [Path(argument) for argument in sys.argv[2:]],
        os.environ.get("MOTO_ADDRESS"),
    )
