"""Files, documents, number formatting, text and the log output of libraries. Nothing here depends on the rest of Conjure."""
