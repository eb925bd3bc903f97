"""Losses and labels of a student with one kind of logits, named or plain."""

from tf_pof.models.task_model import TaskMixin, logits_name


class PlainLabels(TaskMixin):
    """Put it before keras.Model in the bases of a model with a `student`."""

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        **kwargs,
    ):
        """As keras.Model.compile.

        For a student with one kind of logits, loss, metrics, labels and
        weights may be given plain or by its name, as {"logits": loss}.
        """
        super().compile(
            optimizer,
            self.unnamed(loss),
            self.unnamed(metrics),
            loss_weights,
            self.unnamed(weighted_metrics),
            **kwargs,
        )

    def named_output(self):
        return self.student.output

    def unnamed(self, value):
        """What is given for the student's only logits, without their name."""
        name = logits_name(self.named_output())
        if name and isinstance(value, dict) and set(value) == {name}:
            return value[name]
        return value
