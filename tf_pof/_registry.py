"""Lets Keras find tf_pof's classes in a process that only imported tf_pof.

`keras.models.load_model` looks for the names in a file ("tf_pof>PruneOnce") in
its registry of custom objects. They register themselves when their modules are
imported, but importing those imports TensorFlow, so it is put off until a file
names one of them.
"""

import importlib

import wrapt

_OWNER = "tf_keras.src.saving.object_registration"
_PREFIX = "tf_pof>"
_FUNCTIONS = ("tf_pof.models.layers",)
_MODULES = (
    *_FUNCTIONS,
    "tf_pof.pruning.fit",
    "tf_pof.quantization.quantize",
    "tf_pof.distillation.distiller",
    "tf_pof.training.optimizer",
)


def install() -> None:
    """Gives Keras the registry, now or as soon as it is imported."""
    wrapt.register_post_import_hook(_exchange, _OWNER)


def _exchange(module) -> None:
    objects = module._GLOBAL_CUSTOM_OBJECTS
    if not isinstance(objects, _Registry):
        module._GLOBAL_CUSTOM_OBJECTS = _Registry(objects)


class _Registry(dict):
    """Keras' custom objects, with ours as soon as somebody asks for them."""

    def __contains__(self, name):
        if (
            not super().__contains__(name)
            and isinstance(name, str)
            and name.startswith(_PREFIX)
        ):
            _import(_MODULES)
        return super().__contains__(name)

    def __missing__(self, name):
        if name in self:
            return self[name]
        raise KeyError(name)

    def get(self, name, default=None):
        return self[name] if name in self else default

    # Keras looks for functions in a copy, `{**objects}`, which reads these.

    def __iter__(self):
        _import(_FUNCTIONS)
        return super().__iter__()

    def keys(self):
        _import(_FUNCTIONS)
        return super().keys()


def _import(modules) -> None:
    for module in modules:
        importlib.import_module(module)
