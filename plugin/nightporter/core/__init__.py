"""The nouns and the rules that everything else is made of. Pure: no clock, no file, no network, no
environment."""
