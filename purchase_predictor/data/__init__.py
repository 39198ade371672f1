"""Where data come from: the sample marketplace and converters of public data sets."""
