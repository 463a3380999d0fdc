"""Moses tokenisation of a line, as the standard preparations of IWSLT-14 have it. Needs no torch."""

import re
from collections.abc import Callable

_STOPPED = re.compile(r"(?<=[^\s.])\.$")  # a last word with one full stop at its end


def moses_tokenizer(language: str) -> Callable[[str], str]:
    """``tokenize(line)``: tokens separated by blanks, special characters escaped (``&apos;``), case as it was.

    sacremoses, and one rule of ``tokenizer.perl`` beside it: the full stop of the last word is always a token of its
    own, also after an abbreviation ("u.s.a."), a single letter or an ordinal, which sacremoses leaves together.
    """
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(lang=language)

    def tokenize(line: str) -> str:
        tokens: str = moses.tokenize(line, return_str=True)
        return _STOPPED.sub(" .", tokens)

    return tokenize
