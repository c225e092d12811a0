"""Features of a backbone on the rows of a dataset: extracted once, kept on disk, verified when read."""
