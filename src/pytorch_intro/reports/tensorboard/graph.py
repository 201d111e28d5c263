"""A graph of a network for TensorBoard: torch functions, the modules that call them, and the shapes."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def network_graph(network: nn.Module, images: Tensor) -> GraphDef:
    """Return the graph of one forward pass, grouped by modules.

    SummaryWriter.add_graph uses torch.jit.trace, which is deprecated, takes about a second, and shows inner operators
    instead of functions.

    Args:
        network: Network in evaluation mode.
        images: (N, C, H, W) float.
    """
    tracer = GraphTracer(images)
    with torch.no_grad(), tracer.scopes_of(network), tracer:
        network.forward(images)  # network(images) would compile a network with compile=true
    return GraphDef(node=tracer.nodes, versions=VersionDef(producer=22))


class GraphTracer(TorchFunctionMode):
    """Adds a node for every call of a torch function that returns tensors.

    Args:
        images: Input of the network.

    Attributes:
        nodes: Nodes so far.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.scopes: list[str] = []
        self.counts: Counter[str] = Counter()
        # Node by the id of the tensor that it returned; the reference keeps the id from being reused.
        self.origins: dict[int, tuple[str, Tensor]] = {}
        self.nodes: list[NodeDef] = []
        self.add_node("images", "Placeholder", (), [images])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in iter_leaves(result) if isinstance(value, Tensor)]
        name = getattr(func, "__name__", "function")
        if tensors and name != "__get__":
            operation = name.strip("_")
            self.add_node("/".join([*self.scopes, operation]), operation, iter_leaves((args, kwargs)), tensors)
        return result

    def add_node(self, name: str, operation: str, arguments: Any, tensors: list[Tensor]) -> None:
        """Add a node, with an edge from each node that returned one of its arguments."""
        self.counts[name] += 1
        name = name if self.counts[name] == 1 else f"{name}_{self.counts[name]}"
        inputs = dict.fromkeys(self.origins[id(value)][0] for value in arguments if id(value) in self.origins)
        dimensions = [
            TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in tensor.shape]) for tensor in tensors
        ]
        shapes = AttrValue(list=AttrValue.ListValue(shape=dimensions))
        self.nodes.append(NodeDef(name=name, op=operation, input=inputs, attr={"_output_shapes": shapes}))
        self.origins |= {id(tensor): (name, tensor) for tensor in tensors}

    @contextmanager
    def scopes_of(self, network: nn.Module) -> Iterator[None]:
        """Track the module that is being called, as in Sequential[layers]/Conv2d[3]."""

        def enter(scope: str) -> Callable[..., None]:
            return lambda *_: self.scopes.append(scope)

        hooks = []
        for name, module in network.named_modules():
            if name:
                scope = f"{type(module).__name__}[{name.rpartition('.')[2]}]"
                hooks.append(module.register_forward_pre_hook(enter(scope)))
                hooks.append(module.register_forward_hook(lambda *_: self.scopes.pop() and None, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def iter_leaves(value: Any) -> Iterator[Any]:
    """Yield the values in nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from iter_leaves(item)
    else:
        yield value
