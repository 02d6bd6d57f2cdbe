"""How fast models are here: each in a process of its own, all taking turns, the first one twice.

    print(zoo.bench(["r3d_18", "x3d_s"]))

`contestant` is one model, or that of another library, ready to run; `child` is the process it is in, `bench` lets them
take turns, `result` is the table, and `plot` its picture.
"""
