"""The losses that have a name: a file a family, a `Definition` a loss; the table is `bnaudit.losses`."""
