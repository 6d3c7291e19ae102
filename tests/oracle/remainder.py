"""What becomes of the rows that do not fill the last batch of an epoch."""

from .row import Rows


def groups(rows: Rows, size: int, policy: str) -> list[Rows]:
    """The rows of each batch, the last one short, absent or filled up with the last row."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    if not parts or len(parts[-1]) == size:
        return parts
    if policy == "error":
        raise ValueError(f"{len(rows)} rows leave a remainder of {len(parts[-1])} over batches of {size}")
    if policy == "drop":
        return parts[:-1]
    if policy == "pad":
        return [*parts[:-1], parts[-1] + [parts[-1][-1]] * (size - len(parts[-1]))]
    return parts
