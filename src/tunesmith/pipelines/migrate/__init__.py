"""The way over from a hosted fine-tuning service: what it holds of yours, fetched while it still answers, and each job
trained again here.

    service     the old service over HTTP: asked, never changed
    folder      what was fetched, each file whole or absent
    fetch       jobs, events, checkpoints, files and results into the folder
    aliases     which base stands for which of the old service's models
    recipes     a job as a recipe
    prompts     what both models are asked
    answers     what the old model says
    again       the job trained again, and what the new model says
    agreement   old beside new, row by row
    journey     all of it, in order
"""
