"""Patterns of JSON schemas: regular expressions of ECMA-262, said in those that the grammar engine reads (Rust's).

Where the two differ, what comes out matches nothing that the pattern does not; what cannot be said so is refused.
"""

from __future__ import annotations

import re
from types import MappingProxyType

_SPACES = r"[\t\n\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # both call these so
_ALL_SPACES = r"[\s\ufeff]"  # one of them does
_SETS = MappingProxyType({r"\s": _SPACES, r"\S": f"[^{_ALL_SPACES}]"})
_NEGATED = MappingProxyType({r"\s": _ALL_SPACES, r"\S": f"[^{_SPACES}]"})  # in a class that is
_PIECES = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_MEMBERS = re.compile(r"\\.|.", re.DOTALL)


def engine_pattern(pattern: str) -> str:
    """The pattern as the engine reads it. Raises ValueError for what ECMA-262 does not know, or reads otherwise."""
    said = []
    quantified = False
    for piece in _PIECES.findall(pattern):
        if piece == "+" and quantified:
            raise ValueError("a possessive quantifier ('++', '*+', '?+')")
        quantified = piece in ("*", "+", "?", "}")
        if piece == ".":
            said.append(r"[^\n\r\u2028\u2029]")
        elif piece.startswith("[") and piece != "[":
            said.append(_class(piece))
        else:
            said.append(_SETS.get(piece, piece))
    return "".join(said)


def _class(text: str) -> str:
    """A class of characters. In Rust's, brackets nest, and && and ~~ and -- join sets."""
    members = _MEMBERS.findall(text)[1:-1]
    opening = "[" + "^" * (members[:1] == ["^"])
    members = members[len(opening) - 1 :]
    if not members:
        raise ValueError(r"a class of no characters; write \] for a bracket in a class")
    if "--" in "".join(member if len(member) == 1 else " " for member in members):
        raise ValueError(r"'--' in a class; write \- for a dash")
    sets = _SETS if opening == "[" else _NEGATED
    return opening + "".join("\\" + each if each in "[&~" else sets.get(each, each) for each in members) + "]"
