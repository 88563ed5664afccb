//! What a test is made of: a valid base image, the mutations made to it, and the recipe that
//! records both, with the commands that are run on it.

pub mod command;
pub mod guard;
pub mod recipe;
pub mod sweep;
