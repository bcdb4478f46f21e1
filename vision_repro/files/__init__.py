"""From files to images: downloads, archives, decoders, listings, subsets and the order of the images."""
