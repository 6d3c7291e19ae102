"""How a source reads its records: told, and changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tfjax.sources.base import Source
from tfjax.sources.records import ParsedRecords, Records


def with_records(source: Source, **changes: Any) -> Source:
    """A source of records with other fields of its Records (`how`, `verify_payload`).

    >>> with_records(object(), how="mmap")
    Traceback (most recent call last):
    TypeError: options: fetch and verify_payload are for record files, and this source is object
    """
    if isinstance(source, ParsedRecords):
        return replace(source, records=_changed(source.records, **changes))
    if isinstance(source, Records):
        return _changed(source, **changes)
    kind = type(source).__name__
    raise TypeError(f"options: fetch and verify_payload are for record files, and this source is {kind}")


def reading_of(source: Source) -> dict[str, Any]:
    """How a source reads its records, as `with_records` takes it; empty where it reads none."""
    records = source.records if isinstance(source, ParsedRecords) else source
    if not isinstance(records, Records):
        return {}
    checked = {} if records.format == "array_record" else {"verify_payload": records.verify_payload}
    return {"how": records.how, **checked}


def _changed(records: Records, **changes: Any) -> Records:
    if records.format == "array_record" and "verify_payload" in changes:
        raise TypeError("options: verify_payload is for TFRecord files: the reader of ArrayRecord always checks")
    return replace(records, **changes)
