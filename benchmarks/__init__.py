"""The budgets of assay, measured as ratios against honest baselines in the same run. `make bench`; method in README.md here."""
