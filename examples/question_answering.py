"""Fine-tunes a sparse BERT to answer questions; its zeros stay.

    python examples/question_answering.py train-v1.1.json dev-v1.1.json
"""

import argparse

import tf_pof
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import inputs, scoring, squad

import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("train")
parser.add_argument("validation")
parser.add_argument("--model", default="minilm_l6_90")
parser.add_argument("--output", default="my_reader")
parser.add_argument("--sequence_length", type=int, default=384)
parser.add_argument("--learning_rate", type=float, default=1e-4)
parser.add_argument("--epochs", type=int, default=2)
args = parser.parse_args()
model = tf_pof.lock(tf_pof.load(args.model, "span"))
tokenizer = WordPiece(model.vocab_file)
length = args.sequence_length
task = squad.Squad("1.1", args.train, args.validation, sequence_length=length)
features = task.features(task.examples("train"), tokenizer, training=True)
batches = inputs.training_data(features, tf.distribute.get_strategy(), 12, 0)
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
adamw = tf.keras.optimizers.AdamW(args.learning_rate)
model.compile(adamw, {"start_logits": loss, "end_logits": loss})
steps = -(-len(features) // 12)
history = model.fit(batches, steps_per_epoch=steps, epochs=args.epochs)
tf_pof.save(model, args.output)
examples = task.examples("validation")
features = task.features(examples, tokenizer, training=False)
scores = task.score(examples, features, scoring.outputs_of(model, features))
print(scores)
