"""One report against another: what is new, worse, better or gone. No torch: documents and records."""
