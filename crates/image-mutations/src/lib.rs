#![doc = include_str!("../README.md")]

pub mod base;
pub mod case;
pub mod edit;
mod file_names;
pub mod map;
pub mod mutate;
pub mod named_file;
pub mod rng;
