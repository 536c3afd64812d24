"""A folder of vectors: ``manifest.json``, and an npy for each array. Whatever is read was checked first.

The manifest has scales as exact rationals, ``"numerator/denominator"``, and of each array its file, dtype, shape and
SHA-256. Its own digest is that of the vectors as JSON, keys sorted, without spaces.
"""

from __future__ import annotations

import hashlib
import io
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from pt2e_ci.errors import InputError, one_line
from pt2e_ci.exact.schemes import SCHEMES
from pt2e_ci.files import read_text, write_whole
from pt2e_ci.record.records import Digest
from pt2e_ci.vectors.arithmetic import OPERATORS, levels, schemes, sums
from pt2e_ci.vectors.vector import Grid, Operand, Vector, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pt2e_ci.vectors.vector import Array

VERSION = 1
MANIFEST = "manifest.json"
_LARGEST = 2**28
"""So many bytes an array has at most."""

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]
_File = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,119}\.npy$")]
_Rational = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,59}/[1-9][0-9]{0,59}$")]
_Dtype = Literal["int8", "uint8", "int16", "int32"]
_Level = Annotated[int, Meta(ge=-(2**15), le=2**16 - 1)]
_Whole = Annotated[int, Meta(ge=-1024, le=1024)]


class _Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the manifest holds, and nothing else."""


class Stored(_Record, frozen=True, kw_only=True):
    """An array: its file, and what must be in it."""

    file: _File
    dtype: _Dtype
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=2**31)]], Meta(max_length=8)]
    sha256: Digest


class GridRecord(_Record, frozen=True, kw_only=True):
    """A grid."""

    scale: _Rational
    zero_point: _Level
    low: _Level
    high: _Level
    dtype: _Dtype


class OperandRecord(_Record, frozen=True, kw_only=True):
    """Levels on a grid."""

    grid: GridRecord
    levels: Stored


class WeightRecord(_Record, frozen=True, kw_only=True):
    """A weight: levels around 0, and a scale, or one for each index of the first axis."""

    levels: Stored
    scales: list[_Rational]


class VectorRecord(_Record, frozen=True, kw_only=True):
    """A vector, and its exact result by rounding scheme."""

    name: _Name
    operator: str
    about: str
    options: dict[str, _Whole | float | str | bool | list[_Whole]]
    operands: Annotated[list[OperandRecord], Meta(min_length=1)]
    weight: WeightRecord | None
    bias: Stored | None
    output: GridRecord
    exact: dict[str, Stored]


class Manifest(_Record, frozen=True, kw_only=True):
    """What the folder holds."""

    version: int
    digest: Digest
    vectors: list[VectorRecord]


def write(folder: Path, vectors: Sequence[Vector]) -> str:
    """Write vectors with their exact results, the manifest last; return its digest.

    Raises:
        InputError: two have one name, or the folder holds something else.

    """
    names = [vector.name for vector in vectors]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two vectors are called {twice}: give each its own name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: holds something else: name a folder that is empty, or is yet to be made")
    files: dict[str, bytes] = {}
    records = [_record(vector, files) for vector in vectors]
    for name, data in files.items():
        write_whole(folder / name, data, 0o644)
    digest = _digest(records)
    manifest = Manifest(version=VERSION, digest=digest, vectors=records)
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n", 0o644)
    return digest


def digest_of(vectors: Sequence[Vector]) -> str:
    """Return the digest that vectors have where they are written."""
    return _digest([_record(vector, {}) for vector in vectors])


def read(folder: Path) -> tuple[Manifest, list[Vector]]:
    """Read vectors, and check that all is as it was written.

    Raises:
        InputError: something is missing, or something else.

    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(read_text(path), type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}: no manifest of vectors: {one_line(str(error))}") from None
    if manifest.version != VERSION:
        raise InputError(
            f"{path}: is of version {manifest.version}, and this pt2e-ci reads {VERSION}: write them again"
        )
    if manifest.digest != _digest(manifest.vectors):
        raise InputError(f"{path}: was modified: its digest does not match: write the vectors again")
    return manifest, [_vector(folder, record) for record in manifest.vectors]


def stored(folder: Path, record: Stored) -> Array:
    """Return an array of the folder.

    Raises:
        InputError: it is missing, or is not what was written.

    """
    path = folder / record.file
    data = _bytes(path)
    if _sha256(data) != record.sha256:
        raise InputError(f"{path}: is not what was written: write the vectors again")
    return array_in(path, data, tuple(record.shape), (record.dtype,))


def outputs_in(path: Path, shape: tuple[int, ...]) -> Array:
    """Return the levels that somebody wrote for a vector, of any integer dtype.

    Raises:
        InputError: they are no npy, or of another shape or kind.

    """
    return array_in(path, _bytes(path), shape, ("int8", "uint8", "int16", "int32", "int64"))


def array_in(path: Path, data: bytes, shape: tuple[int, ...], dtypes: Iterable[str]) -> Array:
    """Return the array in an npy. Nothing is unpickled, and no more is read than there is.

    Raises:
        InputError: there is none, or it is of another shape or dtype.

    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        reader: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        found, is_fortran, dtype = reader[version](file)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{path}: is not an npy file: {one_line(str(error))}") from None
    if dtype.name not in dtypes:
        raise InputError(f"{path}: holds {dtype.name}, where levels are due, such as {next(iter(dtypes))}")
    if found != shape:
        raise InputError(f"{path}: is of shape {found}, where {shape} is due")
    count = math.prod(shape)
    if len(data) - file.tell() != count * dtype.itemsize:
        raise InputError(f"{path}: is truncated, or has data after its end")
    flat = np.frombuffer(data, dtype, count, file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C").astype(dtype.newbyteorder("="))


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"{path}: is missing")
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: has more than {_LARGEST >> 20} MiB, which no vector has")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _record(vector: Vector, files: dict[str, bytes]) -> VectorRecord:
    """Return what the manifest holds of a vector, and put what its files hold into `files`."""
    found, name = sums(vector), vector.name
    exact: dict[str, Stored] = {}
    for scheme in schemes(found):
        own: dict[str, bytes] = {}
        made = _store(own, f"{name}.{scheme}", levels(found, vector.output, scheme))
        # Schemes that give the same share a file.
        same = next((one for one in exact.values() if one.sha256 == made.sha256), None)
        if same is None:
            files.update(own)
        exact[scheme] = same or made
    return VectorRecord(
        name=name,
        operator=vector.operator,
        about=vector.about,
        options=dict(sorted(vector.options.items())),
        operands=[
            OperandRecord(grid=_grid_record(one.grid), levels=_store(files, f"{name}.operand{index}", one.levels))
            for index, one in enumerate(vector.operands)
        ],
        weight=None if vector.weight is None else _weight_record(name, vector.weight, files),
        bias=None if vector.bias is None else _store(files, f"{name}.bias", vector.bias),
        output=_grid_record(vector.output),
        exact=exact,
    )


def _store(files: dict[str, bytes], name: str, array: Array) -> Stored:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    files[f"{name}.npy"] = data = file.getvalue()
    dtype: Any = array.dtype.name
    return Stored(file=f"{name}.npy", dtype=dtype, shape=[*array.shape], sha256=_sha256(data))


def _vector(folder: Path, record: VectorRecord) -> Vector:
    if record.operator not in OPERATORS:
        raise InputError(f"{folder / MANIFEST}: {record.name} is of the operator {record.operator!r}, which is unknown")
    if strange := next((scheme for scheme in record.exact if scheme not in SCHEMES), None):
        raise InputError(f"{folder / MANIFEST}: {record.name} has the rounding {strange!r}, which is unknown")
    operands = tuple(_operand(folder, one) for one in record.operands)
    weight = None if record.weight is None else _weight(folder, record.weight)
    bias = None if record.bias is None else stored(folder, record.bias)
    output, options = _grid(record.output), record.options
    vector = Vector(record.name, record.operator, record.about, operands, output, options, weight, bias)
    try:
        found = sums(vector)
        same = all(
            np.array_equal(levels(found, output, SCHEMES[name]), stored(folder, one))
            for name, one in record.exact.items()
        )
    except InputError:
        raise
    except Exception as error:  # options, shapes and levels may be anything
        raise InputError(f"{folder / MANIFEST}: {record.name} is not a vector: {one_line(error)}") from None
    if not same:
        raise InputError(f"{folder}: the exact levels of {record.name} are not those of its operands: write them again")
    return vector


def _operand(folder: Path, record: OperandRecord) -> Operand:
    grid, levels = _grid(record.grid), stored(folder, record.levels)
    if levels.dtype.name != grid.dtype or (levels.size and not grid.low <= levels.min() <= levels.max() <= grid.high):
        raise InputError(f"{folder / record.levels.file}: holds a value that is not a level of its grid")
    return Operand(levels, grid)


def _weight(folder: Path, record: WeightRecord) -> Weight:
    return Weight(stored(folder, record.levels), tuple(Fraction(scale) for scale in record.scales))


def _weight_record(name: str, weight: Weight, files: dict[str, bytes]) -> WeightRecord:
    levels = _store(files, f"{name}.weight", weight.levels)
    return WeightRecord(levels=levels, scales=[_text(scale) for scale in weight.scales])


def _grid(record: GridRecord) -> Grid:
    info = np.iinfo(record.dtype)
    if not info.min <= record.low <= record.high <= info.max:
        raise InputError(f"a grid has levels from {record.low} to {record.high}, which {record.dtype} does not have")
    return Grid(Fraction(record.scale), record.zero_point, record.low, record.high, record.dtype)


def _grid_record(grid: Grid) -> GridRecord:
    dtype: Any = grid.dtype
    return GridRecord(scale=_text(grid.scale), zero_point=grid.zero_point, low=grid.low, high=grid.high, dtype=dtype)


def _text(number: Fraction) -> str:
    return f"{number.numerator}/{number.denominator}"


def _digest(records: Sequence[VectorRecord]) -> str:
    return _sha256(msgspec.json.encode(records, order="sorted"))


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
