//! Measures containers and sends the figures to where they are wanted.
