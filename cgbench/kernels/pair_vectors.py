"""The loops over pairs that take most of a simulation's time beside its products, vector by vector.

They are ``send_messages`` and ``pull_back`` of ``cgbench.kernels.pairs`` with what belongs to the
first bead of a pair held in registers through its pairs. Rows are whole vectors, filled up with
zeros. Nothing is summed across lanes before the very end, and every element is computed alike
wherever it is.
"""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types

from cgbench.kernels.compiled import compiled_as_written
from cgbench.kernels.vectors import INDEX, Vectors, array_of, emitted, host

_INTEGER: Final = ir.IntType(32)

#: Emits what is done with a pair, given its index and that of its second bead.
_EmitPair = Callable[[Any, Any], None]

#: Vectors of a row that are worked on at once, forward and back.
_FORWARD: Final = 8 if host().n_registers >= 32 else 2
_BACK: Final = 4 if host().n_registers >= 32 else 1


class _Loop:
    """A loop over the pairs of each bead within an emitted function, for some vectors of the rows.

    Args:
        module: Where the function goes.
        name: Its name.
        dtype: numba's type of the numbers.
        n_vectors: How many vectors of a row.
        n_arrays: Arrays of rows that the function gets after start, second, place, weights and the
            table, by their first element.
    """

    def __init__(self, module: Any, name: str, dtype: Any, n_vectors: int, n_arrays: int) -> None:
        self.builder = ir.IRBuilder()
        self.vectors = Vectors(self.builder, dtype)
        self.n_vectors = n_vectors
        numbers, integers = self.vectors.number.as_pointer(), _INTEGER.as_pointer()
        kinds = [integers] * 3 + [numbers] * (2 + n_arrays) + [INDEX] * 3
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        for argument in self.function.args[:-3]:
            argument.add_attribute("noalias")
        self.start, self.second, self.place, self.weights, self.table = self.function.args[:5]
        self.arrays = self.function.args[5:-3]
        self.n_rows, self.width, self.offset = self.function.args[-3:]
        self.builder.position_at_end(self.function.append_basic_block("entry"))

    def integer(self, array: Any, index: Any) -> Any:
        """Return an element of an array of integers as an index."""
        return self.builder.sext(self.builder.load(self.vectors.at(array, index)), INDEX)

    def row(self, array: Any, index: Any) -> list[Any]:
        """Return pointers to the vectors of a row."""
        vectors = self.vectors
        begin = vectors.at(
            array, self.builder.add(self.builder.mul(index, self.width), self.offset)
        )
        return [vectors.at(begin, vectors.index(k * vectors.lanes)) for k in range(self.n_vectors)]

    def loaded(self, array: Any, index: Any) -> list[Any]:
        """Return the vectors of a row."""
        return [self.vectors.load(pointer) for pointer in self.row(array, index)]

    def kept(self, values: list[Any]) -> list[Any]:
        """Return places, which will be registers, that hold values."""
        places = [cgutils.alloca_once(self.builder, self.vectors.type) for _ in values]
        for place, value in zip(places, values, strict=True):
            self.builder.store(value, place)
        return places

    def combined(self, factors: list[Any], rows: list[list[Any]], k: int) -> Any:
        """Return the sum of one vector of rows times factors."""
        total = self.builder.fmul(factors[0], rows[0][k])
        for factor, row in zip(factors[1:], rows[1:], strict=True):
            total = self.vectors.multiply_add(factor, row[k], total)
        return total

    def factors(self, pair: Any, first: int) -> list[Any]:
        """Return four weights of a pair as vectors."""
        vectors, builder = self.vectors, self.builder
        begin = builder.mul(pair, vectors.index(8))
        return [
            vectors.splat(
                builder.load(vectors.at(self.weights, builder.add(begin, vectors.index(first + k))))
            )
            for k in range(4)
        ]

    def table_rows(self, pair: Any) -> list[list[Any]]:
        """Return the four rows of the table of a pair."""
        first = self.integer(self.place, pair)
        return [
            self.loaded(self.table, self.builder.add(first, self.vectors.index(k)))
            for k in range(4)
        ]

    def each_pair(self, bead: Callable[[Any], tuple[_EmitPair, list[Any]]]) -> None:
        """Emit the loops.

        Args:
            bead: Gets the index of a first bead; returns what emits one of its pairs, given the
                pair's and the other bead's index, and what to do after the last: places of vectors
                and pointers to write them to.
        """
        builder, one = self.builder, self.vectors.index(1)
        with cgutils.for_range(builder, self.n_rows) as rows:
            begin = self.integer(self.start, rows.index)
            end = self.integer(self.start, builder.add(rows.index, one))
            with builder.if_then(builder.icmp_signed("<", begin, end)):
                pair, sums = bead(rows.index)
                with cgutils.for_range_slice(builder, begin, end, one) as (index, _):
                    pair(index, self.integer(self.second, index))
                for place, target in sums:
                    self.vectors.store(builder.load(place), target)
        builder.ret_void()


def _send_function(module: Any, dtype: Any, n_vectors: int) -> Any:
    name = f"cgbench.send.{dtype}.{n_vectors}"
    if name in module.globals:
        return module.globals[name]
    loop = _Loop(module, name, dtype, n_vectors, 2)
    sent, received = loop.arrays
    vectors, builder = loop.vectors, loop.builder

    def bead(i: Any) -> tuple[_EmitPair, list[Any]]:
        mine, sums = loop.loaded(sent, i), loop.kept(loop.loaded(received, i))

        def pair(p: Any, j: Any) -> None:
            factors, rows = loop.factors(p, 0), loop.table_rows(p)
            other, targets = loop.loaded(sent, j), loop.row(received, j)
            for k in range(n_vectors):
                value = loop.combined(factors, rows, k)
                ours = vectors.multiply_add(value, other[k], builder.load(sums[k]))
                builder.store(ours, sums[k])
                theirs = vectors.multiply_add(value, mine[k], vectors.load(targets[k]))
                vectors.store(theirs, targets[k])

        return pair, list(zip(sums, loop.row(received, i), strict=True))

    loop.each_pair(bead)
    return loop.function


def _pull_function(module: Any, dtype: Any, n_vectors: int, senders: bool) -> Any:
    name = f"cgbench.pull.{dtype}.{n_vectors}.{senders}"
    if name in module.globals:
        return module.globals[name]
    loop = _Loop(module, name, dtype, n_vectors, 4)
    sent, gradient, slopes, pulled = loop.arrays
    vectors, builder = loop.vectors, loop.builder

    def bead(i: Any) -> tuple[_EmitPair, list[Any]]:
        mine, pull_mine = loop.loaded(sent, i), loop.loaded(gradient, i)
        sums = loop.kept(loop.loaded(pulled, i)) if senders else []

        def pair(p: Any, j: Any) -> None:
            steep, rows = loop.factors(p, 4), loop.table_rows(p)
            factors = loop.factors(p, 0) if senders else []
            other, pull_other = loop.loaded(sent, j), loop.loaded(gradient, j)
            targets = loop.row(pulled, j) if senders else []
            place = vectors.at(slopes, builder.mul(p, vectors.index(vectors.lanes)))
            slope = vectors.load(place)
            for k in range(n_vectors):
                change = loop.combined(steep, rows, k)
                both = builder.fmul(pull_other[k], mine[k])
                both = vectors.multiply_add(pull_mine[k], other[k], both)
                slope = vectors.multiply_add(change, both, slope)
                if senders:
                    value = loop.combined(factors, rows, k)
                    ours = vectors.multiply_add(value, pull_other[k], builder.load(sums[k]))
                    builder.store(ours, sums[k])
                    theirs = vectors.multiply_add(value, pull_mine[k], vectors.load(targets[k]))
                    vectors.store(theirs, targets[k])
            vectors.store(slope, place)

        return pair, list(zip(sums, loop.row(pulled, i), strict=True)) if senders else []

    loop.each_pair(bead)
    return loop.function


def _emitter(make: Callable[[Any, Any], Any], n_constants: int) -> Callable[..., Any]:
    """Return what emits the call of a loop; arguments are constants, arrays and the offset."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds, values = signature.args[n_constants:-1], arguments[n_constants:-1]
        arrays = [
            array_of(context, builder, kind, value)
            for kind, value in zip(kinds, values, strict=True)
        ]
        rows = arrays[5]
        builder.call(
            make(builder.module, kinds[5].dtype),
            [*(array.data for array in arrays), *rows.shape, arguments[-1]],
        )
        return context.get_dummy_value()

    return emit


@emitted
def _send(
    context: Any, n: Any, start: Any, second: Any, place: Any, weights: Any, table: Any,
    sent: Any, received: Any, offset: Any,
) -> Any:  # fmt: skip
    n_vectors = n.literal_value
    arrays = (start, second, place, weights, table, sent, received)
    emit = _emitter(lambda module, dtype: _send_function(module, dtype, n_vectors), 1)
    return types.void(types.literal(n_vectors), *arrays, types.intp), emit


@emitted
def _pull(
    context: Any, n: Any, senders: Any, start: Any, second: Any, place: Any, weights: Any,
    table: Any, sent: Any, gradient: Any, slopes: Any, pulled: Any, offset: Any,
) -> Any:  # fmt: skip
    n_vectors, wanted = n.literal_value, senders.literal_value
    constants = (types.literal(n_vectors), types.literal(wanted))
    arrays = (start, second, place, weights, table, sent, gradient, slopes, pulled)
    emit = _emitter(lambda module, dtype: _pull_function(module, dtype, n_vectors, wanted), 2)
    return types.void(*constants, *arrays, types.intp), emit


@compiled_as_written
def send_vectors(
    start: Any, second: Any, place: Any, weights: Any, table: Any, sent: Any, received: Any,
    lanes: int,
) -> None:  # fmt: skip
    """Sum filtered messages: received_i = Σ_j W(r_ij) ∘ sent_j, each pair once for both beads.

    Args:
        start: (n_beads + 1,) int32, like the next of :func:`cgbench.kernels.pairs.find_pairs`.
        second: (n_pairs,) int32.
        place: (n_pairs,) int32 rows of the table.
        weights: (n_pairs, 8).
        table: (n_rows, width) spline coefficients of the filters, in whole vectors.
        sent: (n_beads, width).
        received: (n_beads, width); filled.
        lanes: Numbers in a vector.
    """
    for i in range(received.shape[0]):
        for k in range(received.shape[1]):
            received[i, k] = 0
    width, offset = received.shape[1], 0
    while width - offset >= _FORWARD * lanes:
        _send(_FORWARD, start, second, place, weights, table, sent, received, offset)
        offset += _FORWARD * lanes
    while offset < width:
        _send(1, start, second, place, weights, table, sent, received, offset)
        offset += lanes


@compiled_as_written
def pull_vectors(
    start: Any, second: Any, place: Any, weights: Any, table: Any, sent: Any, gradient: Any,
    slopes: Any, pulled: Any, lanes: int,
) -> None:  # fmt: skip
    """Add the slope of the energy by each pair's distance, and take the gradient to what was sent.

    Args:
        start: As for :func:`send_vectors`, like all up to ``sent``.
        second: As said.
        place: As said.
        weights: As said.
        table: As said.
        sent: As said.
        gradient: (n_beads, width) of the energy by what was received.
        slopes: (n_pairs, lanes) whose sums are dE/dr; added to.
        pulled: (n_beads, width) gradient of the energy by ``sent``; filled.
        lanes: Numbers in a vector.
    """
    for i in range(pulled.shape[0]):
        for k in range(pulled.shape[1]):
            pulled[i, k] = 0
    width, offset = pulled.shape[1], 0
    while width - offset >= _BACK * lanes:
        _pull(
            _BACK, True, start, second, place, weights, table, sent, gradient, slopes, pulled,
            offset,
        )  # fmt: skip
        offset += _BACK * lanes
    while offset < width:
        _pull(1, True, start, second, place, weights, table, sent, gradient, slopes, pulled, offset)
        offset += lanes


@compiled_as_written
def slopes_of_vectors(
    start: Any, second: Any, place: Any, weights: Any, table: Any, sent: Any, gradient: Any,
    slopes: Any, lanes: int,
) -> None:  # fmt: skip
    """Add the slopes alone, for the layer whose senders depend on nothing; see `pull_vectors`."""
    width, offset = gradient.shape[1], 0
    while width - offset >= _BACK * lanes:
        _pull(
            _BACK, False, start, second, place, weights, table, sent, gradient, slopes, slopes,
            offset,
        )  # fmt: skip
        offset += _BACK * lanes
    while offset < width:
        _pull(
            1, False, start, second, place, weights, table, sent, gradient, slopes, slopes, offset
        )
        offset += lanes


@emitted
def _sum_of_lanes(context: Any, values: Any, row: Any) -> Any:
    """Return the sum of one row (of one vector) of values, half onto half."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors = Vectors(builder, signature.args[0].dtype)
        data = array_of(context, builder, signature.args[0], arguments[0]).data
        found = vectors.load(
            vectors.at(data, builder.mul(arguments[1], vectors.index(vectors.lanes)))
        )
        n = vectors.lanes
        while n > 1:
            n //= 2
            halves = [
                builder.shuffle_vector(
                    found,
                    ir.Constant(found.type, ir.Undefined),
                    ir.Constant(ir.VectorType(_INTEGER, n), list(range(first, first + n))),
                )
                for first in (0, n)
            ]
            found = builder.fadd(*halves)
        return builder.extract_element(found, ir.Constant(_INTEGER, 0))

    return values.dtype(values, types.intp), emit


@compiled_as_written
def summed_slopes(slopes: Any, n_pairs: int, sums: Any) -> None:
    """Fill sums (n_pairs,) with the sums of the lanes of slopes (n_pairs, lanes)."""
    for p in range(n_pairs):
        sums[p] = _sum_of_lanes(slopes, p)
