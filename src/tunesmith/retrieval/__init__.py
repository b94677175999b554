"""Documents to the passages that answer a question, and how well that goes. Loads no torch without an embedder.

walk            the files of a folder, and why some are left out
reading         a file to documents: Markdown, text, HTML, PDF, rows
extract         HTML and PDF to text, in a process of its own (`extract_worker`) with limits
chunks          documents to chunks with source, heading and place
bm25            chunks by the words they share with a question
vectors         chunks by what they mean, where there is an embedder (`embedding`)
fusion          several rankings to one
index           chunks with their rankings: a question to chunks
folder          an index on disk: checked, replaced as one, nothing pickled
update          documents that changed, came or went; a source erased
context         chunks to a prompt, and an answer's citations
faithfulness    how much of an answer stands in what it cites
quality         recall, reciprocal rank and gain on questions whose documents are known
"""
