"""A student-pruning step as one writes it plainly in PyTorch.

BERT from torch.nn parts, scaled_dot_product_attention, masks multiplied into
the kernels, full logits of all positions for teacher and student, AdamW,
clipping. No teacher: teacher preparation, logits of the masked positions only.
"""

import argparse
import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import worker  # noqa: E402


class Masked(nn.Linear):
    def __init__(self, inputs, outputs, pruned):
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.pruned = pruned

    def forward(self, x):
        weight = self.weight * self.mask if self.pruned else self.weight
        return F.linear(x, weight, self.bias)


class Layer(nn.Module):
    def __init__(self, c, pruned):
        super().__init__()
        h, i = c["hidden_dim"], c["intermediate_dim"]
        self.heads, self.rate = c["num_heads"], c["dropout"]
        self.query, self.key, self.value, self.out = (
            Masked(h, h, pruned) for _ in range(4)
        )
        self.up, self.down = Masked(h, i, pruned), Masked(i, h, pruned)
        self.norm_1, self.norm_2 = (nn.LayerNorm(h, eps=1e-12) for _ in "12")

    def forward(self, x):
        b, s, h = x.shape

        def split(t):
            return t.view(b, s, self.heads, -1).transpose(1, 2)

        rate = self.rate if self.training else 0.0
        y = F.scaled_dot_product_attention(
            *(split(f(x)) for f in (self.query, self.key, self.value)),
            dropout_p=rate,
        )
        y = self.out(y.transpose(1, 2).reshape(b, s, h))
        x = self.norm_1(x + F.dropout(y, rate))
        y = self.down(F.gelu(self.up(x)))
        return self.norm_2(x + F.dropout(y, rate))


class Bert(nn.Module):
    def __init__(self, c, pruned):
        super().__init__()
        h, v = c["hidden_dim"], c["vocabulary_size"]
        self.token = nn.Embedding(v, h)
        self.position = nn.Embedding(c["max_sequence_length"], h)
        self.segment = nn.Embedding(2, h)
        for table in (self.token, self.position, self.segment):
            nn.init.normal_(table.weight, std=0.02)
        self.norm = nn.LayerNorm(h, eps=1e-12)
        self.layers = nn.ModuleList(
            Layer(c, pruned) for _ in range(c["num_layers"])
        )
        self.pooler, self.rate = Masked(h, h, pruned), c["dropout"]
        self.mlm, self.mlm_norm = nn.Linear(h, h), nn.LayerNorm(h, eps=1e-12)
        self.bias, self.nsp = nn.Parameter(torch.zeros(v)), nn.Linear(h, 2)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1])
        x = self.token(tokens) + self.position(positions)
        x = self.norm(x + self.segment(torch.zeros_like(tokens)))
        x = F.dropout(x, self.rate if self.training else 0.0)
        for layer in self.layers:
            x = layer(x)
        nsp = self.nsp(torch.tanh(self.pooler(x[:, 0])))
        return x, nsp

    def logits(self, x):
        x = self.mlm_norm(F.gelu(self.mlm(x)))
        return F.linear(x, self.token.weight, self.bias)


def divergence(teacher, student, t):
    teacher, student = (x.flatten(0, -2) / t for x in (teacher, student))
    return t * t * F.kl_div(
        F.log_softmax(student, -1),
        F.softmax(teacher, -1),
        reduction="batchmean",
    )


def make_step(c, rows, length, slots, bfloat16, with_teacher):
    torch.manual_seed(0)
    student = Bert(c, pruned=with_teacher)
    teacher = Bert(c, pruned=False).eval() if with_teacher else None
    decayed = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.01},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=5e-5,
    )
    tokens, positions, labels = map(
        torch.tensor, worker.batch(rows, length, slots, c["vocabulary_size"])
    )
    nsp_labels = torch.zeros(rows, dtype=torch.long)
    at = torch.arange(rows)[:, None], positions

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            hidden, nsp = student(tokens)
            if with_teacher:
                logits = student.logits(hidden)
                masked = logits[at]
            else:
                masked = student.logits(hidden[at])
            loss = F.cross_entropy(masked.flatten(0, 1), labels.flatten())
            loss = loss + F.cross_entropy(nsp, nsp_labels)
            if with_teacher:
                with torch.no_grad():
                    other, other_nsp = teacher(tokens)
                    target = teacher.logits(other)
                soft = divergence(target, logits, 2.0)
                soft = soft + divergence(other_nsp, nsp, 2.0)
                loss = 0.5 * loss + 0.5 * soft
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    import json

    parser = argparse.ArgumentParser()
    parser.add_argument("spec", help="JSON: config, rows, length, slots, ...")
    spec = json.loads(parser.parse_args().spec)
    torch.set_num_threads(spec["threads"])
    worker.serve(
        make_step(
            spec["config"],
            spec["rows"],
            spec["length"],
            spec["slots"],
            spec["precision"] == "mixed_bfloat16",
            spec["teacher"],
        )
    )
