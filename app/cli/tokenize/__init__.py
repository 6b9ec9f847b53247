"""`tessera tokenize`: data sets of images into shards of codes."""
