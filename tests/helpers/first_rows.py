"""Small parts of datasets, for runs in tests."""

from probe.core.base import Dataset


class FirstRows:
    """The first rows of a partition."""

    def __init__(self, rows, n):
        self.rows, self.labels, self.ids = rows, rows.labels[:n], rows.ids[:n]
        self.fingerprint = f"{rows.fingerprint}:{n}"

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.rows[row]


def first_rows(dataset, n):
    """The dataset with the first n rows of each partition."""
    return Dataset(dataset.name, dataset.class_names, {k: FirstRows(p, n) for k, p in dataset.partitions.items()})
