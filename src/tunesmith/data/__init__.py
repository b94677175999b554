"""Raw files to token arrays with loss masks. Knows no torch: numpy arrays come out.

formats/   one file for each row format
raw        a row as it stands in a file, and the limits of reading
compressed, lines, tables, columnar, plain
           gzip and zstd; JSON; CSV; Parquet and Arrow; text and transcripts
places     where a file may be
hub        a data set of the Hugging Face hub as a local file
source     a file to raw rows with line numbers, by one of these
identity   what a row is, as 16 bytes; what a set of rows is, as one root
passages, headings, lexical, contexts
           documents to passages, what they stand under, texts found by words, questions to rows with the right
           passage among others
versions   two versions of a set of rows: what changed, word by word
load       raw rows to rows of one kind; every bad row is kept as a problem
split      validation rows without leakage; overlaps between files
mix        several sources under weights
template   examples to text through a chat template, with the spans that carry loss
escape     what contents spell like a special token stays text
tokenize   text and spans to token arrays
batch      token arrays to padded, length-bucketed batches; the plan of a whole training
shingles   texts to sets of word shingles, as hashes
dedup      pairs of texts that are nearly the same: MinHash, bands, verification, clusters
repeats    rows that nearly repeat each other or a held-out one, as findings
quality    rows that would teach the wrong thing, as findings
look       checks that see a set once, portion by portion:
           language, check_system, check_special, diversity
lengths    how long rows are in tokens
checks     the other findings
codes      the findings that block, and what waiving them means
audit      what was found, by code and severity
"""
