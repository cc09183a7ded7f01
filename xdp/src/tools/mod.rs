//! Small programs for measuring.
