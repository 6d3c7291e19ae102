"""Finding a TFDS builder by name, and its files prepared: what can go wrong before a record is read."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfjax._tensorflow import tf  # noqa: F401  (TFDS imports TensorFlow: its accelerators are hidden first)

_DOWNLOAD = "Pass download=True with a network"


def prepared_builder(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    builder_kwargs: Mapping[str, Any] | None,
) -> Any:
    """A `tfds.core.DatasetBuilder` whose files are there; see `open_tfds` for arguments and errors."""

    def make() -> Any:
        return find_builder(name, data_dir=data_dir, builder_kwargs=builder_kwargs)

    builder = make()
    if is_prepared(builder):
        return builder
    if not download:
        raise _not_prepared(builder, "download=False")
    tfds, is_digits = import_tfds(), _base(name) == "digits"
    if is_digits:
        import tfjax.sources.digits as digits

        digits.load_digits()
    offline = None if is_digits else _unreachable_host(builder)
    if offline:
        raise _not_prepared(builder, f"there is no network to download it (host {offline!r} is unknown)")
    try:
        with _without_warnings():
            _prepare(tfds, builder, quiet=is_digits)
    except Exception as error:
        if not is_prepared(make()):  # else another process was first
            raise _not_prepared(builder, *_failed(error)) from error
    return make()  # anew, as metadata is read when a builder is made


def find_builder(
    name: str, *, data_dir: str | os.PathLike[str] | None, builder_kwargs: Mapping[str, Any] | None = None
) -> Any:
    """A `tfds.core.DatasetBuilder`, whether its files are there or not; nothing is downloaded.

    Raises:
        ImportError: TFDS or importlib_resources is missing.
        TypeError: the name is no string.
        ValueError: the name, config or version does not exist; names those that do.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is a {type(name).__name__}: pass a TFDS name, as 'mnist' or 'xquad/en'")
    if not name.strip():
        raise ValueError("the name is empty: give a TFDS name, as 'mnist' or 'xquad/en'")
    tfds = import_tfds()
    if _base(name) == "digits":
        import tfjax.sources.digits  # noqa: F401 - registers the builder
    with _without_warnings():
        return _builder(tfds, name, data_dir, dict(builder_kwargs or {}))


def import_tfds() -> Any:
    """The TFDS module; ImportError names the extra where it, or what it needs undeclared, is missing."""
    try:
        import importlib_resources  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        missing = error.name or "tensorflow_datasets"
        raise ImportError(
            f"datasets by name come from TFDS, for which {missing!r} could not be imported ({error}): "
            "pip install 'tfjax[tfds]'"
        ) from error
    return tfds


def _base(name: str) -> str:
    """The dataset's own name: no namespace is known here, so what stands before a config or version."""
    return re.split("[/:]", name)[0]


def _builder(tfds: Any, name: str, data_dir: str | os.PathLike[str] | None, kwargs: dict[str, Any]) -> Any:
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    if data_dir is not None:
        kwargs["data_dir"] = _known_folder(data_dir)
    try:
        return tfds.builder(name, **kwargs)
    except DatasetNotFoundError as error:
        raise ValueError(_unknown_name(tfds, name, data_dir)) from error
    except (AssertionError, ValueError) as error:  # a config or version that does not exist
        # What comes after is a list of close configs, which may be empty, or a page on the syntax of names.
        reason = str(error).strip().splitlines()[0].split(" Here are ")[0]
        try:
            configs = list(tfds.builder_cls(_base(name)).builder_configs)
            there = f" It has the configs {configs}." if configs else ""
            there = there or (" It has no configs." if "BuilderConfig" in reason else "")
        except (DatasetNotFoundError, ValueError):
            there = " A name is as 'mnist', 'xquad/en' or 'mnist:3.*.*'."
        raise ValueError(f"dataset {name!r}: {reason}{there}") from error


def _known_folder(data_dir: str | os.PathLike[str]) -> str:
    """The path of a data_dir that TFDS can read."""
    from etils import epath

    folder = os.path.expanduser(data_dir)
    try:
        epath.Path(folder)
    except KeyError as error:
        raise ValueError(
            f"data_dir is {folder!r}, and TFDS reads no {error.args[0]}: use a local copy, or from_records, which "
            "reads the files where they are"
        ) from error
    return folder


def _unknown_name(tfds: Any, name: str, data_dir: str | os.PathLike[str] | None) -> str:
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    close = difflib.get_close_matches(_base(name).lower(), known, n=3)
    near = f"did you mean {' or '.join(map(repr, close))}?"
    hint = near if close else "tfds.list_builders() lists those there are"
    where = "TFDS's default data_dir" if data_dir is None else f"data_dir {os.fspath(data_dir)!r}"
    return f"there is no TFDS dataset {name!r}, and {where} holds no files of one: {hint}"


def is_prepared(builder: Any) -> bool:
    """Whether the files of a dataset are there."""
    with _without_warnings():
        return bool(builder.is_prepared())


def _prepare(tfds: Any, builder: Any, *, quiet: bool) -> None:
    if not quiet:
        builder.download_and_prepare()
        return
    from tensorflow_datasets.core.utils import tqdm_utils

    shown = tqdm_utils._active
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    finally:
        tfds.display_progress_bar(shown)


def _failed(error: Exception) -> tuple[str, str]:
    """Why preparing failed, and the first fix."""
    text = str(error)
    if "ffmpeg is not installed" in text:  # by which TFDS decodes the videos that it is given as files
        feature = re.search(r"In <\w+> with name \"([^\"]*)\"", text)
        what = f"the feature {feature[1]!r}" if feature else "a feature"
        return f"{what} is decoded by ffmpeg, which is not on PATH", "Install ffmpeg and load it again"
    if text.startswith("Failed to encode example"):  # then the whole example, which may be large
        lines = text.splitlines()
        named = [i for i, line in enumerate(lines) if line.startswith("In <")]
        text = " ".join(lines[named[-1] :] if named else lines[-1:])
    return f"preparing it failed with {type(error).__name__}: {text}", _DOWNLOAD


def _not_prepared(builder: Any, reason: str, fix: str = _DOWNLOAD) -> FileNotFoundError:
    return FileNotFoundError(
        f"dataset {builder.info.full_name!r} is not prepared in {str(builder.data_dir)!r}, and {reason}. "
        f"{fix}, or pass data_dir= where it is prepared already, or prepare it on another machine and copy the folder"
    )


def _unreachable_host(builder: Any) -> str | None:
    """A host that the download needs, where no such host has an address; TFDS itself retries for minutes."""
    root = Path(builder.get_reference().data_dir)
    is_cached = any(p.is_file() for p in root.glob("downloads/**/*"))
    hosts = sorted({urllib.parse.urlsplit(url).hostname or "" for url in builder.url_infos or {}} - {""})
    if not hosts or is_cached or urllib.request.getproxies():
        return None
    return None if any(map(_has_address, (*hosts, "storage.googleapis.com"))) else hosts[0]


def _has_address(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """TFDS logs what it is about to do as absl warnings; errors pass."""

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger = logging.getLogger("absl")
    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)
