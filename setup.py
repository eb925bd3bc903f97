"""Builds the C++ library of tf_pof.runtime beside the Python modules.

Metadata is in setup.cfg. CMake and the compiler are looked for on the machine
and are no requirements of the build: it works offline, and where there are
none tf_pof is installed without the library.
"""

import pathlib
import sys

import setuptools
from setuptools.command import bdist_wheel, build_py

ROOT = pathlib.Path(__file__).parent
# setuptools runs this file from elsewhere.
sys.path.insert(0, str(ROOT))

from tf_pof.runtime import build, installed

LIBRARY = pathlib.Path("tf_pof", "runtime", "lib")


class BuildPy(build_py.build_py):
    """Python modules, and the library; of a checkout in its own place."""

    def run(self):
        super().run()
        base = self.get_finalized_command("build").build_base
        target = ROOT if self.editable_mode else pathlib.Path(self.build_lib)
        reason = build.build(target / LIBRARY, ROOT / base / "runtime")
        if reason:
            self.warn(f"The library of tf_pof.runtime was not built: {reason}")


class BdistWheel(bdist_wheel.bdist_wheel):
    """A wheel for any Python 3, and one platform if it has the library."""

    def get_tag(self):
        _, _, platform = super().get_tag()
        base = pathlib.Path(self.get_finalized_command("build").build_lib)
        built = (base / LIBRARY / installed.LIBRARY).exists()
        return "py3", "none", platform if built else "any"


class Distribution(setuptools.Distribution):
    """One with a library: it is installed among those of a platform."""

    def has_ext_modules(self):
        return True


setuptools.setup(
    cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel},
    distclass=Distribution,
)
