//! A library loaded into stock programs: fork server and coverage.
