"""Which hidden units of a network must move together: one pass that carries names of units beside the values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from mcr.errors import InputError
from mcr.weightspace.functions import Functions, fixed

# Functions, methods and properties share these words: their names in lower case, without underscores.
WORDS = {
    "elementwise": "relu relu6 leakyrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid "
    "logsigmoid tanh softplus softsign tanhshrink hardshrink softshrink threshold dropout dropout1d dropout2d "
    "dropout3d alphadropout featurealphadropout add iadd radd sub isub rsub mul imul rmul div idiv rdiv truedivide "
    "truediv itruediv rtruediv neg pow ipow rpow square sqrt rsqrt abs exp log log1p expm1 sin cos erf clamp clip "
    "clampmin clampmax maximum minimum fmax fmin where lerp addcmul addcdiv maskedfill nantonum reciprocal sign floor "
    "ceil round eq ne lt le gt ge logicalnot logicaland logicalor to type typeas float double half bfloat16 contiguous "
    "clone detach data",
    "spatial": "maxpool1d maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d lppool1d lppool2d adaptivemaxpool1d "
    "adaptivemaxpool2d adaptivemaxpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d upsample interpolate",
    "moving": "flatten unflatten reshape view viewas reshapeas permute transpose movedim moveaxis swapaxes swapdims "
    "unsqueeze squeeze expand expandas broadcastto repeat tile cat concat concatenate stack chunk split splitwithsizes "
    "tensorsplit unbind getitem narrow select indexselect flip roll rot90 t mt nativechannelshuffle channelshuffle "
    "repeatinterleave",
    "reducing": "mean sum amax amin std var logsumexp",
    "normalised": "softmax logsoftmax softmin",
    "normalize": "normalize",
    "constant": "zero fill zeroslike oneslike fulllike emptylike randlike randnlike newzeros newones newfull newempty "
    "newtensor",
    "looking": "bool item tolist float int index numpy array equal allclose isnonzero",
    "linear": "linear",
    "matmul": "matmul mm bmm",
    "convolution": "conv1d conv2d conv3d",
    "batchnorm": "batchnorm instancenorm",
    "groupnorm": "groupnorm",
    "layernorm": "layernorm rmsnorm",
    "prelu": "prelu",
    "pad": "pad",
    "attention": "multiheadattentionforward",
    "assignment": "setitem",
}
ON_NAMES = ("moving", "elementwise")  # their rules are given the function too
KINDS = {word: kind for kind, words in WORDS.items() for word in words.split()}


def refusal(reason: str) -> InputError:
    """The error for a network whose units cannot change places."""
    line = reason.splitlines()[0]
    return InputError(f"the hidden units of this network cannot change places: {line}")


class Symmetry(TorchFunctionMode):
    """Finds where in the state dict of a network the entries of each hidden unit lie.

    Beside each value goes an integer tensor of its shape: the unit that the entry moves with. A layer with weights
    opens new units; reshaping acts on the names as on the values; to add two values, or to use one at several pixels
    or tokens, links their units. Ainsworth et al. (2023, "Git Re-Basin") write such specifications by hand.

    The network runs as it is, and every function of torch that it calls is looked at. What goes into a function of no
    known kind, such as the product of two activations, stays in place: then what comes out does so too.

    Attributes:
        known: The units of each value, and where those of the state dict lie.
        held: Names of the functions for which units stay in place.
        calls: How many functions were called.
        made: What they gave, in this order: the number of the call, that among the tensors it gave, and the units.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.known = network, Functions(network)
        self.held: dict[str, None] = {}
        self.calls = 0
        self.made: list[tuple[int, int, Tensor]] = []
        self.seen = WeakTensorKeyDictionary()  # what is computed from images

    def run(self, images: Tensor) -> None:
        """Follow a forward pass.

        Raises:
            InputError: Where it looks at values, so that other images may go another way.
        """
        self.seen[images] = True
        self.known.found[images] = fixed(images)
        with self:
            logits = self.network(images)
        if not isinstance(logits, Tensor) or logits not in self.seen:
            raise refusal("its logits are computed by functions that torch does not see")
        self.known.units.fix(self.known.of(logits))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.calls += 1
        value = func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor in self.known.found or self.known.own(tensor) for tensor in given):
            return value  # sizes, constants, and whatever is computed from these alone
        name = (func.__self__ if func.__name__ == "__get__" else func).__name__.lower().replace("_", "")
        kind = KINDS.get(name, "")
        made = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        if not made and kind not in ("looking", "assignment"):
            return value
        seen = any(tensor in self.seen for tensor in given)
        if kind == "looking" and not made and seen:
            raise refusal(f"its forward pass looks at a value ({name}): other images may go another way")
        units = fixed(value) if kind == "constant" else self._units(kind, func, args, kwargs, value)
        leaves = [leaf for leaf in tree_leaves(units) if isinstance(leaf, Tensor)]
        if units is None or [leaf.shape for leaf in leaves] != [leaf.shape for leaf in made]:
            if any(self.known.own(tensor) or bool(self.known.of(tensor).any()) for tensor in given):
                self.held[name] = None
            for tensor in given:
                self.known.hold(tensor)
            leaves = [fixed(leaf) for leaf in made]
        for number, (tensor, one) in enumerate(zip(made, leaves, strict=True)):
            if not self.known.own(tensor):  # a method in place may give back a buffer
                self.known.found[tensor] = one
                if seen:
                    self.seen[tensor] = True
                    self.made.append((self.calls, number, one))
        return value

    def _units(self, kind: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> Any:
        """The units of the value of a function of a known kind; None where it is of none, or used in another way."""
        rule = getattr(self.known, kind, None) if kind else None
        if rule is None:
            return None
        try:
            return rule(func, value, *args, **kwargs) if kind in ON_NAMES else rule(value, *args, **kwargs)
        except (TypeError, RuntimeError, IndexError, ValueError, AttributeError):
            return None
