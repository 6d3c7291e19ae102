"""Read the imports of a package from its syntax trees, at the top of a file or inside a function.

What is found: `import x`, `from x import y`, relative forms of both, and `import_module("x")` with a literal
name. An import under `if TYPE_CHECKING:` is found too and marked, as it never runs.
"""

import ast
import dataclasses
import pathlib
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name, where it stands, and whether it serves annotations only."""

    unit: str  # the folder or root module that holds the import; "__init__" for the package's own
    name: str
    place: str
    typing_only: bool

    def is_any_of(self, *modules: str) -> bool:
        """Whether the name is one of the modules or inside one."""
        return any(self.name == m or self.name.startswith(f"{m}.") for m in modules)

    def __str__(self) -> str:
        return f"{self.place} imports {self.name}"


def read(package: pathlib.Path) -> list[Import]:
    """Every import of the package; `from a import b` is given as a.b, a module or a name in one."""
    return [item for path in sorted(package.rglob("*.py")) for item in _of_file(path, package)]


def units(package: pathlib.Path) -> set[str]:
    """The folders and root modules of the package."""
    return {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}


def target(item: Import, package: pathlib.Path) -> str | None:
    """The unit of the package that is imported, None for another library; tfjax.load is in "__init__"."""
    root, _, rest = item.name.partition(".")
    if root != package.name:
        return None
    unit = rest.partition(".")[0]
    return unit if unit in units(package) else "__init__"


def _of_file(path: pathlib.Path, package: pathlib.Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unit = path.relative_to(package).parts[0].removesuffix(".py")
    folder = ".".join(path.relative_to(package.parent).parent.parts)
    typing_only = {id(node) for block in ast.walk(tree) for node in _never_run(block)}
    for node in ast.walk(tree):
        for name in _names(node, folder):
            place = f"{path.relative_to(package.parent)}:{node.lineno}"
            yield Import(unit, name, place, id(node) in typing_only)


def _never_run(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for statement in node.body:
            yield from ast.walk(statement)


def _names(node: ast.AST, folder: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = folder.split(".")[: folder.count(".") + 2 - node.level] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []
