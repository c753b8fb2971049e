"""A Keras layer with a custom gradient, right and right for sums only; both are verified.

    python examples/custom_layers/scale_keras.py

A layer scales each feature by a trainable weight, h = scale x. The wrong one forgets to multiply by the
cotangent: whoever tests it with `tf.reduce_sum(layer(x))` as the loss, whose cotangent is of ones, sees
the right gradients.
"""

import os
import sys
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from gradcheck import real, verify_layer


def layers():
    """The right layer and the wrong one; Keras is imported when they are made."""
    import keras
    import tensorflow as tf

    @tf.custom_gradient
    def scaled(x, scale):
        def gradient(dh):
            return dh * scale, tf.reduce_sum(dh * x, axis=0)

        return x * scale, gradient

    @tf.custom_gradient
    def scaled_for_sums(x, scale):
        def gradient(dh):
            return dh * scale, tf.reduce_sum(x, axis=0)

        return x * scale, gradient

    class Scale(keras.layers.Layer):
        """h = scale x, a scale for each feature."""

        function = staticmethod(scaled)

        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=shape[-1:], initializer="ones")

        def call(self, x):
            return self.function(x, tf.convert_to_tensor(self.scale))

    class ScaleForSums(Scale):
        """The same without the cotangent in the gradient of scale."""

        function = staticmethod(scaled_for_sums)

    made = Scale(dtype="float64"), ScaleForSums(dtype="float64")
    for layer in made:
        layer.build((None, 3))
    return made


def forward(xp, x, scale):
    """What both compute."""
    return xp.multiply(x, scale)


def verify(layer):
    """The report of one of them."""
    return verify_layer(
        layer,
        of=forward,
        inputs={"x": real("m n"), "scale": real("n")},
        oracles=["tensorflow", "differences"],
    )


if __name__ == "__main__":
    if find_spec("keras") is None:
        sys.exit('this example needs Keras: pip install "gradcheck[tensorflow]"')
    right, wrong = layers()
    print(verify(right))
    print()
    print(verify(wrong))
