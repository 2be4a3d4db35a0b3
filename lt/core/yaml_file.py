"""YAML files as DVC writes them, read without what makes YAML a trap. No torch."""

import re
from pathlib import Path
from typing import Any

import yaml

from lt.core.files import read_regular

# Values in a file.
MOST_VALUES = 100_000


class YamlError(ValueError):
    """A YAML file that is missing, broken, or no mapping."""


class _Yaml12(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, DVC writes YAML 1.2: 1e-05 is a number there, `on` a word, 010 is ten.

    Refused besides: a key that stands twice, or is no text, a value that is not of its tag, and aliases that make a small file a large one.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        self._size(node, {})
        return node

    def _size(self, node: yaml.Node | None, sizes: dict[yaml.Node, int | None]) -> int:
        """Values in a node, those of an alias counted each time."""
        if sizes.get(node, 0) is None:
            raise _refused("an alias inside what it stands for", node)
        if node not in sizes:
            sizes[node] = None
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [part for item in parts for part in (item if isinstance(item, tuple) else [item])]
            sizes[node] = 1 + sum(self._size(part, sizes) for part in inner)
            if sizes[node] > MOST_VALUES:
                raise _refused(f"more than {MOST_VALUES} values, those of aliases counted each time", node)
        return sizes[node]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise _refused(f"got {str(node.value)[:40]!r}, which is no {node.tag.split(':')[-1]}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        lines = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"got the key {str(key)[:40]!r}, which is no text; put it into quotes", key_node)
            if key in lines:
                raise _refused(f"the key {key!r} stands twice, first in line {lines[key]}", key_node)
            lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_Yaml12.yaml_implicit_resolvers = {}
_resolver("null", r"~|null|Null|NULL|", "~nN")
_Yaml12.yaml_implicit_resolvers[""] = _Yaml12.yaml_implicit_resolvers["~"]
_resolver("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?[0-9]+", "-+0123456789")
_resolver("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789")
_Yaml12.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def read_yaml(path: Path) -> dict:
    """Reads a YAML 1.2 mapping; YamlError, with file and line, where the file is missing, broken or no mapping."""
    try:
        content = yaml.load(read_regular(path).decode(), Loader=_Yaml12)
    except FileNotFoundError:
        raise YamlError(f"{path} is missing in {Path.cwd()}; run from the project's root") from None
    except OSError as error:
        raise YamlError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"{path}, line {mark.line + 1}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"{path}: not valid YAML: {error.reason} at character {error.position + 1}") from None
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: not valid YAML: not UTF-8 text at byte {error.start + 1}") from None
    except RecursionError:
        raise YamlError(f"{path}: not valid YAML: blocks within blocks, too deep to be read") from None
    if not isinstance(content, dict):
        raise YamlError(f"{path}: got {type(content).__name__}, expected keys and values")
    return content
