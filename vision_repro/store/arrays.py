"""Arrays in `.npz` files: packed to the same bytes for the same numbers, and read without unpickling anything."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # who reads metrics needs no numpy
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]
else:
    Array = Any


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Returns an `.npz` file, compressed, with no date in it."""
    import numpy as np  # tables start without it

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in sorted(arrays.items()):
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), part.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(file: Path) -> dict[str, Array]:
    """Returns the arrays of an `.npz` file."""
    import numpy as np  # tables start without it

    with np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
