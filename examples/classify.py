"""Fine-tunes a sparse BERT to classify texts; its zeros stay.

    python examples/classify.py train.tsv --output=my_classifier

The file has the columns "sentence" and "label" (0, 1, ...), as SST-2's has.
"""

import argparse
import csv

import tf_pof
from tf_pof.data.tokenizer import WordPiece

import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--model", default="minilm_l6_90")
parser.add_argument("--output", default="my_classifier")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning_rate", type=float, default=1e-4)
args = parser.parse_args()
tf.keras.utils.set_random_seed(0)

with open(args.data, encoding="utf-8") as file:
    rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
labels = np.array([int(row["label"]) for row in rows])

model = tf_pof.load(args.model, "classifier", num_labels=int(labels.max()) + 1)
tf_pof.lock(model)
tokenizer = WordPiece(model.vocab_file)
x = tokenizer.encode([row["sentence"] for row in rows], sequence_length=64)
model.compile(
    tf.keras.optimizers.AdamW(args.learning_rate),
    {"logits": tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    {"logits": "accuracy"},
)
history = model.fit(x, {"logits": labels}, epochs=args.epochs, batch_size=32)
tf_pof.save(model, args.output)
