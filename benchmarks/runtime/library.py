"""The kernels' shared library through ctypes, for benchmarks."""

import ctypes
import pathlib
import subprocess

import numpy as np

SOURCES = pathlib.Path(__file__).parents[2] / "tf_pof/runtime/cc"
INT8, FLOAT32, INT32 = range(3)
ROWS, PANELS = range(2)
_POINTER = ctypes.c_void_p


class _Params(ctypes.Structure):
    _fields_ = [
        ("num_inputs", ctypes.c_int32),
        ("num_outputs", ctypes.c_int32),
        ("weights", _POINTER),
        ("read_rows", _POINTER),
        ("read_context", _POINTER),
        ("weight_scales", _POINTER),
        ("num_weight_scales", ctypes.c_int32),
        ("bias", _POINTER),
        ("input_scale", ctypes.c_float),
        ("input_zero_point", ctypes.c_int32),
        ("output_scale", ctypes.c_float),
        ("output_zero_point", ctypes.c_int32),
        ("output_type", ctypes.c_int),
        ("table", _POINTER),
        ("isa", ctypes.c_char_p),
    ]


def build(folder: str, compiler: str = "") -> pathlib.Path:
    """Builds libtf_pof_kernels.so under `folder`; returns its path."""
    compilers = [f"-DCMAKE_CXX_COMPILER={compiler}"] if compiler else []
    configure = ["cmake", "-S", SOURCES, "-B", folder, "-DTF_POF_TESTS=OFF"]
    for command in ([*configure, *compilers], ["cmake", "--build", folder]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / "libtf_pof_kernels.so"


class Library:
    """The functions of fully_connected.h."""

    def __init__(self, path: pathlib.Path):
        self.functions = ctypes.CDLL(str(path))
        for name in ("Create", "Run"):
            function = getattr(self.functions, f"TfPofFullyConnected{name}")
            function.restype = ctypes.c_int
        for name in ("Bytes", "Workspace"):
            function = getattr(self.functions, f"TfPofFullyConnected{name}")
            function.restype = ctypes.c_size_t
        for name in ("FullyConnectedKernel", "KernelName"):
            getattr(self.functions, f"TfPof{name}").restype = ctypes.c_char_p
        self.functions.TfPofThreadPoolCreate.restype = _POINTER
        self.functions.TfPofPanelBytes.restype = ctypes.c_size_t

    def kernels(self) -> list[str]:
        count = self.functions.TfPofKernelCount()
        return [
            self.functions.TfPofKernelName(i).decode() for i in range(count)
        ]

    def pool(self, num_threads: int):
        if num_threads == 1:
            return None
        return _POINTER(self.functions.TfPofThreadPoolCreate(num_threads))


class KernelLayer:
    """A packed layer with its buffers for one number of tokens."""

    def __init__(
        self,
        library: Library,
        weights: np.ndarray,
        bias: np.ndarray,
        scales: dict[str, tuple],
        num_tokens: int,
        kernel: str | None = None,
        pool=None,
        num_threads: int = 1,
        layouts: tuple[int, int] = (ROWS, ROWS),
    ):
        self._functions = library.functions
        outputs, inputs = weights.shape
        (channels,) = scales["weights"]
        params = _Params(
            inputs,
            outputs,
            weights.ctypes.data,
            None,
            None,
            channels.ctypes.data,
            len(channels),
            bias.ctypes.data,
            *scales["input"],
            *scales["output"],
            INT8,
            None,
            None,
        )
        self._layer = _POINTER()
        status = self._functions.TfPofFullyConnectedCreate(
            ctypes.byref(params),
            kernel.encode() if kernel else None,
            num_tokens,
            pool,
            ctypes.byref(self._layer),
        )
        if status != 0:
            raise ValueError(f"TfPofFullyConnectedCreate returned {status}.")
        workspace = self._functions.TfPofFullyConnectedWorkspace(
            self._layer, num_threads
        )
        panels = -(-num_tokens // 64) * 64
        self._buffers = [
            _aligned(size)
            for size in (panels * inputs, panels * outputs, workspace)
        ]
        self._shapes = (num_tokens, inputs), (num_tokens, outputs)
        self._layouts = layouts
        input_data, output_data, workspace_data = (
            _POINTER(buffer.ctypes.data) for buffer in self._buffers
        )
        run, layer = self._functions.TfPofFullyConnectedRun, self._layer
        self._arguments = (
            layer,
            ctypes.c_int32(num_tokens),
            input_data,
            ctypes.c_int(layouts[0]),
            output_data,
            ctypes.c_int(layouts[1]),
            workspace_data,
            pool,
        )
        self.run = lambda: run(*self._arguments)

    @property
    def kernel(self) -> str:
        name = self._functions.TfPofFullyConnectedKernel(self._layer)
        return name.decode()

    @property
    def bytes(self) -> int:
        return self._functions.TfPofFullyConnectedBytes(self._layer)

    @property
    def call(self) -> tuple:
        """The C function of `run` and its arguments."""
        return self._functions.TfPofFullyConnectedRun, self._arguments

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """[tokens, inputs] int8 to [tokens, outputs] int8."""
        (_, num_inputs), shape = self._shapes
        rows = _POINTER(inputs.ctypes.data)
        count, channels = (ctypes.c_int32(size) for size in shape)
        if self._layouts[0] == PANELS:
            self._functions.TfPofToPanels(
                rows, count, ctypes.c_int32(num_inputs), self._arguments[2]
            )
        else:
            self._buffers[0][: inputs.size] = inputs.ravel()
        self.run()
        if self._layouts[1] == ROWS:
            return self._buffers[1][: shape[0] * shape[1]].reshape(shape)
        result = np.empty(shape, np.int8)
        self._functions.TfPofFromPanels(
            self._arguments[4], count, channels, _POINTER(result.ctypes.data)
        )
        return result

    def close(self):
        self._functions.TfPofFullyConnectedDelete(self._layer)


def _aligned(size: int) -> np.ndarray:
    """Zeros on a cache line."""
    raw = np.zeros(size + 64, np.int8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]
