//! Failing well: what is forged is refused, what is away is waited for, and nothing is lost.

mod database;
mod doors;
mod forged;
mod promoted;
mod stores;
mod unreadable;
