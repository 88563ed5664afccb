//! Suites that behave in every way a suite can: each test gets its verdict, and
//! nothing is left afterwards.

mod contained;
mod ordered;
mod suite;
