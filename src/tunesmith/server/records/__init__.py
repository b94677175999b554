"""What the server keeps: files, uploads, models, answers to repeated requests. Every query names its project."""
