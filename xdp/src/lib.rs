//! eBPF steering program, loader and typed maps.
