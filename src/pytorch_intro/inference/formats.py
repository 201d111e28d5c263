"""File formats of exported models: how each is written, and how it is loaded to compare it with PyTorch."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pytorch_intro.common.errors import UserError, check_installed
from pytorch_intro.inference.load import Predictor
from pytorch_intro.training.weights import library_state

OPSET = 21  # newest opset whose 8-bit operators ONNX Runtime 1.23 has, the last one for Python 3.10
CALIBRATION_BATCH = 16
# Operations that run on 8-bit integers. Not softmax, whose probabilities would be multiples of 1/256.
QUANTIZED = ["Conv", "MatMul", "Gemm", "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool",
             "ReduceMax", "Concat", "Reshape", "Transpose"]  # fmt: skip

Function = Callable[[Tensor], Tensor]


class Format(NamedTuple):
    """A file format.

    Attributes:
        files: Names of its files; the first is the one to open.
        load: Returns a function that maps images, uint8 (N, C, H, W), to probabilities, from a file and the predictor.
        is_exact: Whether its probabilities have to be PyTorch's; other formats may lose accuracy.
        packages: Packages that it needs.
        extra: Optional dependencies of this project that contain them.
    """

    files: tuple[str, ...]
    load: Callable[[Path, Predictor], Function]
    is_exact: bool
    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
    extra: str = "export"


def load_onnx(file: Path, predictor: Predictor) -> Function:
    """Load a model in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


def load_pt2(file: Path, predictor: Predictor) -> Function:
    return torch.export.load(file).module()


def load_openvino(file: Path, predictor: Predictor) -> Function:
    """Load a model in OpenVINO on the CPU, which may compute in bfloat16 or float16, as it does by default."""
    import openvino

    model = openvino.Core().compile_model(file, "CPU")
    return lambda images: torch.from_numpy(model({"images": images.numpy()})["probabilities"])


def load_safetensors(file: Path, predictor: Predictor) -> Function:
    """Load the weights into a copy of the predictor that has none."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    loaded = copy.deepcopy(predictor)
    network = loaded.network.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)
    names = zip(network.state_dict(), library_state(network), strict=True)
    network.load_state_dict({name: tensors[library_name] for name, library_name in names})
    return loaded


FORMATS = {
    "onnx": Format(("model.onnx",), load_onnx, is_exact=True),
    "pt2": Format(("model.pt2",), load_pt2, is_exact=True, packages=()),
    "onnx_int8": Format(("model_int8.onnx",), load_onnx, is_exact=False),
    "openvino": Format(
        ("model.xml", "model.bin"), load_openvino, is_exact=False,
        packages=("onnx", "onnxscript", "openvino"), extra="openvino",
    ),
    "safetensors": Format(
        ("model.safetensors",), load_safetensors, is_exact=True, packages=("safetensors",)
    ),
}  # fmt: skip


def check_formats(names: Sequence[str]) -> list[str]:
    """Return the names of formats without repetitions; raise a UserError if one is unknown or needs a package."""
    formats = list(dict.fromkeys(names))
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"formats={name}: no such format; choose from {', '.join(FORMATS)}")
    if not formats:
        raise UserError(f"formats=[]: no format to write; choose from {', '.join(FORMATS)}")
    for name in formats:
        check_installed(f"formats={name}", FORMATS[name].packages, FORMATS[name].extra)
    return formats


def write_formats(
    formats: Sequence[str], predictor: Predictor, folder: Path, calibration: Tensor | None, description: dict[str, Any]
) -> None:
    """Write the model in each format; raise a UserError if the network cannot be exported.

    Args:
        calibration: Images that set the ranges of 8-bit integers, uint8 (N, C, H, W); only needed for onnx_int8.
        description: What a program needs to use the weights, stored in the safetensors file.
    """
    files = {name: folder / FORMATS[name].files[0] for name in FORMATS}
    if {*formats} - {"safetensors"}:
        with exporting(predictor):
            program = export_program(predictor)
            if "pt2" in formats:
                save_program(program, files["pt2"])
            if {*formats} & {"onnx", "onnx_int8", "openvino"}:
                write_onnx(program, files["onnx"])
            if "onnx_int8" in formats:
                assert calibration is not None
                quantize(files["onnx"], files["onnx_int8"], calibration)
            if "openvino" in formats:
                convert_to_openvino(files["onnx"], files["openvino"])
    if "onnx" not in formats:
        files["onnx"].unlink(missing_ok=True)
    if "safetensors" in formats:
        save_weights(predictor.network.network, files["safetensors"], {"description": json.dumps(description)})


@contextmanager
def exporting(predictor: Predictor) -> Iterator[None]:
    """Silence the exporters, which log their steps; raise a UserError with the reason if the network is unsuitable."""
    logging_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        cause: BaseException = error
        while cause.__cause__:  # the exporter's own message only describes its steps
            cause = cause.__cause__
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        network = type(predictor.network.network).__name__
        raise UserError(
            f"model: {network} cannot be exported ({reason}); avoid data-dependent control flow, "
            "use a newer torch, or write the weights alone with formats=[safetensors]"
        ) from error
    finally:
        logging.disable(logging_level)


def export_program(predictor: Predictor) -> torch.export.ExportedProgram:
    """Trace the predictor for any number of images."""
    decoder = predictor.decoder
    images = torch.zeros(2, decoder.channels, *decoder.size, dtype=torch.uint8)  # with N=1, N would become a constant
    return torch.export.export(predictor, (images,), dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}})


def save_program(program: torch.export.ExportedProgram, file: Path) -> None:
    """Save a program as .pt2."""
    content = io.BytesIO()  # torch's own files end the process if the disk is full
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def write_onnx(program: torch.export.ExportedProgram, file: Path) -> None:
    program = program.run_decompositions({torch.ops.aten.adaptive_max_pool2d.default: adaptive_max_pool2d})
    onnx = torch.onnx.export(
        program, input_names=["images"], output_names=["probabilities"], opset_version=OPSET, verbose=False
    )
    assert onnx is not None
    onnx.save(file)


def adaptive_max_pool2d(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window of (…, H, W), and no indices; ONNX has the operator for some sizes only.

    The windows are those of PyTorch, which overlap if their number does not divide the side.
    """
    for dim, count in zip((-2, -1), size, strict=True):
        side = x.shape[dim]
        windows = [(number * side // count, -(-(number + 1) * side // count)) for number in range(count)]
        x = torch.stack([x.narrow(dim, start, end - start).amax(dim) for start, end in windows], dim)
    return x, torch.zeros_like(x, dtype=torch.int64)


def quantize(source: Path, file: Path, calibration: Tensor) -> None:
    """Convert an ONNX model to 8-bit integers (QDQ format): weights per channel, activations by their range.

    Args:
        calibration: Images that the ranges are measured on, uint8 (N, C, H, W).
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration.split(CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    prepared = file.with_suffix(".prepared")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)  # merges batch norms into convolutions
    quantize_static(
        prepared,
        file,
        Reader(),
        op_types_to_quantize=QUANTIZED,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,  # weights of 7 bits: without VNNI, a CPU adds two products in 16 bits, which overflow
    )
    prepared.unlink()


def convert_to_openvino(source: Path, file: Path) -> None:
    """Convert an ONNX model to OpenVINO's format, with weights in float16 (its default)."""
    import openvino

    model = openvino.Core().read_model(source)  # not openvino.convert_model, which reports its use to a server
    try:
        openvino.save_model(model, file)
    except RuntimeError:  # a C++ stream does not say why it failed: Python does, if the disk is full
        with file.with_suffix(".bin").open("ab") as weights:
            weights.write(bytes(2**20))
        raise


def save_weights(network: torch.nn.Module, file: Path, metadata: dict[str, str]) -> None:
    """Save a network's tensors as safetensors, with the names of its library."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory, and those that are not contiguous.
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in library_state(network).items()
    }
    file.write_bytes(save(tensors, {"format": "pt", **metadata}))  # its own files ignore the umask
