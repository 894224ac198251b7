//! The steps of the story: what each is called, does, and checks on what the devices saw.

pub(super) mod app_store;
pub(super) mod books;
pub(super) mod devices;
pub(super) mod google_play;
pub(super) mod strangers;
pub(super) mod time;
