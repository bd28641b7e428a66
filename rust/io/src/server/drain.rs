//! Winding a server down: nothing new, and time for what lives to end.

use std::{
    sync::{
        Arc, Weak,
        atomic::Ordering::{Acquire, Release},
    },
    time::Duration,
};

use super::{Server, ServerShared};
use crate::connection::Connection;

impl Server {
    /// Refuse new connections and session requests, ask the sessions that live to end (GOAWAY on each connection,
    /// WT_DRAIN_SESSION on each session), and wait until they have and plain requests are answered, at most `limit`.
    /// [`Server::close`] comes after it.
    ///
    /// # Cancel safety
    /// The server stays drained; calling it again goes on waiting.
    pub async fn drain(self: Arc<Self>, limit: Duration) {
        self.shared.draining.store(true, Release);
        self.shared.live().iter().for_each(|connection| connection.go_away());
        let idle = async {
            loop {
                let mut ended = std::pin::pin!(self.shared.request_ended.notified());
                ended.as_mut().enable();
                if self.shared.live().iter().all(|connection| !connection.has_requests()) {
                    return;
                }
                ended.await;
            }
        };
        // At the limit the sessions that are left end with the connections.
        let _ = self.driver.timeout(limit, idle).await;
    }
}

impl ServerShared {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Acquire)
    }

    /// A request is done: a session is gone, its CONNECT stream too, or a response has arrived.
    pub(crate) fn count_ended_request(&self) {
        self.request_ended.notify_waiters();
    }

    pub(super) fn live(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
