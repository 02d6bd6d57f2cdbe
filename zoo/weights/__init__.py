"""From a source to a verified file to a state dict to a model. Nothing here unpickles anything,
but for `pickled`, in a process of its own and never at load time.

Fetching (`fetch`, `repository`) needs no torch; what reads tensors (`safetensors_file`, `layouts`, `assign`) does.
"""
