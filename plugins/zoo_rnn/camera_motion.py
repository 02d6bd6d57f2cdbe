"""What is known of the camera-motion weights of this family; written by tools/ship.py."""

import zoo

WEIGHTS = {
    "convgru_tiny": zoo.Weights(
        source="pkg://zoo_rnn/weights/convgru_tiny.camera_motion.safetensors",
        sha256="3c342a97bafa696c2ea041c19e2720833d21290934d511cd954981f5df614b8f",
        size=2543660,
        labels=(
            "pan_left",
            "pan_right",
            "roll_ccw",
            "roll_cw",
            "static",
            "tilt_down",
            "tilt_up",
            "zoom_in",
            "zoom_out",
        ),
        preprocessing=zoo.Preprocessing(
            num_frames=8,
            sampler="consecutive",
            fps=8,
            resize=(64, 64),
            mean=(0.45, 0.45, 0.45),
            std=(0.25, 0.25, 0.25),
            clips=5,
            temperature=0.6465,
        ),
        license="Apache-2.0",
        training_data="clips that zoo.synth draws",
        description="Names how the camera moves; trained on generated clips only.",
    ),
}
