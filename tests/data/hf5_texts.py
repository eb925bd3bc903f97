"""Texts on which tokenizers of transformers 5 and ours must agree."""

TEXTS = [
    "London is in london.",
    "für FÜR fur, Éléphant!",
    "漢字 and 漢字london 日本",
    "a\u2028b a\u3000b a\u00a0b a\x85b a\x1cb",
    "x" * 101 + " don't [x] K \u212b",
    "\u1fb3 \u1fbc e\u0301\u0345 İ",
    "",
]
