"""MATLAB's .mat files, as Flowers-102 and ImageNet's development kit have them.

The format (level 5) holds arrays and nothing that could run: no pickle, no code.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision_repro.config import UserError


def read(content: bytes, variables: Sequence[str], source: object) -> dict[str, Any]:
    """Returns the named variables of a .mat file.

    Raises:
        UserError: naming `source`, if it is no such file or lacks one of them.
    """
    # Imported here for start-up time: scipy takes long to import.
    from scipy.io import loadmat

    file: Any = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Any] = loadmat(file, squeeze_me=True, variable_names=list(variables))
    except Exception as error:  # broken bytes end in nearly any exception: zlib's, struct's, TypeError, MemoryError
        raise UserError(f"{source} is no whole .mat file ({type(error).__name__}): fetch it again.") from None
    missing = [name for name in variables if name not in found]
    if missing:
        raise UserError(f"{source} lacks the variable {missing[0]}: expected {', '.join(variables)}; fetch it again.")
    return found


def integers(value: Any, source: object) -> npt.NDArray[np.int64]:
    """Returns a variable as int64 [N].

    Raises:
        UserError: naming `source`, if it holds anything but whole numbers in one row.
    """
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "iuf" or array.ndim != 1 or not (array == np.floor(array)).all():
        raise UserError(
            f"{source} holds {array.dtype} {array.shape}: expected one row of whole numbers; fetch it again."
        )
    return array.astype(np.int64)
