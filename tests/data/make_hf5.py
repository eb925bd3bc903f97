"""Makes hf5/: tokenizers as transformers 5 saves them, and their ids.

Run once in an environment of transformers 5.24 and tokenizers 0.23:

    python -m tests.data.make_hf5
"""

import json
import pathlib

import transformers

from tests.data.hf5_texts import TEXTS

FOLDER = pathlib.Path(__file__).parent / "hf5"
SETTINGS = {
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "accents": {"do_lower_case": True, "strip_accents": False},
    "words": {
        "do_lower_case": False,
        "strip_accents": True,
        "tokenize_chinese_chars": False,
    },
}
def vocabulary():
    """Special tokens, letters, words, and tokens of white space."""
    letters = [chr(c) for c in range(33, 127)]
    letters += [*"éüα\u0301\u0345漢字日本\u1fb3", "i\u0307"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
    tokens += letters + ["##" + letter for letter in letters]
    words = ["\u2028", "London", "\u3000", "london", "für", "fur", "漢字"]
    return tokens + words


def main():
    FOLDER.mkdir(exist_ok=True)
    vocab = FOLDER / "vocab.tmp"
    vocab.write_text("\n".join(vocabulary()) + "\n", "utf-8")
    ids = {}
    for name, settings in SETTINGS.items():
        tokenizer = transformers.BertTokenizer(vocab=str(vocab), **settings)
        tokenizer.save_pretrained(FOLDER / name)
        ids[name] = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    vocab.unlink()
    (FOLDER / "ids.json").write_text(json.dumps(ids, indent=1) + "\n")


if __name__ == "__main__":
    main()
