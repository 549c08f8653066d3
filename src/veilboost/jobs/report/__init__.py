"""`report.html`: one page for people about a finished training. It holds the model, so it is for the analyst alone.

`page.py` says what stands where, `disclosures.py` puts the ledger into words, `charts.py` draws, and `page.html` is the
frame with the style. The page refers to no other file and runs no script; its Content-Security-Policy forbids both.
"""
