"""Which code computes: the full path of a class, and a digest of its source where it is not this package's own.

The package's own plug-ins say which numbers they give by a word, `recipe`, that is turned with the numbers. The source
of others is read: the file, and what it imports from the folder that it is imported from, file by file, but for this
package's where it lies there; of installed packages the file alone. What was typed into a notebook is known by its
text.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import linecache
import sys
import uuid
import warnings
import weakref
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from probe.core.base import digest
from probe.core.hashing import hash_bytes

Thing = Any
"""A class, a function or a module."""
Parts = set[tuple[str, str]]
"""Name and digest of files, texts and values."""
OWN = __name__.partition(".")[0]
FOLDER = Path(__file__).resolve().parents[1]
FIRST_RECIPE = "1"
"""The recipe of a plug-in that names none."""
UNKNOWN = "unknown "
"""Begins the code of a class whose source cannot be read; what follows is another word in every process."""
_words: weakref.WeakKeyDictionary[Thing, str] = weakref.WeakKeyDictionary()


def path_of(kind: Thing) -> str:
    """The full path of a class or function, `package.module:name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def is_own(thing: Thing) -> bool:
    """Whether this is the package's own."""
    return _home(thing).partition(".")[0] == OWN


def code_of(kind: type, *named: Any) -> dict[str, Any]:
    """What tells a class from one of the same name, and from itself before an edit.

    Args:
        kind: The class.
        named: Classes and functions that its parameters name; those of installed packages are left out.

    Returns:
        `class`, its full path; `recipe`, where it is this package's or inherits from it; `code`, the digest of what is
        not; `release`, the version of an installed package.
    """
    facts: dict[str, Any] = {"class": path_of(kind)}
    if any(is_own(base) for base in kind.__mro__):
        facts["recipe"] = recipe_of(kind)
    foreign = [] if is_own(kind) else [kind]
    foreign += [other for other in named if not is_own(other) and not is_installed(other)]
    if foreign:
        facts["code"] = source_digest(*foreign) or UNKNOWN + _words.setdefault(kind, uuid.uuid4().hex)
    if not is_own(kind) and (version := _release(kind)):
        facts["release"] = version
    return facts


def features_code_of(kind: type) -> dict[str, Any]:
    """`code_of` of what makes features, where it says more than that this package makes them as it always did."""
    facts = code_of(kind)
    if "code" in facts:
        return facts
    return {} if facts["recipe"] == FIRST_RECIPE else {"recipe": facts["recipe"]}


def identity_of(backbone: Any) -> dict[str, Any]:
    """The identity of a backbone, and which code computes where that is not this package's or of another recipe."""
    facts = features_code_of(type(backbone))
    return {**backbone.identity(), **({"computed_by": facts} if facts else {})}


def recipe_of(kind: Any) -> str:
    """The word that is turned when the numbers of a plug-in of this package change."""
    return str(getattr(kind, "recipe", FIRST_RECIPE))


def is_unknown(facts: Any) -> bool:
    """Whether the code of something whose source cannot be read stands anywhere in nested facts."""
    if isinstance(facts, Mapping | list):
        return any(is_unknown(value) for value in (facts.values() if isinstance(facts, Mapping) else facts))
    return isinstance(facts, str) and facts.startswith(UNKNOWN)


def is_installed(thing: Thing) -> bool:
    """Whether this comes with Python or with an installed package."""
    if _home(thing).partition(".")[0] in sys.stdlib_module_names:
        module = sys.modules.get(_home(thing))
        # What `exec` makes claims to be of `builtins`.
        return thing is module or hasattr(module, thing.__qualname__.partition(".")[0])
    file = _file(thing)
    return file is not None and bool({"site-packages", "dist-packages"} & set(file.parts))


def source_digest(*things: Thing) -> str | None:
    """Digest of the source that defines classes, functions and modules; None where some of it cannot be read.

    One file has the digest of its bytes. Base classes count, but for this package's own and those of installed ones.
    """
    parts: Parts = set()
    for thing in things:
        for kind in thing.__mro__ if isinstance(thing, type) else (thing,):
            if is_own(kind) or (kind is not thing and is_installed(kind)):
                continue
            if (found := _parts(kind, set())) is None:
                return None
            parts |= found
    if len(parts) == 1:
        return next(iter(parts))[1]
    return digest({"recipe": "1", "parts": sorted(parts)}) if parts else None


def _home(thing: Thing) -> str:
    return thing.__name__ if isinstance(thing, ModuleType) else str(thing.__module__)


def _parts(thing: Thing, seen: set[int]) -> Parts | None:
    """All that defines something; None where it cannot be read."""
    seen.add(id(thing))
    file = _file(thing)
    if file is None:
        parts = _texts(thing)
    elif is_installed(thing):
        parts = {(file.name, hash_bytes(file.read_bytes()))}
    else:
        parts = _files(file, _root(thing, file))
    if not parts:
        return None
    for name, value in _captured(thing, typed=file is None).items():
        if (found := _value(name, value, seen)) is None:
            return None
        parts |= found
    return parts


def _file(thing: Thing) -> Path | None:
    """The file that defines something; None for what was typed in, whatever module it claims."""
    file = Path(getattr(sys.modules.get(_home(thing)), "__file__", None) or "")
    # Some functions of a class in a file have none: those that `dataclass` writes.
    elsewhere = any(not Path(f.__code__.co_filename).is_file() for f in _functions(thing))
    return file if file.is_file() and (not elsewhere or _defines(file, thing.__name__)) else None


def _defines(file: Path, name: str) -> bool:
    return name in _told(file.read_bytes())[0]


def _functions(thing: Thing) -> Iterator[FunctionType]:
    """A function, or those of a class's own body."""
    for member in vars(thing).values() if isinstance(thing, type) else (thing,):
        member = getattr(member, "fget", None) or getattr(member, "func", None) or member
        member = inspect.unwrap(getattr(member, "__func__", member))
        if isinstance(member, FunctionType):
            yield member


def _root(thing: Thing, file: Path) -> Path:
    """The folder that a module was imported from."""
    module = sys.modules[_home(thing)]
    name = getattr(module.__spec__, "name", "") if module.__name__ == "__main__" else module.__name__
    above = file.resolve().parents
    return above[min(name.count(".") + (file.name == "__init__.py"), len(above) - 1)]


def _files(file: Path, root: Path) -> Parts:
    """A file, and all that it imports from the root or from beside it; who works in a clone has this package there."""
    found: dict[Path, str] = {}
    todo = [file.resolve()]
    while todo:
        path = todo.pop()
        if path not in found and not path.is_relative_to(FOLDER):
            content = path.read_bytes()
            found[path] = hash_bytes(content)
            todo += _imported(content, path, root) if path.suffix == ".py" else []
    return {(str(p.relative_to(root)) if p.is_relative_to(root) else p.name, code) for p, code in found.items()}


def _imported(content: bytes, path: Path, root: Path) -> list[Path]:
    """The files that a file imports, anywhere in it, from the root or from beside it."""
    found: list[Path | None] = []
    for node in _told(content)[1]:
        if isinstance(node, ast.Import):
            found += [_module(name.name, root, path.parent) for name in node.names]
        else:
            folders = (path.parents[node.level - 1],) if node.level else (root, path.parent)
            base = f"{node.module}." if node.module else ""
            found += [_module(base + n.name, *folders) or _module(base.rstrip("."), *folders) for n in node.names]
    return [file for file in found if file is not None]


def _module(name: str, *folders: Path) -> Path | None:
    """The file of a module by its dotted name."""
    for folder in folders:
        stem = folder.joinpath(*name.split("."))
        for file in (stem.parent / f"{stem.name}.py", stem / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None


@functools.lru_cache(maxsize=4096)
def _told(content: bytes) -> tuple[frozenset[str], tuple[ast.Import | ast.ImportFrom, ...]]:
    """The names that a file defines, and what it imports; nothing where it is not Python of this version."""
    nodes: list[ast.AST] = []
    with warnings.catch_warnings(), contextlib.suppress(SyntaxError, ValueError):
        warnings.simplefilter("ignore")
        nodes = list(ast.walk(ast.parse(content)))
    defined = frozenset(n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef))
    return defined, tuple(n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom))


def _texts(thing: Thing) -> Parts:
    """The texts that define something, such as cells of a notebook; their numbers say nothing."""
    texts = {"".join(linecache.getlines(f.__code__.co_filename)) for f in _functions(thing)} - {""}
    return {("text", hash_bytes(text.encode())) for text in texts}


def _captured(thing: Thing, typed: bool) -> dict[str, Any]:
    """What the functions of something take from around them; of typed ones also what they find by a global name."""
    found: dict[str, Any] = {}
    for function in _functions(thing):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        with contextlib.suppress(ValueError):  # a name that has no value yet
            found |= {name: cell.cell_contents for name, cell in cells}
        if typed:
            found |= {n: function.__globals__[n] for n in _names(function.__code__) & function.__globals__.keys()}
    return found


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def _value(name: str, value: Any, seen: set[int]) -> Parts | None:
    """Plain values as they are, code by its source; other values are not looked into."""
    if isinstance(value, bool | int | float | str | tuple | None):
        with contextlib.suppress(TypeError, ValueError):  # a tuple of anything
            return {(name, digest(value))}
    if not isinstance(value, type | FunctionType | ModuleType) or id(value) in seen:
        return set()
    return set() if is_own(value) or is_installed(value) else _parts(value, seen)


def _release(kind: type) -> str | None:
    """Name and version of the installed package that a class is of."""
    return _versions(kind.__module__.partition(".")[0]) if is_installed(kind) else None


@functools.cache
def _versions(package: str) -> str | None:
    names = metadata.packages_distributions().get(package, [])  # which reads the names of all that is installed
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or None
