#!/usr/bin/env python3
"""What TensorFlow makes of a small picture, for tests/unit/test_pipeline.c.

usage: make_pictures.py OUT.npz     (needs tensorflow)
"""
import sys

import numpy as np
import tensorflow as tf


def main():
    picture = np.random.default_rng(3).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    arrays = {'picture': picture}
    for height, width in ((4, 5), (12, 20)):
        name = '%dx%d' % (width, height)
        arrays['antialias_' + name] = tf.image.resize(picture, (height, width), antialias=True)
        arrays['bilinear_' + name] = tf.image.resize(picture, (height, width))
        arrays['nearest_' + name] = tf.cast(tf.image.resize(picture, (height, width), method='nearest'), tf.float32)
    arrays['unit'] = tf.image.convert_image_dtype(picture, tf.float32)
    arrays['per_image'] = tf.image.per_image_standardization(picture)
    arrays['flat'] = tf.image.per_image_standardization(np.full((2, 2, 3), 7, np.uint8))
    np.savez(sys.argv[1], **{name: np.asarray(array) for name, array in arrays.items()})


if __name__ == '__main__':
    main()
