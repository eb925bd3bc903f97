"""The delegate: what it takes, and that LiteRT's outputs come out."""

import functools
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from tests.export import converted, lite_files
from tests.runtime import built
from tf_pof.export import flatbuffer
from tf_pof.export.encodings import packed, weights

CODES = schema.BuiltinOperator
ISAS = (
    *("avx512vbmi", "avx512vnni", "avxvnni", "avx2"),
    *("i8mm", "neondot", "neon"),
    "scalar",
)


@pytest.fixture(scope="module", autouse=True)
def library():
    return built.library()


def stock(contents):
    return litert.Interpreter(model_content=contents)


def delegated(contents, **options):
    options = {key: str(value) for key, value in options.items()}
    delegate = litert.load_delegate(built.library(), options)
    return litert.Interpreter(
        model_content=contents, experimental_delegates=[delegate]
    )


@functools.cache
def sparse(kind, block=(1, 1), zeros=0.8):
    """A model of tests.export.converted with more zeros, in blocks."""
    model = flatbuffer.read(converted.make(kind).contents)
    rng = np.random.default_rng(4)
    for matrix in weights.find(model):
        values = matrix.values.copy()
        rows, columns = values.shape
        if rows % block[0] or columns % block[1]:
            continue
        live = rng.random((rows // block[0], columns // block[1])) >= zeros
        values *= np.kron(live, np.ones(block)).astype(np.int8)
        data = values.reshape(-1).view(np.uint8)
        model.buffers[matrix.buffer].data = data
    return flatbuffer.write(model)


def pack(contents):
    """Packed weights, also where they are too small to shrink."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_MAX_SHARE", 99)
        return packed.pack(contents)


def inputs(interpreter, signature, batch, seed=0):
    details = interpreter.get_signature_runner(signature).get_input_details()
    fixed, length = details["token_ids"]["shape_signature"]
    made = converted.inputs(
        converted.make("classifier").model,
        fixed if fixed > 0 else batch,
        length,
        seed,
    )
    return {key: made[key] for key in details}


def run(interpreter, signature, values):
    return interpreter.get_signature_runner(signature)(**values)


def output_step(contents):
    """The scale of the int8 tensor that the first output comes from."""
    graph = flatbuffer.read(contents).subgraphs[0]
    (maker,) = [x for x in graph.operators if graph.outputs[0] in x.outputs]
    return graph.tensors[maker.inputs[0]].quantization.scale[0]


def assert_follows(contents, interpreter, batch, seed=0):
    """Every signature's outputs are those of LiteRT with dense weights."""
    reference = stock(contents)
    for signature in reference.get_signature_list():
        values = inputs(reference, signature, batch, seed)
        expected = run(reference, signature, values)
        found = run(interpreter, signature, values)
        assert set(found) == set(expected)
        for name, array in expected.items():
            assert found[name].shape == array.shape
            apart = np.abs(found[name] - array)
            if name.endswith("logits"):
                assert apart.max() <= 3.01 * output_step(contents)
            # A level of an int8 tensor that rounds apart is some 0.02 here.
            assert apart.max() <= 0.15
            assert apart.mean() <= 0.01


@pytest.mark.parametrize("kind", sorted(converted.KINDS))
@pytest.mark.parametrize("block", [(1, 1), (4, 1)])
@pytest.mark.parametrize("encoding", ["dense", "packed"])
def test_outputs_are_those_of_litert(kind, block, encoding):
    contents = sparse(kind, block)
    changed = contents if encoding == "dense" else pack(contents)
    for threads in (1, 2):
        interpreter = delegated(changed, threads=threads)
        for batch in (3, 1, 5):
            assert_follows(contents, interpreter, batch, seed=batch)


def test_encodings_threads_and_instructions_change_no_bit():
    contents = sparse("encoder")
    expected = None
    for changed in (contents, pack(contents)):
        for isa in ("best",) + ISAS:
            for threads in (1, 2):
                try:
                    found = delegated(changed, isa=isa, threads=threads)
                except ValueError:
                    continue  # not this processor's
                values = inputs(found, "serving_default", 4)
                outputs = run(found, "serving_default", values)
                expected = expected or outputs
                for name, array in expected.items():
                    np.testing.assert_array_equal(outputs[name], array)


def test_an_encoder_is_one_part(capfd):
    delegated(sparse("span"), verbose=1)
    said = capfd.readouterr().err
    assert "in 1 parts" in said
    for step, count in (
        ("mask", 1),
        ("embeddings", 1),
        ("attention, 2 heads of 8, sequence 12", 1),
        ("layer norm", 2),
    ):
        assert said.count(f"tf_pof: runs {step}:") == count
    assert said.count("tf_pof: runs linear") == 7
    left = [x for x in said.splitlines() if x.startswith("tf_pof: leaves")]
    assert 0 < len(left) <= 6


@pytest.mark.parametrize("encoding", ["dense", "packed"])
def test_a_classifier_is_taken_whole(encoding, capfd):
    contents = sparse("classifier")
    delegated(pack(contents) if encoding == "packed" else contents, verbose=1)
    said = capfd.readouterr().err
    assert said.count(" nodes, in 1 parts\n") == 2  # signatures
    assert "tf_pof: leaves" not in said
    assert said.count("tf_pof: runs token") == 2


def test_verbose_says_kernels_and_what_is_left(capfd):
    interpreter = delegated(sparse("classifier"), verbose=1, tokens=77)
    run(interpreter, "seq_12", inputs(interpreter, "seq_12", 1))
    said = capfd.readouterr().err
    assert re.search(
        r"layer_1_query/kernel: 16 x 16, \d\d\.\d % zeros: \w+, the cheapest "
        r"kernel of isa best for 77 tokens(, windows being \d+ % full)?; "
        r"\d+ bytes",
        said,
    )
    assert "below the min_sparsity of 40 %" not in said
    delegated(lite_files.make([matrix(0.1)]), verbose=1)
    said = capfd.readouterr().err
    assert "runs 0 of 1 nodes" in said
    assert "below the min_sparsity of 40 %" in said


def matrix(zeros, rows=40, columns=24):
    rng = np.random.default_rng(8)
    values = rng.integers(-127, 128, (rows, columns))
    return (values * (rng.random(values.shape) >= zeros)).astype(np.int8)


def invoke(interpreter, x):
    """The outputs of a model without signatures."""
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    return [
        interpreter.get_tensor(result["index"])
        for result in interpreter.get_output_details()
    ]


@pytest.mark.parametrize("tokens", [1, 65])
@pytest.mark.parametrize("zeros", [0.9, 0.1])
def test_lone_layers_are_exact(zeros, tokens, capfd):
    contents = lite_files.make([matrix(zeros), matrix(zeros, 7)], [tokens])
    x = np.random.default_rng(tokens).integers(-128, 128, (tokens, 24))
    found = invoke(delegated(contents, verbose=1), x.astype(np.int8))
    expected = invoke(stock(contents), x.astype(np.int8))
    taken = 2 if zeros > 0.5 else 0
    assert f"runs {taken} of 2 nodes" in capfd.readouterr().err
    for output, array in zip(found, expected, strict=True):
        np.testing.assert_array_equal(output, array)


def test_models_of_others_are_left_alone(capfd):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.normal(size=(3, 3, 2, 4)), tf.float32)
    last = tf.constant(rng.normal(size=(4, 5)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 2))])
    def forward(x):
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return {"y": tf.nn.softmax(tf.reduce_mean(x, (1, 2)) @ last)}

    contents = tf.lite.TFLiteConverter.from_concrete_functions(
        [forward.get_concrete_function()]
    ).convert()
    x = rng.normal(size=(1, 6, 6, 2)).astype(np.float32)
    (found,) = invoke(delegated(contents, verbose=1), x)
    (expected,) = invoke(stock(contents), x)
    assert "runs 0 of" in capfd.readouterr().err
    np.testing.assert_array_equal(found, expected)


def test_dense_encoders_are_left_alone(capfd):
    contents = sparse("span")
    interpreter = delegated(contents, verbose=1, min_sparsity=0.99)
    assert "runs 0 of" in capfd.readouterr().err
    values = inputs(interpreter, "serving_default", 2)
    expected = run(stock(contents), "serving_default", values)
    found = run(interpreter, "serving_default", values)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_dry_run_takes_nothing(capfd):
    contents = sparse("span")
    interpreter = delegated(contents, dry_run=1)
    assert "(dry run: none)" in capfd.readouterr().err
    values = inputs(interpreter, "serving_default", 2)
    expected = run(stock(contents), "serving_default", values)
    found = run(interpreter, "serving_default", values)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("bad", [-1, 18, 2**31 - 1])
def test_ids_out_of_range_are_an_error(bad):
    contents = sparse("classifier")
    interpreter = delegated(contents)
    values = inputs(interpreter, "seq_8", 2)
    wrong = dict(values, token_ids=values["token_ids"].copy())
    wrong["token_ids"][1, 3] = 10**6 if bad == 18 else bad
    with pytest.raises(RuntimeError, match="id is out of range"):
        run(interpreter, "seq_8", wrong)
    assert_follows(contents, interpreter, 2)


@pytest.mark.parametrize(
    "option, sentence",
    [
        ({"speed": 1}, 'no option "speed"'),
        ({"threads": 0}, 'threads must be 1 to 256, not "0"'),
        ({"isa": "mmx"}, 'not "mmx"'),
        ({"verbose": "yes"}, "verbose must be 0 or 1"),
        ({"tokens": "1e3"}, "tokens must be 1 to 1048576"),
        ({"min_sparsity": "nan"}, "min_sparsity must be 0 to 1"),
    ],
)
def test_unknown_options_are_refused_in_a_sentence(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        delegated(sparse("span"), **option)


def test_interpreters_and_signatures_share_weights(capfd):
    contents = sparse("classifier")
    kept = []
    for used, shared in (("seq_8", False), ("seq_12", True), ("seq_12", True)):
        interpreter = delegated(contents, verbose=1)
        run(interpreter, used, inputs(interpreter, used, 1))
        kept.append(interpreter)
        said = capfd.readouterr().err
        lines = [x for x in said.splitlines() if "cheapest kernel" in x]
        assert len(lines) == 2 * 6 + 2
        assert all(x.endswith(", shared") == shared for x in lines)
    del kept, interpreter
    interpreter = delegated(contents, verbose=1)
    run(interpreter, "seq_8", inputs(interpreter, "seq_8", 1))
    assert ", shared" not in capfd.readouterr().err


def test_threads_may_run_interpreters_at_once():
    contents = sparse("classifier")
    delegate = litert.load_delegate(built.library(), {"threads": "2"})
    interpreter = delegated(contents)
    values = [inputs(interpreter, "seq_12", 3, seed) for seed in range(4)]
    expected = [run(interpreter, "seq_12", x)["logits"] for x in values]
    found = [None] * 4

    def work(i):
        mine = litert.Interpreter(
            model_content=contents, experimental_delegates=[delegate]
        )
        found[i] = [run(mine, "seq_12", values[i])["logits"] for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, array in zip(found, expected):
        assert len(outputs) == 20
        for output in outputs:
            np.testing.assert_array_equal(output, array)


def rewritten(contents, seed):
    """Operands the other way round and operators in another order."""
    model = flatbuffer.read(contents)
    rng = np.random.default_rng(seed)
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code in (CODES.ADD, CODES.MUL, CODES.SQUARED_DIFFERENCE):
                operator.inputs = list(operator.inputs)[:: rng.choice([1, -1])]
        made = {t for x in graph.operators for t in x.outputs}
        left, order = list(graph.operators), []
        while left:
            ready = [x for x in left if not made & set(x.inputs)]
            chosen = ready[rng.integers(len(ready))]
            left.remove(chosen)
            order.append(chosen)
            made -= set(chosen.outputs)
        graph.operators = order
    return flatbuffer.write(model)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_operators_and_operands_is_free(seed, capfd):
    contents = sparse("encoder")
    capfd.readouterr()
    delegated(contents, verbose=1)
    said = capfd.readouterr().err
    changed = rewritten(contents, seed)
    interpreter = delegated(changed, verbose=1)
    again = capfd.readouterr().err
    assert again.count("tf_pof: runs") == said.count("tf_pof: runs")
    assert_follows(contents, interpreter, 2)


@pytest.mark.parametrize("kind, count", [("span", 20), ("encoder", 30)])
def test_corrupt_files_do_not_crash(kind, count, tmp_path):
    path = tmp_path / "model.tflite"
    contents = sparse(kind)
    path.write_bytes(pack(contents) if kind == "encoder" else contents)
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.mutants"]
        + [path, built.library(), str(count), "0"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "crash" not in done.stdout
    assert "were refused" in done.stdout
