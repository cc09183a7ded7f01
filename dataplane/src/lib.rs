//! Frames, ports, workers and the block graph.
