"""The zip in which `torch.save` puts a pickle and its numbers."""

from __future__ import annotations

import zipfile
from pathlib import Path

from psu_deploy.files.checkpoints.claims import DamagedError

_START = b"PK\x03\x04"
_END = b"PK\x05\x06"
_END_SIZE = 22


def is_archive(source: Path) -> bool:
    """Whether torch takes a file for a zip."""
    with source.open("rb") as file:
        return file.read(len(_START)) == _START


def pickle_of(source: Path, most: int) -> bytes:
    """The pickle in an archive.

    Args:
        source: the file.
        most: bytes it may have.

    Raises:
        DamagedError: if the archive is none, or packed otherwise than torch packs: then it can be read in two ways, or
            unpacks to more than it is.
    """
    _check_end(source)
    try:
        with zipfile.ZipFile(source) as archive:
            records = archive.infolist()
            _check_records(records)
            (record,) = (r for r in records if r.filename.endswith("/data.pkl") and r.filename.count("/") == 1)
            if record.file_size > most:
                raise DamagedError(f"its pickle has {record.file_size} bytes; expected at most {most}")
            return archive.read(record)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise DamagedError(f"not the archive that torch writes: {error}") from error


def _check_end(source: Path) -> None:
    """The directory must be the last thing in the file: zips that end in a comment have more than one reading."""
    with source.open("rb") as file:
        end = file.seek(0, 2) - _END_SIZE
        file.seek(max(0, end))
        if end < 0 or not file.read(_END_SIZE).startswith(_END):
            raise DamagedError("its archive has no end, or something behind it")


def _check_records(records: list[zipfile.ZipInfo]) -> None:
    names = {record.filename.lower() for record in records}
    folders = {record.filename.partition("/")[0] for record in records}
    if len(names) != len(records) or len(folders) != 1:
        raise DamagedError("its archive has a record twice, or more than one folder")
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
        raise DamagedError("its records are compressed or encrypted, which those of torch.save never are")
