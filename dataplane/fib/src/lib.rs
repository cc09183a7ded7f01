//! Longest-prefix-match forwarding tables.
