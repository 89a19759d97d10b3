"""Products of rows with a matrix that stays the same, in the widest vectors of the processor.

The matrix is packed once, into panels of a few vectors' width that fit the innermost cache. A tile
of the result, some rows of one panel, is kept in registers while the sum runs over the depth. What
goes into an element and in which order depends on nothing else: a row's result is bitwise the same
among however many rows and wherever it is among them.

G. Goto and R. A. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM
Transactions on Mathematical Software 34, 12 (2008).
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from cgbench.kernels.compiled import aligned, compiled_as_written
from cgbench.kernels.vectors import INDEX, Array, Vectors, array_of, emitted, host, lanes_of

#: Vectors across a panel.
_ACROSS: Final = 2


def tile_rows() -> int:
    """Return the rows of a tile: with enough of them the sums hide each other's latency."""
    return 8 if host().n_registers >= 32 else 6


def panel_width(dtype: Any) -> int:
    """Return the columns of a panel."""
    return _ACROSS * lanes_of(np.dtype(dtype).itemsize)


def packed(matrices: NDArray[Any]) -> NDArray[Any]:
    """Return matrices as panels of columns, filled up with zeros.

    Args:
        matrices: (..., depth, width).

    Returns:
        (..., n_panels, depth, panel width).
    """
    across = panel_width(matrices.dtype)
    *rest, depth, width = matrices.shape
    n_panels = -(-width // across)
    panels = aligned((*rest, n_panels, depth, across), matrices.dtype)
    panels[...] = 0
    for panel in range(n_panels):
        columns = matrices[..., panel * across : (panel + 1) * across]
        panels[..., panel, :, : columns.shape[-1]] = columns
    return panels


def _tile_function(
    module: Any, dtype: Any, n_rows: int, add: bool, transposed: bool = False
) -> Any:
    """Return the function that computes a tile of so many rows; emitted once in a module.

    Its arguments: the first row and the depth, the panel, the first element of the tile in the
    result, the height and width of the result, and how many columns of the panel there are. For
    the product with a transposed matrix rows are columns of a matrix as high as the depth, and the
    panel is some columns of another.
    """
    kind = "transposed" if transposed else "add" if add else "set"
    name = f"cgbench.tile.{dtype}.{n_rows}.{kind}"
    if name in module.globals:
        return module.globals[name]
    builder = ir.IRBuilder()
    vectors = Vectors(builder, dtype)
    pointer = vectors.number.as_pointer()
    function = ir.Function(
        module,
        ir.FunctionType(ir.VoidType(), [pointer, INDEX, pointer, pointer, *[INDEX] * 3]),
        name,
    )
    function.linkage = "internal"
    function.attributes.add("noinline")
    rows, depth, panel, out, height, width, n_columns = function.args
    for argument in (rows, panel, out):
        argument.add_attribute("noalias")
    builder.position_at_end(function.append_basic_block("entry"))
    across = _ACROSS * vectors.lanes
    places = [(row, part) for row in range(n_rows) for part in range(_ACROSS)]
    sums = {place: cgutils.alloca_once(builder, vectors.type) for place in places}
    spare = cgutils.alloca_once(builder, vectors.number, size=vectors.index(n_rows * across))
    for place in places:
        builder.store(vectors.zero, sums[place])
    with cgutils.for_range(builder, depth) as loop:
        apart = width if transposed else vectors.index(across)
        line = vectors.at(panel, builder.mul(loop.index, apart))
        columns = [
            vectors.load(
                vectors.at(line, vectors.index(part * vectors.lanes)), aligned=not transposed
            )
            for part in range(_ACROSS)
        ]
        for row in range(n_rows):
            if transposed:
                place_of_row = builder.add(builder.mul(height, loop.index), vectors.index(row))
            else:
                place_of_row = builder.add(builder.mul(depth, vectors.index(row)), loop.index)
            factor = vectors.splat(builder.load(vectors.at(rows, place_of_row)))
            for part in range(_ACROSS):
                old = builder.load(sums[row, part])
                new = vectors.multiply_add(factor, columns[part], old)
                builder.store(new, sums[row, part])
    whole = builder.icmp_signed(">=", n_columns, vectors.index(across))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            for row, part in places:
                place_in_out = builder.add(
                    builder.mul(width, vectors.index(row)), vectors.index(part * vectors.lanes)
                )
                target = vectors.at(out, place_in_out)
                found = builder.load(sums[row, part])
                vectors.store(builder.fadd(vectors.load(target), found) if add else found, target)
        with otherwise:
            for row, part in places:
                target = vectors.at(spare, vectors.index(row * across + part * vectors.lanes))
                vectors.store(builder.load(sums[row, part]), target)
            for row in range(n_rows):
                with cgutils.for_range(builder, n_columns) as loop:
                    source = builder.add(vectors.index(row * across), loop.index)
                    found = builder.load(vectors.at(spare, source))
                    place_in_out = builder.add(builder.mul(width, vectors.index(row)), loop.index)
                    target = vectors.at(out, place_in_out)
                    builder.store(
                        builder.fadd(builder.load(target), found) if add else found, target
                    )
    builder.ret_void()
    return function


@emitted
def _tile(
    context: Any, n_rows: Any, add: Any, rows: Any, first: Any, panels: Any, panel: Any, out: Any
) -> Any:
    """Compute some rows of one panel of the result.

    ``n_rows`` and ``add`` are constants of the code; ``first`` is the first row.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Array:
            return array_of(context, builder, signature.args[place], arguments[place])

        left, right, result = array(2), array(4), array(6)
        start, which = arguments[3], arguments[5]
        depth, across, width = left.shape[1], right.shape[2], result.shape[1]
        column = builder.mul(which, across)
        dtype = signature.args[6].dtype
        function = _tile_function(builder.module, dtype, n_rows.literal_value, add.literal_value)
        builder.call(
            function,
            [
                builder.gep(left.data, [builder.mul(start, depth)]),
                depth,
                builder.gep(right.data, [builder.mul(builder.mul(which, depth), across)]),
                builder.gep(result.data, [builder.add(builder.mul(start, width), column)]),
                result.shape[0],
                width,
                builder.sub(width, column),
            ],
        )
        return context.get_dummy_value()

    constants = (types.literal(n_rows.literal_value), types.literal(add.literal_value))
    index = types.intp
    return types.void(*constants, rows, index, panels, index, out), emit


@emitted
def _transposed_tile(
    context: Any, n_rows: Any, left: Any, first: Any, right: Any, panel: Any, out: Any
) -> Any:
    """Add to some rows of one panel of the result the product with a transposed matrix."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Array:
            return array_of(context, builder, signature.args[place], arguments[place])

        factors, columns, result = array(1), array(3), array(5)
        start, width = arguments[2], result.shape[1]
        dtype = signature.args[5].dtype
        across = ir.Constant(INDEX, _ACROSS * lanes_of(dtype.bitwidth // 8))
        column = builder.mul(arguments[4], across)
        function = _tile_function(
            builder.module, dtype, n_rows.literal_value, add=True, transposed=True
        )
        builder.call(
            function,
            [
                builder.gep(factors.data, [start]),
                factors.shape[0],
                builder.gep(columns.data, [column]),
                builder.gep(result.data, [builder.add(builder.mul(start, width), column)]),
                result.shape[0],
                width,
                across,
            ],
        )
        return context.get_dummy_value()

    index = types.intp
    return types.void(types.literal(n_rows.literal_value), left, index, right, index, out), emit


_ROWS: Final = tile_rows()
_PANEL_BYTES: Final = _ACROSS * host().n_bytes


def _product(add: bool) -> Any:
    @compiled_as_written
    def product(rows: Any, panels: Any, out: Any) -> None:
        n_rows = rows.shape[0]
        for panel in range(panels.shape[0]):
            row = 0
            while n_rows - row >= _ROWS:
                _tile(_ROWS, add, rows, row, panels, panel, out)
                row += _ROWS
            while n_rows - row >= 4:
                _tile(4, add, rows, row, panels, panel, out)
                row += 4
            while n_rows - row >= 2:
                _tile(2, add, rows, row, panels, panel, out)
                row += 2
            if row < n_rows:
                _tile(1, add, rows, row, panels, panel, out)

    return product


#: Writes the product of rows with a matrix: rows (n_rows, depth), panels (n_panels, depth, panel
#: width) of :func:`packed`, out (n_rows, width), all contiguous; ``out`` is not ``rows``.
multiply: Final = _product(add=False)
#: Adds it instead.
add_product: Final = _product(add=True)


@compiled_as_written
def add_transposed_product(left: Any, right: Any, out: Any) -> None:
    """Add the product of a transposed matrix with another.

    Args:
        left: (depth, height), contiguous as all three.
        right: (depth, width).
        out: (height, width); added to.
    """
    height, width = out.shape
    across = _PANEL_BYTES // left.itemsize
    n_panels = width // across
    for panel in range(n_panels):
        row = 0
        while height - row >= _ROWS:
            _transposed_tile(_ROWS, left, row, right, panel, out)
            row += _ROWS
        while height - row >= 4:
            _transposed_tile(4, left, row, right, panel, out)
            row += 4
        while height - row >= 2:
            _transposed_tile(2, left, row, right, panel, out)
            row += 2
        if row < height:
            _transposed_tile(1, left, row, right, panel, out)
    # What is left is narrower than a panel, whose vectors would reach beyond the last row.
    for n in range(left.shape[0] if n_panels * across < width else 0):
        for row in range(height):
            factor = left[n, row]
            for column in range(n_panels * across, width):
                out[row, column] += factor * right[n, column]
