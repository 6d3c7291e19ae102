"""`tfjax info NAME`: what a dataset holds, how it is stored, what `tfjax.load` makes of it; nothing is downloaded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tfjax.tools.doctor import as_text
from tfjax.tools.errors import UserError, refused_input

_SHORT = 300


@dataclass(frozen=True)
class Info:
    """What is known of a dataset; sizes in bytes.

    Attributes:
        name: with config and version.
        prepared: whether its files are there.
        data_dir: where they are, or would be.
        description: its beginning.
        citation: its first lines.
        homepage: of the dataset.
        configs: those there are.
        supervised_keys: of `as_supervised=True`; empty where there are none.
        file_format: of the files.
        splits: examples, bytes and files, by name; empty where that is not known before preparing.
        download_bytes: of what is downloaded; None where it is not known.
        features: TFDS's own words.
        leaves: what becomes of each, see `tfjax.bridge.fates.Fate`.
        split: the one that the rest is about.
        examples: how many there are in the split.
        indexed: whether rows are fetched by index.
        access: how, or why not.
        decoded_bytes: of the split; None where examples differ in size, or it is not prepared.
        cache: whether `load` keeps decoded examples in memory by itself, and why.
    """

    name: str
    prepared: bool
    data_dir: str
    description: str
    citation: str
    homepage: str
    configs: list[str]
    supervised_keys: list[str]
    file_format: str
    splits: dict[str, dict[str, int]]
    download_bytes: int | None
    features: list[str]
    leaves: list[dict[str, Any]] = field(repr=False)
    split: str | None = None
    examples: int | None = None
    indexed: bool | None = None
    access: str = ""
    decoded_bytes: int | None = None
    cache: str = ""


def info(name: str, *, data_dir: str | None, split: str | None, as_json: bool) -> None:
    """Print what is known of a dataset.

    Raises:
        UserError: there is no such dataset or split; names close ones, or those there are.
    """
    with refused_input(ImportError, ValueError, TypeError, OSError):
        found = examine(name, data_dir=data_dir, split=split)
    sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n" if as_json else _text(found))


def examine(name: str, *, data_dir: str | None, split: str | None = None) -> Info:
    """What is known of a dataset, for `data_dir` and `split` as `tfjax.load` takes them."""
    from tfjax.bridge.fates import element_of, fates
    from tfjax.sources._tfds_builder import find_builder, is_prepared

    builder = find_builder(name, data_dir=data_dir)
    known, prepared = _known(builder), is_prepared(builder)
    element = None
    if prepared:
        there = builder.info.splits
        chosen = split or ("train" if "train" in there else next(iter(there), "train"))
        element, more = _loaded(name, data_dir, chosen, known["file_format"])
    elif split is not None:
        raise UserError(f"{known['name']} is not prepared, so that its splits are not known: leave out --split")
    else:
        where = "" if data_dir is None else f", data_dir={data_dir!r}"
        more = {"access": f"not prepared: tfjax.load({name!r}{where}) prepares it, as TFRecords, which are indexed"}
    element = element or element_of(builder.info.features.get_tensor_spec())
    return Info(**known, prepared=prepared, leaves=[asdict(fate) for fate in fates(element)], **more)


def _known(builder: Any) -> dict[str, Any]:
    of = builder.info
    splits = {
        name: {"examples": s.num_examples, "bytes": int(s.num_bytes), "files": s.num_shards}
        for name, s in of.splits.items()
    }
    keys = [str(key) for key in of.supervised_keys] if of.supervised_keys else []
    return {
        "name": of.full_name,
        "data_dir": str(builder.data_dir),
        "description": _short(of.description),
        "citation": _short(of.citation),
        "homepage": of.homepage or "",
        "configs": [config for config in builder.builder_configs],
        "supervised_keys": keys,
        "file_format": str(getattr(of.file_format, "value", of.file_format) or "tfrecord"),
        "splits": splits,
        "download_bytes": int(of.download_size) if of.download_size else None,
        "features": repr(of.features).splitlines(),
    }


def _loaded(name: str, data_dir: str | None, split: str, file_format: str) -> tuple[Any, dict[str, Any]]:
    """The element that `load` decodes, and what it plans; None and the reason where it cannot."""
    import tfjax
    from tfjax.bridge.fates import example_bytes

    try:
        pipe = tfjax.load(name, split=split, data_dir=data_dir, download=False)
        element, lines = pipe._element, [line.strip() for line in pipe.explain().splitlines()]
    except (tfjax.SpecError, TypeError) as error:  # a feature that TFDS cannot decode, or files without an index
        return None, {"split": split, "indexed": False, "access": str(error)}
    size = example_bytes(element)
    source = next((line.removeprefix("source: ") for line in lines if line.startswith("source: ")), "")
    return element, {
        "split": split,
        "examples": len(pipe),
        "indexed": pipe._plan.kind == "indexed",
        "access": f"{file_format}, {source}",
        "decoded_bytes": None if size is None else size * len(pipe),
        "cache": next((line for line in lines if "automatic cache" in line), "no automatic cache"),
    }


def _short(text: str | None) -> str:
    """The first paragraph, cut."""
    first = " ".join((text or "").strip().split("\n\n")[0].split())
    return first if len(first) <= _SHORT else first[: _SHORT - 4].rsplit(" ", 1)[0] + " ..."


def _text(of: Info) -> str:
    rows = [
        ("name", of.name),
        ("about", of.description),
        ("homepage", of.homepage),
        ("citation", of.citation),
        ("configs", ", ".join(of.configs)),
        ("prepared", f"{'yes' if of.prepared else 'no'}, {of.data_dir}"),
        ("download", as_text({"bytes": of.download_bytes}) if of.download_bytes else ""),
        *((f"split {name}", _split(split)) for name, split in of.splits.items()),
        ("supervised", ", ".join(of.supervised_keys)),
        *(("features" if k == 0 else "", line) for k, line in enumerate(of.features)),
        ("indexed", {True: "yes: ", False: "no: ", None: ""}[of.indexed] + of.access),
        ("decoded", _decoded(of)),
        ("cache", of.cache),
        *((f"leaf {leaf['path']}", _leaf(leaf)) for leaf in of.leaves),
    ]
    shown = [(name, text) for name, text in rows if text]
    width = max(len(name) for name, _ in shown)
    return "".join(f"{name.ljust(width)}  {text}\n" for name, text in shown)


def _split(of: dict[str, int]) -> str:
    return f"{of['examples']:,} examples, {as_text({'bytes': of['bytes']})} in {of['files']} file(s)"


def _decoded(of: Info) -> str:
    if of.examples is None:
        return ""
    size = "of no fixed size" if of.decoded_bytes is None else as_text({"bytes": of.decoded_bytes})
    return f"{of.split}: {of.examples:,} examples, {size}"


def _leaf(of: dict[str, Any]) -> str:
    if of["batch"] is None:
        return f"{of['example']}, refused by batch: {of['refusal']}"
    host = " on the host after keep_on_host, else refused" if of["host"] else ""
    return f"{of['example']} -> {of['batch']}{host}"
