"""Copies definitions out of the project's modules into one file that imports nothing of the project."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence

from studio.settings import ROOT

OURS = ("core", "data", "studio", "tests")


class Module:
    """A module's definitions, its imports of the project as (module, name), and its other imports as lines; each by the name
    that it has there."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        self.definitions: dict[str, ast.stmt] = {}
        self.ours: dict[str, tuple[str, str]] = {}
        self.others: dict[str, str] = {}
        for node in ast.parse(self.text).body:
            match node:
                case ast.FunctionDef(name=defined) | ast.ClassDef(name=defined):
                    self.definitions[defined] = node
                case ast.AnnAssign(target=ast.Name(id=defined)) | ast.Assign(targets=[ast.Name(id=defined)]):
                    self.definitions[defined] = node
                case ast.Import(names=names):
                    for alias in names:
                        self.others[alias.asname or alias.name] = f"import {ast.unparse(alias)}"
                case ast.ImportFrom(module=str(source), names=names) if source != "__future__":
                    for alias in names:
                        if source.split(".")[0] in OURS:
                            self.ours[alias.name] = (source, alias.name)
                        else:
                            self.others[alias.asname or alias.name] = (
                                f"from {source} import {ast.unparse(alias)}"
                            )

    def source(self, name: str, without: Collection[str]) -> str:
        """The lines of a definition, with its decorators; a class without some of its methods, as Class.method."""
        node, lines = self.definitions[name], self.text.splitlines()
        methods = node.body if isinstance(node, ast.ClassDef) else []
        left_out = [one for one in methods if f"{name}.{getattr(one, 'name', '')}" in without]
        cut = {line for method in left_out for line in _lines(method)}
        return "\n".join(lines[line - 1] for line in _lines(node) if line not in cut).rstrip()


def _lines(node: ast.stmt) -> range:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    return range(first, (node.end_lineno or first) + 1)


def flatten(
    roots: Sequence[tuple[str, str]],
    about: str,
    *,
    imports: Iterable[str] = (),
    end: str = "",
    without: Collection[str] = (),
) -> str:
    """The source of a module: the definitions `roots`, (module, name), and all that they use of the project, each after
    what it uses.

    about: its docstring. imports, end: lines that are added to its imports and at its end. without: methods that are left
    out, as Class.method. ValueError where two definitions have one name, or where something of the project is still
    imported.
    """
    modules: dict[str, Module] = {}
    origin: dict[str, str] = {}  # the module of each definition that is in the file
    lines, parts = set(imports), []

    def add(of: str, name: str) -> None:
        if name in origin:
            if origin[name] != of:
                raise ValueError(f"{name} is defined in {origin[name]} and in {of}: rename one of them.")
            return
        origin[name] = of
        module = modules[of] = modules.get(of) or Module(of)
        text = module.source(name, without)
        for node in ast.walk(ast.parse(text)):
            used = node.id if isinstance(node, ast.Name) else ""
            if used in module.definitions:
                add(of, used)
            elif used in module.ours:
                add(*module.ours[used])
            elif used in module.others:
                lines.add(module.others[used])
        parts.append(text)

    for of, name in roots:
        add(of, name)
    head = f'"""{about}"""\n\nfrom __future__ import annotations\n\n' + "\n".join(sorted(lines))
    source = "\n\n\n".join([head, *parts, *([end] if end else [])]) + "\n"
    if left := imports_of_ours(source):
        raise ValueError(f"The file would import {', '.join(left)}, which is nowhere but in this project.")
    return source


def imports_of_ours(source: str) -> list[str]:
    """The modules of the project that a source imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return sorted({name for name in names if name.split(".")[0] in OURS})
