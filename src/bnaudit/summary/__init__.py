"""What is concluded from records: |gamma|/sigma, worst residuals, counts, verdicts. Numbers, no text."""
