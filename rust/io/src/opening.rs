//! A stream that is being opened while the peer's stream limit is used up.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    bridge::ring::{WaitPoint, WaitQueue, wait_point},
    driver::{Either, select},
    error::OpenError,
    gate::Gate,
    session::{Session, Stream},
};

/// A place in the queue for stream credit. Whoever gives it up calls [`StreamOpening::cancel`].
#[derive(Debug)]
pub struct StreamOpening {
    session: Arc<Session>,
    result: Mutex<Option<Result<Stream, OpenError>>>,
    cancelled: Gate,
    done: WaitQueue,
}

impl StreamOpening {
    /// Join the queue; first come, first served.
    pub fn start(session: &Arc<Session>, bidirectional: bool) -> Arc<Self> {
        let opening = Arc::new(Self {
            session: session.clone(),
            result: Mutex::new(None),
            cancelled: Gate::default(),
            done: WaitQueue::default(),
        });
        session.count_opening(bidirectional, true);
        session.connection().driver().spawn(opening.clone().run(bidirectional));
        opening
    }

    async fn run(self: Arc<Self>, bidirectional: bool) {
        let opened = select(self.session.open(bidirectional), self.cancelled.passed()).await;
        self.session.count_opening(bidirectional, false);
        if let Either::Left(result) = opened {
            *self.result.lock() = Some(result);
            self.done.notify_all(self.session.port());
            if self.cancelled.is_open() {
                self.give_back();
            }
        }
    }

    /// The outcome, once; None while there is none.
    pub fn take(&self) -> Option<Result<Stream, OpenError>> {
        self.result.lock().take()
    }

    /// Give the place up, or the stream that was opened meanwhile. Idempotent.
    pub fn cancel(&self) {
        self.cancelled.open();
        self.give_back();
    }

    /// Ready when `take` has something.
    pub fn ready(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(self.clone(), |this| &this.done, |this| this.result.lock().is_some())
    }

    fn give_back(&self) {
        if let Some(Ok(stream)) = self.take() {
            stream.turn_away();
        }
    }
}
