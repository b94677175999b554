"""The training loop and nothing about any method: what is learned comes in as an `Objective`.

`config` is torch-free. loop · optim · schedule · precision · memory · checkpoint · guards stand beside it.
"""
