//! Small worlds, and every schedule of each.
