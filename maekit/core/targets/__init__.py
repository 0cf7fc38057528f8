"""What the decoder is asked to predict from each removed patch."""
