"""Makes minilm_golden.npz: Hugging Face's own hidden states of MiniLM.

Run once in an environment with torch 2.13.0 and transformers 5.23.0 (not
needed by the tests):

    python tests/models/make_golden.py MINILM_FOLDER

MINILM_FOLDER is what `tf_pof.models.minilm.fetch()` returns. The file holds
two sentence pairs as token ids with padding, and the hidden states of all 7
levels at four positions, float32 from eager attention on CPU.
"""

import os
import sys

import numpy as np
import torch
import transformers

PAIRS = (
    ("That is a happy person.", "Today is a sunny day, isn't it?"),
    (
        "It was the best of times, it was the worst of times.",
        "The Thames flows through London.",
    ),
)
POSITIONS = (0, 1, 7, 12)


def main(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        [a for a, _ in PAIRS],
        [b for _, b in PAIRS],
        padding="max_length",
        max_length=32,
        return_tensors="pt",
    )
    model = transformers.BertModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        outputs = model(**batch, output_hidden_states=True)
    states = np.stack([state.numpy() for state in outputs.hidden_states])
    np.savez_compressed(
        os.path.join(os.path.dirname(__file__), "minilm_golden.npz"),
        token_ids=batch["input_ids"].numpy().astype(np.int32),
        segment_ids=batch["token_type_ids"].numpy().astype(np.int32),
        padding_mask=batch["attention_mask"].numpy().astype(np.int32),
        positions=np.array(POSITIONS),
        hidden_states=states[:, :, POSITIONS],
        pooled_output=outputs.pooler_output.numpy(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
