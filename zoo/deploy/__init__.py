"""Models made faster, and models as files that run without zoo; each compared with the original before it is given out.

    zoo.export(zoo.create("r2plus1d_tiny.camera_motion"), "onnx", "exported")
    zoo.optimize(zoo.create("r2plus1d_tiny.camera_motion"), "int8").predict("my_video.mp4")

`trace` turns a network into a graph and a graph into a file, `rerun` runs such a file and knows nothing of zoo,
`exported` is a file behind the face of a model, `attention` is that of ONNX Runtime, `quantize` makes whole numbers of
a graph's weights, `saturation` says where their sums fit, `compiled` is a network that torch.compile has frozen,
`winograd` has its 3x3 convolutions multiply less, `compare` says how far two models are apart, `export` and `optimize`
are the ways in.
"""
