"""Raw files to token arrays with loss masks. Knows no torch: numpy arrays come out.

formats/   one file for each row format
source     bytes of a file to rows, with line numbers
load       rows to examples; every bad row is kept as a problem
split      validation rows without leakage; overlaps between files
mix        several sources under weights
template   examples to text through a chat template, with the spans that carry loss
tokenize   text and spans to token arrays
batch      token arrays to padded, length-bucketed batches; the plan of a whole training
audit      what was found, by code and severity
"""
