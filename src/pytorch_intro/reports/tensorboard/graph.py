"""A network as TensorBoard draws it: what is computed in which module, and the shapes on the way."""

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
    """What the network computes of some images, as a graph of torch's functions, grouped by modules.

    It watches one forward pass. torch's own SummaryWriter.add_graph compiles the network by torch.jit.trace, which is
    deprecated, takes about a second, and shows inner operators in the place of functions.

    Args:
        network: In evaluation mode.
        images: (N, C, H, W) float.
    """
    watch = Watch(images)
    with torch.no_grad(), watch.scopes_of(network), watch:
        network.forward(images)  # not by a call, which would compile a network that is to be compiled
    return GraphDef(node=watch.nodes, versions=VersionDef(producer=22))


class Watch(TorchFunctionMode):
    """Notes every function of torch that makes tensors.

    Args:
        images: What the network is given.

    Attributes:
        nodes: What has been noted.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.scopes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.made: dict[int, tuple[str, Tensor]] = {}  # by id, which is a tensor's own as long as it is held
        self.nodes: list[NodeDef] = []
        self.note("images", "Placeholder", (), [images])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in flat(result) if isinstance(value, Tensor)]
        name = getattr(func, "__name__", "function")
        if tensors and name != "__get__":
            self.note("/".join([*self.scopes, name.strip("_")]), name.strip("_"), flat((args, kwargs)), tensors)
        return result

    def note(self, name: str, operation: str, arguments: Any, tensors: list[Tensor]) -> None:
        """Add a node, with an edge from each node that made one of its arguments."""
        self.counts[name] += 1
        name = name if self.counts[name] == 1 else f"{name}_{self.counts[name]}"
        inputs = dict.fromkeys(self.made[id(value)][0] for value in arguments if id(value) in self.made)
        dimensions = [
            TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in tensor.shape]) for tensor in tensors
        ]
        shapes = AttrValue(list=AttrValue.ListValue(shape=dimensions))
        self.nodes.append(NodeDef(name=name, op=operation, input=inputs, attr={"_output_shapes": shapes}))
        self.made |= {id(tensor): (name, tensor) for tensor in tensors}

    @contextmanager
    def scopes_of(self, network: nn.Module) -> Iterator[None]:
        """Know meanwhile in which module a function is called: Sequential[layers]/Conv2d[3]."""

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


def flat(value: Any) -> Iterator[Any]:
    """The values in nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from flat(part)
    elif isinstance(value, dict):
        yield from flat(list(value.values()))
    else:
        yield value
