"""Jobs: what a training is asked for, who may work on it, and how it ends. Knows no HTTP and no data formats.

`states` has the machine, `queue` is for who asks, `leases` for who works, `worker` works, `runners/` start processes.
"""
