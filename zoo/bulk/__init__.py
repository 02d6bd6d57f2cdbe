"""Models over archives: one callable for a batch of rows, and two engines that run it over millions of videos.

    zoo.batch("videos", "out", model="r2plus1d_tiny.camera_motion", workers=4)

`predictor` is the callable, `inputs` reads what there is to do, `folder` is what a run leaves behind, `worker` is a
process that may be killed by a file, `local` and `ray` are the engines, `run` puts them together.
"""
