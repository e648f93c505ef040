"""The layer matrix: what has height and width."""
from layers_matrix import EXACT, L, RANDOM, many, one


def convolutions():
    for padding in ('valid', 'same'):
        for stride in (1, 2, 3):
            one('conv2d/%s-s%d' % (padding, stride), (11, 8, 3),
                lambda p=padding, s=stride: L.Conv2D(5, 3, strides=s, padding=p))
            for kernel in (2, 3):
                one('conv2d_transpose/%s-s%d-k%d' % (padding, stride, kernel), (5, 6, 3),
                    lambda p=padding, s=stride, k=kernel: L.Conv2DTranspose(4, k, strides=s, padding=p))
    one('conv2d/even-same-s2', (9, 8, 3), lambda: L.Conv2D(4, (4, 2), strides=2, padding='same'))
    one('conv2d/dilation2-same', (11, 9, 3), lambda: L.Conv2D(4, 3, dilation_rate=2, padding='same'))
    one('conv2d/dilation23-valid', (11, 12, 3), lambda: L.Conv2D(4, (3, 2), dilation_rate=(2, 3)))
    one('conv2d/groups2', (8, 7, 6), lambda: L.Conv2D(8, 3, groups=2, padding='same'))
    one('conv2d/groups4-one-channel', (8, 7, 4), lambda: L.Conv2D(8, 3, groups=4))
    one('conv2d/nobias-relu', (8, 7, 3), lambda: L.Conv2D(4, 3, use_bias=False, activation='relu'))
    one('conv2d/1x1', (8, 7, 16), lambda: L.Conv2D(32, 1, activation='relu'))
    one('conv2d/7x7-s2', (30, 21, 3), lambda: L.Conv2D(16, 7, strides=2, padding='same'))
    one('conv2d/strides21', (11, 9, 3), lambda: L.Conv2D(4, 3, strides=(2, 1), padding='same'))
    one('conv2d/channels-first', (3, 8, 7), lambda: L.Conv2D(4, 3, data_format='channels_first', padding='same'))
    one('conv2d/activation-layer-inside', (8, 7, 3), lambda: L.Conv2D(4, 3, activation=L.LeakyReLU(0.1)))
    one('conv2d_transpose/output-padding', (5, 6, 3),
        lambda: L.Conv2DTranspose(4, 3, strides=2, padding='same', output_padding=0))
    one('conv2d_transpose/dilation', (5, 6, 3), lambda: L.Conv2DTranspose(4, 3, dilation_rate=2))
    one('conv1d/causal-dilation2', (12, 3), lambda: L.Conv1D(4, 3, padding='causal', dilation_rate=2))
    one('conv1d/same-s2', (11, 3), lambda: L.Conv1D(4, 4, padding='same', strides=2))
    one('conv1d/groups', (11, 6), lambda: L.Conv1D(9, 3, groups=3))
    one('conv1d_transpose/s2', (7, 3), lambda: L.Conv1DTranspose(4, 3, strides=2, padding='same'))
    one('conv3d/same-s2', (5, 7, 6, 2), lambda: L.Conv3D(3, 3, strides=2, padding='same'))
    one('conv3d/dilation', (7, 7, 6, 2), lambda: L.Conv3D(3, 2, dilation_rate=2))
    one('conv3d_transpose/s2', (3, 4, 3, 2), lambda: L.Conv3DTranspose(3, 3, strides=2, padding='same'))
    one('separable_conv1d', (11, 3), lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, padding='same'))
    one('separable_conv2d', (11, 8, 3), lambda: L.SeparableConv2D(5, 3, strides=2, depth_multiplier=2,
                                                                  activation='relu'))
    one('depthwise_conv1d', (11, 3), lambda: L.DepthwiseConv1D(3, strides=2, padding='same'))
    one('depthwise_conv2d/multiplier3-s2', (11, 8, 3),
        lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=3, padding='same'))
    one('depthwise_conv2d/dilation', (11, 8, 3), lambda: L.DepthwiseConv2D(3, dilation_rate=2, padding='same'))
    one('depthwise_conv2d/5x5', (14, 13, 24), lambda: L.DepthwiseConv2D(5, padding='same', activation='silu'))

    for padding in ('valid', 'same', 'causal'):
        for stride in (1, 2):
            one('conv1d/%s-stride%d' % (padding, stride), (11, 3), lambda p=padding, s=stride: L.Conv1D(4, 3, strides=s,
                padding=p))
    one('conv1d/same-dilation3', (11, 3), lambda: L.Conv1D(4, 3, padding='same', dilation_rate=3))
    one('conv1d/even-causal', (11, 3), lambda: L.Conv1D(4, 4, padding='causal', use_bias=False, activation='tanh'))
    one('conv2d/1x1-s2', (8, 7, 6), lambda: L.Conv2D(4, 1, strides=2))
    one('conv2d/groups-multiplier', (8, 7, 6), lambda: L.Conv2D(12, 3, groups=6, padding='same'))
    one('conv2d/groups-dilation', (9, 8, 6), lambda: L.Conv2D(6, 3, groups=3, dilation_rate=2))
    one('conv2d/as-large-as-the-picture', (6, 5, 4), lambda: L.Conv2D(9, (6, 5), activation='relu'))
    one('conv2d/larger-than-the-picture', (3, 2, 4), lambda: L.Conv2D(5, 5, padding='same'))
    one('conv3d/valid-s1', (5, 6, 4, 2), lambda: L.Conv3D(3, (2, 3, 1)))
    one('conv3d/same-s123', (5, 7, 6, 2), lambda: L.Conv3D(3, 2, strides=(1, 2, 3), padding='same', activation='elu'))
    one('conv3d/groups2', (4, 5, 4, 4), lambda: L.Conv3D(6, 2, groups=2))


def transposes():
    for padding in ('valid', 'same'):
        for stride in (1, 2, 3):
            for kernel in (2, 3):
                one('conv1d_transpose/%s-s%d-k%d' % (padding, stride, kernel), (5, 3),
                    lambda p=padding, s=stride, k=kernel: L.Conv1DTranspose(4, k, strides=s, padding=p))
        for stride in (1, 2):
            one('conv3d_transpose/%s-s%d' % (padding, stride), (3, 4, 2, 2),
                lambda p=padding, s=stride: L.Conv3DTranspose(3, 3, strides=s, padding=p, use_bias=False))
        for more in (0, 1, 2):
            one('conv2d_transpose/%s-output-padding%d' % (padding, more), (5, 6, 3),
                lambda p=padding, m=more: L.Conv2DTranspose(4, 4, strides=3, padding=p, output_padding=m))
    one('conv1d_transpose/output-padding1', (5, 3), lambda: L.Conv1DTranspose(4, 3, strides=2, padding='same',
        output_padding=1))
    one('conv3d_transpose/output-padding1', (2, 3, 2, 2),
        lambda: L.Conv3DTranspose(2, 3, strides=2, padding='same', output_padding=1))
    one('conv2d_transpose/strides21', (5, 6, 3), lambda: L.Conv2DTranspose(4, (4, 3), strides=(2, 1), padding='same'))
    one('conv2d_transpose/relu-nobias', (5, 6, 3),
        lambda: L.Conv2DTranspose(4, 4, strides=2, padding='same', use_bias=False, activation='relu'))


def separable():
    for padding in ('valid', 'same'):
        for stride in (1, 2):
            more = {'padding': padding, 'strides': stride}
            name = '%s-s%d' % (padding, stride)
            one('separable_conv1d/' + name, (11, 3), lambda m=more: L.SeparableConv1D(5, 3, use_bias=False, **m))
            one('separable_conv2d/' + name, (9, 8, 3), lambda m=more: L.SeparableConv2D(5, 3, depth_multiplier=2, **m))
            one('depthwise_conv1d/' + name, (11, 3), lambda m=more: L.DepthwiseConv1D(4, depth_multiplier=2, **m))
            one('depthwise_conv2d/even-' + name, (9, 8, 3), lambda m=more: L.DepthwiseConv2D((2, 4), **m))
    one('separable_conv1d/dilation2', (11, 3), lambda: L.SeparableConv1D(5, 3, dilation_rate=2, padding='same'))
    one('separable_conv2d/dilation2', (11, 8, 3), lambda: L.SeparableConv2D(5, 3, dilation_rate=2, padding='same'))
    one('depthwise_conv1d/dilation2', (11, 3), lambda: L.DepthwiseConv1D(3, dilation_rate=2, activation='silu'))
    one('depthwise_conv2d/dilation23', (11, 12, 3), lambda: L.DepthwiseConv2D(3, dilation_rate=(2, 3), use_bias=False))


def channels_first():
    """What takes data_format, the other way round."""
    first = {'data_format': 'channels_first'}
    shapes = {1: (3, 9), 2: (3, 8, 7), 3: (3, 5, 6, 4)}
    for rank, shape in shapes.items():
        for kind in ('Max', 'Average'):
            for padding in ('valid', 'same'):
                one('%s_pooling%dd/%s-first' % (kind.lower(), rank, padding), shape, lambda k=kind, r=rank, p=padding:
                    getattr(L, '%sPooling%dD' % (k, r))(2, padding=p, **first), EXACT if kind == 'Max' else RANDOM)
            for keep in (False, True):
                one('global_%s_pooling%dd/%s-first' % (kind.lower(), rank, 'keep' if keep else 'flat'), shape,
                    lambda k=kind, r=rank, d=keep: getattr(L, 'Global%sPooling%dD' % (k, r))(keepdims=d, **first),
                    EXACT if kind == 'Max' else RANDOM)
        one('conv%dd/first-s2' % rank, shape,
            lambda r=rank: getattr(L, 'Conv%dD' % r)(4, 3, strides=2, padding='same', **first))
        one('conv%dd/first-dilation2' % rank, shape,
            lambda r=rank: getattr(L, 'Conv%dD' % r)(4, 2, dilation_rate=2, activation='relu', **first))
        one('conv%dd_transpose/first-s2' % rank, shape,
            lambda r=rank: getattr(L, 'Conv%dDTranspose' % r)(4, 3, strides=2, padding='same', **first))
    for rank in (1, 2):
        one('depthwise_conv%dd/first' % rank, shapes[rank],
            lambda r=rank: getattr(L, 'DepthwiseConv%dD' % r)(3, depth_multiplier=2, padding='same', **first))
        one('separable_conv%dd/first' % rank, shapes[rank],
            lambda r=rank: getattr(L, 'SeparableConv%dD' % r)(4, 3, strides=2, **first))
    for rank in (2, 3):
        one('cropping%dd/first' % rank, shapes[rank], lambda r=rank: getattr(L, 'Cropping%dD' % r)(1, **first), EXACT)
        one('zero_padding%dd/first' % rank, shapes[rank], lambda r=rank: getattr(L, 'ZeroPadding%dD' % r)(2,
            **first), EXACT)
        one('upsampling%dd/first' % rank, shapes[rank], lambda r=rank: getattr(L, 'UpSampling%dD' % r)(2, **first),
            EXACT)
    one('upsampling2d/bilinear-first', (3, 5, 4), lambda: L.UpSampling2D((2, 3), interpolation='bilinear', **first))
    one('resizing/first', (3, 8, 7), lambda: L.Resizing(5, 9, **first))
    one('center_crop/first', (3, 9, 8), lambda: L.CenterCrop(5, 4, **first), EXACT)


def pools():
    for rank, shape in ((1, (11, 3)), (2, (11, 8, 3)), (3, (7, 6, 5, 2))):
        for kind, tolerance in (('Max', EXACT), ('Average', RANDOM)):
            for padding in ('valid', 'same'):
                for size, stride in ((2, 2), (3, 2), (3, 1)):
                    one('%s_pooling%dd/%s-k%d-s%d' % (kind.lower(), rank, padding, size, stride), shape,
                        lambda r=rank, k=kind, p=padding, z=size, s=stride:
                        getattr(L, '%sPooling%dD' % (k, r))(z, strides=s, padding=p), tolerance)
            for keep in (False, True):
                one('global_%s_pooling%dd/%s' % (kind.lower(), rank, 'keep' if keep else 'flat'), shape,
                    lambda r=rank, k=kind, d=keep:
                    getattr(L, 'Global%sPooling%dD' % (k, r))(keepdims=d), tolerance)


    one('max_pooling2d/uneven', (11, 8, 3), lambda: L.MaxPooling2D((3, 2), strides=(2, 3), padding='same'), EXACT)
    one('average_pooling2d/uneven', (11, 8, 3), lambda: L.AveragePooling2D((3, 2), strides=(2, 3), padding='same'))
    one('max_pooling2d/gaps', (11, 8, 3), lambda: L.MaxPooling2D(2, strides=3), EXACT)
    one('average_pooling2d/whole', (6, 5, 3), lambda: L.AveragePooling2D((6, 5)))
    for kind, tolerance in (('Max', EXACT), ('Average', RANDOM)):
        for rank, shape, size in ((1, (11, 3), 4), (2, (9, 8, 3), (4, 3)), (3, (5, 6, 7, 2), (2, 3, 4))):
            one('adaptive_%s_pooling%dd' % (kind.lower(), rank), shape,
                lambda k=kind, r=rank, s=size: getattr(L, 'Adaptive%sPooling%dD' % (k, r))(s), tolerance)
        one('adaptive_%s_pooling2d/first' % kind.lower(), (3, 9, 8),
            lambda k=kind: getattr(L, 'Adaptive%sPooling2D' % k)(3, data_format='channels_first'), tolerance)


def shapes():
    one('reshape/minus1', (6, 5, 4), lambda: L.Reshape((-1, 10)), EXACT)
    one('permute', (6, 5, 4), lambda: L.Permute((3, 1, 2)), EXACT)
    one('repeat_vector', (5,), lambda: L.RepeatVector(3), EXACT)
    one('flatten', (6, 5, 4), lambda: L.Flatten(), EXACT)
    one('flatten/channels-first', (4, 6, 5), lambda: L.Flatten(data_format='channels_first'), EXACT)
    one('cropping1d', (9, 3), lambda: L.Cropping1D((2, 1)), EXACT)
    one('cropping2d', (9, 8, 3), lambda: L.Cropping2D(((2, 1), (0, 3))), EXACT)
    one('cropping3d', (6, 7, 8, 2), lambda: L.Cropping3D(((1, 0), (2, 1), (0, 3))), EXACT)
    one('zero_padding1d', (9, 3), lambda: L.ZeroPadding1D((2, 1)), EXACT)
    one('zero_padding2d', (5, 6, 3), lambda: L.ZeroPadding2D(((2, 1), (0, 3))), EXACT)
    one('zero_padding2d/channels-first', (3, 5, 6),
        lambda: L.ZeroPadding2D(((2, 1), (0, 3)), data_format='channels_first'), EXACT)
    one('zero_padding3d', (3, 4, 5, 2), lambda: L.ZeroPadding3D(((1, 0), (2, 1), (0, 3))), EXACT)
    one('upsampling1d', (5, 3), lambda: L.UpSampling1D(3), EXACT)
    one('upsampling3d', (3, 4, 3, 2), lambda: L.UpSampling3D((1, 2, 3)), EXACT)
    for mode in ('nearest', 'bilinear', 'bicubic', 'lanczos3', 'lanczos5'):
        one('upsampling2d/' + mode, (5, 4, 3), lambda m=mode: L.UpSampling2D((2, 3), interpolation=m),
            EXACT if mode == 'nearest' else RANDOM)
        one('resizing/' + mode, (9, 8, 3), lambda m=mode: L.Resizing(5, 12, interpolation=m),
            EXACT if mode == 'nearest' else RANDOM)
    one('resizing/antialias', (12, 10, 3), lambda: L.Resizing(5, 4, antialias=True))
    one('resizing/crop', (12, 9, 3), lambda: L.Resizing(5, 5, crop_to_aspect_ratio=True))
    one('resizing/pad', (12, 9, 3), lambda: L.Resizing(5, 5, pad_to_aspect_ratio=True))
    one('center_crop', (9, 8, 3), lambda: L.CenterCrop(5, 4), EXACT)
    one('center_crop/up', (5, 6, 3), lambda: L.CenterCrop(8, 8))

    for mode in ('nearest', 'bilinear', 'bicubic', 'lanczos3', 'lanczos5', 'area', 'mitchellcubic', 'gaussian'):
        exact = EXACT if mode == 'nearest' else RANDOM
        one('resizing/%s-up' % mode, (5, 4, 3), lambda m=mode: L.Resizing(11, 7, interpolation=m), exact)
        one('resizing/%s-down' % mode, (13, 12, 3), lambda m=mode: L.Resizing(5, 7, interpolation=m), exact)
        one('resizing/%s-antialias' % mode, (13, 12, 3), lambda m=mode: L.Resizing(5, 7, interpolation=m,
            antialias=True), exact)
    one('resizing/crop-tall', (9, 12, 3), lambda: L.Resizing(7, 4, crop_to_aspect_ratio=True))
    one('resizing/pad-tall', (9, 12, 3), lambda: L.Resizing(7, 4, pad_to_aspect_ratio=True, fill_value=0.5))
    one('resizing/same-size', (9, 12, 3), lambda: L.Resizing(9, 12))
    one('center_crop/one-side', (9, 6, 3), lambda: L.CenterCrop(5, 8))
    one('cropping2d/number', (9, 8, 3), lambda: L.Cropping2D(2), EXACT)
    one('cropping2d/pair', (9, 8, 3), lambda: L.Cropping2D((1, 2)), EXACT)
    one('zero_padding2d/pair', (5, 6, 3), lambda: L.ZeroPadding2D((1, 2)), EXACT)
    one('zero_padding1d/number', (5, 3), lambda: L.ZeroPadding1D(3), EXACT)
    one('flatten/rank2', (6,), lambda: L.Flatten(), EXACT)
    one('flatten/rank5', (3, 2, 4, 2), lambda: L.Flatten(), EXACT)
    one('reshape/flat', (6, 5, 4), lambda: L.Reshape((120,)), EXACT)
    one('reshape/more', (12,), lambda: L.Reshape((2, -1, 3)), EXACT)
    one('permute/rank5', (2, 3, 4, 2), lambda: L.Permute((4, 2, 1, 3)), EXACT)


GROUPS = (convolutions, transposes, separable, channels_first, pools, shapes)
