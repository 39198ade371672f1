"""Tables in, arrays out: the data contract and the features, with light libraries only."""
