"""What a model can do, measured on held-out rows, and whether training made it better.

metrics/      one file for each metric: (prediction, reference) -> score
stats         paired bootstrap, of whatever sums over rows a figure is made
significance  could a difference be chance; several at once
power         how small a difference so many rows show
slices        parts of the test rows, and the worst
run           answers and losses of one model
compare       two models on the same rows
gate          pass or fail, with reasons
forgetting    loss on the packaged general text
overfitting   a verdict from the two loss curves
neighbour     the copy baseline: the nearest training row's answer
"""
