"""What is known of the camera-motion weights of this family; written by tools/ship.py."""

import zoo

WEIGHTS = {
    "vit_c_tiny": zoo.Weights(
        source="pkg://zoo_transformer/weights/vit_c_tiny.camera_motion.safetensors",
        sha256="cafc0e9ecb53fa67670f1af5ffa8df8e63fbba0fb8fc4d8057eab861b9468d67",
        size=1977636,
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
            temperature=0.6656,
        ),
        license="Apache-2.0",
        training_data="clips that zoo.synth draws",
        description="Names how the camera moves; trained on generated clips only.",
    ),
}
