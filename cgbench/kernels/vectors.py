"""Vectors of the processor as instructions, for the loops that a compiler does not get right.

What is emitted here fits the processor it is compiled for: the length of its vectors, how many of
them its registers hold, and whether it has a fused multiply-add. numba keeps machine code on disk
by the processor's name and features, so that none of it is used on another one.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

INDEX: Final = ir.IntType(64)


class Host(NamedTuple):
    """What a processor offers.

    Attributes:
        n_bytes: Length of a vector.
        n_registers: Vectors that the registers hold.
        fused: Whether a × b + c is one instruction, rounded once.
    """

    n_bytes: int
    n_registers: int
    fused: bool


def host() -> Host:
    """Return what the processor offers that numba compiles for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return host_of(triple, features)


def host_of(triple: str, features: str) -> Host:
    """Return what a processor offers, from LLVM's names of its kind and features."""
    found = set(features.split(","))
    if triple.startswith(("aarch64", "arm64")):
        return Host(16, 32, fused=True)
    fused = "+fma" in found
    if fused and "+avx512f" in found:
        return Host(64, 32, fused)
    return Host(32 if "+avx2" in found else 16, 16, fused)


def lanes_of(n_bytes_of_number: int) -> int:
    """Return how many numbers of so many bytes are in a vector."""
    return host().n_bytes // n_bytes_of_number


def emitted(typed: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that compiled ones call, and whose code is emitted where they do.

    Args:
        typed: Gets numba's context and the types of the arguments, constants as literal types;
            returns the signature and what emits the code.
    """
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(typed)
    return made


class Array(NamedTuple):
    """A contiguous array within instructions: where it starts and its shape."""

    data: Any
    shape: list[Any]


def array_of(context: Any, builder: Any, kind: Any, value: Any) -> Array:
    """Return an argument of an intrinsic as an :class:`Array`."""
    made = context.make_array(kind)(context, builder, value)
    return Array(made.data, cgutils.unpack_tuple(builder, made.shape))


class Vectors:
    """Instructions on vectors of one precision.

    Products and sums carry no permission to be reordered: what is emitted is what is computed.

    Args:
        builder: Where instructions go.
        dtype: numba's type of the numbers.
    """

    def __init__(self, builder: Any, dtype: Any) -> None:
        self.builder = builder
        double = dtype == types.float64
        self.number = ir.DoubleType() if double else ir.FloatType()
        self.size = 8 if double else 4
        self._host = host()
        self.lanes = self._host.n_bytes // self.size
        self.type = ir.VectorType(self.number, self.lanes)

    @cached_property
    def zero(self) -> Any:
        """A vector of zeros."""
        return ir.Constant(self.type, None)

    def index(self, value: int) -> Any:
        """Return a constant index."""
        return ir.Constant(INDEX, value)

    def at(self, start: Any, index: Any) -> Any:
        """Return a pointer to a number so many places on."""
        return self.builder.gep(start, [index])

    def load(self, pointer: Any, *, aligned: bool = False) -> Any:
        """Return the vector that starts at a number."""
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        return self.builder.load(place, align=self.size * (self.lanes if aligned else 1))

    def store(self, vector: Any, pointer: Any) -> None:
        """Write a vector from a number on."""
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        self.builder.store(vector, place, align=self.size)

    def splat(self, number: Any) -> Any:
        """Return a vector of one number."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, mask)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a × b + c, rounded once where the processor does that in one instruction."""
        if not self._host.fused:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.type, [self.type] * 3),
            f"llvm.fma.v{self.lanes}f{8 * self.size}",
        )
        return self.builder.call(function, [a, b, c])
