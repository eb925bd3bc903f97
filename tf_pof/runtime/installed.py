"""Where the delegate's library is, or in its place why there is none.

Apart from what builds it, whose imports would take longer than loading a model.
"""

import pathlib

# Beside the package's modules; both files are never there at once.
FOLDER = pathlib.Path(__file__).parent / "lib"
LIBRARY = "libtf_pof_delegate.so"
REASON = "not_built.txt"
