"""Whether a student and its teacher mean the same by a logit."""

from tf_pof._keras import keras


def require_same_order(student: keras.Model, teacher: keras.Model) -> None:
    """Raises ValueError if both name the same classes in different orders.

    The student would learn to name one class for another. bin/finetune puts
    a teacher's classes in order by their names.
    """
    names = [getattr(model, "labels", None) for model in (student, teacher)]
    if None in names:
        return
    own, others = ([name.casefold() for name in labels] for labels in names)
    if own != others and sorted(own) == sorted(others):
        raise ValueError(
            f"The student's classes are {', '.join(names[0])}, but the "
            f"teacher's {', '.join(names[1])}, in another order: exchange the "
            "columns of one's layer 'classifier' and its labels, or distil "
            "with bin/finetune, which matches them by name."
        )
