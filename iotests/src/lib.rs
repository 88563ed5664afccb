//! The library numbered image tests are written with, and the tests themselves.
