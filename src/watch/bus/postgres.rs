//! Hints by `NOTIFY`: nothing to run beside the database, enough for a handful of replicas.

use super::{BusError, HintBus, HintListener, HintSender};
use crate::storage::listener::{Listener, Notifier};
use crate::storage::{Db, StorageError};

/// The default bus.
pub(crate) struct PostgresBus(pub(crate) Db);

#[tonic::async_trait]
impl HintBus for PostgresBus {
    async fn sender(&self) -> Result<Box<dyn HintSender>, BusError> {
        Ok(Box::new(Notifier::connect(&self.0).await?))
    }

    async fn listener(&self) -> Result<Box<dyn HintListener>, BusError> {
        Ok(Box::new(Listener::connect(&self.0).await?))
    }
}

#[tonic::async_trait]
impl HintSender for Notifier {
    async fn send(&mut self, hints: &[String]) -> Result<(), BusError> {
        Ok(self.notify(hints).await?)
    }
}

#[tonic::async_trait]
impl HintListener for Listener {
    async fn receive(&mut self, max: usize) -> Result<Vec<String>, BusError> {
        Ok(self.next_batch(max).await?)
    }

    async fn echo(&mut self, hint: &str) -> Result<(), BusError> {
        Ok(self.notify(hint).await?)
    }
}

impl From<StorageError> for BusError {
    fn from(error: StorageError) -> Self {
        Self(error.to_string())
    }
}
