//! A gate that opens once and stays open: "the session has ended", waited for by any number of tasks.

use tokio::sync::Semaphore;

/// Closed until [`Gate::open`].
#[derive(Debug)]
pub(crate) struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Gate {
    /// Let everybody through, now and later.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_closed()
    }

    /// Wait until it is open. Cancel safe.
    pub(crate) async fn passed(&self) {
        // There is never a permit: the only way out is the closed semaphore.
        let _ = self.0.acquire().await;
    }
}
