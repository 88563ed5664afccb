//! Starts a program, bounds it, captures it, and ends all it started.
