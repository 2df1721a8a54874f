"""A picture of the tape behind a value, as text."""

from __future__ import annotations

from minidiff.autograd.tape import Node, Parent
from minidiff.autograd.tensor import Tensor


def draw(result: Tensor, **names: Tensor) -> str:
    """The tape behind a tensor: a line for each leaf, then one for each operation, in the order of the tape.

        >>> print(draw((w * x).sum(), w=w, x=x))
           w         (3,)   leaf
        1  multiply  (3,)   of w, x
        2  sum       ()     of 1

    An operation's line has its name, the shape of its result, and where its arguments came from: a leaf, the number of
    an earlier line, or "constant" where no gradient is required. `backward` goes through the lines from the last to the
    first. names: those of leaves; a leaf without one is called "leaf".

    Raises ValueError for a tensor that was not computed from one that requires a gradient, and for one whose tape
    a backward pass has consumed.
    """
    if result.node is None:
        raise ValueError(
            "expected a tensor computed from one that requires a gradient: there is no tape behind it"
        )
    name_of = {id(tensor): name for name, tensor in names.items()}
    nodes, leaves = _behind(result.node)
    number = {node.number: str(i) for i, node in enumerate(nodes, 1)}

    def source(parent: Parent) -> str:
        if isinstance(parent, Node):
            return number[parent.number]
        return "constant" if parent is None else name_of.get(id(parent), "leaf")

    rows = [("", source(leaf), str(leaf.shape), "leaf") for leaf in leaves]
    for node in nodes:
        sources = ", ".join(source(parent) for parent in node.parents or ())
        rows.append((number[node.number], node.name, str(node.shape), f"of {sources}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _behind(last: Node) -> tuple[list[Node], list[Tensor]]:
    """All nodes that a value was computed through, in the order of the tape, and the leaves they came from."""
    nodes, leaves, pending = {last.number: last}, dict[int, Tensor](), [last]
    while pending:
        node = pending.pop()
        if node.parents is None:
            raise ValueError(
                f"the tape behind {node.name!r} was consumed by a backward pass; draw it before that"
            )
        for parent in node.parents:
            if isinstance(parent, Tensor):
                leaves[id(parent)] = parent
            elif parent is not None and parent.number not in nodes:
                nodes[parent.number] = parent
                pending.append(parent)
    return [nodes[number] for number in sorted(nodes)], list(reversed(leaves.values()))
