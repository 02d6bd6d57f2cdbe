"""The examples at the end of each command's help. A test reads every line with the command's own parser."""

from __future__ import annotations

EXAMPLES = {
    "list": """
        zoo list                                      every model
        zoo list "*18*" --pretrained                  weights of those with 18 in their name
        zoo list --family cnn --streaming --json      for programs
    """,
    "info": """
        zoo info r3d_18
        zoo info r2plus1d_tiny.camera_motion --json
    """,
    "card": """
        zoo card r2plus1d_tiny.camera_motion
        zoo card x3d_s > README.md                    the Markdown itself
    """,
    "plugins": """
        zoo plugins                                   the installed plugins, and any that are broken
        zoo plugins --verbose                         with full tracebacks
    """,
    "predict": """
        zoo predict my_video.mp4
        zoo predict my_video.mp4 --window 1 --stride 0.5 --report my_video.html
        zoo predict my_video.mp4 --overlay labelled.mp4 --sheet frames.png
        zoo predict my_video.mp4 --window 1 --timeline when.png
        zoo predict my_video.mp4 --attribution looked.mp4   where and when the model looked; .png for frames
        zoo predict *.mp4 --json > answers.jsonl
        zoo predict *.mp4 --report reports            a page for each, in an existing folder
        zoo predict --stream my_video.mp4 --rate 4 --timeline when.png
        zoo predict --stream - < live.ts              a pipe: mkv, ts, flv, fragmented mp4, ...
        zoo predict --stream - --raw 320x240@30 --smoothing 1 < frames.rgb
        zoo predict --stream /dev/video0 --input-format v4l2 --input-option framerate=30
    """,
    "embed": """
        zoo embed *.mp4 -o features.safetensors
        zoo embed my_video.mp4 -o per_frame.safetensors --level frame
    """,
    "batch": """
        zoo batch videos -o out --workers 4           a folder, into out/parts/*.parquet and out/errors.csv
        zoo batch clips.csv -o out --model r3d_18.k400 --resume
        zoo batch "videos/**/*.mp4" -o features --task embed --max-error-rate 0.1
        zoo batch clips.parquet -o out --engine ray --address head:6379
    """,
    "frames": """
        zoo frames my_video.mp4 -o frames -n 8
        zoo frames my_video.mp4 -o frames --every 0.5 --size 256 --format jpg
        zoo frames my_video.mp4 -o frames --at 0,1.5,3
    """,
    "demo": """
        zoo demo
        zoo demo --motion zoom_in -o zoom.mp4
    """,
    "export": """
        zoo export r2plus1d_tiny.camera_motion -o exported
        zoo export r2plus1d_tiny.camera_motion -o quantised --int8 --videos videos
        zoo export videomae_base.k400 -o exported --format pt2
    """,
    "bench": """
        zoo bench r3d_18 x3d_s videomae_base
        zoo bench r3d_18 --way compile --way int8 --plot speed.png
        zoo bench videomae_base --peers --rounds 9 --json
    """,
    "train": """
        zoo train r2plus1d_tiny videos runs/first --epochs 20
        zoo train r2plus1d_tiny.camera_motion clips.csv runs/second --lr 3e-4 --layer-decay 0.8
        zoo train --config runs/first/settings.toml   continues where it stopped
    """,
    "evaluate": """
        zoo evaluate r2plus1d_tiny.camera_motion videos
        zoo evaluate local-dir:runs/first/model clips.csv -o runs/first/test --split val
        zoo evaluate r2plus1d_tiny.camera_motion videos --views fast --json
    """,
    "download": """
        zoo download videomae_base.k400
        zoo download hf-hub:owner/repo@revision
    """,
    "convert": """
        zoo convert r3d_18.k400
        zoo convert SLOW_8x8_R50.pyth out.safetensors --model slow_r50
    """,
    "cache": """
        zoo cache                                     downloaded weights, and the models that use them
        zoo cache --json
        zoo cache prune                               delete what no model uses
    """,
    "new": """
        zoo new acme
        zoo new acme --family-style cnn --output plugins
    """,
    "check": """
        zoo check acme
        zoo check acme --model acme/net_s --json
    """,
    "publish": """
        zoo publish r3d_18.k400 --repo you/r3d --dry-run
        zoo publish ./my_model --repo you/my-model --public --license apache-2.0
    """,
    "gallery": """
        zoo gallery build gallery                     open gallery/index.html
        zoo gallery build gallery "*x3d*"
    """,
    "doctor": """
        zoo doctor                                    what is here, and what is slow or broken
        zoo doctor --json                             to put into a bug report
    """,
    "completion": """
        eval "$(zoo completion bash)"                 in ~/.bashrc
        eval "$(zoo completion zsh)"                  in ~/.zshrc
        zoo completion fish > ~/.config/fish/completions/zoo.fish
    """,
}


def epilog(name: str) -> str | None:
    """The examples of a command as click shows them: line by line."""
    if name not in EXAMPLES:
        return None
    lines = [line.strip() for line in EXAMPLES[name].strip().splitlines()]
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
