"""What the pages say to a shell, and in code: README.md, data/README.md and docs/, found anew by each run of the tests."""

import re
import shlex
from pathlib import Path

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
SUBSTITUTED = re.compile(r"\$\(([^()]*)\)")
# What may stand before a command, and what ends one.
BEFORE = re.compile(r"do|\w+=.*")
PROGRAMS = ("python", "dvc", "make", "torchrun", "git")


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return [block for name, block in FENCED.findall(page.read_text(encoding="utf-8")) if name == language]


def inline(page: Path) -> list[str]:
    """What stands between backticks in the page's text."""
    return INLINE.findall(FENCED.sub("", page.read_text(encoding="utf-8")))


def commands(page: Path) -> list[list[str]]:
    """Every call of a program, in words: of the shell blocks, of indented lines, and of code within the text."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found = [command for block in blocks(page, "sh") for command in split(block)]
    for line in (*INDENTED.findall(text), *INLINE.findall(text)):
        if line.split()[0] in PROGRAMS and " " in line or BEFORE.fullmatch(line.split()[0]) and " dvc " in line:
            found += split(line)
    return found


def split(script: str) -> list[list[str]]:
    """Calls of PROGRAMS in a shell script, those in $(...) as well; what these print is left out of the outer call."""
    inner = [command for found in SUBSTITUTED.findall(script) for command in split(found)]
    lexer = shlex.shlex(SUBSTITUTED.sub(" ", script).replace("\\\n", " ").replace("\n", "\n ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if set(word) <= set(";&|()<>"):
            found.append([])
        elif found[-1] or not BEFORE.fullmatch(word):
            found[-1].append(word)
    return inner + [command for command in found if command and command[0] in PROGRAMS]


def overrides(page: Path) -> list[list[str]]:
    """What the page gives to -S: the values of each call of `dvc exp run`, and those that stand alone in the text."""
    calls = [command for command in commands(page) if command[:3] == ["dvc", "exp", "run"]]
    alone = [["-S", *shlex.split(code)[1:]] for code in inline(page) if code.startswith("-S ")]
    return [[value for flag, value in zip(call, call[1:]) if flag == "-S"] for call in (*calls, *alone)]
