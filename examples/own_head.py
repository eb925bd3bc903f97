"""Puts a head of one's own on a sparse BERT; the encoder's zeros stay.

    python examples/own_head.py topics.tsv --output=my_topics

The file has the columns "sentence" and "topics": names, with spaces between.
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
parser.add_argument("--output", default="my_topics")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning_rate", type=float, default=1e-4)
args = parser.parse_args()
with open(args.data, encoding="utf-8") as file:
    rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
names = [row["topics"].split() for row in rows]
topics = sorted({topic for named in names for topic in named})
y = np.array([[float(t in named) for t in topics] for named in names])
encoder = tf_pof.lock(tf_pof.load(args.model, head=None))
mean = tf.keras.layers.GlobalAveragePooling1D()(
    encoder.output["sequence_output"], mask=encoder.input["padding_mask"]
)
outputs = tf.keras.layers.Dense(len(topics), "sigmoid", name="topics")(mean)
model = tf.keras.Model(encoder.input, outputs)
adamw = tf.keras.optimizers.AdamW(args.learning_rate)
model.compile(adamw, "binary_crossentropy")
x = WordPiece(encoder.vocab_file).encode([row["sentence"] for row in rows], 64)
history = model.fit(x, y, epochs=args.epochs, batch_size=32)
tf_pof.save(encoder, f"{args.output}/encoder")
model.save_weights(f"{args.output}/model.weights.h5")
