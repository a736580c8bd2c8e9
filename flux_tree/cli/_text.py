"""Text that is safe to print, whatever is in it."""

from __future__ import annotations

__all__ = ["ASCII_TREE", "printable"]

#: How a tree is drawn where the encoding has no box-drawing characters.
ASCII_TREE = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-"})


def printable(text: str) -> str:
    r"""Return `text` in one line, with everything escaped that is no printable character.

    Parameters
    ----------
    text : str
        With newlines, escape sequences, or bytes of a file name that are not UTF-8.

    Returns
    -------
    str
        Newlines as ``\n``, other characters as ``\x1b``; bytes that are not UTF-8 as ``\xff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode keeps bytes that are not UTF-8 in these
        return f"\\x{code - 0xDC00:02x}"
    return ascii(char)[1:-1]
