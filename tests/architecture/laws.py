"""The laws of the house: each is a function from a package folder to complaints, none where it is kept.

    sources -> ops -> graph -> bridge -> placement -> frameworks -> training

A folder of this flow imports only what lies to its left, also by way of the root modules that it imports;
`pipeline`, `opening`, `tools` and the package's own `__init__` stand on top. Only `bridge` imports TensorFlow and JAX.
"""

import ast
import pathlib

from tests.architecture import imports

FLOW = ("sources", "ops", "graph", "bridge", "placement", "frameworks", "training")
TOP = ("pipeline", "opening", "tools", "recipes", "testing", "__main__", "__init__")
NO_JAX = ("sources", "ops", "graph")
NO_TENSORFLOW = ("placement",)
FRAMEWORKS = ("flax", "equinox", "haiku", "keras")
MAX_LINES = 350


def flow(package: pathlib.Path) -> list[str]:
    """A folder that imports what lies to its right or on top, directly or through root modules."""
    edges: dict[str, list[tuple[str, imports.Import]]] = {}
    for item in imports.read(package):
        to = imports.target(item, package)
        if to and to != item.unit:
            edges.setdefault(item.unit, []).append((to, item))
    complaints = []
    for rank, folder in enumerate(FLOW):
        for to, item in _reach(folder, edges):
            if to in FLOW[rank + 1 :] or to in TOP:
                complaints.append(f"{item}: {folder} may import only {', '.join(FLOW[:rank]) or 'root modules'}")
    return complaints


def _reach(folder: str, edges: dict[str, list[tuple[str, imports.Import]]]) -> list[tuple[str, imports.Import]]:
    """What a folder imports, with what the root modules among that import in turn."""
    found, waiting, seen = [], [folder], {folder}
    while waiting:
        for to, item in edges.get(waiting.pop(), []):
            found.append((to, item))
            if to not in seen and to not in (*FLOW, *TOP):
                waiting.append(to)
            seen.add(to)
    return found


def libraries(package: pathlib.Path) -> list[str]:
    """JAX or TensorFlow where it may not be, both outside bridge, TensorFlow around `_tensorflow`."""
    jax: dict[str, list[imports.Import]] = {}
    tensorflow: dict[str, list[imports.Import]] = {}
    for item in imports.read(package):
        if item.typing_only:
            continue
        if item.is_any_of("jax", "jaxlib"):
            jax.setdefault(item.unit, []).append(item)
        if item.is_any_of("tensorflow", "tensorflow_datasets", f"{package.name}._tensorflow"):
            tensorflow.setdefault(item.unit, []).append(item)
    complaints = [f"{item}: {unit} never imports JAX" for unit in NO_JAX for item in jax.get(unit, [])]
    complaints += [f"{i}: {unit} never imports TensorFlow" for unit in NO_TENSORFLOW for i in tensorflow.get(unit, [])]
    for unit in sorted((jax.keys() & tensorflow.keys()) - {"bridge"}):
        complaints.append(f"{jax[unit][0]}, {tensorflow[unit][0]}: only bridge imports both")
    for unit in tensorflow.keys() - {"_tensorflow"}:
        around = [item for item in tensorflow[unit] if item.is_any_of("tensorflow")]
        complaints += [f"{item}: use `from {package.name}._tensorflow import tf`" for item in around]
    return complaints


def one_framework_a_file(package: pathlib.Path) -> list[str]:
    """A file that imports a second framework, or a framework imported outside `frameworks`."""
    found: dict[str, set[str]] = {}
    for item in imports.read(package):
        if item.is_any_of(*FRAMEWORKS) and not item.typing_only:
            found.setdefault(item.place.rpartition(":")[0], set()).add(item.name.partition(".")[0])
    here = f"{package.name}/frameworks/"
    complaints = [f"{file} imports {sorted(names)}" for file, names in found.items() if len(names) > 1]
    return complaints + [f"{file} imports {sorted(names)}" for file, names in found.items() if here not in file]


def length(package: pathlib.Path) -> list[str]:
    """A file that has grown over the limit."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in sorted(package.rglob("*.py"))}
    return [f"{p.relative_to(package.parent)}: {n} lines, over {MAX_LINES}" for p, n in lines.items() if n > MAX_LINES]


def no_assert(package: pathlib.Path) -> list[str]:
    """An assert statement, which `python -O` removes: raise an exception that shows the value and the fix."""
    return [
        f"{path.relative_to(package.parent)}:{node.lineno}: assert"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
